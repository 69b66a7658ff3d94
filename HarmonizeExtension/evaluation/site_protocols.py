"""The protocols that ask whether scanners still differ: feature by feature, in overlap, and all features together."""

from __future__ import annotations

import itertools
from collections.abc import Iterable

import numpy as np

from ..errors import InputError
from ..progress import CancelCheck, Progress, stop_if
from . import figures
from .overlap import OverlapGain, overlap_coefficient, overlap_gain
from .results import Answer, Table
from .site_effect import SiteEffect, site_effect, variance_explained
from .site_prediction import discrepancy, site_prediction
from .study import Study

ALPHA = 0.05
ALIKE = "alike sites"  # what is to be expected by chance, in titles and legends
_DRAWS = 100  # of samples from one distribution, for the overlap to be expected


def site_effect_protocol(study: Study, rng: np.random.Generator, progress: Progress, cancelled: CancelCheck) -> Answer:
    """HarMOnAE's table: the share of features in which a scanner differs from all others, by scanner and arm.

    Beside it the shares with the false discovery rate held (the paper has none), and how much of the features' variance
    lies between the sites. Fatania et al., Phys Imaging Radiat Oncol 2022, section 2.4, Table 1.
    """
    _check_sites(study)
    use = study.comparable_features()
    summary, by_scanner, ks_p, ks_share, explained = [], [], {}, {}, {}
    for number, arm in enumerate(study.arms):
        stop_if(cancelled)
        progress(number / len(study.arms), f"Site effect: {arm}")
        effect = site_effect({name: values[:, use] for name, values in study.by_site(arm).items()}, ALPHA)
        shares = (effect.ks_share, effect.ks_share_corrected, effect.welch_share, effect.welch_share_corrected)
        explained[arm] = 100 * variance_explained(study.arms[arm][:, use], study.site)
        ks_p[arm], ks_share[arm] = effect.ks_p.ravel(), np.array([100 * effect.ks_share[name] for name in study.sites])
        means = (100 * _mean_of_known(share.values()) for share in shares)
        summary.append((arm, *means, float(np.nanmean(explained[arm]))))
        by_scanner += [
            (arm, name, int(np.sum(study.site == name)), *(100 * share[name] for share in shares))
            for name in study.sites
        ]
    columns = ("KS (%)", "KS, BH (%)", "Welch (%)", "Welch, BH (%)")
    by_chance = 100 * (len(study.sites) - 1) / (len(study.site) - 1)  # the mean of eta squared
    tables = (
        Table(
            "site-effect",
            f"Features that differ between a scanner and all others, mean over scanners (lower is better; {ALIKE}: "
            f"{100 * ALPHA:g} %, with BH 0 %, variance {by_chance:.1f} %)",
            ("arm", *columns, "variance between sites (%)"),
            tuple(summary),
        ),
        Table("site-effect-by-scanner", "The same by scanner", ("arm", "site", "scans", *columns), tuple(by_scanner)),
    )
    drawn = {}
    if np.isfinite(list(ks_share.values())).any():
        drawn["site-effect-shares"] = figures.bars(
            "Features that differ from all other scanners",
            study.sites,
            ks_share,
            "features with KS p < 0.05 (%)",
            (100 * ALPHA, "expected by chance"),
        )
    drawn |= {
        "site-effect-p-values": figures.ecdf("p-values of the Kolmogorov-Smirnov tests", ks_p, ALPHA),
        "site-effect-variance": figures.violin(
            "How much of each feature lies between the sites",
            explained,
            "variance between sites (%)",
            range(len(explained)),
        ),
    }
    notes = (
        f"KS (Kolmogorov-Smirnov) compares the distribution of each feature, Welch's t-test its mean; a feature counts "
        f"where p < {ALPHA:g}. BH (Benjamini-Hochberg) corrects for testing many features.",
        *_out_of_reach(study, effect),
        *_clustered(study),
        _tested(use),
        *_whole_table(study),
    )
    return Answer(tables, drawn, notes)


def overlap_protocol(study: Study, rng: np.random.Generator, progress: Progress, cancelled: CancelCheck) -> Answer:
    """The PET table: overlap of two sites' distributions by feature class, and what each arm gains over the first.

    Haberl et al., EJNMMI 2024, section 2.5, Table 2. Gains in percentage points, mean and sd over the features of a
    class; with more than two sites also over all pairs of them. Raises InputError for fewer than two arms.
    """
    _check_sites(study)
    first, *others = study.arms
    if not others:
        raise InputError("overlap compares arms, and there is one; give the features before and after harmonization")
    use = study.comparable_features()
    classes = [name for name, used in zip(study.classes, use, strict=True) if used]
    values = {arm: {site: x[:, use] for site, x in study.by_site(arm).items()} for arm in study.arms}
    pairs = list(itertools.combinations(study.sites, 2))
    found: dict[str, dict[tuple[str, str], list[OverlapGain]]] = {arm: {} for arm in others}
    for number, ((a, b), arm) in enumerate(itertools.product(pairs, others)):
        stop_if(cancelled)
        progress(number / (len(pairs) * len(others)), f"Overlap: {a} and {b}, {arm}")
        found[arm][a, b] = overlap_gain(values[first][a], values[first][b], values[arm][a], values[arm][b], classes)
    rows = [
        (
            f"{a} ~ {b}",
            gain.feature_class,
            len(gain.before),
            arm,
            100 * float(gain.before.mean()),
            100 * float(gain.after.mean()),
            100 * gain.mean_gain,
            100 * gain.sd_gain,
            gain.p,
        )
        for (a, b), arm in itertools.product(pairs, others)
        for gain in found[arm][a, b]
    ]
    columns = ("overlap, first arm (%)", "overlap (%)", "gain", "sd", "Wilcoxon p")
    tables = [
        Table(
            "overlap",
            f"Overlap by feature class (higher is better); gain over '{first}' in percentage points",
            ("sites", "class", "features", "arm", *columns),
            tuple(rows),
        )
    ]
    names = tuple(dict.fromkeys(classes))
    if len(pairs) > 1:
        tables.insert(0, _over_pairs(found, first, names, len(pairs)))
    alike = _overlap_of_alike_sites([np.sum(study.site == name) for name in study.sites], rng)
    heights = {first: _mean_overlap(found[others[0]], names, "before")}
    heights |= {arm: _mean_overlap(found[arm], names, "after") for arm in others}
    drawn = {
        "overlap-by-class": figures.bars(
            "Overlap of the sites' distributions", names, heights, "overlap (%)", (alike, ALIKE)
        ),
        **_worst_feature(study, use, others[-1]),
    }
    notes = (
        f"Overlap is the area that the distributions of two sites share. Alike sites with as few scans have about "
        f"{alike:.0f} %, not 100.",
        "Wilcoxon's p takes the features of a class for independent, which they are not; it needs six of them.",
        *_clustered(study),
        _tested(use),
        *_whole_table(study),
    )
    return Answer(tuple(tables), drawn, notes)


def site_prediction_protocol(
    study: Study, rng: np.random.Generator, progress: Progress, cancelled: CancelCheck
) -> Answer:
    """Can a classifier name the site, cross-validated, and how far do the sites' clouds of scans lie apart?

    Mean AUC of "this site or another" by a ridge logistic regression, harmonization inside the training folds, and the
    maximum mean discrepancy (Gretton et al., JMLR 2012;13:723) of each site against all others.
    """
    _check_sites(study)
    use = study.comparable_features()
    folds = min(5, min(study.people_by_site().values()) // 2)
    person = study.person
    seed = rng.integers(2**32)
    summary, by_site, aucs, left_out = [], [], {}, []
    for number, arm in enumerate(study.arms):
        progress(number / len(study.arms), f"Site prediction: {arm}")
        stop_if(cancelled)
        # Every arm on the same folds.
        in_folds, splitting = study.in_folds(arm, use), np.random.default_rng(seed)
        try:
            prediction = site_prediction(in_folds, study.site, splitting, folds, person=person)
        except InputError as error:
            if arm not in study.derived:
                raise
            left_out.append(f"'{arm}' is left out: it cannot be fitted in every fold, since {error}")
            continue
        clouds = {}
        for name in study.sites if len(study.sites) > 2 else study.sites[:1]:
            stop_if(cancelled)
            own = study.site == name
            values = study.arms[arm][:, use]
            clouds[name] = discrepancy(values[own], values[~own], rng, person=(person[own], person[~own]))
        mmd2 = np.mean([cloud.mmd2 for cloud in clouds.values()])
        apart = np.mean([cloud.p < ALPHA for cloud in clouds.values()])
        summary.append((arm, prediction.auc, float(mmd2), 100 * float(apart)))
        aucs[arm] = np.array([prediction.by_site[name] for name in study.sites])
        for name in study.sites:
            cloud = clouds.get(name) or next(iter(clouds.values()))  # of two sites each is the other's rest
            by_site.append((arm, name, int(np.sum(study.site == name)), prediction.by_site[name], cloud.mmd2, cloud.p))
    tables = (
        Table(
            "site-prediction",
            f"Sites told apart by all features together, mean over sites (lower is better; {ALIKE}: AUC 0.5, MMD² 0, "
            f"{100 * ALPHA:g} %)",
            ("arm", "AUC", "MMD²", "sites with p < 0.05 (%)"),
            tuple(summary),
        ),
        Table(
            "site-prediction-by-site",
            "Each site against all others",
            ("arm", "site", "scans", "AUC", "MMD²", "p"),
            tuple(by_site),
        ),
    )
    drawn = {
        "site-prediction": figures.bars(
            "How well the site can be told", study.sites, aucs, "cross-validated AUC", (0.5, "guessing")
        )
    }
    notes = (
        f"AUC of a linear classifier, cross-validated in {folds} folds, ComBat fitted in the training folds: 0.5 is "
        "guessing, and less means no more than that; 1 is certainty.",
        "MMD² is the distance between a site's scans and all others, by spread as well as mean; p by permutation. "
        "Where sites are alike it lies around 0.",
        *left_out,
        _tested(use),
        *_whole_table(study),
    )
    return Answer(tables, drawn, notes)


def _check_sites(study: Study) -> None:
    if len(study.sites) < 2:
        alone = f"'{study.sites[0]}'" if study.sites[0] else "no site"
        raise InputError(
            f"sites are compared, and the {len(study.cases)} scans that can be used are of {alone}; give two sites or "
            "more in the column 'site' of the manifest, each with scans enough"
            + "".join(f" ({note})" for note in study.notes if note.startswith("left out"))
        )


def _mean_of_known(shares: Iterable[float]) -> float:
    """The mean of those that are no NaN; NaN where all are."""
    known = [share for share in shares if not np.isnan(share)]
    return float(np.mean(known)) if known else float("nan")


def _out_of_reach(study: Study, effect: SiteEffect) -> tuple[str, ...]:
    """A sentence on the sites of which the Kolmogorov-Smirnov test cannot say that they differ, whatever the data."""
    small = [name for name, p in zip(effect.scanners, effect.ks_least_p, strict=True) if p >= ALPHA]
    if not small:
        return ()
    counts = ", ".join(f"{name} ({np.sum(study.site == name)} scans)" for name in small)
    return (f"KS cannot reach p < {ALPHA:g} with as few scans as of {counts}, whatever they hold: no share there.",)


def _clustered(study: Study) -> tuple[str, ...]:
    """A sentence where a site has several scans of a person, which tests of scans do not know."""
    if sum(study.people_by_site().values()) == len(study.cases):
        return ()
    return ("Several scans of one person count as those of several people here: differences seem surer than they are.",)


def _whole_table(study: Study) -> tuple[str, ...]:
    """What must be said of arms that were harmonized as one table."""
    if not study.derived:
        return ()
    return ("ComBat was fitted on the same scans that are compared here; new scans will differ somewhat more.",)


def _tested(use: np.ndarray) -> str:
    rest = "" if use.all() else "; the others are missing in some scan, or constant"
    return f"{use.sum()} of {len(use)} features were compared{rest}."


def _overlap_of_alike_sites(scans: list[int], rng: np.random.Generator) -> float:
    """Overlap in percent to be expected of samples (as many `scans` as each site has) from one normal distribution."""
    pairs = list(itertools.combinations(scans, 2))
    chosen = [pairs[i] for i in rng.integers(len(pairs), size=_DRAWS)]
    return 100 * float(np.mean([overlap_coefficient(rng.normal(size=a), rng.normal(size=b)) for a, b in chosen]))


def _over_pairs(
    found: dict[str, dict[tuple[str, str], list[OverlapGain]]], first: str, classes: tuple[str, ...], pairs: int
) -> Table:
    rows = []
    for arm, by_pair in found.items():
        before, after = _mean_overlap(by_pair, classes, "before"), _mean_overlap(by_pair, classes, "after")
        gains = [[gain.mean_gain for gain in gains] for gains in by_pair.values()]
        sds = np.std(gains, axis=0, ddof=1)
        for i, name in enumerate(classes):
            rows.append(
                (arm, name, float(before[i]), float(after[i]), float(after[i] - before[i]), 100 * float(sds[i]))
            )
    header = ("arm", "class", "overlap, first arm (%)", "overlap (%)", "gain", "sd over pairs")
    title = f"Overlap, mean over {pairs} pairs of sites (higher is better); gain over '{first}' in percentage points"
    return Table("overlap-all-pairs", title, header, tuple(rows))


def _mean_overlap(by_pair: dict[tuple[str, str], list[OverlapGain]], classes: tuple[str, ...], when: str) -> np.ndarray:
    """Mean overlap in percent (classes,) over features and pairs of sites; `when`: "before" or "after"."""
    every = [gain for gains in by_pair.values() for gain in gains]
    means = [np.mean([getattr(gain, when).mean() for gain in every if gain.feature_class == name]) for name in classes]
    return 100 * np.array(means)


def _worst_feature(study: Study, use: np.ndarray, arm: str) -> dict[str, figures.Figure]:
    """The densities, in the first and another arm, of the feature whose sites overlapped least at first."""
    first = next(iter(study.arms))
    values = study.by_site(first)

    def least(feature: int) -> float:
        return min(
            overlap_coefficient(values[a][:, feature], values[b][:, feature])
            for a, b in itertools.combinations(study.sites, 2)
        )

    # The pairs of many sites take long: then the sites' share of the variance says as much.
    candidates = np.flatnonzero(use)
    if len(study.sites) > 3:
        worst = candidates[np.nanargmax(variance_explained(study.arms[first][:, use], study.site))]
    else:
        worst = min(candidates, key=least)
    return {
        f"overlap-densities-{number}": figures.densities(
            f"The feature that differed most, {name}",
            {site: x[:, worst] for site, x in study.by_site(name).items()},
            study.features[worst],
        )
        for number, name in enumerate((first, arm), start=1)
    }
