"""What happens with structures that are hard to measure, and with many of them."""

import numpy as np
import pytest

from Testing.engine.radiomics.structures import ball, scan_of, textured

from HarmonizeExtension.errors import Cancelled, InputError
from HarmonizeExtension.radiomics import shape
from HarmonizeExtension.radiomics.discretisation import GreyLevels, directions
from HarmonizeExtension.radiomics.extraction import extract, extract_many
from HarmonizeExtension.radiomics.glrlm import run_lengths
from HarmonizeExtension.radiomics.glszm import zones
from HarmonizeExtension.radiomics.settings import Settings
from HarmonizeExtension.scan import Modality, Role

SHAPE = (20, 24, 28)


def box(*slices):
    mask = np.zeros(SHAPE, bool)
    mask[slices] = True
    return mask


def test_an_empty_structure_is_named():
    scan = scan_of(textured(), GTV=np.zeros(SHAPE))
    with pytest.raises(InputError, match="'GTV' is empty"):
        extract(scan, Settings())


def test_a_single_voxel_is_named():
    with pytest.raises(InputError, match="'GTV' is a single voxel"):
        extract(scan_of(textured(), GTV=box(5, 5, 5)), Settings())


def test_a_line_is_refused_unless_the_settings_allow_it():
    scan = scan_of(textured(), line=box(5, 5, slice(3, 20)))
    with pytest.raises(InputError, match="minimumROIDimensions"):
        extract(scan, Settings())
    table = extract(scan, Settings(minimum_dimensions=1))
    assert np.isfinite(table.values("original_glcm_Contrast")).all()


def test_a_structure_that_vanishes_in_resampling_is_named_with_the_spacing():
    scan = scan_of(textured(), dot=box(slice(1, 3), slice(1, 3), slice(1, 3)))
    with pytest.raises(InputError, match=r"'dot' vanishes when it is resampled to 9 x 9 x 9 mm"):
        extract(scan, Settings(resampled_spacing_mm=(9, 9, 9)))


def test_resegmentation_that_leaves_nothing_says_so():
    with pytest.raises(InputError, match="resegmentRange"):
        extract(scan_of(textured(), GTV=ball()), Settings(resegment_range=(5000, 6000)))


@pytest.mark.parametrize("scale", [1e2, 1e6])
def test_bins_that_are_far_too_narrow_are_refused(scale):
    scan = scan_of(textured(dtype=np.float64) * scale, s=np.ones(SHAPE))  # PET in Bq/ml instead of SUV
    with pytest.raises(InputError, match="check that the image has the unit"):
        extract(scan, Settings(bin_width=0.25))


def test_a_flat_structure_of_one_grey_level():
    array = textured()
    array[ball()] = 100
    values = extract(scan_of(array, s=ball()), Settings()).rows[0].values
    assert values["original_firstorder_Variance"] == 0
    assert values["original_firstorder_Entropy"] == pytest.approx(0, abs=1e-12)
    assert values["original_glcm_MCC"] == values["original_glcm_Correlation"] == values["original_glcm_Idm"] == 1
    assert values["original_ngtdm_Coarseness"] == 1e6
    assert all(np.isfinite(value) for value in values.values())


def test_voxels_without_neighbours_have_no_cooccurrence_and_no_runs():
    scattered = np.zeros(SHAPE, bool)
    scattered[2, 3, 4] = scattered[7, 9, 15] = scattered[15, 20, 20] = True  # no two on one line
    values = extract(scan_of(textured(), s=scattered), Settings()).rows[0].values
    for name, value in values.items():
        assert np.isnan(value) == ("_glcm_" in name or "_glrlm_" in name), name
    assert values["original_glszm_ZonePercentage"] == 1


@pytest.mark.parametrize(
    "settings",
    [
        Settings.load("mr"),
        Settings.from_dict({"imageType": {"Original": {}, "LoG": {"sigma": [1.0]}, "Wavelet": {}}}),
        Settings.from_dict({"setting": {"preCrop": True}, "imageType": {"LoG": {"sigma": [1.0]}}}),
    ],
    ids=["resampled", "filtered", "cropped and filtered"],
)
def test_every_structure_gets_its_row_and_the_same_values_as_alone(settings):
    masks = {"a": ball(radius=5), "b": box(slice(2, 9), slice(3, 12), slice(4, 20)), "c": ball(radius=8)}
    scan = scan_of(textured(), **masks)
    together = extract(scan, settings, case="P1", label="before")
    assert [(row.case, row.label, row.structure) for row in together.rows] == [("P1", "before", n) for n in masks]
    for row in together.rows:
        alone = extract(scan, settings, structures=[row.structure]).rows[0]
        assert alone.values == row.values


def test_by_default_what_is_marked_as_measured_is_measured():
    scan = scan_of(textured(), a=ball(), b=ball(radius=4)).with_roles(reference="a", measured=["b"])
    assert [row.structure for row in extract(scan, Settings()).rows] == ["b"]
    assert [row.structure for row in extract(scan, Settings(), structures=["a"]).rows] == ["a"]
    with pytest.raises(InputError, match="no structure to measure"):
        extract(scan.with_roles(reference="a", measured=[]), Settings())
    with pytest.raises(InputError, match="no structure named tumour; it has: a, b"):
        extract(scan, Settings(), structures=["tumour"])
    assert scan.with_role(Role.MEASURED)[0].name == "b"


def test_units_follow_the_scan():
    table = extract(scan_of(textured(), units="HU", modality=Modality.CT, s=ball()), Settings.load("ct"))
    assert table.column("original_firstorder_Mean").unit == "HU"
    assert table.column("original_firstorder_TotalEnergy").unit == "HU^2 mm^3"
    assert table.column("original_shape_VoxelVolume").unit == "mm^3"
    assert table.column("original_glcm_Idmn").ibsi_code == "1QCO"
    assert len(table.columns) == 94
    normalised = extract(scan_of(textured(), units="HU", s=ball()), Settings(normalize=True, bin_count=16))
    assert normalised.column("original_firstorder_Mean").unit == ""
    assert table.metadata["settings"]["setting"]["binWidth"] == 25
    assert {"SlicerHarmonize", "numpy", "SimpleITK"} <= set(table.metadata["software"])


def test_the_1409_features_of_the_ct_protocol():
    table = extract(scan_of(textured((40, 44, 48)), s=ball((40, 44, 48), 9)), Settings.load("ct_wavelet_log"))
    assert len(table.features) == len(set(table.features)) == 1409
    assert sum(np.isfinite(table.values(name))[0] for name in table.features) == 1409


def test_voxel_order_and_position_do_not_matter():
    array, mask = textured(dtype=np.float64), ball(radius=5)
    here = extract(scan_of(array, s=mask), Settings()).rows[0].values
    moved = extract(scan_of(np.roll(array, (3, 2, -4), (0, 1, 2)), s=np.roll(mask, (3, 2, -4), (0, 1, 2))), Settings())
    turned = extract(scan_of(array.transpose(2, 1, 0).copy(), s=mask.transpose(2, 1, 0)), Settings())
    for name, value in here.items():
        assert moved.rows[0].values[name] == pytest.approx(value, rel=1e-12), name
        assert turned.rows[0].values[name] == pytest.approx(value, rel=1e-9, abs=1e-9), name


def test_a_shift_by_whole_bins_moves_no_texture():
    array, mask = textured(dtype=np.float64), ball()
    texture = dict.fromkeys(("glcm", "glrlm", "glszm", "gldm", "ngtdm"), ())
    settings = Settings(bin_width=25.0, feature_classes=texture)
    before = extract(scan_of(array, s=mask), settings).rows[0].values
    after = extract(scan_of(array + 1000, s=mask), settings).rows[0].values
    assert after == before


def test_cancelled_work_stops():
    with pytest.raises(Cancelled):
        extract(scan_of(textured(), s=ball()), Settings(), cancelled=lambda: True)


def test_progress_grows_to_one_and_names_what_is_measured():
    seen = []
    scan = scan_of(textured(), a=ball(), b=ball(radius=3))
    settings = Settings.from_dict({"imageType": {"Original": {}, "LoG": {"sigma": [1.0]}}})
    extract(scan, settings, progress=lambda fraction, text: seen.append((fraction, text)))
    fractions = [fraction for fraction, _ in seen]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0
    assert [text for _, text in seen][:2] == ["radiomics: a, original", "radiomics: a, log-sigma-1-0-mm-3D"]


@pytest.mark.slow
def test_many_scans_in_two_processes_give_the_same_as_one_after_the_other():
    scans = [scan_of(textured(seed=seed), s=ball()) for seed in range(3)]
    alone = extract_many(scans, Settings(), label="before")
    pooled = extract_many(scans, Settings(), label="before", processes=2)
    assert pooled == alone
    assert len(pooled.rows) == 3


def test_an_unknown_backend_is_refused():
    with pytest.raises(InputError, match="own or pyradiomics"):
        extract(scan_of(textured(), s=ball()), Settings(), backend="ibex")


def test_two_slices_are_too_few_for_a_spline():
    array = textured((2, 20, 20))
    with pytest.raises(InputError, match="sitkLinear"):
        extract(scan_of(array, s=np.ones(array.shape)), Settings.load("mr"))
    linear = Settings(resampled_spacing_mm=(2, 2, 0), interpolator="sitkLinear")
    assert np.isfinite(extract(scan_of(array, s=np.ones(array.shape)), linear).values("original_glcm_Contrast")).all()


def test_runs_of_a_line_worked_out_by_hand():
    line = np.array([[[1, 1, 2, 2, 2, 1, 3]]])
    grey = GreyLevels(line.ravel(), np.ones(line.shape, bool))
    assert run_lengths(grey, (0, 0, 1)).tolist() == [[1, 1, 0], [0, 0, 1], [1, 0, 0]]


def test_zones_meet_across_corners_in_3d_but_not_across_planes_in_2d():
    block = np.array([[[1, 2], [2, 2]], [[2, 2], [2, 1]]])
    grey = GreyLevels(block.ravel(), np.ones(block.shape, bool))
    rank, size = zones(grey, directions())
    assert sorted(zip(rank.tolist(), size.tolist(), strict=True)) == [(1, 2), (2, 6)]
    rank, size = zones(grey, directions(plane_axis=0))
    assert sorted(zip(rank.tolist(), size.tolist(), strict=True)) == [(1, 1), (1, 1), (2, 3), (2, 3)]


def test_the_number_of_directions():
    assert len(directions()) == 13
    assert len(directions(plane_axis=0)) == 4
    assert len(directions((2,))) == 49
    assert len(directions((1, 2))) == 62


def test_a_ball_has_the_shape_of_a_ball():
    radius = 10.0
    mask = ball((27, 27, 27), radius)
    values = shape.features(mask, (1.0, 1.0, 1.0), tuple(shape.FEATURES))
    assert values["MeshVolume"] == pytest.approx(4 / 3 * np.pi * radius**3, rel=0.02)
    assert values["VoxelVolume"] == mask.sum()
    assert values["Maximum3DDiameter"] == pytest.approx(2 * radius + 1, abs=0.6)
    assert values["Elongation"] == pytest.approx(1)
    assert values["Flatness"] == pytest.approx(1)
    assert 0.9 < values["Sphericity"] < 1  # the steps of a voxel mask add surface


def test_a_box_has_the_diagonals_of_a_box():
    mask = np.zeros((12, 14, 16), bool)
    mask[2:8, 3:11, 4:14] = True  # 6 x 8 x 10 voxels of 3 x 2 x 1 mm
    values = shape.features(mask, (1.0, 2.0, 3.0), tuple(shape.FEATURES))
    assert values["VoxelVolume"] == 6 * 8 * 10 * 6
    # Vertices lie half a voxel outside the centres of the outer voxels, along one axis at a time.
    assert values["Maximum3DDiameter"] == pytest.approx(np.sqrt(18**2 + 14**2 + 9**2))
    assert values["Maximum2DDiameterSlice"] == pytest.approx(np.sqrt(16**2 + 9**2))
    assert values["MajorAxisLength"] == pytest.approx(4 * np.sqrt((6**2 - 1) / 12) * 3)
    assert values["MinorAxisLength"] == pytest.approx(4 * np.sqrt((8**2 - 1) / 12) * 2)
    assert values["LeastAxisLength"] == pytest.approx(4 * np.sqrt((10**2 - 1) / 12))


def test_shape_is_the_same_wherever_the_structure_lies_and_however_it_is_turned():
    mask = np.random.default_rng(1).random((6, 7, 8)) < 0.8
    names = ("Maximum3DDiameter", "SurfaceArea", "MajorAxisLength")
    here = shape.features(mask, (1.0, 1.0, 1.0), names)
    away = shape.features(np.pad(mask, ((3, 1), (0, 5), (2, 2))), (1.0, 1.0, 1.0), names)
    assert away == pytest.approx(here)
