"""slicer.parameterNodeWrapper for bool, int, float, str, Path, Enum, list[...] of these, Optional and MRML nodes."""

import enum
import json
import math
import types
import typing
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Annotated, Any

import ctk
import qt
import slicer
import vtk


@dataclass
class WithinRange:
    minimum: float = -math.inf
    maximum: float = math.inf

    def check(self, value):
        if not self.minimum <= value <= self.maximum:
            raise ValueError(f"{value} is not between {self.minimum} and {self.maximum}")


class Minimum(WithinRange):
    def __init__(self, minimum):
        super().__init__(minimum=minimum)


class Maximum(WithinRange):
    def __init__(self, maximum):
        super().__init__(maximum=maximum)


@dataclass
class Choice:
    choices: list

    def check(self, value):
        if value not in self.choices:
            raise ValueError(f"{value!r} is not one of {self.choices}")


@dataclass
class Default:
    value: Any

    def check(self, value):
        pass


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
        if not this.isNode and not issubclass(this.base, (bool, int, float, str, PurePath, enum.Enum, list)):
            raise NotImplementedError(f"{name}: {kind} has no stand-in here")
        if not this.isNode and not optional:
            this.default = next(iter(kind)) if issubclass(this.base, enum.Enum) else this.base()
        for note in notes:
            this.default = getattr(note, "value", this.default)
        this.default = getattr(owner, name, this.default)
        return this

    @property
    def base(self):
        """The class that values are instances of: list for list[str]."""
        return typing.get_origin(self.kind) or self.kind

    @property
    def isNode(self):
        return issubclass(self.base, slicer.vtkMRMLNode)

    def read(self, node):
        if self.isNode:
            return node.GetNodeReference(self.name)
        text = node.GetParameter(self.name)  # empty after the scene was closed
        return self._fromText(self.kind, json.loads(text)) if text else self.default

    def write(self, node, value):
        expected = (int, float) if self.base is float else self.base
        if not isinstance(value, expected) and not (value is None and (self.optional or self.isNode)):
            raise TypeError(f"{self.name}: {self.base.__name__} expected, not {type(value).__name__}")
        if self.isNode:
            node.SetNodeReferenceID(self.name, value.GetID() if value is not None else None)
            return
        for note in self.notes if value is not None else ():
            note.check(value)
        node.SetParameter(self.name, json.dumps(self._toText(value)))

    def _toText(self, value):
        if isinstance(value, list):
            return [self._toText(item) for item in value]
        if isinstance(value, enum.Enum):
            return value.name
        return str(value) if isinstance(value, PurePath) else value

    def _fromText(self, kind, value):
        if value is None:
            return None
        if typing.get_origin(kind) is list:
            return [self._fromText(typing.get_args(kind)[0], item) for item in value]
        return kind[value] if issubclass(kind, enum.Enum) else kind(value)

    def connector(self, widget):
        """(read, write, signal) between this field and a widget; the pairs are Slicer's, of the exact widget class."""
        kind, cls = self.kind, type(widget)
        whole, real = (qt.QSpinBox, qt.QSlider), (qt.QDoubleSpinBox, ctk.ctkSliderWidget)
        if kind is bool and cls in (qt.QCheckBox, qt.QPushButton):
            return lambda: widget.checked, widget.setChecked, widget.toggled
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
        if issubclass(self.base, PurePath) and cls is ctk.ctkPathLineEdit:
            put = lambda value: widget.setCurrentPath(str(value))  # noqa: E731
            return lambda: kind(widget.currentPath), put, widget.currentPathChanged
        if self.isNode and cls is slicer.qMRMLNodeComboBox:
            return widget.currentNode, widget.setCurrentNode, widget.currentNodeChanged
        raise RuntimeError(f"Unable to create GUI connector from datatype '{kind}' to widget type '{cls}'")

    def _setRange(self, widget):
        """The field's bounds replace those of the .ui file, and a slider must have both."""
        ranges = [note for note in self.notes if isinstance(note, WithinRange)]
        low = max([note.minimum for note in ranges], default=-math.inf)
        high = min([note.maximum for note in ranges], default=math.inf)
        if type(widget) in (ctk.ctkSliderWidget, qt.QSlider) and math.inf in (-low, high):
            raise RuntimeError(f"{self.name}: a slider needs a type with bounds")
        if type(widget) is qt.QSpinBox:
            low, high = max(low, -(2**31)), min(high, 2**31 - 1)
        elif self.kind is int and hasattr(widget, "setDecimals"):
            widget.setDecimals(0)
        widget.setMinimum(low)
        widget.setMaximum(high)


class _Wrapper:
    """What a wrapped class gains beside its fields."""

    def __init__(self, parameterNode):
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


for _name in ("AddObserver", "RemoveObserver", "StartModify", "EndModify", "Modified"):
    setattr(_Wrapper, _name, lambda self, *args, _name=_name: getattr(self.parameterNode, _name)(*args))


def parameterNodeWrapper(cls):
    """A class whose annotated fields stand in a vtkMRMLScriptedModuleNode."""
    hints = typing.get_type_hints(cls, include_extras=True)
    members = {"_fields": {name: _Field.fromHint(name, hint, cls) for name, hint in hints.items()}}
    for name, this in members["_fields"].items():
        members[name] = property(
            lambda self, f=this: f.read(self.parameterNode),
            lambda self, value, f=this: f.write(self.parameterNode, value),
        )
    return type(cls.__name__, (_Wrapper, cls), members | {"__doc__": cls.__doc__, "__module__": cls.__module__})
