"""The spatial resolution of a PET scan: how it is measured on the scan itself, and how it is made coarser.

Resolution is the full width at half maximum (FWHM, mm) of the point spread, taken as Gaussian and alike in all
directions; Gaussians add in squares, so that from `source` to `target` the blur is sqrt(target^2 - source^2).

Arrays are (z, y, x); spacing is (x, y, z) in mm.

Sources: Boellaard et al., FDG PET/CT: EANM procedure guidelines for tumour imaging: version 2.0, EJNMMI 42:328, 2015
(EARL 1); Kaalep et al., Feasibility of state of the art PET/CT systems performance harmonisation, EJNMMI 45:1344, 2018
(EARL 2); Forman et al., Improved assessment of significant activation, MRM 33:636, 1995 (smoothness of noise);
Lindeberg, Scale-space for discrete signals, IEEE PAMI 12:234, 1990 (discrete Gaussian).
"""

from __future__ import annotations

import numpy as np
from scipy import fft, ndimage, optimize, special

from .. import images
from ..errors import InputError

FWHM_PER_SIGMA = float(np.sqrt(8 * np.log(2)))

EDGE_SIGMA_MM = 4.0  # smoothing for finding edges; the edge itself is measured on the scan as it is
EDGE_REACH_MM = 12.0
PLATEAU_MM = (10.0, 18.0)  # distance from the edge at which both sides must be flat
PLATEAU_SPREAD = 0.15  # of the step
MINIMUM_EDGES = 100
MINIMUM_NOISE_VOXELS = 1000
DETREND_MM = 8.0  # sigma of the smooth background that is taken off before noise is measured


def gaussian_blur(array: np.ndarray, fwhm_mm: tuple[float, float, float], spacing_mm: tuple[float, float, float]):
    """The array blurred by a Gaussian of this FWHM along (x, y, z), float32; the sum of all voxels is kept.

    The discrete Gaussian exp(-t) I_n(t), whose variance is t exactly: a sampled Gaussian narrower than a voxel, as
    the step between two PET reconstructions often is, would blur too little. Borders are mirrored.
    """
    result = np.asarray(array, dtype=np.float32)
    for axis, fwhm, spacing in zip((2, 1, 0), fwhm_mm, spacing_mm, strict=True):
        if fwhm > 0:
            variance = (fwhm / FWHM_PER_SIGMA / spacing) ** 2
            result = ndimage.convolve1d(result, _discrete_gaussian(variance), axis=axis, mode="reflect")
    return result


def _discrete_gaussian(variance: float) -> np.ndarray:
    """Weights of the discrete Gaussian of this variance (voxels^2), which sum to 1."""
    reach = int(np.ceil(5 * np.sqrt(variance))) + 3
    weights = special.ive(np.abs(np.arange(-reach, reach + 1)), variance)
    return weights / weights.sum()


def edge_fwhm_mm(array: np.ndarray, body: np.ndarray, spacing_mm: tuple[float, float, float]) -> float:
    """The FWHM from all edges between two flat sides, in any direction: the body's outline, a large organ, a sphere.

    Around each edge point the voxels are sorted by their distance along the normal; the width of the error function
    that fits all edges together is the resolution (voxel size included). Raises InputError for too few clean edges.
    """
    voxel = np.array(spacing_mm[::-1])
    smooth = ndimage.gaussian_filter(np.asarray(array, np.float32), EDGE_SIGMA_MM / voxel)
    slope = np.stack(np.gradient(smooth, *voxel))
    steepness = np.sqrt((slope**2).sum(0))
    # A step of the body's usual level, blurred, is at least this steep; weaker edges drown in noise.
    level = max(float(np.median(smooth[body])), 1e-6) if body.any() else np.inf
    points = np.argwhere(steepness > level / 40)
    points = points[:: max(1, len(points) // 150_000)]
    normal = slope[(slice(None), *points.T)] / steepness[tuple(points.T)]  # (3, points)

    def along(distance_mm: np.ndarray) -> np.ndarray:
        """Smoothed values (points, distances) on the normals."""
        where = points.T[:, :, None] + normal[:, :, None] * distance_mm / voxel[:, None, None]
        inside = np.all((where >= 0) & (where <= np.array(array.shape)[:, None, None] - 1), axis=0)
        return np.where(inside, ndimage.map_coordinates(smooth, where, order=1, mode="nearest"), np.nan)

    side = np.arange(PLATEAU_MM[0], PLATEAU_MM[1] + 0.1, 2.0)
    low, high = along(-side), along(side)
    bottom, step = low.mean(1), high.mean(1) - low.mean(1)
    near = np.arange(-4.0, 4.01, 0.25)
    profile = (along(near) - bottom[:, None]) / np.maximum(step, 1e-9)[:, None]
    k = np.clip(np.argmax(profile >= 0.5, axis=1), 1, len(near) - 1)
    rows = np.arange(len(points))
    below, above = profile[rows, k - 1], profile[rows, k]
    offset = near[k] - 0.25 * np.clip((above - 0.5) / np.maximum(above - below, 1e-6), 0, 1)
    good = (step > 0.5 * level) & (np.ptp(low, 1) < PLATEAU_SPREAD * step) & (np.ptp(high, 1) < PLATEAU_SPREAD * step)
    good &= (np.abs(offset) < 0.6 * voxel.max()) & (below < 0.5) & (above >= 0.5)
    chosen = np.flatnonzero(good)
    if len(chosen) < MINIMUM_EDGES:
        raise InputError(
            f"only {len(chosen)} clean edges to measure the resolution on, {MINIMUM_EDGES} are needed; "
            "give the scan's FWHM in mm (source_fwhm_mm), as its phantom measurement states it"
        )
    chosen = chosen[:: max(1, len(chosen) // 3000)]
    reach = [int(np.ceil(EDGE_REACH_MM / s)) for s in voxel]
    window = np.stack([g.ravel() for g in np.meshgrid(*(np.arange(-r, r + 1) for r in reach), indexing="ij")])
    from_point = window * voxel[:, None]
    distance, value = [], []
    for point, direction, shift, base, height in zip(
        points[chosen], normal[:, chosen].T, offset[chosen], bottom[chosen], step[chosen], strict=True
    ):
        t = direction @ from_point
        across = np.sqrt(np.maximum((from_point**2).sum(0) - t**2, 0))
        index = point[:, None] + window
        use = (across < voxel.max()) & (np.abs(t - shift) < EDGE_REACH_MM)
        use &= np.all((index >= 0) & (index < np.array(array.shape)[:, None]), axis=0)
        distance.append(t[use] - shift)
        value.append((array[tuple(index[:, use])] - base) / height)
    distance, value = np.concatenate(distance), np.concatenate(value)
    bins = np.round((distance + EDGE_REACH_MM) / 0.25).astype(int)
    count = np.bincount(bins)
    position = (np.arange(len(count)) * 0.25 - EDGE_REACH_MM)[count > 0]
    edge = np.bincount(bins, value)[count > 0] / count[count > 0]

    def misfit(parameters):
        sigma, centre, bottom_, step_ = parameters
        return bottom_ + step_ * special.ndtr((position - centre) / abs(sigma)) - edge

    fit = optimize.least_squares(misfit, [2.5, 0.0, 0.0, 1.0])
    return float(abs(fit.x[0]) * FWHM_PER_SIGMA)


def noise_fwhm_mm(
    array: np.ndarray, mask: np.ndarray, spacing_mm: tuple[float, float, float]
) -> tuple[float, float, float]:
    """The FWHM along (x, y, z) of the Gaussian that would give white noise the correlation seen inside the mask.

    It tells post-filters apart; it is no resolution, since the detector's blur is not in the noise.
    Raises InputError for fewer than MINIMUM_NOISE_VOXELS.
    """
    if mask.sum() < MINIMUM_NOISE_VOXELS:
        raise InputError(
            f"only {int(mask.sum())} voxels to measure the noise in, {MINIMUM_NOISE_VOXELS} are needed; "
            "mark a larger uniform structure (liver) as reference"
        )
    box = images.bounding_box(mask)
    weight = mask[box].astype(np.float32)
    values = np.asarray(array[box], np.float32)
    sigma = [DETREND_MM / s for s in spacing_mm[::-1]]
    trend = ndimage.gaussian_filter(values * weight, sigma) / np.maximum(ndimage.gaussian_filter(weight, sigma), 1e-3)
    noise = (values - trend) * weight
    fwhm = []
    for axis, spacing in zip((2, 1, 0), spacing_mm, strict=True):
        lags = min(3, noise.shape[axis] - 1)
        size = fft.next_fast_len(noise.shape[axis] + lags, real=True)
        product, pairs = (
            fft.irfft(np.abs(fft.rfft(v, size, axis=axis)) ** 2, size, axis=axis).sum(
                axis=tuple(a for a in range(3) if a != axis)
            )[: lags + 1]
            for v in (noise, weight)
        )
        correlation = product / np.maximum(pairs, 1)
        correlation = correlation[1:] / max(correlation[0], 1e-12)

        def misfit(variance, correlation=correlation, lags=lags):
            model = special.ive(np.arange(lags + 1), 2 * variance)
            return float(((model[1:] / model[0] - correlation) ** 2).sum())

        variance = optimize.minimize_scalar(misfit, bounds=(0.0, 25.0), method="bounded").x
        fwhm.append(float(np.sqrt(variance)) * spacing * FWHM_PER_SIGMA)
    return tuple(fwhm)
