# ruff: noqa: N801 (the names are Slicer's)
"""The few qMRML widgets a panel uses, on a real vtkMRMLScene, with the API of their C++ headers."""

import vtk
from PySide6.QtCore import Property, QAbstractTableModel, QItemSelection, QItemSelectionModel, Qt, Signal, Slot
from PySide6.QtGui import QColor
from PySide6.QtWidgets import (
    QComboBox,
    QHBoxLayout,
    QInputDialog,
    QSizePolicy,
    QTableView,
    QTableWidget,
    QTableWidgetItem,
    QVBoxLayout,
    QWidget,
)


class _Observations(list):
    """VTK observers of a widget; they must go before the widget does."""

    def add(self, obj, event, callback):
        self.append((obj, obj.AddObserver(event, callback)))

    def clear(self):
        for obj, tag in self:
            obj.RemoveObserver(tag)
        super().clear()


class qMRMLWidget(QWidget):
    """A widget that knows the scene."""

    mrmlSceneChanged = Signal(object)

    def __init__(self, parent=None):
        super().__init__(parent)
        self._scene = None

    def mrmlScene(self):
        return self._scene

    @Slot(object)
    def setMRMLScene(self, scene):
        if scene is not self._scene:
            self._scene = scene
            self.mrmlSceneChanged.emit(scene)


class qSlicerWidget(qMRMLWidget):
    pass


def _flag(name):
    """A bool property and its setter; the list of nodes follows."""

    def put(self, value):
        if self._flags[name] != bool(value):
            self._flags[name] = bool(value)
            self._rebuild()

    return Property(bool, lambda self: self._flags[name], put), put


class qMRMLNodeComboBox(QWidget):
    """The scene's nodes of some classes, one of them current; it selects none by itself."""

    currentNodeChanged = Signal((object,), (bool,))
    currentNodeIDChanged = Signal(str)
    currentNodeRenamed = Signal(str)
    nodeAdded = Signal(object)
    nodeAddedByUser = Signal(object)
    nodeAboutToBeRemoved = Signal(object)

    def __init__(self, parent=None):
        super().__init__(parent)
        self._scene, self._currentID, self._updating = None, "", False
        self._types, self._baseName, self._noneDisplay = [], "", "None"
        self._flags = dict.fromkeys(("showHidden", "noneEnabled", "renameEnabled"), False)
        self._flags |= dict.fromkeys(("showChildNodeTypes", "addEnabled", "removeEnabled"), True)
        self._flags["selectNodeUponCreation"] = True
        self._onScene, self._onNodes = _Observations(), _Observations()
        self.destroyed.connect(lambda *_, mine=(self._onScene, self._onNodes): [o.clear() for o in mine])
        self._combo = QComboBox(self)
        self._combo.setSizePolicy(QSizePolicy.Expanding, QSizePolicy.Fixed)
        self._combo.setSizeAdjustPolicy(QComboBox.AdjustToMinimumContentsLengthWithIcon)
        self._combo.activated.connect(self._onActivated)
        self._combo.currentIndexChanged.connect(self._onIndexChanged)
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._combo)
        self.setSizePolicy(QSizePolicy.Expanding, QSizePolicy.Fixed)

    # The scene

    def mrmlScene(self):
        return self._scene

    @Slot(object)
    def setMRMLScene(self, scene):
        if scene is self._scene:
            return
        self._onScene.clear()
        self._scene = scene
        if scene is not None:
            self._onScene.add(scene, scene.NodeAddedEvent, self._onAdded)
            self._onScene.add(scene, scene.NodeAboutToBeRemovedEvent, self._onAboutToBeRemoved)
            for event in (scene.NodeRemovedEvent, scene.EndBatchProcessEvent, scene.EndCloseEvent):
                self._onScene.add(scene, event, lambda *_: self._rebuild())
        self._rebuild()

    @vtk.calldata_type(vtk.VTK_OBJECT)
    def _onAdded(self, caller, event, node):
        if self._accepts(node):
            self._rebuild()
            self.nodeAdded.emit(node)

    @vtk.calldata_type(vtk.VTK_OBJECT)
    def _onAboutToBeRemoved(self, caller, event, node):
        if self._accepts(node):
            self.nodeAboutToBeRemoved.emit(node)

    def _onNodeModified(self, node, event):
        index = self._combo.findData(node.GetID())
        if index >= 0 and self._combo.itemText(index) != node.GetName():
            self._combo.setItemText(index, node.GetName())
            if index == self._combo.currentIndex:
                self.currentNodeRenamed.emit(node.GetName())

    def _accepts(self, node):
        if node is None or (node.GetHideFromEditors() and not self._flags["showHidden"]):
            return False
        return node.GetClassName() in self._types or (
            self._flags["showChildNodeTypes"] and any(node.IsA(kind) for kind in self._types)
        )

    def _nodes(self):
        count = self._scene.GetNumberOfNodes() if self._scene is not None else 0
        return [node for node in map(self._scene.GetNthNode, range(count)) if self._accepts(node)] if count else []

    # The list

    def _rebuild(self):
        if self._scene is not None and self._scene.IsBatchProcessing():
            return
        self._updating = True
        self._onNodes.clear()
        self._combo.clear()
        if self._flags["noneEnabled"]:
            self._combo.addItem(self._noneDisplay, "")
        for node in self._nodes():
            self._combo.addItem(node.GetName() or "", node.GetID())
            self._onNodes.add(node, vtk.vtkCommand.ModifiedEvent, self._onNodeModified)
        index = self._combo.findData(self._currentID)
        if index < 0:
            index = self._combo.findData("")
        actions = [
            (f"{text} {self._typeName()}", action)
            for flag, text, action in (
                ("addEnabled", "Create new", self._addByUser),
                ("renameEnabled", "Rename current", self._renameByUser),
                ("removeEnabled", "Delete current", self.removeCurrentNode),
            )
            if self._flags[flag] and self._scene is not None and self._types
        ]
        if actions:
            self._combo.insertSeparator(self._combo.count)
        for text, action in actions:
            self._combo.addItem(text, action)
        self._combo.setCurrentIndex(index)
        self._updating = False
        self._onIndexChanged()

    def _typeName(self):
        node = self._scene.CreateNodeByClass(self._types[0])
        node.UnRegister(None)
        return node.GetTypeDisplayName()

    def _onIndexChanged(self, *_):
        node = self.currentNode()
        new = node.GetID() if node is not None else ""
        if self._updating or new == self._currentID:
            return
        self._currentID = new
        self.currentNodeChanged.emit(node)
        self.currentNodeChanged[bool].emit(node is not None)
        self.currentNodeIDChanged.emit(new)

    def _onActivated(self, index):
        data = self._combo.itemData(index)
        if callable(data):
            self._combo.setCurrentIndex(self._combo.findData(self._currentID))
            data()

    def _addByUser(self):
        node = self.addNode()
        self.nodeAddedByUser.emit(node)
        if self._flags["selectNodeUponCreation"]:
            self.setCurrentNode(node)

    def _renameByUser(self):
        text, accepted = QInputDialog.getText(self, "Rename", "New name:")
        if accepted and text:
            self.currentNode().SetName(text)

    # What modules call

    def currentNode(self):
        data = self._combo.itemData(self._combo.currentIndex)
        return self._scene.GetNodeByID(data) if self._scene is not None and isinstance(data, str) and data else None

    @Slot(object)
    def setCurrentNode(self, node):
        self.setCurrentNodeID(node if isinstance(node, str) else node.GetID() if node is not None else "")

    @Slot(str)
    def setCurrentNodeID(self, nodeID):
        self._combo.setCurrentIndex(self._combo.findData(nodeID or ""))

    def setCurrentNodeIndex(self, index):
        self.setCurrentNode(self.nodeFromIndex(index))

    def nodeFromIndex(self, index):
        nodes = self._nodes()
        return nodes[index] if 0 <= index < len(nodes) else None

    def nodeCount(self):
        return len(self._nodes())

    def addNode(self, nodeType=None):
        name = self._scene.GenerateUniqueName(self._baseName) if self._baseName else ""
        return self._scene.AddNewNodeByClass(nodeType or self._types[0], name)

    def removeCurrentNode(self):
        if self.currentNode() is not None:
            self._scene.RemoveNode(self.currentNode())

    def setNodeTypes(self, types):
        self._types = list(types)
        self._rebuild()

    def setBaseName(self, name, nodeType=""):
        self._baseName = name

    def setNoneDisplay(self, text):
        self._noneDisplay = text
        self._rebuild()

    nodeTypes = Property("QStringList", lambda self: tuple(self._types), setNodeTypes)
    currentNodeID = Property(str, lambda self: self._currentID, setCurrentNodeID)
    baseName = Property(str, lambda self: self._baseName, setBaseName)
    noneDisplay = Property(str, lambda self: self._noneDisplay, setNoneDisplay)
    showHidden, setShowHidden = _flag("showHidden")
    showChildNodeTypes, setShowChildNodeTypes = _flag("showChildNodeTypes")
    noneEnabled, setNoneEnabled = _flag("noneEnabled")
    addEnabled, setAddEnabled = _flag("addEnabled")
    removeEnabled, setRemoveEnabled = _flag("removeEnabled")
    renameEnabled, setRenameEnabled = _flag("renameEnabled")
    selectNodeUponCreation, setSelectNodeUponCreation = _flag("selectNodeUponCreation")


class _NodeView:
    """What the two tables share: follow one node, and fill again when it changes."""

    def _follow(self, node):
        if not hasattr(self, "_observations"):
            self._observations = _Observations()
            self.destroyed.connect(lambda *_, mine=self._observations: mine.clear())
        self._observations.clear()
        self._node = node
        if node is not None:
            self._observations.add(node, vtk.vtkCommand.ModifiedEvent, lambda *_: self._refill())
        self._refill()


def _columnVisible(column):
    """A bool property of a table."""
    return Property(
        bool,
        lambda self: not self._table.isColumnHidden(column),
        lambda self, visible: self._table.setColumnHidden(column, not visible),
    )


class qMRMLSegmentsTableView(_NodeView, qMRMLWidget):
    """A segmentation's segments: visibility, colour and name."""

    selectionChanged = Signal(QItemSelection, QItemSelection)

    def __init__(self, parent=None):
        super().__init__(parent)
        self._node = None
        self._table = QTableWidget(0, 3, self)
        self._table.setHorizontalHeaderLabels(["", "Color", "Name"])
        self._table.horizontalHeader().setStretchLastSection(True)
        self._table.verticalHeader().hide()
        self._table.setColumnWidth(0, 28)
        self._table.setColumnWidth(1, 48)
        self._table.setSelectionBehavior(QTableWidget.SelectRows)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._table)
        self._table.selectionModel().selectionChanged.connect(self.selectionChanged.emit)

    @Slot(object)
    def setSegmentationNode(self, node):
        self._follow(node)

    def segmentationNode(self):
        return self._node

    def _refill(self):
        ids = self._node.GetSegmentation().GetSegmentIDs() if self._node is not None else ()
        display = self._node.GetDisplayNode() if self._node is not None else None
        self._table.setRowCount(len(ids))
        for row, segmentID in enumerate(ids):
            segment = self._node.GetSegmentation().GetSegment(segmentID)
            visible, color, name = QTableWidgetItem(), QTableWidgetItem(), QTableWidgetItem(segment.GetName())
            shown = display is None or display.GetSegmentVisibility(segmentID)
            visible.setCheckState(Qt.Checked if shown else Qt.Unchecked)
            color.setBackground(QColor.fromRgbF(*segment.GetColor()))
            name.setData(Qt.UserRole, segmentID)
            for column, item in enumerate((visible, color, name)):
                self._table.setItem(row, column, item)

    def segmentIDForRow(self, row):
        return self._table.item(row, 2).data(Qt.UserRole)

    def selectedSegmentIDs(self):
        return tuple(self.segmentIDForRow(index.row()) for index in self._table.selectionModel().selectedRows())

    def setSelectedSegmentIDs(self, segmentIDs):
        model, flags = self._table.selectionModel(), QItemSelectionModel.SelectionFlag
        model.clearSelection()
        for row in range(self._table.rowCount):
            if self.segmentIDForRow(row) in segmentIDs:
                model.select(self._table.model().index(row, 0), flags.Select | flags.Rows)

    def clearSelection(self):
        self._table.clearSelection()

    def setSelectionMode(self, mode):
        self._table.setSelectionMode(QTableWidget.SelectionMode(int(mode)))

    visibilityColumnVisible, colorColumnVisible = _columnVisible(0), _columnVisible(1)
    segmentCount = Property(int, lambda self: self._table.rowCount)
    selectionMode = Property(int, lambda self: int(self._table.selectionMode), setSelectionMode)
    # Columns that this table never has.
    opacityColumnVisible = Property(bool, lambda self: False, lambda self, value: None)
    statusColumnVisible = Property(bool, lambda self: False, lambda self, value: None)


class _TableModel(QAbstractTableModel):
    def __init__(self, node, parent):
        super().__init__(parent)
        self._node = node

    def rowCount(self, parent=None):
        return self._node.GetNumberOfRows()

    def columnCount(self, parent=None):
        return self._node.GetNumberOfColumns()

    def data(self, index, role=Qt.DisplayRole):
        return self._node.GetCellText(index.row(), index.column()) if role == Qt.DisplayRole else None

    def headerData(self, section, orientation, role=Qt.DisplayRole):
        if role != Qt.DisplayRole:
            return None
        return self._node.GetColumnName(section) if orientation == Qt.Horizontal else str(section + 1)


class qMRMLTableView(_NodeView, QTableView):
    """A vtkMRMLTableNode as a table, with its column names as header."""

    mrmlSceneChanged = Signal(object)

    def __init__(self, parent=None):
        super().__init__(parent)
        self._node = None

    @Slot(object)
    def setMRMLScene(self, scene):
        self.mrmlSceneChanged.emit(scene)

    @Slot(object)
    def setMRMLTableNode(self, node):
        self._follow(node)

    def mrmlTableNode(self):
        return self._node

    def _refill(self):
        self.setModel(_TableModel(self._node, self) if self._node is not None else None)


WIDGETS = [value for name, value in list(globals().items()) if name.startswith(("qMRML", "qSlicer"))]
