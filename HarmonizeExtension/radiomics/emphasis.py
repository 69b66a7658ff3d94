"""What the run length, size zone and dependence matrices share: counts by grey level and by size.

IBSI defines the same sixteen features on each of them (TP0I, 9SAK, REK0); "size" is the length of a run, the
volume of a zone or the number of dependent neighbours. Following Galloway 1975 and Chu et al. 1990.
"""

from __future__ import annotations

import numpy as np

from .definitions import EPSILON


def emphases(level: np.ndarray, size: np.ndarray, count: np.ndarray) -> dict[str, float]:
    """The sixteen features of a matrix given by its filled cells (1D): `count` things of a grey level and a size."""
    level, size, count = level.astype(float), size.astype(float), count.astype(float)
    total = count.sum()
    p = count / total
    level2, size2 = level**2, size**2
    by_level, by_size = np.bincount(level.astype(int), count), _grouped(size, count)
    return {
        "small": np.sum(count / size2) / total,
        "large": np.sum(count * size2) / total,
        "low": np.sum(count / level2) / total,
        "high": np.sum(count * level2) / total,
        "small low": np.sum(count / (level2 * size2)) / total,
        "small high": np.sum(count * level2 / size2) / total,
        "large low": np.sum(count * size2 / level2) / total,
        "large high": np.sum(count * (size2 * level2)) / total,
        "level non-uniformity": np.sum(by_level**2) / total,
        "level non-uniformity normalised": np.sum(by_level**2) / total**2,
        "size non-uniformity": np.sum(by_size**2) / total,
        "size non-uniformity normalised": np.sum(by_size**2) / total**2,
        "percentage": total / np.sum(count * size),
        "level variance": np.sum(p * (level - np.sum(p * level)) ** 2),
        "size variance": np.sum(p * (size - np.sum(p * size)) ** 2),
        "entropy": -np.sum(p * np.log2(p + EPSILON)),
    }


def _grouped(size: np.ndarray, count: np.ndarray) -> np.ndarray:
    """Sums of `count` over equal sizes."""
    _, group = np.unique(size, return_inverse=True)
    return np.bincount(group.reshape(-1), count)
