# ruff: noqa: E402 (qt can be imported once the harness has started)
"""The panel, clicked through as a planner does: inputs, roles, method, target, Apply, Cancel, results, scene files.

The picture of the panel goes to the folder that HARMONIZE_PICTURES names, else to a temporary one.
"""

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

slicer = pytest.importorskip("slicer", reason="slicer-core is not installed")
pytest.importorskip("PySide6.QtWidgets", reason="PySide6 cannot be imported", exc_type=ImportError)

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "HarmonizeModule"))

from Testing.engine.scans import grid, head
from Testing.harness import application, scene

application.start()
import qt

from HarmonizeModuleLib import scene as door
from HarmonizeModuleLib.inputsPanel import MEASURED_COLUMN, PROTECTED_COLUMN, REFERENCE_COLUMN
from HarmonizeModuleLib.sampleData import makeThreeScannerCase

from HarmonizeExtension import images
from HarmonizeExtension.methods import catalogue
from HarmonizeExtension.methods.statistical import ZScore
from HarmonizeExtension.scan import Modality, Scan

MODULE = ROOT / "HarmonizeModule" / "HarmonizeModule.py"


@pytest.fixture(autouse=True)
def emptyScene():
    scene.clear()
    yield
    scene.clear()


@pytest.fixture
def panel():
    loaded = application.loadModule(MODULE)
    yield loaded
    loaded.close()


@pytest.fixture
def heads():
    """Two heads in the scene: [(volume, segmentation), (volume, segmentation)]."""
    return [
        door.nodesFromScan(dataclasses.replace(head(seed=seed), name=f"scanner {name}"))
        for seed, name in enumerate("AB")
    ]


def ct(name="CT"):
    """A cylinder of soft tissue with noise, in air."""
    on = grid(size=(96, 96, 8), spacing=(1.0, 1.0, 2.0))
    y, x = np.mgrid[-1:1:96j, -1:1:96j]
    array = np.where(np.hypot(x, y) < 0.8, 50 + 12 * np.random.default_rng(0).standard_normal((8, 96, 96)), -1000)
    return Scan(images.to_image(array.astype(np.float32), on), Modality.CT, units="HU", name=name)


def pet():
    return dataclasses.replace(head(), modality=Modality.PET, units="SUV", name="PET")


def parameters(panel):
    return panel.logic.getParameterNode()


def select(panel, volume, method=None, target=None):
    panel.ui.inputSelector.setCurrentNode(volume)
    if method:
        panel.ui.methodCombo.currentIndex = panel.ui.methodCombo.findData(method)
    if target is not None:
        panel.ui.targetVolumeSelector.setCurrentNode(target)


def rows(panel):
    table = panel.ui.structureTable
    return {table.item(row, 0).text(): row for row in range(table.rowCount)}


def ticked(panel, column):
    table = panel.ui.structureTable
    return [name for name, row in rows(panel).items() if table.item(row, column).checkState() == qt.Qt.Checked]


def tick(panel, name, column, on=True):
    panel.ui.structureTable.item(rows(panel)[name], column).setCheckState(qt.Qt.Checked if on else qt.Qt.Unchecked)


def whileRunning(action):
    """Do something once the running job lets events in, as a user's hand would; keep the timer until then."""
    timer = qt.QTimer()
    timer.setSingleShot(True)
    timer.connect("timeout()", action)
    timer.start(0)
    return timer


def nodeCount():
    return slicer.mrmlScene.GetNumberOfNodes()


# ---------------------------------------------------------------- inputs


def test_the_first_scan_and_its_segmentation_are_chosen_and_its_modality_is_read(heads, panel):
    p = parameters(panel)
    assert p.inputVolume is heads[0][0]
    assert p.segmentation is heads[0][1]
    assert panel.ui.modalityCombo.currentText == "from the scan (MR)"
    assert list(rows(panel)) == ["brain", "white matter", "GTV"]
    scene.assertNoErrors()


def test_another_scan_brings_its_own_segmentation_and_a_fresh_output(panel, heads):
    select(panel, heads[0][0], "zscore")
    panel.ui.applyButton.click()
    result = parameters(panel).outputVolume
    assert result is not None
    select(panel, heads[1][0])
    p = parameters(panel)
    assert p.segmentation is heads[1][1]
    assert p.outputVolume is None  # the result of the first scan is not overwritten
    assert p.featureTable is None
    panel.ui.applyButton.click()
    assert parameters(panel).outputVolume is not result
    scene.assertNoErrors()


def test_in_mr_disease_is_protected_and_everything_measured_by_default(panel, heads):
    select(panel, heads[0][0])
    assert ticked(panel, PROTECTED_COLUMN) == ["GTV"]
    assert ticked(panel, MEASURED_COLUMN) == ["brain", "white matter", "GTV"]
    assert ticked(panel, REFERENCE_COLUMN) == []
    scene.assertNoErrors()


def test_in_pet_and_ct_nothing_is_protected_by_default_but_may_be(panel):
    volume, segmentation = door.nodesFromScan(pet())
    select(panel, volume)
    assert ticked(panel, PROTECTED_COLUMN) == []
    assert ticked(panel, MEASURED_COLUMN) == ["brain", "white matter", "GTV"]
    tick(panel, "GTV", PROTECTED_COLUMN)
    for modality, protected in (("CT", []), ("MR", ["CTV MR"])):  # only segments that are new get defaults
        panel.ui.modalityCombo.currentIndex = panel.ui.modalityCombo.findData(modality)
        assert ticked(panel, PROTECTED_COLUMN) == ["GTV"]
        segmentation.GetSegmentation().AddEmptySegment("", f"CTV {modality}")
        assert ticked(panel, PROTECTED_COLUMN) == ["GTV", *protected]
    scene.assertNoErrors()


def test_reference_is_exclusive_and_the_other_roles_are_not(panel, heads):
    select(panel, heads[0][0])
    tick(panel, "brain", REFERENCE_COLUMN)
    tick(panel, "white matter", REFERENCE_COLUMN)
    assert ticked(panel, REFERENCE_COLUMN) == ["white matter"]
    tick(panel, "white matter", REFERENCE_COLUMN, on=False)
    assert ticked(panel, REFERENCE_COLUMN) == []
    tick(panel, "brain", PROTECTED_COLUMN)
    tick(panel, "GTV", MEASURED_COLUMN, on=False)
    p, ids = parameters(panel), rows(panel)
    stored = [panel.ui.structureTable.item(ids[name], 0).data(qt.Qt.UserRole) for name in ("brain", "GTV")]
    assert list(p.protectedSegments) == stored
    assert stored[1] not in list(p.measuredSegments)
    scene.assertNoErrors()


def test_segments_are_followed_while_they_are_edited(panel, heads):
    select(panel, heads[0][0])
    tick(panel, "brain", MEASURED_COLUMN, on=False)
    segmentation = heads[0][1].GetSegmentation()
    segmentID = segmentation.AddEmptySegment("", "Segment_1")
    assert list(rows(panel)) == ["brain", "white matter", "GTV", "Segment_1"]
    assert ticked(panel, MEASURED_COLUMN) == ["white matter", "GTV", "Segment_1"]
    segmentation.GetSegment(segmentID).SetName("Lesion left")
    assert ticked(panel, PROTECTED_COLUMN) == ["GTV", "Lesion left"]
    tick(panel, "Lesion left", PROTECTED_COLUMN, on=False)
    segmentation.GetSegment(segmentID).Modified()  # such as a stroke of the brush
    assert ticked(panel, PROTECTED_COLUMN) == ["GTV"]
    segmentation.RemoveSegment(segmentID)
    assert list(rows(panel)) == ["brain", "white matter", "GTV"]
    assert segmentID not in list(parameters(panel).measuredSegments)
    scene.assertNoErrors()


def test_another_segmentation_gets_its_own_roles_even_where_the_ids_are_the_same(panel, heads):
    volume, _segmentation = heads[0]
    nodes = []
    for name in ("GTV", "liver"):
        node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", name)
        node.GetSegmentation().AddEmptySegment("Segment_1", name)
        nodes.append(node)
    select(panel, volume)
    panel.ui.segmentationSelector.setCurrentNode(nodes[0])
    assert ticked(panel, PROTECTED_COLUMN) == ["GTV"]
    panel.ui.segmentationSelector.setCurrentNode(nodes[1])
    assert ticked(panel, PROTECTED_COLUMN) == []
    assert ticked(panel, MEASURED_COLUMN) == ["liver"]
    panel.ui.segmentationSelector.setCurrentNode(None)
    assert rows(panel) == {}
    assert list(parameters(panel).measuredSegments) == []
    scene.assertNoErrors()


def test_a_scan_that_does_not_say_its_modality_asks_for_it(panel, heads):
    volume = heads[0][0]
    volume.RemoveAttribute(door.MODALITY_ATTRIBUTE)
    select(panel, volume, "zscore")
    assert panel.ui.modalityCombo.currentText == "from the scan (not said)"
    assert not panel.ui.applyButton.enabled
    assert "Choose the modality" in panel.ui.applyButton.toolTip
    panel.ui.modalityCombo.currentIndex = panel.ui.modalityCombo.findData("MR")
    assert panel.ui.applyButton.enabled
    assert parameters(panel).modality == "MR"
    scene.assertNoErrors()


# ---------------------------------------------------------------- method and target


@pytest.mark.parametrize(("make", "modality"), [(head, Modality.MR), (ct, Modality.CT), (pet, Modality.PET)])
def test_only_methods_that_fit_the_modality_are_offered(panel, make, modality):
    volume, _segmentation = door.nodesFromScan(make())
    select(panel, volume)
    combo = panel.ui.methodCombo
    offered = [combo.itemData(i) for i in range(combo.count)]
    assert offered == [card.name for card in catalogue.cards(modality)]
    assert parameters(panel).method in offered
    scene.assertNoErrors()


def shown(panel):
    names = ("targetVolumeSelector", "targetSegmentationSelector", "targetFolderEdit", "targetTextCombo")
    return [name for name in names if not getattr(panel.ui, name).isHidden()]


def test_the_target_is_asked_for_as_the_method_needs_it_and_apply_says_what_is_missing(panel, heads, tmp_path):
    ui = panel.ui

    def why():
        assert ui.applyButton.enabled == ui.applyButton.toolTip.startswith("Harmonize the scan")
        return ui.applyButton.toolTip

    select(panel, heads[0][0], "histogram-matching")
    assert shown(panel) == ["targetVolumeSelector"]
    assert why() == "Choose a reference scan"
    select(panel, heads[0][0], target=heads[0][0])
    assert "is the scan itself" in why()
    select(panel, heads[0][0], target=heads[1][0])
    assert ui.applyButton.enabled
    assert parameters(panel).targetSegmentation is heads[1][1]
    tick(panel, "brain", REFERENCE_COLUMN)
    assert shown(panel) == ["targetVolumeSelector", "targetSegmentationSelector"]
    ui.targetSegmentationSelector.setCurrentNode(None)
    assert "Choose the segmentation of the reference scan" in why()
    ui.targetSegmentationSelector.setCurrentNode(heads[1][1])
    assert ui.applyButton.enabled
    ui.outputSelector.setCurrentNode(heads[0][0])
    assert "would overwrite the scan" in why()
    ui.outputSelector.setCurrentNode(heads[1][0])
    assert "would overwrite the reference scan" in why()
    ui.outputSelector.setCurrentNode(None)
    select(panel, heads[0][0], "nyul")
    assert shown(panel) == ["targetFolderEdit"]
    assert why() == "Choose a model folder"
    ui.targetFolderEdit.currentPath = str(tmp_path)
    assert ui.applyButton.enabled
    select(panel, heads[0][0], "zscore")
    assert shown(panel) == []
    assert ui.applyButton.enabled
    ui.inputSelector.setCurrentNodeID("")
    assert why() == "Choose a scan to harmonize"
    scene.assertNoErrors()


def test_a_kernel_is_chosen_by_name_or_by_a_reference_scan(panel):
    volume, _none = door.nodesFromScan(ct())
    other, _none = door.nodesFromScan(ct("reference"))
    select(panel, volume, "kernel-matching")
    combo = panel.ui.targetTextCombo
    assert shown(panel) == ["targetVolumeSelector", "targetTextCombo"]
    assert [combo.itemText(i) for i in range(combo.count)] == ["", "soft", "standard", "sharp"]
    assert panel.ui.applyButton.toolTip == "Choose a reference scan or a kernel"
    combo.currentIndex = combo.findText("soft")
    assert parameters(panel).targetText == "soft"
    assert panel.ui.applyButton.enabled
    select(panel, volume, target=other)
    assert not combo.enabled
    assert "The reference scan says it" in combo.toolTip
    panel.ui.targetVolumeSelector.setCurrentNode(None)
    assert combo.enabled
    combo.setEditText("B30f")  # no generic kernel
    panel.ui.applyButton.click()
    assert "there is no kernel 'B30f'; choose soft, standard, sharp" in scene.errorTexts()[0]
    scene.messages.clear()
    scene.assertNoErrors()


def test_a_resolution_is_typed_in_mm_and_does_not_outlive_its_method(panel):
    for made in (pet(), ct()):
        door.nodesFromScan(made)
    select(panel, slicer.util.getNode("PET"), "resolution-matching")
    assert panel.ui.applyButton.toolTip == "Choose a reference scan or a resolution in mm"
    panel.ui.targetTextCombo.setEditText("9.5")
    assert parameters(panel).targetText == "9.5"
    assert panel.ui.applyButton.enabled
    select(panel, slicer.util.getNode("CT"))
    assert parameters(panel).method == "kernel-matching"
    assert parameters(panel).targetText == ""
    scene.assertNoErrors()


def test_bias_correction_is_offered_for_mr_only(panel, heads):
    select(panel, heads[0][0], "zscore")
    assert not panel.ui.biasCheckBox.isHidden()
    volume, _none = door.nodesFromScan(ct())
    select(panel, volume)
    assert panel.ui.biasCheckBox.isHidden()
    scene.assertNoErrors()


# ---------------------------------------------------------------- Apply


def test_apply_gives_volume_verdict_table_and_display(panel, heads):
    ui = panel.ui
    select(panel, heads[1][0], "histogram-matching", heads[0][0])
    assert not ui.differenceButton.enabled
    ui.applyButton.click()
    scene.assertNoErrors()
    p = parameters(panel)
    assert p.outputVolume.GetName() == "scanner B harmonized"
    assert ui.progressLabel.text == "Done: scanner B harmonized"
    assert ui.progressBar.isHidden()
    assert ui.applyButton.text == "Apply"
    assert "scanner B<br>" in ui.verdictLabel.text
    assert any(word in ui.verdictLabel.text for word in ("Pass", "Review"))
    assert "•" in ui.reasonsBrowser.plainText
    assert ui.featureStructureCombo.currentText == "GTV"  # what a planner looks at first
    assert ui.featureView.rowCount == 94  # 93 features and the volume
    energy = next(r for r in range(ui.featureView.rowCount) if "Energy" in ui.featureView.item(r, 0).text())
    before, after = (float(ui.featureView.item(energy, column).text()) for column in (1, 2))
    table = p.featureTable
    column = table.GetTable().GetColumnByName("original_firstorder_Energy")
    labels, structures = (table.GetTable().GetColumnByName(name) for name in ("label", "structure"))
    stored = {
        labels.GetValue(row): column.GetValue(row)
        for row in range(table.GetNumberOfRows())
        if structures.GetValue(row) == "GTV"
    }
    assert (before, after) == pytest.approx((stored["before"], stored["after"]), rel=1e-3)
    assert before != after
    ui.featureStructureCombo.currentIndex = ui.featureStructureCombo.findText("brain")
    assert float(ui.featureView.item(energy, 1).text()) != before
    scene.assertNoErrors()


def backgrounds():
    manager = slicer.app.layoutManager()
    return {
        name: manager.sliceWidget(name).sliceLogic().GetSliceCompositeNode().GetBackgroundVolumeID()
        for name in ("Red", "Yellow", "Green")
    }


def test_display_buttons_show_the_images_in_the_slice_views(panel, heads):
    select(panel, heads[0][0], "zscore")
    panel.ui.applyButton.click()
    before, after = heads[0][0].GetID(), parameters(panel).outputVolume.GetID()
    assert set(backgrounds().values()) == {after}
    panel.ui.sideBySideButton.click()
    assert (backgrounds()["Red"], backgrounds()["Yellow"]) == (before, after)
    count = nodeCount()
    for button in (panel.ui.checkerboardButton, panel.ui.differenceButton):
        button.click()
        (displayed,) = {slicer.mrmlScene.GetNodeByID(nodeID) for nodeID in backgrounds().values()}
        assert displayed.GetID() not in (before, after)
        assert slicer.modules.volumes.logic().CompareVolumeGeometry(displayed, heads[0][0]) == ""
        assert not displayed.GetSaveWithScene()
    made = nodeCount()
    assert made > count
    panel.ui.differenceButton.click()
    assert nodeCount() == made  # made once, used again
    panel.ui.tableButton.click()
    selection = slicer.app.applicationLogic().GetSelectionNode()
    assert selection.GetActiveTableID() == parameters(panel).featureTable.GetID()
    scene.assertNoErrors()


def test_a_result_that_was_deleted_is_named_when_it_shall_be_shown(panel, heads):
    select(panel, heads[0][0], "zscore")
    panel.ui.applyButton.click()
    slicer.mrmlScene.RemoveNode(parameters(panel).outputVolume)
    panel.ui.differenceButton.click()
    assert "'scanner A harmonized' is no longer in the scene" in scene.errorTexts()[0]
    scene.messages.clear()
    scene.assertNoErrors()


def test_nothing_measured_gives_no_table_and_shows_no_older_one(panel, heads):
    select(panel, heads[0][0], "zscore")
    panel.ui.applyButton.click()
    assert panel.ui.tableButton.enabled
    for name in rows(panel):
        tick(panel, name, MEASURED_COLUMN, on=False)
    panel.ui.applyButton.click()
    assert not panel.ui.tableButton.enabled
    assert panel.ui.featureView.isHidden()
    assert panel.ui.differenceButton.enabled
    assert parameters(panel).featureTable is None
    scene.assertNoErrors()


def test_apply_again_writes_to_the_same_nodes(panel, heads):
    select(panel, heads[0][0], "zscore")
    panel.ui.applyButton.click()
    count, result = nodeCount(), parameters(panel).outputVolume
    panel.ui.applyButton.click()
    assert nodeCount() == count
    assert parameters(panel).outputVolume is result
    scene.assertNoErrors()


def test_apply_becomes_cancel_and_cancelling_writes_nothing(panel, heads):
    ui, seen = panel.ui, []

    def cancel():
        seen.append((ui.applyButton.text, ui.inputsSection.enabled, ui.progressBar.isHidden()))
        ui.applyButton.click()
        seen.append(ui.applyButton.enabled)

    select(panel, heads[0][0], "zscore")
    count, timer = nodeCount(), whileRunning(cancel)
    ui.applyButton.click()
    assert seen == [("Cancel", False, False), False]
    assert not timer.active
    assert ui.progressLabel.text == "Cancelled; nothing was written."
    assert (ui.applyButton.text, ui.applyButton.enabled, ui.inputsSection.enabled) == ("Apply", True, True)
    assert nodeCount() == count
    assert parameters(panel).outputVolume is None
    ui.applyButton.click()  # and it works again
    assert parameters(panel).outputVolume is not None
    scene.assertNoErrors()


def test_cancelling_at_the_very_end_writes_nothing_either(panel, heads, monkeypatch):
    select(panel, heads[0][0], "zscore")
    report = panel.widget._onProgress

    def last(fraction, text):
        report(fraction, text)
        if fraction >= 1:
            panel.ui.applyButton.click()

    monkeypatch.setattr(panel.widget, "_onProgress", last)
    count = nodeCount()
    panel.ui.applyButton.click()
    assert panel.ui.progressLabel.text == "Cancelled; nothing was written."
    assert nodeCount() == count
    scene.assertNoErrors()


def test_a_refused_result_is_shown_with_its_reasons_and_nothing_is_written(panel, heads, monkeypatch):
    monkeypatch.setattr(ZScore, "_harmonize", lambda self, scan, body, progress, cancelled: scan.array[:, :, ::-1])
    array = slicer.util.arrayFromVolume(heads[0][0])
    half = array[:, :, : array.shape[2] // 2]
    half += 500 * np.random.default_rng(0).random(half.shape)
    select(panel, heads[0][0], "zscore")
    count = nodeCount()
    panel.ui.applyButton.click()
    assert "Refused: the result was not written." in panel.ui.verdictLabel.text
    assert "are not where they were" in panel.ui.reasonsBrowser.plainText
    assert panel.ui.progressLabel.text == "Refused; nothing was written."
    assert not panel.ui.differenceButton.enabled
    assert not panel.ui.tableButton.enabled
    assert panel.ui.featureView.isHidden()
    assert nodeCount() == count
    panel.ui.insistCheckBox.checked = True
    panel.ui.applyButton.click()
    assert "written because you asked for it" in panel.ui.verdictLabel.text
    assert "(refused)" in panel.ui.outputSelector.currentNode().GetName()
    assert panel.ui.differenceButton.enabled
    scene.assertNoErrors()


def test_what_does_not_fit_is_said_in_words_and_an_older_result_does_not_stay(panel, heads):
    select(panel, heads[0][0], "zscore")
    panel.ui.applyButton.click()
    slicer.util.arrayFromVolume(heads[1][0])[:] = 7
    select(panel, heads[1][0])
    count = nodeCount()
    panel.ui.applyButton.click()
    (text,) = scene.errorTexts()
    assert text.startswith("The scan was not harmonized.")
    assert "'scanner B' is constant (7 everywhere)" in text
    assert panel.ui.verdictLabel.text == "No result yet."
    assert panel.ui.progressLabel.isHidden()
    assert panel.ui.applyButton.enabled
    assert nodeCount() == count
    scene.messages.clear()
    scene.assertNoErrors()


# ---------------------------------------------------------------- scene and module come and go


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
    folder = Path(os.environ.get("HARMONIZE_PICTURES", tmp_path))
    folder.mkdir(parents=True, exist_ok=True)
    panel.picture(folder / "panel.png", width=520)
    image = qt.QImage(str(folder / "panel.png"))
    assert image.width() == 520
    assert panel.representation.minimumSizeHint.width() < 450  # fits beside the slice views on a small screen
    assert image.height() > 600
    assert (folder / "panel.png").stat().st_size < 300_000
    for table in (panel.ui.structureTable, panel.ui.featureView):
        for column in range(1, table.columnCount):  # no header is cut
            header = table.horizontalHeader()
            assert header.sectionSize(column) >= header.sectionSizeHint(column)
    scene.assertNoErrors()
