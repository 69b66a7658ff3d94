"""CT slices of simulated people and phantoms as several reconstruction kernels show them, drawn once into a folder.

    folder/
        index.json        the settings
        00000.npy         (kernel, slice, y, x) of the first case, int16, HU
        00000.spacing.npy width of its pixels in mm

All kernels of a case are given the same photons, so that they are to each other as reconstructions of one scan are.
Slices of a case are neighbours. A slice n times as thick as the thinnest is the mean of n thin ones: it shows the mean
of what they show, from n times as many photons.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np

from ..errors import InputError
from ..phantoms import ct_slices
from ..physics.ct_scan import KERNELS, Kernel, scan_with_kernels
from ..progress import Progress, silent
from .drawn import array_path, draw_missing, save_array

REAL = "real"
KINDS = ("chest", "abdomen", "chest", "phantom", "abdomen", "head")  # in turn
CENTRE_MM, REAL_CENTRE_MM = 45.0, 15.0  # how far from the axis the middle of the field may lie


@dataclasses.dataclass(frozen=True)
class KernelRecipe:
    """What is drawn.

    cases, seed: how many stacks of slices, and which. kernels: in the order of the arrays. slices: of a case.
    size: pixels along y and x. spacing_mm: their width, at random between two values. slice_mm: thickness and
    distance of the thinnest slices. thick: how many times as thick the slices of a case are; the next for every round
    of `kinds`.
    photons: towards each detector in each view of a thin slice, at random between two values (even in the logarithm).
    kinds: what is scanned, in turn: names of `phantoms.ct_slices.KINDS`, or "real" for `scans`.
    scans: files of real CT for the kind "real".
    """

    cases: int
    seed: int
    kernels: tuple[Kernel, ...] = tuple(KERNELS.values())
    slices: int = 8
    size: int = 256
    spacing_mm: tuple[float, float] = (0.7, 0.7)
    slice_mm: float = 1.0
    photons: tuple[float, float] = (4e5, 1e7)
    kinds: tuple[str, ...] = KINDS
    scans: tuple[str, ...] = ()
    thick: tuple[int, ...] = (1,)

    def __post_init__(self):
        unknown = [kind for kind in self.kinds if kind not in (*ct_slices.KINDS, REAL)]
        if unknown or not self.kinds:
            names = ", ".join((*ct_slices.KINDS, REAL))
            raise InputError(f"there is no kind of slice {', '.join(unknown) or 'given'}; there are: {names}")
        if (REAL in self.kinds) != bool(self.scans):
            raise InputError(
                "real slices need scans to take them from; give both the kind 'real' and scans, or neither"
            )
        if min(self.cases, self.slices, len(self.kernels)) < 1 or self.size < 16:
            raise InputError("at least one case, one slice, one kernel and 16 pixels must be drawn")
        if not self.thick or min(self.thick) < 1:
            raise InputError("slices are once as thick as the thinnest, or a whole number of times")
        if not 0 < self.spacing_mm[0] <= self.spacing_mm[1] or not 0 < self.photons[0] <= self.photons[1]:
            raise InputError("spacing and photons are two positive numbers each, the smaller one first")

    @property
    def kernel_names(self) -> tuple[str, ...]:
        """Names in the order of the arrays."""
        return tuple(kernel.name for kernel in self.kernels)


def draw_kernel_pairs(
    folder: Path | str, recipe: KernelRecipe, workers: int = 2, progress: Progress = silent
) -> KernelPairs:
    """Draw what is missing in the folder, and open it. The same recipe gives the same bytes.

    Raises InputError where the folder holds slices of another recipe.
    """
    return KernelPairs(draw_missing(folder, recipe, recipe.cases, _draw, workers, progress, what="cases"), recipe)


def _draw(folder: Path, recipe: KernelRecipe, number: int) -> None:
    scans, spacing_mm = draw_case(recipe, np.random.SeedSequence([recipe.seed, number]), number)
    save_array(array_path(folder, number, "spacing"), np.array(spacing_mm))
    save_array(array_path(folder, number), scans)


def draw_case(recipe: KernelRecipe, seed: np.random.SeedSequence, number: int) -> tuple[np.ndarray, float]:
    """The scans of one case (kernel, slice, y, x), int16, in HU, and the width of its pixels in mm."""
    object_rng, scan_rng = (np.random.default_rng(s) for s in seed.spawn(2))
    kind = recipe.kinds[number % len(recipe.kinds)]
    thick = recipe.thick[number // len(recipe.kinds) % len(recipe.thick)]
    thin = recipe.slices * thick
    if kind == REAL:
        array = _read(recipe.scans[int(object_rng.integers(len(recipe.scans)))])
        slices = ct_slices.from_scan(array, thin, object_rng)
    else:
        slices = ct_slices.draw_slices(kind, thin, recipe.slice_mm, object_rng)
    slices = slices.reshape(recipe.slices, thick, *slices.shape[1:]).mean(axis=1)
    spacing_mm = float(scan_rng.uniform(*recipe.spacing_mm))
    photons = thick * float(np.exp(scan_rng.uniform(*np.log(recipe.photons))))
    reach_mm = REAL_CENTRE_MM if kind == REAL else CENTRE_MM
    centre_mm = tuple(float(c) for c in scan_rng.uniform(-reach_mm, reach_mm, 2))
    scans = scan_with_kernels(
        slices, ct_slices.PIXEL_MM, recipe.kernels, photons, scan_rng, recipe.size, spacing_mm, centre_mm
    )
    return np.rint(np.clip(scans, -1024, 3071)).astype(np.int16), spacing_mm


def _read(path: str) -> np.ndarray:
    from .. import images
    from ..files.volume import read_volume

    return images.to_array(read_volume(path))


@dataclasses.dataclass(frozen=True)
class KernelPairs:
    """Drawn slices; arrays are read as they are asked for."""

    folder: Path
    recipe: KernelRecipe

    def scans(self, number: int) -> np.ndarray:
        """The slices of a case (kernel, slice, y, x), int16, in HU; read from disk in parts."""
        return np.load(array_path(self.folder, number), mmap_mode="r")

    def spacing_mm(self, number: int) -> float:
        """The width of a case's pixels."""
        return np.load(array_path(self.folder, number, "spacing")).item()
