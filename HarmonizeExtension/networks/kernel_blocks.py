"""Blocks of the CT networks: layers that are told the wanted kernel, and the judge of patches that is told it too.

The code of a kernel is (batch, kernels + 1): one-hot, and the pixel size as log2(mm / PIXEL_MM), since a kernel acts in
mm while a network sees pixels.

All tensors are (batch, channels, y, x).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

GAIN_SD, BIAS_SD = 0.7, 0.4
DETAIL_GAIN = 16.0
PIXEL_MM = 0.7  # a chest's; there the last entry of the code is 0


def scaled(hu: Tensor, window: tuple[float, float]) -> Tensor:
    """HU as the networks see them: the window as -1 to 1, what lies outside clipped to it."""
    low, high = window
    return (hu.clamp(low, high) - low) * (2 / (high - low)) - 1


def unscaled(seen: Tensor, window: tuple[float, float]) -> Tensor:
    """The inverse of `scaled` inside the window."""
    low, high = window
    return (seen + 1) * ((high - low) / 2) + low


def kernel_code(kernels: Tensor, count: int, pixel_mm: Tensor) -> Tensor:
    """The codes (batch, count + 1) of kernel indices (batch,) at pixel sizes in mm (batch,)."""
    size = torch.log2(pixel_mm.float() / PIXEL_MM)
    return torch.cat([functional.one_hot(kernels, count).float(), size[:, None]], dim=1)


class KernelGain(nn.Module):
    """What the wanted kernel multiplies every channel by, and what it adds.

    Kernels begin apart, at random. What one sharpens another blurs: where all begin alike their gradients cancel, and
    the network stays where it changes nothing (measured, on a soft and a bone kernel).

    Source: Dumoulin et al., A learned representation for artistic style, ICLR 2017.
    """

    def __init__(self, channels: int, kernels: int):
        super().__init__()
        self.gain = nn.Parameter(torch.randn(kernels + 1, channels) * GAIN_SD)
        self.bias = nn.Parameter(torch.randn(kernels + 1, channels) * BIAS_SD)
        with torch.no_grad():  # while the size of a pixel begins without effect
            self.gain[-1], self.bias[-1] = 0, 0

    def forward(self, x: Tensor, code: Tensor) -> Tensor:
        return x * (1 + code @ self.gain)[:, :, None, None] + (code @ self.bias)[:, :, None, None]


class KernelConvolution(nn.Module):
    """A 3 x 3 convolution, batch normalisation, gain and bias of the wanted kernel, ReLU.

    Unlike instance normalisation, batch normalisation does the same to a pixel whatever lies elsewhere in the slice:
    HU stay HU, and what was learnt on squares holds for whole slices.
    """

    def __init__(self, channels_in: int, channels_out: int, kernels: int):
        super().__init__()
        self.convolution = relu_convolution(channels_in, channels_out)
        self.norm = nn.BatchNorm2d(channels_out)
        self.kernel = KernelGain(channels_out, kernels)

    def forward(self, x: Tensor, code: Tensor) -> Tensor:
        return functional.relu(self.kernel(self.norm(self.convolution(x)), code))


def relu_convolution(channels_in: int, channels_out: int) -> nn.Conv2d:
    """A 3 x 3 convolution, filled up with zeros as VGG's are; initialised for the ReLU behind it (He et al. 2015)."""
    layer = nn.Conv2d(channels_in, channels_out, 3, padding=1)
    nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    nn.init.zeros_(layer.bias)
    return layer


def detail(images: Tensor) -> Tensor:
    """What images have beyond the mean over 5 pixels to the side, `DETAIL_GAIN` times.

    Kernels differ in it, by a hundredth of what tissues differ by.
    """
    return DETAIL_GAIN * (images - functional.avg_pool2d(images, 5, 1, 2, count_include_pad=False))


class PatchJudge(nn.Module):
    """Is the image one of the wanted kernel? Logits (batch, 1, y, x), one for each patch, high for yes.

    Four convolutions of stride 2, the first two without normalisation, and two of stride 1. images: how many slices of
    one channel it sees side by side: 2 for the source and the image in question (conditional), 1 for that one alone.
    It is shown their `detail` too; without it it learnt nothing in 2,500 steps.
    Source: Isola et al., CVPR 2017, section 6.1.2, one stride more as for slices of 512 pixels.
    """

    def __init__(self, images: int, kernels: int, width: int = 64):
        super().__init__()
        wide = (width, width, 2 * width, 4 * width, 8 * width)
        layers: list[nn.Module] = []
        for level, channels in enumerate(wide):
            stride = 2 if level < 4 else 1
            layers.append(nn.Conv2d(wide[level - 1] if level else 2 * images + kernels + 1, channels, 4, stride, 1))
            if level > 1:
                layers.append(nn.BatchNorm2d(channels))
            layers.append(nn.LeakyReLU(0.2))
        self.features = nn.Sequential(*layers)
        self.last = nn.Conv2d(8 * width, 1, 4, 1, 1)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.normal_(layer.weight, 0, 0.02)
                nn.init.zeros_(layer.bias)

    def forward(self, images: Tensor, code: Tensor) -> Tensor:
        planes = code[:, :, None, None].expand(-1, -1, *images.shape[-2:])
        return self.last(self.features(torch.cat([images, detail(images), planes], dim=1)))
