"""Small networks whose decision rests on a place that is known, and decisions of them."""

import numpy as np
import torch
from torch import nn

from HarmonizeExtension.explain.looking import Decision, mean_output


class Window(nn.Module):
    """Lets a box through and nothing else."""

    def __init__(self, box: tuple[slice, ...]):
        super().__init__()
        self.box = box

    def forward(self, x):
        seen = torch.zeros_like(x)
        box = (slice(None), slice(None), *self.box)
        seen[box] = x[box]
        return seen


class OnePlace(nn.Module):
    """Looks at a box of the image (batch, 1, [z,] y, x) and nowhere else."""

    def __init__(self, box: tuple[slice, ...]):
        super().__init__()
        convolution = nn.Conv2d if len(box) == 2 else nn.Conv3d
        self.first, self.window, self.last = convolution(1, 6, 3, padding=1), Window(box), convolution(6, 1, 1)
        self.relu, self.again = nn.ReLU(), nn.ReLU()
        with torch.no_grad():
            self.last.weight.abs_()

    def forward(self, x):
        return self.last(self.again(self.window(self.relu(self.first(x)))))


class Plain(nn.Module):
    """Three convolutions with ReLUs and a mean: looks everywhere."""

    def __init__(self, width: int = 8):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, width, 5, 2, 2), nn.ReLU(), nn.Conv2d(width, width, 3, 1, 1), nn.ReLU(), nn.Conv2d(width, 1, 3)
        )

    def forward(self, x):
        return self.layers(x)


def decision(network: nn.Module, layer: nn.Module, size=(24, 28), count: int = 2, seed: int = 0) -> Decision:
    """A decision about random images, against images of zeros."""
    rng = np.random.default_rng(seed)
    image = torch.from_numpy(rng.random((count, 1, *size), np.float32) + 0.2)
    return Decision(network, mean_output, layer, image, torch.zeros_like(image), (4,) * len(size))
