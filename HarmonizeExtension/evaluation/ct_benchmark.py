"""The CT benchmark: scans never trained on, with several kernels, under every method, held against the true kernel.

1. Which share of the features is the same (CCC > 0.85) as with the target kernel, in lung, soft tissue and bone
   (Selim et al. 2021, RadiomicGAN, table 1).
2. How near the images are (table 2 there), how far HU are off, and how like the noise is.
The scans are simulated, or a real one that was reconstructed twice.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..errors import InputError
from ..physics.ct_noise import LOWEST_LP_PER_MM, noise_spectrum, uniform_tissue
from ..progress import CancelCheck, Progress, never, silent, stop_if
from ..radiomics.settings import Settings
from . import ct_tables
from .agreement import HU_STRATA
from .benchmarks import side_by_side
from .ct_arms import (
    DIRECTIONS,
    Arm,
    Case,
    arms,
    body_of,
    counted_scan,
    harmonized,
    real_case,
    shown_as,
    simulated_case,
    usable,
)
from .cubes import features_of_cubes, place_cubes
from .image_quality import HU_WINDOW, psnr_db, ssim
from .results import ProtocolResult

NAME = "ct-benchmark"
LEAST_PEOPLE = 3  # one of each kind
CUBE_MM = (8.0, 8.0, 8.0)  # x, y, z
PAIR_CUBE_MM = (10.8, 10.8, 10.0)  # 24 x 24 pixels and 10 mm of the pair
CUBES, PAIR_CUBES = 8, 30  # of a range of HU, in a case


@dataclasses.dataclass(frozen=True)
class Features:
    """Features of the cubes of one case after an arm. values: (cubes, features); truth: with the target kernel."""

    case: str
    arm: str
    source: str
    target: str
    values: np.ndarray
    truth: np.ndarray
    mean_hu: np.ndarray


@dataclasses.dataclass(frozen=True)
class Likeness:
    """One translation of one case against the target kernel.

    psnr_db, ssim: whole slices, range that of HU_WINDOW. difference_hu, body_difference_hu: mean absolute difference in
    whole slices and in the body. noise: difference of the noise spectra as a share of the true one, NaN where there is
    no uniform tissue. uniform_bias_hu: mean HU in uniform tissue less the true one. bias_hu: the same of each cube
    (cubes,); mean_hu: (cubes,).
    """

    arm: str
    source: str
    target: str
    psnr_db: float
    ssim: float
    difference_hu: float
    body_difference_hu: float
    noise: float
    uniform_bias_hu: float
    bias_hu: np.ndarray
    mean_hu: np.ndarray


@dataclasses.dataclass
class Findings:
    """All that was measured. names: of the features. failures, remarks: sentences."""

    names: tuple[str, ...] = ()
    features: list[Features] = dataclasses.field(default_factory=list)
    likeness: list[Likeness] = dataclasses.field(default_factory=list)
    failures: list[str] = dataclasses.field(default_factory=list)
    remarks: list[str] = dataclasses.field(default_factory=list)

    @classmethod
    def given_up(cls, why: str) -> Findings:
        """Nothing was found, and why."""
        return cls(failures=[why])

    def add(self, other: Findings) -> None:
        """Take in what was found in another case."""
        self.names = self.names or other.names
        for name in ("features", "likeness", "failures", "remarks"):
            getattr(self, name).extend(getattr(other, name))


def run(
    people: int = 12,
    models: Path | str | None = None,
    processes: int = 1,
    seed: int = 0,
    slice_mm: int = 1,
    pair: Sequence[str | Path] | None = None,
    settings: str | Path = "ct",
    progress: Progress = silent,
    cancelled: CancelCheck = never,
) -> ProtocolResult:
    """Run the benchmark with a number of simulated cases (chest, abdomen and phantom in turn), or on a real pair.

    models: folder of model folders; those that ship where None. processes: cases at once. slice_mm: how thick the
        slices of simulated cases are, a whole number.
    pair: two files, reconstructions of one scan on one grid, each with its kernel behind a `#` where the file does not
        say it; their slices 0, 2, 4 and so on are measured. No case is simulated then.
    settings: name or path of radiomics settings ("ct_wavelet_log" for 1,395 features); voxels stay as they are.
    Raises InputError for numbers that make no sense and files that do not fit, ModelError for a damaged model,
    Cancelled.
    """
    if people < LEAST_PEOPLE or min(processes, slice_mm) < 1 or seed < 0:
        raise InputError(
            f"{people} people, {processes} processes, slices of {slice_mm} mm, seed {seed}: use at least "
            f"{LEAST_PEOPLE} people, 1 process, 1 mm and a seed of at least 0"
        )
    measured = Settings.load(settings)
    without_shape = {name: wanted for name, wanted in measured.feature_classes.items() if name != "shape"}
    measured = dataclasses.replace(measured, resampled_spacing_mm=None, feature_classes=without_shape)
    compared = arms(models)
    if pair is not None:
        found = measure(real_case(pair), compared, measured, PAIR_CUBE_MM, PAIR_CUBES, progress, cancelled)
        title = "CT kernels, one real scan reconstructed twice, every second slice"
    else:
        found = _simulated(people, compared, measured, processes, (seed, slice_mm), progress, cancelled)
        title = f"CT kernels, {people} simulated cases never trained on, slices of {slice_mm} mm"
    tables, drawn = ct_tables.of(found, compared)
    notes = (*ct_tables.notes(real=pair is not None), *dict.fromkeys((*found.remarks, *found.failures)))
    return ProtocolResult(NAME, title, "protocol of Selim et al. 2021", tables, drawn, notes)


def _simulated(
    people: int,
    compared: Sequence[Arm],
    settings: Settings,
    processes: int,
    drawn: tuple[int, int],
    progress: Progress,
    cancelled: CancelCheck,
) -> Findings:
    """drawn: seed, and thickness of the slices in mm."""
    tasks = {f"case {n + 1}": (n, drawn, compared, settings) for n in range(people)}
    found = Findings()
    for one in side_by_side(_measure_simulated, tasks, processes, Findings.given_up, progress, cancelled):
        found.add(one)
    return found


def _measure_simulated(
    number: int,
    drawn: tuple[int, int],
    compared: Sequence[Arm],
    settings: Settings,
    progress: Progress,
    cancelled: CancelCheck,
) -> Findings:
    progress(0.0, "scanning")
    seed, slice_mm = drawn
    return measure(simulated_case(seed, number, slice_mm), compared, settings, CUBE_MM, CUBES, progress, cancelled)


def measure(
    case: Case,
    compared: Sequence[Arm],
    settings: Settings,
    cube_mm: tuple[float, float, float],
    most: int,
    progress: Progress,
    cancelled: CancelCheck,
) -> Findings:
    """Everything about one case, in all directions between its kernels that are compared."""
    found = Findings()
    kernels = list(case.scans)
    directions = DIRECTIONS if case.kernels else [tuple(kernels), tuple(kernels[::-1])]
    scans = {name: counted_scan(case, scan) for name, scan in case.scans.items()}
    arrays = {name: scan.array for name, scan in scans.items()}
    # Where to measure is told by the mean of all kernels, so that no direction is favoured.
    mean = np.mean(list(arrays.values()), axis=0)
    some = next(iter(scans.values()))
    body, spacing_mm = body_of(case), some.spacing_mm
    everywhere = np.ones(body.shape, bool)
    cubes = place_cubes(some.with_array(mean), everywhere, cube_mm, HU_STRATA, most)
    mean_hu = np.array([cube.mean_hu for cube in cubes])
    uniform = uniform_tissue(mean, body, spacing_mm)
    truths: dict[str, np.ndarray] = {}
    for kernel in dict.fromkeys(target for _, target in directions):
        found.names, truths[kernel] = features_of_cubes(scans[kernel], cubes, settings, cancelled)
    tasks = [(arm, direction) for arm in compared for direction in directions if usable(arm, case, direction[1])]
    for done, (arm, (source, target)) in enumerate(tasks):
        progress((1 + done) / (1 + len(tasks)), f"{case.name}, {arm.name}: {source} to {target}")
        stop_if(cancelled)
        try:
            if arm.model and (kernel := shown_as(arm, case, target)) != target:
                found.remarks.append(f"{arm.name} does not know {target}; it was asked for {kernel}.")
            result = harmonized(arm, case, source, target)
        except InputError as error:
            found.failures.append(f"left out: {arm.name}, {source} to {target}: {error}")
            continue
        truth = arrays[target]
        _, values = features_of_cubes(counted_scan(case, case.scans[source], result), cubes, settings, cancelled)
        found.features.append(Features(case.name, arm.name, source, target, values, truths[target], mean_hu))
        found.likeness.append(
            Likeness(
                arm.name,
                source,
                target,
                *_quality(truth, result),
                float(np.abs(result - truth).mean()),
                float(np.abs(result - truth)[body].mean()),
                noise_difference(truth, result, uniform, spacing_mm),
                float((result - truth)[uniform].mean()) if uniform.any() else float("nan"),
                np.array([result[cube.box].mean() - truth[cube.box].mean() for cube in cubes]),
                mean_hu,
            )
        )
    return found


def _quality(truth: np.ndarray, result: np.ndarray) -> tuple[float, float]:
    """PSNR in dB and SSIM of whole slices in the window of Selim et al."""
    span = HU_WINDOW[1] - HU_WINDOW[0]
    a, b = np.clip(truth, *HU_WINDOW), np.clip(result, *HU_WINDOW)
    return psnr_db(a, b, span), ssim(a, b, span, per_slice=True)


def noise_difference(truth: np.ndarray, result: np.ndarray, uniform: np.ndarray, spacing_mm) -> float:
    """The area between two noise power spectra as a share of that under the true one; 0 is best.

    uniform: where noise is measured (z, y, x). NaN where that is too little.
    """
    try:
        true, other = (noise_spectrum(array, uniform, spacing_mm) for array in (truth, result))
    except InputError:
        return float("nan")
    use = true.frequency_lp_per_mm > LOWEST_LP_PER_MM
    f = true.frequency_lp_per_mm[use]
    apart = np.abs(true.power - other.power)[use]
    return float(np.trapezoid(apart, f) / np.trapezoid(np.abs(true.power[use]), f))
