"""Scene and module come and go while there are results; the picture of the panel."""

import subprocess
import sys

import pytest

pytest.importorskip("Testing.gui.panels", reason="slicer-core or PySide6 is missing", exc_type=ImportError)

import qt
import slicer

from HarmonizeModuleLib import scene as door
from HarmonizeModuleLib.inputsPanel import MEASURED_COLUMN, PROTECTED_COLUMN, REFERENCE_COLUMN
from HarmonizeModuleLib.sampleData import makeThreeScannerCase
from Testing.engine.scans import head
from Testing.gui.panels import MODULE, ROOT, parameters, picture, rows, select, tick, ticked, whileRunning
from Testing.harness import scene


def test_closing_the_scene_leaves_a_working_panel(panel, heads):
    select(panel, heads[0][0], "zscore")
    panel.ui.applyButton.click()
    slicer.mrmlScene.Clear(0)
    assert panel.ui.verdictLabel.text == "No result yet."
    assert not panel.ui.applyButton.enabled
    assert rows(panel) == {}
    volume, _segmentation = door.nodesFromScan(head())
    select(panel, volume, "zscore")
    panel.ui.applyButton.click()
    assert parameters(panel).outputVolume is not None
    scene.assertNoErrors()


def test_closing_the_scene_while_it_runs_stops_the_work(panel, heads):
    select(panel, heads[0][0], "zscore")
    timer = whileRunning(lambda: slicer.mrmlScene.Clear(0))
    panel.ui.applyButton.click()
    assert not timer.active
    assert slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLScalarVolumeNode") == 0
    assert not panel.ui.applyButton.enabled
    assert panel.ui.applyButton.toolTip == "Choose a scan to harmonize"
    scene.assertNoErrors()


def test_a_scan_that_is_removed_while_it_runs_is_named(panel, heads):
    select(panel, heads[0][0], "zscore")
    timer = whileRunning(lambda: slicer.mrmlScene.RemoveNode(heads[0][0]))
    panel.ui.applyButton.click()
    assert not timer.active
    assert "'scanner A' was removed from the scene meanwhile; nothing was written" in scene.errorTexts()[0]
    assert slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLTableNode") == 0
    scene.messages.clear()
    scene.assertNoErrors()


def test_a_saved_scene_brings_back_choices_exact_values_and_the_result(panel, heads, tmp_path):
    select(panel, heads[1][0], "histogram-matching", heads[0][0])
    tick(panel, "white matter", REFERENCE_COLUMN)
    tick(panel, "brain", MEASURED_COLUMN, on=False)
    panel.ui.spacingSpinBox.value = 2.5
    panel.ui.settingsCombo.currentIndex = panel.ui.settingsCombo.findData("mr")
    panel.ui.applyButton.click()
    scene.assertNoErrors()
    roles = [ticked(panel, column) for column in (REFERENCE_COLUMN, PROTECTED_COLUMN, MEASURED_COLUMN)]
    verdict = panel.ui.verdictLabel.text

    def values():
        table = parameters(panel).featureTable.GetTable()
        columns = [table.GetColumn(c) for c in range(table.GetNumberOfColumns())]
        return [[str(column.GetValue(row)) for column in columns] for row in range(table.GetNumberOfRows())]

    expected = values()
    assert slicer.util.saveScene(str(tmp_path / "case.mrb"))
    slicer.mrmlScene.Clear(0)
    assert parameters(panel).inputVolume is None
    slicer.util.loadScene(str(tmp_path / "case.mrb"))
    p = parameters(panel)
    assert (p.inputVolume.GetName(), p.targetVolume.GetName()) == ("scanner B", "scanner A")
    assert (p.method, p.commonSpacing, p.settings) == ("histogram-matching", 2.5, "mr")
    assert [ticked(panel, c) for c in (REFERENCE_COLUMN, PROTECTED_COLUMN, MEASURED_COLUMN)] == roles
    assert panel.ui.inputSelector.currentNode() is p.inputVolume
    assert panel.ui.methodCombo.currentData == "histogram-matching"
    assert panel.ui.spacingSpinBox.value == 2.5
    assert panel.ui.settingsCombo.currentData == "mr"
    assert values() == expected  # to the last digit, though table files keep six
    assert panel.ui.verdictLabel.text == verdict
    assert panel.ui.featureStructureCombo.currentText == "GTV"
    panel.ui.differenceButton.click()
    panel.ui.applyButton.click()
    scene.assertNoErrors()


def test_leaving_and_entering_the_module_keeps_everything_and_follows_what_was_drawn_meanwhile(panel, heads):
    select(panel, heads[0][0], "zscore")
    panel.ui.applyButton.click()
    panel.representation.exit()
    heads[0][1].GetSegmentation().AddEmptySegment("", "PTV")
    panel.representation.enter()
    assert ticked(panel, PROTECTED_COLUMN) == ["GTV", "PTV"]
    assert panel.ui.methodCombo.currentData == "zscore"
    assert "scanner A" in panel.ui.verdictLabel.text
    panel.ui.methodCombo.currentIndex = panel.ui.methodCombo.findData("whitestripe")
    assert parameters(panel).method == "whitestripe"
    scene.assertNoErrors()


def test_the_module_is_reloaded_with_its_library_and_the_engine():
    code = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
from Testing.harness import application, scene
panel = application.loadModule({str(MODULE)!r})
from Testing.engine.scans import head
before = panel.widget, sys.modules["HarmonizeModuleLib.logic"], sys.modules["HarmonizeExtension.case"]
panel.widget.onReload()
panel.representation.enter()
after = panel.widget, sys.modules["HarmonizeModuleLib.logic"], sys.modules["HarmonizeExtension.case"]
assert not any(a is b for a, b in zip(before, after))
for name in [n for n in sys.modules if n.startswith("Testing.engine")]:
    del sys.modules[name]
from Testing.engine.scans import head
from HarmonizeModuleLib.scene import nodesFromScan
volume, _segmentation = nodesFromScan(head())
panel.ui.inputSelector.setCurrentNode(volume)
panel.ui.methodCombo.currentIndex = panel.ui.methodCombo.findData("zscore")
panel.ui.applyButton.click()
scene.assertNoErrors()
assert panel.logic.getParameterNode().outputVolume is not None
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


def test_the_panel_has_its_picture_taken_with_a_result(panel, tmp_path):
    volumes, _segmentations = makeThreeScannerCase(2.0)
    select(panel, volumes[1], "histogram-matching", volumes[0])
    tick(panel, "white matter", REFERENCE_COLUMN)
    panel.ui.applyButton.click()
    scene.assertNoErrors()
    path = picture(panel, "panel.png", tmp_path)
    image = qt.QImage(str(path))
    assert image.width() == 520
    assert panel.representation.minimumSizeHint.width() < 450  # fits beside the slice views on a small screen
    assert image.height() > 600
    assert path.stat().st_size < 300_000
    for table in (panel.ui.structureTable, panel.ui.featureView):
        for column in range(1, table.columnCount):  # no header is cut
            header = table.horizontalHeader()
            assert header.sectionSize(column) >= header.sectionSizeHint(column)
    scene.assertNoErrors()
