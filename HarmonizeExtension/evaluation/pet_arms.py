"""What the PET benchmark compares: people whom both simulated centres imaged, and everything that is done to a scan.

People are drawn from seed sequences of three words; those of trainings have two, so that nobody here was trained on.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from .. import images
from ..methods.cyclegan.harmonizer import Cyclegan
from ..methods.resolution_matching import ResolutionMatching
from ..phantoms.pet_body import TRUNK_MM, PetPerson
from ..phantoms.pet_centres import CENTRES, scan_person
from ..physics.pet_resolution import gaussian_blur
from ..scan import Scan
from .trained_models import model_folders, system_of

# Third words of the seeds: people who are measured, whose outcome is predicted, and who is the reference.
SEEN, OUTCOME, REFERENCE = 0x706574, 0x6F7574, 0x726566
LIVER = "liver"
INPUT, BEST_BY_ERROR, BEST_BY_NOISE = "input", "best Gaussian, error (oracle)", "best Gaussian, noise (oracle)"
MATCHING = "resolution matching"
WIDTHS_MM = tuple(np.arange(0.0, 9.01, 1.0).tolist())
AROUND_LESION_MM = 65.0
LESIONS = {SEEN: 16, OUTCOME: 4, REFERENCE: 4}  # about four of sixteen lie whole in the part that is measured
SYSTEM = Cyclegan.card.name


@dataclasses.dataclass(frozen=True)
class Arm:
    """One thing that is done to every scan. model: the folder of a CycleGAN, "" for the others."""

    name: str
    model: str = ""


def arms(models: Path | str | None = None) -> list[Arm]:
    """Input, Gaussians, resolution matching, and every CycleGAN in a folder of model folders.

    models: those that ship where None. Raises InputError for a folder that is not there, ModelError for a damaged card.
    """
    found = [Arm(name) for name in (INPUT, BEST_BY_ERROR, BEST_BY_NOISE, MATCHING)]
    learned = [folder for folder in model_folders(models) if system_of(folder) == SYSTEM]
    return found + [Arm(folder.name, str(folder)) for folder in learned]


def visit(seed: int, number: int, kind: int = SEEN) -> tuple[PetPerson, dict[str, Scan]]:
    """A person, and the scans by both centres, by name. The same numbers give the same voxels.

    Of the trunk; of those whose outcome is predicted only what lies around the largest lesion.
    """
    person_seed, *sessions = np.random.SeedSequence([seed, number, kind]).spawn(1 + len(CENTRES))
    person = PetPerson.draw(np.random.default_rng(person_seed), f"person {number + 1}", LESIONS[kind])
    field = TRUNK_MM
    if kind == OUTCOME:
        centre = person.lesions[largest_lesion(person)].centre_mm
        field = tuple((c - AROUND_LESION_MM, c + AROUND_LESION_MM) for c in centre)
    scans = {
        name: scan_person(person, name, np.random.default_rng(session), field)
        for name, session in zip(CENTRES, sessions, strict=True)
    }
    return person, scans


def largest_lesion(person: PetPerson) -> int:
    """The index of the person's largest lesion."""
    return int(np.argmax([lesion.radius_mm for lesion in person.lesions]))


@functools.lru_cache(maxsize=1)
def reference(seed: int) -> dict[str, Scan]:
    """The scans that resolution matching takes as its targets."""
    scans = visit(seed, 0, REFERENCE)[1]
    return {name: scan.with_roles(reference=LIVER) for name, scan in scans.items()}


@functools.lru_cache(maxsize=8)
def _network(model: str, target: str) -> Cyclegan:
    return Cyclegan(target, model)


def harmonized(arm: Arm, scan: Scan, target: str, truth: np.ndarray, body: np.ndarray, uniform, seed: int) -> Scan:
    """What an arm makes of a scan. Raises InputError where it cannot.

    truth: the target's own scan on the grid of this one (z, y, x); uniform: the mask in which noise is compared. Only
    the oracles are given them: their Gaussian is the one that comes nearest to the truth, in this very scan.
    """
    if arm.name == INPUT:
        return scan
    if arm.name == MATCHING:
        return ResolutionMatching(reference(seed)[target]).apply(scan)
    if arm.model:
        return _network(arm.model, target).apply(scan)
    blurred = best_gaussian(scan.array, truth, scan.spacing_mm, body, uniform, by_noise=arm.name == BEST_BY_NOISE)
    return scan.with_array(blurred)


def best_gaussian(
    array: np.ndarray,
    truth: np.ndarray,
    spacing_mm: Sequence[float],
    body: np.ndarray,
    uniform: np.ndarray,
    by_noise: bool,
) -> np.ndarray:
    """The array blurred by the one of WIDTHS_MM that comes nearest to the truth; all (z, y, x).

    Nearest by the squared error in the body, or by the coefficient of variation in the mask `uniform`.
    """

    def away(blurred: np.ndarray) -> float:
        if by_noise:
            covs = [float(a[uniform].std() / a[uniform].mean()) for a in (blurred, truth)]
            return abs(covs[0] - covs[1])
        return float(np.mean((blurred - truth)[body] ** 2))

    best, least = array, np.inf
    for width in WIDTHS_MM:
        blurred = gaussian_blur(array, (width,) * 3, tuple(spacing_mm))
        error = away(blurred)
        if error < least:
            best, least = blurred, error
    return best


def on_grid_of(scan: Scan, other: Scan) -> np.ndarray:
    """The intensities of a scan on the grid of another (z, y, x), by cubic splines."""
    return images.to_array(images.resample(scan.image, other.image, sitk.sitkBSpline))
