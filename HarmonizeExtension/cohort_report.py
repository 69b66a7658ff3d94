"""What all cases of a cohort say together: tables, the protocols over image and feature arms, one HTML report."""

from __future__ import annotations

import base64
import csv
import dataclasses
import html as markup
import json
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from . import report
from .case import REFUSED, REPORT, VOLUME
from .cohort import CASES, FAILED, PREVIEWS, CaseRecord, Cohort
from .errors import InputError, OutputError
from .evaluation import protocols
from .evaluation.figures import Figure, Series, draw
from .evaluation.results import ProtocolResult, Table
from .evaluation.site_effect import SMALLEST_SCANNER
from .evaluation.study import Study
from .files.manifest import Manifest
from .files.writing import replacing, replacing_together, write_json, write_text
from .guard import Status
from .progress import CancelCheck, Progress, never, silent, stop_if

MANIFEST, CASES_TABLE, FEATURES, EVALUATION = "manifest.csv", "cases.csv", "features.csv", "evaluation"
EVALUATIONS = "evaluation.json"
SEED = 0  # of the splits, so that a report made again is the same
_PROTOCOLS = ("site-effect", "overlap", "site-prediction", "outcome")
_MOST_STRUCTURES = 6  # evaluated in the report; `harmonize evaluate` takes any
_MOST_PREVIEWS = 24
_LONGEST_FOLDER_NAME = 60


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """What the protocols found on one structure; notes: what could not be asked of it, and why."""

    structure: str
    results: tuple[ProtocolResult, ...]
    notes: tuple[str, ...]


def check_covariates(manifest: Manifest, keep: Sequence[str]) -> None:
    """Raise InputError where ComBat is to keep a column that the manifest lacks or that has empty cells."""
    for name in keep:
        if name not in manifest.column_names():
            have = ", ".join(manifest.column_names()) or "none"
            raise InputError(f"the manifest has no column '{name}' to keep; its covariates are: {have}")
        empty = [str(entry.line) for entry in manifest.entries if not entry.columns[name]]
        if empty:
            raise InputError(f"column '{name}' is to be kept, but it is empty in line {', '.join(empty[:10])}")


def evaluate(
    cohort: Cohort, keep: Sequence[str] = (), progress: Progress = silent, cancelled: CancelCheck = never
) -> tuple[Evaluation, ...]:
    """The protocols that the cohort allows, on each structure, over four arms.

    The arms: the features before and after image harmonization, and each with ComBat on top (the second is the joint
    arm of Haberl et al., EJNMMI 2024), which keeps the covariates `keep`.
    """
    structures = cohort.features.structures()
    found = []
    for number, structure in enumerate(structures[:_MOST_STRUCTURES]):
        start = number / min(len(structures), _MOST_STRUCTURES)
        stop_if(cancelled)
        progress(start, f"Evaluating '{structure}'")
        found.append(_evaluate(cohort, structure, keep, cancelled))
    return tuple(found)


def _evaluate(cohort: Cohort, structure: str, keep: Sequence[str], cancelled: CancelCheck) -> Evaluation:
    results, notes = [], []
    try:
        study = Study.of(cohort.features, cohort.manifest, structure).with_sites_of(SMALLEST_SCANNER)
        if len(study.sites) < 2:
            raise InputError(f"fewer than two sites have {SMALLEST_SCANNER} scans with '{structure}'")
    except InputError as error:
        return Evaluation(structure, (), (str(error),))
    try:
        study = study.with_combat(keep=keep)
    except InputError as error:
        notes.append(f"without ComBat: {error}")
    for name in _PROTOCOLS:
        if name == "outcome" and not any(outcome is not None for outcome in study.outcome):
            continue
        try:
            results.append(protocols.run(name, study, np.random.default_rng(SEED), cancelled=cancelled))
        except InputError as error:
            notes.append(f"{protocols.protocol(name).title}: not asked, since {error}")
    return Evaluation(structure, tuple(results), tuple(notes))


def write(
    cohort: Cohort, keep: Sequence[str] = (), progress: Progress = silent, cancelled: CancelCheck = never
) -> dict[str, Path]:
    """Write what belongs to the whole cohort into its folder; returns the path of each.

    report.html; cases.csv with verdicts and the guard's figures; features.csv; manifest.csv with every site and the
    harmonized images, as `harmonize evaluate` takes it; evaluation/ with the protocols' tables and figures by
    structure, and evaluation.json with all of them as numbers, for programs that draw them anew (`read_evaluations`).
    The same cohort gives the same bytes. Raises OutputError, Cancelled.
    """
    evaluations = evaluate(cohort, keep, progress, cancelled)
    progress(0.95, "Writing the report")
    names = {"report": REPORT, "cases": CASES_TABLE, "manifest": MANIFEST, "evaluations": EVALUATIONS}
    try:
        with replacing_together(cohort.folder, [FEATURES]) as staging:
            write_text(html(cohort, evaluations, keep), staging / REPORT)
            _write_cases(cohort, staging / CASES_TABLE)
            # Beside the place where it will lie, since its paths are relative.
            _with_results(cohort).write(staging / MANIFEST, cohort.folder)
            write_json(evaluations, staging / EVALUATIONS)
            if cohort.features.rows:
                names["features"] = FEATURES
                cohort.features.to_csv(staging / FEATURES)
        names["evaluation"] = EVALUATION
        with replacing(cohort.folder / EVALUATION) as staging:
            staging.mkdir()
            folders = _folder_names([evaluation.structure for evaluation in evaluations])
            for evaluation, folder in zip(evaluations, folders, strict=True):
                for result in evaluation.results:
                    result.write(staging / folder)
    except OSError as error:
        raise OutputError(f"the results could not be written to '{cohort.folder}': {error}") from error
    return {name: cohort.folder / file for name, file in names.items()}


def read_evaluations(folder: Path | str) -> tuple[Evaluation, ...]:
    """What `write` left in the folder of a cohort, tables and figures as they were drawn; NaN where there is no value.

    Raises InputError where the folder has none, or a damaged one.
    """
    path = Path(folder) / EVALUATIONS
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return tuple(
            Evaluation(entry["structure"], tuple(map(_result, entry["results"])), tuple(entry["notes"]))
            for entry in found
        )
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise InputError(f"'{path}' cannot be read ({error}); run the cohort again, it will continue") from error


def _result(fields: Mapping) -> ProtocolResult:
    tables = tuple(
        Table(**{**table, "header": tuple(table["header"]), "rows": tuple(map(_numbers, table["rows"]))})
        for table in fields["tables"]
    )
    drawn = {name: _drawn(figure) for name, figure in fields["figures"].items()}
    return ProtocolResult(**{**fields, "tables": tables, "figures": drawn, "notes": tuple(fields["notes"])})


def _drawn(fields: Mapping) -> Figure:
    arrays = ("x", "y", "error")
    series = (
        Series(**{k: np.array(_numbers(v), float) if k in arrays and v is not None else v for k, v in entry.items()})
        for entry in fields["series"]
    )
    return Figure(**{**fields, "series": tuple(series), "ticks": tuple(map(tuple, fields["ticks"]))})


def _numbers(cells: Sequence) -> tuple:
    return tuple(math.nan if cell is None else cell for cell in cells)


def _with_results(cohort: Cohort) -> Manifest:
    """The manifest with the harmonized image of each case, none where a case failed or its result was not written."""

    def harmonized(case: str) -> Path | None:
        names = (f"{mark}{VOLUME}.nii.gz" for mark in ("", REFUSED))
        places = (cohort.folder / CASES / case / name for name in names)
        return next(filter(Path.exists, places), None)

    entries = (dataclasses.replace(entry, harmonized=harmonized(entry.case)) for entry in cohort.manifest.entries)
    return dataclasses.replace(cohort.manifest, entries=tuple(entries))


def _folder_names(structures: Sequence[str]) -> list[str]:
    """A folder for each structure: its name as far as every system allows, with a number where two would be alike."""
    names: list[str] = []
    for structure in structures:
        wanted = re.sub(r'[/\\:*?"<>|\x00-\x1f]', "_", structure)[:_LONGEST_FOLDER_NAME].strip(" .") or "_"
        name, number = wanted, 1
        while name.casefold() in (other.casefold() for other in names):
            number += 1
            name = f"{wanted} ({number})"
        names.append(name)
    return names


def _write_cases(cohort: Cohort, path: Path) -> None:
    checks = list(dict.fromkeys(name for record in cohort.records for name in record.checks))
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["case", "site", "status", "reasons", *checks])
        for entry, record in zip(cohort.manifest.entries, cohort.records, strict=True):
            figures = (record.checks.get(name) for name in checks)
            writer.writerow([entry.case, entry.site, record.status, "; ".join(record.reasons), *figures])


def html(cohort: Cohort, evaluations: Sequence[Evaluation], keep: Sequence[str] = ()) -> str:
    """The report: what was done, how it ended, whether the features still tell the sites apart, what to look at."""
    parts = [_summary(cohort), *map(_evaluation, evaluations)]
    left = cohort.features.structures()[_MOST_STRUCTURES:]
    if left:
        listing = markup.escape(", ".join(left))
        parts.append(f"<p class='note'>Not evaluated here: {listing}; run <code>harmonize evaluate</code> on them.</p>")
    parts += [_to_look_at(cohort), _cases(cohort), _methods(cohort, evaluations, keep)]
    name = cohort.manifest.path.parent.resolve().name
    return report.html(
        [], f"Harmonization of the cohort {name}, {cohort.modality.value}", "\n".join(filter(None, parts))
    )


def _summary(cohort: Cohort) -> str:
    counts = " ".join(
        f"<span class='badge {'refuse' if status == FAILED else status}'>{count} {status}</span>"
        for status, count in cohort.counts().items()
        if count
    )
    sites = [entry.site for entry in cohort.manifest.entries]
    facts = {
        "Scans": str(len(sites)),
        "Sites": ", ".join(f"{site} ({sites.count(site)})" for site in sorted(set(sites))),
        **report.what_was_done(cohort.provenance),
        **({"Target": cohort.recipe.target} if cohort.recipe.target else {}),  # with its folder, which tells the case
    }
    return f"<p>{counts}</p>{report.table(('', ''), facts.items())}"


def _evaluation(evaluation: Evaluation) -> str:
    structure = markup.escape(evaluation.structure)
    parts = [f"<h2>Do the features of ‘{structure}’ tell the sites apart?</h2>"]
    for result in evaluation.results:
        first, *others = (
            f"<h4>{markup.escape(table.title)}</h4>{report.table(table.header, table.cells())}"
            for table in result.tables
        )
        more = f"<details><summary>More tables</summary>{''.join(others)}</details>" if others else ""
        pictures = "".join(_figure(draw(figure, "svg"), figure.title) for figure in result.figures.values())
        parts.append(
            f"<h3>{markup.escape(result.title)}</h3><p class='note'>{markup.escape(result.citation)}</p>{first}"
            f"<div class='pictures two'>{pictures}</div>{more}"
        )
    # What several protocols have to say of the same arms is said once.
    notes = dict.fromkeys((*(note for result in evaluation.results for note in result.notes), *evaluation.notes))
    return "".join([*parts, "<h3>To bear in mind</h3><ul class='note'>", *map(_item, notes), "</ul>"])


def _item(text: str) -> str:
    return f"<li>{markup.escape(text)}</li>"


def _figure(svg: bytes | None, title: str) -> str:
    if svg is None:
        return "<p class='note'>Figures need matplotlib, which is not installed here.</p>"
    return f"<figure><img class='plot' alt='{markup.escape(title)}' src='{_uri(svg, 'svg+xml')}'></figure>"


def _uri(data: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def _to_look_at(cohort: Cohort) -> str:
    """Pictures of the cases that the guard did not pass, the worst first."""
    order = (Status.REFUSE.value, Status.REVIEW.value)
    chosen = sorted((r for r in cohort.records if r.status in order), key=lambda r: order.index(r.status))
    if not chosen:
        return ""
    cases = "".join(_preview(cohort, record) for record in chosen[:_MOST_PREVIEWS])
    more = f"<p class='note'>and {len(chosen) - _MOST_PREVIEWS} more</p>" if len(chosen) > _MOST_PREVIEWS else ""
    return f"<h2>Cases to look at</h2>{cases}{more}"


def _preview(cohort: Cohort, record: CaseRecord) -> str:
    folder = cohort.folder / CASES / record.case
    shown = "".join(
        f"<figure><img alt='{name}' src='{_uri((folder / name).read_bytes(), 'png')}'>"
        f"<figcaption>{name.removesuffix('.png')}</figcaption></figure>"
        for name in PREVIEWS
        if (folder / name).exists()
    )
    reasons = "".join(map(_item, record.reasons))
    badge = f"<span class='badge {record.status}'>{record.status}</span>"
    return f"<h3>{markup.escape(record.case)} {badge}</h3><ul>{reasons}</ul><div class='pictures'>{shown}</div>"


def _cases(cohort: Cohort) -> str:
    rows = []
    for entry, record in zip(cohort.manifest.entries, cohort.records, strict=True):
        has_report = record.status != FAILED
        name = report.Link(entry.case, f"{CASES}/{entry.case}/{REPORT}") if has_report else entry.case
        rows.append((name, entry.site, record.status, "; ".join(record.reasons)))
    return f"<h2>All cases</h2>{report.table(('case', 'site', 'verdict', 'reasons'), rows)}"


def _methods(cohort: Cohort, evaluations: Sequence[Evaluation], keep: Sequence[str]) -> str:
    """The text for a paper, with everything that was done to reach the figures above."""
    counts = cohort.counts()
    sentences = [report.methods_text(cohort.provenance, cohort.features)]
    excluded = counts[Status.REFUSE.value] * (not cohort.recipe.insist) + counts[FAILED]
    sentences.append(
        f"Of {len(cohort.records)} scans, {excluded} were excluded since the result was refused by automatic quality "
        "control or could not be computed."
    )
    if any(evaluation.results for evaluation in evaluations):
        kept = f", keeping {' and '.join(keep)}," if keep else ""
        sentences.append(
            "Features before and after image harmonization were compared as measured and after parametric "
            f"empirical-Bayes ComBat (Johnson et al. 2007; Fortin et al. 2018){kept} fitted on all scans, except where "
            "a model was cross-validated: there it was fitted on the training scans of each split."
        )
        asked = dict.fromkeys(f"{r.protocol} ({r.citation})" for e in evaluations for r in e.results)
        sentences.append(f"They were evaluated by the protocols {', '.join(asked)}.")
    text = markup.escape(" ".join(sentences))
    done = report.details(cohort.provenance, cohort.features)
    return f"<h2>What to write in a methods section</h2><p>{text}</p>{done}"
