"""The protocols that look at the images themselves: likeness to the true image, and noise in the liver.

Both read the scans of a manifest. A column `harmonized` names the result of each case; it is the arm "after".
"""

from __future__ import annotations

import itertools

import numpy as np

from ..errors import InputError
from ..files.manifest import Entry, Manifest
from ..progress import CancelCheck, Progress, stop_if
from ..scan import Modality, Scan
from . import figures
from .case_images import arms as arms_of
from .case_images import check_same_grid, comparable, read_truth
from .image_quality import HU_WINDOW, histogram_distance, image_quality, range_of, ssim_of_slices
from .results import Answer, Table
from .uniformity import RADIUS_MM, SphereNoise, liver_noise, noise_gap

WHOLE = "whole image"
LIVER = "liver"
_WINDOW = "uniform 7"
_BETTER = {
    "SSIM": "↑",
    "SSIM by slice": "↑",
    "PSNR (dB)": "↑",
    "NRMSE": "↓",
    "Jensen-Shannon": "↓",
    "earth mover": "↓",
}


def image_quality_protocol(manifest: Manifest, structure: str, progress: Progress, cancelled: CancelCheck) -> Answer:
    """Each image against the true one of the column `truth`: over all voxels and inside each structure.

    SSIM (cubes of the volume, and squares of the axial slices), PSNR, NRMSE, and the distance of the histograms. Their
    range, which is stated, is that of the whole true image, in CT the width of the window from -1024 to 1000 HU.
    structure: only this one, where given. Raises InputError for a manifest without truth and for images on different
    grids.
    """
    chosen, notes = comparable(manifest)
    rows, slices = [], {}
    for number, entry in enumerate(chosen):
        stop_if(cancelled)
        progress(number / len(chosen), f"Image quality: {entry.case}")
        scan = entry.scan()
        truth = read_truth(manifest, entry, scan)
        masks = {name: one.array for name, one in scan.structures.items() if structure in ("", name)}
        if structure and structure not in masks:
            raise InputError(f"'{entry.case}' has no structure '{structure}'; it has: {', '.join(scan.structures)}")
        empty = [name for name, mask in masks.items() if not mask.any()]
        notes += [f"left out, empty in '{entry.case}': '{name}'" for name in empty]
        masks = {name: mask for name, mask in masks.items() if name not in empty}
        data_range = _data_range(truth)
        for arm, image in arms_of(entry, scan):
            check_same_grid(image, truth)
            for where, mask in {WHOLE: None, **masks}.items():
                quality = image_quality(truth.array, image.array, mask, data_range, _WINDOW)
                inside = (slice(None),) * 3 if mask is None else mask
                apart = histogram_distance(truth.array[inside], image.array[inside])
                rows.append(
                    (
                        entry.case,
                        entry.site,
                        where,
                        arm,
                        quality.ssim,
                        quality.ssim_slices,
                        quality.psnr_db,
                        quality.nrmse,
                        apart.jensen_shannon,
                        apart.earth_mover,
                        quality.data_range,
                        quality.voxels,
                    )
                )
                if where == WHOLE:
                    slices[entry.case, arm] = ssim_of_slices(truth.array, image.array, data_range, window=_WINDOW)
    columns = ("SSIM", "SSIM by slice", "PSNR (dB)", "NRMSE", "Jensen-Shannon", "earth mover")
    arms, places = (tuple(dict.fromkeys(row[i] for row in rows)) for i in (3, 2))
    summary, ssims = [], {}
    for where in places:
        figures_of = {
            arm: np.array([r[4:11] for r in rows if r[2] == where and r[3] == arm], dtype=float) for arm in arms
        }
        ssims |= {f"{where}\n{arm}": values[:, 0] for arm, values in figures_of.items()}
        for (i, name), (arm, values) in itertools.product(enumerate(columns), figures_of.items()):
            finite = values[np.isfinite(values[:, i])]  # equal images have an infinite PSNR
            mean = float(finite[:, i].mean()) if len(finite) else float("nan")
            sd = float(finite[:, i].std(ddof=1)) if len(finite) > 1 else float("nan")
            # Histograms are compared without a range.
            mean_range = float(finite[:, -1].mean()) if len(finite) and i < 4 else float("nan")
            summary.append((where, f"{name} {_BETTER[name]}", arm, len(finite), mean, sd, mean_range))
    tables = (
        Table(
            "image-quality",
            "Mean over cases; ↑ higher is better, ↓ lower is better",
            ("inside", "figure", "arm", "cases", "mean", "sd", "range"),
            tuple(summary),
        ),
        Table(
            "image-quality-by-case",
            "Each case; earth mover's distance and range in intensity units",
            ("case", "site", "inside", "arm", *columns, "range", "voxels"),
            tuple(rows),
        ),
    )
    drawn = {
        "image-quality-ssim": figures.violin(
            "Likeness to the true image", ssims, "SSIM", [i % len(arms) for i in range(len(ssims))]
        ),
        "image-quality-slices": _slices_of_the_worst(slices, arms),
    }
    notes = (
        f"Range of SSIM (window {_WINDOW}, voxels), PSNR and NRMSE: in CT {np.ptp(HU_WINDOW):g} HU, else largest minus "
        "smallest intensity of the whole true image, whichever structure is looked at; the mean over cases is shown.",
        *notes,
    )
    return Answer(tables, drawn, notes)


def liver_noise_protocol(manifest: Manifest, structure: str, progress: Progress, cancelled: CancelCheck) -> Answer:
    """Coefficient of variation in a 3 cm sphere in the upper right lobe of the liver, compared between sites.

    Haberl et al., EJNMMI 2024, section 2.5. structure: what the liver is called, "liver" by default. Cases in which no
    sphere can be placed are named in the notes. Raises InputError where that is so in all of them.
    """
    liver = structure or LIVER
    found: list[tuple[Entry, str, SphereNoise]] = []
    chosen, failed = comparable(manifest)
    for number, entry in enumerate(chosen):
        stop_if(cancelled)
        progress(number / len(chosen), f"Liver noise: {entry.case}")
        try:
            found += [(entry, arm, liver_noise(scan, liver)) for arm, scan in arms_of(entry, entry.scan())]
        except InputError as error:
            failed.append(f"left out, '{entry.case}': {error}")
    if not found:
        raise InputError("no liver could be measured:\n" + "\n".join(f"  {text}" for text in failed))
    arms = tuple(dict.fromkeys(arm for _, arm, _ in found))
    sites = sorted({entry.site for entry, _, _ in found})
    covs = {
        (arm, site): np.array([noise.cov for entry, a, noise in found if a == arm and entry.site == site])
        for arm, site in itertools.product(arms, sites)
    }
    covs = {key: values for key, values in covs.items() if len(values)}
    summary = [
        (arm, site or "–", len(values), *(float(q) for q in np.quantile(values, (0.5, 0.25, 0.75))))
        for (arm, site), values in covs.items()
    ]
    gaps = []
    for arm, (a, b) in itertools.product(arms, itertools.combinations(sites, 2)):
        if (arm, a) in covs and (arm, b) in covs:
            gap = noise_gap(covs[arm, a], covs[arm, b])
            gaps.append((arm, f"{a} ~ {b}", gap.gap, gap.p))
    cases = [(e.case, e.site, arm, n.mean, n.sd, n.cov, *n.centre_mm, n.voxels) for e, arm, n in found]
    header = ("case", "site", "arm", "mean", "sd", "COV", "left (mm)", "posterior (mm)", "superior (mm)", "voxels")
    tables = [
        Table(
            "liver-noise",
            "Coefficient of variation in the liver: alike scanners have alike medians",
            ("arm", "site", "scans", "median", "lower quartile", "upper quartile"),
            tuple(summary),
        )
    ]
    if gaps:
        tables.append(
            Table(
                "liver-noise-gaps",
                "Distance of the sites' medians (lower is better), and p of the Mann-Whitney test",
                ("arm", "sites", "gap", "p"),
                tuple(gaps),
            )
        )
    tables.append(Table("liver-noise-by-case", "Each case; the centre of the sphere in LPS", header, tuple(cases)))
    samples = {f"{site}\n{arm}": values for (arm, site), values in sorted(covs.items(), key=lambda item: item[0][1])}
    colours = [arms.index(arm) for arm, _ in sorted(covs, key=lambda key: key[1])]
    drawn = {"liver-noise": figures.violin("Noise in the liver", samples, "coefficient of variation", colours)}
    notes = (
        f"A sphere of {2 * RADIUS_MM:g} mm, placed by rule in the upper right lobe of '{liver}'; sd over mean.",
        *failed,
    )
    return Answer(tuple(tables), drawn, notes)


def _data_range(truth: Scan) -> float:
    return float(np.ptp(HU_WINDOW)) if truth.modality is Modality.CT else range_of(truth.array)


def _slices_of_the_worst(slices: dict[tuple[str, str], np.ndarray], arms: tuple[str, ...]) -> figures.Figure:
    """The axial slices of the case that is least like its truth in the last arm."""
    worst = min((case for case, arm in slices if arm == arms[-1]), key=lambda case: np.nanmean(slices[case, arms[-1]]))
    series = tuple(
        figures.Series(figures.LINE, np.arange(len(values)), values, group, arm)
        for group, arm in enumerate(arms)
        if (values := slices.get((worst, arm))) is not None
    )
    return figures.Figure(f"Axial slices of the case least alike, {worst}", "slice", "SSIM", series)
