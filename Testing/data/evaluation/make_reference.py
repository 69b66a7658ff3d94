"""How reference.json was made: scikit-learn, statsmodels and pingouin on small random tables.

python -m venv oracle && oracle/bin/pip install scikit-learn==1.9.1 statsmodels==0.15.0 pingouin==0.6.1
oracle/bin/python make_reference.py
"""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pingouin
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score, roc_curve, silhouette_score
from sklearn.preprocessing import StandardScaler
from statsmodels.stats.multitest import multipletests

RNG = np.random.default_rng(2024)


def logistic() -> list[dict]:
    """Fewer features than scans, and more; C of 1 and of 0.1."""
    cases = []
    for scans, features, c in ((60, 4, 1.0), (30, 45, 0.1)):
        x = RNG.normal(size=(scans, features)) * 10.0 ** RNG.integers(-2, 3, features)
        y = RNG.random(scans) < 0.4
        scaler = StandardScaler().fit(x)
        model = LogisticRegression(C=c, tol=1e-12, max_iter=100_000).fit(scaler.transform(x), y)
        probability = model.predict_proba(scaler.transform(x))[:, 1]
        cases.append({"x": x.tolist(), "y": y.tolist(), "c": c, "probability": probability.tolist()})
    return cases


def roc() -> dict:
    y, score = RNG.random(50) < 0.5, np.round(RNG.normal(size=50), 1)
    false, true, _ = roc_curve(y, score, drop_intermediate=False)
    area = roc_auc_score(y, score)
    return {"y": y.tolist(), "score": score.tolist(), "auc": area, "false": false.tolist(), "true": true.tolist()}


def icc() -> list[dict]:
    """Random ratings, and Shrout and Fleiss' table 2."""
    subjects = RNG.normal(size=(12, 1))
    tables = [
        subjects + [0, 0.5, -0.3] + 0.4 * RNG.normal(size=(12, 3)),
        np.array([[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]], dtype=float),
    ]
    cases = []
    for ratings in tables:
        n, k = ratings.shape
        long = pd.DataFrame(
            {"subject": np.repeat(np.arange(n), k), "rater": np.tile(np.arange(k), n), "y": ratings.ravel()}
        )
        result = pingouin.intraclass_corr(long, "subject", "rater", "y")
        rows = {str(t): row for t, row in zip(result["Type"], result.to_dict("records"), strict=True)}
        case = {"ratings": ratings.tolist()}
        for name, keys in (("agreement", ("ICC2", "ICC(A,1)")), ("consistency", ("ICC3", "ICC(C,1)"))):
            row = next(rows[key] for key in keys if key in rows)
            interval = next(row[key] for key in ("CI95%", "CI95") if key in row)
            case[name] = [float(row["ICC"]), *map(float, interval)]
        cases.append(case)
    return cases


def others() -> dict:
    p = np.round(RNG.random(20) ** 3, 4)
    points, label = RNG.normal(size=(25, 3)), RNG.integers(0, 3, 25)
    return {
        "p": p.tolist(),
        "benjamini_hochberg": multipletests(p, method="fdr_bh")[1].tolist(),
        "points": points.tolist(),
        "label": label.tolist(),
        "silhouette": float(silhouette_score(points, label)),
    }


if __name__ == "__main__":
    content = {"logistic": logistic(), "roc": roc(), "icc": icc(), **others()}
    (Path(__file__).parent / "reference.json").write_text(json.dumps(content) + "\n")
