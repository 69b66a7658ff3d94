"""The MRI benchmark: people never trained on, on six simulated scanners, under every method, held against the truth.

1. Which share of the texture features tells the scanners apart (Fatania et al., Phys Imaging Radiat Oncol 2022).
2. What harmonizing and going back leaves of the anatomy (dSSIM, the same paper).
3. How near each translation comes to the scan that the target scanner took (as in Lee et al., PhyCHarm, 2025).
4. How near T1 and M0 maps come to the truth, where a model gives them.
5. What becomes of lesions, in other people, and whether any are drawn in healthy ones (`mri_lesions`).
Tissue masks are the true ones on every scanner, so that no segmentation adds a difference of its own to the features.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from .. import images
from ..body import body_mask
from ..errors import InputError
from ..methods.axial_slices import OUTPUT_LEVEL
from ..networks.intensity import body_level
from ..phantoms.anatomy import head_grid
from ..phantoms.maps import property_maps
from ..phantoms.person import body_of
from ..phantoms.scanners import SCANNERS
from ..progress import CancelCheck, Progress, never, silent, stop_if
from ..radiomics.extraction import extract
from ..radiomics.settings import Settings
from ..scan import Scan
from . import mri_tables
from .benchmarks import side_by_side
from .image_quality import dice, nrmse, psnr_db, range_of, ssim, style_change, volume_difference
from .mri_arms import (
    AGAIN,
    AUTO_ENCODERS,
    BRAIN,
    ILL,
    MAPPING,
    UNHARMONIZED,
    Arm,
    Visit,
    arms,
    harmonized,
    maps_of,
    visit,
)
from .mri_lesions import DISEASES, GREY, WHITE, Invented, LesionKept, in_turn, invented, lesions_kept
from .mri_tables import TISSUES
from .results import ProtocolResult

NAME = "mri-benchmark"
TEXTURE = ("glcm", "glrlm", "glszm", "gldm", "ngtdm")
LEAST_PEOPLE = 3  # of each scanner, for a test of distributions
BINS = 256


@dataclasses.dataclass(frozen=True)
class Features:
    """Texture of one tissue in one scan (by the scanner `source`) after an arm. values: (features,)."""

    arm: Arm
    person: int
    source: str
    tissue: str
    values: np.ndarray


@dataclasses.dataclass(frozen=True)
class Likeness:
    """One translation against the scan that the target scanner took; all in the brain.

    data_range: of the truth there, in its own intensities; SSIM, PSNR and NRMSE are with this range.
    dice, volume: of white and grey matter, the volume's difference as a share of the truth's.
    """

    arm: Arm
    person: int
    source: str
    target: str
    ssim: float
    psnr_db: float
    nrmse: float
    data_range: float
    dice: tuple[float, float]
    volume: tuple[float, float]


@dataclasses.dataclass(frozen=True)
class Cycle:
    """What harmonizing and going back does to a scan (dSSIM-h and dSSIM-c, and 1 - SSIM to the auto-encoded scan)."""

    arm: Arm
    person: int
    source: str
    harmonized: float
    cycled: float
    harmonized_direct: float
    cycled_direct: float


@dataclasses.dataclass(frozen=True)
class MapError:
    """Maps of one tissue made from one scan. All are medians over voxels, relative to the truth.

    t1: absolute error; t1_bias: error with its sign; m0: absolute error after the best factor for the brain.
    """

    arm: Arm
    person: int
    source: str
    tissue: str
    t1: float
    t1_bias: float
    m0: float


@dataclasses.dataclass
class Findings:
    """All that was measured. failures: sentences."""

    features: list[Features] = dataclasses.field(default_factory=list)
    likeness: list[Likeness] = dataclasses.field(default_factory=list)
    cycles: list[Cycle] = dataclasses.field(default_factory=list)
    maps: list[MapError] = dataclasses.field(default_factory=list)
    lesions: list[LesionKept] = dataclasses.field(default_factory=list)
    invented: list[Invented] = dataclasses.field(default_factory=list)
    failures: list[str] = dataclasses.field(default_factory=list)

    @classmethod
    def given_up(cls, why: str) -> Findings:
        """Nothing was found, and why."""
        return cls(failures=[why])

    def add(self, other: Findings) -> None:
        """Take in what was found in another person."""
        for field in dataclasses.fields(self):
            getattr(self, field.name).extend(getattr(other, field.name))


def run(
    people: int = 12,
    spacing_mm: float = 1.0,
    models: Path | str | None = None,
    processes: int = 1,
    seed: int = 0,
    progress: Progress = silent,
    cancelled: CancelCheck = never,
) -> ProtocolResult:
    """Run the benchmark with a number of people, each on all six scanners.

    models: folder of model folders; those that ship where None. processes: people at once.
    Raises InputError for numbers that make no sense, ModelError for a damaged model, Cancelled.
    """
    if people < LEAST_PEOPLE or processes < 1 or seed < 0:
        raise InputError(
            f"{people} people, {processes} processes, seed {seed}: use at least {LEAST_PEOPLE} people, 1 process and a "
            "seed of at least 0"
        )
    head_grid(spacing_mm)  # a spacing that makes no sense is refused before anything is made
    compared = arms(models)
    tasks = {f"person {n + 1}": (compared, seed, n, spacing_mm) for n in range(people)}
    found = Findings()
    for one in side_by_side(measure, tasks, processes, Findings.given_up, progress, cancelled):
        found.add(one)
    tables, drawn = mri_tables.of(found, compared, people)
    return ProtocolResult(
        NAME,
        f"MRI harmonization, {people} simulated people on {len(SCANNERS)} scanners, voxels of {spacing_mm:g} mm",
        "protocols of Fatania et al. 2022 and Lee et al. 2025",
        tables,
        drawn,
        (*mri_tables.notes(people), *dict.fromkeys(found.failures)),
    )


def measure(
    compared: Sequence[Arm], seed: int, number: int, spacing_mm: float, progress: Progress, cancelled: CancelCheck
) -> Findings:
    """Everything about one person."""
    progress(0.0, "scanning")
    person = _Person(number, visit(seed, number, spacing_mm), seed, spacing_mm, cancelled)
    ill = visit(seed, number, spacing_mm, ILL, DISEASES[number % len(DISEASES)])
    for done, arm in enumerate(compared):
        progress((1 + done) / (1 + len(compared)), f"{arm.name}{arm.target and f' to {arm.target}'}")
        if arm.name == AGAIN:
            person.hold_again(arm)
            continue
        person.try_arm(arm)
        person.try_lesions(arm, ill)
        if arm.system == MAPPING and arm.target == next(iter(SCANNERS)):  # maps do not depend on the target
            person.try_maps(arm)
    return person.found


class _Person:
    """The scans of one person, and what the arms make of them."""

    def __init__(self, number: int, seen: Visit, seed: int, spacing_mm: float, cancelled: CancelCheck):
        self.number, self.scans, self.again, self.seen = number, seen.scans, seen.again, seen
        self.seed, self.spacing_mm, self.cancelled = seed, spacing_mm, cancelled
        self.found = Findings()
        self.shown: dict[tuple[str, str], Scan] = {}  # by model and scanner: a scan as the model shows it unchanged
        brain = next(iter(self.scans.values())).structures[BRAIN].array
        self.box = images.bounding_box(brain, 4)  # SSIM looks three voxels beyond
        self.brain = brain[self.box]
        structures = next(iter(self.scans.values())).structures
        self.white, self.grey = (structures[name].array[self.box] for name in (WHITE, GREY))
        settings = Settings.load("mr")
        self.texture = dataclasses.replace(settings, feature_classes=dict.fromkeys(TEXTURE, ()))

    def try_arm(self, arm: Arm) -> None:
        """Measure all that an arm makes of the scans; what it cannot harmonize is left out and told."""
        results: dict[str, Scan] = {}
        for source in self.scans:
            try:
                results[source] = self._result(arm, source)
                if arm.system in AUTO_ENCODERS:
                    self._cycle(arm, source, results[source])
            except InputError as error:
                self.found.failures.append(f"left out: {arm.name}, {error}")
                continue
            self._features(arm, source, results[source])
        for source, result in results.items():
            # A method without a target of its own brings all to one scale: there the target's scan is the truth.
            for target in [arm.target] if arm.target else results:
                if source != target:
                    truth = self.scans[target] if arm.target else results[target]
                    self.found.likeness.append(self._likeness(arm, source, target, result, truth))

    def try_lesions(self, arm: Arm, ill: Visit) -> None:
        """Measure what an arm makes of another person's lesions."""
        try:
            self.found.lesions += lesions_kept(arm, self.number, ill, self.seed, self.spacing_mm)
        except InputError as error:
            self.found.failures.append(f"no lesions: {arm.name}, {error}")

    def hold_again(self, arm: Arm) -> None:
        """Another session of the target scanner against the first, counted for every direction to it."""
        one = self._likeness(arm, "", arm.target, self.again[arm.target], self.scans[arm.target])
        others = [source for source in self.scans if source != arm.target]
        self.found.likeness += [dataclasses.replace(one, source=source) for source in others]

    def try_maps(self, arm: Arm) -> None:
        """Hold the maps that a model makes of each scan against the true ones."""
        body = body_of(self.seen.person, self.spacing_mm)
        for source, scan in self.scans.items():
            stop_if(self.cancelled)
            true = property_maps(body, SCANNERS[source].field_strength_tesla)
            true_t1_ms, true_density = true.t1_ms[self.seen.slices], true.proton_density[self.seen.slices]
            try:
                t1_ms, m0 = maps_of(arm, scan)
            except InputError as error:
                self.found.failures.append(f"no maps: {arm.name}, {error}")
                continue
            brain = scan.structures[BRAIN].array & (true_t1_ms > 0) & (m0 > 0)
            m0 = m0 * np.median(true_density[brain] / m0[brain])
            for tissue in TISSUES:
                where = scan.structures[tissue].array & brain
                off = t1_ms[where] / true_t1_ms[where] - 1
                density = np.abs(m0[where] / true_density[where] - 1)
                medians = (float(np.median(values)) for values in (np.abs(off), off, density))
                self.found.maps.append(MapError(arm, self.number, source, tissue, *medians))

    def _result(self, arm: Arm, source: str) -> Scan:
        key = (arm.model, source)
        unchanged = arm.system in AUTO_ENCODERS and source == arm.target
        if unchanged and key in self.shown:
            return self.shown[key]
        result = self._apply(arm, self.scans[source])
        if unchanged:
            self.shown = {old: scan for old, scan in self.shown.items() if old[0] == arm.model} | {key: result}
        return result

    def _apply(self, arm: Arm, scan: Scan) -> Scan:
        stop_if(self.cancelled)
        return harmonized(arm, scan, self.scans.get(arm.target), self.seed, self.spacing_mm)

    def _features(self, arm: Arm, source: str, scan: Scan) -> None:
        table = extract(scan, self.texture, structures=TISSUES)
        for row in table.rows:
            values = np.array([row.values[name] for name in table.features])
            self.found.features.append(Features(arm, self.number, source, row.structure, values))

    def _likeness(self, arm: Arm, source: str, target: str, result: Scan, truth: Scan) -> Likeness:
        true, image = (scan.array[self.box].astype(float) for scan in (truth, result))
        # MR intensities have no unit, and the gain of a session is chance: every arm gets the best gain and offset. The
        # truth goes from 0 to 1 in the brain for all, as SSIM depends on where 0 is.
        low, span = true[self.brain].min(), range_of(true[self.brain])
        true = (true - low) / span
        slope, offset = np.polyfit(image[self.brain], true[self.brain], 1)
        image = slope * image + offset
        if arm.target or arm.name == UNHARMONIZED:
            regions = invented(image, true, self.white, self.grey, truth.spacing_mm)
            self.found.invented.append(Invented(arm, self.number, source, target, len(regions), sum(regions)))
        pairs = list(zip(tissues(true, self.brain), tissues(image, self.brain), strict=True))
        return Likeness(
            arm,
            self.number,
            source,
            target,
            ssim(true, image, 1.0, self.brain),
            psnr_db(true, image, 1.0, self.brain),
            nrmse(true, image, 1.0, self.brain),
            span,
            tuple(dice(a, b) for a, b in pairs),
            tuple(volume_difference(a, b) for a, b in pairs),
        )

    def _cycle(self, arm: Arm, source: str, result: Scan) -> None:
        """From a scanner that the model can show to the arm's target, and back; for each person from another one."""
        if source != in_turn(arm.target, arm.known, self.number):
            return
        scan, back = self.scans[source], dataclasses.replace(arm, target=source)
        body = body_mask(scan)
        seen = scan.array * np.float32(OUTPUT_LEVEL / body_level(scan.array, body))
        shown, cycled = self._result(back, source).array, self._apply(back, result).array
        box = images.bounding_box(body, 4)
        change = style_change(*(array[box] for array in (seen, shown, result.array, cycled)), OUTPUT_LEVEL, body[box])
        self.found.cycles.append(Cycle(arm, self.number, source, **dataclasses.asdict(change)))


def tissues(array: np.ndarray, brain: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """White and grey matter of a T1-weighted brain as masks (z, y, x): three classes of intensity, the third is fluid.

    The two thresholds that leave the least variance within the classes (Otsu, IEEE Trans Syst Man Cybern 9:62, 1979,
    section III). No gain and offset changes the answer; shading does, for every arm alike.
    """
    values = array[brain]
    low, high = np.quantile(values, (0.001, 0.999))
    counts, edges = np.histogram(np.clip(values, low, high), BINS, (low, high))
    weight = np.concatenate([[0], np.cumsum(counts)]).astype(float)
    moment = np.concatenate([[0], np.cumsum(counts * (edges[1:] + edges[:-1]) / 2)])
    first, second = np.triu_indices(BINS - 1, 1)
    first, second = first + 1, second + 1
    between = np.zeros(len(first))
    for start, end in ((0, first), (first, second), (second, BINS)):
        share = weight[end] - weight[start]
        between += (moment[end] - moment[start]) ** 2 / np.maximum(share, 1e-9)
    best = int(np.argmax(between))
    lower, upper = edges[first[best]], edges[second[best]]
    return brain & (array >= upper), brain & (array >= lower) & (array < upper)
