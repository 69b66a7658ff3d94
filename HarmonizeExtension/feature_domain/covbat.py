"""CovBat: scanners may also change how features vary together, which ComBat, one feature at a time, leaves as it is.

Chen et al., Hum Brain Mapp 2022;43:1179. After ComBat the standardised residuals are turned into principal components,
each component's mean and spread on each scanner is brought to the common one, and all is turned back.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from ..errors import InputError
from .combat import ComBat


@dataclasses.dataclass(eq=False)
class CovBat:
    """ComBat of the features, then of their principal components.

    combat: how the features are harmonized; its `reference_batch` is kept here too, bit for bit.
    explained: share of the variance whose components are harmonized (0.9 in the paper's software).

    Learnt by `fit`: `combat_`, the fitted ComBat of the features; `mean_` (features,) and `components_`
    (components, features) of the residuals; `scores_`, the ComBat of the components (without shrinkage).
    """

    combat: ComBat = dataclasses.field(default_factory=ComBat)
    explained: float = 0.9

    def get_params(self, deep: bool = True) -> dict[str, object]:
        """The parameters of the constructor, by name."""
        return {"combat": self.combat, "explained": self.explained}

    def fit(
        self,
        values: np.ndarray,
        batch: Sequence[str],
        covariates: Mapping[str, Sequence] | None = None,
        feature_names: Sequence[str] | None = None,
        rng: np.random.Generator | None = None,
    ) -> CovBat:
        """Learn from (scans, features) as `ComBat.fit` does; InputError where no feature can be harmonized."""
        if not 0 < self.explained <= 1:
            raise InputError(f"explained = {self.explained} is not a share; give a number above 0, at most 1")
        self.combat_ = ComBat(**self.combat.get_params()).fit(values, batch, covariates, feature_names, rng)
        if not self.combat_.harmonized_.any():
            raise InputError("no feature varies within the batches; there is nothing to harmonize")
        residual = self._residual(self.combat_.transform(values, batch, covariates), covariates)
        self.mean_ = residual.mean(axis=0)
        _, singular, components = np.linalg.svd(residual - self.mean_, full_matrices=False)
        share = np.cumsum(singular**2) / np.sum(singular**2)
        self.components_ = components[: int(np.searchsorted(share, self.explained - 1e-12)) + 1]
        self.scores_ = ComBat(self.combat.reference_batch, shrinkage="none")
        self.scores_.fit((residual - self.mean_) @ self.components_.T, batch)
        return self

    def transform(
        self, values: np.ndarray, batch: Sequence[str], covariates: Mapping[str, Sequence] | None = None
    ) -> np.ndarray:
        """The harmonized table (scans, features), of the scans of the fit or of new ones of its batches."""
        result = self.combat_.transform(values, batch, covariates)
        scores = (self._residual(result, covariates) - self.mean_) @ self.components_.T
        change = (self.scores_.transform(scores, batch) - scores) @ self.components_
        use = self.combat_.harmonized_
        result[:, use] += change * self.combat_.pooled_sd_[use]
        return result

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

    def _residual(self, harmonized: np.ndarray, covariates: Mapping[str, Sequence] | None) -> np.ndarray:
        """What ComBat leaves besides mean and covariates (scans, harmonized features), in pooled standard deviations.

        The reference of M-ComBat needs no care: its scores do not change, so nothing is added to it.
        """
        x = self.combat_.covariates_.columns(covariates or {}, len(harmonized))
        return self.combat_._standardised(harmonized, x)[:, self.combat_.harmonized_]
