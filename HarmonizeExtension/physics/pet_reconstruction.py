"""What a PET scanner and its reconstruction make of activity: blur, and noise that is blurred along with it.

    mean  = activity * Gaussian of the resolution * Gaussian of the post-filter
    image = mean exp(s n - s^2 / 2),   n: correlated noise of mean 0 and variance 1

The noise of maximum-likelihood reconstruction (OSEM) is lognormal, and its standard deviation follows the activity
itself, so that where little is taken up there is little noise (Barrett, Wilson and Tsui, Phys Med Biol 39:833, 1994).
Its size s grows with the patient, as fewer photons leave a larger body. That resolution is the same everywhere is a
simplification.

Arrays are (z, y, x); spacing is (x, y, z) in mm. Intensities are SUV.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from scipy import special

from ..errors import InputError
from .pet_resolution import FWHM_PER_SIGMA, gaussian_blur

WATER_ATTENUATION_PER_MM = 0.0096  # of 511 keV photons
USUAL_DIAMETER_MM = 300.0  # of water with the attenuation of a usual abdomen; noise is stated for it


@dataclasses.dataclass(frozen=True)
class Reconstruction:
    """How a centre makes its images.

    resolution_fwhm_mm: of everything before the post-filter. noise_fwhm_mm: correlation of the noise before it.
    post_filter_fwhm_mm: Gaussian; 0 for none. noise: standard deviation over mean in the final image of a patient of
    the usual size. voxel_mm: x, y, z.
    """

    resolution_fwhm_mm: float
    noise_fwhm_mm: float
    post_filter_fwhm_mm: float
    noise: float
    voxel_mm: tuple[float, float, float]

    def __post_init__(self):
        widths = (self.resolution_fwhm_mm, self.noise_fwhm_mm, self.post_filter_fwhm_mm, self.noise)
        if min(widths) < 0 or min(self.voxel_mm) <= 0:
            raise InputError("widths and noise of a reconstruction cannot be negative, and voxels need a size")

    @property
    def image_fwhm_mm(self) -> float:
        """Of the image of a point."""
        return float(np.hypot(self.resolution_fwhm_mm, self.post_filter_fwhm_mm))

    def image_of(
        self,
        activity: np.ndarray,
        spacing_mm: tuple[float, float, float],
        rng: np.random.Generator,
        diameter_mm: float = USUAL_DIAMETER_MM,
    ) -> np.ndarray:
        """The scan of an activity (z, y, x; SUV, not negative), on the grid of the activity, float32.

        diameter_mm: of a cylinder of water that attenuates as the patient does.
        """
        mean = gaussian_blur(activity, (self.image_fwhm_mm,) * 3, spacing_mm)
        size = self.noise * np.exp(WATER_ATTENUATION_PER_MM * (diameter_mm - USUAL_DIAMETER_MM) / 4)
        noise = correlated_noise(mean.shape, np.hypot(self.noise_fwhm_mm, self.post_filter_fwhm_mm), spacing_mm, rng)
        noise *= np.float32(size)
        noise -= np.float32(size**2 / 2)
        return mean * np.exp(noise, out=noise)


def correlated_noise(
    shape: tuple[int, int, int], fwhm_mm: float, spacing_mm: tuple[float, float, float], rng: np.random.Generator
) -> np.ndarray:
    """White noise through a Gaussian of this FWHM, of mean 0 and variance 1, float32."""
    noise = gaussian_blur(rng.standard_normal(shape, dtype=np.float32), (fwhm_mm,) * 3, spacing_mm)
    # The squares of the discrete Gaussian's weights sum to exp(-2t) I_0(2t).
    variance = np.prod([special.ive(0, 2 * (fwhm_mm / FWHM_PER_SIGMA / s) ** 2) for s in spacing_mm])
    return noise / np.float32(np.sqrt(variance))
