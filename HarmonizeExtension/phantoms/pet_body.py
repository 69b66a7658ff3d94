"""Simulated people as FDG sees them: organs and lesions of known uptake, in mm, on whatever grid is asked for.

Coordinates are (z, y, x) in LPS mm: x from right to left, y from front to back, z from the upper thigh (0) to the
vertex (860), the middle of the trunk at x = y = 0. Sizes and uptake differ from person to person; usual SUV are those
of Zincirkeser et al., J Int Med Res 35:529, 2007, and Wang et al., Nucl Med Commun 28:9, 2007, by order of magnitude.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from .fields import Axes, SplineField, texture, total
from .lesions import inside

FIELD_MM = ((0.0, 868.0), (-150.0, 150.0), (-208.0, 208.0))  # z, y, x
TRUNK_MM = ((345.0, 475.0), (-100.0, 90.0), (-165.0, 140.0))  # liver, spleen, parts of kidneys and lungs
SKIN_MM = 14.0  # of fat under the skin

# Height (mm), half width and half depth of the body's elliptic sections.
OUTLINE = np.array(
    [
        (-20, 150, 90), (60, 160, 98), (150, 168, 110), (230, 160, 108), (300, 148, 104), (400, 156, 112),
        (480, 164, 114), (560, 160, 104), (600, 130, 84), (640, 64, 62), (680, 62, 70), (720, 72, 90),
        (780, 78, 98), (830, 62, 78), (860, 26, 34), (866, 8, 10),
    ],
    dtype=float,
)  # fmt: skip

# Name: centre (z, y, x), radii (z, y, x), median SUV, relative spread between people. Later ones lie on earlier ones.
ORGANS = {
    "spine": ((400, 62, 0), (330, 15, 16), 1.3, 0.15),
    "blood pool": ((340, 34, 10), (240, 10, 10), 1.7, 0.12),
    "heart": ((480, -28, 28), (46, 42, 46), 1.7, 0.12),
    "myocardium": ((478, -32, 38), (34, 30, 34), 2.6, 0.55),
    "left ventricle": ((478, -32, 38), (24, 20, 24), 1.7, 0.12),
    "lung right": ((522, 4, -84), (92, 74, 52), 0.45, 0.15),
    "lung left": ((522, 12, 92), (92, 70, 44), 0.45, 0.15),
    "liver": ((400, -4, -66), (62, 74, 74), 2.1, 0.15),
    "spleen": ((408, 42, 104), (48, 38, 26), 1.8, 0.15),
    "kidney right": ((318, 44, -64), (52, 24, 27), 2.8, 0.2),
    "kidney left": ((332, 46, 66), (52, 24, 27), 2.8, 0.2),
    "renal pelvis right": ((318, 42, -58), (18, 9, 9), 9.0, 0.4),
    "renal pelvis left": ((332, 44, 60), (18, 9, 9), 9.0, 0.4),
    "bladder": ((112, -34, 0), (32, 30, 36), 18.0, 0.5),
    "brain": ((788, 4, 0), (62, 84, 66), 8.5, 0.2),
    "white matter": ((788, 4, 0), (44, 62, 46), 4.2, 0.2),
}
STRUCTURES = ("liver", "spleen", "kidney right", "kidney left", "lung right", "lung left", "brain", "bladder")
BLOOD = ("blood pool", "heart", "left ventricle")  # one uptake
MUSCLE_SUV, FAT_SUV, BOWEL_SUV = 0.65, 0.25, 0.8

# Where lesions grow: organ that they lie in, and how far from its centre at most (share of the radii).
LESION_SITES = ("lung right", "lung left", "heart", "spine", "spleen")
LARGEST_LESION_MM = 20.0


@dataclasses.dataclass(frozen=True)
class PetLesion:
    """A sphere; centre (z, y, x) and radius in mm."""

    centre_mm: tuple[float, float, float]
    radius_mm: float
    suv: float


@dataclasses.dataclass(frozen=True, eq=False)
class PetPerson:
    """One body. stature, girth: factors on lengths and on sections. suv: uptake by organ.

    shifts_mm, scales: by organ, how its centre and radii differ from the usual. outline: mm by which surfaces depart
    from ellipsoids; uneven: logarithm of the uptake's texture; bowel: share of bowel uptake.
    """

    name: str
    stature: float
    girth: float
    suv: dict[str, float]
    shifts_mm: dict[str, np.ndarray]
    scales: dict[str, np.ndarray]
    lesions: tuple[PetLesion, ...]
    outline: SplineField
    uneven: tuple[SplineField, ...]
    bowel: SplineField

    @classmethod
    def draw(cls, rng: np.random.Generator, name: str, lesions: int = 4) -> PetPerson:
        """A person with a number of lesions outside liver and brain, 5 to 20 mm in radius, SUV 2.5 to 14."""
        stature = float(np.clip(rng.normal(0.97, 0.04), 0.88, 1.0))
        girth = float(np.clip(rng.normal(1.0, 0.09), 0.8, 1.2))
        suv = {organ: usual * float(np.exp(spread * rng.standard_normal())) for organ, (*_, usual, spread) in
               ORGANS.items()}  # fmt: skip
        suv |= dict.fromkeys(BLOOD, suv["heart"])
        shifts = {organ: 4.0 * rng.standard_normal(3) for organ in ORGANS}
        scales = {organ: np.exp(0.06 * rng.standard_normal(3)) for organ in ORGANS}
        for inner, outer in (("white matter", "brain"), ("left ventricle", "myocardium")):
            shifts[inner], scales[inner] = shifts[outer], scales[outer]
        grown = []
        for _ in range(lesions):
            centre, radii, *_ = ORGANS[str(rng.choice(LESION_SITES))]
            at = np.array(centre) + rng.uniform(-0.6, 0.6, 3) * np.array(radii)
            radius = float(np.exp(rng.uniform(np.log(5.0), np.log(LARGEST_LESION_MM))))
            grown.append(PetLesion(tuple(at * (stature, girth, girth)), radius, float(np.exp(rng.uniform(0.9, 2.65)))))
        return cls(
            name,
            stature,
            girth,
            suv,
            shifts,
            scales,
            tuple(grown),
            SplineField.draw(FIELD_MM, 40.0, 3.0, rng),
            texture(FIELD_MM, (14.0, 40.0), 0.07, rng),
            SplineField.draw(FIELD_MM, 22.0, 1.0, rng),
        )

    @property
    def diameter_mm(self) -> float:
        """Of a cylinder of water that attenuates as this person does."""
        return 300.0 * self.girth

    def activity(self, axes: Axes) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """SUV (z, y, x), float32, on a grid of coordinates in mm, and masks of organs and lesions by name.

        A voxel that a surface crosses gets a share of both sides; masks hold the voxels of more than half.
        """
        width = float(max(np.diff(axis).mean() for axis in axes))
        outline = self.outline.on(axes)
        suv = self._soft_tissue(axes, outline, width)
        masks: dict[str, np.ndarray] = {}
        for organ, (centre, radii, *_) in ORGANS.items():
            size = (self.stature, self.girth, self.girth)
            middle = (np.array(centre) + self.shifts_mm[organ]) * size
            box, share = _ellipsoid(axes, middle, np.array(radii) * self.scales[organ] * size, outline, width)
            _lay(suv, box, share, self.suv[organ])
            if organ in STRUCTURES:
                masks[organ] = _mask(suv.shape, box, share)
        suv *= np.exp(total(self.uneven, axes))
        for number, lesion in enumerate(self.lesions, start=1):
            box, share = _ellipsoid(axes, np.array(lesion.centre_mm), np.full(3, lesion.radius_mm), None, width)
            _lay(suv, box, share, lesion.suv)
            mask = _mask(suv.shape, box, share)
            for other in masks.values():
                other &= ~mask
            masks[f"lesion {number}"] = mask
        return suv, {name: mask for name, mask in masks.items() if mask.any()}

    def _soft_tissue(self, axes: Axes, outline: np.ndarray, width: float) -> np.ndarray:
        """Muscle and bowel within fat within air."""
        z, y, x = axes
        height = z / self.stature
        half_x, half_y = (np.interp(height, OUTLINE[:, 0], OUTLINE[:, k]) * self.girth for k in (1, 2))
        radius = np.sqrt(
            (x[None, None, :] / half_x[:, None, None]) ** 2 + (y[None, :, None] / half_y[:, None, None]) ** 2
        )
        distance = (radius - 1) * np.minimum(half_x, half_y)[:, None, None] + outline
        distance = np.maximum(distance, (z - OUTLINE[-1, 0] * self.stature)[:, None, None])
        body = inside(distance.astype(np.float32), width)
        flesh = inside((distance + SKIN_MM * self.girth**2).astype(np.float32), width)
        belly = np.exp(-(((height - 265) / 75) ** 2))[:, None, None] * np.clip(1.2 - radius, 0, 0.5)
        bowel = np.maximum(self.bowel.on(axes), 0) * 2 * belly
        return (FAT_SUV * body + (MUSCLE_SUV - FAT_SUV + BOWEL_SUV * bowel) * flesh).astype(np.float32)


def _ellipsoid(axes: Axes, centre: np.ndarray, radii: np.ndarray, outline: np.ndarray | None, width: float):
    """The box (z, y, x) around an ellipsoid, and its share of each voxel there."""
    box = tuple(
        slice(*np.searchsorted(axis, (c - r - 12, c + r + 12))) for axis, c, r in zip(axes, centre, radii, strict=True)
    )
    z, y, x = ((axis[part] - c) / r for axis, part, c, r in zip(axes, box, centre, radii, strict=True))
    radius = np.sqrt(z[:, None, None] ** 2 + y[None, :, None] ** 2 + x[None, None, :] ** 2)
    distance = (radius - 1) * radii.min()
    if outline is not None:
        # Thin organs bend less than thick ones.
        distance = distance + outline[box] * min(1.0, radii.min() / 25)
    return box, inside(distance.astype(np.float32), width)


def _lay(suv: np.ndarray, box: tuple[slice, ...], share: np.ndarray, uptake: float) -> None:
    suv[box] += share * (np.float32(uptake) - suv[box])


def _mask(shape: tuple[int, ...], box: tuple[slice, ...], share: np.ndarray) -> np.ndarray:
    mask = np.zeros(shape, bool)
    mask[box] = share > 0.5
    return mask
