"""A map that says nothing is called that: curves of games whose answer is known."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from HarmonizeExtension.errors import Cancelled
from HarmonizeExtension.explain.faithfulness import FRACTIONS, Verdict, faithfulness

BLOCKS = 40


def game(seed: int, sign: float = 1.0):
    """A score that is a weighted sum of the blocks, few of which matter; and the weights."""
    weights = np.random.default_rng(seed).exponential(1.0, (4, BLOCKS)) ** 2
    return weights, lambda kept: float(5 + sign * (weights * kept).sum(1).mean())


@given(seed=st.integers(0, 1000), sign=st.sampled_from([1.0, -1.0]))
def test_the_true_weights_are_faithful_and_better_than_anything(seed, sign):
    weights, evaluate = game(seed, sign)
    rng = np.random.default_rng(seed)
    other = rng.random(weights.shape)
    checked = faithfulness(weights, {"edges": other}, evaluate, rng)
    assert checked.verdict is Verdict.FAITHFUL
    best = checked.curves.gain
    assert all(best > curves.gain for curves in checked.controls.values())
    # In a sum the order alone counts, and what one curve gains the other does.
    assert checked.curves.insertion_area == pytest.approx(1 - checked.curves.deletion_area)
    assert np.all(np.diff(checked.curves.insertion) >= -1e-12)
    assert json.loads(json.dumps(checked.to_json()))["fractions"] == list(FRACTIONS)


def test_the_reversed_and_the_constant_map_say_nothing():
    weights, evaluate = game(1)
    for worth in (-weights, np.ones_like(weights)):
        checked = faithfulness(worth, {}, evaluate, np.random.default_rng(0))
        assert checked.verdict is Verdict.CHANCE
        assert "says nothing" in checked.sentence


def test_random_maps_are_seldom_called_faithful():
    weights, evaluate = game(2)
    rng = np.random.default_rng(0)
    verdicts = [faithfulness(rng.random(weights.shape), {}, evaluate, rng).verdict for _ in range(40)]
    assert verdicts.count(Verdict.FAITHFUL) <= 4


def test_a_map_of_edges_is_called_one():
    weights, evaluate = game(3)
    checked = faithfulness(weights, {"edges": 2 * weights}, evaluate, np.random.default_rng(0))
    assert checked.verdict is Verdict.AS_CONTROL
    assert "no more than a map of edges" in checked.sentence


def test_without_a_change_there_is_nothing_to_explain():
    weights, _ = game(4)
    for noticeable, change in ((0.0, 0.0), (0.5, 0.4)):

        def evaluate(kept, change=change):
            return 3 + change * float(kept.mean())

        checked = faithfulness(weights, {}, evaluate, np.random.default_rng(0), noticeable)
        assert checked.verdict is Verdict.NOTHING
        assert checked.curves is None
        assert checked.to_json()["map"] is None


def test_it_stops_when_asked():
    weights, evaluate = game(5)
    with pytest.raises(Cancelled):
        faithfulness(weights, {}, evaluate, np.random.default_rng(0), cancelled=lambda: True)
