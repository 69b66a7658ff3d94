"""The arms of a cross-validated comparison: what happens to the features before a model sees them.

An arm goes from the indices of the training and the test scans to their features. Harmonization is fitted on the
training scans only. A table that was harmonized as a whole would leak: an outcome is predicted too well, and sites
seem to be told apart worse than by chance (AUC far below 0.5), since every scanner's mean was set to the same value and
what its training scans lie above, its test scans lie below.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

Arm = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]


def unharmonized(values: np.ndarray) -> Arm:
    """The arm that uses the features (scans, features) as they are."""
    return lambda train, test: (values[train], values[test])


def harmonized(
    values: np.ndarray,
    batch: Sequence[str],
    harmonizer: Callable[[], object],
    covariates: Mapping[str, Sequence] | None = None,
) -> Arm:
    """The arm whose features go through a feature harmonizer that is fitted on the training scans of each split.

    values: (scans, features); batch: (scans,); covariates: by name, (scans,) each.
    harmonizer: makes a new one with `fit` and `transform`, for example `lambda: ComBat(reference_batch="GE")`.
    """
    batch = np.asarray(batch, dtype=str)
    columns = {name: np.asarray(column) for name, column in (covariates or {}).items()}

    def of(part: np.ndarray) -> tuple:
        known = ({name: column[part] for name, column in columns.items()},) if columns else ()
        return values[part], batch[part], *known

    def arm(train: np.ndarray, test: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        fitted = harmonizer().fit(*of(train))
        return fitted.transform(*of(train)), fitted.transform(*of(test))

    return arm
