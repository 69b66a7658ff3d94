"""Training samples that are drawn once into a folder and then read: numbered arrays beside an index of their settings.

folder/
    index.json       the settings; the same settings give the same bytes
    00000.npy        of the first person or case, further arrays of it as 00000.KIND.npy
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np

from ..errors import InputError
from ..files.writing import output_folder, replacing, write_json
from ..progress import CancelCheck, Progress, stop_if
from ..workers import WorkerDied, run_in_processes

INDEX = "index.json"


def draw_missing(
    folder: Path | str,
    recipe,
    count: int,
    draw: Callable[[Path, object, int], None],
    workers: int,
    progress: Progress,
    last: str = "",
    what: str = "people",
) -> Path:
    """Draw the numbers below `count` that are not yet in the folder, in `workers` processes; returns the folder.

    recipe: a dataclass that JSON can hold. draw: called as draw(folder, recipe, number), it saves the arrays of one
    number, that of the kind `last` at the end, so that a number that has it is whole. what: is counted, for the
    progress.
    Raises InputError where the folder holds what another recipe drew.
    """
    folder = output_folder(folder)
    index = folder / INDEX
    if index.exists() and not _is(recipe, json.loads(index.read_text(encoding="utf-8"))):
        raise InputError(f"'{folder}' holds slices that were drawn otherwise; choose another folder for these")
    write_json(dataclasses.asdict(recipe), index)
    missing = [number for number in range(count) if not array_path(folder, number, last).exists()]
    tasks = {str(number): (draw, folder, recipe, number) for number in missing}
    # Closed whatever happens, so that whoever stops the training does not wait for all that is still to be drawn.
    with contextlib.closing(run_in_processes(_draw_one, tasks, workers, lambda *_: None)) as drawn:
        for done, (name, answer) in enumerate(drawn, start=1):
            if isinstance(answer, WorkerDied):
                raise InputError(
                    f"drawing number {name} into '{folder}' ended its process, as where memory runs out; use fewer "
                    "workers"
                )
            progress(done / len(tasks), f"Drawing {what}: {done} of {len(tasks)}")
    return folder


def _draw_one(draw, folder: Path, recipe, number: int, progress: Progress, cancelled: CancelCheck) -> None:
    stop_if(cancelled)
    draw(folder, recipe, number)


def _is(value: object, written: object) -> bool:
    """Whether a setting is what the index says; one that came after the folder was drawn is if it has its default."""
    if dataclasses.is_dataclass(value):
        fields = {field.name: field for field in dataclasses.fields(value)}
        return (
            isinstance(written, dict)
            and written.keys() <= fields.keys()
            and all(
                _is(getattr(value, name), written[name]) if name in written else getattr(value, name) == field.default
                for name, field in fields.items()
            )
        )
    if isinstance(value, tuple):
        return (
            isinstance(written, list)
            and len(value) == len(written)
            and all(_is(one, other) for one, other in zip(value, written, strict=True))
        )
    return value == written


def array_path(folder: Path, number: int, kind: str = "") -> Path:
    """Where an array of a number lies."""
    return folder / f"{number:05d}{kind and '.'}{kind}.npy"


def save_array(path: Path, array: np.ndarray) -> None:
    """Write an array beside its place, then move it there."""
    with replacing(path) as temporary, open(temporary, "wb") as file:
        np.save(file, np.ascontiguousarray(array))
