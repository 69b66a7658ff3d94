"""The module keeps the rules of PythonQt, and the lint finds each kind of breach."""

from pathlib import Path

import pytest
from pythonqt_lint import findings, lintPython, lintUi

ROOT = Path(__file__).resolve().parents[2]

BREACHES = [
    "isinstance(w, qt.QWidget)",
    "isinstance(w, (str, ctk.ctkComboBox))",
    "qt.QLabel('text', parent=None)",
    "slicer.qMRMLNodeComboBox(parent=None)",
    "bytes(process.readAllStandardOutput())",
    "bytes(qt.QByteArray(b'x'))",
    "qt.QImage(data, 3, 4, 12, fmt)",
    "self.ui.nameEdit.text()",
    "ui.slider.value()",
    "box.connect('stateChanged(int)', f)",
    "button.connect('clicked', f)",
    "button.connect('clicked(bool)', lambda x=7: f(x))",
    "timer.singleShot = True",
    "self.ui.label.text = None",
    "item.checkState() == 2",
    "self.ui.selector.nodeTypes == ['a']",
    "self.ui.selector.checkedIndexes() == []",
]
KEPT = [
    "isinstance(w, str)",
    "w.inherits('QWidget')",
    "qt.QLabel('text')",
    "bytes(range(3))",
    "process.readAll().data()",
    "qt.QImage(3, 4, fmt)",
    "item.text()",
    "self.ui.nameEdit.text",
    "self.ui.table.item(0, 1).text()",
    "button.connect('clicked(bool)', lambda checked, show=show: f(show))",
    "button.connect('clicked()', lambda x=7: f(x))",
    "timer.setSingleShot(True)",
    "self.ui.label.text = ''",
    "item.checkState() == qt.Qt.Checked",
    "list(self.ui.selector.nodeTypes) == ['a']",
    "for i in x:\n    slicer.app.processEvents()",
]
UI = """<ui><widget class="qMRMLWidget" name="Top"><widget class="qMRMLNodeComboBox" name="selector">{property}</widget>
</widget><customwidgets><customwidget><class>qMRMLWidget</class></customwidget>{custom}</customwidgets>
<connections>{connection}</connections></ui>"""
CUSTOM = "<customwidget><class>qMRMLNodeComboBox</class></customwidget>"
CONNECTION = """<connection><sender>Top</sender><signal>mrmlSceneChanged(vtkMRMLScene*)</signal>
<receiver>selector</receiver><slot>setMRMLScene(vtkMRMLScene*)</slot></connection>"""


@pytest.mark.parametrize("source", BREACHES)
def test_breach_is_found_once(source):
    assert len(lintPython(source)) == 1


@pytest.mark.parametrize("source", KEPT)
def test_good_code_is_left_alone(source):
    assert lintPython(source) == []


def test_ui_file_must_hand_on_the_scene():
    assert lintUi(UI.format(property="", custom=CUSTOM, connection=CONNECTION)) == []
    assert "scene is not connected" in lintUi(UI.format(property="", custom=CUSTOM, connection=""))[0][1]
    assert "custom widgets" in lintUi(UI.format(property="", custom="", connection=CONNECTION))[0][1]


@pytest.mark.parametrize("folder", ["HarmonizeModule", "Testing/gui/PanelDemo"])
def test_module_keeps_the_rules(folder):
    assert findings(ROOT / folder) == []
