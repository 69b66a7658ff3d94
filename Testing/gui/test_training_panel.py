"""The training section, clicked through with real trainings: start, curves, stop, continue, a kill, the model."""

import csv
import json
import os
import signal
import time

import pytest

pytest.importorskip("Testing.gui.panels", reason="slicer-core or PySide6 is missing", exc_type=ImportError)
pytest.importorskip("torch", reason="PyTorch is not installed")
pytest.importorskip("ruamel.yaml")

import qt
import slicer

from HarmonizeModuleLib import scene as door
from HarmonizeModuleLib import trainingCurves, trainingPanel
from HarmonizeModuleLib.plots import TABLE_REFERENCE
from Testing.gui.panels import ct, parameters, picture, select
from Testing.harness import scene
from Testing.harness.charts import chartPicture
from Testing.harness.pictures import save

from HarmonizeExtension.methods import catalogue
from HarmonizeExtension.training import start

SYSTEM = {"samples": "samples", "scanners": ["GE 3T", "GE 1.5T"], "unseen": [], "people": 2, "validation_people": 1}
SYSTEM |= {"every": 12, "spacing_mm": 4.0, "width": 2, "workers": 1}
SCHEDULE = {"batch_size": 1, "report_every": 1, "checkpoint_every": 5, "validate_every": 10, "threads": 1}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Where configurations lie; what is drawn for one training serves all."""
    return tmp_path_factory.mktemp("trainings")


@pytest.fixture
def training(panel, place, tmp_path):
    """The panel with the section open, PhyCHarm and a folder."""
    ui = panel.ui
    ui.trainingSection.collapsed = False
    ui.trainingSystemCombo.currentIndex = ui.trainingSystemCombo.findData("phycharm")
    ui.trainingFolderEdit.currentPath = str(tmp_path / "out")
    return panel


def config(place, steps, name="config.yaml", **settings):
    path = place / name
    path.write_text(json.dumps({"schedule": SCHEDULE | {"steps": steps}, "system": SYSTEM | settings}))
    return str(path)


def wait(panel, until=None, seconds=240):
    """Let events in, as Slicer does, until the training has ended or something has happened."""
    end = time.monotonic() + seconds
    while panel.ui.trainingRunButton.text == "Stop" and not (until and until()):
        assert time.monotonic() < end, panel.ui.trainingProgressLabel.text
        slicer.app.processEvents()
        time.sleep(0.01)


def steps(folder):
    """The steps that are in the curves of a folder."""
    path = folder / "curves.csv"
    return trainingCurves.readCurves(path).get("step", []) if path.exists() else []


def chart(name):
    return next(c for c in slicer.util.getNodesByClass("vtkMRMLPlotChartNode") if c.GetName().endswith(name))


def process(panel):
    return panel.widget.training._follower.run._process._process


def ended(process, seconds=120):
    end = time.monotonic() + seconds
    while process.poll() is None and time.monotonic() < end:
        time.sleep(0.05)
    return process.poll() is not None


# ---------------------------------------------------------------- choices


def test_start_says_what_is_missing_and_the_systems_are_those_of_the_method_section(training, tmp_path):
    ui = training.ui
    offered = [ui.trainingSystemCombo.itemData(i) for i in range(ui.trainingSystemCombo.count)]
    assert "phycharm" in offered
    assert set(offered) <= {card.name for card in catalogue.cards()} & set(start.SYSTEMS)
    assert ui.trainingRunButton.enabled
    assert (ui.trainingLossesButton.enabled, ui.trainingUseButton.isHidden()) == (False, True)
    ui.trainingConfigEdit.currentPath = str(tmp_path / "none.yaml")
    assert not ui.trainingRunButton.enabled
    assert "none.yaml'; choose another" in ui.trainingRunButton.toolTip
    ui.trainingSystemCombo.currentIndex = ui.trainingSystemCombo.findData("harmonae")
    assert ui.trainingConfigEdit.currentPath == ""  # that of another system would not fit
    ui.trainingFolderEdit.currentPath = ""
    assert ui.trainingRunButton.toolTip == "Choose an output folder"
    scene.assertNoErrors()


def test_edit_writes_a_configuration_to_start_from_and_opens_it(training, tmp_path, monkeypatch):
    opened = []
    monkeypatch.setattr(qt.QDesktopServices, "openUrl", lambda url: opened.append(url.toLocalFile()) or True)
    training.ui.trainingEditButton.click()
    path = tmp_path / "out" / "phycharm.yaml"
    assert opened == [str(path)] == [training.ui.trainingConfigEdit.currentPath]
    assert start.read_config(path)["system"]["samples"] == "samples"
    path.write_text("mine")
    training.ui.trainingEditButton.click()
    assert path.read_text() == "mine"
    monkeypatch.setattr(qt.QDesktopServices, "openUrl", lambda url: False)
    training.ui.trainingEditButton.click()
    assert "open it in a text editor" in scene.errorTexts()[0]
    scene.messages.clear()
    scene.assertNoErrors()


def test_errors_of_the_configuration_come_as_the_sentence_of_the_engine(training, place):
    training.ui.trainingConfigEdit.currentPath = config(place, 3, "wrong.yaml", scanner=3)
    training.ui.trainingRunButton.click()
    wait(training)
    (text,) = scene.errorTexts()
    assert text.startswith("The network was not trained.")
    assert "has no 'scanner'; did you mean 'scanners'?" in text
    assert training.ui.trainingRunButton.text == "Start training"
    assert training.ui.trainingRunButton.enabled
    scene.messages.clear()
    scene.assertNoErrors()


def test_half_a_row_waits_until_it_is_whole(tmp_path):
    path = tmp_path / "curves.csv"
    assert trainingCurves.readCurves(path) == {}
    path.write_text("")
    assert trainingCurves.readCurves(path) == {}
    path.write_text("step,seconds,both loss\r\n1,0.5,3\r\n2,0")
    assert trainingCurves.readCurves(path) == {"step": [1], "seconds": [0.5], "both loss": [3]}


# ---------------------------------------------------------------- the run


@pytest.mark.slow
def test_a_training_shows_its_curves_stops_continues_and_its_model_can_be_used(training, heads, place, tmp_path):
    ui, folder = training.ui, tmp_path / "out"
    ui.trainingConfigEdit.currentPath = config(place, 100_000)
    ui.trainingRunButton.click()
    assert (ui.trainingRunButton.text, ui.trainingFolderEdit.enabled) == ("Stop", False)
    selection = slicer.app.applicationLogic().GetSelectionNode()
    assert selection.GetActivePlotChartID() == chart("losses").GetID()
    table = chart("losses").GetNodeReference(TABLE_REFERENCE)
    wait(training, lambda: "left" in ui.trainingProgressLabel.text and table.GetNumberOfRows() > 3)
    assert ui.applyButton.enabled or not parameters(training).inputVolume  # Slicer stays free
    assert ui.trainingValidationButton.enabled
    seen = table.GetNumberOfRows()
    wait(training, lambda: table.GetNumberOfRows() > seen)  # it is refreshed while it runs
    names = [chart("losses").GetNthPlotSeriesNode(i).GetName() for i in range(2)]
    assert names == ["both loss", "both t1"]

    ui.trainingRunButton.click()
    assert not ui.trainingRunButton.enabled
    wait(training)
    scene.assertNoErrors()
    done = int(max(steps(folder)))
    assert ui.trainingProgressLabel.text == f"Stopped after step {done}; Continue goes on from there."
    assert (ui.trainingRunButton.text, ui.trainingUseButton.isHidden()) == ("Continue training", True)
    assert table.GetNumberOfRows() == done

    ui.trainingConfigEdit.currentPath = config(place, done + 12)
    ui.trainingRunButton.click()
    wait(training)
    scene.assertNoErrors()
    assert ui.trainingProgressLabel.text.startswith(f"Done after {done + 12} steps.")
    assert steps(folder) == list(range(1, done + 13))  # each step once: it went on
    ui.trainingValidationButton.click()
    assert selection.GetActivePlotChartID() == chart("validation").GetID()
    with open(folder / "validation.csv", newline="") as file:
        scores = [float(row["score"]) for row in csv.DictReader(file)]
    column = chart("validation").GetNodeReference(TABLE_REFERENCE).GetTable().GetColumnByName("score")
    assert [column.GetValue(i) for i in range(column.GetNumberOfValues())] == pytest.approx(scores)

    assert [ui.trainingSiteCombo.itemText(i) for i in range(ui.trainingSiteCombo.count)] == ["GE 3T", "GE 1.5T"]
    ui.trainingSiteCombo.currentIndex = 1
    parameters(training).targetVolume = heads[1][0]
    ui.trainingUseButton.click()
    assert ui.methodCombo.currentData == "phycharm"
    assert ui.targetTextCombo.currentText == f"{folder / 'model'}#GE 1.5T"
    assert ui.targetTextCombo.enabled
    harmonizer = catalogue.method("phycharm").for_target(ui.targetTextCombo.currentText)
    assert harmonizer.learnt_target == 1
    select(training, door.nodesFromScan(ct())[0])
    assert not ui.trainingUseButton.enabled
    assert "PhyCHarm is not for CT" in ui.trainingUseButton.toolTip
    scene.assertNoErrors()


@pytest.mark.slow
def test_a_killed_training_says_so_and_continues(training, place, tmp_path):
    ui, folder = training.ui, tmp_path / "out"
    ui.trainingConfigEdit.currentPath = config(place, 100_000)
    ui.trainingRunButton.click()
    wait(training, lambda: (folder / start.CHECKPOINT).exists())
    os.kill(process(training).pid, signal.SIGKILL)
    wait(training)
    assert "run it again, it continues" in scene.errorTexts()[0]
    scene.messages.clear()
    assert ui.trainingRunButton.text == "Continue training"
    reached = max(steps(folder))
    ui.trainingConfigEdit.currentPath = config(place, int(reached) + 2)
    ui.trainingRunButton.click()
    wait(training)
    assert ui.trainingProgressLabel.text.startswith("Done after")
    assert steps(folder) == list(range(1, int(reached) + 3))
    scene.assertNoErrors()


@pytest.mark.slow
@pytest.mark.parametrize("what", ["scene", "panel"])
def test_nothing_goes_on_when_the_scene_or_the_panel_closes(training, place, tmp_path, what):
    ui, folder = training.ui, tmp_path / "out"
    ui.trainingConfigEdit.currentPath = config(place, 100_000)
    ui.trainingRunButton.click()
    running = process(training)
    wait(training, lambda: steps(folder))
    if what == "scene":
        slicer.mrmlScene.Clear(0)
        wait(training)
        assert ui.trainingProgressLabel.text.startswith("Stopped after step")
        assert slicer.util.getNodesByClass("vtkMRMLPlotChartNode") == []
    else:
        training.widget.cleanup()
    assert ended(running)
    assert (folder / start.CHECKPOINT).exists()
    scene.assertNoErrors()


# ---------------------------------------------------------------- the picture


def test_the_section_has_its_picture_taken_with_a_finished_training(panel, tmp_path, monkeypatch):
    """The curves are drawn by hand: what is tested is how they are shown."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "PhyCHarm our scanners"
    folder.mkdir()
    losses = ["step,seconds,both loss,both t1,both m0,both consistency,both harmonization"]
    for step in range(10, 5001, 10):
        fall = 0.05 + 0.9 * (1 + step / 150) ** -0.8
        losses.append(",".join(map(str, (step, step, 2 * fall, 0.9 * fall, 0.3 * fall, 0.2 * fall, 0.1 + 0.4 * fall))))
    (folder / "curves.csv").write_text("\n".join(losses))
    figures = [f"{step},{0.1 + 20 / (step + 50)},0.05" for step in range(250, 5001, 250)]
    (folder / "validation.csv").write_text("\n".join(["step,score,t1_white", *figures]))
    (folder / start.CHECKPOINT).write_text("")
    (folder / "phycharm.yaml").write_text("")
    shipped = os.path.join(os.path.dirname(trainingPanel.__file__), "../../Resources/Models/phycharm-brain-t1")
    os.symlink(os.path.abspath(shipped), folder / start.MODEL)
    ui = panel.ui
    ui.trainingSection.collapsed = False
    ui.trainingSystemCombo.currentIndex = ui.trainingSystemCombo.findData("phycharm")
    ui.trainingFolderEdit.currentPath = folder.name
    ui.trainingConfigEdit.currentPath = f"{folder.name}/phycharm.yaml"
    assert not ui.trainingUseButton.isHidden()
    ui.trainingLossesButton.click()
    ui.trainingValidationButton.click()
    for section in (ui.inputsSection, ui.methodSection, ui.outputsSection, ui.resultsSection):
        section.collapsed = True
    path = picture(panel, "training.png", tmp_path)
    panel.picture(path, 520, ui.trainingSection.geometry.bottom() + 60)
    assert [bool(chart(name).GetYAxisLogScale()) for name in ("losses", "validation")] == [True, False]
    for name in ("losses", "validation"):
        save(path.with_name(f"training_{name}.png"), chartPicture(chart(name)))
    assert panel.representation.minimumSizeHint.width() < 450
    scene.assertNoErrors()
