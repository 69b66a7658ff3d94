"""From stored PET values to SUV by body weight, when the DICOM tags allow it; otherwise a reason why not.

Source: the vendor-neutral pseudo-code for SUVbw of the QIBA FDG-PET/CT Profile, and DICOM PS3.3 C.8.9.1.
"""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Sequence

from pydicom import Dataset
from pydicom.valuerep import DA, DT, TM

from .tags import Key, items, number, text

_PHILIPS_SUV_FACTOR = (0x7053, 0x1000)
_GE_SCAN_DATETIME = (0x0009, 0x100D)
TAGS: tuple[Key, ...] = (
    "Units",
    "SUVType",
    "PatientWeight",
    "CorrectedImage",
    "DecayCorrection",
    "RadiopharmaceuticalInformationSequence",
    "SeriesDate",
    "SeriesTime",
    "AcquisitionDate",
    "AcquisitionTime",
    "AcquisitionDateTime",
    _PHILIPS_SUV_FACTOR,
    _GE_SCAN_DATETIME,
)
_WEIGHT_KG = (1.0, 500.0)
_DOSE_BQ = (1e5, 1e11)  # a total dose below 0.1 MBq was written in MBq against the standard
_LONGEST_UPTAKE_S = 24 * 3600.0


@dataclasses.dataclass(frozen=True)
class Quantity:
    """What PET values become: multiplied by `factor` they are in `units`; `note` says how or why not."""

    factor: float
    units: str
    note: str


def quantity(headers: Sequence[Dataset]) -> Quantity:
    """The quantity of a PET series from the headers of its slices."""
    first = headers[0]
    stored = text(first, "Units").upper()
    if stored == "GML":
        kind = text(first, "SUVType").upper() or "BW"
        note = "" if kind == "BW" else f"the scanner's SUV is normalised by {kind}, not by body weight"
        return Quantity(1.0, "SUV", note)
    if stored == "CNTS":
        factor = number(first, _PHILIPS_SUV_FACTOR)
        if factor:
            return Quantity(factor, "SUV", "SUV from counts by the factor that the Philips scanner stored")
        return Quantity(1.0, "", "PET values are counts; SUV cannot be computed from them")
    if stored != "BQML":
        return Quantity(1.0, "", f"PET units '{stored or 'unknown'}' have no conversion to SUV")
    try:
        factor, note = _body_weight_factor(headers)
    except _MissingError as missing:
        return Quantity(1.0, "Bq/ml", f"SUV could not be computed: {missing}")
    return Quantity(factor, "SUV", note)


class _MissingError(Exception):
    """A tag that SUV needs is missing or impossible."""


def _body_weight_factor(headers: Sequence[Dataset]) -> tuple[float, str]:
    first = headers[0]
    weight_kg = _required(first, "PatientWeight", "the patient's weight (0010,1030)", _WEIGHT_KG)
    drugs = items(first, "RadiopharmaceuticalInformationSequence")
    if not drugs:
        raise _MissingError("the radiopharmaceutical information (0054,0016) is missing")
    drug = drugs[0]
    dose_bq = _required(drug, "RadionuclideTotalDose", "the total dose (0018,1074)", _DOSE_BQ)
    corrections = text(first, "CorrectedImage").upper()
    if corrections and "DECY" not in corrections.split("\\"):
        raise _MissingError("the images are not corrected for decay (0028,0051)")
    correction = text(first, "DecayCorrection").upper()
    if correction == "ADMIN":
        elapsed_s, remaining = 0.0, 1.0
    elif correction == "START":
        half_life_s = _required(drug, "RadionuclideHalfLife", "the half-life (0018,1075)", (1.0, 1e7))
        elapsed_s = _uptake_s(drug, headers)
        remaining = 2.0 ** (-elapsed_s / half_life_s)
    else:
        raise _MissingError(f"the decay correction (0054,1102) is '{correction or 'missing'}', not START or ADMIN")
    return 1000.0 * weight_kg / (dose_bq * remaining), (
        f"SUV by body weight from the DICOM tags: {weight_kg:g} kg, {dose_bq / 1e6:.4g} MBq injected, "
        f"values decay corrected to {elapsed_s / 60:.1f} min after the injection"
    )


def _uptake_s(drug: Dataset, headers: Sequence[Dataset]) -> float:
    """Seconds from injection to the moment to which a START series is corrected: the start of its acquisition."""
    first = headers[0]
    acquired = [moment for header in headers if (moment := _moment(header, "Acquisition"))]
    series = _moment(first, "Series")
    # A series that was saved again later carries that later time: then only the acquisition tells.
    if series and (not acquired or series <= min(acquired)):
        start = series
    else:
        start = _datetime(text(first, _GE_SCAN_DATETIME)) or (min(acquired) if acquired else None)
    if start is None:
        raise _MissingError("the time of the scan (0008,0031; 0008,0032) is missing")
    injected = _datetime(text(drug, "RadiopharmaceuticalStartDateTime"))
    if injected is None or not 0 <= (start - injected).total_seconds() <= _LONGEST_UPTAKE_S:
        time = _time(text(drug, "RadiopharmaceuticalStartTime"))
        if time is None:
            raise _MissingError(
                "the time of injection (0018,1072; 0018,1078) is missing or not within a day of the scan"
            )
        injected = datetime.datetime.combine(start.date(), time)
        if injected > start:
            injected -= datetime.timedelta(days=1)  # injected before midnight
    return (start - injected).total_seconds()


def _required(dataset: Dataset, keyword: str, what: str, limits: tuple[float, float]) -> float:
    value = number(dataset, keyword)
    if value is None:
        raise _MissingError(f"{what} is missing")
    if not limits[0] <= value <= limits[1]:
        raise _MissingError(f"{what} is {value:g}, which cannot be")
    return value


def _moment(header: Dataset, event: str) -> datetime.datetime | None:
    whole = _datetime(text(header, f"{event}DateTime"))
    if whole:
        return whole
    time = _time(text(header, f"{event}Time"))
    date = _date(text(header, f"{event}Date") or text(header, "SeriesDate"))
    return datetime.datetime.combine(date, time) if date and time is not None else None


def _date(value: str) -> datetime.date | None:
    try:
        date = DA(value)
    except ValueError:
        return None
    return datetime.date(date.year, date.month, date.day) if date else None


def _time(value: str) -> datetime.time | None:
    try:
        time = TM(value.replace(":", ""))
    except ValueError:
        return None
    return datetime.time(time.hour, time.minute, time.second, time.microsecond) if time is not None else None


def _datetime(value: str) -> datetime.datetime | None:
    try:
        moment = DT(value)
    except ValueError:
        return None
    # Times of one scanner are compared with each other only, so its time zone does not matter.
    return moment.replace(tzinfo=None) if moment else None
