"""What becomes of lesions: are those that are there kept, and are none drawn where there are none?

A lesion's contrast is its mean against the white matter around it, as a share of the difference between white and grey
matter; its volume is that of the voxels nearer to it than to that white matter. Both are held against the same figures
in the scan that the target scanner took of the same person, so that gain, shading and segmentation cancel.

Invented is a connected region of white matter where a result is darker or brighter than the target scanner's own scan,
its surroundings taken off, by a third of the difference between white and grey matter: about what a small lesion of
multiple sclerosis shows. Partial volume is kept out by staying inside the white matter; noise, which differs from
session to session, by a least size and by asking for five times what is usual there.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from .. import images, protection
from ..body import body_mask
from ..errors import InputError
from ..phantoms.lesions import Disease
from ..phantoms.scanners import SCANNERS
from ..scan import Scan
from .image_quality import dice
from .mri_arms import UNHARMONIZED, Arm, Visit, harmonized

WHITE, GREY = "white matter", "grey matter"
LESIONS = ("lesion", "oedema", "white matter lesions")
DISEASES = (Disease.TUMOUR_WITH_OEDEMA, Disease.MULTIPLE_SCLEROSIS)  # people have them in turn
RIM_MM = 3.0  # around a lesion: partial volume, and where a result might let it grow
AROUND_MM = 10.0  # white matter up to here is what a lesion is held against
INNER_MM = 2.0  # from the edge of the white matter, what lies nearer is partial volume
FINE_MM, COARSE_MM = 1.5, 10.0  # smoothing: against noise, and of the surroundings
LEAST_DIFFERENCE = 1 / 3  # of that between white and grey matter
TIMES_USUAL = 5.0  # robust standard deviations of the smoothed difference
LEAST_MM3 = 27.0


@dataclasses.dataclass(frozen=True)
class LesionKept:
    """One lesion (or all plaques) in a result against the target scanner's own scan of the same person.

    contrast, volume: as a share of that in the target's scan, 1 is best. dice: of the two segmentations.
    protected: the lesions were protected structures.
    """

    arm: Arm
    person: int
    source: str
    target: str
    lesion: str
    protected: bool
    contrast: float
    volume: float
    dice: float


@dataclasses.dataclass(frozen=True)
class Invented:
    """Regions of white matter that a result shows and the target scanner does not: how many, and their volume."""

    arm: Arm
    person: int
    source: str
    target: str
    regions: int
    volume_mm3: float


def in_turn(target: str, scanners: Sequence[str], number: int) -> str:
    """The scanner from which a person's scan goes to the target where one is enough; another for the next person."""
    others = [name for name in scanners if name != target]
    return others[number % len(others)]


def lesions_kept(arm: Arm, number: int, seen: Visit, seed: int, spacing_mm: float) -> list[LesionKept]:
    """One person's lesions after an arm, to the arm's target or, without a target of its own, unharmonized to each.

    With a model also with the lesions protected. Raises InputError where the arm cannot harmonize the scan.
    """
    if not arm.target and arm.name != UNHARMONIZED:
        return []
    found = []
    for target in (arm.target,) if arm.target else tuple(SCANNERS):
        source, truth = in_turn(target, tuple(SCANNERS), number), seen.scans[target]
        scan = seen.scans[source]
        result = harmonized(arm, scan, truth, seed, spacing_mm)
        results = {False: result.array}
        names = [name for name in LESIONS if name in scan.structures]
        if arm.model:
            # What `apply` does last, so that the network need not run again.
            safe = scan.with_roles(protected=names)
            results[True] = protection.keep_structure(safe, result.array, body_mask(scan))
        for name in names:
            true = _Lesion.of(truth.array, truth, name)
            for protected, array in results.items():
                one = _Lesion.of(array, scan, name)
                shares = (one.contrast / true.contrast, one.segmented.sum() / max(true.segmented.sum(), 1))
                agreement = dice(true.segmented, one.segmented)
                found.append(LesionKept(arm, number, source, target, name, protected, *map(float, shares), agreement))
    return found


@dataclasses.dataclass(frozen=True, eq=False)
class _Lesion:
    """A lesion in one image: its contrast, and the voxels (z, y, x) that look like it."""

    contrast: float
    segmented: np.ndarray

    @classmethod
    def of(cls, array: np.ndarray, scan: Scan, name: str) -> _Lesion:
        """array (z, y, x); the true masks are the scan's. Raises InputError where nothing lies around the lesion."""
        lesion, white = scan.structures[name].array, scan.structures[WHITE].array
        away = images.distance_mm(lesion, scan.spacing_mm)
        around = white & (away > RIM_MM) & (away <= AROUND_MM)
        if not lesion.any() or not around.any():
            raise InputError(f"'{name}' of {scan.name} is empty or has no white matter around it")
        inside, outside = float(array[lesion].mean()), float(array[around].mean())
        step = outside - float(array[scan.structures[GREY].array].mean())
        nearer = np.abs(array - inside) < np.abs(array - outside)
        where = lesion | (white & (away <= RIM_MM))
        return cls((inside - outside) / step, nearer & where)


def invented(
    result: np.ndarray, truth: np.ndarray, white: np.ndarray, grey: np.ndarray, spacing_mm: tuple[float, float, float]
) -> list[float]:
    """Volumes (mm3) of what a result (z, y, x) shows in the white matter and the truth, on the same scale, does not.

    white, grey: true masks (z, y, x). spacing_mm: x, y, z.
    """
    difference = float(truth[white].mean() - truth[grey].mean())
    inner = white & (images.distance_mm(~white, spacing_mm) > INNER_MM)
    change = np.where(white, result - truth, 0).astype(np.float32)
    fine, coarse = (_mean_around(change, white, [mm / s for s in spacing_mm[::-1]]) for mm in (FINE_MM, COARSE_MM))
    size = np.abs(fine - coarse)
    usual = 1.4826 * float(np.median(size[inner])) if inner.any() else 0.0
    labels, count = ndimage.label(inner & (size > max(LEAST_DIFFERENCE * abs(difference), TIMES_USUAL * usual)))
    sizes = np.bincount(labels.ravel(), minlength=count + 1)[1:] * float(np.prod(spacing_mm))
    return [float(size) for size in sizes if size >= LEAST_MM3]


def _mean_around(array: np.ndarray, mask: np.ndarray, sigma: list[float]) -> np.ndarray:
    """Gaussian mean over the voxels of the mask alone; `array` is 0 outside of it."""
    weight = ndimage.gaussian_filter(mask.astype(np.float32), sigma, truncate=3)
    return ndimage.gaussian_filter(array, sigma, truncate=3) / np.maximum(weight, 1e-6)
