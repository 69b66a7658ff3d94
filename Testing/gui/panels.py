# ruff: noqa: E402 (qt can be imported once the harness has started)
"""What the tests of the panel share: scans, and the hands that click."""

import dataclasses
import os
import sys
from pathlib import Path

import numpy as np
import slicer

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "HarmonizeModule"))

from Testing.engine.scans import grid, head
from Testing.harness import application

application.start()
import qt

from HarmonizeExtension import images
from HarmonizeExtension.scan import Modality, Scan

MODULE = ROOT / "HarmonizeModule" / "HarmonizeModule.py"


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


def picture(panel, name, tmp_path, width=520):
    """Save a picture of the panel in the folder that HARMONIZE_PICTURES names, else in a temporary one; its path."""
    folder = Path(os.environ.get("HARMONIZE_PICTURES", tmp_path))
    folder.mkdir(parents=True, exist_ok=True)
    panel.picture(folder / name, width=width)
    return folder / name
