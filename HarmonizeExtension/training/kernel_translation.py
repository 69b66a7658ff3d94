"""What the trainings of translators between CT kernels share: pairs of reconstructions, how they are varied and judged.

Stacks of slices with several kernels are simulated (training/kernel_pairs.py); real scans that were reconstructed twice
may be added, to learn real kernels from a few slices.

Kernels differ in detail that is a hundredth of the range of HU, and the 8 bits of bf16 round much of it away: keep the
schedule's precision at f32. (Choe's CNN, 800 steps to Bl64: mean absolute error 22.6 HU before, 18.6 in bf16, 14.8 in
f32.)
"""

from __future__ import annotations

import abc
import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from .. import images
from ..errors import InputError
from ..evaluation.image_quality import psnr_db
from ..files.models import ModelCard, load_model
from ..files.volume import read_volume
from ..networks.kernel_blocks import kernel_code
from ..physics.ct_scan import KERNELS
from ..progress import Progress, silent
from .kernel_pairs import KernelRecipe, draw_kernel_pairs
from .system import System

MULTIPLE = 16  # of which y and x must be, for every network
IDENTICAL = 0.1  # of the samples have the wanted kernel already, and nothing is to be changed
SLICE_CHOICES = ("all", "odd", "even")
HELD_OUT = 5  # of the slices of a real pair, every so many-th is for validation
AIR_HU, MOST_AIR = -900.0, 0.8
SPACING_MM = (0.45, 1.4)  # of the simulated slices: from a head to the whole bore of a planning scanner


@dataclasses.dataclass(frozen=True, kw_only=True)
class KernelSettings:
    """What is trained on what, as far as it is the same for every translator between kernels.

    slices: folder that holds, or gets, the simulated slices.
    cases, validation_cases: how many stacks; `cases_seed` says which.
    targets: kernels that can be wanted; all where none is named. With one, as in Selim et al. 2021, the standard, a
        network learns fastest.
    pairs: real scans reconstructed more than once, each as "SOFT=soft.nii.gz, BONE=bone.nii.gz": kernels that are new
        are learnt beside the simulated ones. pair_slices: "all" of their slices, or the "odd" or "even" ones, counted
        from 0, to keep the others for a test. pair_share: of the samples that come from them.
    pair_source, pair_licence: whom to name, and on what terms, in the model's card.
    start: folder of a model of the same system and width to begin from; what it knows of a kernel is taken over.
    width: channels of the first stage. learning_rate, judge_rate: of Adam, for generator and judges; held for the first
        half, then led to zero.
    l1: weight of the absolute error. adversarial: weight of the judges' opinion.
    crop: side in pixels of the random squares that are learnt from.
    lowest_hu, highest_hu: the range that is harmonized; beyond it the scan passes through.
    workers: processes that draw slices.
    """

    slices: str
    cases: int = 240
    validation_cases: int = 8
    cases_seed: int = 3001
    targets: tuple[str, ...] = ()
    pairs: tuple[str, ...] = ()
    pair_slices: str = "all"
    pair_share: float = 0.5
    pair_source: str = ""
    pair_licence: str = ""
    start: str = ""
    width: int = 16
    learning_rate: float = 2e-4
    judge_rate: float = 2e-4
    l1: float = 100.0
    adversarial: float = 1.0
    crop: int = 128
    lowest_hu: float = -1024.0
    highest_hu: float = 1000.0
    workers: int = 2

    def __post_init__(self):
        if self.cases < 1 or self.validation_cases < 1:
            raise InputError("at least one case to learn from, and one for validation, are needed")
        if self.pair_slices not in SLICE_CHOICES:
            raise InputError(f"pair_slices '{self.pair_slices}' is unknown; use {', '.join(SLICE_CHOICES)}")
        if not 0 <= self.pair_share <= 1:
            raise InputError(f"pair_share must lie between 0 and 1, not at {self.pair_share}")
        if self.crop < 64 or self.crop % MULTIPLE:
            raise InputError(f"crop must be a multiple of {MULTIPLE} pixels from 64 on, not {self.crop}")
        if self.l1 <= 0 or self.adversarial < 0:
            raise InputError("the weight l1 must be above 0, and adversarial at least 0")
        if not self.lowest_hu < self.highest_hu:
            raise InputError("lowest_hu must be lower than highest_hu")

    @property
    def window(self) -> tuple[float, float]:
        return self.lowest_hu, self.highest_hu


@dataclasses.dataclass(frozen=True, eq=False)
class Stack:
    """Neighbouring slices of one scan with several kernels.

    scans: (kernel, slice, y, x) in HU. kernels: their names. wanted: of them, the numbers of those that can be wanted.
    pixel_mm: width of a pixel.
    learnt, judged: the slices to learn from, and those for validation.
    """

    scans: np.ndarray
    kernels: tuple[str, ...]
    wanted: tuple[int, ...]
    pixel_mm: float
    learnt: np.ndarray
    judged: np.ndarray

    def with_neighbours(self, kernel: int, at: int) -> np.ndarray:
        """A slice between its neighbours (3, y, x), float32; the outermost slices are their own."""
        around = np.clip([at - 1, at, at + 1], 0, self.scans.shape[1] - 1)
        return self.scans[kernel, around].astype(np.float32)


def read_pair(text: str, chosen: str) -> tuple[tuple[str, ...], np.ndarray, float, np.ndarray]:
    """Kernels, slices (kernel, slice, y, x) in HU, pixel width in mm and the chosen slices of a line of `pairs`.

    Raises InputError where a file is missing, or the images do not lie on one grid.
    """
    named = [entry.partition("=")[::2] for entry in text.split(",")]
    kernels = tuple(kernel.strip() for kernel, _ in named)
    if len(set(kernels)) < 2 or not all(file.strip() for _, file in named):
        raise InputError(f"the pair '{text}' cannot be read; write it as SOFT=soft.nii.gz, BONE=bone.nii.gz")
    volumes = [read_volume(file.strip()) for _, file in named]
    for (_, file), volume in zip(named, volumes, strict=True):
        if not images.same_grid(volume, volumes[0]):
            raise InputError(f"'{file.strip()}' does not lie on the grid of '{named[0][1].strip()}'; resample it")
    scans = np.stack([images.to_array(volume) for volume in volumes])
    usable = np.arange(scans.shape[1])
    if chosen != "all":
        usable = usable[usable % 2 == (chosen == "odd")]
    return kernels, scans, float(volumes[0].GetSpacing()[0]), usable


class KernelTranslation(System, abc.ABC):
    """Base of the trainings of networks that show a slice as another kernel would have.

    sites: kernels that can be wanted, the simulated ones first. learnt, pairs: stacks to learn from, simulated
    and real. judged: those for validation; where all is learnt from real pairs, only they are.
    """

    def __init__(self, settings: KernelSettings, progress: Progress = silent):
        super().__init__()
        self.settings = settings
        simulated = tuple(KERNELS)
        pairs = [read_pair(text, settings.pair_slices) for text in settings.pairs]
        known = tuple(dict.fromkeys([*simulated, *(kernel for pair in pairs for kernel in pair[0])]))
        unknown = set(settings.targets) - set(known)
        if unknown:
            raise InputError(f"no scan has the kernel '{min(unknown)}' of targets; there are: {', '.join(known)}")
        self.sites = settings.targets or known

        def wanted(kernels: Sequence[str]) -> tuple[int, ...]:
            return tuple(at for at, kernel in enumerate(kernels) if kernel in self.sites)

        def stacks(name: str, cases: int, seed: int) -> list[Stack]:
            if not wanted(simulated):
                return []
            recipe = KernelRecipe(cases, seed, spacing_mm=SPACING_MM)
            drawn = draw_kernel_pairs(Path(settings.slices) / name, recipe, settings.workers, progress)
            found = []
            for number in range(cases):
                scans, pixel_mm = drawn.scans(number), drawn.spacing_mm(number)
                slices = np.arange(scans.shape[1])
                learnt, middle = slices[: None if name == "train" else 0], slices[len(slices) // 2 :][:1]
                found.append(Stack(scans, simulated, wanted(simulated), pixel_mm, learnt, middle))
            return found

        self.pairs = []
        for text, (kernels, scans, pixel_mm, usable) in zip(settings.pairs, pairs, strict=True):
            if not wanted(kernels):
                raise InputError(f"the pair '{text}' has none of the targets {', '.join(self.sites)}; leave it out")
            judged = np.isin(np.arange(len(usable)) % HELD_OUT, HELD_OUT // 2)
            self.pairs.append(Stack(scans, kernels, wanted(kernels), pixel_mm, usable[~judged], usable[judged]))
        self.learnt = stacks("train", settings.cases, settings.cases_seed)
        held_out = stacks("validation", settings.validation_cases, settings.cases_seed + 1001)
        self.pair_share = settings.pair_share if self.pairs and self.learnt else float(bool(self.pairs))
        self.judged = [*(held_out if self.pair_share < 1 else []), *self.pairs]

    @abc.abstractmethod
    def translated(self, slices: Tensor, code: Tensor) -> Tensor:
        """Slices between their neighbours (batch, 3, y, x) in HU as kernels (see `kernel_code`) show them (.., 1, ..).

        In the window of the settings, to which the slices are clipped.
        """

    def begin_from(self, part: str, system: str) -> None:
        """Take over the network `part` of the model in `settings.start`; kernels that it does not know begin anew."""
        card, weights = load_model(self.settings.start, system)
        network, state = getattr(self, part), {}
        own = network.state_dict()
        here = [at for at, name in enumerate(self.sites) if name in card.sites]
        there = [card.sites.index(self.sites[at]) for at in here]
        try:
            for name, array in ((n.removeprefix(f"{part}."), a) for n, a in weights.items() if n.startswith(part)):
                state[name] = torch.from_numpy(array.copy())
                if array.shape[:-1] == (len(card.sites) + 1,):  # a row for each kernel, and one for the pixels
                    rows = own[name].clone()
                    rows[[*here, -1]] = state[name][[*there, -1]]
                    state[name] = rows
            network.load_state_dict(state)
        except (KeyError, RuntimeError) as error:
            raise InputError(
                f"the model '{self.settings.start}' is of another network ({error}); give one of the same width"
            ) from error

    def rate(self, step: int, steps: int) -> float:
        """Held for the first half of the training, then led to zero in a line (Isola et al. 2017, section 6.2)."""
        return min(1.0, 2 * (1 - step / steps))

    def batch(self, size: int, rng: np.random.Generator) -> dict[str, Tensor]:
        """As `squares`, of random stacks: real pairs as often as the settings say, and all stacks of a kind alike."""
        kinds = [self.pairs if rng.random() < self.pair_share else self.learnt for _ in range(size)]
        return self.squares([stacks[rng.integers(len(stacks))] for stacks in kinds], rng)

    def squares(self, stacks: Sequence[Stack], rng: np.random.Generator, judged: bool = False) -> dict[str, Tensor]:
        """A random square of each stack by two random kernels: source (batch, 3, y, x), between its neighbours, and
        target (batch, 1, y, x), in HU; code of the target's kernel.

        They are mirrored and turned by right angles. judged: of the slices for validation.
        """
        found: dict[str, list] = {"source": [], "target": [], "kernel": [], "pixel_mm": []}
        for stack in stacks:
            at = int(rng.choice(stack.judged if judged else stack.learnt))
            target, others = stack.wanted[rng.integers(len(stack.wanted))], len(stack.kernels) - 1
            source = target
            if rng.random() >= IDENTICAL:
                source = (target + 1 + int(rng.integers(others))) % len(stack.kernels)
            square = (slice(None), *self._square(stack.scans[target, at], rng))
            seen, wanted = stack.with_neighbours(source, at)[square], stack.scans[target, at][None][square]
            turned = np.rot90(np.concatenate([seen, wanted.astype(np.float32)]), int(rng.integers(4)), (1, 2))
            turned = turned[:, ::-1] if rng.random() < 0.5 else turned
            found["source"].append(turned[:3])
            found["target"].append(turned[3:])
            found["kernel"].append(self.sites.index(stack.kernels[target]))
            found["pixel_mm"].append(stack.pixel_mm)
        return {
            "source": torch.from_numpy(np.stack(found["source"])),
            "target": torch.from_numpy(np.stack(found["target"])),
            "code": kernel_code(torch.tensor(found["kernel"]), len(self.sites), torch.tensor(found["pixel_mm"])),
        }

    def _square(self, image: np.ndarray, rng: np.random.Generator) -> tuple[slice, slice]:
        """A random square of a slice (y, x); drawn again where nearly all of it is air."""
        side = self.settings.crop
        for _ in range(4):
            rows, columns = (slice(n, n + side) for n in (int(rng.integers(n - side + 1)) for n in image.shape))
            if np.mean(image[rows, columns] < AIR_HU) < MOST_AIR:
                break
        return rows, columns

    def validate(self) -> dict[str, float]:
        """Whole slices of `judged`, from every kernel to every other, held against the true reconstruction.

        score: mean absolute error in HU where there is more than air, as a share of what it was before, mean over all
        directions. mae_hu: the error itself; psnr_db: of the window's width. Then the error of each direction.
        """
        errors: dict[str, list[tuple[float, float]]] = {}
        psnr: list[float] = []
        low, high = self.settings.window
        device = next(self.parameters()).device
        for stack, at in ((one, at) for one in self.judged for at in one.judged):
            even = tuple(slice(n // MULTIPLE * MULTIPLE) for n in stack.scans.shape[2:])
            truths = np.clip(stack.scans[:, at][:, *even], low, high).astype(np.float32)
            for target, source in itertools.product(stack.wanted, range(len(stack.kernels))):
                if source == target:
                    continue
                wanted, pixel_mm = self.sites.index(stack.kernels[target]), torch.tensor([stack.pixel_mm])
                code = kernel_code(torch.tensor([wanted]), len(self.sites), pixel_mm).to(device)
                seen = torch.from_numpy(stack.with_neighbours(source, at)[:, *even])[None].to(device)
                result = self.translated(seen, code)[0, 0].float().cpu().numpy()
                inside = truths[target] > AIR_HU
                name = f"{stack.kernels[source]} to {stack.kernels[target]}"
                both = (float(np.abs(x - truths[target])[inside].mean()) for x in (truths[source], result))
                errors.setdefault(name, []).append(tuple(both))
                psnr.append(psnr_db(truths[target][None], result[None], high - low, inside[None]))
        means = {name: np.mean(values, axis=0).tolist() for name, values in errors.items()}
        return {
            "score": float(np.mean([error / before for before, error in means.values()])),
            "mae_hu": float(np.mean([error for _, error in means.values()])),
            "psnr_db": float(np.mean(psnr)),
            **{f"{name} before": before for name, (before, _) in means.items()},
            **{name: error for name, (_, error) in means.items()},
        }

    def model_card(self, system: str, title: str, figures: Mapping[str, object]) -> ModelCard:
        """The card of what was trained. title: what a user calls the network."""
        settings = self.settings
        data = []
        if self.pair_share < 1:
            data.append(
                {
                    "name": f"{settings.cases} simulated stacks of slices, each with the kernels {', '.join(KERNELS)}",
                    "source": "HarmonizeExtension.phantoms.ct_slices, scanned by HarmonizeExtension.physics.ct_scan",
                    "licence": "Apache-2.0",
                    "subjects": settings.cases,
                }
            )
        for text, pair in zip(settings.pairs, self.pairs, strict=True):
            names = ", ".join(f"{k} ({Path(f.strip()).name})" for k, f in (e.split("=", 1) for e in text.split(",")))
            data.append(
                {
                    "name": f"a scan reconstructed with {names}; {len(pair.learnt)} slices, of its "
                    f"{settings.pair_slices} ones",
                    "source": settings.pair_source,
                    "licence": settings.pair_licence,
                    "subjects": 1,
                }
            )
        widths = [stack.pixel_mm for stack in (*(self.learnt if self.pair_share < 1 else ()), *self.pairs)]
        return ModelCard(
            system=system,
            title=f"{title}, CT kernels",
            sites=self.sites,
            preprocessing={"window_hu": list(settings.window), "neighbours": 1, "pixel_mm": [min(widths), max(widths)]},
            training_data=tuple(data),
            figures=figures,
        )
