"""The harness itself: a module that uses every supported widget, clicked through on the real scene."""

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("slicer", reason="slicer-core is not installed")
pytest.importorskip("PySide6", reason="PySide6 is not installed")

from Testing.harness import scene
from Testing.harness.application import loadModule

HERE = Path(__file__).resolve().parent
DEMO = HERE / "PanelDemo" / "PanelDemo.py"


@pytest.fixture
def panel():
    loaded = loadModule(DEMO)
    yield loaded
    loaded.close()
    scene.clear()


def addVolume(name, array):
    import slicer

    return slicer.util.addVolumeFromArray(array.astype(np.float32), name=name)


def addSegmentation(volume, **masks):
    import slicer

    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "Structures")
    node.CreateDefaultDisplayNodes()
    node.SetReferenceImageGeometryParameterFromVolumeNode(volume)
    for name, mask in masks.items():
        segmentID = node.GetSegmentation().AddEmptySegment(name, name, (1, 0.85, 0))
        slicer.util.updateSegmentBinaryLabelmapFromArray(mask.astype(np.uint8), node, segmentID, volume)
    return node


@pytest.fixture
def ramp():
    return addVolume("ramp", np.indices((20, 30, 40)).sum(0))


def test_panel_from_inputs_to_results(panel, ramp, tmp_path):
    import slicer

    ui = panel.ui
    assert not ui.applyButton.enabled
    assert "Select an input" in ui.applyButton.toolTip
    ui.inputSelector.setCurrentNode(ramp)
    ui.outputSelector.setCurrentNode(slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "smooth"))
    ui.tableSelector.setCurrentNode(slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTableNode", "figures"))
    assert ui.applyButton.enabled
    ui.applyButton.click()
    scene.assertNoErrors()
    assert ui.progressBar.value == 100
    assert ui.resultTable.item(0, 0).text() == "Mean"
    assert ui.tableView.model().rowCount() == 2
    assert "Done" in ui.verdict.plainText
    before, after = (slicer.util.arrayFromVolume(slicer.util.getNode(name)) for name in ("ramp", "smooth"))
    assert after.std() < before.std()
    panel.picture(tmp_path / "panel.png")
    assert (tmp_path / "panel.png").stat().st_size > 10_000
