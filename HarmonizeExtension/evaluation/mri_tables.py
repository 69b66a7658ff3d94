"""The tables and figures of the MRI benchmark, the papers' own numbers beside ours."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..phantoms.scanners import SCANNERS
from . import figures
from .mri_arms import AGAIN, BRAIN, Arm, names
from .results import Table
from .site_effect import SMALLEST_SCANNER, SiteEffect, site_effect

if TYPE_CHECKING:
    from .mri_benchmark import Findings, Likeness

TISSUES = ("white matter", "grey matter")
CHANCE = 5.0  # % of features that differ by chance alone, at p < 0.05
TRAVELLING, ONCE, PAPER = "all of each person", "one of each person", "one of each person, the paper"
# Fatania et al. 2022, table 1, KS test: white and grey matter, %.
PAPER_SHARES = (
    ("unharmonized", "", 64.9, 63.3),
    ("WhiteStripe", "", 40.9, 39.1),
    ("HarMOnAE", "Philips 3T", 24.7, 33.3),
    ("HarMOnAE", "Siemens 1.5T", 20.2, 31.6),
    ("HarMOnAE", "Siemens 3T", 16.4, 26.9),
    ("HarMOnAE", "GE 1.5T", 19.6, 24.7),
    ("HarMOnAE", "GE 3T", 26.2, 24.0),
)
PAPER_CYCLES = (("HarMOnAE", 0.0156, 0.0021), ("HarMOnAE with an image discriminator", None, 0.0062))


def of(found: Findings, compared: Sequence[Arm], people: int) -> tuple[tuple[Table, ...], dict[str, figures.Figure]]:
    """All tables, and the figures by name."""
    effects = _effects(found, compared, people)
    pairs = _common_pairs(found.likeness)
    tables = [_shares(effects), _likeness(found.likeness, pairs, compared)]
    if found.cycles:
        tables.append(_cycles(found))
    if found.maps:
        tables.append(_maps(found))
    if found.lesions:
        tables.append(_lesions(found))
    if found.invented:
        tables.append(_invented(found))
    tables += [_shares_by_scanner(effects), _likeness_by_direction(found.likeness)]
    drawn = {"mri-benchmark-features": _figure_of_shares(effects)}
    chosen = {
        name: [one for one in found.likeness if one.arm.name == name and (one.source, one.target) in pairs]
        for name in names(compared)
    }
    for key, label in (("ssim", "SSIM"), ("psnr_db", "PSNR (dB)")):
        samples = {name: np.array([getattr(one, key) for one in those]) for name, those in chosen.items() if those}
        drawn[f"mri-benchmark-{key.removesuffix('_db')}"] = figures.violin(
            f"Likeness to the target scanner's own scan, {len(pairs)} directions", samples, label
        )
    return tuple(tables), drawn


def notes(people: int) -> tuple[str, ...]:
    """How the tables are to be read."""
    once = (
        f"'{ONCE}': each person counts on one scanner only, in turn, as in the paper."
        if people >= SMALLEST_SCANNER * len(SCANNERS)
        else f"The paper scans each person once; that design needs {SMALLEST_SCANNER * len(SCANNERS)} people here."
    )
    return (
        f"Good are: few features that differ (at most 10 %; {CHANCE:g} % is chance), dSSIM-c of 0.002 or less, SSIM, "
        "PSNR and Dice above those of the oracle and of every other method (PSNR 30 dB or more), volumes and maps "
        "within 5 %, lesions at 100 %, none invented.",
        "Texture: 75 features, 64 bins, 2 mm; a scanner against all the others, p < 0.05, mean over the six scanners. "
        f"{CHANCE:g} % is expected by chance. More scans make the same difference more often significant, so that "
        "shares are compared within a table, and with the paper only in their ratios.",
        f"'{TRAVELLING}': every person on every scanner; anatomy is the same on all, and differences show best. {once}",
        "Likeness: inside the brain, after the best gain and offset for every arm alike (MR has no unit), so that "
        "Z-score and WhiteStripe equal the unharmonized scan here. Range: largest minus smallest true intensity in the "
        "brain. SSIM: cubes of 7 voxels. The oracle is told the truth: no method that changes contrast alone has a "
        f"higher PSNR. '{AGAIN}' is a second session of the target scanner, with noise in both; a "
        "result free of noise can come at most 3 dB nearer.",
        "Features see neither gain nor offset, as their bins span the structure's own range in a fixed number; methods "
        "that change no more than these (Z-score, WhiteStripe) have the shares of the unharmonized scans.",
        "Each person goes from one scanner, in turn, to each target and back for dSSIM; as many others have lesions (a "
        "tumour with oedema, or multiple sclerosis, in turn) and go from one scanner to each target.",
        "Invented: a connected region of white matter, 2 mm or more from its edge and of 27 mm3 or more, where a "
        "result differs from the target scanner's own scan by a third of the difference between white and grey matter "
        "and by five times what is usual there. Smoothed over 1.5 mm, its surroundings of 10 mm taken off, after the "
        "best gain and offset.",
        "Dice and volume: against the same segmentation (Otsu, three classes) of the target scanner's own scan; volume "
        "as the mean of the absolute difference.",
    )


def _effects(found: Findings, compared: Sequence[Arm], people: int) -> dict[tuple[Arm, str, str], SiteEffect]:
    """By arm, design and tissue, where every scanner has enough scans."""
    scanners = tuple(SCANNERS)
    effects = {}
    for arm, design, tissue in itertools.product(compared, (TRAVELLING, ONCE), TISSUES):
        values = {
            name: np.array(
                [
                    one.values
                    for one in found.features
                    if (one.arm, one.source, one.tissue) == (arm, name, tissue)
                    and (design == TRAVELLING or scanners[one.person % len(scanners)] == name)
                ]
            )
            for name in scanners
        }
        if min(len(rows) for rows in values.values()) >= SMALLEST_SCANNER:
            effects[arm, design, tissue] = site_effect(values)
    return effects


def _percent(shares: dict[str, float]) -> float:
    return 100 * float(np.mean(list(shares.values())))


def _shares(effects: dict[tuple[Arm, str, str], SiteEffect]) -> Table:
    rows = []
    for design, arm in dict.fromkeys((design, arm) for arm, design, _ in effects):
        both = [effects[arm, design, tissue] for tissue in TISSUES]
        kinds = ("ks_share", "welch_share", "ks_share_corrected")
        rows.append((arm.name, arm.target, design, *(_percent(getattr(one, kind)) for kind in kinds for one in both)))
    rows += [(name, target, PAPER, white, grey, *[None] * 4) for name, target, white, grey in PAPER_SHARES]
    return Table(
        "mri-benchmark-features",
        "Share of the texture features that tell the scanners apart, % (less is better)",
        ("method", "to", "scans", "KS WM", "KS GM", "Welch WM", "Welch GM", "KS+BH WM", "KS+BH GM"),
        tuple(rows),
    )


def _shares_by_scanner(effects: dict[tuple[Arm, str, str], SiteEffect]) -> Table:
    rows = [
        (arm.name, arm.target, design, tissue, name, 100 * share, 100 * effect.welch_share[name])
        for (arm, design, tissue), effect in effects.items()
        for name, share in effect.ks_share.items()
    ]
    return Table(
        "mri-benchmark-features-by-scanner",
        "The same by scanner: each against all the others, %",
        ("method", "to", "scans", "tissue", "scanner", "KS", "Welch"),
        tuple(rows),
    )


def _common_pairs(likeness: Sequence[Likeness]) -> list[tuple[str, str]]:
    """The directions that every arm was measured in, so that all are compared on the same ones."""
    by_arm: dict[str, set[tuple[str, str]]] = {}
    for one in likeness:
        by_arm.setdefault(one.arm.name, set()).add((one.source, one.target))
    return sorted(set.intersection(*by_arm.values())) if by_arm else []


FIGURES = ("SSIM", "PSNR (dB)", "NRMSE", "range", "Dice WM", "Dice GM", "volume WM (%)", "volume GM (%)")


def _means(those: Sequence[Likeness]) -> tuple[float, ...]:
    columns = np.array(
        [(o.ssim, o.psnr_db, o.nrmse, o.data_range, *o.dice, *(100 * abs(share) for share in o.volume)) for o in those],
        dtype=float,
    )
    return tuple(float(value) for value in columns.mean(axis=0))


def _likeness(likeness: Sequence[Likeness], pairs: Sequence[tuple[str, str]], compared: Sequence[Arm]) -> Table:
    known = {site for arm in compared for site in arm.known}
    unseen = set(SCANNERS) - known if known else set()
    choices = {"all": pairs}
    if unseen:
        choices["from a scanner never trained on"] = [pair for pair in pairs if pair[0] in unseen]
    rows = []
    for (label, chosen), name in itertools.product(choices.items(), names(compared)):
        those = [one for one in likeness if one.arm.name == name and (one.source, one.target) in chosen]
        if those:
            rows.append((name, label, len(chosen), len(those), *_means(those)))
    return Table(
        "mri-benchmark-truth",
        f"Likeness to the scan that the target scanner took of the same person, inside the {BRAIN}",
        ("method", "directions", "number", "scans", *FIGURES),
        tuple(rows),
    )


def _likeness_by_direction(likeness: Sequence[Likeness]) -> Table:
    groups: dict[tuple[str, str, str], list[Likeness]] = {}
    for one in likeness:
        groups.setdefault((one.arm.name, one.source, one.target), []).append(one)
    return Table(
        "mri-benchmark-truth-by-direction",
        "The same by direction",
        ("method", "from", "to", "scans", *FIGURES),
        tuple((*key, len(those), *_means(those)) for key, those in groups.items()),
    )


def _cycles(found: Findings) -> Table:
    rows = []
    for arm in dict.fromkeys(one.arm for one in found.cycles):
        those = [one for one in found.cycles if one.arm == arm]
        columns = np.array([(o.harmonized, o.cycled, o.harmonized_direct, o.cycled_direct) for o in those])
        means, largest = columns.mean(axis=0), float(columns[:, 1].max())
        rows.append((arm.name, arm.target, len(those), means[0], means[1], largest, means[2], means[3]))
    rows = [tuple(float(cell) if isinstance(cell, np.floating) else cell for cell in row) for row in rows]
    rows += [(f"{name} (paper)", "", None, h, c, None, None, None) for name, h, c in PAPER_CYCLES]
    return Table(
        "mri-benchmark-cycles",
        "What harmonizing changes (dSSIM-h) and what going back does not bring back (dSSIM-c, 0 is best), in the body",
        ("method", "to", "scans", "dSSIM-h", "dSSIM-c", "largest", "1 - SSIM to x', h", "1 - SSIM to x', c"),
        tuple(rows),
    )


def _maps(found: Findings) -> Table:
    rows = []
    groups: dict[tuple[str, str, str], list] = {}
    for one in found.maps:
        for source in (one.source, "all"):
            groups.setdefault((one.arm.name, source, one.tissue), []).append((one.t1, one.t1_bias, one.m0))
    for key, values in groups.items():
        means = 100 * np.mean(values, axis=0)
        rows.append((*key, len(values), *(float(mean) for mean in means)))
    return Table(
        "mri-benchmark-maps",
        "T1 and M0 maps against the true ones: median over voxels, mean over scans, %",
        ("method", "from", "tissue", "scans", "T1 error", "T1 bias", "M0 error"),
        tuple(sorted(rows)),
    )


def _lesions(found: Findings) -> Table:
    groups: dict[tuple[str, str, str], list] = {}
    for one in found.lesions:
        if np.isfinite((one.contrast, one.volume)).all():
            key = (one.arm.name, one.lesion, "protected" if one.protected else "")
            groups.setdefault(key, []).append((one.contrast, one.volume, one.dice))
    rows = []
    for key, values in groups.items():
        contrast, volume, overlap = np.array(values).T
        figures = (100 * contrast.mean(), 100 * contrast.min(), 100 * contrast.max(), 100 * volume.mean())
        rows.append((*key, len(values), *map(float, figures), float(overlap.mean())))
    return Table(
        "mri-benchmark-lesions",
        "Lesions: contrast and volume as shares of those in the target scanner's own scan (100 % is best), and Dice",
        ("method", "lesion", "structure", "scans", "contrast %", "lowest", "highest", "volume %", "Dice"),
        tuple(rows),
    )


def _invented(found: Findings) -> Table:
    groups: dict[str, list] = {}
    for one in found.invented:
        groups.setdefault(one.arm.name, []).append((one.regions, one.volume_mm3))
    rows = []
    for name, values in groups.items():
        regions, volume = np.array(values, float).T
        rows.append((name, len(values), int((regions > 0).sum()), float(regions.mean()), float(volume.mean())))
    return Table(
        "mri-benchmark-invented",
        "Healthy people: regions of white matter that look like a lesion where the target's own scan shows none",
        ("method", "results", "with regions", "regions each", "mm3 each"),
        tuple(rows),
    )


def _figure_of_shares(effects: dict[tuple[Arm, str, str], SiteEffect]) -> figures.Figure:
    """Means over the targets, with the travelling design."""
    order = list(dict.fromkeys(arm.name for arm, design, _ in effects if design == TRAVELLING))
    heights = {
        tissue: np.array(
            [
                np.mean(
                    [
                        _percent(effect.ks_share)
                        for (arm, design, where), effect in effects.items()
                        if (arm.name, design, where) == (name, TRAVELLING, tissue)
                    ]
                )
                for name in order
            ]
        )
        for tissue in TISSUES
    }
    return figures.bars(
        "Texture features that tell the scanners apart, mean over targets",
        order,
        heights,
        "features that differ (KS), %",
        (CHANCE, "by chance"),
    )
