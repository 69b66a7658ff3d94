"""How the CycleGAN is trained: unpaired patches of two centres, two generators, two critics.

Source: Haberl et al., EJNMMI 2024, and its public code for what the paper leaves open (weights, replay buffer, rates);
Zhu et al., ICCV 2017; LSGAN: Mao et al., ICCV 2017; penalty: Mescheder et al., ICML 2018. Defaults depart from the code
where its choices hurt, each by a setting that restores it. The cycle is a mean and not a sum over voxels (a sum drowns
the critics, so that almost nothing is learnt), and weighs little: noise that one generator adds the other cannot take
off again, so that a heavy cycle speaks against adding any. SUV are on a fixed scale, the critics have no sigmoid before
their squared error, and their slope is held down. Beside the critics, band statistics compare the two populations
(`band_statistics`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor, nn
from torch.nn import functional

from ...errors import InputError
from ...files.models import ModelCard, save_model
from ...progress import Progress, silent
from ...training.system import System, arrays_of
from .band_statistics import BandStatistics
from .network import MULTIPLE, SIZES, SMALL, critic, detail_strength, generator
from .samples import Recipe, draw_volumes
from .suv_scale import FIXED, MINMAX, SuvScale

SYSTEM = "cyclegan"
REDUCTIONS = ("mean", "sum")
BANDS = 6  # of spatial frequency, in a validation
JUDGED_PATCHES = 12  # of each person in a validation
JUDGED_SIDE = 32
JUDGED_SUV = 0.3  # from there on edges are judged
DETAIL_VOXELS = 5  # detail is what an image has beyond its mean over this
SMALLEST_PATCH = 32  # the published critic leaves one opinion of it
GAIN_RATE = 2.0  # times as fast as the rest learn gains of a whole scan, which are few
PENALTY_EVERY = 4  # steps
RANGE_PEOPLE = 24  # whose scans tell how strong detail was in what was learnt from


@dataclasses.dataclass(frozen=True)
class Settings:
    """What is trained, on what.

    volumes: folder that holds, or gets, the volumes. centres: the two that are learnt.
    real: folder of PET images in SUV that are imaged like the simulated people; "" for none. Their own blur and noise
        add to the centre's, so that what is learnt from both kinds suits neither well.
    people, validation_people: how many; `people_seed` says whom. lesions: of each person who is learnt from.
    size: of the networks, "small" or "published". width, critic_width: channels of their first layers.
    patch: side in voxels. The published code has 128 x 128 x 64.
    spacing_mm: of the voxels. scale: of SUV, "asinh" or "minmax" (published).
    cycle, identity: weights of the losses. cycle_reduction: "mean", or "sum" over all voxels (published, with weights
        10 and 0.5).
    statistics: weight of the loss by band statistics; 0 as published.
    sigmoid: in the critics (published). replay: how many results the critics are reminded of. reminders: how many
        earlier results they are shown with each new one, and as many more real patches; with 0, half of the new ones
        are swapped for earlier ones (published). penalty: weight of their squared slope; 0 as published.
    learning_rate, critic_rate: of Adam; held for the first half, then led to zero.
    workers: processes that draw people.
    """

    volumes: str
    centres: tuple[str, ...] = ("BUD", "TUB")
    real: str = ""
    people: int = 144
    validation_people: int = 4
    people_seed: int = 2001
    lesions: int = 16
    size: str = SMALL
    width: int = 24
    critic_width: int = 32
    patch: int = 32
    spacing_mm: float = 3.0
    scale: str = FIXED
    cycle: float = 0.3
    identity: float = 0.5
    cycle_reduction: str = "mean"
    statistics: float = 2.0
    sigmoid: bool = False
    replay: int = 50
    reminders: int = 2
    penalty: float = 0.5
    learning_rate: float = 5e-4
    critic_rate: float = 1e-3
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
        if self.replay < 1 or self.reminders < 0:
            raise InputError("the replay buffer must hold at least one result, and reminders cannot be negative")
        if self.scale != FIXED and (self.size == SMALL or self.statistics):
            raise InputError(
                f"the small networks and the statistics look at SUV, which scale '{self.scale}' hides; use scale "
                f"{FIXED}, or size published with statistics 0"
            )


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
        self.statistics = BandStatistics()
        side = settings.patch
        self.register_buffer("pool", torch.zeros(2, settings.replay, 1, side, side, side))
        self.register_buffer("pooled", torch.zeros(2, dtype=torch.long))
        self.register_buffer("steps", torch.tensor(0))
        self.made: list[Tensor] = []
        for networks in (self.towards, self.critics):
            networks.to(memory_format=torch.channels_last_3d)

    def optimizers(self) -> dict[str, torch.optim.Optimizer]:
        def adam(parts, rate: float) -> torch.optim.Optimizer:
            return torch.optim.Adam(parts, rate, (0.5, 0.999))

        rate, groups = self.settings.learning_rate, []
        for name, value in self.towards.named_parameters():
            groups.append({"params": [value], "lr": rate * (GAIN_RATE if name.endswith("gain") else 1.0)})
        return {"generators": adam(groups, rate), "critics": adam(self.critics.parameters(), self.settings.critic_rate)}

    def rate(self, step: int, steps: int) -> float:
        """Held for the first half of the training, then led to zero in a line."""
        return min(1.0, 2 * (1 - step / steps))

    def batch(self, size: int, rng: np.random.Generator) -> dict[str, Tensor]:
        """A patch of each centre (batch, 1, z, y, x) for the generators, more for the critics, noise, and lots."""
        side, shown = (self.settings.patch,) * 3, size * (1 + self.settings.reminders)
        images = [self._seen(self.learnt.patches(name, side, shown, rng)) for name in self.settings.centres]
        first, second = (turned(image, rng) for image in images)
        noise = rng.standard_normal((6, size, 1, *side), dtype=np.float32)
        return {
            "first": first,
            "second": second,
            "noise": torch.from_numpy(noise),
            "lots": torch.from_numpy(rng.random((2, shown, 2))),
        }

    def forward(self, phase: str, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        # The generators' step needs no gradients of the critics' own numbers, and theirs none of the generators'.
        self.critics.requires_grad_(phase == "critics")
        shown = [batch["first"], batch["second"]]
        if phase == "critics":
            return self._judged(shown, batch["lots"])
        settings, noise = self.settings, iter(batch["noise"])
        real = [image[: batch["noise"].shape[1]] for image in shown]
        made = [self.translated(real[1 - k], k, next(noise)) for k in (0, 1)]  # made[k] looks as of centre k
        back = [self.translated(made[1 - k], k, next(noise)) for k in (0, 1)]
        kept = [self.translated(real[k], k, next(noise)) for k in (0, 1)]
        fooled = sum(((self.critics[k](made[k]).float() - 1) ** 2).mean() for k in (0, 1))
        cycle = sum(self._residual(back[k], real[k]) for k in (0, 1))
        identity = sum(self._residual(kept[k], real[k]) for k in (0, 1))
        self.made = [image.detach() for image in made]
        losses = {"fooled": fooled, "cycle": cycle, "identity": identity}
        loss = fooled + settings.cycle * cycle + settings.identity * identity
        if settings.statistics:
            moved, losses["statistics"] = self.statistics(made, real)
            loss = loss + settings.statistics * moved
        return {"loss": loss, **losses}

    def translated(self, image: Tensor, centre: int, noise: Tensor) -> Tensor:
        """An image (batch, 1, z, y, x) as of a centre."""
        network = self.towards[centre]
        seen = torch.cat([image, noise], dim=1) if network.channels_in == 2 else image
        return network(seen.contiguous(memory_format=torch.channels_last_3d)).float()

    def _residual(self, image: Tensor, truth: Tensor) -> Tensor:
        return functional.l1_loss(image, truth, reduction=self.settings.cycle_reduction)

    def _judged(self, real: list[Tensor], lots: Tensor) -> dict[str, Tensor]:
        losses, right, penalties = [], [], []
        for k in (0, 1):
            shown = self._reminded(k, self.made[k], lots[k])
            own, others = (self.critics[k](image).float() for image in (real[k], shown))
            losses.append((((own - 1) ** 2).mean() + (others**2).mean()) / 2)
            right.append(((own > 0.5).float().mean() + (others < 0.5).float().mean()) / 2)
            if self.settings.penalty and self.steps % PENALTY_EVERY == 0:
                penalties.append(self._slope(k, torch.cat([real[k][: len(self.made[k])], self.made[k]])))
        self.steps += 1
        found = {"loss": sum(losses), "accuracy": sum(right) / 2}
        if penalties:
            found["loss"] = found["loss"] + PENALTY_EVERY * self.settings.penalty * sum(penalties)
        return found

    def _slope(self, centre: int, images: Tensor) -> Tensor:
        """The mean square of the slope of a critic's opinion of images (batch, 1, z, y, x), with gradients."""
        images = images.detach().requires_grad_()
        with torch.autocast(images.device.type, enabled=False):
            opinion = self.critics[centre](images).mean((1, 2, 3, 4)).sum()
        (slope,) = torch.autograd.grad(opinion, images, create_graph=True)
        return slope.square().sum((1, 2, 3, 4)).mean()

    @torch.no_grad()
    def _reminded(self, centre: int, made: Tensor, lots: Tensor) -> Tensor:
        """New results and earlier ones; of the new, which are kept, half go in an earlier one's place.

        Where there are no `reminders`, what went from its place is shown instead of the new (Shrivastava et al. 2017).
        """
        shown = made.clone()
        pool, reminders = self.pool[centre], self.settings.reminders
        for i, (swap, which) in enumerate(lots[: len(made)].tolist()):
            held = int(self.pooled[centre])
            if held < len(pool):
                pool[held] = made[i]
                self.pooled[centre] += 1
            elif swap < 0.5:
                place = int(which * len(pool))
                shown[i], pool[place] = pool[place].clone(), made[i]
        if not reminders:
            return shown
        places = (lots[len(made) :, 1] * int(self.pooled[centre])).long()
        return torch.cat([made, pool[places]])

    def _seen(self, suv: np.ndarray) -> Tensor:
        """Patches (n, z, y, x) as the networks see them (n, 1, z, y, x)."""
        scaled = np.stack([SuvScale.of(self.settings.scale, one).to_network(one) for one in suv])
        return torch.from_numpy(scaled[:, None])

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Patches of held-out people, translated both ways and held against the other centre's scans of the same place.

        spectrum: how far the logarithm of the power in bands of spatial frequency is off (root mean square), which the
        draw of the noise has no part in. edges: how strong detail is beside that of the scan without noise (`edges`);
        1 is right. Both also "before", without any method. score: spectrum plus what the logarithm of edges is off.
        """
        rng, side = np.random.default_rng(self.settings.people_seed), (JUDGED_SIDE,) * 3
        patches = [
            self.held_out.paired_patches(person, side, JUDGED_PATCHES, rng)
            for person in range(self.held_out.recipe.people)
        ]
        suv, calm = (np.concatenate(arrays, axis=1) for arrays in zip(*patches, strict=True))
        figures, score = {}, 0.0
        for target, name in enumerate(self.settings.centres):
            source, truth = suv[1 - target], suv[target]
            result = self._harmonized(source, target, rng)
            for key, image in ((name, result), (f"before_{name}", source)):
                figures[f"spectrum_{key}"] = spectrum_distance(image, truth)
                figures[f"edges_{key}"] = edges(image, calm[target])
            score += figures[f"spectrum_{name}"] + abs(float(np.log(max(figures[f"edges_{name}"], 1e-3))))
        return {"score": score / 2, **figures}

    def _harmonized(self, suv: np.ndarray, target: int, rng: np.random.Generator) -> np.ndarray:
        """Patches (n, z, y, x) in SUV as of a centre, in SUV."""
        device = next(self.parameters()).device
        noise = torch.from_numpy(rng.standard_normal((len(suv), 1, *suv.shape[1:]), dtype=np.float32))
        with torch.autocast(device.type, torch.bfloat16):
            seen = self.translated(self._seen(suv).to(device), target, noise.to(device)).cpu().numpy()[:, 0]
        return np.stack([SuvScale.of(self.settings.scale, a).to_suv(b) for a, b in zip(suv, seen, strict=True)])

    def _detail_strength(self) -> dict[str, np.ndarray]:
        """By centre, what `detail_strength` finds in scans that were learnt from (scans, bands twice)."""
        found: dict[str, list[np.ndarray]] = {name: [] for name in self.settings.centres}
        for person in range(min(self.learnt.recipe.people, RANGE_PEOPLE)):
            for name in self.learnt.recipe.centres_of(person):
                suv = np.float32(self.learnt.volume(person, name))
                found[name].append(detail_strength(SuvScale().to_network(suv)))
        return {name: np.array(values) for name, values in found.items()}

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
        if settings.scale == FIXED:
            found = self._detail_strength()
            every = np.concatenate(list(found.values()))
            preprocessing["detail_range"] = [every.min(axis=0).tolist(), every.max(axis=0).tolist()]
            preprocessing["detail"] = {name: values.mean(axis=0).tolist() for name, values in found.items()}
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


def edges(image: np.ndarray, calm: np.ndarray) -> float:
    """How strong the detail of an image is beside that of the same scan without noise: 1 if as strong, less if soft.

    The slope of a regression, in which noise has no part; patches (n, z, y, x) in SUV, of asinh(SUV).
    """
    size = (1, *(DETAIL_VOXELS,) * 3)
    border = DETAIL_VOXELS - 1
    inner = (slice(None), *(slice(border, -border),) * 3)
    logs = [np.arcsinh(np.maximum(patches, 0)) for patches in (image, calm)]
    found, wanted = ((log - ndimage.uniform_filter(log, size, mode="nearest"))[inner] for log in logs)
    body = calm[inner] > JUDGED_SUV
    return float((found[body] * wanted[body]).sum() / max(float((wanted[body] ** 2).sum()), 1e-12))
