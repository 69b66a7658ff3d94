"""A DICOM series in: its image on a true grid, its acquisition, its units; nothing that names the patient.

Pixels are the stored values after the rescale of their own slice. MONOCHROME1 only says how to show them (small
values white, DICOM PS3.3 C.7.6.3.1.2), so they are not inverted.
"""

from __future__ import annotations

import dataclasses
import math
import os
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pydicom
import SimpleITK as sitk
from pydicom import Dataset

from ..errors import InputError
from ..scan import Acquisition, Modality
from . import suv
from .tags import DAMAGE, Key, is_dicom, items, number, numbers, read_tags, text

# What `acquisition` reads.
ACQUISITION_KEYWORDS = (
    "Manufacturer",
    "ManufacturerModelName",
    "DeviceSerialNumber",
    "MagneticFieldStrength",
    "RepetitionTime",
    "EchoTime",
    "InversionTime",
    "FlipAngle",
    "ConvolutionKernel",
    "KVP",
    "SliceThickness",
    "ReconstructionMethod",
)

TILT_TOLERANCE_PIXELS = 0.25  # by which any slice may lie beside the straight stack
GAP_TOLERANCE = 0.1  # of the slice spacing, by which a slice may be off the even stack
_LARGE, _MAXIMUM_RATIO = 1 << 27, 1000  # pixels, and pixels a byte above that number, of a compressed file
_SCANS = ("MR", "CT", "PT")
_SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
_WORDS_FOR_REMOVED = {"ANONYMIZED", "ANONYMISED", "ANONYMOUS", "REMOVED", "NONE", "UNKNOWN", "N/A"}
# Where enhanced multi-frame objects keep what older ones keep at the top (DICOM PS3.3 C.7.6.16).
_FUNCTIONAL_GROUPS = (
    "PlanePositionSequence",
    "PlaneOrientationSequence",
    "PixelMeasuresSequence",
    "PixelValueTransformationSequence",
    "MRTimingAndRelatedParametersSequence",
    "MREchoSequence",
    "MRModifierSequence",
    "CTReconstructionSequence",
    "CTXRayDetailsSequence",
    "PETReconstructionSequence",
)
_TAGS: tuple[Key, ...] = (
    "SeriesInstanceUID",
    "SeriesDescription",
    "FrameOfReferenceUID",
    "SamplesPerPixel",
    "NumberOfFrames",
    "Rows",
    "Columns",
    "ModalityLUTSequence",
    "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "PixelSpacing",
    "RescaleSlope",
    "RescaleIntercept",
    "DiffusionBValue",
    "TemporalPositionIdentifier",
    "AcquisitionNumber",
    "ImageType",
    *ACQUISITION_KEYWORDS,
    *suv.TAGS,
)
_PIXEL_KEYWORDS = {
    "SamplesPerPixel",
    "Rows",
    "Columns",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
    "NumberOfFrames",
    "PixelData",
}


@dataclasses.dataclass(frozen=True)
class Series:
    """What a DICOM series gives: `references` are the UIDs of the series and its frame of reference."""

    image: sitk.Image
    modality: Modality
    acquisition: Acquisition
    units: str
    notes: tuple[str, ...]
    references: frozenset[str]


@dataclasses.dataclass(frozen=True)
class _Frame:
    """One slice: where it lies (LPS, mm), how its values are scaled, and which frame of which file it is."""

    file: Path
    index: int
    header: Dataset
    shape: tuple[int, int]  # rows, columns
    position: np.ndarray
    orientation: np.ndarray  # rows: direction of increasing column index, of increasing row index
    pixel_spacing: tuple[float, float]  # between rows, between columns
    slope: float
    intercept: float


def read_series(path: str | os.PathLike, series_uid: str | None = None) -> Series:
    """The MR, CT or PET series in a folder (or in one multi-frame file).

    series_uid: SeriesInstanceUID of the one to take where the folder holds several.
    Raises InputError for several series, a dose, a tilted gantry, missing, doubled or unevenly spaced slices, colour,
    and for anything that is damaged.
    """
    path = Path(path)
    files, modality = _choose(path, series_uid)
    frames = [frame for file, header in files for frame in _frames(file, header)]
    frames, step_mm = _stack(frames, path)
    image = _grid(_pixels(frames), frames, step_mm)
    headers = [frame.header for frame in frames]
    units, notes = "HU" if modality is Modality.CT else "", []
    if modality is Modality.PET:
        measured = suv.quantity(headers)
        image, units, notes = image * measured.factor, measured.units, [measured.note] if measured.note else []
    first = headers[0]
    references = {text(first, keyword) for keyword in ("SeriesInstanceUID", "FrameOfReferenceUID")}
    return Series(image, modality, acquisition(first), units, tuple(notes), frozenset(references - {""}))


def first_modality(path: Path) -> Modality | None:
    """The modality of the first MR, CT or PET file in a folder (or of one file), by its tags; None where none is there.

    For a first look only: whether the folder holds one whole series, `read_series` finds out. Raises InputError where
    a file is damaged.
    """
    candidates = sorted(path.iterdir()) if path.is_dir() else [path]
    names = (text(read_tags(file, ()), "Modality") for file in candidates if is_dicom(file))
    return next((Modality.parse(name) for name in names if name in _SCANS), None)


def _choose(path: Path, series_uid: str | None) -> tuple[list[tuple[Path, Dataset]], Modality]:
    candidates = sorted(path.iterdir()) if path.is_dir() else [path]
    found = [(file, read_tags(file, _TAGS)) for file in candidates if is_dicom(file)]
    if not found:
        below = " Choose one of the folders in it." if any(entry.is_dir() for entry in candidates) else ""
        raise InputError(f"'{path}' holds no DICOM files; choose the folder of a series.{below}")
    by_series: dict[str, list[tuple[Path, Dataset]]] = {}
    for file, header in found:
        if text(header, "Modality") in _SCANS:
            by_series.setdefault(text(header, "SeriesInstanceUID"), []).append((file, header))
    if "" in by_series and len(by_series) > 1:
        raise InputError(f"'{by_series[''][0][0]}' does not say to which series it belongs; leave it out")
    # Scanners put objects without pixels (raw data) beside their images, as series of their own.
    by_series = {uid: entries for uid, entries in by_series.items() if any("Rows" in header for _, header in entries)}
    if not by_series:
        kinds = sorted({text(header, "Modality") or "unknown" for _, header in found})
        if "RTDOSE" in kinds:
            raise InputError(
                f"'{path}' is a dose volume (RTDOSE), and dose cannot be harmonized; "
                "choose the MR, CT or PET that it was planned on"
            )
        raise InputError(
            f"'{path}' holds no MR, CT or PET images, only {', '.join(kinds)}; choose the folder of a scan"
        )
    if (series_uid is None and len(by_series) > 1) or (series_uid is not None and series_uid not in by_series):
        problem = f"holds {len(by_series)} series" if series_uid is None else f"does not hold the series '{series_uid}'"
        listing = "; ".join(
            f"{uid} ({len(entries)} x {text(entries[0][1], 'Modality')}, '{text(entries[0][1], 'SeriesDescription')}')"
            for uid, entries in by_series.items()
        )
        raise InputError(f"'{path}' {problem}; name one as 'folder#SeriesInstanceUID': {listing}")
    files = by_series[series_uid] if series_uid is not None else next(iter(by_series.values()))
    return files, Modality.parse(text(files[0][1], "Modality"))


def _frames(file: Path, header: Dataset) -> list[_Frame]:
    if (number(header, "SamplesPerPixel") or 1) != 1:
        raise InputError(f"'{file}' is a colour image; choose a series of measured values")
    count = int(number(header, "NumberOfFrames") or 1)
    groups = items(header, "PerFrameFunctionalGroupsSequence")
    if count > 1 and len(groups) != count:
        raise InputError(f"'{file}' holds {count} frames without a position for each; export it as single slices")
    if "ModalityLUTSequence" in header:
        raise InputError(f"'{file}' scales its values by a table (modality LUT); export it with rescale slope instead")
    shared = items(header, "SharedFunctionalGroupsSequence")
    frames = []
    for index, group in enumerate(groups or [Dataset()]):
        places = [group, *shared, header]
        position = np.array(_numbers(places, "ImagePositionPatient"))
        orientation = np.array(_numbers(places, "ImageOrientationPatient"))
        spacing = tuple(_numbers(places, "PixelSpacing"))
        shape = tuple(int(number(header, keyword) or 0) for keyword in ("Rows", "Columns"))
        if (position.size, orientation.size, len(spacing)) != (3, 6, 2):
            raise InputError(
                f"'{file}' does not say where its pixels lie (position, orientation or spacing is missing or damaged); "
                "leave it out or export the series again"
            )
        slope = (_numbers(places, "RescaleSlope") or [1.0])[0]
        intercept = (_numbers(places, "RescaleIntercept") or [0.0])[0]
        geometry = (*position, *orientation, *spacing, slope, intercept)
        if not np.isfinite(geometry).all() or min(spacing) <= 0 or min(shape) <= 0 or slope == 0:
            raise InputError(f"'{file}' has an impossible size, position or rescale; export the series again")
        frames.append(
            _Frame(file, index, header, shape, position, orientation.reshape(2, 3), spacing, slope, intercept)
        )
    return frames


def _numbers(places: Sequence[Dataset], keyword: str) -> list[float]:
    """The numbers of a tag in the first of the datasets that has it, also in their functional groups."""
    return next((found for place in _everywhere(places) if (found := numbers(place, keyword))), [])


def _everywhere(places: Sequence[Dataset]) -> Iterator[Dataset]:
    for place in places:
        yield place
        for group in _FUNCTIONAL_GROUPS:
            yield from items(place, group)[:1]


def _stack(frames: list[_Frame], path: Path) -> tuple[list[_Frame], float]:
    """The frames in order along their normal, and the spacing between them; InputError unless they form a grid."""
    first = frames[0]
    if len(frames) == 1:
        raise InputError(f"'{path}' is a single slice; choose the folder with the whole series")
    for frame in frames:
        for what, ours, theirs, tolerance in (
            ("size", frame.shape, first.shape, 0),
            ("pixel spacing", frame.pixel_spacing, first.pixel_spacing, 1e-3 * min(first.pixel_spacing)),
            ("orientation", frame.orientation, first.orientation, 1e-3),
        ):
            if not np.allclose(ours, theirs, rtol=0, atol=tolerance):
                raise InputError(
                    f"the slices of '{path}' differ in {what} ('{first.file.name}' and '{frame.file.name}'), "
                    "perhaps a localizer among them; leave the odd ones out"
                )
    row, column = first.orientation
    if not np.allclose([row @ row, column @ column, row @ column], [1, 1, 0], atol=1e-3):
        raise InputError(f"the orientation in '{first.file}' is no right angle; export the series again")
    normal = np.cross(row, column)
    frames = sorted(frames, key=lambda frame: float(frame.position @ normal))
    depth = np.array([frame.position @ normal for frame in frames])
    _check_even(depth, frames, path)
    step = (depth[-1] - depth[0]) / (len(frames) - 1)
    drift = np.array([frame.position - frames[0].position for frame in frames])
    sideways = np.linalg.norm(drift - np.outer(depth - depth[0], normal), axis=1)
    if sideways.max() > TILT_TOLERANCE_PIXELS * min(first.pixel_spacing):
        angle = np.degrees(np.arctan2(sideways[-1], depth[-1] - depth[0]))
        raise InputError(
            f"'{path}' was taken with a tilted gantry: its slices are stacked {angle:.1f} degrees off their normal "
            f"({sideways.max():.1f} mm sideways over the stack); straighten it first, for example with Slicer's "
            "acquisition geometry regularization on DICOM import"
        )
    return frames, float(step)


def _check_even(depth: np.ndarray, frames: list[_Frame], path: Path) -> None:
    gaps = np.diff(depth)
    count = len(frames)
    same = np.flatnonzero(gaps < 1e-3)
    if len(same):
        pair = frames[same[0]], frames[same[0] + 1]
        raise InputError(
            f"'{path}' holds {len(same)} more slices than positions ({count} slices), for example "
            f"'{pair[0].file.name}' and '{pair[1].file.name}' both at {depth[same[0]]:.2f} mm{_difference(*pair)}; "
            "keep one image a position"
        )
    step = float(np.median(gaps))
    holes = np.flatnonzero(gaps > 1.5 * step)
    if len(holes):
        missing = int(np.sum(np.round(gaps[holes] / step) - 1))
        raise InputError(
            f"'{path}' misses about {missing} slices: after {depth[holes[0]]:.2f} mm the next lies "
            f"{gaps[holes[0]]:.2f} mm away, while slices are {step:.2f} mm apart; export the whole series"
        )
    even = np.linspace(depth[0], depth[-1], count)
    off = np.abs(depth - even)
    if off.max() > GAP_TOLERANCE * step:
        raise InputError(
            f"the slices of '{path}' are unevenly spaced ({gaps.min():.2f} to {gaps.max():.2f} mm apart); "
            "resample the scan to even slices first"
        )


def _difference(one: _Frame, other: _Frame) -> str:
    """What tells two images at one position apart, as far as the usual tags say."""
    for keyword, words in (
        ("EchoTime", "echo times"),
        ("InversionTime", "inversion times"),
        ("DiffusionBValue", "b-values"),
        ("TemporalPositionIdentifier", "time points"),
        ("AcquisitionNumber", "acquisitions"),
        ("ImageType", "image types"),
    ):
        a, b = text(one.header, keyword), text(other.header, keyword)
        if a != b:
            return f" (they differ in {words}: {a}, {b})"
    return ""


def _pixels(frames: list[_Frame]) -> np.ndarray:
    """Rescaled values (z, y, x) as float32."""
    array = None
    decoded: dict[Path, np.ndarray] = {}
    for index, frame in enumerate(frames):
        if frame.file not in decoded:
            decoded = {frame.file: _stored(frame.file)}  # one file at a time, to hold a series only once
        if array is None:  # only now: the bytes of a slice have shown that its size is no lie
            array = np.empty((len(frames), *frame.shape), np.float32)
        array[index] = decoded[frame.file][frame.index] * np.float64(frame.slope) + frame.intercept
    return array


def _stored(file: Path) -> np.ndarray:
    """Stored values of a file (frames, rows, columns), neither rescaled nor inverted."""
    try:
        dataset = pydicom.dcmread(file, force=True)
        shape = int(dataset.get("NumberOfFrames") or 1), int(dataset.Rows), int(dataset.Columns)
        syntax = getattr(dataset.file_meta, "TransferSyntaxUID", None)
        if syntax is not None and syntax.is_compressed and syntax.is_encapsulated:
            if math.prod(shape) > max(_LARGE, _MAXIMUM_RATIO * len(dataset.PixelData)):
                raise ValueError(f"{' x '.join(map(str, shape))} pixels cannot be in so few bytes")
            array = _decode(dataset)
        else:
            if syntax is None:
                dataset.file_meta.TransferSyntaxUID = pydicom.uid.ImplicitVRLittleEndian
            array = dataset.pixel_array
        array = array.reshape(shape)
    except DAMAGE as error:
        reason = str(error).strip().splitlines()[-1] if str(error).strip() else type(error).__name__
        raise InputError(f"the pixels of '{file}' cannot be read ({reason}); export the series again") from error
    unused = int(dataset.BitsAllocated) - int(dataset.get("BitsStored") or dataset.BitsAllocated)
    if unused > 0 and array.dtype.kind in "iu":
        # Old files keep overlays in the unused bits; shifting up and down drops them and extends the sign.
        array = (array << unused) >> unused
    return array


def _decode(dataset: Dataset) -> np.ndarray:
    """Stored values of a compressed file, by the decoder inside SimpleITK, which is there wherever Slicer is.

    It is given the pixels alone, since it would rescale them and invert MONOCHROME1.
    """
    for element in list(dataset):
        if element.keyword not in _PIXEL_KEYWORDS:
            del dataset[element.tag]
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = _SECONDARY_CAPTURE
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = pydicom.uid.generate_uid()
    dataset.preamble = dataset.preamble or b"\0" * 128
    with tempfile.TemporaryDirectory() as folder:
        alone = os.path.join(folder, "pixels.dcm")
        dataset.save_as(alone)
        return sitk.GetArrayFromImage(sitk.ReadImage(alone))


def _grid(array: np.ndarray, frames: list[_Frame], step_mm: float) -> sitk.Image:
    row, column = frames[0].orientation
    row = row / np.linalg.norm(row)
    column = column - (column @ row) * row
    column = column / np.linalg.norm(column)
    image = sitk.GetImageFromArray(array)
    between_rows, between_columns = frames[0].pixel_spacing
    image.SetSpacing((between_columns, between_rows, step_mm))
    image.SetOrigin([float(v) for v in frames[0].position])
    image.SetDirection(np.column_stack([row, column, np.cross(row, column)]).ravel().tolist())
    return image


def acquisition(header: Dataset) -> Acquisition:
    """Scanner and protocol; a tag that is empty, zero or says that it was removed is unknown."""
    places = [
        header,
        *items(header, "SharedFunctionalGroupsSequence"),
        *items(header, "PerFrameFunctionalGroupsSequence")[:1],
    ]

    def word(keyword: str) -> str | None:
        found = next((found for place in _everywhere(places) if (found := text(place, keyword))), "")
        return None if found.upper() in _WORDS_FOR_REMOVED else found or None

    def positive(*keywords: str) -> float | None:
        found = (_numbers(places, keyword)[:1] for keyword in keywords)
        return next((value[0] for value in found if value and np.isfinite(value[0]) and value[0] > 0), None)

    field = positive("MagneticFieldStrength")
    return Acquisition(
        manufacturer=word("Manufacturer"),
        model=word("ManufacturerModelName"),
        device_serial_number=word("DeviceSerialNumber"),
        # Some old scanners write gauss where tesla is asked for.
        field_strength_tesla=field / 10000 if field and field > 50 else field,
        repetition_time_ms=positive("RepetitionTime"),
        echo_time_ms=positive("EchoTime", "EffectiveEchoTime"),
        inversion_time_ms=positive("InversionTime", "InversionTimes"),
        flip_angle_deg=positive("FlipAngle"),
        kernel=word("ConvolutionKernel"),
        tube_voltage_kvp=positive("KVP"),
        slice_thickness_mm=positive("SliceThickness"),
        reconstruction=word("ReconstructionMethod"),
    )
