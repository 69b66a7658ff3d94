"""How the CycleGAN is trained: unpaired patches of two centres, two generators, two critics.

Source: Haberl et al., EJNMMI 2024, and its public code for what the paper leaves open (weights, replay buffer, rates);
Zhu et al., ICCV 2017; LSGAN: Mao et al., ICCV 2017. Defaults depart from the code where its choices hurt, each by a
setting that restores it: the cycle is a mean and not a sum over voxels (a sum drowns the critics, so that almost
nothing is learnt), SUV are on a fixed scale, and the critics have no sigmoid before their squared error.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from ...errors import InputError
from ...files.models import ModelCard, save_model
from ...progress import Progress, silent
from ...training.system import System, arrays_of
from .network import MULTIPLE, SIZES, SMALL, critic, generator
from .samples import Recipe, draw_volumes
from .suv_scale import FIXED, MINMAX, SuvScale

SYSTEM = "cyclegan"
REDUCTIONS = ("mean", "sum")
BANDS = 6  # of spatial frequency, in a validation
JUDGED_PATCHES = 12  # of each person in a validation
JUDGED_SIDE = 32
SMALLEST_PATCH = 32  # the published critic leaves one opinion of it
CALM_VOXELS = 4  # mean SUV over blocks this wide are compared


@dataclasses.dataclass(frozen=True)
class Settings:
    """What is trained, on what.

    volumes: folder that holds, or gets, the volumes. centres: the two that are learnt.
    real: folder of PET images in SUV that are imaged like the simulated people; "" for none.
    people, validation_people: how many; `people_seed` says whom. lesions: of each person who is learnt from.
    size: of the networks, "small" or "published". width, critic_width: channels of their first layers.
    patch: side in voxels. The published code has 128 x 128 x 64.
    spacing_mm: of the voxels. scale: of SUV, "asinh" or "minmax" (published).
    cycle, identity: weights of the losses. cycle_reduction: "mean", or "sum" over all voxels (published, with weights
        10 and 0.5).
    sigmoid: in the critics (published). replay: how many results the critics are reminded of.
    learning_rate: of Adam; held for the first half, then led to zero.
    workers: processes that draw people.
    """

    volumes: str
    centres: tuple[str, ...] = ("BUD", "TUB")
    real: str = ""
    people: int = 40
    validation_people: int = 4
    people_seed: int = 2001
    lesions: int = 4
    size: str = SMALL
    width: int = 16
    critic_width: int = 16
    patch: int = 32
    spacing_mm: float = 3.0
    scale: str = FIXED
    cycle: float = 10.0
    identity: float = 5.0
    cycle_reduction: str = "mean"
    sigmoid: bool = False
    replay: int = 50
    learning_rate: float = 2e-4
    workers: int = 1

    def __post_init__(self):
        for value, known, what in (
            (self.size, SIZES, "size"),
            (self.scale, (FIXED, MINMAX), "scale"),
            (self.cycle_reduction, REDUCTIONS, "cycle_reduction"),
        ):
            if value not in known:
                raise InputError(f"{what} '{value}' is unknown; use {' or '.join(known)}")
        if self.patch % MULTIPLE or self.patch < SMALLEST_PATCH:
            raise InputError(
                f"patch must be a multiple of {MULTIPLE} voxels from {SMALLEST_PATCH} on, not {self.patch}"
            )
        if self.replay < 1:
            raise InputError("the replay buffer must hold at least one result")


class CycleganTraining(System):
    """Two generators, trained together against two critics."""

    def __init__(self, settings: Settings, progress: Progress = silent):
        super().__init__()
        self.settings = settings
        folder, spacing = Path(settings.volumes), settings.spacing_mm
        learnt = Recipe(
            settings.people, settings.people_seed, settings.centres, False, spacing, settings.real, settings.lesions
        )
        held_out = Recipe(
            max(2, settings.validation_people), settings.people_seed + 1001, settings.centres, True, spacing
        )
        self.learnt = draw_volumes(folder / "train", learnt, settings.workers, progress)
        self.held_out = draw_volumes(folder / "validation", held_out, settings.workers, progress)
        self.towards = nn.ModuleList(generator(settings.size, settings.width) for _ in settings.centres)
        self.critics = nn.ModuleList(
            critic(settings.size, settings.critic_width, settings.sigmoid) for _ in settings.centres
        )
        side = settings.patch
        self.register_buffer("pool", torch.zeros(2, settings.replay, 1, side, side, side))
        self.register_buffer("pooled", torch.zeros(2, dtype=torch.long))
        self.made: list[Tensor] = []
        self.to(memory_format=torch.channels_last_3d)

    def optimizers(self) -> dict[str, torch.optim.Optimizer]:
        def adam(networks: nn.ModuleList) -> torch.optim.Optimizer:
            return torch.optim.Adam(networks.parameters(), self.settings.learning_rate, (0.5, 0.999))

        return {"generators": adam(self.towards), "critics": adam(self.critics)}

    def rate(self, step: int, steps: int) -> float:
        """Held for the first half of the training, then led to zero in a line."""
        return min(1.0, 2 * (1 - step / steps))

    def batch(self, size: int, rng: np.random.Generator) -> dict[str, Tensor]:
        """A patch of each centre (batch, 1, z, y, x), noise for the generators, and lots for the replay buffer."""
        side = (self.settings.patch,) * 3
        images = [self._seen(self.learnt.patches(name, side, size, rng)) for name in self.settings.centres]
        noise = rng.standard_normal((6, size, 1, *side), dtype=np.float32)
        lots = rng.random((2, size, 2))
        return {
            "first": turned(images[0], rng),
            "second": turned(images[1], rng),
            "noise": torch.from_numpy(noise),
            "lots": torch.from_numpy(lots),
        }

    def forward(self, phase: str, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        # The generators' step needs no gradients of the critics' own numbers, and theirs none of the generators'.
        self.critics.requires_grad_(phase == "critics")
        real = [batch["first"], batch["second"]]
        if phase == "critics":
            return self._judged(real, batch["lots"])
        settings, noise = self.settings, iter(batch["noise"])
        made = [self.translated(real[1 - k], k, next(noise)) for k in (0, 1)]  # made[k] looks as of centre k
        back = [self.translated(made[1 - k], k, next(noise)) for k in (0, 1)]
        kept = [self.translated(real[k], k, next(noise)) for k in (0, 1)]
        fooled = sum(((self.critics[k](made[k]).float() - 1) ** 2).mean() for k in (0, 1))
        cycle = sum(self._residual(back[k], real[k]) for k in (0, 1))
        identity = sum(self._residual(kept[k], real[k]) for k in (0, 1))
        self.made = [image.detach() for image in made]
        loss = fooled + settings.cycle * cycle + settings.identity * identity
        return {"loss": loss, "fooled": fooled, "cycle": cycle, "identity": identity}

    def translated(self, image: Tensor, centre: int, noise: Tensor) -> Tensor:
        """An image (batch, 1, z, y, x) as of a centre."""
        network = self.towards[centre]
        seen = torch.cat([image, noise], dim=1) if network.channels_in == 2 else image
        return network(seen.contiguous(memory_format=torch.channels_last_3d)).float()

    def _residual(self, image: Tensor, truth: Tensor) -> Tensor:
        return functional.l1_loss(image, truth, reduction=self.settings.cycle_reduction)

    def _judged(self, real: list[Tensor], lots: Tensor) -> dict[str, Tensor]:
        losses, right = [], []
        for k in (0, 1):
            shown = self._reminded(k, self.made[k], lots[k])
            own, others = (self.critics[k](image).float() for image in (real[k], shown))
            losses.append((((own - 1) ** 2).mean() + (others**2).mean()) / 2)
            right.append(((own > 0.5).float().mean() + (others < 0.5).float().mean()) / 2)
        return {"loss": sum(losses), "accuracy": sum(right) / 2}

    @torch.no_grad()
    def _reminded(self, centre: int, made: Tensor, lots: Tensor) -> Tensor:
        """Half of the time an earlier result in the place of the new one, which is kept (Shrivastava et al. 2017)."""
        shown = made.clone()
        pool = self.pool[centre]
        for i, (swap, which) in enumerate(lots.tolist()):
            held = int(self.pooled[centre])
            if held < len(pool):
                pool[held] = made[i]
                self.pooled[centre] += 1
            elif swap < 0.5:
                place = int(which * len(pool))
                shown[i], pool[place] = pool[place].clone(), made[i]
        return shown

    def _seen(self, suv: np.ndarray) -> Tensor:
        """Patches (n, z, y, x) as the networks see them (n, 1, z, y, x)."""
        scaled = np.stack([SuvScale.of(self.settings.scale, one).to_network(one) for one in suv])
        return torch.from_numpy(scaled[:, None])

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Patches of held-out people, translated both ways and held against the other centre's scan of the same place.

        spectrum: how far the logarithm of the power in bands of spatial frequency is off (root mean square), which the
        draw of the noise has no part in; spectrum_before: without any method. level: mean relative error of mean SUV
        over blocks of 4 voxels in the body; level_before likewise. score: spectrum plus level.
        """
        rng, side = np.random.default_rng(self.settings.people_seed), (JUDGED_SIDE,) * 3
        found: dict[str, list[float]] = {}
        for person in range(self.held_out.recipe.people):
            suv = self.held_out.paired_patches(person, side, JUDGED_PATCHES, rng)
            for target in (0, 1):
                source, truth = suv[1 - target], suv[target]
                result = self._harmonized(source, target, rng)
                name = self.settings.centres[target]
                for key, image in ((f"spectrum_{name}", result), (f"spectrum_before_{name}", source)):
                    found.setdefault(key, []).append(spectrum_distance(image, truth))
                for key, image in ((f"level_{name}", result), (f"level_before_{name}", source)):
                    found.setdefault(key, []).append(level_error(image, truth))
        figures = {key: float(np.mean(values)) for key, values in found.items()}
        own = [value for key, value in figures.items() if "before" not in key]
        return {"score": float(np.sum(own)) / 2, **figures}

    def _harmonized(self, suv: np.ndarray, target: int, rng: np.random.Generator) -> np.ndarray:
        """Patches (n, z, y, x) in SUV as of a centre, in SUV."""
        device = next(self.parameters()).device
        noise = torch.from_numpy(rng.standard_normal((len(suv), 1, *suv.shape[1:]), dtype=np.float32))
        with torch.autocast(device.type, torch.bfloat16):
            seen = self.translated(self._seen(suv).to(device), target, noise.to(device)).cpu().numpy()[:, 0]
        return np.stack([SuvScale.of(self.settings.scale, a).to_suv(b) for a, b in zip(suv, seen, strict=True)])

    def save_model(self, folder: Path | str, figures: Mapping[str, object]) -> None:
        """The two generators, and the critics, which can be asked what they see (explain/)."""
        settings = self.settings
        parts = dict(zip(settings.centres, self.towards, strict=True))
        parts |= {f"critic.{name}": network for name, network in zip(settings.centres, self.critics, strict=True)}
        weights = arrays_of(parts)
        data = [
            {
                "name": f"{settings.people} simulated people, each imaged by one of two simulated centres",
                "source": "HarmonizeExtension.phantoms.pet_body and pet_centres",
                "licence": "Apache-2.0",
                "subjects": settings.people,
            }
        ]
        if settings.real:
            data.append(
                {
                    "name": "PET images of the user, imaged again by both simulated centres",
                    "source": "the folder named in the configuration",
                    "licence": "that of the images",
                    "subjects": self.learnt.real,
                }
            )
        preprocessing = {
            "spacing_mm": settings.spacing_mm,
            "scale": settings.scale,
            "size": settings.size,
            "patch": settings.patch,
        }
        card = ModelCard(
            SYSTEM,
            "CycleGAN, whole-body FDG PET",
            settings.centres,
            preprocessing=preprocessing,
            training_data=tuple(data),
            figures=figures,
        )
        save_model(folder, card, weights)


def turned(images: Tensor, rng: np.random.Generator) -> Tensor:
    """The patches (batch, 1, z, y, x), at random mirrored along each axis: blur and noise have no handedness."""
    axes = [axis for axis in (2, 3, 4) if rng.random() < 0.5]
    return images.flip(axes) if axes else images


def spectrum_distance(image: np.ndarray, truth: np.ndarray) -> float:
    """Root mean square over bands of the logarithm of the ratio of power; patches (n, z, y, x) in SUV.

    Of asinh(SUV), so that bladder and brain do not decide, under a window that lets the patch's borders fade.
    """
    powers = []
    side = image.shape[-1]
    window = np.hanning(side)
    window = window[:, None, None] * window[None, :, None] * window[None, None, :]
    frequency = np.fft.fftfreq(side)
    radius = np.sqrt(sum(np.meshgrid(*[frequency**2] * 3, indexing="ij")))
    band = np.minimum((radius / 0.5 * BANDS).astype(int), BANDS)  # beyond the last lie the corners
    for patches in (image, truth):
        seen = np.arcsinh(np.maximum(patches, 0))
        seen = (seen - seen.mean(axis=(1, 2, 3), keepdims=True)) * window
        power = (np.abs(np.fft.fftn(seen, axes=(1, 2, 3))) ** 2).mean(axis=0)
        powers.append(np.bincount(band.ravel(), power.ravel(), BANDS + 1)[1:BANDS])
    return float(np.sqrt(np.mean(np.log(powers[0] / powers[1]) ** 2)) / 2)


def level_error(image: np.ndarray, truth: np.ndarray) -> float:
    """Mean relative difference of mean SUV over blocks where the truth is above 0.3 SUV; patches (n, z, y, x)."""
    n, side = len(image), image.shape[-1] // CALM_VOXELS
    blocks = [
        patches.reshape(n, side, CALM_VOXELS, side, CALM_VOXELS, side, CALM_VOXELS).mean(axis=(2, 4, 6))
        for patches in (image, truth)
    ]
    use = blocks[1] > 0.3
    return float(np.abs(blocks[0][use] / blocks[1][use] - 1).mean()) if use.any() else 0.0
