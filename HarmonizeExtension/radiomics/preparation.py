"""From a scan to the voxels that are measured: normalisation, resampling, re-segmentation, cropping, filters.

Each step is taken as pyradiomics takes it, grid alignment included, but the work that the structures of an image
have in common (normalisation, spline coefficients) is done once, and nothing is filtered that no feature sees.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator

import numpy as np
import SimpleITK as sitk

from ..errors import InputError
from ..scan import Scan, Structure
from . import filters
from .settings import Settings

LABEL = 1


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
    """One scan made ready for any number of its structures."""

    def __init__(self, scan: Scan, settings: Settings):
        self.scan, self.settings = scan, settings

    @functools.cached_property
    def image(self) -> sitk.Image:
        """The scan's image, normalised where the settings say so."""
        return normalised(self.scan.image, self.settings) if self.settings.normalize else self.scan.image

    @functools.cached_property
    def spline_coefficients(self) -> sitk.Image:
        """The cubic B-spline of the image; evaluated for each structure on its own part of the grid."""
        if 2 in self.image.GetSize():  # ITK's mirrored border would read beyond it
            raise InputError(
                f"'{self.scan.name}' has only 2 voxels along one axis, too few for a B-spline; "
                "choose the interpolator sitkLinear in the radiomics settings"
            )
        return sitk.BSplineDecomposition(sitk.Cast(self.image, sitk.sitkFloat64))

    def regions(self, structure: Structure) -> Iterator[Region]:
        """The structure on the original image and each filtered one that the settings ask for.

        Raises InputError where nothing can be measured, saying why and what to do.
        """
        settings, name = self.settings, structure.name
        image, mask = self.image, structure.mask
        if not structure.array.any():
            raise InputError(f"structure '{name}' is empty; draw it, or leave it out of the measurement")
        if settings.resamples:
            image, mask = self._resampled(image, mask, name)
        elif settings.pre_crop:
            image, mask = _cropped(image, mask, settings.pad_distance_voxels)
        array, inside = sitk.GetArrayViewFromImage(image), sitk.GetArrayViewFromImage(mask) == LABEL
        called = f"structure '{name}'" + (" after resampling" if settings.resamples else "")
        box = _checked_box(inside, settings, called)
        whole = inside[box]
        if settings.resegment_range is not None:
            inside = resegmented(array, inside, settings)
            if inside.sum() <= 1:
                raise InputError(
                    f"re-segmentation leaves {int(inside.sum())} voxels of structure '{name}'; "
                    "widen resegmentRange in the radiomics settings"
                )
            box = _checked_box(inside, settings, called)
            if settings.resegment_shape:
                whole = inside[box]
        for image_type in settings.image_types:
            own = settings.for_image_type(image_type)
            for filter_name, filtered in filters.images(image_type, array, box, image.GetSpacing(), own):
                yield Region(filter_name, filtered, inside[box], image.GetSpacing(), whole, own)

    def _resampled(self, image: sitk.Image, mask: sitk.Image, name: str) -> tuple[sitk.Image, sitk.Image]:
        """Image and mask at the spacing of the settings, around the structure; as pyradiomics lays its grid.

        The grid shares the corner of the image, not the centre of its first voxel, and covers the structure's box
        with `pad_distance_voxels` around it. Along an axis on which the structure is one slice thick the spacing stays.
        """
        settings = self.settings
        old, size = np.array(mask.GetSpacing()), np.array(mask.GetSize())
        start, count = _extent(sitk.GetArrayViewFromImage(mask) == LABEL)
        new = np.array(settings.resampled_spacing_mm)
        new = np.where((new == 0) | (count == 1), old, new)
        if np.allclose(image.GetSpacing(), new):
            return _cropped(image, mask, settings.pad_distance_voxels)
        ratio = old / new
        low = np.floor((start - 0.5) * ratio - settings.pad_distance_voxels)
        high = np.ceil((start + count - 0.5) * ratio + settings.pad_distance_voxels)
        low = np.maximum(low, 0)
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
        if not (sitk.GetArrayViewFromImage(resampled_mask) == LABEL).any():
            spacing = " x ".join(f"{v:g}" for v in new)
            raise InputError(
                f"structure '{name}' vanishes when it is resampled to {spacing} mm; "
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


def _extent(inside: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """First index and count (x, y, z) of the box around the mask's voxels."""
    box = _box(inside)
    return np.array([s.start for s in box[::-1]]), np.array([s.stop - s.start for s in box[::-1]])


def _box(inside: np.ndarray) -> tuple[slice, slice, slice]:
    """The smallest box (z, y, x) around the mask's voxels; empty slices for an empty mask."""
    box = []
    for axis in range(3):
        others = tuple(a for a in range(3) if a != axis)
        occupied = np.flatnonzero(inside.any(axis=others))
        box.append(slice(int(occupied[0]), int(occupied[-1]) + 1) if occupied.size else slice(0, 0))
    return tuple(box)


def _checked_box(inside: np.ndarray, settings: Settings, called: str) -> tuple[slice, slice, slice]:
    """The box of the structure; InputError where it is too small to be measured."""
    box = _box(inside)
    dimensions = sum(s.stop - s.start > 1 for s in box)
    if dimensions == 0:
        raise InputError(
            f"{called} is a single voxel; features need more, draw it larger, leave it out, or resample more finely"
        )
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
    return box


def _cropped(image: sitk.Image, mask: sitk.Image, margin: int) -> tuple[sitk.Image, sitk.Image]:
    """Image and mask in the structure's box with a margin of voxels around it."""
    start, count = _extent(sitk.GetArrayViewFromImage(mask) == LABEL)
    low = np.maximum(start - margin, 0)
    high = np.minimum(start + count + margin, mask.GetSize())
    index, size = [int(v) for v in low], [int(v) for v in high - low]
    return sitk.RegionOfInterest(image, size, index), sitk.RegionOfInterest(mask, size, index)
