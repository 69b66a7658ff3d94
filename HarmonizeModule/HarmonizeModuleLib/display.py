"""Looking at a result: side by side, as checkerboard, as difference, in the slice views of the scene."""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk
import slicer
from slicer.i18n import tr as _

from HarmonizeExtension import comparison, images, pictures
from HarmonizeExtension.scan import Modality, Scan

from . import scene


def showSideBySide(inputVolume, outputVolume) -> None:
    """Before in the red view, after in the yellow view, both axial and moving together."""
    layout = slicer.app.layoutManager()
    layout.setLayout(slicer.vtkMRMLLayoutNode.SlicerLayoutSideBySideView)
    for name, volume in (("Red", inputVolume), ("Yellow", outputVolume)):
        _show(name, volume, linked=True)
    before, after = (layout.sliceWidget(name).mrmlSliceNode() for name in ("Red", "Yellow"))
    after.SetOrientationToAxial()
    after.GetSliceToRAS().DeepCopy(before.GetSliceToRAS())
    after.UpdateMatrices()


def showCheckerboard(inputVolume, outputVolume):
    """Squares of before and after in turn, in every slice view; returns the volume that shows them."""
    before, after = _scans(inputVolume, outputVolume)
    volume = _displayVolume(_("checkerboard"), comparison.checkerboard(before, after), inputVolume, outputVolume)
    display = volume.GetScalarVolumeDisplayNode()
    display.AutoWindowLevelOff()
    display.SetWindowLevelMinMax(*comparison.window(after))
    _showEverywhere(volume)
    return volume


def showDifference(inputVolume, outputVolume):
    """After minus before in every slice view, white at zero, red above, blue below; returns the volume shown."""
    before, after = _scans(inputVolume, outputVolume)
    change = comparison.difference(before, after)
    volume = _displayVolume(_("difference"), change, inputVolume, outputVolume)
    low, high = comparison.window(after)
    # Never finer than a hundredth of the window, as in the report, or rounding would fill a picture of nothing.
    limit = max(float(np.percentile(np.abs(change), 99.5)), 0.01 * (high - low))
    display = volume.GetScalarVolumeDisplayNode()
    display.SetAndObserveColorNodeID(_divergingColors().GetID())
    display.AutoWindowLevelOff()
    display.SetWindowLevelMinMax(-limit, limit)
    _showEverywhere(volume)
    return volume


def showTable(tableNode) -> None:
    """The whole table below the slice views."""
    layout = slicer.app.layoutManager()
    layout.setLayout(slicer.modules.tables.logic().GetLayoutWithTable(layout.layout))
    application = slicer.app.applicationLogic()
    application.GetSelectionNode().SetActiveTableID(tableNode.GetID())
    application.PropagateTableSelection()


def showChart(chartNode) -> None:
    """A chart in a plot view, in a layout that has one."""
    slicer.modules.plots.logic().ShowChartInLayout(chartNode)


def _scans(inputVolume, outputVolume) -> tuple[Scan, Scan]:
    """Before and after on the grid of the result, which is not that of the input after resampling."""
    modality = Modality.parse(scene.modalityOf(outputVolume))
    before, after = (scene.imageFromVolume(node) for node in (inputVolume, outputVolume))
    if not images.same_grid(before, after):
        before = images.resample(before, after, outside=float(sitk.GetArrayViewFromImage(before).min()))
    return (
        Scan(before, modality, units=scene.unitsOf(inputVolume, modality), name=inputVolume.GetName()),
        Scan(
            after, modality, units=outputVolume.GetAttribute(scene.UNITS_ATTRIBUTE) or "", name=outputVolume.GetName()
        ),
    )


def _displayVolume(what: str, array: np.ndarray, inputVolume, outputVolume):
    """One volume for each kind of display of a result, made anew at each click and not saved with the scene."""
    role = f"{scene.DISPLAY_ATTRIBUTE}.{what}"
    volume = outputVolume.GetNodeReference(role)
    if volume is None:
        volume = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", f"{outputVolume.GetName()} {what}")
        volume.SetAttribute(scene.DISPLAY_ATTRIBUTE, what)
        volume.SetSaveWithScene(False)
        outputVolume.SetNodeReferenceID(role, volume.GetID())
    slicer.util.updateVolumeFromArray(volume, np.ascontiguousarray(array, dtype=np.float32))
    volume.GetImageData().SetExtent(outputVolume.GetImageData().GetExtent())
    volume.CopyOrientation(outputVolume)
    volume.SetAndObserveTransformNodeID(outputVolume.GetTransformNodeID())
    volume.CreateDefaultDisplayNodes()
    scene.besideInHierarchy(inputVolume, volume)
    return volume


def _divergingColors():
    """White at the middle, red above, blue below; one node for the scene."""
    tag = "HarmonizeDiverging"
    colors = slicer.mrmlScene.GetSingletonNode(tag, "vtkMRMLColorTableNode")
    if colors is None:
        colors = slicer.mrmlScene.CreateNodeByClass("vtkMRMLColorTableNode")
        colors.UnRegister(None)
        colors.SetSingletonTag(tag)
        colors.SetName(_("Difference (blue, white, red)"))
        colors.SetTypeToUser()
        colors.SetNumberOfColors(256)
        for index, rgb in enumerate(pictures.diverging_rgb(np.linspace(-1, 1, 256), 1.0) / 255):
            colors.SetColor(index, str(index), *map(float, rgb), 1.0)
        colors.SetSaveWithScene(False)
        colors = slicer.mrmlScene.AddNode(colors)
    return colors


def _show(viewName: str, volume, linked: bool) -> None:
    composite = slicer.app.layoutManager().sliceWidget(viewName).sliceLogic().GetSliceCompositeNode()
    composite.SetBackgroundVolumeID(volume.GetID())
    composite.SetForegroundVolumeID(None)
    composite.SetLinkedControl(linked)


def _showEverywhere(volume) -> None:
    for name in slicer.app.layoutManager().sliceViewNames():
        _show(name, volume, linked=False)
