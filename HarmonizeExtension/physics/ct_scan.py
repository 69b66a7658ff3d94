"""A CT scan simulated: rays through the object, photon noise in them, and filtered back projection with any kernel.

One noisy sinogram reconstructed with several kernels gives images that differ as those of a real scanner do: in the
sharpness of edges, in the noise and its spectrum, in streaks, and in what the pixels alias.

Rays are parallel, over half a turn. Slices are (slice, y, x) in HU around the axis of rotation, pixels are square.

Sources: Kak and Slaney, Principles of computerized tomographic imaging, 1988, chapter 3.3 (filtered back projection,
the ramp on a sampled detector); Ma et al., Phys Med Biol 57:6519, 2012 (counts that follow a Poisson distribution).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np
from scipy import fft, ndimage, sparse

from ..errors import InputError
from .ct_kernel import KernelMTF

WATER_PER_MM = 0.0195  # attenuation of water at about 70 keV
FEWEST_PHOTONS = 1.0  # a detector that counts none reads as one that counts this many
UPSAMPLING = 2  # of filtered projections, so that back projection need not interpolate far
VIEWS_AT_ONCE = 4  # rows of the sparse matrices, times four by symmetry


@dataclasses.dataclass(frozen=True)
class Geometry:
    """Parallel rays. views: angles over half a turn, a multiple of 4. detector_mm: distance of neighbouring rays."""

    views: int = 720
    detector_mm: float = 0.5

    def __post_init__(self):
        if self.views < 4 or self.views % 4 or not self.detector_mm > 0:
            raise InputError(
                f"{self.views} views of {self.detector_mm:g} mm: use a multiple of 4, and a positive width"
            )

    @property
    def octant(self) -> np.ndarray:
        """The angles (radians) of a quarter of the views, in (0, pi / 4); the others are their mirror images."""
        return (np.arange(self.views // 4) + 0.5) * np.pi / self.views

    def mirrored(self, view: int) -> tuple[int, int, int, int]:
        """The four views that mirror images of the object show under the angle of `view`, as `_mirror` lists them."""
        half = self.views // 2
        return view, half - 1 - view, half + view, self.views - 1 - view


def _mirror(image: np.ndarray) -> tuple[np.ndarray, ...]:
    """Images (y, x, ...) whose view under t is that of the image under t, pi/2 - t, pi/2 + t and pi - t."""
    turned = image.swapaxes(0, 1)
    return image, turned, turned[::-1], image[:, ::-1]


def _unmirror(images: Sequence[np.ndarray]) -> np.ndarray:
    """The sum of images (y, x, ...), each brought back from the way `_mirror` laid it."""
    same, turned, turned_flipped, flipped = images
    return same + turned.swapaxes(0, 1) + turned_flipped[::-1].swapaxes(0, 1) + flipped[:, ::-1]


def _matrix(points_mm: np.ndarray, angles: np.ndarray, spacing_mm: float, count: int, degree: int) -> sparse.csr_array:
    """B-splines of a degree (1 or 3) on detectors at points (2, n) in x, y; angles side by side: (n, angles x count).

    The middle of `count` detectors lies on the axis.
    """
    position = np.cos(angles)[:, None] * points_mm[0] + np.sin(angles)[:, None] * points_mm[1]
    position = (position / spacing_mm + (count - 1) / 2).astype(np.float32)
    first = np.clip(position.astype(np.int32), degree // 2, count - 2 - degree // 2)
    t = position - first
    if degree == 1:
        weights = [1 - t, t]
    else:
        weights = [(1 - t) ** 3 / 6, 2 / 3 - t**2 + t**3 / 2, 2 / 3 - (1 - t) ** 2 + (1 - t) ** 3 / 2, t**3 / 6]
    first += count * np.arange(len(angles), dtype=np.int32)[:, None] - degree // 2
    indices = np.stack([first + i for i in range(degree + 1)], axis=-1)
    data, indices = (values.transpose(1, 0, 2).ravel() for values in (np.stack(weights, axis=-1), indices))
    width = (degree + 1) * len(angles)
    rows = np.arange(0, len(data) + 1, width, dtype=np.int32)
    return sparse.csr_array((data, indices, rows), shape=(points_mm.shape[1], len(angles) * count))


def _centred(count: int, spacing_mm: float) -> np.ndarray:
    return (np.arange(count) - (count - 1) / 2) * spacing_mm


def _batches(geometry: Geometry) -> Iterator[np.ndarray]:
    quarter = np.arange(geometry.views // 4)
    return (quarter[i : i + VIEWS_AT_ONCE] for i in range(0, len(quarter), VIEWS_AT_ONCE))


def project(slices: np.ndarray, pixel_mm: float, geometry: Geometry) -> np.ndarray:
    """Line integrals of attenuation (view, detector, slice), float32, of slices (slice, y, x) in HU.

    The slices are square; what lies beyond the circle in the square is not seen. Pixels should be about as wide as
    detectors, or finer.
    """
    count, size = slices.shape[:2]
    if slices.shape[2] != size:
        raise InputError(f"slices of {size} x {slices.shape[2]} pixels cannot be projected; give square ones")
    detectors = 2 * int(np.ceil(size * pixel_mm / geometry.detector_mm / 2)) + 5
    axis = _centred(size, pixel_mm)
    y, x = (g.ravel() for g in np.meshgrid(axis, axis, indexing="ij"))
    # Each pixel's share of attenuation falls on the detectors beside its centre.
    attenuation = WATER_PER_MM * (1 + np.moveaxis(slices, 0, -1) / 1000) * (pixel_mm**2 / geometry.detector_mm)
    seen = np.hypot(y, x) < size * pixel_mm / 2
    mirrored = np.stack(_mirror(attenuation.astype(np.float32)), axis=2).reshape(size * size, 4 * count)
    seen &= mirrored.any(axis=1)
    points, mirrored = np.stack([x[seen], y[seen]]), mirrored[seen]
    sinogram = np.empty((geometry.views, detectors, count), np.float32)
    for views in _batches(geometry):
        # Cubic, since with a lower degree the lattice of pixels shows at 45 degrees, where it is denser than detectors.
        matrix = _matrix(points, geometry.octant[views], geometry.detector_mm, detectors, degree=3)
        rays = (matrix.T @ mirrored).reshape(len(views), detectors, 4, count)
        for view, ray in zip(views, rays, strict=True):
            for i, at in enumerate(geometry.mirrored(int(view))):
                sinogram[at] = ray[:, i]
    return sinogram


def add_photon_noise(sinogram: np.ndarray, photons: float, rng: np.random.Generator) -> np.ndarray:
    """The line integrals that a detector reads, float32; photons: that reach it through air, in each view."""
    counts = rng.poisson(photons * np.exp(-sinogram.astype(float)))
    return -np.log(np.maximum(counts, FEWEST_PHOTONS) / photons).astype(np.float32)


def reconstruct(
    sinogram: np.ndarray,
    kernels: Sequence[KernelMTF],
    geometry: Geometry,
    size: int,
    pixel_mm: float,
    centre_mm: tuple[float, float] = (0.0, 0.0),
    sharpened: Sequence[bool] | None = None,
) -> np.ndarray:
    """Filtered back projection with each kernel: (kernel, slice, y, x) in HU, float32.

    size, pixel_mm: of the square field of pixels; centre_mm: its middle (y, x), from the axis.
    The MTF of the images is the kernel's: the blur of detectors and of the object's pixels is undone in the filter,
    for all kernels or those that are `sharpened`.
    """
    sharpened = np.ones(len(kernels), bool) if sharpened is None else np.asarray(sharpened)
    count, columns = sinogram.shape[2], len(kernels) * sinogram.shape[2]
    axis = _centred(size, pixel_mm)
    y, x = (g.ravel() for g in np.meshgrid(axis, axis, indexing="ij"))
    points = np.stack([x, y])
    spacing = geometry.detector_mm / UPSAMPLING
    detectors = 2 * int(np.ceil(size * pixel_mm / np.sqrt(2) / spacing)) + 3
    sums = np.zeros((size * size, 4 * columns), np.float32)
    for views in _batches(geometry):
        of_views = np.array([geometry.mirrored(int(view)) for view in views])  # (view, 4)
        at = of_views.ravel()
        rows = _filtered(sinogram[at], at, kernels, sharpened, geometry, detectors, centre_mm)
        rows = rows.reshape(len(views), 4, detectors, columns).transpose(0, 2, 1, 3)
        matrix = _matrix(points, geometry.octant[views], spacing, detectors, degree=1)
        sums += matrix @ np.ascontiguousarray(rows).reshape(len(views) * detectors, 4 * columns)
    field = _unmirror(list(np.moveaxis(sums.reshape(size, size, 4, columns), 2, 0)))
    attenuation = np.moveaxis(field, -1, 0).reshape(len(kernels), count, size, size) * (np.pi / geometry.views)
    return 1000 * (attenuation / np.float32(WATER_PER_MM) - 1)


def _filtered(
    rows: np.ndarray,
    views: np.ndarray,
    kernels: Sequence[KernelMTF],
    sharpened: np.ndarray,
    geometry: Geometry,
    detectors: int,
    centre_mm: tuple[float, float],
) -> np.ndarray:
    """Projections (view, detector, slice) filtered by each kernel: (view, `detectors`, kernel and slice).

    They are sampled UPSAMPLING times as finely, around the point of the detector that the field's centre falls on.
    """
    width, length = geometry.detector_mm, fft.next_fast_len(2 * rows.shape[1], real=True)
    frequency = fft.rfftfreq(length, width)
    angle = (views + 0.5) * np.pi / geometry.views
    shift = centre_mm[1] * np.cos(angle) + centre_mm[0] * np.sin(angle)
    # The middle detector moves to where the field's middle will be; beyond half of `detectors` nothing is looked at.
    fine = UPSAMPLING * length
    start = (rows.shape[1] - 1) / 2 * width + shift - (detectors - 1) / 2 * width / UPSAMPLING
    phase = np.exp(2j * np.pi * frequency * start[:, None])
    transfer = np.stack([kernel(frequency) for kernel in kernels]) * _ramp(length, width)
    # What blurs before: the spread over detectors, the pixels of the object. What blurs after: the interpolation.
    before = np.where(sharpened[:, None], np.sinc(frequency * width) ** 5, 1.0)
    transfer = transfer / (before * np.sinc(frequency * width / UPSAMPLING) ** 2)
    spectrum = fft.rfft(rows, length, axis=1)[:, :, None] * (phase[:, :, None] * transfer.T[None])[..., None]
    filtered = UPSAMPLING * fft.irfft(spectrum, fine, axis=1)[:, :detectors]
    return filtered.reshape(len(rows), detectors, -1).astype(np.float32, copy=False)


def _ramp(length: int, width: float) -> np.ndarray:
    """The transfer function of the ramp on detectors of a width (Kak and Slaney, equation 61), 1 / mm."""
    n = np.minimum(np.arange(length), length - np.arange(length))
    response = np.where(n % 2 == 1, -1 / (np.pi * np.maximum(n, 1) * width) ** 2, 0.0)
    response[0] = 1 / (4 * width**2)
    return fft.rfft(response).real * width


@dataclasses.dataclass(frozen=True)
class Kernel:
    """A reconstruction kernel as vendors state it, for simulation: where its MTF is 50 % and 10 %, in lp/mm.

    boost: by how much the MTF rises above that around half of `mtf50_lp_per_mm`, as edge-enhancing kernels do.
    noise_mtf50_lp_per_mm, noise_mtf10_lp_per_mm: the same of what happens to noise, where it is known to be filtered
        otherwise than edges are: focal spot and detector blur edges alone, iterative reconstruction smooths noise more
        (Yu et al., Med Phys 42:2261, 2015). 0 where noise goes through the filter that gives edges their MTF.
    noise_level: factor on the noise, which iterative reconstruction lowers.
    slice_weight: w of the blend w, 1 - 2 w, w of each slice with its neighbours, as overlapping slices show it.
    """

    name: str
    mtf50_lp_per_mm: float
    mtf10_lp_per_mm: float
    boost: float = 0.0
    noise_mtf50_lp_per_mm: float = 0.0
    noise_mtf10_lp_per_mm: float = 0.0
    noise_level: float = 1.0
    slice_weight: float = 0.0

    @property
    def mtf(self) -> KernelMTF:
        """What happens to edges."""
        plain = KernelMTF.from_mtf50_mtf10(self.name, self.mtf50_lp_per_mm, self.mtf10_lp_per_mm)
        relative = (plain.frequency_lp_per_mm / (0.5 * self.mtf50_lp_per_mm)) ** 2
        return dataclasses.replace(plain, value=plain.value * (1 + self.boost * relative * np.exp(1 - relative)))

    @property
    def noise_mtf(self) -> KernelMTF:
        """What happens to noise; its value at frequency 0 is 1, `noise_level` comes on top."""
        if not self.noise_mtf50_lp_per_mm:
            return self.mtf
        return KernelMTF.from_mtf50_mtf10(self.name, self.noise_mtf50_lp_per_mm, self.noise_mtf10_lp_per_mm)

    @property
    def is_linear(self) -> bool:
        """Whether noise is filtered as edges are."""
        return not self.noise_mtf50_lp_per_mm and self.noise_level == 1


# Made to be like those of Selim et al. 2021, section 3.1: a smooth body kernel and two lung kernels.
KERNELS = {
    kernel.name: kernel
    for kernel in (
        Kernel("Br40", 0.36, 0.66),
        Kernel("Bl57", 0.56, 0.86),
        Kernel("Bl64", 0.70, 0.98),
    )
}


def scan_with_kernels(
    slices: np.ndarray,
    pixel_mm: float,
    kernels: Sequence[Kernel],
    photons: float,
    rng: np.random.Generator,
    size: int,
    spacing_mm: float,
    centre_mm: tuple[float, float] = (0.0, 0.0),
    geometry: Geometry | None = None,
) -> np.ndarray:
    """One scan of an object (slice, y, x) in HU, reconstructed with each kernel: (kernel, slice, y, x) in HU, float32.

    pixel_mm: of the object; size, spacing_mm, centre_mm: of the pixels of the images, as for `reconstruct`.
    All kernels are given the same photons.
    """
    geometry = geometry or Geometry(detector_mm=pixel_mm)
    clean = project(slices, pixel_mm, geometry)
    noisy = add_photon_noise(clean, photons, rng)
    field = (geometry, size, spacing_mm, centre_mm)
    if all(kernel.is_linear for kernel in kernels):
        images = reconstruct(noisy, [kernel.mtf for kernel in kernels], *field)
    else:
        images = reconstruct(clean, [kernel.mtf for kernel in kernels], *field)
        like_edges = [not kernel.noise_mtf50_lp_per_mm for kernel in kernels]
        noise = 1000 + reconstruct(
            noisy - clean, [kernel.noise_mtf for kernel in kernels], *field, sharpened=like_edges
        )
        images += np.array([kernel.noise_level for kernel in kernels], np.float32)[:, None, None, None] * noise
    for image, kernel in zip(images, kernels, strict=True):
        if kernel.slice_weight:
            w = kernel.slice_weight
            image[:] = ndimage.convolve1d(image, [w, 1 - 2 * w, w], axis=0, mode="nearest")
    return images
