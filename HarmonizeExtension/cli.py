"""The command line: the same way as in the panel, for scripts, clusters and people without Slicer.

Exit codes: 0 done; 2 something in the input does not fit; 3 the guard refused the result; 4 a result could not be
written; 130 interrupted.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from . import __version__
from .errors import Cancelled, HarmonizeError, InputError, OutputError, RefusedError
from .progress import CancelCheck, Progress, part, stop_if

if TYPE_CHECKING:
    from .recipe import Recipe
    from .scan import Scan

# Each command imports what it needs when it runs: `harmonize methods` answers at once, and Ctrl-C is heard early.

MODALITIES = ("MR", "CT", "PET")
SECONDS_BETWEEN_LINES = 0.3
# Options of the MRI benchmark, and what its function calls them.
SIMULATED = {"people": "people", "spacing": "spacing_mm", "models": "models", "processes": "processes"}
DONE, BAD_INPUT, REFUSED, NOT_WRITTEN, INTERRUPTED = 0, 2, 3, 4, 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code."""
    options = _parser().parse_args(arguments)
    try:
        _check_out(options)
        with _Interrupt(options.watched) as interrupted, _Bar(options, interrupted) as progress:
            answer = options.command(options, progress, interrupted)
    except HarmonizeError as error:
        return _complain(error, options.json)
    except (Cancelled, KeyboardInterrupt):
        print("interrupted; nothing was left half-written", file=sys.stderr)
        return INTERRUPTED
    try:
        print(json.dumps(answer, indent=1) if options.json else _in_words(answer), flush=True)
    except BrokenPipeError:  # such as `| head`: the work is done, and nobody listens any more
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    if options.command is _cohort and answer["failed"]:
        return BAD_INPUT
    refused = answer.get("refused") or (options.command is _compare and answer["verdict"] == "refuse")
    return REFUSED if refused else DONE


def _check_out(options) -> None:
    """Raise InputError where results would go to no place, or among the files of a DICOM series."""
    out = getattr(options, "out", None)
    if out is None:
        return
    if not out.strip():
        raise InputError("--out is empty; name a place for the results")
    sources = [getattr(options, "volume", None), getattr(options, "input", None), *getattr(options, "volumes", ())]
    for source in filter(None, sources):
        folder = Path(source if Path(source).exists() else source.rpartition("#")[0] or source)
        if folder.is_dir() and Path(out).exists() and folder.samefile(out):
            raise InputError(f"--out '{out}' is the folder of the scan itself; choose another for the results")


def _complain(error: HarmonizeError, as_json: bool) -> int:
    code = {RefusedError: REFUSED, OutputError: NOT_WRITTEN}.get(type(error), BAD_INPUT)
    if as_json:
        details = error.verdict.to_json() if isinstance(error, RefusedError) else {}
        print(json.dumps({"error": str(error), "kind": type(error).__name__, **details}, indent=1))
    else:
        print(f"harmonize: {error}", file=sys.stderr)
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="harmonize", description="Segmentation-aware harmonization of MR, CT and PET. For research only."
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    apply = _command(commands, "apply", _apply, "harmonize a scan, check the result, measure before and after")
    _add_scan(apply)
    _add_recipe(apply)
    apply.add_argument("--out", required=True, metavar="DIR", help="folder for volume, features, verdict and report")

    cohort = _command(commands, "cohort", _cohort, "harmonize every scan of a manifest; continues where it was stopped")
    cohort.add_argument("manifest", metavar="MANIFEST", help="CSV: case, image, segmentation, modality, site, ...")
    cohort.add_argument("--modality", choices=MODALITIES, help="take the manifest's scans of this one only")
    cohort.add_argument("--outside", action="store_true", help="allow paths that lead out of the manifest's folder")
    _add_recipe(cohort)
    cohort.add_argument("--keep", metavar="COLUMN", action="append", default=[], help="a covariate that ComBat keeps")
    cohort.add_argument("--processes", type=int, default=1, metavar="N", help="scans at once on this machine")
    cohort.add_argument("--scheduler", metavar="ADDRESS", help="run on this dask.distributed cluster instead")
    cohort.add_argument("--out", required=True, metavar="DIR", help="folder for all cases, tables and the report")

    evaluate = _command(commands, "evaluate", _evaluate, "run a paper's protocol on features or images")
    evaluate.add_argument(
        "protocol", metavar="PROTOCOL", help="site-effect, overlap, ...; a wrong name lists them; or mri-benchmark"
    )
    evaluate.add_argument(
        "manifest",
        metavar="MANIFEST",
        nargs="?",
        help="CSV: case, site, outcome, image, truth, ...; none for mri-benchmark, which simulates its scans",
    )
    evaluate.add_argument(
        "--features",
        metavar="FILE",
        help="CSV of features: of this program, or any with one row a case (column case, or else the first), whose "
        "columns of numbers are the features; by default features.csv beside the manifest",
    )
    evaluate.add_argument("--structure", default="", metavar="NAME", help="whose features, where there are several")
    evaluate.add_argument("--modality", choices=MODALITIES, help="take the manifest's scans of this one only")
    evaluate.add_argument("--outside", action="store_true", help="allow paths that lead out of the manifest's folder")
    evaluate.add_argument("--keep", metavar="COLUMN", action="append", default=[], help="a covariate that ComBat keeps")
    evaluate.add_argument("--logarithms", action="store_true", help="skewed features go through ComBat in logarithms")
    evaluate.add_argument("--out", metavar="DIR", help="folder for tables (CSV) and figures (SVG, PNG)")
    simulated = evaluate.add_argument_group("mri-benchmark: methods and models against the truth, on simulated people")
    simulated.add_argument("--people", type=int, metavar="N", help="each on six scanners; 12 by default")
    simulated.add_argument("--spacing", type=float, metavar="MM", help="of the voxels; 1 mm by default")
    simulated.add_argument("--models", metavar="DIR", help="folder of model folders; by default those that ship")
    simulated.add_argument("--processes", type=int, metavar="N", help="people at once on this machine")

    radiomics = _command(commands, "radiomics", _radiomics, "measure the structures of a scan")
    _add_scan(radiomics, segmentation_required=True)
    radiomics.add_argument("--settings", metavar="NAME|FILE", help="those of the modality by default")
    radiomics.add_argument("--out", required=True, metavar="CSV", help="feature table")

    compare = _command(commands, "compare", _compare, "hold one volume against another as the guard does")
    _add_scan(compare)
    compare.add_argument("--after", required=True, metavar="FILE", help="the volume that was made from --volume")
    compare.add_argument("--protect", metavar="STRUCTURE", action="append", default=[], help="check its fine detail")

    fit = _command(commands, "fit", _fit, "learn Nyul's standard scale from a set of scans, as a model folder")
    fit.add_argument("--volumes", required=True, nargs="+", metavar="FILE")
    fit.add_argument("--segmentations", nargs="+", metavar="FILE", help="one for each volume, in the same order")
    fit.add_argument("--reference", metavar="STRUCTURE", help="take percentiles inside it")
    fit.add_argument("--out", required=True, metavar="DIR", help="the model folder")

    methods = _command(commands, "methods", _methods, "list the methods")
    methods.add_argument("--modality", choices=MODALITIES, help="only those that fit")

    phantom = _command(commands, "phantom", _phantom, "simulate people whom every scanner scans, with the truth")
    phantom.add_argument("anatomy", choices=("brain",), help="what is scanned")
    phantom.add_argument("--people", type=int, required=True, metavar="N")
    phantom.add_argument("--scanners", nargs="+", default=[], metavar="NAME", help="such as 'GE 3T'; all by default")
    phantom.add_argument("--seed", type=int, default=0, metavar="S", help="the same seed gives the same voxels")
    phantom.add_argument("--spacing", type=float, default=1.0, metavar="MM", help="of the voxels; 1 mm by default")
    phantom.add_argument("--diseased", type=float, default=0.0, metavar="SHARE", help="of the people, from 0 to 1")
    phantom.add_argument("--out", required=True, metavar="DIR", help="new folder for manifest, scans and truth")

    train = _command(commands, "train", _train, "train a network as a configuration file says; continues where it was")
    train.add_argument("system", metavar="SYSTEM", help="such as harmonae")
    train.add_argument("config", metavar="CONFIG.yaml", help="parts 'schedule' and 'system', see the README")
    train.add_argument("--out", required=True, metavar="DIR", help="folder for checkpoint, curves and the model")

    demo = _command(commands, "demo", _demo, "a simulated case from three scanners, or your own scan, start to end")
    demo.add_argument("--input", metavar="VOLUME", help="your own scan instead of the simulated case")
    demo.add_argument("--segmentation", metavar="SEG", help="its structures")
    demo.add_argument("--modality", choices=MODALITIES, help="of your own scan; MR by default")
    demo.add_argument("--units", metavar="SUV|Bq/ml", help="of a PET file that does not say them")
    demo.add_argument("--out", default="demo", metavar="DIR", help="folder for the results (default: demo)")
    return parser


def _command(commands, name: str, function, text: str) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
    parser.add_argument("--json", action="store_true", help="answer in JSON, without a progress bar")
    parser.add_argument(
        "--watched",
        action="store_true",
        help="for programs that start this one: progress as JSON lines on the error stream, and a stop as by Ctrl-C "
        "once the input stream is closed",
    )
    parser.set_defaults(command=function)
    return parser


def _add_scan(parser: argparse.ArgumentParser, segmentation_required: bool = False) -> None:
    parser.add_argument("--volume", required=True, metavar="FILE", help="NIfTI, NRRD, MetaImage, or a DICOM folder")
    parser.add_argument(
        "--segmentation", metavar="FILE", required=segmentation_required, help="mask, label map, .seg.nrrd or RTSTRUCT"
    )
    parser.add_argument("--modality", choices=MODALITIES, help="needed where the file does not say it")
    parser.add_argument("--units", metavar="HU|SUV|Bq/ml", help="of a PET file that does not say them")


def _add_recipe(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--method", required=True, metavar="NAME", help="see `harmonize methods`")
    parser.add_argument(
        "--target",
        metavar="T",
        help="reference scan (its segmentation behind a comma), model folder, kernel or FWHM in mm",
    )
    parser.add_argument("--reference", metavar="STRUCTURE", help="take intensity statistics inside it")
    parser.add_argument("--protect", metavar="STRUCTURE", action="append", default=[], help="keep its structure safe")
    parser.add_argument("--measure", metavar="STRUCTURE", action="append", help="radiomics of these only")
    parser.add_argument(
        "--where-present", action="store_true", help="a scan may lack structures to protect or measure; it is noted"
    )
    parser.add_argument("--n4", action="store_true", help="N4 bias field correction first")
    parser.add_argument("--spacing", type=float, metavar="MM", help="resample to this voxel size first")
    parser.add_argument("--settings", metavar="NAME|FILE", help="radiomics settings; those of the modality by default")
    parser.add_argument("--insist", action="store_true", help="write a refused result too, marked as refused")


def _read(options, **roles) -> Scan:
    from .files.reading import read_scan

    scan = read_scan(options.volume, modality=options.modality, segmentation=options.segmentation, units=options.units)
    return scan.with_roles(**roles) if scan.structures or any(roles.values()) else scan


def _recipe(options) -> Recipe:
    from .recipe import Recipe

    return Recipe(
        options.method,
        options.target,
        options.reference,
        tuple(options.protect),
        tuple(options.measure) if options.measure else None,
        options.n4,
        options.spacing,
        options.settings,
        options.insist,
        options.where_present,
    )


def _notes(scan: Scan) -> list[str]:
    """What was decided while reading, such as a mask brought to the scan's grid."""
    return [entry["note"] for entry in scan.provenance if "note" in entry]


def _apply(options, progress: Progress, cancelled: CancelCheck) -> dict:
    from . import case
    from .files.writing import output_folder

    recipe = _recipe(options)
    progress(0.0, "Reading")
    scan = recipe.read(options.volume, options.segmentation, options.modality, options.units)
    recipe.check(scan)
    output_folder(options.out)  # a folder that cannot be written is better known before the work than after it
    result = recipe.run(scan, progress, cancelled)
    paths = case.write(result, options.out, options.insist)
    return {
        "verdict": result.verdict.status.value,
        "reasons": list(result.verdict.reasons),
        "notes": _notes(scan),
        "seconds": {name: round(value, 2) for name, value in result.seconds.items()},
        "files": {name: str(path) for name, path in paths.items()},
    }


def _cohort(options, progress: Progress, cancelled: CancelCheck) -> dict:
    from . import cohort, cohort_report
    from .files.manifest import Manifest
    from .scan import Modality

    if options.processes < 1:
        raise InputError(f"{options.processes} processes cannot do anything; give 1 or more")
    progress(0.0, "Checking the manifest")
    manifest = Manifest.read(options.manifest, options.outside)
    if options.modality:
        manifest = manifest.of(Modality(options.modality))
    recipe = _recipe(options)
    cohort_report.check_covariates(manifest, options.keep)
    done = cohort.run(
        manifest,
        recipe,
        options.out,
        options.processes,
        options.scheduler,
        part(progress, 0.0, 0.9),
        cancelled,
    )
    files = cohort_report.write(done, options.keep, part(progress, 0.9, 1.0), cancelled)
    return {
        "cases": {status: count for status, count in done.counts().items() if count},
        "failed": [f"{r.case}: {'; '.join(r.reasons)}" for r in done.records if r.status == cohort.FAILED],
        "refused": [f"{r.case}: {'; '.join(r.reasons)}" for r in done.records if r.status == "refuse"],
        "files": {name: str(path) for name, path in files.items()},
    }


def _evaluate(options, progress: Progress, cancelled: CancelCheck) -> dict:
    import numpy as np

    from .evaluation import protocols
    from .evaluation.study import Study, read_features
    from .files.manifest import Manifest
    from .files.writing import output_folder
    from .scan import Modality

    if options.protocol == "mri-benchmark":
        return _mri_benchmark(options, progress, cancelled)
    protocol = protocols.protocol(options.protocol)
    if options.manifest is None:
        raise InputError(f"the protocol '{protocol.name}' needs a manifest: {protocol.needs}")
    foreign = [name for name in SIMULATED if getattr(options, name) is not None]
    if foreign:
        raise InputError(f"--{foreign[0]} belongs to mri-benchmark; leave it out for '{protocol.name}'")
    progress(0.0, "Reading")
    manifest = Manifest.read(options.manifest, options.outside, images=protocol.from_images)
    if options.modality:
        manifest = manifest.of(Modality(options.modality))
    source = manifest
    if not protocol.from_images:
        table = read_features(options.features or manifest.path.with_name("features.csv"), manifest)
        source = Study.of(table, manifest, options.structure).with_sites_of(protocol.minimum_scans)
        if len(source.sites) > 1 and source.smallest_site > 1:  # ComBat needs the spread of each site
            source = source.with_combat(keep=options.keep, logarithms=options.logarithms)
    if options.out:
        output_folder(options.out)  # as in `apply`
    rng = np.random.default_rng(0)
    result = protocols.run(protocol.name, source, rng, options.structure, progress, cancelled)
    if not options.out:
        return result.as_dict()
    return {**result.as_dict(), "files": {name: str(path) for name, path in result.write(options.out).items()}}


def _mri_benchmark(options, progress: Progress, cancelled: CancelCheck) -> dict:
    from .evaluation import mri_benchmark
    from .files.writing import output_folder

    if options.manifest is not None:
        raise InputError("mri-benchmark simulates its own scans; leave the manifest out")
    if options.out:
        output_folder(options.out)  # as in `apply`
    given = {name: getattr(options, option) for option, name in SIMULATED.items()}
    given = {name: value for name, value in given.items() if value is not None}
    result = mri_benchmark.run(**given, progress=progress, cancelled=cancelled)
    if not options.out:
        return result.as_dict()
    return {**result.as_dict(), "files": {name: str(path) for name, path in result.write(options.out).items()}}


def _radiomics(options, progress: Progress, cancelled: CancelCheck) -> dict:
    from .files.writing import output_folder
    from .radiomics.extraction import extract
    from .radiomics.settings import Settings

    progress(0.0, "Reading")
    scan = _read(options)
    settings = Settings.load(options.settings) if options.settings else Settings.for_modality(scan.modality)
    output_folder(Path(options.out).parent)
    features = extract(scan, settings, case=scan.name, progress=progress, cancelled=cancelled)
    features.to_csv(options.out)
    return {
        "rows": len(features.rows),
        "features": len(features.features),
        "notes": _notes(scan),
        "files": {"features": options.out},
    }


def _compare(options, progress: Progress, cancelled: CancelCheck) -> dict:
    from . import guard
    from .files.reading import read_scan

    progress(0.0, "Reading")
    before = _read(options, protected=options.protect)
    after = read_scan(options.after, modality=before.modality, units=before.units or None)
    progress(0.3, "Comparing")
    verdict = guard.inspect(before, after)
    return {
        "verdict": verdict.status.value,
        "reasons": list(verdict.reasons),
        "notes": _notes(before),
        "checks": [check.text for check in verdict.checks],
    }


def _fit(options, progress: Progress, cancelled: CancelCheck) -> dict:
    from .files.reading import read_scan
    from .methods import catalogue
    from .methods.statistical import Nyul, StandardScale

    segmentations = options.segmentations or [None] * len(options.volumes)
    if len(segmentations) != len(options.volumes):
        raise InputError(
            f"{len(options.volumes)} volumes but {len(segmentations)} segmentations; give one for each volume"
        )
    scans = []
    for number, (volume, segmentation) in enumerate(zip(options.volumes, segmentations, strict=True)):
        progress(number / len(options.volumes), f"Reading {volume}")
        modality = catalogue.implied_modality(Nyul.card, volume)
        scan = read_scan(volume, modality=modality, segmentation=segmentation)
        scans.append(scan.with_roles(reference=options.reference))
    scale = StandardScale.fit(scans)
    scale.save(options.out)
    return {"landmarks": dict(zip(scale.percentiles, scale.landmarks, strict=True)), "files": {"model": options.out}}


def _methods(options, progress: Progress, cancelled: CancelCheck) -> dict:
    from .methods import catalogue
    from .scan import Modality

    modality = Modality(options.modality) if options.modality else None
    return {
        "methods": [
            {
                "name": card.name,
                "title": card.title,
                "modality": ", ".join(sorted(card.modalities)),
                "target": card.target.value,
                "summary": card.summary,
                "citation": card.citation,
            }
            for card in catalogue.cards(modality)
        ]
    }


def _phantom(options, progress: Progress, cancelled: CancelCheck) -> dict:
    from .phantoms.cohort import scanners_named, write_cohort

    scanners = scanners_named(options.scanners)
    manifest = write_cohort(
        options.out, options.people, scanners, options.seed, options.spacing, options.diseased, progress, cancelled
    )
    return {"scans": options.people * len(scanners), "files": {"manifest": str(manifest)}}


def _train(options, progress: Progress, cancelled: CancelCheck) -> dict:
    from .training import start

    # Ctrl-C is heard at the next report, with a checkpoint written, and not in the middle of one.
    return start.run(options.system, options.config, options.out, progress, cancelled)


def _demo(options, progress: Progress, cancelled: CancelCheck) -> dict:
    from . import demo

    return demo.run(options.out, options.input, options.segmentation, options.modality, options.units, progress)


def _in_words(answer: dict) -> str:
    """An answer as lines for people."""
    lines = []
    for name, value in answer.items():
        if name == "methods":
            lines += [f"{m['name']:22} {m['modality']:8} target: {m['target']:16} {m['summary']}" for m in value]
        elif name == "tables":
            from .evaluation.results import Table

            lines += [f"\n{Table(**table).text()}" for table in value] + [""]
        elif isinstance(value, dict):
            lines += [f"{name}:", *(f"  {key}: {entry}" for key, entry in value.items())]
        elif isinstance(value, list):
            lines += [f"{name}:", *(f"  - {entry}" for entry in value)] if value else []
        else:
            lines.append(f"{name}: {value}")
    return "\n".join(lines)


class _Interrupt:
    """True once Ctrl-C was pressed: work stops at its next report, as an exception cannot pass through every library.

    A second Ctrl-C interrupts at once. The end of the input stream counts as Ctrl-C where a program watches.
    """

    def __init__(self, watched: bool):
        self.pressed = False
        if watched:
            threading.Thread(target=self._wait_for_end_of_input, daemon=True).start()

    def _wait_for_end_of_input(self) -> None:
        while os.read(sys.stdin.fileno(), 1024):  # unbuffered: a lock held here would be in the way at exit
            pass
        self.pressed = True

    def __call__(self) -> bool:
        return self.pressed

    def __enter__(self) -> CancelCheck:
        # Only the main thread may set a handler; and one that ignores Ctrl-C (nohup) stays.
        self.set = threading.current_thread() is threading.main_thread() and (
            signal.getsignal(signal.SIGINT) is signal.default_int_handler
        )
        if self.set:
            signal.signal(signal.SIGINT, self._press)
        return self

    def _press(self, *_):
        if self.pressed:
            raise KeyboardInterrupt
        self.pressed = True

    def __exit__(self, *_):
        if self.set:
            signal.signal(signal.SIGINT, signal.default_int_handler)


class _Bar:
    """Progress on the error stream: a bar where there is a person to see it, lines for a program that watches."""

    def __init__(self, options, interrupted: CancelCheck):
        self.watched = options.watched
        self.hidden = options.json or self.watched or not sys.stderr.isatty()
        self.interrupted = interrupted
        self.told = 0.0

    def __enter__(self) -> Progress:
        if not self.hidden:
            from tqdm import tqdm

            self.bar = tqdm(total=100, bar_format="{l_bar}{bar}| {elapsed}", leave=False)
        return self._show

    def _show(self, fraction: float, text: str) -> None:
        stop_if(self.interrupted)
        if self.watched and (time.monotonic() - self.told > SECONDS_BETWEEN_LINES or fraction == 1):
            self.told = time.monotonic()
            print(json.dumps({"fraction": round(fraction, 4), "text": text}), file=sys.stderr, flush=True)
        if not self.hidden:
            self.bar.set_description(text)
            self.bar.update(round(100 * fraction) - self.bar.n)

    def __exit__(self, *_):
        if not self.hidden:
            self.bar.close()
