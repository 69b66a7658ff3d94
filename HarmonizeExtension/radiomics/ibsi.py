"""Where the features knowingly leave the IBSI reference manual, and where they leave pyradiomics.

Every feature is pyradiomics' (van Griethuysen et al. 2017), and so shares its departures from IBSI. On images that
are processed as IBSI says, the definitions meet the consensus values of IBSI-1 (Zwanenburg et al. 2020); the tests
and Testing/benchmarks/ibsi.py show it.
"""

from __future__ import annotations

DIFFERENCES_FROM_IBSI = (
    "Fixed bin width: bins are whole multiples of the width, and the lowest level present is 1. IBSI counts levels "
    "from the lower end of the re-segmentation range.",
    "Kurtosis is not reduced by 3.",
    "Resampling: the new grid shares the corner of the image, not its centre; masks by nearest neighbour, not linearly "
    "with a threshold of one half; images of whole numbers are cut to whole numbers, others not rounded at all.",
    "Axis lengths use the variance over N voxels; the consensus values fit the one over N - 1.",
    "Re-segmentation is by a range or by standard deviations, not by both at once.",
)

DIFFERENCES_FROM_PYRADIOMICS = (
    "Where a matrix has nothing to count (no voxel has a neighbour), all its features are missing; pyradiomics gives 0 "
    "or 1 for GLCM InverseVariance and MCC and GLRLM RunEntropy and RunVariance.",
    "Where no direction at the distances asked fits into the structure's box, features are missing or those of lone "
    "voxels; pyradiomics stops.",
    "Shape after re-segmentation is that of the whole structure; pyradiomics cuts it to the box of what is left.",
    "An image with 2 voxels along an axis is not resampled by B-spline; in pyradiomics ITK reads beyond the image.",
    "Wavelet bands of 32-bit images may differ in the last bit at the far border of the image.",
)
