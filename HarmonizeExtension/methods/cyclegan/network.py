"""The networks of the three-dimensional CycleGAN: generators and critics, as published and small ones for a CPU.

Source: Haberl et al., EJNMMI 2024, with the values of its public code (dhaberl/3DCycleGAN); CycleGAN: Zhu et al., ICCV
2017. All tensors are (batch, channels, z, y, x), images on the network's scale (`suv_scale`).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from ...errors import ModelError

MULTIPLE = 4  # the published generator halves all axes twice
PUBLISHED, SMALL = "published", "small"
SIZES = (PUBLISHED, SMALL)
SLOPE = 0.2
DETAIL_GAIN = 8.0


def _convolution(channels_in: int, channels_out: int, size: int, stride: int = 1) -> nn.Conv3d:
    return nn.Conv3d(channels_in, channels_out, size, stride, (size - 1) // 2, padding_mode="reflect")


def _normalised(layer: nn.Module, channels: int) -> list[nn.Module]:
    return [layer, nn.InstanceNorm3d(channels), nn.ReLU(inplace=True)]


class _ResidualBlock(nn.Module):
    """x + two 3 x 3 x 3 convolutions, instance-normalised."""

    def __init__(self, channels: int):
        super().__init__()
        self.body = nn.Sequential(
            *_normalised(_convolution(channels, channels, 3), channels),
            _convolution(channels, channels, 3),
            nn.InstanceNorm3d(channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


class PublishedGenerator(nn.Module):
    """The paper's: two strided convolutions, nine residual blocks, two transposed convolutions, tanh. 34.11 M numbers.

    (batch, 1, z, y, x) to the same, sizes multiples of 4. Instance normalisation makes what it does to a voxel depend
    on the whole window.
    """

    channels_in = 1

    def __init__(self, width: int = 64, blocks: int = 9):
        super().__init__()
        up = (
            _normalised(nn.ConvTranspose3d(c, c // 2, 3, 2, 1, output_padding=1), c // 2)
            for c in (4 * width, 2 * width)
        )
        self.body = nn.Sequential(
            *_normalised(_convolution(1, width, 7), width),
            *_normalised(nn.Conv3d(width, 2 * width, 3, 2, 1, padding_mode="reflect"), 2 * width),
            *_normalised(nn.Conv3d(2 * width, 4 * width, 3, 2, 1, padding_mode="reflect"), 4 * width),
            *(_ResidualBlock(4 * width) for _ in range(blocks)),
            *(layer for layers in up for layer in layers),
            _convolution(width, 1, 7),
            nn.Tanh(),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x)


def detail(image: Tensor) -> Tensor:
    """What an image has beyond the mean over 5 voxels to the side, `DETAIL_GAIN` times.

    Blur and noise live there, a tenth as strong as organs; networks without normalisation find them much sooner when
    they are shown.
    """
    return DETAIL_GAIN * (image - functional.avg_pool3d(image, 5, 1, 2, count_include_pad=False))


class SmallGenerator(nn.Module):
    """The image plus what a few 3 x 3 x 3 convolutions make of it, its detail and noise; it begins as the identity.

    (batch, 2, z, y, x), image and white noise of variance 1, to (batch, 1, z, y, x). Without normalisation a voxel
    depends on neighbours up to 7 away and on nothing else, so that windows meet without a seam. The noise is what is
    needed to make a noisy image of a quiet one (Almahairi et al., Augmented CycleGAN, ICML 2018): without it, the
    network would have to amplify what little there is.
    """

    channels_in = 2

    def __init__(self, width: int = 16, layers: int = 5):
        super().__init__()
        inner: list[nn.Module] = []
        for channels in (3, *[width] * (layers - 2)):
            convolution = _convolution(channels, width, 3)
            nn.init.kaiming_normal_(convolution.weight, SLOPE)
            inner += [convolution, nn.LeakyReLU(SLOPE, inplace=True)]
        last = _convolution(width, 1, 3)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.body = nn.Sequential(*inner, last)

    def forward(self, x: Tensor) -> Tensor:
        image = x[:, :1]
        return image + self.body(torch.cat([x, detail(image)], dim=1)) / DETAIL_GAIN


class PublishedCritic(nn.Module):
    """A PatchGAN of 4 x 4 x 4 convolutions, 64 to 512 channels, strides 2, 2, 2, 1, 1. 11.05 M numbers.

    (batch, 1, z, y, x) to an opinion for each patch, 1 for the centre's own. sigmoid: as in the public code, where it
    stands before a squared error and lets gradients vanish; without it, LSGAN (Mao et al., ICCV 2017) as published.
    """

    def __init__(self, width: int = 64, sigmoid: bool = False):
        super().__init__()

        def convolution(channels_in: int, channels_out: int, stride: int) -> nn.Conv3d:
            return nn.Conv3d(channels_in, channels_out, 4, stride, 1, padding_mode="reflect")

        layers: list[nn.Module] = [convolution(1, width, 2), nn.LeakyReLU(SLOPE)]
        for channels, stride in ((width, 2), (2 * width, 2), (4 * width, 1)):
            layers += [convolution(channels, 2 * channels, stride), nn.InstanceNorm3d(2 * channels)]
            layers.append(nn.LeakyReLU(SLOPE))
        layers.append(convolution(8 * width, 1, 1))
        if sigmoid:
            layers.append(nn.Sigmoid())
        self.body = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x)


class SmallCritic(nn.Module):
    """Two strided convolutions and one that judges 18 voxels to the side, of the image's detail alone.

    No normalisation, which would hide how strong the noise is.
    """

    def __init__(self, width: int = 16, sigmoid: bool = False):
        super().__init__()
        convolutions = (
            nn.Conv3d(1, width, 4, 2, 1),
            nn.Conv3d(width, 2 * width, 4, 2, 1),
            nn.Conv3d(2 * width, 1, 3, 1, 1),
        )
        layers: list[nn.Module] = []
        for convolution in convolutions:
            nn.init.kaiming_normal_(convolution.weight, SLOPE)
            layers += [convolution, nn.LeakyReLU(SLOPE)]
        layers[-1] = nn.Sigmoid() if sigmoid else nn.Identity()
        self.body = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return self.body(detail(x))


def generator(size: str, width: int) -> PublishedGenerator | SmallGenerator:
    """A generator of one of the SIZES."""
    return PublishedGenerator(width) if size == PUBLISHED else SmallGenerator(width)


def critic(size: str, width: int, sigmoid: bool) -> PublishedCritic | SmallCritic:
    """A critic of one of the SIZES."""
    return (PublishedCritic if size == PUBLISHED else SmallCritic)(width, sigmoid)


def from_weights(weights: Mapping[str, np.ndarray], size: str, target: str) -> PublishedGenerator | SmallGenerator:
    """The generator towards a centre, ready for use. Raises ModelError where the arrays are not those of one."""
    own = {name.removeprefix(f"{target}."): array for name, array in weights.items() if name.startswith(f"{target}.")}
    try:
        network = generator(size, own["body.0.weight"].shape[0])
        network.load_state_dict({name: torch.from_numpy(array.copy()) for name, array in own.items()})
    except (KeyError, RuntimeError, TypeError, ValueError) as error:
        raise ModelError("the weights of the model are not those of the PET CycleGAN; get the model again") from error
    return network.eval()
