"""Does harmonization help to predict what happens to patients? The protocol of Haberl et al., EJNMMI 2024, section 2.6.

100 stratified splits into 80 % training and 20 % test, the same for every arm; a logistic regression of all features;
mean AUC over the splits. Patients are split, not scans: a second scan of a training patient would betray the outcome.
The probability of a patient is the mean over the scans. Harmonization is fitted inside the training part only, so
nothing of the test patients leaks. Arms are compared by DeLong's test on each patient's mean out-of-fold probability
(pooling all splits would count every patient twenty times), and by the resampled t-test with the correction of Nadeau
and Bengio, Mach Learn 2003;52:239, which knows that the splits share patients.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
from scipy import stats

from ..errors import InputError
from ..progress import CancelCheck, Progress, never, silent, stop_if
from .arms import Arm
from .logistic import LogisticRegression
from .roc import DeLong, auc, delong

FOLDS = 100
TEST_SHARE = 0.2


@dataclasses.dataclass(frozen=True)
class ArmResult:
    """An arm's AUC on each split (folds,), its mean, the 95 % interval of the mean, and the patients' probabilities.

    interval: mean -+ 1.96 sd / sqrt(folds), as the paper's widths imply; it says how well the mean over splits of
    these patients is known, not how it would vary over new patients (`delong` and the corrected t-test do).
    probability: (patients,), the mean of those from splits where the patient was in the test part.
    """

    aucs: np.ndarray
    mean_auc: float
    interval: tuple[float, float]
    probability: np.ndarray


@dataclasses.dataclass(frozen=True)
class Comparison:
    """An arm against the first: DeLong on mean probabilities, and the corrected resampled t (statistic and p)."""

    delong: DeLong
    t: float
    p: float


@dataclasses.dataclass(frozen=True)
class OutcomeResult:
    """All arms by name, and each but the first compared with the first (the baseline).

    outcome: (patients,), in the order of `ArmResult.probability`. left_out: of arms that could not be fitted in every
    split, why.
    """

    arms: dict[str, ArmResult]
    against_first: dict[str, Comparison]
    folds: int
    outcome: np.ndarray
    left_out: dict[str, str]


def outcome_protocol(
    arms: Mapping[str, Arm],
    outcome: Sequence[bool],
    rng: np.random.Generator,
    folds: int = FOLDS,
    test_share: float = TEST_SHARE,
    c: float = 1.0,
    progress: Progress = silent,
    cancelled: CancelCheck = never,
    patient: Sequence[str] | None = None,
) -> OutcomeResult:
    """Run every arm (see `arms`) on the same splits; the first is the baseline. outcome: (scans,) boolean.

    patient: (scans,), whose scan it is, with one outcome each; by default every scan is of another one.
    The outcome must not be among an arm's covariates: it would not be known for a new patient. An arm whose harmonizer
    cannot be fitted in a split is left out; the baseline must not be one.
    Raises InputError for too few patients of a class to split, Cancelled when `cancelled()` became true.
    """
    outcome = np.asarray(outcome, dtype=bool)
    if not arms:
        raise InputError("there is no arm to run; give one or more")
    _, first_scan, owner = np.unique(
        np.arange(len(outcome)) if patient is None else np.asarray(patient), return_index=True, return_inverse=True
    )
    scans, of_patient = outcome, outcome[first_scan]
    if not np.array_equal(of_patient[owner], scans):
        raise InputError("a patient has scans with the outcome and scans without; the outcome is the patient's")
    splits = stratified_splits(of_patient, rng, folds, test_share)
    aucs = {name: np.empty(folds) for name in arms}
    total = {name: np.zeros(len(of_patient)) for name in arms}
    count = np.zeros(len(of_patient))
    first = next(iter(arms))
    left_out: dict[str, str] = {}
    for k, (training, tested) in enumerate(splits):
        stop_if(cancelled)
        progress(k / folds, f"Outcome: split {k + 1} of {folds}")
        count[tested] += 1
        train, test = np.flatnonzero(np.isin(owner, training)), np.flatnonzero(np.isin(owner, tested))
        for name in [name for name in arms if name not in left_out]:
            try:
                known, new = arms[name](train, test)
            except InputError as error:
                if name == first:
                    raise
                left_out[name] = str(error)
                continue
            by_scan = LogisticRegression.fit(known, scans[train], c).probability(new)
            probability = np.bincount(owner[test], by_scan)[tested] / np.bincount(owner[test])[tested]
            aucs[name][k] = auc(of_patient[tested], probability)
            total[name][tested] += probability
    seen = count > 0
    results = {
        name: _summary(aucs[name], np.where(seen, total[name] / np.maximum(count, 1), np.nan))
        for name in arms
        if name not in left_out
    }
    compared = {
        name: Comparison(
            delong(of_patient[seen], results[first].probability[seen], result.probability[seen]),
            *corrected_t(result.aucs - results[first].aucs, test_share),
        )
        for name, result in results.items()
        if name != first
    }
    progress(1.0, "Outcome: done")
    return OutcomeResult(results, compared, folds, of_patient, left_out)


def stratified_splits(
    outcome: np.ndarray, rng: np.random.Generator, folds: int = FOLDS, test_share: float = TEST_SHARE
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Random splits (training indices, test indices), each class in the same share in both, sorted indices."""
    outcome = np.asarray(outcome, dtype=bool)
    classes = [np.flatnonzero(outcome), np.flatnonzero(~outcome)]
    sizes = [round(test_share * len(members)) for members in classes]
    if min(sizes) < 1 or any(len(m) - s < 2 for m, s in zip(classes, sizes, strict=True)):
        raise InputError(
            f"{len(classes[0])} patients with the outcome and {len(classes[1])} without are too few to split; "
            "give five of each or more"
        )
    splits = []
    for _ in range(folds):
        shuffled = [rng.permutation(members) for members in classes]
        test = np.concatenate([members[:size] for members, size in zip(shuffled, sizes, strict=True)])
        train = np.concatenate([members[size:] for members, size in zip(shuffled, sizes, strict=True)])
        splits.append((np.sort(train), np.sort(test)))
    return splits


def corrected_t(difference: np.ndarray, test_share: float) -> tuple[float, float]:
    """t and two-sided p of differences of repeated splits (folds,), the variance corrected for shared patients.

    t = mean / sqrt((1 / folds + n_test / n_train) variance) with folds - 1 degrees of freedom (Nadeau and Bengio 2003).
    """
    folds = len(difference)
    variance = difference.var(ddof=1)
    if variance == 0:
        return (0.0, 1.0) if difference.mean() == 0 else (float(np.copysign(np.inf, difference.mean())), 0.0)
    t = difference.mean() / np.sqrt((1 / folds + test_share / (1 - test_share)) * variance)
    return float(t), float(2 * stats.t.sf(abs(t), folds - 1))


def _summary(aucs: np.ndarray, probability: np.ndarray) -> ArmResult:
    mean, half = float(aucs.mean()), float(1.96 * aucs.std(ddof=1) / np.sqrt(len(aucs)))
    return ArmResult(aucs, mean, (mean - half, mean + half), probability)
