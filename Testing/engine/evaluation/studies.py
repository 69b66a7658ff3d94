"""Simulated studies: patients of three scanners whose features are shifted, with age and an outcome in some."""

import csv

import numpy as np

from HarmonizeExtension.files.manifest import Manifest
from HarmonizeExtension.radiomics.table import Column, FeatureTable, Row

FEATURES = tuple(f"original_{name}_{i}" for name in ("firstorder", "glcm") for i in range(7))
SITES = ("GE", "Philips", "Siemens")


def write_manifest(path, rows):
    """A manifest of dictionaries, one a line, the columns those of the first."""
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return path


def simulated(folder, scans=20, shift=2.0, left=0.5, seed=0, outcome_effect=2.0):
    """Manifest and feature table ("before", "after") of `scans` patients a site.

    shift: of each site from the one before in standard deviations; `left` is the share of it that stands after.
    """
    rng = np.random.default_rng(seed)
    lines, rows = [], []
    for number, site in enumerate(SITES):
        for i in range(scans):
            case, age, event = f"{site}-{i}", float(rng.normal(60, 10)), i % 2
            lines.append({"case": case, "site": site, "outcome": event, "age": f"{age:.2f}", "sex": "MF"[i % 3 == 0]})
            patient = rng.normal(size=len(FEATURES)) + 0.05 * (age - 60)
            patient[:4] += outcome_effect * event
            for label, share in (("before", 1.0), ("after", left)):
                values = 10 + patient + share * shift * number + 0.01 * rng.normal(size=len(FEATURES))
                rows.append(Row(case, label, "GTV", dict(zip(FEATURES, map(float, values), strict=True))))
    manifest = Manifest.read(write_manifest(folder / "manifest.csv", lines), images=False)
    return manifest, FeatureTable(tuple(map(Column, FEATURES)), tuple(rows))
