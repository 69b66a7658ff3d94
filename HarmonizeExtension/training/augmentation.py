"""Random shifts and turns of slices; the image and its truth must go through the same one."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional


def shifted_and_turned(
    images: Tensor, translation_sd: float, rotation_sd_deg: float, rng: np.random.Generator, outside: float = -1.0
) -> Tensor:
    """Images (batch, channels, y, x), each moved and turned by its own draw from zero-centred normal distributions.

    translation_sd: in pixels, along y and x. rotation_sd_deg: about the middle of the slice. What comes in over the
    edge is `outside` (air). Cubic interpolation keeps noise and fine texture better than linear.
    Source: Fatania et al. 2022, section 2.3.
    """
    batch, _, rows, columns = images.shape
    angle = np.deg2rad(rotation_sd_deg) * rng.standard_normal(batch)
    shift = translation_sd * rng.standard_normal((2, batch))
    # From normalised coordinates (-1 to 1 along x and y) to those of the image before.
    cosine, sine = np.cos(angle), np.sin(angle)
    matrix = np.zeros((batch, 2, 3), np.float32)
    matrix[:, 0] = np.stack([cosine, -sine * rows / columns, 2 * shift[0] / columns], axis=1)
    matrix[:, 1] = np.stack([sine * columns / rows, cosine, 2 * shift[1] / rows], axis=1)
    grid = functional.affine_grid(torch.from_numpy(matrix).to(images), list(images.shape), align_corners=False)
    moved = functional.grid_sample(images - outside, grid, mode="bicubic", align_corners=False) + outside
    return moved.clamp(float(images.min()), float(images.max()))
