"""Bands of an image's detail, by spatial frequency, which networks give gains: in slices and in volumes.

Two kernels, reconstructions or post-filters differ, above all, by a gain for every spatial frequency. Detail is so much
fainter than anatomy that networks of small convolutions learn such gains slowly; given the bands, they learn a few
numbers. How strong each band is, where the image is flat and where it is not, betrays how it was made, as noise alone
does not: on simulated CT never seen, a small network told three kernels apart in 81 % of squares by the mean logarithm
of the bands' energies, and in 96 % by that and the logarithm of their mean.

Tensors are (batch, channels, y, x) or (batch, channels, z, y, x).
"""

from __future__ import annotations

from math import comb

import torch
from torch import Tensor, nn
from torch.nn import functional

FAINT = 1e-5  # a band's energy where there is none
MIDDLE_LEVEL, LEVEL_SD = -6.0, 2.0  # of the logarithm of bands' energies, in CT as in PET, roughly
HIDDEN = 32


def blurred(image: Tensor) -> Tensor:
    """An image through [1 2 1] / 4 along each axis, its border repeated."""
    for axis in range(2, image.ndim):
        n = image.shape[axis]
        wide = torch.cat([image.narrow(axis, 0, 1), image, image.narrow(axis, n - 1, 1)], dim=axis)
        image = image / 2 + (wide.narrow(axis, 0, n) + wide.narrow(axis, 2, n)) / 4
    return image


def blurs(image: Tensor, count: int) -> Tensor:
    """An image (batch, 1, ...) as it is and blurred once, twice, up to `count` times: (batch, count + 1, ...)."""
    made = [image]
    for _ in range(count):
        made.append(blurred(made[-1]))
    return torch.cat(made, dim=1)


class Bands(nn.Module):
    """An image (batch, 1, ...) to what is left of it without detail, and to bands of its detail, the coarsest first.

    With B for the blur by [1 2 1] / 4 along each axis, band k of n is the Bernstein polynomial
    C(n, k) (1 - B)^k B^(n - k), and the rest is band 0. They all add up to the image, so that the gain of a band is
    that of its frequencies; each lies at frequencies of its own, the last at the finest. Beyond its border the image
    goes on as it ends there.
    """

    def __init__(self, count: int):
        super().__init__()
        parts = torch.zeros(count + 1, count + 1, dtype=torch.float64)
        for k in range(count + 1):
            for j in range(k + 1):
                parts[k, count - k + j] = comb(count, k) * comb(k, j) * (-1) ** j
        self.register_buffer("parts", parts.float(), persistent=False)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """The rest (batch, 1, ...) and the bands (batch, count, ...), float32."""
        # Differences of blurs need more digits than bf16 has.
        with torch.autocast(image.device.type, enabled=False):
            reach = len(self.parts) - 1
            wide = functional.pad(image.float(), (reach,) * 2 * (image.ndim - 2), mode="replicate")
            made = blurs(wide, reach)[(..., *(slice(reach, -reach),) * (image.ndim - 2))]
            bands = torch.einsum("kb,nb...->nk...", self.parts, made)
        return bands[:, :1], bands[:, 1:]


def strength(bands: Tensor, body: Tensor) -> Tensor:
    """How strong each band is in the body, which is 1 there and else 0: (batch, 2 x bands).

    First the mean logarithm of each band's energy, which is mostly noise, then the logarithm of the mean, mostly edges.
    """

    def mean(values: Tensor) -> Tensor:
        return (values * body).flatten(2).sum(2) / body.flatten(2).sum(2).clamp(min=1)

    energy = bands.square() + FAINT
    return torch.cat([mean(energy.log()), (mean(energy) + FAINT).log()], dim=1)


def levelled(strengths: Tensor) -> Tensor:
    """Strengths at the size of what networks see else."""
    return (strengths - MIDDLE_LEVEL) / LEVEL_SD


def reader(count: int) -> nn.Sequential:
    """A network from `count` numbers, strengths as `levelled` among them, to the HIDDEN ones that gains follow."""
    return nn.Sequential(nn.Linear(count, HIDDEN), nn.LeakyReLU(0.1), nn.Linear(HIDDEN, HIDDEN), nn.Tanh())


def local_strength(bands: Tensor, reach: int) -> Tensor:
    """How strong each band is around each place: the logarithm of its energy, blurred `reach` times."""
    energy = bands.square() + FAINT
    for _ in range(reach):
        energy = blurred(energy)
    return energy.log()
