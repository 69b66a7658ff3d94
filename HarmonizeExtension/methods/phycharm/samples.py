"""Simulated brains on every scanner with their true maps, drawn once into a folder, for the training of PhyCHarm.

folder/
    index.json        the settings
    00000.scans.npy   (scanner, slice, y, x) of the first person, uint16: ONE is white matter; 0 outside the brain
    00000.truth.npy   (2, slice, y, x), float16: T1 in seconds at 3 T, and M0 relative to water; 0 outside the brain
    00000.brain.npy   (slice, y, x), bool
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np

from ...errors import InputError
from ...phantoms.lesions import Disease
from ...phantoms.person import Person
from ...phantoms.scanners import SCANNERS
from ...phantoms.training_pairs import paired_slices
from ...progress import Progress, silent
from ...training.drawn import array_path, draw_missing, save_array
from .first_guess import FIELD_TESLA, white_matter_level

ONE = 16384  # stored value of white matter; four times that still fits
SIDE_MM = 192.0


@dataclasses.dataclass(frozen=True)
class Sampling:
    """What is drawn: each of the people on every one of the scanners.

    every: of the slices 1 `spacing_mm` apart, each `every`th is kept. ill: share of the people with a lesion.
    """

    people: int
    seed: int
    scanners: tuple[str, ...]
    every: int = 2
    spacing_mm: float = 1.5
    ill: float = 0.25

    def __post_init__(self):
        unknown = [name for name in self.scanners if name not in SCANNERS]
        if unknown or not self.scanners:
            raise InputError(f"there is no scanner {', '.join(unknown) or 'given'}; there are: {', '.join(SCANNERS)}")
        if not any(SCANNERS[name].field_strength_tesla == FIELD_TESLA for name in self.scanners):
            raise InputError(f"one scanner of {FIELD_TESLA:g} T is needed, since the maps are those of that field")
        if self.people < 1 or self.every < 1:
            raise InputError("at least one person and every slice or every so many must be drawn")


@dataclasses.dataclass(frozen=True)
class Samples:
    """Drawn slices; arrays are read as they are asked for."""

    folder: Path
    sampling: Sampling

    def scans(self, number: int) -> np.ndarray:
        """Scans of a person (scanner, slice, y, x), uint16, where ONE is white matter; read from disk in parts."""
        return np.load(array_path(self.folder, number, "scans"), mmap_mode="r")

    def truth(self, number: int) -> np.ndarray:
        """T1 in seconds at 3 T, and M0, of a person (2, slice, y, x), float16; read from disk in parts."""
        return np.load(array_path(self.folder, number, "truth"), mmap_mode="r")

    def brain(self, number: int) -> np.ndarray:
        """Where the brain of a person is (slice, y, x), bool; read from disk in parts."""
        return np.load(array_path(self.folder, number, "brain"), mmap_mode="r")


def draw_samples(folder: Path | str, sampling: Sampling, workers: int = 2, progress: Progress = silent) -> Samples:
    """Draw what is missing in the folder, and open it. The same settings give the same bytes.

    Raises InputError where the folder holds slices of other settings.
    """
    # The scans are written last, so that a person who has them is whole.
    return Samples(draw_missing(folder, sampling, sampling.people, _draw, workers, progress, last="scans"), sampling)


def _draw(folder: Path, sampling: Sampling, number: int) -> None:
    person_seed, session_seed = np.random.SeedSequence([sampling.seed, number]).spawn(2)
    rng = np.random.default_rng(person_seed)
    illnesses = [disease for disease in Disease if disease is not Disease.NONE]
    disease = illnesses[rng.integers(len(illnesses))] if rng.random() < sampling.ill else Disease.NONE
    person = Person.draw(rng, f"person {number}", disease)
    scanners = [SCANNERS[name] for name in sampling.scanners]
    session = np.random.default_rng(session_seed)
    drawn = paired_slices(person, scanners, session, sampling.spacing_mm, field_mm=(SIDE_MM, SIDE_MM))
    brain, kept = drawn.structures["brain"], slice(sampling.every // 2, None, sampling.every)
    scans = []
    for scan in drawn.scans.astype(np.float32):
        level = white_matter_level(scan, brain, person.name)
        scans.append(np.rint(np.clip(scan * brain * (ONE / level), 0, 65535))[kept].astype(np.uint16))
    maps = drawn.maps[FIELD_TESLA]
    truth = np.stack([maps.t1_ms / 1000, maps.proton_density]) * brain
    save_array(array_path(folder, number, "brain"), brain[kept])
    save_array(array_path(folder, number, "truth"), truth[:, kept].astype(np.float16))
    save_array(array_path(folder, number, "scans"), np.stack(scans))
