"""Logistic regression with a ridge penalty: the plain classifier of the outcome and site protocols.

It minimises  C sum log(1 + exp(-y f)) + |w|^2 / 2  with f = w z + b, the intercept b free and z the features in
standard deviations of the training scans (le Cessie and van Houwelingen, Appl Stat 1992;41:191; the form and the
default C = 1 are scikit-learn's).
"""

from __future__ import annotations

import dataclasses

import numpy as np
from scipy import linalg, special

from ..errors import InputError

_STEPS = 100
_TOLERANCE = 1e-10  # of the gradient, per scan


@dataclasses.dataclass(frozen=True)
class LogisticRegression:
    """A fitted model: probabilities of the second class from features (scans, features)."""

    mean: np.ndarray
    sd: np.ndarray
    weights: np.ndarray
    intercept: float

    def probability(self, values: np.ndarray) -> np.ndarray:
        """Probability (scans,) of the outcome."""
        z = (np.asarray(values, dtype=float) - self.mean) / self.sd
        return special.expit(z @ self.weights + self.intercept)

    @classmethod
    def fit(cls, values: np.ndarray, outcome: np.ndarray, c: float = 1.0) -> LogisticRegression:
        """From (scans, features) and a boolean outcome (scans,); a larger c penalises less.

        Newton's method in the space of the scans, so more features than scans cost nothing more. A constant feature
        gets no weight. Raises InputError for values that are not finite or an outcome of one class.
        """
        values, outcome = np.asarray(values, dtype=float), np.asarray(outcome, dtype=bool)
        if not np.isfinite(values).all():
            raise InputError("features that are not finite cannot be learnt from; leave them out")
        if outcome.all() or not outcome.any():
            raise InputError("the outcome is the same in every training scan; there is nothing to learn")
        mean, sd = values.mean(axis=0), values.std(axis=0)
        sd = np.where(sd > 1e-12 * np.abs(values).max(axis=0), sd, np.inf)
        # z = u s v: the penalty is the same on v w, and there are at most as many of those as scans.
        u, s, v = np.linalg.svd((values - mean) / sd, full_matrices=False)
        x = np.hstack([u * s, np.ones((len(u), 1))])
        penalty = np.append(np.ones(len(s)), 0.0)

        def loss(w: np.ndarray) -> float:
            f = x @ w
            return float(c * np.sum(np.logaddexp(0, f) - outcome * f) + 0.5 * np.sum(penalty * w * w))

        share = outcome.mean()
        w = np.append(np.zeros(len(s)), np.log(share / (1 - share)))
        value = loss(w)
        for _ in range(_STEPS):
            p = special.expit(x @ w)
            gradient = c * x.T @ (p - outcome) + penalty * w
            if np.abs(gradient).max() <= _TOLERANCE * c * len(x):
                break
            curvature = c * (x.T * (p * (1 - p))) @ x + np.diag(penalty)
            curvature[-1, -1] += 1e-12  # where all probabilities are 0 or 1 the intercept is undetermined
            step = linalg.solve(curvature, gradient, assume_a="pos")
            length = 1.0
            while length > 1e-8 and loss(w - length * step) > value:
                length /= 2
            w = w - length * step
            value = loss(w)
        return cls(mean, sd, w[:-1] @ v, float(w[-1]))
