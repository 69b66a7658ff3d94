"""The protocols about patients: is their outcome predicted better, and do two measurements of them agree?"""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np

from ..errors import InputError
from ..feature_domain.assumptions import confounded
from ..progress import CancelCheck, Progress, part, stop_if
from . import figures
from .agreement import REPRODUCIBLE, Intraclass, bland_altman, concordance, intraclass
from .outcome import outcome_protocol
from .results import Answer, Table
from .study import Study

REPEAT = "repeat"  # the column that names what was measured again
_SHUFFLES = 10  # of the outcome, for the control
_SHUFFLED_SPLITS = 20
_MOVED = (
    "Without a column 'repeat' the arms are compared: how far harmonization moved the features, which is no fault. "
    "Whether it made them agree, only subjects that were measured twice can tell."
)
_SHOWN = "firstorder_Mean"  # whose limits of agreement are drawn: everybody knows what it is


def outcome_arms_protocol(study: Study, rng: np.random.Generator, progress: Progress, cancelled: CancelCheck) -> Answer:
    """The outcome predicted from the features of each arm, on the same splits, and from a shuffled outcome as control.

    Haberl et al., EJNMMI 2024, section 2.6: 100 stratified splits, logistic regression of all features, harmonization
    of features fitted inside the training part. People are split and shuffled, with all of their scans.
    Raises InputError for outcomes of too few people of a class.
    """
    outcome = np.array(study.outcome, dtype=bool)
    use = study.comparable_features()
    arms = {name: study.in_folds(name, use) for name in study.arms}
    person = study.person
    result = outcome_protocol(arms, outcome, rng, progress=part(progress, 0, 0.6), cancelled=cancelled, patient=person)
    arms = {name: arm for name, arm in arms.items() if name in result.arms}
    chance: dict[str, list[float]] = {name: [] for name in arms}
    for number in range(_SHUFFLES):
        report = part(progress, 0.6 + 0.4 * number / _SHUFFLES, 0.6 + 0.4 * (number + 1) / _SHUFFLES)
        shuffled = outcome_protocol(
            arms,
            _shuffled(outcome, person, rng),
            rng,
            _SHUFFLED_SPLITS,
            progress=report,
            cancelled=cancelled,
            patient=person,
        )
        for name, arm in shuffled.arms.items():
            chance[name].append(arm.mean_auc)
    rows = []
    for name, arm in result.arms.items():
        against = result.against_first.get(name)
        tests = (against.delong.p, against.t, against.p) if against else (float("nan"),) * 3
        gain = arm.mean_auc - next(iter(result.arms.values())).mean_auc if against else float("nan")
        # An arm can be impossible to fit in a control's splits only.
        whole = len(chance[name]) > 1
        control = (float(np.mean(chance[name])), float(np.std(chance[name], ddof=1))) if whole else (float("nan"),) * 2
        rows.append((name, arm.mean_auc, *arm.interval, gain, *tests, *control))
    header = ("arm", "AUC", "from", "to", "gain", "DeLong p", "t", "t-test p", "shuffled AUC", "sd")
    first = next(iter(arms))
    tables = (
        Table(
            "outcome",
            f"Mean AUC over {result.folds} splits (higher is better), gain over '{first}'",
            header,
            tuple(rows),
        ),
    )
    seen = np.all([np.isfinite(arm.probability) for arm in result.arms.values()], axis=0)
    scores = {name: arm.probability[seen] for name, arm in result.arms.items()}
    aucs = {name: arm.aucs for name, arm in result.arms.items()}
    drawn = {
        "outcome-roc": figures.roc("Outcome, from each patient's mean test probability", result.outcome[seen], scores),
        "outcome-splits": figures.violin(f"Outcome, {result.folds} splits", aucs, "AUC of a split", range(len(aucs))),
    }
    scans = f" ({len(outcome)} scans, those of one patient always in one part)" * (len(result.outcome) < len(outcome))
    notes = (
        *(
            f"'{arm}' is left out: it cannot be fitted in every split, since {why}"
            for arm, why in result.left_out.items()
        ),
        f"{len(result.outcome)} patients{scans}, {int(result.outcome.sum())} with the outcome; {int(use.sum())} of "
        f"{len(use)} features (known in every scan, and not constant); ComBat fitted in the training part of each "
        "split.",
        "Whether an arm is better, the p-values say: DeLong's of each patient's mean test probability, and a t-test "
        "corrected for splits that share patients (Nadeau and Bengio 2003). The interval of the mean over splits, as "
        "the paper gives it, is narrower than what new patients will show.",
        f"Control: with the outcome shuffled ({_SHUFFLES} times) the AUC is 0.5 within about two sd, unless something "
        "leaks.",
        *confounded(study.site, categorical={"outcome": outcome}),
    )
    return Answer(tables, drawn, notes)


def _shuffled(outcome: np.ndarray, person: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Each person's outcome given to another one, with all scans: the control would not see a leak otherwise."""
    _, first_scan, owner = np.unique(person, return_index=True, return_inverse=True)
    return rng.permutation(outcome[first_scan])[owner]


@dataclasses.dataclass(frozen=True, eq=False)
class _Pairing:
    """Things measured several times: (things, repeats, features), and what the repeats are called."""

    name: str
    repeats: tuple[str, ...]
    values: np.ndarray


def agreement_protocol(study: Study, rng: np.random.Generator, progress: Progress, cancelled: CancelCheck) -> Answer:
    """Concordance, intraclass correlation and limits of agreement, feature by feature and by feature class.

    With a column `repeat` in the manifest the scans that share its entry are measurements of the same thing (a patient
    on two scanners, a test and a retest), compared within each arm. Without, each arm is compared with the first: how
    far harmonization moved the features. Reproducible is CCC > 0.85 (Selim et al. 2021, section 4.1).
    """
    pairings, notes = _pairings(study)
    use = np.all([np.isfinite(pairing.values).all(axis=(0, 1)) for pairing in pairings], axis=0)
    use &= np.all([np.ptp(pairing.values, axis=(0, 1)) > 0 for pairing in pairings], axis=0)
    if not use.any():
        raise InputError("no feature is known in every measurement and varies; leave out the scans without")
    names = [name for name, used in zip(study.features, use, strict=True) if used]
    classes = np.array([name for name, used in zip(study.classes, use, strict=True) if used])
    by_class, by_feature, ccc = [], [], {}
    for number, pairing in enumerate(pairings):
        values = pairing.values[..., use]
        found: list[Intraclass] = []
        for i in range(values.shape[2]):
            stop_if(cancelled)
            progress((number + i / values.shape[2]) / len(pairings), f"Agreement: {pairing.name}")
            found.append(intraclass(values[..., i]))
        two = list(itertools.combinations(range(values.shape[1]), 2))
        ccc[pairing.name] = np.mean([concordance(values[:, a], values[:, b]) for a, b in two], axis=0)
        icc = np.array([(one.agreement.value, one.consistency.value) for one in found])
        for group in (*dict.fromkeys(classes.tolist()), "all"):
            inside = (classes == group) | (group == "all")
            share = 100 * float(np.mean(ccc[pairing.name][inside] > REPRODUCIBLE))
            medians = (np.median(ccc[pairing.name][inside]), *np.median(icc[inside], axis=0))
            by_class.append((pairing.name, group, int(inside.sum()), share, *map(float, medians)))
        for i, name in enumerate(names):
            limits = bland_altman(values[:, 0, i], values[:, 1, i])
            intervals = (found[i].agreement, found[i].consistency)
            by_feature.append(
                (
                    pairing.name,
                    name,
                    float(ccc[pairing.name][i]),
                    *(edge for one in intervals for edge in (one.value, one.low, one.high)),
                    limits.bias,
                    limits.lower,
                    limits.upper,
                )
            )
    limit = f"CCC > {REPRODUCIBLE:g} (%)"
    tables = (
        Table(
            "agreement",
            "Reproducible features by class (higher is better); medians over the features",
            ("measured", "class", "features", limit, "CCC", "ICC(2,1)", "ICC(3,1)"),
            tuple(by_class),
        ),
        Table(
            "agreement-by-feature",
            "Each feature, with 95 % confidence intervals and the limits of agreement of the first two measurements",
            (
                *("measured", "feature", "CCC", "ICC(2,1)", "from", "to", "ICC(3,1)", "from ", "to "),
                *("bias", "lower limit", "upper limit"),
            ),
            tuple(by_feature),
        ),
    )
    shown = next((i for i, name in enumerate(names) if name.endswith(_SHOWN)), 0)
    drawn = {"agreement-ccc": figures.violin("Agreement of the features", ccc, "CCC", range(len(ccc)))}
    for number, pairing in enumerate(pairings, start=1):
        first, second = pairing.values[:, 0, use][:, shown], pairing.values[:, 1, use][:, shown]
        of = f": {' and '.join(pairing.repeats[:2])}" if REPEAT in study.covariates else ""
        drawn[f"agreement-limits-{number}"] = figures.agreement(f"{names[shown]}\n{pairing.name}{of}", first, second)
    things, repeats = pairings[0].values.shape[:2]
    subjects = "subjects" if REPEAT in study.covariates else "scans"
    notes = (
        *notes,
        f"{things} {subjects} measured {repeats} times; {len(names)} of {len(use)} features (known in every "
        "measurement, and not constant).",
        "1 is perfect agreement. CCC (mean over pairs of measurements) and ICC(2,1) count a constant difference as "
        "disagreement, ICC(3,1) does not.",
        *([] if REPEAT in study.covariates else [_MOVED]),
    )
    return Answer(tables, drawn, notes)


def _pairings(study: Study) -> tuple[list[_Pairing], list[str]]:
    if REPEAT not in study.covariates:
        first, *others = study.arms
        if not others:
            raise InputError(
                "agreement needs each thing measured twice: features before and after, or a column 'repeat' in the "
                "manifest with the same entry for the scans of the same thing"
            )
        both = (np.stack([study.arms[first], study.arms[other]], axis=1) for other in others)
        if len(study.cases) < 2:
            raise InputError("agreement needs two cases or more")
        return [
            _Pairing(f"{first} ~ {other}", (first, other), values) for other, values in zip(others, both, strict=True)
        ], []
    scans, repeats, notes = _repeats(study)
    return [_Pairing(arm, repeats, values[scans]) for arm, values in study.arms.items()], notes


def _repeats(study: Study) -> tuple[np.ndarray, tuple[str, ...], list[str]]:
    """Indices of the scans (things, repeats), what the repeats are called, and notes.

    Repeats are told apart by their site where every thing has its scans on different sites, else by their order in the
    manifest. Things that were not measured in every way are left out.
    """
    of = study.covariates[REPEAT].astype(str)
    filled = ~np.isin(of, ["", "nan"])
    groups = {name: np.flatnonzero(of == name) for name in dict.fromkeys(of[filled].tolist())}
    groups = {name: scans for name, scans in groups.items() if len(scans) > 1}
    if all(len(set(study.site[scans])) == len(scans) for scans in groups.values()):
        labels = {scan: study.site[scan] for scans in groups.values() for scan in scans}
    else:
        labels = {scan: f"measurement {i}" for scans in groups.values() for i, scan in enumerate(scans, start=1)}
    repeats = tuple(sorted(set(map(str, labels.values()))))
    complete = {
        name: {str(labels[s]): s for s in scans} for name, scans in groups.items() if len(scans) == len(repeats)
    }
    if len(complete) < 2:
        raise InputError(
            f"{len(complete)} things were measured in all of the ways {', '.join(repeats) or 'of the manifest'}; give "
            "two or more with the same entry in the column 'repeat'"
        )
    left = [name for name in groups if name not in complete]
    notes = [f"left out, not measured in all of {', '.join(repeats)}: {', '.join(left)}"] if left else []
    return np.array([[scans[label] for label in repeats] for scans in complete.values()]), repeats, notes
