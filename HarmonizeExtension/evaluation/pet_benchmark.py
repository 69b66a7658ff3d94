"""The PET benchmark: people never trained on, imaged by two simulated centres, under every method, against the truth.

The protocols of Haberl et al., EJNMMI 2024: how far the distributions of features in a sphere in the liver overlap, the
coefficient of variation there, how alike organs stay, and whether an outcome is predicted better. Since both centres
imaged everybody, it is also known what each lesion's SUV should have become.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from .. import images
from ..body import body_mask
from ..errors import InputError
from ..phantoms.pet_centres import CENTRES
from ..progress import CancelCheck, Progress, never, part, silent, stop_if
from ..radiomics.extraction import extract
from ..radiomics.settings import Settings
from ..scan import Scan, Structure
from . import pet_pair, pet_tables
from .benchmarks import side_by_side
from .image_quality import ssim
from .pet_arms import LIVER, OUTCOME, Arm, arms, harmonized, largest_lesion, on_grid_of, visit
from .pet_tables import LARGEST, SPHERE
from .results import ProtocolResult
from .uniformity import RADIUS_MM, liver_noise

NAME = "pet-benchmark"
LEAST_PEOPLE = 5
OUTCOME_PEOPLE = 5  # for each of those who are measured
ORGANS = ("kidney left", "kidney right", "liver", "lung left", "lung right", "spleen")
SSIM_RANGE_SUV = 10.0


@dataclasses.dataclass(frozen=True)
class Features:
    """Of one region in one scan after an arm, from a centre towards another. values: (features,)."""

    arm: str
    person: int
    source: str
    target: str
    region: str
    values: np.ndarray


@dataclasses.dataclass(frozen=True)
class Noise:
    """Coefficient of variation in the sphere in the liver: after the arm, and in the target's own scan."""

    arm: str
    person: int
    source: str
    target: str
    cov: float
    truth: float


@dataclasses.dataclass(frozen=True)
class Likeness:
    """SSIM of an organ after an arm: to the scan itself, and to the target's own scan of the person."""

    arm: str
    source: str
    target: str
    organ: str
    to_itself: float
    to_truth: float


@dataclasses.dataclass(frozen=True)
class LesionError:
    """Relative error of a lesion's SUVmean and SUVmax against the target's own scan. radius_mm: of the lesion."""

    arm: str
    source: str
    target: str
    radius_mm: float
    mean: float
    maximum: float


@dataclasses.dataclass
class Findings:
    """All that was measured. uptake: of the largest lesion of each person whose outcome is predicted, with the number.

    failures: sentences.
    """

    features: list[Features] = dataclasses.field(default_factory=list)
    noise: list[Noise] = dataclasses.field(default_factory=list)
    likeness: list[Likeness] = dataclasses.field(default_factory=list)
    lesions: list[LesionError] = dataclasses.field(default_factory=list)
    uptake: list[tuple[int, float]] = dataclasses.field(default_factory=list)
    names: list[str] = dataclasses.field(default_factory=list)  # of the features
    failures: list[str] = dataclasses.field(default_factory=list)

    @classmethod
    def given_up(cls, why: str) -> Findings:
        """Nothing was found, and why."""
        return cls(failures=[why])

    def add(self, other: Findings) -> None:
        """Take in what was found in another person."""
        for field in dataclasses.fields(self):
            if field.name != "names":
                getattr(self, field.name).extend(getattr(other, field.name))
        self.names = self.names or other.names


def run(
    people: int = 12,
    models: Path | str | None = None,
    processes: int = 1,
    pair: tuple[Path | str, Path | str] | None = None,
    seed: int = 0,
    progress: Progress = silent,
    cancelled: CancelCheck = never,
) -> ProtocolResult:
    """Run the benchmark with a number of simulated people, or on a pair of reconstructions of one NEMA phantom.

    models: folder of model folders; those that ship where None. processes: people at once. pair: two volumes on one
    grid, noisy and smooth; then the phantom is judged and no people.
    Raises InputError for numbers that make no sense, ModelError for a damaged model, Cancelled.
    """
    compared = arms(models)
    if pair is not None:
        return pet_pair.run(pair, compared, progress, cancelled)
    if people < LEAST_PEOPLE or processes < 1 or seed < 0:
        raise InputError(
            f"{people} people, {processes} processes, seed {seed}: use at least {LEAST_PEOPLE} people, 1 process and a "
            "seed of at least 0"
        )
    found = Findings()
    for measured, count, report in (
        (measure, people, part(progress, 0.0, 0.8)),
        (measure_outcome, OUTCOME_PEOPLE * people, part(progress, 0.8, 1.0)),
    ):
        tasks = {f"person {n + 1}": (compared, seed, n) for n in range(count)}
        for one in side_by_side(measured, tasks, processes, Findings.given_up, report, cancelled):
            found.add(one)
    tables, drawn, notes = pet_tables.of(found, seed)
    return ProtocolResult(
        NAME,
        f"PET harmonization, {people} simulated people, imaged by {' and '.join(CENTRES)}",
        "protocols of Haberl et al. 2024",
        tables,
        drawn,
        (*notes, *dict.fromkeys(found.failures)),
    )


def measure(compared: Sequence[Arm], seed: int, number: int, progress: Progress, cancelled: CancelCheck) -> Findings:
    """Everything about one person, in both directions."""
    progress(0.0, "imaging")
    person, scans = visit(seed, number)
    found = Findings()
    radii = {f"lesion {n}": lesion.radius_mm for n, lesion in enumerate(person.lesions, start=1)}
    settings = _without_shape(Settings.load("pet"))
    for done, source in enumerate(CENTRES):
        (target,) = (name for name in CENTRES if name != source)
        scan, own = scans[source], scans[target]
        body, truth = body_mask(scan), on_grid_of(own, scan)
        sphere = _sphere(scan)
        true_cov = _cov(truth, sphere)
        found.names, values = _features(own, _sphere(own), settings)
        found.features.append(Features("", number, target, target, SPHERE, values))
        for step, arm in enumerate(compared):
            stop_if(cancelled)
            progress((done + step / len(compared)) / 2, f"{arm.name} to {target}")
            key = (arm.name, source, target)
            try:
                result = harmonized(arm, scan, target, truth, body, sphere, seed)
            except InputError as error:
                found.failures.append(f"left out: {arm.name} from {source} to {target}: {str(error).split(';')[-1]}")
                continue
            array = result.array
            _, values = _features(result, sphere, settings)
            found.features.append(Features(*key[:1], number, *key[1:], SPHERE, values))
            found.noise.append(Noise(arm.name, number, source, target, _cov(array, sphere), true_cov))
            for organ in ORGANS:
                if organ in scan.structures:
                    mask = scan.structures[organ].array
                    alike = (ssim(image, array, SSIM_RANGE_SUV, mask) for image in (scan.array, truth))
                    found.likeness.append(Likeness(*key, organ, *alike))
            for name, radius in radii.items():
                if name in scan.structures and _is_whole(scan.structures[name].array):
                    mask = scan.structures[name].array
                    mean, maximum = (float(f(array[mask]) / f(truth[mask])) - 1 for f in (np.mean, np.max))
                    found.lesions.append(LesionError(*key, radius, mean, maximum))
    return found


def measure_outcome(
    compared: Sequence[Arm], seed: int, number: int, progress: Progress, cancelled: CancelCheck
) -> Findings:
    """The largest lesion of a person whom one centre imaged, the centres taking turns, towards the other centre."""
    person, scans = visit(seed, number, OUTCOME)
    source, target = (list(CENTRES)[(number + k) % 2] for k in (0, 1))
    largest = largest_lesion(person)
    scan, settings = scans[source], _without_shape(Settings.load("pet"))
    mask = scan.structures[f"lesion {largest + 1}"].array
    found = Findings(uptake=[(number, person.lesions[largest].suv)])
    found.names, values = _features(scan, mask, settings)
    found.features.append(Features("", number, source, source, LARGEST, values))
    truth = on_grid_of(scans[target], scan)
    for arm in compared:
        stop_if(cancelled)
        progress(0.5, f"{arm.name} to {target}")
        try:
            result = harmonized(arm, scan, target, truth, np.ones_like(mask), mask, seed)
        except InputError:  # told by `measure`, which tries the same
            continue
        _, values = _features(result, mask, settings)
        found.features.append(Features(arm.name, number, source, target, LARGEST, values))
    return found


def _is_whole(mask: np.ndarray) -> bool:
    """Whether a mask (z, y, x) has some voxels, and none at the border of the field, which cuts lesions."""
    inner = mask[2:-2, 2:-2, 2:-2]
    return np.count_nonzero(mask) >= 2 and np.count_nonzero(inner) == np.count_nonzero(mask)


def _without_shape(settings: Settings) -> Settings:
    return dataclasses.replace(
        settings, feature_classes={k: v for k, v in settings.feature_classes.items() if k != "shape"}
    )


def _cov(array: np.ndarray, sphere: np.ndarray) -> float:
    return float(array[sphere].std() / array[sphere].mean())


def _sphere(scan: Scan) -> np.ndarray:
    """The mask (z, y, x) of the sphere in the liver."""
    centre = np.array(scan.image.TransformPhysicalPointToContinuousIndex(liver_noise(scan, LIVER).centre_mm))[::-1]
    z, y, x = (
        ((np.arange(n) - c) * s) ** 2
        for n, c, s in zip(scan.image.GetSize()[::-1], centre, scan.spacing_mm[::-1], strict=True)
    )
    return z[:, None, None] + y[None, :, None] + x[None, None, :] <= RADIUS_MM**2


def _features(scan: Scan, mask: np.ndarray, settings: Settings) -> tuple[list[str], np.ndarray]:
    """Names and values (features,) of what is inside a mask (z, y, x)."""
    region = Structure("region", images.mask_image(mask, scan.image))
    table = extract(dataclasses.replace(scan, structures={"region": region}), settings)
    (row,) = table.rows
    return list(table.features), np.array([row.values[name] for name in table.features])
