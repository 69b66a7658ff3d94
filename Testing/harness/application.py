# ruff: noqa: N801 (the names are Slicer's)
"""slicer.app with Qt, offscreen, and the loader of modules: `loadModule(path)` gives a `Panel` to click through.

The module's file is loaded unchanged, as Slicer does with a file on its additional module paths.
"""

import importlib.util
import os
import re
import sys
import types
import xml.etree.ElementTree as ElementTree
from pathlib import Path

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

import slicer
from PySide6 import QtCore, QtGui, QtNetwork, QtUiTools, QtWidgets
from PySide6.QtCore import Property, QObject, QSettings, Signal
from PySide6.QtWidgets import QApplication, QVBoxLayout

from . import ctkwidgets, mrmlwidgets, pythonqt, sampledata, scene
from .views import LayoutManager

WIDGETS = ctkwidgets.WIDGETS + mrmlwidgets.WIDGETS


def start():
    """`import qt, ctk, slicer` and slicer.app with Qt; calling it again changes nothing."""
    if "qt" in sys.modules:
        return
    scene.start()
    pythonqt.apply()
    qt = types.ModuleType("qt")
    for module in (QtNetwork, QtCore, QtGui, QtWidgets):
        for name in dir(module):  # vars() is lazy in PySide6
            if name.startswith("Q"):
                setattr(qt, name, getattr(module, name))
    qt.Signal, qt.Slot, qt.Property, qt.QUiLoader = QtCore.Signal, QtCore.Slot, QtCore.Property, QUiLoader
    sys.modules["qt"], sys.modules["ctk"] = qt, ctkwidgets.module()
    sys.modules["SampleData"] = sampledata
    slicer.__path__.append(os.environ.get("SLICER_PYTHON_LAYER", str(Path(__file__).parent / "slicer_layer")))
    for widget in mrmlwidgets.WIDGETS:
        setattr(slicer, widget.__name__, widget)

    def missing(name):
        if not name.startswith(("qMRML", "qSlicer")):
            raise AttributeError(f"module 'slicer' has no attribute '{name}'")
        setattr(slicer, name, ctkwidgets.absent(name, QtWidgets.QWidget, "Testing/harness/mrmlwidgets.py"))
        return getattr(slicer, name)

    slicer.__getattr__ = missing
    import slicer_core

    for name, module in list(vars(slicer_core).items()):  # Slicer's names of its extension modules end in "Python"
        if isinstance(module, types.ModuleType) and name.startswith(("MRML", "vtk")):
            sys.modules.setdefault(name + "Python", module)
    slicer.app = qSlicerApplication(slicer.app)


class QUiLoader(QtUiTools.QUiLoader):
    """Knows the stand-ins, and refuses a .ui file that names any other CTK or qMRML widget or property."""

    def __init__(self, *args):
        super().__init__(*args)
        for widget in WIDGETS:
            self.registerCustomWidget(widget)

    def load(self, device, parent=None):
        text = bytes(device.readAll().data()).decode()
        self._refuseUnknown(text)
        text = re.sub(r"vtk\w+\*", "PyObject", text)
        text = re.sub(r"<(set|enum)>((?:ctkPathLineEdit::\w+\|?)+)</\1>", self._number, text)
        buffer = QtCore.QBuffer()
        buffer.setData(text.encode())
        buffer.open(QtCore.QIODevice.ReadOnly)
        return super().load(buffer, parent)

    @staticmethod
    def _refuseUnknown(text):
        known = {widget.__name__: widget for widget in WIDGETS}
        for widget in ElementTree.fromstring(text).iter("widget"):
            cls = widget.get("class")
            if cls.startswith(("qMRML", "ctk", "qSlicer")) and cls not in known:
                raise NotImplementedError(f"the .ui file uses {cls}, which has no stand-in")
            for field in widget.findall("property") if cls in known else ():
                name = field.get("name")  # stdset="0" marks a dynamic property
                if field.get("stdset") != "0" and not hasattr(known[cls], name):
                    raise NotImplementedError(f"the .ui file sets {name} of {cls}, which has no stand-in")

    @staticmethod
    def _number(match):
        names = match[2].replace("ctkPathLineEdit::", "").split("|")
        return f"<number>{sum(getattr(ctkwidgets.ctkPathLineEdit, name) for name in names)}</number>"


class qSlicerModuleManager(QObject):
    moduleAboutToBeUnloaded = Signal(str)
    moduleLoaded = Signal(str)

    def __init__(self):
        super().__init__()
        self._modules = {}

    def module(self, name):
        return self._modules.get(name)

    def factoryManager(self):
        return self  # of which slicer.util only asks the names

    def loadedModuleNames(self):
        return list(self._modules)


class qSlicerApplication(QApplication):
    """What needs Qt; all else is asked of the application without Qt."""

    startupCompleted = Signal()

    def __init__(self, application):
        super().__init__(["Slicer"])
        self.setApplicationName("Slicer")
        self._application = application
        self._moduleManager = qSlicerModuleManager()
        self._layoutManager = LayoutManager()
        QSettings.setDefaultFormat(QSettings.IniFormat)  # never the user's own settings
        QSettings.setPath(QSettings.IniFormat, QSettings.UserScope, application.temporaryPath)
        self._settings = QSettings()

    def __getattr__(self, name):
        return getattr(self._application, name)

    def __setattr__(self, name, value):
        if name == "answer":
            self._application.answer = value
        else:
            super().__setattr__(name, value)

    def moduleManager(self):
        return self._moduleManager

    def layoutManager(self):
        return self._layoutManager

    def settings(self):
        return self._settings

    userSettings = settings
    pauseRender = resumeRender = lambda self: None


class qSlicerScriptedLoadableModuleWidget(mrmlwidgets.qMRMLWidget):
    """The C++ side of a module's widget."""

    def __init__(self, module):
        super().__init__()
        self._module, self._python, self._entered = module, None, False
        QVBoxLayout(self)

    isEntered = Property(bool, lambda self: self._entered)
    moduleName = Property(str, lambda self: self._module.name)

    def self(self):
        return self._python

    def module(self):
        return self._module

    def setup(self):
        self._python = getattr(sys.modules[self._module.name], self._module.name + "Widget")(self)
        setattr(slicer.modules, self._module.name + "Widget", self._python)
        self._python.setup()

    reload = setup  # called by slicer.util.reloadScriptedModule once the file is read again

    def enter(self):
        self._entered = True
        getattr(self._python, "enter", lambda: None)()

    def exit(self):
        self._entered = False
        getattr(self._python, "exit", lambda: None)()


def _field(kind, name, default):
    return Property(
        kind, lambda self: self._values.get(name, default), lambda self, value: self._values.update({name: value})
    )


class qSlicerScriptedLoadableModule(QObject):
    """The C++ side of a module: its metadata."""

    def __init__(self, path):
        super().__init__()
        self._values, self._path, self._widget = {}, path, None
        self.setObjectName(Path(path).stem)

    title = _field(str, "title", "")
    categories = _field("QStringList", "categories", [])
    contributors = _field("QStringList", "contributors", [])
    dependencies = _field("QStringList", "dependencies", [])
    associatedNodeTypes = _field("QStringList", "associatedNodeTypes", [])
    helpText = _field(str, "helpText", "")
    acknowledgementText = _field(str, "acknowledgementText", "")
    hidden = _field(bool, "hidden", False)
    icon = _field(QtGui.QIcon, "icon", QtGui.QIcon())
    path = Property(str, lambda self: self._path)
    defaultDocumentationLink = Property(str, lambda self: "")

    def mrmlScene(self):
        return slicer.mrmlScene

    def widgetRepresentation(self):
        if self._widget is None:
            self._widget = qSlicerScriptedLoadableModuleWidget(self)
            self._widget.setMRMLScene(slicer.mrmlScene)
            self._widget.setup()
        return self._widget


class Panel:
    """A loaded module with its panel set up.

    `python` is the loaded file, `widget` the module's widget object, `ui` and `logic` what it holds under these names.
    """

    def __init__(self, module):
        self.module = module
        self.representation = module.widgetRepresentation()
        self.representation.enter()

    @property
    def python(self):
        return sys.modules[self.module.name]

    @property
    def widget(self):
        return self.representation.self()

    @property
    def ui(self):
        return self.widget.ui

    @property
    def logic(self):
        return self.widget.logic

    def picture(self, path, width=480, height=None):
        """Save the whole panel as a PNG, by default as high as it wants to be."""
        representation = self.representation
        representation.resize(width, height or representation.sizeHint.height())
        representation.show()
        slicer.app.processEvents()
        if height is None:  # wrapped text knows its height only at the width it is shown with
            representation.resize(width, max(representation.heightForWidth(width), representation.sizeHint.height()))
            slicer.app.processEvents()
        if not representation.grab().save(str(path)):
            raise OSError(f"{path} cannot be written")

    def close(self):
        """Leave the panel and delete it, as Slicer does when it exits."""
        self.representation.exit()
        getattr(self.widget, "cleanup", lambda: None)()
        self.representation.delete()
        self.module._widget = None


def importModule(path):
    """Load a scripted module's file, without its panel; gives the Python module."""
    start()
    path = Path(path).resolve()
    name = path.stem
    if str(path.parent) not in sys.path:
        sys.path.insert(0, str(path.parent))
    spec = importlib.util.spec_from_file_location(name, path)
    python = importlib.util.module_from_spec(spec)
    sys.modules[name] = python
    spec.loader.exec_module(python)
    return python


def loadModule(path):
    """Load a scripted module and set up its panel; startupCompleted() is sent the first time, as at Slicer's start."""
    name = Path(path).stem
    start()
    module = slicer.app.moduleManager().module(name)
    if module is None:
        python = importModule(path)
        module = qSlicerScriptedLoadableModule(str(Path(path).resolve()))
        instance = getattr(python, name)(module)
        setattr(slicer.modules, name.lower(), module)
        setattr(slicer.modules, name + "Instance", instance)
        setattr(slicer.moduleNames, name, name)
        slicer.app.moduleManager()._modules[name] = module
        if hasattr(instance, "setup"):
            instance.setup()
        slicer.app.startupCompleted.emit()
    return Panel(module)
