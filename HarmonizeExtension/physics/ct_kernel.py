"""The reconstruction kernel of a CT scan: its MTF, the noise it leaves, and the filter from one kernel to another.

A kernel acts in the plane of the slice and, to first order, linearly and alike in all directions, so that one scan
turns into the other by a radial in-plane filter H(f) = MTF_target(f) / MTF_source(f). Where no phantom was scanned
the ratio is seen twice in the patients themselves: in the edges of structures (the edge-spread function) and in the
texture of the noise, H(f) = sqrt(NPS_target / NPS_source). Both kernels keep the mean, so H(0) = 1.

Frequencies are in line pairs per mm (lp/mm); arrays are (z, y, x) in HU; spacing is (x, y, z) in mm.

Sources: Samei et al., Performance evaluation of computed tomography systems: AAPM TG 233, Med Phys 46:e735, 2019
(noise power spectrum and task transfer function); Sanders, Hurwitz, Samei, Patient-specific quantification of image
quality: edge resolution from the air-skin interface, Med Phys 43:5264, 2016; Mackin et al., Matching and homogenizing
convolution kernels for quantitative studies in computed tomography, Invest Radiol 54:288, 2019 (filter from spectra).
"""

from __future__ import annotations

import dataclasses

import numpy as np
from scipy import fft, linalg, ndimage, optimize

from .. import images
from ..errors import InputError
from ..progress import CancelCheck, Progress, never, silent, stop_if

FREQUENCIES_LP_PER_MM = np.linspace(0, 2, 201)  # where ratios and filters are tabulated

SOFT_TISSUE_HU = (-150.0, 250.0)  # where noise is looked for when no structure is marked
DETREND_MM = 4.0  # sigma of the smooth background that is taken off before noise is measured
LAG_MM = 15.0  # reach of the noise autocorrelation in the plane
LAG_SLICES = 3  # and across slices
MEASURED_SLICES = 64  # enough for a spectrum; more would only cost time
MINIMUM_NOISE_VOXELS = 5000
CALM_RATIO = 1.8  # how much less calm than the calmest tissue a place may be
LOWEST_LP_PER_MM = 0.15  # below it the spectrum holds anatomy, detrending and the reach's own width, not the kernel

EDGE_STEP_HU = 400.0  # air against tissue or bone; weaker edges drown in noise
EDGE_SIGMA_MM = 0.8  # smoothing for finding edges; the edge itself is measured on the scan as it is
EDGE_REACH_MM = 5.0
PLATEAU_MM = (3.0, 6.0)  # distance from the edge at which both sides must be flat
STEEPEST_SHARE = 0.25  # folds, motion and slanting surfaces only ever blur an edge
MINIMUM_EDGES = 100


# ------------------------------------------------------------------------------------------------ kernels by MTF


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


# MTF50 and MTF10 in lp/mm: round figures of the three classes that every vendor has, none of them one vendor's kernel.
GENERIC_KERNELS = {"soft": (0.30, 0.55), "standard": (0.40, 0.68), "sharp": (0.70, 1.00)}


# ------------------------------------------------------------------------------------------------ noise


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
    radius = _radial_frequency((size, size), spacing_mm)
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


def measured_slices(mask: np.ndarray) -> slice:
    """The run of at most MEASURED_SLICES slices that holds most of the mask (z, y, x)."""
    total = np.r_[0, np.cumsum(mask.sum(axis=(1, 2), dtype=float))]
    count = min(MEASURED_SLICES, len(mask))
    start = int(np.argmax(total[count:] - total[:-count]))
    return slice(start, start + count)


# ------------------------------------------------------------------------------------------------ edges


def edge_mtf(array: np.ndarray, spacing_mm: tuple[float, float, float], name: str = "measured") -> KernelMTF:
    """The MTF from all steep, straight or round edges between two flat sides, such as air against tissue.

    Around each edge point the voxels of its slice are sorted by their distance along the normal, which samples the
    edge far finer than the grid (as in ISO 12233); the mean edge's derivative is the line-spread function, its
    Fourier transform the MTF. Only the steepest quarter of the edges counts. Raises InputError for too few edges.
    """
    pixel = np.array(spacing_mm[1::-1])
    smooth = ndimage.gaussian_filter(array, [0, *(EDGE_SIGMA_MM / pixel)])
    slope = np.stack([np.gradient(smooth, s, axis=axis) for axis, s in zip((1, 2), pixel, strict=True)])
    steepness = np.hypot(*slope)
    points = np.argwhere(steepness > EDGE_STEP_HU / 6)  # a step blurred to 2.4 mm (sigma) still reaches this
    points = points[:: max(1, len(points) // 100_000)]
    normal = np.stack([s[tuple(points.T)] for s in slope], 1) / steepness[tuple(points.T)][:, None]

    def along(distance_mm: np.ndarray, image: np.ndarray) -> np.ndarray:
        """Values (points, distances) on the normals."""
        where = points[:, 1:, None] + normal[:, :, None] * (distance_mm / pixel[:, None])[None]
        z = np.broadcast_to(points[:, :1], where.shape[::2])
        return ndimage.map_coordinates(image, [z, where[:, 0], where[:, 1]], order=1, mode="nearest")

    side = np.arange(*PLATEAU_MM, 0.5)
    low, high = along(-side, smooth), along(side, smooth)
    step = high.mean(1) - low.mean(1)
    slant = np.abs(np.gradient(smooth, spacing_mm[2], axis=0)[tuple(points.T)]) / steepness[tuple(points.T)]
    flat = 0.05 * step
    near = np.arange(-1.0, 1.01, 0.1)
    profile = (along(near, smooth) - low.mean(1)[:, None]) / np.maximum(step, 1)[:, None]
    offset = near[np.argmin(np.abs(profile - 0.5), axis=1)]
    good = (step > EDGE_STEP_HU) & (low.std(1) < flat) & (high.std(1) < flat) & (slant < 0.15)
    good &= np.abs(offset) < 0.6 * pixel.max()
    chosen = np.flatnonzero(good)
    if len(chosen) < MINIMUM_EDGES:
        raise InputError(
            f"only {len(chosen)} clean edges to measure the MTF on, {MINIMUM_EDGES} are needed; "
            "estimate from noise, or name the kernel of this scan"
        )
    # Per unit of step: the steepest edges are those that only the kernel has blurred.
    sharpness = steepness[tuple(points[chosen].T)] / step[chosen]
    chosen = chosen[sharpness >= np.quantile(sharpness, 1 - STEEPEST_SHARE)]
    chosen = chosen[:: max(1, len(chosen) // 4000)]
    # The half-way point between the samples of the profile, by the slope there.
    k = np.clip(np.argmax(profile[chosen] >= 0.5, axis=1), 1, len(near) - 1)
    rows = np.arange(len(chosen))
    below, above = profile[chosen][rows, k - 1], profile[chosen][rows, k]
    offset = near[k] - 0.1 * np.clip((above - 0.5) / np.maximum(above - below, 1e-6), 0, 1)

    distance, value = _edge_samples(
        array, points[chosen], normal[chosen], offset, low.mean(1)[chosen], step[chosen], pixel
    )
    return _mtf_of_edge(distance, value, 0.5 / pixel.max(), name)


def _edge_samples(array, points, normal, offset, low, step, pixel):
    """Distance (mm) along the normal and normalised value of the voxels in a narrow band across each edge point."""
    half = [int(np.ceil(EDGE_REACH_MM / s)) for s in pixel]
    dy, dx = (g.ravel() for g in np.meshgrid(*(np.arange(-h, h + 1) for h in half), indexing="ij"))
    y, x = points[:, 1, None] + dy, points[:, 2, None] + dx
    inside = (y >= 0) & (y < array.shape[1]) & (x >= 0) & (x < array.shape[2])
    along = normal[:, :1] * (dy * pixel[0]) + normal[:, 1:] * (dx * pixel[1]) - offset[:, None]
    across = normal[:, 1:] * (dy * pixel[0]) - normal[:, :1] * (dx * pixel[1])
    row, column = np.nonzero(inside & (np.abs(across) < pixel.max()) & (np.abs(along) < EDGE_REACH_MM))
    value = array[points[row, 0], y[row, column], x[row, column]]
    return along[row, column], (value - low[row]) / step[row]


def _mtf_of_edge(distance, value, nyquist, name) -> KernelMTF:
    """The MTF of an oversampled edge."""
    width = 0.1
    bins = np.round((distance + EDGE_REACH_MM) / width).astype(int)
    count = np.bincount(bins)
    edge = np.bincount(bins, value) / np.maximum(count, 1)
    position = np.arange(len(edge)) * width - EDGE_REACH_MM
    line = np.diff(np.interp(position, position[count > 0], edge[count > 0]))
    position = position[1:] - width / 2
    line *= np.cos(np.pi / 2 * np.clip(position / (EDGE_REACH_MM - 1), -1, 1)) ** 2
    frequency = FREQUENCIES_LP_PER_MM[nyquist >= FREQUENCIES_LP_PER_MM]
    transfer = np.abs(np.exp(-2j * np.pi * np.outer(frequency, position)) @ line)
    transfer /= transfer[0] * np.sinc(frequency * width) ** 2  # bins and differences blur by a known box each
    # Beyond the first value under 2 % there is only noise.
    end = np.flatnonzero(transfer < 0.02)
    return (
        KernelMTF(name, frequency[: end[0] + 1], transfer[: end[0] + 1])
        if len(end)
        else KernelMTF(name, frequency, transfer)
    )


# ------------------------------------------------------------------------------------------------ ratio and filter


def mtf_ratio(source: KernelMTF, target: KernelMTF) -> np.ndarray:
    """MTF_target / MTF_source at FREQUENCIES_LP_PER_MM; continued smoothly from where either falls under 5 %."""
    f = FREQUENCIES_LP_PER_MM
    low = np.flatnonzero((source(f) < 0.05) | (target(f) < 0.05))
    end = max(int(low[0]) if len(low) else len(f), 3)
    return np.exp(_continued(np.log(np.maximum(target(f), 1e-3) / np.maximum(source(f), 1e-3)), end))


def common_band(source: NoiseSpectrum, target: NoiseSpectrum) -> np.ndarray:
    """Frequencies (lp/mm) from LOWEST_LP_PER_MM up to where either spectrum sinks into rounding or leakage."""
    top = 0.95 * min(source.frequency_lp_per_mm[-1], target.frequency_lp_per_mm[-1])
    f = np.arange(LOWEST_LP_PER_MM, top, 0.01)
    usable = np.ones(len(f), bool)
    for spectrum in (source, target):
        power = np.interp(f, spectrum.frequency_lp_per_mm, spectrum.power)
        usable &= power > max(4 * spectrum.rounding_power, 3e-3 * power.max())
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
    return np.exp(_continued(log_ratio, int(np.searchsorted(FREQUENCIES_LP_PER_MM, band[-1]))))


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
        gain = self.gain(_radial_frequency(shape, spacing_mm))[:, : shape[1] // 2 + 1].astype(np.float32)
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


# ------------------------------------------------------------------------------------------------ frequencies


def _radial_frequency(shape, spacing_mm) -> np.ndarray:
    """Radial frequency in lp/mm of a 2D FFT of this shape (y, x)."""
    return np.hypot(fft.fftfreq(shape[0], spacing_mm[1])[:, None], fft.fftfreq(shape[1], spacing_mm[0])[None])


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


def _continued(log_ratio: np.ndarray, end: int) -> np.ndarray:
    """The first `end` entries of a log ratio, continued linearly in f^2 with the slope of their last fifth."""
    u = FREQUENCIES_LP_PER_MM**2
    end = min(end, len(u))
    start = min(int(0.8 * end), end - 2)
    slope = (log_ratio[end - 1] - log_ratio[start]) / (u[end - 1] - u[start])
    result = log_ratio.copy()
    result[end:] = log_ratio[end - 1] + slope * (u[end:] - u[end - 1])
    return np.clip(result, -12, 12)
