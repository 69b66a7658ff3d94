"""RTSTRUCT in: planar contours filled on the scan's grid.

A voxel belongs to a structure when its centre lies inside the contours of its plane by the even-odd rule, which makes
holes of inner contours and takes keyhole contours as they are meant (DICOM PS3.3 C.8.8.6). Each contour plane stands
for half the contour spacing to both sides, so contours drawn on coarser planes leave no gaps.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from pydicom import Dataset

from .. import images
from ..errors import InputError
from .tags import items, numbers, read_tags, text

MINIMUM_INSIDE = 0.5  # of a structure's contour points that must lie inside the scan
_FLAT = 0.25  # voxels by which the points of one contour may leave their plane
_TAGS = ("ReferencedFrameOfReferenceSequence", "StructureSetROISequence", "ROIContourSequence")
_CLOSED = ("CLOSED_PLANAR", "CLOSEDPLANAR_XOR")


def read_rtstruct(
    path: Path,
    grid: sitk.Image,
    wanted: Collection[str] | None,
    references: frozenset[str],
    notes: list[str],
) -> Iterator[tuple[str, sitk.Image]]:
    """Name and mask of each structure of an RTSTRUCT file on `grid`.

    wanted: names to take; None takes all that were contoured.
    references: UIDs of the scan's series and frame of reference; empty where unknown (NIfTI).
    notes: gets a sentence for whatever is not taken as it is.
    Raises InputError where the file is no RTSTRUCT, was drawn on another scan, or a structure is empty or outside.
    """
    dataset = _read(path)
    drawn_on = _references(dataset)
    if references and drawn_on and not references & drawn_on:
        raise InputError(
            f"'{path}' was drawn on another scan (another frame of reference); choose the one for this scan"
        )
    for name, contours in _rois(dataset, path, notes):
        if wanted is not None and name not in wanted:
            continue
        if not contours:
            if wanted is not None:
                raise InputError(f"structure '{name}' in '{path}' is empty; contour it or leave it out")
            notes.append(f"structure '{name}' in '{path.name}' was never contoured and is left out")
            continue
        yield name, mask_of_contours(contours, grid, name, path)


def _read(path: Path) -> Dataset:
    dataset = read_tags(path, _TAGS)
    modality = text(dataset, "Modality")
    if modality == "SEG":
        raise InputError(f"'{path}' is a DICOM segmentation object; load it in Slicer and save it as .seg.nrrd")
    if modality != "RTSTRUCT":
        raise InputError(f"'{path}' is {modality or 'unknown'}, not a segmentation; choose the RTSTRUCT file")
    return dataset


def _references(dataset: Dataset) -> frozenset[str]:
    """UIDs of the frames of reference and of the series that the contours were drawn on."""
    frames = items(dataset, "ReferencedFrameOfReferenceSequence")
    series = [
        entry
        for frame in frames
        for study in items(frame, "RTReferencedStudySequence")
        for entry in items(study, "RTReferencedSeriesSequence")
    ]
    uids = {text(roi, "ReferencedFrameOfReferenceUID") for roi in items(dataset, "StructureSetROISequence")}
    uids |= {text(frame, "FrameOfReferenceUID") for frame in frames}
    uids |= {text(entry, "SeriesInstanceUID") for entry in series}
    return frozenset(uids - {""})


def _rois(dataset: Dataset, path: Path, notes: list[str]) -> Iterator[tuple[str, list[np.ndarray]]]:
    """Name and closed contours (points x 3, LPS, mm) of each region of interest."""
    listed = items(dataset, "StructureSetROISequence")
    contoured = {
        text(entry, "ReferencedROINumber"): items(entry, "ContourSequence")
        for entry in items(dataset, "ROIContourSequence")
    }
    names = [text(roi, "ROIName") or f"ROI {text(roi, 'ROINumber')}" for roi in listed]
    for roi, name in zip(listed, names, strict=True):
        if names.count(name) > 1:
            name = f"{name} ({text(roi, 'ROINumber')})"
        contours, skipped = [], 0
        for entry in contoured.get(text(roi, "ROINumber"), []):
            data = np.array(numbers(entry, "ContourData"))
            if data.size % 3 or not np.isfinite(data).all():
                raise InputError(f"a contour of '{name}' in '{path}' is damaged; export it again")
            points = data.reshape(-1, 3)
            if text(entry, "ContourGeometricType") not in _CLOSED or len(points) < 3:
                skipped += 1
            elif not any(np.array_equal(points, other) for other in contours):
                contours.append(points)  # the same contour twice would be a hole in itself
        if skipped and contours:
            notes.append(f"{skipped} points or open lines of structure '{name}' are left out; closed contours count")
        yield name, contours


def mask_of_contours(contours: list[np.ndarray], grid: sitk.Image, name: str, path: Path | str) -> sitk.Image:
    """Closed planar contours (each (points, 3) in LPS mm) filled on `grid`; uint8, 0 or 1.

    name, path: of the structure and of where it comes from, for messages.
    Raises InputError where it lies outside the grid or falls between its voxels.
    """
    to_index = np.linalg.inv(images.index_to_physical(grid))
    indices = [points @ to_index[:3, :3].T + to_index[:3, 3] for points in contours]
    points = np.concatenate(indices)
    inside = np.mean(np.all((points > -0.5) & (points < np.array(grid.GetSize()) - 0.5), axis=1))
    if inside < MINIMUM_INSIDE:
        raise InputError(
            f"structure '{name}' in '{path}' lies outside the scan ({inside:.0%} of its contours are inside); "
            "choose the RTSTRUCT that was made on this scan"
        )
    axis = _plane_axis(indices)
    if axis is None:
        mask = _fill_oblique(contours, grid, name, path)
    else:
        mask = images.mask_image(_fill(indices, axis, grid.GetSize()), grid)
    if not sitk.GetArrayViewFromImage(mask).any():
        raise InputError(
            f"structure '{name}' in '{path}' falls between the voxels of the scan and vanishes; "
            "contour it on the scan itself"
        )
    return mask


def _plane_axis(indices: list[np.ndarray]) -> int | None:
    """The index axis (2 is the slice axis) across which every contour is flat; None where oblique."""
    thickness = np.max([np.ptp(points, axis=0) for points in indices], axis=0)
    axis = 2 if thickness[2] <= _FLAT else int(np.argmin(thickness))
    return axis if thickness[axis] <= _FLAT else None


def _fill(indices: list[np.ndarray], axis: int, size: tuple[int, int, int]) -> np.ndarray:
    """Contours in voxel indices, flat across `axis`, filled on a grid of `size` (x, y, z); bool array (z, y, x)."""
    across = [other for other in range(3) if other != axis]
    depth = np.array([points[:, axis].mean() for points in indices])
    planes, plane_of = _planes(depth)
    half = float(np.median(np.diff(planes))) / 2 if len(planes) > 1 else 0.5
    filled = np.zeros((size[axis], size[across[1]], size[across[0]]), bool)
    middles = (planes[1:] + planes[:-1]) / 2
    slices = np.arange(size[axis])
    # A slice halfway between two planes, or half a spacing from the last, goes with the plane above it: so every
    # plane stands for one whole spacing. The small number keeps rounding in the file from deciding.
    nearest = np.searchsorted(middles, slices + 1e-3, side="right")
    offset = slices - planes[nearest] + 1e-3
    belongs = (offset >= -half) & (offset < half)
    sections: dict[int, np.ndarray] = {}
    for index in np.flatnonzero(belongs):
        plane = int(nearest[index])
        if plane not in sections:
            polygons = [indices[number][:, across] for number in np.flatnonzero(plane_of == plane)]
            sections[plane] = fill_polygons(polygons, filled.shape[1:])
        filled[index] = sections[plane]
    return np.moveaxis(filled, 0, 2 - axis)


def _planes(depth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The distinct planes among contour depths (in voxels), sorted, and the plane of each contour."""
    order = np.argsort(depth, kind="stable")
    new = np.concatenate([[0], np.cumsum(np.diff(depth[order]) > 0.05)])
    plane_of = np.empty(len(depth), int)
    plane_of[order] = new
    planes = np.bincount(plane_of, depth) / np.bincount(plane_of)
    return planes, plane_of


def fill_polygons(polygons: list[np.ndarray], shape: tuple[int, int]) -> np.ndarray:
    """Pixels (rows, columns) whose centre lies inside the polygons by the even-odd rule.

    polygons: each (points, 2) as (column, row) in pixels, closed by itself; the centre of pixel i is at i.
    Every edge toggles all pixels to the right of where it crosses the line through the centres of a row; an odd number
    of toggles is inside. Edges count at their upper end and not at their lower one, so that no corner counts twice.
    """
    rows, columns = shape
    toggles = np.zeros((rows, columns + 1), np.int32)
    for polygon in polygons:
        start, end = polygon, np.roll(polygon, -1, axis=0)
        upper = np.where((start[:, 1] <= end[:, 1])[:, None], start, end)
        lower = np.where((start[:, 1] <= end[:, 1])[:, None], end, start)
        first = np.clip(np.ceil(upper[:, 1]), 0, rows).astype(int)
        last = np.clip(np.ceil(lower[:, 1]), 0, rows).astype(int)  # exclusive
        count = last - first
        edge = np.repeat(np.arange(len(polygon)), count)
        row = np.arange(len(edge)) - np.repeat(np.cumsum(count) - count, count) + first[edge]
        share = (row - upper[edge, 1]) / (lower[edge, 1] - upper[edge, 1])
        crossing = upper[edge, 0] + share * (lower[edge, 0] - upper[edge, 0])
        column = np.clip(np.ceil(crossing), 0, columns).astype(int)
        np.add.at(toggles, (row, column), 1)
    return np.cumsum(toggles, axis=1)[:, :columns] % 2 == 1


def _fill_oblique(contours: list[np.ndarray], grid: sitk.Image, name: str, path: Path | str) -> sitk.Image:
    """Contours that lie across the grid, filled on a finer grid in their own planes and then resampled."""
    largest = max(contours, key=len)
    _, _, axes = np.linalg.svd(largest - largest.mean(axis=0), full_matrices=False)
    direction = np.column_stack([axes[0], axes[1], np.cross(axes[0], axes[1])])
    own = [points @ direction for points in contours]
    fine = min(grid.GetSpacing()) / 2
    planes, _ = _planes(np.array([points[:, 2].mean() for points in own]))
    between = float(np.median(np.diff(planes))) if len(planes) > 1 else max(grid.GetSpacing())
    spacing = np.array([fine, fine, max(between, fine)])
    lowest = np.min([points.min(axis=0) for points in own], axis=0) - spacing
    lowest[2] = planes[0] - between
    highest = np.max([points.max(axis=0) for points in own], axis=0) + spacing
    corners = np.array(list(itertools.product(*((-0.5, count - 0.5) for count in grid.GetSize()))))
    to_physical = images.index_to_physical(grid)
    box = (corners @ to_physical[:3, :3].T + to_physical[:3, 3]) @ direction
    # What lies outside the scan is not drawn, however far away a damaged point may be.
    lowest += np.maximum(np.floor((box.min(axis=0) - lowest) / spacing), 0) * spacing
    highest = np.minimum(highest, box.max(axis=0))
    size = [int(v) for v in np.ceil((highest - lowest) / spacing) + 1]
    indices = [(points - lowest) / spacing for points in own]
    if max(np.ptp(points[:, 2]) for points in indices) > _FLAT:
        raise InputError(f"the contours of '{name}' in '{path}' lie in no common planes; redraw them on slices")
    plane_grid = sitk.Image(size, sitk.sitkUInt8)
    plane_grid.SetSpacing(spacing.tolist())
    plane_grid.SetDirection(direction.ravel().tolist())
    plane_grid.SetOrigin((direction @ lowest).tolist())
    filled = images.mask_image(_fill(indices, 2, tuple(size)), plane_grid)
    return images.resample_mask(filled, grid)
