"""Filtered images: Laplacian of Gaussian and the eight bands of a stationary wavelet, as pyradiomics makes them.

Only the part of the image is filtered that reaches into the structure's box.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

import numpy as np
import SimpleITK as sitk

from .settings import Settings

Box = tuple[slice, slice, slice]

# Coiflet of order 1 (Daubechies 1992, Ten Lectures on Wavelets, section 8.2), with a sum of 1, times the root of 2.
_ROOT7 = np.sqrt(7)
_COIFLET = np.array([_ROOT7 - 3, 1 - _ROOT7, 14 - 2 * _ROOT7, 14 + 2 * _ROOT7, 5 + _ROOT7, 1 - _ROOT7]) / 32
_BEFORE, _AFTER = 2, 3  # voxels before and after that each filtered voxel draws on

# The recursive Gaussian of ITK has forgotten an edge to the last bit after this many sigmas.
LOG_REACH_SIGMAS = 20


def images(
    image_type: str,
    array: np.ndarray,
    box: Box,
    spacing_mm: tuple[float, float, float],
    settings: Settings,
    laplacian: Callable[..., np.ndarray],
) -> Iterator[tuple[str, np.ndarray]]:
    """Name and intensities in the box (z, y, x) of each image of a type; array: the image (z, y, x).

    laplacian: `laplacian_of_gaussian`, or one that remembers what it did. One too wide for the image is left out.
    """
    if image_type == "Original":
        yield "original", array[box].copy()  # the array may be a view of an image that goes away
    elif image_type == "LoG":
        for sigma in settings.log_sigmas_mm:
            if _log_fits(array.shape, spacing_mm, sigma):
                yield log_name(sigma), laplacian(array, box, spacing_mm, sigma)
    else:
        yield from wavelet_bands(array, box, settings.plane_axis)


def names(image_type: str, settings: Settings) -> list[str]:
    """The names of the images of a type."""
    if image_type == "Original":
        return ["original"]
    if image_type == "LoG":
        return [log_name(sigma) for sigma in settings.log_sigmas_mm]
    return [band_name(band) for band in _bands(settings.plane_axis)]


def log_name(sigma_mm: float) -> str:
    """pyradiomics' name: sigma 1.5 mm is "log-sigma-1-5-mm-3D"."""
    return f"log-sigma-{str(sigma_mm).replace('.', '-')}-mm-3D"


def band_name(band: tuple[int, ...]) -> str:
    """pyradiomics' name: low along x, high along y and z is "wavelet-LHH"."""
    return "wavelet-" + "".join("LH"[high] for high in band)


def _log_fits(shape: tuple[int, ...], spacing_mm: tuple[float, float, float], sigma_mm: float) -> bool:
    size = np.array(shape[::-1])
    return bool(size.min() >= 4 and np.all(size >= np.ceil(sigma_mm / np.array(spacing_mm)) + 1))


def laplacian_of_gaussian(
    array: np.ndarray, box: Box, spacing_mm: tuple[float, float, float], sigma_mm: float
) -> np.ndarray:
    """The scale-normalised Laplacian of the image smoothed with a Gaussian of `sigma_mm`, in the box (z, y, x).

    To the last bit what ITK's LaplacianRecursiveGaussian gives on the whole image (float32): along each axis the
    second derivative, then smoothing along the others. An axis that is done is cut to the box before the next.
    """
    reach = [int(np.ceil(LOG_REACH_SIGMAS * sigma_mm / spacing)) for spacing in spacing_mm[::-1]]
    wide = tuple(
        slice(max(s.start - r, 0), min(s.stop + r, n)) for s, r, n in zip(box, reach, array.shape, strict=True)
    )
    image = sitk.GetImageFromArray(array[wide])
    image.SetSpacing(spacing_mm)
    inner = [(s.start - w.start, s.stop - s.start) for s, w in zip(box, wide, strict=True)][::-1]  # as (x, y, z)
    total = np.zeros([s.stop - s.start for s in box], np.float32)
    for axis, spacing in enumerate(spacing_mm):
        part = image
        for along in (axis, *(other for other in range(3) if other != axis)):
            part = sitk.RecursiveGaussian(part, sigma_mm, True, 2 if along == axis else 0, along)
            start, size = [0, 0, 0], list(part.GetSize())
            start[along], size[along] = inner[along]
            part = sitk.RegionOfInterest(part, size, start)
        second = sitk.GetArrayFromImage(part).astype(float)
        total = (total + second * (1 / spacing**2)).astype(np.float32)
    return total


def wavelet_bands(array: np.ndarray, box: Box, plane_axis: int | None = None) -> Iterator[tuple[str, np.ndarray]]:
    """The bands of one level of the undecimated coiflet transform in the box (z, y, x): eight in 3D, four in 2D.

    The image repeats periodically; along an axis of odd length its first slice is repeated once more before that.
    """
    kind = array.dtype.type if array.dtype.kind == "f" else np.float64
    low = _COIFLET.astype(kind) * kind(np.sqrt(2))
    high = low[::-1] * np.array([-1, 1, -1, 1, -1, 1], kind)
    axes = _axes(plane_axis)
    index = []
    for axis, (part, length) in enumerate(zip(box, array.shape, strict=True)):
        if axis in axes:
            around = np.arange(part.start - _BEFORE, part.stop + _AFTER) % (length + length % 2)
            index.append(around % length)
        else:
            index.append(np.arange(part.start, part.stop))
    part = array[np.ix_(*index)].astype(kind)

    def bands(data: np.ndarray, done: tuple[int, ...]) -> Iterator[tuple[tuple[int, ...], np.ndarray]]:
        if len(done) == len(axes):
            yield done, data
            return
        for which, taps in enumerate((low, high)):
            yield from bands(_filtered(data, taps, axes[len(done)]), (*done, which))

    for band, data in bands(part, ()):
        yield band_name(band), data


def _axes(plane_axis: int | None) -> list[int]:
    """The axes (of z, y, x) in the order in which a band's name lists them: x first."""
    return [axis for axis in (2, 1, 0) if axis != plane_axis]


def _bands(plane_axis: int | None) -> list[tuple[int, ...]]:
    return list(itertools.product((0, 1), repeat=len(_axes(plane_axis))))


def _filtered(data: np.ndarray, taps: np.ndarray, axis: int) -> np.ndarray:
    """The convolution along an axis, where it is complete; added up in the order of the taps."""
    data = np.moveaxis(data, axis, 0)
    count = len(data) - len(taps) + 1
    result = np.zeros((count, *data.shape[1:]), data.dtype)
    for j, tap in enumerate(taps):
        first = len(taps) - 1 - j
        result += tap * data[first : first + count]
    return np.moveaxis(result, 0, axis)
