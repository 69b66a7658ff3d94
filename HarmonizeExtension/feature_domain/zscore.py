"""Each scanner to mean 0 and standard deviation 1: the simplest harmonization, and the one that ComBat has to beat.

It takes away all differences between scanners, those between their patients too (Chatterjee et al. 2019, in the
review of Papadimitroulas et al., Phys Med 2021;83:108, section 5.4.3).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from ..errors import InputError


@dataclasses.dataclass(eq=False)
class ScannerZScore:
    """Values in standard deviations from their scanner's mean.

    Learnt by `fit`: `batches_` (names, sorted), `means_` and `sds_` (batches, features). A feature that is constant on
    a scanner becomes 0 there.
    """

    def get_params(self, deep: bool = True) -> dict[str, object]:
        """There is nothing to choose."""
        return {}

    def fit(self, values: np.ndarray, batch: Sequence[str]) -> ScannerZScore:
        """From values (scans, features) and their scanners (scans,); InputError for a scanner with one scan."""
        values, batch = np.asarray(values, dtype=float), np.asarray(batch).astype(str)
        self.batches_, counts = np.unique(batch, return_counts=True)
        if counts.min() < 2:
            alone = ", ".join(self.batches_[counts < 2])
            raise InputError(f"scanner {alone} has one scan, which has no spread; leave it out or join it with another")
        self.means_ = np.array([values[batch == name].mean(axis=0) for name in self.batches_])
        self.sds_ = np.array([values[batch == name].std(axis=0, ddof=1) for name in self.batches_])
        return self

    def transform(self, values: np.ndarray, batch: Sequence[str]) -> np.ndarray:
        """Z-scores (scans, features) of scans of known scanners; InputError for a scanner that was not in the fit."""
        batch = np.asarray(batch).astype(str)
        unknown = sorted(set(batch) - set(self.batches_))
        if unknown:
            raise InputError(f"scanner {', '.join(unknown)} was not in the fit; fit again with its scans")
        index = np.searchsorted(self.batches_, batch)
        spread = np.where(self.sds_ > 0, self.sds_, 1.0)[index]
        return (np.asarray(values, dtype=float) - self.means_[index]) / spread

    def fit_transform(self, values: np.ndarray, batch: Sequence[str]) -> np.ndarray:
        """`fit`, then `transform` of the same scans."""
        return self.fit(values, batch).transform(values, batch)
