"""Features that grow with the number of voxels by their very formula, made comparable between voxel sizes.

Shafiq-ul-Hassan et al., Med Phys 2017;44:1050, put the number of voxels N into such definitions. Which features need
it, and how, follows from their formulas (IBSI manual, arXiv:1612.07003): of a texture that is repeated, every sum over
voxels, runs, zones or neighbourhoods grows as N, every mean stays. Total energy is left alone: it grows with the
structure's volume in mm^3, which is the patient's.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..errors import InputError

# The power of N that takes the number of voxels out of a feature; by the end of pyradiomics' name.
POWERS = {
    "firstorder_Energy": -1,  # sum of squares over the voxels
    "glrlm_GrayLevelNonUniformity": -1,  # sums of squared counts over one count
    "glrlm_RunLengthNonUniformity": -1,
    "glszm_GrayLevelNonUniformity": -1,
    "glszm_SizeZoneNonUniformity": -1,
    "gldm_GrayLevelNonUniformity": -1,
    "gldm_DependenceNonUniformity": -1,
    "ngtdm_Coarseness": 1,  # one over a sum of tone differences
    "ngtdm_Busyness": -1,  # that sum over a sum that does not grow
    "ngtdm_Strength": 1,  # a sum that does not grow over the sum of tone differences
}


def voxel_count_corrected(
    features: Sequence[str], values: np.ndarray, voxels: Sequence[int]
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Values with the number of voxels taken out, and the names of the features that were changed.

    features: (features,) names as pyradiomics writes them; values: (rows, features); voxels: (rows,) number of voxels
    of each row's structure, on the grid that the features were computed on.
    """
    values, voxels = np.asarray(values, dtype=float), np.asarray(voxels, dtype=float)
    if values.shape != (len(voxels), len(features)):
        raise InputError(f"values of shape {values.shape} do not fit {len(voxels)} rows and {len(features)} features")
    if not (voxels > 0).all():
        raise InputError("a structure without voxels has no features; leave its row out")
    power = np.array([next((p for end, p in POWERS.items() if name.endswith(end)), 0) for name in features])
    changed = tuple(name for name, p in zip(features, power, strict=True) if p)
    return values * voxels[:, None] ** power, changed
