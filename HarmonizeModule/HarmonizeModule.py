import logging
import tempfile
import time

import slicer
import vtk
from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleTest,
    ScriptedLoadableModuleWidget,
)
from slicer.util import VTKObservationMixin

from HarmonizeModuleLib import scene
from HarmonizeModuleLib.attributionPanel import AttributionPanel
from HarmonizeModuleLib.cohortPanel import CohortPanel
from HarmonizeModuleLib.featureTables import restoreExactValues
from HarmonizeModuleLib.inputsPanel import InputsPanel
from HarmonizeModuleLib.logic import HarmonizeModuleLogic
from HarmonizeModuleLib.methodPanel import MethodPanel
from HarmonizeModuleLib.resultsPanel import ResultsPanel
from HarmonizeModuleLib.sampleData import registerSampleData
from HarmonizeModuleLib.trainingPanel import TrainingPanel

from HarmonizeExtension.errors import Cancelled, HarmonizeError, RefusedError
from HarmonizeExtension.radiomics.settings import Settings


class HarmonizeModule(ScriptedLoadableModule):
    """The module's entry in Slicer's menu."""

    def __init__(self, parent):
        ScriptedLoadableModule.__init__(self, parent)
        self.parent.title = _("Harmonize")
        self.parent.categories = [translate("qSlicerAbstractCoreModule", "Radiotherapy")]
        self.parent.dependencies = []
        self.parent.contributors = ["The Harmonize developers"]
        self.parent.helpText = _(
            "Harmonizes MR, CT and PET scans from different scanners, protocols and kernels, regards their "
            "segmentation, checks each result and measures radiomics before and after. For research; "
            "not for dose calculation."
        )
        self.parent.acknowledgementText = _("Each method names its paper in the panel.")
        slicer.app.connect("startupCompleted()", onStartup)


def onStartup():
    """What the module offers to the rest of Slicer, once all modules are there."""
    registerSampleData()
    registerSegmentStatisticsPlugin()
    # Table files keep six digits: take the exact values from the text nodes that are saved with them.
    slicer.mrmlScene.AddObserver(slicer.mrmlScene.EndImportEvent, lambda caller, event: restoreExactValues())


def registerSegmentStatisticsPlugin():
    """The features in Segment Statistics, unless that module is switched off."""
    try:
        from SegmentStatistics import SegmentStatisticsLogic
    except ImportError:
        return
    from HarmonizeModuleLib.segmentStatisticsPlugin import HarmonizeRadiomicsPlugin

    SegmentStatisticsLogic.registerPlugin(HarmonizeRadiomicsPlugin())


class HarmonizeModuleWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    """The panel: sections that keep themselves, and Apply."""

    def __init__(self, parent=None):
        ScriptedLoadableModuleWidget.__init__(self, parent)
        VTKObservationMixin.__init__(self)
        self.logic = None
        self._parameterNode = None
        self._parameterNodeGuiTag = None
        self._running = False
        self._cancelRequested = False
        self._lastEvents = 0.0

    def setup(self):
        """Called when the user opens the module for the first time."""
        ScriptedLoadableModuleWidget.setup(self)
        uiWidget = slicer.util.loadUI(self.resourcePath("UI/HarmonizeModule.ui"))
        self.layout.addWidget(uiWidget)
        self.ui = slicer.util.childWidgetVariables(uiWidget)
        uiWidget.setMRMLScene(slicer.mrmlScene)
        self.logic = HarmonizeModuleLogic()
        self.inputs, self.method, self.results = InputsPanel(self.ui), MethodPanel(self.ui), ResultsPanel(self.ui)
        self.cohort = CohortPanel(self.ui, self._startCohort)
        self.attribution = AttributionPanel(self.ui, self._startAttribution)
        self.training = TrainingPanel(self.ui, self.logic.startTraining)
        self.ui.settingsCombo.addItem(_("those of the modality"), "")
        for name in Settings.names():
            self.ui.settingsCombo.addItem(name, name)
        self.ui.progressBar.setVisible(False)
        self._say("")
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.StartCloseEvent, self.onSceneStartClose)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.EndBatchProcessEvent, self.onSceneEndBatchProcess)
        self.ui.applyButton.connect("clicked(bool)", self.onApplyButton)
        self.ui.mapsButton.connect("clicked(bool)", self.onMapsButton)
        self.ui.settingsCombo.connect("currentIndexChanged(int)", self.onSettings)
        self.initializeParameterNode()

    def cleanup(self):
        """Called when the application closes."""
        self._cancelRequested = True
        self.setParameterNode(None)
        self.removeObservers()
        self.inputs.removeObservers()
        self.cohort.cleanup()
        self.attribution.cleanup()
        self.training.cleanup()

    def enter(self):
        """Called each time the user opens the module."""
        self.initializeParameterNode()

    def exit(self):
        """Called each time the user opens another module."""
        self._disconnect()

    def onReload(self):
        """Developer's reload: the library and the engine are read again too."""
        import sys

        for name in [n for n in sys.modules if n.split(".")[0] in ("HarmonizeModuleLib", "HarmonizeExtension")]:
            del sys.modules[name]
        super().onReload()

    def onSceneStartClose(self, caller, event):
        """The nodes of a running job are about to go: stop it, and let go of the parameter node."""
        self._cancelRequested = True
        self.setParameterNode(None)
        self.results.clear()

    def onSceneEndBatchProcess(self, caller, event):
        """The scene was closed or read from a file, and every widget knows it: show its parameter node."""
        if self.parent.isEntered:
            self.initializeParameterNode()

    def initializeParameterNode(self):
        """The scene's parameter node, with the first scan selected to save a click."""
        self.setParameterNode(self.logic.getParameterNode())
        if not self._parameterNode.inputVolume:
            first = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLScalarVolumeNode")
            if first is not None and not first.IsA("vtkMRMLLabelMapVolumeNode"):
                self._parameterNode.inputVolume = first
        if self.results.empty:
            self.results.restore(self._parameterNode.outputVolume, self._parameterNode.featureTable)

    def setParameterNode(self, parameterNode):
        """Show and observe a parameter node; None when the scene closes."""
        self._disconnect()
        self._parameterNode = parameterNode
        if parameterNode:
            self._parameterNodeGuiTag = parameterNode.connectGui(self.ui)
            self.addObserver(parameterNode, vtk.vtkCommand.ModifiedEvent, self._onParameters)
        self.inputs.setParameterNode(parameterNode)
        self.method.setParameterNode(parameterNode)
        self.cohort.setParameterNode(parameterNode)
        self.attribution.setParameterNode(parameterNode)
        self.training.setParameterNode(parameterNode)
        self._onParameters()

    def _disconnect(self):
        if self._parameterNodeGuiTag is not None:
            self._parameterNode.disconnectGui(self._parameterNodeGuiTag)
            self._parameterNodeGuiTag = None
            self.removeObserver(self._parameterNode, vtk.vtkCommand.ModifiedEvent, self._onParameters)

    def onSettings(self, index=None):
        """The radiomics settings were chosen."""
        if self._parameterNode and not self._running:
            self._parameterNode.settings = self.ui.settingsCombo.currentData

    def _onParameters(self, caller=None, event=None):
        p = self._parameterNode
        if self._running or slicer.mrmlScene.IsBatchProcessing():
            return
        if p is None:
            self.ui.applyButton.enabled = False
            self.ui.applyButton.toolTip = _("The scene is closed")
            return
        self.inputs.refresh()
        self.method.refresh(self.inputs.modality())
        self.ui.settingsCombo.currentIndex = max(self.ui.settingsCombo.findData(p.settings), 0)
        self.cohort.refresh(self.inputs.modality(), self.method.missing())
        self.attribution.refresh(self.inputs.modality())
        self.training.refresh(self.inputs.modality())
        reason = self._whyNot()
        self.ui.applyButton.enabled = not reason
        self.ui.applyButton.toolTip = reason or _("Harmonize the scan, check the result, measure before and after")
        self.ui.mapsButton.enabled = not self._noScan()

    def _noScan(self) -> str:
        """Why nothing can be done yet, as a sentence; empty when there is a scan."""
        if self._parameterNode.inputVolume is None:
            return _("Choose a scan to harmonize")
        return "" if self.inputs.modality() else _("Choose the modality; the scan does not say it")

    def _whyNot(self) -> str:
        """Why Apply is off, as a sentence; empty when everything is chosen."""
        p = self._parameterNode
        if self._noScan():
            return self._noScan()
        if p.outputVolume is not None and p.outputVolume is p.inputVolume:
            return _("The result would overwrite the scan; choose another output")
        if p.outputVolume is not None and p.outputVolume is self.method.target():
            return _("The result would overwrite the reference scan; choose another output")
        return self.method.missing(p.inputVolume)

    def onApplyButton(self):
        """Apply; while it runs the same button cancels."""
        if self._running:
            self._cancelRequested = True
            self.ui.applyButton.enabled = False
            return
        self.results.clear()
        self._work(self._apply, _("The scan was not harmonized."))

    def onMapsButton(self):
        """T1 and M0 maps of the scan; Apply cancels meanwhile."""
        self._work(self._maps, _("The maps were not written."))

    def _work(self, work, failure):
        """Do something that takes a while and gives its outcome in words."""
        self._setRunning(True)
        outcome = ""
        try:
            with slicer.util.tryWithErrorDisplay(failure):
                outcome = work()
        finally:
            self._setRunning(False)
            self._say(outcome)

    def _apply(self) -> str:
        """Run the logic and show what comes of it; returns the outcome in words."""
        p = self._parameterNode
        inputVolume = p.inputVolume
        try:
            result = self.logic.process(
                inputVolume,
                p.segmentation,
                outputVolume=p.outputVolume,
                featureTable=p.featureTable,
                protectedSegments=list(p.protectedSegments),
                referenceSegment=p.referenceSegment or None,
                measuredSegments=list(p.measuredSegments),
                modality=p.modality,
                **self._recipe(),
                progress=self._onProgress,
                cancelled=lambda: self._cancelRequested,
            )
        except Cancelled:
            return _("Cancelled; nothing was written.")
        except RefusedError as refused:
            self.results.show(refused.verdict, None, inputVolume, None, None)
            return _("Refused; nothing was written.")
        p.outputVolume, p.featureTable = result.outputVolume, result.featureTable
        self.results.show(result.verdict, result.case.features, inputVolume, result.outputVolume, result.featureTable)
        slicer.util.setSliceViewerLayers(background=result.outputVolume)
        return _("Done: {name}").format(name=result.outputVolume.GetName())

    def _maps(self) -> str:
        """Run the logic and show the maps; returns the outcome in words."""
        p = self._parameterNode
        try:
            maps = self.logic.writeMaps(
                p.inputVolume,
                p.segmentation,
                p.referenceSegment or None,
                p.modality,
                *self.method.sourceAndModel(),
                progress=self._onProgress,
                cancelled=lambda: self._cancelRequested,
            )
        except Cancelled:
            return _("Cancelled; nothing was written.")
        slicer.util.setSliceViewerLayers(background=maps[0])
        return _("Done: {names}").format(names=_(" and ").join(node.GetName() for node in maps))

    def _recipe(self) -> dict:
        """What is done to a scan, alike for one and for a cohort."""
        p = self._parameterNode
        return {
            "method": p.method,
            "target": self.method.target(),
            "targetSegmentation": p.targetSegmentation,
            "biasCorrection": p.biasCorrection and not self.ui.biasCheckBox.isHidden(),
            "commonSpacing": p.commonSpacing,
            "settings": p.settings or None,
            "insist": p.insist,
        }

    def _startCohort(self):
        """The run of the cohort that is chosen; structures have their roles by name there."""
        p = self._parameterNode
        names = scene.segmentNames(p.segmentation)
        measured = [names[s] for s in p.measuredSegments if s in names]
        return self.logic.startCohort(
            p.cohortFolder,
            protectedSegments=[names[s] for s in p.protectedSegments if s in names],
            referenceSegment=names.get(p.referenceSegment),
            # Where all are measured, those of the other scans are as well, whatever they are called.
            measuredSegments=measured if len(measured) < len(names) else (),
            processes=p.cohortProcesses,
            **self.cohort.source(),
            **self._recipe(),
        )

    def _startAttribution(self, options):
        """The run that answers a question about the scan, and its result where there is one."""
        p = self._parameterNode
        return self.logic.startAttribution(p.inputVolume, options, p.outputVolume, p.segmentation, p.modality)

    def _onProgress(self, fraction, text):
        self.ui.progressBar.value = int(100 * fraction)
        self._say(text)
        # Lets Cancel be clicked and the window repaint, at most ten times a second.
        if time.monotonic() - self._lastEvents > 0.1:
            slicer.app.processEvents()
            self._lastEvents = time.monotonic()

    def _say(self, text):
        """A line under the button; no line where there is nothing to say."""
        self.ui.progressLabel.text = text
        self.ui.progressLabel.setVisible(bool(text))

    def _setRunning(self, running):
        self._running, self._cancelRequested = running, False
        for section in (self.ui.inputsSection, self.ui.methodSection, self.ui.outputsSection, self.ui.resultsSection):
            section.enabled = not running
        self.ui.applyButton.text = _("Cancel") if running else _("Apply")
        self.ui.applyButton.toolTip = _("Stop; nothing is written")
        self.ui.applyButton.enabled = True
        self.ui.progressBar.setVisible(running)
        if running:
            self.ui.progressBar.value = 0
            self._say("")
        else:
            self._onParameters()


class HarmonizeModuleTest(ScriptedLoadableModuleTest):
    """Run in Slicer by the developer's Reload and Test, and by ctest."""

    def setUp(self):
        """An empty scene."""
        slicer.mrmlScene.Clear()

    def runTest(self):
        """Every test, one after the other."""
        for test in (self.test_sampleCase, self.test_cohort):
            self.setUp()
            test()

    def test_sampleCase(self):
        """The three-scanner case is made, harmonized, guarded and measured, and a bad request is refused in words."""
        from HarmonizeModuleLib.sampleData import makeThreeScannerCase

        self.delayDisplay("Making the three-scanner case")
        volumes, segmentations = makeThreeScannerCase(spacing=2.0)
        result = HarmonizeModuleLogic().process(
            volumes[1],
            segmentations[1],
            method="histogram-matching",
            target=volumes[0],
            protectedSegments=["lesion"],
        )
        before, after = (slicer.util.arrayFromVolume(v) for v in (volumes[1], result.outputVolume))
        self.assertEqual(before.shape, after.shape)
        self.assertNotEqual(result.verdict.status.value, "refuse")
        self.assertGreater(result.featureTable.GetNumberOfRows(), 0)
        with self.assertRaises(HarmonizeError):
            HarmonizeModuleLogic().process(volumes[1], modality="CT", method="whitestripe")
        logging.info("verdict: %s", result.verdict.status.value)
        self.delayDisplay("Test passed")

    def test_cohort(self):
        """A cohort runs in a process of its own, can be stopped, continues, and comes back into the scene."""
        from HarmonizeModuleLib.sampleData import makeThreeScannerCase

        self.delayDisplay("Running a cohort")
        makeThreeScannerCase(spacing=3.0)
        logic, told = HarmonizeModuleLogic(), []
        with tempfile.TemporaryDirectory() as folder:
            choices = {"outputFolder": folder, "method": "whitestripe", "measuredSegments": ["lesion"]}
            with self.assertRaises(Cancelled):
                logic.runCohort(
                    **choices,
                    progress=lambda fraction, text: told.append(fraction),
                    cancelled=lambda: told[-1] > 0.1,
                )
            result = logic.runCohort(**choices)
            self.assertTrue(result.report.is_file())
        self.assertEqual(result.counts()["failed"], 0)
        self.assertEqual(len(result.volumes), 3)
        self.assertEqual(result.casesTable.GetNumberOfRows(), 3)
        logging.info("cohort: %s", result.counts())
        self.delayDisplay("Test passed")
