"""Smooth random fields in space: the raw material of a person's shape and tissue texture.

A field is a sum of cubic B-splines on a lattice of knots that is fixed in millimetres, as free-form deformations are
(Rueckert et al., IEEE Trans Med Imaging 18:712, 1999). So one field can be sampled on grids of any spacing and is
the same field on each.
"""

from __future__ import annotations

import dataclasses

import numpy as np

Axes = tuple[np.ndarray, np.ndarray, np.ndarray]  # coordinates in mm along z, y and x

# Sum of the squared cubic B-spline values at the integers, averaged over the position between knots.
_MEAN_SQUARE = 151 / 315


@dataclasses.dataclass(frozen=True, eq=False)
class SplineField:
    """A scalar field of mean 0; `coefficients` (z, y, x) stand on knots, the first of them at `first_knot_mm`."""

    coefficients: np.ndarray
    knot_spacing_mm: float
    first_knot_mm: tuple[float, float, float]  # z, y, x

    @classmethod
    def draw(
        cls,
        box_mm: tuple[tuple[float, float], ...],
        knot_spacing_mm: float,
        sd: float,
        rng: np.random.Generator,
    ) -> SplineField:
        """A random field of standard deviation `sd` that covers the box ((z0, z1), (y0, y1), (x0, x1))."""
        count = [int(np.ceil((end - start) / knot_spacing_mm)) + 4 for start, end in box_mm]
        first = tuple(start - 1.5 * knot_spacing_mm for start, _ in box_mm)
        scale = np.float32(sd / _MEAN_SQUARE**1.5)
        return cls(scale * rng.standard_normal(count, dtype=np.float32), knot_spacing_mm, first)

    def on(self, axes: Axes) -> np.ndarray:
        """The field on a grid of coordinates (z, y, x), float32; the field ends in zero outside its box."""
        field = self.coefficients
        for axis, first, count in zip(axes, self.first_knot_mm, self.coefficients.shape, strict=True):
            position = (axis[:, None] - first) / self.knot_spacing_mm - np.arange(count)
            # Contract the first axis and append the result as the last: after three rounds the order is z, y, x again.
            field = np.tensordot(field, _cubic(position).astype(np.float32), axes=(0, 1))
        return field


def _cubic(t: np.ndarray) -> np.ndarray:
    """The cubic B-spline centred on 0, which ends at -2 and 2."""
    t = np.abs(t)
    return np.where(t < 1, 2 / 3 - t**2 + t**3 / 2, np.where(t < 2, (2 - t) ** 3 / 6, 0.0))


def texture(
    box_mm: tuple[tuple[float, float], ...], knots_mm: tuple[float, ...], sd: float, rng: np.random.Generator
) -> tuple[SplineField, ...]:
    """Fields at several scales that add up to the standard deviation `sd`, each with the same share of the variance."""
    return tuple(SplineField.draw(box_mm, knot, sd / len(knots_mm) ** 0.5, rng) for knot in knots_mm)


def total(fields: tuple[SplineField, ...], axes: Axes) -> np.ndarray:
    """The sum of fields on a grid (z, y, x), float32."""
    return sum(field.on(axes) for field in fields)
