"""Scanner labels proposed from the features alone, where no tag tells which scans belong together.

A mixture of normal distributions with one covariance on the leading principal components; the number of groups is the
one with the lowest Bayesian information criterion (Schwarz 1978). Groups that differ in spread alone are not seen: a
covariance for each group would need more scans than there are. Da-Ano et al. (Sci Rep 2020) harmonize by proposed
groups where there are too many scanners for ComBat. The groups may as well be kinds of patients, so a person should
look at them, and `assumptions.confounded` should be asked whether they follow the outcome.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from scipy import linalg, special
from scipy.spatial.distance import cdist

from ..errors import InputError

EXPLAINED = 0.9  # share of the variance whose principal components are looked at
MOST_COMPONENTS = 8  # beyond which a mixture needs more scans than there are
_STARTS = 5
_STEPS = 200


@dataclasses.dataclass(frozen=True)
class Proposal:
    """Proposed labels (scans,) "group 1" ..., largest first, and how far to trust them.

    A group of a few scans holds outliers: too few to harmonize (`assumptions.small_batches` says so), worth a look.
    silhouette: mean silhouette (Rousseeuw 1987), 1 for groups far apart, 0 for touching ones; NaN for one group.
    bic: by number of groups tried, lower is better.
    """

    labels: tuple[str, ...]
    silhouette: float
    bic: dict[int, float]

    @property
    def count(self) -> int:
        """The number of groups; 1 where the features show none."""
        return len(set(self.labels))


def propose_labels(values: np.ndarray, rng: np.random.Generator, most: int = 6) -> Proposal:
    """Groups of scans (scans, features) that look alike, at most `most` of them.

    Features that are constant or not finite somewhere are not looked at. The same generator gives the same labels.
    """
    scores = _principal_scores(np.asarray(values, dtype=float))
    n, d = scores.shape
    if n < 10 * most:
        most = max(n // 10, 1)  # a group of fewer scans could not be harmonized anyway
    fits = {count: _mixture(scores, count, rng) for count in range(1, most + 1)}
    # Parameters: means and weights of the groups, and the covariance that all share.
    bic = {count: (count * d + count - 1 + d * (d + 1) / 2) * np.log(n) - 2 * fit[0] for count, fit in fits.items()}
    label = fits[min(bic, key=bic.get)][1]
    used, index, sizes = np.unique(label, return_inverse=True, return_counts=True)
    rank = np.empty(len(used), int)
    rank[np.argsort(-sizes, kind="stable")] = np.arange(len(used))
    return Proposal(
        tuple(f"group {rank[i] + 1}" for i in index.reshape(-1)),
        silhouette(scores, label) if len(used) > 1 else float("nan"),
        {count: float(value) for count, value in bic.items()},
    )


def silhouette(points: np.ndarray, label: np.ndarray) -> float:
    """Mean silhouette of points (scans, dimensions) in groups (scans,); a point alone in its group counts as 0.

    (b - a) / max(a, b), with a the mean distance to its own group and b to the nearest other (Rousseeuw 1987).
    """
    groups, index, sizes = np.unique(label, return_inverse=True, return_counts=True)
    if len(groups) < 2:
        raise InputError("one group has no silhouette; give two or more")
    index = index.reshape(-1)
    total = cdist(points, points) @ np.eye(len(groups))[index]  # (scans, groups): summed distances
    mean = total / sizes
    rows = np.arange(len(points))
    own = total[rows, index] / np.maximum(sizes[index] - 1, 1)
    mean[rows, index] = np.inf
    other = mean.min(axis=1)
    larger = np.maximum(own, other)
    return float(
        np.mean(np.where((sizes[index] > 1) & (larger > 0), (other - own) / np.where(larger > 0, larger, 1), 0))
    )


def _principal_scores(values: np.ndarray) -> np.ndarray:
    """Scores (scans, components) of the standardised features, the components that explain most."""
    if values.ndim != 2 or len(values) < 10:
        raise InputError(f"a table of shape {values.shape} is too small for groups; give 10 scans or more")
    finite = np.isfinite(values).all(axis=0)
    use = finite & (np.ptp(np.where(finite, values, 0), axis=0) > 0)
    if not use.any():
        raise InputError("no feature is finite in every scan and varies; there is nothing to group by")
    z = (values[:, use] - values[:, use].mean(axis=0)) / values[:, use].std(axis=0)
    u, singular, _ = np.linalg.svd(z, full_matrices=False)
    share = np.cumsum(singular**2) / np.sum(singular**2)
    count = min(int(np.searchsorted(share, EXPLAINED)) + 1, MOST_COMPONENTS)
    return u[:, :count] * singular[:count]


def _mixture(points: np.ndarray, count: int, rng: np.random.Generator) -> tuple[float, np.ndarray]:
    """Log-likelihood and labels of the best of several mixtures of `count` normal distributions."""
    fits = [_expectation_maximisation(points, _spread_centres(points, count, rng)) for _ in range(_STARTS)]
    return max(fits, key=lambda fit: fit[0])


def _spread_centres(points: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Points far from each other: each drawn with a chance as its squared distance to those before (k-means++)."""
    centres = points[[rng.integers(len(points))]]
    while len(centres) < count:
        squared = cdist(points, centres, "sqeuclidean").min(axis=1)
        centres = np.vstack([centres, points[rng.choice(len(points), p=squared / squared.sum())]])
    return centres


def _expectation_maximisation(points: np.ndarray, means: np.ndarray) -> tuple[float, np.ndarray]:
    n, d = points.shape
    covariance = np.diag(points.var(axis=0)) / len(means)
    floor = 1e-6 * np.diag(points.var(axis=0))
    weights = np.full(len(means), 1 / len(means))
    last = -np.inf
    for _ in range(_STEPS):
        root = np.linalg.cholesky(covariance + floor)
        white, centres = (linalg.solve_triangular(root, x.T, lower=True).T for x in (points, means))
        squared = cdist(white, centres, "sqeuclidean")
        joint = np.log(weights) - 0.5 * squared - np.log(np.diag(root)).sum() - 0.5 * d * np.log(2 * np.pi)
        evidence = special.logsumexp(joint, axis=1)
        likelihood = float(evidence.sum())
        if abs(likelihood - last) < 1e-5 * n:
            break
        last = likelihood
        share = np.exp(joint - evidence[:, None])
        mass = share.sum(axis=0) + 1e-12
        weights = mass / mass.sum()
        means = share.T @ points / mass[:, None]
        covariance = (points.T @ points - (means.T * mass) @ means) / n
    return likelihood, joint.argmax(axis=1)
