"""What a cohort gave, in the scene: harmonized scans beside their sources, tables, and plots of the evaluation."""

from __future__ import annotations

import csv
import dataclasses
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import SimpleITK as sitk
import slicer
from slicer.i18n import tr as _

from HarmonizeExtension.case import REFUSED, REPORT, VERDICT, VOLUME
from HarmonizeExtension.cohort import CASES, FAILED
from HarmonizeExtension.cohort_report import CASES_TABLE, FEATURES, read_evaluations
from HarmonizeExtension.errors import InputError
from HarmonizeExtension.guard import Status
from HarmonizeExtension.radiomics.table import FeatureTable
from HarmonizeExtension.scan import Scan

from . import scene, sceneScans
from .cohortFiles import SceneCase
from .featureTables import EXACT_REFERENCE, writeFeatures
from .plots import chartOfFigure
from .tables import fillTable

COHORT_ATTRIBUTE = "Harmonize.Cohort"  # the results folder that a node was read from
CASE_ATTRIBUTE = "Harmonize.Case"  # of a scan of the scene: which case of the last run it was
STATUSES = (*(status.value for status in Status), FAILED)
_CASES = "cases"  # description of the cases table
_NOTES_ATTRIBUTE = "Harmonize.Notes"  # of the cases table
_TEXTS = ("case", "site", "status", "reasons")


@dataclasses.dataclass(frozen=True)
class CohortResult:
    """A cohort in the scene.

    folder: with report.html. rows: of each case, as in the cases table: case, site, status (pass, review, refuse or
    failed), reasons, the guard's figures (None where there is none).
    volumes: the harmonized volume nodes by case, of a cohort of the scene. notes: what could not be evaluated, and why.
    casesTable, featureTable, tables, charts: nodes; the features are None where nothing was measured.
    """

    folder: Path
    rows: tuple[Mapping[str, object], ...]
    volumes: Mapping[str, object]
    casesTable: object
    featureTable: object
    tables: tuple
    charts: tuple
    notes: tuple[str, ...]

    @property
    def report(self) -> Path:
        """The report, one HTML file."""
        return self.folder / REPORT

    def counts(self) -> dict[str, int]:
        """How many cases ended with which status, best first."""
        found = Counter(row["status"] for row in self.rows)
        return {status: found[status] for status in STATUSES}


def load(folder: Path, cases: Iterable[SceneCase], failures: Mapping[SceneCase, str], keepsScale: bool) -> CohortResult:
    """Bring the results in a folder into the scene; nodes of an earlier run in the same folder are replaced.

    cases: whose volumes are in the scene; failures: those that did not get as far as the run, and why.
    keepsScale: whether the units of the scans hold for the results. Raises InputError where files are missing.
    """
    _removeEarlier(folder)
    rows = (*readRows(folder), *map(_failedRow, failures.items()))
    evaluations, charts, tables = read_evaluations(folder), [], []
    item = _hierarchyFolder(folder)
    casesTable = _tableNode(_("Cases"), {name: [row.get(name) for row in rows] for name in _header(rows)}, item, folder)
    features = None
    if (folder / FEATURES).is_file():
        features = writeFeatures(FeatureTable.from_csv(folder / FEATURES), None, None)
        for node in (features, features.GetNodeReference(EXACT_REFERENCE)):
            _belongs(node, item, folder)
    for evaluation in evaluations:
        for result in evaluation.results:
            for name, figure in result.figures.items():
                nodes = chartOfFigure(figure, f"{evaluation.structure}: {figure.title}")
                nodes[0].SetDescription(name)
                charts.append(nodes[0])
                for node in nodes:
                    _belongs(node, item, folder)
            for table in result.tables:
                columns = dict(zip(table.header, zip(*table.rows, strict=True), strict=True))
                tables.append(_tableNode(f"{evaluation.structure}: {table.title}", columns, item, folder))
                tables[-1].SetDescription(table.name)
    notes = tuple(dict.fromkeys(f"{e.structure}: {note}" for e in evaluations for note in e.notes))
    casesTable.SetDescription(_CASES)
    casesTable.SetAttribute(_NOTES_ATTRIBUTE, json.dumps(notes))
    volumes = {}
    for case in cases:
        if case.volume.GetScene() is None:  # removed meanwhile
            continue
        case.volume.SetAttribute(CASE_ATTRIBUTE, caseKey(folder, case.name))
        volume = _volume(case, folder, keepsScale)
        if volume is not None:
            volumes[case.name] = volume
    return CohortResult(folder, rows, volumes, casesTable, features, tuple(tables), tuple(charts), notes)


def nodesOf(folder: Path, className: str) -> list:
    """The nodes of a class that came from a results folder and that a user may look at, in their order."""
    return [
        node
        for node in slicer.util.getNodesByClass(className)
        if node.GetAttribute(COHORT_ATTRIBUTE) == str(folder) and not node.GetHideFromEditors()
    ]


def caseKey(folder: Path, name: str) -> str:
    """What identifies a case of a results folder, also when scans of one name are left out or renamed later."""
    return str(folder / CASES / name)


def verdicts(folder: Path) -> dict[str, dict[str, str]]:
    """Case, site, status and reasons by `caseKey` of each case of a results folder that is in the scene."""
    rows = [
        {name: table.GetTable().GetColumnByName(name).GetValue(row) for name in _TEXTS}
        for table in _casesTables(folder)
        for row in range(table.GetNumberOfRows())
    ]
    return {caseKey(folder, row["case"]): row for row in rows}


def notes(folder: Path) -> list[str]:
    """What could not be evaluated, and why, as it stands in the scene."""
    return [note for table in _casesTables(folder) for note in json.loads(table.GetAttribute(_NOTES_ATTRIBUTE))]


def _casesTables(folder: Path) -> list:
    return [table for table in nodesOf(folder, "vtkMRMLTableNode") if table.GetDescription() == _CASES]


def _removeEarlier(folder: Path) -> None:
    """All but the volumes, which are written again: they may be shown, or drawn on."""
    for node in slicer.util.getNodesByClass("vtkMRMLNode"):
        if node.GetAttribute(COHORT_ATTRIBUTE) == str(folder) and not node.IsA("vtkMRMLVolumeNode"):
            storage = node.GetStorageNode() if node.IsA("vtkMRMLStorableNode") else None
            for unwanted in filter(None, (storage, node)):
                slicer.mrmlScene.RemoveNode(unwanted)


def _hierarchyFolder(folder: Path) -> int:
    """The item of the subject hierarchy under which tables and plots lie."""
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)
    name = _("Cohort {name}").format(name=folder.parent.name)
    top = hierarchy.GetSceneItemID()
    return hierarchy.GetItemChildWithName(top, name) or hierarchy.CreateFolderItem(top, name)


def _belongs(node, item: int, folder: Path) -> None:
    """A node is part of the cohort in a folder; what a user may look at lies under an item of the hierarchy."""
    node.SetAttribute(COHORT_ATTRIBUTE, str(folder))
    if not node.GetHideFromEditors():
        hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)
        hierarchy.SetItemParent(hierarchy.GetItemByDataNode(node) or hierarchy.CreateItem(item, node), item)


def _tableNode(name: str, columns: Mapping[str, Sequence], item: int, folder: Path):
    table = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTableNode", name)
    fillTable(table, columns)
    _belongs(table, item, folder)
    return table


def readRows(folder: Path) -> tuple[dict[str, object], ...]:
    """The rows of the cases table in a results folder. Raises InputError where it cannot be read."""
    path = folder / CASES_TABLE
    try:
        with open(path, newline="", encoding="utf-8") as file:
            return tuple(
                {name: cell if name in _TEXTS else float(cell) if cell else None for name, cell in row.items()}
                for row in csv.DictReader(file)
            )
    except (OSError, ValueError) as error:
        raise InputError(
            _("'{path}' cannot be read ({error}); run the cohort again").format(path=path, error=error)
        ) from error


def _failedRow(failure: tuple[SceneCase, str]) -> dict[str, object]:
    case, reason = failure
    return {"case": case.name, "site": case.site, "status": FAILED, "reasons": reason}


def _header(rows: Iterable[Mapping]) -> list[str]:
    return list(dict.fromkeys(name for row in rows for name in row))


def _volume(case: SceneCase, folder: Path, keepsScale: bool):
    """The harmonized scan of a case as a volume beside its source; None where the case has none."""
    place = folder / CASES / case.name
    paths = [path for mark in ("", REFUSED) for path in place.glob(f"{mark}{VOLUME}.nii*")]
    if not paths:
        return None
    content = json.loads((place / VERDICT).read_text(encoding="utf-8"))
    verdict = scene.verdictFromJson(content)
    after = Scan(
        sitk.ReadImage(str(paths[0])),
        case.modality,
        acquisition=scene.acquisitionOf(case.volume),
        units=scene.unitsOf(case.volume, case.modality) if keepsScale else "",
        name=case.name,
        provenance=tuple(content["provenance"]),
    )
    earlier = [
        volume
        for volume in sceneScans.scans()
        if volume.GetAttribute(COHORT_ATTRIBUTE) == str(folder)
        and volume.GetNodeReference(scene.SOURCE_REFERENCE) is case.volume
    ]
    volume = scene.writeVolume(after, case.volume, earlier[0] if earlier else None, verdict)
    volume.SetAttribute(COHORT_ATTRIBUTE, str(folder))
    scene.writeVerdict(verdict, after, case.volume, volume)
    return volume
