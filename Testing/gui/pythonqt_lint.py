"""Finds what PySide6 lets pass and PythonQt, the Qt binding inside Slicer, does not; in Python files and in .ui files.

`python Testing/gui/pythonqt_lint.py FOLDER...` prints the findings; `findings(folder)` gives them to a test.
"""

import ast
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path


def _names(text):
    return frozenset(text.split())


PROPERTIES = _names(
    """accessibleName checkable checked collapsed count currentIndex currentNodeID currentPath currentText decimals
    enabled html icon iconText maximum minimum nodeTypes placeholderText plainText prefix readOnly singleStep
    specialValueText suffix text title toolTip value visible windowTitle wordWrap"""
)
BYTE_ARRAYS = _names("readAll readAllStandardError readAllStandardOutput readLine toBase64 toHex toUtf8")
ENUM_GETTERS = _names("checkState error exec exec_ exitStatus orientation sizeAdjustPolicy state")
NOT_CONNECTABLE = _names("qMRMLSegmentSelectorWidget qMRMLCheckableNodeComboBox qMRMLSegmentsTableView")


def _isWidgetClass(node):
    """qt.QX, ctk.ctkX, slicer.qMRMLX."""
    return (
        isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id in ("qt", "ctk", "slicer")
        and node.attr.startswith(("Q", "ctk", "qMRML", "qSlicer"))
    )


def _isUiWidget(node):
    """ui.X or self.ui.X."""
    if not isinstance(node, ast.Attribute):
        return False
    owner = node.value
    return (isinstance(owner, ast.Name) and owner.id == "ui") or (
        isinstance(owner, ast.Attribute) and owner.attr == "ui"
    )


def _calledName(node):
    """The method's name where `node` is a call of a method, else empty."""
    return node.func.attr if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) else ""


def _call(node):
    function = node.func
    if isinstance(function, ast.Name) and function.id == "isinstance" and len(node.args) == 2:
        classes = node.args[1].elts if isinstance(node.args[1], ast.Tuple) else [node.args[1]]
        if any(map(_isWidgetClass, classes)):
            yield "isinstance() with a Qt class is False for its subclasses: use inherits() or compare type()"
    if _isWidgetClass(function) and node.keywords:
        yield f"a Qt constructor takes no keyword arguments: {node.keywords[0].arg}="
    if isinstance(function, ast.Name) and function.id == "bytes" and node.args:
        made = node.args[0]
        if _calledName(made) in BYTE_ARRAYS or (
            isinstance(made, ast.Call) and ast.unparse(made.func) == "qt.QByteArray"
        ):
            yield "bytes() of a QByteArray fails: use .data()"
    if _isWidgetClass(function) and function.attr == "QImage" and len(node.args) > 3:
        yield "QImage has no overload that takes bytes"
    if isinstance(function, ast.Attribute) and function.attr in PROPERTIES and _isUiWidget(function.value):
        yield f"{function.attr} is a property, not a method: {ast.unparse(node)}"
    if _calledName(node) == "connect" and node.args:
        yield from _connect(node)


def _connect(node):
    first, target = node.args[0], node.args[-1]
    signal = first.value if isinstance(first, ast.Constant) and isinstance(first.value, str) else ""
    if signal.startswith("stateChanged(int)") or ".stateChanged" in ast.unparse(node.func):
        yield "stateChanged sends an int: connect toggled(bool) and read .checked"
    if signal and "(" not in signal:
        yield f"a signal is named with its arguments: {signal}()"
    sent = len([part for part in signal.partition("(")[2].rstrip(")").split(",") if part.strip()])
    if (
        isinstance(target, ast.Lambda)
        and sent > len(target.args.args) - len(target.args.defaults)
        and target.args.defaults
    ):
        yield "the signal's argument takes the place of the lambda's default"


def _assign(node):
    for target in node.targets:
        if isinstance(target, ast.Attribute) and target.attr == "singleShot":
            yield "singleShot is a function there: use setSingleShot()"
        text = isinstance(target, ast.Attribute) and target.attr in ("text", "toolTip", "html", "plainText")
        if text and isinstance(node.value, ast.Constant) and not isinstance(node.value.value, str):
            yield f".{target.attr} becomes the text {str(node.value.value)!r}"


def _compare(node):
    sides = [node.left, *node.comparators]
    if any(_calledName(side) in ENUM_GETTERS for side in sides) and any(
        isinstance(side, ast.Constant) and type(side.value) is int for side in sides
    ):
        yield "compare an enum with its name, not with a number"
    fromUi = [
        side for side in sides if _isUiWidget(getattr(side.func if isinstance(side, ast.Call) else side, "value", None))
    ]
    if fromUi and any(isinstance(side, ast.List) for side in sides):
        yield "a list of Qt comes as a tuple: compare list(...)"


RULES = {ast.Call: _call, ast.Assign: _assign, ast.Compare: _compare}


def lintPython(source):
    """(line, message) for each finding in Python source text."""
    found = []
    for node in ast.walk(ast.parse(source)):
        found += [(node.lineno, message) for message in RULES.get(type(node), lambda node: ())(node)]
    return sorted(found)


def lintUi(source):
    """(0, message) for each finding in the text of a .ui file: every MRML widget must be given the scene."""
    root = ElementTree.fromstring(source)
    top = root.find("widget")
    declared = {element.text for element in root.findall("customwidgets/customwidget/class")}
    given = {
        connection.findtext("receiver")
        for connection in root.findall("connections/connection")
        if connection.findtext("sender") == top.get("name")
        and connection.findtext("signal") == "mrmlSceneChanged(vtkMRMLScene*)"
        and connection.findtext("slot") == "setMRMLScene(vtkMRMLScene*)"
    }
    found = []
    for widget in root.iter("widget"):
        cls, name = widget.get("class"), widget.get("name")
        if cls.startswith(("qMRML", "qSlicer", "ctk")) and cls not in declared:
            found.append(f"{name}: {cls} is not among the custom widgets")
        if cls.startswith("qMRML") and widget is not top and name not in given:
            found.append(f"{name}: the scene is not connected (mrmlSceneChanged to setMRMLScene)")
        if cls in NOT_CONNECTABLE and widget.find("property[@name='SlicerParameterName']") is not None:
            found.append(f"{name}: {cls} cannot be connected to a parameter")
    if not top.get("class").startswith("qMRML"):
        found.append(f"{top.get('name')}: the top widget is a qMRMLWidget")
    return [(0, message) for message in found]


def findings(folder):
    """'file:line: message' for every finding under a folder."""
    found = []
    for path in sorted(Path(folder).rglob("*")):
        lint = {".py": lintPython, ".ui": lintUi}.get(path.suffix)
        if lint is not None:
            found += [f"{path}:{line}: {message}" for line, message in lint(path.read_text(encoding="utf-8"))]
    return found


if __name__ == "__main__":
    problems = [problem for folder in sys.argv[1:] for problem in findings(folder)]
    print("\n".join(problems))
    sys.exit(bool(problems))
