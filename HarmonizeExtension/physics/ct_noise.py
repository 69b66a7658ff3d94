"""The noise of a CT scan: its power spectrum, where it can be measured, and what it says of two kernels.

The spectrum is that of the kernel, NPS(f) ~ f MTF(f)^2 with filtered back projection, so that two scans of different
patients tell the filter between their kernels: H(f) = sqrt(NPS_target / NPS_source).

Sources: Samei et al., AAPM TG 233, Med Phys 46:e735, 2019 (noise power spectrum); Blackman and Tukey, The measurement
of power spectra, 1958 (spectrum from the tapered autocorrelation).
"""

from __future__ import annotations

import dataclasses

import numpy as np
from scipy import fft, ndimage, optimize

from .. import images
from ..errors import InputError
from .ct_kernel import FREQUENCIES_LP_PER_MM, continued, radial_frequency

SOFT_TISSUE_HU = (-150.0, 250.0)  # where noise is looked for when no structure is marked
DETREND_MM = 4.0  # sigma of the smooth background that is taken off before noise is measured
LAG_MM = 15.0  # reach of the noise autocorrelation in the plane
LAG_SLICES = 3  # and across slices
MINIMUM_NOISE_VOXELS = 5000
CALM_RATIO = 1.8  # how much less calm than the calmest tissue a place may be
LOWEST_LP_PER_MM = 0.15  # below it the spectrum holds anatomy, detrending and the reach's own width, not the kernel


@dataclasses.dataclass(frozen=True)
class NoiseSpectrum:
    """The noise power spectrum of axial slices.

    frequency_lp_per_mm: (n,) radial frequency.
    cross_power: (lags, n) in HU^2 mm^2; row k is the cross spectrum of slices k apart, row 0 the spectrum of a slice.
    slice_spacing_mm: distance of neighbouring slices.
    rounding_power: part of the spectrum, flat, that rounding to whole HU adds, in HU^2 mm^2.
    """

    frequency_lp_per_mm: np.ndarray
    cross_power: np.ndarray
    slice_spacing_mm: float
    rounding_power: float

    @property
    def power(self) -> np.ndarray:
        """The spectrum of a slice (n,), HU^2 mm^2."""
        return self.cross_power[0]

    @property
    def noise_cross_power(self) -> np.ndarray:
        """`cross_power` less what slices LAG_SLICES apart still share: that is anatomy (or rings), not noise."""
        if len(self.cross_power) <= LAG_SLICES:
            return self.cross_power
        return self.cross_power - self.cross_power[-1:]

    @property
    def constant_power(self) -> np.ndarray:
        """The noise spectrum (n,) at axial frequency 0, which a blend of neighbouring slices leaves as it is."""
        noise = self.noise_cross_power
        taper = np.cos(np.pi / 2 * np.arange(len(noise)) / len(noise)) ** 2
        return noise[0] + 2 * np.tensordot(taper[1:], noise[1:], 1)


def noise_spectrum(array: np.ndarray, mask: np.ndarray, spacing_mm: tuple[float, float, float]) -> NoiseSpectrum:
    """The noise power spectrum inside a mask of any shape (z, y, x).

    A smooth background is taken off slice by slice; the autocorrelation over all pairs of voxels inside the mask,
    tapered by cos^2 over LAG_MM, gives the spectrum (Blackman-Tukey), averaged over directions. Unlike square
    patches this uses every voxel of a structure. Raises InputError for fewer than MINIMUM_NOISE_VOXELS.
    """
    if mask.sum() < MINIMUM_NOISE_VOXELS:
        raise InputError(
            f"only {int(mask.sum())} voxels of uniform tissue to measure the noise in, {MINIMUM_NOISE_VOXELS} are "
            "needed; mark a larger uniform structure (liver, muscle) as reference"
        )
    reach = [int(np.ceil(LAG_MM / s)) for s in spacing_mm[1::-1]]  # y, x
    box = images.bounding_box(mask)
    array, mask = array[box].astype(np.float32), mask[box]
    lags = min(LAG_SLICES, len(array) - 1) + 1
    shape = tuple(fft.next_fast_len(n + r, real=True) for n, r in zip(mask.shape[1:], reach, strict=True))
    sums = np.zeros((lags, 2, shape[0], shape[1] // 2 + 1), complex)
    sigma = [DETREND_MM / s for s in spacing_mm[1::-1]]
    recent: list[np.ndarray] = []
    for values, inside in zip(array, mask, strict=True):
        weight = inside.astype(np.float32)
        trend = ndimage.gaussian_filter(values * weight, sigma) / np.maximum(
            ndimage.gaussian_filter(weight, sigma), 1e-3
        )
        recent = [fft.rfft2(np.stack([(values - trend) * weight, weight]), shape), *recent[: lags - 1]]
        for lag, earlier in enumerate(recent):
            sums[lag] += earlier.conj() * recent[0]
    window = np.ix_(*(np.arange(-r, r + 1) for r in reach))
    products, pairs = (fft.irfft2(sums[:, i], shape)[(slice(None), *window)] for i in (0, 1))
    distance = np.hypot(
        *np.meshgrid(*(np.arange(-r, r + 1) * s for r, s in zip(reach, spacing_mm[1::-1], strict=True)), indexing="ij")
    )
    taper = np.cos(np.pi / 2 * np.minimum(distance / LAG_MM, 1)) ** 2
    correlation = products / np.maximum(pairs, 1) * (pairs > 0.5) * taper

    size = 2 * fft.next_fast_len(2 * max(reach) + 1)
    pixel_area = spacing_mm[0] * spacing_mm[1]
    spectrum = np.abs(pixel_area) * fft.fft2(fft.ifftshift(_padded(correlation, size), axes=(1, 2))).real
    radius = radial_frequency((size, size), spacing_mm)
    frequency, cross_power = _ring_means(radius, spectrum, 0.5 / max(spacing_mm[:2]))
    whole = np.array_equal(array, np.round(array))
    return NoiseSpectrum(frequency, cross_power, spacing_mm[2], pixel_area / 12 if whole else 0.0)


def uniform_tissue(array: np.ndarray, body: np.ndarray, spacing_mm: tuple[float, float, float]) -> np.ndarray:
    """Where noise can be measured without a marked structure (z, y, x): the calm part of the soft tissue.

    Soft tissue is where all smoothed values within 4 mm in the plane are -150 to 250 HU. Calm is where they differ by
    at most CALM_RATIO times what they do in the calmest twentieth: nearly all of a uniform phantom, where only noise
    makes them differ, but little of a thigh with fat between its muscles. Enough for a spectrum is always taken.
    """
    smooth = ndimage.gaussian_filter(array, [0, *(1.0 / s for s in spacing_mm[1::-1])])
    size = [1, *(2 * int(4.0 / s) + 1 for s in spacing_mm[1::-1])]
    highest, lowest = ndimage.maximum_filter(smooth, size), ndimage.minimum_filter(smooth, size)
    soft = body & (lowest > SOFT_TISSUE_HU[0]) & (highest < SOFT_TISSUE_HU[1])
    spread = highest - lowest
    if not soft.any():
        return soft
    enough = min(2 * MINIMUM_NOISE_VOXELS / soft.sum(), 1.0)
    limit = max(CALM_RATIO * np.quantile(spread[soft], 0.05), np.quantile(spread[soft], enough))
    return soft & (spread <= limit)


def common_band(source: NoiseSpectrum, target: NoiseSpectrum) -> np.ndarray:
    """Frequencies (lp/mm) from LOWEST_LP_PER_MM up to where either spectrum sinks into rounding or leakage."""
    top = 0.95 * min(source.frequency_lp_per_mm[-1], target.frequency_lp_per_mm[-1])
    f = np.arange(LOWEST_LP_PER_MM, top, 0.01)
    usable = np.ones(len(f), bool)
    for spectrum in (source, target):
        power = np.interp(f, spectrum.frequency_lp_per_mm, spectrum.power)
        usable &= power > max(4 * spectrum.rounding_power, 3e-3 * power.max(initial=0.0))
    band = f if usable.all() else f[: int(np.argmin(usable))]
    if len(band) < 15:
        raise InputError(
            "the noise of the two scans has too few frequencies in common to compare their kernels; "
            "mark a uniform reference structure, or name both kernels"
        )
    return band


def noise_ratio(source: NoiseSpectrum, target: NoiseSpectrum) -> np.ndarray:
    """sqrt(NPS_target / NPS_source) at FREQUENCIES_LP_PER_MM, normalised to 1 at frequency 0.

    Where the slices of both scans are equally far apart the power at axial frequency 0 is compared, which blur
    between slices leaves as it is. The logarithm is fitted by a polynomial in f^2 (the ratio of two symmetric kernels
    is even in f); its constant is the ratio of the noise levels (dose) and is dropped.
    """
    band = common_band(source, target)
    power = []
    for spectrum in (source, target):
        full = spectrum.constant_power if same_slice_spacing(source, target) else spectrum.power
        rounding = spectrum.rounding_power
        power.append(np.maximum(np.interp(band, spectrum.frequency_lp_per_mm, full) - rounding, 1e-3 * full.max()))
    fit = np.polynomial.Polynomial.fit(band**2, 0.5 * np.log(power[1] / power[0]), 2, w=np.sqrt(band))
    log_ratio = fit(FREQUENCIES_LP_PER_MM**2) - fit(0.0)
    return np.exp(continued(log_ratio, int(np.searchsorted(FREQUENCIES_LP_PER_MM, band[-1]))))


def same_slice_spacing(source: NoiseSpectrum, target: NoiseSpectrum) -> bool:
    """True where slices are equally far apart (5 %) and there are neighbours, so that axial blur can be compared."""
    near = abs(source.slice_spacing_mm / target.slice_spacing_mm - 1) < 0.05
    return near and min(len(source.cross_power), len(target.cross_power)) > 1


def slice_blend(source: NoiseSpectrum, target: NoiseSpectrum) -> float:
    """The weight w of each neighbour in the blend w, 1 - 2 w, w of slices that gives the source's noise the target's
    correlation between slices; negative where the source is the more blended one (the blend is then undone).

    Bound to -0.2 ... 0.25: beyond, slices are of another thickness, which no filter makes up for.
    """
    if not same_slice_spacing(source, target):
        return 0.0
    band = common_band(source, target)
    sharp, smooth = (float(np.mean(_neighbour_correlation(spectrum, band))) for spectrum in (source, target))
    sign = 1.0
    if sharp > smooth:
        sharp, smooth, sign = smooth, sharp, -1.0
    rest = np.r_[sharp, 0.0, 0.0]  # correlation one, two, three slices apart; those further count for nothing

    def correlation(w: float) -> float:
        blend = np.convolve([w, 1 - 2 * w, w], [w, 1 - 2 * w, w])  # lags -2 ... 2
        at = np.r_[rest[1::-1], 1.0, rest]  # lags -2 ... 3
        return float(np.dot(blend, at[1:6]) / np.dot(blend, at[:5]))

    limit = 0.25 if sign > 0 else 0.2
    if correlation(limit) <= smooth:
        return sign * limit
    return sign * float(optimize.brentq(lambda w: correlation(w) - smooth, 0.0, limit))


def _neighbour_correlation(spectrum: NoiseSpectrum, frequency: np.ndarray) -> np.ndarray:
    """Correlation of the noise of neighbouring slices at each frequency."""
    alone, together = (np.interp(frequency, spectrum.frequency_lp_per_mm, p) for p in spectrum.noise_cross_power[:2])
    return np.clip(together / np.maximum(alone, 1e-3 * alone.max()), -1, 1)


def _padded(stack: np.ndarray, size: int) -> np.ndarray:
    """Odd-sized planes (k, y, x) in the middle of zero planes of size x size, the centre at size // 2."""
    before = [size // 2 - n // 2 for n in stack.shape[1:]]
    return np.pad(stack, [(0, 0), *((b, size - n - b) for b, n in zip(before, stack.shape[1:], strict=True))])


def _ring_means(radius: np.ndarray, planes: np.ndarray, top: float) -> tuple[np.ndarray, np.ndarray]:
    """Mean radius (n,) and mean of each plane (k, n) over rings of 0.02 lp/mm up to `top`."""
    ring = (radius / 0.02).astype(int).ravel()
    count = np.bincount(ring)
    frequency = np.bincount(ring, radius.ravel()) / np.maximum(count, 1)
    means = np.stack([np.bincount(ring, plane.ravel()) / np.maximum(count, 1) for plane in planes])
    use = (count > 0) & (frequency <= top)
    return frequency[use], means[:, use]
