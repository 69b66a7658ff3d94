"""The signal equation as a layer: what a protocol makes of T1 and M0 maps, with gradients, and the smooth gain.

The published consistency loss compares the input with M0 K(T1) C, where C is the input divided by M0 K(T1), voxel by
voxel: it is 0 whatever the maps are, and its gradient with it. Here C is smooth, of as few numbers as a coil's field,
and takes no part in the gradient, so that what the maps get wrong shows.

Source: Lee et al., medRxiv 2025.02.07.25321867, equations 3 to 6.
"""

from __future__ import annotations

import functools

import numpy as np
import torch
from torch import Tensor

from .bloch import CORRECTION_LIMITS, POLYNOMIAL_ORDER
from .first_guess import GRID, T1_LIMITS_MS

RIDGE = 1e-3


def signal_of(table: Tensor, t1_s: Tensor, m0: Tensor) -> Tensor:
    """The relative signal (batch, 1, y, x) of maps: T1 in seconds at 3 T, and M0.

    table: (batch, GRID), `first_guess.relative_signal` of the protocol of each image. Linear between its values, so
    that the gradient with respect to T1 is that of the signal equation.
    """
    low, high = (np.log(limit / 1000) for limit in T1_LIMITS_MS)
    place = ((t1_s.clamp(min=T1_LIMITS_MS[0] / 1000).log() - low) * ((GRID - 1) / (high - low))).clamp(0, GRID - 1.001)
    index = place.detach().long()
    share = (place - index).flatten(1)
    index = index.flatten(1)
    value = table.gather(1, index) * (1 - share) + table.gather(1, index + 1) * share
    return value.view_as(t1_s) * m0


def smooth_gain(image: Tensor, signal: Tensor, brain: Tensor) -> Tensor:
    """The smooth field C (batch, 1, y, x) by which an image differs from the signal of its maps; it has no gradient.

    A polynomial of third order in y and x that makes C times the signal closest to the image in the brain, limited to
    0.5 to 1.5 times its mean there.
    """
    # In float32 whatever the networks are trained in: the polynomial's equations are nearly singular.
    with torch.no_grad(), torch.autocast(image.device.type, enabled=False):
        terms = _terms(*image.shape[2:]).to(image.device)
        weighted = (signal * brain).flatten(1)[:, None] * terms
        gram = weighted @ weighted.transpose(1, 2)
        trace = gram.diagonal(dim1=1, dim2=2).mean(1)[:, None, None] + 1e-6
        gram = gram + RIDGE * trace * torch.eye(len(terms), device=image.device)
        found = torch.linalg.solve(gram, weighted @ (image * brain).flatten(1)[..., None])
        field = (found.transpose(1, 2) @ terms).view_as(image)
        mean = (field * brain).sum((2, 3), keepdim=True) / brain.sum((2, 3), keepdim=True).clamp(min=1)
        low, high = (mean * limit for limit in CORRECTION_LIMITS)
        return field.maximum(low).minimum(high)


@functools.lru_cache(maxsize=4)
def _terms(rows: int, columns: int) -> Tensor:
    """Legendre polynomials (term, y * x) whose orders along y and x add up to at most POLYNOMIAL_ORDER."""
    y, x = (np.polynomial.legendre.legvander(np.linspace(-1, 1, n), POLYNOMIAL_ORDER) for n in (rows, columns))
    orders = [(i, j) for i, j in np.ndindex(y.shape[1], x.shape[1]) if i + j <= POLYNOMIAL_ORDER]
    return torch.tensor(np.stack([np.outer(y[:, i], x[:, j]).ravel() for i, j in orders]), dtype=torch.float32)


def consistency_loss(image: Tensor, t1_s: Tensor, m0: Tensor, table: Tensor) -> Tensor:
    """Mean absolute difference in the brain between the image and what its protocol makes of its maps.

    image, t1_s, m0: (batch, 1, y, x); the image where white matter is 1; T1 is 0 outside the brain. table: (batch, n).
    """
    brain = (t1_s > 0).to(image.dtype)
    signal = signal_of(table, t1_s, m0)
    gain = smooth_gain(image, signal, brain)
    return ((gain * signal - image).abs() * brain).sum() / brain.sum().clamp(min=1)


def mapped_image(image: Tensor, t1_s: Tensor, m0: Tensor, source: Tensor, target: Tensor) -> Tensor:
    """The image (batch, 1, y, x) as the target's protocol would show it; tables (batch, n) of source and target."""
    brain = (t1_s > 0).to(image.dtype)
    gain = smooth_gain(image, signal_of(source, t1_s, m0), brain)
    return gain * signal_of(target, t1_s, m0) * brain
