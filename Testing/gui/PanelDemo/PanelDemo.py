"""A small scripted module with every widget and field type that the harness knows; it runs in Slicer as well."""

import enum
import pathlib
from typing import Annotated

import numpy as np
import qt
import slicer
import vtk
from slicer import vtkMRMLScalarVolumeNode, vtkMRMLSegmentationNode, vtkMRMLTableNode
from slicer.i18n import tr as _
from slicer.parameterNodeWrapper import WithinRange, parameterNodeWrapper
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleLogic,
    ScriptedLoadableModuleTest,
    ScriptedLoadableModuleWidget,
)
from slicer.util import VTKObservationMixin


class Kernel(enum.Enum):
    SMOOTH = "Smooth"
    SHARP = "Sharp"

    def label(self):
        return self.value


class PanelDemo(ScriptedLoadableModule):
    def __init__(self, parent):
        ScriptedLoadableModule.__init__(self, parent)
        parent.title = _("Panel demo")
        parent.categories = ["Examples"]
        parent.contributors = ["SlicerHarmonize"]
        slicer.app.connect("startupCompleted()", registerSampleData)


def registerSampleData():
    import SampleData

    SampleData.SampleDataLogic.registerCustomSampleDataCategory("Demo", title=_("Demo"))
    SampleData.SampleDataLogic.registerCustomSampleDataSource(
        category="Demo", sampleName="DemoRamp", uris="made on the spot", customDownloader=makeRamp
    )


def makeRamp(source):
    return slicer.util.addVolumeFromArray(np.indices((8, 9, 10)).sum(0).astype(np.float32), name=source.sampleName)


@parameterNodeWrapper
class PanelDemoParameterNode:
    inputVolume: vtkMRMLScalarVolumeNode
    segmentation: vtkMRMLSegmentationNode
    outputVolume: vtkMRMLScalarVolumeNode
    table: vtkMRMLTableNode
    kernel: Kernel = Kernel.SMOOTH
    strength: Annotated[float, WithinRange(0, 1)] = 0.8
    passes: Annotated[int, WithinRange(1, 5)] = 1
    tolerance: float = 0.25
    overwrite: bool = False
    note: str = "demo"
    model: pathlib.Path = pathlib.Path("model.onnx")
    protectedSegments: list[str]
    limit: float | None = None


class PanelDemoWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    def __init__(self, parent=None):
        ScriptedLoadableModuleWidget.__init__(self, parent)
        VTKObservationMixin.__init__(self)
        self.logic = self._parameterNode = self._guiTag = None

    def setup(self):
        ScriptedLoadableModuleWidget.setup(self)
        panel = slicer.util.loadUI(self.resourcePath("UI/PanelDemo.ui"))
        self.layout.addWidget(panel)
        self.ui = slicer.util.childWidgetVariables(panel)
        panel.setMRMLScene(slicer.mrmlScene)
        self.logic = PanelDemoLogic()
        self.ui.applyButton.connect("clicked(bool)", self.onApply)
        self.ui.compareButton.connect("clicked(bool)", self.onCompare)
        self.ui.segmentationSelector.connect("currentNodeChanged(vtkMRMLNode*)", self.onSegmentation)
        self.ui.protectedSelector.connect("checkedIndexesChanged()", self.onProtected)
        self.ui.progressBar.hide()
        self.initializeParameterNode()

    def cleanup(self):
        self.exit()  # else a reload leaves the old panel's widgets tied to the parameter node
        self.removeObservers()

    def enter(self):
        self.initializeParameterNode()

    def exit(self):
        if self._parameterNode:
            self._parameterNode.disconnectGui(self._guiTag)
            self.removeObserver(self._parameterNode, vtk.vtkCommand.ModifiedEvent, self.checkCanApply)
            self._parameterNode = None

    def initializeParameterNode(self):
        self.exit()
        self._parameterNode = self.logic.getParameterNode()
        self._guiTag = self._parameterNode.connectGui(self.ui)
        self.addObserver(self._parameterNode, vtk.vtkCommand.ModifiedEvent, self.checkCanApply)
        self.checkCanApply()

    def onSegmentation(self, node):
        self.ui.segmentsTable.setSegmentationNode(node)
        self.ui.protectedSelector.clear()
        for segmentID in node.GetSegmentation().GetSegmentIDs() if node else ():
            self.ui.protectedSelector.addItem(node.GetSegmentation().GetSegment(segmentID).GetName(), segmentID)

    def onProtected(self):
        rows = [index.row() for index in self.ui.protectedSelector.checkedIndexes()]
        self._parameterNode.protectedSegments = [self.ui.protectedSelector.itemData(row) for row in rows]

    def checkCanApply(self, caller=None, event=None):
        ready = bool(self._parameterNode and self._parameterNode.inputVolume and self._parameterNode.outputVolume)
        self.ui.applyButton.enabled = ready
        self.ui.applyButton.toolTip = _("Smooth the volume") if ready else _("Select an input and an output volume")

    def onApply(self):
        parameters = self._parameterNode
        with slicer.util.tryWithErrorDisplay(_("The volume was not smoothed."), waitCursor=True):
            self.ui.progressBar.show()
            rows = self.logic.process(
                parameters.inputVolume, parameters.outputVolume, parameters.strength, self.onProgress
            )
            self.ui.resultTable.setRowCount(len(rows))
            for row, texts in enumerate(rows):
                for column, text in enumerate(texts):
                    self.ui.resultTable.setItem(row, column, qt.QTableWidgetItem(text))
            self.logic.fillTable(parameters.table, rows)
            self.ui.tableView.setMRMLTableNode(parameters.table)
            self.ui.verdict.setHtml("<b>" + _("Done") + "</b>")

    def onProgress(self, fraction):
        self.ui.progressBar.value = int(100 * fraction)
        slicer.app.processEvents()

    def onCompare(self):
        manager = slicer.app.layoutManager()
        manager.setLayout(slicer.vtkMRMLLayoutNode.SlicerLayoutSideBySideView)
        for name, node in (("Red", self._parameterNode.inputVolume), ("Yellow", self._parameterNode.outputVolume)):
            manager.sliceWidget(name).sliceLogic().GetSliceCompositeNode().SetBackgroundVolumeID(node.GetID())


class PanelDemoLogic(ScriptedLoadableModuleLogic):
    def getParameterNode(self):
        return PanelDemoParameterNode(super().getParameterNode())

    def process(self, inputVolume, outputVolume, strength, progress=lambda fraction: None):
        before = slicer.util.arrayFromVolume(inputVolume).astype(np.float32)
        if before.min() == before.max():
            raise ValueError(_("The volume is constant."))
        progress(0.5)
        after = before * (1 - strength) + strength * (np.roll(before, 1, 2) + np.roll(before, -1, 2)) / 2
        slicer.util.updateVolumeFromArray(outputVolume, after)
        outputVolume.CopyOrientation(inputVolume)
        outputVolume.CreateDefaultDisplayNodes()
        progress(1)
        return [(name, f"{f(before):.2f}", f"{f(after):.2f}") for name, f in (("Mean", np.mean), ("Deviation", np.std))]

    def fillTable(self, tableNode, rows):
        if tableNode is None:
            return
        slicer.util.updateTableFromArray(
            tableNode, [np.array([float(row[i]) for row in rows]) for i in (1, 2)], ["Before", "After"]
        )


class PanelDemoTest(ScriptedLoadableModuleTest):
    pass
