"""Two-dimensional building blocks: convolution with mirrored edges, normalisations, residual blocks, upsampling.

All tensors are (batch, channels, y, x). Sizes and kernels follow MUNIT (Huang et al., Multimodal unsupervised
image-to-image translation, ECCV 2018, appendix B), which HarMOnAE and other translators build on.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

EPSILON = 1e-5


def convolution(channels_in: int, channels_out: int, size: int, stride: int = 1) -> nn.Conv2d:
    """A convolution that mirrors the image at its edges, so that no dark frame is learnt; y and x go down by `stride`.

    Initialised for the ReLU behind it (He et al., ICCV 2015).
    """
    layer = nn.Conv2d(channels_in, channels_out, size, stride, (size - 1) // 2, padding_mode="reflect")
    nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    nn.init.zeros_(layer.bias)
    return layer


def instance_norm(channels: int) -> nn.InstanceNorm2d:
    """Mean 0 and variance 1 of every channel of every image; it learns nothing."""
    return nn.InstanceNorm2d(channels, eps=EPSILON)


class LayerNorm(nn.Module):
    """Mean 0 and variance 1 over all channels and positions of each image, then a learnt gain and bias per channel.

    Unlike instance normalisation it keeps the channels' levels against each other, which carry an injected style.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.norm = nn.GroupNorm(1, channels, eps=EPSILON)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x)


def adain(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Adaptive instance normalisation: w (x - mean) / sd + b with mean and sd of each channel of each image.

    weight, bias: (batch, channels). Source: Huang and Belongie, ICCV 2017, equation 8.
    """
    return weight[:, :, None, None] * functional.instance_norm(x, eps=EPSILON) + bias[:, :, None, None]


class ResidualBlock(nn.Module):
    """x + two 3 x 3 convolutions, each instance-normalised, the first with ReLU (none after the second)."""

    def __init__(self, channels: int):
        super().__init__()
        self.body = nn.Sequential(
            convolution(channels, channels, 3),
            instance_norm(channels),
            nn.ReLU(),
            convolution(channels, channels, 3),
            instance_norm(channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


class StyledResidualBlock(nn.Module):
    """A residual block whose normalisations take gain and bias from a style: (batch, 4 x channels)."""

    def __init__(self, channels: int):
        super().__init__()
        self.first = convolution(channels, channels, 3)
        self.second = convolution(channels, channels, 3)

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        weight1, bias1, weight2, bias2 = style.chunk(4, dim=1)
        change = functional.relu(adain(self.first(x), weight1, bias1))
        return x + adain(self.second(change), weight2, bias2)


class Upsampling(nn.Module):
    """Twice the size: nearest neighbour and a 5 x 5 convolution, which draws no checkerboard (Odena et al. 2016).

    Layer-normalised, with ReLU.
    """

    def __init__(self, channels_in: int, channels_out: int):
        super().__init__()
        self.convolution = convolution(channels_in, channels_out, 5)
        self.norm = LayerNorm(channels_out)

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(self.norm(self.convolution(functional.interpolate(x, scale_factor=2.0))))


def parameter_count(module: nn.Module) -> int:
    """How many numbers a network learns."""
    return sum(p.numel() for p in module.parameters())


def gradient_l1(difference: Tensor) -> Tensor:
    """Mean absolute forward difference along x plus that along y of an image (batch, channels, y, x)."""
    along_x = torch.diff(difference, dim=-1).abs().mean()
    return along_x + torch.diff(difference, dim=-2).abs().mean()
