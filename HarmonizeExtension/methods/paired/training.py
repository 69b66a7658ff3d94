"""How the paired baselines are trained: on slices of simulated people whom every scanner scanned.

With the weight of the adversary at 0 this is DeepHarmony's idea (Dewey et al., Magn Reson Imaging 64:160, 2019): a
U-Net that brings the absolute error against the true scan down. Above 0 it is Pix2Pix (Isola et al., CVPR 2017), with
least squares in place of its logistic loss and the residue as output, as in Krishnan et al. 2024 for CT kernels.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ...errors import InputError
from ...files.models import save_model
from ...progress import Progress, silent
from ...training.brain_translation import BrainSettings, BrainTranslation
from ...training.simulated_slices import Slices, as_seen
from ...training.system import arrays_of
from .harmonizer import Paired
from .network import MULTIPLE, Judge, UNet


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings(BrainSettings):
    """What is trained, on what: the settings of every translator, and

    l1: weight of the absolute error. adversarial: weight of the judge's opinion; 0 for a U-Net alone, 1 for Pix2Pix.
    """

    l1: float = 100.0
    adversarial: float = 0.0

    def __post_init__(self):
        super().__post_init__()
        self.check_crop(MULTIPLE, 2 * MULTIPLE)
        if self.l1 <= 0 or self.adversarial < 0:
            raise InputError("the weight l1 must be above 0, and adversarial at least 0")


def paired_batch(slices: Slices, size: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Random slices as two scanners show them (batch, 2, y, x), float32 from -1 to 1, and the second's index (batch,).

    The two scanners are drawn independently: where they are the same, nothing is to be changed.
    """
    pairs, targets = [], []
    for _ in range(size):
        stored = np.load(slices.folder / f"{rng.integers(slices.recipe.people):05d}.npy", mmap_mode="r")
        source, target = rng.integers(len(stored), size=2)
        at = rng.integers(stored.shape[1])
        pairs.append(as_seen(np.stack([stored[source, at], stored[target, at]])))
        targets.append(target)
    return np.stack(pairs), np.array(targets)


class PairedTraining(BrainTranslation):
    """The U-Net and, for Pix2Pix, its judge, trained in turn."""

    def __init__(self, settings: Settings, progress: Progress = silent):
        super().__init__(settings, paired=True, progress=progress)
        scanners = len(settings.scanners)
        self.unet = UNet(scanners, settings.width)
        self.judge = Judge(scanners, 4 * settings.width) if settings.adversarial else None
        self.to(memory_format=torch.channels_last)

    def optimizers(self) -> dict[str, torch.optim.Optimizer]:
        parts = {"unet": self.unet} | ({"judge": self.judge} if self.judge is not None else {})
        rate = self.settings.learning_rate
        return {name: torch.optim.Adam(part.parameters(), rate, (0.5, 0.999)) for name, part in parts.items()}

    def batch(self, size: int, rng: np.random.Generator) -> dict[str, Tensor]:
        """source, target: images (batch, 1, y, x) of one slice each, moved alike; scanner: the target's (batch,)."""
        pairs, targets = paired_batch(self.learnt, size, rng)
        moved = self.varied(pairs, rng)
        return {"source": moved[:, :1], "target": moved[:, 1:], "scanner": torch.from_numpy(targets)}

    def forward(self, phase: str, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        source, target = (batch[name].to(memory_format=torch.channels_last) for name in ("source", "target"))
        scanner = functional.one_hot(batch["scanner"], len(self.settings.scanners)).float()
        if phase == "judge":
            with torch.no_grad():
                made = self.unet(source, scanner)
            true, false = self.judge(source, target, scanner), self.judge(source, made, scanner)
            return {"loss": ((true - 1).square().mean() + false.square().mean()) / 2}
        made = self.unet(source, scanner)
        l1 = (made - target).abs().mean()
        if self.judge is None:
            return {"loss": self.settings.l1 * l1, "l1": l1}
        fooled = (self.judge(source, made, scanner) - 1).square().mean()
        return {"loss": self.settings.l1 * l1 + self.settings.adversarial * fooled, "l1": l1, "fooled": fooled}

    def translated(self, images: Tensor, scanner: Tensor) -> Tensor:
        return self.unet(images, scanner)

    def save_model(self, folder: Path | str, figures: Mapping[str, object]) -> None:
        """The U-Net; the judge has done its work."""
        title = "Pix2Pix" if self.settings.adversarial else "U-Net"
        save_model(folder, self.model_card(Paired.card.name, title, figures), arrays_of({"unet": self.unet}))
