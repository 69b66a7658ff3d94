"""ComBat: what scanners add to features is estimated and taken away, what patients bring is kept.

A feature y of a scan j on scanner i is read as  y = alpha + x beta + sigma (gamma_i + delta_i e):  a common mean, the
covariates' effect, and the scanner's shift and scale. ComBat (Johnson et al., Biostatistics 2007;8:118; in imaging
Fortin et al., NeuroImage 2018;167:104) removes gamma and delta. Its relatives are parameters here: M-ComBat
moves all scanners to a reference that stays as it is (Stein et al., BMC Bioinformatics 2015;16:63), B-ComBat takes the
mean over bootstrapped estimates (Da-Ano et al., Sci Rep 2020;10:10248).

    combat = ComBat(continuous=("age",))
    harmonized = combat.fit_transform(values, batch=scanner, covariates={"age": age})
"""

from __future__ import annotations

import copy
import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from ..errors import InputError
from ..files.writing import write_json
from . import assumptions
from .covariates import Covariates
from .empirical_bayes import SHRINKAGES, BatchEffect, batch_effect

_FORMAT = "ComBat 1"
_CONSTANT = 1e-12  # a spread below this share of a feature's size is rounding


@dataclasses.dataclass(eq=False)
class ComBat:
    """Removes the effect of batches (scanners, sites, kernels) from a feature table.

    reference_batch: its scans are returned bit for bit and all others are moved to it (M-ComBat); None moves all
        batches to their common mean.
    shrinkage: "parametric" or "non-parametric" empirical Bayes, or "none" (each feature by itself).
    mean_only: removes the shift and leaves the spread; for batches whose spread differs for biological reasons.
    continuous, categorical: names of covariates whose effect is kept.
    bootstraps: 0, or how many resamples within batches the batch effects are averaged over (B-ComBat; 1000 in Da-Ano).
        Mean, covariate effects and pooled spread are those of the whole table: only what a batch does is resampled.

    Learnt by `fit`: `batches_` (names, sorted) and `batch_counts_`; `grand_mean_` and `pooled_sd_` (features,);
    `coefficients_` (covariate columns, features); `batch_shift_` and `batch_variance_` (batches, features) in pooled
    standard deviations; `passed_through_`: names of features that are returned as they are because they do not vary
    within the batches or are not finite in every scan; `warnings_`: sentences on what makes the result uncertain.
    """

    reference_batch: str | None = None
    shrinkage: str = "parametric"
    mean_only: bool = False
    continuous: tuple[str, ...] = ()
    categorical: tuple[str, ...] = ()
    bootstraps: int = 0

    def __post_init__(self):
        if self.shrinkage not in SHRINKAGES:
            raise InputError(f"shrinkage '{self.shrinkage}' is not known; use one of {', '.join(SHRINKAGES)}")
        if self.bootstraps < 0:
            raise InputError(f"{self.bootstraps} bootstraps are not possible; give 0 or more")

    def get_params(self, deep: bool = True) -> dict[str, object]:
        """The parameters of the constructor, by name (`deep` is there for scikit-learn and changes nothing)."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}

    def fit(
        self,
        values: np.ndarray,
        batch: Sequence[str],
        covariates: Mapping[str, Sequence] | None = None,
        feature_names: Sequence[str] | None = None,
        rng: np.random.Generator | None = None,
    ) -> ComBat:
        """Learn the batch effects; returns itself.

        values: (scans, features). batch: (scans,) labels, compared as text. covariates: by name, (scans,) each, those
        that `continuous` and `categorical` name. rng: for the bootstrap, else not needed.
        Raises InputError where the effects cannot be told apart or a batch is too small for its spread.
        """
        values, batch = _table(values, batch)
        names = [f"feature {i}" for i in range(values.shape[1])] if feature_names is None else map(str, feature_names)
        self.feature_names_in_ = tuple(names)
        self._check_features(values)
        self.covariates_ = Covariates.learn(self.continuous, self.categorical, covariates or {}, len(batch))
        self.batches_, index, self.batch_counts_ = np.unique(batch, return_inverse=True, return_counts=True)
        self._check_batches()
        x = self.covariates_.columns(covariates or {}, len(batch))
        indicator = np.eye(len(self.batches_))[index]
        self._check_design(np.hstack([indicator, x]))

        finite = np.isfinite(values).all(axis=0)
        filled = np.where(finite, values, 0.0)
        solution = np.linalg.lstsq(np.hstack([indicator, x]), filled, rcond=None)[0]
        means, self.coefficients_ = solution[: len(self.batches_)], solution[len(self.batches_) :]
        residual = filled - indicator @ means - x @ self.coefficients_
        if self._reference is None:
            self.grand_mean_ = self.batch_counts_ @ means / len(batch)
        else:
            reference = list(self.batches_).index(self._reference)
            self.grand_mean_, residual = means[reference], residual[index == reference]
        self.pooled_sd_ = np.sqrt((residual**2).mean(axis=0))
        self.harmonized_ = finite & (self.pooled_sd_ > _CONSTANT * np.abs(filled).max(axis=0))

        standardised = self._standardised(filled, x)
        groups = [standardised[index == i] for i in range(len(self.batches_))]
        effects = [self._effect(label, group, rng) for label, group in zip(self.batches_, groups, strict=True)]
        self._set_effects(effects)
        self.passed_through_ = tuple(np.array(self.feature_names_in_, dtype=object)[~self.harmonized_])
        self.warnings_ = self._warnings(batch, covariates or {}) + self._distortions(groups)
        return self

    def transform(
        self, values: np.ndarray, batch: Sequence[str], covariates: Mapping[str, Sequence] | None = None
    ) -> np.ndarray:
        """The harmonized table (scans, features), float64: of the scans of the fit or of new ones of its batches.

        Raises InputError for a batch that was not in the fit: nothing is known of it (see `with_new_batch`).
        """
        self._check_fitted()
        values, batch = _table(values, batch)
        self._check_features(values)
        unknown = sorted(set(batch) - set(self.batches_))
        if unknown:
            raise InputError(
                f"batch {', '.join(unknown)} was not in the fit, so its effect is not known; fit again with it, or add "
                f"it with with_new_batch, which needs {assumptions.MINIMUM_SCANS} of its scans"
            )
        x = self.covariates_.columns(covariates or {}, len(batch))
        index = np.searchsorted(self.batches_, batch)
        clean = (self._standardised(values, x) - self.batch_shift_[index]) / np.sqrt(self.batch_variance_[index])
        harmonized = clean * self._spread + self.grand_mean_ + x @ self.coefficients_
        keep = np.broadcast_to(~self.harmonized_, values.shape)
        if self._reference is not None:
            keep = keep | (batch == self._reference)[:, None]
        return np.where(keep, values, harmonized)

    def fit_transform(
        self,
        values: np.ndarray,
        batch: Sequence[str],
        covariates: Mapping[str, Sequence] | None = None,
        feature_names: Sequence[str] | None = None,
        rng: np.random.Generator | None = None,
    ) -> np.ndarray:
        """`fit`, then `transform` of the same scans."""
        return self.fit(values, batch, covariates, feature_names, rng).transform(values, batch, covariates)

    def with_new_batch(
        self,
        values: np.ndarray,
        label: str,
        covariates: Mapping[str, Sequence] | None = None,
        rng: np.random.Generator | None = None,
    ) -> ComBat:
        """A ComBat that also knows the batch `label`, learnt from its scans (scans, features) against the frozen fit.

        Mean, covariate effects and pooled spread stay as they are, so all other scans keep their values. Refused
        (InputError) below 20 scans, with a warning in `warnings_` below 30: the rule of 20 to 30 (Haberl et al. 2024,
        discussion). The new scanner's patients must be like those of the fit in all that the covariates do not say.
        """
        self._check_fitted()
        label = str(label)
        values, _ = _table(values, [label] * len(values))
        self._check_features(values)
        if label in self.batches_:
            raise InputError(f"batch '{label}' is in the fit already; transform its scans")
        if len(values) < assumptions.MINIMUM_SCANS:
            raise InputError(
                f"batch '{label}' has {len(values)} scans; a new batch needs {assumptions.MINIMUM_SCANS}, "
                f"better {assumptions.COMFORTABLE_SCANS}"
            )
        if not np.isfinite(values[:, self.harmonized_]).all():
            raise InputError(f"features of batch '{label}' are not finite in every scan; leave those scans out")
        x = self.covariates_.columns(covariates or {}, len(values))
        effect = self._effect(label, self._standardised(np.where(self.harmonized_, values, 0.0), x), rng)
        wider = copy.copy(self)
        order = np.argsort([*self.batches_, label])
        wider.batches_ = np.array([*self.batches_, label])[order]
        wider.batch_counts_ = np.array([*self.batch_counts_, len(values)])[order]
        effects = [*map(BatchEffect, self.batch_shift_, self.batch_variance_), effect]
        wider._set_effects([effects[i] for i in order])
        if len(values) < assumptions.COMFORTABLE_SCANS:
            wider.warnings_ = (
                *self.warnings_,
                f"batch '{label}' was added from {len(values)} scans, fewer than {assumptions.COMFORTABLE_SCANS}; "
                "its correction is uncertain",
            )
        return wider

    def to_json(self, path: str | Path) -> None:
        """Write parameters and what was learnt; numbers read back to the last bit."""
        self._check_fitted()
        learnt = {name: getattr(self, name) for name in (*_ARRAYS, *_TUPLES)}
        write_json(
            {
                "format": _FORMAT,
                "parameters": self.get_params(),
                "covariates": dataclasses.asdict(self.covariates_),
                **learnt,
            },
            path,
        )

    @classmethod
    def from_json(cls, path: str | Path) -> ComBat:
        """The ComBat that `to_json` wrote; InputError where the file is something else or damaged."""
        try:
            content = json.loads(Path(path).read_text(encoding="utf-8"))
            if content["format"] != _FORMAT:
                raise ValueError(f"its format is '{content['format']}', not '{_FORMAT}'")
            parameters = {k: tuple(v) if isinstance(v, list) else v for k, v in content["parameters"].items()}
            combat = cls(**parameters)
            combat.covariates_ = Covariates.from_dict(content["covariates"])
            for name, kind in _ARRAYS.items():
                setattr(combat, name, np.array(content[name], dtype=kind))
            for name in _TUPLES:
                setattr(combat, name, tuple(content[name]))
            combat._check_learnt()
        except OSError as error:
            raise InputError(f"the ComBat file {path} cannot be read ({error.strerror})") from error
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(f"the ComBat file {path} is damaged: {error}") from error
        return combat

    @property
    def _reference(self) -> str | None:
        return None if self.reference_batch is None else str(self.reference_batch)

    @property
    def _spread(self) -> np.ndarray:
        """The pooled standard deviations, 1 where a feature is passed through."""
        return np.where(self.harmonized_, self.pooled_sd_, 1.0)

    def _standardised(self, values: np.ndarray, x: np.ndarray) -> np.ndarray:
        """Values without mean and covariate effect, in pooled standard deviations."""
        return (values - self.grand_mean_ - x @ self.coefficients_) / self._spread

    def _effect(self, label: str, standardised: np.ndarray, rng: np.random.Generator | None) -> BatchEffect:
        """The effect of a batch on all features; none on the reference and on those passed through."""
        features = len(self.harmonized_)
        shift, variance = np.zeros(features), np.ones(features)
        if label != self._reference and self.harmonized_.any():
            z = standardised[:, self.harmonized_]
            draws = (
                [batch_effect(z, self.shrinkage, self.mean_only)] if not self.bootstraps else self._resampled(z, rng)
            )
            shift[self.harmonized_] = np.mean([draw.shift for draw in draws], axis=0)
            variance[self.harmonized_] = np.mean([draw.variance for draw in draws], axis=0)
        return BatchEffect(shift, variance)

    def _resampled(self, z: np.ndarray, rng: np.random.Generator | None) -> list[BatchEffect]:
        if rng is None:
            raise InputError("the bootstrap needs a random generator; pass rng=numpy.random.default_rng(seed)")
        draws = (z[rng.integers(len(z), size=len(z))] for _ in range(self.bootstraps))
        return [batch_effect(draw, self.shrinkage, self.mean_only) for draw in draws]

    def _set_effects(self, effects: list[BatchEffect]) -> None:
        self.batch_shift_ = np.array([effect.shift for effect in effects])
        self.batch_variance_ = np.array([effect.variance for effect in effects])

    def _warnings(self, batch: np.ndarray, covariates: Mapping[str, Sequence]) -> tuple[str, ...]:
        found = assumptions.small_batches(batch, len(self.continuous) + len(self.categorical))
        found += assumptions.confounded(
            batch,
            {name: covariates[name] for name in self.continuous},
            {name: covariates[name] for name in self.categorical},
        )
        if len(self.batches_) == 1:
            found += ("there is one batch only, so there is nothing to harmonize",)
        if self.passed_through_:
            found += (
                f"{len(self.passed_through_)} features are constant within the batches or not finite in every scan "
                f"and are returned as they are: {', '.join(map(str, self.passed_through_))}",
            )
        if self.harmonized_.sum() == 1 and self.shrinkage != "none":
            found += ("one feature alone has no others to borrow from, so nothing was shrunk",)
        return found

    def _distortions(self, groups: list[np.ndarray]) -> tuple[str, ...]:
        """Where shrinkage changed the variances of most features; `groups` are the standardised values by batch."""
        use = self.harmonized_
        if self.mean_only or self.shrinkage == "none" or not use.any():
            return ()
        names = [name for name, used in zip(self.feature_names_in_, use, strict=True) if used]
        found: tuple[str, ...] = ()
        for label, group, shrunk in zip(self.batches_, groups, self.batch_variance_, strict=True):
            if label != self._reference:
                found += assumptions.distorted(label, group[:, use].var(axis=0, ddof=1), shrunk[use], names)
        return found

    def _check_learnt(self) -> None:
        """Raise ValueError where what was read from a file cannot have been learnt together."""
        batches, features = len(self.batches_), len(self.feature_names_in_)
        columns = len(self.covariates_.numbers) + sum(len(c) - 1 for c in self.covariates_.categories.values())
        self.coefficients_ = self.coefficients_.reshape(columns, features)  # an empty table has lost its width
        shapes = {
            "batch_counts_": (batches,),
            "grand_mean_": (features,),
            "pooled_sd_": (features,),
            "harmonized_": (features,),
            "batch_shift_": (batches, features),
            "batch_variance_": (batches, features),
        }
        wrong = [n for n, shape in shapes.items() if getattr(self, n).shape != shape]
        wrong += [n for n, kind in _ARRAYS.items() if kind is float and not np.isfinite(getattr(self, n)).all()]
        if wrong:
            raise ValueError(f"{', '.join(wrong)} does not fit the rest, or holds values that are not finite")

    def _check_features(self, values: np.ndarray) -> None:
        if values.shape[1] != len(self.feature_names_in_):
            raise InputError(f"{values.shape[1]} features were given, where {len(self.feature_names_in_)} are known")

    def _check_batches(self) -> None:
        if self._reference is not None and self._reference not in self.batches_:
            raise InputError(f"reference batch '{self._reference}' has no scans; there are {_list(self.batches_)}")
        alone = self.batches_[self.batch_counts_ < 2]
        if len(alone) and not self.mean_only:
            raise InputError(
                f"batch {_list(alone)} has one scan, which has no spread; leave it out, join it with a batch like it, "
                "or use mean_only"
            )

    def _check_design(self, design: np.ndarray) -> None:
        if np.linalg.matrix_rank(design, tol=1e-8 * np.sqrt(len(design))) < design.shape[1]:
            raise InputError(
                "the covariates follow from the batches or from each other (or there are too few scans), so their "
                "effects cannot be told apart; leave a covariate out or join batches"
            )

    def _check_fitted(self) -> None:
        if not hasattr(self, "batch_shift_"):
            raise InputError("this ComBat has not learnt anything yet; call fit first")


# What `fit` learns, with the types that JSON does not keep.
_ARRAYS = {
    "batches_": str,
    "batch_counts_": int,
    "grand_mean_": float,
    "pooled_sd_": float,
    "coefficients_": float,
    "batch_shift_": float,
    "batch_variance_": float,
    "harmonized_": bool,
}
_TUPLES = ("feature_names_in_", "passed_through_", "warnings_")


def _table(values: np.ndarray, batch: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    values, batch = np.asarray(values, dtype=float), np.asarray(batch).astype(str)
    if values.ndim != 2 or batch.shape != values.shape[:1] or not values.size:
        raise InputError(
            f"a table of shape {values.shape} with {batch.size} batch labels cannot be used; "
            "give (scans, features) and one label a scan"
        )
    return values, batch


def _list(labels: Sequence[str]) -> str:
    return ", ".join(map(str, labels))
