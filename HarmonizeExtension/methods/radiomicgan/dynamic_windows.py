"""Dynamic Window Training: the range of HU that a training sees, epoch by epoch.

First the window grows by a fixed pace from air to the whole range, so that layers used to 256 grey values meet CT in
steps as fine. Then, after every epoch, it becomes the range in which the judge still tells synthesised slices from true
ones, by Grad-CAM. What lies outside a window is clipped to it, and the window is scaled to -1 to 1.

Source: Selim et al., CT image harmonization for enhancing radiomics studies, 2021, section 2.2. The paper leaves open
what accuracy is (here 1 - mean absolute error, as a share of the window, on people held out), both thresholds, the
range of a list of intensities (here its 1st to 99th percentile, as one hot pixel of air would open the whole window),
and in which window synthesised slices are judged (here the full one, so that the next can be wider than the last).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

PACE_HU = 256
ACCURATE = 0.98  # above this the window grows at once,
MOST_EPOCHS = 2  # else after so many epochs
FAILING = 0.5  # of the class activation map, from which on a pixel is taken to betray its slice
PERCENTILES = (1.0, 99.0)


class DynamicWindow(nn.Module):
    """The window (low, high) in whole HU, kept with the weights so that a training that was killed goes on in it.

    full: the range that the trained network is used in. growing, dynamic: the two steps; the paper's three versions
    are both, the first alone, and the second alone.
    """

    def __init__(self, full: tuple[float, float], growing: bool = True, dynamic: bool = True):
        super().__init__()
        self.full, self.growing, self.dynamic = (round(full[0]), round(full[1])), growing, dynamic
        self.register_buffer("bounds", torch.tensor(self.full))
        self.register_buffer("epochs", torch.tensor(0))  # in this window, while it grows
        self.register_buffer("covered", torch.tensor(not growing))  # has it been the full range?
        if growing:
            self.bounds[1] = min(self.full[0] + PACE_HU - 1, self.full[1])

    @property
    def current(self) -> tuple[int, int]:
        low, high = self.bounds.tolist()
        return low, high

    def next_epoch(self, accuracy: Callable[[], float], failing: Callable[[], np.ndarray]) -> None:
        """Set the window for the next epoch.

        accuracy: of the last one, from 0 to 1; asked while the window grows. failing: the list of HU (n,) that
        `failing_values` gives; asked once it has grown.
        """
        if not self.covered:
            self.epochs += 1
            if accuracy() <= ACCURATE and self.epochs < MOST_EPOCHS:
                return
            if self.bounds[1] == self.full[1]:
                self.covered.fill_(True)
            self.bounds[1] = min(int(self.bounds[1]) + PACE_HU, self.full[1])
            self.epochs.zero_()
        if self.covered and self.dynamic:
            self.bounds.copy_(torch.tensor(self._around(failing())))

    def _around(self, values: np.ndarray) -> tuple[int, int]:
        """The range of a list of HU, at least as wide as the first window; the full one where nothing fails."""
        if not len(values):
            return self.full
        low, high = np.percentile(values, PERCENTILES)
        missing = max(0.0, PACE_HU - (high - low)) / 2
        low = np.clip(low - missing, self.full[0], self.full[1] - PACE_HU)
        return int(low), int(np.clip(high + missing, low + PACE_HU, self.full[1]))


def failing_values(cam: Tensor, made_hu: Tensor) -> np.ndarray:
    """The HU (n,), rounded, of synthesised slices where the map is hot, but for those that occur once.

    cam: (batch, y, x), 0 to 1; made_hu: (batch, 1, y, x).
    """
    hot = made_hu[:, 0][cam > FAILING].round().int().cpu().numpy()
    values, which, counts = np.unique(hot, return_inverse=True, return_counts=True)
    return hot[counts[which] > 1] if len(values) else hot
