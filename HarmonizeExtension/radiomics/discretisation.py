"""From intensities to grey levels, and from each grey level to its neighbours.

All texture matrices start from `GreyLevels`: a structure's voxels with their grey levels, in a box with an empty
rim, where the neighbour of every voxel in a direction is one lookup at a constant distance.
"""

from __future__ import annotations

import functools
import itertools

import numpy as np

from ..errors import InputError

Offset = tuple[int, int, int]

MOST_BINS = 1_000_000
MOST_LEVELS = 1_000  # present in a structure; texture matrices hold their square


def bin_edges(values: np.ndarray, bin_width: float, bin_count: int | None) -> np.ndarray:
    """The lower edges of the grey levels of `values` (1D), and the upper edge of the last.

    Fixed bin width (IBSI Q3RU): edges are whole multiples of the width, as in pyradiomics; IBSI puts them at the
    lower end of the re-segmentation range instead. Fixed bin number (IBSI K15C): `bin_count` bins over the range.
    The arithmetic is done in the type of the values, since a voxel on an edge would otherwise change its level.
    """
    if bin_count is not None:
        edges = np.histogram_bin_edges(values, bin_count)
        edges[-1] += 1  # the highest value belongs to the last bin
        return edges
    lowest, highest = values.min(), values.max()
    if (float(highest) - float(lowest)) / bin_width > MOST_BINS:
        raise InputError(_too_many(f"more than {MOST_BINS}", bin_width))
    if values.dtype.kind == "f":
        width = values.dtype.type(bin_width)
        low, high = float(lowest - lowest % width), float(highest + 2 * width)
    else:
        low, high = float(int(lowest) - int(lowest) % bin_width), int(highest) + 2 * bin_width
    return np.arange(low, high, bin_width)


def discretise(values: np.ndarray, bin_width: float, bin_count: int | None) -> np.ndarray:
    """Grey levels from 1 of `values` (1D), see `bin_edges`; InputError where there are more than textures can bear."""
    level = np.digitize(values, bin_edges(values, bin_width, bin_count))
    present = np.count_nonzero(np.bincount(level))
    if present > MOST_LEVELS:
        raise InputError(_too_many(str(present), bin_width if bin_count is None else None))
    return level


def _too_many(count: str, bin_width: float | None) -> str:
    by = f"binWidth {bin_width:g}" if bin_width is not None else "binCount"
    return (
        f"{by} in the radiomics settings makes {count} grey levels, too many for textures; choose a wider binWidth or "
        "a smaller binCount, and check that the image has the unit the settings are meant for (HU, SUV)"
    )


def directions(distances: tuple[int, ...] = (1,), plane_axis: int | None = None) -> list[Offset]:
    """Offsets (z, y, x) at the given Chebyshev distances, one of each opposite pair: 13 at distance 1 in 3D, 4 in 2D.

    plane_axis: the axis that no direction may leave (0 = axial slices); None for all directions.
    """
    reach = max(distances)
    steps = range(reach, -reach - 1, -1)
    return [
        offset
        for offset in itertools.product(steps, steps, steps)
        if offset > (0, 0, 0) and max(map(abs, offset)) in distances and (plane_axis is None or offset[plane_axis] == 0)
    ]


def opposite(offset: Offset) -> Offset:
    """The offset in the other sense."""
    return (-offset[0], -offset[1], -offset[2])


class GreyLevels:
    """The discretised voxels of one structure.

    present: the grey levels that occur, ascending (int).
    rank: for each voxel, the place of its level among those present, from 1.
    level: for each voxel, its grey level.

    Voxels come in the order of the array (z, y, x).
    """

    def __init__(self, level: np.ndarray, mask: np.ndarray, reach: int = 1):
        """level: grey levels of the mask's voxels (1D, from 1); mask: bool (z, y, x); reach: largest distance asked."""
        self.level = level
        occurs = np.bincount(level) > 0
        self.present = np.flatnonzero(occurs)
        self.rank = np.cumsum(occurs).astype(np.min_scalar_type(len(self.present) + 1))[level]
        self._strides = np.cumprod([1, mask.shape[2] + 2 * reach, mask.shape[1] + 2 * reach])[::-1]
        padded = np.pad(mask, reach)
        self.inside = np.flatnonzero(padded)
        self.box = np.zeros(padded.size, self.rank.dtype)
        self.box[self.inside] = self.rank
        self.neighbours = functools.lru_cache(maxsize=None)(self._neighbours)

    def __len__(self) -> int:
        return len(self.rank)

    @property
    def highest(self) -> int:
        """The highest grey level, Ng."""
        return int(self.present[-1])

    def step(self, offset: Offset) -> int:
        """How far the neighbour in a direction lies in the flat box."""
        return int(np.dot(offset, self._strides))

    def _neighbours(self, offset: Offset) -> np.ndarray:
        """For each voxel the rank of its neighbour at `offset` (z, y, x); 0 where that is outside the structure."""
        return self.box[self.inside + self.step(offset)]

    def level_of(self, rank: np.ndarray) -> np.ndarray:
        """Grey levels for ranks; 0 for 0."""
        if self.highest == len(self.present):
            return rank
        return np.concatenate([[0], self.present])[rank]

    def coordinates(self) -> np.ndarray:
        """Positions (z, y, x) of the voxels in the padded box, one row each."""
        rest, x = np.divmod(self.inside, self._strides[1])
        z, y = np.divmod(rest, self._strides[0] // self._strides[1])
        return np.stack([z, y, x], axis=1)
