"""The cohort section: which scans, from which sites; the run in a process of its own; what came of it."""

from __future__ import annotations

import html
from collections.abc import Callable
from pathlib import Path

import qt
import slicer
from slicer.i18n import tr as _
from slicer.util import VTKObservationMixin

from HarmonizeExtension.case import REPORT
from HarmonizeExtension.cohort_report import check_covariates
from HarmonizeExtension.errors import InputError
from HarmonizeExtension.files.manifest import Manifest
from HarmonizeExtension.scan import Modality

from . import cohortFiles, cohortResults, display, sceneScans
from .cohortRun import CohortRun
from .inputsPanel import ROW_HEIGHT
from .runFollower import RunFollower

NAME_COLUMN, SEGMENTATION_COLUMN, SITE_COLUMN, VERDICT_COLUMN = range(4)
ROWS_SHOWN = 10  # beyond that many the table scrolls
_STOPPED = _("Stopped; what is done is kept, and Run continues.")


class CohortPanel(VTKObservationMixin):
    """Keeps the table of scans in step with the scene or the manifest, and follows the run.

    start: gives the run that the choices of the whole panel make; raises InputError.
    """

    def __init__(self, ui, start: Callable[[], CohortRun]):
        VTKObservationMixin.__init__(self)
        self.ui, self._start = ui, start
        self._parameterNode = None
        self._modality: Modality | None = None
        self._missing = ""
        self._follower = RunFollower(
            ui.cohortProgressBar,
            ui.cohortProgressLabel,
            failed=_("The cohort was not harmonized."),
            stopped=_STOPPED,
            ended=self._onEnded,
            changed=self._onRunning,
        )
        self._wanted = True  # whether the results shall still come into the scene
        self._manifest: tuple[tuple, Manifest | InputError] | None = None
        self._filling = False
        # A node comes bare into the scene, and many often come at once: look when all is said of them.
        self._nodesTimer = qt.QTimer()
        self._nodesTimer.setSingleShot(True)
        self._nodesTimer.connect("timeout()", self._onNodesSettled)
        ui.cohortSourceCombo.addItem(_("of this scene"), False)
        ui.cohortSourceCombo.addItem(_("of a manifest file"), True)
        header = ui.cohortTable.horizontalHeader()
        for column in (NAME_COLUMN, SEGMENTATION_COLUMN, SITE_COLUMN):
            header.setSectionResizeMode(column, qt.QHeaderView.Stretch)
        header.setSectionResizeMode(VERDICT_COLUMN, qt.QHeaderView.ResizeToContents)
        header.setFixedHeight(ROW_HEIGHT)
        ui.cohortTable.verticalHeader().hide()
        ui.cohortTable.verticalHeader().setDefaultSectionSize(ROW_HEIGHT)
        ui.cohortSourceCombo.connect("currentIndexChanged(int)", self._onSource)
        ui.cohortManifestEdit.connect("currentPathChanged(QString)", self._onManifest)
        ui.cohortFolderEdit.connect("currentPathChanged(QString)", self._onFolder)
        ui.cohortTable.connect("itemChanged(QTableWidgetItem*)", self._onItemChanged)
        ui.cohortSection.connect("contentsCollapsed(bool)", self._onCollapsed)
        ui.cohortRunButton.connect("clicked(bool)", self._onRun)
        ui.cohortReportButton.connect("clicked(bool)", self._onReport)
        ui.cohortShowCombo.connect("activated(int)", self._onShow)
        self._onRunning(False)

    def setParameterNode(self, parameterNode) -> None:
        """The parameter node to show; None when the scene closes, which stops the run."""
        self._parameterNode = parameterNode
        self.removeObservers()
        if parameterNode is None:
            self.stop()
            return
        scene = slicer.mrmlScene
        for event in (scene.NodeAddedEvent, scene.NodeRemovedEvent):
            self.addObserver(scene, event, self._onNodes)

    def refresh(self, modality: Modality | None, missing: str) -> None:
        """Show what the parameter node says; modality: of the scans, missing: what the method still needs."""
        self._modality, self._missing = modality, missing
        p = self._parameterNode
        if p is None or self.ui.cohortSection.collapsed:
            return
        self._filling = True
        ui, fromManifest = self.ui, p.cohortFromManifest
        ui.cohortSourceCombo.currentIndex = int(fromManifest)
        for edit, path in ((ui.cohortManifestEdit, p.cohortManifest), (ui.cohortFolderEdit, p.cohortFolder)):
            if edit.currentPath != path:
                edit.currentPath = path
        for widget in (ui.cohortManifestLabel, ui.cohortManifestEdit, ui.cohortKeepLabel, ui.cohortKeepEdit):
            widget.setVisible(fromManifest)
        ui.cohortKeepEdit.toolTip = _("Covariates that ComBat keeps; the manifest has: {columns}").format(
            columns=", ".join(self._manifestEntries()[0].columns if self._manifestEntries() else ()) or _("none")
        )
        self._showTable()
        self._showResult()
        self._filling = False
        if self._follower.run is None:
            reason = self._whyNot()
            ui.cohortRunButton.enabled = not reason
            ui.cohortRunButton.toolTip = reason or _("Harmonize, check and measure every scan, and evaluate them all")

    def stop(self) -> None:
        """Stop the run, where there is one; what is done is kept in its folder, and nothing comes into the scene."""
        self._wanted = False
        self._follower.stop()

    def cleanup(self) -> None:
        """The panel goes: the process ends by itself, as nobody holds the other end of its input."""
        self._wanted = False
        self._follower.cleanup()
        self._nodesTimer.stop()
        self.removeObservers()

    def source(self) -> dict:
        """The scans, as the logic takes them."""
        p = self._parameterNode
        if p.cohortFromManifest:
            keep = [name.strip() for name in p.cohortKeep.split(",") if name.strip()]
            return {"manifest": p.cohortManifest, "keep": keep, "modality": p.modality}
        return {"volumes": self._chosen(), "modality": self._modality.value}

    # ---------------------------------------------------------------- choices

    def _volumes(self) -> list:
        """The scans of the scene that are offered."""
        if self._modality is None:
            return []
        return sceneScans.scansToHarmonize(self._modality, self._parameterNode.targetVolume)

    def _chosen(self) -> list:
        left = list(self._parameterNode.cohortLeftOut)
        return [volume for volume in self._volumes() if volume.GetID() not in left]

    def _readManifest(self) -> Manifest:
        """The chosen manifest, read anew only when the file has changed. Raises InputError."""
        path = Path(self._parameterNode.cohortManifest)
        key = (str(path), path.stat().st_mtime_ns if path.is_file() else 0)
        if self._manifest is None or self._manifest[0] != key:
            try:
                found = Manifest.read(path, images=False)
            except InputError as error:
                found = error
            self._manifest = key, found
        if isinstance(self._manifest[1], InputError):
            raise self._manifest[1]
        return self._manifest[1]

    def _manifestEntries(self) -> tuple:
        """The lines of the chosen manifest; none where it cannot be read."""
        try:
            return self._readManifest().entries if self._parameterNode.cohortManifest else ()
        except InputError:
            return ()

    def _manifestError(self) -> str:
        """What is wrong with the manifest, as a sentence; empty where it can be used, with what is to be kept of it."""
        if not self._parameterNode.cohortManifest:
            return _("Choose a manifest")
        try:
            manifest = self._readManifest()
            check_covariates(manifest, self.source()["keep"])
        except InputError as error:
            return str(error)
        return ""

    def _whyNot(self) -> str:
        p = self._parameterNode
        if p.cohortFromManifest:
            problem = self._manifestError()
        elif self._modality is None:
            problem = _("Choose a scan above, and its modality; the cohort takes the scans of that modality")
        else:
            problem = "" if self._chosen() else _("There is no scan to harmonize; load some, or tick them")
        return problem or self._missing or ("" if p.cohortFolder else _("Choose an output folder"))

    def _onNodes(self, caller=None, event=None) -> None:
        self._nodesTimer.start(0)

    def _onNodesSettled(self) -> None:
        if not slicer.mrmlScene.IsBatchProcessing() and self._follower.run is None:
            self.refresh(self._modality, self._missing)

    def _onCollapsed(self, collapsed) -> None:
        self.refresh(self._modality, self._missing)

    def _onSource(self, index=None) -> None:
        if self._parameterNode is not None and not self._filling:
            self._parameterNode.cohortFromManifest = self.ui.cohortSourceCombo.currentData

    def _onManifest(self, path) -> None:
        if self._parameterNode is not None and not self._filling:
            self._parameterNode.cohortManifest = path

    def _onFolder(self, path) -> None:
        if self._parameterNode is not None and not self._filling:
            self._parameterNode.cohortFolder = path

    def _onItemChanged(self, item) -> None:
        """A scan was ticked or its site was typed; the nodes remember it."""
        p = self._parameterNode
        if p is None or self._filling or p.cohortFromManifest:
            return
        volumeID = self.ui.cohortTable.item(item.row(), NAME_COLUMN).data(qt.Qt.UserRole)
        if item.column() == SITE_COLUMN:
            sceneScans.setSite(slicer.mrmlScene.GetNodeByID(volumeID), item.text())
            self.refresh(self._modality, self._missing)
        elif item.column() == NAME_COLUMN:
            others = [other for other in p.cohortLeftOut if other != volumeID]
            p.cohortLeftOut = others if item.checkState() == qt.Qt.Checked else [*others, volumeID]

    # ---------------------------------------------------------------- the table

    def _showTable(self) -> None:
        """A row for each scan: what it is called, its segmentation, its site, and how the last run ended for it."""
        p, table, verdicts = self._parameterNode, self.ui.cohortTable, self._verdicts()
        rows = self._rowsOfManifest() if p.cohortFromManifest else self._rowsOfScene()
        table.setRowCount(len(rows))
        for row, (name, volumeID, segmentation, site, key) in enumerate(rows):
            verdict = verdicts.get(key, {})
            texts = (name, segmentation, site, verdict.get("status", ""))
            for column, text in enumerate(texts):
                item = self._item(row, column)
                item.setText(text)
                item.setToolTip(verdict.get("reasons", "") if column == VERDICT_COLUMN else text)
            editable = qt.Qt.ItemIsEnabled | qt.Qt.ItemIsEditable
            self._item(row, SITE_COLUMN).setFlags(editable if volumeID else qt.Qt.ItemIsEnabled)
            item = self._item(row, NAME_COLUMN)
            item.setData(qt.Qt.UserRole, volumeID)
            checkable = qt.Qt.ItemIsUserCheckable if volumeID else qt.Qt.NoItemFlags
            item.setFlags(qt.Qt.ItemIsEnabled | checkable)
            if volumeID:
                item.setCheckState(qt.Qt.Unchecked if volumeID in p.cohortLeftOut else qt.Qt.Checked)
            else:
                item.setData(qt.Qt.CheckStateRole, None)
        rowsAndHeader = 1 + min(max(len(rows), 1), ROWS_SHOWN)
        table.setFixedHeight(ROW_HEIGHT * rowsAndHeader + 2 * table.frameWidth)

    def _rowsOfScene(self) -> list[tuple[str, str, str, str, str]]:
        """(name, volume ID, segmentation, site, key of the case that it was)"""
        volumes = self._volumes()
        segmentations = [sceneScans.segmentationOf(volume) for volume in volumes]
        return [
            (
                volume.GetName(),
                volume.GetID(),
                segmentation.GetName() if segmentation else "",
                site,
                volume.GetAttribute(cohortResults.CASE_ATTRIBUTE) or "",
            )
            for volume, segmentation, site in zip(
                volumes, segmentations, sceneScans.sites(volumes, self._modality), strict=True
            )
        ]

    def _rowsOfManifest(self) -> list[tuple[str, str, str, str, str]]:
        """(case, "", segmentation, site, key)"""
        return [
            (
                entry.case,
                "",
                ", ".join(path.name for path in entry.segmentation),
                entry.site or _("by its tags"),
                cohortResults.caseKey(self._folder(), entry.case),
            )
            for entry in self._manifestEntries()
        ]

    def _item(self, row: int, column: int):
        """The cell, made where there is none; cells stay, since one may just be telling that it was ticked."""
        item = self.ui.cohortTable.item(row, column)
        if item is None:
            item = qt.QTableWidgetItem()
            item.setFlags(qt.Qt.ItemIsEnabled)
            self.ui.cohortTable.setItem(row, column, item)
        return item

    # ---------------------------------------------------------------- the run

    def _onRun(self, checked=None) -> None:
        """Run; while it runs the same button stops."""
        if self._follower.run is not None:
            self.ui.cohortRunButton.enabled = False
            self._follower.stop(_("Stopping; what is done is kept"))
        else:
            self._wanted = True
            self._follower.start(self._start, _("The cohort was not harmonized."))

    def _onEnded(self, run: CohortRun) -> str:
        """The results come into the scene, unless the scene has been closed meanwhile."""
        if not self._wanted:
            return _STOPPED
        result = run.result()
        self._show((*result.charts, result.casesTable)[0])
        return _("Done; the report and all files are in the output folder.")

    def _onRunning(self, running: bool) -> None:
        ui = self.ui
        for widget in (
            ui.cohortSourceCombo, ui.cohortManifestEdit, ui.cohortTable, ui.cohortKeepEdit, ui.cohortFolderEdit,
            ui.cohortProcessesSpinBox,
        ):  # fmt: skip
            widget.enabled = not running
        ui.cohortRunButton.text = _("Stop") if running else _("Run cohort")
        ui.cohortRunButton.toolTip = _("Stop; what is done is kept, and the next run continues")
        ui.cohortRunButton.enabled = running
        self.refresh(self._modality, self._missing)

    # ---------------------------------------------------------------- the results

    def _folder(self) -> Path:
        return Path(self._parameterNode.cohortFolder).absolute() / cohortFiles.RESULTS

    def _nodes(self) -> list:
        """What there is to look at, plots first."""
        if not self._parameterNode.cohortFolder:
            return []
        classes = ("vtkMRMLPlotChartNode", "vtkMRMLTableNode")
        return [node for name in classes for node in cohortResults.nodesOf(self._folder(), name)]

    def _verdicts(self) -> dict[str, dict[str, str]]:
        """How each case of the last run in the chosen folder ended, as far as it is in the scene."""
        return cohortResults.verdicts(self._folder()) if self._parameterNode.cohortFolder else {}

    def _showResult(self) -> None:
        ui, nodes, rows = self.ui, self._nodes(), self._verdicts().values()
        statuses = [row["status"] for row in rows]
        counts = [f"{statuses.count(status)} {status}" for status in cohortResults.STATUSES if status in statuses]
        text = _("{count} scans: {counts}").format(count=len(rows), counts=", ".join(counts))
        notes = cohortResults.notes(self._folder()) if rows else []
        more = "".join(f"<br>• {html.escape(note)}" for note in notes)
        ui.cohortResultLabel.text = f"<b>{html.escape(text)}</b>{more}"
        for widget in (ui.cohortResultLabel, ui.cohortShowLabel, ui.cohortShowCombo, ui.cohortReportButton):
            widget.setVisible(bool(rows))
        combo, entries = ui.cohortShowCombo, [(node.GetName(), node.GetID()) for node in nodes]
        if [(combo.itemText(i), combo.itemData(i)) for i in range(combo.count)] != entries:
            combo.clear()
            for name, nodeID in entries:
                combo.addItem(name, nodeID)
        ui.cohortReportButton.enabled = bool(rows) and (self._folder() / REPORT).is_file()

    def _onShow(self, index=None) -> None:
        with slicer.util.tryWithErrorDisplay(_("The result could not be shown.")):
            self._show(slicer.mrmlScene.GetNodeByID(self.ui.cohortShowCombo.currentData))

    @staticmethod
    def _show(node) -> None:
        (display.showChart if node.IsA("vtkMRMLPlotChartNode") else display.showTable)(node)

    def _onReport(self, checked=None) -> None:
        qt.QDesktopServices.openUrl(qt.QUrl.fromLocalFile(str(self._folder() / REPORT)))
