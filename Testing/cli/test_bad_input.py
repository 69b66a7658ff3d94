"""Whatever is given, the answer is a sentence that names it and says what to do, and nothing is written."""

import json
import os
import resource
import shutil

import numpy as np
import pytest
import SimpleITK as sitk

from Testing.cli.harmonize import harmonize, listing
from Testing.engine.physics import simulated_pet
from Testing.engine.scans import grid, head

from HarmonizeExtension import images
from HarmonizeExtension.files.writing import write_image

CT_GRID = grid((40, 44, 30), (1, 1, 1.5))


def image_of(array, on=None):
    return images.to_image(np.asarray(array), on) if on is not None else sitk.GetImageFromArray(array)


def with_bad(value):
    array = head().array
    array[3, 4, 5] = array[6, 7, 8] = value
    return image_of(array, head().image)


def air_and_water():
    """A CT-like image: water in the middle of air."""
    array = np.full(CT_GRID.GetSize()[::-1], -1000.0, np.float32)
    array[8:22, 10:34, 10:30] = 40
    return array + np.random.default_rng(0).normal(0, 5, array.shape).astype(np.float32)


def truncated(path):
    write_image(head().image, path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def mask_of(array, on):
    return images.mask_image(array, on)


def moved(mask, mm):
    mask = sitk.Image(mask)
    mask.SetOrigin([o + mm for o in mask.GetOrigin()])
    return mask


VOLUMES = {
    # name of the file: how it is made, words that the answer must hold
    "missing.nii.gz": (lambda path: None, "there is no file", "check the path"),
    "empty.nii.gz": (lambda path: path.touch(), "empty (0 bytes)", "again"),
    "text.nii.gz": (lambda path: path.write_text("no image"), "no NIfTI file", "export it again"),
    "letter.docx": (lambda path: path.write_text("no image"), "NIfTI (.nii, .nii.gz)", "format"),
    "truncated.nrrd": (truncated, "truncated", "again"),
    "truncated.nii.gz": (truncated, "truncated", "again"),
    "nan.nii.gz": (
        lambda path: sitk.WriteImage(with_bad(np.nan), str(path)),
        "2 voxels that are NaN",
        "index (5, 4, 3)",
    ),
    "infinite.nrrd": (lambda path: write_image(with_bad(np.inf), path), "2 voxels that are NaN or inf", "(5, 4, 3)"),
    "colour.nrrd": (
        lambda path: write_image(sitk.Compose([sitk.Cast(head().image, sitk.sitkUInt8)] * 3), path),
        "3 values per voxel",
        "choose a scalar",
    ),
    "series4d.nii.gz": (
        lambda path: sitk.WriteImage(sitk.JoinSeries([head().image] * 3), str(path)),
        "4 dimensions",
        "single 3D volume",
    ),
    "slice.nii.gz": (lambda path: write_image(head().image[:, :, 3:4], path), "single slice", "needs a volume"),
    "constant.nii.gz": (
        lambda path: write_image(image_of(np.full((8, 9, 10), 7.0)), path),
        "constant (7 everywhere)",
        "check the file",
    ),
}


@pytest.mark.parametrize("name", VOLUMES)
def test_a_volume_that_cannot_be_used(name, tmp_path):
    make, *words = VOLUMES[name]
    make(tmp_path / name)
    before = listing(tmp_path)
    run = harmonize("apply", "--volume", tmp_path / name, "--method", "zscore", "--out", tmp_path / "out")
    refused(run, name.split(".")[0], *words)
    assert listing(tmp_path) == before
    assert not (tmp_path / "out").exists()


def refused(run, *words, code=2):
    """One sentence on the error stream that holds the words; before it at most what the NIfTI library says itself."""
    assert run.returncode == code, run.stdout + run.stderr
    assert run.stdout == ""
    *others, sentence = run.stderr.strip().splitlines()
    assert all(line.startswith("** ERROR: NWAD") for line in others)
    assert sentence.startswith("harmonize: ")
    assert "Traceback" not in sentence
    for word in words:
        assert word in sentence


def small_box():
    array = np.zeros(head().array.shape, bool)
    array[10:14, 10:14, 10:14] = True
    return array


SEGMENTATIONS = {
    "empty.nrrd": (lambda: mask_of(np.zeros(head().array.shape), head().image), "empty.nrrd' is empty", "leave it out"),
    "elsewhere.nrrd": (lambda: moved(head().structures["GTV"].mask, 500), "outside the scan", "made on this scan"),
    "half.nrrd": (lambda: moved(head().structures["brain"].mask, 38), "outside the scan", "made on this scan"),
}


@pytest.mark.parametrize("name", SEGMENTATIONS)
def test_a_segmentation_that_cannot_be_used(name, files, tmp_path):
    make, *words = SEGMENTATIONS[name]
    write_image(make(), tmp_path / name)
    volume = ("--volume", files / "head.nii.gz", "--segmentation", tmp_path / name, "--modality", "MR")
    run = harmonize("apply", *volume, "--method", "zscore", "--out", tmp_path / "out")
    refused(run, name.split(".")[0], *words)
    assert not (tmp_path / "out").exists()


def test_a_mask_on_another_grid_is_resampled_with_a_note(files, tmp_path):
    coarse = images.grid_with_spacing(head().image, (2.0, 2.0, 2.0))
    write_image(images.resample_mask(head().structures["brain"].mask, coarse), tmp_path / "brain.nrrd")
    volume = ("--volume", files / "head.nii.gz", "--segmentation", tmp_path / "brain.nrrd", "--modality", "MR")
    run = harmonize("apply", *volume, "--method", "zscore", "--out", tmp_path / "out", "--json")
    assert run.returncode == 0
    (note,) = json.loads(run.stdout)["notes"]
    assert "'brain' was resampled" in note
    in_words = harmonize("apply", *volume, "--method", "zscore", "--out", tmp_path / "out")
    assert note in in_words.stdout


def one_voxel():
    array = np.zeros(head().array.shape, bool)
    array[15, 22, 20] = True
    return mask_of(array, head().image)


@pytest.mark.parametrize("role", ["--reference", "--protect", "--measure"])
def test_a_structure_of_one_voxel_is_never_a_traceback(role, files, tmp_path):
    write_image(one_voxel(), tmp_path / "voxel.nrrd")
    volume = ("--volume", files / "head.nii.gz", "--segmentation", tmp_path / "voxel.nrrd", "--modality", "MR")
    run = harmonize("apply", *volume, "--method", "n4", role, "voxel", "--out", tmp_path / "out")
    if run.returncode:
        refused(run, "'voxel'")
        assert not listing(tmp_path / "out")
    else:
        assert "volume" in run.stdout


UNSUITABLE = {
    "PET without SUV": (("--method", "resolution-matching", "--target", "7"), "needs SUV", "state units SUV"),
    "PET method without a target": (("--method", "resolution-matching", "--units", "SUV"), "needs a target", "choose"),
    "CT offered to WhiteStripe": (("--method", "whitestripe"), "looks like CT", "choose a method for CT"),
    "CT that says so offered to WhiteStripe": (("--method", "whitestripe", "--modality", "CT"), "is for MR", "CT"),
    "an unknown method": (("--method", "whitestrip"), "no method 'whitestrip'", "whitestripe"),
    "an unknown structure": (("--method", "kernel-matching", "--target", "soft", "--protect", "GTV"), "GTV", "none"),
    "an impossible spacing": (("--method", "n4", "--modality", "MR", "--spacing", "-1"), "-1", "positive"),
    "an unknown unit": (("--method", "kernel-matching", "--target", "soft", "--units", "mSv"), "mSv", "HU, SUV"),
}


@pytest.mark.parametrize("case", UNSUITABLE)
def test_a_scan_that_does_not_suit_the_method(case, tmp_path):
    arguments, *words = UNSUITABLE[case]
    array = air_and_water()
    write_image(image_of(np.abs(array) if case.startswith("PET") else array, CT_GRID), tmp_path / "air.nii.gz")
    run = harmonize("apply", "--volume", tmp_path / "air.nii.gz", *arguments, "--out", tmp_path / "out")
    refused(run, *words)
    assert not (tmp_path / "out").exists()


def test_a_dose_distribution(tmp_path):
    pydicom = pytest.importorskip("pydicom")
    dose = pydicom.Dataset()
    dose.file_meta = pydicom.dataset.FileMetaDataset()
    dose.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    dose.SOPClassUID = dose.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.481.2"
    dose.SOPInstanceUID = dose.file_meta.MediaStorageSOPInstanceUID = pydicom.uid.generate_uid()
    dose.Modality, dose.SeriesInstanceUID, dose.DoseUnits = "RTDOSE", pydicom.uid.generate_uid(), "GY"
    dose.NumberOfFrames, dose.Rows, dose.Columns = 4, 8, 8
    dose.SamplesPerPixel, dose.BitsAllocated, dose.BitsStored, dose.HighBit, dose.PixelRepresentation = 1, 16, 16, 15, 0
    dose.PhotometricInterpretation, dose.PixelSpacing = "MONOCHROME2", [2, 2]
    dose.ImagePositionPatient, dose.ImageOrientationPatient = [0, 0, 0], [1, 0, 0, 0, 1, 0]
    dose.PixelData = np.arange(256, dtype=np.uint16).tobytes()
    (tmp_path / "plan").mkdir()
    dose.save_as(tmp_path / "plan" / "dose.dcm", enforce_file_format=True)
    for volume in (tmp_path / "plan", tmp_path / "plan" / "dose.dcm"):
        run = harmonize("apply", "--volume", volume, "--method", "zscore", "--out", tmp_path / "out")
        refused(run, "plan", "dose")
        assert not (tmp_path / "out").exists()


def apply_to(files, out, *arguments, **options):
    volume = ("--volume", files / "head.nii.gz", "--segmentation", files / "GTV.nii.gz", "--modality", "MR")
    return harmonize("apply", *volume, "--method", "zscore", "--out", out, *arguments, **options)


def test_a_folder_that_cannot_be_written(files, tmp_path):
    (tmp_path / "file").write_text("here first")
    before = listing(tmp_path)
    for out in (tmp_path / "file", tmp_path / "file" / "below"):
        refused(apply_to(files, out), str(out), code=4)
    assert listing(tmp_path) == before
    if os.geteuid() != 0:  # root may write anywhere
        (tmp_path / "locked").mkdir(mode=0o500)
        refused(apply_to(files, tmp_path / "locked"), "may not write there", code=4)


@pytest.mark.parametrize("limit_bytes", [0, 1_000, 300_000])
def test_a_disk_that_fills_up_midway_leaves_what_was_there(files, tmp_path, limit_bytes):
    """A limit on the size of a file is hit in the verdict, in the report, in the volume."""
    out = tmp_path / "out"
    assert apply_to(files, out).returncode == 0
    before = listing(out)

    def limited():
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, limit_bytes))

    run = apply_to(files, out, "--spacing", "0.8", preexec_fn=limited)
    refused(run, str(out), "could not be written", code=4)
    assert f"{out}{os.sep}." not in run.stderr
    assert listing(out) == before


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0 or not shutil.which("mount"), reason="needs root")
def test_a_disk_that_is_really_full(files, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    if os.system(f"mount -t tmpfs -o size=300k tmpfs {disk} 2>/dev/null"):
        pytest.skip("a small file system cannot be mounted here")
    try:
        refused(apply_to(files, disk / "out"), "disk is full", code=4)
        assert not listing(disk)
    finally:
        os.system(f"umount {disk}")


def test_json_says_what_was_wrong_too(tmp_path):
    run = harmonize("apply", "--volume", tmp_path / "no.nii.gz", "--method", "zscore", "--out", tmp_path, "--json")
    assert run.returncode == 2
    answer = json.loads(run.stdout)
    assert answer["kind"] == "InputError"
    assert "no.nii.gz" in answer["error"]
    assert run.stderr == ""


def test_a_place_for_results_that_is_none_or_the_scan_itself(files, tmp_path):
    shutil.copy(files / "head.nii.gz", tmp_path / "series.dcm")
    before = listing(tmp_path)
    refused(apply_to(files, " "), "--out is empty")
    for volume in (tmp_path, f"{tmp_path}#1.2.3"):
        refused(harmonize("apply", "--volume", volume, "--method", "zscore", "--out", tmp_path), "the scan itself")
    assert listing(tmp_path) == before


def test_a_pet_target_has_the_units_that_were_given(tmp_path):
    scan = simulated_pet.scan(5.0, voxel_mm=(5, 5, 5))
    target = simulated_pet.scan(5.0, seed=1, voxel_mm=(5, 5, 5), post_filter_mm=9.0)
    write_image(scan.image, tmp_path / "scan.nii.gz")
    write_image(target.image, tmp_path / "target.nii.gz")
    arguments = ("--method", "resolution-matching", "--target", tmp_path / "target.nii.gz", "--out", tmp_path / "out")
    run = harmonize("apply", "--volume", tmp_path / "scan.nii.gz", *arguments, "--units", "SUV", "--insist")
    assert run.returncode == 0, run.stderr
    shutil.rmtree(tmp_path / "out")
    refused(harmonize("apply", "--volume", tmp_path / "scan.nii.gz", *arguments), "needs SUV", "state units SUV")


def test_the_demo_never_guesses_the_units_of_pet(tmp_path):
    write_image(simulated_pet.scan(5.0, voxel_mm=(5, 5, 5)).image, tmp_path / "pet.nii.gz")
    own = ("demo", "--input", tmp_path / "pet.nii.gz", "--modality", "PET", "--out", tmp_path / "out")
    refused(harmonize(*own), "needs SUV")
    run = harmonize(*own, "--units", "SUV")
    assert run.returncode == 0, run.stderr
    assert "verdict" in run.stdout
