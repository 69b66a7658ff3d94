"""People: seeded deformations of the head template, with folds, tissue texture and, if wanted, a disease of their own.

A `Person` is continuous; `body_of` puts it on a grid of any spacing, as shares of tissues in each voxel and as the
true structures.
"""

from __future__ import annotations

import dataclasses
import functools

import numpy as np

from ..physics.tissues import Tissue
from .anatomy import HEAD_BOX_MM, HeadTemplate, head_axes, head_template
from .fields import Axes, SplineField, texture, total
from .lesions import Disease, Plaques, Tumour, draw_lesions, inside

SUBARACHNOID_MM = 1.5  # fluid between the hull of the brain and the skull
SKIN_MM = 2.0
SMALLEST_JACOBIAN = 0.3
DISPLACEMENT_MM = ((90.0, 4.5), (35.0, 1.3), (15.0, 0.9))  # knot spacing and standard deviation at each scale


@dataclasses.dataclass(frozen=True, eq=False)
class Person:
    """One simulated person; `draw` makes one from a generator, the same for the same seed on grids of any spacing.

    pose: 3 x 4 matrix from the person's to template space (z, y, x in mm), with size and position of the head.
    displacement: what is added to it, a field for each of z, y, x at several scales.
    sulci, gyri: changes of the log odds of fluid, and of white against grey matter; they make the person's own folds.
    skull, scalp, flesh: departures from the thickness of skull and scalp in mm, and where fat lies between muscles.
    t1_texture, t2_star_texture: the tissue's own pattern, in standard deviations.
    """

    name: str
    pose: np.ndarray
    displacement: tuple[tuple[SplineField, ...], ...]
    sulci: SplineField
    gyri: SplineField
    skull: SplineField
    scalp: SplineField
    flesh: SplineField
    t1_texture: tuple[SplineField, ...]
    t2_star_texture: tuple[SplineField, ...]
    disease: Disease = Disease.NONE
    lesions: Tumour | Plaques | None = None

    @classmethod
    def draw(cls, rng: np.random.Generator, name: str = "person", disease: Disease = Disease.NONE) -> Person:
        """A person of random size, pose, shape and texture; a disease leaves the rest of the same person as it is."""
        box = HEAD_BOX_MM
        pose = _draw_pose(rng)
        return cls(
            name=name,
            pose=pose,
            displacement=_draw_displacement(pose, rng),
            sulci=SplineField.draw(box, 5.0, 1.2, rng),
            gyri=SplineField.draw(box, 5.5, 0.9, rng),
            skull=SplineField.draw(box, 40.0, 0.9, rng),
            scalp=SplineField.draw(box, 45.0, 1.0, rng),
            flesh=SplineField.draw(box, 7.0, 1.0, rng),
            t1_texture=texture(box, (3.5, 8.0, 24.0), 1.0, rng),
            t2_star_texture=texture(box, (3.5, 8.0, 24.0), 1.0, rng),
            disease=disease,
            lesions=draw_lesions(disease, rng),
        )

    def template_points_mm(self, axes: Axes) -> np.ndarray:
        """Where each voxel of a grid lies in template space: (3, z, y, x), float32."""
        return _to_template(self.pose, self.displacement, axes)


def _draw_pose(rng: np.random.Generator) -> np.ndarray:
    # MNI152 is larger than most people's heads by about a tenth in each direction (Lancaster 2007).
    size = 0.93 * np.exp(0.03 * rng.standard_normal() + 0.02 * rng.standard_normal(3))
    about_z, about_y, about_x = np.deg2rad(np.array([2.5, 2.0, 4.0]) * rng.standard_normal(3))
    c, s = np.cos(about_x), np.sin(about_x)
    nod = np.array([[c, s, 0], [-s, c, 0], [0, 0, 1]])
    c, s = np.cos(about_y), np.sin(about_y)
    tilt = np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]])
    c, s = np.cos(about_z), np.sin(about_z)
    turn = np.array([[1, 0, 0], [0, c, s], [0, -s, c]])
    matrix = np.diag(1 / size) @ nod @ tilt @ turn
    return np.column_stack([matrix, 2.0 * rng.standard_normal(3)])


def _draw_displacement(pose: np.ndarray, rng: np.random.Generator) -> tuple[tuple[SplineField, ...], ...]:
    """Random displacement at several scales, halved until the whole map keeps its orientation with some margin."""
    fields = tuple(
        tuple(SplineField.draw(HEAD_BOX_MM, knot_mm, sd_mm, rng) for knot_mm, sd_mm in DISPLACEMENT_MM)
        for _ in range(3)
    )
    axes = head_axes(4.0)
    while _jacobian(_to_template(pose, fields, axes), axes).min() < SMALLEST_JACOBIAN:
        fields = tuple(
            tuple(dataclasses.replace(field, coefficients=field.coefficients / 2) for field in component)
            for component in fields
        )
    return fields


def _to_template(pose: np.ndarray, displacement, axes: Axes) -> np.ndarray:
    points = np.empty((3, *(len(axis) for axis in axes)), np.float32)
    z, y, x = (axis.astype(np.float32) for axis in axes)
    for component, (row, fields) in enumerate(zip(pose.astype(np.float32), displacement, strict=True)):
        points[component] = total(fields, axes)
        points[component] += (row[0] * z + row[3])[:, None, None] + (row[1] * y)[:, None] + row[2] * x
    return points


def _jacobian(points_mm: np.ndarray, axes: Axes) -> np.ndarray:
    """Determinant of the map's derivative (z, y, x)."""
    columns = [np.stack(np.gradient(component, *axes), axis=-1) for component in points_mm]
    return np.linalg.det(np.stack(columns, axis=-2))


@dataclasses.dataclass(frozen=True, eq=False)
class Portion:
    """Where one tissue is on a grid: flat voxel indices, its share of each voxel, and the texture there (in SD)."""

    index: np.ndarray
    share: np.ndarray
    t1_texture: np.ndarray
    t2_star_texture: np.ndarray


@dataclasses.dataclass(frozen=True, eq=False)
class Body:
    """The true anatomy of a person on a grid of spacing `spacing_mm`: shares of tissues, and structures as masks.

    part: what the grid is of the whole head's grid (z, y, x).
    """

    spacing_mm: float
    part: tuple[slice, slice, slice]
    shape: tuple[int, int, int]
    portions: dict[Tissue, Portion]
    structures: dict[str, np.ndarray]


@functools.lru_cache(maxsize=2)
def body_of(person: Person, spacing_mm: float) -> Body:
    """The person's anatomy on the grid of `head_grid(spacing_mm)`; the last two are remembered."""
    return draw_body(person, spacing_mm, (slice(None), slice(None), slice(None)))


def draw_body(person: Person, spacing_mm: float, part: tuple[slice, slice, slice]) -> Body:
    """The person's anatomy on a part (z, y, x) of the grid of `head_grid(spacing_mm)`."""
    axes = tuple(axis[piece] for axis, piece in zip(head_axes(spacing_mm), part, strict=True))
    shape = tuple(len(axis) for axis in axes)
    points = person.template_points_mm(axes).reshape(3, -1)
    template = head_template()

    def field(spline: SplineField) -> np.ndarray:
        return spline.on(axes).ravel()

    cavity = template.cavity.at(points)
    face = template.face.at(points)
    skull = np.clip(5.5 + field(person.skull), 2.5, 9)
    scalp = np.clip(4.0 + field(person.scalp), 2, 8) + _temporal_muscle_mm(points)
    outer = np.minimum(cavity - SUBARACHNOID_MM - skull - scalp - SKIN_MM, face)
    head = np.flatnonzero(outer < spacing_mm)
    points, cavity, outer, skull = points[:, head], cavity[head], outer[head], skull[head]

    shares = _head_shares(template, points, cavity, outer, skull, field(person.flesh)[head], spacing_mm)
    in_cavity = np.flatnonzero(cavity < SUBARACHNOID_MM + spacing_mm)
    within = inside(cavity[in_cavity] - SUBARACHNOID_MM, spacing_mm)
    sulci, gyri = field(person.sulci)[head][in_cavity], field(person.gyri)[head][in_cavity]
    matter = _brain_shares(template, points[:, in_cavity], sulci, gyri, spacing_mm)
    for tissue, share in matter.items():
        shares.setdefault(tissue, np.zeros(len(head), np.float32))[in_cavity] += within * share

    grown: dict[str, np.ndarray] = {}
    if person.lesions is not None:
        grown = person.lesions.plant(shares, points, lambda spline: field(spline)[head], spacing_mm)
    ill = np.any([np.zeros(len(head), bool), *grown.values()], axis=0)
    structures = {
        "white matter": (shares[Tissue.WHITE_MATTER] > 0.5) & ~ill,
        "grey matter": (shares[Tissue.GREY_MATTER] > 0.5) & ~ill,
        "brain": (template.brain.at(points) > 0.5) & (cavity < SUBARACHNOID_MM) | ill,
        **grown,
    }

    t1_texture = total(person.t1_texture, axes).ravel()[head]
    t2_star_texture = total(person.t2_star_texture, axes).ravel()[head]
    portions = {}
    for tissue, share in shares.items():
        there = np.flatnonzero(share > 1e-3)
        portions[tissue] = Portion(head[there], share[there], t1_texture[there], t2_star_texture[there])
    masks = {name: _full(mask, head, shape) for name, mask in structures.items()}
    return Body(spacing_mm, part, shape, portions, masks)


def _full(mask: np.ndarray, index: np.ndarray, shape) -> np.ndarray:
    full = np.zeros(int(np.prod(shape)), bool)
    full[index] = mask
    return full.reshape(shape)


def _temporal_muscle_mm(points: np.ndarray) -> np.ndarray:
    """How much thicker the soft tissue over the skull is at the temples."""
    z, y, x = points
    return 9 * np.exp(-(((z + 12) / 26) ** 2) - ((y + 28) / 26) ** 2) * np.clip((np.abs(x) - 40) / 20, 0, 1)


def _head_shares(
    template: HeadTemplate, points, cavity, outer, skull, flesh, spacing_mm: float
) -> dict[Tissue, np.ndarray]:
    """Shares of the tissues around the brain at points (3, n) of the head."""
    in_cavity = inside(cavity - SUBARACHNOID_MM, spacing_mm)
    bone = inside(cavity - SUBARACHNOID_MM - skull, spacing_mm) - in_cavity
    middle = np.abs(cavity - SUBARACHNOID_MM - skull / 2) - np.float32(0.22) * skull
    marrow = bone * inside(middle, spacing_mm) * np.clip(np.float32(0.45) + np.float32(0.2) * flesh, 0, 1)
    around = inside(outer, spacing_mm) - in_cavity - bone
    air = np.clip(inside(template.airway.at(points), 2 * spacing_mm), 0, 1) * (outer < -3)
    eye_mm = template.eyes.at(points)
    eye = around * (1 - air) * inside(eye_mm, spacing_mm)
    rest = np.clip(around * (1 - air) - eye, 0, 1)
    # Fat lies under the skin and around the eyes, and in sheets between muscles.
    fatty = np.maximum(inside(np.abs(outer + 4.5) - 2.5, spacing_mm), inside(eye_mm - 7, spacing_mm) * (outer < -3))
    fatty *= np.clip(np.float32(0.7) + np.float32(0.12) * flesh, 0, 1)  # strands of connective tissue run through it
    fatty = np.maximum(fatty, np.clip(flesh - np.float32(0.7), 0, np.float32(0.5)) * (outer < -5))
    return {
        Tissue.BONE: bone - marrow,
        Tissue.FAT: marrow + rest * fatty,
        Tissue.SOFT: rest * (1 - fatty),
        Tissue.CSF: eye,
    }


def _brain_shares(template: HeadTemplate, points, sulci, gyri, spacing_mm: float) -> dict[Tissue, np.ndarray]:
    """Shares of white matter, grey matter and fluid at points (3, n) inside the cranial cavity.

    Where the template is a blur of many people's folds, the person's own are drawn: the log odds are changed by the
    person's fields and then sharpened to the width of a voxel. In the deep nuclei and the brainstem, intermediate
    probabilities are what the tissue is, and stay.
    """
    folded = 1 - template.core.at(points)
    sharpness = 1 + folded * np.float32(max(3.0 / spacing_mm**0.7, 1.0) - 1)
    floor = np.float32(0.01)
    white, grey, fluid = (np.log(m.at(points) + floor) for m in (template.white, template.grey, template.csf))
    white += folded * gyri
    fluid += folded * (sulci + np.float32(0.35))
    highest = np.maximum(np.maximum(white, grey), fluid)
    weights = [np.exp(sharpness * (odds - highest)) for odds in (white, grey, fluid)]
    whole = weights[0] + weights[1] + weights[2]
    return {
        tissue: weight / whole
        for tissue, weight in zip((Tissue.WHITE_MATTER, Tissue.GREY_MATTER, Tissue.CSF), weights, strict=True)
    }
