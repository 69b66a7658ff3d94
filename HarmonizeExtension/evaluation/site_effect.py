"""How much of a feature table tells the scanners apart: tests one feature at a time."""

from __future__ import annotations

import dataclasses
import math
import warnings
from collections.abc import Mapping

import numpy as np
from scipy import stats

from ..errors import InputError

SMALLEST_SCANNER = 3  # scans; of fewer the spread, which Welch's test rests on, is hardly known


def differing_share(values: Mapping[str, np.ndarray], alpha: float = 0.05) -> dict[str, float]:
    """Share of features in which a scanner differs from all the others together, by scanner.

    values: by scanner, one row a scan and one column a feature (scans, features), the same features for each.
    A feature differs where the two-sided two-sample Kolmogorov-Smirnov test of this scanner's values against those of
    all the others gives p < alpha, not corrected for multiple testing; so `alpha` itself is expected where scanners
    are alike; NaN for a scanner with so few scans that the test cannot give such a p. Features that are not finite
    somewhere are left out.
    Source: Fatania et al., Phys Imaging Radiat Oncol 2022, section 2.4 (the paper reports the mean over scanners).
    """
    return site_effect(values, alpha).ks_share


@dataclasses.dataclass(frozen=True)
class SiteEffect:
    """Each scanner against all the others together, feature by feature.

    scanners: names; features: indices of the features that were tested (those finite in every scan).
    ks_p, welch_p: (scanners, features) p-values of the two-sided Kolmogorov-Smirnov and Welch's t test.
    ks_least_p: (scanners,), what the Kolmogorov-Smirnov test gives where a scanner's values lie all apart from the
    others: where that is not below alpha no feature could differ, and the share does not exist (NaN), corrected or not.
    alpha: below which a feature differs.
    """

    scanners: tuple[str, ...]
    features: np.ndarray
    ks_p: np.ndarray
    welch_p: np.ndarray
    ks_least_p: np.ndarray
    alpha: float

    @property
    def ks_share(self) -> dict[str, float]:
        """Share of features whose distribution differs, by scanner, as the paper counts: no correction."""
        return self._ks_shares(self.ks_p)

    @property
    def welch_share(self) -> dict[str, float]:
        """Share of features whose mean differs, by scanner, no correction."""
        return self._shares(self.welch_p)

    @property
    def ks_share_corrected(self) -> dict[str, float]:
        """As `ks_share`, with the false discovery rate of each scanner's features held at alpha."""
        return self._ks_shares(np.apply_along_axis(benjamini_hochberg, 1, self.ks_p))

    @property
    def welch_share_corrected(self) -> dict[str, float]:
        """As `welch_share`, with the false discovery rate of each scanner's features held at alpha."""
        return self._shares(np.apply_along_axis(benjamini_hochberg, 1, self.welch_p))

    def _ks_shares(self, p: np.ndarray) -> dict[str, float]:
        possible = zip(self.scanners, self.ks_least_p < self.alpha, strict=True)
        shares = self._shares(p)
        return {name: shares[name] if reached else float("nan") for name, reached in possible}

    def _shares(self, p: np.ndarray) -> dict[str, float]:
        return {name: float(np.mean(row < self.alpha)) for name, row in zip(self.scanners, p, strict=True)}


def site_effect(values: Mapping[str, np.ndarray], alpha: float = 0.05) -> SiteEffect:
    """The tests of Fatania et al. 2022, section 2.4: `values` by scanner, (scans, features) each.

    A feature that is constant everywhere does not differ (p = 1). Raises InputError for fewer than two scanners, for a
    scanner with fewer than three scans, and where no feature is finite in every scan.
    """
    values = {name: np.asarray(rows, dtype=float) for name, rows in values.items()}
    small = [name for name, rows in values.items() if len(rows) < SMALLEST_SCANNER]
    if len(values) < 2 or small:
        raise InputError(
            f"{len(values)} scanners, too few scans of {', '.join(small) or 'none'}; "
            f"give at least two scanners with {SMALLEST_SCANNER} scans each"
        )
    finite = np.flatnonzero(np.all([np.isfinite(rows).all(axis=0) for rows in values.values()], axis=0))
    if not len(finite):
        raise InputError("no feature is finite in every scan; measure larger structures")
    ks_p, welch_p = [], []
    for name in values:
        own = values[name][:, finite]
        rest = np.concatenate([rows[:, finite] for label, rows in values.items() if label != name])
        with warnings.catch_warnings():  # where the exact p cannot be computed, the asymptotic one serves
            warnings.filterwarnings("ignore", "ks_2samp: Exact calculation unsuccessful", RuntimeWarning)
            ks_p.append(stats.ks_2samp(own, rest, axis=0).pvalue)
        welch_p.append(_welch_p(own, rest))
    scans = sum(map(len, values.values()))
    # Of all orders of the values, two have one group before the other.
    least = np.array([2 / math.comb(scans, len(rows)) for rows in values.values()])
    return SiteEffect(tuple(values), finite, np.array(ks_p), np.array(welch_p), least, alpha)


def _welch_p(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Welch's t test (1947) of each column; written out since a constant column has no t."""
    gap = a.mean(axis=0) - b.mean(axis=0)
    se = np.stack([a.var(axis=0, ddof=1) / len(a), b.var(axis=0, ddof=1) / len(b)])
    total = se.sum(axis=0)
    flat = total <= (1e-12 * np.maximum(np.abs(a).max(axis=0), np.abs(b).max(axis=0))) ** 2
    safe = np.where(flat, 1.0, total)
    free = safe**2 / np.where(flat, 1.0, (se[0] ** 2) / (len(a) - 1) + (se[1] ** 2) / (len(b) - 1))
    p = 2 * stats.t.sf(np.abs(gap) / np.sqrt(safe), free)
    # Two constants: equal, or as different as can be.
    equal = np.abs(gap) <= 1e-12 * np.maximum(np.abs(a).max(axis=0), np.abs(b).max(axis=0))
    return np.where(flat, np.where(equal, 1.0, 0.0), p)


def benjamini_hochberg(p: np.ndarray) -> np.ndarray:
    """p-values (tests,) adjusted so that `adjusted < q` holds the false discovery rate at q.

    Benjamini and Hochberg, J R Stat Soc B 1995;57:289.
    """
    return stats.false_discovery_control(p)


def variance_explained(values: np.ndarray, site: np.ndarray) -> np.ndarray:
    """Share of each feature's variance that lies between the sites, R^2 of (scans, features) on (scans,) labels.

    From 0 (all sites have one mean) to 1; among s alike sites of n scans about (s - 1) / (n - 1) is expected. NaN for a
    feature that is constant or not finite.
    """
    values = np.asarray(values, dtype=float)
    groups = np.unique(np.asarray(site, dtype=str), return_inverse=True)[1].reshape(-1)
    indicator = np.eye(groups.max() + 1)[groups]
    means = indicator.T @ values / indicator.sum(axis=0)[:, None]
    grand = values.mean(axis=0)
    total = ((values - grand) ** 2).sum(axis=0)
    between = (indicator.sum(axis=0)[:, None] * (means - grand) ** 2).sum(axis=0)
    return between / np.where(total > 0, total, np.nan)
