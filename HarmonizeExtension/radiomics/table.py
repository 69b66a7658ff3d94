"""The feature table: one row per image and structure, exact values, and all that is needed to read them."""

from __future__ import annotations

import csv
import dataclasses
import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from ..errors import InputError
from ..files.writing import replacing, write_json

KEYS = ("case", "label", "structure")


@dataclasses.dataclass(frozen=True)
class Row:
    """The features of one structure on one image (`label`: "before", "after") of one case; NaN where there is none."""

    case: str
    label: str
    structure: str
    values: Mapping[str, float]


@dataclasses.dataclass(frozen=True)
class Column:
    """What a feature is: `name` as pyradiomics writes it ("original_glcm_Idmn"), and its meaning."""

    name: str
    feature_class: str = ""
    image_type: str = ""
    ibsi_name: str = ""
    ibsi_code: str = ""
    unit: str = ""

    @property
    def description(self) -> str:
        """The IBSI name with its code, where the feature has one; else its own name."""
        return f"{self.ibsi_name} (IBSI {self.ibsi_code})" if self.ibsi_code else self.ibsi_name or self.name


@dataclasses.dataclass(frozen=True)
class FeatureTable:
    """Rows of features, the columns' meanings, and how the values came about (`metadata`: settings, versions)."""

    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    metadata: Mapping = dataclasses.field(default_factory=dict)

    @property
    def features(self) -> tuple[str, ...]:
        """The names of the columns, in order."""
        return tuple(column.name for column in self.columns)

    def column(self, feature: str) -> Column:
        """What a feature is; InputError where the table does not have it."""
        for column in self.columns:
            if column.name == feature:
                return column
        raise InputError(f"the table has no feature '{feature}'; it has {len(self.columns)}, see its columns")

    def values(self, feature: str) -> np.ndarray:
        """One feature over all rows (float64), NaN where missing."""
        self.column(feature)
        return np.array([row.values.get(feature, math.nan) for row in self.rows])

    def row(self, structure: str, label: str = "", case: str = "") -> Row:
        """The first row of a structure; `label` and `case` choose where given. InputError where there is none."""
        for row in self.rows:
            if row.structure == structure and label in ("", row.label) and case in ("", row.case):
                return row
        raise InputError(f"the table has no row for structure '{structure}', label '{label}', case '{case}'")

    def structures(self) -> tuple[str, ...]:
        """The names of the structures, each once, in order."""
        return tuple(dict.fromkeys(row.structure for row in self.rows))

    def before_and_after(self, structure: str) -> list[tuple[str, float, float]]:
        """(feature, before, after) of a structure of the first case that has it."""
        before, after = (self.row(structure, label).values for label in ("before", "after"))
        return [(name, before.get(name, math.nan), after.get(name, math.nan)) for name in self.features]

    @classmethod
    def merged(cls, tables: Iterable[FeatureTable]) -> FeatureTable:
        """All rows of several tables; a feature that one lacks is NaN there.

        A unit that differs between tables (HU before, none after a Z-score) is left empty. Raises InputError where the
        tables were extracted with different settings: their values cannot be compared.
        """
        tables = list(tables)
        if not tables:
            raise InputError("no feature tables to merge")
        settings = [table.metadata.get("settings") for table in tables]
        for other in settings[1:]:
            if other != settings[0]:
                raise InputError(
                    "the feature tables were extracted with different settings, so their values cannot be compared; "
                    "extract them again with the same"
                )
        columns: dict[str, Column] = {}
        for column in (column for table in tables for column in table.columns):
            known = columns.setdefault(column.name, column)
            if known.unit != column.unit:
                columns[column.name] = dataclasses.replace(known, unit="")
        rows = tuple(row for table in tables for row in table.rows)
        return cls(tuple(columns.values()), rows, tables[0].metadata)

    def to_csv(self, path: str | Path) -> None:
        """Write the rows; floats so that they read back to the last bit, NaN as an empty cell."""

        with replacing(path) as beside, open(beside, "w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow([*KEYS, *self.features])
            for row in self.rows:
                cells = (row.values.get(name, math.nan) for name in self.features)
                writer.writerow(
                    [row.case, row.label, row.structure, *("" if c != c else repr(float(c)) for c in cells)]
                )

    @classmethod
    def from_csv(cls, path: str | Path) -> FeatureTable:
        """The rows of a file written by `to_csv`; what the columns mean is kept in JSON only."""
        try:
            with open(path, newline="", encoding="utf-8-sig") as file:
                lines = list(csv.reader(file))
            header = lines[0]
            if tuple(header[:3]) != KEYS:
                raise ValueError("it does not start with the columns case, label, structure")
            rows = []
            for number, cells in enumerate(lines[1:], start=2):
                if len(cells) != len(header):
                    raise ValueError(f"line {number} has {len(cells)} cells, not {len(header)}")
                values = (float(cell) if cell else math.nan for cell in cells[3:])
                rows.append(Row(*cells[:3], dict(zip(header[3:], values, strict=True))))
        except OSError as error:
            raise InputError(f"the feature table {path} cannot be read ({error.strerror})") from error
        except (ValueError, IndexError, csv.Error) as error:
            raise InputError(f"the feature table {path} is damaged: {error or 'it is empty'}") from error
        return cls(tuple(Column(name) for name in header[3:]), tuple(rows))

    def as_dict(self) -> dict:
        """Everything as JSON can hold it: rows, columns' meanings, settings and versions."""
        return {
            "metadata": dict(self.metadata),
            "columns": [dataclasses.asdict(column) for column in self.columns],
            "rows": [
                {
                    **{key: getattr(row, key) for key in KEYS},
                    "values": {name: _number(row.values.get(name, math.nan)) for name in self.features},
                }
                for row in self.rows
            ],
        }

    @classmethod
    def from_dict(cls, content: Mapping, source: str = "") -> FeatureTable:
        """The table that `as_dict` gave; InputError, naming the `source`, where something is missing in it."""
        try:
            rows = tuple(
                Row(
                    *(row[key] for key in KEYS),
                    {name: math.nan if v is None else float(v) for name, v in row["values"].items()},
                )
                for row in content["rows"]
            )
            return cls(tuple(Column(**column) for column in content["columns"]), rows, content["metadata"])
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(f"the feature table {source} is damaged: {error}") from error

    def to_json(self, path: str | Path) -> None:
        """Write everything: rows, columns' meanings, settings and versions."""
        write_json(self.as_dict(), path)

    @classmethod
    def from_json(cls, path: str | Path) -> FeatureTable:
        """The table that `to_json` wrote."""
        try:
            content = json.loads(Path(path).read_text(encoding="utf-8"))
        except OSError as error:
            raise InputError(f"the feature table {path} cannot be read ({error.strerror})") from error
        except ValueError as error:
            raise InputError(f"the feature table {path} is damaged: {error}") from error
        return cls.from_dict(content, str(path))


def _number(value: float) -> float | str | None:
    """A float as JSON can hold it: NaN as null, infinities by name."""
    value = float(value)
    if math.isnan(value):
        return None
    return value if math.isfinite(value) else str(value)
