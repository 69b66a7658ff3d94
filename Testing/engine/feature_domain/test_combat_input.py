"""What ComBat refuses, what it passes through, and what it warns of."""

import numpy as np
import pytest

from HarmonizeExtension.errors import InputError
from HarmonizeExtension.feature_domain.assumptions import confounded, explained_share, squared_association
from HarmonizeExtension.feature_domain.combat import ComBat
from HarmonizeExtension.feature_domain.zscore import ScannerZScore


@pytest.fixture
def table():
    rng = np.random.default_rng(0)
    return rng.standard_normal((60, 5)), np.repeat(["a", "b"], 30), rng.normal(60, 10, 60)


def test_constant_and_not_finite_features_pass_through_and_are_listed(table):
    values, batch, _ = table
    values[:, 0] = 3.3
    values[:, 1] = np.where(batch == "a", 1e6, 2e6)  # constant on each scanner: no spread to standardise by
    values[7, 2] = np.nan
    values[9, 3] = np.inf
    combat = ComBat()
    got = combat.fit_transform(values, batch, feature_names=["flat", "stepped", "holed", "endless", "good"])
    assert combat.passed_through_ == ("flat", "stepped", "holed", "endless")
    assert np.array_equal(got[:, :4], values[:, :4], equal_nan=True)
    assert not np.array_equal(got[:, 4], values[:, 4])
    assert any("flat, stepped, holed, endless" in text for text in combat.warnings_)


def test_others_are_harmonized_as_if_those_passed_through_were_not_there(table):
    values, batch, _ = table
    alone = ComBat().fit_transform(values, batch)
    with_flat = ComBat().fit_transform(np.column_stack([np.full(60, 7.0), values]), batch)
    assert np.allclose(with_flat[:, 1:], alone)


def test_a_feature_constant_on_one_scanner_gives_finite_values(table):
    values, batch, _ = table
    values[batch == "b", 2] = 4.0
    for shrinkage in ("parametric", "non-parametric", "none"):
        assert np.isfinite(ComBat(shrinkage=shrinkage).fit_transform(values, batch)).all()


def test_one_feature_alone_is_harmonized_without_shrinkage(table):
    values, batch, _ = table
    combat = ComBat()
    got = combat.fit_transform(values[:, :1], batch)
    assert np.array_equal(got, ComBat(shrinkage="none").fit_transform(values[:, :1], batch))
    assert any("nothing was shrunk" in text for text in combat.warnings_)


def test_labels_are_compared_as_text(table):
    values, batch, _ = table
    number = (batch == "b").astype(int)
    combat = ComBat(reference_batch=1).fit(values, number)
    assert np.array_equal(combat.transform(values[30:], ["1"] * 30), values[30:])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"batch": ["a"] * 59 + ["b"]}, "batch b has one scan"),
        ({"batch": ["a"] * 10}, "10 batch labels"),
        ({"combat": ComBat(reference_batch="x")}, "'x' has no scans; there are a, b"),
        ({"combat": ComBat(continuous=("weight",))}, "'weight' was not given; there is age"),
        ({"combat": ComBat(continuous=("age",)), "covariates": {"age": ["old"] * 60}}, "'age' is not a number"),
        ({"combat": ComBat(continuous=("age",)), "covariates": {"age": [50.0] * 60}}, "age is the same in every scan"),
        ({"combat": ComBat(continuous=("age",)), "covariates": {"age": [np.nan] + [1.0, 2.0, 3.0] * 19 + [4.0] * 2}},
         "not known in 1 scans"),
        ({"combat": ComBat(categorical=("age",)), "covariates": {"age": ["x"] * 30 + ["y"] * 30}},
         "cannot be told apart"),
        ({"combat": ComBat(bootstraps=3)}, "needs a random generator"),
    ],
)  # fmt: skip
def test_what_cannot_be_used_is_refused_by_name(table, change, message):
    values, batch, age = table
    settings = {"combat": ComBat(), "batch": batch, "covariates": {"age": age}, **change}
    with pytest.raises(InputError, match=message):
        settings["combat"].fit(values, settings["batch"], settings["covariates"])


def test_wrong_parameters_and_an_unfitted_combat_are_refused(table):
    values, batch, _ = table
    with pytest.raises(InputError, match="parametric, non-parametric, none"):
        ComBat(shrinkage="some")
    with pytest.raises(InputError, match="call fit first"):
        ComBat().transform(values, batch)
    with pytest.raises(InputError, match="4 features were given, where 5 are known"):
        ComBat().fit(values, batch).transform(values[:, :4], batch)
    combat = ComBat(categorical=("sex",)).fit(values, batch, {"sex": ["F", "M"] * 30})
    with pytest.raises(InputError, match="category X"):
        combat.transform(values, batch, {"sex": ["X"] * 60})


def test_a_scan_alone_is_possible_where_only_the_mean_is_moved(table):
    values, _, _ = table
    batch = ["a"] * 59 + ["b"]
    assert np.isfinite(ComBat(mean_only=True).fit_transform(values, batch)).all()


def test_small_batches_and_confounded_covariates_are_warned_of(table):
    values, batch, age = table
    assert ComBat(continuous=("age",)).fit(values, batch, {"age": age}).warnings_ == ()
    small = ComBat().fit(values[:45], batch[:45]).warnings_
    assert len(small) == 1
    assert "'b' (15)" in small[0]
    older = ComBat(continuous=("age",)).fit(values, batch, {"age": age + 15 * (batch == "b")})
    assert any("'age' is confounded" in text for text in older.warnings_)


def test_a_few_wild_features_that_bend_all_others_are_warned_of(table):
    """One untransformed energy with a thousandfold variance on one scanner: every other feature is squeezed there."""
    values, batch, _ = table
    values = np.hstack([values, np.random.default_rng(1).standard_normal((60, 20))])
    names = [f"f{i}" for i in range(25)]
    assert ComBat("a").fit(values, batch, feature_names=names).warnings_ == ()
    values[batch == "b", 7] *= 100
    combat = ComBat("a").fit(values, batch, feature_names=names)
    assert any("'b'" in text and "most of all f7" in text for text in combat.warnings_)
    squeezed = combat.transform(values, batch)[batch == "b", 0].std() / values[batch == "b", 0].std()
    assert squeezed < 0.7
    assert ComBat("a", shrinkage="none").fit(values, batch, feature_names=names).warnings_ == ()


def test_confounding_is_told_for_an_outcome_too():
    rng = np.random.default_rng(1)
    batch = np.repeat(["a", "b"], 50)
    follows = np.where(rng.random(100) < 0.9, batch == "b", batch == "a")
    assert len(confounded(batch, categorical={"outcome": follows})) == 1
    assert confounded(batch, categorical={"outcome": rng.permutation(follows)}) == ()


def test_shares_are_0_by_chance_and_1_for_what_the_batch_says():
    rng = np.random.default_rng(2)
    batch = np.repeat(["a", "b", "c"], 40)
    chance = [explained_share(batch, rng.standard_normal(120)) for _ in range(40)]
    assert np.mean(chance) < 0.02
    assert explained_share(batch, np.repeat([1.0, 2.0, 3.0], 40)) == pytest.approx(1)
    assert explained_share(batch, np.full(120, 2.0)) == 0
    assert squared_association(batch, batch) == pytest.approx(1, abs=0.02)
    assert np.mean([squared_association(batch, rng.integers(0, 3, 120)) for _ in range(40)]) < 0.02


def test_zscores_have_mean_0_and_spread_1_on_every_scanner_and_refuse_a_new_one(table):
    values, batch, _ = table
    values[batch == "b"] = values[batch == "b"] * 4 + 7
    values[batch == "b", 4] = 1.0
    fitted = ScannerZScore().fit(values, batch)
    z = fitted.transform(values, batch)
    for name in "ab":
        assert np.allclose(z[batch == name].mean(axis=0), 0)
        assert np.allclose(z[batch == name, :4].std(axis=0, ddof=1), 1)
    assert (z[batch == "b", 4] == 0).all()
    assert np.array_equal(fitted.transform(values[:3], batch[:3]), z[:3])
    with pytest.raises(InputError, match="c was not in the fit"):
        fitted.transform(values[:1], ["c"])
    with pytest.raises(InputError, match="b has one scan"):
        ScannerZScore().fit(values[:31], batch[:31])
