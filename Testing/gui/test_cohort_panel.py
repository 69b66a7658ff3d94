"""The cohort section, clicked through: scans, sites, Run, Stop, results, a manifest, scenes that close meanwhile."""

import csv
import dataclasses
import time

import numpy as np
import pytest

pytest.importorskip("Testing.gui.panels", reason="slicer-core or PySide6 is missing", exc_type=ImportError)

import qt
import slicer

from HarmonizeModuleLib import cohortFiles, sceneScans
from HarmonizeModuleLib import scene as door
from HarmonizeModuleLib.cohortPanel import NAME_COLUMN, SEGMENTATION_COLUMN, SITE_COLUMN, VERDICT_COLUMN
from HarmonizeModuleLib.inputsPanel import MEASURED_COLUMN
from Testing.engine.scans import grid, head
from Testing.gui.panels import picture, rows, select, tick
from Testing.harness import scene
from Testing.harness.charts import chartPicture
from Testing.harness.pictures import save

from HarmonizeExtension.phantoms.brain import three_scanner_case
from HarmonizeExtension.scan import Acquisition

MAKERS = ("SIEMENS", "GE MEDICAL SYSTEMS")


def small(name, seed, maker):
    on = grid(size=(30, 32, 22), spacing=(1.4, 1.4, 2.0))
    return dataclasses.replace(head(on, seed), name=name, acquisition=Acquisition(manufacturer=maker))


@pytest.fixture
def scans(emptyScene):
    """A scan of each of two scanners."""
    return [door.nodesFromScan(small(f"scan {i}", i, maker))[0] for i, maker in enumerate(MAKERS)]


@pytest.fixture
def cohort(panel, scans, tmp_path):
    """The panel with the section open, a method, one structure to measure and a folder."""
    panel.ui.cohortSection.collapsed = False
    select(panel, scans[0], "zscore")
    for name in ("brain", "white matter"):
        tick(panel, name, MEASURED_COLUMN, on=False)
    panel.ui.cohortFolderEdit.currentPath = str(tmp_path / "out")
    return panel


def cells(panel):
    table = panel.ui.cohortTable
    return [[table.item(row, column).text() for column in range(4)] for row in range(table.rowCount)]


def wait(panel, until=None, seconds=120):
    """Let events in, as Slicer does, until the run has ended or something has happened."""
    end = time.monotonic() + seconds
    while panel.ui.cohortRunButton.text == "Stop" and not (until and until()):
        assert time.monotonic() < end, panel.ui.cohortProgressLabel.text
        slicer.app.processEvents()
        time.sleep(0.01)


def why(panel):
    assert not panel.ui.cohortRunButton.enabled
    return panel.ui.cohortRunButton.toolTip


def nodes(name):
    return slicer.util.getNodesByClass(name)


# ---------------------------------------------------------------- choices


def test_the_scans_of_the_scene_stand_there_with_segmentation_and_site(cohort, scans):
    assert cells(cohort) == [["scan 0", "scan 0 structures", "Siemens", ""], ["scan 1", "scan 1 structures", "GE", ""]]
    assert cohort.ui.cohortRunButton.enabled
    assert cohort.ui.cohortManifestEdit.isHidden()
    assert cohort.ui.cohortKeepEdit.isHidden()
    assert cohort.ui.cohortShowCombo.isHidden()
    volume, segmentation = door.nodesFromScan(small("scan 2", 2, MAKERS[0]))  # loaded while the panel is open
    slicer.app.processEvents()
    assert [row[0] for row in cells(cohort)] == ["scan 0", "scan 1", "scan 2"]
    slicer.mrmlScene.RemoveNode(segmentation)
    slicer.app.processEvents()
    assert cells(cohort)[2][SEGMENTATION_COLUMN] == ""
    volume.SetAttribute(door.MODALITY_ATTRIBUTE, "CT")
    slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "empty").SetAttribute(door.MODALITY_ATTRIBUTE, "PET")
    slicer.app.processEvents()
    assert [row[0] for row in cells(cohort)] == ["scan 0", "scan 1"]
    select(cohort, scans[0], "histogram-matching", scans[1])
    assert [row[0] for row in cells(cohort)] == ["scan 0"]  # the reference scan is no case
    scene.assertNoErrors()


def test_run_says_what_is_missing(cohort, scans, tmp_path):
    ui = cohort.ui
    ui.cohortFolderEdit.currentPath = ""
    assert why(cohort) == "Choose an output folder"
    select(cohort, scans[0], "histogram-matching")
    assert why(cohort) == "Choose a reference scan"
    select(cohort, scans[0], "zscore")
    for row in range(2):
        ui.cohortTable.item(row, NAME_COLUMN).setCheckState(qt.Qt.Unchecked)
    assert why(cohort).startswith("There is no scan to harmonize")
    ui.cohortSourceCombo.currentIndex = 1
    assert why(cohort) == "Choose a manifest"
    assert not ui.cohortManifestEdit.isHidden()
    ui.cohortManifestEdit.currentPath = str(tmp_path / "none.csv")
    assert "none.csv' cannot be read" in why(cohort)
    manifest = tmp_path / "list.csv"
    manifest.write_text("case,image,modality,age\nP1,a.nrrd,MR,70\nP2,b.nrrd,MX,60\n")
    ui.cohortManifestEdit.currentPath = str(manifest)
    assert "line 3: modality 'MX' is not supported" in why(cohort)
    manifest.write_text("case,image,modality,age\nP1,a.nrrd,MR,70\nP2,b.nrrd,MR,60\n")
    ui.cohortManifestEdit.currentPath = ""
    ui.cohortManifestEdit.currentPath = str(manifest)
    assert why(cohort) == "Choose an output folder"
    assert [row[:3] for row in cells(cohort)] == [["P1", "", "by its tags"], ["P2", "", "by its tags"]]
    assert "age" in ui.cohortKeepEdit.toolTip
    ui.cohortKeepEdit.text = "age, sex"
    assert "no column 'sex' to keep" in why(cohort)
    ui.cohortKeepEdit.text = "age"
    ui.cohortFolderEdit.currentPath = str(tmp_path / "out")
    assert ui.cohortRunButton.enabled
    scene.assertNoErrors()


def test_choices_come_back_with_the_scene(cohort, scans, tmp_path):
    ui = cohort.ui
    ui.cohortTable.item(1, NAME_COLUMN).setCheckState(qt.Qt.Unchecked)
    ui.cohortTable.item(0, SITE_COLUMN).setText("Leipzig")
    ui.cohortProcessesSpinBox.value = 3
    assert slicer.util.saveScene(str(tmp_path / "case.mrb"))
    slicer.mrmlScene.Clear(0)
    assert cells(cohort) == []
    slicer.util.loadScene(str(tmp_path / "case.mrb"))
    assert [row[:3] for row in cells(cohort)] == [
        ["scan 0", "scan 0 structures", "Leipzig"],
        ["scan 1", "scan 1 structures", "GE"],
    ]
    checked = [ui.cohortTable.item(row, NAME_COLUMN).checkState() == qt.Qt.Checked for row in range(2)]
    assert checked == [True, False]
    assert ui.cohortProcessesSpinBox.value == 3
    assert ui.cohortFolderEdit.currentPath == str(tmp_path / "out")
    scene.assertNoErrors()


# ---------------------------------------------------------------- the run


def test_a_run_leaves_the_panel_free_and_brings_everything_into_the_scene(cohort, scans, tmp_path, monkeypatch):
    ui, seen = cohort.ui, []
    ui.cohortTable.item(1, SITE_COLUMN).setText("Leipzig")
    assert scans[1].GetAttribute(sceneScans.SITE_ATTRIBUTE) == "Leipzig"
    ui.cohortTable.item(0, SITE_COLUMN).setText("  ")  # from the tags again
    assert cells(cohort)[0][SITE_COLUMN] == "Siemens"
    flat, _left = (door.nodesFromScan(small(name, 5, MAKERS[0]))[0] for name in ("flat", "left out"))
    slicer.app.processEvents()
    slicer.util.arrayFromVolume(flat)[:] = 7
    ui.cohortTable.item(3, NAME_COLUMN).setCheckState(qt.Qt.Unchecked)
    ui.cohortRunButton.click()

    def looked():
        seen.append((ui.cohortProgressBar.value, ui.cohortProgressLabel.text, ui.applyButton.enabled))
        return False

    wait(cohort, looked)
    scene.assertNoErrors()
    values = [value for value, _text, _free in seen]
    assert values == sorted(values)
    assert len(set(values)) > 3
    assert any("of 2 cases done" in text for _value, text, _free in seen)
    assert all(free for _value, _text, free in seen)  # one scan may be harmonized meanwhile
    assert ui.cohortRunButton.text == "Run cohort"
    assert ui.cohortProgressBar.isHidden()
    assert ui.cohortProgressLabel.text == "Done; the report and all files are in the output folder."
    with open(tmp_path / "out" / "manifest.csv", newline="", encoding="utf-8") as file:
        assert [(row["case"], row["site"]) for row in csv.DictReader(file)] == [
            ("scan 0", "Siemens"),
            ("scan 1", "Leipzig"),
        ]
    assert [row[VERDICT_COLUMN] for row in cells(cohort)] == ["pass", "pass", "failed", ""]
    scans[0].SetName("scan 1")  # names are not what tells the scans apart
    cohort.representation.enter()
    assert [row[VERDICT_COLUMN] for row in cells(cohort)] == ["pass", "pass", "failed", ""]
    scans[0].SetName("scan 0")
    assert "'flat' is constant" in ui.cohortTable.item(2, VERDICT_COLUMN).toolTip()
    assert ui.cohortResultLabel.text.startswith("<b>3 scans: 2 pass, 1 failed</b>")
    assert "no site has 3 scans" in ui.cohortResultLabel.text
    assert [ui.cohortShowCombo.itemText(i) for i in range(ui.cohortShowCombo.count)] == ["Cases", "Cohort features"]
    selection = slicer.app.applicationLogic().GetSelectionNode()
    assert selection.GetActiveTableID() == ui.cohortShowCombo.itemData(0)
    ui.cohortShowCombo.currentIndex = 1
    ui.cohortShowCombo.activated.emit(1)
    assert selection.GetActiveTableID() == ui.cohortShowCombo.itemData(1)
    opened = []
    monkeypatch.setattr(qt.QDesktopServices, "openUrl", opened.append)
    ui.cohortReportButton.click()
    assert opened[0].toLocalFile() == str(tmp_path / "out" / "results" / "report.html")
    # What the scene was saved with is shown again, and results are not offered to be harmonized.
    assert [node.GetName() for node in nodes("vtkMRMLScalarVolumeNode") if "harmonized" in node.GetName()] == [
        "scan 0 harmonized",
        "scan 1 harmonized",
    ]
    text = ui.cohortResultLabel.text
    assert slicer.util.saveScene(str(tmp_path / "case.mrb"))
    slicer.mrmlScene.Clear(0)
    assert ui.cohortResultLabel.isHidden()
    slicer.util.loadScene(str(tmp_path / "case.mrb"))
    assert ui.cohortResultLabel.text == text
    assert [row[VERDICT_COLUMN] for row in cells(cohort)] == ["pass", "pass", "failed", ""]
    assert ui.cohortShowCombo.count == 2
    scene.assertNoErrors()


def test_run_becomes_stop_and_the_next_run_continues(cohort, tmp_path):
    ui = cohort.ui
    ui.cohortRunButton.click()
    wait(cohort, lambda: ui.cohortProgressLabel.text.startswith("0 of 2"))
    assert (ui.cohortRunButton.text, ui.cohortTable.enabled) == ("Stop", False)
    ui.cohortRunButton.click()
    assert not ui.cohortRunButton.enabled
    wait(cohort)
    assert ui.cohortProgressLabel.text == "Stopped; what is done is kept, and Run continues."
    assert (ui.cohortRunButton.text, ui.cohortRunButton.enabled, ui.cohortTable.enabled) == ("Run cohort", True, True)
    assert nodes("vtkMRMLTableNode") == []
    done = {path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("harmonized.nii.gz")}
    assert len(done) < 2
    ui.cohortRunButton.click()
    wait(cohort)
    assert ui.cohortResultLabel.text.startswith("<b>2 scans: 2 pass")
    assert done < {path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("harmonized.nii.gz")}
    scene.assertNoErrors()


def test_what_does_not_fit_is_said_in_words(cohort, tmp_path):
    (tmp_path / "out" / "results").mkdir(parents=True)
    (tmp_path / "out" / "results" / "thesis.docx").write_text("")
    cohort.ui.cohortRunButton.click()
    wait(cohort)
    (text,) = scene.errorTexts()
    assert text.startswith("The cohort was not harmonized.")
    assert "holds other files (thesis.docx)" in text
    assert cohort.ui.cohortRunButton.enabled
    scene.messages.clear()
    scene.assertNoErrors()


def test_closing_the_scene_stops_the_run(cohort, tmp_path):
    cohort.ui.cohortRunButton.click()
    wait(cohort, lambda: cohort.ui.cohortProgressBar.value > 10)
    slicer.mrmlScene.Clear(0)
    wait(cohort)
    assert cohort.ui.cohortProgressLabel.text.startswith("Stopped")
    assert nodes("vtkMRMLTableNode") == nodes("vtkMRMLScalarVolumeNode") == []
    assert why(cohort).startswith("Choose a scan above")
    scene.assertNoErrors()


def test_a_manifest_is_run_from_the_panel(cohort, tmp_path):
    (tmp_path / "in").mkdir()
    lines = ["case,image,segmentation,modality,site"]
    for i, maker in enumerate(MAKERS):
        paths = cohortFiles.writeScan(small(f"P{i}", i, maker), tmp_path / "in", f"P{i}")
        lines.append(f"P{i},{paths[0].name},{paths[1].name},MR,{maker}")
    (tmp_path / "in" / "list.csv").write_text("\n".join(lines))
    cohort.ui.cohortSourceCombo.currentIndex = 1
    cohort.ui.cohortManifestEdit.currentPath = str(tmp_path / "in" / "list.csv")
    cohort.ui.cohortRunButton.click()
    wait(cohort)
    assert cells(cohort) == [["P0", "P0.seg.nrrd", MAKERS[0], "pass"], ["P1", "P1.seg.nrrd", MAKERS[1], "pass"]]
    assert len(nodes("vtkMRMLScalarVolumeNode")) == 2  # those of the scene; a manifest stays in files
    scene.assertNoErrors()


# ---------------------------------------------------------------- the picture


@pytest.mark.slow
def test_the_section_has_its_picture_taken_with_a_finished_run(panel, tmp_path, monkeypatch):
    """One person five times on each of two scanners, with other noise and gain; one scan was exported wrongly."""
    rng, volumes = np.random.default_rng(0), []
    for scanner, made in list(three_scanner_case(1, 4.0).items())[:2]:
        for number in range(1, 6):
            noise = 0.02 * np.ptp(made.array) * rng.standard_normal(made.array.shape)
            name = f"P{number} {scanner}"
            volumes.append(door.nodesFromScan(made.with_array(np.abs(made.array + noise) * number, name=name))[0])
    slicer.util.arrayFromVolume(volumes[3])[:] = 0
    panel.ui.cohortSection.collapsed = False
    select(panel, volumes[0], "whitestripe")
    for name in rows(panel):
        tick(panel, name, MEASURED_COLUMN, on=name == "lesion")
    monkeypatch.chdir(tmp_path)
    panel.ui.cohortFolderEdit.currentPath = "glioma follow-up"
    panel.ui.cohortProcessesSpinBox.value = 2
    slicer.app.processEvents()
    panel.ui.cohortRunButton.click()
    wait(panel, seconds=300)
    scene.assertNoErrors()
    chart = nodes("vtkMRMLPlotChartNode")[0]
    assert slicer.app.applicationLogic().GetSelectionNode().GetActivePlotChartID() == chart.GetID()
    assert panel.ui.cohortShowCombo.currentText == chart.GetName()
    for section in (panel.ui.inputsSection, panel.ui.methodSection, panel.ui.outputsSection, panel.ui.resultsSection):
        section.collapsed = True
    path = picture(panel, "cohort.png", tmp_path)
    panel.picture(path, 520, panel.ui.trainingSection.geometry.bottom() + 30)
    save(path.with_name("cohort_plot.png"), chartPicture(chart))
    assert panel.representation.minimumSizeHint.width() < 450
    assert path.stat().st_size < 300_000
    header = panel.ui.cohortTable.horizontalHeader()
    for column in range(4):  # no header is cut
        assert header.sectionSize(column) >= header.sectionSizeHint(column)
    scene.assertNoErrors()
