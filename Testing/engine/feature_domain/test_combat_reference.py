"""ComBat against neuroHarmonize 2.5.2 and neuroCombat 0.2.12 (Testing/data/combat/make_reference.py)."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from HarmonizeExtension.feature_domain.combat import ComBat

REFERENCE = json.loads((Path(__file__).parents[2] / "data" / "combat" / "reference.json").read_text())
KEEP = {"continuous": ("age",), "categorical": ("sex",)}

# In feature standard deviations. neuroCombat stops its iteration at a relative change of 1e-4; the fixed point that
# the iteration heads for is nearer than that, since it contracts fast.
ITERATED, EXACT = 1e-5, 1e-10


@pytest.fixture(scope="module")
def table():
    return {name: np.array(column) for name, column in REFERENCE["random"]["table"].items()}


def furthest(table, got, name, rows=slice(None)):
    return np.abs((got - np.array(REFERENCE["random"]["results"][name])) / table["values"].std(axis=0)).max()


@pytest.mark.parametrize(
    ("name", "combat", "limit"),
    [
        ("no covariates", ComBat(), ITERATED),
        ("no shrinkage", ComBat(shrinkage="none"), EXACT),
        ("non-parametric", ComBat(shrinkage="non-parametric"), EXACT),
        ("covariates", ComBat(**KEEP), ITERATED),
        ("reference b", ComBat(reference_batch="b", **KEEP), ITERATED),
    ],
)
def test_the_table_of_the_fit(table, name, combat, limit):
    got = combat.fit_transform(table["values"], table["batch"], table)
    assert furthest(table, got, name) < limit


def test_new_scans_of_known_scanners(table):
    train = np.arange(len(table["batch"])) % 2 == 0
    known, new = ({name: column[rows] for name, column in table.items()} for rows in (train, ~train))
    combat = ComBat(**KEEP).fit(known["values"], known["batch"], known)
    assert furthest(table, combat.transform(new["values"], new["batch"], new), "out of sample") < ITERATED


@pytest.mark.real_data
def test_ixi_volumes_with_age_and_sex_kept(real_data):
    with open(real_data / "tables" / "IXI_demog.csv", newline="") as file:
        people = {row["ID"]: row for row in csv.DictReader(file)}
    with open(real_data / "tables" / "IXI_DLMUSE.csv", newline="") as file:
        volumes = {row["ID"]: row for row in csv.DictReader(file)}
    ids = [name for name in people if name in volumes]
    features = [name for name in next(iter(volumes.values())) if name != "ID"]
    values = np.array([[float(volumes[i][f]) for f in features] for i in ids])
    covariates = {"age": [float(people[i]["Age"]) for i in ids], "sex": [people[i]["Sex"] for i in ids]}
    combat = ComBat(**KEEP)
    got = combat.fit_transform(values, [i.split("-")[1] for i in ids], covariates)
    stored = REFERENCE["ixi"]
    assert stored["ids"] == ids[::20]
    assert stored["features"] == features[::5]
    assert np.abs((got[::20, ::5] - np.array(stored["harmonized"])) / values.std(axis=0)[::5]).max() < ITERATED
    assert np.abs(combat.batch_shift_[:, ::5] - np.array(stored["gamma"])).max() < ITERATED
    assert np.abs(combat.batch_variance_[:, ::5] - np.array(stored["delta"])).max() < ITERATED
