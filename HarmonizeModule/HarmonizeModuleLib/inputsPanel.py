"""The inputs section: scan, modality, and what each structure is for."""

import qt
import slicer
from slicer.i18n import tr as _
from slicer.util import VTKObservationMixin

from HarmonizeExtension.errors import InputError
from HarmonizeExtension.scan import Modality

from . import scene

NAME_COLUMN, REFERENCE_COLUMN, PROTECTED_COLUMN, MEASURED_COLUMN = range(4)

# Segments that hold disease by their name (TG-263 targets and everyday words) are protected unless the user says no.
TARGET_WORDS = ("gtv", "ctv", "itv", "ptv", "tumor", "tumour", "lesion", "metastas")


class InputsPanel(VTKObservationMixin):
    """Keeps the structure table and the modality box in step with the parameter node."""

    def __init__(self, ui):
        VTKObservationMixin.__init__(self)
        self.ui = ui
        self._parameterNode = None
        self._segmentation = None
        self._filling = False
        ui.modalityCombo.addItem(_("from the scan"), "")
        for modality in Modality:
            ui.modalityCombo.addItem(modality.value, modality.value)
        header = ui.structureTable.horizontalHeader()
        header.setSectionResizeMode(NAME_COLUMN, qt.QHeaderView.Stretch)
        ui.structureTable.verticalHeader().hide()
        ui.structureTable.verticalHeader().setDefaultSectionSize(24)
        ui.modalityCombo.connect("currentIndexChanged(int)", self._onModality)
        ui.structureTable.connect("itemChanged(QTableWidgetItem*)", self._onItemChanged)

    def setParameterNode(self, parameterNode) -> None:
        """The parameter node to show; None when the scene closes."""
        self._parameterNode = parameterNode
        self.refresh()

    def refresh(self) -> None:
        """Show what the parameter node says."""
        p = self._parameterNode
        segmentation = p.segmentation if p else None
        if segmentation is not self._segmentation:
            self._observe(segmentation)
        if p is None:
            self.ui.structureTable.setRowCount(0)
            return
        self._filling = True
        said = self._modalityOfScan(p)
        self.ui.modalityCombo.setItemText(0, _("from the scan ({modality})").format(modality=said or _("not said")))
        self.ui.modalityCombo.currentIndex = max(self.ui.modalityCombo.findData(p.modality), 0)
        self._fillTable(p, scene.segmentNames(segmentation))
        self._filling = False

    def modality(self) -> Modality | None:
        """The modality that is chosen or that the scan says; None where it is not known."""
        p = self._parameterNode
        if p is None or p.inputVolume is None:
            return None
        try:
            return Modality.parse(p.modality or self._modalityOfScan(p))
        except InputError:
            return None

    @staticmethod
    def _modalityOfScan(p) -> str:
        """What the scan itself says, empty where it says nothing."""
        try:
            return scene.modalityOf(p.inputVolume) if p.inputVolume is not None else ""
        except InputError:
            return ""

    def _observe(self, segmentation) -> None:
        self.removeObservers()
        self._segmentation = segmentation
        if segmentation is None:
            return
        events = slicer.vtkSegmentation
        for event in (events.SegmentAdded, events.SegmentRemoved, events.SegmentModified):
            self.addObserver(segmentation.GetSegmentation(), event, lambda caller, what: self._onSegments())
        self._onSegments()

    def _onSegments(self) -> None:
        """Give segments that are new their usual roles and drop those that are gone."""
        p, names = self._parameterNode, scene.segmentNames(self._segmentation)
        if p is None:
            return
        table = self.ui.structureTable
        known = {table.item(row, NAME_COLUMN).data(qt.Qt.UserRole) for row in range(table.rowCount)}
        known |= set(p.measuredSegments) | set(p.protectedSegments)
        new = [segmentID for segmentID in names if segmentID not in known]
        measured = [s for s in p.measuredSegments if s in names] + new
        protected = [s for s in p.protectedSegments if s in names]
        protected += [s for s in new if any(word in names[s].lower() for word in TARGET_WORDS)]
        self._write(p, measured, protected, p.referenceSegment if p.referenceSegment in names else "")
        self.refresh()

    def _fillTable(self, p, names: dict[str, str]) -> None:
        table = self.ui.structureTable
        table.setRowCount(len(names))
        for row, (segmentID, name) in enumerate(names.items()):
            item = qt.QTableWidgetItem(name)
            item.setData(qt.Qt.UserRole, segmentID)
            table.setItem(row, NAME_COLUMN, item)
            for column, checked in (
                (REFERENCE_COLUMN, segmentID == p.referenceSegment),
                (PROTECTED_COLUMN, segmentID in p.protectedSegments),
                (MEASURED_COLUMN, segmentID in p.measuredSegments),
            ):
                box = qt.QTableWidgetItem()
                box.setFlags(qt.Qt.ItemIsUserCheckable | qt.Qt.ItemIsEnabled)
                box.setCheckState(qt.Qt.Checked if checked else qt.Qt.Unchecked)
                table.setItem(row, column, box)

    def _onModality(self, index=None) -> None:
        if self._parameterNode is not None and not self._filling:
            self._parameterNode.modality = self.ui.modalityCombo.currentData

    def _onItemChanged(self, item) -> None:
        p, table = self._parameterNode, self.ui.structureTable
        if p is None or self._filling:
            return
        ids = [table.item(row, NAME_COLUMN).data(qt.Qt.UserRole) for row in range(table.rowCount)]

        def checked(column):
            return [s for row, s in enumerate(ids) if table.item(row, column).checkState() == qt.Qt.Checked]

        reference = checked(REFERENCE_COLUMN)
        if item.column() == REFERENCE_COLUMN and item.checkState() == qt.Qt.Checked:
            reference = [ids[item.row()]]  # the one just ticked takes the place of the other
        self._write(p, checked(MEASURED_COLUMN), checked(PROTECTED_COLUMN), reference[0] if reference else "")
        self.refresh()

    @staticmethod
    def _write(p, measured: list[str], protected: list[str], reference: str) -> None:
        p.measuredSegments = measured
        p.protectedSegments = protected
        p.referenceSegment = reference
