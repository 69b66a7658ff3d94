"""Before and after in one picture: on a common scale, as difference, as checkerboard."""

from __future__ import annotations

import numpy as np

from .scan import Scan


def on_scale_of(before: Scan, after: Scan) -> np.ndarray:
    """The intensities of `before` (z, y, x), scaled linearly to those of `after` where the method changed the scale.

    HU and SUV stay as they are. Elsewhere the 2nd and 98th percentile of the brighter half of the image are
    brought together, so that what remains is a difference of contrast, not of gain.
    """
    a = before.array
    if after.units:
        return a
    inside = a > np.median(a)
    if not inside.any():
        return a
    from_low, from_high = np.percentile(a[inside], [2, 98])
    to_low, to_high = np.percentile(after.array[inside], [2, 98])
    if from_high == from_low:
        return a
    return ((a - from_low) * ((to_high - to_low) / (from_high - from_low)) + to_low).astype(np.float32)


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
