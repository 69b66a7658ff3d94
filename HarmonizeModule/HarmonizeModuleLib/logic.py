"""What the module does, without a GUI: one volume, or every volume of the scene, harmonized, guarded and measured."""

from __future__ import annotations

import csv
import dataclasses
import json
import logging
import os
from collections.abc import Callable, Iterable
from pathlib import Path

import slicer
from slicer.i18n import tr as _
from slicer.ScriptedLoadableModule import ScriptedLoadableModuleLogic

from HarmonizeExtension import case
from HarmonizeExtension.errors import Cancelled, HarmonizeError, InputError, RefusedError
from HarmonizeExtension.files.writing import output_folder, replacing
from HarmonizeExtension.guard import Status, Verdict
from HarmonizeExtension.methods import catalogue
from HarmonizeExtension.methods.base import MethodCard
from HarmonizeExtension.methods.preparation import BiasFieldCorrection, Resampling, Step
from HarmonizeExtension.progress import CancelCheck, Progress, never, silent, stop_if
from HarmonizeExtension.radiomics.settings import Settings
from HarmonizeExtension.radiomics.table import FeatureTable
from HarmonizeExtension.scan import TargetKind

from . import scene
from .featureTables import writeFeatures
from .parameters import HarmonizeModuleParameterNode

VOLUME_TARGETS = (TargetKind.SCAN, TargetKind.KERNEL, TargetKind.RESOLUTION)


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

    def processScene(
        self,
        outputFolder: str | os.PathLike | None = None,
        volumes: Iterable | None = None,
        report: Callable[[dict, Result | None], None] | None = None,
        cancelled: CancelCheck | None = None,
        **options,
    ) -> list[dict]:
        """Harmonize many volumes of the scene with the same options; one that fails is reported, the others go on.

        volumes: volume nodes; every scan of the scene when None (results, references and doses are left out).
        cancelled: what is done stays, the volume that is being worked on has no row.
        outputFolder: where `verdicts.csv` and `features.csv` are written; nowhere when None.
        report: called after each volume with its row and its Result, None where it has none.
        options: as for `process`; each volume takes the segmentation that was drawn on it. A segment that an option
            names and that a volume lacks is an error of that volume.
        Returns a row for each volume: volume, status (pass, review, refuse or error), reasons, outputVolume.
        """
        folder = output_folder(outputFolder) if outputFolder is not None else None
        rows, tables = [], []
        segmentation = options.pop("segmentation", None)
        for volume in list(_scansOfScene(options.get("target")) if volumes is None else volumes):
            row, result = errorRow(volume.GetName(), ""), None
            try:
                result = self.process(volume, segmentation or segmentationOf(volume), cancelled=cancelled, **options)
            except Cancelled:
                break
            except RefusedError as refused:
                row.update(status=refused.verdict.status.value, reasons="; ".join(refused.verdict.reasons))
            except HarmonizeError as error:
                row.update(reasons=str(error))
                logging.warning("%s: %s", volume.GetName(), error)
            else:
                row.update(
                    status=result.verdict.status.value,
                    reasons="; ".join(result.verdict.reasons),
                    outputVolume=result.outputVolume.GetName(),
                )
                tables.append(result.case.features)
            rows.append(row)
            if report is not None:
                report(row, result)
        if folder is not None:
            writeTables(rows, tables, folder)
        return rows


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
    named = [volume for volume in _scans() if volume.GetName() == target]
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


def exitCode(rows: Iterable[dict]) -> int:
    """0 when every volume has a result, 3 when the guard refused one, 2 when one failed."""
    statuses = {row["status"] for row in rows}
    return 2 if "error" in statuses or not statuses else 3 if Status.REFUSE.value in statuses else 0


def _scans() -> list:
    """The scalar volumes of the scene that are scans or results of ours: no label maps, doses, display helpers."""
    scans = []
    for volume in slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode"):
        display = volume.GetHideFromEditors() or volume.GetAttribute(scene.DISPLAY_ATTRIBUTE)
        other = volume.IsA("vtkMRMLLabelMapVolumeNode") or volume.GetAttribute("DicomRtImport.DoseVolume")
        if not display and not other:
            scans.append(volume)
    return scans


def _scansOfScene(target) -> list:
    """What is to be harmonized: the scans without results, nor the reference itself (a node or its name)."""
    scans = [
        volume
        for volume in _scans()
        if volume is not target and volume.GetName() != target and not volume.GetAttribute(scene.VERDICT_ATTRIBUTE)
    ]
    if not scans:
        raise InputError(_("The scene has no scan to harmonize; load one first"))
    return scans


def segmentationOf(volume):
    """The segmentation that was drawn on a volume, or None."""
    for segmentation in slicer.util.getNodesByClass("vtkMRMLSegmentationNode"):
        if drawnOn(segmentation) is volume:
            return segmentation
    return None


def drawnOn(segmentation):
    """The volume that a segmentation was drawn on, or None where it does not say."""
    return segmentation.GetNodeReference(slicer.vtkMRMLSegmentationNode.GetReferenceImageGeometryReferenceRole())


def errorRow(name: str, reason: str) -> dict:
    """The row of a volume that could not be harmonized."""
    return {"volume": name, "status": "error", "reasons": reason, "outputVolume": ""}


def writeTables(rows: list[dict], tables: list[FeatureTable], folder: Path) -> None:
    """`verdicts.csv`, and `features.csv` where anything was measured. Raises OutputError.

    Values of different radiomics settings cannot be compared: a second kind goes to `features_2.csv`, and so on.
    """
    path = folder / "verdicts.csv"
    with replacing(path) as beside, open(beside, "w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, list(errorRow("", "")), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    kinds: dict[str, list[FeatureTable]] = {}
    for table in tables:
        if table.rows:
            kinds.setdefault(json.dumps(table.metadata["settings"], sort_keys=True), []).append(table)
    for number, kind in enumerate(kinds.values(), start=1):
        FeatureTable.merged(kind).to_csv(folder / f"features{f'_{number}' if number > 1 else ''}.csv")
