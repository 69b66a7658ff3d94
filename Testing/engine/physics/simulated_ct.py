"""CT with a kernel that is known exactly: discs in air, blurred by its MTF, with noise of its spectrum."""

import numpy as np
from scipy import fft

from Testing.engine.scans import grid

from HarmonizeExtension import images
from HarmonizeExtension.physics.ct_kernel import KernelMTF
from HarmonizeExtension.scan import Modality, Scan, Structure

SOFT = KernelMTF.from_mtf50_mtf10("soft", 0.28, 0.52)
SHARP = KernelMTF.from_mtf50_mtf10("sharp", 0.50, 0.80)
FINER = 3  # the anatomy is drawn on a grid this much finer


def radial(size: int, pixel_mm: float) -> np.ndarray:
    f = fft.fftfreq(size, pixel_mm)
    return np.hypot(f[:, None], f[None])


def discs(size: int, pixel_mm: float, shift=(0.0, 0.0)) -> np.ndarray:
    """A body of water with a fat and a bone rod in air, HU, on a grid FINER than asked for."""
    n = size * FINER
    y, x = (np.mgrid[:n, :n] + 0.5) * pixel_mm / FINER - size * pixel_mm / 2
    width = size * pixel_mm
    image = np.full((n, n), -1000.0)
    for dx, dy, radius, hu in ((0, 0, 0.40, 40.0), (0.22, 0.05, 0.06, -100.0), (-0.20, 0.1, 0.06, 700.0)):
        image[np.hypot(x - dx * width - shift[0], y - dy * width - shift[1]) < radius * width] = hu
    return image


def noise_power(kernel: KernelMTF, frequency: np.ndarray, level: float) -> np.ndarray:
    """Filtered back projection: a ramp times MTF^2, HU^2 mm^2, with a floor at low frequency."""
    return level * np.hypot(frequency, 0.05) * kernel(frequency) ** 2


def noise(kernel, shape, pixel_mm, level, rng, slice_weight=0.0) -> np.ndarray:
    """Noise (z, y, x) with exactly that power spectrum, blended over slices by w, 1 - 2 w, w (circularly)."""
    power = noise_power(kernel, radial(shape[1], pixel_mm), level)
    white = rng.standard_normal(shape)
    blended = (1 - 2 * slice_weight) * white + slice_weight * (np.roll(white, 1, 0) + np.roll(white, -1, 0))
    return fft.ifft2(fft.fft2(blended) * np.sqrt(power) / pixel_mm).real


def scan(
    kernel, seed, size=160, pixel_mm=0.6, slices=8, level=4000.0, slice_weight=0.0, shift=(0.0, 0.0), name="scan"
) -> Scan:
    """The disc phantom as a scan in HU, with its outline as structure "External" and its water as "water"."""
    sharp = discs(size, pixel_mm, shift)
    blurred = fft.ifft2(fft.fft2(sharp) * kernel(radial(size * FINER, pixel_mm / FINER))).real
    slice_ = blurred.reshape(size, FINER, size, FINER).mean(axis=(1, 3))
    array = slice_ + noise(kernel, (slices, size, size), pixel_mm, level, np.random.default_rng(seed), slice_weight)
    on = grid((size, size, slices), (pixel_mm, pixel_mm, 2.0))
    coarse = sharp.reshape(size, FINER, size, FINER).mean(axis=(1, 3))
    masks = {
        "External": np.broadcast_to(coarse > -500, array.shape),
        "water": np.broadcast_to(np.abs(coarse - 40) < 1, array.shape),
    }
    structures = {n: Structure(n, images.mask_image(m, on), frozenset()) for n, m in masks.items()}
    return Scan(images.to_image(array.astype(np.float32), on), Modality.CT, structures, units="HU", name=name)
