"""What becomes of lesions: one that fades or grows is seen, one that is drawn is found, noise and shading are not."""

import numpy as np
import pytest
from scipy import ndimage

from Testing.engine.scans import grid

from HarmonizeExtension import images
from HarmonizeExtension.evaluation import mri_arms, mri_lesions
from HarmonizeExtension.evaluation.mri_arms import ILL, UNHARMONIZED, Arm
from HarmonizeExtension.evaluation.mri_lesions import DISEASES, in_turn, invented, lesions_kept
from HarmonizeExtension.phantoms.brain import scan_person
from HarmonizeExtension.phantoms.lesions import Disease
from HarmonizeExtension.phantoms.person import Person
from HarmonizeExtension.phantoms.scanners import SCANNERS
from HarmonizeExtension.scan import Modality, Scan, Structure

SHAPE, SPACING = (40, 44, 48), (1.0, 1.0, 1.0)
z, y, x = np.indices(SHAPE)
RADIUS = np.sqrt((z - 20) ** 2 + (y - 22) ** 2 + (x - 24) ** 2)
WHITE, GREY, LESION = RADIUS < 14, (RADIUS >= 14) & (RADIUS < 18), RADIUS < 4
CALM = np.where(WHITE, 1.0, np.where(GREY, 0.7, 0.2))


def test_a_region_that_is_drawn_is_found_and_noise_and_shading_are_not():
    rng = np.random.default_rng(0)
    truth = CALM + 0.05 * rng.normal(size=SHAPE)
    shading = 1 + 0.1 * (x - 24) / 24
    other = CALM * shading + 0.05 * rng.normal(size=SHAPE)
    assert invented(other, truth, WHITE, GREY, SPACING) == []
    for sign in (-1, 1):  # dark or bright
        drawn = other + sign * 0.3 * (np.sqrt((z - 20) ** 2 + (y - 22) ** 2 + (x - 17) ** 2) < 3.5)
        (volume,) = invented(drawn, truth, WHITE, GREY, SPACING)
        assert 50 < volume < 300
    faint = other - 0.04 * LESION
    assert invented(faint, truth, WHITE, GREY, SPACING) == []
    # What the target shows too is not invented.
    both = 0.25 * LESION
    assert invented(other - both, truth - both, WHITE, GREY, SPACING) == []


def test_a_moved_edge_of_the_white_matter_is_no_lesion():
    softer = ndimage.gaussian_filter(CALM, 0.8)
    assert invented(softer, CALM, WHITE, GREY, SPACING) == []


def lesion_scan(contrast: float, radius: float = 4.0) -> Scan:
    image = grid(size=SHAPE[::-1], spacing=SPACING)
    rng = np.random.default_rng(1)
    array = CALM - 0.3 * contrast * (radius > RADIUS) + 0.01 * rng.normal(size=SHAPE)
    masks = {"lesion": LESION, "white matter": WHITE & ~LESION, "grey matter": GREY, "brain": RADIUS < 18}
    structures = {name: Structure(name, images.mask_image(mask, image)) for name, mask in masks.items()}
    return Scan(images.to_image(array.astype(np.float32), image), Modality.MR, structures, name="a lesion")


@pytest.mark.parametrize(("contrast", "radius"), [(0.5, 4.0), (1.0, 5.5), (1.0, 3.0), (1.0, 4.0)])
def test_a_lesion_that_faded_or_grew_is_seen_whatever_the_gain(contrast, radius):
    truth = lesion_scan(1.0)
    result = lesion_scan(contrast, radius)
    one = mri_lesions._Lesion.of(7 * result.array + 3, result, "lesion")
    true = mri_lesions._Lesion.of(truth.array, truth, "lesion")
    share = one.contrast / true.contrast
    grown = one.segmented.sum() / true.segmented.sum()
    if radius >= 4:
        assert share == pytest.approx(contrast, rel=0.03)
        assert grown == pytest.approx((radius > RADIUS).sum() / LESION.sum(), rel=0.02)
    else:
        assert share < 0.6
        assert grown < 0.6


def test_each_person_goes_from_another_scanner():
    names = tuple(SCANNERS)
    for target in names:
        assert {in_turn(target, names, number) for number in range(5)} == set(names) - {target}


@pytest.mark.slow
@pytest.mark.parametrize("number", [0, 1])
def test_the_target_s_own_scan_keeps_its_lesions_and_other_scanners_nearly_so(number, monkeypatch):
    seen = mri_arms.visit(0, number, 3.0, ILL, DISEASES[number])
    scan = seen.scans["GE 3T"]
    names = [name for name in mri_lesions.LESIONS if name in scan.structures]
    assert names == (["lesion", "oedema"] if number == 0 else ["white matter lesions"])
    found = lesions_kept(Arm(UNHARMONIZED), number, seen, 0, 3.0)
    assert len(found) == 6 * len(names)
    assert all(0.3 < one.contrast < 3 for one in found)
    assert lesions_kept(Arm("Z-score"), number, seen, 0, 3.0) == []
    monkeypatch.setattr(mri_lesions, "harmonized", lambda arm, scan, truth, *_: truth)
    model = Arm("model", "GE 3T", "folder", "paired", tuple(SCANNERS))
    kept = lesions_kept(model, number, seen, 0, 3.0)
    assert [(one.lesion, one.protected) for one in kept] == [(name, safe) for name in names for safe in (False, True)]
    for one in kept:
        if not one.protected:
            assert (one.contrast, one.volume, one.dice) == pytest.approx((1, 1, 1))


@pytest.mark.slow
def test_the_lesions_of_an_ill_twin_are_found_and_another_session_has_none():
    """A person's plaques, as if a method had drawn them into the scan of the same person in health."""
    scanner = SCANNERS["Siemens 3T"]
    scans = [
        scan_person(Person.draw(np.random.default_rng(3), "twin", disease), scanner, np.random.default_rng(seed), 2.5)
        for seed, disease in enumerate((Disease.NONE, Disease.NONE, Disease.MULTIPLE_SCLEROSIS))
    ]
    truth = scans[0].array / scans[0].array.max()
    white, grey, brain = (scans[0].structures[name].array for name in ("white matter", "grey matter", "brain"))
    counts = []
    for scan in scans[1:]:
        image = np.polyval(np.polyfit(scan.array[brain], truth[brain], 1), scan.array)
        counts.append(len(invented(image, truth, white, grey, scan.spacing_mm)))
    assert counts[0] == 0
    assert counts[1] >= 3
