"""What a network sees of an MR scan: 0 to the 99.5th percentile of the body, as -1 to 1. Needs no torch."""

from __future__ import annotations

import numpy as np

PERCENTILE = 99.5  # fat and vessels above it are few, and how bright they are says little


def body_level(array: np.ndarray, body: np.ndarray) -> float:
    """The intensity that becomes 1: a percentile of `array` (z, y, x) inside the mask `body`; 0 for an empty one."""
    return float(np.percentile(array[body], PERCENTILE)) if body.any() else 0.0


def to_network(array: np.ndarray, level: float) -> np.ndarray:
    """Intensities as the network sees them, float32: 0 as -1, `level` and all above as 1."""
    return (np.clip(array / np.float32(level), 0, 1) * 2 - 1).astype(np.float32)


def from_network(array: np.ndarray, level: float) -> np.ndarray:
    """The inverse of `to_network` below `level`, float32."""
    return ((np.asarray(array, np.float32) + 1) * np.float32(level / 2)).astype(np.float32)
