"""What one batch does to the features, each estimate borrowing strength from the other features of that batch.

The estimates of ComBat (Johnson, Li, Rabinovic, Biostatistics 2007;8:118, sections 3.2 and 3.3): a shift and a variance
for each feature, shrunk towards those of the other features, since a small batch alone says little about each.
"""

from __future__ import annotations

import dataclasses

import numpy as np

SHRINKAGES = ("parametric", "non-parametric", "none")

_TOLERANCE = 1e-8  # of the fixed point; both estimates are of the order of 1
_MAX_STEPS = 10_000


@dataclasses.dataclass(frozen=True)
class BatchEffect:
    """A batch's additive and multiplicative effect on each feature, in pooled standard deviations.

    shift: (features,), gamma* of the paper; variance: (features,), delta*^2.
    """

    shift: np.ndarray
    variance: np.ndarray


def batch_effect(standardised: np.ndarray, shrinkage: str, mean_only: bool) -> BatchEffect:
    """The effect of a batch from its standardised values (scans, features).

    shrinkage: "parametric" (normal and inverse gamma priors), "non-parametric" (the other features are the prior) or
    "none". mean_only leaves the variance at 1; the shift is then shrunk by the number of scans as always, where sva and
    neuroCombat reckon with one scan and so leave much of it in place. A variance of 0 that nothing shrinks counts as 1:
    it says no more than that the batch has too few scans. Fewer than two features leave nothing to borrow from, so
    nothing is shrunk.
    """
    n, features = standardised.shape
    shift = standardised.mean(axis=0)
    variance = np.ones(features) if mean_only else standardised.var(axis=0, ddof=1)
    if shrinkage == "none" or features < 2:
        return BatchEffect(shift, np.where(variance > 0, variance, 1.0))
    squares = ((standardised - shift) ** 2).sum(axis=0)
    if shrinkage == "non-parametric":
        return _non_parametric(n, shift, variance, squares, mean_only)
    if mean_only:
        return BatchEffect(_posterior_shift(n, shift, variance, shift.mean(), shift.var(ddof=1)), variance)
    return _parametric(n, shift, variance, squares)


def _posterior_shift(n: int, shift: np.ndarray, variance: np.ndarray, mean: float, spread: float) -> np.ndarray:
    """Expected shift given a variance, under a normal prior of this mean and variance (`spread`) over the features."""
    return (spread * n * shift + variance * mean) / np.maximum(spread * n + variance, np.finfo(float).tiny)


def _parametric(n: int, shift: np.ndarray, variance: np.ndarray, squares: np.ndarray) -> BatchEffect:
    """The fixed point of the two conditional expectations.

    The prior of the variance is an inverse gamma with a = (2 s + m^2) / s and b = (m s + m^3) / s, where m and s are
    mean and variance of the variances over the features. Both are multiplied by s here, so that s = 0 needs no care.
    """
    mean, spread = shift.mean(), shift.var(ddof=1)
    m, s = variance.mean(), variance.var(ddof=1)
    new_variance = variance
    for _ in range(_MAX_STEPS):
        new_shift = _posterior_shift(n, shift, new_variance, mean, spread)
        total = squares + n * (shift - new_shift) ** 2
        last, new_variance = new_variance, (0.5 * total * s + m * s + m**3) / ((n / 2 + 1) * s + m**2)
        # The shift follows from the variance, so one of them says whether both stand still.
        if np.all(np.abs(new_variance - last) <= _TOLERANCE * new_variance):
            break
    return BatchEffect(_posterior_shift(n, shift, new_variance, mean, spread), new_variance)


def _non_parametric(
    n: int, shift: np.ndarray, variance: np.ndarray, squares: np.ndarray, mean_only: bool
) -> BatchEffect:
    """Mean of the other features' estimates, each weighted by the likelihood of this feature's values under it.

    In logarithms: with many scans every likelihood is smaller than the smallest float.
    """
    floor = np.where(variance > 0, variance, 1.0)
    # (feature, candidate): squares about the candidate's shift, without a pass over the scans for every pair
    about = squares[:, None] + n * (shift[:, None] - shift[None, :]) ** 2
    log_likelihood = -0.5 * n * np.log(2 * np.pi * floor) - about / (2 * floor)
    np.fill_diagonal(log_likelihood, -np.inf)
    weight = np.exp(log_likelihood - log_likelihood.max(axis=1, keepdims=True))
    weight /= weight.sum(axis=1, keepdims=True)
    return BatchEffect(weight @ shift, floor if mean_only else weight @ floor)
