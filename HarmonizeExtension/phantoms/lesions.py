"""What a simulated person may be ill with: a tumour, with oedema or without, or lesions as of multiple sclerosis.

Lesions are placed in template space and grow in the person's own anatomy, in whose tissues they take their place.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Callable

import numpy as np

from ..physics.tissues import Tissue
from .anatomy import HEAD_BOX_MM, head_template
from .fields import SplineField

Shares = dict[Tissue, np.ndarray]  # of each tissue, at the points in question
At = Callable[[SplineField], np.ndarray]  # a field's values at these points

OEDEMA_EDGE_MM = 4.0  # over which oedema fades into white matter
PLAQUE_EDGE_MM = 1.5
TISSUE_AT_MOST = 0.9  # of white matter that oedema takes, as fibres run on through it


class Disease(enum.StrEnum):
    """What a person is ill with."""

    NONE = "none"
    TUMOUR = "tumour"
    TUMOUR_WITH_OEDEMA = "tumour with oedema"
    MULTIPLE_SCLEROSIS = "multiple sclerosis"


@dataclasses.dataclass(frozen=True, eq=False)
class Tumour:
    """A tumour of irregular outline in the white matter, half necrotic in its middle; (z, y, x) in LPS mm.

    outline: mm by which the surface departs from a sphere. oedema_mm: how far oedema reaches beyond it, 0 for none.
    """

    centre_mm: tuple[float, float, float]
    radius_mm: float
    outline: SplineField
    oedema_mm: float = 0.0

    @classmethod
    def draw(cls, rng: np.random.Generator, with_oedema: bool) -> Tumour:
        """In the white matter of either hemisphere, 9 to 13 mm in radius."""
        side = rng.choice([-1.0, 1.0])
        centre = (rng.uniform(18, 30), rng.uniform(-25, 35), side * rng.uniform(24, 32))
        radius, outline = rng.uniform(9, 13), SplineField.draw(HEAD_BOX_MM, 9.0, 1.2, rng)
        return cls(centre, radius, outline, rng.uniform(10, 18) if with_oedema else 0.0)

    def plant(self, shares: Shares, points: np.ndarray, at: At, spacing_mm: float) -> dict[str, np.ndarray]:
        """Let the tumour displace other tissues in `shares` at points (3, n); returns the masks of what grew."""
        outline = at(self.outline)
        surface = np.linalg.norm(points - np.array(self.centre_mm, np.float32)[:, None], axis=0) + outline
        grown = inside(surface - self.radius_mm, spacing_mm)
        necrotic = np.clip(1.5 * (0.75 - surface / self.radius_mm), 0, 0.6) * grown
        for share in shares.values():
            share *= 1 - grown
        shares[Tissue.CSF] += necrotic
        shares[Tissue.LESION] = grown - necrotic
        masks = {"lesion": grown > 0.5}
        if self.oedema_mm:
            # It follows the white matter and stops at the cortex, in fingers: where the outline bulges it reaches far.
            reach = surface - self.radius_mm - self.oedema_mm + np.float32(1.5) * outline
            wet = TISSUE_AT_MOST * inside(reach, max(OEDEMA_EDGE_MM, spacing_mm)) * shares[Tissue.WHITE_MATTER]
            shares[Tissue.WHITE_MATTER] -= wet
            shares[Tissue.OEDEMA] = wet
            masks["oedema"] = (wet > TISSUE_AT_MOST / 2) & ~masks["lesion"]
        return masks


@dataclasses.dataclass(frozen=True, eq=False)
class Plaques:
    """Lesions in the white matter around the ventricles, oval, their long axis pointing away from the midline.

    centres_mm: (lesion, 3) z, y, x. radii_mm: (lesion,) across. severity: (lesion,) share of white matter replaced.
    outline: mm by which the surfaces depart from ellipsoids.
    """

    centres_mm: np.ndarray
    radii_mm: np.ndarray
    severity: np.ndarray
    outline: SplineField

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Plaques:
        """8 to 25 lesions of 2 to 6 mm radius, where the template is white matter."""
        count = int(rng.integers(8, 26))
        candidates = rng.uniform((5, -45, 12), (48, 50, 38), size=(400, 3)).astype(np.float32)
        candidates[:, 2] *= rng.choice([-1, 1], len(candidates))
        white = head_template().white.at(candidates.T)
        centres = candidates[white > 0.85][:count]
        radii = np.clip(np.exp(rng.normal(np.log(3), 0.35, len(centres))), 2, 6)
        severity = rng.uniform(0.6, 1.0, len(centres))
        return cls(centres, radii, severity, SplineField.draw(HEAD_BOX_MM, 5.0, 0.5, rng))

    def plant(self, shares: Shares, points: np.ndarray, at: At, spacing_mm: float) -> dict[str, np.ndarray]:
        """Let the lesions take the place of white matter in `shares` at points (3, n); returns their mask."""
        taken = np.zeros(points.shape[1], np.float32)
        outline = at(self.outline)
        for centre, radius, severity in zip(self.centres_mm, self.radii_mm, self.severity, strict=True):
            near = np.flatnonzero(np.abs(points - centre[:, None]).max(axis=0) < 2.5 * radius + 4)
            away = points[:, near] - centre[:, None]
            away[2] /= np.float32(1.5)
            surface = np.linalg.norm(away, axis=0) + outline[near] - np.float32(radius)
            share = np.float32(severity) * inside(surface, max(PLAQUE_EDGE_MM, spacing_mm))
            taken[near] = np.maximum(taken[near], share)
        plaque = taken * shares[Tissue.WHITE_MATTER]
        shares[Tissue.WHITE_MATTER] -= plaque
        shares[Tissue.PLAQUE] = plaque
        return {"white matter lesions": plaque > 0.35}


def draw_lesions(disease: Disease, rng: np.random.Generator) -> Tumour | Plaques | None:
    """The lesions of a disease, None for a healthy person."""
    if disease is Disease.NONE:
        return None
    if disease is Disease.MULTIPLE_SCLEROSIS:
        return Plaques.draw(rng)
    return Tumour.draw(rng, with_oedema=disease is Disease.TUMOUR_WITH_OEDEMA)


def inside(distance_mm: np.ndarray, width_mm: float) -> np.ndarray:
    """The share of a voxel inside a surface at this signed distance, when the surface is `width_mm` wide."""
    return np.clip(0.5 - distance_mm / np.float32(width_mm), 0, 1)
