"""The tables and figures of the PET benchmark, from what was measured."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..errors import InputError
from ..feature_domain.combat import ComBat
from ..phantoms.pet_centres import CENTRES
from . import figures
from .arms import harmonized as in_folds
from .arms import unharmonized
from .outcome import outcome_protocol
from .overlap import overlap_gain
from .pet_arms import INPUT
from .results import Table

COMBAT = "ComBat"
SPHERE, LARGEST = "sphere", "largest lesion"
LEAST_FOR_COMBAT, LEAST_FOR_OUTCOME = 5, 24
FOLDS = 100
CHANCE = 0.7  # of the outcome, against 1 of the uptake
# Haberl et al. 2024, Table 2: gains in per cent, mean and sd, from Budapest to Tuebingen and back.
PAPER = {
    ("BUD", "TUB"): {"firstorder": (5, 14), "glcm": (16, 7), "glrlm": (19, 5), "glszm": (16, 8), "gldm": (17, 6),
                     "ngtdm": (23, 14)},
    ("TUB", "BUD"): {"firstorder": (17, 12), "glcm": (28, 13), "glrlm": (30, 8), "glszm": (32, 15), "gldm": (30, 10),
                     "ngtdm": (29, 21)},
}  # fmt: skip


def of(found, seed: int) -> tuple[tuple[Table, ...], dict[str, figures.Figure], tuple[str, ...]]:
    """All tables, the figures by name, and notes; found: the benchmark's `Findings`."""
    names = list(dict.fromkeys(one.arm for one in found.noise))
    columns = _Columns(found)
    overlap, gains, notes = _overlap(columns, names)
    tables = [overlap, _noise(found.noise, names), _lesions(found.lesions, names), _likeness(found.likeness, names)]
    outcome, more = _outcome(columns, found.uptake, names, seed)
    tables += outcome
    drawn = {
        f"pet-benchmark-overlap-{source}-{target}": figures.bars(
            f"Overlap of features in the liver, {source} to {target}",
            [f"{name}" for name in gains[source, target]],
            {
                group: np.array([by_class[group] for by_class in gains[source, target].values()])
                for group in next(iter(gains[source, target].values()))
            },
            "overlap coefficient",
        )
        for source, target in gains
    }
    return tuple(tables), drawn, (*_notes(), *notes, *more)


class _Columns:
    """The features that are finite everywhere and vary, as tables of people."""

    def __init__(self, found):
        self.found = found
        self.use = {}
        for region in {one.region for one in found.features}:
            rows = np.array([one.values for one in found.features if one.region == region])
            self.use[region] = np.isfinite(rows).all(axis=0) & (np.ptp(rows, axis=0) > 0)
        self.classes = np.array([name.split("_")[1] for name in found.names])

    def of(self, arm: str, source: str, target: str, region: str) -> tuple[np.ndarray, np.ndarray]:
        """People (n,), and their values (n, features)."""
        rows = [
            one
            for one in self.found.features
            if (one.arm, one.source, one.target, one.region) == (arm, source, target, region)
        ]
        values = np.array([one.values[self.use[region]] for one in rows])  # of an arm that was left out: no rows
        return np.array([one.person for one in rows], int), values


def _with_combat(values: np.ndarray, truth: np.ndarray, source: str, target: str) -> np.ndarray:
    """The source's features, moved to the target's by M-ComBat."""
    table = np.concatenate([values, truth])
    batch = [source] * len(values) + [target] * len(truth)
    return ComBat(reference_batch=target).fit_transform(table, batch)[: len(values)]


def _overlap(columns: _Columns, names: Sequence[str]):
    rows, notes = [], []
    drawn: dict[tuple[str, str], dict[str, dict[str, float]]] = {}
    for source in CENTRES:
        (target,) = (name for name in CENTRES if name != source)
        _, truth = columns.of("", target, target, SPHERE)
        _, before = columns.of(INPUT, source, target, SPHERE)
        if not len(before):
            continue
        by_arm: dict[str, np.ndarray] = {}
        for name in names:
            _, values = columns.of(name, source, target, SPHERE)
            if len(values) != len(before):
                continue
            by_arm[name] = values
            if len(before) >= LEAST_FOR_COMBAT:
                try:
                    by_arm[f"{name}, {COMBAT}"] = _with_combat(values, truth, source, target)
                except InputError as error:
                    notes.append(f"without {name}, {COMBAT}: {error}")
        classes = columns.classes[columns.use[SPHERE]]
        for name, values in by_arm.items():
            gains = overlap_gain(before, truth, values, truth, classes)
            mean = float(np.mean(np.concatenate([gain.after for gain in gains])))
            rows.append((name, source, target, mean, *(_percent(gain) for gain in gains)))
            drawn.setdefault((source, target), {})[name] = {g.feature_class: float(g.after.mean()) for g in gains}
        groups = [gain.feature_class for gain in gains]
        paper = PAPER[source, target]
        rows.append(("paper, CycleGAN", source, target, float("nan"), *("{} ± {}".format(*paper[g]) for g in groups)))
    header = ("arm", "from", "to", "overlap after", *groups)
    title = "Overlap coefficient in a sphere in the liver: mean after, and gain by feature class in points of 100"
    return Table("pet-benchmark-overlap", title, header, tuple(rows)), drawn, notes


def _percent(gain) -> str:
    return f"{100 * gain.mean_gain:.0f} ± {100 * gain.sd_gain:.0f}"


def _noise(noise, names: Sequence[str]) -> Table:
    rows = []
    for source in CENTRES:
        for name in names:
            those = [one for one in noise if (one.arm, one.source) == (name, source)]
            if those:
                cov, truth = np.array([o.cov for o in those]), np.array([o.truth for o in those])
                gap = abs(float(np.median(cov) - np.median(truth)))
                own = float(np.mean(np.abs(cov - truth)))
                rows.append((name, source, those[0].target, float(np.median(cov)), float(np.median(truth)), gap, own))
    header = ("arm", "from", "to", "COV", "COV of the target", "gap of medians", "mean gap by person")
    return Table("pet-benchmark-noise", "Coefficient of variation in the sphere in the liver", header, tuple(rows))


def _lesions(lesions, names: Sequence[str]) -> Table:
    rows = []
    for source in CENTRES:
        for name in names:
            those = [one for one in lesions if (one.arm, one.source) == (name, source)]
            if those:
                mean, top = (100 * np.array([getattr(o, key) for o in those]) for key in ("mean", "maximum"))
                small = np.array([o.radius_mm < 10 for o in those])
                figures_ = [mean.mean(), np.abs(mean).mean(), top.mean(), np.abs(top).mean()]
                figures_.append(mean[small].mean() if small.any() else np.nan)
                rows.append((name, source, those[0].target, len(those), *(float(v) for v in figures_)))
    header = ("arm", "from", "to", "lesions", "mean", "|mean|", "max", "|max|", "mean, radius < 10 mm")
    title = "Error of lesions' SUVmean and SUVmax against the target's own scan, %"
    return Table("pet-benchmark-lesions", title, header, tuple(rows))


def _likeness(likeness, names: Sequence[str]) -> Table:
    organs = list(dict.fromkeys(one.organ for one in likeness))
    rows = []
    for source in CENTRES:
        for name in names:
            for kind in ("to_itself", "to_truth"):
                means = []
                for organ in organs:
                    those = [o for o in likeness if (o.arm, o.source, o.organ) == (name, source, organ)]
                    means.append(float(np.mean([getattr(o, kind) for o in those])) if those else float("nan"))
                if np.isfinite(means).any():
                    (target,) = (centre for centre in CENTRES if centre != source)
                    rows.append((name, source, target, "itself" if kind == "to_itself" else "target's scan", *means))
    return Table(
        "pet-benchmark-ssim",
        "SSIM by organ: to the scan itself (as in the paper), and to the target's own scan of the person",
        ("arm", "from", "to", "against", *organs),
        tuple(rows),
    )


def _outcome(columns: _Columns, uptake: Sequence[tuple[int, float]], names: Sequence[str], seed: int):
    """Everybody was imaged once, by the centres in turn; the outcome follows the largest lesion's true uptake."""
    people = np.array([number for number, _ in uptake])
    if len(people) < LEAST_FOR_OUTCOME:
        return [], [f"The outcome protocol needs {LEAST_FOR_OUTCOME} people."]
    size = np.log([suv for _, suv in uptake])
    chance = np.random.default_rng([seed, len(people)]).standard_normal(len(people))
    risk = (size - size.mean()) / size.std() + CHANCE * chance
    outcome = risk > np.median(risk)
    rows = []
    for source in CENTRES:
        (target,) = (name for name in CENTRES if name != source)
        stays = dict(zip(*columns.of("", target, target, LARGEST), strict=True))
        arms = {}
        for name in names:
            known = stays | dict(zip(*columns.of(name, source, target, LARGEST), strict=True))
            if any(person not in known for person in people):
                continue
            table = np.array([known[person] for person in people])
            batch = np.where([person in stays for person in people], target, source)
            arms[name] = unharmonized(table)
            arms[f"{name}, {COMBAT}"] = in_folds(table, batch, lambda t=target: ComBat(reference_batch=t))
        result = outcome_protocol(arms, outcome, np.random.default_rng(seed), FOLDS)
        for name, arm in result.arms.items():
            against = result.against_first.get(name)
            rows.append((name, target, arm.mean_auc, *arm.interval, against.delong.p if against else float("nan")))
    header = ("arm", "all to", "AUC", "from", "to", "DeLong p")
    title = f"An outcome that follows the uptake of the largest lesion, from its features, {len(people)} other people"
    return [Table("pet-benchmark-outcome", title, header, tuple(rows))], []


def _notes() -> tuple[str, ...]:
    return (
        "Features: 93 of first order and texture, bins of 0.25 SUV, 4 mm, in a sphere of 30 mm. Everybody was imaged "
        "by both centres, so that equal centres would overlap by 1 but for noise. The paper's patients differ between "
        "centres; its gains stand beside for their order of magnitude.",
        "The oracles are told the truth of every single scan: the width of their Gaussian is the one that comes "
        "nearest to the target's own scan, in squared error in the body or in the coefficient of variation in the "
        "sphere.",
        "Lesions: SUV in the true outline, on the voxels of the source, the target's scan brought there by cubic "
        "splines. SSIM: cubes of 7 voxels, range 10 SUV; the noise of two scans is never the same, so that 1 cannot be "
        "had against the target's scan.",
    )
