"""Scans and masks in image files: read right, or refused with a sentence that names the file and what to do."""

import gzip
import json
import struct

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st

from HarmonizeExtension import images
from HarmonizeExtension.errors import InputError
from HarmonizeExtension.files import read_scan, write_image
from HarmonizeExtension.scan import Modality, Role

ANGLE = st.integers(-300, 300).map(lambda hundredths: hundredths / 100)


def noise_image(size=(12, 11, 10), seed=0) -> sitk.Image:
    image = sitk.GetImageFromArray(np.random.default_rng(seed).normal(size=size[::-1]).astype(np.float32))
    image.SetSpacing((0.9, 1.1, 2.5))
    image.SetOrigin((-20, 7, 33))
    return image


def label_map(image: sitk.Image, boxes: dict[int, tuple[slice, slice, slice]]) -> sitk.Image:
    array = np.zeros(image.GetSize()[::-1], np.uint8)
    for label, box in boxes.items():
        array[box] = label
    return images.to_image(array, image)


BOX = (slice(2, 6), slice(3, 7), slice(4, 9))
OTHER = (slice(6, 9), slice(3, 7), slice(1, 4))


@pytest.fixture
def volume(tmp_path):
    write_image(noise_image(), tmp_path / "scan.nii.gz")
    return tmp_path / "scan.nii.gz"


def refusal(path, modality="MR", **more) -> str:
    with pytest.raises(InputError) as caught:
        read_scan(path, modality, **more)
    assert "ERROR" not in str(caught.value)
    return str(caught.value)


def test_modality_and_units_are_never_guessed(volume):
    with pytest.raises(InputError, match="MR, CT or PET"):
        read_scan(volume)
    assert "ultrasound" in refusal(volume, "ultrasound")
    scan = read_scan(volume, "pt")
    assert (scan.modality, scan.units, scan.name) == (Modality.PET, "", "scan")
    assert read_scan(volume, "PET", units="SUV", name="Case 1").units == "SUV"
    assert read_scan(volume, "CT").units == "HU"
    assert "is in HU, not SUV" in refusal(volume, "CT", units="SUV")
    assert "units 'kBq'" in refusal(volume, "PET", units="kBq")


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".nrrd", ".nhdr", ".mha", ".mhd"])
def test_every_format_gives_the_same_scan(tmp_path, suffix):
    image = noise_image()
    path = tmp_path / f"Straße 1{suffix}"
    sitk.WriteImage(image, str(path))
    scan = read_scan(str(path), Modality.MR)
    assert np.array_equal(scan.array, sitk.GetArrayFromImage(image))
    assert images.same_grid(scan.image, image)
    assert scan.name == "Straße 1"


def test_a_fourth_axis_of_one_entry_is_dropped_and_more_are_refused(tmp_path):
    image = noise_image()
    sitk.WriteImage(sitk.JoinSeries([image]), str(tmp_path / "one.nii.gz"))
    sitk.WriteImage(sitk.JoinSeries([image, image]), str(tmp_path / "two.nii.gz"))
    assert np.array_equal(read_scan(tmp_path / "one.nii.gz", "MR").array, sitk.GetArrayFromImage(image))
    assert "4 dimensions (12 x 11 x 10 x 2)" in refusal(tmp_path / "two.nii.gz")


def bad_values(position, value):
    array = sitk.GetArrayFromImage(noise_image())
    array[position] = value
    return images.to_image(array, noise_image())


@pytest.mark.parametrize(
    ("image", "sentence"),
    [
        (bad_values((3, 2, 1), np.nan), "1 voxels that are NaN or infinite, the first at index (1, 2, 3)"),
        (bad_values((3, 2, 1), -np.inf), "1 voxels that are NaN"),
        (bad_values(..., 7.0), "constant (7 everywhere)"),
        (sitk.Compose([noise_image()] * 3), "3 values per voxel"),
        (noise_image()[:, :, 3:4], "single slice"),
        (noise_image()[:, :, 3], "single slice"),
        (sitk.RealAndImaginaryToComplex(noise_image(), noise_image()), "complex"),
    ],
)
def test_images_that_are_no_volume_of_measured_values(tmp_path, image, sentence):
    sitk.WriteImage(image, str(tmp_path / "a.nrrd"))
    assert sentence in refusal(tmp_path / "a.nrrd")


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".nrrd", ".mha"])
@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_values_that_are_not_finite_are_counted_in_every_format(tmp_path, suffix, kind):
    image = bad_values(([1, 4], [2, 5], [3, 6]), np.nan)  # two voxels: (1, 2, 3) and (4, 5, 6) as (z, y, x)
    sitk.WriteImage(images.to_image(sitk.GetArrayFromImage(image).astype(kind), image), str(tmp_path / f"a{suffix}"))
    assert "2 voxels that are NaN or infinite, the first at index (3, 2, 1)" in refusal(tmp_path / f"a{suffix}")


def test_files_that_are_missing_empty_or_something_else(tmp_path):
    assert "there is no file" in refusal(tmp_path / "a.nii.gz")
    assert "there is no file" in refusal(tmp_path / "a\0.nii.gz")
    for suffix in (".nii", ".nii.gz", ".nrrd", ".mha"):
        path = tmp_path / f"text{suffix}"
        path.write_bytes(b"")
        assert "is empty (0 bytes)" in refusal(path)
        path.write_text("Dear Sir or Madam, " * 100)
        assert refusal(path).startswith(f"'{path}' is no ")
    (tmp_path / "a.png").write_text("a")
    assert "in no format that can be read" in refusal(tmp_path / "a.png")
    (tmp_path / "text.nii.gz").write_bytes(gzip.compress(b"Dear Sir or Madam, " * 100))
    assert "text.nii.gz" in refusal(tmp_path / "text.nii.gz")


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".nrrd", ".mha"])
@pytest.mark.parametrize("compressed", [True, False])
@pytest.mark.parametrize("share", [0.99, 0.5, 0.2])
def test_truncated_files_are_refused_and_not_filled_with_nothing(tmp_path, suffix, compressed, share):
    path = tmp_path / f"a{suffix}"
    sitk.WriteImage(noise_image(), str(path), compressed)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    assert "is truncated or damaged" in refusal(path)


def test_a_whole_gzip_stream_of_half_an_image_is_refused(volume):
    content = gzip.decompress(volume.read_bytes())
    volume.write_bytes(gzip.compress(content[: len(content) // 2]))
    assert "bytes of" in refusal(volume)


def test_numbers_spelt_as_text_are_read(tmp_path):
    digits = np.random.default_rng(0).integers(0, 9, (3, 4, 5))
    text = "NRRD0004\ntype: double\ndimension: 3\nsizes: 5 4 3\nencoding: ascii\n\n" + " ".join(
        map(str, digits.ravel())
    )
    (tmp_path / "a.nrrd").write_text(text)
    assert np.array_equal(read_scan(tmp_path / "a.nrrd", "MR").array, digits)


def test_a_link_gives_its_own_name(volume):
    link = volume.with_name("patient 7.nii.gz")
    link.symlink_to(volume)
    assert read_scan(link, "MR").name == "patient 7"


def test_a_flipped_bit_in_a_compressed_nifti_file_is_found(volume):
    data = bytearray(volume.read_bytes())
    data[len(data) // 2] ^= 4
    volume.write_bytes(data)
    assert "truncated or damaged" in refusal(volume)


@pytest.mark.parametrize("suffix", [".nrrd", ".mha", ".nii", ".nii.gz"])
def test_a_huge_size_in_a_tiny_file_takes_no_memory(tmp_path, suffix):
    resource = pytest.importorskip("resource", reason="memory is counted by POSIX")
    path = tmp_path / f"a{suffix}"
    if suffix == ".nrrd":
        path.write_text(
            "NRRD0004\ntype: float\ndimension: 3\nsizes: 30000 30000 3000\nencoding: gzip\nendian: little\n\nabc"
        )
    elif suffix == ".mha":
        path.write_text(
            "ObjectType = Image\nNDims = 3\nDimSize = 30000 30000 3000\nElementType = MET_FLOAT\n"
            "CompressedData = True\nElementDataFile = LOCAL\nabc"
        )
    else:
        sitk.WriteImage(noise_image(), str(tmp_path / "b.nii"))
        data = bytearray((tmp_path / "b.nii").read_bytes())
        data[42:48] = struct.pack("<3h", 30000, 30000, 3000)
        path.write_bytes(gzip.compress(data) if suffix == ".nii.gz" else data)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert "truncated or damaged" in refusal(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # KiB


def test_a_binary_mask_is_named_like_its_file(volume):
    path = volume.with_name("GTV primary.nii.gz")
    write_image(label_map(noise_image(), {1: BOX}), path)
    scan = read_scan(volume, "MR", segmentation=path)
    (structure,) = scan.structures.values()
    assert structure.name == "GTV primary"
    assert structure.roles == {Role.MEASURED}
    assert np.argwhere(structure.array).min(axis=0).tolist() == [2, 3, 4]
    assert structure.array.sum() == 4 * 4 * 5
    assert scan.provenance == ()


@pytest.mark.parametrize(
    ("suffix", "text"),
    [
        (".json", '{"3": "GTV", "7": "Liver"}'),
        (".json", '{"labels": {"background": 0, "GTV": 3, "Liver": 7}}'),
        (".csv", "label,name\n3,GTV\n7,Liver\n"),
        (".csv", "3,GTV\n7,Liver\n"),
        (".tsv", "index\tcolour\tname\n3\tred\tGTV\n7\tblue\tLiver\n"),
    ],
)
def test_labels_have_the_names_of_their_sidecar(volume, suffix, text):
    path = volume.with_name("seg.nrrd")
    write_image(label_map(noise_image(), {3: BOX, 7: OTHER}), path)
    assert list(read_scan(volume, "MR", segmentation=path).structures) == ["label_3", "label_7"]
    path.with_name(f"seg{suffix}").write_text(text)
    scan = read_scan(volume, "MR", segmentation=path)
    assert list(scan.structures) == ["GTV", "Liver"]
    assert scan.structures["Liver"].array.sum() == 3 * 4 * 3
    assert list(read_scan(volume, "MR", segmentation=path, structures=["Liver"]).structures) == ["Liver"]


def test_sidecars_that_cannot_be_understood_or_name_too_much(volume):
    path = volume.with_name("seg.nrrd")
    write_image(label_map(noise_image(), {3: BOX}), path)
    for text in ("{", '["a"]', '{"GTV": "three"}', "3"):
        path.with_name("seg.json").write_text(text)
        assert "seg.json" in refusal(volume, segmentation=path)
    path.with_name("seg.json").write_text(json.dumps({"3": "GTV", "9": "Spleen"}))
    scan = read_scan(volume, "MR", segmentation=path)
    assert list(scan.structures) == ["GTV"]
    # In BIDS the table has the names, and JSON something else.
    path.with_name("seg.json").write_text('{"Manual": true}')
    path.with_name("seg.tsv").write_text("index\tname\n3\tPTV\n")
    assert list(read_scan(volume, "MR", segmentation=path).structures) == ["PTV"]
    assert scan.provenance[0]["note"] == "'seg.nrrd' has no voxel of label 9 (Spleen)"


def segmentation(image: sitk.Image, layers: list[np.ndarray], **header) -> sitk.Image:
    planes = [images.to_image(layer.astype(np.uint8), image) for layer in layers]
    made = planes[0] if len(planes) == 1 else sitk.Compose(planes)
    for key, value in header.items():
        made.SetMetaData(key, value)
    return made


def box_array(image, *boxes):
    array = np.zeros(image.GetSize()[::-1], np.uint8)
    for value, box in enumerate(boxes, start=1):
        array[box] = value
    return array


def test_slicer_segments_keep_their_names_also_where_they_overlap(volume):
    image = noise_image()
    whole = (slice(1, 9), slice(1, 9), slice(1, 10))
    made = segmentation(
        image,
        [box_array(image, BOX, OTHER), box_array(image, whole)],
        Segment0_ID="Segment_1",
        Segment0_Name="GTV",
        Segment0_LabelValue="1",
        Segment0_Layer="0",
        Segment1_ID="Segment_2",
        Segment1_Name="Leber rechts ü",
        Segment1_LabelValue="2",
        Segment1_Layer="0",
        Segment2_ID="Segment_3",
        Segment2_Name="Body",
        Segment2_LabelValue="1",
        Segment2_Layer="1",
    )
    path = volume.with_name("a.seg.nrrd")
    sitk.WriteImage(made, str(path), True)
    scan = read_scan(volume, "MR", segmentation=path)
    assert {name: int(s.array.sum()) for name, s in scan.structures.items()} == {
        "GTV": 80,
        "Leber rechts ü": 36,
        "Body": 8 * 8 * 9,
    }


def test_a_segmentation_cropped_to_its_segments_falls_into_place_without_a_note(volume):
    image = noise_image()
    whole = segmentation(image, [box_array(image, BOX)], Segment0_ID="s", Segment0_Name="GTV", Segment0_LabelValue="1")
    cropped = whole[3:10, 2:8, 1:7]
    for key in whole.GetMetaDataKeys():
        cropped.SetMetaData(key, whole.GetMetaData(key))
    sitk.WriteImage(cropped, str(volume.with_name("a.seg.nrrd")))
    scan = read_scan(volume, "MR", segmentation=volume.with_name("a.seg.nrrd"))
    assert np.array_equal(scan.structures["GTV"].array, box_array(image, BOX) == 1)
    assert scan.provenance == ()


def test_names_of_another_encoding_are_still_text(volume):
    image = noise_image()
    path = volume.with_name("a.seg.nrrd")
    made = segmentation(image, [box_array(image, BOX)], Segment0_ID="s", Segment0_Name="Nieren_X", Segment0_Layer="0")
    sitk.WriteImage(made, str(path))
    path.write_bytes(path.read_bytes().replace(b"Nieren_X", "Nieren_Ü".encode("latin-1")))
    assert list(read_scan(volume, "MR", segmentation=path).structures) == ["Nieren_Ü"]


def test_empty_and_damaged_segments_are_refused_by_name(volume):
    image = noise_image()
    path = volume.with_name("a.seg.nrrd")
    header = {"Segment0_ID": "s", "Segment0_Name": "GTV", "Segment0_LabelValue": "1"}
    for changes, sentence in (
        ({"Segment0_LabelValue": "5"}, "'GTV'"),
        ({"Segment0_LabelValue": "x"}, "'GTV'"),
        ({"Segment0_Layer": "4"}, "layer 4"),
    ):
        sitk.WriteImage(segmentation(image, [box_array(image, BOX)], **(header | changes)), str(path))
        assert sentence in refusal(volume, segmentation=path)


def test_masks_that_do_not_belong_to_the_scan(volume):
    image = noise_image()
    path = volume.with_name("GTV.nrrd")
    write_image(label_map(image, {}), path)
    assert "is empty" in refusal(volume, segmentation=path)
    moved = label_map(image, {1: BOX})
    moved.SetOrigin((500, 0, 0))
    write_image(moved, path)
    assert "'GTV'" in refusal(volume, segmentation=path)
    assert "outside the scan (0% of it is inside)" in refusal(volume, segmentation=path)
    write_image(image, path)
    assert "no labels" in refusal(volume, segmentation=path)
    assert "there is no segmentation" in refusal(volume, structures=["PTV"])


def test_a_mask_on_another_grid_is_resampled_with_a_note(volume):
    finer = images.grid_with_spacing(noise_image(), (0.5, 0.5, 0.5))
    array = np.zeros(finer.GetSize()[::-1], np.uint8)
    array[10:30, 8:16, 6:15] = 1
    mask = images.to_image(array, finer)
    write_image(mask, volume.with_name("GTV.nrrd"))
    scan = read_scan(volume, "MR", segmentation=volume.with_name("GTV.nrrd"))
    assert "'GTV' was resampled" in scan.provenance[0]["note"]
    assert "0.5 x 0.5 x 0.5 mm" in scan.provenance[0]["note"]
    ours = scan.structures["GTV"]
    volume_mm3 = ours.array.sum() * np.prod(scan.spacing_mm)
    assert volume_mm3 == pytest.approx(array.sum() * 0.125, rel=0.25)
    to_mm = images.index_to_physical(ours.mask)
    centre = to_mm[:3, :3] @ np.argwhere(ours.array).mean(axis=0)[::-1] + to_mm[:3, 3]
    wanted = images.index_to_physical(mask)
    wanted = wanted[:3, :3] @ np.argwhere(array).mean(axis=0)[::-1] + wanted[:3, 3]
    assert np.all(np.abs(centre - wanted) <= np.array(scan.spacing_mm) / 2)


def test_half_a_mask_outside_is_the_limit(volume):
    image = noise_image()
    bigger = sitk.ConstantPad(image, (10, 0, 0), (0, 0, 0), 0.0)
    for columns, refused in ((slice(4, 15), True), (slice(6, 15), False)):  # 5 of 11, 5 of 9 columns inside
        write_image(label_map(bigger, {1: (BOX[0], BOX[1], columns)}), volume.with_name("GTV.nrrd"))
        if refused:
            assert "'GTV'" in refusal(volume, segmentation=volume.with_name("GTV.nrrd"))
        else:
            scan = read_scan(volume, "MR", segmentation=volume.with_name("GTV.nrrd"))
            assert scan.structures["GTV"].array.sum() == 4 * 4 * 5
            assert "56% of it" in scan.provenance[0]["note"]


def test_a_structure_of_one_voxel_is_one_voxel(volume):
    write_image(label_map(noise_image(), {1: (4, 5, 6)}), volume.with_name("dot.nrrd"))
    scan = read_scan(volume, "MR", segmentation=volume.with_name("dot.nrrd"))
    assert np.argwhere(scan.structures["dot"].array).tolist() == [[4, 5, 6]]


def test_several_files_and_the_same_name_twice(volume):
    for name, box in (("GTV", BOX), ("Liver", OTHER)):
        write_image(label_map(noise_image(), {1: box}), volume.with_name(f"{name}.nii.gz"))
    files = [volume.with_name("GTV.nii.gz"), volume.with_name("Liver.nii.gz")]
    assert list(read_scan(volume, "MR", segmentation=files).structures) == ["GTV", "Liver"]
    assert "two structures are named 'GTV'" in refusal(volume, segmentation=[files[0], files[0]])
    assert "no structure named Spleen; it has: GTV" in refusal(volume, segmentation=files, structures=["GTV", "Spleen"])


@settings(max_examples=12, deadline=None)
@given(
    angles=st.tuples(*[ANGLE] * 3),
    spacing=st.tuples(*[st.floats(0.4, 5)] * 3),
    suffix=st.sampled_from([".nii.gz", ".nrrd", ".mha"]),
    mask_suffix=st.sampled_from([".nii.gz", ".nrrd", ".mha"]),
)
def test_image_and_mask_stay_together_on_any_grid(tmp_path_factory, angles, spacing, suffix, mask_suffix):
    """Formats round the grid differently; the mask must still fall on its own voxels, without being resampled."""
    folder = tmp_path_factory.mktemp("grid")
    image = noise_image()
    image.SetSpacing(spacing)
    image.SetDirection(sitk.Euler3DTransform((0, 0, 0), *angles).GetMatrix())
    mask = label_map(image, {1: BOX})
    write_image(image, folder / f"scan{suffix}")
    write_image(mask, folder / f"mask{mask_suffix}")
    scan = read_scan(folder / f"scan{suffix}", "MR", segmentation=folder / f"mask{mask_suffix}")
    assert scan.provenance == ()
    assert np.array_equal(scan.structures["mask"].array, sitk.GetArrayFromImage(mask) == 1)
    assert scan.structures["mask"].mask.GetOrigin() == scan.image.GetOrigin()
    assert scan.structures["mask"].mask.GetDirection() == scan.image.GetDirection()


@settings(max_examples=12, deadline=None)
@given(angles=st.tuples(*[ANGLE] * 3), spacing=st.tuples(*[st.floats(0.8, 4)] * 3))
def test_a_mask_resampled_on_reading_is_the_threshold_of_the_image_resampled(tmp_path_factory, angles, spacing):
    """Reading a mask on another grid commutes with resampling the image that it was thresholded from."""
    folder = tmp_path_factory.mktemp("commute")
    source = noise_image((20, 18, 16))
    source.SetDirection(sitk.Euler3DTransform((0, 0, 0), *angles).GetMatrix())
    grid = images.grid_with_spacing(source, spacing)
    # Off the middle between two voxels, where rounding would decide which is the nearer.
    grid.SetOrigin([v + 0.0123 for v in grid.GetOrigin()])
    on_grid = images.resample(source, grid, sitk.sitkNearestNeighbor, outside=-99)
    write_image(on_grid, folder / "scan.nrrd")
    write_image(sitk.Cast(source > 0.2, sitk.sitkUInt8), folder / "mask.nrrd")
    scan = read_scan(folder / "scan.nrrd", "MR", segmentation=folder / "mask.nrrd")
    assert np.array_equal(scan.structures["mask"].array, scan.array > 0.2)


@pytest.mark.real_data
def test_the_ibsi_digital_phantom(real_data):
    folder = real_data / "ibsi" / "ibsi_1_digital_phantom" / "nifti"
    scan = read_scan(folder / "image" / "phantom.nii.gz", "CT", segmentation=folder / "mask" / "mask.nii.gz")
    mask = scan.structures["mask"].array
    assert scan.spacing_mm == (2.0, 2.0, 2.0)
    # IBSI reference manual, chapter 5: 74 voxels in the region of interest, mean 2.15, grey levels 1, 3, 4 and 6.
    assert mask.sum() == 74
    assert scan.array[mask].mean() == pytest.approx(2.15, abs=0.005)
    assert sorted(set(scan.array[mask].tolist())) == [1, 3, 4, 6]


@pytest.mark.real_data
def test_two_reconstructions_of_one_pet_scan_lie_on_one_grid(real_data):
    first, second = (
        read_scan(real_data / "pet_nema_pair" / f"recon_{number}.nii.gz", "PET", units="Bq/ml") for number in (1, 2)
    )
    assert images.same_grid(first.image, second.image)
    assert first.units == "Bq/ml"


@pytest.mark.real_data
def test_a_label_map_of_many_structures(real_data):
    folder = real_data / "ct_abdomen"
    scan = read_scan(folder / "example_ct.nii.gz", "CT", segmentation=folder / "example_seg_fast_force_split.nii.gz")
    assert len(scan.structures) > 20
    total = sum(int(structure.array.sum()) for structure in scan.structures.values())
    raw = sitk.ReadImage(str(folder / "example_seg_fast_force_split.nii.gz"))
    assert total == np.count_nonzero(sitk.GetArrayViewFromImage(raw))


@pytest.mark.parametrize(("modality", "units"), [("MR", "SUV"), ("MR", "HU"), ("CT", "Bq/ml"), ("PET", "HU")])
def test_units_of_another_modality_are_refused(volume, modality, units):
    with pytest.raises(InputError, match=units):
        read_scan(volume, modality, units=units)


@pytest.mark.parametrize("count", [1, 2])
def test_a_blank_name_in_a_sidecar_is_that_of_the_label(volume, count):
    boxes = {label: (slice(2, 6), slice(3, 7), slice(3 * label, 3 * label + 2)) for label in range(1, count + 1)}
    path = volume.with_name("labels.nii.gz")
    write_image(label_map(noise_image(), boxes), path)
    volume.with_name("labels.json").write_text(json.dumps({str(label): " " for label in boxes}))
    assert list(read_scan(volume, "MR", segmentation=path).structures) == [f"label_{label}" for label in boxes]
