"""What a protocol answers: tables, figures and notes, for the terminal, for files and for the report."""

from __future__ import annotations

import csv
import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from ..files.writing import replacing, replacing_together
from .figures import Figure, draw

MISSING = "–"
_MOST_LINES = 40  # of a table in the terminal


@dataclasses.dataclass(frozen=True)
class Table:
    """Rows of text and numbers; NaN where a figure does not exist. name: of the CSV file; title: a sentence."""

    name: str
    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[object, ...], ...]

    def text(self) -> str:
        """The table as aligned lines under its title; of a long one the head."""
        cells = [list(self.header), *([_shown(cell) for cell in row] for row in self.rows[:_MOST_LINES])]
        widths = [max(len(row[i]) for row in cells) for i in range(len(self.header))]
        numbers = (int, float, type(None))  # None as `as_dict` has it for NaN
        right = [any(isinstance(row[i], numbers) for row in self.rows) for i in range(len(self.header))]
        lines = [
            "  ".join(
                cell.rjust(width) if at_right else cell.ljust(width)
                for cell, width, at_right in zip(row, widths, right, strict=True)
            ).rstrip()
            for row in cells
        ]
        if len(self.rows) > _MOST_LINES:
            lines.append(f"and {len(self.rows) - _MOST_LINES} more rows; --out writes all of them to {self.name}.csv")
        ruled = (lines[0], "-" * (sum(widths) + 2 * len(widths) - 2), *lines[1:])
        return "\n".join([self.title, *("  " + line for line in ruled)])

    def cells(self) -> list[tuple[object, ...]]:
        """The rows for `report.table`: a dash where a figure does not exist."""
        return [tuple(MISSING if _is_missing(cell) else cell for cell in row) for row in self.rows]

    def to_csv(self, path: str | Path) -> None:
        """Write header and rows; numbers so that they read back to the last bit, an empty cell for NaN."""
        with replacing(path) as beside, open(beside, "w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(self.header)
            writer.writerows(["" if _is_missing(cell) else cell for cell in row] for row in self.rows)


class Answer(NamedTuple):
    """What the function of a protocol returns."""

    tables: tuple[Table, ...]
    figures: Mapping[str, Figure]
    notes: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class ProtocolResult:
    """The answer of one protocol. figures: by name (that of the file); notes: sentences that belong to the figures."""

    protocol: str
    title: str
    citation: str
    tables: tuple[Table, ...]
    figures: Mapping[str, Figure]
    notes: tuple[str, ...] = ()

    def as_dict(self) -> dict:
        """Title, citation, tables and notes as JSON can hold them: null for a figure that does not exist."""
        return {
            "title": f"{self.title} ({self.citation})",
            "tables": [
                {**dataclasses.asdict(table), "rows": [[_json(cell) for cell in row] for row in table.rows]}
                for table in self.tables
            ],
            "notes": list(self.notes),
        }

    def text(self) -> str:
        """Everything that can be read in a terminal."""
        notes = ["\n".join(f"- {note}" for note in self.notes)] if self.notes else []
        return "\n\n".join([f"{self.title} ({self.citation})", *(table.text() for table in self.tables), *notes])

    def write(self, folder: str | Path, kinds: Sequence[str] = ("svg", "png")) -> dict[str, Path]:
        """Write each table as CSV and each figure as `kinds`, all or nothing; returns the files by name.

        Figures are left out where matplotlib is not installed. Raises OutputError.
        """
        names = [f"{table.name}.csv" for table in self.tables]
        with replacing_together(folder) as beside:
            for table in self.tables:
                table.to_csv(beside / f"{table.name}.csv")
            for name, figure in self.figures.items():
                for kind in kinds:
                    picture = draw(figure, kind)
                    if picture is not None:
                        (beside / f"{name}.{kind}").write_bytes(picture)
                        names.append(f"{name}.{kind}")
        return {name: Path(folder) / name for name in names}


def _json(cell: object) -> object:
    if isinstance(cell, float) and not math.isfinite(cell):
        return None if math.isnan(cell) else str(cell)
    return cell


def _is_missing(cell: object) -> bool:
    return cell is None or (isinstance(cell, float) and math.isnan(cell))


def _shown(cell: object) -> str:
    if _is_missing(cell):
        return MISSING
    if isinstance(cell, float):
        return f"{cell:.0f}" if 999.5 <= abs(cell) < 1e7 else f"{cell:.3g}"
    return str(cell)
