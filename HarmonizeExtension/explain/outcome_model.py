"""A model that predicts an outcome from the radiomics of a structure, kept as a model folder that maps can ask.

The model is the plain logistic regression of the outcome protocol (evaluation/logistic.py), learnt from all scans.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from ..errors import InputError, ModelError
from ..evaluation.logistic import LogisticRegression
from ..evaluation.study import Study
from ..files.models import ModelCard, load_model, save_model
from ..radiomics.settings import Settings
from .feature_change import feature_names

SYSTEM = "outcome"


@dataclasses.dataclass(frozen=True)
class OutcomeModel:
    """title: what is predicted. structure: whose features. features: their names, in the order of the regression.

    settings: of the radiomics that the features were measured with.
    """

    title: str
    structure: str
    features: tuple[str, ...]
    regression: LogisticRegression
    settings: Settings

    @classmethod
    def fit(cls, study: Study, settings: Settings, title: str = "outcome") -> OutcomeModel:
        """From the scans of a study whose outcome is known, as its last image arm measures them (after, if there).

        Only features that are finite in every scan and that the settings measure take part. Raises InputError where
        none is left, or the outcome is the same in all.
        """
        study = study.with_outcome()
        arm = [name for name in study.arms if name not in study.derived][-1]
        use = study.comparable_features() & np.isin(study.features, feature_names(settings))
        if not use.any():
            raise InputError(f"no feature of '{study.structure}' is one that the radiomics settings measure")
        features = tuple(name for name, used in zip(study.features, use, strict=True) if used)
        regression = LogisticRegression.fit(study.arms[arm][:, use], np.array(study.outcome, bool))
        return cls(title, study.structure, features, regression, settings)

    def log_odds(self, values: Mapping[str, float]) -> float:
        """Log odds of the outcome from the features of the structure, by name."""
        z = (np.array([values[name] for name in self.features]) - self.regression.mean) / self.regression.sd
        return float(z @ self.regression.weights + self.regression.intercept)

    def save(self, folder: Path | str) -> None:
        """Write the model folder."""
        learnt = {
            "structure": self.structure,
            "features": list(self.features),
            "mean": self.regression.mean.tolist(),
            # A constant feature has an infinite deviation, which JSON cannot hold; its weight is 0 either way.
            "sd": np.where(np.isfinite(self.regression.sd), self.regression.sd, 1.0).tolist(),
            "weights": self.regression.weights.tolist(),
            "intercept": self.regression.intercept,
            "settings": self.settings.as_dict(),
        }
        save_model(folder, ModelCard(SYSTEM, self.title, learnt=learnt))

    @classmethod
    def load(cls, folder: Path | str) -> OutcomeModel:
        """From a model folder. Raises ModelError where it is none, or damaged."""
        card, _ = load_model(folder, SYSTEM)
        learnt = card.learnt
        try:
            mean, sd, weights = (np.array(learnt[name], dtype=float) for name in ("mean", "sd", "weights"))
            features = tuple(learnt["features"])
            if not len(mean) == len(sd) == len(weights) == len(features):
                raise ValueError("numbers of other features")
            regression = LogisticRegression(mean, sd, weights, float(learnt["intercept"]))
            return cls(card.title, learnt["structure"], features, regression, Settings.from_dict(learnt["settings"]))
        except (KeyError, TypeError, ValueError, InputError) as error:
            raise ModelError(f"the outcome model '{folder}' is damaged ({error}); make it again") from error
