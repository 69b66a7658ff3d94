"""Pictures of real slice views, with the outlines of segments, offscreen, as arrays (rows, columns, 3) of uint8.

    view = SliceView("Red", "Axial", size=(400, 400))
    picture = view.picture(volume, through=(10, -20, 35), label="before")
    save("slices.png", comparison(before, after, through=(10, -20, 35)))

A volume is shown with its own display node (window, level, colours), and a segment with its segmentation's.
"""

import numpy as np
import slicer
import vtk
from vtk.util.numpy_support import numpy_to_vtk, vtk_to_numpy

from .scene import quiet
from .views import sliceLogic


class SliceView:
    """A slice view of the running scene without its widget; the view of that name in the layout is the same one."""

    def __init__(self, name="Red", orientation="Axial", size=(400, 400)):
        self.size = size
        self.logic = sliceLogic(name)
        self.node = self.logic.GetSliceNode()
        self.node.SetOrientation(orientation)
        self.node.SetMappedInLayout(1)
        self.node.SetDimensions(*size, 1)
        self._image = vtk.vtkImageMapper()
        self._image.SetColorWindow(255)
        self._image.SetColorLevel(127.5)
        actor = vtk.vtkActor2D()
        actor.SetMapper(self._image)
        actor.GetProperty().SetDisplayLocationToBackground()
        self._label = vtk.vtkTextActor()
        self._label.SetPosition(8, size[1] - 24)
        self._label.GetTextProperty().SetFontSize(16)
        self._label.GetTextProperty().ShadowOn()
        renderer = vtk.vtkRenderer()
        renderer.GetActiveCamera().ParallelProjectionOn()
        renderer.AddViewProp(actor)
        renderer.AddViewProp(self._label)
        with quiet():  # where there is no display, VTK says so before it turns to EGL or OSMesa
            self._window = vtk.vtkRenderWindow()
        self._window.SetOffScreenRendering(1)
        self._window.SetMultiSamples(0)
        self._window.SetSize(*size)
        self._window.AddRenderer(renderer)
        self._interactor = vtk.vtkRenderWindowInteractor()  # the displayable managers refuse to work without one
        self._interactor.SetRenderWindow(self._window)
        application = slicer.app.applicationLogic()
        slicer.vtkMRMLSliceViewDisplayableManagerFactory.GetInstance().SetMRMLApplicationLogic(application)
        segments = slicer.vtkMRMLSegmentationsDisplayableManager2D()
        segments.SetMRMLApplicationLogic(application)
        self._managers = slicer.vtkMRMLDisplayableManagerGroup()
        self._managers.SetRenderer(renderer)
        self._managers.AddDisplayableManager(segments)
        self._managers.SetMRMLDisplayableNode(self.node)

    def picture(self, volume=None, through=None, label=""):
        """What the view shows, fitted to its volumes.

        `volume` becomes the background and the only layer; without it the layers stay as the composite node has them.
        `through` is a point (right, anterior, superior) in mm that the slice is moved to.
        """
        composite = self.logic.GetSliceCompositeNode()
        if volume is not None:
            composite.SetBackgroundVolumeID(volume.GetID())
            composite.SetForegroundVolumeID(None)
            composite.SetLabelVolumeID(None)
        self.logic.FitSliceToAll(*self.size)
        if through is not None:
            self.node.JumpSliceByOffsetting(*through)
        self.logic.UpdatePipeline()
        self._image.SetInputConnection(self.logic.GetImageDataConnection())
        self._label.SetInput(label)
        self._window.Render()
        grab = vtk.vtkWindowToImageFilter()
        grab.SetInput(self._window)
        grab.ReadFrontBufferOff()
        grab.Update()
        image = grab.GetOutput()
        columns, rows, _ = image.GetDimensions()
        return vtk_to_numpy(image.GetPointData().GetScalars()).reshape(rows, columns, 3)[::-1].copy()


def outline(segmentation, thickness=2):
    """Show a segmentation's segments as outlines, `thickness` pixels wide."""
    display = segmentation.GetDisplayNode()
    display.SetVisibility2DFill(False)
    display.SetVisibility2DOutline(True)
    display.SetSliceIntersectionThickness(thickness)


def differenceVolume(before, after, limit=None):
    """A new volume, after minus before, blue to black to red from -limit to limit (default: its 99th percentile)."""
    difference = slicer.util.arrayFromVolume(after).astype(np.float32) - slicer.util.arrayFromVolume(before)
    matrix = vtk.vtkMatrix4x4()
    before.GetIJKToRASMatrix(matrix)
    node = slicer.util.addVolumeFromArray(difference, ijkToRAS=matrix, name=f"{after.GetName()} - {before.GetName()}")
    node.SetAndObserveTransformNodeID(before.GetTransformNodeID())
    limit = limit or float(np.percentile(np.abs(difference), 99)) or 1.0
    display = node.GetDisplayNode()
    display.SetAndObserveColorNodeID(_divergingColors().GetID())
    display.AutoWindowLevelOff()
    display.SetWindowLevelMinMax(-limit, limit)
    return node


def _divergingColors():
    found = slicer.mrmlScene.GetFirstNodeByName("BlueBlackRed")
    if found is not None:
        return found
    colors = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLColorTableNode", "BlueBlackRed")
    colors.SetTypeToUser()
    colors.SetNumberOfColors(256)
    for i, x in enumerate(np.linspace(-1, 1, 256)):
        colors.SetColor(i, str(i), max(0, x), 0.3 * abs(x), max(0, -x), 1)
    return colors


def comparison(before, after, through=None, view=None):
    """Before, after and difference side by side in one view (default: axial, 400 by 400 pixels); one array."""
    view = view or SliceView()
    difference = differenceVolume(before, after)
    shown = {"before": before, "after": after, "difference": difference}
    pictures = [view.picture(volume, through, label) for label, volume in shown.items()]
    slicer.mrmlScene.RemoveNode(difference)
    return np.hstack(pictures)


def save(path, picture):
    """Write a picture as PNG."""
    rows, columns, _ = picture.shape
    image = vtk.vtkImageData()
    image.SetDimensions(columns, rows, 1)
    image.GetPointData().SetScalars(numpy_to_vtk(np.ascontiguousarray(picture[::-1]).reshape(-1, 3), deep=True))
    writer = vtk.vtkPNGWriter()
    writer.SetFileName(str(path))
    writer.SetInputData(image)
    writer.Write()
    if writer.GetErrorCode():
        raise OSError(f"{path} cannot be written")
