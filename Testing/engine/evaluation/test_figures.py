"""Figures are plain data that hold what they are said to show, and are drawn the same in every run."""

import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate

from HarmonizeExtension.evaluation import figures

RNG = np.random.default_rng(0)
OUTCOME = np.arange(40) % 2 == 0
EACH = {
    "violin": figures.violin("Noise", {"A": RNG.normal(size=30), "B": RNG.normal(size=4), "C": np.ones(3)}, "COV"),
    "densities": figures.densities("Contrast", {"A": RNG.normal(size=30), "B": RNG.normal(size=9) + 2}, "contrast"),
    "roc": figures.roc("Outcome", OUTCOME, {"before": RNG.normal(size=40) + OUTCOME}),
    "ecdf": figures.ecdf("p", {"before": RNG.random(50) ** 3}),
    "agreement": figures.agreement("Mean", RNG.normal(size=30), RNG.normal(size=30), "HU"),
    "bars": figures.bars("Share", ["A", "B"], {"x": np.array([1.0, 2]), "y": np.array([3.0, 1])}, "%", (5, "chance")),
}


@pytest.mark.parametrize("name", EACH)
@pytest.mark.parametrize("kind", ["svg", "png"])
def test_the_same_figure_has_the_same_bytes(name, kind):
    first = figures.draw(EACH[name], kind)
    assert first == figures.draw(EACH[name], kind)
    assert first.startswith(b"\x89PNG" if kind == "png" else b"<?xml")
    assert b"202" not in first[:1000] or kind == "png"  # no date


@pytest.mark.parametrize("figure", EACH.values(), ids=EACH)
def test_a_figure_is_finite_numbers_and_text(figure):
    assert figure.series
    for series in figure.series:
        assert len(series.x) == len(series.y)
        assert np.isfinite(series.x).all()
        assert np.isfinite(series.y).all()
        assert isinstance(series.name, str)


def test_without_matplotlib_there_is_no_picture(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert figures.draw(EACH["roc"]) is None


def test_a_density_has_the_area_one_and_names_its_scans():
    lines = [s for s in EACH["densities"].series if s.kind == figures.LINE]
    assert [line.name for line in lines] == ["A (30)", "B (9)"]
    for line in lines:
        assert integrate.trapezoid(line.y, line.x) == pytest.approx(1, abs=0.01)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=30), st.floats(0, 1))
def test_the_cumulative_curve_says_which_share_lies_below(p, at):
    curve = figures.ecdf("p", {"x": np.array(p)}).series[-1]
    below = max(y for x, y in zip(curve.x, curve.y, strict=True) if x <= at)
    assert below == pytest.approx(np.mean(np.array(p) <= at))


def test_a_violin_shows_median_and_quartiles():
    values = np.arange(101.0)
    lines = [s for s in figures.violin("x", {"a": values}, "y").series if s.kind == figures.LINE]
    assert {float(line.y[0]) for line in lines if line.y[0] == line.y[1]} == {25, 50, 75}


def test_bars_stand_side_by_side():
    dashed, *groups = EACH["bars"].series
    assert dashed.y.tolist() == [5, 5]
    assert np.allclose(groups[1].x - groups[0].x, groups[0].width)


@pytest.mark.parametrize(("count", "hatched"), [(8, False), (9, True)])
def test_bars_of_the_same_colour_can_be_told_apart(count, hatched):
    heights = {f"method {n}": np.ones(2) for n in range(count)}
    drawn = figures.draw(figures.bars("title", ("a", "b"), heights, "height"))
    assert (b"<pattern" in drawn) == hatched
