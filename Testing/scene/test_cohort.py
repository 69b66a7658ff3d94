"""A cohort of the scene: to files and back, in a process of its own that can be stopped, with tables and plots."""

import csv
import dataclasses
import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import slicer

from HarmonizeModuleLib import cohortFiles, cohortResults, featureTables, harmonizeProcess, scene, sceneScans
from HarmonizeModuleLib.harmonizeProcess import HarmonizeProcess
from HarmonizeModuleLib.logic import HarmonizeModuleLogic
from Testing.engine.scans import grid, head
from Testing.harness.charts import chartPicture

from HarmonizeExtension import images
from HarmonizeExtension.errors import Cancelled, HarmonizeError, InputError
from HarmonizeExtension.evaluation.figures import AREA, BARS, POINTS
from HarmonizeExtension.files.manifest import Manifest
from HarmonizeExtension.files.reading import read_scan
from HarmonizeExtension.radiomics.table import FeatureTable
from HarmonizeExtension.scan import Acquisition, Modality, Structure

SMALL = grid(size=(30, 32, 22), spacing=(1.4, 1.4, 2.0))
MAKERS = ("SIEMENS", "GE MEDICAL SYSTEMS")


def scan(name, seed=0, maker=MAKERS[0], gain=1.0):
    made = dataclasses.replace(head(SMALL, seed), name=name, acquisition=Acquisition(manufacturer=maker))
    return made.with_array(gain * made.array)


def add(*names, **options):
    return [scene.nodesFromScan(scan(name, seed, **options))[0] for seed, name in enumerate(names)]


def addTwoScanners():
    """Four scans of each of two scanners, the second with another gain; with fewer no test could tell them apart."""
    return [
        scene.nodesFromScan(scan(f"{maker[:2]} {seed}", seed, maker, gain))[0]
        for maker, gain in zip(MAKERS, (1.0, 1.6), strict=True)
        for seed in range(4)
    ]


@pytest.fixture
def twoScanners():
    return addTwoScanners()


def table(path):
    with open(path, newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def column(node, name):
    found = node.GetTable().GetColumnByName(name)
    return [found.GetValue(row) for row in range(found.GetNumberOfValues())]


# ---------------------------------------------------------------- to files


def test_an_exported_scan_is_that_of_the_scene_with_structures_that_overlap_and_their_names(tmp_path):
    oblique = grid(size=(20, 24, 16), spacing=(1.1, 1.3, 2.5), rotation=(12, -7, 33))
    made = dataclasses.replace(head(oblique), name="öblique: 1/2")
    names = {"brain": "Gehirn", "white matter": 'weiße "Substanz"', "GTV": "GTV; boost"}
    made = dataclasses.replace(
        made, structures={new: Structure(new, made.structures[old].mask) for old, new in names.items()}
    )
    volume, segmentation = scene.nodesFromScan(made)
    expected = scene.scanFromNodes(volume, segmentation)
    (case,) = cohortFiles.sceneCases([volume], Modality.MR)
    assert case.name == "öblique_ 1_2"
    entry = cohortFiles.writeCase(case, tmp_path, None)
    found = read_scan(entry.image, entry.modality, list(entry.segmentation))
    assert images.same_grid(found.image, expected.image)
    assert np.array_equal(found.array, expected.array)
    assert list(found.structures) == list(names.values())
    for name, structure in expected.structures.items():
        assert np.array_equal(found.structures[name].array, structure.array)
    assert found.provenance == ()  # nothing had to be resampled
    loaded = slicer.util.loadSegmentation(str(entry.segmentation[0]))  # Slicer reads what was written as well
    assert list(scene.segmentNames(loaded).values()) == list(names.values())
    again = scene.scanFromNodes(volume, loaded)
    assert all(np.array_equal(s.array, again.structures[n].array) for n, s in expected.structures.items())


@pytest.mark.parametrize("dtype", [np.int16, np.uint8, np.float32])
def test_voxels_keep_their_type(tmp_path, dtype):
    array = np.random.default_rng(0).integers(0, 200, (6, 7, 8)).astype(dtype)
    volume = slicer.util.addVolumeFromArray(array)
    paths = cohortFiles.writeScan(scene.scanFromNodes(volume, modality="MR"), tmp_path, "x")
    node = slicer.util.loadVolume(str(paths[0]))
    assert slicer.util.arrayFromVolume(node).dtype == dtype
    assert np.array_equal(slicer.util.arrayFromVolume(node), array)


def test_only_named_structures_are_written_with_the_outline_of_the_body(tmp_path):
    volume, segmentation = scene.nodesFromScan(scan("one"))
    segmentation.GetSegmentation().GetSegment(segmentation.GetSegmentation().GetNthSegmentID(0)).SetName("External")
    (case,) = cohortFiles.sceneCases([volume], Modality.MR)
    entry = cohortFiles.writeCase(case, tmp_path, {"GTV", "not there"})
    assert set(read_scan(entry.image, "MR", list(entry.segmentation)).structures) == {"External", "GTV"}


def test_cases_have_names_of_their_own_that_can_be_folders():
    volumes = add("a", "A", "a", "CON: *", "...", "x" * 200)
    names = [case.name for case in cohortFiles.sceneCases(volumes, Modality.MR)]
    assert names == ["a", "A (2)", "a (3)", "CON_ _", "scan", "x" * 80]


def test_sites_come_from_the_tags_until_the_user_calls_them_otherwise(tmp_path, twoScanners):
    assert sceneScans.sites(twoScanners, Modality.MR) == ["Siemens"] * 4 + ["GE"] * 4
    sceneScans.setSite(twoScanners[0], " Leipzig ")
    assert sceneScans.sites(twoScanners, Modality.MR)[:2] == ["Leipzig", "Siemens"]
    slicer.util.saveScene(str(tmp_path / "scene.mrb"))
    slicer.mrmlScene.Clear(0)
    slicer.util.loadScene(str(tmp_path / "scene.mrb"))
    volumes = sceneScans.scansToHarmonize(Modality.MR)
    assert sceneScans.sites(volumes, Modality.MR)[0] == "Leipzig"
    sceneScans.setSite(volumes[0], "")
    assert sceneScans.sites(volumes, Modality.MR)[0] == "Siemens"


# ---------------------------------------------------------------- what fits


def test_results_references_doses_and_other_modalities_are_not_harmonized():
    one, reference, dose, ct, result, unsaid = add("one", "reference", "dose", "ct", "result", "unsaid")
    dose.SetAttribute("DicomRtImport.DoseVolume", "1")
    ct.SetAttribute(scene.MODALITY_ATTRIBUTE, "CT")
    result.SetAttribute(scene.VERDICT_ATTRIBUTE, "pass")
    unsaid.RemoveAttribute(scene.MODALITY_ATTRIBUTE)
    for target in (reference, "reference"):
        assert sceneScans.scansToHarmonize(Modality.MR, target) == [one, unsaid]
    with pytest.raises(InputError, match="'result' was harmonized already"):
        cohortFiles.sceneCases([result], Modality.MR)


def test_what_does_not_fit_is_said_before_anything_is_written(tmp_path):
    logic = HarmonizeModuleLogic()
    with pytest.raises(InputError, match="modality of the scans is not known"):
        logic.runCohort(tmp_path / "out", method="zscore")
    with pytest.raises(InputError, match="no scan to harmonize"):
        logic.runCohort(tmp_path / "out", method="zscore", modality="MR")
    volumes = add("one", "two")
    with pytest.raises(InputError, match="2 volumes but 1 sites"):
        logic.runCohort(tmp_path / "out", volumes=volumes, sites=["A"], method="zscore")
    volumes[1].SetAttribute(scene.MODALITY_ATTRIBUTE, "CT")
    with pytest.raises(InputError, match="CT and MR; choose which"):
        logic.runCohort(tmp_path / "out", method="zscore")
    with pytest.raises(InputError, match="no method 'zscor'"):
        logic.runCohort(tmp_path / "out", method="zscor")
    assert not (tmp_path / "out").exists()
    (tmp_path / "file").write_text("")
    with pytest.raises(HarmonizeError, match="is a file, not a folder"):
        logic.runCohort(tmp_path / "file", volumes=volumes[:1], method="zscore")


# ---------------------------------------------------------------- a whole cohort


CHOICES = {"method": "zscore", "protectedSegments": "GTV", "measuredSegments": ["GTV"]}
SITES = ["A"] * 4 + ["B"] * 4


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """(folder, what was told) of a cohort in which one scan cannot be harmonized; run once, since it takes a while."""
    folder, told = tmp_path_factory.mktemp("cohort"), []
    volumes = addTwoScanners()
    (flat,) = add("flat")
    slicer.util.arrayFromVolume(flat)[:] = 7
    HarmonizeModuleLogic().runCohort(
        folder,
        volumes=[*volumes, flat],
        sites=[*SITES, "B"],
        processes=2,
        progress=lambda fraction, text: told.append((fraction, text)),
        **CHOICES,
    )
    return folder, told


@pytest.fixture
def cohort(finished, twoScanners):
    """(result, volumes, folder, what was told), brought into the scene of this test."""
    folder, told = finished
    (flat,) = add("flat")
    cases = cohortFiles.sceneCases([*twoScanners, flat], Modality.MR, [*SITES, "B"])
    failures = {cases[-1]: "'flat' is constant"}
    return cohortResults.load(folder / "results", cases, failures, keepsScale=False), twoScanners, folder, told


def test_a_cohort_of_the_scene_comes_back_as_volumes_tables_and_plots(cohort):
    result, volumes, folder, told = cohort
    # One scan failed, the others went on; `load` was told what the run told.
    assert result.counts() == {"pass": 8, "review": 0, "refuse": 0, "failed": 1}
    assert result.rows[-1]["case"] == "flat"
    assert "'flat' is constant" in result.rows[-1]["reasons"]
    assert result.report.is_file()
    # Progress only goes forward, and names what is done.
    fractions = [fraction for fraction, _text in told]
    assert fractions == sorted(fractions)
    assert fractions[0] >= 0
    assert fractions[-1] <= 1
    assert told[0][1] == "Writing SI 0"
    # The manifest holds the sites that were given, and results the guard's and the measured figures.
    assert [row["site"] for row in table(folder / "manifest.csv")] == ["A"] * 4 + ["B"] * 4
    assert column(result.casesTable, "case") == [*(v.GetName() for v in volumes), "flat"]
    sharpness = column(result.casesTable, "sharpness")
    assert all(isinstance(value, float) for value in sharpness)
    assert np.isnan(sharpness[-1])
    assert sharpness[0] == result.rows[0]["sharpness"]
    features = FeatureTable.from_csv(folder / "results" / "features.csv")
    assert featureTables.readFeatures(result.featureTable).as_dict() == features.as_dict()
    assert {(row.structure, row.label) for row in features.rows} == {("GTV", label) for label in ("before", "after")}
    # Each harmonized volume lies beside its source, says what was done and is what `process` gives.
    assert list(result.volumes) == [v.GetName() for v in volumes]
    after = result.volumes["SI 0"]
    assert slicer.modules.volumes.logic().CompareVolumeGeometry(volumes[0], after) == ""
    assert after.GetNodeReference(scene.SOURCE_REFERENCE) is volumes[0]
    assert after.GetAttribute(scene.VERDICT_ATTRIBUTE) == "pass"
    assert scene.provenanceOf(after)[-1]["method"] == "zscore"
    assert scene.readVerdict(after).status.value == "pass"
    alone = HarmonizeModuleLogic().process(
        volumes[0], sceneScans.segmentationOf(volumes[0]), "zscore", protectedSegments=["GTV"], measuredSegments=()
    )
    # One thread or two: the last bit of a mean may differ.
    one, other = (slicer.util.arrayFromVolume(node) for node in (alone.outputVolume, after))
    assert np.allclose(one, other, rtol=1e-6, atol=1e-6)


def test_tables_of_the_protocols_hold_numbers_and_charts_the_figures(cohort):
    result, _volumes, folder, _told = cohort
    found = {(node.GetName().split(":")[0], node.GetDescription()): node for node in result.tables}
    shares = found["GTV", "site-effect"]
    written = table(folder / "results" / "evaluation" / "GTV" / "site-effect.csv")
    assert column(shares, "arm") == [row["arm"] for row in written]
    assert column(shares, "KS (%)") == [float(row["KS (%)"]) for row in written]
    assert all(isinstance(value, float) for value in column(shares, "KS (%)"))
    charts = {(chart.GetName().split(":")[0], chart.GetDescription()): chart for chart in result.charts}
    assert {"site-effect-shares", "site-effect-p-values", "site-effect-variance"} <= {name for _s, name in charts}
    kept = json.loads((folder / "results" / "evaluation.json").read_text(encoding="utf-8"))
    figures = {
        (entry["structure"], name): figure
        for entry in kept
        for protocol in entry["results"]
        for name, figure in protocol["figures"].items()
    }
    assert set(charts) == set(figures)
    for key, chart in charts.items():
        series = figures[key]["series"]
        assert chart.GetNumberOfPlotSeriesNodes() == len(series)
        assert chart.GetYAxisTitle() == figures[key]["y_label"]
        for number, drawn in enumerate(series):
            node = chart.GetNthPlotSeriesNode(number)
            assert node.GetName() == drawn["name"]
            assert (node.GetPlotType() == node.PlotTypeBar) == (drawn["kind"] == BARS)
            assert (node.GetLineStyle() == node.LineStyleNone) == (drawn["kind"] == POINTS)
            y = column(node.GetTableNode(), node.GetYColumnName())
            assert y[: len(drawn["y"])] == [np.nan if value is None else value for value in drawn["y"]]
            if drawn["kind"] == AREA and len(y) > len(drawn["y"]):
                assert y[len(drawn["y"])] == drawn["y"][0]  # the outline is closed
    assert charts["GTV", "site-effect-shares"].GetXAxisTitle() == "0: A   1: B"
    picture = chartPicture(charts["GTV", "site-effect-variance"])
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 20  # something was drawn
    slicer.modules.plots.logic().ShowChartInLayout(charts["GTV", "site-effect-shares"])
    selection = slicer.app.applicationLogic().GetSelectionNode()
    assert selection.GetActivePlotChartID() == charts["GTV", "site-effect-shares"].GetID()


def test_the_same_cohort_again_does_no_work_twice_and_replaces_its_nodes(cohort):
    result, volumes, folder, _told = cohort
    count = slicer.mrmlScene.GetNumberOfNodes()
    done = {path: path.stat().st_mtime_ns for path in (folder / "results" / "cases").rglob("harmonized.nii.gz")}
    again = HarmonizeModuleLogic().runCohort(folder, volumes=volumes, sites=SITES, **CHOICES)
    assert {path: path.stat().st_mtime_ns for path in done} == done
    assert slicer.mrmlScene.GetNumberOfNodes() == count
    assert again.volumes == result.volumes
    assert again.counts()["failed"] == 0
    with pytest.raises(InputError, match=r"was run otherwise .*method was zscore, now whitestripe"):
        HarmonizeModuleLogic().runCohort(folder, volumes=volumes, method="whitestripe")


def test_a_reference_scan_of_the_scene_is_the_target_and_roles_go_by_name(tmp_path):
    first, reference, lacking = add("first", "reference", "lacking")
    segmentation = sceneScans.segmentationOf(lacking).GetSegmentation()
    segmentation.RemoveSegment(segmentation.GetSegmentIdBySegmentName("GTV"))
    result = HarmonizeModuleLogic().runCohort(
        tmp_path / "with, comma",
        method="histogram-matching",
        target="reference",
        targetSegmentation=sceneScans.segmentationOf(reference),
        referenceSegment="white matter",
        protectedSegments=["GTV"],
    )
    assert list(result.volumes) == ["first"]
    assert (result.rows[1]["case"], result.rows[1]["status"]) == ("lacking", "failed")
    assert "no structure named GTV" in result.rows[1]["reasons"]
    alone = HarmonizeModuleLogic().process(
        first, sceneScans.segmentationOf(first), "histogram-matching", reference, protectedSegments=["GTV"],
        targetSegmentation=sceneScans.segmentationOf(reference), referenceSegment="white matter",
    )  # fmt: skip
    found, expected = (slicer.util.arrayFromVolume(node) for node in (result.volumes["first"], alone.outputVolume))
    assert np.allclose(found, expected, rtol=1e-5, atol=1e-4)
    assert any("no site has 3 scans" in note for note in result.notes)
    assert result.charts == ()


def test_a_manifest_is_run_as_it_stands_and_what_is_wrong_with_it_is_said(tmp_path):
    (tmp_path / "in").mkdir()
    paths = cohortFiles.writeScan(scan("a"), tmp_path / "in", "a")
    manifest = tmp_path / "in" / "list.csv"
    manifest.write_text(f"case,image,segmentation,modality,age\na,{paths[0].name},{paths[1].name},MR,63\n")
    result = HarmonizeModuleLogic().runCohort(
        tmp_path / "out", manifest=manifest, method="zscore", measuredSegments=["GTV"], keep=["age"]
    )
    assert result.counts()["pass"] == 1
    assert result.volumes == {}
    assert slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLScalarVolumeNode") == 0
    assert Manifest.read(result.folder / "manifest.csv", outside=True).entries[0].columns["age"] == "63"
    with pytest.raises(InputError, match="no column 'sex' to keep"):
        HarmonizeModuleLogic().runCohort(tmp_path / "out", manifest=manifest, method="zscore", keep=["sex"])
    manifest.write_text("case,image,modality\na,missing.nrrd,MR\n")
    with pytest.raises(InputError, match=r"line 2: there is no image"):
        HarmonizeModuleLogic().runCohort(tmp_path / "out", manifest=manifest, method="zscore")


def test_a_cohort_that_is_stopped_continues_where_it_was(tmp_path):
    add("one", "two", "three")
    logic, told = HarmonizeModuleLogic(), []
    options = {"outputFolder": tmp_path, "method": "zscore", "measuredSegments": ["GTV"]}
    with pytest.raises(Cancelled, match="what is done is kept"):
        logic.runCohort(
            **options,
            progress=lambda fraction, text: told.append(text),
            cancelled=lambda: any(text.startswith("1 of 3") for text in told),
        )
    done = sorted(path.name for path in (tmp_path / "results" / "cases").iterdir())
    assert 1 <= len(done) < 3
    assert slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLTableNode") == 0
    first = (tmp_path / "results" / "cases" / done[0] / "harmonized.nii.gz").stat().st_mtime_ns
    result = logic.runCohort(**options)
    assert result.counts()["pass"] == 3
    assert (tmp_path / "results" / "cases" / done[0] / "harmonized.nii.gz").stat().st_mtime_ns == first
    with pytest.raises(Cancelled):  # before the process is there
        logic.runCohort(**{**options, "outputFolder": tmp_path / "other"}, cancelled=lambda: True)
    assert not (tmp_path / "other" / "results").exists()


# ---------------------------------------------------------------- the process


def waitFor(process, seconds=60):
    end = time.monotonic() + seconds
    while process.poll():
        assert time.monotonic() < end, "the process does not end"
        time.sleep(0.02)


def pretend(monkeypatch, tmp_path, code):
    """Another program in the place of Python: what the command might do wrong."""
    script = tmp_path / "PythonSlicer"
    script.write_text(f"#!{sys.executable}\n{code}")
    script.chmod(0o755)
    monkeypatch.setattr(harmonizeProcess.shutil, "which", lambda name: str(script))


def test_a_command_answers_and_its_complaint_is_an_error_in_words(tmp_path):
    process = HarmonizeProcess(["methods"], tmp_path)
    waitFor(process)
    assert "zscore" in [method["name"] for method in process.answer()["methods"]]
    process = HarmonizeProcess(["cohort", "none.csv", "--method=zscore", "--out=out"], tmp_path)
    waitFor(process)
    with pytest.raises(InputError, match=r"none.csv' cannot be read"):
        process.answer()


@pytest.mark.skipif(sys.platform == "win32", reason="needs a script that can be started")
def test_a_crash_is_told_with_the_last_words(monkeypatch, tmp_path):
    pretend(monkeypatch, tmp_path, "import sys; print('out of luck', file=sys.stderr); sys.exit(7)")
    process = HarmonizeProcess([], tmp_path)
    waitFor(process)
    with pytest.raises(HarmonizeError, match=r"code 7 and no answer.*(?s:.*)out of luck"):
        process.answer()
    monkeypatch.setattr(harmonizeProcess.shutil, "which", lambda name: str(tmp_path / "nothing"))
    with pytest.raises(HarmonizeError, match="cannot be started"):
        HarmonizeProcess([], tmp_path)


@pytest.mark.skipif(sys.platform == "win32", reason="needs a script that can be started")
def test_a_launcher_that_keeps_the_input_to_itself_is_ended_and_the_command_behind_it_stops(monkeypatch, tmp_path):
    """As PythonSlicer: the launcher hands on output and error, but holds a pipe of its own to the program's input."""
    program = "import sys; sys.stderr.write('ready\\n'); sys.stderr.flush(); sys.stdin.read(); open('ended', 'w')"
    code = (
        f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {program!r}], stdin=subprocess.PIPE).wait()"
    )
    pretend(monkeypatch, tmp_path, code)
    monkeypatch.setattr(harmonizeProcess, "GRACE_SECONDS", 0.3)
    process = HarmonizeProcess([], tmp_path)
    while not process._said:
        assert process.poll()
    process.stop()
    waitFor(process)
    with pytest.raises(Cancelled):
        process.answer()
    assert Path(tmp_path / "ended").exists()  # by itself, not killed


def test_a_process_that_nobody_watches_any_more_stops(tmp_path):
    """Slicer ends or crashes: the pipes close, and no process is left behind."""
    volume = add("one")[0]
    (case,) = cohortFiles.sceneCases([volume], Modality.MR)
    Manifest(tmp_path / "m.csv", (cohortFiles.writeCase(case, tmp_path, None),)).write(tmp_path / "m.csv")
    code = """
import os, sys
from HarmonizeModuleLib.harmonizeProcess import HarmonizeProcess
from pathlib import Path
process = HarmonizeProcess(["cohort", "m.csv", "--method=zscore", "--out=out"], Path(sys.argv[1]))
while process.fraction == 0:
    process.poll()
print(process._process.pid, flush=True)
os._exit(1)
"""
    root = Path(__file__).resolve().parents[2]
    start = f"import sys; sys.path[:0] = [{str(root)!r}, {str(root / 'HarmonizeModule')!r}]\n"
    start += "from Testing.harness import application; application.start()\n"
    done = subprocess.run(
        [sys.executable, "-c", start + code, str(tmp_path)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        text=True, timeout=120,
    )  # fmt: skip
    pid = int(done.stdout.split()[-1])
    end = time.monotonic() + 30
    while Path(f"/proc/{pid}").exists() and Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z":
        assert time.monotonic() < end
        time.sleep(0.1)


def test_a_protocol_goes_from_the_tags_of_one_scan_to_the_others(tmp_path):
    """The files of a cohort hold no tags, so the manifest and the command say what they said."""
    pytest.importorskip("torch", reason="PyTorch is not installed")
    said = Acquisition(
        repetition_time_ms=2300, echo_time_ms=2.98, inversion_time_ms=900, flip_angle_deg=9, field_strength_tesla=3.0
    )
    other = dataclasses.replace(said, repetition_time_ms=2600, echo_time_ms=4, inversion_time_ms=1000, flip_angle_deg=8)
    first, second = (dataclasses.replace(scan(f"head {n}", n), acquisition=said) for n in range(2))
    target = dataclasses.replace(scan("target"), acquisition=other)
    volumes = [scene.nodesFromScan(made)[0] for made in (first, second)]
    result = HarmonizeModuleLogic().runCohort(
        tmp_path,
        volumes=volumes,
        method="phycharm",
        target=scene.nodesFromScan(target)[0],
        insist=True,  # a ball of three shades is no brain
    )
    assert result.counts()["failed"] == 0
    verdict = json.loads((tmp_path / "results" / "cases" / "head 0" / "verdict.json").read_text())
    protocol = verdict["provenance"][-1]["parameters"]["protocol"]
    assert "TR=2600" in protocol
