"""What the networks see of a PET scan: SUV on a fixed scale, or between the extremes of each volume. Needs no torch.

The published code scales every volume by its own minimum and maximum and back by the same two numbers. Thereby SUVmax
can never change, and one hot voxel of the bladder rescales the whole body. The default is a fixed map: the inverse
hyperbolic sine, a logarithm above 1 SUV, so that noise that follows the activity is as strong in the liver as in the
brain, and linear near 0, where SUV may be 0.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from ...errors import InputError

FIXED, MINMAX = "asinh", "minmax"
HIGHEST_SUV = 25.0  # becomes 1


@dataclasses.dataclass(frozen=True)
class SuvScale:
    """kind: "asinh", or "minmax" as published, for which `low` and `high` are the volume's extremes."""

    kind: str = FIXED
    low: float = 0.0
    high: float = HIGHEST_SUV

    @classmethod
    def of(cls, kind: str, array: np.ndarray) -> SuvScale:
        """The scale for a volume. Raises InputError for an unknown kind."""
        if kind == FIXED:
            return cls()
        if kind != MINMAX:
            raise InputError(f"the SUV scale '{kind}' is unknown; use {FIXED} or {MINMAX}")
        return cls(kind, float(array.min()), float(array.max()))

    def to_network(self, suv: np.ndarray) -> np.ndarray:
        """SUV as the network sees them, -1 to 1, float32; on the fixed scale what lies outside is cut off."""
        suv = np.asarray(suv, np.float32)
        if self.kind == MINMAX:
            return (suv - self.low) * np.float32(2 / max(self.high - self.low, 1e-6)) - 1
        return np.arcsinh(np.clip(suv, 0, self.high)) * np.float32(2 / np.arcsinh(self.high)) - np.float32(1)

    def to_suv(self, seen: np.ndarray) -> np.ndarray:
        """The inverse, float32. By the published scale the result's extremes become those of the volume."""
        seen = np.asarray(seen, np.float32)
        if self.kind == MINMAX:
            low, high = float(seen.min()), float(seen.max())
            return self.low + (seen - low) * np.float32((self.high - self.low) / max(high - low, 1e-6))
        return np.sinh((seen + 1) * np.float32(np.arcsinh(self.high) / 2))
