"""People and scanners: the same head, scanned by every scanner, with the truth known.

A `Person` is a seeded deformation of the head template with folds and tissue texture of their own, a `Scanner` is a
protocol with coil, resolution, noise and gain. `scan_person` brings them together. All scans of one person lie on
one grid, so the scan by another scanner is the truth for a translation to it.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator, Sequence

import numpy as np

from .. import images
from ..physics import mr_signal
from ..scan import Acquisition, Modality, Scan, Structure
from .anatomy import HEAD_BOX_MM, HeadTemplate, head_axes, head_grid, head_template
from .fields import Axes, SplineField, texture, total
from .scanners import SCANNERS, Scanner
from .tissues import Tissue, properties

SUBARACHNOID_MM = 1.5  # fluid between the hull of the brain and the skull
SKIN_MM = 2.0
SMALLEST_JACOBIAN = 0.3

# Standard deviations of the logarithm of what differs from session to session on one scanner.
LOADING_VARIATION = 0.02  # of the coil's field, as every head loads it differently
NOISE_VARIATION = 0.05
GAIN_VARIATION = 0.10


@dataclasses.dataclass(frozen=True, eq=False)
class Lesion:
    """A tumour of irregular outline in the white matter, placed in template space (z, y, x in LPS mm)."""

    centre_mm: tuple[float, float, float]
    radius_mm: float
    outline: SplineField  # mm by which the surface departs from a sphere

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Lesion:
        """In the white matter of either hemisphere, 9 to 13 mm in radius."""
        side = rng.choice([-1.0, 1.0])
        centre = (rng.uniform(18, 30), rng.uniform(-25, 35), side * rng.uniform(24, 32))
        return cls(centre, rng.uniform(9, 13), SplineField.draw(HEAD_BOX_MM, 9.0, 1.2, rng))


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
    lesion: Lesion | None = None

    @classmethod
    def draw(cls, rng: np.random.Generator, name: str = "person", with_lesion: bool = False) -> Person:
        """A person of random size, pose, shape and texture; `with_lesion` plants a tumour in the same person."""
        box = HEAD_BOX_MM
        pose = _draw_pose(rng)
        return cls(
            name=name,
            pose=pose,
            displacement=_draw_displacement(pose, rng),
            sulci=SplineField.draw(box, 5.0, 0.9, rng),
            gyri=SplineField.draw(box, 6.0, 0.5, rng),
            skull=SplineField.draw(box, 25.0, 0.9, rng),
            scalp=SplineField.draw(box, 30.0, 1.0, rng),
            flesh=SplineField.draw(box, 7.0, 1.0, rng),
            t1_texture=texture(box, (3.5, 8.0, 24.0), 1.0, rng),
            t2_star_texture=texture(box, (3.5, 8.0, 24.0), 1.0, rng),
            lesion=Lesion.draw(rng) if with_lesion else None,
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
    """Random displacement at three scales, halved until the whole map keeps its orientation with some margin."""
    scales_mm = ((60.0, 3.5), (30.0, 2.0), (15.0, 0.9))
    fields = tuple(tuple(SplineField.draw(HEAD_BOX_MM, knot, sd, rng) for knot, sd in scales_mm) for _ in range(3))
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
    """The true anatomy of a person on a grid of spacing `spacing_mm`: shares of tissues, and structures as masks."""

    spacing_mm: float
    shape: tuple[int, int, int]
    portions: dict[Tissue, Portion]
    structures: dict[str, np.ndarray]


@functools.lru_cache(maxsize=2)
def body_of(person: Person, spacing_mm: float) -> Body:
    """The person's anatomy on the grid of `head_grid(spacing_mm)`; the last two are remembered."""
    axes = head_axes(spacing_mm)
    shape = tuple(len(axis) for axis in axes)
    points = person.template_points_mm(axes).reshape(3, -1)
    template = head_template()

    def field(spline: SplineField) -> np.ndarray:
        return spline.on(axes).ravel()

    cavity = template.cavity.at(points)
    face = template.face.at(points)
    skull = np.clip(5.5 + field(person.skull), 2.5, 9)
    scalp = np.clip(4.5 + field(person.scalp), 2, 8) + _temporal_muscle_mm(points)
    outer = np.minimum(cavity - SUBARACHNOID_MM - skull - scalp - SKIN_MM, face)
    head = np.flatnonzero(outer < spacing_mm)
    points, cavity, outer, skull = points[:, head], cavity[head], outer[head], skull[head]

    shares = _head_shares(template, points, cavity, outer, skull, field(person.flesh)[head], spacing_mm)
    in_cavity = np.flatnonzero(cavity < SUBARACHNOID_MM + spacing_mm)
    within = _inside(cavity[in_cavity] - SUBARACHNOID_MM, spacing_mm)
    sulci, gyri = field(person.sulci)[head][in_cavity], field(person.gyri)[head][in_cavity]
    matter = _brain_shares(template, points[:, in_cavity], sulci, gyri, spacing_mm)
    for tissue, share in matter.items():
        shares.setdefault(tissue, np.zeros(len(head), np.float32))[in_cavity] += within * share

    structures = {
        "white matter": shares[Tissue.WHITE_MATTER] > 0.5,
        "grey matter": shares[Tissue.GREY_MATTER] > 0.5,
        "brain": (template.brain.at(points) > 0.5) & (cavity < SUBARACHNOID_MM),
    }
    if person.lesion is not None:
        grown = np.linalg.norm(points - np.array(person.lesion.centre_mm, np.float32)[:, None], axis=0)
        grown = _inside(grown - person.lesion.radius_mm + field(person.lesion.outline)[head], spacing_mm)
        for share in shares.values():
            share *= 1 - grown
        shares[Tissue.LESION] = grown
        structures = {name: mask & (grown <= 0.5) for name, mask in structures.items()}
        structures["brain"] |= grown > 0.5
        structures["lesion"] = grown > 0.5

    t1_texture = total(person.t1_texture, axes).ravel()[head]
    t2_star_texture = total(person.t2_star_texture, axes).ravel()[head]
    portions = {}
    for tissue, share in shares.items():
        there = np.flatnonzero(share > 1e-3)
        portions[tissue] = Portion(head[there], share[there], t1_texture[there], t2_star_texture[there])
    return Body(spacing_mm, shape, portions, {name: _full(mask, head, shape) for name, mask in structures.items()})


def _full(mask: np.ndarray, index: np.ndarray, shape) -> np.ndarray:
    full = np.zeros(int(np.prod(shape)), bool)
    full[index] = mask
    return full.reshape(shape)


def _inside(distance_mm: np.ndarray, spacing_mm: float) -> np.ndarray:
    """The share of a voxel inside a surface at this signed distance."""
    return np.clip(0.5 - distance_mm / np.float32(spacing_mm), 0, 1)


def _temporal_muscle_mm(points: np.ndarray) -> np.ndarray:
    """How much thicker the soft tissue over the skull is at the temples."""
    z, y, x = points
    return 9 * np.exp(-(((z + 12) / 26) ** 2) - ((y + 28) / 26) ** 2) * np.clip((np.abs(x) - 40) / 20, 0, 1)


def _head_shares(
    template: HeadTemplate, points, cavity, outer, skull, flesh, spacing_mm: float
) -> dict[Tissue, np.ndarray]:
    """Shares of the tissues around the brain at points (3, n) of the head."""
    in_cavity = _inside(cavity - SUBARACHNOID_MM, spacing_mm)
    bone = _inside(cavity - SUBARACHNOID_MM - skull, spacing_mm) - in_cavity
    middle = np.abs(cavity - SUBARACHNOID_MM - skull / 2) - np.float32(0.22) * skull
    marrow = bone * _inside(middle, spacing_mm) * np.float32(0.8)
    around = _inside(outer, spacing_mm) - in_cavity - bone
    air = np.clip(_inside(template.airway.at(points), 2 * spacing_mm), 0, 1) * (outer < -3)
    eye_mm = template.eyes.at(points)
    eye = around * (1 - air) * _inside(eye_mm, spacing_mm)
    rest = np.clip(around * (1 - air) - eye, 0, 1)
    # Fat lies under the skin and around the eyes, and in sheets between muscles.
    fatty = np.maximum(_inside(np.abs(outer + 4.5) - 2.5, spacing_mm), _inside(eye_mm - 7, spacing_mm) * (outer < -3))
    fatty = np.maximum(fatty, np.clip(flesh - np.float32(0.6), 0, np.float32(0.6)) * (outer < -5))
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
    fluid += folded * (sulci + np.float32(0.5))
    highest = np.maximum(np.maximum(white, grey), fluid)
    weights = [np.exp(sharpness * (odds - highest)) for odds in (white, grey, fluid)]
    whole = weights[0] + weights[1] + weights[2]
    return {
        tissue: weight / whole
        for tissue, weight in zip((Tissue.WHITE_MATTER, Tissue.GREY_MATTER, Tissue.CSF), weights, strict=True)
    }


def ideal_signal(body: Body, scanner: Scanner, relative_b1: np.ndarray) -> np.ndarray:
    """The signal (z, y, x), float32, before coil, blur and noise: tissues mix by their signals, not their properties.

    relative_b1: (z, y, x), the flip angle that is reached as a share of the one asked for.
    """
    signal = np.zeros(body.shape, np.float32)
    flat, b1 = signal.ravel(), relative_b1.ravel()
    for tissue, portion in body.portions.items():
        p = properties(scanner.field_strength_tesla)[tissue]
        t1_ms = np.float32(p.t1_ms) * np.clip(1 + np.float32(p.texture) * portion.t1_texture, 0.5, 2)
        t2_star_ms = np.float32(p.t2_star_ms) * np.clip(1 + np.float32(p.texture) * portion.t2_star_texture, 0.5, 2)
        # More water means longer T1 (Fatouros 1991), at about a third of T1's relative change.
        density = np.float32(p.proton_density) * (1 + np.float32(p.texture / 3) * portion.t1_texture)
        # Every voxel stands once in a tissue's index, so that adding in place is safe.
        flat[portion.index] += portion.share * scanner.protocol.signal(t1_ms, t2_star_ms, density, b1[portion.index])
    return signal


def scan_person(person: Person, scanner: Scanner, rng: np.random.Generator, spacing_mm: float = 1.0) -> Scan:
    """One session: the person scanned by the scanner, with the true structures; int16 as scanners store.

    `rng` gives what differs from session to session: coil loading, gain and noise.
    """
    body = body_of(person, spacing_mm)
    grid = head_grid(spacing_mm)
    spacing = (spacing_mm,) * 3
    b1 = mr_signal.coil_field(body.shape, spacing, 0.02, scanner.transmit_brightening, rng)
    coil = np.random.default_rng(scanner.coil_seed)
    receive = mr_signal.coil_field(body.shape, spacing, scanner.receive_variation, scanner.receive_brightening, coil)
    receive *= mr_signal.coil_field(body.shape, spacing, LOADING_VARIATION, 0.0, rng)
    signal = ideal_signal(body, scanner, b1) * receive
    white = properties(scanner.field_strength_tesla)[Tissue.WHITE_MATTER]
    level = float(scanner.protocol.signal(white.t1_ms, white.t2_star_ms, white.proton_density))
    noise_sd = level / scanner.white_matter_snr * np.exp(NOISE_VARIATION * rng.standard_normal())
    magnitude = mr_signal.acquire(signal, scanner.acquired, scanner.taper, noise_sd, rng)
    gain = scanner.white_matter_level / level * np.exp(GAIN_VARIATION * rng.standard_normal())
    stored = np.rint(np.clip(magnitude * np.float32(gain), 0, 32767)).astype(np.int16)
    structures = {name: Structure(name, images.mask_image(mask, grid)) for name, mask in body.structures.items()}
    return Scan(
        image=images.to_image(stored, grid),
        modality=Modality.MR,
        structures=structures,
        acquisition=_acquisition(scanner, spacing_mm),
        name=f"{person.name} {scanner.name}",
    )


def _acquisition(scanner: Scanner, spacing_mm: float) -> Acquisition:
    protocol = scanner.protocol
    return Acquisition(
        manufacturer=scanner.manufacturer,
        model=scanner.model,
        field_strength_tesla=scanner.field_strength_tesla,
        repetition_time_ms=protocol.repetition_time_ms,
        echo_time_ms=protocol.echo_time_ms,
        inversion_time_ms=protocol.inversion_time_ms,
        flip_angle_deg=protocol.flip_angle_deg,
        slice_thickness_mm=spacing_mm / scanner.acquired[2],
    )


def travelling_cohort(
    people: int, scanners: Sequence[Scanner], seed: int, spacing_mm: float = 1.0
) -> Iterator[tuple[Person, Scanner, Scan]]:
    """Every person scanned by every scanner, person by person. The same seed gives the same bytes.

    A person is the same whatever the number of people, scanners and the spacing are.
    """
    for number, sequence in enumerate(np.random.SeedSequence(seed).spawn(people), start=1):
        person_seed, *session_seeds = sequence.spawn(1 + len(scanners))
        person = Person.draw(np.random.default_rng(person_seed), f"person {number:03d}")
        for scanner, session_seed in zip(scanners, session_seeds, strict=True):
            yield person, scanner, scan_person(person, scanner, np.random.default_rng(session_seed), spacing_mm)


def three_scanner_case(seed: int = 1, spacing_mm: float = 1.0) -> dict[str, Scan]:
    """One person with a small tumour, scanned by three scanners of different make and field, by the scanner's name.

    White matter is marked as reference, the lesion as protected; everything is measured.
    """
    person_seed, *session_seeds = np.random.SeedSequence(seed).spawn(4)
    person = Person.draw(np.random.default_rng(person_seed), "sample", with_lesion=True)
    names = ("Siemens 3T", "Philips 1.5T", "GE 3T")
    return {
        name: scan_person(person, SCANNERS[name], np.random.default_rng(session_seed), spacing_mm).with_roles(
            reference="white matter", protected=["lesion"]
        )
        for name, session_seed in zip(names, session_seeds, strict=True)
    }
