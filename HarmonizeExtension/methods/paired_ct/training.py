"""How the paired CT baselines are trained; which of them, three settings say.

| baseline | generator | judges | latent | source |
| --- | --- | --- | --- | --- |
| Choe's CNN | residual-cnn | 0 | 0 | Lee et al. 2019, Choe et al., Radiology 292:365, 2019 |
| Pix2Pix | unet | 1 | 0 | Isola et al., CVPR 2017 |
| GANai | unet | 2 | 0 | Liang et al., GANai: standardizing CT images using generative adversarial network, 2019 |
| STAN-CT | unet | 2 | 1 | Selim et al., STAN-CT: standardizing CT image using generative adversarial networks, 2020 |

GANai trains generator and judges in long turns with several judges of each kind; here they take turns step by step, as
everything else does, so that a comparison is one of networks and losses.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from ...errors import InputError
from ...files.models import save_model
from ...networks.kernel_blocks import PatchJudge, scaled, unscaled
from ...progress import Progress, silent
from ...training.kernel_translation import KernelSettings, KernelTranslation
from ...training.system import arrays_of
from .harmonizer import PairedCT
from .network import GENERATORS


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings(KernelSettings):
    """As every translator between kernels, and:

    generator: "unet" or "residual-cnn". judges: 0, or 1, which sees the source beside the image, or 2, of which the
        second sees the image alone.
    latent: weight of the mean squared distance between what the encoder makes of the source and of the target.
    """

    generator: str = "unet"
    judges: int = 1
    latent: float = 0.0

    def __post_init__(self):
        super().__post_init__()
        if self.generator not in GENERATORS:
            raise InputError(f"generator '{self.generator}' is unknown; use {' or '.join(GENERATORS)}")
        if self.judges not in (0, 1, 2):
            raise InputError(f"judges must be 0, 1 or 2, not {self.judges}")
        if self.latent < 0 or (self.latent and self.generator != "unet"):
            raise InputError("the weight latent cannot be negative, and needs a generator with an encoder: unet")

    @property
    def title(self) -> str:
        """What this combination is called in the literature."""
        if self.generator == "residual-cnn":
            return "Residual CNN (Choe)" if not self.judges else "Residual CNN with judges"
        return {0: "U-Net", 1: "Pix2Pix", 2: "STAN-CT" if self.latent else "GANai"}[self.judges]


class PairedCTTraining(KernelTranslation):
    """A generator and its judges, trained in turn."""

    def __init__(self, settings: Settings, progress: Progress = silent):
        super().__init__(settings, progress)
        kernels = len(self.sites)
        self.generator = GENERATORS[settings.generator](kernels, settings.width)
        # The first is conditional: it sees the source too.
        self.judges = nn.ModuleList(PatchJudge(images, kernels, settings.width) for images in (2, 1)[: settings.judges])
        if settings.start:
            self.begin_from("generator", PairedCT.card.name)
        self.to(memory_format=torch.channels_last)

    def optimizers(self) -> dict[str, torch.optim.Optimizer]:
        parts = {"generator": (self.generator, self.settings.learning_rate)}
        if len(self.judges):
            parts["judges"] = self.judges, self.settings.judge_rate
        return {name: torch.optim.Adam(p.parameters(), rate, (0.5, 0.999)) for name, (p, rate) in parts.items()}

    def forward(self, phase: str, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        settings, code = self.settings, batch["code"]
        source, target = (
            scaled(batch[name], settings.window).to(memory_format=torch.channels_last) for name in ("source", "target")
        )

        def opinions(image: Tensor, true: bool) -> Tensor:
            both = torch.cat([source[:, 1:2], image], dim=1)
            logits = [judge(seen, code).float() for judge, seen in zip(self.judges, (both, image), strict=False)]
            losses = [functional.binary_cross_entropy_with_logits(x, torch.full_like(x, float(true))) for x in logits]
            return sum(losses) / len(losses)

        if phase == "judges":
            with torch.no_grad():
                made = self.generator(source, code)
            return {"loss": (opinions(target, True) + opinions(made, False)) / 2}
        made = self.generator(source, code)
        l1 = (made - target).abs().mean()
        losses = {"loss": settings.l1 * l1, "l1": l1}
        if len(self.judges):
            losses["fooled"] = opinions(made, True)
            losses["loss"] = losses["loss"] + settings.adversarial * losses["fooled"]
        if settings.latent:
            seen, wanted = (self.generator.encoded(x, code)[-1] for x in (source, target.expand(-1, 3, -1, -1)))
            losses["latent"] = (seen - wanted).square().mean()
            losses["loss"] = losses["loss"] + settings.latent * losses["latent"]
        return losses

    def translated(self, slices: Tensor, code: Tensor) -> Tensor:
        window = self.settings.window
        return unscaled(self.generator(scaled(slices, window), code), window).clamp(*window)

    def save_model(self, folder: Path | str, figures: Mapping[str, object]) -> None:
        """The generator, and the judges, if there are any."""
        card = self.model_card(PairedCT.card.name, self.settings.title, figures)
        save_model(folder, card, arrays_of({"generator": self.generator, "judges": self.judges}))
