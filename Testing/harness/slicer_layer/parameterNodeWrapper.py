"""slicer.parameterNodeWrapper for bool, int, float, str, Path, Enum, list[...] of these, Optional and MRML nodes."""

import enum
import json
import pathlib
import types
import typing
from dataclasses import dataclass, field
from typing import Annotated, Any

import ctk
import qt
import slicer
import vtk


@dataclass
class WithinRange:
    minimum: float
    maximum: float

    def check(self, value):
        if not self.minimum <= value <= self.maximum:
            raise ValueError(f"{value} is not between {self.minimum} and {self.maximum}")


@dataclass
class Minimum:
    minimum: float

    def check(self, value):
        if value < self.minimum:
            raise ValueError(f"{value} is below {self.minimum}")


@dataclass
class Maximum:
    maximum: float

    def check(self, value):
        if value > self.maximum:
            raise ValueError(f"{value} is above {self.maximum}")


@dataclass
class Choice:
    choices: list

    def check(self, value):
        if value not in self.choices:
            raise ValueError(f"{value!r} is not one of {self.choices}")


@dataclass
class Default:
    value: Any


@dataclass
class _Field:
    """One parameter: its type, what Annotated says of it, and how it stands in the parameter node."""

    name: str
    kind: type
    notes: list = field(default_factory=list)
    optional: bool = False
    default: Any = None

    @classmethod
    def fromHint(cls, name, hint, owner):
        kind, *notes = typing.get_args(Annotated[hint, None])[:-1]
        optional = typing.get_origin(kind) in (typing.Union, types.UnionType)
        if optional:
            kind = next(part for part in typing.get_args(kind) if part is not type(None))
        this = cls(name, kind, notes, optional)
        base = typing.get_origin(kind) or kind
        if not this.isNode and not issubclass(base, (bool, int, float, str, pathlib.PurePath, enum.Enum, list)):
            raise NotImplementedError(f"{name}: {kind} has no stand-in here")
        given = [note.value for note in notes if isinstance(note, Default)]
        if hasattr(owner, name):
            this.default = getattr(owner, name)
        elif given:
            this.default = given[0]
        elif not this.isNode and not optional:
            this.default = next(iter(kind)) if issubclass(base, enum.Enum) else base()
        return this

    @property
    def isNode(self):
        return isinstance(self.kind, type) and issubclass(self.kind, slicer.vtkMRMLNode)

    def read(self, node):
        if self.isNode:
            return node.GetNodeReference(self.name)
        text = node.GetParameter(self.name)  # empty after the scene was closed
        return self._fromText(self.kind, json.loads(text)) if text else self.default

    def write(self, node, value):
        if self.isNode:
            if value is not None and not isinstance(value, self.kind):
                raise TypeError(f"{self.name}: {self.kind.__name__} expected, not {type(value).__name__}")
            node.SetNodeReferenceID(self.name, value.GetID() if value is not None else None)
            return
        base = typing.get_origin(self.kind) or self.kind
        if not (value is None and self.optional):
            if not isinstance(value, (int, float) if base is float else base):
                raise TypeError(f"{self.name}: {base.__name__} expected, not {type(value).__name__}")
            for note in self.notes:
                if hasattr(note, "check"):
                    note.check(value)
        node.SetParameter(self.name, json.dumps(self._toText(value)))

    def _toText(self, value):
        if isinstance(value, list):
            return [self._toText(item) for item in value]
        if isinstance(value, enum.Enum):
            return value.name
        return str(value) if isinstance(value, pathlib.PurePath) else value

    def _fromText(self, kind, value):
        if value is None:
            return None
        if typing.get_origin(kind) is list:
            return [self._fromText(typing.get_args(kind)[0], item) for item in value]
        return kind[value] if issubclass(kind, enum.Enum) else kind(value)

    def _setRange(self, widget):
        """The field's bounds replace those of the .ui file, and a slider must have both."""
        low = [note.minimum for note in self.notes if isinstance(note, (WithinRange, Minimum))]
        high = [note.maximum for note in self.notes if isinstance(note, (WithinRange, Maximum))]
        if type(widget) in (ctk.ctkSliderWidget, qt.QSlider) and not (low and high):
            raise RuntimeError(f"{self.name}: a slider needs a type with bounds")
        if self.kind is int and hasattr(widget, "setDecimals"):
            widget.setDecimals(0)
        unbounded = (-(2**31), 2**31 - 1) if type(widget) is qt.QSpinBox else (float("-inf"), float("inf"))
        widget.setMinimum(low[0] if low else unbounded[0])
        widget.setMaximum(high[0] if high else unbounded[1])

    def connector(self, widget):
        """(read, write, signal) between this field and a widget; the pairs are Slicer's, of the exact widget class."""
        kind, cls = self.kind, type(widget)
        if kind is bool and cls in (qt.QCheckBox, qt.QPushButton):
            return lambda: widget.checked, widget.setChecked, widget.toggled
        whole, real = (qt.QSpinBox, qt.QSlider), (qt.QDoubleSpinBox, ctk.ctkSliderWidget)
        if (kind is int and cls in whole + real) or (kind is float and cls in real):
            self._setRange(widget)
            return lambda: kind(widget.value), widget.setValue, widget.valueChanged
        if cls in (qt.QComboBox, ctk.ctkComboBox):
            isEnum = issubclass(kind, enum.Enum)
            items = list(kind) if isEnum else next(n.choices for n in self.notes if isinstance(n, Choice))
            widget.clear()
            widget.addItems([i.label() if hasattr(i, "label") else i.name if isEnum else str(i) for i in items])
            put = lambda value: widget.setCurrentIndex(items.index(value))  # noqa: E731
            return lambda: items[widget.currentIndex], put, widget.currentIndexChanged
        if kind is str and cls is qt.QLineEdit:
            return lambda: widget.text, widget.setText, widget.textChanged
        if kind is str and cls in (qt.QTextEdit, qt.QPlainTextEdit):
            return lambda: widget.plainText, widget.setPlainText, widget.textChanged
        if isinstance(kind, type) and issubclass(kind, pathlib.PurePath) and cls is ctk.ctkPathLineEdit:
            put = lambda value: widget.setCurrentPath(str(value))  # noqa: E731
            return lambda: kind(widget.currentPath), put, widget.currentPathChanged
        if self.isNode and cls is slicer.qMRMLNodeComboBox:
            return widget.currentNode, widget.setCurrentNode, widget.currentNodeChanged
        raise RuntimeError(f"Unable to create GUI connector from datatype '{kind}' to widget type '{cls}'")


class _Wrapper:
    """What a wrapped class gains beside its fields."""

    def __init__(self, parameterNode, prefix=None):
        self.parameterNode, self._links, self._busy = parameterNode, {}, False
        for this in self._fields.values():
            if not this.isNode and not parameterNode.GetParameter(this.name):
                this.write(parameterNode, this.default)

    def connectGui(self, gui):
        links = []
        for widget in vars(gui).values():
            name = widget.property("SlicerParameterName")
            if not name:
                continue
            if name not in self._fields:
                raise ValueError(f"Cannot find a param with the given name: {name}")
            read, write, signal = self._fields[name].connector(widget)
            write(getattr(self, name))

            def changed(*args, name=name, read=read):
                if not self._busy:
                    setattr(self, name, read())

            signal.connect(changed)
            links.append((name, write, signal, changed))

        def refresh(caller, event):
            if not self._busy:
                self._busy = True
                try:
                    for name, write, _, _ in links:
                        write(getattr(self, name))
                finally:
                    self._busy = False

        tag = self.parameterNode.AddObserver(vtk.vtkCommand.ModifiedEvent, refresh)
        self._links[tag] = links
        return tag

    def disconnectGui(self, tag):
        for _, _, signal, changed in self._links.pop(tag, []):
            signal.disconnect(changed)
        if tag is not None:
            self.parameterNode.RemoveObserver(tag)

    def AddObserver(self, *args):
        return self.parameterNode.AddObserver(*args)

    def RemoveObserver(self, tag):
        self.parameterNode.RemoveObserver(tag)

    def StartModify(self):
        return self.parameterNode.StartModify()

    def EndModify(self, wasModifying):
        return self.parameterNode.EndModify(wasModifying)

    def Modified(self):
        self.parameterNode.Modified()


def parameterNodeWrapper(cls):
    """A class whose annotated fields stand in a vtkMRMLScriptedModuleNode."""
    hints = typing.get_type_hints(cls, include_extras=True)
    cls._fields = {name: _Field.fromHint(name, hint, cls) for name, hint in hints.items()}
    for name, this in cls._fields.items():
        setattr(
            cls,
            name,
            property(
                lambda self, f=this: f.read(self.parameterNode),
                lambda self, value, f=this: f.write(self.parameterNode, value),
            ),
        )
    for name, method in vars(_Wrapper).items():
        if callable(method) and (name == "__init__" or not name.startswith("__")):
            setattr(cls, name, method)
    return cls
