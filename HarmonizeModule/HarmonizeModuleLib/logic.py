"""What the module does, without a GUI: one volume, or a cohort, harmonized, guarded and measured."""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

from slicer.i18n import tr as _
from slicer.ScriptedLoadableModule import ScriptedLoadableModuleLogic

from HarmonizeExtension import case
from HarmonizeExtension.errors import InputError, RefusedError
from HarmonizeExtension.guard import Status, Verdict
from HarmonizeExtension.methods import catalogue
from HarmonizeExtension.methods.base import MethodCard
from HarmonizeExtension.methods.phycharm.harmonizer import SHIPPED, quantitative_maps
from HarmonizeExtension.methods.phycharm.protocols import ScannerProtocol, protocol_from_text
from HarmonizeExtension.methods.preparation import BiasFieldCorrection, Resampling, Step
from HarmonizeExtension.progress import CancelCheck, Progress, never, silent, stop_if
from HarmonizeExtension.radiomics.settings import Settings
from HarmonizeExtension.recipe import Recipe
from HarmonizeExtension.scan import Modality, TargetKind

from . import cohortFiles, quantitativeMaps, scene, sceneScans
from .attributionRun import AttributionRun
from .cohortResults import CohortResult
from .cohortRun import CohortRun, CohortTask
from .featureTables import writeFeatures
from .parameters import HarmonizeModuleParameterNode
from .trainingRun import TrainingRun

_LOOK_SECONDS = 0.05  # between two looks at a process
BRAIN = ("brain", "brain mask")  # segments that the maps are made in
VOLUME_TARGETS = (TargetKind.SCAN, TargetKind.KERNEL, TargetKind.RESOLUTION, TargetKind.PROTOCOL)


@dataclasses.dataclass(frozen=True)
class Result:
    """What `process` leaves in the scene: nodes, the verdict, and the engine's case with its exact numbers."""

    outputVolume: object
    featureTable: object
    verdictNode: object
    verdict: Verdict
    case: case.CaseResult


class HarmonizeModuleLogic(ScriptedLoadableModuleLogic):
    """The computation of the module, for the panel, the Python console and batch scripts alike."""

    def getParameterNode(self) -> HarmonizeModuleParameterNode:
        """The wrapped parameter node of the scene."""
        return HarmonizeModuleParameterNode(super().getParameterNode())

    def process(
        self,
        inputVolume,
        segmentation=None,
        method: str = "histogram-matching",
        target=None,
        outputVolume=None,
        featureTable=None,
        protectedSegments: Iterable[str] = (),
        referenceSegment: str | None = None,
        measuredSegments: Iterable[str] | None = None,
        modality: str = "",
        targetSegmentation=None,
        biasCorrection: bool = False,
        commonSpacing: float = 0.0,
        settings: str | Settings | None = None,
        insist: bool = False,
        progress: Progress | None = None,
        cancelled: CancelCheck | None = None,
    ) -> Result:
        """Harmonize one volume of the scene; blocks until it is done.

        inputVolume: scalar volume node. segmentation: segmentation node, or None.
        method: a name of the catalogue. target: what the method harmonizes to: a volume node or its name in the scene,
            a model folder, a number or the name of a kernel; `targetSegmentation` goes with a volume.
        outputVolume, featureTable: nodes to write to; made when None.
        protectedSegments, referenceSegment, measuredSegments: by name or ID; all segments are measured when None.
        modality: MR, CT or PET; read from the volume when empty.
        biasCorrection: N4 first. commonSpacing: resample to this voxel size in mm first; 0 keeps the grid.
        settings: of the radiomics, by name or file; those of the modality when None.
        insist: write a refused result too; its name and attributes say that it was refused.

        Returns the nodes and the verdict; the table is None where nothing is measured. Raises ValueError
        (HarmonizeError) with a sentence for the user where something does not fit or the result is refused, Cancelled
        when `cancelled()` became true; then nothing was written.
        """
        progress, cancelled = progress or silent, cancelled or never
        harmonizer = catalogue.method(method)
        target = _nodeOfTarget(harmonizer.card, target)
        referenceSegment = _single(referenceSegment)
        if outputVolume is not None and (outputVolume is inputVolume or outputVolume is target):
            raise InputError(
                _("The result would overwrite '{name}'; choose another output").format(name=outputVolume.GetName())
            )
        scan = scene.scanFromNodes(
            inputVolume, segmentation, modality, referenceSegment, protectedSegments, measuredSegments
        )
        goal = _target(harmonizer.card, target, targetSegmentation, scan, referenceSegment, segmentation)
        steps: list[Step] = [BiasFieldCorrection()] if biasCorrection else []
        if commonSpacing:
            steps.append(Resampling((commonSpacing,) * 3))
        chosen = settings if isinstance(settings, Settings) else Settings.load(settings) if settings else None
        result = case.run(scan, harmonizer.for_target(goal), steps, chosen, progress, cancelled)
        stop_if(cancelled)
        if inputVolume.GetScene() is None:
            raise InputError(
                _("'{name}' was removed from the scene meanwhile; nothing was written").format(name=scan.name)
            )
        if result.verdict.status is Status.REFUSE and not insist:
            raise RefusedError(result.verdict)
        # From here on the scene changes; whatever could fail has been done.
        volume = scene.writeVolume(result.after, inputVolume, outputVolume, result.verdict)
        table = writeFeatures(result.features, inputVolume, featureTable) if result.features.rows else None
        node = scene.writeVerdict(result.verdict, result.after, inputVolume, volume)
        return Result(volume, table, node, result.verdict, result)

    def writeMaps(
        self,
        inputVolume,
        segmentation,
        referenceSegment: str | None = None,
        modality: str = "",
        source: ScannerProtocol | str | None = None,
        model: str | os.PathLike | None = None,
        progress: Progress | None = None,
        cancelled: CancelCheck | None = None,
    ) -> tuple:
        """T1 (ms) and M0 (relative to water) maps of a T1-weighted brain beside it in the scene; blocks until done.

        They are what PhyCHarm's networks see in one image, for harmonization and comparison, and measure no patient.
        segmentation: with a segment "brain", or one that `referenceSegment` names. modality: as for `process`.
        source: the protocol of the scan, where its tags do not say it. model: a folder; the one that ships when None.

        Returns the volume nodes (T1, M0); those of an earlier run are written again. Raises ValueError (HarmonizeError)
        with a sentence for the user, Cancelled when `cancelled()` became true; then nothing was written.
        """
        cancelled = cancelled or never
        names = scene.segmentNames(segmentation)
        brains = [segmentID for segmentID, name in names.items() if name.casefold() in BRAIN]
        scan = scene.scanFromNodes(inputVolume, segmentation, modality, _single(referenceSegment), measured=brains)
        source = protocol_from_text(source) if isinstance(source, str) else source
        maps = quantitative_maps(scan, source, model or SHIPPED, progress or silent, cancelled)
        stop_if(cancelled)
        if inputVolume.GetScene() is None:
            raise InputError(
                _("'{name}' was removed from the scene meanwhile; nothing was written").format(name=scan.name)
            )
        return quantitativeMaps.writeMaps(maps, scan, inputVolume)

    def startTraining(self, system: str, config: str | os.PathLike, outputFolder: str | os.PathLike) -> TrainingRun:
        """`harmonize train` in a process of its own, followed by calling its `step` until it is False.

        system, config: as for that command. outputFolder: for checkpoint, curves and the model; a training that was
        stopped or killed continues in its folder. Raises OutputError where it cannot be started.
        """
        return TrainingRun(system, Path(config), Path(outputFolder))

    def startAttribution(
        self, inputVolume, options: Mapping[str, str], outputVolume=None, segmentation=None, modality: str = ""
    ) -> AttributionRun:
        """`harmonize explain` in a process of its own, followed by calling its `step` until it is False, then `result`.

        options: of that command, without dashes ("question", "feature", ...). outputVolume: the harmonized scan.
        segmentation: the structures. modality: as for `process`. Raises InputError where something does not fit.
        """
        structure = options.get("structure")
        scan = scene.scanFromNodes(inputVolume, segmentation, modality, measured=[structure] if structure else None)
        after = None
        if outputVolume is not None:
            after = scene.scanFromNodes(outputVolume, None, scan.modality.value)
        return AttributionRun(scan, after, inputVolume, options)

    def startCohort(
        self,
        outputFolder: str | os.PathLike,
        volumes: Iterable | None = None,
        manifest: str | os.PathLike | None = None,
        sites: Iterable[str] | None = None,
        method: str = "histogram-matching",
        target=None,
        targetSegmentation=None,
        protectedSegments: Iterable[str] = (),
        referenceSegment: str | None = None,
        measuredSegments: Iterable[str] = (),
        modality: str = "",
        biasCorrection: bool = False,
        commonSpacing: float = 0.0,
        settings: str | os.PathLike | None = None,
        insist: bool = False,
        wherePresent: bool = False,
        keep: Iterable[str] = (),
        processes: int = 1,
    ) -> CohortRun:
        """A cohort that is run by calling its `step` until it is False; then its `result` brings it into the scene.

        Parameters as for `runCohort`, which does this and waits. Raises InputError where something does not fit.
        """
        card = catalogue.method(method).card
        target = _nodeOfTarget(card, target)
        isNode = hasattr(target, "IsA")
        chosen = Modality.parse(modality) if modality else None
        cases = []
        if manifest is None:
            given = sceneScans.scansToHarmonize(chosen, target) if volumes is None else list(volumes)
            chosen = chosen or _commonModality(given)
            cases = cohortFiles.sceneCases(given, chosen, None if sites is None else list(sites))
        recipe = Recipe(
            method,
            None if isNode or target in (None, "") else _absolute(str(target)),
            _single(referenceSegment),
            _names(protectedSegments),
            _names(measuredSegments) or None,
            biasCorrection,
            commonSpacing or None,
            _absolute(str(settings)) if settings else None,
            insist,
            wherePresent,
        )
        return CohortRun(
            CohortTask(
                Path(outputFolder).absolute(),
                recipe,
                target if isNode else None,
                targetSegmentation if isNode else None,
                cases,
                None if manifest is None else Path(manifest).absolute(),
                chosen,
                _names(keep),
                processes,
            )
        )

    def runCohort(
        self,
        outputFolder: str | os.PathLike,
        progress: Progress | None = None,
        cancelled: CancelCheck | None = None,
        **options,
    ) -> CohortResult:
        """Harmonize many scans alike, check and measure each, and evaluate them together; blocks until it is done.

        outputFolder: for the scans as files, the results of each, tables and report.html. A run that was stopped or
            killed continues when it is started again with the same options and folder.
        volumes: volume nodes; every scan of the scene when None (results, references and doses are left out). Each
            takes the segmentation that was drawn on it. manifest: a CSV file of scans instead.
        sites: of each volume, in their order; as edited in the panel, or by their DICOM tags, when None.
        method, target, targetSegmentation, biasCorrection, commonSpacing, settings, insist: as for `process`.
        protectedSegments, referenceSegment, measuredSegments: by name, since every case has its own segments; one that
            a case lacks is an error of that case, unless `wherePresent` (reference structures always are). All are
            measured when none is named.
        modality: MR, CT or PET; which scans to take, and that of volumes which do not say theirs.
        keep: covariates, columns of the manifest, that ComBat keeps. processes: scans at once.

        A case that fails is reported, the others go on. Raises ValueError (HarmonizeError) with a sentence for the
        user, Cancelled when `cancelled()` became true; what is done is kept in the folder then.
        """
        progress, cancelled = progress or silent, cancelled or never
        run = self.startCohort(outputFolder, **options)
        try:
            while run.step():
                progress(*run.progress)
                if cancelled():
                    run.stop()
                time.sleep(_LOOK_SECONDS)
        except BaseException:  # such as Ctrl-C in the console: no process is left behind
            run.stop()
            raise
        return run.result()


def _single(referenceSegment) -> str | None:
    """The reference structure, also where it was given as a list of one."""
    if referenceSegment is None or isinstance(referenceSegment, str):
        return referenceSegment
    given = list(referenceSegment)
    if len(given) > 1:
        raise InputError(
            _("There can be one reference structure, but {count} are given ({names}); choose one").format(
                count=len(given), names=", ".join(map(str, given))
            )
        )
    return given[0] if given else None


def _nodeOfTarget(card: MethodCard, target):
    """The target, and the scan of the scene where it is the name of one; a file of that name goes first."""
    if hasattr(target, "IsA"):
        if card.target not in (*VOLUME_TARGETS, TargetKind.NONE):
            raise InputError(
                _("{method} takes a {kind} as target, not {given}").format(
                    method=card.title, kind=card.target.value, given=scene.describe(target)
                )
            )
        return target
    if card.target not in VOLUME_TARGETS or not isinstance(target, str) or Path(target).exists():
        return target
    named = [volume for volume in sceneScans.scans() if volume.GetName() == target]
    if len(named) > 1:
        raise InputError(
            _("The scene has {count} scans named '{name}'; give the node itself as target").format(
                count=len(named), name=target
            )
        )
    return named[0] if named else target


def _target(card: MethodCard, target, targetSegmentation, scan, referenceSegment, segmentation):
    if target is None or not hasattr(target, "IsA"):
        return (
            catalogue.target_from_text(card, str(target), scan.modality, scan.units)
            if target not in (None, "")
            else None
        )
    reference = None
    if referenceSegment and targetSegmentation is not None:
        names = scene.segmentNames(segmentation)
        reference = names.get(referenceSegment, referenceSegment)
    return scene.scanFromNodes(target, targetSegmentation, scan.modality.value, reference, measured=())


def _names(given: Iterable[str]) -> tuple[str, ...]:
    """Names, also where a single one was not put into a list."""
    return (given,) if isinstance(given, str) else tuple(given)


def _absolute(text: str) -> str:
    """What a user named, where it is a file or folder (or a scan and its segmentation) by its whole path."""
    parts = [text] if Path(text).exists() else [part.strip() for part in text.split(",")]
    return ",".join(str(Path(part).absolute()) if part and Path(part).exists() else part for part in parts)


def _commonModality(volumes: Iterable) -> Modality:
    """The modality of all volumes that say theirs. Raises InputError where none does, or they differ."""
    said = {sceneScans.saidModality(volume) for volume in volumes} - {None}
    if len(said) != 1:
        found = _(" and ").join(sorted(said)) or _("not known")
        raise InputError(
            _("The modality of the scans is {found}; choose which to take: MR, CT or PET").format(found=found)
        )
    return said.pop()
