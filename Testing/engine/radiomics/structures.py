"""Scans with random structures for radiomics tests."""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk
from hypothesis import strategies as st

from HarmonizeExtension.scan import Modality, Scan, Structure


def scan_of(array: np.ndarray, spacing_mm=(1.0, 1.0, 1.0), modality=Modality.MR, units="", **masks) -> Scan:
    """A scan of an array (z, y, x) with the masks given by name."""
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(spacing_mm)
    structures = {}
    for name, mask in masks.items():
        label = sitk.GetImageFromArray(np.asarray(mask, np.uint8))
        label.CopyInformation(image)
        structures[name] = Structure(name, label)
    return Scan(image, modality, structures, units=units)


def ball(shape=(20, 24, 28), radius=6.0) -> np.ndarray:
    """A ball in the middle of an array (z, y, x)."""
    axes = np.ogrid[tuple(slice(n) for n in shape)]
    return sum((a - (n - 1) / 2) ** 2 for a, n in zip(axes, shape, strict=True)) <= radius**2


def textured(shape=(20, 24, 28), seed=0, dtype=np.float32) -> np.ndarray:
    """Noise around 200."""
    return np.random.default_rng(seed).normal(200, 60, shape).astype(dtype)


@st.composite
def scans(draw) -> Scan:
    """Small images of any type and texture with one structure "s" of any form: dense, scattered, one slice thick."""
    shape = draw(st.tuples(*[st.integers(3, 8)] * 3))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    array = rng.normal(100, 60, shape)
    if draw(st.booleans()):
        array = 50 * np.round(array / 50)
    mask = rng.random(shape) < draw(st.sampled_from([0.1, 0.5, 0.9, 1.0]))
    thin = draw(st.sampled_from([None, None, 0, 1, 2]))
    if thin is not None:
        slab = np.zeros(shape, bool)
        np.moveaxis(slab, thin, 0)[shape[thin] // 2] = True
        mask &= slab
    mask.flat[rng.integers(mask.size)] = True
    array.flat[:2] = (100, 160)  # an image is never constant
    dtype = draw(st.sampled_from([np.float64, np.float32, np.int16]))
    spacing = draw(st.tuples(*[st.floats(0.5, 4.0)] * 3))
    return scan_of(array.astype(dtype), spacing, s=mask)
