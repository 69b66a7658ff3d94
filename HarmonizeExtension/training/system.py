"""What the training loop asks of a system: its losses, its optimizers, its samples, how good it is, how it is kept."""

from __future__ import annotations

import abc
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch


class System(torch.nn.Module, abc.ABC):
    """A network with all that is trained along with it (adversaries), as one module, so that many GPUs share its work.

    Its learnt numbers are drawn when it is made, from torch's generator, which the loop has seeded.
    """

    @abc.abstractmethod
    def optimizers(self) -> dict[str, torch.optim.Optimizer]:
        """By phase; in every step each phase is run once, in this order."""

    @abc.abstractmethod
    def batch(self, size: int, rng: np.random.Generator) -> Mapping[str, torch.Tensor]:
        """The samples of one step, on the CPU; all that is random in them comes from `rng`."""

    @abc.abstractmethod
    def forward(self, phase: str, batch: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """The losses of a phase: "loss", which its optimizer brings down, and any others for the curves (scalars)."""

    @abc.abstractmethod
    def validate(self) -> dict[str, float]:
        """How good it is on people never trained on: "score" (lower is better), and any other figures."""

    @abc.abstractmethod
    def save_model(self, folder: Path | str, figures: Mapping[str, object]) -> None:
        """Write the model folder that the harmonizer reads; `figures` go into its card."""

    def rate(self, step: int, steps: int) -> float:
        """The share of its own learning rate that every optimizer uses in a step; constant unless a system says."""
        return 1.0


def arrays_of(parts: Mapping[str, torch.nn.Module]) -> dict[str, np.ndarray]:
    """The learnt numbers of several networks, float32, as "part.name", for `files.models.save_model`."""
    return {
        f"{part}.{name}": value.float().cpu().contiguous().numpy()
        for part, network in parts.items()
        for name, value in network.state_dict().items()
    }
