"""Pictures of slices for the report: before, after and difference, structures outlined."""

from __future__ import annotations

import dataclasses
import io

import numpy as np
import SimpleITK as sitk
from scipy import ndimage

from . import comparison
from .scan import Role, Scan

# Distinct on grey, and apart for colour-blind readers (Okabe and Ito 2008).
OUTLINE_COLOURS = ((230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66), (213, 94, 0), (204, 121, 167))


def slice_index(scan: Scan) -> int:
    """The axial slice that shows most: where the most important structure is largest, else the middle."""
    for role in (Role.PROTECTED, Role.MEASURED, Role.REFERENCE):
        masks = [s.array for s in scan.with_role(role) if s.array.any()]
        if masks:
            smallest = min(masks, key=np.count_nonzero)
            return int(np.argmax(smallest.reshape(len(smallest), -1).sum(1)))
    return scan.image.GetSize()[2] // 2


def before_and_after(before: Scan, after: Scan, height: int = 420) -> dict[str, bytes]:
    """PNG pictures of one axial slice by caption: before, after, difference; both scans on one grid.

    The patient's front is up and the right side is on the left, however the voxels are stored.
    """
    before, after = upright(before), upright(after)
    z = slice_index(before)
    masks = [s.array[z] for s in before.structures.values()]
    change = comparison.difference(before, after)
    limit = float(np.percentile(np.abs(change), 99.5)) or 1.0
    spacing = before.spacing_mm
    grey = {
        "before": grey_rgb(before.array[z], *comparison.window(before)),
        "after": grey_rgb(after.array[z], *comparison.window(after)),
    }
    shown = {name: png(outline(enlarge(rgb, spacing, height), masks)) for name, rgb in grey.items()}
    limit_text = f"{limit:.3g} {after.units}".strip()
    shown[f"after minus before (red: brighter, up to {limit_text})"] = png(
        enlarge(diverging_rgb(change[z], limit), spacing, height)
    )
    return shown


def upright(scan: Scan) -> Scan:
    """The scan with its voxels stored from the patient's right to left, front to back and feet to head."""
    structures = {
        name: dataclasses.replace(structure, mask=sitk.DICOMOrient(structure.mask, "LPS"))
        for name, structure in scan.structures.items()
    }
    return dataclasses.replace(scan, image=sitk.DICOMOrient(scan.image, "LPS"), structures=structures)


def grey_rgb(slice_: np.ndarray, low: float, high: float) -> np.ndarray:
    """Grey levels (y, x, 3) uint8 of a slice (y, x) in the window low to high."""
    return np.repeat((np.clip((slice_ - low) / (high - low), 0, 1) * 255).astype(np.uint8)[..., None], 3, axis=2)


def diverging_rgb(slice_: np.ndarray, limit: float) -> np.ndarray:
    """White at 0, red above, blue below (y, x, 3) uint8, saturated at +-limit."""
    x = np.clip(slice_ / limit, -1, 1)
    up, down = np.clip(x, 0, 1), np.clip(-x, 0, 1)
    rgb = np.stack([1 - 0.9 * down, 1 - 0.85 * np.maximum(up, down), 1 - 0.9 * up], axis=-1)
    return (rgb * 255).astype(np.uint8)


def enlarge(rgb: np.ndarray, spacing_mm: tuple[float, float, float], height: int) -> np.ndarray:
    """The slice at its physical aspect ratio, `height` pixels high, top row first as radiologists look at it."""
    from PIL import Image

    width = round(height * rgb.shape[1] * spacing_mm[0] / (rgb.shape[0] * spacing_mm[1]))
    return np.asarray(Image.fromarray(rgb).resize((max(width, 1), height), Image.Resampling.BICUBIC))


def outline(rgb: np.ndarray, masks: list[np.ndarray]) -> np.ndarray:
    """The picture with the edge of each mask (y, x; of any size) drawn in its colour."""
    drawn = rgb.copy()
    for mask, colour in zip(masks, OUTLINE_COLOURS * (1 + len(masks) // len(OUTLINE_COLOURS)), strict=False):
        zoom = (rgb.shape[0] / mask.shape[0], rgb.shape[1] / mask.shape[1])
        large = ndimage.zoom(mask.astype(np.float32), zoom, order=1, grid_mode=True, mode="nearest") > 0.5
        if large.shape == rgb.shape[:2]:
            drawn[large & ~ndimage.binary_erosion(large, iterations=2)] = colour
    return drawn


def png(rgb: np.ndarray) -> bytes:
    """The picture (y, x, 3) uint8 as a PNG file's bytes."""
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(rgb).save(stream, "PNG", optimize=True)
    return stream.getvalue()
