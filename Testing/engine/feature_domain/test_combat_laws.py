"""What must hold for every table: scanner effects go, patients stay, order does not matter, saving changes nothing."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from HarmonizeExtension.errors import InputError
from HarmonizeExtension.feature_domain.combat import ComBat
from HarmonizeExtension.feature_domain.covbat import CovBat

SHRINKAGES = ["parametric", "non-parametric", "none"]
seeds = st.integers(0, 2**32 - 1)
quick = settings(max_examples=15, deadline=None)


def cohort(seed, counts=(30, 25, 40), features=12, age_effect=0.0):
    """Patients of one population (values, batch, age) as every scanner would see them: no scanner effect yet."""
    rng = np.random.default_rng(seed)
    batch = np.repeat([f"scanner {i}" for i in range(len(counts))], counts)
    age = rng.normal(60, 10, len(batch))
    mixing = np.eye(features) + 0.3 * rng.standard_normal((features, features))
    values = rng.standard_normal((len(batch), features)) @ mixing + 10 * rng.standard_normal(features)
    return values + age_effect * np.outer((age - 60) / 10, rng.normal(size=features)), batch, age


def with_scanners(values, batch, seed):
    """The same with a shift and a scale of each scanner on each feature."""
    rng = np.random.default_rng(seed)
    seen = values.copy()
    for name in np.unique(batch)[1:]:
        rows = batch == name
        seen[rows] = seen[rows] * rng.uniform(0.5, 2, values.shape[1]) + rng.normal(0, 3, values.shape[1])
    return seen


@quick
@given(seeds)
def test_without_shrinkage_every_scanner_has_one_mean_and_one_spread(seed):
    values, batch, _ = cohort(seed)
    got = ComBat(shrinkage="none").fit_transform(with_scanners(values, batch, seed), batch)
    for moment in (np.mean, lambda x, axis: np.std(x, axis=axis, ddof=1)):
        moments = np.array([moment(got[batch == name], axis=0) for name in np.unique(batch)])
        assert np.allclose(moments, moments[0], atol=1e-9)


@quick
@given(seeds)
def test_a_shift_and_scale_of_a_scanner_that_is_no_reference_is_undone(seed):
    """Towards a reference the other scanners' own shift and scale do not matter: whatever was added is taken away."""
    values, batch, _ = cohort(seed)
    combat = ComBat(reference_batch="scanner 0", shrinkage="none")
    plain = combat.fit_transform(values, batch)
    assert np.allclose(combat.fit_transform(with_scanners(values, batch, seed), batch), plain, atol=1e-8)


@quick
@given(seeds, st.sampled_from(SHRINKAGES))
def test_a_reference_is_returned_to_the_last_bit(seed, shrinkage):
    values, batch, age = cohort(seed)
    seen = with_scanners(values, batch, seed)
    got = ComBat("scanner 1", shrinkage, continuous=("age",)).fit_transform(seen, batch, {"age": age})
    rows = batch == "scanner 1"
    assert np.array_equal(got[rows], seen[rows])
    assert not np.array_equal(got[~rows], seen[~rows])


@quick
@given(seeds, st.sampled_from(SHRINKAGES))
def test_one_batch_is_returned_nearly_unchanged(seed, shrinkage):
    values, batch, _ = cohort(seed, counts=(40,))
    combat = ComBat(shrinkage=shrinkage)
    got = combat.fit_transform(values, batch)
    # n - 1 and n in the two variances: nothing else may differ
    mean = values.mean(axis=0)
    assert np.allclose(got, mean + (values - mean) * np.sqrt(39 / 40), atol=1e-8)
    assert any("one batch" in text for text in combat.warnings_)


@quick
@given(seeds, st.sampled_from(SHRINKAGES))
def test_order_of_scans_and_features_does_not_matter(seed, shrinkage):
    values, batch, age = cohort(seed)
    seen = with_scanners(values, batch, seed)
    rng = np.random.default_rng(seed)
    rows, columns = rng.permutation(len(batch)), rng.permutation(values.shape[1])
    combat = ComBat(shrinkage=shrinkage, continuous=("age",))
    expected = combat.fit_transform(seen, batch, {"age": age})[rows][:, columns]
    assert np.allclose(combat.fit_transform(seen[rows][:, columns], batch[rows], {"age": age[rows]}), expected)


@quick
@given(seeds, st.floats(-1e3, 1e3), st.floats(1e-3, 1e3))
def test_the_unit_of_a_feature_does_not_matter(seed, offset, factor):
    values, batch, _ = cohort(seed)
    seen = with_scanners(values, batch, seed)
    got = ComBat().fit_transform(seen * factor + offset, batch)
    assert np.allclose((got - offset) / factor, ComBat().fit_transform(seen, batch), atol=1e-5)


@quick
@given(seeds)
def test_the_effect_of_a_covariate_survives_where_it_is_named(seed):
    """Scanners whose patients differ in age: the slope over age is the same before scanners and after ComBat."""
    values, batch, age = cohort(seed, counts=(60, 60), age_effect=2.0)
    age = age + 4.0 * (batch == "scanner 1")
    values = values + 0.4 * age[:, None]
    seen = values + 5.0 * (batch == "scanner 1")[:, None]
    got = ComBat(continuous=("age",), mean_only=True, shrinkage="none").fit_transform(seen, batch, {"age": age})
    design = np.column_stack([np.eye(2)[(batch == "scanner 1").astype(int)], age])
    slope = [np.linalg.lstsq(design, table, rcond=None)[0][2] for table in (values, got)]
    assert np.allclose(*slope, atol=1e-8)
    # and none of the scanner is left at a given age
    left = np.linalg.lstsq(design, got, rcond=None)[0]
    assert np.allclose(left[0], left[1], atol=1e-8)


def test_mean_only_leaves_the_spread():
    values, batch, _ = cohort(1)
    seen = with_scanners(values, batch, 1)
    got = ComBat(mean_only=True).fit_transform(seen, batch)
    for name in np.unique(batch):
        assert np.allclose(got[batch == name].std(axis=0), seen[batch == name].std(axis=0))
    assert np.ptp([got[batch == n].mean(axis=0) for n in np.unique(batch)], axis=0).max() < 0.5
    assert np.ptp([seen[batch == n].mean(axis=0) for n in np.unique(batch)], axis=0).max() > 2


def test_shrinkage_lies_between_a_features_own_estimate_and_that_of_all():
    values, batch, _ = cohort(2, counts=(30, 8))
    seen = with_scanners(values, batch, 2)
    own, shrunk = (ComBat(shrinkage=s).fit(seen, batch) for s in ("none", "parametric"))
    for before, after in ((own.batch_shift_, shrunk.batch_shift_), (own.batch_variance_, shrunk.batch_variance_)):
        assert (after[1].std() < before[1].std()).all()
    towards = (shrunk.batch_shift_[1] - own.batch_shift_[1]) * (own.batch_shift_[1].mean() - own.batch_shift_[1])
    assert (towards >= 0).all()


def test_bootstrap_is_seeded_and_near_the_plain_estimate():
    values, batch, _ = cohort(3)
    seen = with_scanners(values, batch, 3)
    combat = ComBat(bootstraps=200)
    first, again = (combat.fit_transform(seen, batch, rng=np.random.default_rng(5)) for _ in range(2))
    assert np.array_equal(first, again)
    plain = ComBat().fit_transform(seen, batch)
    assert 0 < np.abs(first - plain).max() < 0.2 * seen.std()
    with pytest.raises(InputError, match="rng"):
        combat.fit(seen, batch)


def test_a_new_scanner_is_refused_then_added_against_the_frozen_fit():
    values, batch, age = cohort(4, counts=(40, 40, 35))
    seen = with_scanners(values, batch, 4)
    old, new = batch != "scanner 2", batch == "scanner 2"
    combat = ComBat(continuous=("age",)).fit(seen[old], batch[old], {"age": age[old]})
    with pytest.raises(InputError, match="scanner 2 was not in the fit"):
        combat.transform(seen, batch, {"age": age})
    wider = combat.with_new_batch(seen[new], "scanner 2", {"age": age[new]})
    got = wider.transform(seen, batch, {"age": age})
    assert np.array_equal(got[old], combat.transform(seen[old], batch[old], {"age": age[old]}))
    assert np.abs(got[new].mean(axis=0) - got[old].mean(axis=0)).max() < 0.6 * got[old].std(axis=0).max()
    with pytest.raises(InputError, match="was not in the fit"):  # the fit itself did not change
        combat.transform(seen[new], batch[new], {"age": age[new]})


def test_a_new_scanner_against_a_reference_equals_the_fit_of_both_together():
    values, batch, _ = cohort(5, counts=(40, 35))
    seen = with_scanners(values, batch, 5)
    rows = batch == "scanner 0"
    together = ComBat("scanner 0").fit_transform(seen, batch)
    frozen = ComBat("scanner 0").fit(seen[rows], batch[rows]).with_new_batch(seen[~rows], "scanner 1")
    assert np.allclose(frozen.transform(seen, batch), together, atol=1e-10)


def test_the_rule_of_20_to_30_for_a_new_scanner():
    values, batch, _ = cohort(6, counts=(40, 35))
    combat = ComBat().fit(values, batch)
    with pytest.raises(InputError, match="has 19 scans; a new batch needs 20"):
        combat.with_new_batch(values[:19], "new")
    assert any("'new'" in text for text in combat.with_new_batch(values[:29], "new").warnings_)
    assert not any("'new'" in text for text in combat.with_new_batch(values[:30], "new").warnings_)


def test_saved_and_read_it_gives_the_same_to_the_last_bit(tmp_path):
    values, batch, age = cohort(7)
    sex = np.where(np.arange(len(batch)) % 3 == 0, "F", "M")
    seen = with_scanners(values, batch, 7)
    seen[:, 3] = 1.5
    covariates = {"age": age, "sex": sex}
    for combat in (ComBat(continuous=("age",), categorical=("sex",)), ComBat("scanner 2")):
        combat.fit(seen, batch, covariates, feature_names=[f"f{i}" for i in range(12)])
        combat.to_json(tmp_path / "combat.json")
        again = ComBat.from_json(tmp_path / "combat.json")
        assert np.array_equal(again.transform(seen, batch, covariates), combat.transform(seen, batch, covariates))
        assert again.get_params() == combat.get_params()
        assert again.warnings_ == combat.warnings_
        assert again.passed_through_ == ("f3",)
        assert again.with_new_batch(seen[:25], "new", {k: v[:25] for k, v in covariates.items()}).batches_[0] == "new"


def test_a_damaged_file_is_an_error_that_names_it(tmp_path):
    values, batch, _ = cohort(8)
    path = tmp_path / "combat.json"
    ComBat().fit(values, batch).to_json(path)
    content = json.loads(path.read_text())
    for broken in ("{", json.dumps({"format": "other"}), json.dumps({**content, "grand_mean_": "x"}), json.dumps([]),
                   json.dumps({**content, "grand_mean_": [1.0]}), json.dumps({**content, "pooled_sd_": [None] * 12}),
                   json.dumps({**content, "batch_shift_": content["batch_shift_"][:2]})):  # fmt: skip
        path.write_text(broken)
        with pytest.raises(InputError, match=r"combat\.json"):
            ComBat.from_json(path)
    del content["batch_shift_"]
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match="batch_shift_"):
        ComBat.from_json(path)
    with pytest.raises(InputError, match="cannot be read"):
        ComBat.from_json(tmp_path / "none.json")


def test_covbat_equalises_what_features_do_together_and_keeps_a_reference():
    """One scanner correlates the features more; ComBat leaves that, CovBat takes most of it away."""
    rng = np.random.default_rng(9)
    counts, features = (300, 300), 6
    batch = np.repeat(["a", "b"], counts)
    common = rng.standard_normal((600, 1))
    values = rng.standard_normal((600, features)) + np.where(batch == "b", 1.5, 0.3)[:, None] * common

    def gap(table):
        correlation = [np.corrcoef(table[batch == name].T) for name in "ab"]
        return np.linalg.norm(correlation[0] - correlation[1])

    assert gap(ComBat().fit_transform(values, batch)) > 0.9 * gap(values)
    assert gap(CovBat().fit_transform(values, batch)) < 0.3 * gap(values)
    covbat = CovBat(ComBat("a")).fit(values, batch)
    assert np.array_equal(covbat.transform(values, batch)[batch == "a"], values[batch == "a"])
    rows = rng.permutation(600)[:50]
    assert np.allclose(covbat.transform(values[rows], batch[rows]), covbat.transform(values, batch)[rows])
