"""Filtered images: Laplacian of Gaussian and the eight bands of a stationary wavelet, as pyradiomics makes them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from .settings import Settings

Box = tuple[slice, slice, slice]


def images(
    image_type: str, array: np.ndarray, box: Box, spacing_mm: tuple[float, float, float], settings: Settings
) -> Iterator[tuple[str, np.ndarray]]:
    """Name and intensities in the box (z, y, x) of each image of a type."""
    if image_type == "Original":
        yield "original", array[box]
