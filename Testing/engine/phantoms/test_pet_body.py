"""Simulated FDG bodies: what they take up, and how two centres show the same person."""

import numpy as np
import pytest
import SimpleITK as sitk

from HarmonizeExtension.errors import InputError
from HarmonizeExtension.evaluation.uniformity import liver_noise
from HarmonizeExtension.phantoms.pet_body import STRUCTURES, PetPerson
from HarmonizeExtension.phantoms.pet_centres import CENTRES, read_real, scan_image, scan_person
from HarmonizeExtension.scan import Modality

AXES = tuple(np.arange(start, end, 6.0) for start, end in ((3, 868), (-147, 150), (-207, 208)))


def person(seed=0, **changes):
    return PetPerson.draw(np.random.default_rng(seed), "somebody", **changes)


@pytest.mark.parametrize("seed", range(3))
def test_organs_and_lesions_take_up_what_is_known(seed):
    somebody = person(seed)
    suv, masks = somebody.activity(AXES)
    assert set(masks) >= set(STRUCTURES)
    for organ in ("liver", "spleen", "lung left", "brain"):
        inner = masks[organ] & (suv > 0)
        if organ in ("liver", "spleen", "lung left"):
            assert np.median(suv[inner]) == pytest.approx(somebody.suv[organ], rel=0.1)
    for number, lesion in enumerate(somebody.lesions, start=1):
        mask = masks.get(f"lesion {number}")
        if mask is not None and lesion.radius_mm > 12:
            assert np.median(suv[mask]) == pytest.approx(lesion.suv, rel=0.3)
    assert suv.min() >= 0
    assert suv[:, 0].max() < 0.1  # air in front of the patient
    overlapping = sum(mask.astype(int) for name, mask in masks.items() if name.startswith("lesion") or name == "liver")
    assert overlapping.max() <= 2


def test_the_same_numbers_give_the_same_person_and_others_another():
    assert np.array_equal(person(1).activity(AXES)[0], person(1).activity(AXES)[0])
    assert not np.allclose(person(1).activity(AXES)[0], person(2).activity(AXES)[0])


def test_the_activity_is_the_same_on_finer_voxels():
    fine = tuple(np.arange(a[0] - 1.5, a[-1] + 2, 3.0) for a in AXES)
    coarse, masks = person(3).activity(AXES)
    finer, _ = person(3).activity(fine)
    pooled = finer.reshape(len(AXES[0]), 2, len(AXES[1]), 2, len(AXES[2]), 2).mean(axis=(1, 3, 5))
    assert pooled[masks["liver"]].mean() == pytest.approx(coarse[masks["liver"]].mean(), rel=0.03)
    assert np.corrcoef(pooled.ravel(), coarse.ravel())[0, 1] > 0.98


def test_two_centres_show_one_person_and_the_sharper_one_is_noisier():
    field = ((330.0, 470.0), (-110.0, 110.0), (-160.0, 60.0))
    covs = {name: [] for name in CENTRES}
    for seed in range(3):
        somebody = person(seed, lesions=0)
        for k, name in enumerate(CENTRES):
            scan = scan_person(somebody, name, np.random.default_rng([seed, k]), field)
            assert scan.modality is Modality.PET
            assert scan.units == "SUV"
            assert scan.spacing_mm == CENTRES[name].voxel_mm
            found = liver_noise(scan)
            assert found.mean == pytest.approx(somebody.suv["liver"], rel=0.15)
            covs[name].append(found.cov)
    assert np.mean(covs["TUB"]) > np.mean(covs["BUD"])


def test_a_scan_without_noise_is_the_mean_of_many_with_it():
    field = ((380.0, 430.0), (-60.0, 40.0), (-120.0, -20.0))
    somebody = person(2)
    calm = scan_person(somebody, "TUB", np.random.default_rng(0), field, noiseless=True).array
    many = np.array([scan_person(somebody, "TUB", np.random.default_rng(k), field).array for k in range(40)])
    body = calm > 0.3
    assert np.mean(many.mean(axis=0)[body] / calm[body]) == pytest.approx(1.0, abs=0.01)
    assert np.std(many.mean(axis=0)[body] / calm[body]) < 0.04
    assert np.mean(many.std(axis=0)[body] / calm[body]) > 0.08


def test_real_images_are_imaged_again(tmp_path):
    rng = np.random.default_rng(0)
    image = sitk.GetImageFromArray(rng.gamma(2.0, 1.0, (20, 24, 26)).astype(np.float32))
    image.SetSpacing((4.0, 4.0, 4.0))
    with pytest.raises(InputError, match="no PET image"):
        read_real(tmp_path)
    for name in ("PET_image.nii.gz", "PET_mask.nii.gz"):
        sitk.WriteImage(image, str(tmp_path / name))
    assert list(read_real(tmp_path)) == ["PET_image.nii.gz"]
    scan = scan_image(image, "TUB", rng)
    assert scan.spacing_mm == CENTRES["TUB"].voxel_mm
    assert scan.array.mean() == pytest.approx(2.0, rel=0.1)
    with pytest.raises(InputError, match="there are: BUD, TUB"):
        scan_image(image, "Vienna", rng)
