"""Do two measurements of the same thing agree? Concordance, intraclass correlation, limits of agreement.

Lin, Biometrics 1989;45:255 (CCC). Shrout and Fleiss, Psychol Bull 1979;86:420 (ICC), with the confidence intervals of
McGraw and Wong, Psychol Methods 1996;1:30. Bland and Altman, Lancet 1986;327:307.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from scipy import stats

from ..errors import InputError

REPRODUCIBLE = 0.85  # above which a feature counts as reproducible (Selim et al. 2021, section 4.1)

# The windows of Selim et al. 2021, Table 1: lung, soft tissue, bone.
HU_STRATA = ((-800.0, -300.0), (-100.0, 250.0), (300.0, 800.0))


def concordance(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Lin's concordance correlation coefficient of each feature; first, second: (scans, features) or (scans,).

    2 s_xy / (s_x^2 + s_y^2 + (mean x - mean y)^2) with moments over n. NaN for a feature that varies in neither, or
    that is not finite somewhere.
    """
    first, second = np.asarray(first, dtype=float), np.asarray(second, dtype=float)
    if first.shape != second.shape or len(first) < 2:
        raise InputError(f"measurements of shapes {first.shape} and {second.shape} are not two or more pairs")
    a, b = first - first.mean(axis=0), second - second.mean(axis=0)
    spread = (a * a).mean(axis=0) + (b * b).mean(axis=0) + (first.mean(axis=0) - second.mean(axis=0)) ** 2
    return 2 * (a * b).mean(axis=0) / np.where(spread > 0, spread, np.nan)


@dataclasses.dataclass(frozen=True)
class StratumCount:
    """Of the regions whose mean lies in a range of HU: how many features are reproducible, and which.

    ccc: (features,); features: how many have one; share: of these, NaN where none has.
    """

    low_hu: float
    high_hu: float
    regions: int
    features: int
    reproducible: int
    share: float
    ccc: np.ndarray


def reproducible_by_stratum(
    first: np.ndarray,
    second: np.ndarray,
    mean_hu: np.ndarray,
    strata: tuple[tuple[float, float], ...] = HU_STRATA,
    threshold: float = REPRODUCIBLE,
) -> list[StratumCount]:
    """Features with CCC above `threshold`, counted apart for regions of each range of HU (RadiomicGAN, Table 1).

    first, second: (regions, features) of the same regions on two images; mean_hu: (regions,), of the standard image.
    A stratum with fewer than three regions has NaN for every CCC and the share; a feature that varies in neither image
    has NaN as well, and does not count.
    """
    first, second, mean_hu = (np.asarray(x, dtype=float) for x in (first, second, mean_hu))
    counts = []
    for low, high in strata:
        inside = (mean_hu >= low) & (mean_hu <= high)
        enough = inside.sum() >= 3
        ccc = concordance(first[inside], second[inside]) if enough else np.full(first.shape[1], np.nan)
        known, good = int(np.isfinite(ccc).sum()), int(np.sum(ccc > threshold))
        share = good / known if known else float("nan")
        counts.append(StratumCount(low, high, int(inside.sum()), known, good, share, ccc))
    return counts


@dataclasses.dataclass(frozen=True)
class Interval:
    """An estimate with its confidence interval."""

    value: float
    low: float
    high: float


@dataclasses.dataclass(frozen=True)
class Intraclass:
    """`agreement` is ICC(2,1), where scanners' offsets count as disagreement; `consistency` is ICC(3,1), where not."""

    agreement: Interval
    consistency: Interval


def intraclass(ratings: np.ndarray, confidence: float = 0.95) -> Intraclass:
    """ICC(2,1) and ICC(3,1) of one feature: ratings (subjects, scanners), each subject on each scanner.

    NaN where the feature does not vary at all or is not finite.
    """
    ratings = np.asarray(ratings, dtype=float)
    if ratings.ndim != 2 or min(ratings.shape) < 2:
        raise InputError(f"ratings of shape {ratings.shape} are too few; give two subjects on two scanners or more")
    n, k = ratings.shape
    if not np.isfinite(ratings).all() or np.ptp(ratings) == 0:
        missing = Interval(np.nan, np.nan, np.nan)
        return Intraclass(missing, missing)
    grand = ratings.mean()
    subjects, raters = ratings.mean(axis=1) - grand, ratings.mean(axis=0) - grand
    residual = ratings - grand - subjects[:, None] - raters[None, :]
    free = (n - 1) * (k - 1)
    # Mean squares between subjects, between raters, and of the residual.
    bms, jms = k * (subjects**2).sum() / (n - 1), n * (raters**2).sum() / (k - 1)
    ems = max((residual**2).sum() / free, np.finfo(float).tiny)
    level = 1 - (1 - confidence) / 2

    f = bms / ems
    low, high = f / stats.f.ppf(level, n - 1, free), f * stats.f.ppf(level, free, n - 1)
    consistency = Interval(*(float((x - 1) / (x + k - 1)) for x in (f, low, high)))

    value = (bms - ems) / (bms + (k - 1) * ems + k * (jms - ems) / n)
    fj = jms / ems
    spread = n * (1 + (k - 1) * value) - k * value  # Satterthwaite's degrees of freedom, Shrout and Fleiss p. 424
    v = free * (k * value * fj + spread) ** 2 / ((n - 1) * k**2 * value**2 * fj**2 + spread**2)
    above, below = stats.f.ppf(level, n - 1, v), stats.f.ppf(level, v, n - 1)
    rest = k * jms + (k * n - k - n) * ems
    low = n * (bms - above * ems) / (above * rest + n * bms)
    high = n * (below * bms - ems) / (rest + n * below * bms)
    return Intraclass(Interval(float(value), float(low), float(high)), consistency)


@dataclasses.dataclass(frozen=True)
class BlandAltman:
    """Mean difference (second minus first), its standard deviation, and the 95 % limits of agreement."""

    bias: float
    sd: float
    lower: float
    upper: float
    mean: np.ndarray
    difference: np.ndarray


def bland_altman(first: np.ndarray, second: np.ndarray) -> BlandAltman:
    """Limits of agreement, bias -+ 1.96 sd, of two measurements (n,) of the same things, in their unit.

    `mean` and `difference` (n,) are the points of the plot.
    """
    first, second = np.asarray(first, dtype=float), np.asarray(second, dtype=float)
    if first.shape != second.shape or first.ndim != 1 or len(first) < 2:
        raise InputError(f"measurements of shapes {first.shape} and {second.shape} are not two or more pairs")
    difference = second - first
    bias, sd = float(difference.mean()), float(difference.std(ddof=1))
    return BlandAltman(bias, sd, bias - 1.96 * sd, bias + 1.96 * sd, (first + second) / 2, difference)
