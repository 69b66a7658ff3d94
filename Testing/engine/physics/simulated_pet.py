"""PET with a resolution that is known exactly: a warm body with hot spheres, blurred, with smooth noise."""

import numpy as np
from scipy import ndimage

from Testing.engine.scans import grid

from HarmonizeExtension import images
from HarmonizeExtension.physics.pet_resolution import FWHM_PER_SIGMA, gaussian_blur
from HarmonizeExtension.scan import Modality, Scan, Structure

FINER = 2


def scan(fwhm_mm, seed=0, voxel_mm=(2.5, 2.5, 3.0), noise=0.1, post_filter_mm=4.0, scale=1.0, name="scan") -> Scan:
    """SUV 1 in an ellipsoid of 20 cm, SUV 6 in two spheres; `noise` is the noise's SD after the post-filter."""
    size = [int(240 / v) for v in voxel_mm]
    fine = [v / FINER for v in voxel_mm]
    z, y, x = (
        ((np.arange(n * FINER) + 0.5) * s - n * FINER * s / 2).reshape([-1 if a == axis else 1 for a in range(3)])
        for axis, (n, s) in enumerate(zip(size[::-1], fine[::-1], strict=True))
    )
    activity = ((x / 100) ** 2 + (y / 80) ** 2 + (z / 100) ** 2 < 1).astype(np.float32)
    for centre, radius in ((40, 19), (-45, 14)):
        activity[(x - centre) ** 2 + y**2 + z**2 < radius**2] = 6.0
    blurred = ndimage.gaussian_filter(activity, [fwhm_mm / FWHM_PER_SIGMA / s for s in fine[::-1]])
    mean = blurred.reshape(size[2], FINER, size[1], FINER, size[0], FINER).mean(axis=(1, 3, 5))
    white = np.random.default_rng(seed).standard_normal(mean.shape)
    smooth = gaussian_blur(white, (post_filter_mm,) * 3, voxel_mm)
    array = np.maximum(mean + noise * smooth / smooth.std() * np.sqrt(mean), 0) * scale
    on = grid(size, voxel_mm)
    liver = np.broadcast_to((x / 70) ** 2 + (y / 60) ** 2 + ((z - 60) / 25) ** 2 < 1, activity.shape)
    liver = liver[::FINER, ::FINER, ::FINER]
    structures = {"liver": Structure("liver", images.mask_image(liver, on), frozenset())}
    return Scan(images.to_image(array.astype(np.float32), on), Modality.PET, structures, units="SUV", name=name)
