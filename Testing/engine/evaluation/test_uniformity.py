"""The sphere in the liver is found by the patient's axes, lies inside, and measures what is there."""

import numpy as np
import pytest
import SimpleITK as sitk

from Testing.engine.scans import grid

from HarmonizeExtension import images
from HarmonizeExtension.errors import InputError
from HarmonizeExtension.evaluation.uniformity import liver_noise, noise_gap
from HarmonizeExtension.scan import Modality, Scan, Structure


def abdomen(rotation=(0.0, 0.0, 0.0), liver_radius_mm=45.0, seed=0):
    """A "liver" at the origin of the patient, whose upper right quarter is noisier: mean 5 and sd 1, elsewhere 0.2."""
    on = grid(size=(32, 30, 26), spacing=(4.0, 4.0, 5.0), rotation=rotation, origin=(0, 0, 0))
    centre = np.array(on.TransformContinuousIndexToPhysicalPoint([15.5, 14.5, 12.5]))
    on.SetOrigin([float(v) for v in -centre])
    index = np.stack(np.indices(on.GetSize()[::-1]), axis=-1)[..., ::-1]
    to_mm = images.index_to_physical(on)
    place = index @ to_mm[:3, :3].T + to_mm[:3, 3]
    liver = np.linalg.norm(place, axis=-1) < liver_radius_mm
    noisy = (place[..., 0] < 0) & (place[..., 2] > -8)  # LPS: right is negative x, superior positive z
    sd = np.where(noisy, 1.0, 0.2)
    array = (5 + sd * np.random.default_rng(seed).standard_normal(liver.shape)).astype(np.float32)
    structure = Structure("liver", images.mask_image(liver, on))
    return Scan(images.to_image(array, on), Modality.PET, {"liver": structure}, units="SUV")


@pytest.mark.parametrize("rotation", [(0, 0, 0), (0, 0, 180), (180, 0, 0), (0, 90, 0), (10, -20, 35)])
def test_the_sphere_lies_upper_right_however_the_image_is_stored(rotation):
    scan = abdomen(rotation)
    found = liver_noise(scan)
    x, _, z = found.centre_mm
    assert x < -10
    assert z > -5
    assert np.linalg.norm(found.centre_mm) + 15 < 45  # inside the liver
    volume = found.voxels * np.prod(scan.spacing_mm)
    assert volume == pytest.approx(4 / 3 * np.pi * 15**3, rel=0.1)
    assert found.cov == pytest.approx(0.2, rel=0.35)  # the noisy quarter's
    assert found.cov == found.sd / found.mean


def test_a_liver_too_small_or_missing_or_dark_is_refused():
    with pytest.raises(InputError, match="no sphere of 30 mm fits"):
        liver_noise(abdomen(liver_radius_mm=14))
    with pytest.raises(InputError, match="no structure 'Liver'"):
        liver_noise(abdomen(), "Liver")
    with pytest.raises(InputError, match="'liver' of 'scan' is empty"):
        liver_noise(abdomen(liver_radius_mm=0))
    scan = abdomen()
    with pytest.raises(InputError, match="ratio to it means nothing"):
        liver_noise(scan.with_array(scan.array - 50))


@pytest.mark.real_data
def test_in_a_real_abdomen_the_sphere_lies_in_the_upper_right_of_the_liver(real_data):
    image = sitk.ReadImage(str(real_data / "ct_abdomen" / "example_ct.nii.gz"))
    labels = sitk.ReadImage(str(real_data / "ct_abdomen" / "example_seg_fast_force_split.nii.gz"))
    liver = sitk.Cast(labels == 5, sitk.sitkUInt8)
    scan = Scan(image, Modality.CT, {"liver": Structure("liver", liver)}, units="HU")
    found = liver_noise(scan)
    to_mm = images.index_to_physical(liver)
    place = np.argwhere(scan.structures["liver"].array)[:, ::-1] @ to_mm[:3, :3].T + to_mm[:3, 3]
    middle = (place.min(axis=0) + place.max(axis=0)) / 2
    assert found.centre_mm[0] < middle[0]
    assert found.centre_mm[2] > middle[2]
    assert np.sqrt(((place - found.centre_mm) ** 2).sum(axis=1)).min() == 0
    assert 20 < found.mean < 130  # HU of liver, with contrast or without
    assert found.sd < 30


def test_a_gap_between_scanners_is_found_and_told_in_medians():
    rng = np.random.default_rng(0)
    far = noise_gap(rng.normal(0.09, 0.01, 50), rng.normal(0.13, 0.01, 50))
    near = noise_gap(rng.normal(0.10, 0.01, 50), rng.normal(0.10, 0.01, 50))
    assert far.gap == pytest.approx(0.04, abs=0.01)
    assert far.p < 1e-4 < near.p
    assert near.gap < far.gap
    assert far.first[0] < far.first[1] < far.first[2]
