"""A DICOM series in: its image on a true grid, its acquisition, its units; nothing that names the patient.

Pixels are the stored values after the rescale of their own slice. MONOCHROME1 only says how to show them (small
values white, DICOM PS3.3 C.7.6.3.1.2), so they are not inverted.
"""

from __future__ import annotations

import dataclasses
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pydicom
import SimpleITK as sitk
from pydicom import Dataset
from pydicom.errors import InvalidDicomError

from ..errors import InputError
from ..scan import Acquisition, Modality
from . import suv

TILT_TOLERANCE_MM = 0.1  # by which a slice may be off the straight stack, plus 2 % of a pixel a slice
GAP_TOLERANCE = 0.1  # of the slice spacing, by which a slice may be off the even stack
_MEDIA_DIRECTORY = "1.2.840.10008.1.3.10"
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
    position: np.ndarray
    orientation: np.ndarray  # rows: direction of increasing column index, of increasing row index
    pixel_spacing: tuple[float, float]  # between rows, between columns
    slope: float
    intercept: float


def is_dicom(path: Path) -> bool:
    """True for a file that starts like DICOM, with or without the preamble of a file."""
    if not path.is_file():
        return False
    try:
        with open(path, "rb") as file:
            head = file.read(132)
    except OSError:
        return False
    return head[128:] == b"DICM" or head[:2] == b"\x08\x00"


def read_header(path: Path) -> Dataset | None:
    """Every tag of a DICOM file but its pixels; None for a file that is not DICOM after all."""
    try:
        header = pydicom.dcmread(path, stop_before_pixels=True, force=True)
        header.get("Modality")
    except (InvalidDicomError, OSError, EOFError, ValueError, KeyError, AttributeError, NotImplementedError):
        return None
    return header if "SOPClassUID" in header and header.SOPClassUID != _MEDIA_DIRECTORY else None


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
    references = {str(first.get(keyword) or "") for keyword in ("SeriesInstanceUID", "FrameOfReferenceUID")}
    return Series(image, modality, acquisition(first), units, tuple(notes), frozenset(references - {""}))


def _choose(path: Path, series_uid: str | None) -> tuple[list[tuple[Path, Dataset]], Modality]:
    candidates = sorted(path.iterdir()) if path.is_dir() else [path]
    found = [(file, header) for file in candidates if is_dicom(file) and (header := read_header(file)) is not None]
    if not found:
        below = " Choose one of the folders in it." if any(entry.is_dir() for entry in candidates) else ""
        raise InputError(f"'{path}' holds no DICOM files; choose the folder of a series.{below}")
    wanted = {"MR", "CT", "PT"}
    scans = [(file, header) for file, header in found if header.get("Modality") in wanted and "Rows" in header]
    if not scans:
        kinds = sorted({str(header.get("Modality") or "unknown") for _, header in found})
        if "RTDOSE" in kinds:
            raise InputError(
                f"'{path}' is a dose volume (RTDOSE), and dose cannot be harmonized; "
                "choose the MR, CT or PET that it was planned on"
            )
        raise InputError(
            f"'{path}' holds no MR, CT or PET images, only {', '.join(kinds)}; choose the folder of a scan"
        )
    by_series: dict[str, list[tuple[Path, Dataset]]] = {}
    for file, header in scans:
        by_series.setdefault(str(header.get("SeriesInstanceUID", "")), []).append((file, header))
    if (series_uid is None and len(by_series) > 1) or (series_uid is not None and series_uid not in by_series):
        problem = f"holds {len(by_series)} series" if series_uid is None else f"does not hold the series '{series_uid}'"
        listing = "; ".join(
            f"{uid} ({len(entries)} x {entries[0][1].Modality} {entries[0][1].get('SeriesDescription') or ''}".rstrip()
            + ")"
            for uid, entries in by_series.items()
        )
        raise InputError(f"'{path}' {problem}; name one as 'folder#SeriesInstanceUID': {listing}")
    files = by_series[series_uid] if series_uid is not None else next(iter(by_series.values()))
    return files, Modality.parse(files[0][1].Modality)


def _frames(file: Path, header: Dataset) -> list[_Frame]:
    if int(header.get("SamplesPerPixel") or 1) != 1:
        raise InputError(f"'{file}' is a colour image; choose a series of measured values")
    count = int(header.get("NumberOfFrames") or 1)
    per_frame = header.get("PerFrameFunctionalGroupsSequence")
    if count > 1 and (not per_frame or len(per_frame) != count):
        raise InputError(f"'{file}' holds {count} frames without a position for each; export it as single slices")
    if "ModalityLUTSequence" in header:
        raise InputError(f"'{file}' scales its values by a table (modality LUT); export it with rescale slope instead")
    groups = list(per_frame) if per_frame else [Dataset()]
    shared = list(header.get("SharedFunctionalGroupsSequence") or [])
    frames = []
    for index, group in enumerate(groups):
        places = [group, *shared, header]
        try:
            position = np.array([float(v) for v in _find(places, "ImagePositionPatient")])
            orientation = np.array([float(v) for v in _find(places, "ImageOrientationPatient")]).reshape(2, 3)
            spacing = tuple(float(v) for v in _find(places, "PixelSpacing"))
            slope, intercept = _find(places, "RescaleSlope"), _find(places, "RescaleIntercept")
            slope, intercept = (1.0 if slope is None else float(slope)), float(intercept or 0.0)
        except (TypeError, ValueError) as error:
            raise InputError(
                f"'{file}' does not say where its pixels lie (position, orientation or spacing is missing or damaged); "
                "leave it out or export the series again"
            ) from error
        numbers = (*position, *orientation.ravel(), *spacing, slope, intercept)
        if position.shape != (3,) or len(spacing) != 2 or not np.isfinite(numbers).all() or min(spacing) <= 0:
            raise InputError(f"'{file}' has an impossible position, spacing or rescale; export the series again")
        frames.append(_Frame(file, index, header, position, orientation, spacing, slope, intercept))
    return frames


def _find(places: Sequence[Dataset], keyword: str) -> object:
    """The first value of a tag that is not empty in datasets or, one level down, in their functional groups."""
    for place in places:
        value = place.get(keyword)
        if value not in (None, ""):
            return value
        for group in _FUNCTIONAL_GROUPS:
            if (entries := place.get(group)) and (value := entries[0].get(keyword)) not in (None, ""):
                return value
    return None


def _stack(frames: list[_Frame], path: Path) -> tuple[list[_Frame], float]:
    """The frames in order along their normal, and the spacing between them; InputError unless they form a grid."""
    first = frames[0]
    if len(frames) == 1:
        raise InputError(f"'{path}' is a single slice; choose the folder with the whole series")
    for frame in frames:
        for what, ours, theirs, tolerance in (
            ("size", (frame.header.Rows, frame.header.Columns), (first.header.Rows, first.header.Columns), 0),
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
    allowed = TILT_TOLERANCE_MM + 0.02 * min(first.pixel_spacing) * np.arange(len(frames))
    if (sideways > allowed).any():
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
        a, b = one.header.get(keyword), other.header.get(keyword)
        if a != b:
            return f" (they differ in {words}: {a}, {b})"
    return ""


def _pixels(frames: list[_Frame]) -> np.ndarray:
    """Rescaled values (z, y, x) as float32."""
    array, decoded = None, {}
    last_use = {frame.file: number for number, frame in enumerate(frames)}
    for number, frame in enumerate(frames):
        if frame.file not in decoded:
            decoded[frame.file] = _stored(frame.file)
        stored = decoded[frame.file][frame.index]
        if array is None:
            array = np.empty((len(frames), *stored.shape), np.float32)
        array[number] = stored * np.float64(frame.slope) + frame.intercept
        if last_use[frame.file] == number:
            del decoded[frame.file]
    return array


def _stored(file: Path) -> np.ndarray:
    """Stored values of a file (frames, rows, columns), neither rescaled nor inverted."""
    try:
        dataset = pydicom.dcmread(file, force=True)
        shape = int(dataset.get("NumberOfFrames") or 1), int(dataset.Rows), int(dataset.Columns)
        syntax = getattr(dataset.file_meta, "TransferSyntaxUID", None)
        if syntax is not None and syntax.is_compressed and syntax.is_encapsulated:
            array = _decode(dataset)
        else:
            if syntax is None:
                dataset.file_meta.TransferSyntaxUID = pydicom.uid.ImplicitVRLittleEndian
            array = dataset.pixel_array
        array = array.reshape(shape)
    except (RuntimeError, ValueError, AttributeError, KeyError, TypeError, NotImplementedError, EOFError) as error:
        reason = str(error).strip().splitlines()[-1] if str(error).strip() else type(error).__name__
        raise InputError(f"the pixels of '{file}' cannot be read ({reason}); export the series again") from error
    unused = int(dataset.BitsAllocated) - int(dataset.get("BitsStored") or dataset.BitsAllocated)
    if unused and array.dtype.kind in "iu":
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
    groups = [*(header.get("PerFrameFunctionalGroupsSequence") or [])[:1]]
    places = [header, *(header.get("SharedFunctionalGroupsSequence") or []), *groups]

    def text(keyword: str) -> str | None:
        value = _find(places, keyword)
        values = [value] if isinstance(value, str) or not hasattr(value, "__iter__") else list(value)
        joined = "\\".join(str(entry).strip() for entry in values if entry is not None).strip("\\ \0")
        return None if joined.upper() in _WORDS_FOR_REMOVED else joined or None

    def number(*keywords: str) -> float | None:
        for keyword in keywords:
            try:
                value = float(_find(places, keyword))
            except (TypeError, ValueError):
                continue
            if np.isfinite(value) and value > 0:
                return value
        return None

    field = number("MagneticFieldStrength")
    return Acquisition(
        manufacturer=text("Manufacturer"),
        model=text("ManufacturerModelName"),
        device_serial_number=text("DeviceSerialNumber"),
        # Some old scanners write gauss where tesla is asked for.
        field_strength_tesla=field / 10000 if field and field > 50 else field,
        repetition_time_ms=number("RepetitionTime"),
        echo_time_ms=number("EchoTime", "EffectiveEchoTime"),
        inversion_time_ms=number("InversionTime", "InversionTimes"),
        flip_angle_deg=number("FlipAngle"),
        kernel=text("ConvolutionKernel"),
        tube_voltage_kvp=number("KVP"),
        slice_thickness_mm=number("SliceThickness"),
        reconstruction=text("ReconstructionMethod"),
    )
