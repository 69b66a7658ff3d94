"""The networks of the three-dimensional CycleGAN: generators and critics, as published and small ones for a CPU.

Source: Haberl et al., EJNMMI 2024, with the values of its public code (dhaberl/3DCycleGAN); CycleGAN: Zhu et al., ICCV
2017. All tensors are (batch, channels, z, y, x), images on the network's scale (`suv_scale`).
"""

from __future__ import annotations

from collections.abc import Mapping
from math import comb

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from ...errors import ModelError
from ...networks.bands import HIDDEN, Bands, blurs, levelled, local_strength, reader, strength
from .suv_scale import HIGHEST_SUV

MULTIPLE = 4  # the published generator halves all axes twice
PUBLISHED, SMALL = "published", "small"
SIZES = (PUBLISHED, SMALL)
SLOPE = 0.2
HALF_SCALE = float(np.arcsinh(HIGHEST_SUV)) / 2  # of the fixed scale (`suv_scale`)
BANDS = 3
CALM_SUV = 0.3  # what has less (air, fat) says nothing of a centre
FLOOR_SUV = 0.2  # bands are seen by the activity and this
BAND_GAIN = 4.0  # brings relative bands to the size of the image
NOISE_SHARE = 0.1  # of the activity, for a knob of 1


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

    def tuned(self, scan: np.ndarray) -> nn.Module:
        """The network itself: it takes no more of a scan than a window shows."""
        return self


def to_suv(image: Tensor) -> Tensor:
    """From the fixed scale to SUV, float32."""
    return torch.sinh((image.float() + 1) * HALF_SCALE)


def relative(rest: Tensor, bands: Tensor) -> Tensor:
    """Bands of SUV by the activity around: noise follows it, and so do contrasts."""
    return bands / (rest.clamp(min=0) + FLOOR_SUV)


def _strength(rest: Tensor, shares: Tensor) -> Tensor:
    return strength(shares, (rest > CALM_SUV).float())


def detail_strength(image: np.ndarray) -> np.ndarray:
    """How strong the bands of a scan (z, y, x), on the fixed scale, are: (2 x BANDS,), as `networks.bands.strength`."""
    with torch.no_grad():
        rest, bands = Bands(BANDS)(to_suv(torch.from_numpy(image[None, None])))
        return _strength(rest, relative(rest, bands))[0].numpy()


class SmallGenerator(nn.Module):
    """The scan with a gain for each band of its detail, which differs from place to place, and with noise added.

    (batch, 2, z, y, x), image and white noise of variance 1, to (batch, 1, z, y, x). It begins as the identity.

        SUV' = SUV + sum_k (g_k + a_k) band_k(SUV) + rest(SUV) sum_k h_k noise_k

    with noise_k the noise blurred k times. The gains g and h of the whole scan come from how strong its bands are,
    which betrays the centre; those of each place, a, from a few 3 x 3 x 3 convolutions that see the image, its bands
    and how strong they are around, so that edges can be sharpened where flat regions are not. As that of a
    reconstruction, the added noise follows the activity, everywhere alike: were it for the convolutions to place, they
    could give edges noise in the place of sharpness. Without any (Almahairi et al., Augmented CycleGAN, ICML 2018)
    they would have to amplify what little there is in a quiet scan.

    Without normalisation a voxel depends on neighbours up to 8 away and, through the gains, on the scan as a whole, so
    that windows meet without a seam once the gains are fixed (`tuned`).
    """

    channels_in = 2

    def __init__(self, width: int = 24, layers: int = 4, bands: int = BANDS):
        super().__init__()
        self.bands = Bands(bands)
        # The variance that is left of white noise, blurred 0, 1, ... times along three axes.
        left = torch.tensor([comb(4 * k, 2 * k) / 16**k for k in range(bands + 1)]) ** 3
        self.register_buffer("noise_unit", NOISE_SHARE / left.sqrt()[None, :, None, None, None], persistent=False)
        inner: list[nn.Module] = []
        for channels in (1 + 2 * bands, *[width] * (layers - 2)):
            convolution = _convolution(channels, width, 3)
            nn.init.kaiming_normal_(convolution.weight, SLOPE)
            inner += [convolution, nn.LeakyReLU(SLOPE, inplace=True)]
        last = _convolution(width, bands, 3)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.body = nn.Sequential(*inner, last)
        self.seen = reader(2 * bands)
        self.gain = nn.Parameter(torch.zeros(HIDDEN + 1, 2 * bands + 1))

    def forward(self, x: Tensor, gains: Tensor | None = None) -> Tensor:
        """gains (batch, 2 x bands + 1): those of a whole scan of which x is a part; by x itself where None."""
        suv = to_suv(x[:, :1])
        rest, bands = self.bands(suv)
        shares, count = relative(rest, bands), bands.shape[1]
        gains = (self._gains(rest, shares) if gains is None else gains)[:, :, None, None, None]
        around = levelled(local_strength(shares, 1))
        local = self.body(torch.cat([x[:, :1], BAND_GAIN * shares, around], dim=1)).float()
        noise = self.noise_unit * blurs(x[:, 1:].float(), count)
        suv = suv + ((gains[:, :count] + local) * bands).sum(dim=1, keepdim=True)
        suv = suv + rest.clamp(min=0) * (gains[:, count:] * noise).sum(dim=1, keepdim=True)
        return torch.asinh(suv) / HALF_SCALE - 1

    def tuned(self, scan: np.ndarray) -> nn.Module:
        """This network with the gains of a scan (2, z, y, x), for windows of it."""
        with torch.no_grad():
            rest, bands = self.bands(to_suv(torch.from_numpy(scan[None, :1]).to(self.gain.device)))
            return _Tuned(self, self._gains(rest, relative(rest, bands))).eval()

    def _gains(self, rest: Tensor, shares: Tensor) -> Tensor:
        with torch.autocast(rest.device.type, enabled=False):
            return functional.pad(self.seen(levelled(_strength(rest, shares))), (0, 1), value=1.0) @ self.gain


class _Tuned(nn.Module):
    """A small generator whose gains are those of one scan."""

    def __init__(self, network: SmallGenerator, gains: Tensor):
        super().__init__()
        self.network = network
        self.register_buffer("gains", gains.clone())

    def forward(self, x: Tensor) -> Tensor:
        return self.network(x, self.gains)


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
    """Two strided convolutions and one that judges 18 voxels to the side, of the activity and how strong its bands are.

    That is what blur and noise change; whatever else a generator leaves in the voxels it cannot hold on to. No
    normalisation, which would hide how strong the noise is.
    """

    def __init__(self, width: int = 16, sigmoid: bool = False, bands: int = BANDS):
        super().__init__()
        self.bands = Bands(bands)
        convolutions = (
            nn.Conv3d(1 + bands, width, 4, 2, 1),
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
        rest, bands = self.bands(to_suv(x))
        around = levelled(local_strength(relative(rest, bands), 2))
        return self.body(torch.cat([(rest.clamp(min=0) + FLOOR_SUV).log(), around], dim=1))


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
