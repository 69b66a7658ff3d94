"""Where the patient is: outside the body the image stays as it is, and statistics never include air.

The patient is found on a coarse grid, where noise averages out and a whole-body CT is small, and outlined on the scan's
own. In CT what is thin (a couch top, a mask, blankets) is dropped; every sizeable piece is kept (two thighs, an arm
beside the trunk), and what the patient encloses belongs to the patient.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from . import images
from .scan import Modality, Scan

# Names under which planning systems keep the outline of the patient, and skull strippers that of the brain.
OUTLINE_NAMES = ("body", "external", "skin", "outline", "patient outline")

CT_AIR_THRESHOLD_HU = -500.0  # halfway between air and water
PET_BODY_SUV = 0.1  # Haberl 2024, section 2.5
WORKING_SPACING_MM = 2.5
GAP_MM = 5.0  # nostrils, folds and skin lost in noise are closed up to about twice this
SMALLEST_PIECE = 0.01  # of the largest
SHEET_MM = 7.0  # what is thinner in CT is a mask, a tube or the top of a couch
BEAM_MM = 20.0  # and a piece of its own that is thinner than this in every slice belongs to the couch too
DARKEST_TISSUE = 0.3  # of the median of the rest; a class of voxels that is brighter is tissue, not air
AIR_DEPTH_MM = 8.0  # air lies in thicker layers than the fluid around a brain


def body_mask(scan: Scan) -> np.ndarray:
    """The patient as a bool array (z, y, x).

    A structure named like an outline (Body, External, ...) is taken as it is. Otherwise what lies above a threshold:
    -500 HU in CT, SUV 0.1 in PET (Haberl et al. 2024), Otsu's threshold between noise and tissue in MR and in PET
    without SUV, where it follows the gain of the scan. Lungs that the field of view cuts open count as outside.
    """
    for name, structure in scan.structures.items():
        if name.strip().lower() in OUTLINE_NAMES:
            return structure.array.copy()
    array = scan.array
    spacing_mm = np.array(scan.spacing_mm[::-1])
    factor = np.maximum(np.round(WORKING_SPACING_MM / spacing_mm), 1).astype(int)
    coarse = _block_mean(array, factor)
    coarse_mm = tuple((spacing_mm * factor)[::-1])
    threshold = _threshold(scan, coarse, coarse_mm)
    axial = int(np.argmax(np.abs(np.array(scan.image.GetDirection()).reshape(3, 3)[2])[::-1]))
    found = coarse > threshold
    if scan.modality is Modality.CT:
        found = _without_couch(found, coarse_mm, axial)
    if not found.any():
        return np.ones(array.shape, bool)
    found = _filled(_closed(_pieces(found), images.ball(GAP_MM, coarse_mm)), axial)
    # The surface is drawn voxel by voxel within one coarse voxel of where it was found.
    around = _repeat(ndimage.binary_dilation(found), factor, array.shape)
    within = _repeat(ndimage.binary_erosion(found, border_value=1), factor, array.shape)
    box = images.bounding_box(around, margin=2)
    fine = array[box]
    if scan.modality is not Modality.CT:
        fine = ndimage.uniform_filter(fine, np.where(factor > 1, 3, 1))
    within[box] |= around[box] & (fine > threshold)
    within[box] = _filled(within[box], axial)
    return within


def _threshold(scan: Scan, coarse: np.ndarray, spacing_mm: tuple[float, float, float]) -> float:
    if scan.modality is Modality.CT:
        return CT_AIR_THRESHOLD_HU
    if scan.units == "SUV":
        return PET_BODY_SUV
    # What was padded after the scan is constant at the lowest value and hides the noise: where thick layers of another
    # dark class remain without it, they are the air.
    scanned = coarse > coarse.min()
    threshold = _air_threshold(coarse, np.ones_like(scanned))
    if not scanned.all():
        without_padding = _air_threshold(coarse, scanned)
        dark = scanned & (coarse <= without_padding)
        # Boxes instead of balls: their filters work axis by axis and take a tenth of the time.
        box = [1 + 2 * int(AIR_DEPTH_MM / s) for s in spacing_mm[::-1]]
        core = ndimage.minimum_filter(dark.astype(np.uint8), box, mode="nearest")
        layers = dark & (ndimage.maximum_filter(core, box, mode="nearest") > 0)
        if np.count_nonzero(layers) > max(0.2 * np.count_nonzero(dark), 0.05 * np.count_nonzero(scanned)):
            return without_padding
    return threshold


def _air_threshold(coarse: np.ndarray, inside: np.ndarray) -> float:
    """Where noise ends and tissue begins in an image of unknown gain; -inf where there is no air.

    Otsu's threshold of the logarithm, since bright fat would otherwise pull it above grey matter.
    """
    lowest = min(float(coarse.min()), 0.0)  # magnitudes and counts begin at 0, whether there is air or not
    top = max(float(np.percentile(coarse[inside], 99.5)) - lowest, 1e-30)
    values = (coarse[inside] - lowest) / top
    threshold = float(np.expm1(_otsu(np.log1p(100 * values))) / 100)
    dark, bright = (float(np.median(part)) for part in (values[values <= threshold], values[values > threshold]))
    if dark > DARKEST_TISSUE * bright:
        return -np.inf
    return lowest + top * threshold


def _otsu(values: np.ndarray) -> float:
    """Otsu's threshold (1979): both classes hold at least one value, the upper one those above it."""
    count, edges = np.histogram(values, 256)
    centre = (edges[:-1] + edges[1:]) / 2
    below, total = np.cumsum(count)[:-1].astype(float), float(len(values))
    sum_below, whole = np.cumsum(count * centre)[:-1], float((count * centre).sum())
    between = (whole * below - total * sum_below) ** 2 / (below * (total - below))
    return float(edges[1 + int(np.argmax(between))])


def _without_couch(mask: np.ndarray, spacing_mm: tuple[float, float, float], axial: int) -> np.ndarray:
    """The mask of a CT without sheets, and without beams that stand apart from the largest piece."""
    ball = images.ball(SHEET_MM / 2, spacing_mm)
    solid = _opened(mask, ball)
    if 1.5 * _filled(solid, axial).sum() < _filled(images.largest_component(mask), axial).sum():
        solid = mask  # a hollow phantom is nothing but sheets
    disk = images.ball(BEAM_MM / 2, spacing_mm)
    disk = np.take(disk, [disk.shape[axial] // 2], axial)
    labels, _ = ndimage.label(solid)
    size = np.bincount(labels.ravel())
    keep = np.zeros(len(size), bool)
    keep[labels[ndimage.binary_erosion(solid, disk)]] = True
    keep[1 + np.argmax(size[1:], keepdims=True) if len(size) > 1 else []] = True
    keep[0] = False
    # What the opening took from the patient's own surface lies within its reach.
    return ndimage.binary_dilation(keep[labels], ball) & mask


def _opened(mask: np.ndarray, ball: np.ndarray) -> np.ndarray:
    # The patient goes on beyond the field of view, so the border does not erode.
    return ndimage.binary_dilation(ndimage.binary_erosion(mask, ball, border_value=1), ball) & mask


def _closed(mask: np.ndarray, ball: np.ndarray) -> np.ndarray:
    margin = max(ball.shape)
    closed = ndimage.binary_erosion(ndimage.binary_dilation(np.pad(mask, margin, mode="edge"), ball), ball)
    return closed[(slice(margin, -margin),) * 3] | mask


def _pieces(mask: np.ndarray) -> np.ndarray:
    """The pieces that are not tiny against the largest."""
    labels, _ = ndimage.label(mask)
    size = np.bincount(labels.ravel())
    size[0] = 0
    return (size >= SMALLEST_PIECE * size.max())[labels] & mask


def _filled(mask: np.ndarray, axial: int) -> np.ndarray:
    """The mask with what it encloses in each slice across the axis `axial` of the body."""
    across = ndimage.generate_binary_structure(3, 1)
    across[tuple(slice(None) if axis != axial else [0, 2] for axis in range(3))] = False
    labels, count = ndimage.label(~mask, across)
    outside = np.zeros(count + 1, bool)
    for axis in {0, 1, 2} - {axial}:
        for end in (0, -1):
            outside[np.take(labels, end, axis)] = True
    return mask | ~outside[labels]


def _block_mean(array: np.ndarray, factor: np.ndarray) -> np.ndarray:
    """Means of blocks of `factor` voxels (z, y, x); the last block of an axis may be smaller."""
    for axis, n in enumerate(factor):
        if n > 1:
            start = np.arange(0, array.shape[axis], n)
            count = np.diff([*start, array.shape[axis]]).astype(np.float32)
            array = np.add.reduceat(array, start, axis) / np.expand_dims(count, [a for a in range(3) if a != axis])
    return array


def _repeat(mask: np.ndarray, factor: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """A mask on the grid of blocks back on that of the voxels."""
    for axis, n in enumerate(factor):
        mask = np.take(mask, np.arange(shape[axis]) // n, axis)
    return mask
