"""First-order statistics of the intensities inside a structure (IBSI UHIW, and two of the histogram, ZVCW)."""

from __future__ import annotations

import numpy as np

from .definitions import EPSILON, INTENSITY, Definition

FEATURES = {
    "10Percentile": Definition("10th intensity percentile", "QG58", INTENSITY),
    "90Percentile": Definition("90th intensity percentile", "8DWT", INTENSITY),
    "Energy": Definition("intensity-based energy", "N8CA", f"{INTENSITY}^2"),
    "Entropy": Definition("discretised intensity entropy", "TLU2", "bit"),
    "InterquartileRange": Definition("intensity interquartile range", "SALO", INTENSITY),
    "Kurtosis": Definition("intensity kurtosis (IBSI's is less by 3)", "IPH6"),
    "Maximum": Definition("maximum intensity", "84IY", INTENSITY),
    "MeanAbsoluteDeviation": Definition("intensity-based mean absolute deviation", "4FUA", INTENSITY),
    "Mean": Definition("mean intensity", "Q4LE", INTENSITY),
    "Median": Definition("median intensity", "Y12H", INTENSITY),
    "Minimum": Definition("minimum intensity", "1GSF", INTENSITY),
    "Range": Definition("intensity range", "2OJQ", INTENSITY),
    "RobustMeanAbsoluteDeviation": Definition("intensity-based robust mean absolute deviation", "1128", INTENSITY),
    "RootMeanSquared": Definition("root mean square intensity", "5ZWQ", INTENSITY),
    "Skewness": Definition("intensity skewness", "KE2A"),
    "TotalEnergy": Definition("energy times voxel volume", "", f"{INTENSITY}^2 mm^3"),
    "Uniformity": Definition("discretised intensity uniformity", "BJ5W"),
    "Variance": Definition("intensity variance", "ECT3", f"{INTENSITY}^2"),
}


def features(values: np.ndarray, level: np.ndarray, voxel_volume_mm3: float, shift: float = 0.0) -> dict[str, float]:
    """The 18 statistics of a structure's intensities (1D) and grey levels (1D).

    shift: added to intensities before squaring (pyradiomics' voxelArrayShift), so that negative HU do not count high.
    """
    x = values.astype(np.float64)
    p10, p25, p75, p90 = np.percentile(x, [10, 25, 75, 90])
    mean = x.mean()
    deviation = x - mean
    squares = deviation * deviation
    variance = squares.mean()
    spread = variance or 1.0  # a constant structure has skewness and kurtosis 0
    robust = x[(x >= p10) & (x <= p90)]
    energy = float(np.sum((x + shift) ** 2))
    probability = np.bincount(level) / len(level)
    return {
        "10Percentile": p10,
        "90Percentile": p90,
        "Energy": energy,
        "Entropy": -np.sum(probability * np.log2(probability + EPSILON)),
        "InterquartileRange": p75 - p25,
        "Kurtosis": np.mean(squares * squares) / spread**2,
        "Maximum": x.max(),
        "MeanAbsoluteDeviation": np.abs(deviation).mean(),
        "Mean": mean,
        "Median": np.median(x),
        "Minimum": x.min(),
        "Range": x.max() - x.min(),
        "RobustMeanAbsoluteDeviation": np.abs(robust - robust.mean()).mean() if len(robust) else np.nan,
        "RootMeanSquared": np.sqrt(energy / len(x)),
        "Skewness": np.mean(squares * deviation) / spread**1.5,
        "TotalEnergy": energy * voxel_volume_mm3,
        "Uniformity": np.sum(probability**2),
        "Variance": variance,
    }
