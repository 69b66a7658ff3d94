"""Shape of a structure (IBSI HCUG)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .definitions import Definition

FEATURES = {"VoxelVolume": Definition("volume (voxel counting)", "YEKZ", "mm^3")}


def features(mask: np.ndarray, spacing_mm: tuple[float, float, float], names: Sequence[str]) -> dict[str, float]:
    """The features named, of a mask (z, y, x) with voxels of spacing (x, y, z) mm."""
    return {"VoxelVolume": float(np.count_nonzero(mask) * np.prod(spacing_mm))}
