"""The logic around one volume: sample data, Segment Statistics, a real case saved and read again.

The tests of Segment Statistics take Slicer's own files from SLICER_SEGMENT_STATISTICS (its folder
Modules/Scripted/SegmentStatistics) where that is set, and a stand-in of the base class else.
"""

import dataclasses
import json
import logging
import math
import os
import subprocess
import sys
import types
import unittest
from pathlib import Path

import pytest
import slicer
import vtk

from HarmonizeModuleLib import featureTables, scene
from HarmonizeModuleLib.logic import HarmonizeModuleLogic
from HarmonizeModuleLib.sceneScans import segmentationOf
from Testing.engine.scans import head
from Testing.harness import application, sampledata
from Testing.harness import scene as harness

from HarmonizeExtension.files.reading import read_scan
from HarmonizeExtension.radiomics.catalogue import DEFINITIONS
from HarmonizeExtension.radiomics.extraction import extract
from HarmonizeExtension.radiomics.settings import Settings
from HarmonizeExtension.scan import Modality

ROOT = Path(__file__).resolve().parents[2]
MODULE = ROOT / "HarmonizeModule" / "HarmonizeModule.py"


def named(name, seed=0):
    return dataclasses.replace(head(seed=seed), name=name)


# ---------------------------------------------------------------- sample data and the module's own test


def test_the_sample_button_makes_three_scans_with_their_structures():
    application.loadModule(MODULE).close()
    (source,) = sampledata.SampleDataLogic.sampleDataSourcesByCategory("Harmonize")
    assert Path(source.thumbnailFileName).is_file()
    scene_module = sys.modules["HarmonizeModuleLib.sampleData"]
    made = scene_module.makeThreeScannerCase
    try:
        scene_module.makeThreeScannerCase = lambda: made(spacing=4.0)  # the button makes 1 mm, which takes a while
        volumes = sampledata.press(scene_module.SAMPLE)
    finally:
        scene_module.makeThreeScannerCase = made
    assert [v.GetName() for v in volumes] == ["sample Siemens 3T", "sample Philips 1.5T", "sample GE 3T"]
    for volume in volumes:
        segmentation = segmentationOf(volume)
        assert "lesion" in scene.segmentNames(segmentation).values()
        assert scene.modalityOf(volume) == "MR"
        assert scene.acquisitionOf(volume).field_strength_tesla in (1.5, 3.0)


def test_without_the_sample_data_module_nothing_is_registered(monkeypatch):
    application.loadModule(MODULE).close()
    monkeypatch.setitem(sys.modules, "SampleData", None)  # switched off in the settings: it cannot be imported
    sys.modules["HarmonizeModuleLib.sampleData"].registerSampleData()


@pytest.mark.slow
def test_the_modules_own_test_passes():
    panel = application.loadModule(MODULE)
    panel.close()
    result = unittest.TestResult()
    panel.python.HarmonizeModuleTest("runTest").run(result)
    assert result.testsRun == 1
    assert result.wasSuccessful(), result.errors + result.failures


# ---------------------------------------------------------------- Segment Statistics


class StandInBase:
    """What a plugin uses of Slicer's SegmentStatisticsPluginBase."""

    def __init__(self):
        self.parameterNode = None

    @staticmethod
    def createCodedEntry(value, scheme, meaning, returnAsString=False):
        entry = slicer.vtkCodedEntry()
        entry.SetValueSchemeMeaning(value, scheme, meaning)
        return entry.GetAsString() if returnAsString else entry

    @staticmethod
    def createMeasurementInfo(name, title, description, units, quantityDicomCode=None):
        return {"name": name, "title": title, "description": description, "units": units, "code": quantityDicomCode}

    def setParameterNode(self, node):
        self.parameterNode = node

    def getParameterNode(self):
        return self.parameterNode

    def getRequestedKeys(self):
        name = type(self).__name__
        return [key for key in self.keys if self.parameterNode.GetParameter(f"{name}.{key}.enabled") == "True"]


@pytest.fixture
def plugin(monkeypatch):
    """The plugin's module, on a stand-in of its base class."""
    package = types.ModuleType("SegmentStatisticsPlugins")
    package.SegmentStatisticsPluginBase = StandInBase
    monkeypatch.setitem(sys.modules, "SegmentStatisticsPlugins", package)
    monkeypatch.delitem(sys.modules, "HarmonizeModuleLib.segmentStatisticsPlugin", raising=False)
    import HarmonizeModuleLib.segmentStatisticsPlugin as module

    yield module
    del sys.modules["HarmonizeModuleLib.segmentStatisticsPlugin"]


def asked(plugin, volume, segmentation, keys):
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScriptedModuleNode")
    node.SetParameter("ScalarVolume", volume.GetID())
    node.SetParameter("Segmentation", segmentation.GetID())
    for key in keys:
        node.SetParameter(f"HarmonizeRadiomicsPlugin.{key}.enabled", "True")
    made = plugin.HarmonizeRadiomicsPlugin()
    made.setParameterNode(node)
    return made


def test_requested_features_of_a_segment_are_those_of_the_engine(plugin):
    scan = named("head")
    volume, segmentation = scene.nodesFromScan(scan)
    keys = ["original_firstorder_Entropy", "original_glcm_Idmn", "original_glszm_ZoneEntropy"]
    made = asked(plugin, volume, segmentation, keys)
    assert len(made.keys) == 93
    segmentID = segmentation.GetSegmentation().GetSegmentIdBySegmentName("GTV")
    expected = extract(scan, Settings.for_modality(Modality.MR), structures=["GTV"]).rows[0].values
    assert made.computeStatistics(segmentID) == {key: expected[key] for key in keys}
    info = made.getMeasurementInfo("original_glcm_Idmn")
    assert (info["name"], info["units"]) == ("original_glcm_Idmn", "")
    definition = DEFINITIONS["glcm"]["Idmn"]
    assert info["description"] == f"{definition.ibsi_name} (IBSI {definition.ibsi_code})"
    assert definition.ibsi_code in info["code"]
    assert "IBSI" in info["code"]
    volume.SetAttribute(scene.MODALITY_ATTRIBUTE, "CT")
    assert made.getMeasurementInfo("original_firstorder_Mean")["units"] == "HU"
    assert made.getMeasurementInfo("unknown") is None


def test_nothing_is_computed_unless_asked_for_and_what_cannot_be_measured_is_logged(plugin, caplog):
    volume, segmentation = scene.nodesFromScan(named("head"))
    ids = segmentation.GetSegmentation().GetSegmentIDs()
    assert asked(plugin, volume, segmentation, []).computeStatistics(ids[0]) == {}
    empty = segmentation.GetSegmentation().AddEmptySegment("", "nothing")
    made = asked(plugin, volume, segmentation, ["original_firstorder_Mean"])
    with caplog.at_level(logging.WARNING):
        assert made.computeStatistics(empty) == {}
    assert "'nothing' is empty" in caplog.text
    volume.RemoveAttribute(scene.MODALITY_ATTRIBUTE)  # not said: measured as MR is
    assert math.isfinite(made.computeStatistics(ids[0])["original_firstorder_Mean"])


def test_the_features_appear_in_slicers_own_segment_statistics():
    folder = os.environ.get("SLICER_SEGMENT_STATISTICS")
    if not folder:
        pytest.skip("SLICER_SEGMENT_STATISTICS does not name Slicer's Modules/Scripted/SegmentStatistics")
    code = DEFINITIONS["glcm"]["Idmn"].ibsi_code
    script = f"""
import sys, types
sys.path[:0] = [{str(ROOT)!r}, {folder!r}]
sys.modules["vtkITK"] = types.ModuleType("vtkITK")  # slicer-core lacks it; only the Labelmap plugin uses it
from Testing.harness import application, scene
application.loadModule({str(MODULE)!r})  # registers the plugin when Slicer has started
import slicer
from SegmentStatistics import SegmentStatisticsLogic
from Testing.engine.scans import head
from HarmonizeModuleLib.scene import nodesFromScan
volume, segmentation = nodesFromScan(head())
own = SegmentStatisticsLogic.registeredPlugins
SegmentStatisticsLogic.registeredPlugins = [p for p in own if p.__name__ != "LabelmapSegmentStatisticsPlugin"]
logic = SegmentStatisticsLogic()
node = logic.getParameterNode()
node.SetParameter("Segmentation", segmentation.GetID())
node.SetParameter("ScalarVolume", volume.GetID())
logic.computeStatistics()
assert not [key for key in logic.getNonEmptyKeys() if "Harmonize" in key]
node.SetParameter("HarmonizeRadiomicsPlugin.original_glcm_Idmn.enabled", "True")
logic.computeStatistics()
key = "HarmonizeRadiomicsPlugin.original_glcm_Idmn"
statistics = logic.getStatistics()
assert all(isinstance(statistics[segmentID, key], float) for segmentID in statistics["SegmentIDs"])
table = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTableNode")
logic.exportToTable(table)
assert table.GetTable().GetColumnByName("original_glcm_Idmn").GetNumberOfValues() == 3
assert "IBSI {code}" in table.GetColumnDescription("original_glcm_Idmn")
assert "{code}" in table.GetColumnProperty("original_glcm_Idmn", "DICOM.QuantityCode")
scene.assertNoErrors()
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


# ---------------------------------------------------------------- a real scan, saved and read in another process

DESCRIBE = f"""
import json, sys
sys.path.insert(0, {str(ROOT)!r})
from Testing.harness import application, scene
application.loadModule({str(MODULE)!r})
import slicer
slicer.util.loadScene(sys.argv[1])
from Testing.scene.test_logic import described
json.dump(described(), open(sys.argv[2], "w"))
scene.assertNoErrors()
"""


def described():
    """Everything of the saved case that must come back: grids, masks, verdict and every number of the table."""
    found = {"grids": {}}
    for name in ("STS_025 MR", "STS_025 MR harmonized"):
        node = slicer.util.getNode(name)
        matrix = vtk.vtkMatrix4x4()
        node.GetIJKToRASMatrix(matrix)
        array = slicer.util.arrayFromVolume(node)
        found["grids"][name] = [matrix.GetElement(i, j) for i in range(4) for j in range(4)]
        found[name] = [list(array.shape), str(array.dtype), float(array.astype(float).sum())]
    output = slicer.util.getNode("STS_025 MR harmonized")
    source = output.GetNodeReference(scene.SOURCE_REFERENCE)
    segmentation = segmentationOf(source)
    scan = scene.scanFromNodes(source, segmentation)
    found["structures"] = {name: s.array.nonzero()[0].tolist() for name, s in scan.structures.items()}
    tableNode = slicer.util.getNode("STS_025 MR features")
    rows = range(tableNode.GetNumberOfRows())
    found["table"] = {
        column.GetName(): [repr(column.GetValue(row)) for row in rows]
        for column in (tableNode.GetTable().GetColumn(c) for c in range(tableNode.GetNumberOfColumns()))
    }
    found["exact"] = featureTables.readFeatures(tableNode).as_dict()
    found["verdict"] = scene.readVerdict(output).to_json()
    return found


@pytest.mark.real_data
@pytest.mark.slow
def test_a_real_case_comes_back_to_the_last_digit_in_another_process(real_data, tmp_path):
    folder = real_data / "sts" / "STS_025"
    scan = read_scan(folder / "MR_T1_image.nii.gz", "MR", folder / "MR_T1_mask.nii.gz", name="STS_025 MR")
    (tumour,) = scan.structures
    volume, segmentation = scene.nodesFromScan(scan)
    target, _none = scene.nodesFromScan(read_scan(real_data / "sts" / "STS_002" / "MR_T1_image.nii.gz", "MR"))
    result = HarmonizeModuleLogic().process(
        volume, segmentation, "histogram-matching", target, protectedSegments=[tumour]
    )
    assert slicer.modules.volumes.logic().CompareVolumeGeometry(volume, result.outputVolume) == ""
    expected = json.loads(json.dumps(described()))
    assert len(expected["table"]) == 3 + 94
    assert sum(len(voxels) for voxels in expected["structures"].values()) > 100
    assert slicer.util.saveScene(str(tmp_path / "case.mrb"))
    done = subprocess.run(
        [sys.executable, "-c", DESCRIBE, str(tmp_path / "case.mrb"), str(tmp_path / "found.json")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "found.json").read_text())
    grids = found.pop("grids")  # files hold spacing times direction, so a matrix may differ by a last bit
    for name, matrix in expected.pop("grids").items():
        assert grids[name] == pytest.approx(matrix, rel=1e-12, abs=1e-12)
    assert found == expected
    harness.assertNoErrors()
