"""Occlusion: what the score loses when a block of the image becomes that of the reference.

Source: Zeiler and Fergus, Visualizing and understanding convolutional networks, ECCV 2014, section 4.2. Their grey
square is an edge that no image has; a block of the reference (the image blurred, or harmonized) leaves it likely.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from .looking import Decision, block_numbers, in_use

LEAST_DIFFERENCE = 1e-3  # of the image's range, below which a block shows nothing that could be taken away


def occlusion(decision: Decision) -> Tensor:
    """Signed; every voxel of a block has what the block is worth. The shape of `decision.image`."""
    from captum.attr import FeatureAblation

    image, reference = decision.image, decision.reference
    number = block_numbers(image.shape[2:], decision.block)
    # Blocks of air are all one: exchanging them changes nothing.
    different = (image - reference).abs().amax(dim=(0, 1)).numpy() > LEAST_DIFFERENCE * float(image.max() - image.min())
    shows = np.bincount(number.ravel(), different.ravel()) > 0
    label = np.where(shows, np.cumsum(shows), 0)[number]
    with in_use(decision.network), torch.inference_mode():
        found = FeatureAblation(decision).attribute(
            image,
            reference,
            feature_mask=torch.from_numpy(label)[None, None],
            additional_forward_args=decision.conditions or None,
        )
    return found.detach()
