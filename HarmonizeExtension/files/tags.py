"""DICOM tags as texts, numbers and items, however a file was damaged.

Only the tags that are asked for are read from a file, so what names the patient never enters the program.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pydicom
from pydicom import Dataset
from pydicom.dataelem import RawDataElement
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.sequence import Sequence

from ..errors import InputError

# What reading a damaged file raises, at whatever tag the damage lies.
DAMAGE = (
    InvalidDicomError,
    BytesLengthException,
    OSError,
    EOFError,
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    AttributeError,
    NotImplementedError,
    RuntimeError,
    struct.error,
)

# Files without a preamble start with one of these: group 0008, elements 0000, 0001, 0005, 0008, 0012, 0016.
_FIRST_TAGS = tuple(bytes([8, 0, element, 0]) for element in (0x00, 0x01, 0x05, 0x08, 0x12, 0x16))

# Decoded one by one, the contours of a plan would take a minute.
_CONTOUR_DATA = 0x30060050

Key = str | tuple[int, int]


def is_dicom(path: Path) -> bool:
    """True for a file that starts like DICOM, with or without the preamble of a file."""
    if not path.is_file():
        return False
    try:
        with open(path, "rb") as file:
            head = file.read(132)
    except OSError:
        return False
    return head[128:] == b"DICM" or head[:4] in _FIRST_TAGS


def read_tags(path: Path, keys: Iterable[Key]) -> Dataset:
    """Those tags of a DICOM file that it has. Raises InputError where it is damaged."""
    try:
        dataset = pydicom.dcmread(
            path, stop_before_pixels=True, force=True, specific_tags=["SOPClassUID", "Modality", *keys]
        )
        _decode(dataset)
    except DAMAGE as error:
        raise InputError(f"'{path}' is a damaged DICOM file; export it again or leave it out") from error
    if not text(dataset, "SOPClassUID"):
        raise InputError(f"'{path}' is a DICOM file that does not say what it is; export it again or leave it out")
    return dataset


def _decode(dataset: Dataset) -> None:
    """Values are decoded when they are looked at; doing it now shows damage here and not later."""
    for tag in list(dataset.keys()):
        if tag != _CONTOUR_DATA and dataset[tag].VR == "SQ":
            for item in dataset[tag].value:
                _decode(item)


def text(dataset: Dataset, key: Key) -> str:
    """A tag as text, several values joined by a backslash as DICOM does; empty where it is missing or empty."""
    value = _value(dataset, key)
    values = value if isinstance(value, list) else [value]
    return "\\".join(str(entry).strip() for entry in values if entry is not None).strip("\\ \0")


def number(dataset: Dataset, key: Key) -> float | None:
    """A tag (its first value) as a finite number; None where it is missing, empty or something else."""
    found = numbers(dataset, key)
    return found[0] if found and np.isfinite(found[0]) else None


def numbers(dataset: Dataset, key: Key) -> list[float]:
    """A tag as numbers, finite or not; [] where it is missing, empty or something else."""
    try:
        if isinstance(raw := dataset.get_item(key), RawDataElement):
            return np.array((raw.value or b"").split(b"\\"), dtype="S").astype(float).tolist()
        value = _value(dataset, key)
        return [float(entry) for entry in (value if isinstance(value, list) else [value])]
    except (TypeError, ValueError):
        return []


def items(dataset: Dataset, keyword: str) -> list[Dataset]:
    """The items of a sequence; [] where it is missing or no sequence."""
    value = dataset.get(keyword)
    return list(value) if isinstance(value, Sequence) else []


def _value(dataset: Dataset, key: Key) -> object:
    value = dataset.get(key)
    if isinstance(key, tuple) and value is not None:
        value = value.value  # by number, pydicom gives the element
    if isinstance(value, bytes):  # a private tag of unknown kind
        return value.decode("ascii", "replace").strip("\0 ")
    if isinstance(value, pydicom.multival.MultiValue | tuple):
        return list(value)
    return value
