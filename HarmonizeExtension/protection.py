"""Protected structures may change in contrast, never in structure.

Inside a protected structure (a GTV) the result of a spatial method is replaced by the monotone intensity map that
the method itself implies there: every voxel keeps its rank among its neighbours, so no edge can appear, vanish or
move, while the contrast follows the rest of the image. The change is feathered outside the structure's edge.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage, optimize

from . import images
from .scan import Role, Scan

NEIGHBOURHOOD_MM = 10.0  # tissue around the structure from which the map is learnt too
FEATHER_MM = 4.0  # over which the map gives way to the method's own result
LEVELS = 128  # intensity levels at which the map is estimated
# The map is learnt from smoothed images: noise that the method took away would flatten it (regression to the mean)
# and with it the structure's own contrast.
SMOOTHING_MM = 2.0


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


def keep_structure(scan: Scan, after: np.ndarray, body: np.ndarray) -> np.ndarray:
    """The result `after` (z, y, x) of a spatial method on `scan`, with the scan's protected structures kept safe."""
    protected = scan.with_role(Role.PROTECTED)
    if not protected:
        return after
    before, result = scan.array, after.copy()
    for structure in protected:
        mask = structure.array
        margin = 1 + int(np.ceil((NEIGHBOURHOOD_MM + FEATHER_MM) / min(scan.spacing_mm)))
        box = images.bounding_box(mask, margin)
        distance = images.distance_mm(mask[box], scan.spacing_mm)
        near = (distance <= NEIGHBOURHOOD_MM) & (body[box] | mask[box])
        sigma = [SMOOTHING_MM / s for s in scan.spacing_mm[::-1]]
        calm, changed = (ndimage.gaussian_filter(x[box], sigma)[near] for x in (before, after))
        mapped = MonotoneMap.implied_by(calm, changed)(before[box])
        weight = ndimage.gaussian_filter(np.clip(1 - distance / FEATHER_MM, 0, 1), 0.5)
        weight[mask[box]] = 1.0
        result[box] = weight * mapped + (1 - weight) * result[box]
    return result
