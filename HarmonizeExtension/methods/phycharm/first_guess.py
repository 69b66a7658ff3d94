"""What the protocol alone says of T1: the signal equation inverted, voxel by voxel, before any network.

One T1-weighted image does not determine T1 and M0. With the tissues' own relation between them it does, up to the
gain, which the brightness of white matter gives. The network that follows sees this guess and corrects it; a protocol
that it never saw in training reaches it through the same equation, which a network that sees the image alone could not
know. All T1 here is that of 3 T, whatever the scanner's field strength; `bloch.t1_at_field` carries it over.

Source of the relation: P. P. Fatouros et al., Magn Reson Med 17:402 (1991).
"""

from __future__ import annotations

import numpy as np

from ...errors import InputError
from ...physics.mr_signal import Protocol
from ...physics.tissues import Tissue, properties
from .bloch import t1_at_field

FIELD_TESLA = 3.0
T1_LIMITS_MS = (300.0, 5000.0)  # between fat and blood, and beyond fluid
WHITE_MATTER_PERCENTILE = 85.0  # of the brain's intensities: white matter is the brightest third of the brain
GRID = 512  # values of T1 at which the signal is computed

# 1 / M0 = A + B / T1: through white and grey matter of `tissues.py` at 3 T; fluid is met within 3 %.
DENSITY_OFFSET, DENSITY_SLOPE_MS, WHITE_MATTER_T1_MS = 0.871, 464.0, 832.0


def density_of(t1_ms):
    """M0 relative to water of tissue whose T1 at 3 T is known; for arrays and tensors alike.

    What has a shorter T1 than white matter has it by iron or myelin, and not less water.
    """
    return 1 / (DENSITY_OFFSET + DENSITY_SLOPE_MS / t1_ms.clip(min=WHITE_MATTER_T1_MS))


def t1_grid_ms() -> np.ndarray:
    """T1 at 3 T (GRID,), evenly spaced in the logarithm."""
    return np.geomspace(*T1_LIMITS_MS, GRID)


def relative_signal(protocol: Protocol, field_strength_tesla: float) -> np.ndarray:
    """The magnitude of the signal of unit M0 (GRID,) at `t1_grid_ms`, on a scale where white matter is 1.

    T2* decay is left out: it is smooth or unknown, and the corrective term takes it up.
    """
    at_field = t1_at_field(t1_grid_ms(), FIELD_TESLA, field_strength_tesla)
    white = properties(field_strength_tesla)[Tissue.WHITE_MATTER]
    return np.abs(protocol.signal(at_field, np.inf, 1.0)) / white_matter_signal(protocol, field_strength_tesla, white)


def white_matter_signal(protocol: Protocol, field_strength_tesla: float, white=None) -> float:
    """The magnitude of white matter's signal, before T2* decay."""
    white = white or properties(field_strength_tesla)[Tissue.WHITE_MATTER]
    return float(abs(protocol.signal(white.t1_ms, np.inf, white.proton_density)))


def white_matter_level(array: np.ndarray, brain: np.ndarray, name: str) -> float:
    """The intensity of white matter in a T1-weighted image (z, y, x) with a mask of the brain.

    Raises InputError where the mask is empty or the brain dark.
    """
    level = float(np.percentile(array[brain], WHITE_MATTER_PERCENTILE)) if brain.any() else 0.0
    if level <= 0:
        raise InputError(f"the brain in '{name}' is empty or dark; check the structure 'brain' and the scan")
    return level


def t1_from_image(relative: np.ndarray, protocol: Protocol, field_strength_tesla: float) -> np.ndarray:
    """T1 at 3 T in ms, float32, of intensities on a scale where white matter is 1; any shape.

    Only the branch on which the signal falls with T1 is used: beyond it, fluid that has not yet recovered from the
    inversion becomes brighter again, and is given the T1 at its darkest.
    """
    t1_ms = t1_grid_ms()
    signal = relative_signal(protocol, field_strength_tesla) * density_of(t1_ms)
    branch = slice(int(np.argmax(signal)), int(np.argmin(signal)) + 1)
    falling = np.minimum.accumulate(signal[branch])
    return np.interp(relative, falling[::-1], t1_ms[branch][::-1]).astype(np.float32)
