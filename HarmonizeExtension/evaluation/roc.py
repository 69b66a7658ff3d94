"""The area under the ROC curve, and whether two of them differ.

DeLong et al., Biometrics 1988;44:837, by the midranks of Sun and Xu, IEEE Signal Process Lett 2014;21:1389.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from scipy import stats

from ..errors import InputError


def auc(outcome: np.ndarray, score: np.ndarray) -> float:
    """Area under the ROC curve of a score (scans,) for a boolean outcome (scans,); ties count half."""
    return float(_components(outcome, np.asarray(score, dtype=float)[None])[0][0])


@dataclasses.dataclass(frozen=True)
class DeLong:
    """Areas of the first and the second score, their standard errors, and the test of their difference.

    difference: second minus first, with its standard error, z, and two-sided p (1 where both scores rank alike).
    """

    auc: tuple[float, float]
    se: tuple[float, float]
    difference: float
    difference_se: float
    z: float
    p: float


def delong(outcome: np.ndarray, first: np.ndarray, second: np.ndarray) -> DeLong:
    """Two scores of the same scans (scans,) compared for a boolean outcome (scans,)."""
    areas, v10, v01 = _components(outcome, np.stack([first, second]).astype(float))
    if min(v10.shape[1], v01.shape[1]) < 2:
        raise InputError("DeLong's test needs two scans or more with the outcome and two or more without")
    covariance = np.cov(v10) / v10.shape[1] + np.cov(v01) / v01.shape[1]
    gap = float(areas[1] - areas[0])
    variance = float(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1])
    alike = variance <= 1e-15
    z = 0.0 if alike else gap / np.sqrt(variance)
    return DeLong(
        (float(areas[0]), float(areas[1])),
        (float(np.sqrt(covariance[0, 0])), float(np.sqrt(covariance[1, 1]))),
        gap,
        float(np.sqrt(max(variance, 0.0))),
        float(z),
        float(2 * stats.norm.sf(abs(z))),
    )


def roc_curve(outcome: np.ndarray, score: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """False and true positive rates (points,) from (0, 0) to (1, 1), one point a threshold."""
    outcome, score = _checked(outcome, np.asarray(score, dtype=float)[None])
    order = np.argsort(-score[0], kind="stable")
    ends = np.append(np.flatnonzero(np.diff(score[0][order])), len(order) - 1)
    true = np.cumsum(outcome[order])[ends] / outcome.sum()
    false = np.cumsum(~outcome[order])[ends] / (~outcome).sum()
    return np.append(0.0, false), np.append(0.0, true)


def _components(outcome: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Areas (scores,) and DeLong's structural components of the scans with (V10) and without (V01) the outcome."""
    outcome, scores = _checked(outcome, scores)
    positive, negative = scores[:, outcome], scores[:, ~outcome]
    m, n = positive.shape[1], negative.shape[1]
    among_all = stats.rankdata(np.hstack([positive, negative]), axis=1)
    v10 = (among_all[:, :m] - stats.rankdata(positive, axis=1)) / n
    v01 = 1 - (among_all[:, m:] - stats.rankdata(negative, axis=1)) / m
    return v10.mean(axis=1), v10, v01


def _checked(outcome: Sequence[bool], scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    outcome = np.asarray(outcome, dtype=bool)
    if scores.shape[1:] != outcome.shape or not np.isfinite(scores).all():
        raise InputError("give one finite score for each scan")
    if outcome.all() or not outcome.any():
        raise InputError("an ROC curve needs scans with the outcome and scans without")
    return outcome, scores
