"""Ours against pyradiomics where it is installed: the same number for any structure, image and settings."""

import logging
import warnings

import numpy as np
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from Testing.engine.radiomics.structures import ball, scan_of, scans, textured

from HarmonizeExtension.errors import InputError
from HarmonizeExtension.radiomics import shape
from HarmonizeExtension.radiomics.extraction import extract
from HarmonizeExtension.radiomics.settings import Settings

radiomics = pytest.importorskip("radiomics", reason="pyradiomics is not installed")
radiomics.setVerbosity(logging.CRITICAL)

# Roots of what is 0 but for rounding.
ROOTS_OF_NOISE = ("Imc2", "MCC")
# Where there is nothing to count pyradiomics still gives a number for these; ours are missing, like the others.
GIVEN_FOR_NOTHING = ("InverseVariance", "MCC", "RunEntropy", "RunVariance")


@st.composite
def parameters(draw):
    """Settings that change what is measured, in any combination."""
    setting = draw(
        st.fixed_dictionaries(
            {"minimumROIDimensions": st.just(1)},
            optional={
                "distances": st.lists(st.integers(1, 2), min_size=1, max_size=2, unique=True),
                "force2D": st.booleans(),
                "force2Ddimension": st.integers(0, 2),
                "weightingNorm": st.sampled_from(["no_weighting", "infinity", "euclidean", "manhattan"]),
                "gldm_a": st.integers(0, 2),
                "voxelArrayShift": st.just(1000),
                "resampledPixelSpacing": st.lists(st.sampled_from([0.0, 1.0, 2.0]), min_size=3, max_size=3),
                "interpolator": st.sampled_from(["sitkBSpline", "sitkLinear"]),
                "preCrop": st.booleans(),
            },
        )
    )
    setting |= draw(st.sampled_from([{"binWidth": 25}, {"binWidth": 7.5}, {"binCount": 16}, {"binCount": 64}]))
    if draw(st.integers(0, 5)) == 0:
        setting |= {"normalize": True, "normalizeScale": 100.0, "removeOutliers": 2.0}
    if draw(st.integers(0, 5)) == 0:
        setting |= {"resegmentRange": [-1, 1.5], "resegmentMode": "sigma"}
    return setting


def both(scan, parameters: dict):
    """Our row and pyradiomics'."""
    settings = Settings.from_dict(parameters)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = extract(scan, settings, backend="pyradiomics").rows[0].values
    return extract(scan, settings).rows[0].values, theirs


def differences(ours: dict, theirs: dict) -> list[str]:
    """The features that are not equal within 1e-9."""
    different = []
    for name, value in theirs.items():
        feature = name.split("_")[-1]
        if np.isnan(ours[name]) and (np.isnan(value) or feature in GIVEN_FOR_NOTHING):
            continue
        allowed = 1e-6 if feature in ROOTS_OF_NOISE else 1e-9
        if not np.isclose(ours[name], value, rtol=1e-9, atol=allowed):
            different.append(f"{name}: {ours[name]!r}, pyradiomics {value!r}")
    return different


@pytest.mark.slow
@given(scans(), parameters())
@hypothesis_settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_structure_gives_what_pyradiomics_gives(scan, setting):
    try:
        ours, theirs = both(scan, {"setting": setting})
    except InputError:
        return  # too small to measure; what that means is tested with the structures
    except RuntimeError as error:
        if "angle count" not in str(error):
            raise
        # pyradiomics itself stops where no direction fits into the structure's box; ours must not.
        assert len(extract(scan, Settings.from_dict({"setting": setting})).features) == 93
        return
    assert set(ours) == set(theirs)
    assert len(ours) == 93
    assert differences(ours, theirs) == []


@pytest.mark.parametrize("image_type", [{"LoG": {"sigma": [1.0, 2.5]}}, {"Wavelet": {}}, {"Wavelet": {"binWidth": 5}}])
@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.int16])
@pytest.mark.parametrize("setting", [{}, {"force2D": True}, {"resampledPixelSpacing": [2, 2, 2]}])
def test_filtered_images_give_what_pyradiomics_gives(image_type, dtype, setting):
    odd = (21, 24, 27)  # an odd number of voxels is where the wavelet's border shows
    scan = scan_of(textured(odd, dtype=dtype), (1.0, 1.0, 1.5), s=ball(odd))
    ours, theirs = both(scan, {"setting": setting, "imageType": image_type})
    assert list(ours) == list(theirs) or set(ours) == set(theirs)
    assert differences(ours, theirs) == []


@pytest.mark.slow
def test_many_grey_levels_give_what_pyradiomics_gives():
    ours, theirs = both(scan_of(textured(), s=ball(radius=7)), {"setting": {"binWidth": 1.5}})
    assert theirs["original_firstorder_Range"] > 128 * 1.5
    assert differences(ours, theirs) == []


def test_a_structure_at_the_border_has_the_same_wavelets():
    array = textured((9, 10, 11), dtype=np.float64)
    mask = np.random.default_rng(5).random(array.shape) < 0.7
    ours, theirs = both(scan_of(array, s=mask), {"imageType": {"Wavelet": {}, "LoG": {"sigma": [1.5]}}})
    assert differences(ours, theirs) == []


def test_a_gaussian_too_wide_for_the_image_is_missing_in_both():
    scan = scan_of(textured((6, 24, 28)), s=ball((6, 24, 28), 2.5))
    ours, theirs = both(scan, {"imageType": {"Original": {}, "LoG": {"sigma": [1.0, 8.0]}}})
    assert set(ours) == set(theirs)
    table = extract(scan, Settings.from_dict({"imageType": {"LoG": {"sigma": [1.0, 8.0]}}}))
    assert np.isnan(table.values("log-sigma-8-0-mm-3D_glcm_Contrast")).all()


@pytest.mark.parametrize("kind", range(1, 255))
def test_each_of_the_256_cubes_has_the_surface_of_pyradiomics(kind):
    from radiomics import cShape

    spacing = np.array([1.0, 1.37, 1.83])
    cube = np.array([kind >> bit & 1 for bit in range(8)], bool).reshape(2, 2, 2)
    area, volume, _ = cShape.calculate_coefficients(cube, spacing)
    triangles, kind_of = shape.cube_triangles()
    a, b, c = np.moveaxis(triangles[kind_of == kind] * spacing, 1, 0)
    assert np.linalg.norm(np.cross(b - a, c - a), axis=1).sum() / 2 == pytest.approx(area, rel=1e-12)
    assert (np.cross(a, b) * c).sum() / 6 == pytest.approx(volume, rel=1e-12)


@given(scans())
@hypothesis_settings(max_examples=25, deadline=None)
def test_any_structure_has_the_shape_that_pyradiomics_finds(scan):
    from radiomics.shape import RadiomicsShape

    mask = scan.structures["s"].array
    if mask.sum() < 2:
        return
    instance = RadiomicsShape(scan.image, scan.structures["s"].mask)
    instance.enableAllFeatures()
    theirs = {name: float(value) for name, value in instance.execute().items()}
    ours = shape.features(mask, scan.spacing_mm, tuple(shape.FEATURES))
    if np.isnan(ours["SurfaceVolumeRatio"]):  # pyradiomics divides by a volume of rounding noise, or by 0 and stops
        assert ours["MeshVolume"] == pytest.approx(0, abs=1e-6)
        del ours["SurfaceVolumeRatio"]
        theirs.pop("SurfaceVolumeRatio", None)
    assert set(ours) == set(theirs)
    for name, value in theirs.items():
        # A flat structure's least axis is the root of rounding noise.
        assert ours[name] == pytest.approx(value, rel=1e-9, abs=1e-6), name
