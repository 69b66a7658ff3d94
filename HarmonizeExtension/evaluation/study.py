"""A study: the features of one structure in the patients of several sites, measured in several ways.

An arm is one such way: "before" and "after" image harmonization, and each of them with a feature harmonizer on top
("before, ComBat"; "after, ComBat" is the joint arm of Haberl et al., EJNMMI 2024). What is compared over arms must rest
on the same scans, so only cases that have every image arm take part.

    study = Study.of(FeatureTable.from_csv("features.csv"), Manifest.read("manifest.csv", images=False), "GTV")
    study = study.with_sites_of(3).with_combat(keep=("age",))
"""

from __future__ import annotations

import csv
import dataclasses
import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from scipy import stats

from ..errors import InputError
from ..feature_domain.combat import ComBat
from ..feature_domain.covbat import CovBat
from ..files.manifest import KNOWN, Manifest
from ..radiomics.table import KEYS, Column, FeatureTable, Row
from .arms import Arm, harmonized, unharmonized

BEFORE, AFTER = "before", "after"
ONLY = "features"  # what the structure of a plain table is called, which has none
_CLASSES = ("shape", "firstorder", "glcm", "glrlm", "glszm", "gldm", "ngtdm")
_SKEWED = 1.0  # moderately skewed by the rule of thumb of Bulmer (Principles of Statistics, 1979)


@dataclasses.dataclass(frozen=True, eq=False)
class Derivation:
    """How an arm is made of another one, so that it can be made anew from the training scans of a fold."""

    source: str
    harmonizer: Callable[[], object]
    keep: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, eq=False)
class Study:
    """Scans with their sites, and their features by arm.

    structure: whose features; cases: (scans,) names; site: (scans,) text; outcome: (scans,), None where not known.
    features, classes: (features,) names, and to which class of features each belongs ("glcm").
    arms: by name, (scans, features), NaN where there is no value; the first is the baseline.
    covariates: by name, (scans,): numbers (NaN where empty) where every cell is one, else text.
    derived: of the arms that a feature harmonizer made. notes: sentences on what was left out and what is uncertain.
    """

    structure: str
    cases: tuple[str, ...]
    site: np.ndarray
    outcome: tuple[bool | None, ...]
    features: tuple[str, ...]
    classes: tuple[str, ...]
    arms: Mapping[str, np.ndarray]
    covariates: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
    derived: Mapping[str, Derivation] = dataclasses.field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @classmethod
    def of(cls, table: FeatureTable, manifest: Manifest, structure: str = "") -> Study:
        """The features of `structure` (needed where the table has several) of the manifest's cases, an arm a label.

        Cases without a row for every label are left out and named in `notes`. Shape is left out: it is that of the
        contour, whatever the scanner, and ComBat would change it (the papers leave it out too). Without sites in the
        manifest all scans are of one site without a name. Raises InputError for an unknown structure and where no case
        is left.
        """
        structure = _one_structure(table, structure)
        columns = [(column.name, column.feature_class or _class_in(column.name)) for column in table.columns]
        columns = [(name, kind) for name, kind in columns if kind != "shape"]
        if not columns:
            raise InputError("the feature table has no feature beside shape; measure others too")
        features, classes = zip(*columns, strict=True)
        rows = _rows(table, structure)
        entries = {entry.case: entry for entry in manifest.entries}
        if len(entries) < len(manifest.entries):
            raise InputError(f"'{manifest.path}' has cases in several modalities; evaluate one modality at a time")
        labels = sorted(dict.fromkeys(label for _, label in rows), key=lambda label: label != BEFORE)
        complete = [case for case in entries if all((case, label) in rows for label in labels)]
        if not complete:
            raise InputError(
                f"no case of '{manifest.path}' has the features of '{structure}' {' and '.join(labels)}; check that "
                "the case names of both files are the same"
            )
        missing = [case for case in entries if case not in set(complete)]
        strange = [case for case in dict.fromkeys(case for case, _ in rows) if case not in entries]
        notes = [f"left out, features of '{structure}' missing: {_some(missing)}"] if missing else []
        notes += [f"left out, not in the manifest: {_some(strange)}"] if strange else []
        notes += table.metadata.get("notes", ())
        values = {
            label: np.array([[rows[case, label].get(name, np.nan) for name in features] for case in complete])
            for label in labels
        }
        chosen = [entries[case] for case in complete]
        return cls(
            structure,
            tuple(complete),
            np.array([entry.site for entry in chosen]),
            tuple(entry.outcome for entry in chosen),
            features,
            classes,
            values,
            {name: _numbers([e.columns[name] for e in chosen]) for name in manifest.column_names()},
            notes=tuple(notes),
        )

    @property
    def sites(self) -> tuple[str, ...]:
        """The names of the sites, sorted."""
        return tuple(np.unique(self.site).tolist())

    @property
    def smallest_site(self) -> int:
        """The number of scans of the site with the fewest."""
        return min(Counter(self.site.tolist()).values())

    def by_site(self, arm: str) -> dict[str, np.ndarray]:
        """The values of an arm (scans, features) by site."""
        return {name: self.arms[arm][self.site == name] for name in self.sites}

    def comparable_features(self) -> np.ndarray:
        """Which features (features,) are finite in every scan of every arm and vary: all arms are judged by the same.

        Raises InputError where there is none.
        """
        use = np.all([np.isfinite(values).all(axis=0) for values in self.arms.values()], axis=0)
        for values in self.arms.values():
            use &= np.ptp(np.where(use, values, 0), axis=0) > 0
        if not use.any():
            raise InputError(f"no feature of '{self.structure}' is known in every scan; leave out the scans without")
        return use

    def in_folds(self, arm: str, use: np.ndarray) -> Arm:
        """The features `use` of an arm for cross-validation: a feature harmonizer learns from the training scans."""
        derivation = self.derived.get(arm)
        if derivation is None:
            return unharmonized(self.arms[arm][:, use])
        covariates = self._covariates(derivation.keep)
        whole = harmonized(self.arms[derivation.source], self.site, derivation.harmonizer, covariates)

        def chosen(train: np.ndarray, test: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            known, new = whole(train, test)
            return known[:, use], new[:, use]

        return chosen

    def of_scans(self, use: np.ndarray) -> Study:
        """Only the scans (scans,) that are True; arms keep the values that they have."""
        return dataclasses.replace(
            self,
            cases=tuple(case for case, used in zip(self.cases, use, strict=True) if used),
            site=self.site[use],
            outcome=tuple(outcome for outcome, used in zip(self.outcome, use, strict=True) if used),
            arms={name: values[use] for name, values in self.arms.items()},
            covariates={name: column[use] for name, column in self.covariates.items()},
        )

    def with_sites_of(self, minimum: int) -> Study:
        """Only the sites with at least `minimum` scans; the others are named in `notes`."""
        counts = Counter(self.site.tolist())
        small = sorted(name for name, count in counts.items() if count < minimum)
        if not small:
            return self
        left = self.of_scans(~np.isin(self.site, small))
        named = ", ".join(f"{name} ({counts[name]})" for name in small)
        return dataclasses.replace(left, notes=(*left.notes, f"left out, sites of fewer than {minimum} scans: {named}"))

    def with_combat(
        self,
        name: str = "ComBat",
        keep: Sequence[str] = (),
        reference_batch: str | None = None,
        shrinkage: str = "parametric",
        logarithms: bool = False,
    ) -> Study:
        """With an arm "ARM, ComBat" for each image arm, the covariates `keep` kept; parameters are those of `ComBat`.

        logarithms: features that are positive in every scan and skewed go through ComBat in logarithms and come back
            in their units. Right where a scanner multiplies a feature instead of adding to it, and where a few features
            (energies, volumes, non-uniformities) vary so much more than the others that borrowing between features
            bends them all: ComBat warns of that. Wrong where features are compared with published values of ComBat.
        Raises InputError for an unknown covariate, and where ComBat cannot be fitted.
        """
        kept = self._covariates(keep) or {}
        continuous = tuple(name for name, column in kept.items() if column.dtype.kind == "f")
        categorical = tuple(name for name in kept if name not in continuous)

        def combat() -> ComBat:
            return ComBat(reference_batch, shrinkage, continuous=continuous, categorical=categorical)

        return self.with_harmonizer(name, combat, keep, logarithms)

    def with_harmonizer(
        self, name: str, harmonizer: Callable[[], object], keep: Sequence[str] = (), logarithms: bool = False
    ) -> Study:
        """With an arm "ARM, name" for each image arm, through a feature harmonizer that is fitted on all scans.

        harmonizer: makes a new one with `fit` and `transform`, for example `ScannerZScore`; `keep`: its covariates.
        """
        covariates = self._covariates(keep)
        make = harmonizer
        if logarithms:
            skewed = self.skewed_features()

            def make() -> InLogarithms:
                return InLogarithms(harmonizer(), skewed)

        known = () if covariates is None else (covariates,)
        names = {"feature_names": self.features} if isinstance(harmonizer(), ComBat | CovBat) else {}
        arms, derived, notes = dict(self.arms), dict(self.derived), list(self.notes)
        for source in [arm for arm in self.arms if arm not in self.derived]:
            arm, fitted = f"{source}, {name}", make()
            fitted.fit(self.arms[source], self.site, *known, **names)
            arms[arm] = fitted.transform(self.arms[source], self.site, *known)
            derived[arm] = Derivation(source, make, tuple(keep))
            notes += [f"{arm}: {warning}" for warning in getattr(fitted, "warnings_", ())]
        return dataclasses.replace(self, arms=arms, derived=derived, notes=tuple(dict.fromkeys(notes)))

    def skewed_features(self) -> np.ndarray:
        """Which features (features,) are positive in every scan and arm, and less skewed in logarithms.

        By the values alone, over all scans: neither site nor outcome has a part in it.
        """
        images = np.concatenate([values for arm, values in self.arms.items() if arm not in self.derived])
        use = np.all(images > 0, axis=0) & np.isfinite(images).all(axis=0)
        safe = np.where(use, images, 1.0)
        use &= np.ptp(safe, axis=0) > 1e-9 * safe.max(axis=0)
        rough = np.zeros(len(use), bool)
        if use.any():
            skewness = stats.skew(safe[:, use], axis=0)
            rough[use] = (skewness > _SKEWED) & (np.abs(stats.skew(np.log(safe[:, use]), axis=0)) < skewness)
        return rough

    def _covariates(self, names: Sequence[str]) -> dict[str, np.ndarray] | None:
        if "outcome" in names:
            raise InputError("the outcome cannot be kept: it is not known of a new patient; keep what is known before")
        unknown = [name for name in names if name not in self.covariates]
        if unknown:
            have = ", ".join(self.covariates) or "none"
            raise InputError(f"the manifest has no column {', '.join(unknown)}; it has: {have}")
        return {name: self.covariates[name] for name in names} or None


class InLogarithms:
    """A feature harmonizer that sees the logarithms of the features `chosen` (features,) and gives back their units."""

    def __init__(self, harmonizer, chosen: np.ndarray):
        self.harmonizer, self.chosen = harmonizer, chosen

    def fit(self, values: np.ndarray, batch: Sequence[str], *more, **names) -> InLogarithms:
        """As the harmonizer's own."""
        self.harmonizer.fit(self._through(np.log, values), batch, *more, **names)
        self.warnings_ = getattr(self.harmonizer, "warnings_", ())
        return self

    def transform(self, values: np.ndarray, batch: Sequence[str], *more) -> np.ndarray:
        """As the harmonizer's own."""
        return self._through(np.exp, self.harmonizer.transform(self._through(np.log, values), batch, *more))

    def _through(self, function, values: np.ndarray) -> np.ndarray:
        result = np.array(values, dtype=float)
        result[:, self.chosen] = function(result[:, self.chosen])
        return result


def read_features(path: str | os.PathLike, manifest: Manifest) -> FeatureTable:
    """A feature table in CSV: ours (case, label, structure, features), or any other with one row a case.

    Of any other the column `case`, or else the first, holds the cases; its columns that are numbers throughout (empty
    cells and a spreadsheet's error marks are missing values) are the features, apart from those that the manifest has,
    and what else there is is left out. A file with tabs instead of commas is read as well.
    Raises InputError for a file that cannot be read, a case with two rows, and where nothing is a feature.
    """
    path = Path(path)
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            text = file.read()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"the feature table {path} cannot be read ({getattr(error, 'strerror', error)})") from error
    first = text.partition("\n")[0]
    header, *lines = list(csv.reader(text.splitlines(), delimiter="\t" if "\t" in first else ",")) or [[]]
    if tuple(header[: len(KEYS)]) == KEYS:
        return FeatureTable.from_csv(path)
    lines = [cells for cells in lines if any(cells)]
    ragged = [number for number, cells in enumerate(lines, start=2) if len(cells) != len(header)]
    if ragged or not lines:
        what = f"line {ragged[0]} has another number of cells than the header" if ragged else "it has no rows"
        raise InputError(f"the feature table {path} is damaged: {what}")
    key = "case" if "case" in header else header[0]
    columns = {name: [cells[i].strip() for cells in lines] for i, name in enumerate(header)}
    cases = columns.pop(key)
    twice = [case for case, count in Counter(cases).items() if count > 1]
    if twice:
        raise InputError(f"the feature table {path} has several rows for {_some(twice)}; give one row a case")
    numbers = {name: _measurements(cells) for name, cells in columns.items() if name and name not in _taken(manifest)}
    features = {name: column for name, column in numbers.items() if column is not None}
    if not features:
        raise InputError(f"the feature table {path} has no column of numbers beside '{key}' and the manifest's columns")
    words = [name for name, column in numbers.items() if column is None]
    notes = [f"columns of {path.name} that are not numbers, left out: {_some(words)}"] if words else []
    rows = (
        Row(case, BEFORE, ONLY, {name: column[i] for name, column in features.items()}) for i, case in enumerate(cases)
    )
    return FeatureTable(tuple(Column(name) for name in features), tuple(rows), {"notes": notes})


def _taken(manifest: Manifest) -> set[str]:
    return {*KNOWN, *manifest.column_names()}


def _measurements(cells: Sequence[str]) -> np.ndarray | None:
    """A column as numbers, NaN where a cell is empty or a spreadsheet's "#DIV/0!"; None where it holds words."""
    try:
        numbers = np.array([np.nan if not cell or cell[0] == "#" else float(cell) for cell in cells])
    except ValueError:
        return None
    return numbers if np.isfinite(numbers).any() else None


def _numbers(cells: Sequence[str]) -> np.ndarray:
    """A covariate: numbers where every cell that is filled is one, else text."""
    try:
        numbers = np.array([float(cell) if cell else np.nan for cell in cells])
    except ValueError:
        return np.array(cells, dtype=str)
    return numbers if np.isfinite(numbers).any() else np.array(cells, dtype=str)


def _one_structure(table: FeatureTable, structure: str) -> str:
    have = table.structures()
    if structure in have:
        return structure
    if not structure and len(have) == 1:
        return have[0]
    known = ", ".join(f"'{name}'" for name in have) or "none"
    asked = f"has no structure '{structure}'" if structure else "has several structures"
    raise InputError(f"the feature table {asked}; name one of: {known}")


def _rows(table: FeatureTable, structure: str) -> dict[tuple[str, str], Mapping[str, float]]:
    rows: dict[tuple[str, str], Mapping[str, float]] = {}
    for row in table.rows:
        if row.structure != structure:
            continue
        if (row.case, row.label) in rows:
            raise InputError(f"the feature table has two rows for case '{row.case}', '{row.label}', '{structure}'")
        rows[row.case, row.label] = row.values
    return rows


def _class_in(name: str) -> str:
    """The class in a name such as "wavelet-LLH_glcm_Idmn"; "other" where it has none."""
    return next((part for part in name.lower().split("_") if part in _CLASSES), "other")


def _some(names: Sequence[str], shown: int = 8) -> str:
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(f"'{name}'" for name in names[:shown]) + more
