"""A DICOM series becomes the volume that physics says it is, or is refused with the numbers."""

import re

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from synthetic_dicom import DOSE_STORAGE, ENHANCED_MR_STORAGE, new_file, save, save_series, series, set_pixels

from HarmonizeExtension import images
from HarmonizeExtension.errors import InputError
from HarmonizeExtension.files import read_scan
from HarmonizeExtension.scan import Modality

ANGLE = st.integers(-300, 300).map(lambda hundredths: hundredths / 100)


def stored_values(shape=(6, 7, 9), seed=0, low=-1000, high=2000) -> np.ndarray:
    return np.random.default_rng(seed).integers(low, high, shape).astype(np.int16)


def test_values_grid_and_order_are_right_whatever_the_files_are_called(tmp_path):
    stored = stored_values()
    folder = save_series(series(stored, RescaleSlope="1", RescaleIntercept="-24"), tmp_path / "CT of a person")
    scan = read_scan(folder)
    assert np.array_equal(scan.array, stored.astype(np.float32) - 24)
    assert scan.modality is Modality.CT
    assert scan.units == "HU"
    assert scan.name == "CT of a person"
    assert np.allclose(scan.spacing_mm, (0.8, 1.1, 2.5))
    assert scan.image.GetOrigin() == (-10.0, 20.0, 35.0)


@settings(max_examples=15, deadline=None)
@given(
    angles=st.tuples(*[ANGLE] * 3),
    spacing=st.tuples(*[st.floats(0.3, 6)] * 3),
    origin=st.tuples(*[st.floats(-300, 300)] * 3),
    backwards=st.booleans(),
)
def test_every_voxel_lies_where_its_own_slice_says(tmp_path_factory, angles, spacing, origin, backwards):
    """Position of pixel (column i, row j) by DICOM PS3.3 C.7.6.2.1.1, independent of how the volume is put together."""
    turn = np.array(sitk.Euler3DTransform((0, 0, 0), *angles).GetMatrix()).reshape(3, 3)
    stored = stored_values((4, 5, 6))
    step = spacing[2] * turn[:, 2] * (-1 if backwards else 1)
    datasets = series(stored, "MR", spacing, origin, turn[:, 0], turn[:, 1], step)
    scan = read_scan(save_series(datasets, tmp_path_factory.mktemp("oblique")))
    assert np.linalg.det(images.index_to_physical(scan.image)) > 0
    for number, dataset in enumerate(datasets):
        for i, j in ((0, 0), (5, 4), (2, 3)):
            position = np.array(dataset.ImagePositionPatient, float)
            row, column = np.array(dataset.ImageOrientationPatient, float).reshape(2, 3)
            place = position + i * dataset.PixelSpacing[1] * row + j * dataset.PixelSpacing[0] * column
            x, y, z = scan.image.TransformPhysicalPointToContinuousIndex([float(v) for v in place])
            assert np.allclose((x, y, z), np.round((x, y, z)), atol=1e-3)
            assert scan.array[round(z), round(y), round(x)] == stored[number, j, i]


def test_monochrome1_values_are_not_inverted(tmp_path):
    """The photometric interpretation says how to show values, not what they are; ITK inverts them."""
    stored = stored_values(low=0)
    datasets = series(stored, "PT", PhotometricInterpretation="MONOCHROME1", RescaleSlope="2", Units="BQML")
    folder = save_series(datasets, tmp_path / "a", order=range(len(stored)))
    by_itk = sitk.GetArrayFromImage(sitk.ReadImage([str(p) for p in sorted(folder.iterdir())]))
    assert not np.array_equal(by_itk, 2 * stored)  # the trap is there
    assert np.array_equal(read_scan(folder).array, 2.0 * stored)


def compress(dataset, stored, kind, scratch):
    """The dataset with its pixels losslessly compressed, by tools other than the reader's own path."""
    if kind == "RLE":
        dataset.compress(pydicom.uid.RLELossless)
        return
    writer = sitk.ImageFileWriter()
    writer.SetImageIO("GDCMImageIO")
    writer.SetCompressor(kind)
    writer.UseCompressionOn()
    writer.SetFileName(str(scratch))
    writer.Execute(sitk.GetImageFromArray(stored[None]))
    compressed = pydicom.dcmread(scratch)
    assert compressed.file_meta.TransferSyntaxUID.is_compressed
    dataset.PixelData = compressed.PixelData
    dataset["PixelData"].VR = "OB"
    dataset["PixelData"].is_undefined_length = True
    dataset.file_meta.TransferSyntaxUID = compressed.file_meta.TransferSyntaxUID


@pytest.mark.parametrize("kind", ["JPEG2000", "JPEG", "RLE"])
@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize("bits", [12, 16])
def test_compressed_pixels_are_the_same_as_plain_ones(tmp_path, kind, photometric, bits):
    stored = np.random.default_rng(1).integers(0, 2**bits, (3, 16, 20)).astype(np.uint16)
    datasets = series(stored, "MR", RescaleSlope="0.5", RescaleIntercept="-3")
    for number, dataset in enumerate(datasets):
        set_pixels(dataset, stored[number], bits)
        dataset.PhotometricInterpretation = photometric
        compress(dataset, stored[number], kind, tmp_path / "compressed.dcm")
    scan = read_scan(save_series(datasets, tmp_path / "series"))
    assert np.array_equal(scan.array, 0.5 * stored.astype(np.float32) - 3)


def test_overlays_in_unused_bits_do_not_become_values(tmp_path):
    stored = np.random.default_rng(1).integers(-2048, 2048, (3, 6, 6)).astype(np.int16)
    datasets = series(stored, "CT")
    for dataset, slice_ in zip(datasets, stored, strict=True):
        dirty = (slice_.view(np.uint16) & 0x0FFF) | 0x5000
        set_pixels(dataset, dirty.view(np.int16), bits=12)
    assert np.array_equal(read_scan(save_series(datasets, tmp_path / "a")).array, stored)


def test_each_pet_slice_has_its_own_slope(tmp_path):
    stored = stored_values((3, 4, 4), low=0)
    datasets = series(stored, "PT", Units="GML")
    for number, dataset in enumerate(datasets):
        dataset.RescaleSlope = str(0.25 * (number + 1))
    scan = read_scan(save_series(datasets, tmp_path / "a"))
    assert scan.units == "SUV"
    assert np.allclose(scan.array, stored * 0.25 * np.array([1, 2, 3])[:, None, None])


def pet(stored, **changes):
    drug = Dataset()
    drug.RadionuclideTotalDose, drug.RadionuclideHalfLife = "370000000", "6586.2"
    drug.RadiopharmaceuticalStartTime = "233000.00"
    tags = {
        "Units": "BQML",
        "DecayCorrection": "START",
        "PatientWeight": "74",
        "SeriesDate": "20200102",
        "SeriesTime": "003000",
        "AcquisitionDate": "20200102",
        "AcquisitionTime": "003000.0",
        "CorrectedImage": ["ATTN", "DECY"],
    }
    for name in [name for name in changes if name in drug]:
        setattr(drug, name, changes.pop(name))
    made = series(stored, "PT", **(tags | changes))
    for dataset in made:
        dataset.RadiopharmaceuticalInformationSequence = [drug]
    return made


def test_suv_by_body_weight_from_the_tags(tmp_path):
    """Injected at 23:30, scanned at 0:30: one hour of decay. 370 MBq in 74 kg are 5000 Bq/ml, SUV 1, at injection."""
    stored = stored_values((3, 4, 4), low=0)
    started = read_scan(save_series(pet(stored), tmp_path / "start"))
    assert started.units == "SUV"
    assert np.allclose(started.array, stored / 5000 * 2 ** (3600 / 6586.2), rtol=1e-5)
    assert "370 MBq" in started.provenance[0]["note"]
    corrected_to_injection = read_scan(save_series(pet(stored, DecayCorrection="ADMIN"), tmp_path / "admin"))
    assert np.allclose(corrected_to_injection.array, stored / 5000, rtol=1e-5)


def test_a_series_saved_later_is_corrected_to_its_acquisition(tmp_path):
    stored = stored_values((3, 4, 4), low=0)
    datasets = pet(stored, SeriesTime="090000")
    for minutes, dataset in enumerate(datasets):
        dataset.AcquisitionTime = f"00{30 + minutes:02d}00"
    scan = read_scan(save_series(datasets, tmp_path / "a"))
    assert np.allclose(scan.array, stored / 5000 * 2 ** (3600 / 6586.2), rtol=1e-5)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"PatientWeight": ""}, "weight"),
        ({"PatientWeight": "0"}, "weight"),
        ({"RadionuclideTotalDose": "370"}, "total dose.*370, which cannot be"),
        ({"RadionuclideHalfLife": ""}, "half-life"),
        ({"RadiopharmaceuticalStartTime": ""}, "time of injection"),
        ({"DecayCorrection": "NONE"}, "NONE"),
        ({"CorrectedImage": ["ATTN"]}, "not corrected for decay"),
        ({"SeriesTime": "", "AcquisitionTime": ""}, "time of the scan"),
    ],
)
def test_pet_without_what_suv_needs_stays_in_becquerel_and_says_why(tmp_path, change, reason):
    stored = stored_values((3, 4, 4), low=0)
    scan = read_scan(save_series(pet(stored, **change), tmp_path / "a"))
    assert scan.units == "Bq/ml"
    assert np.array_equal(scan.array, stored)
    assert re.search(reason, scan.provenance[0]["note"])


def refusal(folder) -> str:
    with pytest.raises(InputError) as caught:
        read_scan(folder)
    assert "Doe" not in str(caught.value)
    assert "SECRET" not in str(caught.value)
    return str(caught.value)


def test_a_tilted_gantry_is_refused_with_its_angle(tmp_path):
    tilt = np.radians(12)
    column, step = (0, np.cos(tilt), np.sin(tilt)), (0, 0, 2.5)
    message = refusal(save_series(series(stored_values(), column=column, step=step), tmp_path / "a"))
    assert "tilted gantry" in message
    assert "12.0 degrees" in message


def test_a_slight_tilt_is_refused_where_it_adds_up(tmp_path):
    tilt = np.radians(0.5)
    column, step = (0, np.cos(tilt), np.sin(tilt)), (0, 0, 2.5)
    assert "0.5 degrees" in refusal(save_series(series(stored_values((40, 4, 4)), column=column, step=step), tmp_path))


def test_files_without_preamble_are_read(tmp_path):
    folder = save_series(series(stored_values()), tmp_path / "a")
    for file in folder.iterdir():
        whole = file.read_bytes()
        file.write_bytes(whole[whole.index(b"\x08\x00\x16\x00") :])  # from the SOP class on
    assert np.array_equal(read_scan(folder).array, stored_values())


def test_a_missing_slice_is_refused_with_its_place(tmp_path):
    datasets = series(stored_values((9, 4, 4)))
    del datasets[3:5]
    message = refusal(save_series(datasets, tmp_path / "a"))
    assert "misses about 2 slices" in message
    assert "after 40.00 mm the next lies 7.50 mm away" in message


def test_doubled_slices_are_refused_with_what_tells_them_apart(tmp_path):
    first, second = series(stored_values(), "MR", EchoTime="20"), series(stored_values(seed=1), "MR", EchoTime="80")
    for dataset in second:
        dataset.SeriesInstanceUID = first[0].SeriesInstanceUID
    message = refusal(save_series(first + second, tmp_path / "a"))
    assert "6 more slices than positions" in message
    assert "echo times" in message


def test_uneven_slices_are_refused(tmp_path):
    datasets = series(stored_values())
    for dataset, depth in zip(datasets, (0, 2.5, 5.0, 8.2, 11.0, 13.5), strict=True):
        dataset.ImagePositionPatient = [0, 0, depth]
    assert "unevenly spaced (2.50 to 3.20 mm apart)" in refusal(save_series(datasets, tmp_path / "a"))


def test_positions_rounded_by_the_scanner_are_even_enough(tmp_path):
    datasets = series(stored_values())
    for number, dataset in enumerate(datasets):
        dataset.ImagePositionPatient = [0, 0, round(number * 3.27, 1)]
    assert read_scan(save_series(datasets, tmp_path / "a")).spacing_mm[2] == pytest.approx(3.27, abs=0.02)


def test_several_series_are_listed_and_one_can_be_named(tmp_path):
    one = series(stored_values(seed=1), SeriesDescription="soft")
    two = series(stored_values(seed=2), SeriesDescription="bone")
    folder = save_series(one + two, tmp_path / "a #1")
    message = refusal(folder)
    for dataset in (one[0], two[0]):
        assert f"{dataset.SeriesInstanceUID} (6 x CT, '{dataset.SeriesDescription}')" in message
    scan = read_scan(f"{folder}#{two[0].SeriesInstanceUID}")
    assert np.array_equal(scan.array, stored_values(seed=2))
    assert "does not hold the series '1.2.3'" in refusal(f"{folder}#1.2.3")


def test_what_lies_beside_the_images_does_not_matter(tmp_path):
    folder = save_series(series(stored_values()), tmp_path / "a")
    (folder / "README.txt").write_text("hello")
    (folder / "empty").touch()
    (folder / "below").mkdir()
    save(new_file("1.2.840.10008.5.1.4.1.1.481.5", "RTPLAN"), folder / "plan.dcm")
    assert np.array_equal(read_scan(folder).array, stored_values())


def test_a_localizer_in_the_series_is_named(tmp_path):
    datasets = series(stored_values())
    datasets[0].ImageOrientationPatient = [1, 0, 0, 0, 0, -1]
    assert "differ in orientation" in refusal(save_series(datasets, tmp_path / "a"))


def test_dose_is_refused_as_dose(tmp_path):
    dose = new_file(DOSE_STORAGE, "RTDOSE")
    set_pixels(dose, stored_values(low=0))
    dose.NumberOfFrames, dose.ImagePositionPatient = 6, [0, 0, 0]
    path = save(dose, tmp_path / "a" / "RD.dcm")
    assert "dose volume" in refusal(path)
    assert "dose volume" in refusal(path.parent)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"SamplesPerPixel": 3}, "colour"),
        ({"ImagePositionPatient": ""}, "does not say where"),
        ({"PixelSpacing": [0, 1]}, "impossible size, position"),
        ({"PixelData": b"\0" * 10}, "pixels of .* cannot be read"),
        ({"NumberOfFrames": 3}, "3 frames without a position"),
        ({"Modality": "US"}, "no MR, CT or PET images, only US"),
    ],
)
def test_damage_is_named(tmp_path, change, sentence):
    assert re.search(sentence, refusal(save_series(series(stored_values(), **change), tmp_path / "a")))


def test_a_damaged_slice_is_named_and_not_left_out_in_silence(tmp_path):
    folder = save_series(series(stored_values()), tmp_path / "a", order=range(6))
    last = folder / "IM0005"
    whole = last.read_bytes()
    for length in (140, 400, len(whole) - 20):
        last.write_bytes(whole[:length])
        assert "IM0005" in refusal(folder)


@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2.1", "1.2.840.10008.1.2.4.90"])
def test_a_huge_size_in_small_slices_takes_no_memory(tmp_path, syntax):
    resource = pytest.importorskip("resource", reason="memory is counted by POSIX")
    datasets = series(stored_values(), Rows=65535, Columns=65535)
    for dataset in datasets:
        if syntax != "1.2.840.10008.1.2.1":
            dataset.PixelData = pydicom.encaps.encapsulate([b"\xff\x4f\xff\x51" * 20])
            dataset["PixelData"].is_undefined_length = True
        dataset.file_meta.TransferSyntaxUID = pydicom.uid.UID(syntax)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert "pixels of" in refusal(save_series(datasets, tmp_path / "a"))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # KiB


def test_one_file_of_a_series_asks_for_the_folder(tmp_path):
    folder = save_series(series(stored_values()), tmp_path / "a")
    assert "choose the folder" in refusal(folder / "IM0000")


def test_folders_without_a_series(tmp_path):
    assert "no DICOM files" in refusal(tmp_path)
    (tmp_path / "below").mkdir()
    assert "one of the folders in it" in refusal(tmp_path)


def test_an_enhanced_multi_frame_object_gives_grid_values_and_protocol(tmp_path):
    stored = stored_values((4, 5, 6))
    dataset = new_file(ENHANCED_MR_STORAGE, "MR")
    set_pixels(dataset, stored[::-1].copy())
    dataset.NumberOfFrames, dataset.MagneticFieldStrength = 4, "3"
    dataset.SeriesInstanceUID = "1.2.3"
    shared, orientation, measures, timing = Dataset(), Dataset(), Dataset(), Dataset()
    orientation.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    measures.PixelSpacing, measures.SliceThickness = [1.5, 0.5], "2"
    timing.RepetitionTime, timing.FlipAngle = "2300", "9"
    shared.PlaneOrientationSequence, shared.PixelMeasuresSequence = [orientation], [measures]
    shared.MRTimingAndRelatedParametersSequence = [timing]
    dataset.SharedFunctionalGroupsSequence, dataset.PerFrameFunctionalGroupsSequence = [shared], []
    for number in reversed(range(4)):
        frame, place, scale, echo = Dataset(), Dataset(), Dataset(), Dataset()
        place.ImagePositionPatient = [1, 2, 3 + 2 * number]
        scale.RescaleSlope, scale.RescaleIntercept = str(number + 1), "5"
        echo.EffectiveEchoTime = 2.98
        frame.PlanePositionSequence, frame.PixelValueTransformationSequence = [place], [scale]
        frame.MREchoSequence = [echo]
        dataset.PerFrameFunctionalGroupsSequence.append(frame)
    scan = read_scan(save(dataset, tmp_path / "enhanced.dcm"))
    assert scan.spacing_mm == (0.5, 1.5, 2.0)
    assert scan.image.GetOrigin() == (1, 2, 3)
    assert np.array_equal(scan.array, stored * np.array([1, 2, 3, 4])[:, None, None] + 5.0)
    assert scan.acquisition.repetition_time_ms == 2300
    assert scan.acquisition.echo_time_ms == pytest.approx(2.98)
    assert scan.acquisition.field_strength_tesla == 3


def test_acquisition_tags_and_their_gaps(tmp_path):
    datasets = series(
        stored_values(),
        "MR",
        Manufacturer="SIEMENS ",
        ManufacturerModelName="",
        DeviceSerialNumber="ANONYMIZED",
        MagneticFieldStrength="15000",
        InversionTime="0",
        RepetitionTime="2300",
        ConvolutionKernel=["Br40d", "3"],
        FlipAngle=None,
    )
    acquisition = read_scan(save_series(datasets, tmp_path / "a")).acquisition
    assert acquisition.known() == {
        "manufacturer": "SIEMENS",
        "field_strength_tesla": 1.5,
        "repetition_time_ms": 2300.0,
        "kernel": "Br40d\\3",
    }


def test_nothing_names_the_patient(tmp_path):
    scan = read_scan(save_series(pet(stored_values(low=0)), tmp_path / "a"))
    everything = (
        f"{scan} {dict(scan.provenance[0])} {[scan.image.GetMetaData(k) for k in scan.image.GetMetaDataKeys()]}"
    )
    assert "Doe" not in everything
    assert "SECRET" not in everything


def test_a_modality_that_contradicts_the_tags_is_refused(tmp_path):
    folder = save_series(series(stored_values()), tmp_path / "a")
    with pytest.raises(InputError, match="is CT by its DICOM tags, not MR"):
        read_scan(folder, "MR")


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("folder", "maker", "field", "thickness"),
    [
        ("GE_MR450W_1.5T_T1", "GE MEDICAL SYSTEMS", 1.5, 5.0),
        ("GE_Signa_3T_T1", "GE MEDICAL SYSTEMS", 3.0, 5.0),
        ("PhilipsAchieva2", "Philips Medical Systems", 1.5, 5.0),
        ("Siemens_Aera_1.5T_T1", "SIEMENS", 1.5, 5.0),
    ],
)
def test_four_real_mr_scanners(real_data, folder, maker, field, thickness):
    scan = read_scan(real_data / "acr_mr_phantom_dicom" / folder)
    acquisition = scan.acquisition
    assert (acquisition.manufacturer, acquisition.field_strength_tesla) == (maker, field)
    assert (acquisition.slice_thickness_mm, acquisition.flip_angle_deg) == (thickness, 90)
    assert acquisition.repetition_time_ms == pytest.approx(500, abs=0.01)
    assert acquisition.echo_time_ms == 20
    assert acquisition.inversion_time_ms is None
    assert scan.image.GetSize() == (256, 256, 11)
    assert scan.spacing_mm == pytest.approx((0.9766, 0.9766, 10), abs=1e-4)  # the phantom's 5 mm slices with 5 mm gaps
    # A cylinder of 190 mm: its cross-section fills that share of the field of view.
    bright = scan.array[5] > 0.3 * np.percentile(scan.array[5], 95)
    assert bright.mean() == pytest.approx(np.pi * 95**2 / 250**2, rel=0.1)
