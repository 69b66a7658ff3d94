"""The reconstruction kernel of a CT scan, and the filter from one kernel to another.

A kernel acts in the plane of the slice and, to first order, linearly and alike in all directions, so that one scan
turns into the other by a radial in-plane filter H(f) = MTF_target(f) / MTF_source(f). Both keep the mean: H(0) = 1.
Where no phantom was scanned the ratio is seen twice in the patients themselves: in the texture of the noise
(ct_noise.py) and in the edges of structures (ct_edges.py).

Frequencies are in line pairs per mm (lp/mm); arrays are (z, y, x) in HU; spacing is (x, y, z) in mm.

Sources: Samei et al., Performance evaluation of computed tomography systems: AAPM TG 233, Med Phys 46:e735, 2019;
Mackin et al., Matching and homogenizing convolution kernels for quantitative studies in computed tomography,
Invest Radiol 54:288, 2019; Gallardo-Estrella et al., Normalizing computed tomography data reconstructed with
different filter kernels, Eur Radiol 26:478, 2016 (energies of frequency bands matched).
"""

from __future__ import annotations

import dataclasses

import numpy as np
from scipy import fft, linalg, ndimage

from ..errors import InputError
from ..progress import CancelCheck, Progress, never, silent, stop_if

FREQUENCIES_LP_PER_MM = np.linspace(0, 2, 201)  # where ratios and filters are tabulated


@dataclasses.dataclass(frozen=True)
class KernelMTF:
    """The modulation transfer function of a kernel, tabulated; 1 at frequency 0, and 0 beyond the last entry.

    name: what the user calls the kernel.
    frequency_lp_per_mm, value: arrays of equal length, frequency ascending from 0.
    """

    name: str
    frequency_lp_per_mm: np.ndarray
    value: np.ndarray

    def __post_init__(self):
        frequency, value = (np.asarray(v, dtype=float) for v in (self.frequency_lp_per_mm, self.value))
        if (
            frequency.ndim != 1
            or frequency.shape != value.shape
            or len(frequency) < 2
            or frequency[0] != 0
            or not (np.diff(frequency) > 0).all()
            or not np.isfinite(value).all()
            or (value < 0).any()
            or abs(value[0] - 1) > 1e-6
        ):
            raise InputError(
                f"the MTF of kernel '{self.name}' cannot be used; give frequencies in lp/mm that ascend from 0 "
                "and as many values, not negative, the first of them 1"
            )
        object.__setattr__(self, "frequency_lp_per_mm", frequency)
        object.__setattr__(self, "value", value)

    def __call__(self, frequency_lp_per_mm: np.ndarray) -> np.ndarray:
        """The MTF at any frequencies."""
        return np.interp(frequency_lp_per_mm, self.frequency_lp_per_mm, self.value, right=0.0)

    @classmethod
    def from_mtf50_mtf10(cls, name: str, mtf50_lp_per_mm: float, mtf10_lp_per_mm: float) -> KernelMTF:
        """exp(-(f / f0)^p) through the two figures that vendors state: where the MTF is 50 % and 10 %."""
        if not 0 < mtf50_lp_per_mm < mtf10_lp_per_mm:
            raise InputError(f"kernel '{name}': MTF50 and MTF10 must be positive, in lp/mm, and MTF50 the smaller")
        power = np.log(np.log(10) / np.log(2)) / np.log(mtf10_lp_per_mm / mtf50_lp_per_mm)
        scale = mtf50_lp_per_mm / np.log(2) ** (1 / power)
        return cls(name, FREQUENCIES_LP_PER_MM, np.exp(-((FREQUENCIES_LP_PER_MM / scale) ** power)))

    @classmethod
    def named(cls, name: str) -> KernelMTF:
        """A generic kernel by name; InputError that lists the names for any other."""
        try:
            return cls.from_mtf50_mtf10(name, *GENERIC_KERNELS[name.strip().lower()])
        except KeyError:
            raise InputError(
                f"there is no kernel '{name}'; choose {', '.join(GENERIC_KERNELS)}, or give a reference scan "
                "with the kernel that is wanted"
            ) from None


# MTF50 and MTF10 in lp/mm: round figures of three classes, none of them one vendor's kernel. Sanders et al. 2016 found
# a 50 % frequency of 0.30 (soft) and 0.42 per mm (harder) over patients; "sharp" stands for lung and bone kernels.
GENERIC_KERNELS = {"soft": (0.30, 0.55), "standard": (0.40, 0.68), "sharp": (0.70, 1.00)}


def mtf_ratio(source: KernelMTF, target: KernelMTF) -> np.ndarray:
    """MTF_target / MTF_source at FREQUENCIES_LP_PER_MM; continued smoothly from where either falls under 5 %."""
    f = FREQUENCIES_LP_PER_MM
    low = np.flatnonzero((source(f) < 0.05) | (target(f) < 0.05))
    end = max(int(low[0]) if len(low) else len(f), 3)
    return np.exp(continued(np.log(np.maximum(target(f), 1e-3) / np.maximum(source(f), 1e-3)), end))


def continued(log_ratio: np.ndarray, end: int) -> np.ndarray:
    """The first `end` entries of a log ratio, continued linearly in f^2 with the slope of their last fifth."""
    u = FREQUENCIES_LP_PER_MM**2
    end = min(end, len(u))
    start = min(int(0.8 * end), end - 2)
    slope = (log_ratio[end - 1] - log_ratio[start]) / (u[end - 1] - u[start])
    result = log_ratio.copy()
    result[end:] = log_ratio[end - 1] + slope * (u[end:] - u[end - 1])
    return np.clip(result, -12, 12)


@dataclasses.dataclass(frozen=True)
class KernelFilter:
    """A filter from one kernel to another: in the plane, then across neighbouring slices.

    ratio: MTF_target / MTF_source at FREQUENCIES_LP_PER_MM, 1 at frequency 0.
    slice_weight: as `slice_blend` gives it; 0 leaves slices apart.
    noise_to_signal: of the Wiener regularisation; the gain is at most about 1 / (2 noise_to_signal).
    """

    ratio: np.ndarray
    slice_weight: float = 0.0
    noise_to_signal: float = 0.1

    def gain(self, frequency_lp_per_mm: np.ndarray) -> np.ndarray:
        """H(f) = R (1 + e^2) / (1 + e^2 R^2): R where it is small, bounded and falling where R would blow up noise.

        Wiener's 1/M restored as M / (M^2 + e^2) with M = 1 / R, scaled to H(0) = 1.
        """
        e2 = self.noise_to_signal**2
        gain = self.ratio * (1 + e2) / (1 + e2 * self.ratio**2)
        return np.interp(frequency_lp_per_mm, FREQUENCIES_LP_PER_MM, gain)

    def apply(
        self,
        array: np.ndarray,
        spacing_mm: tuple[float, float, float],
        progress: Progress = silent,
        cancelled: CancelCheck = never,
    ) -> np.ndarray:
        """The filtered slices (z, y, x), float32; borders are mirrored, uniform slices stay as they are."""
        pad = [min(32, n - 1) for n in array.shape[1:]]
        shape = [fft.next_fast_len(n + 2 * p, real=True) for n, p in zip(array.shape[1:], pad, strict=True)]
        extra = [(p, s - n - p) for n, p, s in zip(array.shape[1:], pad, shape, strict=True)]
        gain = self.gain(radial_frequency(shape, spacing_mm))[:, : shape[1] // 2 + 1].astype(np.float32)
        crop = tuple(slice(p, p + n) for n, p in zip(array.shape[1:], pad, strict=True))
        result = np.empty(array.shape, np.float32)
        for z, values in enumerate(array):
            if z % 16 == 0:
                stop_if(cancelled)
                progress(z / len(array), "filtering slices")
            spectrum = fft.rfft2(np.pad(values.astype(np.float32), extra, mode="symmetric"))
            result[z] = fft.irfft2(spectrum * gain, shape)[crop]
        return _blend_slices(result, self.slice_weight)


def _blend_slices(array: np.ndarray, weight: float) -> np.ndarray:
    """Each slice blended with its two neighbours, the outermost slices being their own; undone for weights < 0."""
    if weight == 0 or len(array) < 2:
        return array
    w = abs(weight)
    if weight > 0:
        return ndimage.convolve1d(array, [w, 1 - 2 * w, w], axis=0, mode="nearest")
    bands = np.full((3, len(array)), w)
    bands[1] = 1 - 2 * w
    bands[1, [0, -1]] = 1 - w
    flat = linalg.solve_banded((1, 1), bands, array.reshape(len(array), -1).astype(float))
    return flat.reshape(array.shape).astype(np.float32)


def radial_frequency(shape, spacing_mm) -> np.ndarray:
    """Radial frequency in lp/mm of a 2D FFT of this shape (y, x)."""
    return np.hypot(fft.fftfreq(shape[0], spacing_mm[1])[:, None], fft.fftfreq(shape[1], spacing_mm[0])[None])
