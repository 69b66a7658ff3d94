"""One case, start to end: prepare, harmonize, guard, measure before and after, write."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType

from . import guard, images, pictures, report
from .errors import RefusedError
from .files.writing import IMAGE_SUFFIXES, replacing_together, write_image, write_json, write_text
from .methods.base import Harmonizer
from .methods.preparation import Step
from .progress import CancelCheck, Progress, never, part, silent, stop_if
from .radiomics.extraction import extract
from .radiomics.settings import Settings
from .radiomics.table import FeatureTable
from .scan import Role, Scan


@dataclasses.dataclass(frozen=True)
class CaseResult:
    """What a case gives.

    before: the scan as it was given; where a step changed the grid, the prepared scan on the new one.
    after: the harmonized scan, on the grid of `before`.
    verdict: the guard's, with what the method doubts. features: before (measured on the scan as given) and after.
    seconds: by step.
    """

    before: Scan
    after: Scan
    verdict: guard.Verdict
    features: FeatureTable
    seconds: Mapping[str, float]

    def section(
        self, shown: Mapping[str, bytes], outlines: Mapping[str, tuple[int, int, int]] = MappingProxyType({})
    ) -> report.Section:
        """The case as a section of a report, with PNG pictures by caption and the colours of their outlines."""
        return report.Section(self.before, self.verdict, self.features, self.after.provenance, shown, outlines)


def run(
    scan: Scan,
    harmonizer: Harmonizer,
    steps: Iterable[Step] = (),
    settings: Settings | None = None,
    progress: Progress = silent,
    cancelled: CancelCheck = never,
) -> CaseResult:
    """Harmonize one scan, judge the result and measure its structures before and after.

    scan: with the roles of its structures set (`Scan.with_roles`).
    steps: what comes before the method, in order (`methods.preparation`).
    settings: of the radiomics; those that ship for the modality when None.
    Raises InputError where something does not fit, Cancelled when `cancelled()` became true. A refused result is
    returned with its verdict: writing it is the caller's choice.
    """
    settings = settings or Settings.for_modality(scan.modality)
    seconds: dict[str, float] = {}
    harmonizer.check(scan)
    prepared = scan
    steps = list(steps)
    for number, step in enumerate(steps):
        report_step = part(progress, 0.3 * number / len(steps), 0.3 * (number + 1) / len(steps))
        with _timed(seconds, "prepare"):
            prepared = step.apply(prepared, report_step, cancelled)
    with _timed(seconds, "harmonize"):
        after = harmonizer.apply(prepared, part(progress, 0.3 if steps else 0.0, 0.55), cancelled)
    stop_if(cancelled)
    progress(0.55, "Checking the result")
    with _timed(seconds, "guard"):
        # Held against what the planner gave; only a step that changed the grid moves the comparison behind it.
        before = scan if images.same_grid(scan.image, prepared.image) else prepared
        verdict = guard.Verdict((*guard.inspect(before, after).checks, *harmonizer.doubts(prepared)))
    with _timed(seconds, "radiomics"):
        # Both in float32: ITK cuts what it resamples back to integers where an image has them, and that alone
        # would tell before from after.
        tables = []
        if scan.with_role(Role.MEASURED):
            for label, which, start in (("before", scan.with_array(scan.array), 0.65), ("after", after, 0.82)):
                stop_if(cancelled)
                tables.append(
                    extract(
                        which,
                        settings,
                        label=label,
                        case=scan.name,
                        progress=part(progress, start, start + 0.17),
                        cancelled=cancelled,
                    )
                )
        features = FeatureTable.merged(tables) if tables else FeatureTable((), ())
    progress(1.0, "Done")
    return CaseResult(before, after, verdict, features, seconds)


class _timed:  # noqa: N801 - reads as a word of the `with` statement
    """Adds the seconds of a block to an entry."""

    def __init__(self, seconds: dict[str, float], name: str):
        self.seconds, self.name = seconds, name

    def __enter__(self):
        self.start = time.perf_counter()

    def __exit__(self, *_):
        self.seconds[self.name] = self.seconds.get(self.name, 0.0) + time.perf_counter() - self.start


VERDICT, REPORT, FEATURES, VOLUME, REFUSED = "verdict.json", "report.html", "features.csv", "harmonized", "REFUSED_"


def write(result: CaseResult, folder: Path | str, insist: bool = False, suffix: str = ".nii.gz") -> dict[str, Path]:
    """Write harmonized volume, feature table, verdict and report into a folder; returns the path of each.

    All files appear together or none does, and then what the folder held is untouched. They take the place of the
    files of an earlier case, so that what lies in the folder always belongs together. A refused result leaves its
    verdict and report only and raises RefusedError, unless the caller insists; then the volume's name says that it was
    refused. Raises OutputError where a file cannot be written.
    """
    refused = result.verdict.status is guard.Status.REFUSE
    shown = pictures.before_and_after(result.before, result.after)
    section = result.section(shown, pictures.outlined(result.before))
    page = report.html([section])
    names = {"verdict": VERDICT, "report": REPORT}
    superseded = [FEATURES, *(f"{mark}{VOLUME}{ending}" for mark in ("", REFUSED) for ending in IMAGE_SUFFIXES)]
    with replacing_together(folder, superseded) as staging:
        write_json(
            {
                "case": result.before.name,
                **result.verdict.to_json(),
                "provenance": [dict(entry) for entry in result.after.provenance],
            },
            staging / VERDICT,
        )
        write_text(page, staging / REPORT)
        if insist or not refused:
            names["volume"] = f"{REFUSED if refused else ''}{VOLUME}{suffix}"
            write_image(result.after.image, staging / names["volume"])
            if result.features.rows:
                names["features"] = FEATURES
                result.features.to_csv(staging / FEATURES)
    if refused and not insist:
        raise RefusedError(result.verdict)
    return {name: Path(folder) / file for name, file in names.items()}
