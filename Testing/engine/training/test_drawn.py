"""Samples are drawn once, in processes; whoever stops the drawing does not wait for the rest."""

import dataclasses
import os
import time

import numpy as np
import pytest

from HarmonizeExtension.errors import InputError
from HarmonizeExtension.training.drawn import array_path, draw_missing, save_array


@dataclasses.dataclass(frozen=True)
class Recipe:
    seconds: float = 0.0
    deadly: int = -1


def draw(folder, recipe, number):
    time.sleep(recipe.seconds)
    if number == recipe.deadly:
        os._exit(9)
    save_array(array_path(folder, number), np.full(2, number))


def draw_all(folder, recipe, count, progress=lambda fraction, text: None):
    draw_missing(folder, recipe, count, draw, workers=2, progress=progress)
    return [int(np.load(array_path(folder, number))[0]) for number in range(count)]


def test_all_is_drawn_once(tmp_path):
    assert draw_all(tmp_path, Recipe(), 3) == [0, 1, 2]
    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*.npy")}
    assert draw_all(tmp_path, Recipe(), 4) == [0, 1, 2, 3]
    assert all(path.stat().st_mtime_ns == stamp for path, stamp in before.items())
    with pytest.raises(InputError, match="drawn otherwise"):
        draw_all(tmp_path, Recipe(seconds=0.1), 4)


def test_it_is_stopped_between_numbers(tmp_path):
    def enough(fraction, text):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        draw_all(tmp_path, Recipe(seconds=0.3), 40, enough)
    drawn = len(list(tmp_path.glob("*.npy")))
    assert 1 <= drawn < 10  # those that were at work, not all that were asked for
    time.sleep(1)
    assert len(list(tmp_path.glob("*.npy"))) == drawn  # nobody goes on behind our back


def test_a_process_that_dies_is_named(tmp_path):
    with pytest.raises(InputError, match=r"drawing number 1 .* use fewer workers"):
        draw_all(tmp_path, Recipe(deadly=1), 2)
