"""How HarMOnAE is trained: reconstruction, content and a latent space that does not tell the scanner.

Source: Fatania et al., Phys Imaging Radiat Oncol 2022, sections 2.1 to 2.3. The paper does not print the weights of its
losses, learning rate or batch size; those of its parent MUNIT (Huang et al., ECCV 2018) stand in.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from ...errors import InputError
from ...files.models import save_model
from ...networks.blocks import gradient_l1
from ...progress import Progress, silent
from ...training.brain_translation import BrainSettings, BrainTranslation
from ...training.system import arrays_of
from .harmonizer import Harmonae
from .network import MULTIPLE, SMALLEST_SIDE, Classifier, Decoder, Encoder, ImageDiscriminator, one_hot


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings(BrainSettings):
    """What is trained, on what: the settings of every translator, and

    reconstruction, content, adversarial: weights of the losses.
    discriminator: weight of an image discriminator, as MUNIT has one. A negative control only: it draws anatomy that is
        not there (the paper, section 3: dSSIM-c grows from 0.0021 to 0.0062). 0 is without.
    """

    people: int = 200
    learning_rate: float = 1e-4
    reconstruction: float = 10.0
    content: float = 1.0
    adversarial: float = 1.0
    discriminator: float = 0.0

    def __post_init__(self):
        super().__post_init__()
        self.check_crop(MULTIPLE, SMALLEST_SIDE)
        if self.discriminator < 0:
            raise InputError(f"discriminator is a weight from 0 (without) on, not {self.discriminator}")
        if self.people < len(self.scanners):
            raise InputError(f"at least one person for each of {len(self.scanners)} scanners is needed")


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


def least_squares(answers: Sequence[Tensor], wanted: float) -> Tensor:
    """Mean squared distance of a discriminator's answers from 1 (real) or 0, added up over scales (Mao et al. 2017)."""
    return torch.stack([(answer.float() - wanted).square().mean() for answer in answers]).sum()


class HarmonaeTraining(BrainTranslation):
    """Encoder, decoder and classifier, trained in turn: first the auto-encoder, then its adversary."""

    def __init__(self, settings: Settings, progress: Progress = silent):
        super().__init__(settings, paired=False, progress=progress)
        scanners = len(settings.scanners)
        self.encoder = Encoder(settings.width)
        self.decoder = Decoder(scanners, settings.width)
        self.classifier = Classifier(scanners, settings.width)
        self.discriminator = ImageDiscriminator(scanners, settings.width) if settings.discriminator else None
        self.to(memory_format=torch.channels_last)

    def optimizers(self) -> dict[str, torch.optim.Optimizer]:
        def adam(*parts: nn.Module) -> torch.optim.Optimizer:
            numbers = [p for part in parts for p in part.parameters()]
            return torch.optim.Adam(numbers, self.settings.learning_rate, (0.5, 0.999), weight_decay=1e-4)

        phases = {"auto-encoder": adam(self.encoder, self.decoder), "classifier": adam(self.classifier)}
        return phases if self.discriminator is None else phases | {"discriminator": adam(self.discriminator)}

    def batch(self, size: int, rng: np.random.Generator) -> dict[str, Tensor]:
        """image (batch, 1, y, x), its scanner (batch,), and another scanner at random, to which it is harmonized."""
        images, sites = self.learnt.batch(size, rng)
        moved = self.varied(images, rng)
        scanners = len(self.settings.scanners)
        others = (sites + rng.integers(1, scanners, size)) % scanners
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
        other = one_hot(batch["other"], n)
        if phase == "discriminator":
            with torch.no_grad():
                made = self.decoder(self.encoder(image), other)
            real = least_squares(self.discriminator(image, one_hot(batch["site"], n)), 1.0)
            return {"loss": (real + least_squares(self.discriminator(made, other), 0.0)) / 2}
        content = self.encoder(image)
        reconstruction = reconstruction_loss(image, self.decoder(content, one_hot(batch["site"], n)))
        harmonized = self.decoder(content, other)
        # The content itself is the reference: it shall not move towards what is left of it.
        kept = (self.encoder(harmonized) - content.detach()).abs().mean()
        blind = adversarial_loss(self.classifier(content), batch["site"])
        loss = settings.reconstruction * reconstruction + settings.content * kept + settings.adversarial * blind
        parts = {"reconstruction": reconstruction, "content": kept, "adversarial": blind}
        if self.discriminator is not None:
            parts["fooled"] = least_squares(self.discriminator(harmonized, other), 1.0)
            loss = loss + settings.discriminator * parts["fooled"]
        return {"loss": loss} | parts

    def translated(self, images: Tensor, scanner: Tensor) -> Tensor:
        return self.decoder(self.encoder(images), scanner)

    def save_model(self, folder: Path | str, figures: Mapping[str, object]) -> None:
        """Encoder and decoder, and the classifier, which can be asked what it sees (explain/)."""
        weights = arrays_of({"encoder": self.encoder, "decoder": self.decoder, "classifier": self.classifier})
        save_model(folder, self.model_card(Harmonae.card.name, Harmonae.card.title, figures), weights)
