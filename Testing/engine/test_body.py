"""Where the patient is: on simulated bodies whose outline is known, and on real scans."""

import dataclasses

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from Testing.engine.scans import grid, head

from HarmonizeExtension import images
from HarmonizeExtension.body import OUTLINE_NAMES, body_mask
from HarmonizeExtension.files.reading import read_scan
from HarmonizeExtension.scan import Modality, Scan, Structure


def ellipse(shape, centre, radii):
    """A cylinder along z: bool (z, y, x)."""
    _, y, x = np.ogrid[tuple(slice(n) for n in shape)]
    inside = ((y - centre[0]) / radii[0]) ** 2 + ((x - centre[1]) / radii[1]) ** 2 <= 1
    return np.broadcast_to(inside, shape)


def ct(tissue, on, noise_hu=20.0, **parts):
    """A CT: tissue of 40 HU in air, and parts {name: (mask, HU)}, with noise."""
    array = np.where(tissue, 40.0, -1000.0)
    for mask, hu in parts.values():
        array[mask] = hu
    array += np.random.default_rng(0).normal(0, noise_hu, array.shape)
    return Scan(images.to_image(array.astype(np.float32), on), Modality.CT, units="HU", name="simulated")


ON = grid((120, 110, 24), (2.0, 2.0, 3.0))
SHAPE = (24, 110, 120)


def agreement(found, truth):
    """Dice overlap."""
    return 2 * np.count_nonzero(found & truth) / (np.count_nonzero(found) + np.count_nonzero(truth))


def test_lungs_bowel_gas_and_airways_belong_to_the_body():
    trunk = ellipse(SHAPE, (50, 60), (35, 50))
    lungs = (ellipse(SHAPE, (50, 35), (20, 12)) | ellipse(SHAPE, (50, 85), (20, 12)), -850)
    found = body_mask(ct(trunk, ON, lungs=lungs))
    assert agreement(found, trunk) > 0.99


@pytest.mark.parametrize("touching", [True, False])
def test_the_couch_does_not(touching):
    trunk = ellipse(SHAPE, (50, 60), (35, 50))
    top = 85 if touching else 90
    couch = np.zeros(SHAPE, bool)
    couch[:, top : top + 2] = couch[:, top + 12 : top + 14] = True  # two sheets of 4 mm, with foam between them
    beam = np.zeros(SHAPE, bool)
    beam[:, top + 4 : top + 10, 100:108] = True
    found = body_mask(ct(trunk, ON, foam=(couch * False, -900), couch=(couch & ~trunk, 50), beam=(beam & ~trunk, 100)))
    assert agreement(found, trunk) > 0.98
    assert not found[:, top + 4 :].any()


def test_both_thighs_and_an_arm_are_kept_and_the_gap_is_not():
    thighs = [ellipse(SHAPE, (50, 32), (24, 24)), ellipse(SHAPE, (50, 84), (22, 22))]
    arm = ellipse(SHAPE, (20, 112), (10, 7))
    truth = thighs[0] | thighs[1] | arm
    found = body_mask(ct(truth, ON))
    assert agreement(found, truth) > 0.98
    assert not found[:, 20:80, 58:60].any()


def test_a_body_cut_by_the_border_reaches_it():
    truth = ellipse(SHAPE, (40, 0), (40, 60))
    found = body_mask(ct(truth, ON))
    assert np.array_equal(found[:, :, 0], truth[:, :, 0])
    assert agreement(found, truth) > 0.99
    assert np.array_equal(found[0], truth[0])


def test_a_hollow_phantom_is_a_body():
    shell = ellipse(SHAPE, (50, 60), (40, 40)) & ~ellipse(SHAPE, (50, 60), (38, 38))
    insert = ellipse(SHAPE, (50, 60), (10, 10))
    found = body_mask(ct(shell | insert, ON))
    assert agreement(found, ellipse(SHAPE, (50, 60), (40, 40))) > 0.98


@settings(max_examples=15, deadline=None)
@given(
    st.tuples(*[st.floats(0.7, 4.0)] * 3),
    st.tuples(*[st.floats(-180, 180)] * 3),
    st.integers(0, 10**6),
    st.sampled_from([2.0, 1 / 64, 1000.0, 0.37]),
)
def test_laws_on_heads(spacing, rotation, seed, gain):
    size = [int(np.clip(60 / s, 14, 40)) for s in spacing]
    scan = head(grid(size, spacing, rotation), seed=seed)
    found = body_mask(scan)
    assert found.dtype == bool
    assert found.shape == scan.array.shape
    assert np.array_equal(found, body_mask(scan))
    # All tissue but the voxels at the skin, where the surface is a matter of taste.
    assert np.mean(found[ndimage.binary_erosion(scan.array > 60)]) > 0.999
    assert not found.all()
    louder = body_mask(scan.with_array(scan.array * np.float32(gain)))
    assert np.mean(louder != found) < 1e-3


def test_padding_around_a_noisy_scan_is_no_tissue_and_hides_no_noise():
    scan = head(noise=15.0)
    rng = np.random.default_rng(0)
    room = np.hypot(*(15 * rng.standard_normal((2, 50, 84, 80)))).astype(np.float32)
    room[10:40, 20:64, 20:60] = scan.array
    padded = np.zeros((70, 110, 100), np.float32)
    padded[10:60, 13:97, 10:90] = room
    found = body_mask(Scan(sitk.GetImageFromArray(padded), Modality.MR, name="padded"))[10:60, 13:97, 10:90]
    assert agreement(found[10:40, 20:64, 20:60], body_mask(scan)) > 0.97
    assert np.count_nonzero(found) < 1.03 * np.count_nonzero(found[10:40, 20:64, 20:60])


def test_a_scan_without_air_is_all_body():
    scan = head()
    inside = Scan(sitk.GetImageFromArray(scan.array[8:22, 14:30, 13:27]), Modality.MR, name="crop")
    assert body_mask(inside).all()


def test_an_outline_is_taken_as_it_is():
    scan = head()
    mask = np.zeros(scan.array.shape, bool)
    mask[3:9, 3:9, 3:9] = True
    for name in (*OUTLINE_NAMES, " BODY "):
        outline = Structure(name, images.mask_image(mask, scan.image))
        assert np.array_equal(body_mask(dataclasses.replace(scan, structures={name: outline})), mask)


def test_pet_in_suv_and_in_counts():
    truth = ellipse(SHAPE, (50, 60), (35, 50))
    rng = np.random.default_rng(0)
    suv = np.where(truth, 0.8, 0.0) * rng.gamma(20, 1 / 20, SHAPE) + 0.02 * rng.random(SHAPE)
    image = images.to_image(suv.astype(np.float32), ON)
    assert agreement(body_mask(Scan(image, Modality.PET, units="SUV")), truth) > 0.96
    assert agreement(body_mask(Scan(image * 5000, Modality.PET, units="Bq/ml")), truth) > 0.96


REAL = {
    # file below the data: modality, units, and share of the volume that is patient (seen on pictures of the outline)
    "ct_abdomen/example_ct.nii.gz": ("CT", None, 0.64),
    "sts/STS_024/CT_image.nii.gz": ("CT", None, 0.67),
    "sts/STS_019/MR_T1_image.nii.gz": ("MR", None, 0.16),
    "sts/STS_032/PET_image.nii.gz": ("PET", "SUV", 0.59),
    "t1/pycortex_S1_raw.nii.gz": ("MR", None, 0.28),
    "t1/open_ms/cross/MNI/patient07/T1_brain_MNI.nii.gz": ("MR", None, 0.16),
    "acr_mr_phantom_dicom/GE_Signa_3T_T1": ("MR", None, 0.46),
    "ct_kernel_pair/ingenuity_UB_soft_1mm.nii.gz": ("CT", None, 0.32),
}


@pytest.mark.real_data
@pytest.mark.parametrize("name", REAL)
def test_real_scans(real_data, name):
    modality, units, share = REAL[name]
    scan = read_scan(real_data / name, modality=modality, units=units)
    found = body_mask(scan)
    assert found.mean() == pytest.approx(share, abs=0.04)
    # A body has few pieces and no enclosed air in its axial slices.
    sizes = np.bincount(ndimage.label(found)[0].ravel())[1:]
    assert sizes[sizes > 0.005 * sizes.sum()].sum() > 0.99 * sizes.sum()
    axial = int(np.argmax(np.abs(np.array(scan.image.GetDirection()).reshape(3, 3)[2])[::-1]))
    for index in range(0, found.shape[axial], max(found.shape[axial] // 5, 1)):
        slice_ = np.take(found, index, axial)
        assert np.array_equal(slice_, ndimage.binary_fill_holes(slice_))


@pytest.mark.real_data
def test_every_organ_of_a_real_patient_is_in_the_body(real_data):
    scan = read_scan(real_data / "ct_abdomen" / "example_ct.nii.gz", modality="CT")
    labels = sitk.ReadImage(str(real_data / "ct_abdomen" / "example_seg_fast_force_split.nii.gz"))
    organs = sitk.GetArrayFromImage(sitk.Resample(labels, scan.image, sitk.Transform(), sitk.sitkNearestNeighbor)) > 0
    assert np.mean(body_mask(scan)[organs]) > 0.999
