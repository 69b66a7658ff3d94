"""Features from CSV files: this program's own tables, and those of others with one row a case."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..errors import InputError
from ..files.manifest import KNOWN, Manifest
from ..files.tables import read_csv
from ..radiomics.table import KEYS, Column, FeatureTable, Row
from .study import BEFORE, some

ONLY = "features"  # what the structure of a plain table is called, which has none


def read_features(path: str | os.PathLike, manifest: Manifest) -> FeatureTable:
    """A feature table in CSV: ours (case, label, structure, features), or any other with one row a case.

    Of any other the column `case`, or else the first, holds the cases; its columns that are numbers throughout (empty
    cells and a spreadsheet's error marks are missing values) are the features, apart from those that the manifest has,
    and what else there is is left out. Separators and decimal commas are those that `read_csv` knows.
    Raises InputError for a file that cannot be read, a case with two rows, and where nothing is a feature.
    """
    path = Path(path)
    header, lines = read_csv(path, "the feature table")
    ragged = [line for line, cells in lines if len(cells) != len(header)]
    if ragged or not lines:
        what = f"line {ragged[0]} has another number of cells than the header" if ragged else "it has no rows"
        raise InputError(f"the feature table '{path}' is damaged: {what}")
    columns = {name: [cells[i] for _, cells in lines] for i, name in enumerate(header)}
    if tuple(header[: len(KEYS)]) == KEYS:
        return _own(path, columns, [line for line, _ in lines])
    key = "case" if "case" in header else header[0]
    cases = columns.pop(key)
    twice = [case for case, count in Counter(cases).items() if count > 1]
    if twice:
        raise InputError(f"the feature table '{path}' has several rows for {some(twice)}; give one row a case")
    taken = {"", *KNOWN, *manifest.column_names()}
    numbers = {name: _measurements(cells) for name, cells in columns.items() if name not in taken}
    features = {name: column for name, column in numbers.items() if column is not None}
    if not features:
        raise InputError(
            f"the feature table '{path}' has no column of numbers beside '{key}' and the manifest's columns"
        )
    words = [name for name, column in numbers.items() if column is None]
    notes = [f"columns of {path.name} that are not numbers, left out: {some(words)}"] if words else []
    rows = (
        Row(case, BEFORE, ONLY, {name: column[i] for name, column in features.items()}) for i, case in enumerate(cases)
    )
    return FeatureTable(tuple(Column(name) for name in features), tuple(rows), {"notes": notes})


def _own(path: Path, columns: dict[str, list[str]], lines: Sequence[int]) -> FeatureTable:
    """A table that this program wrote, or a spreadsheet from it; every column but the keys is a feature."""
    keys = list(zip(*(columns.pop(name) for name in KEYS), strict=True))
    values = {}
    for name, cells in columns.items():
        values[name] = _measurements(cells, all_missing=True)
        if values[name] is None:
            line = next(line for line, cell in zip(lines, cells, strict=True) if _measurements([cell], True) is None)
            raise InputError(f"the feature table '{path}' is damaged: line {line}, '{name}' is no number")
    rows = (Row(*key, {name: float(column[i]) for name, column in values.items()}) for i, key in enumerate(keys))
    return FeatureTable(tuple(Column(name) for name in values), tuple(rows))


def _measurements(cells: Sequence[str], all_missing: bool = False) -> np.ndarray | None:
    """A column as numbers, NaN where a cell is empty or a spreadsheet's "#DIV/0!"; None where it holds words.

    all_missing: whether a column without any number is one.
    """
    try:
        numbers = np.array([np.nan if not cell or cell[0] == "#" else float(cell) for cell in cells])
    except ValueError:
        return None
    return numbers if all_missing or np.isfinite(numbers).any() else None
