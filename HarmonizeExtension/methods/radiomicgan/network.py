"""RadiomicGAN's generator: a U-Net whose encoder is the beginning of VGG-19, with trainable filters at its side.

Sources: Selim et al., CT image harmonization for enhancing radiomics studies, 2021, section 2.1; Simonyan and
Zisserman, Very deep convolutional networks for large-scale image recognition, ICLR 2015 (VGG-19, configuration E).

The paper trains one network for each kernel that counts as standard; here one serves all its kernels, and the wanted
one sets gain and bias of every filter. The three colours that VGG-19 sees are the slice and its two neighbours, since
kernels also differ in how they blend slices. The network gives the difference from the slice (the residue, Krishnan et
al. 2024), as drawing a slice anew costs more HU than kernels differ by.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from ...errors import InputError, ModelError
from ...networks.kernel_blocks import KernelConvolution, kernel_code, relu_convolution
from .band_gains import BandGains

# Convolutions of VGG-19's first four groups, by their numbers in torchvision's `features`.
VGG_GROUPS = ((0, 2), (5, 7), (10, 12, 14, 16), (19, 21, 23, 25))
VGG_WIDTH = 64
VGG_URL = "https://download.pytorch.org/models/vgg19-dcbb9e9d.pth"
MULTIPLE = 2 ** (len(VGG_GROUPS) - 1)  # the encoder halves y and x three times
COLOURS = 3
# Mean and standard deviation of ImageNet's colours, from 0 to 1, which pre-trained layers expect to be taken off.
IMAGENET_MEAN, IMAGENET_SD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Encoder(nn.Module):
    """Three slices (batch, 3, y, x), -1 to 1, to what each of VGG-19's first four groups sees in them, finest first.

    width: channels of the first group, 64 in VGG-19; the others have 2, 4 and 8 times as many.
    """

    def __init__(self, width: int = VGG_WIDTH):
        super().__init__()
        self.groups = nn.ModuleList()
        channels = COLOURS
        for level, numbers in enumerate(VGG_GROUPS):
            layers: list[nn.Module] = []
            for _ in numbers:
                layers += [relu_convolution(channels, width * 2**level), nn.ReLU()]
                channels = width * 2**level
            self.groups.append(nn.Sequential(*layers))
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN)[:, None, None], persistent=False)
        self.register_buffer("sd", torch.tensor(IMAGENET_SD)[:, None, None], persistent=False)

    def forward(self, slices: Tensor) -> list[Tensor]:
        x = ((slices + 1) / 2 - self.mean) / self.sd
        seen = []
        for level, group in enumerate(self.groups):
            x = group(functional.max_pool2d(x, 2) if level else x)
            seen.append(x)
        return seen

    def load_vgg19(self, source: str | os.PathLike) -> None:
        """Take the weights of a VGG-19 trained on ImageNet, and hold them from now on, as the paper does.

        source: a file with torchvision's names (`features.0.weight`, .pth or .safetensors), or "hub", which downloads
        torchvision's. Raises InputError where it cannot be read, or where this encoder is not of VGG-19's width.
        """
        weights = _read_vgg19(source)
        for group, numbers in zip(self.groups, VGG_GROUPS, strict=True):
            for layer, number in zip(group[::2], numbers, strict=True):
                try:
                    layer.load_state_dict({name: weights[f"features.{number}.{name}"] for name in ("weight", "bias")})
                except KeyError as error:
                    raise InputError(f"'{source}' is no VGG-19: it has no {error}; give torchvision's file") from None
                except RuntimeError:
                    raise InputError(
                        f"VGG-19's layers have {VGG_WIDTH} channels and more, this encoder {layer.out_channels} in "
                        f"layer {number}; set width to {VGG_WIDTH}, or train the encoder"
                    ) from None
        self.requires_grad_(False)


def _read_vgg19(source: str | os.PathLike) -> Mapping[str, Tensor]:
    try:
        if str(source) == "hub":
            return torch.hub.load_state_dict_from_url(VGG_URL, map_location="cpu", weights_only=True)
        if Path(source).suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(source)
        return torch.load(source, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever a library says of a file or of a network that is not there
        raise InputError(
            f"the weights of VGG-19 cannot be read from '{source}' ({error}); give torchvision's file, or 'hub' where "
            "the internet can be reached"
        ) from error


class Generator(nn.Module):
    """Three slices (batch, 3, y, x), -1 to 1, and the code of a kernel to the middle one with it (batch, 1, y, x).

    y and x must be multiples of 8. Filters at the side of the encoder halve the channels of each group and pass them to
    the decoder, which convolves, doubles the size and takes the next finer ones along.

    bands: of the slice's detail, whose gains are learnt beside (band_gains.py); the network as published has none.
    zoom: as there.
    """

    def __init__(self, kernels: int, width: int = VGG_WIDTH, bands: int = 0):
        super().__init__()
        self.encoder = Encoder(width)
        channels = [width * 2**level for level in range(len(VGG_GROUPS))]
        self.filters = nn.ModuleList(KernelConvolution(c, c // 2, kernels) for c in channels)
        self.decoder = nn.ModuleList()
        wide = channels[-1] // 2
        for skip in channels[-2::-1]:
            self.decoder.append(relu_convolution(wide, wide // 2))
            wide = wide // 2 + skip // 2
        self.last = nn.Conv2d(wide, 1 + bands, 1)
        with torch.no_grad():
            self.last.weight.mul_(0.1)  # begins close to no change
            self.last.bias.zero_()
        self.detail = BandGains(bands, kernels) if bands else None

    def forward(self, slices: Tensor, code: Tensor, zoom: float = 1.0) -> Tensor:
        skips = [f(seen, code) for f, seen in zip(self.filters, self.encoder(slices), strict=True)]
        x = skips.pop()
        for layer in self.decoder:
            x = functional.interpolate(functional.relu(layer(x)), scale_factor=2.0, mode="bilinear")
            x = torch.cat([skips.pop(), x], dim=1)
        middle, made = slices[:, 1:2], self.last(x)
        result = middle + made[:, :1]
        return result if self.detail is None else result + self.detail(middle, code, made[:, 1:], zoom)


class Translator(nn.Module):
    """From three slices to the middle one with one kernel: what is left of the system once it is trained."""

    def __init__(self, site: int, sites: int, width: int, bands: int, pixel_mm: float):
        super().__init__()
        self.generator = Generator(sites, width, bands)
        code = kernel_code(torch.tensor([site]), sites, torch.tensor([pixel_mm]))
        self.register_buffer("wanted", code, persistent=False)  # a traced module has a `code` of its own

    @classmethod
    def from_weights(cls, weights: Mapping[str, np.ndarray], site: int, sites: int, pixel_mm: float) -> Translator:
        """With the arrays of a model folder. Raises ModelError where they are not those of this network."""
        parts = {name: array for name, array in weights.items() if name.startswith("generator.")}
        try:
            width, bands = len(weights["generator.encoder.groups.0.0.bias"]), len(weights["generator.last.bias"]) - 1
            network = cls(site, sites, width, bands, pixel_mm)
            network.load_state_dict({name: torch.from_numpy(array.copy()) for name, array in parts.items()})
        except (KeyError, RuntimeError, TypeError) as error:
            raise ModelError("the weights of the model are not those of RadiomicGAN; get the model again") from error
        return network.eval()

    def forward(self, slices: Tensor) -> Tensor:
        return self.generator(slices, self.wanted.expand(slices.shape[0], -1))
