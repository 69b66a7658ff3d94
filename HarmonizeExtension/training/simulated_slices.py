"""Axial slices of simulated people, drawn once into a folder, from which networks that need MR slices are trained.

    folder/
        index.json      the settings, and who was scanned by whom
        00000.npy       (scanner, slice, y, x) of the first person, uint16: ONE is the scan's own robust maximum
        00000.brain.npy (slice, y, x), bool

For training every person is scanned by one scanner, so that nothing is paired (Fatania et al. 2022, section 2.3); for
validation by all, so that the truth is known.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from ..body import body_mask
from ..errors import InputError
from ..networks.intensity import body_level
from ..phantoms.lesions import Disease
from ..phantoms.person import Person
from ..phantoms.scanners import SCANNERS
from ..phantoms.training_pairs import paired_slices
from ..progress import Progress, silent
from ..scan import Modality, Scan
from .drawn import array_path, draw_missing, save_array

BRAIN = "brain"
ONE = 16384  # stored value of the robust maximum; four times that still fits
FIELD_MM = (224.0, 192.0)
CUT_MM = (224.0, 176.0)  # y, x; the sides of the field are air


@dataclasses.dataclass(frozen=True)
class Recipe:
    """What is drawn.

    people, seed: how many, and whom. scanners: names. paired: every person on every scanner, else on one in turn.
    every: of the slices 1 `spacing_mm` apart, each `every`th is kept. ill: share of the people with a lesion.
    """

    people: int
    seed: int
    scanners: tuple[str, ...]
    paired: bool
    every: int = 3
    spacing_mm: float = 1.0
    ill: float = 0.2

    def __post_init__(self):
        unknown = [name for name in self.scanners if name not in SCANNERS]
        if unknown or not self.scanners:
            raise InputError(f"there is no scanner {', '.join(unknown) or 'given'}; there are: {', '.join(SCANNERS)}")
        if self.people < 1 or self.every < 1:
            raise InputError("at least one person and every slice or every so many must be drawn")

    def scanners_of(self, number: int) -> tuple[str, ...]:
        """By whom a person is scanned."""
        return self.scanners if self.paired else (self.scanners[number % len(self.scanners)],)


def draw_slices(folder: Path | str, recipe: Recipe, workers: int = 2, progress: Progress = silent) -> Slices:
    """Draw what is missing in the folder, and open it. The same recipe gives the same bytes.

    Raises InputError where the folder holds slices of another recipe.
    """
    return Slices(draw_missing(folder, recipe, recipe.people, _draw, workers, progress), recipe)


def _draw(folder: Path, recipe: Recipe, number: int) -> None:
    person_seed, session_seed = np.random.SeedSequence([recipe.seed, number]).spawn(2)
    rng = np.random.default_rng(person_seed)
    illnesses = [disease for disease in Disease if disease is not Disease.NONE]
    disease = illnesses[rng.integers(len(illnesses))] if rng.random() < recipe.ill else Disease.NONE
    person = Person.draw(rng, f"person {number}", disease)
    scanners = [SCANNERS[name] for name in recipe.scanners_of(number)]
    drawn = paired_slices(person, scanners, np.random.default_rng(session_seed), recipe.spacing_mm, field_mm=FIELD_MM)
    stored = []
    for scan in drawn.scans.astype(np.float32):
        image = sitk.GetImageFromArray(scan)
        image.SetSpacing((recipe.spacing_mm,) * 3)
        level = body_level(scan, body_mask(Scan(image, Modality.MR)))
        stored.append(np.rint(np.clip(scan * (ONE / level), 0, 65535)).astype(np.uint16))
    kept = (slice(recipe.every // 2, None, recipe.every), *_cut(drawn.scans.shape[2:], recipe.spacing_mm))
    save_array(array_path(folder, number, BRAIN), drawn.structures["brain"][kept])
    save_array(array_path(folder, number), np.stack(stored)[(slice(None), *kept)])


def _cut(shape: Sequence[int], spacing_mm: float) -> tuple[slice, ...]:
    """The middle (y, x), in multiples of 4 as the networks need."""
    lengths = [int(mm / spacing_mm) // 4 * 4 for mm in CUT_MM]
    return tuple(slice((n - length) // 2, (n - length) // 2 + length) for n, length in zip(shape, lengths, strict=True))


@dataclasses.dataclass(frozen=True)
class Slices:
    """Drawn slices; arrays are read as they are asked for."""

    folder: Path
    recipe: Recipe

    def scans(self, number: int) -> np.ndarray:
        """The scans of a person (scanner, slice, y, x), float32 from -1 to 1, as networks see them."""
        stored = np.load(array_path(self.folder, number), mmap_mode="r")
        return as_seen(stored)

    def brain(self, number: int) -> np.ndarray:
        """Where the brain of a person is (slice, y, x), bool."""
        return np.load(array_path(self.folder, number, BRAIN))

    def batch(self, size: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Random slices (batch, 1, y, x), float32 from -1 to 1, and the index of the scanner of each (batch,).

        Scanners are equally likely; then people; then slices.
        """
        images, sites = [], []
        for _ in range(size):
            site = int(rng.integers(len(self.recipe.scanners)))
            scanned = range(site, self.recipe.people, len(self.recipe.scanners)) if not self.recipe.paired else None
            number = int(rng.choice(scanned) if scanned else rng.integers(self.recipe.people))
            stored = np.load(array_path(self.folder, number), mmap_mode="r")
            images.append(as_seen(stored[site if self.recipe.paired else 0, rng.integers(stored.shape[1])]))
            sites.append(site)
        return np.stack(images)[:, None], np.array(sites)


def as_seen(stored: np.ndarray) -> np.ndarray:
    """Stored values as a network sees them: float32 from -1 to 1."""
    return np.minimum(stored * np.float32(2 / ONE), 2) - np.float32(1)
