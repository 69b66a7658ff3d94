"""How RadiomicGAN is trained: absolute error and a judge of patches, in windows that grow and then follow the judge.

Source: Selim et al., CT image harmonization for enhancing radiomics studies, 2021; the weight of the absolute error is
that of its parent (Isola et al., CVPR 2017), as in the authors' public code.
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
from ...explain.grad_cam import grad_cam
from ...explain.looking import in_use
from ...files.models import save_model
from ...networks.kernel_blocks import PatchJudge, scaled, unscaled
from ...progress import Progress, silent
from ...training.kernel_translation import KernelSettings, KernelTranslation
from ...training.system import arrays_of
from .dynamic_windows import DynamicWindow, failing_values
from .harmonizer import RadiomicGAN
from .network import Generator

GAIN_SQUARES = 8  # times as many squares for the gains as for the networks: they are cheap to ask, and few
GAIN_RATE = 0.01
SUBSETS, SUBSET = 4, 4  # how often, and how many synthesised squares, the judge is asked after each epoch


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings(KernelSettings):
    """As every translator between kernels, and:

    growing, dynamic: the two steps of Dynamic Window Training; the paper's versions 1 and 2 have the first or the
        second alone. epoch_steps: after how many steps the window may change.
    bands: of detail whose gains the generator learns beside the paper's network, which is that with 0.
    vgg19: file with the weights of a VGG-19 trained on ImageNet, or "hub" for torchvision's; the encoder is held then,
        and width must be 64. Without it the encoder is trained along.
    """

    growing: bool = True
    dynamic: bool = True
    epoch_steps: int = 250
    bands: int = 6
    vgg19: str = ""

    def __post_init__(self):
        super().__post_init__()
        if self.epoch_steps < 1:
            raise InputError(f"epoch_steps must be at least 1, not {self.epoch_steps}")
        if self.bands < 0:
            raise InputError(f"bands must be at least 0, not {self.bands}")


class RadiomicGANTraining(KernelTranslation):
    """Gains of bands, generator and judge, trained in turn, the last two in a window of HU that changes between epochs.

    The gains are learnt for themselves, from all HU: the network behind them then learns what they leave.
    """

    def __init__(self, settings: Settings, progress: Progress = silent):
        super().__init__(settings, progress)
        self.generator = Generator(len(self.sites), settings.width, settings.bands)
        self.judge = PatchJudge(2, len(self.sites), settings.width)
        self.window = DynamicWindow(settings.window, settings.growing, settings.dynamic)
        self.register_buffer("steps", torch.tensor(0))  # of this epoch
        if settings.vgg19:
            self.generator.encoder.load_vgg19(settings.vgg19)
        if settings.start:
            self.begin_from("generator", RadiomicGAN.card.name)
        self.to(memory_format=torch.channels_last)

    def optimizers(self) -> dict[str, torch.optim.Optimizer]:
        learnt = ((name, value) for name, value in self.generator.named_parameters() if value.requires_grad)
        network = [value for name, value in learnt if not name.startswith("detail.")]
        parts = {"generator": network, "judge": self.judge.parameters()}
        rates = {"generator": self.settings.learning_rate, "judge": self.settings.judge_rate}
        made = {name: torch.optim.Adam(part, rates[name], (0.5, 0.999)) for name, part in parts.items()}
        if self.settings.bands:
            made = {"gains": torch.optim.Adam(self.generator.detail.parameters(), GAIN_RATE), **made}
        return made

    def batch(self, size: int, rng: np.random.Generator) -> dict[str, Tensor]:
        """As the base gives it, with squares for the gains of bands too; between two epochs the window moves."""
        if self.steps == self.settings.epoch_steps:
            self.window.next_epoch(lambda: self._accuracy(rng), lambda: self._failing(rng))
            self.steps.zero_()
        self.steps += 1
        samples = super().batch(size, rng)
        if self.settings.bands:
            samples |= {f"gains {name}": value for name, value in super().batch(size * GAIN_SQUARES, rng).items()}
        return samples

    def forward(self, phase: str, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        if phase == "gains":
            return {"loss": self._linear_error(batch)}
        window = self.window.current
        source, target = (
            scaled(batch[name], window).to(memory_format=torch.channels_last) for name in ("source", "target")
        )
        code, middle, zoom = batch["code"], source[:, 1:2], self._zoom

        def opinion(image: Tensor, true: bool) -> Tensor:
            logits = self.judge(torch.cat([middle, image], dim=1), code).float()
            return functional.binary_cross_entropy_with_logits(logits, torch.full_like(logits, float(true)))

        if phase == "judge":
            with torch.no_grad():
                made = self.generator(source, code, zoom)
            return {"loss": (opinion(target, True) + opinion(made, False)) / 2}
        made = self.generator(source, code, zoom)
        l1, fooled = (made - target).abs().mean(), opinion(made, True)
        # For the curves, where the window can be followed over the epochs (figure 5 of the paper).
        low, high = (torch.tensor(float(bound)) for bound in window)
        loss = self.settings.l1 * l1 + self.settings.adversarial * fooled
        return {"loss": loss, "l1": l1, "fooled": fooled, "window low": low, "window high": high}

    def _linear_error(self, batch: Mapping[str, Tensor]) -> Tensor:
        """What is left of the difference when only bands have been given their gains, alike in the whole slice."""
        source, target = (scaled(batch[f"gains {name}"], self.settings.window) for name in ("source", "target"))
        middle = source[:, 1:2]
        made = middle + self.generator.detail(middle, batch["gains code"])
        return self.settings.l1 * (made - target).abs().mean()

    @property
    def _zoom(self) -> float:
        """How many times narrower the window is now than in the end."""
        (low, high), (lowest, highest) = self.window.current, self.settings.window
        return (highest - lowest) / (high - low)

    def translated(self, slices: Tensor, code: Tensor) -> Tensor:
        window = self.settings.window
        return unscaled(self.generator(scaled(slices, window), code), window).clamp(*window)

    def class_activation(self, made_hu: Tensor, source_hu: Tensor, code: Tensor) -> Tensor:
        """Where the judge sees that slices are synthesised (batch, y, x), 0 to 1: Grad-CAM of its last features.

        made_hu: the slices in question; source_hu: what they were made from (batch, 1, y, x each).
        """
        seen = scaled(torch.cat([source_hu, made_hu], dim=1), self.settings.window)
        # The judge's logits are high for "true"; what speaks against it betrays the slice.
        return grad_cam(self.judge, self.judge.features, seen, code, score=lambda out: -out.flatten(1).mean(dim=1))

    def _failing(self, rng: np.random.Generator) -> np.ndarray:
        """The HU where the judge tells synthesised squares of random subsets of the training data."""
        lists = []
        for _ in range(SUBSETS):
            batch = {name: value.to(self.steps.device) for name, value in super().batch(SUBSET, rng).items()}
            with torch.no_grad(), in_use(self.generator):
                made = self.translated(batch["source"], batch["code"])
            cam = self.class_activation(made, batch["source"][:, 1:2], batch["code"])
            lists.append(failing_values(cam, made))
        return np.concatenate(lists)

    def _accuracy(self, rng: np.random.Generator) -> float:
        """1 - mean absolute error, as a share of the window, on a few slices of held-out cases."""
        window = self.window.current
        batch = self.squares([self.judged[n] for n in rng.integers(len(self.judged), size=SUBSET)], rng, judged=True)
        batch = {name: value.to(self.steps.device) for name, value in batch.items()}
        with torch.no_grad(), in_use(self.generator):
            made = self.generator(scaled(batch["source"], window), batch["code"], self._zoom)
        return 1 - float((made - scaled(batch["target"], window)).abs().mean()) / 2

    def save_model(self, folder: Path | str, figures: Mapping[str, object]) -> None:
        """The generator, and the judge, which tells what is not of a kernel."""
        settings = self.settings
        encoder = "VGG-19 trained on ImageNet, held" if settings.vgg19 else "VGG-19's layers, trained from the start"
        figures = {**figures, "encoder": encoder, "growing": settings.growing, "dynamic": settings.dynamic}
        card = self.model_card(RadiomicGAN.card.name, "RadiomicGAN", figures)
        save_model(folder, card, arrays_of({"generator": self.generator, "judge": self.judge}))
