"""The networks of the paired CT baselines: a plain residual CNN and a U-Net, both told the kernel to show.

Sources: Lee et al., CT image conversion among different reconstruction kernels without a sinogram by using a
convolutional neural network, Korean J Radiol 20:295, 2019, which Choe et al., Radiology 292:365, 2019 used for
radiomics (six layers of 64 filters that learn the residue); Isola et al., CVPR 2017 (U-Net).

They train one network for each pair of kernels; here one serves all, as in RadiomicGAN, and it sees the same: a slice
between its neighbours.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from ...errors import ModelError
from ...networks.kernel_blocks import KernelConvolution, KernelGain, kernel_code, relu_convolution

MULTIPLE = 16  # the U-Net halves y and x four times
DEPTH = 4
LAYERS = 6


class ResidualCNN(nn.Module):
    """Three slices (batch, 3, y, x), -1 to 1, and the code of a kernel to the middle one with it (batch, 1, y, x).

    Six convolutions of 3 x 3 that give the difference from the slice; the wanted kernel acts on every one but the last.
    """

    def __init__(self, kernels: int, width: int = 64):
        super().__init__()
        self.layers = nn.ModuleList(relu_convolution(width if n else 3, width) for n in range(LAYERS - 1))
        self.gains = nn.ModuleList(KernelGain(width, kernels) for _ in self.layers)
        self.last = _near_nothing(nn.Conv2d(width, 1, 3, padding=1))

    def forward(self, slices: Tensor, code: Tensor) -> Tensor:
        x = slices
        for layer, gain in zip(self.layers, self.gains, strict=True):
            x = functional.relu(gain(layer(x), code))
        return slices[:, 1:2] + self.last(x)


class UNet(nn.Module):
    """Three slices (batch, 3, y, x), -1 to 1, and the code of a kernel to the middle one with it (batch, 1, y, x).

    y and x must be multiples of 16. It gives the difference from the slice.
    """

    def __init__(self, kernels: int, width: int = 64):
        super().__init__()
        channels = [width * min(2**level, 8) for level in range(DEPTH + 1)]
        inputs = [3, *channels[:-1]]
        self.down = nn.ModuleList(KernelConvolution(i, o, kernels) for i, o in zip(inputs, channels, strict=True))
        self.up = nn.ModuleList(
            KernelConvolution(deep + skip, skip, kernels)
            for deep, skip in zip(channels[:0:-1], channels[-2::-1], strict=True)
        )
        self.last = _near_nothing(nn.Conv2d(width, 1, 3, padding=1))

    def encoded(self, slices: Tensor, code: Tensor) -> list[Tensor]:
        """What each level sees, finest first; the last is the latent space."""
        seen: list[Tensor] = []
        for stage in self.down:
            seen.append(stage(functional.max_pool2d(seen[-1], 2) if seen else slices, code))
        return seen

    def forward(self, slices: Tensor, code: Tensor) -> Tensor:
        skips = self.encoded(slices, code)
        x = skips.pop()
        for stage in self.up:
            x = stage(torch.cat([functional.interpolate(x, scale_factor=2.0), skips.pop()], dim=1), code)
        return slices[:, 1:2] + self.last(x)


def _near_nothing(layer: nn.Conv2d) -> nn.Conv2d:
    """The last layer as it begins: close to no change."""
    with torch.no_grad():
        layer.weight.mul_(0.1)
        layer.bias.zero_()
    return layer


GENERATORS: dict[str, type[nn.Module]] = {"residual-cnn": ResidualCNN, "unet": UNet}


class Translator(nn.Module):
    """From three slices to the middle one with one kernel: what is left of the system once it is trained."""

    def __init__(self, generator: nn.Module, site: int, sites: int, pixel_mm: float):
        super().__init__()
        self.generator = generator
        code = kernel_code(torch.tensor([site]), sites, torch.tensor([pixel_mm]))
        self.register_buffer("wanted", code, persistent=False)

    @classmethod
    def from_weights(cls, weights: Mapping[str, np.ndarray], site: int, sites: int, pixel_mm: float) -> Translator:
        """With the arrays of a model folder. Raises ModelError where they are not those of one of these networks."""
        parts = {name: array for name, array in weights.items() if name.startswith("generator.")}
        kind = "unet" if any(name.startswith("generator.down.") for name in parts) else "residual-cnn"
        try:
            width = weights["generator.last.weight"].shape[1]
            network = cls(GENERATORS[kind](sites, width), site, sites, pixel_mm)
            network.load_state_dict({name: torch.from_numpy(array.copy()) for name, array in parts.items()})
        except (KeyError, RuntimeError, TypeError) as error:
            raise ModelError(
                "the weights of the model are not those of a paired CT network; get the model again"
            ) from error
        return network.eval()

    def forward(self, slices: Tensor) -> Tensor:
        return self.generator(slices, self.wanted.expand(slices.shape[0], -1))
