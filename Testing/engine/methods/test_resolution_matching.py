"""PET resolution matching keeps SUV and reaches the target, on phantoms of known resolution and on a true pair."""

import dataclasses
import json

import numpy as np
import pytest
import SimpleITK as sitk
from scipy import ndimage

from Testing.engine.physics import simulated_pet
from Testing.engine.scans import bits, head

from HarmonizeExtension.body import body_mask
from HarmonizeExtension.errors import InputError
from HarmonizeExtension.methods.resolution_matching import ResolutionMatching
from HarmonizeExtension.physics import pet_resolution
from HarmonizeExtension.scan import Modality, Scan


@pytest.fixture(scope="module")
def fine():
    return simulated_pet.scan(4.0, seed=1, name="fine")


@pytest.fixture(scope="module")
def coarse():
    return simulated_pet.scan(7.0, seed=2, post_filter_mm=7.0, noise=0.04, name="coarse")


def edge_fwhm_mm(scan: Scan) -> float:
    return pet_resolution.edge_fwhm_mm(scan.array, body_mask(scan), scan.spacing_mm)


@pytest.mark.parametrize("target_mm", [6.0, 8.0])
def test_the_result_has_the_target_resolution(fine, target_mm):
    blur = ResolutionMatching(target_mm).blur_fwhm_mm(fine, body_mask(fine))
    blurred = fine.with_array(pet_resolution.gaussian_blur(fine.array, blur, fine.spacing_mm))
    assert edge_fwhm_mm(blurred) == pytest.approx(target_mm, rel=0.1)


def test_a_known_source_resolution_is_taken_as_given(fine):
    method = ResolutionMatching(5.0, source_fwhm_mm=3.0)
    assert method.blur_fwhm_mm(fine, body_mask(fine)) == pytest.approx((4.0, 4.0, 4.0))


@pytest.mark.parametrize("estimate", ["noise", "edges"])
def test_a_reference_scan_gives_the_blur_between_the_two(fine, coarse, estimate):
    blur = ResolutionMatching(coarse, estimate=estimate).blur_fwhm_mm(fine, body_mask(fine))
    assert np.mean(blur) == pytest.approx(np.sqrt(7.0**2 - 4.0**2), rel=0.15)


def test_noise_is_measured_in_the_reference_structure(fine, coarse):
    rng = np.random.default_rng(3)
    liver = coarse.structures["liver"].array
    rough = coarse.with_array(np.where(liver, coarse.array, coarse.array + 0.3 * rng.uniform(size=liver.shape)))
    truth = np.sqrt(7.0**2 - 4.0**2)
    marked = ResolutionMatching(rough.with_roles(reference="liver"))
    aware = np.mean(marked.blur_fwhm_mm(fine.with_roles(reference="liver"), body_mask(fine)))
    assert aware == pytest.approx(truth, rel=0.15)
    with pytest.raises(InputError, match="coarser than the target"):
        ResolutionMatching(rough).blur_fwhm_mm(fine, body_mask(fine))


def test_suv_and_grid_are_kept(fine):
    after = ResolutionMatching(7.0).apply(fine)
    assert bits(after.image) == bits(fine.image)
    assert after.units == "SUV"
    assert after.array.mean() == pytest.approx(fine.array.mean(), rel=0.01)
    liver = ndimage.binary_erosion(fine.structures["liver"].array, iterations=3)
    assert after.array[liver].mean() == pytest.approx(fine.array[liver].mean(), rel=0.01)
    assert json.dumps(after.provenance[-1])


@pytest.mark.parametrize("scale", [0.2, 10.0])
def test_the_estimate_does_not_depend_on_the_level_of_uptake(scale):
    one, other = (simulated_pet.scan(5.0, seed=4, scale=s) for s in (1.0, scale))
    body = body_mask(one)
    found = [pet_resolution.edge_fwhm_mm(s.array, body, s.spacing_mm) for s in (one, other)]
    assert found[0] == pytest.approx(found[1], rel=0.01)


class TestRefusals:
    def test_of_what_is_no_suv(self, fine):
        with pytest.raises(InputError, match=r"'fine' is in Bq/ml.*weight.*dose"):
            ResolutionMatching(7.0).apply(dataclasses.replace(fine, units="Bq/ml"))
        with pytest.raises(InputError, match="unknown units"):
            ResolutionMatching(dataclasses.replace(fine, units="")).apply(fine)
        with pytest.raises(InputError, match="is for PET"):
            ResolutionMatching(7.0).apply(head())
        with pytest.raises(InputError, match="choose a PET scan"):
            ResolutionMatching(head()).apply(fine)

    def test_of_a_target_that_is_finer_than_the_scan(self, fine, coarse):
        with pytest.raises(InputError, match=r"resolution of 7\.0 mm \(as given\), coarser than the target of 5\.0 mm"):
            ResolutionMatching(5.0, source_fwhm_mm=7.0).apply(coarse)
        with pytest.raises(InputError, match="harmonize the other scan"):
            ResolutionMatching(fine).apply(coarse)

    @pytest.mark.parametrize("target_mm", [0.0, -3.0, float("nan"), 500.0])
    def test_of_an_impossible_width(self, fine, target_mm):
        with pytest.raises(InputError, match="give a FWHM in mm"):
            ResolutionMatching(target_mm).apply(fine)

    def test_of_an_unknown_estimate(self, fine):
        with pytest.raises(InputError, match="noise, edges"):
            ResolutionMatching(7.0, estimate="guess").apply(fine)


@pytest.mark.real_data
@pytest.mark.slow
def test_true_pair_of_reconstructions_comes_nearer(real_data):
    """Two reconstructions of one NEMA phantom: the COV gap and the error fall by half or more of what they were."""

    def read(number):
        image = sitk.ReadImage(str(real_data / "pet_nema_pair" / f"recon_{number}.nii.gz"), sitk.sitkFloat32)
        array = sitk.GetArrayFromImage(image)
        return Scan(
            image / float(array[array > 500].mean()), Modality.PET, units="SUV", name=f"reconstruction {number}"
        )

    noisy, smooth = read(1), read(2)
    after = ResolutionMatching(smooth).apply(noisy)
    level = ndimage.gaussian_filter(smooth.array, 3)
    even = np.abs(level / np.median(level[level > 0.5]) - 1) < 0.3
    background = ndimage.binary_erosion(body_mask(smooth), iterations=8) & even

    def cov(scan):
        return scan.array[background].std() / scan.array[background].mean()

    def error(scan):
        return np.sqrt(np.mean((scan.array - smooth.array)[body_mask(smooth)] ** 2))

    assert abs(cov(after) - cov(smooth)) < 0.5 * abs(cov(noisy) - cov(smooth))
    assert error(after) < 0.7 * error(noisy)
