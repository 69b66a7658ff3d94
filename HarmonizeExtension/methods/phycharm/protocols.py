"""The protocol of a source or target of PhyCHarm: from tags, from a name, or as it is typed."""

from __future__ import annotations

import dataclasses
import difflib
import math
import re
from pathlib import Path

from ...errors import InputError
from ...files.models import CARD
from ...phantoms.scanners import SCANNERS
from ...physics.mr_signal import Protocol
from ...physics.tissues import properties
from ...scan import Acquisition
from .bloch import protocol_of

EXAMPLE = "TR=2300 TI=900 TE=3 FA=9 FIELD=3"
FROM_TO = "->"
_ENTRIES = {
    "TR": "repetition_time_ms",
    "TI": "inversion_time_ms",
    "TE": "echo_time_ms",
    "FA": "flip_angle_deg",
    "FIELD": "field_strength_tesla",
}
_SHOT = "SHOT"


@dataclasses.dataclass(frozen=True)
class ScannerProtocol:
    """A protocol and the field strength at which it is run, under the name by which the user knows them."""

    name: str
    protocol: Protocol
    field_strength_tesla: float

    def __post_init__(self):
        properties(self.field_strength_tesla)  # an InputError for a field at which T1 is not known


@dataclasses.dataclass(frozen=True)
class ProtocolTarget:
    """What a user names as target: a protocol, and where they must be told, the source's protocol and a model."""

    protocol: ScannerProtocol
    source: ScannerProtocol | None = None
    model: Path | None = None

    @classmethod
    def from_text(cls, text: str) -> ProtocolTarget:
        """`[MODEL FOLDER#][SOURCE ->] TARGET`, source and target as `protocol_from_text` reads them."""
        model, mark, rest = text.rpartition("#")
        if mark and not (Path(model) / CARD).exists():
            raise InputError(f"there is no model folder '{model}'; check the path in front of '#'")
        source, arrow, target = rest.rpartition(FROM_TO)
        return cls(
            protocol_from_text(target),
            protocol_from_text(source) if arrow else None,
            Path(model) if mark else None,
        )


def of_acquisition(acquisition: Acquisition, name: str) -> ScannerProtocol:
    """The protocol that a scan's tags describe. Raises InputError that names the tags that are missing."""
    protocol = protocol_of(acquisition, name)
    if acquisition.field_strength_tesla is None:
        raise InputError(
            f"the protocol of '{name}' lacks the magnetic field strength (0018,0087); type the protocol in, such as "
            f"{EXAMPLE}"
        )
    # Scanners write 1.494 or 2.89 T for what their makers call 1.5 and 3 T.
    nominal = [field for field in (1.5, 3.0) if abs(acquisition.field_strength_tesla / field - 1) < 0.05]
    return ScannerProtocol(name, protocol, nominal[0] if nominal else acquisition.field_strength_tesla)


def text_of(acquisition: Acquisition, name: str) -> str:
    """The protocol that a scan's tags describe as `protocol_from_text` reads it. Raises InputError as `of_acquisition`.

    For where a scan goes without its tags.
    """
    of_acquisition(acquisition, name)
    values = {key: getattr(acquisition, field) for key, field in _ENTRIES.items()}
    return " ".join(f"{key}={value!r}" for key, value in values.items() if value)


def of_scanner(name: str) -> ScannerProtocol:
    """The protocol of a simulated scanner ("Siemens 3T"), with its echo train. Raises InputError for other names."""
    if name not in SCANNERS:
        near = difflib.get_close_matches(name, SCANNERS, 1)
        hint = f"did you mean '{near[0]}'?" if near else f"there are: {', '.join(SCANNERS)}; or type one in: {EXAMPLE}"
        raise InputError(f"there is no protocol '{name}'; {hint}")
    return ScannerProtocol(name, SCANNERS[name].protocol, SCANNERS[name].field_strength_tesla)


def protocol_from_text(text: str) -> ScannerProtocol:
    """From the name of a simulated scanner, or from times in ms, an angle in degrees and a field strength in tesla.

    Such as `TR=2300 TI=900 TE=3 FA=9 FIELD=3`; without TI it is a spoiled gradient echo. Where TR is the time between
    echoes, as GE and Philips write it, SHOT is the time from inversion to inversion. Raises InputError.
    """
    text = text.strip()
    if "=" not in text:
        return of_scanner(text)
    words = re.split(r"[\s,;]+", re.sub(r"\s*=\s*", "=", text))
    entries: dict[str, float] = {}
    for word in words:
        key, mark, value = word.partition("=")
        key = key.upper()
        if not mark or key not in (*_ENTRIES, _SHOT):
            raise InputError(f"'{word}' is no part of a protocol; write it as {EXAMPLE}")
        if key in entries:
            raise InputError(f"{key} is given twice in the protocol '{text}'; write it as {EXAMPLE}")
        try:
            entries[key] = float(value)
        except ValueError:
            entries[key] = math.nan
        if not math.isfinite(entries[key]):
            raise InputError(f"'{word}' in a protocol is no number; write it as {EXAMPLE}")
    name = " ".join(f"{key}={entries[key]:g}" for key in (*_ENTRIES, _SHOT) if key in entries)
    missing = [key for key in _ENTRIES if key not in entries and key != "TI"]
    if missing:
        raise InputError(f"the protocol '{name}' lacks {', '.join(missing)}; write it as {EXAMPLE}")
    acquisition = Acquisition(**{field: entries.get(key) for key, field in _ENTRIES.items()})
    return ScannerProtocol(name, protocol_of(acquisition, name, entries.get(_SHOT)), acquisition.field_strength_tesla)
