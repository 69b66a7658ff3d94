"""What is to be done to a scan, in the words of a command line: the same recipe for one scan and for a cohort."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from pathlib import Path

from . import case
from .methods import catalogue
from .methods.base import Harmonizer
from .methods.preparation import BiasFieldCorrection, Resampling, Step
from .progress import CancelCheck, Progress, never, silent
from .radiomics.settings import Settings
from .scan import Modality, Scan


@dataclasses.dataclass(frozen=True)
class Recipe:
    """Method, target, what comes before, the roles of structures, and how features are measured.

    method: a name of the catalogue. target: as `catalogue.target_from_text` reads it; None where the method needs none.
    reference, protected, measured: names of structures; all are measured where `measured` is None.
    where_present: protected and measured structures may be missing in a scan (a second tumour that not all patients
        have), and are then noted; else a name that a scan lacks is an error, since it may be misspelt.
    bias_correction: N4 first. spacing_mm: resample to this voxel size first.
    settings: of the radiomics, a name or a file; those of the modality where None.
    insist: a refused result counts too, marked as refused.
    """

    method: str
    target: str | None = None
    reference: str | None = None
    protected: tuple[str, ...] = ()
    measured: tuple[str, ...] | None = None
    bias_correction: bool = False
    spacing_mm: float | None = None
    settings: str | None = None
    insist: bool = False
    where_present: bool = False

    def with_roles(self, scan: Scan) -> Scan:
        """The scan with the roles that the recipe gives its structures. Raises InputError for one that it lacks."""
        protected, measured = self.protected, self.measured
        if self.where_present:
            missing = sorted({*protected, *(measured or ())} - set(scan.structures))
            protected = tuple(name for name in protected if name in scan.structures)
            measured = measured and tuple(name for name in measured if name in scan.structures)
            notes = ({"note": f"'{scan.name}' has no structure named {', '.join(missing)}"},) if missing else ()
            scan = dataclasses.replace(scan, provenance=(*scan.provenance, *notes))
        named = self.reference or protected or measured
        return scan.with_roles(self.reference, protected, measured) if scan.structures or named else scan

    def check_modality(self, modality: Modality, name: str, units: str = "") -> None:
        """Raise InputError where method, target, steps or settings cannot be used for scans of a modality."""
        catalogue.method(self.method).card.check_modality(modality, name)
        _harmonizer(self.method, self.target, modality, units)
        self._steps()
        self._settings()

    def check(self, scan: Scan) -> None:
        """Raise InputError where `run` would, before any work is done."""
        self.check_modality(scan.modality, scan.name, scan.units)
        _harmonizer(self.method, self.target, scan.modality, scan.units).check(scan)

    def run(self, scan: Scan, progress: Progress = silent, cancelled: CancelCheck = never) -> case.CaseResult:
        """`case.run` on a scan that has its roles."""
        harmonizer = _harmonizer(self.method, self.target, scan.modality, scan.units)
        return case.run(scan, harmonizer, self._steps(), self._settings(), progress, cancelled)

    def _steps(self) -> list[Step]:
        steps: list[Step] = [BiasFieldCorrection()] if self.bias_correction else []
        return steps + ([Resampling((self.spacing_mm,) * 3)] if self.spacing_mm is not None else [])

    def _settings(self) -> Settings | None:
        return Settings.load(self.settings) if self.settings else None

    def with_whole_paths(self) -> Recipe:
        """The same, for a process that runs elsewhere: files that are named relative to this place, by whole paths."""
        parts = [part for part in catalogue.scan_and_segmentation(self.target or "") if part]
        whole = [_whole(part) for part in parts]
        target = self.target if whole == parts else ",".join(whole)  # what is no path stays as it was typed
        return dataclasses.replace(self, target=target, settings=self.settings and _whole(self.settings))

    def to_json(self) -> Mapping[str, object]:
        """The fields, by name."""
        return dataclasses.asdict(self)


def _whole(text: str) -> str:
    """A path that leads to something, alone or with a # and more behind it, as a whole path; other text as it is."""
    path, mark, more = (text, "", "") if Path(text.strip()).exists() else text.rpartition("#")
    return f"{Path(path.strip()).absolute()}{mark}{more}" if path and Path(path.strip()).exists() else text


@functools.lru_cache(maxsize=2)  # a worker of a cohort would read the same reference scan for case after case
def _harmonizer(method: str, target: str | None, modality: Modality, units: str) -> Harmonizer:
    """The method, set up for its target."""
    harmonizer = catalogue.method(method)
    goal = catalogue.target_from_text(harmonizer.card, target, modality, units) if target else None
    return harmonizer.for_target(goal)
