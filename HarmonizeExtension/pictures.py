"""Pictures of slices for the report: before, after and difference, structures outlined."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Iterable

import numpy as np
import SimpleITK as sitk
from scipy import ndimage

from . import comparison
from .scan import Modality, Role, Scan

# Distinct on grey, and apart for colour-blind readers (Okabe and Ito 2008).
OUTLINE_COLOURS = ((230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66), (213, 94, 0), (204, 121, 167))
LETTER_COLOUR = (240, 180, 0)  # to be seen on black and on white


def slice_index(scan: Scan) -> int:
    """The axial slice that shows most: where the most important structure is largest, else the middle."""
    for role in (Role.PROTECTED, Role.MEASURED, Role.REFERENCE):
        masks = [s.array for s in scan.with_role(role) if s.array.any()]
        if masks:
            smallest = min(masks, key=np.count_nonzero)
            return int(np.argmax(smallest.reshape(len(smallest), -1).sum(1)))
    return scan.image.GetSize()[2] // 2


def outlined(scan: Scan) -> dict[str, tuple[int, int, int]]:
    """The colour of each structure that is outlined, by name: the six that matter most, protected ones first."""
    order = (Role.PROTECTED, Role.REFERENCE, Role.MEASURED)
    names = dict.fromkeys(s.name for role in order for s in scan.with_role(role))
    return dict(zip(names, OUTLINE_COLOURS, strict=False))


def before_and_after(before: Scan, after: Scan, height: int = 420) -> dict[str, bytes]:
    """PNG pictures of one axial slice by caption: before, after, difference; both scans on one grid.

    The patient's front is up and the right side is on the left, however the voxels are stored; the letters say so.
    The captions give the slice's place and the window; `outlined` says which colour is whose.
    """
    before, after = upright(before), upright(after)
    z = slice_index(before)
    place = _place(before, z)
    spacing = before.spacing_mm
    masks = [(before.structures[name].array[z], colour) for name, colour in outlined(before).items()]
    shown = {}
    for name, scan in (("before", before), ("after", after)):
        low, high = comparison.window(scan)
        grey = grey_rgb(scan.array[z], low, high)
        if scan.modality is Modality.PET:
            grey = 255 - grey  # as nuclear medicine reads it: dark is high uptake
        inverse = ", dark is high" if scan.modality is Modality.PET else ""
        caption = f"{name}, {place}, window {low:.4g} to {high:.4g} {scan.units}".rstrip() + inverse
        shown[caption] = png(lettered(outline(enlarge(grey, spacing, height), masks)))
    change = comparison.difference(before, after)
    # Never finer than a hundredth of the window, or rounding would fill a picture of nothing.
    limit = max(float(np.percentile(np.abs(change), 99.5)), 0.01 * (high - low))
    scaled = "" if after.units else ", before scaled to after"
    caption = f"after minus before{scaled}: red is brighter, blue darker, white 0; full colour at"
    shown[f"{caption} {limit:.3g} {after.units}".strip()] = png(
        lettered(enlarge(diverging_rgb(change[z], limit), spacing, height))
    )
    return shown


def _place(scan: Scan, z: int) -> str:
    """Where the middle of an axial slice lies, in words."""
    width, height, _ = scan.image.GetSize()
    superior = scan.image.TransformContinuousIndexToPhysicalPoint([(width - 1) / 2, (height - 1) / 2, float(z)])[2]
    return f"axial at {abs(superior):.1f} mm {'superior' if superior >= 0 else 'inferior'}"


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


def outline(rgb: np.ndarray, masks: Iterable[tuple[np.ndarray, tuple[int, int, int]]]) -> np.ndarray:
    """The picture with the edge of each mask (y, x; of any size) drawn in its colour."""
    drawn = rgb.copy()
    for mask, colour in masks:
        zoom = (rgb.shape[0] / mask.shape[0], rgb.shape[1] / mask.shape[1])
        large = ndimage.zoom(mask.astype(np.float32), zoom, order=1, grid_mode=True, mode="nearest") > 0.5
        if large.shape == rgb.shape[:2]:
            drawn[large & ~ndimage.binary_erosion(large, iterations=2)] = colour
    return drawn


def lettered(rgb: np.ndarray) -> np.ndarray:
    """The picture with R and L at the sides of the patient."""
    from PIL import Image, ImageDraw, ImageFont

    image = Image.fromarray(rgb)
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(max(rgb.shape[0] // 22, 10))
    for letter, x, anchor in (("R", 0.02, "lm"), ("L", 0.98, "rm")):
        at = (x * rgb.shape[1], rgb.shape[0] / 2)
        draw.text(at, letter, LETTER_COLOUR, font, anchor, stroke_width=2, stroke_fill=(0, 0, 0))
    return np.asarray(image)


def png(rgb: np.ndarray) -> bytes:
    """The picture (y, x, 3) uint8 as a PNG file's bytes."""
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(rgb).save(stream, "PNG", optimize=True)
    return stream.getvalue()
