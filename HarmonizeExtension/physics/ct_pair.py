"""Kernels of a real scan that was reconstructed twice, measured so that simulated pairs look like it.

Edges tell what the whole chain does to structures. The noise spectrum tells what happens to noise: it is the ramp
times the square of a transfer function, which is that of the kernel alone (focal spot and detector blur structures,
not noise), and a smoother one where iterative reconstruction took noise away.

Sources: Samei et al., AAPM TG 233, Med Phys 46:e735, 2019; Yu et al., Med Phys 42:2261, 2015.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy import optimize

from ..body import body_mask
from ..errors import InputError
from ..scan import Scan
from .ct_edges import edge_mtf
from .ct_kernel import KernelMTF
from .ct_noise import LOWEST_LP_PER_MM, NoiseSpectrum, noise_spectrum, slice_blend, uniform_tissue
from .ct_scan import Kernel

LEAST_MTF = 0.05  # smaller values of a measured MTF are noise
SPECTRUM_FLOOR = 3e-3  # of a spectrum's maximum, below which it is leakage


def kernels_of_pair(first: Scan, second: Scan, slices: slice = slice(None)) -> tuple[Kernel, Kernel]:
    """The kernels of two reconstructions of one scan, on the same grid.

    slices: those to measure on (z); how much more one blends neighbouring slices is measured where they are neighbours.
    Noise is measured where the smoother of the two shows uniform tissue. Of both
    spectra the level at low frequency is taken to be the same, since the photons were.
    Raises InputError where the grids differ or where there are too few edges or too little uniform tissue.
    """
    if first.image.GetSize() != second.image.GetSize():
        raise InputError(f"'{first.name}' and '{second.name}' lie on other grids; give two reconstructions of one scan")
    arrays = [scan.array[slices].astype(np.float32) for scan in (first, second)]
    body, spacing_mm = body_mask(first)[slices], first.spacing_mm
    edges = [
        _fitted(edge_mtf(array, spacing_mm, scan.name)) for array, scan in zip(arrays, (first, second), strict=True)
    ]
    smoother = arrays[int(np.argmin([values[0] for values in edges]))]
    region = uniform_tissue(smoother, body, spacing_mm)
    spectra = [noise_spectrum(array, region, spacing_mm) for array in arrays]
    more = slice_blend(*spectra) if slices.step in (None, 1) else 0.0  # what the first lacks
    blends = (max(-more, 0.0), max(more, 0.0))
    kernels = [
        Kernel(scan.name, *(round(float(v), 4) for v in (*edge, *of_noise, 1.0, blend)))
        for scan, edge, of_noise, blend in zip((first, second), edges, _noise_transfers(spectra), blends, strict=True)
    ]
    return kernels[0], kernels[1]


def _fitted(mtf: KernelMTF) -> tuple[float, float, float]:
    """MTF50, MTF10 and boost of the kernel that is closest to a measured MTF."""
    use = mtf.value > LEAST_MTF
    f, value = mtf.frequency_lp_per_mm[use], mtf.value[use]
    half = float(np.interp(0.5, value[::-1], f[::-1]))

    def error(p: np.ndarray) -> np.ndarray:
        return Kernel("", p[0], p[0] * (1 + p[1]), p[2]).mtf(f) - value

    found = optimize.least_squares(error, (half, 0.5, 0.0), bounds=([0.05, 0.05, 0.0], [3, 5, 1]))
    return float(found.x[0]), float(found.x[0] * (1 + found.x[1])), float(found.x[2])


def _noise_transfers(spectra: list[NoiseSpectrum]) -> list[tuple[float, float]]:
    """MTF50 and MTF10 of what happened to noise, for each spectrum; their levels at frequency 0 are one."""
    measured = []
    for spectrum in spectra:
        f, power = spectrum.frequency_lp_per_mm, spectrum.power - spectrum.rounding_power
        use = (f > LOWEST_LP_PER_MM) & (power > SPECTRUM_FLOOR * power.max())
        measured.append((f[use], np.sqrt(power[use] / f[use])))
    level = max(float(np.median(values[: max(3, len(values) // 4)])) for _, values in measured)

    def transfer(p: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
        return Kernel("", p[0], p[0] * (1 + p[1])).mtf

    def error(p: np.ndarray) -> np.ndarray:
        parts = [
            (np.exp(p[0]) * transfer(q)(f) - values / level) * np.sqrt(f)
            for q, (f, values) in zip(p[1:].reshape(-1, 2), measured, strict=True)
        ]
        return np.concatenate(parts)

    start = [0.0, *(v for f, _ in measured for v in (0.5 * f[-1], 0.5))]
    lowest, highest = [-2.0, *[0.05, 0.05] * len(measured)], [2.0, *[3.0, 8.0] * len(measured)]
    found = optimize.least_squares(error, start, bounds=(lowest, highest)).x[1:].reshape(-1, 2)
    return [(float(half), float(half * (1 + more))) for half, more in found]
