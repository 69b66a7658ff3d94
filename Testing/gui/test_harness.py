# ruff: noqa: E402 (qt and ctk can be imported once the harness has started)
"""The harness itself: a module that uses every supported widget, clicked through on the real scene.

With SLICER_PYTHON_LAYER set to Slicer's own Base/Python/slicer, the same tests run on Slicer's Python files.
"""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

slicer = pytest.importorskip("slicer", reason="slicer-core is not installed")
pytest.importorskip("PySide6.QtWidgets", reason="PySide6 cannot be imported", exc_type=ImportError)

from Testing.harness import sampledata, scene
from Testing.harness.application import loadModule, start

start()
import ctk
import qt

from Testing.harness import pictures

ROOT = Path(__file__).resolve().parents[2]
DEMO = ROOT / "Testing" / "gui" / "PanelDemo" / "PanelDemo.py"


@pytest.fixture
def panel():
    scene.clear()
    loaded = loadModule(DEMO)
    yield loaded
    loaded.close()
    scene.clear()


@pytest.fixture
def ramp():
    scene.clear()
    return addVolume("ramp", np.indices((20, 30, 40)).sum(0))


def addVolume(name, array):
    return slicer.util.addVolumeFromArray(array.astype(np.float32), name=name)


def addNode(kind, name):
    return slicer.mrmlScene.AddNewNodeByClass(f"vtkMRML{kind}Node", name)


def addSegmentation(volume, *names):
    """One box of 10 x 10 x 10 voxels for each name, all alike."""
    node = addNode("Segmentation", "structures")
    node.CreateDefaultDisplayNodes()
    node.SetReferenceImageGeometryParameterFromVolumeNode(volume)
    mask = np.zeros(slicer.util.arrayFromVolume(volume).shape, np.uint8)
    mask[5:15, 10:20, 15:25] = 1
    for name in names:
        node.GetSegmentation().AddEmptySegment(name, name, (1, 1, 0))
        slicer.util.updateSegmentBinaryLabelmapFromArray(mask, node, name, volume)
    return node


def fill(panel, volume):
    panel.ui.inputSelector.setCurrentNode(volume)
    panel.ui.outputSelector.setCurrentNode(addNode("ScalarVolume", "smooth"))
    panel.ui.tableSelector.setCurrentNode(addNode("Table", "figures"))


def test_panel_from_inputs_to_results(panel, ramp, tmp_path):
    ui = panel.ui
    assert not ui.applyButton.enabled
    assert "Select an input" in ui.applyButton.toolTip
    fill(panel, ramp)
    ui.applyButton.click()
    scene.assertNoErrors()
    assert ui.progressBar.value == 100
    assert ui.resultTable.item(0, 0).text() == "Mean"
    assert ui.tableView.model().rowCount() == 2
    assert "Done" in ui.verdict.plainText
    assert slicer.util.array("smooth").std() < slicer.util.array("ramp").std()
    panel.picture(tmp_path / "panel.png")
    assert qt.QImage(str(tmp_path / "panel.png")).width() == 480


@pytest.mark.parametrize(
    ("field", "widget", "property", "shown", "stored"),
    [
        ("kernel", "kernelSelector", "currentIndex", 1, "SHARP"),
        ("strength", "strengthSlider", "value", 0.25, 0.25),
        ("passes", "passesSpinBox", "value", 3, 3),
        ("tolerance", "toleranceSpinBox", "value", -0.5, -0.5),
        ("overwrite", "overwriteCheckBox", "checked", True, True),
        ("note", "noteEdit", "text", "T1", "T1"),
        ("model", "modelPath", "currentPath", "/data/weights", Path("/data/weights")),
    ],
)
def test_widget_and_parameter_follow_each_other(panel, field, widget, property, shown, stored):
    parameters, widget = panel.widget._parameterNode, getattr(panel.ui, widget)
    before, shownBefore = getattr(parameters, field), getattr(widget, property)
    setattr(widget, property, shown)
    now = getattr(parameters, field)
    assert getattr(now, "name", now) == stored or now == stored
    setattr(parameters, field, before)
    assert getattr(widget, property) == shownBefore
    again = panel.logic.getParameterNode()  # a second wrapper reads what the first one stored
    assert getattr(again, field) == before
    scene.assertNoErrors()


def test_optional_parameter_holds_nothing_or_a_value(panel):
    parameters = panel.widget._parameterNode
    assert parameters.limit is None
    parameters.limit = 2.5
    assert panel.logic.getParameterNode().limit == 2.5
    parameters.limit = None
    assert panel.logic.getParameterNode().limit is None


def test_section_hides_and_shows_its_widgets(panel):
    section, inside = panel.ui.outputsCollapsibleButton, panel.ui.overwriteCheckBox
    panel.representation.show()
    assert inside.visible
    section.click()
    assert section.collapsed
    assert not inside.visible
    section.collapsed = False
    assert inside.visible


def test_parameters_refuse_what_their_type_forbids(panel):
    parameters = panel.widget._parameterNode
    for field, value in (
        ("strength", 1.5),
        ("passes", 0),
        ("overwrite", "yes"),
        ("inputVolume", addNode("Table", "t")),
    ):
        with pytest.raises((ValueError, TypeError)):
            setattr(parameters, field, value)


def test_segments_are_chosen_with_check_marks(panel, ramp):
    panel.ui.segmentationSelector.setCurrentNode(addSegmentation(ramp, "GTV", "Brain", "Stem"))
    combo, parameters = panel.ui.protectedSelector, panel.widget._parameterNode
    assert combo.count == 3
    assert combo.noneChecked()
    for row in (2, 0):
        combo.setCheckState(combo.checkableModel().index(row, 0), qt.Qt.Checked)
    assert list(parameters.protectedSegments) == ["GTV", "Stem"]
    combo.setCheckState(combo.model().index(0, 0), qt.Qt.Unchecked)
    assert list(parameters.protectedSegments) == ["Stem"]
    combo.clear()
    assert list(combo.checkedIndexes()) == []
    panel.ui.segmentsTable.setSelectedSegmentIDs(["GTV", "Stem"])
    assert list(panel.ui.segmentsTable.selectedSegmentIDs()) == ["GTV", "Stem"]
    scene.assertNoErrors()


def test_node_selector_follows_the_scene(panel, ramp):
    selector = panel.ui.inputSelector
    assert selector.currentNode() is None  # nothing is selected by itself
    selector.setCurrentNode(ramp)
    ramp.SetName("renamed")
    assert selector.nodeCount() == 1
    addNode("Table", "not a volume")
    assert selector.nodeCount() == 1
    slicer.mrmlScene.RemoveNode(ramp)
    assert selector.currentNode() is None
    assert panel.widget._parameterNode.inputVolume is None


def test_closing_the_scene_leaves_a_working_panel(panel, ramp):
    fill(panel, ramp)
    slicer.mrmlScene.Clear(0)
    assert not panel.ui.applyButton.enabled
    fill(panel, addVolume("next", np.indices((4, 5, 6)).sum(0)))
    panel.ui.applyButton.click()
    scene.assertNoErrors()


def test_reload_gives_a_fresh_working_panel(panel, ramp):
    before = panel.widget
    panel.widget.onReload()
    assert panel.widget is not before
    panel.representation.enter()
    fill(panel, ramp)
    panel.ui.applyButton.click()
    scene.assertNoErrors()


def test_shown_error_is_collected_with_its_text(panel):
    fill(panel, addVolume("flat", np.ones((4, 5, 6))))
    panel.ui.applyButton.click()
    assert scene.errorTexts() == ["The volume was not smoothed.\n\nThe volume is constant."]
    assert scene.uncaught == []  # the user has seen it
    with pytest.raises(AssertionError, match="constant"):
        scene.assertNoErrors()


def test_what_slots_and_observers_raise_is_collected(panel, ramp):
    def fail(*args):
        raise LookupError("nobody sees this")

    panel.ui.compareButton.connect("clicked(bool)", fail)
    panel.ui.overwriteCheckBox.toggled.connect(fail)
    fill(panel, ramp)
    panel.ui.compareButton.click()
    panel.ui.overwriteCheckBox.checked = True
    ramp.AddObserver("ModifiedEvent", fail)
    ramp.Modified()
    assert [type(error) for error in scene.uncaught] == [LookupError] * 3


def test_no_dialog_ever_waits(panel):
    with pytest.raises(RuntimeError, match="wait for the user"):
        qt.QMessageBox.question(None, "title", "text")
    with pytest.raises(RuntimeError, match="wait for the user"):
        qt.QDialog().exec_()
    slicer.util.infoDisplay("for your information")
    assert slicer.util.confirmYesNoDisplay("sure?")
    slicer.app.answer = False
    assert not slicer.util.confirmOkCancelDisplay("sure?")
    assert [message.text for message in scene.messages] == ["for your information", "sure?", "sure?"]


def test_unsupported_widgets_are_refused(tmp_path):
    for module, name in ((ctk, "ctkRangeWidget"), (slicer, "qMRMLSegmentEditorWidget")):
        assert type(qt.QLabel()) is not getattr(module, name)  # it may be named
        with pytest.raises(NotImplementedError, match=name):
            getattr(module, name)()
    misspelt = '<property name="noneEnabeld"><bool>true</bool></property>'
    for cls, content, named in (
        ("qMRMLSubjectHierarchyTreeView", "", "qMRMLSubjectHierarchyTreeView"),
        ("qMRMLNodeComboBox", misspelt, "noneEnabeld"),
    ):
        (tmp_path / "panel.ui").write_text(f'<ui version="4.0"><widget class="{cls}" name="w">{content}</widget></ui>')
        with pytest.raises(NotImplementedError, match=named):
            slicer.util.loadUI(str(tmp_path / "panel.ui"))


def test_qt_behaves_as_in_slicer():
    button = qt.QPushButton("text")
    got = []
    assert button.text == "text"
    with pytest.raises(AttributeError, match="not allowed"):
        button.state = 1
    with pytest.raises(AttributeError, match="not writable"):
        button.width = 3
    with pytest.raises(RuntimeError, match="does not exist"):
        button.connect("pressedHard()", got.append)
    button.connect("clicked(bool)", lambda: got.append("none"))
    button.connect("clicked(bool)", lambda x=7: got.append(x))
    button.click()
    assert got == ["none", False]
    button.text = None
    assert button.text == "None"
    timer = qt.QTimer()
    timer.setSingleShot(True)
    assert button.inherits("QAbstractButton")


def test_layout_and_composite_nodes_are_real(panel, ramp):
    fill(panel, ramp)
    panel.ui.applyButton.click()
    panel.ui.compareButton.click()
    scene.assertNoErrors()
    manager = slicer.app.layoutManager()
    assert manager.layout == manager.layouts[-1] == slicer.vtkMRMLLayoutNode.SlicerLayoutSideBySideView
    assert {"Red", "Yellow", "Green"} <= set(manager.sliceViewNames())
    shown = [
        manager.sliceWidget(name).sliceLogic().GetSliceCompositeNode().GetBackgroundVolumeID()
        for name in ("Red", "Yellow")
    ]
    assert shown == [ramp.GetID(), slicer.util.getNode("smooth").GetID()]
    assert manager.sliceWidget("Purple") is None
    slicer.util.setSliceViewerLayers(background=ramp, foreground="smooth", foregroundOpacity=0.5, fit=True)
    assert manager.sliceWidget("Green").mrmlSliceCompositeNode().GetForegroundOpacity() == 0.5


def test_sample_data_keeps_slicers_rules(panel):
    assert slicer.modules.sampleDataSourceCategories["Demo"] == {"title": "Demo"}
    assert sampledata.press("DemoRamp").GetName() == "DemoRamp"
    register = sampledata.SampleDataLogic.registerCustomSampleDataSource
    with pytest.raises(TypeError):
        register(category="Demo", sampleName="without uris")
    with pytest.raises(ValueError, match="2 uris but 1 fileNames"):
        register(category="Demo", sampleName="uneven", uris=["a", "b"], fileNames=["a"])


def test_dicom_tags_come_from_the_test():
    slicer.dicomDatabase.instances["1.2.3"] = {"0018,0087": "3"}
    assert slicer.dicomDatabase.instanceValue("1.2.3", "0018,0087") == "3"
    assert slicer.dicomDatabase.instanceValue("1.2.3", "0018,0080") == ""
    scene.clear()
    assert slicer.dicomDatabase.instanceValue("1.2.3", "0018,0087") == ""


def test_files_and_scenes_are_read_back(ramp, tmp_path):
    addSegmentation(ramp, "GTV")
    expected = slicer.util.arrayFromVolume(ramp).copy()
    assert slicer.util.saveNode(ramp, str(tmp_path / "ramp.nrrd"))
    assert slicer.util.saveNode(slicer.util.getNode("structures"), str(tmp_path / "structures.seg.nrrd"))
    assert slicer.util.saveScene(str(tmp_path / "scene.mrb"))
    slicer.mrmlScene.Clear(0)
    np.testing.assert_array_equal(slicer.util.arrayFromVolume(slicer.util.loadVolume(tmp_path / "ramp.nrrd")), expected)
    segmentation = slicer.util.loadSegmentation(tmp_path / "structures.seg.nrrd").GetSegmentation()
    assert segmentation.GetNthSegment(0).GetName() == "GTV"
    (tmp_path / "figures.csv").write_text("name,value\nMean,1.5\n")
    assert slicer.util.loadTable(tmp_path / "figures.csv").GetCellText(0, 1) == "1.5"
    for load, name in ((slicer.util.loadVolume, "absent.nrrd"), (slicer.util.loadScene, "absent.mrb")):
        with pytest.raises(RuntimeError, match="Failed to load"):
            load(tmp_path / name)
    slicer.mrmlScene.Clear(0)
    slicer.util.loadScene(tmp_path / "scene.mrb")
    np.testing.assert_array_equal(slicer.util.array("ramp"), expected)


def test_pictures_show_outlines_and_differences(ramp, tmp_path):
    other = addVolume("other", slicer.util.arrayFromVolume(ramp) + np.eye(40)[:30] * 20)
    segmentation = addSegmentation(ramp, "GTV")
    pictures.outline(segmentation)
    center = segmentation.GetSegmentCenterRAS("GTV")
    view = pictures.SliceView("Red", size=(120, 90))
    inside, outside = view.picture(ramp, center), view.picture(ramp, (0, 0, 1))
    yellow = (inside[..., 0] > 200) & (inside[..., 1] > 200) & (inside[..., 2] < 60)
    assert inside.shape == (90, 120, 3)
    assert 20 < yellow.sum() < 400  # a line around the box, not its area
    assert not ((outside[..., 0] > 200) & (outside[..., 2] < 60)).any()
    three = pictures.comparison(ramp, other, center, view)
    assert three.shape == (90, 360, 3)
    difference = three[30:, 240:].astype(int)
    assert (difference[..., 0] > 150).any()  # red where the other volume is brighter
    assert slicer.mrmlScene.GetFirstNodeByName("other - ramp") is None
    pictures.save(tmp_path / "three.png", three)
    assert qt.QImage(str(tmp_path / "three.png")).width() == 360


def test_logics_and_pictures_need_no_qt():
    code = """
import sys
from Testing.harness import scene
scene.start()
from Testing.harness.pictures import SliceView
import numpy as np, slicer
volume = slicer.util.addVolumeFromArray(np.indices((9, 9, 9)).sum(0).astype(np.float32))
assert slicer.modules.volumes.logic().CompareVolumeGeometry(volume, volume) == ""
assert SliceView(size=(50, 50)).picture(volume).max() > 0
assert slicer.app.layoutManager() is None
assert not any(name.startswith("PySide6") for name in sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_calls_that_return_nothing_do_not_use_up_none():
    label = qt.QLabel()
    for _again in range(100):
        label.setText("x")
    assert sys.getrefcount(None) > 1 << 30
