"""Grey level dependence matrix: how many neighbours are like the voxel (IBSI REK0, NGLDM; Sun and Wee 1983)."""

from __future__ import annotations

import numpy as np

from .definitions import Definition
from .discretisation import GreyLevels, Offset, opposite
from .emphasis import emphases

FEATURES = {
    "DependenceEntropy": Definition("dependence count entropy", "FCBV", "bit", emphasis="entropy"),
    "DependenceNonUniformity": Definition("dependence count non-uniformity", "Z87G", emphasis="size non-uniformity"),
    "DependenceNonUniformityNormalized": Definition(
        "normalised dependence count non-uniformity", "OKJI", emphasis="size non-uniformity normalised"
    ),
    "DependenceVariance": Definition("dependence count variance", "DNX2", emphasis="size variance"),
    "GrayLevelNonUniformity": Definition("grey level non-uniformity", "FP8K", emphasis="level non-uniformity"),
    "GrayLevelVariance": Definition("grey level variance", "1PFV", emphasis="level variance"),
    "HighGrayLevelEmphasis": Definition("high grey level count emphasis", "OAE7", emphasis="high"),
    "LargeDependenceEmphasis": Definition("high dependence emphasis", "IMOQ", emphasis="large"),
    "LargeDependenceHighGrayLevelEmphasis": Definition(
        "high dependence high grey level emphasis", "9QMG", emphasis="large high"
    ),
    "LargeDependenceLowGrayLevelEmphasis": Definition(
        "high dependence low grey level emphasis", "NBZI", emphasis="large low"
    ),
    "LowGrayLevelEmphasis": Definition("low grey level count emphasis", "TL9H", emphasis="low"),
    "SmallDependenceEmphasis": Definition("low dependence emphasis", "SODN", emphasis="small"),
    "SmallDependenceHighGrayLevelEmphasis": Definition(
        "low dependence high grey level emphasis", "JA6D", emphasis="small high"
    ),
    "SmallDependenceLowGrayLevelEmphasis": Definition(
        "low dependence low grey level emphasis", "EQ3F", emphasis="small low"
    ),
}


def dependences(grey: GreyLevels, offsets: list[Offset], alpha: int = 0) -> np.ndarray:
    """For each voxel, the count of itself and of the neighbours whose level differs by at most `alpha`."""
    count = np.ones(len(grey), np.int32)
    for offset in offsets:
        for neighbour in (grey.neighbours(offset), grey.neighbours(opposite(offset))):
            if alpha == 0:
                count += neighbour == grey.rank
            else:
                difference = np.abs(grey.level_of(neighbour).astype(np.int64) - grey.level)
                count += (difference <= alpha) & (neighbour > 0)
    return count


def features(grey: GreyLevels, offsets: list[Offset], alpha: int = 0) -> dict[str, float]:
    """The 14 features."""
    width = 2 * len(offsets) + 2
    matrix = np.bincount(grey.rank.astype(np.intp) * width + dependences(grey, offsets, alpha))
    cell = np.flatnonzero(matrix)
    found = emphases(grey.present[cell // width - 1], cell % width, matrix[cell])
    return {name: float(found[definition.emphasis]) for name, definition in FEATURES.items()}
