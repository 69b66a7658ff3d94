"""Grids, resampling, masks and arrays: the only place that knows SimpleITK's (x, y, z) and numpy's (z, y, x)."""

from __future__ import annotations

import math

import numpy as np
import SimpleITK as sitk
from scipy import ndimage

from .errors import InputError

# Slices thinner than this many voxels are no volume: texture and filters need neighbours on three axes.
MINIMUM_SIZE = 2
LARGEST_VALUE = 1e30  # sums and squares of larger ones leave float32
MOST_VOXELS = 2**29  # 2 GiB of float32


def to_array(image: sitk.Image) -> np.ndarray:
    """Intensities as a new float32 array (z, y, x)."""
    return sitk.GetArrayViewFromImage(image).astype(np.float32)


def to_image(array: np.ndarray, grid: sitk.Image) -> sitk.Image:
    """An array (z, y, x) as an image with exactly the origin, spacing and direction of `grid`."""
    if array.shape != grid.GetSize()[::-1]:
        raise InputError(f"an array of shape {array.shape} does not fit a grid of {grid.GetSize()[::-1]} (z, y, x)")
    image = sitk.GetImageFromArray(np.ascontiguousarray(array))
    image.CopyInformation(grid)
    return image


def mask_image(array: np.ndarray, grid: sitk.Image) -> sitk.Image:
    """A boolean array (z, y, x) as a uint8 mask on `grid`."""
    return to_image(np.asarray(array, dtype=np.uint8), grid)


def same_grid(a: sitk.Image, b: sitk.Image) -> bool:
    """True when size, origin, spacing and direction agree (to 1e-4 of a voxel, as files round them)."""
    if a.GetSize() != b.GetSize():
        return False
    tolerance = 1e-4 * min(b.GetSpacing())
    corners = [(0, 0, 0), a.GetSize(), (a.GetSize()[0], 0, 0), (0, a.GetSize()[1], 0)]
    return all(
        np.allclose(
            a.TransformContinuousIndexToPhysicalPoint([float(v) for v in corner]),
            b.TransformContinuousIndexToPhysicalPoint([float(v) for v in corner]),
            rtol=0,
            atol=tolerance * max(1, max(corner)),
        )
        for corner in corners
    )


def check_volume(image: sitk.Image, name: str) -> None:
    """Raise InputError unless the image is a finite, scalar, not constant 3D volume."""
    if image.GetDimension() != 3:
        raise InputError(
            f"'{name}' has {image.GetDimension()} dimensions; choose a single 3D volume (split a time series first)"
        )
    if image.GetNumberOfComponentsPerPixel() != 1:
        raise InputError(
            f"'{name}' has {image.GetNumberOfComponentsPerPixel()} values per voxel (a colour or vector image); "
            "choose a scalar volume"
        )
    if min(image.GetSize()) < MINIMUM_SIZE:
        raise InputError(f"'{name}' is {_times(image.GetSize())} voxels, a single slice; harmonization needs a volume")
    array = sitk.GetArrayViewFromImage(image)
    if array.dtype.kind == "f":
        bad = ~np.isfinite(array)
        if bad.any():
            z, y, x = (int(v) for v in np.argwhere(bad)[0])
            raise InputError(
                f"'{name}' has {int(bad.sum())} voxels that are NaN or infinite, the first at index ({x}, {y}, {z}); "
                "replace them (for example with the background value) and try again"
            )
    low, high = float(array.min()), float(array.max())
    if max(-low, high) > LARGEST_VALUE:
        raise InputError(
            f"'{name}' holds values from {low:g} to {high:g}, which are no measured intensities; check how it was made"
        )
    if low == high:
        raise InputError(f"'{name}' is constant ({low:g} everywhere); there is nothing to harmonize, check the file")


def _times(size) -> str:
    return " x ".join(str(v) for v in size)


def resample(
    image: sitk.Image, grid: sitk.Image, interpolator: int = sitk.sitkBSpline, outside: float = 0.0
) -> sitk.Image:
    """The image on another grid (float32); voxels that it does not cover get `outside`."""
    return sitk.Resample(sitk.Cast(image, sitk.sitkFloat32), grid, sitk.Transform(), interpolator, float(outside))


def resample_mask(mask: sitk.Image, grid: sitk.Image) -> sitk.Image:
    """A mask on another grid by nearest neighbour (uint8, 0 or 1)."""
    return sitk.Resample(sitk.Cast(mask != 0, sitk.sitkUInt8), grid, sitk.Transform(), sitk.sitkNearestNeighbor, 0)


def overlap_fraction(mask: sitk.Image, grid: sitk.Image) -> float:
    """Share of the mask's voxels whose centre lies inside the extent of `grid`; 0 for an empty mask."""
    index = np.argwhere(sitk.GetArrayViewFromImage(mask) != 0)[:, ::-1].astype(float)
    if not len(index):
        return 0.0
    to_grid = np.linalg.inv(index_to_physical(grid)) @ index_to_physical(mask)
    there = index @ to_grid[:3, :3].T + to_grid[:3, 3]
    return float(np.mean(np.all((there > -0.5) & (there < np.array(grid.GetSize()) - 0.5), axis=1)))


def index_to_physical(image: sitk.Image) -> np.ndarray:
    """4 x 4 matrix from voxel index (x, y, z) to LPS mm."""
    matrix = np.eye(4)
    matrix[:3, :3] = np.array(image.GetDirection()).reshape(3, 3) * np.array(image.GetSpacing())
    matrix[:3, 3] = image.GetOrigin()
    return matrix


def grid_with_spacing(image: sitk.Image, spacing_mm: tuple[float, float, float]) -> sitk.Image:
    """An empty grid of the same box (same outer edges, not same first voxel centre) with another spacing."""
    size = np.array(image.GetSize())
    old, new = np.array(image.GetSpacing()), np.array(spacing_mm, dtype=float)
    if not (np.isfinite(new).all() and (new > 0).all()):
        raise InputError(f"spacing {spacing_mm} mm is not possible; give positive numbers")
    count = np.maximum(np.ceil(size * old / new - 1e-6), 1)
    voxels = math.prod(count.tolist())
    if voxels > MOST_VOXELS:
        raise InputError(
            f"a grid of {' x '.join(f'{v:g}' for v in new)} mm would have {voxels:.2g} voxels, more than "
            f"{MOST_VOXELS:.2g}; choose larger voxels"
        )
    count = count.astype(int)
    first = (size - count * new / old) / 2 + 0.5 * new / old - 0.5  # of the new grid, in old voxels
    grid = sitk.Image([int(v) for v in count], sitk.sitkUInt8)
    grid.SetSpacing([float(v) for v in new])
    grid.SetDirection(image.GetDirection())
    grid.SetOrigin(image.TransformContinuousIndexToPhysicalPoint([float(v) for v in first]))
    return grid


def ball(radius_mm: float, spacing_mm: tuple[float, float, float]) -> np.ndarray:
    """A ball as a boolean array (z, y, x) on a grid of spacing (x, y, z) mm; at least one voxel."""
    half = [int(radius_mm / s) for s in spacing_mm[::-1]]
    axes = np.ogrid[tuple(slice(-h, h + 1) for h in half)]
    return sum((axis * s / max(radius_mm, 1e-6)) ** 2 for axis, s in zip(axes, spacing_mm[::-1], strict=True)) <= 1


def distance_mm(mask: np.ndarray, spacing_mm: tuple[float, float, float]) -> np.ndarray:
    """Distance in mm from each voxel outside the mask (z, y, x) to the mask; 0 inside."""
    return ndimage.distance_transform_edt(~mask, sampling=spacing_mm[::-1])


def bounding_box(mask: np.ndarray, margin: int = 0) -> tuple[slice, ...]:
    """The slices (z, y, x) of the smallest box around the mask, grown by `margin` voxels inside the array."""
    found = ndimage.find_objects(mask.astype(np.uint8))
    if not found:
        raise InputError("the mask is empty")
    return tuple(
        slice(max(s.start - margin, 0), min(s.stop + margin, n)) for s, n in zip(found[0], mask.shape, strict=True)
    )


def largest_component(mask: np.ndarray) -> np.ndarray:
    """The largest face-connected piece of a mask."""
    labels, count = ndimage.label(mask)
    if count <= 1:
        return mask
    return labels == 1 + int(np.argmax(np.bincount(labels.ravel())[1:]))
