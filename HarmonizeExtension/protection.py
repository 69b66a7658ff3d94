"""Protected structures may change in contrast, never in structure.

Inside a protected structure (a GTV) the result of a spatial method is replaced by the monotone intensity map that
the method itself implies there: every voxel keeps its rank among its neighbours, so no edge can appear, vanish or
move, while the contrast follows the rest of the image. The change is feathered outside the structure's edge.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage, optimize

from . import images
from .errors import InputError
from .scan import Role, Scan

NEIGHBOURHOOD_MM = 10.0  # tissue around the structure from which the map is learnt too
FEATHER_MM = 4.0  # over which the map gives way to the method's own result
LEVELS = 128  # intensity levels at which the map is estimated
# The map is learnt from smoothed images: noise that the method took away would flatten it (regression to the mean)
# and with it the structure's own contrast.
SMOOTHING_MM = 2.0
LEAST_SLOPE = 0.1  # of the map, in spreads of the result for one spread of the scan


class MonotoneMap:
    """A non-decreasing, piecewise linear intensity map; beyond its levels it goes on with the slope of their range."""

    def __init__(self, levels: np.ndarray, values: np.ndarray):
        self.levels, self.values = levels, values

    @classmethod
    def implied_by(cls, before: np.ndarray, after: np.ndarray) -> MonotoneMap:
        """The isotonic least-squares fit of `after` (1D) on `before` (1D), estimated at quantiles of `before`."""
        edges = np.unique(np.quantile(before, np.linspace(0, 1, LEVELS + 1)))
        if len(edges) < 2:
            return cls(edges[:1], np.array([float(np.mean(after))]))
        level = np.clip(np.searchsorted(edges, before, side="right") - 1, 0, len(edges) - 2)
        count = np.bincount(level, minlength=len(edges) - 1)
        used = count > 0
        centre = np.bincount(level, before, len(edges) - 1)[used] / count[used]
        mean = np.bincount(level, after, len(edges) - 1)[used] / count[used]
        fit = optimize.isotonic_regression(mean, weights=count[used].astype(float))
        return cls(centre, np.asarray(fit.x))

    def __call__(self, array: np.ndarray) -> np.ndarray:
        """The map of an array of any shape."""
        width = self.levels[-1] - self.levels[0]
        slope = (self.values[-1] - self.values[0]) / width if width > 0 else 1.0
        beyond = np.minimum(array - self.levels[0], 0) + np.maximum(array - self.levels[-1], 0)
        return (np.interp(array, self.levels, self.values) + slope * beyond).astype(np.float32)

    def rising(self, least_slope: float) -> MonotoneMap:
        """The map with every part as steep as `least_slope` at least; where it was flat, ranks would be lost."""
        width = np.diff(self.levels)
        values = self.values[0] + np.r_[0, np.cumsum(np.maximum(np.diff(self.values), least_slope * width))]
        return MonotoneMap(self.levels, values + np.mean(self.values) - np.mean(values))


def keep_structure(scan: Scan, after: np.ndarray, body: np.ndarray) -> np.ndarray:
    """The result `after` (z, y, x) of a spatial method on `scan`, with the scan's protected structures kept safe.

    Inside a protected structure the result is a rising function of the scan's intensity; farther than FEATHER_MM from
    every one it is `after`, bit for bit. Between, the two are blended with a weight whose slope is at most
    pi / (2 FEATHER_MM), so that a difference of the two adds no more than that share of it per mm to the gradient.
    Structures that touch each other's feather share one map. Raises InputError for a structure without voxels.
    """
    result = after.copy()
    before = scan.array
    for mask, box in _groups(scan):
        distance = images.distance_mm(mask[box], scan.spacing_mm)
        near = (distance <= NEIGHBOURHOOD_MM) & (body[box] | mask[box])
        sigma = [SMOOTHING_MM / s for s in scan.spacing_mm[::-1]]
        calm, changed = (ndimage.gaussian_filter(x[box], sigma)[near] for x in (before, after))
        least_slope = LEAST_SLOPE * changed.std() / max(calm.std(), 1e-30)
        mapped = MonotoneMap.implied_by(calm, changed).rising(least_slope)(before[box])
        weight = 0.5 + 0.5 * np.cos(np.pi * np.minimum(distance / FEATHER_MM, 1))
        blended = (weight * mapped + (1 - weight) * result[box]).astype(np.float32)
        result[box] = np.where(weight > 0, blended, result[box])
    return result


def _groups(scan: Scan) -> list[tuple[np.ndarray, tuple[slice, ...]]]:
    """The protected structures as masks (z, y, x), those within each other's feather as one, with the box around."""
    margin = 1 + int(np.ceil((NEIGHBOURHOOD_MM + FEATHER_MM) / min(scan.spacing_mm)))
    groups: list[tuple[np.ndarray, tuple[slice, ...]]] = []
    for structure in scan.with_role(Role.PROTECTED):
        mask = structure.array
        if not mask.any():
            raise InputError(f"the protected structure '{structure.name}' is empty; contour it or protect another one")
        apart = []
        for other, box in groups:
            if mask[box].any() and images.distance_mm(other[box], scan.spacing_mm)[mask[box]].min() < FEATHER_MM:
                mask = mask | other
            else:
                apart.append((other, box))
        groups = [*apart, (mask, images.bounding_box(mask, margin))]
    return groups
