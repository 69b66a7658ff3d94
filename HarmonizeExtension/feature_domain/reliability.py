"""Features that give the same value when the same thing is measured again; the others no harmonization can save.

From a test and a retest of the same patients, or a phantom on several scanners (review of Papadimitroulas et al.,
Phys Med 2021;83:108, section 5.4.1). What is discarded may have carried information: that is the price.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from ..errors import InputError
from ..evaluation.agreement import concordance, intraclass

MEASURES = ("ccc", "icc")


@dataclasses.dataclass(frozen=True)
class Reliability:
    """How reliable each feature is: `value` and `keep` (features,), by a measure and the threshold it was held to."""

    names: tuple[str, ...]
    measure: str
    threshold: float
    value: np.ndarray
    keep: np.ndarray

    @property
    def kept(self) -> tuple[str, ...]:
        """The names of the reliable features."""
        return tuple(name for name, keep in zip(self.names, self.keep, strict=True) if keep)


def reliability(
    measurements: np.ndarray, names: Sequence[str], measure: str = "icc", threshold: float = 0.85
) -> Reliability:
    """Which features agree over repeated measurements (subjects, repeats, features).

    measure: "ccc", the concordance of two repeats, or "icc", the absolute agreement ICC(2,1) of two or more. A feature
    is kept above the threshold (0.85 in Selim et al. 2021); one that is not finite or does not vary is not.
    """
    measurements = np.asarray(measurements, dtype=float)
    if measurements.ndim != 3 or measurements.shape[2] != len(names):
        raise InputError(f"measurements of shape {measurements.shape} are not (subjects, repeats, {len(names)})")
    if measure not in MEASURES or (measure == "ccc" and measurements.shape[1] != 2):
        raise InputError(f"measure '{measure}' with {measurements.shape[1]} repeats is not possible; use icc")
    if measure == "ccc":
        value = concordance(measurements[:, 0], measurements[:, 1])
    else:
        value = np.array([intraclass(m).agreement.value for m in np.moveaxis(measurements, 2, 0)])
    return Reliability(tuple(names), measure, threshold, value, value > threshold)
