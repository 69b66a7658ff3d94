"""The true quantitative maps of a simulated person: T1, T2* and proton density, and how much of each tissue is where.

A scan follows from tissues and not from these maps alone: in a voxel that holds two tissues their signals add up,
which no single T1 describes exactly. The maps hold what a perfect measurement would report there: the protons add up,
and relaxation rates are averaged over the protons, as in fast exchange (Zimmerman and Brittin, J Phys Chem 61:1328,
1957). Where one tissue fills the voxel, a protocol's signal of the maps is the signal of the scan; over the whole
brain at 1 mm the two differ by 0.3 to 1.6 % of the mean signal (root mean square, the six scanners).
"""

from __future__ import annotations

import dataclasses

import numpy as np
import SimpleITK as sitk

from .. import images
from ..physics.tissues import Properties, Tissue, properties
from .anatomy import head_grid
from .person import Body, Person, Portion, body_of

LEAST_TISSUE = 0.05  # share of a voxel below which T1 and T2* are not stated: that is air


@dataclasses.dataclass(frozen=True, eq=False)
class PropertyMaps:
    """Properties of every voxel (z, y, x), float32, at one field strength; all are 0 in air.

    t1_ms, t2_star_ms: relaxation times. proton_density: relative to a voxel full of water.
    """

    field_strength_tesla: float
    t1_ms: np.ndarray
    t2_star_ms: np.ndarray
    proton_density: np.ndarray


@dataclasses.dataclass(frozen=True, eq=False)
class QuantitativeMaps:
    """The truth about a person as images on one grid.

    t1_ms, t2_star_ms, proton_density: float32, as in `PropertyMaps`. fractions: share of each tissue in each voxel,
    float32; what they leave is air. brain: mask.
    """

    field_strength_tesla: float
    t1_ms: sitk.Image
    t2_star_ms: sitk.Image
    proton_density: sitk.Image
    fractions: dict[Tissue, sitk.Image]
    brain: sitk.Image


def tissue_values(portion: Portion, tissue: Properties) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """T1 (ms), T2* (ms) and proton density of one tissue, for each voxel of its portion, float32."""
    texture = np.float32(tissue.texture)
    t1_ms = np.float32(tissue.t1_ms) * np.clip(1 + texture * portion.t1_texture, 0.5, 2)
    t2_star_ms = np.float32(tissue.t2_star_ms) * np.clip(1 + texture * portion.t2_star_texture, 0.5, 2)
    # More water means longer T1 (Fatouros 1991), at about a third of T1's relative change.
    density = np.float32(tissue.proton_density) * (1 + texture / 3 * portion.t1_texture)
    return t1_ms, t2_star_ms, density


def property_maps(body: Body, field_strength_tesla: float) -> PropertyMaps:
    """The maps of a body at 1.5 or 3 T. Raises InputError for any other field strength."""
    of_tissue = properties(field_strength_tesla)
    protons, filled, r1, r2_star = (np.zeros(int(np.prod(body.shape)), np.float32) for _ in range(4))
    for tissue, portion in body.portions.items():
        t1_ms, t2_star_ms, density = tissue_values(portion, of_tissue[tissue])
        weight = portion.share * density
        filled[portion.index] += portion.share
        protons[portion.index] += weight
        r1[portion.index] += weight / t1_ms
        r2_star[portion.index] += weight / t2_star_ms
    stated = filled >= LEAST_TISSUE
    t1_ms, t2_star_ms = (
        np.divide(protons, rate, out=np.zeros_like(protons), where=stated).reshape(body.shape) for rate in (r1, r2_star)
    )
    return PropertyMaps(field_strength_tesla, t1_ms, t2_star_ms, protons.reshape(body.shape))


def quantitative_maps(person: Person, field_strength_tesla: float, spacing_mm: float = 1.0) -> QuantitativeMaps:
    """The person's maps on the grid of the scans. Raises InputError for a field strength other than 1.5 and 3 T."""
    grid = head_grid(spacing_mm)
    body = body_of(person, spacing_mm)
    maps = property_maps(body, field_strength_tesla)
    fractions = {}
    for tissue, portion in body.portions.items():
        share = np.zeros(body.shape, np.float32)
        share.ravel()[portion.index] = portion.share
        fractions[tissue] = images.to_image(share, grid)
    return QuantitativeMaps(
        field_strength_tesla=field_strength_tesla,
        t1_ms=images.to_image(maps.t1_ms, grid),
        t2_star_ms=images.to_image(maps.t2_star_ms, grid),
        proton_density=images.to_image(maps.proton_density, grid),
        fractions=fractions,
        brain=images.mask_image(body.structures["brain"], grid),
    )
