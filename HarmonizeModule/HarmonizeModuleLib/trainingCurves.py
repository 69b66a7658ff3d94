"""The curves of a training as plot charts over tables, read from the files that the training appends to."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import slicer
from slicer.i18n import tr as _

from HarmonizeExtension.training.start import CURVES, VALIDATION

from .plots import TABLE_REFERENCE, newSeries
from .tables import fillTable

TRAINING_ATTRIBUTE = "Harmonize.Training"  # the file that a chart shows
STEP = "step"  # the column of both files that all others are held against
SCORE = "score"  # what is better when lower, of the figures of a validation
_NO_CURVES = (STEP, "seconds")


def chartOf(path: Path):
    """The chart of a file of curves, made where the scene has none, with what the file holds by now."""
    chart = _existing(path)
    if chart is None:
        losses = path.name == CURVES
        name = (_("{name}: losses") if losses else _("{name}: validation")).format(name=path.parent.name)
        chart = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLPlotChartNode", name)
        chart.SetTitle(name)
        chart.SetXAxisTitle(STEP)
        chart.SetYAxisTitle(_("loss") if losses else _("score, lower is better"))
        chart.SetTitleFontSize(14)
        chart.SetAxisTitleFontSize(13)
        chart.SetAttribute(TRAINING_ATTRIBUTE, str(path))
        table = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTableNode", _("{name} (numbers)").format(name=name))
        chart.SetNodeReferenceID(TABLE_REFERENCE, table.GetID())
    _fill(chart, path)
    return chart


def refresh(folder: Path) -> None:
    """Bring the charts of a training that are in the scene up to date."""
    for path in (folder / CURVES, folder / VALIDATION):
        chart = _existing(path)
        if chart is not None:
            _fill(chart, path)


def readCurves(path: Path) -> dict[str, list[float]]:
    """The columns of a file of curves; none where it is not there yet, and the last row only once it is whole."""
    try:
        with open(path, newline="", encoding="utf-8") as file:
            header, *rows = csv.reader(file)
        columns = [[float(row[i]) for row in rows if len(row) == len(header)] for i in range(len(header))]
    except (OSError, ValueError):  # not there, or its first line is just being written
        return {}
    return dict(zip(header, columns, strict=True))


def _existing(path: Path):
    charts = slicer.util.getNodesByClass("vtkMRMLPlotChartNode")
    return next((chart for chart in charts if chart.GetAttribute(TRAINING_ATTRIBUTE) == str(path)), None)


def _fill(chart, path: Path) -> None:
    columns, table = readCurves(path), chart.GetNodeReference(TABLE_REFERENCE)
    if table is None or len(columns.get(STEP, ())) == table.GetNumberOfRows():
        return
    fillTable(table, columns)
    if path.name == VALIDATION:
        _setSeries(chart, table, [SCORE])
        return
    names = [name for name in columns if name not in _NO_CURVES]
    _setSeries(chart, table, names)
    # Losses fall over decades, and those of several networks stand side by side.
    chart.SetYAxisLogScale(all(value > 0 for name in names for value in columns[name]))


def _setSeries(chart, table, names: Sequence[str]) -> None:
    """A line for each column; those that are there stay as the user may have changed them."""
    series = [chart.GetNthPlotSeriesNode(index) for index in range(chart.GetNumberOfPlotSeriesNodes())]
    if [node.GetYColumnName() for node in series] == list(names):
        return
    for node in series:
        slicer.mrmlScene.RemoveNode(node)
    chart.RemoveAllPlotSeriesNodeIDs()
    for number, name in enumerate(names):
        node = newSeries(name, table, STEP, name, number)
        node.SetMarkerStyle(node.MarkerStyleCircle if name == SCORE else node.MarkerStyleNone)
        chart.AddAndObservePlotSeriesNodeID(node.GetID())
