"""Where a table breaks what ComBat assumes of it: enough scans a batch, and batches not confounded with biology."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

# Haberl et al. 2024, discussion: covariates need 20 to 30 patients for each in each batch; we hold a batch
# without covariates, and a new batch, to the same figure.
MINIMUM_SCANS = 20
COMFORTABLE_SCANS = 30

# Share of a variable that the batches explain, from which on a batch effect cannot be told from its effect: Cohen's
# "large" (Statistical Power Analysis, 1988: R^2 = 0.26 for a number, w = 0.5 and so 0.25 for a category).
CONFOUNDED_SHARE = 0.25


def small_batches(batch: Sequence[str], covariates: int = 0) -> tuple[str, ...]:
    """A sentence naming the batches with fewer scans than the rule of 20 for each covariate asks; none if all have."""
    needed = MINIMUM_SCANS * max(covariates, 1)
    labels, counts = np.unique(np.asarray(batch, dtype=str), return_counts=True)
    small = [f"'{label}' ({count})" for label, count in zip(labels, counts, strict=True) if count < needed]
    if not small:
        return ()
    why = f"the {needed} scans that {covariates} covariates need" if covariates > 1 else f"{needed} scans"
    return (f"batches with fewer than {why}: {', '.join(small)}; their correction is uncertain",)


def confounded(
    batch: Sequence[str],
    continuous: Mapping[str, Sequence[float]] | None = None,
    categorical: Mapping[str, Sequence] | None = None,
) -> tuple[str, ...]:
    """One sentence for each variable (a covariate, or the outcome) that the batches explain to a large part.

    Removing the batch then removes the variable too, or, where it is kept as a covariate, rests on extrapolation.
    """
    shares = {name: explained_share(batch, np.asarray(x, dtype=float)) for name, x in (continuous or {}).items()}
    shares |= {name: squared_association(batch, x) for name, x in (categorical or {}).items()}
    return tuple(
        f"'{name}' is confounded with the batches, which explain {share:.0%} of it; "
        "batch effect and biology cannot be told apart"
        for name, share in shares.items()
        if share >= CONFOUNDED_SHARE
    )


def distorted(label: str, own: np.ndarray, shrunk: np.ndarray, names: Sequence[str]) -> tuple[str, ...]:
    """One sentence where borrowing from the other features bends most of a batch's variances out of shape.

    own, shrunk: (features,) variances of batch `label`, before and after. The inverse gamma prior is fitted by its
    moments, so a few features of which this batch has a thousandfold variance (untransformed energies, say) pull all
    the others towards theirs. Told where half of the features change more than twofold.
    """
    change = np.abs(np.log2(np.maximum(shrunk, 1e-12) / np.maximum(own, 1e-12)))
    if np.median(change) <= 1:
        return ()
    extreme = ", ".join(names[i] for i in np.argsort(-np.abs(np.log(np.maximum(own, 1e-12))))[:3])
    return (
        f"the features of batch '{label}' vary too differently to borrow from each other (most of all {extreme}): half "
        "of its variances changed more than twofold; give these features in logarithms, or use shrinkage 'none'",
    )


def explained_share(batch: Sequence[str], number: np.ndarray) -> float:
    """Share of a number's variance that lies between batches, from 0 to 1, corrected for chance.

    omega^2 of a one-way analysis of variance (Hays 1963); entries that are not finite are left out.
    """
    keep = np.isfinite(number)
    number, groups = number[keep], np.unique(np.asarray(batch, dtype=str)[keep], return_inverse=True)[1]
    counts = np.bincount(groups)
    if len(counts) < 2 or len(number) <= len(counts) or np.ptp(number) == 0:
        return 0.0
    means = np.bincount(groups, number) / counts
    within = ((number - means[groups]) ** 2).sum()
    between = (counts * (means - number.mean()) ** 2).sum()
    noise = within / (len(number) - len(counts))
    return float(max((between - (len(counts) - 1) * noise) / (between + within + noise), 0.0))


def squared_association(batch: Sequence[str], category: Sequence) -> float:
    """Cramer's V squared between batch and a category, from 0 to 1, corrected for chance (Bergsma 2013)."""
    rows = np.unique(np.asarray(batch, dtype=str), return_inverse=True)[1]
    columns = np.unique(np.asarray(category, dtype=str), return_inverse=True)[1]
    n, r, c = len(rows), rows.max() + 1, columns.max() + 1
    if r < 2 or c < 2 or n < 3:
        return 0.0
    table = np.zeros((r, c))
    np.add.at(table, (rows, columns), 1)
    expected = np.outer(table.sum(1), table.sum(0)) / n
    phi2 = ((table - expected) ** 2 / expected).sum() / n
    corrected = max(phi2 - (r - 1) * (c - 1) / (n - 1), 0.0)
    smaller = min(r - (r - 1) ** 2 / (n - 1), c - (c - 1) ** 2 / (n - 1)) - 1
    return float(min(corrected / smaller, 1.0)) if smaller > 0 else 0.0
