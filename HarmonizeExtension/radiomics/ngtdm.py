"""Neighbourhood grey tone difference matrix: voxels against their neighbours' mean (IBSI IPET; Amadasun 1989)."""

from __future__ import annotations

import numpy as np

from .definitions import Definition
from .discretisation import GreyLevels, Offset, opposite

FEATURES = {
    "Busyness": Definition("busyness", "NQ30"),
    "Coarseness": Definition("coarseness", "QCDE"),
    "Complexity": Definition("complexity", "HDEZ"),
    "Contrast": Definition("contrast", "65HE"),
    "Strength": Definition("strength", "1X9X"),
}

COARSENESS_OF_FLAT = 1e6  # where no voxel differs from its neighbours


def tone_differences(grey: GreyLevels, offsets: list[Offset]) -> np.ndarray:
    """Per level present, the summed absolute difference between a voxel and the mean of its neighbours."""
    total = np.zeros(len(grey), np.int64)
    count = np.zeros(len(grey), np.int32)
    for offset in offsets:
        for neighbour in (grey.neighbours(offset), grey.neighbours(opposite(offset))):
            total += grey.level_of(neighbour)
            count += neighbour > 0
    difference = np.where(count > 0, np.abs(grey.level - total / np.maximum(count, 1)), 0.0)
    return np.bincount(grey.rank, difference)[1:]


def features(grey: GreyLevels, offsets: list[Offset]) -> dict[str, float]:
    """The 5 features."""
    s = tone_differences(grey, offsets)
    p = np.bincount(grey.rank)[1:] / len(grey)
    level = grey.present.astype(float)
    i, j = level[:, None], level[None, :]
    p_i, p_j, s_i, s_j = p[:, None], p[None, :], s[:, None], s[None, :]
    coarseness = np.sum(p * s)
    busyness = np.sum(np.abs(i * p_i - j * p_j))
    pairs = len(level) * (len(level) - 1)
    return {
        "Busyness": float(coarseness / busyness) if busyness else 0.0,
        "Coarseness": float(1 / coarseness) if coarseness else COARSENESS_OF_FLAT,
        "Complexity": float(np.sum(np.abs(i - j) * (p_i * s_i + p_j * s_j) / (p_i + p_j)) / len(grey)),
        "Contrast": float(np.sum(p_i * p_j * (i - j) ** 2) * np.sum(s) / len(grey) / pairs) if pairs else 0.0,
        "Strength": float(np.sum((p_i + p_j) * (i - j) ** 2) / np.sum(s)) if s.any() else 0.0,
    }
