"""Agreement against published worked examples and pingouin, and what must hold."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from HarmonizeExtension.errors import InputError
from HarmonizeExtension.evaluation.agreement import bland_altman, concordance, intraclass, reproducible_by_stratum

REFERENCE = json.loads((Path(__file__).parents[2] / "data" / "evaluation" / "reference.json").read_text())

# Peak expiratory flow (l/min) by a Wright meter and a mini meter, Bland and Altman, Lancet 1986;327:307, Table 1.
WRIGHT = np.array([494, 395, 516, 434, 476, 557, 413, 442, 650, 433, 417, 656, 267, 478, 178, 423, 427.0])
MINI = np.array([512, 430, 520, 428, 500, 600, 364, 380, 658, 445, 432, 626, 260, 477, 259, 350, 451.0])


@pytest.mark.parametrize("case", REFERENCE["icc"], ids=["random", "Shrout and Fleiss"])
def test_icc_is_pingouins(case):
    found = intraclass(np.array(case["ratings"]))
    for name in ("agreement", "consistency"):
        interval, (value, low, high) = getattr(found, name), case[name]
        assert interval.value == pytest.approx(value, abs=1e-10)
        # pingouin prints its limits with two digits
        assert (interval.low, interval.high) == (pytest.approx(low, abs=0.0051), pytest.approx(high, abs=0.0051))


def test_icc_of_shrout_and_fleiss():
    """Psychol Bull 1979;86:420, Tables 2 and 4."""
    ratings = [[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]]
    found = intraclass(np.array(ratings))
    assert round(found.agreement.value, 2) == 0.29
    assert round(found.consistency.value, 2) == 0.71


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000), st.floats(-100, 100), st.floats(0.01, 100))
def test_laws_of_icc(seed, offset, factor):
    rng = np.random.default_rng(seed)
    ratings = rng.standard_normal((10, 1)) + 0.5 * rng.standard_normal((10, 3))
    found = intraclass(ratings)
    scaled = intraclass(ratings * factor + offset)
    assert scaled.agreement.value == pytest.approx(found.agreement.value)
    assert scaled.consistency.low == pytest.approx(found.consistency.low)
    for interval in (found.agreement, found.consistency):
        assert interval.low <= interval.value <= interval.high
    shifted = intraclass(ratings + np.array([0, 2.0, -3.0]))  # scanners that read higher or lower
    assert shifted.consistency.value == pytest.approx(found.consistency.value)
    assert shifted.agreement.value < found.agreement.value


def test_icc_confidence_interval_covers():
    """The 95 % interval of ICC(3,1) holds the truth in about 95 of 100 samples."""
    rng = np.random.default_rng(0)
    truth = 1 / (1 + 0.5**2)
    inside = 0
    for _ in range(300):
        ratings = rng.standard_normal((15, 1)) + 0.5 * rng.standard_normal((15, 2))
        interval = intraclass(ratings).consistency
        inside += interval.low <= truth <= interval.high
    assert 0.91 < inside / 300 < 0.99


def test_icc_without_variation_is_unknown_and_too_few_are_refused():
    assert np.isnan(intraclass(np.ones((4, 2))).agreement.value)
    assert np.isnan(intraclass(np.array([[1, np.nan], [2, 3]])).consistency.low)
    with pytest.raises(InputError, match="too few"):
        intraclass(np.ones((4, 1)))


def test_limits_of_agreement_of_bland_and_altman():
    """Their paper: mean difference (Wright minus mini) -2.1, sd 38.8; limits -79.7 and 75.5 l/min from these."""
    found = bland_altman(MINI, WRIGHT)
    assert (round(found.bias, 1), round(found.sd, 1)) == (-2.1, 38.8)
    # The paper takes 2 standard deviations, we 1.96.
    assert (round(found.bias - 2 * found.sd), round(found.bias + 2 * found.sd)) == (-80, 75)
    assert found.upper - found.lower == pytest.approx(2 * 1.96 * found.sd)
    with pytest.raises(InputError, match="not two or more pairs"):
        bland_altman(MINI, WRIGHT[:5])


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000))
def test_ccc_is_correlation_times_bias_correction(seed):
    """Lin 1989: CCC = r C, with C = 2 / (v + 1/v + u^2), v the ratio of the spreads, u the shift in their mean."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((20, 3))
    y = 1.4 * x + rng.standard_normal((20, 3)) + 0.7
    r = np.array([np.corrcoef(a, b)[0, 1] for a, b in zip(x.T, y.T, strict=True)])
    v = x.std(axis=0) / y.std(axis=0)
    u = (x.mean(axis=0) - y.mean(axis=0)) / np.sqrt(x.std(axis=0) * y.std(axis=0))
    assert np.allclose(concordance(x, y), r * 2 / (v + 1 / v + u**2))
    assert np.allclose(concordance(x, y), concordance(y, x))
    assert np.allclose(concordance(x, x), 1)
    assert np.allclose(concordance(x, -x + 2 * x.mean(axis=0)), -1)


def test_ccc_without_variation_is_unknown():
    assert np.isnan(concordance(np.ones(5), np.ones(5)))
    assert concordance(np.ones(5), 1 + np.ones(5)) == 0


def test_reproducible_features_are_counted_by_stratum():
    rng = np.random.default_rng(0)
    mean_hu = np.repeat([-500.0, 50.0, 500.0, 2000.0], [10, 10, 2, 10])
    first = rng.standard_normal((32, 4))
    second = first + 0.01 * rng.standard_normal((32, 4))
    second[mean_hu == 50, :3] = rng.standard_normal((10, 3))
    counts = reproducible_by_stratum(first, second, mean_hu)
    assert [c.regions for c in counts] == [10, 10, 2]
    assert [c.reproducible for c in counts] == [4, 1, 0]
    assert [c.share for c in counts] == [1.0, 0.25, pytest.approx(np.nan, nan_ok=True)]
    assert np.isnan(counts[2].ccc).all()
    first[:, 3] = second[:, 3] = 1.0  # tells nothing, and so does not count
    lung = reproducible_by_stratum(first, second, mean_hu)[0]
    assert (lung.features, lung.reproducible) == (3, 3)
