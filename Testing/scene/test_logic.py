"""The logic beyond one volume: scene, batch, sample data, Segment Statistics, a real case saved and read again.

The tests of Segment Statistics take Slicer's own files from SLICER_SEGMENT_STATISTICS (its folder
Modules/Scripted/SegmentStatistics) where that is set, and a stand-in of the base class else.
"""

import csv
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

import numpy as np
import pytest
import SimpleITK as sitk
import slicer
import vtk

from HarmonizeModuleLib import featureTables, scene
from HarmonizeModuleLib.logic import HarmonizeModuleLogic, exitCode, segmentationOf, writeTables
from Testing.engine.scans import head
from Testing.harness import application, sampledata
from Testing.harness import scene as harness

from HarmonizeExtension import images
from HarmonizeExtension.files.reading import read_scan
from HarmonizeExtension.methods.statistical import ZScore
from HarmonizeExtension.radiomics.catalogue import DEFINITIONS
from HarmonizeExtension.radiomics.extraction import extract
from HarmonizeExtension.radiomics.settings import Settings
from HarmonizeExtension.radiomics.table import FeatureTable
from HarmonizeExtension.scan import Modality

ROOT = Path(__file__).resolve().parents[2]
MODULE = ROOT / "HarmonizeModule" / "HarmonizeModule.py"
BATCH = ROOT / "HarmonizeModule" / "HarmonizeModuleLib" / "batch.py"


def named(name, seed=0):
    return dataclasses.replace(head(seed=seed), name=name)


def addScans(*names):
    return [scene.nodesFromScan(named(name, seed))[0] for seed, name in enumerate(names)]


def mirrored(self, scan, body, progress, cancelled):
    return scan.array[:, :, ::-1]


def lopsided(array):
    half = array[:, :, : array.shape[2] // 2]
    half += 500 * np.random.default_rng(0).random(half.shape)


def table(path):
    with open(path, newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


# ---------------------------------------------------------------- the whole scene


def test_every_scan_of_the_scene_is_harmonized_and_one_that_fails_does_not_stop_the_others(tmp_path):
    volumes = addScans("first", "flat", "last")
    slicer.util.arrayFromVolume(volumes[1])[:] = 7
    rows = HarmonizeModuleLogic().processScene(tmp_path, method="zscore")
    assert [row["volume"] for row in rows] == ["first", "flat", "last"]
    assert [row["status"] == "error" for row in rows] == [False, True, False]
    assert "'flat' is constant" in rows[1]["reasons"]
    assert [row["outputVolume"] for row in rows] == ["first harmonized", "", "last harmonized"]
    assert exitCode(rows) == 2
    assert table(tmp_path / "verdicts.csv") == rows
    features = FeatureTable.from_csv(tmp_path / "features.csv")
    found = {(row.case, row.label, row.structure) for row in features.rows}
    assert found == {
        (case, label, structure)
        for case in ("first", "last")
        for label in ("before", "after")
        for structure in ("brain", "white matter", "GTV")
    }


def test_results_references_and_doses_are_not_harmonized_again():
    volumes = addScans("one", "reference")
    (dose,) = addScans("dose")
    dose.SetAttribute("DicomRtImport.DoseVolume", "1")
    logic = HarmonizeModuleLogic()
    for target in (volumes[1], volumes[1].GetName()):
        rows = logic.processScene(method="histogram-matching", target=target, protectedSegments=["GTV"])
        assert [row["volume"] for row in rows] == ["one"]
    assert exitCode(rows) == 0


def test_a_refused_volume_has_a_row_with_its_reasons_and_no_result(monkeypatch):
    monkeypatch.setattr(ZScore, "_harmonize", mirrored)
    (volume,) = addScans("mirrored")
    lopsided(slicer.util.arrayFromVolume(volume))
    count = slicer.mrmlScene.GetNumberOfNodes()
    rows = HarmonizeModuleLogic().processScene(method="zscore")
    assert rows[0]["status"] == "refuse"
    assert "are not where they were" in rows[0]["reasons"]
    assert slicer.mrmlScene.GetNumberOfNodes() == count
    assert exitCode(rows) == 3


@pytest.mark.parametrize("within", [False, True])
def test_cancelling_midway_keeps_what_is_done(tmp_path, within):
    addScans("first", "second", "third")
    done, asked = [], []

    def cancelled():
        """From the start of the second volume, or in the middle of it."""
        asked.extend([1] if done else [])
        return len(asked) > (4 if within else 0)

    rows = HarmonizeModuleLogic().processScene(
        tmp_path,
        method="zscore",
        report=lambda row, result: done.append((row["volume"], result.outputVolume.GetName())),
        cancelled=cancelled,
    )
    assert done == [("first", "first harmonized")]
    assert [row["volume"] for row in rows] == ["first"]
    assert table(tmp_path / "verdicts.csv") == rows
    assert {row.case for row in FeatureTable.from_csv(tmp_path / "features.csv").rows} == {"first"}


def test_values_of_different_settings_do_not_share_a_file(tmp_path):
    tables = [
        extract(named(modality), Settings.for_modality(modality), label="before")
        for modality in (Modality.MR, Modality.PET)
    ]
    writeTables([], tables, tmp_path)
    assert {row.case for row in FeatureTable.from_csv(tmp_path / "features.csv").rows} == {"MR"}
    assert {row.case for row in FeatureTable.from_csv(tmp_path / "features_2.csv").rows} == {"PET"}


def test_an_empty_scene_and_a_folder_that_cannot_be_written_are_refused(tmp_path):
    with pytest.raises(ValueError, match="no scan to harmonize"):
        HarmonizeModuleLogic().processScene(method="zscore")
    addScans("one")
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="is a file, not a folder"):
        HarmonizeModuleLogic().processScene(tmp_path / "file", method="zscore")


# ---------------------------------------------------------------- the batch, as a process


def runScript(script, *arguments):
    """As `Slicer --no-main-window --python-script SCRIPT -- ARGUMENTS`, the module not among Slicer's."""
    return subprocess.run(
        [sys.executable, "-m", "Testing.harness.script", str(script), "--", *map(str, arguments)],
        cwd=ROOT,
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
        capture_output=True,
        text=True,
        timeout=300,
    )


def writeScan(folder, scan, withStructures=True):
    """image.nrrd, and its structures as image.seg.nrrd beside it."""
    folder.mkdir(exist_ok=True)
    volume, segmentation = scene.nodesFromScan(scan)
    assert slicer.util.saveNode(volume, str(folder / f"{scan.name}.nrrd"))
    if withStructures:
        assert slicer.util.saveNode(segmentation, str(folder / f"{scan.name}.seg.nrrd"))
    return folder / f"{scan.name}.nrrd"


def test_a_batch_of_files_writes_volumes_tables_and_exits_with_what_happened(tmp_path):
    good = writeScan(tmp_path / "in", named("good"))
    same = writeScan(tmp_path / "other", named("good", seed=1))
    bad = tmp_path / "in" / "bad.nrrd"
    bad.write_text("this is no image")
    out = tmp_path / "out"
    done = runScript(
        BATCH, "--volumes", good, bad, same, "--modality", "MR", "--method", "zscore", "--protect", "GTV", "--out", out
    )
    assert done.returncode == 2, done.stderr
    rows = table(out / "verdicts.csv")
    assert [(row["volume"], row["outputVolume"]) for row in rows] == [
        ("in_good", "in_good_harmonized.nrrd"),
        ("bad", ""),
        ("other_good", "other_good_harmonized.nrrd"),
    ]
    assert "bad.nrrd" in rows[1]["reasons"]
    assert "1/3 in_good: " in done.stdout
    for name, source in (("in_good", good), ("other_good", same)):
        before, after = sitk.ReadImage(str(source)), sitk.ReadImage(str(out / f"{name}_harmonized.nrrd"))
        assert images.same_grid(before, after)
        assert after.GetPixelID() == sitk.sitkFloat32
    assert {row.case for row in FeatureTable.from_csv(out / "features.csv").rows} == {"in_good", "other_good"}
    assert sorted(f.name for f in out.iterdir()) == sorted(
        ["verdicts.csv", "features.csv", "in_good_harmonized.nrrd", "other_good_harmonized.nrrd"]
    )


def test_a_batch_of_a_folder_finds_the_segmentations_beside_its_volumes(tmp_path):
    for name in ("a", "b"):
        writeScan(tmp_path / "in", named(name, seed=ord(name)))
    target = tmp_path / "in" / "a.nrrd"
    out = tmp_path / "out"
    done = runScript(
        BATCH, "--folder", tmp_path / "in", "--method", "histogram-matching", "--target", target, "--out", out
    )
    assert done.returncode == 0, done.stderr
    assert [row["volume"] for row in table(out / "verdicts.csv")] == ["a", "b"]
    assert len(FeatureTable.from_csv(out / "features.csv").rows) == 2 * 2 * 3


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["--folder", ".", "--method", "zscore", "--out", "out"], 2, "has no image file"),
        (
            ["--volumes", "a", "b", "--segmentations", "c", "--method", "zscore", "--out", "out"],
            2,
            "one for each volume",
        ),
        (["--volumes", "a.nrrd", "--method", "zscore", "--out", "file/out"], 4, "nothing can be written"),
        (["--volumes", "a.nrrd", "--method", "magic", "--out", "out"], 2, "invalid choice"),
    ],
)
def test_a_batch_that_cannot_start_says_why(tmp_path, monkeypatch, capsys, arguments, code, says):
    from HarmonizeModuleLib import batch

    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    try:
        found = batch.main(arguments)
    except SystemExit as stopped:  # argparse
        found = stopped.code
    assert found == code
    assert says in capsys.readouterr().err
    assert not (tmp_path / "out" / "verdicts.csv").exists()


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
