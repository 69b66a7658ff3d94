"""Covariates as columns of numbers, the same for new scans as for those that they were learnt from."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from ..errors import InputError


@dataclasses.dataclass(frozen=True)
class Covariates:
    """How covariates become columns: numbers in standard deviations from their mean, one column a category but one.

    numbers: name -> (mean, standard deviation); categories: name -> its categories, sorted, the first without column.
    Centring and scaling change no result of a linear model; they keep it exact for years and for litres alike.
    """

    numbers: Mapping[str, tuple[float, float]]
    categories: Mapping[str, tuple[str, ...]]

    @classmethod
    def learn(
        cls, continuous: Sequence[str], categorical: Sequence[str], values: Mapping[str, Sequence], scans: int
    ) -> Covariates:
        """From the covariates (scans,) of these names; InputError for one that is missing, constant or not known."""
        numbers = {name: _numbers(name, values, scans) for name in continuous}
        categories = {name: tuple(np.unique(_texts(name, values, scans)).tolist()) for name in categorical}
        constant = [name for name, x in numbers.items() if np.ptp(x) == 0]
        constant += [name for name, levels in categories.items() if len(levels) < 2]
        if constant:
            raise InputError(f"covariate {', '.join(constant)} is the same in every scan; leave it out")
        return cls({name: (float(x.mean()), float(x.std())) for name, x in numbers.items()}, categories)

    @classmethod
    def from_dict(cls, content: Mapping) -> Covariates:
        """From what `dataclasses.asdict` gave and JSON kept."""
        numbers = {name: (float(mean), float(sd)) for name, (mean, sd) in content["numbers"].items()}
        return cls(numbers, {name: tuple(levels) for name, levels in content["categories"].items()})

    def columns(self, values: Mapping[str, Sequence], scans: int) -> np.ndarray:
        """(scans, columns) for these scans; InputError for a covariate that is missing or a category never seen."""
        columns = [(_numbers(name, values, scans) - mean) / sd for name, (mean, sd) in self.numbers.items()]
        for name, levels in self.categories.items():
            texts = _texts(name, values, scans)
            unknown = sorted(set(texts) - set(levels))
            if unknown:
                raise InputError(
                    f"covariate '{name}' has the category {', '.join(unknown)}, which was not in the fit; "
                    f"it knows {', '.join(levels)}"
                )
            columns += [(texts == level).astype(float) for level in levels[1:]]
        return np.stack(columns, axis=1) if columns else np.zeros((scans, 0))


def _column(name: str, values: Mapping[str, Sequence], scans: int) -> np.ndarray:
    if name not in values:
        have = ", ".join(values) or "none"
        raise InputError(f"covariate '{name}' was not given; there is {have}")
    column = np.asarray(values[name])
    if column.shape != (scans,):
        raise InputError(f"covariate '{name}' has shape {column.shape}; give one value for each of the {scans} scans")
    return column


def _numbers(name: str, values: Mapping[str, Sequence], scans: int) -> np.ndarray:
    column = _column(name, values, scans)
    try:
        numbers = column.astype(float)
    except (TypeError, ValueError) as error:
        raise InputError(f"covariate '{name}' is not a number ({error}); name it under categorical") from error
    missing = int((~np.isfinite(numbers)).sum())
    if missing:
        raise InputError(f"covariate '{name}' is not known in {missing} scans; leave these scans out, or the covariate")
    return numbers


def _texts(name: str, values: Mapping[str, Sequence], scans: int) -> np.ndarray:
    texts = _column(name, values, scans).astype(str)
    missing = int(np.isin(texts, ["", "nan", "NaN", "None"]).sum())
    if missing:
        raise InputError(f"covariate '{name}' is not known in {missing} scans; leave these scans out, or the covariate")
    return texts
