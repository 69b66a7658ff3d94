"""The protocols on public tables: scanner effects fall on scans that no fit has seen, age and chance stay."""

import csv

import numpy as np
import pytest

from HarmonizeExtension.evaluation.arms import harmonized, unharmonized
from HarmonizeExtension.evaluation.outcome import outcome_protocol
from HarmonizeExtension.evaluation.site_effect import differing_share
from HarmonizeExtension.evaluation.site_prediction import site_prediction
from HarmonizeExtension.feature_domain.combat import ComBat
from HarmonizeExtension.feature_domain.zscore import ScannerZScore

pytestmark = pytest.mark.real_data

GEOMETRY = {"size_x", "size_y", "size_z", "spacing_x", "spacing_y", "spacing_z"}
LABELS = {"subject_id", "site", "rater_1", "rater_2", "rater_3"}


def rows_of(path, delimiter=","):
    with open(path, newline="", encoding="utf-8-sig") as file:
        return list(csv.DictReader(file, delimiter=delimiter))


@pytest.fixture(scope="module")
def abide(real_data):
    rows = rows_of(real_data / "tables" / "mriqc_abide.tsv", "\t")
    names = [name for name in rows[0] if name not in GEOMETRY | LABELS]
    return np.array([[float(row[name]) for name in names] for row in rows]), np.array([row["site"] for row in rows])


@pytest.fixture(scope="module")
def ixi(real_data):
    people = {row["ID"]: row for row in rows_of(real_data / "tables" / "IXI_demog.csv")}
    rows = [row for row in rows_of(real_data / "tables" / "IXI_DLMUSE.csv") if row["ID"] in people]
    values = np.array([[float(v) for name, v in row.items() if name != "ID"] for row in rows])
    site = np.array([row["ID"].split("-")[1] for row in rows])
    age = np.array([float(people[row["ID"]]["Age"]) for row in rows])
    return values, site, age, np.array([people[row["ID"]]["Sex"] for row in rows])


def number(text):
    """NaN where the spreadsheet that the table came from wrote an error."""
    try:
        return float(text)
    except ValueError:
        return np.nan


def mean_share(values, site):
    return np.mean(list(differing_share({name: values[site == name] for name in np.unique(site)}).values()))


def test_abide_sites_differ_less_on_the_half_that_no_fit_has_seen(abide):
    values, site = abide
    rng = np.random.default_rng(0)
    train = np.zeros(len(site), bool)
    for name in np.unique(site):
        members = rng.permutation(np.flatnonzero(site == name))
        train[members[: (len(members) + 1) // 2]] = True
    raw = mean_share(values[~train], site[~train])
    for method in (ComBat(), ScannerZScore()):
        new = method.fit(values[train], site[train]).transform(values[~train], site[~train])
        assert mean_share(new, site[~train]) < 0.5 * raw


def test_ixi_sites_are_harder_to_tell_apart_and_age_says_what_it_said(ixi):
    values, site, age, sex = ixi
    keep = {"continuous": ("age",), "categorical": ("sex",)}
    covariates = {"age": age, "sex": sex}
    inside = harmonized(values, site, lambda: ComBat(**keep), covariates)
    before = site_prediction(unharmonized(values), site, np.random.default_rng(0)).auc
    after = site_prediction(inside, site, np.random.default_rng(0)).auc
    assert abs(after - 0.5) < 0.5 * abs(before - 0.5)
    whole = ComBat(**keep).fit_transform(values, site, covariates)
    assert mean_share(whole, site) < 0.5 * mean_share(values, site)

    nuisance = np.column_stack([site == name for name in np.unique(site)] + [sex == "M"]).astype(float)

    def partial_correlation(table, without):
        def residual(x):
            return x - without @ np.linalg.lstsq(without, x, rcond=None)[0]

        a, b = residual(age), residual(table)
        return a @ b / np.sqrt((a @ a) * (b * b).sum(axis=0))

    # Within the sites before, over all sites after: the same association.
    within = partial_correlation(values, nuisance)
    pooled = partial_correlation(whole, np.column_stack([np.ones(len(age)), sex == "M"]).astype(float))
    assert np.corrcoef(within, pooled)[0, 1] > 0.99
    assert np.abs(within - pooled).max() < 0.05


def test_nsclc_outcome_shuffled_is_not_predicted(real_data):
    folder = real_data / "tables" / "opnested"
    outcomes = {row[""]: row["event"] == "1" for row in rows_of(folder / "clinical-demographics.csv")}
    rows = [row for row in rows_of(folder / "Sandy-Captk.csv") if row["SubjectID"] in outcomes]
    values = np.array([[number(v) for name, v in row.items() if name != "SubjectID"] for row in rows])
    values = values[:, np.isfinite(values).all(axis=0)]
    event = np.array([outcomes[row["SubjectID"]] for row in rows])
    rng = np.random.default_rng(0)
    arm = {"features": unharmonized(values)}
    shuffled = (outcome_protocol(arm, rng.permutation(event), rng, folds=20) for _ in range(6))
    means = [result.arms["features"].mean_auc for result in shuffled]
    assert np.mean(means) == pytest.approx(0.5, abs=0.08)
