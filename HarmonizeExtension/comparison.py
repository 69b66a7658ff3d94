"""Before and after in one picture: on a common scale, as difference, as checkerboard."""

from __future__ import annotations

import numpy as np

from .body import body_mask
from .scan import Scan


def on_scale_of(before: Scan, after: Scan) -> np.ndarray:
    """The intensities of `before` (z, y, x), scaled linearly to those of `after` where the method changed the scale.

    HU and SUV stay as they are. Elsewhere gain and offset are the least-squares line through the percentiles 2 to 98
    of the body before and of the same voxels after, and through the level of the air, which counts as much as all of
    them together: what remains is a difference of contrast. A map that is not linear leaves some in the tissue and a
    little in the air; noise in the air that the method raised or lowered by another gain stays visible.
    """
    a, b = before.array, after.array
    if after.units:
        return a
    body = body_mask(before)
    if not body.any():
        return a
    percent = np.arange(2, 99)
    from_levels, to_levels = (np.percentile(array[body], percent) for array in (a, b))
    weights = np.ones(len(percent))
    if not body.all():
        from_levels, to_levels = (
            np.append(levels, np.median(array[~body])) for levels, array in ((from_levels, a), (to_levels, b))
        )
        weights = np.append(weights, len(percent))
    from_centre, to_centre = (np.average(levels, weights=weights) for levels in (from_levels, to_levels))
    power = np.sum(weights * (from_levels - from_centre) ** 2)
    if power == 0:
        return a
    gain = np.sum(weights * (from_levels - from_centre) * (to_levels - to_centre)) / power
    return (gain * (a - from_centre) + to_centre).astype(np.float32)


def difference(before: Scan, after: Scan) -> np.ndarray:
    """After minus before on a common scale (z, y, x)."""
    return after.array - on_scale_of(before, after)


def checkerboard(before: Scan, after: Scan, square_mm: float = 20.0) -> np.ndarray:
    """Squares of before and after in turn (z, y, x), on a common scale; edges must run on across the borders."""
    index = [
        (np.arange(n) * s // square_mm).astype(int)
        for n, s in zip(after.array.shape, after.spacing_mm[::-1], strict=True)
    ]
    z, y, x = np.ix_(*index)
    return np.where((x + y + z) % 2 == 0, on_scale_of(before, after), after.array)


def window(scan: Scan) -> tuple[float, float]:
    """Lowest and highest intensity to show: soft tissue in CT, SUV 0 to 7 in PET, robust range of tissue in MR."""
    if scan.units == "HU":
        return -160.0, 240.0
    if scan.units == "SUV":
        return 0.0, 7.0
    low, high = np.percentile(scan.array, [1, 99.5])
    return float(low), float(high if high > low else low + 1)
