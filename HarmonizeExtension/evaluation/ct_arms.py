"""What the CT benchmark compares: scans with several kernels, simulated or real, and everything done to them.

The simulated cases are drawn from seed sequences of three words, those of trainings from two (`training.kernel_pairs`),
so that no case here was ever trained on, whatever the seeds are.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from scipy import ndimage, optimize

from ..body import body_mask
from ..errors import InputError
from ..files.models import load_model
from ..files.reading import read_scan
from ..methods.base import Harmonizer
from ..methods.kernel_matching import KernelMatching
from ..methods.paired_ct.harmonizer import PairedCT
from ..methods.radiomicgan.harmonizer import RadiomicGAN
from ..physics.ct_edges import edge_mtf
from ..physics.ct_kernel import KernelMTF
from ..physics.ct_scan import KERNELS
from ..scan import Acquisition, Modality, Scan
from ..training.kernel_pairs import KernelRecipe, draw_case
from .image_quality import HU_WINDOW
from .trained_models import model_folders, system_of

SEEN, REFERENCE = 0x6374, 0x726566  # third words of the seeds: cases that are measured, and that are learnt from
KINDS = ("chest", "abdomen", "phantom")  # in turn
SLICES, REFERENCE_SLICES = 10, 4
STANDARD = "Bl64"
DIRECTIONS = (("Br40", STANDARD), ("Bl57", STANDARD), (STANDARD, "Br40"), (STANDARD, "Bl57"))

INPUT, MATCHING, GAUSSIAN = "input", "histogram matching", "best Gaussian (oracle)"
MEASURED_FILTER, TOLD_FILTER = "MTF filter, measured", "MTF filter, told both MTF"
WIDEST_PIXELS = 6.0  # of the Gaussians that are tried
SYSTEMS = {system.card.name: system for system in (RadiomicGAN, PairedCT)}  # of learned models


@dataclasses.dataclass(frozen=True, eq=False)
class Case:
    """A scan with several kernels, and what statistics may be learnt from.

    scans: by kernel. references: by kernel, scans whose statistics are those of the kernel. kernels: their MTF, where
    it is known. counted: the slices (z) that are measured.
    """

    name: str
    scans: dict[str, Scan]
    references: dict[str, Scan]
    kernels: dict[str, KernelMTF]
    counted: slice = dataclasses.field(default_factory=lambda: slice(None))


@dataclasses.dataclass(frozen=True)
class Arm:
    """One thing that is done to a scan. model, system: of a learned one; known: the kernels that it was trained on."""

    name: str
    model: str = ""
    system: str = ""
    known: tuple[str, ...] = ()


def arms(models: Path | str | None = None) -> list[Arm]:
    """The filters, and every model of CT kernels in a folder of model folders.

    models: those that ship where None. Raises InputError for a folder that is not there, ModelError for a damaged
    model.
    """
    found = [Arm(name) for name in (INPUT, MATCHING, GAUSSIAN, MEASURED_FILTER, TOLD_FILTER)]
    for folder in model_folders(models):
        system = system_of(folder)
        if system in SYSTEMS:
            card, _ = load_model(folder, system)
            found.append(Arm(folder.name, str(folder), system, card.sites))
    return found


def usable(arm: Arm, case: Case, target: str) -> bool:
    """Whether an arm can be tried: a real scan's MTF is not known, and a model shows the kernels it knows alone."""
    if arm.model:
        try:
            return shown_as(arm, case, target) in arm.known
        except InputError:  # too few edges to say which kernel the target is like
            return False
    return bool(case.kernels) or arm.name != TOLD_FILTER


def simulated_case(seed: int, number: int, slice_mm: int = 1) -> Case:
    """A case of the benchmark; the same numbers give the same voxels. slice_mm: how thick its slices are."""
    kind = KINDS[number % len(KINDS)]
    scans = _scans(seed, number, SEEN, kind, SLICES, slice_mm)
    kernels = {name: kernel.mtf for name, kernel in KERNELS.items()}
    return Case(f"{kind} {number + 1}", scans, references(seed, kind, slice_mm), kernels)


@functools.lru_cache(maxsize=len(KINDS))
def references(seed: int, kind: str, slice_mm: int = 1) -> dict[str, Scan]:
    """Another case of the same kind, by kernel, that methods may learn from."""
    return _scans(seed, KINDS.index(kind), REFERENCE, kind, REFERENCE_SLICES, slice_mm)


def _scans(seed: int, number: int, word: int, kind: str, slices: int, slice_mm: int) -> dict[str, Scan]:
    recipe = KernelRecipe(1, seed, slices=slices, kinds=(kind,), thick=(slice_mm,))
    arrays, spacing_mm = draw_case(recipe, np.random.SeedSequence([seed, number, word]), 0)
    scans = {}
    for name, array in zip(recipe.kernel_names, arrays, strict=True):
        image = sitk.GetImageFromArray(array.astype(np.float32))
        image.SetSpacing((spacing_mm, spacing_mm, recipe.slice_mm * slice_mm))
        scans[name] = Scan(image, Modality.CT, acquisition=Acquisition(kernel=name), units="HU", name=f"{kind}, {name}")
    return scans


def real_case(pair: Sequence[str | Path]) -> Case:
    """Two reconstructions of one real scan, files on one grid; each may name its kernel behind a `#`.

    The slices 0, 2, 4 and so on are measured; the others may be trained on. The references are the whole scans: how
    neighbouring slices are blended shows in neighbours only, and statistics of a scan do not tell its voxels.
    Raises InputError where the files cannot be read or do not lie on one grid.
    """
    if len(pair) != 2:
        raise InputError(f"a pair is two files, not {len(pair)}; give two reconstructions of one scan")
    scans: dict[str, Scan] = {}
    for number, text in enumerate(map(str, pair)):
        path, _, named = text.partition("#")
        scan = read_scan(path, modality=Modality.CT, units="HU")
        name = named or scan.acquisition.kernel or f"kernel {number + 1}"
        acquisition = dataclasses.replace(scan.acquisition, kernel=name)
        scans[name] = dataclasses.replace(scan, acquisition=acquisition, name=name)
    if len(scans) != 2:
        raise InputError(f"both scans have the kernel '{next(iter(scans))}'; name them: FILE#KERNEL")
    first, second = scans.values()
    if first.image.GetSize() != second.image.GetSize() or not np.allclose(first.spacing_mm, second.spacing_mm):
        raise InputError(f"'{pair[0]}' and '{pair[1]}' lie on other grids; give two reconstructions of one scan")
    return Case("pair", scans, scans, {}, slice(0, None, 2))


def counted_scan(case: Case, scan: Scan, array: np.ndarray | None = None) -> Scan:
    """The measured slices of a scan as a scan, with other intensities (of those slices) where given."""
    part = dataclasses.replace(scan, image=scan.image[:, :, case.counted], structures={})
    return part if array is None else part.with_array(array)


def harmonized(arm: Arm, case: Case, source: str, target: str) -> np.ndarray:
    """What an arm makes of the scan with the kernel `source` for it to look like `target`: the measured slices, HU.

    The oracle alone is given the truth. Raises InputError where it cannot.
    """
    scan, truth = case.scans[source], case.scans[target].array[case.counted]
    if arm.name == INPUT:
        return scan.array[case.counted]
    if arm.name == GAUSSIAN:
        return best_gaussian(scan.array[case.counted], truth)[0]
    if arm.name == MATCHING:
        return matched(scan.array[case.counted], case.references[target].array)
    return _method(arm, case, source, target).apply(scan).array[case.counted]


def _method(arm: Arm, case: Case, source: str, target: str) -> Harmonizer:
    if arm.name == TOLD_FILTER:
        return KernelMatching(case.kernels[target], case.kernels[source])
    if arm.name == MEASURED_FILTER:
        return KernelMatching(case.references[target])
    return SYSTEMS[arm.system].for_target(f"{arm.model}#{shown_as(arm, case, target)}")


def shown_as(arm: Arm, case: Case, target: str) -> str:
    """The kernel that a model is asked for: the target where it knows it, else the simulated one of nearest MTF50.

    Raises InputError where the MTF of a real scan has to be measured and cannot be.
    """
    if target in arm.known:
        return target
    mtf50 = _mtf50(case, target)
    return min(KERNELS, key=lambda name: abs(KERNELS[name].mtf50_lp_per_mm - mtf50))


def _mtf50(case: Case, kernel: str) -> float:
    reference = case.references[kernel]
    mtf = case.kernels.get(kernel) or edge_mtf(reference.array, reference.spacing_mm, kernel)
    return float(np.interp(-0.5, -mtf.value, mtf.frequency_lp_per_mm))


def best_gaussian(array: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, float]:
    """The array (z, y, x) after the in-plane Gaussian that brings it closest to the truth, and its sigma in pixels.

    Closest in the mean square of what lies in HU_WINDOW; a Gaussian only ever blurs, so that towards a sharper kernel
    its sigma is 0.
    """
    wanted = np.clip(truth, *HU_WINDOW)

    def error(sigma: float) -> float:
        blurred = np.clip(ndimage.gaussian_filter(array, (0, sigma, sigma)), *HU_WINDOW)
        return float(np.mean((blurred - wanted) ** 2))

    sigma = float(
        optimize.minimize_scalar(error, bounds=(0, WIDEST_PIXELS), method="bounded", options={"xatol": 0.02}).x
    )
    if error(sigma) >= error(0.0):
        sigma = 0.0
    return ndimage.gaussian_filter(array, (0, sigma, sigma)), sigma


def matched(array: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """The array with the histogram of the reference (Gonzalez and Woods, Digital image processing, section 3.3.2)."""
    _, which, count = np.unique(array, return_inverse=True, return_counts=True)
    wanted, wanted_count = np.unique(reference, return_counts=True)
    share, wanted_share = np.cumsum(count) / array.size, np.cumsum(wanted_count) / reference.size
    return np.interp(share, wanted_share, wanted)[which].reshape(array.shape).astype(np.float32)


def body_of(case: Case) -> np.ndarray:
    """Where the patient or phantom is in the measured slices (z, y, x), bool, on every kernel."""
    return np.all([body_mask(scan)[case.counted] for scan in case.scans.values()], axis=0)
