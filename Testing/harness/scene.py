"""The application without Qt: `start()` makes slicer.app, slicer.mrmlScene, slicer.modules and slicer.dicomDatabase.

What the scene, the logics and slicer.util do is real (slicer-core). Nothing here ever opens a window: what Slicer would
show in a message box is kept in `messages`, and an exception that no user would have seen is kept in `uncaught`.
"""

import logging
import sys
import tempfile
import types
from contextlib import contextmanager
from dataclasses import dataclass

import slicer
import vtk

from .files import CoreIOManager

LOGICS = {
    "Volumes": "vtkSlicerVolumesLogic",
    "Terminologies": "vtkSlicerTerminologiesModuleLogic",
    "Segmentations": "vtkSlicerSegmentationsModuleLogic",
    "SubjectHierarchy": "vtkSlicerSubjectHierarchyModuleLogic",
    "Markups": "vtkSlicerMarkupsLogic",
    "Tables": "vtkSlicerTablesLogic",
    "Plots": "vtkSlicerPlotsLogic",
    "CropVolume": "vtkSlicerCropVolumeLogic",
}


@dataclass(frozen=True)
class Message:
    """What a message box would have shown, and the exception it spoke of."""

    level: int
    text: str
    error: BaseException | None = None


messages: list[Message] = []
uncaught: list[BaseException] = []  # raised in Qt slots and VTK observers, which swallow exceptions


def errorTexts() -> list[str]:
    """The texts of the error displays so far."""
    return [message.text for message in messages if message.level == logging.ERROR]


def assertNoErrors():
    """No slot or observer raised, and no error was shown; forgets what it reports, for the next test."""
    found = [repr(error) for error in uncaught] + errorTexts()
    uncaught.clear()
    messages.clear()
    assert not found, found


class DicomDatabase:
    """slicer.dicomDatabase, fed by tests: `instances[uid]["0018,0087"] = "3"`."""

    isOpen = True

    def __init__(self):
        self.instances: dict[str, dict[str, str]] = {}

    def instanceValue(self, uid, tag):
        """The tag's value as text, empty where unknown."""
        return self.instances.get(uid, {}).get(tag.lower(), "")


class Application:
    """slicer.app of `Slicer --no-main-window`, as far as a logic uses it; no layout manager there."""

    applicationName = "Slicer"
    applicationVersion = "5.13.0"
    majorVersion, minorVersion = 5, 13
    revision = "harness"

    def __init__(self):
        self.answer = True  # what the user says to every question
        self._temporary = tempfile.TemporaryDirectory(prefix="Slicer-")
        self.temporaryPath = self._temporary.name
        self._scene = slicer.vtkMRMLScene()
        self._scene.SetCacheManager(slicer.vtkCacheManager())  # reading a .mrb unpacks it there
        self._scene.GetCacheManager().SetRemoteCacheDirectory(self.temporaryPath)
        self._scene.SetDataIOManager(slicer.vtkDataIOManager())
        self._scene.GetDataIOManager().SetCacheManager(self._scene.GetCacheManager())
        self._logic = slicer.vtkSlicerApplicationLogic()
        self._logic.SetMRMLScene(self._scene)
        self._logic.SetSliceLogics(vtk.vtkCollection())
        slicer.vtkMRMLSliceNode.AddDefaultSliceOrientationPresets(self._scene, True)
        colors = self._logic.GetColorLogic()
        colors.SetMRMLScene(self._scene)
        colors.AddDefaultColorNodes()
        self._logic.SetModuleLogic("Colors", colors)
        self.logics = {"Colors": colors}
        for name, cls in LOGICS.items():
            logic = getattr(slicer, cls)()
            logic.SetMRMLApplicationLogic(self._logic)
            logic.SetMRMLScene(self._scene)
            self._logic.SetModuleLogic(name, logic)
            self.logics[name] = logic
        self._files = CoreIOManager(self._scene, self.logics)

    def mrmlScene(self):
        return self._scene

    def applicationLogic(self):
        return self._logic

    def moduleLogic(self, name):
        return self.logics.get(name)

    def coreIOManager(self):
        return self._files

    def layoutManager(self):
        return None

    def testingEnabled(self):
        return False  # the way that users go: with testing on, slicer.util shows no errors at all

    def processEvents(self):
        pass

    def setOverrideCursor(self, cursor):
        pass

    def restoreOverrideCursor(self):
        pass


def start():
    """slicer.app and the scene; calling it again changes nothing."""
    if hasattr(slicer, "app"):
        return
    with quiet():  # the wheel has no terminology files; nothing here needs them
        slicer.app = Application()
    slicer.mrmlScene = slicer.app.mrmlScene()
    slicer.dicomDatabase = DicomDatabase()
    for name in ("modules", "moduleNames"):
        setattr(slicer, name, types.ModuleType(f"slicer.{name}"))
        sys.modules[f"slicer.{name}"] = getattr(slicer, name)
    for name, logic in slicer.app.logics.items():
        module = types.SimpleNamespace(name=name, logic=lambda logic=logic: logic)
        setattr(slicer.modules, name.lower(), module)
    _collectMessages()


@contextmanager
def quiet():
    """No warnings of VTK classes."""
    before = vtk.vtkObject.GetGlobalWarningDisplay()
    vtk.vtkObject.GlobalWarningDisplayOff()
    try:
        yield
    finally:
        vtk.vtkObject.SetGlobalWarningDisplay(before)


def clear():
    """An empty scene, no tags, no messages: what a test starts from."""
    slicer.mrmlScene.Clear(0)
    slicer.dicomDatabase.instances.clear()
    slicer.app.answer = True
    messages.clear()
    uncaught.clear()


def _collectMessages():
    def show(level, text, *args, **kwargs):
        messages.append(Message(level, text, sys.exc_info()[1]))

    def ask(text, *args, **kwargs):
        messages.append(Message(logging.INFO, text))
        return slicer.app.answer

    slicer.util._messageDisplay = show
    slicer.util.delayDisplay = lambda text, *args, **kwargs: slicer.app.processEvents()
    slicer.util.messageBox = lambda text, *args, **kwargs: show(logging.INFO, text)
    slicer.util.confirmOkCancelDisplay = slicer.util.confirmYesNoDisplay = slicer.util.confirmRetryCloseDisplay = ask
    printed = sys.excepthook

    def keep(kind, error, traceback):
        """Both PySide6 and VTK hand the exception of a callback to sys.excepthook."""
        if not any(message.error is error for message in messages):
            uncaught.append(error)
        printed(kind, error, traceback)

    sys.excepthook = keep
