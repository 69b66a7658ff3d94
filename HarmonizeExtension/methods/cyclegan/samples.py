"""PET volumes of simulated people and, where given, of real ones, drawn once into a folder: what patches are cut from.

    folder/
        index.json              the settings
        00000.npy               (centre, z, y, x) SUV of the first person, float16
        00000.noiseless.npy     the same without noise, for validation

For training every person is imaged by one centre, so that nothing is paired; for validation by both, so that the truth
is known. Real images are taken for activity; each of them is imaged by both centres, as they are few, and patches are
drawn independently.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ... import images
from ...body import PET_BODY_SUV
from ...errors import InputError
from ...phantoms.pet_body import PetPerson
from ...phantoms.pet_centres import centre, read_real, scan_image, scan_person
from ...progress import Progress, silent
from ...training.drawn import array_path, draw_missing, save_array

NOISELESS = "noiseless"
_TRIES = 50  # for a patch whose middle lies in the body


@dataclasses.dataclass(frozen=True)
class Recipe:
    """What is drawn.

    people, seed: how many simulated people, and whom. centres: two names.
    paired: everybody by both centres, with noise and without.
    spacing_mm: of the cubic voxels that the networks see. real: a folder of PET images in SUV, or "".
    lesions: of each simulated person; with few, hardly a patch shows one.
    """

    people: int
    seed: int
    centres: tuple[str, ...]
    paired: bool
    spacing_mm: float = 3.0
    real: str = ""
    lesions: int = 4

    def __post_init__(self):
        if len(self.centres) != 2 or self.centres[0] == self.centres[1]:
            raise InputError("a CycleGAN translates between two centres; give two")
        for name in self.centres:
            centre(name)
        if self.people < 2 or not self.spacing_mm > 0 or self.lesions < 0:
            raise InputError("at least two people, a spacing above 0 and lesions from 0 on are needed")

    def centres_of(self, number: int) -> tuple[str, ...]:
        """By whom a person, or beyond the people a real image, is imaged."""
        return self.centres if self.paired or number >= self.people else (self.centres[number % 2],)


def draw_volumes(folder: Path | str, recipe: Recipe, workers: int = 1, progress: Progress = silent) -> Volumes:
    """Draw what is missing in the folder, and open it. The same recipe gives the same bytes.

    Raises InputError where the folder holds volumes of another recipe, or that of real images holds none.
    """
    real = len(read_real(recipe.real)) if recipe.real else 0
    last = NOISELESS if recipe.paired else ""
    folder = draw_missing(folder, recipe, recipe.people + real, _draw, workers, progress, last)
    return Volumes(folder, recipe, real)


def _draw(folder: Path, recipe: Recipe, number: int) -> None:
    person_seed, *sessions = np.random.SeedSequence([recipe.seed, number]).spawn(3)
    rngs = {name: np.random.default_rng(seed) for name, seed in zip(recipe.centres, sessions, strict=True)}
    names, calm = recipe.centres_of(number), []
    if number < recipe.people:
        person = PetPerson.draw(np.random.default_rng(person_seed), f"person {number}", recipe.lesions)
        scans = [scan_person(person, name, rngs[name]) for name in names]
        if recipe.paired:
            calm = [scan_person(person, name, rngs[name], noiseless=True) for name in names]
    else:
        image = list(read_real(recipe.real).values())[number - recipe.people]
        scans = [scan_image(image, name, rngs[name]) for name in names]
    grid = images.grid_with_spacing(scans[0].image, (recipe.spacing_mm,) * 3)  # one for both centres
    for kind, shown in (("", scans), (NOISELESS, calm)):
        if shown:
            seen = [images.to_array(images.resample(scan.image, grid)) for scan in shown]
            save_array(array_path(folder, number, kind), np.array(seen, np.float16))


@dataclasses.dataclass(frozen=True)
class Volumes:
    """Drawn volumes; arrays are read as they are asked for. real: how many of them are of real images."""

    folder: Path
    recipe: Recipe
    real: int

    def volume(self, number: int, name: str) -> np.ndarray:
        """A person's scan by a centre (z, y, x), SUV, as float16 on disk."""
        return np.load(array_path(self.folder, number), mmap_mode="r")[self.recipe.centres_of(number).index(name)]

    def patches(self, name: str, shape: Sequence[int], count: int, rng: np.random.Generator) -> np.ndarray:
        """Random patches (count, z, y, x) of a centre's scans, SUV, float32, mostly with their middle in the body."""
        people = [n for n in range(self.recipe.people + self.real) if name in self.recipe.centres_of(n)]
        return np.stack([self._patch(self.volume(int(rng.choice(people)), name), shape, rng) for _ in range(count)])

    def paired_patches(
        self, number: int, shape: Sequence[int], count: int, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """Patches (centre, count, z, y, x) of one person at the same places by both centres, and without noise."""
        shown = [np.load(array_path(self.folder, number, kind), mmap_mode="r") for kind in ("", NOISELESS)]
        # The places are chosen on the first centre's scan.
        places = [_place(shown[0][0], shape, rng) for _ in range(count)]
        seen, calm = (np.stack([volume[:, *place] for place in places], axis=1, dtype=np.float32) for volume in shown)
        return seen, calm

    def _patch(self, volume: np.ndarray, shape: Sequence[int], rng: np.random.Generator) -> np.ndarray:
        patch = np.float32(volume[_place(volume, shape, rng)])
        short = [(0, max(0, wanted - n)) for wanted, n in zip(shape, patch.shape, strict=True)]
        return np.pad(patch, short, mode="reflect")


def _place(volume: np.ndarray, shape: Sequence[int], rng: np.random.Generator) -> tuple[slice, ...]:
    room = [max(n - wanted, 0) for n, wanted in zip(volume.shape, shape, strict=True)]
    for _ in range(_TRIES):
        start = [int(rng.integers(n + 1)) for n in room]
        middle = tuple(min(s + wanted // 2, n - 1) for s, wanted, n in zip(start, shape, volume.shape, strict=True))
        if volume[middle] > PET_BODY_SUV:
            break
    return tuple(slice(s, s + wanted) for s, wanted in zip(start, shape, strict=True))
