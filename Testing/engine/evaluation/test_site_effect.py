"""Scanners that are alike differ by chance only; scanners that are not are found."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from HarmonizeExtension.errors import InputError
from HarmonizeExtension.evaluation.arms import harmonized, unharmonized
from HarmonizeExtension.evaluation.overlap import overlap_coefficient, overlap_gain
from HarmonizeExtension.evaluation.site_effect import (
    benjamini_hochberg,
    differing_share,
    site_effect,
    variance_explained,
)
from HarmonizeExtension.evaluation.site_prediction import discrepancy, site_prediction, stratified_folds
from HarmonizeExtension.feature_domain.combat import ComBat

REFERENCE = json.loads((Path(__file__).parents[2] / "data" / "evaluation" / "reference.json").read_text())


def scans(shift, n=20, features=400, seed=0):
    rng = np.random.default_rng(seed)
    return {name: rng.standard_normal((n, features)) + s for name, s in zip("abc", shift, strict=True)}


def test_alike_scanners_differ_in_about_the_share_that_chance_gives():
    shares = differing_share(scans((0, 0, 0)))
    assert all(0.005 < share < 0.09 for share in shares.values())  # KS is conservative in small samples


def test_a_shifted_scanner_differs_in_nearly_every_feature():
    assert differing_share(scans((0, 0, 3)))["c"] > 0.99


def test_a_feature_that_is_not_finite_is_left_out_and_too_few_scans_are_refused():
    values = scans((0, 0, 3))
    values["a"][0, :200] = np.nan
    assert differing_share(values)["c"] > 0.99
    assert np.array_equal(site_effect(values).features, np.arange(200, 400))
    with pytest.raises(InputError, match="at least two scanners"):
        differing_share({"a": values["a"]})
    with pytest.raises(InputError, match="scans of b"):
        differing_share({"a": values["a"], "b": values["b"][:2]})


def test_each_p_value_is_scipys():
    values = scans((0, 0.4, 0), features=6)
    values["b"] *= 1.7
    found = site_effect(values)
    own, rest = values["b"], np.concatenate([values["a"], values["c"]])
    for feature in range(6):
        assert found.ks_p[1, feature] == pytest.approx(stats.ks_2samp(own[:, feature], rest[:, feature]).pvalue)
        welch = stats.ttest_ind(own[:, feature], rest[:, feature], equal_var=False).pvalue
        assert found.welch_p[1, feature] == pytest.approx(welch)


def test_correction_finds_nothing_among_alike_scanners_and_keeps_what_is_there():
    alike, shifted = site_effect(scans((0, 0, 0))), site_effect(scans((0, 0, 3)))
    assert max(alike.ks_share_corrected.values()) < 0.01 < max(alike.ks_share.values())
    assert max(alike.welch_share_corrected.values()) < 0.01 < max(alike.welch_share.values())
    assert shifted.ks_share_corrected["c"] > 0.99
    assert shifted.welch_share_corrected["c"] > 0.99


def test_constant_features_differ_only_where_their_values_do():
    values = {name: np.full((5, 2), 3.0) for name in "abc"}
    values["c"][:, 1] = 4.0
    found = site_effect(values)
    assert (found.welch_p[:, 0] == 1).all()
    assert found.welch_p[2, 1] == 0
    assert (found.ks_p[:, 0] == 1).all()


def test_benjamini_hochberg_is_statsmodels():
    assert np.allclose(benjamini_hochberg(np.array(REFERENCE["p"])), REFERENCE["benjamini_hochberg"], atol=1e-12)


def test_variance_explained_is_0_by_chance_and_1_for_what_the_site_says():
    rng = np.random.default_rng(0)
    site = np.repeat(["a", "b", "c"], 50)
    values = np.column_stack([rng.standard_normal((150, 200)), np.repeat([1.0, 5.0, 2.0], 50), np.ones(150)])
    found = variance_explained(values, site)
    assert found[:200].mean() == pytest.approx(2 / 149, abs=0.005)
    assert found[200] == pytest.approx(1)
    assert np.isnan(found[201])
    f = stats.f_oneway(*(values[site == name, 0] for name in "abc")).statistic
    assert found[0] == pytest.approx(2 * f / (2 * f + 147))


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10_000), st.floats(0, 4), st.floats(0.01, 100))
def test_laws_of_the_overlap(seed, shift, factor):
    rng = np.random.default_rng(seed)
    a, b = rng.standard_normal(60), rng.standard_normal(90) * 1.5 + shift
    value = overlap_coefficient(a, b)
    assert 0 < value < 1
    assert overlap_coefficient(b, a) == pytest.approx(value)
    assert overlap_coefficient(a * factor - 7, b * factor - 7) == pytest.approx(value, abs=1e-6)
    assert overlap_coefficient(a, a) == pytest.approx(1, abs=1e-3)
    assert overlap_coefficient(a, b + 100) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("gap", [0.5, 1.0, 2.0])
def test_the_overlap_of_two_normal_distributions_is_the_closed_form(gap):
    """2 Phi(-gap / 2) for two of spread 1 (Weitzman 1970); the kernels blur it a little."""
    rng = np.random.default_rng(0)
    value = overlap_coefficient(rng.standard_normal(4000), rng.standard_normal(4000) + gap)
    assert value == pytest.approx(2 * stats.norm.cdf(-gap / 2), abs=0.03)


def test_samples_without_spread_overlap_by_histogram():
    assert overlap_coefficient(np.full(5, 2.0), np.full(9, 2.0)) == 1
    assert overlap_coefficient(np.full(5, 2.0), np.full(9, 3.0)) == 0
    assert 0 <= overlap_coefficient(np.full(5, 2.0), np.arange(10.0)) < 0.5
    with pytest.raises(InputError, match="two finite values"):
        overlap_coefficient(np.array([1.0]), np.arange(4.0))


def test_the_gain_by_class_sees_what_harmonization_brought_together():
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((50, 16)), rng.standard_normal((50, 16)) + 2
    after = b.copy()
    after[:, :8] -= 2
    gains = overlap_gain(a, b, a, after, ["glcm"] * 8 + ["glrlm"] * 3 + ["ngtdm"] * 5)
    assert [g.feature_class for g in gains] == ["glcm", "glrlm", "ngtdm"]
    assert gains[0].mean_gain > 0.4
    assert gains[0].p < 0.01
    assert gains[1].mean_gain == 0
    assert np.isnan(gains[2].p)  # five features are too few for the test


def test_sites_are_told_apart_by_chance_only_where_they_are_alike():
    rng = np.random.default_rng(0)
    site = np.repeat(["a", "b", "c"], 60)
    values = rng.standard_normal((180, 10))
    assert site_prediction(unharmonized(values), site, np.random.default_rng(1)).auc == pytest.approx(0.5, abs=0.12)
    # No feature tells much by itself, all together do.
    values[site == "b"] += 0.8
    found = site_prediction(unharmonized(values), site, np.random.default_rng(1))
    assert found.by_site["b"] > 0.9
    assert site_prediction(unharmonized(values), site, np.random.default_rng(1)) == found
    combat = site_prediction(harmonized(values, site, ComBat), site, np.random.default_rng(1))
    assert combat.auc == pytest.approx(0.5, abs=0.12)
    with pytest.raises(InputError, match="smallest with 4"):
        site_prediction(unharmonized(values[:64]), site[:64], rng)


def test_a_table_harmonized_as_a_whole_seems_better_than_chance_allows():
    """The trap that arms avoid: harmonized in one go, alike sites are told apart worse than by guessing."""
    rng = np.random.default_rng(0)
    site, values = np.repeat(["a", "b"], 40), rng.standard_normal((80, 30))
    whole = unharmonized(ComBat().fit_transform(values, site))
    assert site_prediction(whole, site, np.random.default_rng(1)).auc < 0.35
    inside = harmonized(values, site, ComBat)
    assert site_prediction(inside, site, np.random.default_rng(1)).auc == pytest.approx(0.5, abs=0.15)


def test_folds_spread_every_label_evenly():
    label = np.array(["a"] * 23 + ["b"] * 11)
    fold = stratified_folds(label, 5, np.random.default_rng(0))
    for name in "ab":
        counts = np.bincount(fold[label == name], minlength=5)
        assert counts.max() - counts.min() <= 1


def test_discrepancy_is_near_0_for_alike_clouds_and_sees_shift_and_scale():
    rng = np.random.default_rng(0)
    cloud = lambda n=60: rng.standard_normal((n, 5))  # noqa: E731
    alike = [discrepancy(cloud(), cloud(40), rng, permutations=99) for _ in range(20)]
    assert np.mean([d.mmd2 for d in alike]) == pytest.approx(0, abs=0.01)
    assert sum(d.p < 0.05 for d in alike) <= 4
    assert discrepancy(cloud(), cloud() + 1, rng, 99).p == 0.01
    assert discrepancy(cloud(), cloud() * 3, rng, 99).p == 0.01
    assert discrepancy(np.ones((5, 2)), np.ones((5, 2)), rng).p == 1


def test_sites_are_not_told_apart_by_people_who_were_scanned_several_times():
    found, leaking = [], []
    for seed in range(6):
        rng = np.random.default_rng(seed)
        person, site = np.repeat(np.arange(24), 4), np.repeat(["a", "b"], 48)
        values = np.repeat(rng.normal(size=(24, 20)), 4, axis=0) + 0.05 * rng.normal(size=(96, 20))
        found.append(site_prediction(unharmonized(values), site, rng, person=person).auc)
        leaking.append(site_prediction(unharmonized(values), site, rng).auc)
    assert np.mean(leaking) > 0.95
    assert np.mean(found) == pytest.approx(0.5, abs=0.12)


def test_people_who_were_scanned_at_every_site_stay_in_one_fold():
    rng = np.random.default_rng(0)
    person, site = np.tile(np.arange(20), 3), np.repeat(["a", "b", "c"], 20)
    values = rng.normal(size=(20, 6))[person] + 3.0 * (site == "c")[:, None]
    folds = []

    def arm(train, test):
        folds.append((set(person[train]), set(person[test])))
        return values[train], values[test]

    assert site_prediction(arm, site, rng, person=person).by_site["c"] > 0.95
    assert all(not known & new for known, new in folds)
    assert {one for _, new in folds for one in new} == set(range(20))


def test_discrepancy_takes_people_for_independent_not_their_scans():
    p, naive = [], []
    for seed in range(30):
        rng = np.random.default_rng(seed)
        person = np.repeat(np.arange(20), 5)
        values = np.repeat(rng.normal(size=(20, 5)), 5, axis=0) + 0.1 * rng.normal(size=(100, 5))
        of = person[:50], person[50:]
        p.append(discrepancy(values[:50], values[50:], rng, 99, of).p)
        naive.append(discrepancy(values[:50], values[50:], rng, 99).p)
    assert np.mean(np.array(naive) < 0.05) > 0.5
    assert np.mean(np.array(p) < 0.05) < 0.2
    # The same people on both sides: what one of them adds is seen though people differ much more.
    rng = np.random.default_rng(0)
    cloud = 5 * rng.normal(size=(15, 5))
    assert discrepancy(cloud, cloud + 2, rng, 199, (np.arange(15), np.arange(15))).p < 0.02


def test_what_the_ks_test_cannot_reach_has_no_share():
    """Of 3 scans against 3 the least p is 0.1, of 4 against 4 it is 0.029, however far apart they are."""
    apart = lambda n: {"a": np.arange(4.0 * n).reshape(n, 4), "b": 1e6 + np.arange(4.0 * n).reshape(n, 4)}  # noqa: E731
    three, four = site_effect(apart(3)), site_effect(apart(4))
    assert np.allclose(three.ks_p, three.ks_least_p[:, None])
    assert np.allclose(four.ks_p, four.ks_least_p[:, None])
    assert np.isnan([*three.ks_share.values(), *three.ks_share_corrected.values()]).all()
    assert set(three.welch_share.values()) == {1.0}
    assert set(four.ks_share.values()) == set(four.ks_share_corrected.values()) == {1.0}
    wide = site_effect(apart(3), alpha=0.11)
    assert set(wide.ks_share.values()) == {1.0}
