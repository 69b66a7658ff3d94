"""The figures of the protocols as plot nodes, which Slicer draws in its plot views."""

from __future__ import annotations

import numpy as np
import slicer
from slicer.i18n import tr as _

from HarmonizeExtension.evaluation.figures import AREA, BARS, COLOURS, DASHED, NEUTRAL, POINTS, Figure, Series

from .tables import fillTable

TABLE_REFERENCE = "Harmonize.PlotTable"


def chartOfFigure(figure: Figure, name: str) -> list:
    """A figure as new nodes: its chart, the table of its numbers and a series for each thing to draw, in this order.

    What Slicer's charts cannot show is said otherwise: filled shapes are outlines, names along an axis stand in the
    axis's title with their places, and error bars are left to the tables.
    """
    chart = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLPlotChartNode", name)
    chart.SetTitle(name)
    chart.SetTitleFontSize(14)
    chart.SetAxisTitleFontSize(13)
    chart.SetXAxisTitle(figure.x_label or "   ".join(f"{place:g}: {text}" for place, text in figure.ticks))
    chart.SetYAxisTitle(figure.y_label)
    table = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTableNode", _("{name} (numbers)").format(name=name))
    table.SetHideFromEditors(True)
    chart.SetNodeReferenceID(TABLE_REFERENCE, table.GetID())
    columns, nodes = {}, []
    length = max(len(series.x) for series in figure.series)
    for number, series in enumerate(figure.series):
        columns |= {f"x{number}": _padded(series.x, series, length), f"y{number}": _padded(series.y, series, length)}
    if any(series.kind == BARS for series in figure.series):
        chart.SetXAxisRangeAuto(False)  # room on the right, where the legend lies
        chart.SetXAxisRange(-0.6, 1.4 * (len(figure.ticks) - 0.4))
    names = [text for _place, text in figure.ticks]
    if any(series.kind == BARS for series in figure.series) and names:
        columns["name"] = (names + [""] * length)[:length]
    fillTable(table, columns)
    for number, series in enumerate(figure.series):
        node = _seriesNode(series, number, table, "name" in columns)
        chart.AddAndObservePlotSeriesNodeID(node.GetID())
        nodes.append(node)
    return [chart, table, *nodes]


def _padded(values: np.ndarray, series: Series, length: int) -> np.ndarray:
    """The columns of a table are of one length: the last point is said again, and an outline is closed."""
    values = np.append(values, values[:1]) if series.kind == AREA and len(values) < length else values
    return np.pad(np.asarray(values, float), (0, length - len(values)), "edge" if len(values) else "empty")


def newSeries(name: str, table, xColumn: str, yColumn: str, group: int):
    """A new series node: a line through two columns of a table node, in the colour of its group; below 0 in grey."""
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLPlotSeriesNode")
    node.SetName(name)  # an empty one keeps out of the legend
    node.SetHideFromEditors(True)
    node.SetAndObserveTableNodeID(table.GetID())
    node.SetXColumnName(xColumn)
    node.SetYColumnName(yColumn)
    colour = NEUTRAL if group < 0 else COLOURS[group % len(COLOURS)]
    node.SetColor([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    node.SetPlotType(node.PlotTypeScatter)
    node.SetMarkerStyle(node.MarkerStyleNone)
    node.SetMarkerSize(4)
    node.SetLineWidth(1.5)
    return node


def _seriesNode(series: Series, number: int, table, named: bool):
    node = newSeries(series.name, table, f"x{number}", f"y{number}", series.group)
    kind = slicer.vtkMRMLPlotSeriesNode
    if series.kind == BARS:
        node.SetPlotType(kind.PlotTypeBar)
    node.SetLineStyle({DASHED: kind.LineStyleDash, POINTS: kind.LineStyleNone}.get(series.kind, kind.LineStyleSolid))
    if series.kind == POINTS:
        node.SetMarkerStyle(kind.MarkerStyleCircle)
    if series.kind == BARS and named:
        node.SetLabelColumnName("name")  # shown where the mouse points
    return node
