"""Grey level run length matrix: how long the grey level stays the same along a direction (IBSI TP0I; Galloway 1975)."""

from __future__ import annotations

import numpy as np

from .definitions import Definition
from .discretisation import GreyLevels, Offset, opposite
from .emphasis import emphases

FEATURES = {
    "GrayLevelNonUniformity": Definition("grey level non-uniformity", "R5YN", emphasis="level non-uniformity"),
    "GrayLevelNonUniformityNormalized": Definition(
        "normalised grey level non-uniformity", "OVBL", emphasis="level non-uniformity normalised"
    ),
    "GrayLevelVariance": Definition("grey level variance", "8CE5", emphasis="level variance"),
    "HighGrayLevelRunEmphasis": Definition("high grey level run emphasis", "G3QZ", emphasis="high"),
    "LongRunEmphasis": Definition("long runs emphasis", "W4KF", emphasis="large"),
    "LongRunHighGrayLevelEmphasis": Definition("long run high grey level emphasis", "3KUM", emphasis="large high"),
    "LongRunLowGrayLevelEmphasis": Definition("long run low grey level emphasis", "IVPO", emphasis="large low"),
    "LowGrayLevelRunEmphasis": Definition("low grey level run emphasis", "V3SW", emphasis="low"),
    "RunEntropy": Definition("run entropy", "HJ9O", "bit", emphasis="entropy"),
    "RunLengthNonUniformity": Definition("run length non-uniformity", "W92Y", emphasis="size non-uniformity"),
    "RunLengthNonUniformityNormalized": Definition(
        "normalised run length non-uniformity", "IC23", emphasis="size non-uniformity normalised"
    ),
    "RunPercentage": Definition("run percentage", "9ZK5", emphasis="percentage"),
    "RunVariance": Definition("run length variance", "SXLW", emphasis="size variance"),
    "ShortRunEmphasis": Definition("short runs emphasis", "22OV", emphasis="small"),
    "ShortRunHighGrayLevelEmphasis": Definition("short run high grey level emphasis", "GD3A", emphasis="small high"),
    "ShortRunLowGrayLevelEmphasis": Definition("short run low grey level emphasis", "HTZT", emphasis="small low"),
}


def run_lengths(grey: GreyLevels, offset: Offset) -> np.ndarray:
    """How many runs of each level (rows, over the levels present) have each length (columns, from 1) along `offset`."""
    starts = grey.neighbours(opposite(offset)) != grey.rank
    at, rank, step = grey.inside[starts], grey.rank[starts], grey.step(offset)
    at_least = []  # runs of at least one voxel, at least two, ...
    while at.size:
        at_least.append(np.bincount(rank, minlength=len(grey.present) + 1)[1:])
        at = at + step
        goes_on = grey.box[at] == rank
        at, rank = at[goes_on], rank[goes_on]
    at_least.append(np.zeros_like(at_least[0]))
    return -np.diff(at_least, axis=0).T


def features(grey: GreyLevels, offsets: list[Offset], weights: np.ndarray | None = None) -> dict[str, float]:
    """The 16 features: averaged over the directions, or, with `weights`, of the weighted sum of their matrices.

    A direction along which no line meets two voxels of the structure is left out; NaN where that is every direction.
    """
    matrices = [run_lengths(grey, offset) if _extends_along(grey, offset) else None for offset in offsets]
    if weights is not None:
        longest = max((m.shape[1] for m in matrices if m is not None), default=0)
        merged = np.zeros((len(grey.present), longest))
        for weight, matrix in zip(weights, matrices, strict=True):
            if matrix is not None:
                merged[:, : matrix.shape[1]] += weight * matrix
        matrices = [merged if merged.any() else None]
    found = [_of_matrix(matrix, grey.present) for matrix in matrices if matrix is not None]
    if not found:
        return dict.fromkeys(FEATURES, np.nan)
    return {
        name: float(np.mean([values[definition.emphasis] for values in found])) for name, definition in FEATURES.items()
    }


def _of_matrix(matrix: np.ndarray, present: np.ndarray) -> dict[str, float]:
    row, column = np.nonzero(matrix)
    return emphases(present[row], column + 1, matrix[row, column])


def _extends_along(grey: GreyLevels, offset: Offset) -> bool:
    if grey.neighbours(offset).any():
        return True
    # No two voxels touch; they may still share a line with a gap between them.
    position = grey.coordinates()
    axis = next(a for a in range(3) if offset[a])
    line = position - np.outer(position[:, axis] // offset[axis], offset)
    return len(np.unique(line, axis=0)) < len(line)
