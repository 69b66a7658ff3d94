"""What the MRI benchmark compares: the people, and everything that is done to their scans.

The people are drawn from seed sequences of three words. Those of trainings have two (`simulated_slices`)
and those of cohorts one (`travelling_cohort`), so that nobody here was ever trained on, whatever the seeds are.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy import optimize

from .. import images
from ..files.models import load_model
from ..methods.base import Harmonizer
from ..methods.statistical import HistogramMatching, Nyul, StandardScale, WhiteStripe, ZScore
from ..phantoms.brain import scan_person
from ..phantoms.lesions import Disease
from ..phantoms.person import Person, body_of
from ..phantoms.scanners import SCANNERS
from ..phantoms.training_pairs import LEAST_AREA
from ..scan import Scan
from .trained_models import model_folders, system_of

# Third words of the seeds: people who are measured, who are learnt from, and who have lesions.
SEEN, REFERENCE, ILL = 0x6D7269, 0x726566, 0x696C6C
BELOW_BRAIN_MM = 10.0  # how far scans reach below the brain, as those of brain protocols do
REFERENCE_PEOPLE = 2
BRAIN = "brain"
UNHARMONIZED, ORACLE, AGAIN = "unharmonized", "monotone oracle", "same scanner again"
STANDARDS = {"Z-score": ZScore, "WhiteStripe": WhiteStripe, "Nyul": Nyul}
MATCHING = "histogram matching"
# Learned systems: module and class of the method that reads their models.
SYSTEMS = {
    "harmonae": ("methods.harmonae.harmonizer", "Harmonae"),
    "paired": ("methods.paired.harmonizer", "Paired"),
    "phycharm": ("methods.phycharm.harmonizer", "Phycharm"),
}
AUTO_ENCODERS = ("harmonae", "paired")  # show a scan as its own scanner's, unchanged, and on the same scale
MAPPING = "phycharm"  # by way of T1 and M0 maps, to the protocol of any scanner


@dataclasses.dataclass(frozen=True)
class Arm:
    """One thing that is done to every scan. target: the scanner to look like, "" where the method has none of its own.

    model, system: the folder of a learned model and the method that reads it. known: the scanners it was trained on.
    """

    name: str
    target: str = ""
    model: str = ""
    system: str = ""
    known: tuple[str, ...] = ()


def arms(models: Path | str | None = None) -> list[Arm]:
    """The statistical arms, the oracle, and every learned model in a folder of model folders to each of its scanners.

    models: those that ship where None. Models of systems that do not translate between scanners are passed over.
    Raises InputError for a folder that is not there, ModelError for a damaged model.
    """
    found = [Arm(name) for name in (UNHARMONIZED, *STANDARDS)]
    found += [Arm(name, target) for name in (MATCHING, ORACLE, AGAIN) for target in SCANNERS]
    for folder in model_folders(models):
        system = system_of(folder)
        if system in SYSTEMS:
            card, _ = load_model(folder, system)
            targets = SCANNERS if system == MAPPING else card.sites
            found += [Arm(folder.name, target, str(folder), system, card.sites) for target in targets]
    return found


@dataclasses.dataclass(frozen=True, eq=False)
class Visit:
    """A person, and scans by each scanner, by name; the brain is the reference structure.

    slices: what the scans are of the slices of the whole head. again: of a second session, which differs in noise, gain
    and coil loading, for those who are measured.
    """

    person: Person
    slices: slice
    scans: dict[str, Scan]
    again: dict[str, Scan]


def visit(seed: int, number: int, spacing_mm: float, kind: int = SEEN, disease: Disease = Disease.NONE) -> Visit:
    """A person on every scanner, twice for `SEEN`. The same numbers give the same voxels, others another person."""
    person_seed, *sessions = np.random.SeedSequence([seed, number, kind]).spawn(1 + 2 * len(SCANNERS))
    person = Person.draw(np.random.default_rng(person_seed), f"person {number + 1}", disease)
    slices = _slices_of_brain(body_of(person, spacing_mm).structures[BRAIN], spacing_mm)

    def on_all(seeds: Sequence[np.random.SeedSequence]) -> dict[str, Scan]:
        return {
            name: _cut(scan_person(person, scanner, np.random.default_rng(session), spacing_mm), slices)
            for (name, scanner), session in zip(SCANNERS.items(), seeds, strict=True)
        }

    again = on_all(sessions[len(SCANNERS) :]) if kind == SEEN else {}  # those learnt from stay in memory
    return Visit(person, slices, on_all(sessions[: len(SCANNERS)]), again)


def _slices_of_brain(brain: np.ndarray, spacing_mm: float) -> slice:
    """The slices of a head that a scan of its brain (z, y, x) takes; what is thinner below is spinal cord."""
    area = brain.sum(axis=(1, 2))
    covered = np.flatnonzero(area >= LEAST_AREA * area.max())
    margin = round(BELOW_BRAIN_MM / spacing_mm)
    return slice(max(int(covered[0]) - margin, 0), min(int(covered[-1]) + 1 + margin, len(brain)))


def _cut(scan: Scan, z: slice) -> Scan:
    structures = {name: dataclasses.replace(s, mask=s.mask[:, :, z]) for name, s in scan.structures.items()}
    return dataclasses.replace(scan, image=scan.image[:, :, z], structures=structures).with_roles(reference=BRAIN)


@functools.lru_cache(maxsize=1)
def references(seed: int, spacing_mm: float) -> tuple[Visit, ...]:
    """People whom the statistical methods learn from, each on every scanner."""
    return tuple(visit(seed, number, spacing_mm, REFERENCE) for number in range(REFERENCE_PEOPLE))


@functools.lru_cache(maxsize=64)
def method(arm: Arm, seed: int, spacing_mm: float) -> Harmonizer:
    """The harmonizer of an arm; statistics are learnt from the reference people, inside the brain.

    Histogram matching takes the scan of the first of them by the target scanner; Nyul's scale all their scans.
    """
    if arm.model:
        module, name = SYSTEMS[arm.system]
        chosen = getattr(importlib.import_module(f"..{module}", __package__), name)
        return chosen.for_target(f"{arm.model}#{arm.target}")
    if arm.name == MATCHING:
        return HistogramMatching(references(seed, spacing_mm)[0].scans[arm.target])
    if arm.name == "Nyul":
        return Nyul(StandardScale.fit([scan for one in references(seed, spacing_mm) for scan in one.scans.values()]))
    return STANDARDS[arm.name]()


def monotone_map(image: np.ndarray, truth: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The image (z, y, x), float32, after the rising map of intensity that brings it closest to the truth in the mask.

    No method that changes contrast alone can have a smaller squared error there. For each intensity the mean of the
    truth, made to rise by pooling adjacent violators (Barlow et al., Statistical inference under order restrictions,
    1972); intensities between those of the mask are interpolated, beyond them the map is constant.
    """
    levels, which, count = np.unique(image[mask], return_inverse=True, return_counts=True)
    mean = np.bincount(which.ravel(), truth[mask].astype(float)) / count
    rising = optimize.isotonic_regression(mean, weights=count).x
    return np.interp(image, levels, rising).astype(np.float32)


def harmonized(arm: Arm, scan: Scan, truth: Scan | None, seed: int, spacing_mm: float) -> Scan:
    """What an arm makes of a scan; the oracle alone is given the truth. Raises InputError where it cannot."""
    if arm.name == UNHARMONIZED:
        return scan
    if arm.name == ORACLE:
        return scan.with_array(monotone_map(scan.array, truth.array, scan.structures[BRAIN].array))
    return method(arm, seed, spacing_mm).apply(scan)


def maps_of(arm: Arm, scan: Scan) -> tuple[np.ndarray, np.ndarray]:
    """T1 (ms, at the scan's field strength) and M0 (z, y, x) of the brain, by a model of the system `MAPPING`."""
    from ..methods.phycharm.harmonizer import quantitative_maps

    t1_ms, m0 = quantitative_maps(scan, model=arm.model)
    return images.to_array(t1_ms), images.to_array(m0)


def names(found: Sequence[Arm]) -> tuple[str, ...]:
    """The names of the arms, each once, in order."""
    return tuple(dict.fromkeys(arm.name for arm in found))
