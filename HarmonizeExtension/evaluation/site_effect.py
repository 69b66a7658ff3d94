"""How much of a feature table tells the scanners apart."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from scipy import stats

from ..errors import InputError

MINIMUM_SCANS = 3  # of a scanner, below which no test can find anything


def differing_share(values: Mapping[str, np.ndarray], alpha: float = 0.05) -> dict[str, float]:
    """Share of features in which a scanner differs from all the others together, by scanner.

    values: by scanner, one row a scan and one column a feature (scans, features), the same features for each.
    A feature differs where the two-sided two-sample Kolmogorov-Smirnov test of this scanner's values against those of
    all the others gives p < alpha, not corrected for multiple testing; so `alpha` itself is expected where scanners
    are alike. Features that are not finite somewhere are left out.
    Source: Fatania et al., Phys Imaging Radiat Oncol 2022, section 2.4 (the paper reports the mean over scanners).
    """
    small = [name for name, rows in values.items() if len(rows) < MINIMUM_SCANS]
    if len(values) < 2 or small:
        raise InputError(
            f"{len(values)} scanners, too few scans of {', '.join(small) or 'none'}; "
            f"give at least two scanners with {MINIMUM_SCANS} scans each"
        )
    finite = np.all([np.isfinite(rows).all(axis=0) for rows in values.values()], axis=0)
    if not finite.any():
        raise InputError("no feature is finite in every scan; measure larger structures")
    shares = {}
    for name, rows in values.items():
        rest = np.concatenate([other for label, other in values.items() if label != name])
        p = stats.ks_2samp(rows[:, finite], rest[:, finite], axis=0).pvalue
        shares[name] = float(np.mean(p < alpha))
    return shares
