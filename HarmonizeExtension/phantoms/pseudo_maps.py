"""Pseudo-quantitative maps from a real T1-weighted image, so that networks see real anatomy and texture in training.

One T1-weighted image does not determine T1. What is made here has the literature's values in fluid, grey and white
matter and between them follows the image's own intensity: a plausible person with real folds, partial volume and
texture, never a measurement. The scans that simulated scanners make of it are true to each other, not to the person.
For training only.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from .. import images
from ..errors import InputError
from ..physics.tissues import Tissue, properties
from .maps import PropertyMaps

CLASSES = (Tissue.CSF, Tissue.GREY_MATTER, Tissue.WHITE_MATTER)  # from dark to bright
LEAST_VOXELS = 1000
LEAST_CONTRAST = 0.1  # of white over grey matter, and of grey matter over fluid, as a share of white matter
SHORTEST_T1 = 0.7  # of white matter's: brighter voxels are vessels and fat that the mask left in
BINS = 512


def tissue_levels(values: np.ndarray) -> np.ndarray:
    """The intensities (3,) of fluid, grey and white matter among the brain's values (n,).

    Three normal distributions are fitted to the histogram by expectation maximisation (W. M. Wells et al., IEEE Trans
    Med Imaging 15:429, 1996, without the bias field, which should be corrected before).
    Raises InputError where three tissues cannot be told apart.
    """
    low, high = np.percentile(values, [0.1, 99.9])
    if values.size < LEAST_VOXELS or not high > low:
        raise InputError(f"the brain mask holds {values.size} voxels without contrast; give a T1-weighted brain scan")
    counts, edges = np.histogram(np.clip(values, low, high), BINS)
    x = (edges[1:] + edges[:-1]) / 2
    mean = np.percentile(values, [5, 40, 80])
    sd, share = np.full(3, (high - low) / 10), np.full(3, 1 / 3)
    for _ in range(300):
        density = share * np.exp(-(((x[:, None] - mean) / sd) ** 2) / 2) / sd + 1e-12
        belongs = density / density.sum(axis=1, keepdims=True) * counts[:, None]
        total = belongs.sum(axis=0) + 1e-9
        share, mean = total / total.sum(), (belongs * x[:, None]).sum(axis=0) / total
        sd = np.sqrt((belongs * (x[:, None] - mean) ** 2).sum(axis=0) / total) + (high - low) / 200
    if mean[2] <= 0 or (np.diff(mean) < LEAST_CONTRAST * mean[2]).any() or share.min() < 0.02:
        raise InputError(
            "fluid, grey and white matter cannot be told apart by intensity; give a T1-weighted scan with a mask of "
            "the brain, its bias field corrected"
        )
    return mean


def pseudo_quantitative(image: np.ndarray, brain: np.ndarray, field_strength_tesla: float) -> PropertyMaps:
    """Maps of a plausible person with the anatomy and texture of a real scan; 0 outside the brain.

    image: (z, y, x), T1-weighted, white matter brightest, bias field corrected. brain: mask on the same voxels.
    The relaxation rate 1/T1 rises with intensity through the literature's values at 1.5 or 3 T; proton density and T2*
    follow T1 in the same way. Raises InputError for an image that does not show three tissues.
    """
    inside = brain.astype(bool)
    values = image[inside].astype(np.float32)
    # Noise fills the valleys of the histogram: medians of neighbours show them, and the maps keep the voxels' own.
    box = images.bounding_box(inside, margin=1)
    levels = tissue_levels(ndimage.median_filter(image[box], 3)[inside[box]])
    of_tissue = [properties(field_strength_tesla)[tissue] for tissue in CLASSES]
    rate = np.array([1 / p.t1_ms for p in of_tissue])
    # Beyond white matter the rate goes on rising as from grey to white matter, for a while.
    slope = (rate[2] - rate[1]) / (levels[2] - levels[1])
    fastest = rate[2] / SHORTEST_T1
    levels, rates = np.append(levels, levels[2] + (fastest - rate[2]) / slope), np.append(rate, fastest)
    r1 = np.interp(values, levels, rates)
    arrays = {
        "t1_ms": 1 / r1,
        "t2_star_ms": 1 / np.interp(r1, rate, [1 / p.t2_star_ms for p in of_tissue]),
        "proton_density": np.interp(r1, rate, [p.proton_density for p in of_tissue]),
    }
    return PropertyMaps(field_strength_tesla, **{name: _full(found, inside) for name, found in arrays.items()})


def _full(values: np.ndarray, inside: np.ndarray) -> np.ndarray:
    full = np.zeros(inside.shape, np.float32)
    full[inside] = values
    return full
