"""How HarMOnAE is trained: reconstruction, content and a latent space that does not tell the scanner.

Source: Fatania et al., Phys Imaging Radiat Oncol 2022, sections 2.1 to 2.3. The paper does not print the weights of its
losses, learning rate or batch size; those of its parent MUNIT (Huang et al., ECCV 2018) stand in.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from ...errors import InputError
from ...evaluation.image_quality import psnr_db, ssim
from ...files.models import ModelCard, save_model
from ...networks.blocks import gradient_l1
from ...networks.intensity import PERCENTILE
from ...progress import Progress, silent
from ...training.augmentation import shifted_and_turned
from ...training.simulated_slices import Recipe, draw_slices
from ...training.system import System
from .harmonizer import Harmonae
from .network import MULTIPLE, SMALLEST_SIDE, Classifier, Decoder, Encoder, one_hot

JUDGED_SLICES = 3  # of each person in a validation


@dataclasses.dataclass(frozen=True)
class Settings:
    """What is trained, on what.

    slices: folder that holds, or gets, the simulated slices.
    scanners: those that are learnt. unseen: scanners that only validation knows.
    people, validation_people: how many; `people_seed` says whom. every: of the slices 1 mm apart.
    width: channels after the first layer. learning_rate: of Adam; held for the first half, then led to zero.
    reconstruction, content, adversarial: weights of the losses.
    translation_mm, rotation_deg: standard deviations of the augmentation. The paper prints 5 cm, a fifth of the field
        of view; 5 mm is taken to be meant.
    crop: side in pixels of the random square that is cut from each slice, a multiple of 4 from 128 on; 0 takes whole
        slices, as they are harmonized. Squares learn faster for the same work; whole slices, whose statistics differ,
        should come last.
    workers: processes that draw slices.
    """

    slices: str
    scanners: tuple[str, ...] = ("Siemens 3T", "Siemens 1.5T", "Philips 3T", "GE 3T", "GE 1.5T")
    unseen: tuple[str, ...] = ("Philips 1.5T",)
    people: int = 200
    validation_people: int = 6
    people_seed: int = 1001
    every: int = 3
    width: int = 16
    learning_rate: float = 1e-4
    reconstruction: float = 10.0
    content: float = 1.0
    adversarial: float = 1.0
    translation_mm: float = 5.0
    rotation_deg: float = 5.0
    crop: int = 0
    workers: int = 2

    def __post_init__(self):
        if len(self.scanners) < 2:
            raise InputError("at least two scanners are needed to learn what differs between scanners")
        if self.people < len(self.scanners) or self.validation_people < 1:
            raise InputError("at least one person for each scanner, and one for validation, are needed")
        if self.crop and (self.crop % MULTIPLE or self.crop < SMALLEST_SIDE):
            raise InputError(
                f"crop must be a multiple of {MULTIPLE} pixels from {SMALLEST_SIDE} on, or 0 for whole slices, "
                f"not {self.crop}"
            )


def adversarial_loss(logits: Tensor, sites: Tensor) -> Tensor:
    """<|ln n - CCE|>: least where the classifier gives the true scanner a chance of 1/n, so that nothing is told.

    logits (batch, n), sites (batch,). Simply raising the cross entropy would put the style of another scanner into the
    content instead (Fatania et al. 2022, equation of section 2.2 and figure 2).
    """
    entropy = functional.cross_entropy(logits.float(), sites, reduction="none")
    return (math.log(logits.shape[1]) - entropy).abs().mean()


def reconstruction_loss(image: Tensor, reconstructed: Tensor) -> Tensor:
    """Mean absolute error of the image and of its first derivatives along x and y (section 2.2: sharpness)."""
    difference = image - reconstructed
    return difference.abs().mean() + gradient_l1(difference)


class HarmonaeTraining(System):
    """Encoder, decoder and classifier, trained in turn: first the auto-encoder, then its adversary."""

    def __init__(self, settings: Settings, progress: Progress = silent):
        super().__init__()
        self.settings = settings
        folder = Path(settings.slices)
        known = settings.scanners
        self.learnt = draw_slices(
            folder / "train",
            Recipe(settings.people, settings.people_seed, known, paired=False, every=settings.every),
            settings.workers,
            progress,
        )
        self.held_out = draw_slices(
            folder / "validation",
            Recipe(
                settings.validation_people,
                settings.people_seed + 1001,
                (*known, *settings.unseen),
                paired=True,
                every=2 * settings.every,
            ),
            settings.workers,
            progress,
        )
        self.encoder = Encoder(settings.width)
        self.decoder = Decoder(len(known), settings.width)
        self.classifier = Classifier(len(known), settings.width)
        self.to(memory_format=torch.channels_last)

    def optimizers(self) -> dict[str, torch.optim.Optimizer]:
        def adam(*parts: nn.Module) -> torch.optim.Optimizer:
            numbers = [p for part in parts for p in part.parameters()]
            return torch.optim.Adam(numbers, self.settings.learning_rate, (0.5, 0.999), weight_decay=1e-4)

        return {"auto-encoder": adam(self.encoder, self.decoder), "classifier": adam(self.classifier)}

    def rate(self, step: int, steps: int) -> float:
        """Held for the first half of the training, then led to zero in a line."""
        return min(1.0, 2 * (1 - step / steps))

    def batch(self, size: int, rng: np.random.Generator) -> dict[str, Tensor]:
        """image (batch, 1, y, x), its scanner (batch,), and another scanner at random, to which it is harmonized."""
        settings = self.settings
        images, sites = self.learnt.batch(size, rng)
        moved = shifted_and_turned(
            torch.from_numpy(images),
            settings.translation_mm / self.learnt.recipe.spacing_mm,
            settings.rotation_deg,
            rng,
        )
        if settings.crop:
            rows, columns = (int(rng.integers(n - settings.crop + 1)) for n in moved.shape[2:])
            moved = moved[:, :, rows : rows + settings.crop, columns : columns + settings.crop]
        others = (sites + rng.integers(1, len(settings.scanners), size)) % len(settings.scanners)
        return {"image": moved, "site": torch.from_numpy(sites), "other": torch.from_numpy(others)}

    def forward(self, phase: str, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        settings, n = self.settings, len(self.settings.scanners)
        image = batch["image"].to(memory_format=torch.channels_last)
        if phase == "classifier":
            with torch.no_grad():
                content = self.encoder(image)
            logits = self.classifier(content)
            right = (logits.argmax(1) == batch["site"]).float().mean()
            return {"loss": functional.cross_entropy(logits.float(), batch["site"]), "accuracy": right}
        content = self.encoder(image)
        reconstruction = reconstruction_loss(image, self.decoder(content, one_hot(batch["site"], n)))
        harmonized = self.decoder(content, one_hot(batch["other"], n))
        # The content itself is the reference: it shall not move towards what is left of it.
        kept = (self.encoder(harmonized) - content.detach()).abs().mean()
        blind = adversarial_loss(self.classifier(content), batch["site"])
        loss = settings.reconstruction * reconstruction + settings.content * kept + settings.adversarial * blind
        return {"loss": loss, "reconstruction": reconstruction, "content": kept, "adversarial": blind}

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Slices of held-out people, by every scanner, harmonized to every learnt one and held against that scan.

        score: mean absolute error in the brain, as a share of the range, over all pairs of different scanners.
        unseen: the same from scanners that were never trained on. before: without any method. reconstruction: to the
        scan's own scanner. psnr_db, ssim: as the score. site_effect: standard deviation over the source scanners of the
        brain's mean in the slice, as a share of the range; site_effect_before likewise.
        """
        n = len(self.settings.scanners)
        errors: dict[str, list[float]] = {"score": [], "unseen": [], "before": [], "reconstruction": []}
        quality: dict[str, list[float]] = {"psnr_db": [], "ssim": [], "site_effect": [], "site_effect_before": []}
        for person in range(self.settings.validation_people):
            scans, brain = self.held_out.scans(person), self.held_out.brain(person)
            chosen = np.linspace(0, len(brain) - 1, JUDGED_SLICES + 2).astype(int)[1:-1]
            scans, brain = scans[:, chosen], brain[chosen]
            device = next(self.parameters()).device
            with torch.autocast(device.type, torch.bfloat16):
                contents = [self.encoder(torch.from_numpy(scan[:, None]).to(device)) for scan in scans]
            for target in range(n):
                code = one_hot(torch.full((len(chosen),), target), n).to(device)
                with torch.autocast(device.type, torch.bfloat16):
                    results = [self.decoder(content, code)[:, 0].float().cpu().numpy() for content in contents]
                truth = scans[target]
                for source, result in enumerate(results):
                    error = float(np.abs(result - truth)[brain].mean()) / 2
                    if source == target:
                        errors["reconstruction"].append(error)
                        continue
                    errors["unseen" if source >= n else "score"].append(error)
                    errors["before"].append(float(np.abs(scans[source] - truth)[brain].mean()) / 2)
                    quality["psnr_db"].append(psnr_db(truth, result, 2.0, brain))
                    quality["ssim"].append(ssim(truth, result, 2.0, brain, per_slice=True))
                quality["site_effect"].append(_spread(np.stack(results), brain))
                quality["site_effect_before"].append(_spread(scans, brain))
        return {name: float(np.mean(values)) for name, values in (errors | quality).items() if values}

    def save_model(self, folder: Path | str, figures: Mapping[str, object]) -> None:
        """Encoder and decoder, and the classifier, which can be asked what it sees (explain/)."""
        parts = {"encoder": self.encoder, "decoder": self.decoder, "classifier": self.classifier}
        weights = {
            f"{part}.{name}": value.float().cpu().numpy()
            for part, network in parts.items()
            for name, value in network.state_dict().items()
        }
        settings = self.settings
        card = ModelCard(
            system=Harmonae.card.name,
            title="HarMOnAE, T1-weighted brain",
            sites=settings.scanners,
            preprocessing={
                "level_percentile": PERCENTILE,
                "spacing_mm": self.learnt.recipe.spacing_mm,
                "plane": "axial",
            },
            training_data=(
                {
                    "name": f"{settings.people} simulated people, each scanned by one of {len(settings.scanners)} "
                    "simulated scanners",
                    "source": "HarmonizeExtension.phantoms, anatomy from ICBM 2009a nonlinear symmetric (MNI152)",
                    "licence": "Apache-2.0; the template: Resources/Sample/MNI152-LICENSE.txt",
                    "subjects": settings.people,
                },
            ),
            figures=figures,
        )
        save_model(folder, card, weights)


def _spread(images: np.ndarray, brain: np.ndarray) -> float:
    """Standard deviation over the scanners of the brain's mean (scanner, slice, y, x), mean over slices, share of 2."""
    means = [[image[inside].mean() for image, inside in zip(scan, brain, strict=True)] for scan in images]
    return float(np.std(means, axis=0).mean()) / 2
