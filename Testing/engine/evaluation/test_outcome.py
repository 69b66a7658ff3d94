"""ROC, DeLong, logistic regression and the outcome protocol, against published figures and scikit-learn."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from HarmonizeExtension.errors import Cancelled, InputError
from HarmonizeExtension.evaluation import outcome as protocol
from HarmonizeExtension.evaluation.arms import harmonized, unharmonized
from HarmonizeExtension.evaluation.logistic import LogisticRegression
from HarmonizeExtension.evaluation.roc import auc, delong, roc_curve
from HarmonizeExtension.feature_domain.combat import ComBat

REFERENCE = json.loads((Path(__file__).parents[2] / "data" / "evaluation" / "reference.json").read_text())

# Albumin, total protein, K-G score and benefit of surgery of the complete records of DeLong et al. 1988, as in the
# SAS/STAT User's Guide, PROC LOGISTIC, example "Comparing Receiver Operating Characteristic Curves".
OVARIAN = np.fromstring(
    """
    3.0 5.8 10 0 3.2 6.3 5 1 3.9 6.8 3 1 2.8 4.8 6 0 3.2 5.8 3 1 0.9 4.0 5 0 2.5 5.7 8 0 1.6 5.6 5 1 3.8 5.7 5 1
    3.7 6.7 6 1 3.2 5.4 4 1 3.8 6.6 6 1 4.1 6.6 5 1 3.6 5.7 5 1 4.3 7.0 4 1 3.6 6.7 4 0 2.3 4.4 6 1 4.2 7.6 4 0
    4.0 6.6 6 0 3.5 5.8 6 1 3.8 6.8 7 1 3.0 4.7 8 0 4.5 7.4 5 1 3.7 7.4 5 1 3.1 6.6 6 1 4.1 8.2 6 1 4.3 7.0 5 1
    4.3 6.5 4 1 3.2 5.1 5 1 2.6 4.7 6 1 3.3 6.8 6 0 1.7 4.0 7 0 3.7 6.1 5 1 3.3 6.3 7 1 4.2 7.7 6 1 3.5 6.2 5 1
    2.9 5.7 9 0 2.1 4.8 7 1 2.8 6.2 8 0 4.0 7.0 7 1 3.3 5.7 6 1 3.7 6.9 5 1 3.6 6.6 5 1""",
    sep=" ",
).reshape(-1, 4)


def test_delong_of_the_published_example():
    """SAS's areas 0.7258 (K-G), 0.7366 (albumin), 0.6478 (protein), their errors, and p 0.9102 and 0.4561."""
    benefit, kg, albumin, protein = OVARIAN[:, 3] == 1, 10 - OVARIAN[:, 2], OVARIAN[:, 0], OVARIAN[:, 1]
    first, second = delong(benefit, kg, albumin), delong(benefit, kg, protein)
    assert np.round(first.auc, 4).tolist() == [0.7258, 0.7366]
    assert np.round(first.se, 4).tolist() == [0.1028, 0.0927]
    assert (round(first.difference, 4), round(first.difference_se, 4)) == (0.0108, 0.0953)
    assert round(first.p, 4) == 0.9102
    assert (round(second.auc[1], 4), round(second.se[1], 4)) == (0.6478, 0.1000)
    assert (round(second.difference, 4), round(second.p, 4)) == (-0.0780, 0.4561)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10_000), st.integers(0, 2))
def test_delong_is_its_definition_by_all_pairs(seed, digits):
    """The structural components as DeLong et al. 1988 define them, over all pairs, with ties."""
    rng = np.random.default_rng(seed)
    y = np.arange(30) < rng.integers(5, 25)
    scores = np.round(rng.normal(size=(2, 30)) + 0.5 * y, digits)
    wins = [(s[y][:, None] > s[~y]) + 0.5 * (s[y][:, None] == s[~y]) for s in scores]
    areas = [w.mean() for w in wins]
    s10, s01 = np.cov([w.mean(axis=1) for w in wins]), np.cov([w.mean(axis=0) for w in wins])
    s = s10 / y.sum() + s01 / (~y).sum()
    found = delong(y, *scores)
    assert found.auc == pytest.approx(areas)
    assert auc(y, scores[0]) == pytest.approx(areas[0])
    assert found.difference_se == pytest.approx(np.sqrt(s[0, 0] + s[1, 1] - 2 * s[0, 1]), abs=1e-9)


def test_delong_of_the_same_ranking_finds_no_difference():
    y, score = OVARIAN[:, 3] == 1, OVARIAN[:, 0]
    found = delong(y, score, np.exp(score))
    assert (found.difference, found.z, found.p) == (0, 0, 1)


def test_delong_p_values_are_even_where_there_is_no_difference():
    rng = np.random.default_rng(0)
    y = np.arange(80) < 40
    p = [delong(y, y + rng.normal(size=80), y + rng.normal(size=80)).p for _ in range(400)]
    assert 0.02 < np.mean(np.array(p) < 0.05) < 0.09
    assert np.mean(p) == pytest.approx(0.5, abs=0.06)


def test_auc_and_curve_are_scikit_learns():
    stored = REFERENCE["roc"]
    assert auc(stored["y"], stored["score"]) == pytest.approx(stored["auc"], abs=1e-12)
    false, true = roc_curve(stored["y"], stored["score"])
    assert np.allclose(false, stored["false"])
    assert np.allclose(true, stored["true"])
    with pytest.raises(InputError, match="with the outcome and scans without"):
        auc([True, True], [1.0, 2.0])
    with pytest.raises(InputError, match="one finite score"):
        auc([True, False], [1.0, np.nan])


@pytest.mark.parametrize("case", REFERENCE["logistic"], ids=["more scans", "more features"])
def test_logistic_regression_is_scikit_learns(case):
    x, y = np.array(case["x"]), np.array(case["y"])
    got = LogisticRegression.fit(x, y, case["c"]).probability(x)
    assert np.abs(got - case["probability"]).max() < 1e-6


def test_logistic_regression_takes_separable_constant_and_scaled_features():
    rng = np.random.default_rng(0)
    y = np.arange(20) < 10
    x = np.column_stack([np.where(y, 1e6, -1e6) + rng.normal(size=20), np.full(20, 3.0)])
    model = LogisticRegression.fit(x, y, c=1e6)
    assert np.isfinite(model.weights).all()
    assert model.weights[1] == 0
    assert ((model.probability(x) > 0.5) == y).all()
    with pytest.raises(InputError, match="same in every training scan"):
        LogisticRegression.fit(x, y | True)
    with pytest.raises(InputError, match="not finite"):
        LogisticRegression.fit(x * np.nan, y)


def patients(seed=0, n=120, signal=1.0, scanner_shift=0.0):
    rng = np.random.default_rng(seed)
    outcome = rng.random(n) < 0.4
    batch = np.where(np.arange(n) % 2 == 0, "a", "b")
    values = rng.standard_normal((n, 6))
    values[:, 0] += signal * outcome
    return values + scanner_shift * (batch == "b")[:, None] * rng.normal(size=6), outcome, batch


def test_splits_are_stratified_disjoint_and_seeded():
    _, outcome, _ = patients()
    splits = protocol.stratified_splits(outcome, np.random.default_rng(0), folds=5)
    again = protocol.stratified_splits(outcome, np.random.default_rng(0), folds=5)
    for (train, test), (train2, test2) in zip(splits, again, strict=True):
        assert np.array_equal(train, train2)
        assert np.array_equal(test, test2)
        assert np.array_equal(np.sort(np.r_[train, test]), np.arange(120))
        assert outcome[test].sum() == round(0.2 * outcome.sum())
        assert (~outcome[test]).sum() == round(0.2 * (~outcome).sum())
    with pytest.raises(InputError, match="too few to split"):
        protocol.stratified_splits(outcome & (np.cumsum(outcome) < 2), np.random.default_rng(0))


def test_harmonization_brings_back_what_the_scanners_hid():
    values, outcome, batch = patients(n=160, signal=2.0, scanner_shift=30.0)
    values[batch == "b"] *= [0.05, 1, 1, 1, 1, 1]  # one scanner hardly shows the feature that matters
    arms = {
        "as they are": unharmonized(values),
        "combat": harmonized(values, batch, ComBat),
    }
    found = protocol.outcome_protocol(arms, outcome, np.random.default_rng(0), folds=40)
    raw, combat = found.arms["as they are"], found.arms["combat"]
    assert combat.mean_auc > raw.mean_auc + 0.02
    assert raw.interval[0] < raw.mean_auc < raw.interval[1]
    compared = found.against_first["combat"]
    assert compared.delong.difference > 0
    assert compared.t > 0
    assert compared.p > 1e-4  # the correction does not let forty splits count as forty experiments
    again = protocol.outcome_protocol(arms, outcome, np.random.default_rng(0), folds=40)
    assert np.array_equal(again.arms["combat"].aucs, combat.aucs)


def test_a_shuffled_outcome_is_not_predicted():
    values, outcome, batch = patients(n=200, signal=3.0)
    rng = np.random.default_rng(2)
    means = []
    for _ in range(4):
        arms = {"combat": harmonized(values, batch, ComBat)}
        means.append(protocol.outcome_protocol(arms, rng.permutation(outcome), rng, folds=15).arms["combat"].mean_auc)
    assert np.mean(means) == pytest.approx(0.5, abs=0.08)


def test_harmonization_never_sees_the_test_patients():
    """Changing a test patient's features changes nothing of what was learnt from the training patients."""
    values, outcome, batch = patients()
    train, test = protocol.stratified_splits(outcome, np.random.default_rng(0), folds=1)[0]
    covariates = {"age": np.random.default_rng(1).normal(60, 9, len(outcome))}
    make = lambda table: harmonized(table, batch, lambda: ComBat(continuous=("age",)), covariates)  # noqa: E731
    changed = values.copy()
    changed[test] += 100
    known, new = make(values)(train, test)
    known_too, new_too = make(changed)(train, test)
    assert np.array_equal(known, known_too)
    assert not np.allclose(new, new_too)


def test_the_protocol_can_be_cancelled_and_reports():
    values, outcome, _ = patients()
    arms = {"as they are": unharmonized(values)}
    with pytest.raises(Cancelled):
        protocol.outcome_protocol(arms, outcome, np.random.default_rng(0), folds=5, cancelled=lambda: True)
    seen = []
    protocol.outcome_protocol(arms, outcome, np.random.default_rng(0), 5, progress=lambda f, text: seen.append(f))
    assert seen == sorted(seen)
    assert seen[-1] == 1


def test_the_corrected_t_is_smaller_than_the_naive_one():
    difference = np.random.default_rng(0).normal(0.02, 0.03, 100)
    t, p = protocol.corrected_t(difference, 0.2)
    naive = difference.mean() / (difference.std(ddof=1) / 10)
    assert t == pytest.approx(naive / np.sqrt(1 + 100 * 0.25))
    assert 0.05 < p < 1
    assert stats.t.sf(naive, 99) < 1e-6
    assert protocol.corrected_t(np.zeros(10), 0.2) == (0, 1)
    assert protocol.corrected_t(np.ones(10), 0.2)[1] == 0


def noise_of_people(seed, people=20, scans=3):
    """Features that are the person's own and say nothing of the outcome: (scans, features), outcome, person."""
    rng = np.random.default_rng(seed)
    person = np.repeat([f"p{i:02}" for i in range(people)], scans)
    values = np.repeat(rng.normal(size=(people, 15)), scans, axis=0) + 0.05 * rng.normal(size=(people * scans, 15))
    return values, np.repeat(rng.permutation(people) < people // 2, scans), person


def test_a_person_with_several_scans_is_not_known_again():
    split, leaking = [], []
    for seed in range(6):
        values, outcome, person = noise_of_people(seed)
        arms = {"as they are": unharmonized(values)}
        rng = np.random.default_rng(seed)
        found = protocol.outcome_protocol(arms, outcome, rng, folds=10, patient=person)
        split.append(found.arms["as they are"].mean_auc)
        assert found.outcome.sum() == 10
        assert found.arms["as they are"].probability.shape == (20,)
        leaking.append(protocol.outcome_protocol(arms, outcome, rng, folds=10).arms["as they are"].mean_auc)
    assert np.mean(leaking) > 0.95  # what splitting scans would have said of the same noise
    assert np.mean(split) == pytest.approx(0.5, abs=0.12)


def test_a_patient_has_one_outcome():
    values, outcome, person = noise_of_people(0)
    outcome[0] = ~outcome[0]
    with pytest.raises(InputError, match="the outcome is the patient's"):
        protocol.outcome_protocol({"a": unharmonized(values)}, outcome, np.random.default_rng(0), 2, patient=person)


def test_an_arm_that_cannot_be_fitted_in_a_split_is_left_out_and_the_others_stay():
    values, outcome, batch = patients(n=60)
    rare = {"sex": np.where(np.arange(60) == 7, "other", np.where(np.arange(60) % 3 == 0, "F", "M"))}
    arms = {
        "as they are": unharmonized(values),
        "combat": harmonized(values, batch, ComBat),
        "combat, sex": harmonized(values, batch, lambda: ComBat(categorical=("sex",)), rare),
    }
    found = protocol.outcome_protocol(arms, outcome, np.random.default_rng(0), folds=20)
    assert list(found.arms) == ["as they are", "combat"]
    assert "covariate 'sex' has the category other" in found.left_out["combat, sex"]
