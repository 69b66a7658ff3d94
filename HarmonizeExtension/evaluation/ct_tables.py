"""The tables and figures of the CT benchmark, the paper's own numbers beside ours."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from . import figures
from .agreement import HU_STRATA, REPRODUCIBLE, StratumCount, reproducible_by_stratum
from .ct_arms import Arm
from .reproducibility import TISSUES
from .results import Table

if TYPE_CHECKING:
    from .ct_benchmark import Features, Findings, Likeness

LIMIT = f"CCC > {REPRODUCIBLE:g}"
# Selim et al. 2021, tables 1 and 2: of 1401 features those with CCC > 0.85 in the three ranges of HU, PSNR and SSIM.
PAPER_FEATURES = 1401
PAPER = (
    ("input", "Bl57", 854, 589, 457, None, None),
    ("Choe's network", "Bl57", 905, 605, 511, 27.51, 0.9949),
    ("GANai", "Bl57", 979, 782, 817, 27.69, 0.9951),
    ("STAN-CT", "Bl57", 1053, 824, 594, 27.68, 0.9952),
    ("RadiomicGAN", "Bl57", 1168, 1204, 853, 33.51, 0.9980),
    ("input", "Br40", 448, 303, 246, None, None),
    ("Choe's network", "Br40", 796, 437, 357, 26.11, 0.9916),
    ("GANai", "Br40", 850, 572, 520, 26.11, 0.9916),
    ("STAN-CT", "Br40", 933, 588, 487, 26.08, 0.9916),
    ("RadiomicGAN", "Br40", 1126, 1108, 1047, 33.28, 0.9947),
)


def of(found: Findings, compared: Sequence[Arm]) -> tuple[tuple[Table, ...], dict[str, figures.Figure]]:
    """All tables, and the figures by name."""
    directions = list(dict.fromkeys((one.source, one.target) for one in found.features))
    counts = {
        (direction, arm.name): counted
        for direction in directions
        for arm in compared
        if (counted := _counts(found.features, direction, arm.name))
    }
    likeness: dict[tuple, list[Likeness]] = {}
    for one in found.likeness:
        likeness.setdefault(((one.source, one.target), one.arm), []).append(one)
    tables = (
        _shares(counts),
        _images({key: likeness[key] for key in counts}),
        _bias({key: likeness[key] for key in counts}),
        _paper(),
        _by_feature(found, counts),
    )
    drawn = {}
    labels = [f"{tissue}\n{low:g} to {high:g} HU" for tissue, (low, high) in zip(TISSUES, HU_STRATA, strict=True)]
    for source, target in dict.fromkeys(direction for direction, _ in counts):
        heights = {
            arm: np.array([100 * stratum.share for stratum in counted])
            for (direction, arm), counted in counts.items()
            if direction == (source, target)
        }
        title = f"Features that agree with the true kernel, {source} to {target}"
        drawn[f"ct-benchmark-{source}-to-{target}"] = figures.bars(title, labels, heights, f"features with {LIMIT} (%)")
    return tables, drawn


def _counts(found: Sequence[Features], direction: tuple[str, str], arm: str) -> list[StratumCount]:
    """By range of HU, the cubes of all cases together; nothing for an arm that could not be measured in every case."""
    here = [one for one in found if (one.source, one.target) == direction]
    those = [one for one in here if one.arm == arm]
    if not those or len(those) < len({one.case for one in here}):
        return []
    values, truth, mean_hu = (np.concatenate([getattr(o, n) for o in those]) for n in ("values", "truth", "mean_hu"))
    return reproducible_by_stratum(values, truth, mean_hu)


def _shares(counts: dict[tuple, list[StratumCount]]) -> Table:
    rows = [
        (
            f"{source} to {target}",
            arm,
            *(100 * stratum.share for stratum in counted),
            *(float(np.nanmedian(s.ccc)) if np.isfinite(s.ccc).any() else float("nan") for s in counted),
        )
        for ((source, target), arm), counted in counts.items()
    ]
    some = next(iter(counts.values()), ())
    cubes = ", ".join(f"{stratum.regions} {tissue}" for stratum, tissue in zip(some, TISSUES, strict=False))
    header = [f"{what}, {tissue}" for what in (f"{LIMIT} (%)", "median CCC") for tissue in TISSUES]
    return Table(
        "ct-benchmark-features",
        f"Features that agree with the target kernel ({LIMIT}; higher is better); cubes: {cubes}",
        ("kernels", "method", *header),
        tuple(rows),
    )


def _images(likeness: dict[tuple, list[Likeness]]) -> Table:
    def mean(those: list[Likeness], name: str) -> float:
        values = np.array([getattr(one, name) for one in those])
        return float(np.nanmean(values)) if np.isfinite(values).any() else float("nan")

    rows = [
        (
            f"{source} to {target}",
            arm,
            len(those),
            mean(those, "psnr_db"),
            mean(those, "ssim"),
            mean(those, "difference_hu"),
            mean(those, "body_difference_hu"),
            100 * mean(those, "noise"),
            mean(those, "uniform_bias_hu"),
        )
        for ((source, target), arm), those in likeness.items()
    ]
    return Table(
        "ct-benchmark-images",
        "Likeness to the image with the target kernel",
        (
            "kernels",
            "method",
            "scans",
            "PSNR (dB)",
            "SSIM",
            "mean difference (HU)",
            "in the body (HU)",
            "noise spectrum off by (%)",
            "bias, uniform tissue (HU)",
        ),
        tuple(rows),
    )


def _bias(likeness: dict[tuple, list[Likeness]]) -> Table:
    rows = []
    for ((source, target), arm), those in likeness.items():
        bias, hu = (np.concatenate([getattr(one, name) for one in those]) for name in ("bias_hu", "mean_hu"))
        inside = [bias[(hu >= low) & (hu <= high)] for low, high in HU_STRATA]
        rows.append(
            (
                f"{source} to {target}",
                arm,
                *(float(b.mean()) if len(b) else float("nan") for b in inside),
                *(float(np.abs(b).mean()) if len(b) else float("nan") for b in inside),
            )
        )
    header = [f"{what}, {tissue}" for what in ("bias (HU)", "mean |bias| (HU)") for tissue in TISSUES]
    return Table(
        "ct-benchmark-bias",
        "HU of the cubes: mean of each less that with the target kernel",
        ("kernels", "method", *header),
        tuple(rows),
    )


def _paper() -> Table:
    rows = [
        (f"{source} to Bl64", arm, *(100 * n / PAPER_FEATURES for n in counted), psnr, ssim)
        for arm, source, *counted, psnr, ssim in PAPER
    ]
    return Table(
        "ct-benchmark-paper",
        f"Selim et al. 2021, patients and phantoms on one scanner, {PAPER_FEATURES} features of IBEX",
        ("kernels", "method", *(f"{LIMIT} (%), {tissue}" for tissue in TISSUES), "PSNR (dB)", "SSIM"),
        tuple(rows),
    )


def _by_feature(found: Findings, counts: dict[tuple, list[StratumCount]]) -> Table:
    rows = [
        (f"{source} to {target}", arm, name, *(float(stratum.ccc[i]) for stratum in counted))
        for ((source, target), arm), counted in counts.items()
        for i, name in enumerate(found.names)
    ]
    return Table(
        "ct-benchmark-by-feature", "CCC of each feature", ("kernels", "method", "feature", *TISSUES), tuple(rows)
    )


def notes(real: bool) -> tuple[str, ...]:
    """How the tables are to be read."""
    what = (
        "One scan, reconstructed twice: slices 0, 2, 4 and so on are measured; a model may have been trained on the "
        "others. Histogram matching and the MTF filter take statistics (histogram; edges, noise, its correlation "
        "between slices) of the whole scan with the target kernel."
        if real
        else "Simulated by projection, photon noise and filtered back projection; all kernels of a case share its "
        "photons. Histogram matching and the measured MTF filter take another case of the same kind as reference; the "
        "other MTF filter is told the exact MTF of both kernels, which nobody knows of a real scan."
    )
    return (
        what,
        "Features: in cubes placed by rule on the mean of all kernels, on the voxels as they are, bins of 25 HU.",
        "The oracle is told the truth: of all in-plane Gaussians the one with the least squared error in -1024 to 1000 "
        "HU. It only ever blurs: towards a sharper kernel it is the input.",
        "PSNR and SSIM: whole slices, -1024 to 1000 HU, range 2024, squares of 7 pixels. Mean difference: absolute, in "
        "whole slices. Noise spectrum: the area between both spectra as a share of the true one, in uniform tissue.",
    )
