"""The inputs section: scan, modality, and what each structure is for."""

import qt
import slicer
from slicer.i18n import tr as _
from slicer.util import VTKObservationMixin

from HarmonizeExtension.errors import InputError
from HarmonizeExtension.scan import Modality

from . import scene
from .sceneScans import drawnOn, segmentationOf

NAME_COLUMN, REFERENCE_COLUMN, PROTECTED_COLUMN, MEASURED_COLUMN = range(4)

# Segments that hold disease by their name (TG-263 targets and everyday words) are protected in MR unless the user says
# no. In CT and PET their values mean something (HU, SUVmax) and would no longer compare with the rest of the image.
TARGET_WORDS = ("gtv", "ctv", "itv", "ptv", "tumor", "tumour", "lesion", "metastas")

ROW_HEIGHT, ROWS_SHOWN = 24, 8  # beyond that many the table scrolls


def isTarget(name: str) -> bool:
    """Whether a segment holds disease, by its name."""
    return any(word in name.lower() for word in TARGET_WORDS)


class InputsPanel(VTKObservationMixin):
    """Keeps the structure table and the modality box in step with the parameter node."""

    def __init__(self, ui):
        VTKObservationMixin.__init__(self)
        self.ui = ui
        self._parameterNode = None
        self._inputVolume = None
        self._segmentation = None
        self._names = {}  # of the segments that were given their roles, by ID
        self._filling = False
        ui.modalityCombo.addItem(_("from the scan"), "")
        for modality in Modality:
            ui.modalityCombo.addItem(modality.value, modality.value)
        header = ui.structureTable.horizontalHeader()
        header.setSectionResizeMode(NAME_COLUMN, qt.QHeaderView.Stretch)
        for column in (REFERENCE_COLUMN, PROTECTED_COLUMN, MEASURED_COLUMN):
            header.setSectionResizeMode(column, qt.QHeaderView.ResizeToContents)
        header.setFixedHeight(ROW_HEIGHT)
        ui.structureTable.verticalHeader().hide()
        ui.structureTable.verticalHeader().setDefaultSectionSize(ROW_HEIGHT)
        ui.modalityCombo.connect("currentIndexChanged(int)", self._onModality)
        ui.structureTable.connect("itemChanged(QTableWidgetItem*)", self._onItemChanged)

    def setParameterNode(self, parameterNode) -> None:
        """The parameter node to show, with the roles it has; None when the scene closes."""
        self._parameterNode = p = parameterNode
        self._inputVolume = p.inputVolume if p else None
        segmentation = p.segmentation if p else None
        if segmentation is not self._segmentation:
            names = scene.segmentNames(segmentation)
            chosen = {*p.measuredSegments, *p.protectedSegments, p.referenceSegment} if p else set()
            self._observe(segmentation, names if chosen & set(names) else {})
        self.refresh()

    def refresh(self) -> None:
        """Show what the parameter node says."""
        p = self._parameterNode
        if p is None:
            self._showTableOf({})
            return
        if p.inputVolume is not self._inputVolume:
            self._onInputVolume(p)
        if p.segmentation is not self._segmentation:
            with slicer.util.NodeModify(p):
                self._write(p, [], [], "")
                self._observe(p.segmentation, {})
        self._filling = True
        said = self._modalityOfScan(p)
        self.ui.modalityCombo.setItemText(0, _("from the scan ({modality})").format(modality=said or _("not said")))
        self.ui.modalityCombo.currentIndex = max(self.ui.modalityCombo.findData(p.modality), 0)
        self._showTableOf(scene.segmentNames(self._segmentation))
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

    def _onInputVolume(self, p) -> None:
        """Another scan: its own segmentation goes with it, and the result of the scan before is not overwritten."""
        self._inputVolume = p.inputVolume
        if p.outputVolume is not None and _madeFromAnother(p.outputVolume, p.inputVolume):
            p.outputVolume = None
        if p.featureTable is not None and _madeFromAnother(p.featureTable, p.inputVolume):
            p.featureTable = None
        if p.inputVolume is not None and (
            p.segmentation is None or drawnOn(p.segmentation) not in (None, p.inputVolume)
        ):
            p.segmentation = segmentationOf(p.inputVolume)

    def _observe(self, segmentation, names: dict[str, str]) -> None:
        """Follow a segmentation of which the segments `names` have their roles already."""
        self.removeObservers()
        self._segmentation, self._names = segmentation, names
        if segmentation is None:
            return
        events = slicer.vtkSegmentation
        for event in (events.SegmentAdded, events.SegmentRemoved, events.SegmentModified):
            self.addObserver(segmentation.GetSegmentation(), event, self._onSegments)
        self._onSegments()

    def _onSegments(self, caller=None, event=None) -> None:
        """Give segments that are new or renamed their usual roles, and drop those that are gone."""
        p, names = self._parameterNode, scene.segmentNames(self._segmentation)
        if p is None or names == self._names:
            return  # such as each stroke of a brush
        new = [s for s in names if s not in self._names]
        renamed = [s for s, name in names.items() if self._names.get(s) != name]
        self._names = names
        protected = [s for s in renamed if isTarget(names[s])] if self.modality() is Modality.MR else []
        self._write(
            p,
            [s for s in names if s in p.measuredSegments or s in new],
            [s for s in names if s in p.protectedSegments or s in protected],
            p.referenceSegment if p.referenceSegment in names else "",
        )
        self.refresh()

    def _showTableOf(self, names: dict[str, str]) -> None:
        p, table = self._parameterNode, self.ui.structureTable
        table.setRowCount(len(names))
        for row, (segmentID, name) in enumerate(names.items()):
            self._item(row, NAME_COLUMN).setText(name)
            self._item(row, NAME_COLUMN).setToolTip(name)
            self._item(row, NAME_COLUMN).setData(qt.Qt.UserRole, segmentID)
            for column, checked in (
                (REFERENCE_COLUMN, segmentID == p.referenceSegment),
                (PROTECTED_COLUMN, segmentID in p.protectedSegments),
                (MEASURED_COLUMN, segmentID in p.measuredSegments),
            ):
                self._item(row, column).setCheckState(qt.Qt.Checked if checked else qt.Qt.Unchecked)
        rowsAndHeader = 1 + min(max(len(names), 1), ROWS_SHOWN)
        table.setFixedHeight(ROW_HEIGHT * rowsAndHeader + 2 * table.frameWidth)

    def _item(self, row: int, column: int):
        """The cell, made where there is none; cells stay, since one may just be telling that it was ticked."""
        item = self.ui.structureTable.item(row, column)
        if item is None:
            item = qt.QTableWidgetItem()
            if column != NAME_COLUMN:
                item.setFlags(qt.Qt.ItemIsUserCheckable | qt.Qt.ItemIsEnabled)
            self.ui.structureTable.setItem(row, column, item)
        return item

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
        with slicer.util.NodeModify(p):
            p.measuredSegments = measured
            p.protectedSegments = protected
            p.referenceSegment = reference


def _madeFromAnother(result, inputVolume) -> bool:
    source = result.GetNodeReference(scene.SOURCE_REFERENCE)
    return source is not None and source is not inputVolume
