"""How reference.json was made: neuroHarmonize and neuroCombat on a small random table and on the IXI volumes.

    python -m venv oracle && oracle/bin/pip install "numpy<2" neuroHarmonize==2.5.2 neuroCombat==0.2.12
    oracle/bin/python make_reference.py ../../../../shared/data/tables

They need numpy < 2, so they stay out of the test environment; the tests read the file.
"""

import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
from neuroCombat import neuroCombat
from neuroHarmonize import harmonizationApply, harmonizationLearn

HERE = Path(__file__).parent
SCANS = {"a": 24, "b": 20, "c": 21}
FEATURES = 7


def random_table() -> dict:
    """Scanners with shift and scale, age and sex with effects; ages that 32-bit floats hold (neuroCombat casts)."""
    rng = np.random.default_rng(20211)
    batch = np.repeat(list(SCANS), list(SCANS.values()))
    age = np.round(rng.normal(60, 10, len(batch)) * 2) / 2
    sex = rng.integers(0, 2, len(batch))
    size = 10.0 ** rng.integers(-2, 4, FEATURES)
    values = rng.standard_normal((len(batch), FEATURES)) + 0.05 * np.outer(age, rng.normal(size=FEATURES))
    values += 0.5 * np.outer(sex, rng.normal(size=FEATURES))
    for name in SCANS:
        values[batch == name] *= rng.uniform(0.6, 1.6, FEATURES)
        values[batch == name] += rng.normal(0, 1, FEATURES)
    return {"values": values * size, "batch": batch, "age": age, "sex": sex}


def neuro_harmonize() -> dict:
    t = random_table()
    plain = pd.DataFrame({"SITE": t["batch"]})
    covars = plain.assign(AGE=t["age"], SEX=t["sex"].astype(float))
    train = np.arange(len(covars)) % 2 == 0
    model, _ = harmonizationLearn(t["values"][train], covars[train])
    results = {
        "no covariates": harmonizationLearn(t["values"], plain)[1],
        "no shrinkage": harmonizationLearn(t["values"], plain, eb=False)[1],
        "covariates": harmonizationLearn(t["values"], covars)[1],
        "reference b": harmonizationLearn(t["values"], covars, ref_batch="b")[1],
        "out of sample": harmonizationApply(t["values"][~train], covars[~train], model),
    }
    combat = neuroCombat(t["values"].T, plain.astype(str), "SITE", parametric=False)
    results["non-parametric"] = combat["data"].T
    return {"table": {k: v.tolist() for k, v in t.items()}, "results": {k: v.tolist() for k, v in results.items()}}


def ixi(tables: Path) -> dict:
    """Shift and variance of each site and the harmonized volumes of every twentieth person, with age and sex kept."""
    volumes, people = pd.read_csv(tables / "IXI_DLMUSE.csv"), pd.read_csv(tables / "IXI_demog.csv")
    together = people.merge(volumes, on="ID")
    covars = pd.DataFrame(
        {"SITE": together.ID.str.split("-").str[1], "AGE": together.Age, "SEX": (together.Sex == "M").astype(float)}
    )
    features = [c for c in volumes.columns if c != "ID"]
    model, harmonized = harmonizationLearn(together[features].to_numpy(float), covars)
    return {
        "ids": together.ID[::20].tolist(),
        "features": features[::5],
        "harmonized": harmonized[::20, ::5].tolist(),
        "gamma": np.asarray(model["gamma_star"])[:, ::5].tolist(),
        "delta": np.asarray(model["delta_star"])[:, ::5].tolist(),
    }


if __name__ == "__main__":
    content = {"random": neuro_harmonize(), "ixi": ixi(Path(sys.argv[1]))}
    (HERE / "reference.json").write_text(json.dumps(content) + "\n")
