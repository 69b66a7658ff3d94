"""How much all features together tell the scanners apart: can a classifier name the site, how far do clouds lie apart?

After harmonization the area under the curve should be near 0.5 and the discrepancy near 0; tests one feature at a time
(`site_effect`) do not see what only the combination of features betrays. The classifier is linear, so it sees means
only: scanners that differ in spread or form alone have an area of 0.5, and the discrepancy is what finds them.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from scipy.spatial.distance import cdist, pdist

from ..errors import InputError
from .arms import Arm
from .logistic import LogisticRegression
from .roc import auc


@dataclasses.dataclass(frozen=True)
class SitePrediction:
    """`auc`: mean over the sites of the cross-validated area under the curve of "this site or another"; `by_site`."""

    auc: float
    by_site: dict[str, float]
    folds: int


def site_prediction(
    arm: Arm, site: np.ndarray, rng: np.random.Generator, folds: int = 5, c: float = 1.0
) -> SitePrediction:
    """Can a ridge logistic regression tell each site from the others by the features that an arm (see `arms`) gives?

    site: (scans,) labels. Each scan is judged by a model, and by a harmonization, that did not see it; folds are
    stratified by site. Features that are not finite everywhere are left out.
    Raises InputError for a site with fewer than two scans a fold.
    """
    site = np.asarray(site, dtype=str)
    names, counts = np.unique(site, return_counts=True)
    if len(names) < 2 or counts.min() < 2 * folds:
        raise InputError(
            f"{len(names)} sites, the smallest with {counts.min()} scans; "
            f"give two sites or more with {2 * folds} scans each, or ask for fewer folds"
        )
    fold = stratified_folds(site, folds, rng)
    aucs: dict[str, list[float]] = {str(name): [] for name in names}
    for k in range(folds):
        train, test = np.flatnonzero(fold != k), np.flatnonzero(fold == k)
        known, new = arm(train, test)
        finite = np.isfinite(known).all(axis=0) & np.isfinite(new).all(axis=0)
        for name, found in aucs.items():
            model = LogisticRegression.fit(known[:, finite], site[train] == name, c)
            found.append(auc(site[test] == name, model.probability(new[:, finite])))
    by_site = {name: float(np.mean(found)) for name, found in aucs.items()}
    return SitePrediction(float(np.mean(list(by_site.values()))), by_site, folds)


def stratified_folds(label: np.ndarray, folds: int, rng: np.random.Generator) -> np.ndarray:
    """A fold 0 ... folds - 1 for each scan (scans,), every label spread evenly over the folds."""
    fold = np.empty(len(label), int)
    for name in np.unique(label):
        members = np.flatnonzero(label == name)
        fold[rng.permutation(members)] = (np.arange(len(members)) + rng.integers(folds)) % folds
    return fold


@dataclasses.dataclass(frozen=True)
class Discrepancy:
    """Squared maximum mean discrepancy (unbiased, near 0 for equal distributions, may be below) and its p."""

    mmd2: float
    p: float


def discrepancy(
    first: np.ndarray, second: np.ndarray, rng: np.random.Generator, permutations: int = 500
) -> Discrepancy:
    """Maximum mean discrepancy of two clouds of scans (scans, features) each (Gretton et al., JMLR 2012;13:723, eq. 3).

    Features in standard deviations of both together; Gaussian kernel with the median distance as its width (the
    paper's section 8). p by permuting the labels.
    """
    first, second = np.asarray(first, dtype=float), np.asarray(second, dtype=float)
    m, n = len(first), len(second)
    if min(m, n) < 2:
        raise InputError("a discrepancy needs two scans or more on each side")
    together = np.concatenate([first, second])
    use = np.isfinite(together).all(axis=0)
    use &= np.std(np.where(use, together, 0), axis=0) > 0
    if not use.any():
        return Discrepancy(0.0, 1.0)
    z = (together[:, use] - together[:, use].mean(axis=0)) / together[:, use].std(axis=0)
    kernel = np.exp(-cdist(z, z, "sqeuclidean") / (2 * np.median(pdist(z)) ** 2 + np.finfo(float).tiny))
    np.fill_diagonal(kernel, 0.0)

    def mmd2(weight: np.ndarray) -> float:
        """With `weight` 1 for scans of the first side, 0 for the second."""
        across = kernel @ weight
        xx, xy = weight @ across, (1 - weight) @ across
        yy = kernel.sum() - xx - 2 * xy
        return float(xx / (m * (m - 1)) + yy / (n * (n - 1)) - 2 * xy / (m * n))

    side = np.repeat([1.0, 0.0], [m, n])
    found = mmd2(side)
    more = sum(mmd2(rng.permutation(side)) >= found for _ in range(permutations))
    return Discrepancy(found, (more + 1) / (permutations + 1))
