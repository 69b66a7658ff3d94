"""What two populations of scans are compared by while a generator learns: how strong their bands are, by place.

A critic needs hundreds of steps to notice that edges are too soft where noise is right; meanwhile the generator moves
on, and both go round in circles. Means of what is known to matter need no learning: the logarithm of each band's
energy, where the activity is flat, which is noise, and in steps to where it is steep, which is resolution. It is
feature matching (Salimans et al., Improved techniques for training GANs, NeurIPS 2016) with given features, so that the
critic is left with the rest.

All tensors are (batch, channels, z, y, x), images on the network's fixed scale.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ...networks.bands import Bands, local_strength
from .network import BANDS, CALM_SUV, FLOOR_SUV, relative, to_suv

STEEPNESS = (0.0, 0.08, 0.16, 0.3, 0.5, 10.0)  # of the logarithm of activity, by voxel: flat to lesions' edges
AROUND = 2  # blurs of the energies
BORDER = 4  # voxels whose bands know of the patch's border
REAL_MEMORY, CHANGE_MEMORY = 0.998, 0.9  # kept at each step: real scans stand still, the generators do not
LEAST_SHARE = 1e-3  # of the voxels, for a mean


class BandStatistics(nn.Module):
    """Running means for two centres: of their scans, and of how what is made differs from the scans it is made of.

    The latter needs few patches, as anatomy is the same in both; the former has time.
    """

    def __init__(self, bands: int = BANDS):
        super().__init__()
        self.bands = Bands(bands)
        shape = (2, 2, (len(STEEPNESS) - 1) * bands)  # centres; sums and weights
        self.register_buffer("real", torch.zeros(shape))
        self.register_buffer("change", torch.zeros(shape))
        self.register_buffer("steps", torch.tensor(0))

    def forward(self, made: Sequence[Tensor], real: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """The loss, whose gradient brings the means of what is made to those of the centre, and how far they are.

        made, real: by centre (batch, 1, z, y, x); made[k] of real[1 - k].
        """
        self.steps += 1
        with torch.no_grad():
            seen = [self._sums(image) for image in real]
            for centre in (0, 1):
                self._remember(self.real[centre], seen[centre], REAL_MEMORY)
        loss, distance = (made[0].new_zeros(()) for _ in range(2))
        for centre in (0, 1):
            now = self._sums(made[centre])
            with torch.no_grad():
                self._remember(self.change[centre], now - seen[1 - centre], CHANGE_MEMORY)
                wanted, _ = _means(self.real[centre])
                found, weights = _means(self.real[1 - centre] + self.change[centre])
                off = found - wanted
            # One batch says little of a mean; it is asked to move the running one.
            loss = loss + 2 * (off * (now[0] - found * now[1]) / weights).sum()
            distance = distance + off.square().sum()
        return loss, distance

    def _remember(self, kept: Tensor, now: Tensor, memory: float) -> None:
        # In the first steps a running mean would still hold the zeros it began with.
        kept.lerp_(now.detach(), 1 - min(memory, float(self.steps) / (float(self.steps) + 5)))

    def _sums(self, image: Tensor) -> Tensor:
        """Sums over places and their weights (2, steepness x bands), as shares of a patch."""
        rest, bands = self.bands(to_suv(image))
        around = local_strength(relative(rest, bands), AROUND)
        level = (rest.detach().clamp(min=0) + FLOOR_SUV).log()
        steps = (torch.diff(level, dim=d, append=level.narrow(d, level.shape[d] - 1, 1)) for d in (2, 3, 4))
        steepness = sum(step.square() for step in steps).sqrt()
        body = rest.detach() > CALM_SUV
        inner = (slice(None), slice(None), *(slice(BORDER, -BORDER),) * 3)
        sums, weights = [], []
        for low, high in itertools.pairwise(STEEPNESS):
            there = (body & (steepness >= low) & (steepness < high))[inner].float()
            sums.append((around[inner] * there).sum((0, 2, 3, 4)) / there.numel())
            weights.append(there.mean().expand(bands.shape[1]))
        return torch.stack([torch.cat(sums), torch.cat(weights)])


def _means(sums: Tensor) -> tuple[Tensor, Tensor]:
    """Means and weights from sums and weights."""
    weights = sums[1].clamp(min=LEAST_SHARE)
    return sums[0] / weights, weights
