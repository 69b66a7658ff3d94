"""Noise in the liver: the coefficient of variation in a sphere placed by rule, compared between scanners.

Haberl et al., EJNMMI 2024, section 2.5: a sphere of 3 cm in the upper right lobe, following EANM's guideline.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from scipy import ndimage, stats

from .. import images
from ..errors import InputError
from ..scan import Scan

RADIUS_MM = 15.0


@dataclasses.dataclass(frozen=True)
class SphereNoise:
    """Mean, standard deviation and their ratio in a sphere; its centre in patient coordinates (LPS, mm)."""

    mean: float
    sd: float
    cov: float
    centre_mm: tuple[float, float, float]
    voxels: int


def liver_noise(scan: Scan, liver: str = "liver", radius_mm: float = RADIUS_MM) -> SphereNoise:
    """Coefficient of variation, sd / mean, in a sphere in the upper right lobe of the structure named `liver`.

    The rule: of all centres from which the sphere lies inside the structure with a voxel to spare, the upper half is
    kept (superior lies above the middle of their range), and of these the most right one is taken, the upper one where
    two are equally far. Superior and right are the patient's, whichever way the image is stored.
    Raises InputError where the structure is missing, too small for the sphere, or of mean 0 or less inside it.
    """
    if liver not in scan.structures:
        raise InputError(f"'{scan.name}' has no structure '{liver}'; it has: {', '.join(scan.structures) or 'none'}")
    mask = scan.structures[liver].array
    if not mask.any():
        raise InputError(f"structure '{liver}' of '{scan.name}' is empty; check the segmentation")
    spacing = scan.spacing_mm[::-1]
    box = images.bounding_box(mask)
    # A layer of background around it: what touches the image's border ends there.
    depth = ndimage.distance_transform_edt(np.pad(mask[box], 1), sampling=spacing)[1:-1, 1:-1, 1:-1]
    index = np.argwhere(depth > radius_mm + max(spacing)) + [part.start for part in box]
    if not len(index):
        raise InputError(f"no sphere of {2 * radius_mm:g} mm fits into '{liver}'; check the segmentation")
    to_mm = images.index_to_physical(scan.image)
    places = index[:, ::-1] @ to_mm[:3, :3].T + to_mm[:3, 3]
    upper = places[:, 2] >= (places[:, 2].min() + places[:, 2].max()) / 2
    index, places = index[upper], places[upper]
    # LPS: right is the smaller x, superior the larger z; rounding keeps ties independent of the last bit.
    chosen = np.lexsort((places[:, 1], -np.round(places[:, 2], 3), np.round(places[:, 0], 3)))[0]
    centre = index[chosen]
    grid = np.indices(mask[box].shape, sparse=True)
    apart = sum(((axis + part.start - c) * s) ** 2 for axis, part, c, s in zip(grid, box, centre, spacing, strict=True))
    values = scan.array[box][apart <= radius_mm**2].astype(float)
    mean, sd = float(values.mean()), float(values.std())
    if mean <= 0:
        raise InputError(f"the mean in the liver of '{scan.name}' is {mean:g}; a ratio to it means nothing")
    return SphereNoise(mean, sd, sd / mean, tuple(float(v) for v in places[chosen]), values.size)


@dataclasses.dataclass(frozen=True)
class NoiseGap:
    """Medians and quartiles of two scanners, the distance of the medians, and the Mann-Whitney p."""

    first: tuple[float, float, float]
    second: tuple[float, float, float]
    gap: float
    p: float


def noise_gap(first: Sequence[float], second: Sequence[float]) -> NoiseGap:
    """Two scanners' coefficients of variation, each (subjects,); (lower quartile, median, upper quartile) of each."""
    quartiles = [tuple(float(q) for q in np.quantile(x, (0.25, 0.5, 0.75))) for x in (first, second)]
    p = float(stats.mannwhitneyu(first, second).pvalue)
    return NoiseGap(*quartiles, abs(quartiles[0][1] - quartiles[1][1]), p)
