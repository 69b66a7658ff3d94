"""The attribution section, clicked through with real processes: what moved a feature, shown over the scan."""

import dataclasses
import json
import time
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("Testing.gui.panels", reason="slicer-core or PySide6 is missing", exc_type=ImportError)

import slicer
import vtk
from scipy import ndimage

from HarmonizeModuleLib import attributionRun, sceneScans
from HarmonizeModuleLib import scene as door
from Testing.gui.panels import parameters, picture, select
from Testing.harness import pictures, scene

from HarmonizeExtension.explain import catalogue
from HarmonizeExtension.files.models import ModelCard, save_model

CONTRAST = "original_glcm_Contrast"


@pytest.fixture
def attribution(panel, heads):
    """The panel with the section open, a scan, its structures and a harmonized scan."""
    volume, segmentation = heads[0]
    select(panel, volume)
    panel.ui.segmentationSelector.setCurrentNode(segmentation)
    heads[1][1].SetDisplayVisibility(False)  # that of the other head lies in the same place
    scan = door.scanFromNodes(volume, None, "MR")
    after = dataclasses.replace(scan.with_array(ndimage.gaussian_filter(scan.array, (0, 0.8, 0.8))), name="harmonized")
    panel.ui.outputSelector.setCurrentNode(door.nodesFromScan(after)[0])
    panel.ui.attributionSection.collapsed = False
    return panel


def choose(combo, text):
    combo.currentIndex = [combo.itemText(i) for i in range(combo.count)].index(text)


def wait(panel, until=None, seconds=240):
    end = time.monotonic() + seconds
    while panel.ui.attributionRunButton.text == "Stop" and not (until and until()):
        assert time.monotonic() < end, panel.ui.attributionProgressLabel.text
        slicer.app.processEvents()
        time.sleep(0.01)


def alphas(volume):
    node = volume.GetDisplayNode().GetColorNode()
    colour = [0.0] * 4
    found = []
    for index in range(node.GetNumberOfColors()):
        node.GetColor(index, colour)
        found.append(colour[3])
    return np.array(found)


def test_each_question_asks_for_what_it_needs(panel, heads, tmp_path):
    ui = panel.ui
    ui.attributionSection.collapsed = False
    select(panel, heads[0][0])
    offered = [ui.attributionQuestionCombo.itemData(i) for i in range(ui.attributionQuestionCombo.count)]
    assert offered == [question.name for question in catalogue.QUESTIONS]
    assert "Harmonize the scan first" in ui.attributionRunButton.toolTip
    panel.ui.outputSelector.setCurrentNode(heads[1][0])
    panel.ui.segmentationSelector.setCurrentNode(None)
    assert "segmentation" in ui.attributionRunButton.toolTip
    panel.ui.segmentationSelector.setCurrentNode(heads[0][1])
    assert ui.attributionRunButton.enabled
    assert [ui.attributionFeatureCombo.itemText(i) for i in range(2)] == [
        "original_firstorder_10Percentile",
        "original_firstorder_90Percentile",
    ]
    assert (ui.attributionModelEdit.isHidden(), ui.attributionMethodCombo.isHidden()) == (True, True)

    choose(ui.attributionQuestionCombo, "What gives the scanner away?")
    assert (ui.attributionModelEdit.isHidden(), ui.attributionMethodCombo.isHidden()) == (False, False)
    assert ui.attributionFeatureCombo.isHidden()
    assert ui.attributionRunButton.toolTip == "Choose the folder of a model with a scanner classifier"
    save_model(tmp_path / "model", ModelCard("harmonae", "ours", ("A", "B")))
    ui.attributionModelEdit.currentPath = str(tmp_path / "model")
    assert ui.attributionRunButton.enabled
    assert [ui.attributionSiteCombo.itemText(i) for i in range(ui.attributionSiteCombo.count)] == [
        "the likeliest", "A", "B"
    ]  # fmt: skip
    choose(ui.attributionMethodCombo, "Grad-CAM")
    assert parameters(panel).attributionMethod == "grad-cam"
    assert ui.attributionMethodCombo.toolTip == catalogue.GRAD_CAM.summary
    ui.attributionRunButton.click()
    wait(panel)
    (text,) = scene.errorTexts()
    assert text.startswith("The map was not computed.")
    assert "without its scanner classifier" in text or "needs safetensors" in text
    scene.messages.clear()
    scene.assertNoErrors()


@pytest.mark.slow
def test_a_map_lies_over_the_scan_with_what_it_is_worth(attribution, tmp_path):
    panel, ui = attribution, attribution.ui
    scan = parameters(panel).inputVolume
    choose(ui.attributionStructureCombo, "GTV")
    choose(ui.attributionFeatureCombo, CONTRAST)
    ui.attributionRunButton.click()
    assert (ui.attributionRunButton.text, ui.attributionFeatureCombo.enabled) == ("Stop", False)
    assert ui.applyButton.enabled or panel.widget.method.missing(scan)  # Slicer stays free
    wait(panel)
    scene.assertNoErrors()
    found = scan.GetNodeReference(f"{door.MAP_ATTRIBUTE}.attribution")
    assert found.GetVoxelValueQuantity() is None
    assert slicer.modules.volumes.logic().CompareVolumeGeometry(scan, found) == ""
    record = json.loads(found.GetAttribute(attributionRun.RECORD_ATTRIBUTE))
    assert record["structure"] == "GTV"
    said = ui.attributionProgressLabel.text
    assert said == f"{record['about']}. {record['faithfulness']['sentence']}."
    assert sceneScans.isResult(found)
    for name in slicer.app.layoutManager().sliceViewNames():
        composite = slicer.app.layoutManager().sliceWidget(name).mrmlSliceCompositeNode()
        assert composite.GetBackgroundVolumeID() == scan.GetID()
        assert composite.GetForegroundVolumeID() == found.GetID()

    assert not parameters(panel).segmentation.GetDisplayNode().GetVisibility2DFill()  # it would lie over the map

    cover = alphas(found)
    assert cover[len(cover) // 2] == 0  # where the map is 0 the scan is seen
    assert cover[-1] > 0.5
    ui.attributionThresholdSlider.value = 60
    raised = alphas(found)
    assert (raised > 0).sum() < (cover > 0).sum()
    assert raised[-1] == cover[-1]

    ui.attributionRunButton.click()  # the same map again, in its place, as the user sees it
    wait(panel)
    assert scan.GetNodeReference(f"{door.MAP_ATTRIBUTE}.attribution") is found
    assert ui.attributionThresholdSlider.value == pytest.approx(60)
    ui.attributionThresholdSlider.value = 0
    for section in (ui.inputsSection, ui.methodSection, ui.outputsSection, ui.resultsSection):
        section.collapsed = True
    path = picture(panel, "attribution.png", tmp_path)
    panel.picture(path, 520, ui.attributionSection.geometry.bottom() + 60)
    array = np.abs(slicer.util.arrayFromVolume(found))
    at = np.array([*np.unravel_index(array.argmax(), array.shape)][::-1], float)
    matrix = vtk.vtkMatrix4x4()
    found.GetIJKToRASMatrix(matrix)
    view = pictures.SliceView("Red", "Axial", (420, 420))
    shot = view.picture(through=matrix.MultiplyPoint([*at, 1.0])[:3])
    pictures.save(Path(path).with_name("attribution_slice.png"), shot)
    assert (np.ptp(shot.astype(int), axis=2) > 60).mean() > 0.0005
    assert panel.representation.minimumSizeHint.width() < 450
    scene.assertNoErrors()


@pytest.mark.slow
@pytest.mark.parametrize("what", ["button", "scene", "panel"])
def test_it_can_be_stopped_and_leaves_nothing(attribution, what):
    panel, ui = attribution, attribution.ui
    choose(ui.attributionFeatureCombo, CONTRAST)
    ui.attributionRunButton.click()
    run = panel.widget.attribution._follower.run
    process, folder = run._process._process, Path(run._folder.name)
    wait(panel, lambda: run.progress[0] > 0)
    if what == "button":
        ui.attributionRunButton.click()
        wait(panel)
        assert ui.attributionProgressLabel.text == "Stopped; nothing was written."
        assert parameters(panel).inputVolume.GetNodeReference(f"{door.MAP_ATTRIBUTE}.attribution") is None
        assert not folder.exists()
    elif what == "scene":
        slicer.mrmlScene.Clear(0)
        wait(panel)
        assert slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode") == []
    else:
        panel.widget.cleanup()
    end = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < end:
        time.sleep(0.05)
    assert process.poll() is not None
    scene.assertNoErrors()
