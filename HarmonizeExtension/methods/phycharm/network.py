"""PhyCHarm's networks: U-Nets for T1, for M0 and for what the signal equation leaves of a scanner's look.

Source: Lee et al., medRxiv 2025.02.07.25321867, section 2.5: channels 16 to 256, twice convolution, instance
normalisation and LeakyReLU, max pooling and upsampling by 2. Unlike there the maps are corrections of what the protocol
says of each voxel (`first_guess`), so that instance normalisation, which forgets the level of a slice, cannot make T1
depend on the slice; and one harmonization network serves all directions instead of one network each.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from ...errors import ModelError
from ...networks.blocks import instance_norm
from .first_guess import density_of

DEPTH = 4
MULTIPLE = 2**DEPTH  # the U-Nets halve y and x four times
SLOPE = 0.1
MOST = 1.5  # of the logarithm of T1: no correction is larger


class _Double(nn.Sequential):
    """Twice convolution, instance normalisation and LeakyReLU. Padded with 0, which is what surrounds a brain."""

    def __init__(self, channels_in: int, channels_out: int):
        layers: list[nn.Module] = []
        for channels in (channels_in, channels_out):
            convolution = nn.Conv2d(channels, channels_out, 3, padding=1, bias=False)
            nn.init.kaiming_normal_(convolution.weight, SLOPE)
            layers += [convolution, instance_norm(channels_out), nn.LeakyReLU(SLOPE)]
        super().__init__(*layers)


class UNet(nn.Module):
    """(batch, channels_in, y, x) to (batch, channels_out, y, x); y and x multiples of MULTIPLE.

    It begins by giving 0 everywhere, so that what it corrects is first left as it is.
    """

    def __init__(self, channels_in: int, channels_out: int, width: int = 16):
        super().__init__()
        widths = [width * 2**depth for depth in range(DEPTH + 1)]
        self.down = nn.ModuleList(_Double(a, b) for a, b in zip([channels_in, *widths], widths, strict=False))
        self.up = nn.ModuleList(_Double(a + b, a) for a, b in zip(widths[-2::-1], widths[:0:-1], strict=True))
        self.last = nn.Conv2d(width, channels_out, 1)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def forward(self, x: Tensor) -> Tensor:
        passed = []
        for level in self.down[:-1]:
            x = level(x)
            passed.append(x)
            x = functional.max_pool2d(x, 2)
        x = self.down[-1](x)
        for level in self.up:
            x = level(torch.cat([passed.pop(), functional.interpolate(x, scale_factor=2.0)], dim=1))
        return self.last(x)


class MapsGenerator(nn.Module):
    """The quantitative maps generator: two U-Nets, one for T1 and one for M0.

    In: (batch, 2, y, x), the image, where white matter is 1, and the first guess of T1 in seconds, both 0 outside the
    brain. Out: (batch, 2, y, x), T1 in seconds at 3 T, and M0 relative to water; 0 outside the brain.
    """

    def __init__(self, width: int = 16):
        super().__init__()
        self.t1 = UNet(2, 1, width)
        self.m0 = UNet(2, 1, width)

    def forward(self, seen: Tensor) -> Tensor:
        guess = seen[:, 1:]
        brain = (guess > 0).to(guess.dtype)
        known = guess + (1 - brain)  # 1 s where there is no brain, so that logarithms are finite
        described = torch.cat([seen[:, :1], known.log()], dim=1)
        t1 = known * (MOST * torch.tanh(self.t1(described) / MOST)).float().exp()
        m0 = density_of(1000 * known) * (MOST * torch.tanh(self.m0(described) / MOST)).float().exp()
        return torch.cat([t1, m0], dim=1) * brain


class HarmonizationNetwork(nn.Module):
    """What is left between the Bloch-mapped image and the target scanner's own: (batch, scanners, y, x).

    In: (batch, 2, y, x), the mapped image and the source's, where white matter is 1. Every scanner that was trained
    for has a channel of the result, which is to be added to the mapped image.
    """

    def __init__(self, scanners: int, width: int = 16):
        super().__init__()
        self.residual = UNet(2, scanners, width)

    def forward(self, seen: Tensor) -> Tensor:
        return self.residual(seen)


def from_weights(part: str, weights: Mapping[str, np.ndarray]) -> MapsGenerator | HarmonizationNetwork:
    """The "generator" or the "harmonization" network of a model folder, ready for use.

    Raises ModelError where the arrays are not those of this network.
    """
    own = {name.removeprefix(f"{part}."): array for name, array in weights.items() if name.startswith(f"{part}.")}
    try:
        if part == "generator":
            network = MapsGenerator(own["t1.last.weight"].shape[1])
        else:
            network = HarmonizationNetwork(*own["residual.last.weight"].shape[:2])
        network.load_state_dict({name: torch.from_numpy(array.copy()) for name, array in own.items()})
    except (KeyError, RuntimeError, TypeError) as error:
        raise ModelError("the weights of the model are not those of PhyCHarm; get the model again") from error
    return network.eval()
