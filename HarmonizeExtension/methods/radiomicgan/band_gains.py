"""A filter at the side of the slice itself, of ours: bands of its detail, each with a gain that the wanted kernel sets.

Two kernels differ, above all, by a gain for every spatial frequency, and fine detail is so much fainter than anatomy
that a network learns such gains slowly: of 26.0 HU from a soft to a sharp simulated kernel, 18.9 are left after 2,500
steps without the bands (and with fewer cases), 11.3 with them (`harmonize evaluate ct-benchmark --people 12`, Br40 to
Bl64; 10.2 by a filter that is told both kernels).

The gains depend on the wanted kernel, on the width of a pixel, since a kernel acts in mm, and on how strong each band
is in the slice, where it is flat and where it is not: that betrays the kernel which the slice has, as noise alone does
not. (On simulated cases never seen, a small network told three kernels apart in 81 % of squares by the mean logarithm
of the bands' energies, and in 96 % by that and the logarithm of their mean.) All tensors are (batch, channels, y, x).
"""

from __future__ import annotations

from math import comb

import torch
from torch import Tensor, nn
from torch.nn import functional

BINOMIAL = (0.25, 0.5, 0.25)
SCALE = 16.0  # brings bands to the size of what a network sees else
HIDDEN = 32
AIR = 0.06  # what lies no further above the window's low end is air or clipped, and says nothing of a kernel
FAINT = 1e-5  # a band's energy where there is none, about a tenth of an HU
MIDDLE_LEVEL, LEVEL_SD = -6.0, 2.0  # of the logarithm of bands' energies in CT, roughly


class Bands(nn.Module):
    """Slices (batch, 1, y, x) to bands of their detail (batch, count, y, x), the coarsest first.

    With B for the blur by [1 2 1] / 4 along y and x, band k of n is the Bernstein polynomial
    C(n, k) (1 - B)^k B^(n - k), `SCALE` k times as strong. Unscaled, bands and B^n of the slice add up to the slice, so
    that the gain of a band is that of its frequencies; each lies at frequencies of its own, the last at the finest.
    """

    def __init__(self, count: int):
        super().__init__()
        blur = torch.outer(*[torch.tensor(BINOMIAL, dtype=torch.float64)] * 2)
        sharpen = -blur
        sharpen[1, 1] += 1
        filters = []
        for order in range(1, count + 1):
            made = torch.ones(1, 1, dtype=torch.float64)
            for part in [sharpen] * order + [blur] * (count - order):
                made = functional.conv2d(made[None, None], part[None, None], padding=2)[0, 0]
            filters.append(SCALE * order * comb(count, order) * made)
        self.register_buffer("filters", torch.stack(filters)[:, None].float(), persistent=False)

    def forward(self, slices: Tensor) -> Tensor:
        reach = self.filters.shape[-1] // 2
        return functional.conv2d(functional.pad(slices, (reach,) * 4, mode="replicate"), self.filters)


class BandGains(nn.Module):
    """What bands with gains add to slices (batch, 1, y, x) for the code of a kernel (see networks/kernel_blocks.py).

    Begins as no change, whatever the kernel.
    """

    def __init__(self, count: int, kernels: int):
        super().__init__()
        self.bands = Bands(count)
        self.seen = nn.Sequential(
            nn.Linear(2 * count + 1, HIDDEN), nn.LeakyReLU(0.1), nn.Linear(HIDDEN, HIDDEN), nn.Tanh()
        )
        self.gain = nn.Parameter(torch.zeros(kernels + 1, count * (HIDDEN + 1)))

    def forward(self, slices: Tensor, code: Tensor, local: Tensor | float = 0.0, zoom: float = 1.0) -> Tensor:
        """local: gains of each place (batch, count, y, x), on top of those of the slice as a whole.

        zoom: how many times narrower the window of these slices is than the one that is used in the end.
        """
        bands = self.bands(slices)
        body = (slices > AIR * zoom - 1).float()
        strength = torch.cat([code[:, -1:], (self._strength(bands / zoom, body) - MIDDLE_LEVEL) / LEVEL_SD], dim=1)
        seen = self.seen(strength)
        seen = functional.pad(seen, (0, 1), value=1.0)
        of_kernel = (code @ self.gain).unflatten(1, (bands.shape[1], seen.shape[1]))
        gain = (of_kernel * seen[:, None]).sum(dim=2)
        return ((gain[:, :, None, None] + local) * bands).sum(dim=1, keepdim=True)

    def _strength(self, bands: Tensor, body: Tensor) -> Tensor:
        """Of each band in the body: mean logarithm of its energy, mostly noise, and logarithm of the mean, edges."""

        def mean(values: Tensor) -> Tensor:
            return (values * body).sum((2, 3)) / body.sum((2, 3)).clamp(min=1)

        energy = bands.square() + FAINT
        return torch.cat([mean(energy.log()), (mean(energy) + FAINT).log()], dim=1)
