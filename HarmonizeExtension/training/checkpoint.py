"""The files of a training folder: a checkpoint that survives a kill, the best weights, curves, a request to stop.

folder/
    checkpoint.pt    all that the next step depends on; written beside and renamed
    best.pt          the averaged weights of the best validation
    curves.csv       losses by step; validation.csv: figures by step
    stop             made by whoever wants the training to stop at its next report, with its checkpoint written
"""

from __future__ import annotations

import csv
import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path

import torch

from ..errors import InputError
from ..files.writing import replacing

CHECKPOINT, BEST, STOP = "checkpoint.pt", "best.pt", "stop"


def save(state: Mapping, path: Path) -> None:
    """Write a mapping of tensors and plain values; whatever happens, the file is the old or the new one, whole."""
    with replacing(path) as temporary:
        torch.save(dict(state), temporary)


def load(path: Path) -> dict:
    """The mapping that `save` wrote, on the CPU. Loading runs no code. Raises InputError for a damaged file."""
    try:
        if not zipfile.is_zipfile(path):
            raise ValueError("its end is missing")
        return torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, ValueError, EOFError, pickle.UnpicklingError) as error:
        raise InputError(f"the checkpoint '{path}' is damaged ({error}); remove it to begin anew") from error


class Curve:
    """A CSV file with a row for some of the steps."""

    def __init__(self, path: Path):
        self.path = path

    def cut(self, step: int) -> None:
        """Forget the rows after a step: they will come again."""
        if not self.path.exists():
            return
        with open(self.path, newline="", encoding="utf-8") as file:
            rows = list(csv.reader(file))
        # A kill may have left half a row at the end.
        kept = [r for r in rows[1:] if len(r) == len(rows[0]) and int(float(r[0])) <= step]
        with replacing(self.path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([*rows[:1], *kept])

    def add(self, step: int, values: Mapping[str, float]) -> None:
        """Append a row; the first one names the columns."""
        new = not self.path.exists()
        with open(self.path, "a", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            if new:
                writer.writerow(["step", *values])
            writer.writerow([step, *(f"{value:.6g}" for value in values.values())])
