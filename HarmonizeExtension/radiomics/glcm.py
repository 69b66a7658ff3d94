"""Grey level co-occurrence matrix: which levels lie next to which (IBSI LFYI; Haralick et al. 1973)."""

from __future__ import annotations

import warnings

import numpy as np

from .definitions import EPSILON, Definition
from .discretisation import GreyLevels, Offset

FEATURES = {
    "Autocorrelation": Definition("autocorrelation", "QWB0"),
    "ClusterProminence": Definition("cluster prominence", "AE86"),
    "ClusterShade": Definition("cluster shade", "7NFM"),
    "ClusterTendency": Definition("cluster tendency", "DG8W"),
    "Contrast": Definition("contrast", "ACUI"),
    "Correlation": Definition("correlation", "NI2N"),
    "DifferenceAverage": Definition("difference average", "TF7R"),
    "DifferenceEntropy": Definition("difference entropy", "NTRS", "bit"),
    "DifferenceVariance": Definition("difference variance", "D3YU"),
    "Id": Definition("inverse difference", "IB1Z"),
    "Idm": Definition("inverse difference moment", "WF0Z"),
    "Idmn": Definition("normalised inverse difference moment", "1QCO"),
    "Idn": Definition("normalised inverse difference", "NDRX"),
    "Imc1": Definition("information correlation 1", "R8DG"),
    "Imc2": Definition("information correlation 2", "JN9H"),
    "InverseVariance": Definition("inverse variance", "E8JP"),
    "JointAverage": Definition("joint average", "60VM"),
    "JointEnergy": Definition("angular second moment", "8ZQL"),
    "JointEntropy": Definition("joint entropy", "TU9B", "bit"),
    "MCC": Definition("maximal correlation coefficient"),
    "MaximumProbability": Definition("joint maximum", "GYBY"),
    "SumAverage": Definition("sum average", "ZGXS"),
    "SumEntropy": Definition("sum entropy", "P6QZ", "bit"),
    "SumSquares": Definition("joint variance", "UR99"),
}

CELLS_AT_ONCE = 4_000_000  # matrices of many levels are worked through a few directions at a time
LEVELS_SUMMED_IN_ORDER = 128


def cooccurrences(grey: GreyLevels, offset: Offset, symmetrical: bool = True) -> np.ndarray:
    """How often level j lies at `offset` from level i; (levels, levels), over the levels present."""
    side = len(grey.present) + 1
    pair = grey.rank.astype(np.intp) * side + grey.neighbours(offset)
    count = np.bincount(pair, minlength=side * side).reshape(side, side)[1:, 1:]
    return count + count.T if symmetrical else count


def features(
    grey: GreyLevels, offsets: list[Offset], weights: np.ndarray | None = None, symmetrical: bool = True
) -> dict[str, float]:
    """The 24 features: averaged over the directions, or, with `weights`, of the weighted sum of their matrices.

    Directions in which no voxel has a neighbour are left out; all features are NaN where that is every direction.
    """
    matrices = [cooccurrences(grey, offset, symmetrical) for offset in offsets]
    if weights is not None:
        matrices = [np.tensordot(weights, matrices, axes=1)]
    matrices = [matrix / matrix.sum() for matrix in matrices if matrix.any()]
    if not matrices:
        return dict.fromkeys(FEATURES, np.nan)
    at_once = max(1, CELLS_AT_ONCE // matrices[0].size)
    found = [
        of_probabilities(np.stack(matrices[start : start + at_once], axis=2), grey.present)
        for start in range(0, len(matrices), at_once)
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a direction may have no Imc2 or MCC, see there
        return {name: float(np.nanmean(np.concatenate([part[name] for part in found]))) for name in FEATURES}


def of_probabilities(p: np.ndarray, level: np.ndarray) -> dict[str, np.ndarray]:
    """The features of joint probabilities p (levels, levels, directions), one value a direction.

    level: the grey level of each row and column. The sums run in the order in which pyradiomics takes them.
    """
    size, highest = len(level), int(level[-1])
    p_row, p_column = p.sum(axis=1, keepdims=True), p.sum(axis=0, keepdims=True)
    i, j = np.meshgrid(level.astype(float), level.astype(float), indexing="ij")
    total, difference = _sums_by(i + j, p), _sums_by(np.abs(i - j), p)
    independent = (p_row * p_column).reshape(size * size, -1)
    p_row, p_column, joint = p_row[:, 0], p_column[0], p.reshape(size * size, -1)
    i, j = i.reshape(-1, 1), j.reshape(-1, 1)
    mean_i, mean_j = np.sum(i * joint, axis=0), np.sum(j * joint, axis=0)
    variance_i, variance_j = np.sum(joint * (i - mean_i) ** 2, axis=0), np.sum(joint * (j - mean_j) ** 2, axis=0)
    cluster = i + j - mean_i - mean_j
    cluster2 = cluster * cluster
    sum_k, sum_p = total
    k, p_k = difference
    difference_average = np.sum(k * p_k, axis=0)
    joint_entropy, joint_energy = _entropy(joint), np.sum(joint * joint, axis=0)
    deviation = np.sqrt(variance_i) * np.sqrt(variance_j)
    correlation = np.sum(joint * (i - mean_i) * (j - mean_j), axis=0) / (deviation + EPSILON)
    return {
        "Autocorrelation": np.sum(joint * (i * j), axis=0),
        "ClusterProminence": np.sum(joint * (cluster2 * cluster2), axis=0),
        "ClusterShade": np.sum(joint * (cluster2 * cluster), axis=0),
        "ClusterTendency": np.sum(joint * cluster2, axis=0),
        "Contrast": np.sum(k**2 * p_k, axis=0),
        "Correlation": np.where(deviation == 0, 1.0, correlation),
        "DifferenceAverage": difference_average,
        "DifferenceEntropy": _entropy(p_k),
        "DifferenceVariance": np.sum(p_k * (k - difference_average) ** 2, axis=0),
        "Id": np.sum(p_k / (1 + k), axis=0),
        "Idm": np.sum(p_k / (1 + k**2), axis=0),
        "Idmn": np.sum(p_k / (1 + k**2 / highest**2), axis=0),
        "Idn": np.sum(p_k / (1 + k / highest), axis=0),
        "Imc1": _information_correlation_1(joint, independent, joint_entropy, p_row, p_column),
        "Imc2": _information_correlation_2(independent, joint_entropy),
        "InverseVariance": np.sum(p_k[k[:, 0] > 0] / k[k[:, 0] > 0] ** 2, axis=0),
        "JointAverage": mean_i,
        "JointEnergy": joint_energy,
        "JointEntropy": joint_entropy,
        "MCC": maximal_correlation(p, p_row, p_column),
        "MaximumProbability": joint.max(axis=0),
        "SumAverage": np.sum(sum_k * sum_p, axis=0),
        "SumEntropy": _entropy(sum_p),
        "SumSquares": variance_i,
    }


def _entropy(p: np.ndarray) -> np.ndarray:
    return -np.sum(p * np.log2(p + EPSILON), axis=0)


def _sums_by(key: np.ndarray, p: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The values k of `key` (levels, levels) as a column, and for each the sum of p over the cells that have it."""
    order = np.argsort(key, axis=None, kind="stable")
    k, first = np.unique(key.reshape(-1)[order], return_index=True)
    return k[:, None], np.add.reduceat(p.reshape(key.size, -1)[order], first, axis=0)


def _information_correlation_1(joint, independent, joint_entropy, p_row, p_column) -> np.ndarray:
    """(HXY - HXY1) / max(HX, HY); 0 in a flat region."""
    cross_entropy = -np.sum(joint * np.log2(independent + EPSILON), axis=0)
    larger = np.maximum(_entropy(p_row), _entropy(p_column))
    flat = larger == 0
    return np.where(flat, 0.0, (joint_entropy - cross_entropy) / np.where(flat, 1.0, larger))


def _information_correlation_2(independent, joint_entropy) -> np.ndarray:
    """sqrt(1 - exp(-2 (HXY2 - HXY))); NaN where rounding makes the mutual information negative."""
    entropy = _entropy(independent)
    with np.errstate(invalid="ignore"):
        value = np.sqrt(1 - np.e ** (-2 * (entropy - joint_entropy)))
    return np.where(entropy == joint_entropy, 0.0, value)


def maximal_correlation(p: np.ndarray, p_row: np.ndarray, p_column: np.ndarray) -> np.ndarray:
    """Root of the second largest eigenvalue of Q(i, j) = sum_k p(i,k) p(j,k) / (px(i) py(k)); 1 in a flat region.

    Q is summed cell by cell as pyradiomics does: where the eigenvalue is 0 its root is rounding noise, and NaN where
    that is negative; only the same order of additions gives the same noise. With many levels that would take long,
    and an eigenvalue of 0 does not occur.
    """
    size = len(p)
    if size < 2:
        return np.ones(p.shape[2])
    if size <= LEVELS_SUMMED_IN_ORDER:
        q = np.zeros((size, size, p.shape[2]))
        for k in range(size):
            q += p[:, None, k] * p[None, :, k] / (p_row * p_column[k] + EPSILON)[:, None]
        q = q.transpose(2, 0, 1)
    else:
        q = (p / (p_row[:, None] * p_column[None, :] + EPSILON)).transpose(2, 0, 1) @ p.transpose(2, 1, 0)
    eigenvalues = np.sort(np.linalg.eigvals(q), axis=-1)
    with np.errstate(invalid="ignore"):
        return np.sqrt(eigenvalues[:, -2]).real
