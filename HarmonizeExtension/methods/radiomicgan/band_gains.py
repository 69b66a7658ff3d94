"""A filter at the side of the slice itself, of ours: bands of its detail, each with a gain that the wanted kernel sets.

Of 26.0 HU from a soft to a sharp simulated kernel, the network as published leaves 18.9 after 2,500 steps (and with
fewer cases), and 11.3 with the bands (`harmonize evaluate ct-benchmark --people 12`, Br40 to Bl64; 10.2 are left by a
filter that is told both kernels).

The gains depend on the wanted kernel, on the width of a pixel, since a kernel acts in mm, and on how strong each band
is in the slice, which betrays the kernel that the slice has. All tensors are (batch, channels, y, x).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from ...networks.bands import HIDDEN, Bands, levelled, reader, strength

SCALE = 16.0  # brings bands to the size of what a network sees else; those of high frequencies are fainter still
AIR = 0.06  # what lies no further above the window's low end is air or clipped, and says nothing of a kernel


class BandGains(nn.Module):
    """What bands with gains add to slices (batch, 1, y, x) for the code of a kernel (see networks/kernel_blocks.py).

    Begins as no change, whatever the kernel.
    """

    def __init__(self, count: int, kernels: int):
        super().__init__()
        self.bands = Bands(count)
        scale = SCALE * torch.arange(1.0, count + 1)[:, None, None]
        self.register_buffer("scale", scale, persistent=False)
        self.seen = reader(2 * count + 1)
        self.gain = nn.Parameter(torch.zeros(kernels + 1, count * (HIDDEN + 1)))

    def forward(self, slices: Tensor, code: Tensor, local: Tensor | float = 0.0, zoom: float = 1.0) -> Tensor:
        """local: gains of each place (batch, count, y, x), on top of those of the slice as a whole.

        zoom: how many times narrower the window of these slices is than the one that is used in the end.
        """
        bands = self.scale * self.bands(slices)[1]
        body = (slices > AIR * zoom - 1).float()
        level = levelled(strength(bands / zoom, body))
        seen = functional.pad(self.seen(torch.cat([code[:, -1:], level], dim=1)), (0, 1), value=1.0)
        of_kernel = (code @ self.gain).unflatten(1, (bands.shape[1], seen.shape[1]))
        gain = (of_kernel * seen[:, None]).sum(dim=2)
        return ((gain[:, :, None, None] + local) * bands).sum(dim=1, keepdim=True)
