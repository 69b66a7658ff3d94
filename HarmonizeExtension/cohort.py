"""Many cases: every scan of a manifest by one recipe. A run that is killed at any moment continues where it was.

What lies in the folder of a cohort:

    cohort.json           the recipe, with what identifies its target and settings
    cases/CASE/           one folder a scan, there as a whole or not at all: case.json (status and reasons),
                          harmonized.nii.gz, features.csv and .json, verdict.json, report.html, two small pictures
    manifest.csv ...      what is made of all cases together (cohort_report)
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import logging
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from . import __version__, case, pictures, workers
from .errors import Cancelled, HarmonizeError, InputError, OutputError, RefusedError
from .feature_domain.scanner_label import UNKNOWN, scanner_labels
from .files.fingerprint import fingerprint
from .files.manifest import Entry, Manifest
from .files.writing import output_folder, remove, replacing, write_json
from .guard import Status
from .methods import catalogue
from .progress import CancelCheck, Progress, never, silent, stop_if
from .radiomics.table import FeatureTable
from .recipe import Recipe
from .scan import Acquisition, Modality

PLAN, CASES, RECORD, FEATURES, LOCK = "cohort.json", "cases", "case.json", "features.json", ".lock"
PREVIEWS = ("before.png", "after.png")
FAILED = "failed"  # the status of a case without a verdict
_PREVIEW_HEIGHT = 240
_TEMPORARY = re.compile(r"\.[0-9a-f]{8}(\..+)?")  # what `files.writing` calls what is not finished


@dataclasses.dataclass(frozen=True)
class CaseRecord:
    """How a case ended.

    status: the verdict (pass, review, refuse) or `FAILED`; reasons: why it is not a pass.
    inputs: what identifies the files it was made of. files: what lies beside the record.
    checks: the guard's figures, by name. acquisition: of the scan, as far as known.
    """

    case: str
    status: str
    reasons: tuple[str, ...] = ()
    inputs: str = ""
    files: tuple[str, ...] = ()
    checks: Mapping[str, float | None] = dataclasses.field(default_factory=dict)
    acquisition: Mapping[str, object] = dataclasses.field(default_factory=dict)

    @classmethod
    def read(cls, folder: Path) -> CaseRecord | None:
        """The record in a case's folder; None where there is none that is whole."""
        try:
            fields = json.loads((folder / RECORD).read_text(encoding="utf-8"))
            return cls(**{**fields, "reasons": tuple(fields["reasons"]), "files": tuple(fields["files"])})
        except (OSError, ValueError, TypeError, KeyError):
            return None


@dataclasses.dataclass(frozen=True)
class Cohort:
    """A cohort whose cases have all ended.

    manifest: of one modality, every case with a site. records: of its cases, in its order.
    features: of all cases that have some, before and after (after only where the result was not refused).
    provenance: of one of the results, which tells what was done to each; empty where every case failed.
    """

    folder: Path
    manifest: Manifest
    recipe: Recipe
    records: tuple[CaseRecord, ...]
    features: FeatureTable
    provenance: tuple[Mapping, ...]

    @classmethod
    def load(cls, folder: Path | str, manifest: Manifest, recipe: Recipe) -> Cohort:
        """What `run` left in a folder. Raises InputError where a case of the manifest has not ended."""
        folder = Path(folder)
        records = [CaseRecord.read(folder / CASES / entry.case) for entry in manifest.entries]
        missing = [entry.case for entry, record in zip(manifest.entries, records, strict=True) if record is None]
        if missing:
            raise InputError(f"the cohort in '{folder}' lacks {', '.join(missing[:5])}; run it again, it will continue")
        made = [folder / CASES / record.case for record in records if record.status != FAILED]
        try:
            tables = [FeatureTable.from_json(place / FEATURES) for place in made if (place / FEATURES).exists()]
            provenance = json.loads((made[0] / case.VERDICT).read_text(encoding="utf-8"))["provenance"] if made else ()
        except (OSError, ValueError, KeyError) as error:
            raise InputError(f"{error}; delete the folder of that case in '{folder / CASES}' and run again") from error
        return cls(
            folder,
            _with_sites(manifest, records),
            recipe,
            tuple(records),
            FeatureTable.merged(tables) if tables else FeatureTable((), ()),
            tuple(provenance),
        )

    @property
    def modality(self) -> Modality:
        """Of all its scans."""
        return self.manifest.entries[0].modality

    def counts(self) -> dict[str, int]:
        """How many cases ended with which status, best first."""
        statuses = [record.status for record in self.records]
        return {name: statuses.count(name) for name in (*(status.value for status in Status), FAILED)}


def run(
    manifest: Manifest,
    recipe: Recipe,
    out: Path | str,
    processes: int = 1,
    scheduler: str | None = None,
    progress: Progress = silent,
    cancelled: CancelCheck = never,
) -> Cohort:
    """Run the recipe on every scan of a manifest that has not been done, and gather all.

    manifest: of one modality (`Manifest.of`). out: its own folder; that of an earlier run with the same recipe is
        continued: what is done is kept if its files are still the same, what failed is tried again.
    processes: how many scans at once on this machine; scheduler: the address of a dask cluster to run them on instead.
        The files are the same whichever it was. progress: of the whole, with the case that it is at.

    Raises InputError where the recipe does not fit or the folder holds something else, OutputError where results
    cannot be written (full disk), Cancelled; what is done is kept then. A case that fails is recorded, the others go
    on.
    """
    modality = _one_modality(manifest)
    _check_units(manifest)
    recipe.check_modality(modality, manifest.path.name, manifest.entries[0].units)
    folder, plan = output_folder(out).absolute(), _plan(recipe)
    _check_folder(folder, plan)
    with _alone_in(folder):
        if not (folder / PLAN).exists():
            write_json(plan, folder / PLAN)
        _sweep(folder)
        output_folder(folder / CASES)
        progress(0.0, "Looking for what is done")
        todo = {}
        for entry in manifest.entries:
            stop_if(cancelled)
            if not _is_done(entry, folder):
                # Whole paths: the workers of a cluster were started elsewhere.
                entry = dataclasses.replace(
                    entry, image=entry.image.absolute(), segmentation=tuple(p.absolute() for p in entry.segmentation)
                )
                todo[entry.case] = (entry, recipe.with_whole_paths(), folder / CASES / entry.case)
        if todo:
            _run_cases(todo, _Whole(manifest, todo, progress), processes, scheduler, cancelled)
        _sweep(folder)
        return Cohort.load(folder, manifest, recipe)


def _run_cases(
    todo: Mapping[str, tuple], whole: _Whole, processes: int, scheduler: str | None, cancelled: CancelCheck
) -> None:
    """Run the cases on a cluster or in processes; a case whose process dies is recorded as failed."""
    if scheduler:
        ended = workers.run_on_cluster(_run_case, todo, scheduler, whole, cancelled)
    else:
        ended = workers.run_in_processes(_run_case, todo, processes, whole, cancelled)
    for name, answer in ended:
        if isinstance(answer, workers.WorkerDied):
            entry, _, place = todo[name]
            _write_failure(place, entry, "its process ended without a word; most often memory ran out")
        whole.ended(name)


class _Whole:
    """The progress of the whole cohort, from that of its cases."""

    def __init__(self, manifest: Manifest, todo: Mapping[str, object], progress: Progress):
        self.fractions = {entry.case: 0.0 if entry.case in todo else 1.0 for entry in manifest.entries}
        self.progress = progress

    def __call__(self, name: str, fraction: float, text: str) -> None:
        """A case says where it is; what ended it is in its folder only after its last word."""
        self.fractions[name] = max(self.fractions[name], min(fraction, 0.99))
        self._tell(f"{name}: {text}")

    def ended(self, name: str) -> None:
        """A case has ended."""
        self.fractions[name] = 1.0
        self._tell(f"{name}: done")

    def _tell(self, text: str) -> None:
        done = sum(value == 1.0 for value in self.fractions.values())
        share = sum(self.fractions.values()) / len(self.fractions)
        self.progress(share, f"{done} of {len(self.fractions)} cases done; {text}")


def _run_case(entry: Entry, recipe: Recipe, place: Path, progress: Progress, cancelled: CancelCheck) -> None:
    """One case, in a worker: from its files to its folder. OutputError and Cancelled are raised, all else recorded."""
    try:
        scan = recipe.with_roles(entry.scan())
        result = recipe.run(scan, progress, cancelled)
    except (OutputError, Cancelled):
        raise
    except HarmonizeError as error:
        _write_failure(place, entry, str(error))
    except MemoryError:
        _write_failure(place, entry, "memory ran out; run fewer cases at once")
    except Exception as error:  # the outermost door of a case: whatever it is, the other cases go on
        logging.exception("case '%s'", entry.case)
        _write_failure(place, entry, f"unexpected {type(error).__name__}: {error}; please report it")
    else:
        _write_case(place, entry, result, recipe.insist)


def _write_case(place: Path, entry: Entry, result: case.CaseResult, insist: bool) -> None:
    with replacing(place) as staging:
        with contextlib.suppress(RefusedError):
            case.write(result, staging, insist)
        refused = result.verdict.status is Status.REFUSE and not insist
        rows = tuple(row for row in result.features.rows if not (refused and row.label == "after"))
        if rows:
            dataclasses.replace(result.features, rows=rows).to_json(staging / FEATURES)
        shown = pictures.before_and_after(result.before, result.after, _PREVIEW_HEIGHT)
        for name, png in zip(PREVIEWS, shown.values(), strict=False):
            (staging / name).write_bytes(png)
        verdict = result.verdict
        record = CaseRecord(
            entry.case,
            verdict.status.value,
            verdict.reasons,
            _identity(entry),
            tuple(sorted(path.name for path in staging.iterdir())),
            {check.name: check.value for check in verdict.checks},
            result.before.acquisition.known(),
        )
        write_json(record, staging / RECORD)


def _write_failure(place: Path, entry: Entry, reason: str) -> None:
    with replacing(place) as staging:
        staging.mkdir()
        write_json(CaseRecord(entry.case, FAILED, (reason,)), staging / RECORD)


def _is_done(entry: Entry, folder: Path) -> bool:
    """Whether a case ended well, of the same files as now, and all of its results are still there."""
    place = folder / CASES / entry.case
    record = CaseRecord.read(place)
    return (
        record is not None
        and record.status != FAILED
        and all((place / name).exists() for name in record.files)
        and record.inputs == _identity(entry)
    )


def _identity(entry: Entry) -> str:
    """What a case is made of: its files' content, and what the manifest says of them."""
    said = (entry.structure, entry.modality, entry.units, entry.acquisition)
    files = [fingerprint(path) for path in (entry.image, *entry.segmentation)]
    return hashlib.sha256(repr((said, files)).encode()).hexdigest()


def _one_modality(manifest: Manifest) -> Modality:
    found = {entry.modality for entry in manifest.entries}
    if len(found) > 1:
        names = " and ".join(sorted(modality.value for modality in found))
        raise InputError(f"the manifest '{manifest.path}' has {names} scans; choose one with --modality")
    return found.pop()


def _check_units(manifest: Manifest) -> None:
    """Raise InputError for PET scans whose files cannot say their units and whose lines do not."""
    silent_lines = [
        str(entry.line)
        for entry in manifest.entries
        if entry.modality is Modality.PET and not entry.units and not catalogue.dicom_says(entry.image)
    ]
    if silent_lines:
        raise InputError(
            f"the manifest '{manifest.path}' does not say the units of PET in line {', '.join(silent_lines[:20])}; add "
            "a column 'units' with SUV (or Bq/ml)"
        )


def _plan(recipe: Recipe) -> dict[str, object]:
    """What is about to be done, as JSON keeps it; files by their content, wherever they lie."""
    plan = {"version": __version__, **recipe.to_json()}
    for name, parts in (
        ("target", catalogue.scan_and_segmentation(recipe.target or "")),
        ("settings", [recipe.settings]),
    ):
        contents = [fingerprint(Path(part)) for part in parts if part]
        if any(contents):
            plan[name] = contents
    return json.loads(json.dumps(plan))


def _check_folder(folder: Path, plan: Mapping[str, object]) -> None:
    """Raise InputError where the folder holds something else already."""
    if not (folder / PLAN).exists():
        others = [path.name for path in folder.iterdir() if path.name not in (CASES, LOCK)]
        others = [name for name in others if not _TEMPORARY.fullmatch(name)]
        if others:
            raise InputError(f"the folder '{folder}' holds other files ({min(others)}); choose an empty one")
        return
    try:
        earlier = json.loads((folder / PLAN).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"'{folder / PLAN}' is damaged ({error}); choose another folder") from error
    changed = [name for name in plan if earlier.get(name) != plan[name]]
    if changed:
        words = []
        for name in changed:
            by_content = isinstance(earlier.get(name), list) or isinstance(plan[name], list)
            files = by_content and name in ("target", "settings")
            words.append(f"another {name}" if files else f"{name} was {earlier.get(name)}, now {plan[name]}")
        raise InputError(
            f"the folder '{folder}' holds a cohort that was run otherwise ({'; '.join(words)}); choose another folder"
        )


def _with_sites(manifest: Manifest, records: list[CaseRecord]) -> Manifest:
    """The manifest with the site of every case: its own, or else by the tags (`feature_domain.scanner_label`)."""
    if all(entry.site for entry in manifest.entries):
        return manifest
    known = [record for record in records if record.status != FAILED]
    acquisitions = [Acquisition(**record.acquisition) for record in known]
    labels = scanner_labels(acquisitions, manifest.entries[0].modality).labels if known else ()
    by_case = dict(zip((record.case for record in known), labels, strict=True))
    entries = (dataclasses.replace(e, site=by_case.get(e.case, UNKNOWN)) for e in manifest.entries)
    return dataclasses.replace(manifest, entries=tuple(entries))


def _sweep(folder: Path) -> None:
    """Remove what a killed run left half-written."""
    for place in (folder, folder / CASES):
        for path in place.iterdir() if place.is_dir() else ():
            if _TEMPORARY.fullmatch(path.name):
                remove(path)


@contextlib.contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Hold the folder for this run; the system lets go of it however the run ends. InputError where another has it."""
    with open(folder / LOCK, "a+b") as file:
        try:
            if os.name == "nt":
                import msvcrt

                msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
            else:
                import fcntl

                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise InputError(f"another run is at work in '{folder}'; wait for it, or choose another folder") from error
        yield
