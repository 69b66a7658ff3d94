"""A network's decision about images, and the network while it is looked at: as it is in use, and left as it was."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn

# From a network's output to one number for each image (batch,): what a map explains.
Score = Callable[[Tensor], Tensor]


@contextmanager
def in_use(network: nn.Module) -> Iterator[None]:
    """The network in evaluation mode, every part back in its own mode afterwards.

    Batch normalisation and dropout would else answer by the other images of the batch and by chance, and the running
    means of a network that is being trained would move.
    """
    modes = {module: module.training for module in network.modules()}
    network.eval()
    try:
        yield
    finally:
        for module, training in modes.items():
            module.training = training


def mean_output(output: Tensor) -> Tensor:
    """The mean of all that a network says about an image, (batch,): of the patches of a critic, for one."""
    return output.flatten(1).mean(dim=1)


@dataclasses.dataclass(frozen=True)
class Decision:
    """What a network says about some images, as one number each that can be asked about.

    network: from images (and conditions) to any output, the images independent of each other. score: from that output
    to (batch,). layer: the part of the network that Grad-CAM looks at.
    image: (batch, 1, y, x) or (batch, 1, z, y, x). reference: of the same shape, the images without what is asked for:
    blurred, black, or harmonized. A map explains score(image) - score(reference).
    block: size in voxels, along each axis of space, of what is occluded or exchanged at once.
    conditions: what else the network is shown, each (batch, ...); it is left as it is.
    """

    network: nn.Module
    score: Score
    layer: nn.Module
    image: Tensor
    reference: Tensor
    block: tuple[int, ...]
    conditions: tuple[Tensor, ...] = ()

    def __call__(self, image: Tensor, *conditions: Tensor) -> Tensor:
        """The score (batch,) of images."""
        return self.score(self.network(image, *conditions))

    def of(self, images: slice) -> Decision:
        """The same about some of the images."""
        return dataclasses.replace(
            self,
            image=self.image[images],
            reference=self.reference[images],
            conditions=tuple(condition[images] for condition in self.conditions),
        )

    def scores(self, image: Tensor, batch: int = 4) -> np.ndarray:
        """The scores (images,) of as many images in place of `self.image`."""
        with in_use(self.network), torch.inference_mode():
            parts = [
                self(image[start : start + batch], *(c[start : start + batch] for c in self.conditions))
                for start in range(0, len(image), batch)
            ]
        return torch.cat(parts).numpy().astype(float)


def block_numbers(shape: tuple[int, ...], block: tuple[int, ...]) -> np.ndarray:
    """The number, from 0, of the block in which each voxel of an array of that shape lies; edge blocks are smaller."""
    number = np.zeros(shape, int)
    for axis, (length, side) in enumerate(zip(shape, block, strict=True)):
        along = np.arange(length) // side
        number = number * (along[-1] + 1) + along.reshape(-1, *[1] * (len(shape) - 1 - axis))
    return number
