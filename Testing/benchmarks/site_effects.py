"""What feature-domain harmonization does to scanner effects on public tables, by the evaluation's own protocols.

    python Testing/benchmarks/site_effects.py [FOLDER OF TABLES]

IXI: volumes of 291 people on three sites, age and sex kept. ABIDE: image quality of 1,101 scans on 17 sites, half of
each site held out and transformed out of sample. NSCLC: 102 CT features of patients scanned on GE and Siemens, with
survival, raw and in logarithms. Site AUC is cross-validated with the harmonization inside the training folds.
"""

from __future__ import annotations

import argparse
import csv
import re
import sys
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from HarmonizeExtension.evaluation.arms import harmonized, unharmonized  # noqa: E402
from HarmonizeExtension.evaluation.outcome import outcome_protocol  # noqa: E402
from HarmonizeExtension.evaluation.site_effect import site_effect, variance_explained  # noqa: E402
from HarmonizeExtension.evaluation.site_prediction import site_prediction  # noqa: E402
from HarmonizeExtension.feature_domain.combat import ComBat  # noqa: E402
from HarmonizeExtension.feature_domain.covbat import CovBat  # noqa: E402
from HarmonizeExtension.feature_domain.scanner_label import manufacturer_name  # noqa: E402
from HarmonizeExtension.feature_domain.zscore import ScannerZScore  # noqa: E402

# Columns of the ABIDE table that say how the scan was stored, not how good it is, or who rated it.
NOT_FEATURES = re.compile(r"subject_id|site|rater_\d|size_[xyz]|spacing_[xyz]")


def rows_of(path: Path, delimiter: str = ",") -> list[dict[str, str]]:
    with open(path, newline="", encoding="utf-8-sig") as file:
        return list(csv.DictReader(file, delimiter=delimiter))


def number(text: str) -> float:
    """NaN where a spreadsheet wrote an error."""
    try:
        return float(text)
    except ValueError:
        return np.nan


def spreadsheet_column(path: Path, column: str) -> dict[str, str]:
    """Column A -> another column of the first sheet of an .xlsx, without a library for it."""
    with zipfile.ZipFile(path) as book:
        texts = re.findall(r"<si>(.*?)</si>", book.read("xl/sharedStrings.xml").decode(), re.S)
        sheet = book.read("xl/worksheets/sheet1.xml").decode()
    shared = [re.sub("<[^>]+>", "", text) for text in texts]
    found = {}
    for row in re.findall(r"<row [^>]*>(.*?)</row>", sheet, re.S):
        cells = re.findall(r'<c r="([A-Z]+)\d+"([^>]*)><v>(.*?)</v>', row)
        values = {name: shared[int(v)] if 't="s"' in kind else v for name, kind, v in cells}
        found[values.get("A", "")] = values.get(column, "")
    return found


def line(name: str, values: np.ndarray, site: np.ndarray, arm) -> None:
    effect = site_effect({label: values[site == label] for label in np.unique(site)})
    shares = (effect.ks_share, effect.ks_share_corrected, effect.welch_share)
    ks, corrected, welch = (np.mean(list(share.values())) for share in shares)
    auc = site_prediction(arm, site, np.random.default_rng(0)).auc
    explained = np.nanmean(variance_explained(values, site))
    print(f"  {name:24}{ks:8.1%}{corrected:8.1%}{welch:8.1%}{auc:8.3f}{explained:8.1%}")


def heading(title: str) -> None:
    print(f"\n{title}\n  {'':24}{'KS':>8}{'KS BH':>8}{'Welch':>8}{'AUC':>8}{'site R2':>8}")


def ixi(folder: Path) -> None:
    people = {row["ID"]: row for row in rows_of(folder / "IXI_demog.csv")}
    rows = [row for row in rows_of(folder / "IXI_DLMUSE.csv") if row["ID"] in people]
    values = np.array([[float(v) for name, v in row.items() if name != "ID"] for row in rows])
    site = np.array([row["ID"].split("-")[1] for row in rows])
    age = np.array([float(people[row["ID"]]["Age"]) for row in rows])
    sex = np.array([people[row["ID"]]["Sex"] for row in rows])
    covariates, keep = {"age": age, "sex": sex}, {"continuous": ("age",), "categorical": ("sex",)}
    heading(f"IXI: {len(rows)} people, {values.shape[1]} volumes, sites {dict(Counter(site.tolist()))}")
    line("raw", values, site, unharmonized(values))
    line("z-score", ScannerZScore().fit_transform(values, site), site, harmonized(values, site, ScannerZScore))
    methods = {
        "ComBat, age and sex": lambda: ComBat(**keep),
        "M-ComBat to Guys": lambda: ComBat("Guys", **keep),
        "CovBat, age and sex": lambda: CovBat(ComBat(**keep)),
    }
    sites = np.column_stack([site == name for name in np.unique(site)] + [sex == "M"]).astype(float)
    within = partial_correlation(age, values, sites)
    associations = []
    for name, make in methods.items():
        table = make().fit_transform(values, site, covariates)
        line(name, table, site, harmonized(values, site, make, covariates))
        pooled = partial_correlation(age, table, np.column_stack([np.ones(len(age)), sex == "M"]).astype(float))
        associations.append(
            (name, np.abs(pooled).mean(), np.corrcoef(within, pooled)[0, 1], np.abs(pooled - within).max())
        )
    print(f"  association with age within sites, before: mean |r| {np.abs(within).mean():.3f}")
    for name, mean, alike, furthest in associations:
        print(f"  over all sites after {name}: mean |r| {mean:.3f}, alike {alike:.4f}, furthest {furthest:.3f}")


def partial_correlation(age: np.ndarray, table: np.ndarray, without: np.ndarray) -> np.ndarray:
    def residual(x: np.ndarray) -> np.ndarray:
        return x - without @ np.linalg.lstsq(without, x, rcond=None)[0]

    a, b = residual(age), residual(table)
    return a @ b / np.sqrt((a @ a) * (b * b).sum(axis=0))


def abide(folder: Path) -> None:
    rows = rows_of(folder / "mriqc_abide.tsv", "\t")
    names = [name for name in rows[0] if not NOT_FEATURES.fullmatch(name)]
    values = np.array([[float(row[name]) for name in names] for row in rows])
    site = np.array([row["site"] for row in rows])
    rng, train = np.random.default_rng(0), np.zeros(len(site), bool)
    for name in np.unique(site):
        members = rng.permutation(np.flatnonzero(site == name))
        train[members[: (len(members) + 1) // 2]] = True
    heading(f"ABIDE, held-out half: {(~train).sum()} scans, {len(names)} measures, {len(np.unique(site))} sites")
    new = values[~train]
    line("raw", new, site[~train], unharmonized(new))
    for name, make in (("z-score", ScannerZScore), ("ComBat", ComBat), ("CovBat", CovBat)):
        table = make().fit(values[train], site[train]).transform(new, site[~train])
        line(f"{name}, out of sample", table, site[~train], unharmonized(table))


def nsclc(folder: Path) -> None:
    manufacturer = spreadsheet_column(folder / "Sandy-CT-parameters.xlsx", "C")
    event = {row[""]: row["event"] == "1" for row in rows_of(folder / "clinical-demographics.csv")}
    rows = [row for row in rows_of(folder / "Sandy-Captk.csv") if row["SubjectID"] in event]
    scanner = np.array([manufacturer_name(manufacturer.get(row["SubjectID"], "")) for row in rows])
    use = np.isin(scanner, ["GE", "Siemens"])
    values = np.array([[number(v) for name, v in row.items() if name != "SubjectID"] for row in rows])[use]
    outcome, scanner = np.array([event[row["SubjectID"]] for row in rows])[use], scanner[use]
    values = values[:, np.isfinite(values).all(axis=0) & (np.ptp(values, axis=0) > 0)]
    # asinh is the logarithm of what is large, of either sign
    logarithms = np.arcsinh(values / np.median(np.abs(values), axis=0).clip(1e-9))
    methods = {
        "z-score": ScannerZScore,
        "ComBat": ComBat,
        "M-ComBat to GE": lambda: ComBat("GE"),
        "M-ComBat, no shrinkage": lambda: ComBat("GE", shrinkage="none"),
    }
    for title, table in (("as they are", values), ("in logarithms", logarithms)):
        counts = dict(Counter(scanner.tolist()))
        heading(f"NSCLC, features {title}: {len(table)} patients, {table.shape[1]} features, {counts}")
        line("raw", table, scanner, unharmonized(table))
        arms = {"raw": unharmonized(table)}
        for name, make in methods.items():
            arms[name] = harmonized(table, scanner, make)
            line(name, make().fit_transform(table, scanner), scanner, arms[name])
        for text in ComBat("GE").fit(table, scanner).warnings_:
            print(f"  M-ComBat warns: {text}")
        result = outcome_protocol(arms, outcome, np.random.default_rng(0))
        print(f"  survival, {result.folds} splits, {outcome.sum()} events:")
        for name, arm in result.arms.items():
            against = result.against_first.get(name)
            p = f", DeLong p {against.delong.p:.3f}, corrected t p {against.p:.3f}" if against else ""
            print(f"    {name:24} AUC {arm.mean_auc:.3f} ({arm.interval[0]:.3f}-{arm.interval[1]:.3f}){p}")
        rng = np.random.default_rng(1)
        shuffled = [
            outcome_protocol({"ComBat": arms["ComBat"]}, rng.permutation(outcome), rng, folds=20)
            .arms["ComBat"]
            .mean_auc
            for _ in range(20)
        ]
        print(f"    outcome shuffled twenty times, ComBat: AUC {np.mean(shuffled):.3f} (sd {np.std(shuffled):.3f})")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tables", nargs="?", type=Path, default=ROOT.parent / "shared" / "data" / "tables")
    tables = parser.parse_args().tables
    ixi(tables)
    abide(tables)
    nsclc(tables / "opnested")
