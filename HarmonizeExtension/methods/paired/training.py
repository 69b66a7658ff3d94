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
from ...evaluation.image_quality import psnr_db, ssim
from ...files.models import ModelCard, save_model
from ...networks.intensity import PERCENTILE
from ...progress import Progress, silent
from ...training.augmentation import shifted_and_turned
from ...training.simulated_slices import Recipe, Slices, as_seen, draw_slices
from ...training.system import System
from .harmonizer import Paired
from .network import MULTIPLE, Judge, UNet

JUDGED_SLICES = 3  # of each person in a validation


@dataclasses.dataclass(frozen=True)
class Settings:
    """What is trained, on what.

    slices: folder that holds, or gets, the simulated slices.
    scanners: those that are learnt, each as source and as target. unseen: sources that only validation knows.
    people, validation_people: how many; `people_seed` says whom. every: of the slices 1 mm apart.
    width: channels of the first stage. learning_rate: of Adam; held for the first half, then led to zero.
    l1: weight of the absolute error. adversarial: weight of the judge's opinion; 0 for a U-Net alone, 1 for Pix2Pix.
    translation_mm, rotation_deg: standard deviations of the augmentation.
    crop: side in pixels of the random square that is cut from each slice, a multiple of 16; 0 takes whole slices.
    workers: processes that draw slices.
    """

    slices: str
    scanners: tuple[str, ...] = ("Siemens 3T", "Siemens 1.5T", "Philips 3T", "GE 3T", "GE 1.5T")
    unseen: tuple[str, ...] = ("Philips 1.5T",)
    people: int = 60
    validation_people: int = 6
    people_seed: int = 1001
    every: int = 3
    width: int = 16
    learning_rate: float = 2e-4
    l1: float = 100.0
    adversarial: float = 0.0
    translation_mm: float = 5.0
    rotation_deg: float = 5.0
    crop: int = 0
    workers: int = 2

    def __post_init__(self):
        if len(self.scanners) < 2:
            raise InputError("at least two scanners are needed, to translate from one to another")
        if self.people < 1 or self.validation_people < 1:
            raise InputError("at least one person to learn from, and one for validation, are needed")
        if self.crop % MULTIPLE or self.crop < 0:
            raise InputError(f"crop must be a multiple of {MULTIPLE} pixels, or 0 for whole slices, not {self.crop}")
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


class PairedTraining(System):
    """The U-Net and, for Pix2Pix, its judge, trained in turn."""

    def __init__(self, settings: Settings, progress: Progress = silent):
        super().__init__()
        self.settings = settings
        folder, known, seeds = Path(settings.slices), settings.scanners, people_seeds(settings)
        learnt = Recipe(settings.people, seeds[0], known, paired=True, every=settings.every)
        held_out = Recipe(
            settings.validation_people, seeds[1], (*known, *settings.unseen), paired=True, every=2 * settings.every
        )
        self.learnt = draw_slices(folder / "paired", learnt, settings.workers, progress)
        self.held_out = draw_slices(folder / "validation", held_out, settings.workers, progress)
        self.unet = UNet(len(known), settings.width)
        self.judge = Judge(len(known), 4 * settings.width) if settings.adversarial else None
        self.to(memory_format=torch.channels_last)

    def optimizers(self) -> dict[str, torch.optim.Optimizer]:
        parts = {"unet": self.unet} | ({"judge": self.judge} if self.judge is not None else {})
        rate = self.settings.learning_rate
        return {name: torch.optim.Adam(part.parameters(), rate, (0.5, 0.999)) for name, part in parts.items()}

    def rate(self, step: int, steps: int) -> float:
        """Held for the first half of the training, then led to zero in a line (Isola et al. 2017, section 6.2)."""
        return min(1.0, 2 * (1 - step / steps))

    def batch(self, size: int, rng: np.random.Generator) -> dict[str, Tensor]:
        """source, target: images (batch, 1, y, x) of one slice each, moved alike; scanner: the target's (batch,)."""
        settings = self.settings
        pairs, targets = paired_batch(self.learnt, size, rng)
        moved = shifted_and_turned(
            torch.from_numpy(pairs),
            settings.translation_mm / self.learnt.recipe.spacing_mm,
            settings.rotation_deg,
            rng,
        )
        if settings.crop:
            rows, columns = (int(rng.integers(n - settings.crop + 1)) for n in moved.shape[2:])
            moved = moved[:, :, rows : rows + settings.crop, columns : columns + settings.crop]
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

    def validate(self) -> dict[str, float]:
        """Slices of held-out people, from every scanner to every learnt one, held against that one's own scan.

        score: mean absolute error in the brain, as a share of the range, over all pairs of different scanners. unseen:
        the same from scanners that were never trained on. before: without any method. psnr_db, ssim: as the score.
        """
        found: dict[str, list[float]] = {"score": [], "unseen": [], "before": [], "psnr_db": [], "ssim": []}
        n, device = len(self.settings.scanners), next(self.parameters()).device
        for person in range(self.settings.validation_people):
            scans, brain = self.held_out.scans(person), self.held_out.brain(person)
            chosen = np.linspace(0, len(brain) - 1, JUDGED_SLICES + 2).astype(int)[1:-1]
            scans, brain = scans[:, chosen], brain[chosen]
            for target in range(n):
                code = functional.one_hot(torch.full((len(chosen),), target), n).float().to(device)
                truth = scans[target]
                for source, scan in enumerate(scans):
                    if source == target:
                        continue
                    result = self.unet(torch.from_numpy(scan[:, None]).to(device), code)[:, 0].float().cpu().numpy()
                    error = float(np.abs(result - truth)[brain].mean()) / 2
                    found["unseen" if source >= n else "score"].append(error)
                    found["before"].append(float(np.abs(scan - truth)[brain].mean()) / 2)
                    found["psnr_db"].append(psnr_db(truth, result, 2.0, brain))
                    found["ssim"].append(ssim(truth, result, 2.0, brain, per_slice=True))
        return {name: float(np.mean(values)) for name, values in found.items() if values}

    def save_model(self, folder: Path | str, figures: Mapping[str, object]) -> None:
        """The U-Net; the judge has done its work."""
        settings = self.settings
        card = ModelCard(
            system=Paired.card.name,
            title=f"{'Pix2Pix' if settings.adversarial else 'U-Net'}, T1-weighted brain",
            sites=settings.scanners,
            preprocessing={
                "level_percentile": PERCENTILE,
                "spacing_mm": self.learnt.recipe.spacing_mm,
                "plane": "axial",
            },
            training_data=(
                {
                    "name": f"{settings.people} simulated people, each scanned by all of {len(settings.scanners)} "
                    "simulated scanners",
                    "source": "HarmonizeExtension.phantoms, anatomy from ICBM 2009a nonlinear symmetric (MNI152)",
                    "licence": "Apache-2.0; the template: Resources/Sample/MNI152-LICENSE.txt",
                    "subjects": settings.people,
                },
            ),
            figures=figures,
        )
        weights = {f"unet.{name}": value.float().cpu().numpy() for name, value in self.unet.state_dict().items()}
        save_model(folder, card, weights)


def people_seeds(settings: Settings) -> tuple[int, int]:
    """The seeds of the people who are learnt from, and of those for validation."""
    return settings.people_seed, settings.people_seed + 1001
