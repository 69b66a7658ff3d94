"""A cohort on its way: scans of the scene to files, `harmonize cohort` on them in its own process, results back."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path

from slicer.i18n import tr as _

from HarmonizeExtension.errors import Cancelled, InputError
from HarmonizeExtension.files.manifest import Manifest
from HarmonizeExtension.files.writing import output_folder
from HarmonizeExtension.methods import catalogue
from HarmonizeExtension.methods.phycharm.protocols import text_of
from HarmonizeExtension.recipe import Recipe
from HarmonizeExtension.scan import Modality, TargetKind

from . import cohortFiles, cohortResults, scene
from .cohortFiles import MANIFEST, RESULTS, SceneCase
from .harmonizeProcess import HarmonizeProcess

_WRITTEN = 0.1  # of the whole, when the scans lie in files


@dataclasses.dataclass(frozen=True)
class CohortTask:
    """What is to be done.

    folder: for the files of the cohort and its results; that of an earlier run of the same is continued.
    recipe: its target is a text, or None where `target` is a volume node of the scene.
    cases: of the scene; or manifest: a file. modality: of the cases, or which scans of the manifest to take.
    keep: covariates of the manifest that ComBat keeps. processes: scans at once.
    """

    folder: Path
    recipe: Recipe
    target: object = None
    targetSegmentation: object = None
    cases: Sequence[SceneCase] = ()
    manifest: Path | None = None
    modality: Modality | None = None
    keep: Sequence[str] = ()
    processes: int = 1


class CohortRun:
    """Does a task step by step: call `step` until it is False, then `result`.

    progress: (fraction, text) of the whole.
    """

    def __init__(self, task: CohortTask):
        self._task = task
        self._failures: dict[SceneCase, str] = {}
        self._writing: Iterator[tuple[float, str]] = self._write()
        self._process: HarmonizeProcess | None = None
        self._stopped = False
        self.progress = 0.0, ""

    def step(self) -> bool:
        """Write one scan, start the process or look at it; whether there is more to do. Raises what `result` does."""
        if self._process is None:
            if self._stopped:
                return False
            # Only this thread may touch the scene, so the scans are written one at a step.
            self.progress = next(self._writing, None) or self._start()
            return True
        running = self._process.poll()
        self.progress = _WRITTEN + (1 - _WRITTEN) * self._process.fraction, self._process.text
        return running

    def stop(self) -> None:
        """Stop at the next chance, what is done is kept; `step` until it is False."""
        self._stopped = True
        if self._process is not None:
            self._process.stop()

    def result(self) -> cohortResults.CohortResult:
        """What came of it, brought into the scene, once there is no more to do.

        Raises InputError, OutputError, and Cancelled where it was stopped.
        """
        if self._process is None:
            raise Cancelled(_("stopped on request; what is done is kept"))
        self._process.answer()
        keepsScale = catalogue.method(self._task.recipe.method).card.keeps_scale
        return cohortResults.load(self._task.folder / RESULTS, self._task.cases, self._failures, keepsScale)

    def _write(self) -> Iterator[tuple[float, str]]:
        task, recipe, entries = self._task, self._task.recipe, []
        output_folder(task.folder)
        named = None
        if recipe.measured is not None:
            named = {*recipe.measured, *recipe.protected, recipe.reference}
        for number, case in enumerate(task.cases):
            yield _WRITTEN * number / len(task.cases), _("Writing {name}").format(name=case.name)
            try:
                if case.volume.GetScene() is None:
                    raise InputError(_("'{name}' was removed from the scene meanwhile").format(name=case.name))
                entries.append(cohortFiles.writeCase(case, task.folder, named))
            except InputError as error:  # of this case; the others go on
                self._failures[case] = str(error)
        if task.cases and not entries:
            raise InputError(
                _("None of the scans can be harmonized: {reasons}").format(reasons="; ".join(self._failures.values()))
            )
        if entries:
            manifest = Manifest(task.folder / MANIFEST, tuple(entries))
            manifest.write(manifest.path)

    def _start(self) -> tuple[float, str]:
        task, target = self._task, self._task.recipe.target
        kind = catalogue.method(task.recipe.method).card.target
        if task.target is not None and kind is TargetKind.PROTOCOL:  # the tags say it, which the file would not hold
            target = text_of(scene.acquisitionOf(task.target), task.target.GetName())
        elif task.target is not None:
            reference = task.recipe.reference if task.targetSegmentation is not None else None
            modality = task.modality or Modality.parse(scene.modalityOf(task.target))
            target = cohortFiles.writeTarget(task.target, task.targetSegmentation, modality, reference, task.folder)
        self._process = HarmonizeProcess(self._arguments(target), task.folder)
        return _WRITTEN, self._process.text

    def _arguments(self, target: str | None) -> list[str]:
        task, recipe = self._task, self._task.recipe
        given = {
            "--out": [task.folder / RESULTS],
            "--method": [recipe.method],
            "--target": [target],
            "--modality": [task.modality],
            "--reference": [recipe.reference],
            "--protect": recipe.protected,
            "--measure": recipe.measured or (),
            "--spacing": [recipe.spacing_mm],
            "--settings": [recipe.settings],
            "--keep": task.keep,
            "--processes": [task.processes],
        }
        flags = {
            "--n4": recipe.bias_correction,
            "--insist": recipe.insist,
            "--where-present": recipe.where_present,
        }
        return [
            "cohort",
            str(task.manifest or task.folder / MANIFEST),
            *(f"{name}={value}" for name, values in given.items() for value in values if value not in (None, "")),
            *(name for name, wanted in flags.items() if wanted),
        ]
