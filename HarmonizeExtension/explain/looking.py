"""A network while it is looked at: as it is in use, and left as it was."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

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
