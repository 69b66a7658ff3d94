"""How alike two images are: structural similarity, noise ratio, error, histograms; and how alike two segmentations.

Every figure says what it was measured with, since the papers leave window and data range open and both decide the
number. SSIM: Wang et al., IEEE Trans Image Process 2004;13:600. dSSIM: Fatania et al., Phys Imaging Radiat Oncol 2022,
section 2.4. Arrays are (z, y, x).
"""

from __future__ import annotations

import dataclasses

import numpy as np
from scipy import ndimage, stats
from scipy.spatial.distance import jensenshannon

from .. import images
from ..errors import InputError

_K1, _K2 = 0.01, 0.03  # Wang et al., section III.B

HU_WINDOW = (-1024.0, 1000.0)  # whose width is the data range of CT (Selim et al. 2021, section 3)

# How many voxels a window reaches to each side; that far from the image's border SSIM is not defined.
_REACH = {"uniform 7": 3, "gaussian 1.5": 5}
WINDOWS = tuple(_REACH)


def ssim_map(
    reference: np.ndarray,
    image: np.ndarray,
    data_range: float,
    window: str = "uniform 7",
    per_slice: bool = False,
) -> np.ndarray:
    """Structural similarity of each voxel's neighbourhood, (z, y, x), 1 where equal.

    data_range: the span of intensities that counts as full contrast, in their unit (255, or 2024 HU); never guessed.
    window: "uniform 7", a cube of 7 voxels, or "gaussian 1.5", sigma 1.5 voxels over 11; squares of 7 and 11 where
    `per_slice`. Variances are those of a sample (n - 1). As in scikit-image, whose default is the first; the second is
    its `gaussian_weights=True`.
    """
    x, y = _pair(reference, image)
    if not data_range > 0:
        raise InputError(f"a data range of {data_range} is not possible; give the span of intensities, for example 255")
    axes = (1, 2) if per_slice else (0, 1, 2)
    reach = _reach(window)
    if min(x.shape[axis] for axis in axes) <= 2 * reach:
        raise InputError(f"an image of shape {x.shape} is smaller than the window of {2 * reach + 1} voxels")
    voxels = (2 * reach + 1) ** len(axes)

    def mean(array: np.ndarray) -> np.ndarray:
        for axis in axes:
            if window == "uniform 7":
                array = ndimage.uniform_filter1d(array, 2 * reach + 1, axis)
            else:
                array = ndimage.gaussian_filter1d(array, 1.5, axis, radius=reach)
        return array

    mean_x, mean_y = mean(x), mean(y)
    sample = voxels / (voxels - 1)
    var_x, var_y = sample * (mean(x * x) - mean_x**2), sample * (mean(y * y) - mean_y**2)
    covariance = sample * (mean(x * y) - mean_x * mean_y)
    c1, c2 = (_K1 * data_range) ** 2, (_K2 * data_range) ** 2
    return ((2 * mean_x * mean_y + c1) * (2 * covariance + c2)) / ((mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2))


def ssim(
    reference: np.ndarray,
    image: np.ndarray,
    data_range: float,
    mask: np.ndarray | None = None,
    window: str = "uniform 7",
    per_slice: bool = False,
) -> float:
    """Mean structural similarity over the mask (all voxels without one), the image's border left out.

    With `per_slice` windows lie within axial slices and the mean is over all their voxels. NaN for an empty mask.
    """
    x, y = _pair(reference, image)
    where = _defined(x.shape, mask, window, per_slice)
    if mask is not None:
        if not where.any():
            return float("nan")
        box = images.bounding_box(where, _reach(window))  # nothing further away has a part in it
        x, y, where = x[box], y[box], where[box]
    return float(ssim_map(x, y, data_range, window, per_slice)[where].mean())


def ssim_of_slices(
    reference: np.ndarray,
    image: np.ndarray,
    data_range: float,
    mask: np.ndarray | None = None,
    window: str = "uniform 7",
) -> np.ndarray:
    """Structural similarity of each axial slice (z,), by the window within the slice; NaN where the mask is empty."""
    values = ssim_map(reference, image, data_range, window, per_slice=True)
    where = _defined(values.shape, mask, window, per_slice=True)
    count = where.sum(axis=(1, 2))
    return np.where(where, values, 0).sum(axis=(1, 2)) / np.where(count > 0, count, np.nan)


def psnr_db(reference: np.ndarray, image: np.ndarray, data_range: float, mask: np.ndarray | None = None) -> float:
    """Peak signal-to-noise ratio, 10 log10(range^2 / mean squared error) in dB; infinite for equal images."""
    x, y = _pair(reference, image, mask)
    error = float(np.mean((x - y) ** 2))
    return float("inf") if error == 0 else float(10 * np.log10(data_range**2 / error))


def nrmse(reference: np.ndarray, image: np.ndarray, data_range: float, mask: np.ndarray | None = None) -> float:
    """Root mean squared error as a share of the data range."""
    x, y = _pair(reference, image, mask)
    return float(np.sqrt(np.mean((x - y) ** 2)) / data_range)


def range_of(reference: np.ndarray) -> float:
    """Largest minus smallest intensity of the whole reference: the data range where no other is agreed on.

    Of the whole, whichever structure is measured: the range inside a nearly flat one is its noise, and the peak
    signal-to-noise ratio to that would be negative in a good image.
    """
    span = float(np.ptp(np.asarray(reference, dtype=float)))
    if not span > 0:
        raise InputError("the reference image is constant; give a data range")
    return span


@dataclasses.dataclass(frozen=True)
class ImageQuality:
    """One image against its reference, with all that is needed to read the figures.

    ssim: with cubes over the volume; ssim_slices: with squares within axial slices; data_range in intensity units.
    """

    ssim: float
    ssim_slices: float
    psnr_db: float
    nrmse: float
    data_range: float
    window: str
    voxels: int


def image_quality(
    reference: np.ndarray,
    image: np.ndarray,
    mask: np.ndarray | None = None,
    data_range: float | None = None,
    window: str = "uniform 7",
) -> ImageQuality:
    """All figures inside the mask; without a data range that of the whole reference is taken, and stated."""
    span = range_of(reference) if data_range is None else float(data_range)
    return ImageQuality(
        ssim(reference, image, span, mask, window),
        ssim(reference, image, span, mask, window, per_slice=True),
        psnr_db(reference, image, span, mask),
        nrmse(reference, image, span, mask),
        span,
        window,
        int(np.asarray(reference).size if mask is None else np.count_nonzero(mask)),
    )


@dataclasses.dataclass(frozen=True)
class StyleChange:
    """HarMOnAE's two questions, answered in differences of SSIM against the auto-encoded image (both 0 is best).

    harmonized (dSSIM-h): how much harmonizing changed. Some change is wanted, since the contrast changes.
    cycled (dSSIM-c): how much is lost by harmonizing and going back; more than a little means anatomy was lost.
    The paper does not print the formula. These two compare with the scan itself; `harmonized_direct` and
    `cycled_direct` are the other reading, 1 - SSIM against the auto-encoded image.
    """

    harmonized: float
    cycled: float
    harmonized_direct: float
    cycled_direct: float


def style_change(
    image: np.ndarray,
    autoencoded: np.ndarray,
    harmonized: np.ndarray,
    cycled: np.ndarray,
    data_range: float,
    mask: np.ndarray | None = None,
    window: str = "uniform 7",
    per_slice: bool = True,
) -> StyleChange:
    """dSSIM-h = SSIM(x, x') - SSIM(x, h) and dSSIM-c = SSIM(x, x') - SSIM(x, c), and 1 - SSIM(x', h), 1 - SSIM(x', c).

    x is the image, x' its reconstruction in its own style, h the harmonized image, c the harmonized image taken back to
    the style of x. In slices, as the networks work.
    """

    def alike(first: np.ndarray, second: np.ndarray) -> float:
        return ssim(first, second, data_range, mask, window, per_slice)

    own = alike(image, autoencoded)
    return StyleChange(
        own - alike(image, harmonized),
        own - alike(image, cycled),
        1 - alike(autoencoded, harmonized),
        1 - alike(autoencoded, cycled),
    )


@dataclasses.dataclass(frozen=True)
class HistogramDistance:
    """jensen_shannon: 0 for equal histograms, 1 for disjoint ones; earth_mover: in the unit of the intensities."""

    jensen_shannon: float
    earth_mover: float


def histogram_distance(first: np.ndarray, second: np.ndarray, bins: int = 128) -> HistogramDistance:
    """How far apart the intensities of two samples (1D, any sizes) lie.

    Jensen-Shannon distance to base 2 (Endres and Schindelin 2003) over `bins` bins from the smallest to the largest of
    both; earth mover's distance (Wasserstein-1) without bins.
    """
    first, second = (np.asarray(x, dtype=float).ravel() for x in (first, second))
    if not first.size or not second.size:
        raise InputError("a sample without values has no histogram")
    low, high = min(first.min(), second.min()), max(first.max(), second.max())
    edges = np.linspace(low, high if high > low else low + 1, bins + 1)
    counts = [np.histogram(x, edges)[0] for x in (first, second)]
    return HistogramDistance(
        float(np.nan_to_num(jensenshannon(*counts, base=2))), float(stats.wasserstein_distance(first, second))
    )


def dice(first: np.ndarray, second: np.ndarray) -> float:
    """Twice the common volume over the sum of both, 1 for equal masks; NaN for two empty ones."""
    a, b = np.asarray(first, bool), np.asarray(second, bool)
    total = np.count_nonzero(a) + np.count_nonzero(b)
    return 2 * np.count_nonzero(a & b) / total if total else float("nan")


def volume_difference(reference: np.ndarray, other: np.ndarray) -> float:
    """(other - reference) / reference of the volumes of two masks on one grid; NaN for an empty reference."""
    size = np.count_nonzero(reference)
    return (np.count_nonzero(other) - size) / size if size else float("nan")


def _reach(window: str) -> int:
    if window not in _REACH:
        raise InputError(f"window '{window}' is not known; use one of {', '.join(WINDOWS)}")
    return _REACH[window]


def _defined(shape: tuple[int, ...], mask: np.ndarray | None, window: str, per_slice: bool) -> np.ndarray:
    """Where SSIM is defined, inside the mask (z, y, x)."""
    reach = _reach(window)
    inside = np.zeros(shape, bool)
    z = slice(None) if per_slice else slice(reach, -reach)
    inside[z, reach:-reach, reach:-reach] = True
    return inside if mask is None else inside & np.asarray(mask, bool)


def _pair(reference: np.ndarray, image: np.ndarray, mask: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Both as float64 (z, y, x), or the voxels of the mask of both (1D)."""
    x, y = np.asarray(reference, dtype=float), np.asarray(image, dtype=float)
    if x.shape != y.shape or x.ndim != 3:
        raise InputError(f"images of shapes {x.shape} and {y.shape} cannot be compared; resample one to the other")
    if mask is None:
        return x, y
    inside = np.asarray(mask, bool)
    if not inside.any():
        raise InputError("the mask is empty; there is nothing to compare")
    return x[inside], y[inside]
