"""How much all features together tell the scanners apart: can a classifier name the site, how far do clouds lie apart?

After harmonization the area under the curve should be near 0.5 and the discrepancy near 0; tests one feature at a time
(`site_effect`) do not see what only the combination of features betrays. All scans of a person are in one fold, since
a model would know the person again, and with it the site. The classifier is linear, so it sees means
only: scanners that differ in spread or form alone have an area of 0.5, and the discrepancy is what finds them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

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
    arm: Arm,
    site: np.ndarray,
    rng: np.random.Generator,
    folds: int = 5,
    c: float = 1.0,
    person: Sequence[str] | None = None,
) -> SitePrediction:
    """Can a ridge logistic regression tell each site from the others by the features that an arm (see `arms`) gives?

    site: (scans,) labels; person: (scans,), whose scan it is, by default every time another one's. Each person is
    judged by a model, and by a harmonization, that did not see them; folds are stratified by site. Features that are
    not finite everywhere are left out.
    Raises InputError for a site with fewer than two people a fold, and where the arm cannot be fitted in a fold.
    """
    site = np.asarray(site, dtype=str)
    _, owner = np.unique(np.arange(len(site)) if person is None else np.asarray(person), return_inverse=True)
    names = np.unique(site)
    fewest = min(len(set(owner[site == name])) for name in names)
    if len(names) < 2 or fewest < 2 * folds:
        raise InputError(
            f"{len(names)} sites, the smallest with {fewest} scans of different people; "
            f"give two sites or more with {2 * folds} each, or ask for fewer folds"
        )
    # Whoever was scanned at several sites counts for the one with the fewest scans.
    rarity = {name: int(np.sum(site == name)) for name in names}
    home = [min(set(site[owner == one]), key=lambda name: (rarity[name], name)) for one in range(owner.max() + 1)]
    fold = stratified_folds(np.array(home), folds, rng)[owner]
    aucs: dict[str, list[float]] = {str(name): [] for name in names}
    for k in range(folds):
        train, test = np.flatnonzero(fold != k), np.flatnonzero(fold == k)
        known, new = arm(train, test)
        finite = np.isfinite(known).all(axis=0) & np.isfinite(new).all(axis=0)
        for name, found in aucs.items():
            if len(set(site[test] == name)) < 2 or len(set(site[train] == name)) < 2:
                continue  # of people with several sites each, a fold may have none of a site
            model = LogisticRegression.fit(known[:, finite], site[train] == name, c)
            found.append(auc(site[test] == name, model.probability(new[:, finite])))
    by_site = {name: float(np.mean(found)) if found else float("nan") for name, found in aucs.items()}
    return SitePrediction(float(np.nanmean(list(by_site.values()))), by_site, folds)


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
    first: np.ndarray,
    second: np.ndarray,
    rng: np.random.Generator,
    permutations: int = 500,
    person: tuple[Sequence[str], Sequence[str]] | None = None,
) -> Discrepancy:
    """Maximum mean discrepancy of two clouds of scans (scans, features) each (Gretton et al., JMLR 2012;13:723, eq. 3).

    Features in standard deviations of both together; Gaussian kernel with the median distance as its width (the
    paper's section 8). p by permuting the labels. person: whose the scans of each cloud are; labels are then
    permuted among people with all of their scans, and, of people with scans in both clouds, among these scans.
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
        m, n = weight.sum(), (1 - weight).sum()
        if min(m, n) < 2:
            return -np.inf  # people with many scans each can leave a side without
        across = kernel @ weight
        xx, xy = weight @ across, (1 - weight) @ across
        yy = kernel.sum() - xx - 2 * xy
        return float(xx / (m * (m - 1)) + yy / (n * (n - 1)) - 2 * xy / (m * n))

    side = np.repeat([1.0, 0.0], [m, n])
    found = mmd2(side)
    owner = np.arange(m + n) if person is None else np.concatenate([np.asarray(p) for p in person])
    shuffle = _shuffling(side, owner)
    more = sum(mmd2(shuffle(rng)) >= found for _ in range(permutations))
    return Discrepancy(found, (more + 1) / (permutations + 1))


def _shuffling(side: np.ndarray, owner: np.ndarray) -> Callable[[np.random.Generator], np.ndarray]:
    """What draws a permutation of the sides (scans,) that respects whose scan each is."""
    _, first_scan, index = np.unique(owner, return_index=True, return_inverse=True)
    on_one = np.array([np.ptp(side[index == one]) == 0 for one in range(len(first_scan))])
    both = [np.flatnonzero(index == one) for one in np.flatnonzero(~on_one)]

    def draw(rng: np.random.Generator) -> np.ndarray:
        of_person = side[first_scan].copy()
        of_person[on_one] = rng.permutation(of_person[on_one])
        drawn = of_person[index]
        for scans in both:
            drawn[scans] = rng.permutation(side[scans])
        return drawn

    return draw
