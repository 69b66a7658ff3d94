"""Columns of numbers and texts as Slicer's tables: numbers as numbers, so that they sort and plot, NaN for missing."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import vtk
from vtk.util.numpy_support import numpy_to_vtk


def fillTable(tableNode, columns: Mapping[str, Sequence]) -> None:
    """Give a table node these columns, all of one length, and no other.

    A column of numbers (None for missing) becomes a column of doubles, any other one of text.
    """
    wasModified = tableNode.StartModify()
    tableNode.RemoveAllColumns()
    tableNode.SetUseColumnTitleAsColumnHeader(True)
    for name, values in columns.items():
        tableNode.AddColumn(_column(name, values))
    tableNode.EndModify(wasModified)


def _column(name: str, values: Sequence):
    if all(value is None or isinstance(value, int | float | np.number) for value in values):
        numbers = np.array([math.nan if value is None else value for value in values], float)
        column = numpy_to_vtk(numbers, deep=True)
    else:
        column = vtk.vtkStringArray()
        for value in values:
            column.InsertNextValue("" if value is None else str(value))
    column.SetName(name)
    return column
