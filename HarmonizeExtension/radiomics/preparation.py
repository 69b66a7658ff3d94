"""From a scan to the voxels that are measured: normalisation, resampling, re-segmentation, cropping, filters.

Each step is taken as pyradiomics takes it, grid alignment included, but the work that the structures of an image
have in common (normalisation, spline coefficients) is done once, and nothing is filtered that no feature sees.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator, Sequence

import numpy as np
import SimpleITK as sitk

from ..errors import InputError
from ..scan import Scan, Structure
from . import filters
from .settings import Settings

# A cubic spline has forgotten what lies this many voxels away to the last bit (0.268 ** 40 is 1e-23).
SPLINE_REACH_VOXELS = 40

Box = tuple[slice, slice, slice]


@dataclasses.dataclass(frozen=True)
class Region:
    """What is measured: intensities and mask (z, y, x) in the structure's box, and the voxel size (x, y, z) in mm.

    whole: the structure before re-segmentation, in a box of its own, for its shape.
    """

    image_type: str
    array: np.ndarray
    mask: np.ndarray
    spacing_mm: tuple[float, float, float]
    whole: np.ndarray
    settings: Settings


class Preparation:
    """One scan made ready for some of its structures."""

    def __init__(self, scan: Scan, structures: Sequence[Structure], settings: Settings):
        self.scan, self.structures, self.settings = scan, structures, settings
        self._laplacians: dict[float, np.ndarray] = {}

    @functools.cached_property
    def image(self) -> sitk.Image:
        """The scan's image, normalised where the settings say so."""
        return normalised(self.scan.image, self.settings) if self.settings.normalize else self.scan.image

    @functools.cached_property
    def spline_coefficients(self) -> sitk.Image:
        """The cubic B-spline of the image around its structures, evaluated for each on its own part of the grid."""
        if 2 in self.image.GetSize():  # ITK's mirrored border would read beyond it
            raise InputError(
                f"'{self.scan.name}' has only 2 voxels along one axis, too few for a B-spline; "
                "choose the interpolator sitkLinear in the radiomics settings"
            )
        part = _cut(self.image, self.around, SPLINE_REACH_VOXELS)
        return sitk.BSplineDecomposition(sitk.Cast(part, sitk.sitkFloat64))

    @functools.cached_property
    def around(self) -> Box:
        """The smallest box around all structures."""
        boxes = [box for box in (_box(_occupied(s.mask)) for s in self.structures) if not _is_empty(box)]
        return tuple(slice(min(s.start for s in ends), max(s.stop for s in ends)) for ends in zip(*boxes, strict=True))

    def laplacian_of_gaussian(self, array: np.ndarray, box: Box, spacing_mm, sigma_mm: float) -> np.ndarray:
        """`filters.laplacian_of_gaussian` of the scan's image, filtered once around all structures."""
        if sigma_mm not in self._laplacians:
            self._laplacians[sigma_mm] = filters.laplacian_of_gaussian(array, self.around, spacing_mm, sigma_mm)
        inner = tuple(slice(s.start - a.start, s.stop - a.start) for s, a in zip(box, self.around, strict=True))
        return self._laplacians[sigma_mm][inner]

    def regions(self, structure: Structure) -> Iterator[Region]:
        """The structure on the original image and each filtered one that the settings ask for.

        Raises InputError where nothing can be measured, saying why and what to do.
        """
        settings, image, mask = self.settings, self.image, structure.mask
        called = f"structure '{structure.name}'"
        box = _box(_occupied(mask))
        if _is_empty(box):
            raise InputError(f"{called} is empty; draw it, or leave it out of the measurement")
        if settings.resamples:
            image, mask = self._resampled(image, mask, box, called)
            called += " after resampling"
            box = _box(_occupied(mask))
        elif settings.pre_crop:
            image, mask = (_cut(part, box, settings.pad_distance_voxels) for part in (image, mask))
            box = _box(_occupied(mask))
        on_own_grid = image is not self.image
        laplacian = filters.laplacian_of_gaussian if on_own_grid else self.laplacian_of_gaussian
        array = sitk.GetArrayViewFromImage(image)
        inside = whole = sitk.GetArrayViewFromImage(mask)[box] != 0
        _check_size(whole, settings, called)
        if settings.resegment_range is not None:
            inside = resegmented(array[box], whole, settings)
            if inside.sum() <= 1:
                raise InputError(
                    f"re-segmentation leaves {int(inside.sum())} voxels of {called}; "
                    "widen resegmentRange in the radiomics settings"
                )
            smaller = _box(inside)
            inside = inside[smaller]
            box = tuple(slice(b.start + s.start, b.start + s.stop) for b, s in zip(box, smaller, strict=True))
            _check_size(inside, settings, called + " and re-segmentation")
            if settings.resegment_shape:
                whole = inside
        for image_type in settings.image_types:
            own = settings.for_image_type(image_type)
            for filter_name, filtered in filters.images(image_type, array, box, image.GetSpacing(), own, laplacian):
                yield Region(filter_name, filtered, inside, image.GetSpacing(), whole, own)

    def _resampled(self, image: sitk.Image, mask: sitk.Image, box: Box, called: str) -> tuple[sitk.Image, sitk.Image]:
        """Image and mask at the spacing of the settings, around the structure; as pyradiomics lays its grid.

        The grid shares the corner of the image, not the centre of its first voxel, and covers the structure's box
        with `pad_distance_voxels` around it. Along an axis on which the structure is one slice thick the spacing stays.
        """
        settings = self.settings
        old, size = np.array(mask.GetSpacing()), np.array(mask.GetSize())
        start, stop = (np.array([getattr(s, end) for s in box[::-1]]) for end in ("start", "stop"))
        new = np.array(settings.resampled_spacing_mm)
        new = np.where((new == 0) | (stop - start == 1), old, new)
        if np.allclose(image.GetSpacing(), new):
            return tuple(_cut(part, box, settings.pad_distance_voxels) for part in (image, mask))
        ratio = old / new
        low = np.maximum(np.floor((start - 0.5) * ratio - settings.pad_distance_voxels), 0)
        high = np.ceil((stop - 0.5) * ratio + settings.pad_distance_voxels)
        high = np.minimum(high, np.ceil(size * ratio) - 1)
        first = 0.5 * (new - old) / old + low / ratio

        resampler = sitk.ResampleImageFilter()
        resampler.SetOutputSpacing(new.tolist())
        resampler.SetOutputDirection(mask.GetDirection())
        resampler.SetSize([int(n) for n in high - low + 1])
        resampler.SetOutputOrigin(mask.TransformContinuousIndexToPhysicalPoint(first.tolist()))
        resampler.SetOutputPixelType(image.GetPixelID())
        if settings.interpolator == "sitkBSpline":
            resampler.SetInterpolator(sitk.sitkBSplineResampler)
            resampled = resampler.Execute(self.spline_coefficients)
        else:
            resampler.SetInterpolator(getattr(sitk, settings.interpolator))
            resampled = resampler.Execute(image)
        resampler.SetOutputPixelType(mask.GetPixelID())
        resampler.SetInterpolator(sitk.sitkNearestNeighbor)
        resampled_mask = resampler.Execute(mask)
        if not _occupied(resampled_mask).any():
            spacing = " x ".join(f"{v:g}" for v in new)
            raise InputError(
                f"{called} vanishes when it is resampled to {spacing} mm; "
                "choose a smaller resampledPixelSpacing in the radiomics settings, or leave this structure out"
            )
        return resampled, resampled_mask


def normalised(image: sitk.Image, settings: Settings) -> sitk.Image:
    """Mean 0 and standard deviation 1 over the whole image, outliers clipped, times the scale."""
    image = sitk.Normalize(image)
    if settings.remove_outliers_sigma is not None:
        image = sitk.Clamp(image, image.GetPixelID(), -settings.remove_outliers_sigma, settings.remove_outliers_sigma)
    return image * settings.normalize_scale


def resegmented(array: np.ndarray, inside: np.ndarray, settings: Settings) -> np.ndarray:
    """The mask's voxels (z, y, x) whose intensity lies in the re-segmentation range, limits included."""
    values = array[inside]
    limits = sorted(settings.resegment_range)
    if settings.resegment_mode == "relative":
        limits = [values.max() * limit for limit in limits]
    elif settings.resegment_mode == "sigma":
        mean, deviation = np.mean(values), np.std(values)
        limits = [mean + deviation * limit for limit in limits]
    kept = values >= limits[0]
    if len(limits) == 2:
        kept &= values <= limits[1]
    result = inside.copy()
    result[inside] = kept
    return result


def _occupied(mask: sitk.Image) -> np.ndarray:
    return sitk.GetArrayViewFromImage(mask) != 0


def _box(inside: np.ndarray) -> Box:
    """The smallest box (z, y, x) around the voxels of a mask; empty slices for an empty mask."""
    box: list[slice] = []
    for axis in range(3):
        others = tuple(a for a in range(3) if a != axis)
        occupied = np.flatnonzero(inside[tuple(box)].any(axis=others))
        box.append(slice(int(occupied[0]), int(occupied[-1]) + 1) if occupied.size else slice(0, 0))
    return tuple(box)


def _is_empty(box: Box) -> bool:
    return any(s.start == s.stop for s in box)


def _check_size(inside: np.ndarray, settings: Settings, called: str) -> None:
    """InputError where a structure, in its box, is too small to be measured."""
    dimensions = sum(n > 1 for n in inside.shape)
    if dimensions == 0:
        raise InputError(f"{called} is a single voxel; features need more: draw it larger, or leave it out")
    if dimensions < settings.minimum_dimensions:
        raise InputError(
            f"{called} extends along {dimensions} of the {settings.minimum_dimensions} axes that "
            "minimumROIDimensions in the radiomics settings asks for; draw it larger, leave it out, or lower that"
        )
    if settings.minimum_voxels is not None and inside.sum() <= settings.minimum_voxels:
        raise InputError(
            f"{called} has {int(inside.sum())} voxels, not more than the {settings.minimum_voxels} of "
            "minimumROISize in the radiomics settings; leave it out, or lower that"
        )


def _cut(image: sitk.Image, box: Box, margin: int) -> sitk.Image:
    """The part of an image in a box (z, y, x), with a margin of voxels around it."""
    low = [max(s.start - margin, 0) for s in box[::-1]]
    high = [min(s.stop + margin, n) for s, n in zip(box[::-1], image.GetSize(), strict=True)]
    return sitk.RegionOfInterest(image, [h - w for h, w in zip(high, low, strict=True)], low)
