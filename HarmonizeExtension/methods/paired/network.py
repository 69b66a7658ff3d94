"""The networks of the paired baselines: a U-Net that is told the scanner to show, and a judge of patches.

Sources: Dewey et al., DeepHarmony, Magn Reson Imaging 64:160, 2019 (a U-Net whose last layer sees the image again);
Isola et al., Image-to-image translation with conditional adversarial networks, CVPR 2017 (the judge). They train one
network for each pair of scanners; here one serves all, and the target scanner sets gain and bias of every
normalisation (Dumoulin et al., A learned representation for artistic style, ICLR 2017). Planes that hold a code of the
scanner would not do: an instance normalisation takes off whatever is the same everywhere.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from ...errors import ModelError
from ...networks.blocks import adain, convolution, instance_norm

DEPTH = 4  # halvings
MULTIPLE = 2**DEPTH
AIR = -1.0


class Stage(nn.Module):
    """Two 3 x 3 convolutions, each normalised with a gain and a bias of the target scanner, with ReLU."""

    def __init__(self, channels_in: int, channels_out: int, sites: int):
        super().__init__()
        self.first = convolution(channels_in, channels_out, 3)
        self.second = convolution(channels_out, channels_out, 3)
        self.gain = nn.Parameter(torch.ones(sites, 2 * channels_out))
        self.bias = nn.Parameter(torch.zeros(sites, 2 * channels_out))

    def forward(self, x: Tensor, scanner: Tensor) -> Tensor:
        gain1, gain2 = (scanner @ self.gain).chunk(2, dim=1)
        bias1, bias2 = (scanner @ self.bias).chunk(2, dim=1)
        x = functional.relu(adain(self.first(x), gain1, bias1))
        return functional.relu(adain(self.second(x), gain2, bias2))


class UNet(nn.Module):
    """An image (batch, 1, y, x), -1 to 1, and a scanner (batch, sites; one-hot) to what that scanner would show.

    The network gives the difference from the image (the residue), so that what needs no change is not drawn anew. y
    and x of any size from 32; images are filled up with air to multiples of 16.
    """

    def __init__(self, sites: int, width: int = 16):
        super().__init__()
        channels = [width * 2**level for level in range(DEPTH + 1)]
        inputs = [1, *channels[:-1]]
        self.down = nn.ModuleList(Stage(i, o, sites) for i, o in zip(inputs, channels, strict=True))
        self.up = nn.ModuleList(
            Stage(deep + skip, skip, sites) for deep, skip in zip(channels[:0:-1], channels[-2::-1], strict=True)
        )
        self.last = convolution(width + 1, 1, 3)
        with torch.no_grad():
            self.last.weight.mul_(0.1)  # begins close to no change

    def forward(self, image: Tensor, scanner: Tensor) -> Tensor:
        rows, columns = image.shape[-2:]
        filled = functional.pad(image, (0, -columns % MULTIPLE, 0, -rows % MULTIPLE), value=AIR)
        skips, x = [], filled
        for level, stage in enumerate(self.down):
            x = stage(functional.max_pool2d(x, 2) if level else x, scanner)
            skips.append(x)
        skips.pop()
        for stage in self.up:
            x = stage(torch.cat([functional.interpolate(x, scale_factor=2.0), skips.pop()], dim=1), scanner)
        result = filled + self.last(torch.cat([x, filled], dim=1))
        return result[..., :rows, :columns]


class Judge(nn.Module):
    """Is the second image that of the target scanner? A value for each patch of 70 x 70 pixels, near 1 for yes.

    Sees the source image, the image in question (batch, 1, y, x each) and the scanner (batch, sites; one-hot), which
    enters before any normalisation. Source: Isola et al. 2017, section 6.1.2; least squares instead of a logistic loss
    (Mao et al., ICCV 2017), which takes the values as they are.
    """

    def __init__(self, sites: int, width: int = 64):
        super().__init__()
        self.first = nn.Conv2d(2 + sites, width, 4, 2, 1)
        layers: list[nn.Module] = []
        for level, stride in enumerate((2, 2, 1)):
            wider = width * 2 ** (level + 1)
            layers += [nn.Conv2d(wider // 2, wider, 4, stride, 1), instance_norm(wider), nn.LeakyReLU(0.2)]
        self.layers = nn.Sequential(*layers, nn.Conv2d(8 * width, 1, 4, 1, 1))

    def forward(self, source: Tensor, image: Tensor, scanner: Tensor) -> Tensor:
        planes = scanner[:, :, None, None].expand(-1, -1, *image.shape[-2:])
        return self.layers(functional.leaky_relu(self.first(torch.cat([source, image, planes], dim=1)), 0.2))


class Translator(nn.Module):
    """From images to images of one scanner: what is left of the system once it is trained."""

    def __init__(self, site: int, sites: int, width: int):
        super().__init__()
        self.unet = UNet(sites, width)
        self.register_buffer("scanner", functional.one_hot(torch.tensor([site]), sites).float(), persistent=False)

    @classmethod
    def from_weights(cls, weights: Mapping[str, np.ndarray], site: int, sites: int) -> Translator:
        """With the arrays of a model folder. Raises ModelError where they are not those of this network."""
        try:
            network = cls(site, sites, len(weights["unet.down.0.first.bias"]))
            network.load_state_dict({name: torch.from_numpy(array.copy()) for name, array in weights.items()})
        except (KeyError, RuntimeError, TypeError) as error:
            raise ModelError("the weights of the model are not those of a paired U-Net; get the model again") from error
        return network.eval()

    def forward(self, image: Tensor) -> Tensor:
        return self.unet(image, self.scanner.expand(image.shape[0], -1))
