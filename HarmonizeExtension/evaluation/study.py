"""A study: the features of one structure in the patients of several sites, measured in several ways.

An arm is one such way: "before" and "after" image harmonization, and each of them with a feature harmonizer on top
("before, ComBat"; "after, ComBat" is the joint arm of Haberl et al., EJNMMI 2024). What is compared over arms must rest
on the same scans, so only cases that have every image arm take part.

    study = Study.of(FeatureTable.from_csv("features.csv"), Manifest.read("manifest.csv", images=False), "GTV")
    study = study.with_sites_of(3).with_combat(keep=("age",))
"""

from __future__ import annotations

import dataclasses
import inspect
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from scipy import stats

from ..errors import InputError
from ..feature_domain.combat import ComBat
from ..files.manifest import Manifest
from ..radiomics.table import FeatureTable
from .arms import Arm, harmonized, unharmonized

BEFORE, AFTER = "before", "after"
# Columns of the manifest that say which scans are of one person, in the order in which they are looked for.
PERSON = ("person", "patient", "repeat")
_CLASSES = ("shape", "firstorder", "glcm", "glrlm", "glszm", "gldm", "ngtdm")
_MOST_CELLS = 5  # named in an error
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

        Cases without a row for every label, or without any value in one, are left out and named in `notes`. Shape is
        left out: it is that of the contour, whatever the scanner, and ComBat would change it (the papers leave it out
        too). Without sites in the manifest all scans are of one site without a name. Raises InputError for an unknown
        structure, for scans of several modalities and where no case is left.
        """
        check_one_modality(manifest)
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
        valued = {key for key, row in rows.items() if np.isfinite([row.get(name, np.nan) for name in features]).any()}
        complete = [case for case in entries if all((case, label) in valued for label in labels)]
        if not complete:
            raise InputError(
                f"no case of '{manifest.path}' has the features of '{structure}' {' and '.join(labels)}; check that "
                "the case names of both files are the same"
            )
        empty = [case for case in entries if any((case, label) in rows.keys() - valued for label in labels)]
        missing = [case for case in entries if case not in {*complete, *empty}]
        strange = [case for case in dict.fromkeys(case for case, _ in rows) if case not in entries]
        notes = [f"left out, features of '{structure}' missing: {some(missing)}"] if missing else []
        notes += [f"left out, features of '{structure}' all empty: {some(empty)}"] if empty else []
        notes += [f"left out, not in the manifest: {some(strange)}"] if strange else []
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
    def person(self) -> np.ndarray:
        """Whose each scan is (scans,): by the first of the columns `person`, `patient`, `repeat` that there is.

        A scan is of a person of its own where there is none, or where its cell is empty.
        """
        for name in PERSON:
            if name in self.covariates:
                named = self.covariates[name].astype(str)
                alone = [f"the person of {case}" for case in self.cases]
                return np.where(np.isin(named, ["", "nan"]), alone, named)
        return np.array(self.cases)

    def people_by_site(self) -> dict[str, int]:
        """How many people each site has scanned."""
        return {name: len(set(self.person[self.site == name])) for name in self.sites}

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
            try:
                known, new = whole(train, test)
            except InputError as error:
                kept = f" (covariates: {', '.join(derivation.keep)})" if derivation.keep else ""
                raise InputError(f"{error}{kept}") from error
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

    def with_outcome(self) -> Study:
        """Only the scans whose outcome is known; InputError where there is none, or a person has both outcomes."""
        known = np.array([outcome is not None for outcome in self.outcome])
        if not known.any():
            raise InputError("no outcome is known; fill in the column 'outcome' of the manifest with 1 and 0")
        said = {(name, outcome) for name, outcome in zip(self.person, self.outcome, strict=True) if outcome is not None}
        twice = sorted(str(name) for name, count in Counter(name for name, _ in said).items() if count > 1)
        if twice:
            raise InputError(f"the outcome is that of a person, and {some(twice)} has scans with 1 and with 0")
        if known.all():
            return self
        note = f"left out, outcome not known: {int((~known).sum())} scans"
        return dataclasses.replace(self.of_scans(known), notes=(*self.notes, note))

    def with_sites_of(self, minimum: int, people: bool = False) -> Study:
        """Only the sites with at least `minimum` scans; the others are named in `notes`.

        people: count the people whom a site has scanned. Raises InputError where no site is left.
        """
        counts = self.people_by_site() if people else Counter(self.site.tolist())
        small = sorted(name for name, count in counts.items() if count < minimum)
        if not small:
            return self
        named = ", ".join(f"{name} ({counts[name]})" for name in small)
        unit = "people" if people and len(set(self.person)) < len(self.cases) else "scans"
        if len(small) == len(counts):
            raise InputError(f"no site has {minimum} {unit} that can be used: {named}")
        left = self.of_scans(~np.isin(self.site, small))
        return dataclasses.replace(
            left, notes=(*left.notes, f"left out, sites of fewer than {minimum} {unit}: {named}")
        )

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
        Where ComBat cannot be fitted (a site has one scan, a covariate follows from the site) the study stays as it is,
        and a note says why. Raises InputError for a covariate that is not known, in some scan or at all.
        """
        kept = self._covariates(keep) or {}
        continuous = tuple(name for name, column in kept.items() if column.dtype.kind == "f")
        categorical = tuple(name for name in kept if name not in continuous)

        def combat() -> ComBat:
            return ComBat(reference_batch, shrinkage, continuous=continuous, categorical=categorical)

        try:
            if len(self.sites) < 2:
                raise InputError("all scans are of one site")
            return self.with_harmonizer(name, combat, keep, logarithms)
        except InputError as error:
            what = f"{name} that keeps {' and '.join(keep)}" if keep else name
            return dataclasses.replace(self, notes=(*self.notes, f"without {what}: {error}"))

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
        takes_names = "feature_names" in inspect.signature(harmonizer().fit).parameters
        names = {"feature_names": self.features} if takes_names else {}
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
        for name in names:
            self._check_covariate(name)
        return {name: self.covariates[name] for name in names} or None

    def _check_covariate(self, name: str) -> None:
        """Raise InputError where cells are empty, or where most are numbers and some are not: a slip, no category."""
        column = self.covariates[name]
        cells = list(zip(self.cases, column.astype(str).tolist(), strict=True))
        empty = [case for case, cell in cells if cell in ("", "nan")]
        if empty:
            raise InputError(f"column '{name}' is to be kept, but it is empty for {some(empty)}; fill it in")
        words = [(case, cell) for case, cell in cells if not _is_number(cell)]
        if words and 2 * len(words) < len(cells):
            named = ", ".join(f"'{cell}' of case '{case}'" for case, cell in words[:_MOST_CELLS])
            more = f" and {len(words) - _MOST_CELLS} more" if len(words) > _MOST_CELLS else ""
            raise InputError(
                f"column '{name}' is to be kept and holds numbers, but not {named}{more}; write numbers as 1.5, and "
                "leave out scans for which it is not known"
            )


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


def check_one_modality(manifest: Manifest) -> None:
    """Raise InputError for scans of several modalities: their features, and their noise, are different things."""
    found = sorted({entry.modality.value for entry in manifest.entries if entry.modality})
    if len(found) > 1:
        raise InputError(f"'{manifest.path}' has {' and '.join(found)} scans; choose one with --modality")


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


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


def some(names: Sequence[str], shown: int = 8) -> str:
    """Names in quotes, of many the first."""
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(f"'{name}'" for name in names[:shown]) + more
