"""What feature-domain harmonization does to scanner effects on public tables, by the evaluation's own protocols.

    python Testing/benchmarks/site_effects.py [FOLDER OF TABLES]

IXI: volumes of 291 people on three sites, age and sex kept. ABIDE: image quality of 1,101 scans on 17 sites, half of
each site held out and transformed out of sample. NSCLC: 102 CT features of patients scanned on GE and Siemens, with
survival; features in units and in logarithms. Site AUC is cross-validated with the harmonization inside the training
folds, but for ABIDE, where it was fitted on the other half. `harmonize evaluate` gives the same tables from the
manifests that are written here.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import re
import sys
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from HarmonizeExtension.evaluation import protocols  # noqa: E402
from HarmonizeExtension.evaluation.feature_files import read_features  # noqa: E402
from HarmonizeExtension.evaluation.study import Study  # noqa: E402
from HarmonizeExtension.feature_domain.combat import ComBat  # noqa: E402
from HarmonizeExtension.feature_domain.covbat import CovBat  # noqa: E402
from HarmonizeExtension.feature_domain.scanner_label import manufacturer_name  # noqa: E402
from HarmonizeExtension.feature_domain.zscore import ScannerZScore  # noqa: E402
from HarmonizeExtension.files.manifest import Manifest  # noqa: E402

# Columns of the ABIDE table that say how the scan was stored, not how good it is, or who rated it: the manifest has
# them, so they are no features.
NOT_FEATURES = re.compile(r"rater_\d|size_[xyz]|spacing_[xyz]")


def rows_of(path: Path, delimiter: str = ",") -> list[dict[str, str]]:
    with open(path, newline="", encoding="utf-8-sig") as file:
        return list(csv.DictReader(file, delimiter=delimiter))


def study_of(features: Path, lines: Sequence[Mapping[str, str]]) -> Study:
    """A study of a table with one row a case, and a manifest of dictionaries."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "manifest.csv"
        with open(path, "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, lines[0])
            writer.writeheader()
            writer.writerows(lines)
        manifest = Manifest.read(path, images=False)
        return Study.of(read_features(features, manifest), manifest)


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


def show(title: str, study: Study, names: Sequence[str] = ("site-effect", "site-prediction")) -> None:
    """The first table of each protocol, and what is uncertain."""
    scans = ", ".join(f"{name} {np.sum(study.site == name)}" for name in study.sites)
    print(f"\n{title}: {len(study.cases)} scans, {len(study.features)} features ({scans})")
    for name in names:
        result = protocols.run(name, study, np.random.default_rng(0))
        print(f"\n{result.tables[0].text()}")
    for note in study.notes:
        print(f"  - {note}")


def ixi(folder: Path) -> None:
    people = {row["ID"]: row for row in rows_of(folder / "IXI_demog.csv")}
    known = [row["ID"] for row in rows_of(folder / "IXI_DLMUSE.csv") if row["ID"] in people]
    lines = [
        {"case": name, "site": name.split("-")[1], "age": people[name]["Age"], "sex": people[name]["Sex"]}
        for name in known
    ]
    keep = ("age", "sex")
    study = study_of(folder / "IXI_DLMUSE.csv", lines).with_harmonizer("z-score", ScannerZScore)
    study = study.with_combat(keep=keep).with_combat("M-ComBat to Guys", keep, "Guys")
    both = {"continuous": ("age",), "categorical": ("sex",)}
    study = study.with_harmonizer("CovBat", lambda: CovBat(ComBat(**both)), keep)
    show("IXI, age and sex kept", study)
    age, male = study.covariates["age"], study.covariates["sex"] == "M"
    sites = np.column_stack([study.site == name for name in study.sites] + [male]).astype(float)
    within = partial_correlation(age, study.arms["before"], sites)
    print(f"\n  association with age within sites, before: mean |r| {np.abs(within).mean():.3f}")
    for name in study.derived:
        pooled = partial_correlation(age, study.arms[name], np.column_stack([np.ones(len(age)), male]).astype(float))
        alike, furthest = np.corrcoef(within, pooled)[0, 1], np.abs(pooled - within).max()
        print(f"  over all sites, {name}: mean |r| {np.abs(pooled).mean():.3f}, alike {alike:.4f}, off {furthest:.3f}")


def partial_correlation(age: np.ndarray, table: np.ndarray, without: np.ndarray) -> np.ndarray:
    def residual(x: np.ndarray) -> np.ndarray:
        return x - without @ np.linalg.lstsq(without, x, rcond=None)[0]

    a, b = residual(age), residual(table)
    return a @ b / np.sqrt((a @ a) * (b * b).sum(axis=0))


def abide(folder: Path) -> None:
    table = folder / "mriqc_abide.tsv"
    lines = [
        {"case": row["subject_id"], "site": row["site"], **{n: v for n, v in row.items() if NOT_FEATURES.fullmatch(n)}}
        for row in rows_of(table, "\t")
    ]
    study = study_of(table, lines)
    rng, train = np.random.default_rng(0), np.zeros(len(study.site), bool)
    for name in study.sites:
        members = rng.permutation(np.flatnonzero(study.site == name))
        train[members[: (len(members) + 1) // 2]] = True
    fitted, new = study.of_scans(train), study.of_scans(~train)
    arms = {"before": new.arms["before"]}
    for name, make in (("z-score", ScannerZScore), ("ComBat", ComBat), ("CovBat", CovBat)):
        arms[name] = make().fit(fitted.arms["before"], fitted.site).transform(new.arms["before"], new.site)
    show("ABIDE, the half of each site that no fit has seen", dataclasses.replace(new, arms=arms))


def nsclc(folder: Path) -> None:
    manufacturer = spreadsheet_column(folder / "Sandy-CT-parameters.xlsx", "C")
    event = {row[""]: row["event"] for row in rows_of(folder / "clinical-demographics.csv")}
    cases = [row["SubjectID"] for row in rows_of(folder / "Sandy-Captk.csv") if row["SubjectID"] in event]
    scanner = {name: manufacturer_name(manufacturer.get(name, "")) for name in cases}
    study = study_of(
        folder / "Sandy-Captk.csv",
        [{"case": name, "site": scanner[name] or "unknown", "outcome": event[name]} for name in cases],
    )
    study = study.of_scans(np.isin(study.site, ["GE", "Siemens"])).with_harmonizer("z-score", ScannerZScore)
    study = study.with_combat().with_combat("M-ComBat to GE", reference_batch="GE")
    study = study.with_combat("ComBat in logarithms", logarithms=True)
    study = study.with_combat("M-ComBat, no shrinkage", reference_batch="GE", shrinkage="none")
    study = study.with_combat("M-ComBat, no shrinkage, logarithms", (), "GE", "none", logarithms=True)
    show("NSCLC, survival", study, ("site-effect", "site-prediction", "outcome"))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tables", nargs="?", type=Path, default=ROOT.parent / "shared" / "data" / "tables")
    tables = parser.parse_args().tables
    ixi(tables)
    abide(tables)
    nsclc(tables / "opnested")
