"""T1 and M0 maps from the panel: beside the scan, on its grid, with units, written again and never half."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

pytest.importorskip("Testing.gui.panels", reason="slicer-core or PySide6 is missing", exc_type=ImportError)
pytest.importorskip("torch", reason="PyTorch is not installed")
pytest.importorskip("safetensors")

import slicer
import torch

from HarmonizeModuleLib import scene as door
from HarmonizeModuleLib import sceneScans
from HarmonizeModuleLib.logic import HarmonizeModuleLogic
from Testing.gui.panels import nodeCount, parameters, select, whileRunning
from Testing.harness import pictures, scene

from HarmonizeExtension.errors import InputError
from HarmonizeExtension.methods.phycharm.harmonizer import quantitative_maps
from HarmonizeExtension.phantoms.brain import three_scanner_case

PROTOCOL = "TR=2300 TI=900 TE=3 FA=9 FIELD=3"


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def scan():
    return three_scanner_case(1, 5.0)["Siemens 3T"]


@pytest.fixture
def brain(panel, scan):
    """The panel with a brain selected and PhyCHarm: (volume, segmentation)."""
    nodes = door.nodesFromScan(scan)
    select(panel, nodes[0], "phycharm")
    return nodes


def maps(volume):
    return {
        kind: volume.GetNodeReference(f"{door.MAP_ATTRIBUTE}.{kind} map")
        for kind in ("T1", "M0")
        if volume.GetNodeReference(f"{door.MAP_ATTRIBUTE}.{kind} map")
    }


def coded(entry):
    return entry.GetCodeValue(), entry.GetCodingSchemeDesignator(), entry.GetCodeMeaning()


def test_the_maps_lie_beside_the_scan_with_units_and_are_written_again(panel, brain, scan, tmp_path):
    volume, ui = brain[0], panel.ui
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)
    study = hierarchy.CreateFolderItem(hierarchy.GetSceneItemID(), "study")
    hierarchy.SetItemParent(hierarchy.GetItemByDataNode(volume), study)
    assert not ui.mapsButton.isHidden()
    ui.mapsButton.click()
    scene.assertNoErrors()
    written = maps(volume)
    assert ui.progressLabel.text == f"Done: {volume.GetName()} T1 map and {volume.GetName()} M0 map"
    found = quantitative_maps(scan)
    for kind, image in (("T1", found.t1_ms), ("M0", found.m0)):
        node = written[kind]
        assert slicer.modules.volumes.logic().CompareVolumeGeometry(node, volume) == ""
        expected = sitk.GetArrayFromImage(image)
        np.testing.assert_allclose(slicer.util.arrayFromVolume(node), expected, rtol=1e-4, atol=1e-3 * expected.max())
        assert hierarchy.GetItemParent(hierarchy.GetItemByDataNode(node)) == study
        assert node.GetNodeReference(door.SOURCE_REFERENCE) is volume
        assert "no measurement" in json.loads(node.GetAttribute(door.PROVENANCE_ATTRIBUTE))[-1]["note"]
    assert coded(written["T1"].GetVoxelValueQuantity()) == ("113063", "DCM", "T1")
    assert coded(written["T1"].GetVoxelValueUnits()) == ("ms", "UCUM", "millisecond")
    assert coded(written["M0"].GetVoxelValueUnits()) == ("1", "UCUM", "no units")
    assert [node for node in sceneScans.scansToHarmonize() if node in written.values()] == []
    t1, m0 = (slicer.util.arrayFromVolume(written[kind]) for kind in ("T1", "M0"))
    white, grey = (scan.structures[name].array for name in ("white matter", "grey matter"))
    assert 700 < np.median(t1[white]) < np.median(t1[grey]) < 1700
    assert 0.5 < np.median(m0[white]) < np.median(m0[grey]) < 1.1
    outside = ~np.any([s.array for s in scan.structures.values()], axis=0)
    assert np.median(t1[outside]) == 0
    folder = Path(os.environ.get("HARMONIZE_PICTURES", tmp_path))
    folder.mkdir(exist_ok=True)
    brain[1].GetDisplayNode().SetVisibility(False)
    view = pictures.SliceView()
    views = [view.picture(node, (0, -20, 15), label) for label, node in (("scan", volume), *written.items())]
    pictures.save(folder / "maps.png", np.hstack(views))
    count = nodeCount()
    ui.mapsButton.click()
    assert nodeCount() == count
    scene.assertNoErrors()


def test_what_is_missing_is_said_in_words_and_nothing_is_written(panel, brain):
    ui, volume = panel.ui, brain[0]
    select(panel, volume, "zscore")
    assert ui.mapsButton.isHidden()
    select(panel, volume, "phycharm")
    volume.RemoveAttribute(door.ACQUISITION_ATTRIBUTE)
    count = nodeCount()
    ui.mapsButton.click()
    assert scene.errorTexts()[0].startswith("The maps were not written.")
    assert "SOURCE -> TARGET" in scene.errorTexts()[0]
    assert nodeCount() == count
    scene.messages.clear()
    ui.targetTextCombo.setEditText(f"{PROTOCOL} -> GE 3T")
    ui.mapsButton.click()  # the protocol that was typed is that of the scan
    assert len(maps(volume)) == 2
    with pytest.raises(InputError, match="no structure 'brain'"):
        HarmonizeModuleLogic().writeMaps(volume, None, source=PROTOCOL)
    scene.assertNoErrors()


def test_cancel_writes_nothing(panel, brain):
    count, ui = nodeCount(), panel.ui
    timer = whileRunning(ui.applyButton.click)
    ui.mapsButton.click()
    assert ui.progressLabel.text == "Cancelled; nothing was written."
    assert nodeCount() == count
    assert ui.mapsButton.enabled
    timer.stop()
    scene.assertNoErrors()


def test_the_maps_come_back_with_the_scene(panel, brain, tmp_path):
    panel.ui.mapsButton.click()
    names = {kind: node.GetName() for kind, node in maps(brain[0]).items()}
    assert slicer.util.saveScene(str(tmp_path / "case.mrb"))
    slicer.mrmlScene.Clear(0)
    slicer.util.loadScene(str(tmp_path / "case.mrb"))
    found = maps(parameters(panel).inputVolume)
    assert {kind: node.GetName() for kind, node in found.items()} == names
    assert coded(found["T1"].GetVoxelValueUnits()) == ("ms", "UCUM", "millisecond")
    assert found["T1"].GetScalarVolumeDisplayNode().GetWindowLevelMax() == 2500
    scene.assertNoErrors()
