"""Small boxes placed by rule in lung, soft tissue and bone, and their features: what a CT kernel's effect shows in.

Selim et al. 2021, section 4.1, take random regions whose mean lies in one of three ranges of HU. Here they lie on a
regular grid, so that the same image gives the same regions.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from .. import images
from ..progress import CancelCheck, never, stop_if
from ..radiomics.extraction import extract
from ..radiomics.settings import Settings
from ..scan import Scan, Structure
from .agreement import HU_STRATA

SIZE_MM = (8.0, 8.0, 8.0)  # x, y, z: fits into the spongy part of a vertebra, and holds a few hundred voxels
MOST = 40  # of a stratum and image: neighbours overlap, so that more of them say little more
_AROUND_VOXELS = 48  # kept around a box, beyond the reach of the spline that resamples it


@dataclasses.dataclass(frozen=True)
class Cube:
    """A box of voxels (z, y, x) and its mean HU in the image that it was placed on."""

    box: tuple[slice, slice, slice]
    mean_hu: float


def place_cubes(
    truth: Scan,
    inside: np.ndarray,
    size_mm: tuple[float, float, float] = SIZE_MM,
    strata: Sequence[tuple[float, float]] = HU_STRATA,
    most: int = MOST,
) -> list[Cube]:
    """Boxes of `size_mm` (x, y, z) that lie wholly `inside` (z, y, x) and whose mean HU is in a stratum, by stratum.

    Their corners lie on a grid of half their size. Where a stratum has many, every so many-th is taken, `most` in all.
    """
    array = truth.array
    size = [max(1, round(mm / s)) for mm, s in zip(size_mm[::-1], truth.spacing_mm[::-1], strict=True)]
    found: list[list[Cube]] = [[] for _ in strata]
    for corner in np.ndindex(*(2 * (n // s) for n, s in zip(array.shape, size, strict=True))):
        box = tuple(slice(c * s // 2, c * s // 2 + s) for c, s in zip(corner, size, strict=True))
        if array[box].shape != tuple(size) or not inside[box].all():
            continue
        mean = float(array[box].mean())
        for cubes, (low, high) in zip(found, strata, strict=True):
            if low <= mean <= high:
                cubes.append(Cube(box, mean))
    return [cube for cubes in found for cube in cubes[:: max(1, len(cubes) // most)][:most]]


def features_of_cubes(
    scan: Scan, cubes: Sequence[Cube], settings: Settings, cancelled: CancelCheck = never
) -> tuple[tuple[str, ...], np.ndarray]:
    """Names (features,) and values (cubes, features) of all features but shape, which no image decides."""
    names: tuple[str, ...] = ()
    values = []
    for cube in cubes:
        stop_if(cancelled)
        # Cut out, since a mask as large as the scan for every cube would take minutes and gigabytes.
        around = [
            slice(_start(s.start, old, new), min(s.stop + _AROUND_VOXELS, n))
            for s, n, old, new in zip(
                cube.box, scan.image.GetSize()[::-1], scan.spacing_mm[::-1], _spacing(settings), strict=True
            )
        ]
        image = scan.image[tuple(around[::-1])]
        mask = np.zeros(image.GetSize()[::-1], bool)
        mask[tuple(slice(s.start - a.start, s.stop - a.start) for s, a in zip(cube.box, around, strict=True))] = True
        part = Scan(image, scan.modality, {"cube": Structure("cube", images.mask_image(mask, image))}, units=scan.units)
        (row,) = extract(part, settings).rows
        names = names or tuple(name for name in row.values if "_shape_" not in name)
        values.append([row.values[name] for name in names])
    return names, np.array(values, dtype=float).reshape(len(cubes), len(names))


def _spacing(settings: Settings) -> Sequence[float]:
    """The voxel size (z, y, x) that features are measured at, 0 for the image's own."""
    return settings.resampled_spacing_mm[::-1] if settings.resamples else (0.0, 0.0, 0.0)


def _start(start: int, old_mm: float, new_mm: float) -> int:
    """Where a part with the voxel `start` may begin so that it is resampled at the very points of the whole.

    The new voxels are counted from the corner of the image, so the part has to begin at one of theirs.
    """
    candidates = np.arange(max(start - _AROUND_VOXELS, 0), -1, -1)
    corners = candidates * (old_mm / new_mm if new_mm else 1.0)
    return int(candidates[np.argmax(np.abs(corners - np.rint(corners)) < 1e-6)])
