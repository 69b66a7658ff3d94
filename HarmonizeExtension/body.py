"""Where the patient is: outside the body the image stays as it is, and statistics never include air."""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk
from scipy import ndimage

from . import images
from .scan import Modality, Scan

# Names under which planning systems keep the outline of the patient, and skull strippers that of the brain.
OUTLINE_NAMES = ("body", "external", "skin", "outline", "patient outline")

CT_AIR_THRESHOLD_HU = -500.0  # halfway between air and water
PET_BODY_SUV = 0.1  # Haberl 2024, section 2.5


def body_mask(scan: Scan) -> np.ndarray:
    """The patient as a bool array (z, y, x).

    A structure named like an outline (Body, External, ...) is taken as it is. Otherwise the largest piece above a
    threshold is closed and its holes are filled: -500 HU in CT, SUV 0.1 in PET (Haberl et al. 2024), Otsu's
    threshold between noise and tissue in MR.
    """
    for name, structure in scan.structures.items():
        if name.strip().lower() in OUTLINE_NAMES:
            return structure.array.copy()
    array = scan.array
    above = array > _threshold(scan, array)
    if not above.any():
        return np.ones(array.shape, bool)
    solid = images.largest_component(ndimage.binary_opening(above) if min(array.shape) > 2 else above)
    if not solid.any():
        solid = above
    # Closing seals thin gaps (nostrils, skin in noise) before the holes of each axial slice are filled.
    reach = images.ball(2.5 * max(scan.spacing_mm[:2]), scan.spacing_mm)
    closed = ndimage.binary_closing(np.pad(solid, 4), reach)[4:-4, 4:-4, 4:-4]
    return np.stack([ndimage.binary_fill_holes(slice_) for slice_ in closed | solid])


def _threshold(scan: Scan, array: np.ndarray) -> float:
    if scan.modality is Modality.CT:
        return CT_AIR_THRESHOLD_HU
    if scan.modality is Modality.PET:
        return PET_BODY_SUV
    # MR: Otsu on the logarithm, since bright fat would otherwise pull the threshold above grey matter.
    smooth = ndimage.gaussian_filter(array, 1.0)
    positive = np.log1p(np.clip(smooth - smooth.min(), 0, None) / max(float(np.percentile(smooth, 99)), 1e-6) * 100)
    otsu = sitk.OtsuThresholdImageFilter()
    otsu.Execute(sitk.GetImageFromArray(positive))
    level = otsu.GetThreshold()
    return float(smooth.min() + np.expm1(level) / 100 * max(float(np.percentile(smooth, 99)), 1e-6))
