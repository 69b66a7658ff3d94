"""HarMOnAE's networks: an encoder that forgets the scanner, a decoder that is told one, and their adversary.

Source: Fatania et al., Phys Imaging Radiat Oncol 2022, section 2.2; sizes and kernels that the paper leaves open follow
MUNIT (Huang et al., ECCV 2018), its parent.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from ...errors import ModelError
from ...networks.blocks import (
    LayerNorm,
    ResidualBlock,
    StyledResidualBlock,
    Upsampling,
    convolution,
    instance_norm,
)

BLOCKS = 4
STYLE_WIDTH = 256
MULTIPLE = 4  # the encoder halves y and x twice
SMALLEST_SIDE = 128  # in pixels of the image, as the classifier halves them five times more


class Encoder(nn.Module):
    """Image (batch, 1, y, x), in -1 to 1, to content (batch, 4 x width, y / 4, x / 4); y and x multiples of 4."""

    def __init__(self, width: int = 16):
        super().__init__()
        layers: list[nn.Module] = []
        for channels_in, channels_out, size, stride in (
            (1, width, 7, 1),
            (width, 2 * width, 4, 2),
            (2 * width, 4 * width, 4, 2),
        ):
            layers += [convolution(channels_in, channels_out, size, stride), instance_norm(channels_out), nn.ReLU()]
        self.layers = nn.Sequential(*layers, *(ResidualBlock(4 * width) for _ in range(BLOCKS)))

    def forward(self, image: Tensor) -> Tensor:
        return self.layers(image)


class Decoder(nn.Module):
    """Content and a scanner (batch, sites; one-hot) to the image (batch, 1, y, x) that the scanner would have taken.

    The MLP turns the scanner into gain and bias of every styled normalisation.
    """

    def __init__(self, sites: int, width: int = 16):
        super().__init__()
        channels = 4 * width
        self.style = nn.Sequential(
            nn.Linear(sites, STYLE_WIDTH),
            nn.ReLU(),
            nn.Linear(STYLE_WIDTH, STYLE_WIDTH),
            nn.ReLU(),
            nn.Linear(STYLE_WIDTH, BLOCKS * 4 * channels),
        )
        # Every scanner begins as plain instance normalisation: gain 1, bias 0.
        gain_and_bias = torch.cat([torch.ones(channels), torch.zeros(channels)]).repeat(2 * BLOCKS)
        with torch.no_grad():
            self.style[-1].weight.mul_(0.1)
            self.style[-1].bias.copy_(gain_and_bias)
        self.blocks = nn.ModuleList(StyledResidualBlock(channels) for _ in range(BLOCKS))
        self.layers = nn.Sequential(
            Upsampling(channels, channels // 2), Upsampling(channels // 2, channels // 4), convolution(width, 1, 7)
        )
        with torch.no_grad():
            self.layers[-1].weight.mul_(0.1)  # tanh must not begin saturated

    def forward(self, content: Tensor, scanner: Tensor) -> Tensor:
        styles = self.style(scanner).chunk(BLOCKS, dim=1)
        for block, style in zip(self.blocks, styles, strict=True):
            content = block(content, style)
        return torch.tanh(self.layers(content))


class Classifier(nn.Module):
    """Which scanner took it? Logits (batch, sites) from content (batch, 4 x width, y, x)."""

    def __init__(self, sites: int, width: int = 16):
        super().__init__()
        layers: list[nn.Module] = []
        channels = 4 * width
        for depth in range(5):
            wider = width * 2**depth
            layers += [_strided(channels, wider), LayerNorm(wider), nn.ReLU()]
            channels = wider
        self.layers = nn.Sequential(*layers)
        self.last = nn.Linear(channels, sites)

    def forward(self, content: Tensor) -> Tensor:
        return self.last(self.layers(content).mean(dim=(2, 3)))


def _strided(channels_in: int, channels_out: int) -> nn.Conv2d:
    # Padded with zeros: after four halvings there may be nothing left to mirror.
    return nn.Conv2d(channels_in, channels_out, 4, 2, 1)


class ImageDiscriminator(nn.Module):
    """Did this scanner take the image? Values near 1 for yes, for patches of three sizes: three maps (batch, 1, y, x).

    Image (batch, 1, y, x) and scanner (batch, sites; one-hot), which enters as planes. The multiscale discriminator of
    MUNIT (Huang et al. 2018, appendix B.2): the image, its half and its quarter; four halvings each; no normalisation.
    """

    def __init__(self, sites: int, width: int = 16):
        super().__init__()
        self.scales = nn.ModuleList(self._scale(1 + sites, width) for _ in range(3))

    @staticmethod
    def _scale(channels: int, width: int) -> nn.Module:
        layers: list[nn.Module] = []
        for depth in range(4):
            wider = width * 2**depth
            layers += [_strided(channels, wider), nn.LeakyReLU(0.2)]
            channels = wider
        return nn.Sequential(*layers, nn.Conv2d(channels, 1, 1))

    def forward(self, image: Tensor, scanner: Tensor) -> list[Tensor]:
        planes = scanner[:, :, None, None].expand(-1, -1, *image.shape[-2:])
        seen, answers = torch.cat([image, planes], dim=1), []
        for scale in self.scales:
            answers.append(scale(seen))
            seen = functional.avg_pool2d(seen, 3, 2, 1, count_include_pad=False)
        return answers


def one_hot(sites: Tensor, count: int) -> Tensor:
    """Site indices (batch,) as float codes (batch, count)."""
    return functional.one_hot(sites, count).float()


class Translator(nn.Module):
    """From images to images of one scanner: what is left of the system once it is trained."""

    def __init__(self, site: int, sites: int, width: int = 16):
        super().__init__()
        self.encoder = Encoder(width)
        self.decoder = Decoder(sites, width)
        self.register_buffer("scanner", one_hot(torch.tensor([site]), sites), persistent=False)

    @classmethod
    def from_weights(cls, weights: Mapping[str, np.ndarray], site: int, sites: int) -> Translator:
        """With the arrays of a model folder. Raises ModelError where they are not those of this network."""
        parts = {name: array for name, array in weights.items() if name.startswith(("encoder.", "decoder."))}
        try:
            network = cls(site, sites, len(weights["encoder.layers.0.bias"]))
            network.load_state_dict({name: torch.from_numpy(array.copy()) for name, array in parts.items()})
        except (KeyError, RuntimeError, TypeError) as error:
            raise ModelError("the weights of the model are not those of HarMOnAE; get the model again") from error
        return network.eval()

    def forward(self, image: Tensor) -> Tensor:
        return self.decoder(self.encoder(image), self.scanner.expand(image.shape[0], -1))
