"""What the trainings of translators between MR scanners share: simulated slices, how they are varied and judged."""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ..errors import InputError
from ..evaluation.image_quality import psnr_db, ssim
from ..files.models import ModelCard
from ..networks.intensity import PERCENTILE
from ..progress import Progress, silent
from .augmentation import shifted_and_turned
from .simulated_slices import Recipe, draw_slices
from .system import System

JUDGED_SLICES = 3  # of each person in a validation


@dataclasses.dataclass(frozen=True, kw_only=True)
class BrainSettings:
    """What is trained on what, as far as it is the same for every translator of slices.

    slices: folder that holds, or gets, the simulated slices.
    scanners: those that are learnt. unseen: scanners that only validation knows.
    people, validation_people: how many; `people_seed` says whom. every: of the slices 1 mm apart.
    width: channels of the first stage. learning_rate: of Adam; held for the first half, then led to zero.
    translation_mm, rotation_deg: standard deviations of the augmentation (Fatania et al. 2022 print 5 cm, a fifth of
        the field of view; 5 mm is taken to be meant).
    crop: side in pixels of the random square that is cut from each slice; 0 takes whole slices, as they are harmonized.
        Squares learn faster for the same work; whole slices, whose statistics differ, should come last.
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
    translation_mm: float = 5.0
    rotation_deg: float = 5.0
    crop: int = 0
    workers: int = 2

    def __post_init__(self):
        if len(self.scanners) < 2:
            raise InputError("at least two scanners are needed, to translate from one to another")
        if self.people < 1 or self.validation_people < 1:
            raise InputError("at least one person to learn from, and one for validation, are needed")

    def check_crop(self, multiple: int, smallest: int) -> None:
        """Raise InputError where slices cannot be cut to `crop`: a multiple of `multiple` from `smallest` on."""
        if self.crop and (self.crop % multiple or self.crop < smallest):
            raise InputError(
                f"crop must be a multiple of {multiple} pixels from {smallest} on, or 0 for whole slices, not "
                f"{self.crop}"
            )


class BrainTranslation(System, abc.ABC):
    """Base of the trainings of networks that show a slice as another scanner would have.

    learnt: the slices to learn from; held_out: those of other people, whom every scanner saw.
    """

    def __init__(self, settings: BrainSettings, paired: bool, progress: Progress = silent):
        """paired: every person is learnt from on all scanners, else each on one of them."""
        super().__init__()
        self.settings = settings
        folder, known, seed = Path(settings.slices), settings.scanners, settings.people_seed
        learnt = Recipe(settings.people, seed, known, paired, settings.every)
        others = Recipe(
            settings.validation_people, seed + 1001, (*known, *settings.unseen), paired=True, every=2 * settings.every
        )
        self.learnt = draw_slices(folder / ("paired" if paired else "train"), learnt, settings.workers, progress)
        self.held_out = draw_slices(folder / "validation", others, settings.workers, progress)

    @abc.abstractmethod
    def translated(self, images: Tensor, scanner: Tensor) -> Tensor:
        """Images (batch, 1, y, x), -1 to 1, as the scanners (batch, scanners; one-hot) would show them."""

    def rate(self, step: int, steps: int) -> float:
        """Held for the first half of the training, then led to zero in a line (Isola et al. 2017, section 6.2)."""
        return min(1.0, 2 * (1 - step / steps))

    def varied(self, images: np.ndarray, rng: np.random.Generator) -> Tensor:
        """Slices (batch, channels, y, x) shifted, turned and cut at random, all channels of one alike."""
        settings, spacing = self.settings, self.learnt.recipe.spacing_mm
        moved = shifted_and_turned(
            torch.from_numpy(images), settings.translation_mm / spacing, settings.rotation_deg, rng
        )
        if not settings.crop:
            return moved
        rows, columns = (int(rng.integers(n - settings.crop + 1)) for n in moved.shape[2:])
        return moved[:, :, rows : rows + settings.crop, columns : columns + settings.crop]

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Slices of held-out people, from every scanner to every learnt one, held against that one's own scan.

        score: mean absolute error in the brain, as a share of the range, over all pairs of different scanners. unseen:
        the same from scanners that were never trained on. before: without any method. reconstruction: to the scan's own
        scanner. psnr_db, ssim: as the score. site_effect: standard deviation over the source scanners of the brain's
        mean in the slice, as a share of the range; site_effect_before likewise.
        """
        found: dict[str, list[float]] = {}

        def note(name: str, value: float) -> None:
            found.setdefault(name, []).append(value)

        n, device = len(self.settings.scanners), next(self.parameters()).device
        for person in range(self.settings.validation_people):
            scans, brain = self.held_out.scans(person), self.held_out.brain(person)
            chosen = np.linspace(0, len(brain) - 1, JUDGED_SLICES + 2).astype(int)[1:-1]
            scans, brain = scans[:, chosen], brain[chosen]
            for target, truth in enumerate(scans[:n]):
                code = functional.one_hot(torch.full((len(chosen),), target), n).float().to(device)
                results = []
                for source, scan in enumerate(scans):
                    seen = torch.from_numpy(scan[:, None]).to(device)
                    with torch.autocast(device.type, torch.bfloat16):
                        result = self.translated(seen, code)[:, 0].float().cpu().numpy()
                    results.append(result)
                    error = float(np.abs(result - truth)[brain].mean()) / 2
                    if source == target:
                        note("reconstruction", error)
                        continue
                    note("unseen" if source >= n else "score", error)
                    note("before", float(np.abs(scan - truth)[brain].mean()) / 2)
                    note("psnr_db", psnr_db(truth, result, 2.0, brain))
                    note("ssim", ssim(truth, result, 2.0, brain, per_slice=True))
                note("site_effect", _spread(np.stack(results), brain))
                note("site_effect_before", _spread(scans, brain))
        return {name: float(np.mean(values)) for name, values in found.items()}

    def model_card(self, system: str, title: str, figures: Mapping[str, object]) -> ModelCard:
        """The card of what was trained. title: what a user calls the network."""
        settings = self.settings
        by = "all of" if self.learnt.recipe.paired else "one of"
        return ModelCard(
            system=system,
            title=f"{title}, T1-weighted brain",
            sites=settings.scanners,
            preprocessing={
                "level_percentile": PERCENTILE,
                "spacing_mm": self.learnt.recipe.spacing_mm,
                "plane": "axial",
            },
            training_data=(
                {
                    "name": f"{settings.people} simulated people, each scanned by {by} {len(settings.scanners)} "
                    "simulated scanners",
                    "source": "HarmonizeExtension.phantoms, anatomy from ICBM 2009a nonlinear symmetric (MNI152)",
                    "licence": "Apache-2.0; the template: Resources/Sample/MNI152-LICENSE.txt",
                    "subjects": settings.people,
                },
            ),
            figures=figures,
        )


def _spread(images: np.ndarray, brain: np.ndarray) -> float:
    """Standard deviation over the scanners of the brain's mean (scanner, slice, y, x), mean over slices, share of 2."""
    means = [[image[inside].mean() for image, inside in zip(scan, brain, strict=True)] for scan in images]
    return float(np.std(means, axis=0).mean()) / 2
