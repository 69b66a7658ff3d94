"""The MTF of a CT scan, measured on the edges that are in it.

Sources: Sanders, Ding, Samei, An automated technique to measure spatial resolution in clinical CT images: application
to patient data, Med Phys 43, 2016, doi 10.1118/1.4958208 (air-skin interface); ISO 12233 (oversampled edge).
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from ..errors import InputError
from .ct_kernel import FREQUENCIES_LP_PER_MM, KernelMTF

EDGE_STEP_HU = 400.0  # air against tissue or bone; weaker edges drown in noise
EDGE_SIGMA_MM = 0.8  # smoothing for finding edges; the edge itself is measured on the scan as it is
EDGE_REACH_MM = 5.0
PLATEAU_MM = (3.0, 6.0)  # distance from the edge at which both sides must be flat
STEEPEST_SHARE = 0.25  # folds, motion and slanting surfaces only ever blur an edge
MINIMUM_EDGES = 100


def edge_mtf(array: np.ndarray, spacing_mm: tuple[float, float, float], name: str = "measured") -> KernelMTF:
    """The MTF from all steep, straight or round edges between two flat sides, such as air against tissue.

    Around each edge point the voxels of its slice are sorted by their distance along the normal, which samples the
    edge far finer than the grid (as in ISO 12233); the mean edge's derivative is the line-spread function, its
    Fourier transform the MTF. Only the steepest quarter of the edges counts. Raises InputError for too few edges.
    """
    pixel = np.array(spacing_mm[1::-1])
    smooth = ndimage.gaussian_filter(array, [0, *(EDGE_SIGMA_MM / pixel)])
    slope = np.stack([np.gradient(smooth, s, axis=axis) for axis, s in zip((1, 2), pixel, strict=True)])
    steepness = np.hypot(*slope)
    points = np.argwhere(steepness > EDGE_STEP_HU / 6)  # a step blurred to 2.4 mm (sigma) still reaches this
    points = points[:: max(1, len(points) // 100_000)]
    normal = np.stack([s[tuple(points.T)] for s in slope], 1) / steepness[tuple(points.T)][:, None]

    def along(distance_mm: np.ndarray, image: np.ndarray) -> np.ndarray:
        """Values (points, distances) on the normals."""
        where = points[:, 1:, None] + normal[:, :, None] * (distance_mm / pixel[:, None])[None]
        z = np.broadcast_to(points[:, :1], where.shape[::2])
        return ndimage.map_coordinates(image, [z, where[:, 0], where[:, 1]], order=1, mode="nearest")

    side = np.arange(*PLATEAU_MM, 0.5)
    low, high = along(-side, smooth), along(side, smooth)
    step = high.mean(1) - low.mean(1)
    slant = np.abs(np.gradient(smooth, spacing_mm[2], axis=0)[tuple(points.T)]) / steepness[tuple(points.T)]
    flat = 0.05 * step
    near = np.arange(-1.0, 1.01, 0.1)
    profile = (along(near, smooth) - low.mean(1)[:, None]) / np.maximum(step, 1)[:, None]
    offset = near[np.argmin(np.abs(profile - 0.5), axis=1)]
    good = (step > EDGE_STEP_HU) & (low.std(1) < flat) & (high.std(1) < flat) & (slant < 0.15)
    good &= np.abs(offset) < 0.6 * pixel.max()
    chosen = np.flatnonzero(good)
    if len(chosen) < MINIMUM_EDGES:
        raise InputError(
            f"only {len(chosen)} clean edges to measure the MTF on, {MINIMUM_EDGES} are needed; "
            "estimate from noise, or name the kernel of this scan"
        )
    # Per unit of step: the steepest edges are those that only the kernel has blurred.
    sharpness = steepness[tuple(points[chosen].T)] / step[chosen]
    chosen = chosen[sharpness >= np.quantile(sharpness, 1 - STEEPEST_SHARE)]
    chosen = chosen[:: max(1, len(chosen) // 4000)]
    # The half-way point between the samples of the profile, by the slope there.
    k = np.clip(np.argmax(profile[chosen] >= 0.5, axis=1), 1, len(near) - 1)
    rows = np.arange(len(chosen))
    below, above = profile[chosen][rows, k - 1], profile[chosen][rows, k]
    offset = near[k] - 0.1 * np.clip((above - 0.5) / np.maximum(above - below, 1e-6), 0, 1)

    distance, value = _edge_samples(
        array, points[chosen], normal[chosen], offset, low.mean(1)[chosen], step[chosen], pixel
    )
    return _mtf_of_edge(distance, value, 0.5 / pixel.max(), name)


def _edge_samples(array, points, normal, offset, low, step, pixel):
    """Distance (mm) along the normal and normalised value of the voxels in a narrow band across each edge point."""
    half = [int(np.ceil(EDGE_REACH_MM / s)) for s in pixel]
    dy, dx = (g.ravel() for g in np.meshgrid(*(np.arange(-h, h + 1) for h in half), indexing="ij"))
    y, x = points[:, 1, None] + dy, points[:, 2, None] + dx
    inside = (y >= 0) & (y < array.shape[1]) & (x >= 0) & (x < array.shape[2])
    along = normal[:, :1] * (dy * pixel[0]) + normal[:, 1:] * (dx * pixel[1]) - offset[:, None]
    across = normal[:, 1:] * (dy * pixel[0]) - normal[:, :1] * (dx * pixel[1])
    row, column = np.nonzero(inside & (np.abs(across) < pixel.max()) & (np.abs(along) < EDGE_REACH_MM))
    value = array[points[row, 0], y[row, column], x[row, column]]
    return along[row, column], (value - low[row]) / step[row]


def _mtf_of_edge(distance, value, nyquist, name) -> KernelMTF:
    """The MTF of an oversampled edge."""
    width = 0.1
    bins = np.round((distance + EDGE_REACH_MM) / width).astype(int)
    count = np.bincount(bins)
    edge = np.bincount(bins, value) / np.maximum(count, 1)
    position = np.arange(len(edge)) * width - EDGE_REACH_MM
    line = np.diff(np.interp(position, position[count > 0], edge[count > 0]))
    position = position[1:] - width / 2
    line *= np.cos(np.pi / 2 * np.clip(position / (EDGE_REACH_MM - 1), -1, 1)) ** 2
    frequency = FREQUENCIES_LP_PER_MM[nyquist >= FREQUENCIES_LP_PER_MM]
    transfer = np.abs(np.exp(-2j * np.pi * np.outer(frequency, position)) @ line)
    transfer /= transfer[0] * np.sinc(frequency * width) ** 2  # bins and differences blur by a known box each
    # Beyond the first value under 2 % there is only noise.
    end = np.flatnonzero(transfer < 0.02)
    return (
        KernelMTF(name, frequency[: end[0] + 1], transfer[: end[0] + 1])
        if len(end)
        else KernelMTF(name, frequency, transfer)
    )
