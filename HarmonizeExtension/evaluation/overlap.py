"""How far two scanners' distributions of a feature overlap, and whether harmonization brings them together.

The overlap coefficient of Weitzman (1970), as in Haberl et al., EJNMMI 2024, section 2.5.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from scipy import integrate, stats

from ..errors import InputError

_POINTS = 1000  # at which the densities are compared
MINIMUM_FEATURES = 6  # of a class for Wilcoxon's test: five pairs cannot reach p < 0.05 (two-sided, exact)


def overlap_coefficient(first: np.ndarray, second: np.ndarray) -> float:
    """Common area under the densities of two samples (1D), 0 for apart and 1 for equal.

    Densities by Gaussian kernels of Scott's width (1992), on 1000 points from three widths below the smallest value to
    three above the largest. A sample without spread has no density: then histograms with the bins of Freedman and
    Diaconis (1981) of both together are compared.
    """
    first, second = np.asarray(first, dtype=float), np.asarray(second, dtype=float)
    if min(len(first), len(second)) < 2 or not (np.isfinite(first).all() and np.isfinite(second).all()):
        raise InputError("a distribution needs two finite values or more")
    together = np.concatenate([first, second])
    size = np.abs(together).max()
    if min(np.std(first), np.std(second)) <= 1e-9 * size:
        edges = np.histogram_bin_edges(together, "fd" if np.ptp(together) > 1e-9 * size else 1)
        shares = [np.histogram(x, edges)[0] / len(x) for x in (first, second)]
        return float(np.minimum(*shares).sum())
    widths = [np.std(x, ddof=1) * len(x) ** -0.2 for x in (first, second)]
    reach = 3 * max(widths)
    grid = np.linspace(together.min() - reach, together.max() + reach, _POINTS)
    densities = [
        np.exp(-0.5 * ((grid[:, None] - x) / width) ** 2).mean(axis=1) / (width * np.sqrt(2 * np.pi))
        for x, width in zip((first, second), widths, strict=True)
    ]
    return float(min(integrate.trapezoid(np.minimum(*densities), grid), 1.0))


@dataclasses.dataclass(frozen=True)
class OverlapGain:
    """Of one feature class: overlap before and after, mean and sd of the gain, and Wilcoxon's p.

    before, after: (features,); p is NaN where the class has too few features for the test.
    """

    feature_class: str
    before: np.ndarray
    after: np.ndarray
    mean_gain: float
    sd_gain: float
    p: float


def overlap_gain(
    first: np.ndarray,
    second: np.ndarray,
    first_harmonized: np.ndarray,
    second_harmonized: np.ndarray,
    classes: Sequence[str],
) -> list[OverlapGain]:
    """The overlap of two scanners before and after harmonization, by feature class (Haberl et al. 2024, Table 2).

    first, second: (scans, features) of the two scanners, and the same harmonized; classes: (features,) the class of
    each. Wilcoxon's signed-rank test pairs the features of a class.
    """
    tables = [np.asarray(x, dtype=float) for x in (first, second, first_harmonized, second_harmonized)]
    if len({table.shape[1] for table in tables} | {len(classes)}) != 1:
        raise InputError("the tables and the classes do not have the same number of features")
    before, after = (
        np.array([overlap_coefficient(a, b) for a, b in zip(x.T, y.T, strict=True)])
        for x, y in (tables[:2], tables[2:])
    )
    gains = []
    for name in dict.fromkeys(classes):
        use = np.array([c == name for c in classes])
        gain = after[use] - before[use]
        testable = len(gain) >= MINIMUM_FEATURES and np.any(gain != 0)
        p = float(stats.wilcoxon(gain).pvalue) if testable else float("nan")
        sd = float(gain.std(ddof=1)) if len(gain) > 1 else float("nan")
        gains.append(OverlapGain(name, before[use], after[use], float(gain.mean()), sd, p))
    return gains
