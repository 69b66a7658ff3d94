"""The commands on many scans: run a cohort, evaluate it."""

from __future__ import annotations

from collections.abc import Iterable

from ..errors import InputError
from ..progress import CancelCheck, Progress, part
from .options import BAD_INPUT, DONE, MODALITIES, REFUSED, add_recipe, command, recipe_of

# Options of the benchmarks, and what their functions call them.
SIMULATED = {
    "people": "people",
    "spacing": "spacing_mm",
    "slice": "slice_mm",
    "models": "models",
    "processes": "processes",
    "settings": "settings",
    "pair": "pair",
}
OF_FEATURES = ("features", "keep", "logarithms")  # options of the protocols that read features
OF_SCANS = (*OF_FEATURES, "structure", "modality", "outside")  # and of those that read a manifest at all


def add_to(commands) -> None:
    """Add these commands to the parser."""
    cohort = command(
        commands,
        "cohort",
        _cohort,
        "harmonize every scan of a manifest; continues where it was stopped",
        _how_all_ended,
    )
    cohort.add_argument("manifest", metavar="MANIFEST", help="CSV: case, image, segmentation, modality, site, ...")
    cohort.add_argument("--modality", choices=MODALITIES, help="take the manifest's scans of this one only")
    cohort.add_argument("--outside", action="store_true", help="allow paths that lead out of the manifest's folder")
    add_recipe(cohort)
    cohort.add_argument("--keep", metavar="COLUMN", action="append", default=[], help="a covariate that ComBat keeps")
    cohort.add_argument("--processes", type=int, default=1, metavar="N", help="scans at once on this machine")
    cohort.add_argument("--scheduler", metavar="ADDRESS", help="run on this dask.distributed cluster instead")
    cohort.add_argument("--out", required=True, metavar="DIR", help="folder for all cases, tables and the report")

    evaluate = command(commands, "evaluate", _evaluate, "run a paper's protocol on features or images")
    evaluate.add_argument(
        "protocol",
        metavar="PROTOCOL",
        help="site-effect, overlap, ...; or mri-benchmark, ct-benchmark, pet-benchmark; a wrong name lists all",
    )
    evaluate.add_argument(
        "manifest",
        metavar="MANIFEST",
        nargs="?",
        help="CSV: case, site, outcome, image, truth, ...; none for a benchmark, which simulates its scans",
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
    simulated = evaluate.add_argument_group("benchmarks: methods and models against the truth, on simulated people")
    simulated.add_argument("--people", type=int, metavar="N", help="how many, none of whom a model has learnt from")
    simulated.add_argument("--spacing", type=float, metavar="MM", help="of the voxels (mri-benchmark); 1 mm by default")
    simulated.add_argument("--slice", type=int, metavar="MM", help="how thick slices are (ct-benchmark); 1 by default")
    simulated.add_argument("--models", metavar="DIR", help="folder of model folders; by default those that ship")
    simulated.add_argument("--processes", type=int, metavar="N", help="people at once on this machine")
    simulated.add_argument("--settings", metavar="NAME|FILE", help="radiomics settings (ct-benchmark); ct by default")
    simulated.add_argument(
        "--pair",
        nargs=2,
        metavar=("IMAGE", "IMAGE"),
        help="a real pair of images of one object, the smoother first, instead of simulated ones (ct-benchmark, "
        "pet-benchmark); a CT's kernel may stand behind its file as FILE#KERNEL",
    )


def _cohort(options, progress: Progress, cancelled: CancelCheck) -> dict:
    from .. import cohort, cohort_report
    from ..files.manifest import Manifest
    from ..scan import Modality

    if options.processes < 1:
        raise InputError(f"{options.processes} processes cannot do anything; give 1 or more")
    progress(0.0, "Checking the manifest")
    manifest = Manifest.read(options.manifest, options.outside)
    if options.modality:
        manifest = manifest.of(Modality(options.modality))
    recipe = recipe_of(options)
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
    refused = [f"{r.case}: {'; '.join(r.reasons)}" for r in done.records if r.status == "refuse"]
    return {
        "cases": {status: count for status, count in done.counts().items() if count},
        "failed": [f"{r.case}: {'; '.join(r.reasons)}" for r in done.records if r.status == cohort.FAILED],
        "refused": [] if recipe.insist else refused,
        "refused, but written as you insisted": refused if recipe.insist else [],
        "files": {name: str(path) for name, path in files.items()},
    }


def _how_all_ended(answer: dict) -> int:
    return BAD_INPUT if answer["failed"] else REFUSED if answer["refused"] else DONE


def _evaluate(options, progress: Progress, cancelled: CancelCheck) -> dict:
    import numpy as np

    from ..evaluation import benchmarks, protocols
    from ..evaluation.feature_files import read_features
    from ..evaluation.study import Study
    from ..files.manifest import Manifest
    from ..files.writing import output_folder
    from ..scan import Modality

    benchmark = benchmarks.benchmark(options.protocol)
    if benchmark is not None:
        return _benchmark(benchmark, options, progress, cancelled)
    protocol = protocols.protocol(options.protocol)
    if options.manifest is None:
        raise InputError(f"the protocol '{protocol.name}' needs a manifest: {protocol.needs}")
    _check_unused(options, (*SIMULATED, *(OF_FEATURES if protocol.from_images else ())))
    progress(0.0, "Reading")
    manifest = Manifest.read(options.manifest, options.outside, images=protocol.from_images)
    if options.modality:
        manifest = manifest.of(Modality(options.modality))
    source = manifest
    if not protocol.from_images:
        table = read_features(options.features or manifest.path.with_name("features.csv"), manifest)
        study = protocol.usable(Study.of(table, manifest, options.structure))
        source = study.with_combat(keep=options.keep, logarithms=options.logarithms)
    if options.out:
        output_folder(options.out)  # as in `apply`
    rng = np.random.default_rng(0)
    result = protocols.run(protocol.name, source, rng, options.structure, progress, cancelled)
    if not options.out:
        return result.as_dict()
    return {**result.as_dict(), "files": {name: str(path) for name, path in result.write(options.out).items()}}


def _check_unused(options, names: Iterable[str]) -> None:
    """Raise InputError where one of these options was given: the protocol would not use it."""
    given = [name for name in names if getattr(options, name) not in (None, False, "", [])]
    if given:
        raise InputError(f"--{given[0]} has no part in '{options.protocol}'; leave it out")


def _benchmark(benchmark, options, progress: Progress, cancelled: CancelCheck) -> dict:
    from ..files.writing import output_folder

    if options.manifest is not None:
        raise InputError(f"{benchmark.name} simulates its own scans; leave the manifest out")
    takes = benchmark.options()
    _check_unused(options, (*OF_SCANS, *(option for option, name in SIMULATED.items() if name not in takes)))
    if options.out:
        output_folder(options.out)  # as in `apply`
    given = {name: getattr(options, option) for option, name in SIMULATED.items()}
    given = {name: value for name, value in given.items() if value is not None}
    result = benchmark.run(**given, progress=progress, cancelled=cancelled)
    if not options.out:
        return result.as_dict()
    return {**result.as_dict(), "files": {name: str(path) for name, path in result.write(options.out).items()}}
