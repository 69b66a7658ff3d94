"""Which scans count as one scanner, from their DICOM tags, by a rule that can be written into a methods section.

The rule: a label is made of what shapes the image most, first to last. MR: manufacturer, field strength, model.
CT: manufacturer, kernel, model. PET: manufacturer, reconstruction, model. All scans are labelled to the same depth,
the deepest at which every label has enough scans, so that no harmonization rests on a handful.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence

from ..scan import Acquisition, Modality
from .assumptions import MINIMUM_SCANS

UNKNOWN = "unknown"

# How a manufacturer calls itself in (0008,0070) over the years; the first match counts.
_MANUFACTURERS = {
    "siemens": "Siemens",
    "philips": "Philips",
    "ge ": "GE",
    "general electric": "GE",
    "toshiba": "Canon",
    "canon": "Canon",
    "uih": "United Imaging",
    "united imaging": "United Imaging",
    "hitachi": "Fujifilm",
    "fujifilm": "Fujifilm",
}

_SECOND_PART = {Modality.MR: "field_strength_tesla", Modality.CT: "kernel", Modality.PET: "reconstruction"}


@dataclasses.dataclass(frozen=True)
class ScannerLabels:
    """A label for each scan, the parts it is made of, and the labels that still have too few scans."""

    labels: tuple[str, ...]
    parts: tuple[str, ...]
    small: tuple[str, ...]


def scanner_labels(
    acquisitions: Sequence[Acquisition], modality: Modality, minimum: int = MINIMUM_SCANS
) -> ScannerLabels:
    """Labels for scans of one modality, to the deepest level at which each has `minimum` scans, or the first level.

    A tag that is not known is written as "unknown", so scans without tags are a scanner of their own.
    """
    parts = ("manufacturer", _SECOND_PART[modality], "model")
    for depth in range(len(parts), 0, -1):
        labels = tuple(" / ".join(_part(a, name) for name in parts[:depth]) for a in acquisitions)
        small = tuple(sorted(label for label, count in Counter(labels).items() if count < minimum))
        if not small:
            break
    return ScannerLabels(labels, parts[:depth], small)


def manufacturer_name(text: str) -> str:
    """The manufacturer under its present name: "GE MEDICAL SYSTEMS" is GE, "TOSHIBA" is Canon; others as written."""
    word = f"{text.strip().lower()} "
    return next((name for start, name in _MANUFACTURERS.items() if word.startswith(start)), text.strip())


def _part(acquisition: Acquisition, name: str) -> str:
    value = getattr(acquisition, name)
    if value is None or not str(value).strip():
        return UNKNOWN
    if name == "manufacturer":
        return manufacturer_name(value)
    if name == "field_strength_tesla":
        return f"{round(float(value) * 2) / 2:g} T"  # 2.89 and 3.0 are both sold as 3 T
    return str(value).strip()
