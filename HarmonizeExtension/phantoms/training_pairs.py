"""Slices of one person as every scanner shows them, with the truth beneath: what networks are trained and tested on.

Only the slices that are wanted are drawn, from the same anatomy, scanners and grid as whole scans (`brain.py`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from ..errors import InputError
from .anatomy import head_axes
from .brain import stored_image
from .maps import PropertyMaps, property_maps
from .person import Body, Person, body_of, draw_body
from .scanners import Scanner

COARSE_MM = 4.0  # at which the brain is looked for
LEAST_AREA = 0.1  # of the brain's largest slice: what lies below is spinal cord
MARGIN = 6  # slices that are drawn on each side of those wanted, as a scanner's point spread mixes neighbours


@dataclasses.dataclass(frozen=True, eq=False)
class PairedSlices:
    """Axial slices of one person, the brain in their middle, from the neck upward.

    scans: (scanner, slice, y, x), int16, in the order of the scanners asked for; every scan lies on the same voxels.
    maps: by field strength, the true T1, T2* and proton density (slice, y, x), for each that a scanner has.
    structures: by name, masks (slice, y, x); "white matter", "grey matter" and "brain" always, lesions where there are.
    fractions: by name of the tissue, its share of each voxel (slice, y, x).
    heights_mm: (slice,), position along the head, towards the feet negative, in the coordinates of whole scans.
    """

    scans: np.ndarray
    maps: dict[float, PropertyMaps]
    structures: dict[str, np.ndarray]
    fractions: dict[str, np.ndarray]
    heights_mm: np.ndarray


def paired_slices(
    person: Person,
    scanners: Sequence[Scanner],
    rng: np.random.Generator,
    spacing_mm: float = 1.0,
    slices: tuple[float, float] | None = None,
    field_mm: tuple[float, float] = (192.0, 192.0),
) -> PairedSlices:
    """One session of the person on each scanner; all noise and gains come from `rng`, scanner by scanner.

    spacing_mm: of the voxels, the same along all axes; the slices lie `spacing_mm` apart.
    slices: the lowest and highest, as shares of the brain's height (0.5 and 0.6: a tenth of the brain above its
        middle); None for all from the brainstem to the crown.
    field_mm: length of the field along y and x (192 x 192 voxels at 1 mm), at most that of whole scans. It holds
        skull and scalp around the brain; 224 mm along y also hold forehead and back of the largest heads.
    Raises InputError for a spacing, slices or a field that make no sense.
    """
    part, wanted = _part(person, spacing_mm, slices, field_mm)
    z_axis, rows = head_axes(spacing_mm)[0], len(head_axes(spacing_mm)[1])
    # The whole length is scanned and then cut, since k-space would otherwise wrap one edge of the field to the other.
    y = part[1]
    body = draw_body(person, spacing_mm, (part[0], slice(0, rows), part[2]))
    inner = (wanted, y, slice(None))
    fields = {scanner.field_strength_tesla for scanner in scanners}
    return PairedSlices(
        scans=np.stack([stored_image(body, scanner, rng)[inner] for scanner in scanners]),
        maps={field: _cut(property_maps(body, field), inner) for field in sorted(fields)},
        structures={name: mask[inner] for name, mask in body.structures.items()},
        fractions={str(tissue): _share(body, tissue)[inner] for tissue in body.portions},
        heights_mm=z_axis[part[0]][wanted],
    )


def _part(person: Person, spacing_mm: float, slices, field_mm: tuple[float, float]):
    """What to draw of the head's grid (z, y, x), and which of those slices are wanted."""
    axes = head_axes(spacing_mm)
    rows, columns = (round(length / spacing_mm) for length in field_mm)
    if not (16 <= rows <= len(axes[1]) and 16 <= columns <= len(axes[2])):
        raise InputError(
            f"a field of {field_mm[0]:g} x {field_mm[1]:g} mm is not possible at {spacing_mm:g} mm; use "
            f"{16 * spacing_mm:g} to {len(axes[1]) * spacing_mm:g} mm along y and to "
            f"{len(axes[2]) * spacing_mm:g} mm along x"
        )
    brain = body_of(person, COARSE_MM).structures["brain"]
    area = brain.sum(axis=(1, 2))
    brain = brain & (area > LEAST_AREA * area.max())[:, None, None]
    (z0, z1), (y0, y1), (x0, x1) = (
        axis[np.flatnonzero(brain.any(axis=others))[[0, -1]]]
        for axis, others in zip(head_axes(COARSE_MM), ((1, 2), (0, 2), (0, 1)), strict=True)
    )
    lowest, highest = slices if slices is not None else (0.0, 1.0)
    if not 0 <= lowest <= highest <= 1:
        raise InputError(f"slices from {lowest:g} to {highest:g} of the brain's height: use 0 to 1, the lower first")
    heights = z0 + (z1 - z0) * np.array([lowest, highest])
    first, last = (int(np.argmin(np.abs(axes[0] - height))) for height in heights)
    start = max(0, first - MARGIN)
    z = slice(start, min(len(axes[0]), last + 1 + MARGIN))
    y, x = _middle(axes[1], (y0 + y1) / 2, rows), _middle(axes[2], (x0 + x1) / 2, columns)
    return (z, y, x), slice(first - start, last + 1 - start)


def _middle(axis: np.ndarray, centre: float, count: int) -> slice:
    start = int(np.argmin(np.abs(axis - centre))) - count // 2
    start = min(max(start, 0), len(axis) - count)
    return slice(start, start + count)


def _cut(maps: PropertyMaps, inner) -> PropertyMaps:
    arrays = (maps.t1_ms, maps.t2_star_ms, maps.proton_density)
    return PropertyMaps(maps.field_strength_tesla, *(np.ascontiguousarray(array[inner]) for array in arrays))


def _share(body: Body, tissue) -> np.ndarray:
    share = np.zeros(body.shape, np.float32)
    share.ravel()[body.portions[tissue].index] = body.portions[tissue].share
    return share
