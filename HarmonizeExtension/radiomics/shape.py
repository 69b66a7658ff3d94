"""Shape of a structure: its volume, surface, diameters and principal axes (IBSI HCUG).

The surface is the one of marching cubes at half way (Lorensen and Cline 1987), in the triangulation of pyradiomics.
It is never built: how often each of the 256 ways to fill a cube's corners occurs, and where, is all that volume and
area need. The diameters are taken over the corners of the convex hull.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence

import numpy as np
from scipy.spatial import ConvexHull
from scipy.spatial.distance import pdist

from .definitions import Definition

FEATURES = {
    "Elongation": Definition("elongation", "Q3CK"),
    "Flatness": Definition("flatness", "N17B"),
    "LeastAxisLength": Definition("least axis length", "7J51", "mm"),
    "MajorAxisLength": Definition("major axis length", "TDIC", "mm"),
    "Maximum2DDiameterColumn": Definition("maximum diameter in a coronal plane", "", "mm"),
    "Maximum2DDiameterRow": Definition("maximum diameter in a sagittal plane", "", "mm"),
    "Maximum2DDiameterSlice": Definition("maximum diameter in an axial plane", "", "mm"),
    "Maximum3DDiameter": Definition("maximum 3D diameter", "L0JK", "mm"),
    "MeshVolume": Definition("volume (mesh)", "RNU0", "mm^3"),
    "MinorAxisLength": Definition("minor axis length", "P9VJ", "mm"),
    "Sphericity": Definition("sphericity", "QCFX"),
    "SurfaceArea": Definition("surface area (mesh)", "C0JK", "mm^2"),
    "SurfaceVolumeRatio": Definition("surface to volume ratio", "2PR5", "mm^-1"),
    "VoxelVolume": Definition("volume (voxel counting)", "YEKZ", "mm^3"),
}

AXES = {"Elongation", "Flatness", "LeastAxisLength", "MajorAxisLength", "MinorAxisLength"}
MESH = {"MeshVolume", "Sphericity", "SurfaceArea", "SurfaceVolumeRatio"}

# A cube's corners (z, y, x); a corner's bit in a cube's code is 1 << its place here.
CORNERS = tuple(itertools.product((0, 1), repeat=3))
_UNDECIDED = CORNERS.index((1, 1, 0))


def features(mask: np.ndarray, spacing_mm: tuple[float, float, float], names: Sequence[str]) -> dict[str, float]:
    """The features named, of a mask (z, y, x) with voxels of spacing (x, y, z) mm; only what they need is computed."""
    spacing = np.array(spacing_mm[::-1])
    values = {"VoxelVolume": np.count_nonzero(mask) * float(np.prod(spacing))}
    wanted = set(names)
    if wanted & AXES:
        least, minor, major = principal_variances(mask, spacing)
        values |= {
            "MajorAxisLength": 4 * np.sqrt(major),
            "MinorAxisLength": 4 * np.sqrt(minor),
            "LeastAxisLength": 4 * np.sqrt(least),
            "Elongation": np.sqrt(minor / major),
            "Flatness": np.sqrt(least / major),
        }
    padded = np.pad(mask, 1)
    if wanted & MESH:
        volume, area = mesh_volume_and_area(padded, spacing)
        values |= {
            "MeshVolume": volume,
            "SurfaceArea": area,
            # Voxels that touch at corners alone can enclose nothing, and then the ratio is that of rounding noise.
            "SurfaceVolumeRatio": area / volume if abs(volume) > 1e-9 * area * spacing.min() else np.nan,
            "Sphericity": (36 * np.pi * volume**2) ** (1 / 3) / area,
        }
    if wanted - AXES - MESH - {"VoxelVolume"}:
        vertices = mesh_vertices(padded)
        values |= {
            "Maximum3DDiameter": maximum_diameter(vertices, spacing),
            "Maximum2DDiameterSlice": maximum_diameter_in_planes(vertices, spacing, 0),
            "Maximum2DDiameterColumn": maximum_diameter_in_planes(vertices, spacing, 1),
            "Maximum2DDiameterRow": maximum_diameter_in_planes(vertices, spacing, 2),
        }
    return {name: float(values[name]) for name in names}


def principal_variances(mask: np.ndarray, spacing: np.ndarray) -> np.ndarray:
    """The variances in mm^2 of the voxel centres along their principal axes, ascending (3)."""
    position = np.argwhere(mask) * spacing
    position -= position.mean(axis=0)
    return np.maximum(np.linalg.eigvalsh(position.T @ position / len(position)), 0)


def mesh_volume_and_area(padded: np.ndarray, spacing: np.ndarray) -> tuple[float, float]:
    """Volume in mm^3 and area in mm^2 of the surface around a mask (z, y, x) that has an empty rim.

    A triangle a, b, c of a cube at t adds det(a, b, c) + t . (a x b + b x c + c x a), a sixth of it, to the volume.
    """
    code = np.zeros(np.array(padded.shape) - 1, np.uint8)
    for bit, corner in enumerate(CORNERS):
        here = tuple(slice(c, c + n) for c, n in zip(corner, code.shape, strict=True))
        code |= padded[here].astype(np.uint8) << np.uint8(bit)
    cubes = np.flatnonzero((code != 0) & (code != 255))
    kind = code.reshape(-1)[cubes]
    at = np.stack([np.bincount(kind, axis, 256) for axis in np.unravel_index(cubes, code.shape)], axis=1) * spacing
    count = np.bincount(kind, minlength=256)

    triangles, kind_of = cube_triangles()
    a, b, c = np.moveaxis(triangles * spacing, 1, 0)
    outward = np.cross(a, b) + np.cross(b, c) + np.cross(c, a)
    area = np.sum(count[kind_of] * np.linalg.norm(outward, axis=1)) / 2
    determinant = np.sum(np.cross(a, b) * c, axis=1)
    volume = np.sum(count[kind_of] * determinant + np.sum(at[kind_of] * outward, axis=1)) / 6
    return float(volume), float(area)


@functools.cache
def cube_triangles() -> tuple[np.ndarray, np.ndarray]:
    """The triangles (t, 3 corners, zyx) of all 256 cubes, seen from outside anticlockwise, and each one's cube (t)."""
    triangles, kind_of = [], []
    for kind in range(256):
        for polygon in cube_polygons(kind):
            for triangle in _fan(polygon):
                triangles.append([polygon[k] for k in triangle])
                kind_of.append(kind)
    return np.array(triangles), np.array(kind_of)


def cube_polygons(kind: int) -> list[np.ndarray]:
    """The closed polygons (n, zyx) in which the surface cuts a cube, corners at the middle of the cube's edges.

    Where a face has two filled corners across from each other, they are kept apart if the cube's corner (1, 1, 0) is
    empty, and joined if it is filled.
    """
    if kind & (1 << _UNDECIDED):
        return [polygon[::-1] for polygon in cube_polygons(255 - kind)]
    following = {}
    for axis, side in itertools.product(range(3), (0, 1)):
        u, v = [a for a in range(3) if a != axis]
        square = [np.zeros(3, int) for _ in range(4)]
        for corner, (cu, cv) in zip(square, ((0, 0), (1, 0), (1, 1), (0, 1)), strict=True):
            corner[axis], corner[u], corner[v] = side, cu, cv
        if (axis == 1) != bool(side):  # so that every face is walked in the same sense, seen from outside
            square.reverse()
        filled = [bool(kind >> CORNERS.index(tuple(corner)) & 1) for corner in square]
        for k in range(4):
            if filled[k] and not filled[k - 1]:
                end = next(j for j in range(k, k + 4) if not filled[(j + 1) % 4])
                enters, leaves = square[k - 1] + square[k], square[end % 4] + square[(end + 1) % 4]
                following[tuple(leaves)] = tuple(enters)
    polygons = []
    while following:
        start, after = following.popitem()
        polygon = [start]
        while after != start:
            polygon.append(after)
            after = following.pop(after)
        polygons.append(np.array(polygon) / 2)
    return polygons


def _fan(polygon: np.ndarray) -> list[tuple[int, int, int]]:
    """The triangles of a polygon, all from that corner from which the chords are longest.

    In a polygon of seven corners length counts the axes along which the ends of a chord differ.
    """
    n = len(polygon)
    difference = np.abs(polygon[:, None] - polygon[None, :])
    length = (difference > 0).sum(2).astype(float) if n == 7 else np.sqrt((difference**2).sum(2))
    chords = [sum(length[k, (k + j) % n] for j in range(2, n - 1)) for k in range(n)]
    apex = int(np.argmax(np.round(chords, 9)))
    return [(apex, (apex + j) % n, (apex + j + 1) % n) for j in range(1, n - 1)]


def mesh_vertices(padded: np.ndarray) -> np.ndarray:
    """The surface's vertices (n, zyx), doubled to whole numbers: half way between a voxel inside and one outside."""
    found = []
    for axis in range(3):
        low = [slice(None)] * 3
        high = [slice(None)] * 3
        low[axis], high[axis] = slice(None, -1), slice(1, None)
        middle = 2 * np.argwhere(padded[tuple(low)] != padded[tuple(high)])
        middle[:, axis] += 1
        found.append(middle)
    return np.concatenate(found)


def _line_ends(points: np.ndarray, plane: int, line: int, along: int) -> np.ndarray:
    """The points that are first or last on each line of each plane, sorted; no other can be an end of a diameter."""
    side = int(points.max()) + 1
    key = np.sort((points[:, plane] * side + points[:, line]) * side + points[:, along])
    lines = key // side
    first = np.r_[True, lines[1:] != lines[:-1]]
    last = np.r_[first[1:], True]
    key = key[first | last]
    kept = np.empty((len(key), 3), points.dtype)
    kept[:, plane], kept[:, line], kept[:, along] = key // side**2, key // side % side, key % side
    return kept


def maximum_diameter(vertices: np.ndarray, spacing: np.ndarray) -> float:
    """The largest distance in mm between two vertices (doubled, see `mesh_vertices`)."""
    candidates = _line_ends(vertices, 0, 1, 2)
    corners = candidates[ConvexHull(candidates).vertices]
    return float(pdist(corners * (spacing / 2)).max())


def maximum_diameter_in_planes(vertices: np.ndarray, spacing: np.ndarray, axis: int) -> float:
    """The largest distance in mm between two vertices in one plane across `axis`."""
    line, along = [a for a in range(3) if a != axis]
    points = _line_ends(vertices, axis, line, along)
    start = np.flatnonzero(np.r_[True, np.diff(points[:, axis]) != 0])
    position = points[:, [line, along]] * (spacing[[line, along]] / 2)
    extent = np.maximum.reduceat(position, start) - np.minimum.reduceat(position, start)
    bound = np.hypot(extent[:, 0], extent[:, 1])
    largest = 0.0
    for plane in np.argsort(-bound):
        if bound[plane] <= largest:
            break
        end = start[plane + 1] if plane + 1 < len(start) else len(position)
        if end - start[plane] > 1:
            largest = max(largest, float(pdist(position[start[plane] : end]).max()))
    return largest
