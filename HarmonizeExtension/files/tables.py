"""Tables of text, as a spreadsheet saves them: separated by commas, semicolons or tabs."""

from __future__ import annotations

import csv
import io
import os
import re
from collections.abc import Iterator
from pathlib import Path

from ..errors import InputError

_SEPARATORS = ",;\t"
# As a spreadsheet writes a number where the comma is the decimal sign, and so the semicolon separates.
_DECIMAL_COMMA = re.compile(r"[+-]?\d*,\d+([eE][+-]?\d+)?")


def read_csv(path: str | os.PathLike, what: str = "the table") -> tuple[list[str], list[tuple[int, list[str]]]]:
    """The header, and each line that is not blank as its number in the file (from 1) and its cells, without blanks.

    The separator is the one that splits the header into most cells. Where it is a semicolon, numbers with a decimal
    comma (1,5) come back with a point (1.5). Lines may have more or fewer cells than the header: the caller knows how
    to name them.
    what: how errors call the file. Raises InputError for a file that cannot be read, that is no table in UTF-8, that
    is empty, and for two columns of the same name.
    """
    path = Path(path)
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            text = file.read()
        separator = max(_SEPARATORS, key=lambda mark: len(next(_records(text, mark, strict=False), (1, []))[1]))
        rows = list(_records(text, separator, strict=True))
    except OSError as error:
        raise InputError(f"{what} '{path}' cannot be read ({error.strerror})") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{what} '{path}' is no CSV text in UTF-8 ({error}); save it as CSV (UTF-8)") from error
    if not rows:
        raise InputError(f"{what} '{path}' is empty; give a header and a line for each scan")
    (_, header), *lines = rows
    twice = sorted({name for name in header if name and header.count(name) > 1})
    if twice:
        names = ", ".join(f"'{name}'" for name in twice)
        raise InputError(f"{what} '{path}' has several columns {names}; give each column its own name")
    if separator == ";":
        lines = [(line, [_with_point(cell) for cell in cells]) for line, cells in lines]
    return header, lines


def _records(text: str, separator: str, strict: bool) -> Iterator[tuple[int, list[str]]]:
    """The line where each record starts, and its cells, of those that are not blank.

    strict: raise csv.Error where quotes do not fit, as they may not where the separator is another.
    """
    # Not splitlines, which breaks lines at more characters than CSV does.
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=strict)
    end = 0
    for cells in reader:
        if any(cell.strip() for cell in cells):
            yield end + 1, [cell.strip() for cell in cells]
        end = reader.line_num


def _with_point(cell: str) -> str:
    return cell.replace(",", ".") if _DECIMAL_COMMA.fullmatch(cell) else cell
