"""What a harmonizer is: its card, and one verb, `apply`, that keeps the promises every method makes."""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from .. import __version__, protection
from ..body import body_mask
from ..errors import InputError
from ..guard import Check
from ..progress import CancelCheck, Progress, never, part, silent, stop_if
from ..scan import Modality, Role, Scan, TargetKind


@dataclasses.dataclass(frozen=True)
class MethodCard:
    """What a method states about itself; panel, command line and documentation are filled from it.

    name: short name for the command line and the console.
    title: name in the panel.
    summary: one sentence for users.
    modalities: those it may be applied to.
    target: what it harmonizes to.
    reference: what to mark as reference structure ("white matter"); empty where no statistics are taken in one.
    keeps_scale: True where intensities keep their unit (HU, SUV) and air stays air.
    pointwise: True where the result is a monotone map of intensity alone and so cannot change structure.
    citation: the paper.
    whole_image: True where the change belongs to the image, not to the patient (a reconstruction kernel): air and
        couch follow, so that no rim of the old look stays around the skin. Else voxels outside the body stay.
    """

    name: str
    title: str
    summary: str
    modalities: frozenset[Modality]
    target: TargetKind
    keeps_scale: bool
    pointwise: bool
    citation: str
    reference: str = ""
    whole_image: bool = False

    def check_modality(self, modality: Modality, name: str) -> None:
        """Raise InputError, naming the scan, where the method is not for its modality."""
        if modality not in self.modalities:
            fits = " or ".join(sorted(m.value for m in self.modalities))
            raise InputError(
                f"{self.title} is for {fits}; '{name}' is {modality.value}. Choose a method for {modality.value}"
            )


@dataclasses.dataclass
class Harmonizer(abc.ABC):
    """Base of every method. Subclasses are dataclasses: their fields are the parameters, the target comes first.

    A subclass writes `_harmonize`; `apply` sees to the rest: the modality fits, voxels outside the body stay bit for
    bit where the method keeps the scale, protected structures keep their structure, the result is finite float32
    on the same grid, and the provenance says what was done.
    """

    card: ClassVar[MethodCard]

    @classmethod
    def for_target(cls, target: object = None, **parameters) -> Harmonizer:
        """The method set up for a target; what a target may be, `card.target` says."""
        if cls.card.target is TargetKind.NONE:
            if target is not None:
                named = getattr(target, "name", target)
                raise InputError(f"{cls.card.title} takes no target, but '{named}' is given; leave it out")
            return cls(**parameters)
        if target is None:
            raise InputError(f"{cls.card.title} needs a target ({cls.card.target.value}); choose one")
        return cls(target, **parameters)

    def apply(self, scan: Scan, progress: Progress = silent, cancelled: CancelCheck = never) -> Scan:
        """The harmonized scan, on the same grid; the same input gives the same output.

        Raises InputError where the scan does not suit the method, Cancelled when `cancelled()` became true.
        """
        self.check(scan)
        stop_if(cancelled)
        progress(0.0, f"{self.card.title}: finding the body")
        # What is protected belongs to the patient, wherever the outline was found.
        body = np.any([body_mask(scan), *(s.array for s in scan.with_role(Role.PROTECTED))], axis=0)
        stop_if(cancelled)
        after = self._harmonize(scan, body, part(progress, 0.1, 0.9), cancelled)
        after = self._checked(np.asarray(after, dtype=np.float32), scan)
        stop_if(cancelled)
        progress(0.9, f"{self.card.title}: keeping protected structures")
        if not self.card.pointwise:
            after = protection.keep_structure(scan, after, body)
        if self.card.keeps_scale and not self.card.whole_image:
            after = np.where(body, after, scan.array)
        progress(1.0, f"{self.card.title}: done")
        entry = {
            "method": self.card.name,
            "version": __version__,
            "parameters": self.parameters(),
            "reference": [s.name for s in scan.with_role(Role.REFERENCE)],
            "protected": [s.name for s in scan.with_role(Role.PROTECTED)],
        }
        return scan.with_array(
            after, units=scan.units if self.card.keeps_scale else "", provenance=(*scan.provenance, entry)
        )

    def _checked(self, after: np.ndarray, scan: Scan) -> np.ndarray:
        """The intensities that `_harmonize` gave, unless they are no image of the scan's grid."""
        problem = ""
        if after.shape != scan.image.GetSize()[::-1]:
            problem = f"an array of shape {after.shape}, not that of the scan,"
        elif not np.isfinite(after).all():
            problem = f"{int((~np.isfinite(after)).sum())} voxels that are not finite"
        elif after.min() == after.max():
            problem = f"{after.flat[0]:g} everywhere"
        if problem:
            raise InputError(f"{self.card.title} gave {problem} on '{scan.name}'; the scan does not suit this method")
        return after

    def check(self, scan: Scan) -> None:
        """Raise InputError where the scan cannot be given to this method; subclasses add their own needs."""
        self.card.check_modality(scan.modality, scan.name)

    def doubts(self, scan: Scan) -> tuple[Check, ...]:
        """What about a scan lies outside what the method was made for, and asks for a look at the result."""
        return ()

    def parameters(self) -> Mapping[str, object]:
        """The parameters as JSON can hold them (a scan or model by its name)."""
        plain = int | float | str | bool | None
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {
            name: value if isinstance(value, plain) else getattr(value, "name", str(value))
            for name, value in values.items()
        }

    @abc.abstractmethod
    def _harmonize(self, scan: Scan, body: np.ndarray, progress: Progress, cancelled: CancelCheck) -> np.ndarray:
        """New intensities (z, y, x); `body` is the bool mask (z, y, x) of the patient."""


def statistics_mask(scan: Scan, body: np.ndarray) -> np.ndarray:
    """Where intensity statistics are taken: the reference structures if any are marked, else the body (z, y, x)."""
    reference = scan.with_role(Role.REFERENCE)
    if not reference:
        return body
    return np.any([structure.array for structure in reference], axis=0)
