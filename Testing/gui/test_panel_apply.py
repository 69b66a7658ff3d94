"""Apply and Cancel, the result and its display, and what does not fit."""

import pytest

pytest.importorskip("Testing.gui.panels", reason="slicer-core or PySide6 is missing", exc_type=ImportError)

import numpy as np
import slicer

from HarmonizeModuleLib import display
from HarmonizeModuleLib import scene as door
from HarmonizeModuleLib.inputsPanel import MEASURED_COLUMN
from Testing.gui.panels import nodeCount, parameters, rows, select, tick, whileRunning
from Testing.harness import scene

from HarmonizeExtension import comparison
from HarmonizeExtension.methods.statistical import ZScore


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
    assert panel.ui.outputSelector.currentNode().GetName() == "scanner A harmonized (refused)"
    assert panel.ui.differenceButton.enabled
    monkeypatch.undo()
    panel.ui.applyButton.click()  # the same node, and now it passes
    assert panel.ui.outputSelector.currentNode().GetName() == "scanner A harmonized"
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


def test_a_difference_of_nothing_stays_white(panel, heads):
    """Rounding alone must not fill the picture with colour: the scale ends at a hundredth of the window."""
    volume = heads[0][0]
    same = slicer.modules.volumes.logic().CloneVolume(volume, "same")
    array = slicer.util.arrayFromVolume(same)
    array += 1e-4 * np.random.default_rng(0).standard_normal(array.shape)
    shown = display.showDifference(volume, same)
    low, high = comparison.window(door.scanFromNodes(same))
    displayNode = shown.GetScalarVolumeDisplayNode()
    assert displayNode.GetWindowLevelMax() == pytest.approx(0.01 * (high - low))
    colors, colour = displayNode.GetColorNode(), [0.0] * 4
    colors.GetColor(128, colour)
    assert min(colour[:3]) > 0.98
    colors.GetColor(255, colour)
    assert colour[0] > 0.9 > 0.3 > colour[2]
    scene.assertNoErrors()
