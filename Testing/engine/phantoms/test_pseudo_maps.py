"""Pseudo-quantitative maps: literature values in each tissue, the image's own order between them."""

import numpy as np
import pytest
import SimpleITK as sitk
from scipy import stats

from HarmonizeExtension.errors import InputError
from HarmonizeExtension.phantoms.brain import receive_field, scan_maps, stored_image
from HarmonizeExtension.phantoms.maps import property_maps
from HarmonizeExtension.phantoms.person import Person, body_of
from HarmonizeExtension.phantoms.pseudo_maps import pseudo_quantitative, tissue_levels
from HarmonizeExtension.phantoms.scanners import SCANNERS
from HarmonizeExtension.physics.tissues import PROPERTIES, Tissue

SPACING_MM = 2.0


@pytest.mark.parametrize("scanner", SCANNERS.values(), ids=SCANNERS)
def test_of_a_simulated_scan_the_maps_come_close_to_the_truth(scanner):
    """The median of each tissue; single voxels keep the noise of the image, as real ones will."""
    person = Person.draw(np.random.default_rng(31))
    body = body_of(person, SPACING_MM)
    scan = stored_image(body, scanner, np.random.default_rng(0)) / receive_field(body, scanner)
    brain, field = body.structures["brain"], scanner.field_strength_tesla
    found, truth = pseudo_quantitative(scan, brain, field), property_maps(body, field)
    for name in ("white matter", "grey matter"):
        mask = body.structures[name] & brain
        for quantity, tolerance in (("t1_ms", 0.12), ("proton_density", 0.05), ("t2_star_ms", 0.12)):
            medians = [np.median(getattr(maps, quantity)[mask]) for maps in (found, truth)]
            assert medians[0] == pytest.approx(medians[1], rel=tolerance), (name, quantity)


def test_three_levels_are_found_whatever_the_gain():
    rng = np.random.default_rng(0)
    values = np.concatenate([rng.normal(mean, 12, count) for mean, count in ((60, 8000), (160, 30000), (230, 25000))])
    np.testing.assert_allclose(tissue_levels(values), [60, 160, 230], atol=5)
    np.testing.assert_allclose(tissue_levels(values * 37), np.array([60, 160, 230]) * 37, rtol=0.03)


@pytest.mark.parametrize(
    "values",
    [np.ones(5000), np.random.default_rng(0).normal(100, 1, 5000), np.arange(10.0)],
    ids=["flat", "one tissue", "too few"],
)
def test_an_image_without_three_tissues_is_refused(values):
    with pytest.raises(InputError, match="brain"):
        tissue_levels(values)


def test_maps_of_another_field_strength_are_not_scanned():
    body = body_of(Person.draw(np.random.default_rng(31)), 4.0)
    with pytest.raises(InputError, match=r"maps at 3 T cannot be scanned at 1.5 T"):
        scan_maps(property_maps(body, 3.0), SCANNERS["GE 1.5T"], np.random.default_rng(0), 4.0)


@pytest.mark.real_data
@pytest.mark.parametrize("patient", ["patient07", "patient19"])
def test_a_real_brain_keeps_its_texture_and_is_scanned_by_every_scanner(real_data, patient):
    file = real_data / "t1" / "open_ms" / "cross" / "MNI" / patient / "T1_brain_MNI.nii.gz"
    if not file.is_file():
        pytest.skip(f"{file.name} of {patient} is not here")
    image = sitk.GetArrayFromImage(sitk.ReadImage(str(file))).astype(np.float32)[40:150:2, ::2, ::2]
    brain = image > 0
    for field, tissues in PROPERTIES.items():
        maps = pseudo_quantitative(image, brain, field)
        t1_ms = maps.t1_ms[brain]
        assert not maps.t1_ms[~brain].any()
        assert tissues[Tissue.WHITE_MATTER].t1_ms * 0.69 < t1_ms.min() < t1_ms.max() <= tissues[Tissue.CSF].t1_ms + 1
        # Most of a brain is white and grey matter, in about equal parts.
        middle = np.median(t1_ms)
        assert tissues[Tissue.WHITE_MATTER].t1_ms < middle < 1.1 * tissues[Tissue.GREY_MATTER].t1_ms
        assert (np.diff(maps.t1_ms[brain][np.argsort(image[brain], kind="stable")]) <= 1e-2).all()
        for scanner in SCANNERS.values():
            if scanner.field_strength_tesla == field:
                scan = scan_maps(maps, scanner, np.random.default_rng(0), 2.0)
                assert stats.spearmanr(scan[brain], image[brain]).statistic > 0.8, scanner.name
