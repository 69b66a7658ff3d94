"""The commands on single scans: harmonize, measure, compare, explain; which methods there are, and a standard scale."""

from __future__ import annotations

from pathlib import Path

from ..errors import InputError
from ..progress import CancelCheck, Progress
from .options import DONE, MODALITIES, REFUSED, add_recipe, add_scan, command, notes_of, read_scan_of, recipe_of


def add_to(commands) -> None:
    """Add these commands to the parser."""
    apply = command(commands, "apply", _apply, "harmonize a scan, check the result, measure before and after")
    add_scan(apply)
    add_recipe(apply)
    apply.add_argument("--out", required=True, metavar="DIR", help="folder for volume, features, verdict and report")

    radiomics = command(commands, "radiomics", _radiomics, "measure the structures of a scan")
    add_scan(radiomics, segmentation_required=True)
    radiomics.add_argument("--settings", metavar="NAME|FILE", help="those of the modality by default")
    radiomics.add_argument("--out", required=True, metavar="CSV", help="feature table")

    compare = command(
        commands, "compare", _compare, "hold one volume against another as the guard does", _how_it_compares
    )
    add_scan(compare)
    compare.add_argument("--after", required=True, metavar="FILE", help="the volume that was made from --volume")
    compare.add_argument("--protect", metavar="STRUCTURE", action="append", default=[], help="check its fine detail")

    maps = command(commands, "maps", _maps, "T1 and M0 maps of a T1-weighted brain, as PhyCHarm's networks see it")
    add_scan(maps, segmentation_required=True)
    maps.add_argument(
        "--source", metavar="PROTOCOL", help="of the scan, where its tags do not say it: TR=2300 TI=900 ..."
    )
    maps.add_argument("--out", required=True, metavar="DIR", help="folder for t1_ms.nii.gz and m0.nii.gz")

    fit = command(commands, "fit", _fit, "learn Nyul's standard scale from a set of scans, as a model folder")
    fit.add_argument("--volumes", required=True, nargs="+", metavar="FILE")
    fit.add_argument("--segmentations", nargs="+", metavar="FILE", help="one for each volume, in the same order")
    fit.add_argument("--reference", metavar="STRUCTURE", help="take percentiles inside it")
    fit.add_argument("--out", required=True, metavar="DIR", help="the model folder")

    explain = command(commands, "explain", _explain, "a map of what moved a feature, or of what a network goes by")
    add_scan(explain)
    explain.add_argument("--question", required=True, metavar="NAME", help="feature, outcome, scanner or critic")
    explain.add_argument("--after", metavar="FILE", help="the harmonized volume; without it a network is asked alone")
    explain.add_argument("--method", metavar="NAME", help="occlusion, grad-cam, smoothgrad, ...; occlusion by default")
    explain.add_argument("--model", metavar="DIR", help="the model folder that is asked: networks, or an outcome model")
    explain.add_argument("--site", default="", metavar="NAME", help="the model's scanner, kernel or centre in question")
    explain.add_argument("--structure", default="", metavar="NAME", help="whose features; the first by default")
    explain.add_argument("--feature", default="", metavar="NAME", help="such as original_glcm_Contrast")
    explain.add_argument("--settings", metavar="NAME|FILE", help="of the radiomics; those of the modality by default")
    explain.add_argument("--out", required=True, metavar="DIR", help="folder for map, record and picture")

    outcome = command(commands, "outcome-model", _outcome_model, "learn an outcome from features, for `explain`")
    outcome.add_argument("manifest", metavar="MANIFEST", help="CSV: case, outcome, ...")
    outcome.add_argument("--features", metavar="CSV", help="by default features.csv beside the manifest")
    outcome.add_argument("--structure", default="", metavar="NAME", help="whose features, where there are several")
    outcome.add_argument(
        "--settings", required=True, metavar="NAME|FILE", help="of the radiomics that gave the features"
    )
    outcome.add_argument("--title", default="outcome", metavar="TEXT", help="what is predicted")
    outcome.add_argument("--out", required=True, metavar="DIR", help="the model folder")

    methods = command(commands, "methods", _methods, "list the methods")
    methods.add_argument("--modality", choices=MODALITIES, help="only those that fit")

    demo = command(commands, "demo", _demo, "a simulated case from three scanners, or your own scan, start to end")
    demo.add_argument("--input", metavar="VOLUME", help="your own scan instead of the simulated case")
    demo.add_argument("--segmentation", metavar="SEG", help="its structures")
    demo.add_argument("--modality", choices=MODALITIES, help="of your own scan; MR by default")
    demo.add_argument("--units", metavar="SUV|Bq/ml", help="of a PET file that does not say them")
    demo.add_argument("--out", default="demo", metavar="DIR", help="folder for the results (default: demo)")


def _apply(options, progress: Progress, cancelled: CancelCheck) -> dict:
    from .. import case
    from ..files.writing import output_folder
    from ..methods import catalogue

    recipe = recipe_of(options)
    progress(0.0, "Reading")
    options.modality = options.modality or catalogue.implied_modality(
        catalogue.method(recipe.method).card, options.volume
    )
    scan = recipe.with_roles(read_scan_of(options))
    recipe.check(scan)
    output_folder(options.out)  # a folder that cannot be written is better known before the work than after it
    result = recipe.run(scan, progress, cancelled)
    paths = case.write(result, options.out, options.insist)
    return {
        "verdict": result.verdict.status.value,
        "reasons": list(result.verdict.reasons),
        "notes": notes_of(scan),
        "seconds": {name: round(value, 2) for name, value in result.seconds.items()},
        "files": {name: str(path) for name, path in paths.items()},
    }


def _radiomics(options, progress: Progress, cancelled: CancelCheck) -> dict:
    from ..files.writing import output_folder
    from ..radiomics.extraction import extract
    from ..radiomics.settings import Settings

    progress(0.0, "Reading")
    scan = read_scan_of(options)
    settings = Settings.load(options.settings) if options.settings else Settings.for_modality(scan.modality)
    output_folder(Path(options.out).parent)
    features = extract(scan, settings, case=scan.name, progress=progress, cancelled=cancelled)
    features.to_csv(options.out)
    return {
        "rows": len(features.rows),
        "features": len(features.features),
        "notes": notes_of(scan),
        "files": {"features": options.out},
    }


def _compare(options, progress: Progress, cancelled: CancelCheck) -> dict:
    from .. import guard
    from ..files.reading import read_scan

    progress(0.0, "Reading")
    before = read_scan_of(options, protected=options.protect)
    after = read_scan(options.after, modality=before.modality, units=before.units or None)
    progress(0.3, "Comparing")
    verdict = guard.inspect(before, after)
    return {
        "verdict": verdict.status.value,
        "reasons": list(verdict.reasons),
        "notes": notes_of(before),
        "checks": [check.text for check in verdict.checks],
    }


def _how_it_compares(answer: dict) -> int:
    return REFUSED if answer["verdict"] == "refuse" else DONE


def _maps(options, progress: Progress, cancelled: CancelCheck) -> dict:
    from ..files.writing import output_folder, replacing_together, write_image
    from ..methods.phycharm.harmonizer import quantitative_maps
    from ..methods.phycharm.protocols import protocol_from_text

    progress(0.0, "Reading")
    options.modality = options.modality or "MR"
    scan = read_scan_of(options)
    source = protocol_from_text(options.source) if options.source else None
    folder = output_folder(options.out)
    found = quantitative_maps(scan, source, progress=progress, cancelled=cancelled)
    names = {"T1 (ms)": "t1_ms.nii.gz", "M0 (water is 1)": "m0.nii.gz"}
    with replacing_together(folder) as staging:
        for image, name in zip(found, names.values(), strict=True):
            write_image(image, staging / name)
    return {
        "notes": [*notes_of(scan), "one image does not determine T1: no measurement, for harmonization and comparison"],
        "files": {title: str(folder / name) for title, name in names.items()},
    }


def _fit(options, progress: Progress, cancelled: CancelCheck) -> dict:
    from ..files.reading import read_scan
    from ..methods import catalogue
    from ..methods.statistical import Nyul, StandardScale

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


def _explain(options, progress: Progress, cancelled: CancelCheck) -> dict:
    import numpy as np

    from ..explain import explanation
    from ..files.reading import read_scan
    from ..files.writing import output_folder
    from ..radiomics.settings import Settings

    progress(0.0, "Reading")
    scan = read_scan_of(options)
    after = None
    if options.after:
        # A harmonized MR scan has lost its unit; one of HU or SUV keeps it.
        after = read_scan(options.after, modality=scan.modality, units=scan.units or None)
    output_folder(options.out)  # as in `apply`
    found = explanation.explain(
        options.question,
        scan,
        np.random.default_rng(0),
        method=options.method or "",
        after=after,
        model=options.model or "",
        site=options.site,
        structure=options.structure,
        feature=options.feature,
        settings=Settings.load(options.settings) if options.settings else None,
        progress=progress,
        cancelled=cancelled,
    )
    paths = explanation.write(found, scan, options.out)
    return {
        "about": found.about,
        "worth": found.faithfulness.sentence,
        "notes": notes_of(scan),
        "files": {name: str(path) for name, path in paths.items()},
    }


def _outcome_model(options, progress: Progress, cancelled: CancelCheck) -> dict:
    from ..evaluation.feature_files import read_features
    from ..evaluation.study import Study
    from ..explain.outcome_model import OutcomeModel
    from ..files.manifest import Manifest
    from ..radiomics.settings import Settings

    progress(0.0, "Reading")
    settings = Settings.load(options.settings)
    manifest = Manifest.read(options.manifest, images=False)
    table = read_features(options.features or manifest.path.with_name("features.csv"), manifest)
    model = OutcomeModel.fit(Study.of(table, manifest, options.structure), settings, options.title)
    model.save(options.out)
    return {"structure": model.structure, "features": len(model.features), "files": {"model": options.out}}


def _methods(options, progress: Progress, cancelled: CancelCheck) -> dict:
    from ..methods import catalogue
    from ..scan import Modality

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


def _demo(options, progress: Progress, cancelled: CancelCheck) -> dict:
    from .. import demo

    return demo.run(options.out, options.input, options.segmentation, options.modality, options.units, progress)
