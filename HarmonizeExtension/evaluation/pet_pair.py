"""A true pair: one scan of a NEMA image-quality phantom, reconstructed twice, each reconstruction in turn the target.

What is asked: does the noise of the background become the other's, does every voxel come nearer to it, do the hot
spheres recover as in it, and is no sphere lost or invented?
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from scipy import ndimage

from .. import images
from ..errors import InputError
from ..files.volume import read_volume
from ..methods.cyclegan.harmonizer import Cyclegan
from ..methods.resolution_matching import ResolutionMatching
from ..progress import CancelCheck, Progress, stop_if
from ..scan import Modality, Scan
from . import figures
from .pet_arms import BEST_BY_ERROR, BEST_BY_NOISE, INPUT, MATCHING, Arm, best_gaussian
from .results import ProtocolResult, Table

FINDING_MM = 4.0  # sigma with which spheres are looked for, so that noise makes none
HOT = 1.7  # of the background; a sphere of 10 mm at a contrast of 4 is still above it
SMALLEST_SPHERE_ML = 0.15
WALL_MM = 14.0  # the outline of the phantom is no sphere
ISOCONTOUR = 0.41  # of the maximum: the usual outline of a sphere (EANM)
SAME_MM = 8.0


@dataclasses.dataclass(frozen=True)
class _Phantom:
    """Where things are, found on both reconstructions together. Masks (z, y, x)."""

    inside: np.ndarray
    background: np.ndarray
    spheres: tuple[np.ndarray, ...]


def run(
    pair: tuple[Path | str, Path | str], compared: Sequence[Arm], progress: Progress, cancelled: CancelCheck
) -> ProtocolResult:
    """Both directions between two volumes on one grid. The background becomes SUV 1, which leaves every ratio.

    Raises InputError for volumes on two grids, or in which fewer than three spheres are found.
    """
    scans, phantom = _read(pair)
    rows, curves, drawn = [], [], {}
    failures: list[str] = []
    for direction, (scan, own) in enumerate(((scans[0], scans[1]), (scans[1], scans[0]))):
        truth = own.array
        span = float(np.ptp(truth[phantom.inside]))
        recovered = {f"truth ({own.name})": _recovery(truth, phantom)}
        rows.append((f"truth ({own.name})", scan.name, *_figures(truth, truth, phantom, span, scan)))
        results = _results(scan, own, phantom, compared, failures)
        for step, (name, array) in enumerate(results):
            stop_if(cancelled)
            progress((direction + step / (len(compared) + 2)) / 2, f"{name}, {scan.name}")
            rows.append((name, scan.name, *_figures(array, truth, phantom, span, scan)))
            recovered[name] = _recovery(array, phantom)
        for name, values in recovered.items():
            curves += [
                (name, scan.name, _diameter_mm(mask, scan), *(float(v) for v in value))
                for mask, value in zip(phantom.spheres, values, strict=True)
            ]
        order = np.argsort([_diameter_mm(mask, scan) for mask in phantom.spheres])
        drawn[f"pet-pair-recovery-from-{direction + 1}"] = figures.Figure(
            f"SUVmean of the spheres (41 % of the maximum), from {scan.name}",
            "diameter, mm",
            "SUVmean over background",
            tuple(
                figures.Series(
                    figures.LINE,
                    np.array([_diameter_mm(phantom.spheres[i], scan) for i in order]),
                    np.array([values[i][0] for i in order]),
                    group,
                    name,
                )
                for group, (name, values) in enumerate(recovered.items())
            ),
        )
    tables = (
        Table(
            "pet-pair",
            "Two reconstructions of one NEMA phantom: each towards the other",
            ("arm", "from", "COV", "COV gap", "NRMSE (%)", "mean", "spheres", "lost", "invented"),
            tuple(rows),
        ),
        Table(
            "pet-pair-recovery",
            "Spheres: SUVmean in 41 % of the maximum, and SUVmax, over the background",
            ("arm", "from", "diameter (mm)", "SUVmean", "SUVmax"),
            tuple(curves),
        ),
    )
    notes = (
        f"Spheres: what stands out {HOT:g} times above the background after smoothing with a sigma of {FINDING_MM:g} "
        "mm, counted in each image for itself. NRMSE: in the phantom, over the truth's range there.",
        "The oracles are told the truth: they use the Gaussian that comes nearest to it.",
    )
    title = "PET harmonization of a true pair of reconstructions"
    return ProtocolResult("pet-pair", title, "NEMA NU 2 image-quality phantom", tables, drawn, (*notes, *failures))


def _results(scan: Scan, own: Scan, phantom: _Phantom, compared: Sequence[Arm], failures: list[str]):
    """Name and array of every arm; a CycleGAN is tried towards each of its centres."""
    array, truth = scan.array, own.array
    for arm in compared:
        if arm.name == INPUT:
            yield arm.name, array
        elif arm.name in (BEST_BY_ERROR, BEST_BY_NOISE):
            by_noise = arm.name == BEST_BY_NOISE
            yield arm.name, best_gaussian(array, truth, scan.spacing_mm, phantom.inside, phantom.background, by_noise)
        else:
            targets = [(MATCHING, None)] if arm.name == MATCHING else []
            targets += [(f"{arm.name} to {site}", site) for site in (Cyclegan.sites(arm.model) if arm.model else ())]
            for name, site in targets:
                method = ResolutionMatching(own) if site is None else Cyclegan(site, arm.model)
                try:
                    yield name, method.apply(scan).array
                except InputError as error:
                    failures.append(f"left out: {name} from {scan.name}: {str(error).split(';')[-1]}")


def _read(pair: tuple[Path | str, Path | str]) -> tuple[list[Scan], _Phantom]:
    raw = [sitk.Cast(read_volume(Path(path)), sitk.sitkFloat32) for path in pair]
    if not images.same_grid(*raw):
        raise InputError(f"'{pair[0]}' and '{pair[1]}' are not on one grid; resample one to the other")
    mean = sum(images.to_array(image) / images.to_array(image).mean() for image in raw) / 2
    level = ndimage.gaussian_filter(mean, [6.0 / s for s in raw[0].GetSpacing()[::-1]])
    inside = images.largest_component(ndimage.binary_opening(level > 0.25 * np.percentile(level, 95)))
    deep = images.distance_mm(~np.pad(inside, 1), raw[0].GetSpacing())[1:-1, 1:-1, 1:-1] > WALL_MM
    if not deep.any():
        raise InputError("no phantom is seen in the pair; check the files")
    middle = np.median(level[deep])
    background = deep & (np.abs(level / middle - 1) < 0.35)
    scans = [
        Scan(image / _mean_in(image, background), Modality.PET, units="SUV", name=f"reconstruction {n}")
        for n, image in enumerate(raw, start=1)
    ]
    spheres = _spheres(np.mean([scan.array for scan in scans], axis=0), deep, scans[0])
    if len(spheres) < 3:
        raise InputError(f"only {len(spheres)} hot spheres are seen in the pair; give two scans of a NEMA phantom")
    return scans, _Phantom(inside, background, spheres)


def _mean_in(image: sitk.Image, mask: np.ndarray) -> float:
    return float(sitk.GetArrayViewFromImage(image)[mask].mean())


def _spheres(array: np.ndarray, deep: np.ndarray, scan: Scan) -> tuple[np.ndarray, ...]:
    """What is hot inside the phantom, each as a mask (z, y, x)."""
    smooth = ndimage.gaussian_filter(array, [FINDING_MM / s for s in scan.spacing_mm[::-1]])
    labels, count = ndimage.label((smooth > HOT) & deep)
    voxels = SMALLEST_SPHERE_ML * 1000 / np.prod(scan.spacing_mm)
    return tuple(labels == i for i in range(1, count + 1) if np.count_nonzero(labels == i) >= voxels)


def _figures(array: np.ndarray, truth: np.ndarray, phantom: _Phantom, span: float, scan: Scan) -> tuple:
    covs = [float(a[phantom.background].std() / a[phantom.background].mean()) for a in (array, truth)]
    error = float(np.sqrt(np.mean((array - truth)[phantom.inside] ** 2)) / span)
    deep = images.distance_mm(~np.pad(phantom.inside, 1), scan.spacing_mm)[1:-1, 1:-1, 1:-1] > WALL_MM
    found = _spheres(array, deep, scan)
    spacing = np.array(scan.spacing_mm[::-1])
    centres = [np.array(ndimage.center_of_mass(mask)) * spacing for mask in found]
    true = [np.array(ndimage.center_of_mass(mask)) * spacing for mask in phantom.spheres]
    lost = sum(all(np.linalg.norm(t - c) > SAME_MM for c in centres) for t in true)
    invented = sum(all(np.linalg.norm(t - c) > SAME_MM for t in true) for c in centres)
    mean = float(array[phantom.background].mean())
    return covs[0], abs(covs[0] - covs[1]), 100 * error, mean, len(found), lost, invented


def _recovery(array: np.ndarray, phantom: _Phantom) -> list[tuple[float, float]]:
    """SUVmean within 41 % of the maximum, and the maximum, of each sphere."""
    values = []
    for mask in phantom.spheres:
        around = array[images.bounding_box(mask, 4)]
        top = float(around.max())
        values.append((float(around[around >= ISOCONTOUR * top].mean()), top))
    return values


def _diameter_mm(mask: np.ndarray, scan: Scan) -> float:
    """Of a ball of the mask's volume."""
    return float((np.count_nonzero(mask) * np.prod(scan.spacing_mm) * 6 / np.pi) ** (1 / 3))
