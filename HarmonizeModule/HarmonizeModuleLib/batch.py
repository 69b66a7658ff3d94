"""Many files through the module's logic, one after the other, without a window:

    Slicer --no-main-window --python-script .../HarmonizeModuleLib/batch.py -- \\
        --volumes a.nrrd b.nrrd --method zscore --protect GTV --out results

Each volume takes the segmentation named for it, or the file of its name that ends in .seg.nrrd beside it. In the
output folder: the harmonized volumes, verdicts.csv and features.csv. Exit codes: 0 every volume has a result, 2 one
failed, 3 the guard refused one, 4 nothing could be written.
"""

import argparse
import importlib.util
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

import slicer

if importlib.util.find_spec("HarmonizeModuleLib") is None:  # called by its path, the module not among Slicer's
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from HarmonizeModuleLib import scene
from HarmonizeModuleLib.logic import HarmonizeModuleLogic, errorRow, exitCode, writeTables

from HarmonizeExtension.errors import HarmonizeError, InputError, OutputError
from HarmonizeExtension.files.reading import UNITS, read_scan
from HarmonizeExtension.files.volume import SUFFIXES, stem
from HarmonizeExtension.files.writing import output_folder, write_image
from HarmonizeExtension.guard import Status
from HarmonizeExtension.methods import catalogue
from HarmonizeExtension.scan import Modality

SEGMENTATION_SUFFIX = ".seg.nrrd"
NOT_WRITTEN = 4


def main(arguments: Sequence[str]) -> int:
    """Run the batch; returns its exit code."""
    options = _parser().parse_args(arguments)
    try:
        folder = output_folder(options.out)
        return exitCode(_run(_cases(options), options, folder))
    except HarmonizeError as error:
        print(f"harmonize: {error}", file=sys.stderr)
        return NOT_WRITTEN if isinstance(error, OutputError) else 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="batch.py", description="Harmonize many volumes. For research only.")
    given = parser.add_mutually_exclusive_group(required=True)
    given.add_argument("--volumes", nargs="+", metavar="FILE", help="NIfTI, NRRD, MetaImage, or DICOM folders")
    given.add_argument("--folder", metavar="DIR", help="every image file in it")
    parser.add_argument("--segmentations", nargs="+", metavar="FILE", help="one for each volume, in the same order")
    parser.add_argument("--modality", choices=[m.value for m in Modality], help="where the files do not say it")
    parser.add_argument("--units", choices=UNITS, help="of PET files that do not say them")
    parser.add_argument("--method", required=True, choices=[card.name for card in catalogue.cards()])
    parser.add_argument("--target", metavar="T", help="reference scan, model folder, kernel or FWHM in mm")
    parser.add_argument("--reference", metavar="STRUCTURE", help="take intensity statistics inside it")
    parser.add_argument("--protect", metavar="STRUCTURE", action="append", default=[], help="keep its structure safe")
    parser.add_argument("--measure", metavar="STRUCTURE", action="append", help="radiomics of these only")
    parser.add_argument("--n4", action="store_true", help="N4 bias field correction first")
    parser.add_argument("--spacing", type=float, default=0.0, metavar="MM", help="resample to this voxel size first")
    parser.add_argument("--settings", metavar="NAME|FILE", help="radiomics settings; those of the modality by default")
    parser.add_argument("--insist", action="store_true", help="write refused results too, marked as refused")
    parser.add_argument("--out", required=True, metavar="DIR", help="folder for volumes, verdicts.csv and features.csv")
    return parser


def _cases(options) -> list[tuple[str, Path, Path | None]]:
    """(unique name, volume, segmentation or None) of everything to do. Raises InputError where they do not fit."""
    volumes = [Path(volume) for volume in options.volumes or ()]
    if options.folder is not None:
        files = sorted(Path(options.folder).glob("*"))
        volumes = [
            f for f in files if f.name.lower().endswith(SUFFIXES) and not f.name.lower().endswith(SEGMENTATION_SUFFIX)
        ]
        if not volumes:
            raise InputError(f"the folder '{options.folder}' has no image file ({', '.join(SUFFIXES)})")
    beside = [volume.with_name(stem(volume) + SEGMENTATION_SUFFIX) for volume in volumes]
    segmentations = [Path(s) for s in options.segmentations or ()] or [s if s.is_file() else None for s in beside]
    if len(segmentations) != len(volumes):
        raise InputError(f"{len(volumes)} volumes but {len(segmentations)} segmentations; give one for each volume")
    cases, used = [], set()
    stems = [stem(volume) for volume in volumes]
    for volume, segmentation, wanted in zip(volumes, segmentations, stems, strict=True):
        if stems.count(wanted) > 1:  # such as image.nii.gz in a folder of each patient
            wanted = f"{volume.resolve().parent.name}_{wanted}"
        name, number = wanted, 1
        while name in used:
            number += 1
            name = f"{wanted}_{number}"
        used.add(name)
        cases.append((name, volume, segmentation))
    return cases


def _run(cases, options, folder: Path) -> list[dict]:
    """One volume in the scene at a time, so that memory holds however many there are."""
    logic, rows, tables = HarmonizeModuleLogic(), [], []
    card = catalogue.method(options.method).card

    def keep(row, result):
        if result is not None:
            refused = result.verdict.status is Status.REFUSE
            path = folder / f"{'REFUSED_' if refused else ''}{row['volume']}_harmonized.nrrd"
            write_image(result.case.after.image, path)
            tables.append(result.case.features)
            row["outputVolume"] = path.name
        rows.append(row)

    for number, (name, volume, segmentation) in enumerate(cases, start=1):
        try:
            modality = options.modality or catalogue.implied_modality(card, volume)
            scan = read_scan(volume, modality, segmentation, name=name, units=options.units)
        except InputError as error:
            logging.warning("%s: %s", name, error)
            keep(errorRow(name, str(error)), None)
        else:
            volumeNode, segmentationNode = scene.nodesFromScan(scan)
            logic.processScene(
                volumes=[volumeNode],
                report=keep,
                segmentation=segmentationNode,
                method=options.method,
                target=options.target,
                referenceSegment=options.reference,
                protectedSegments=options.protect,
                measuredSegments=options.measure,
                biasCorrection=options.n4,
                commonSpacing=options.spacing,
                settings=options.settings,
                insist=options.insist,
            )
            slicer.mrmlScene.Clear(0)
        print(f"{number}/{len(cases)} {name}: {rows[-1]['status']} {rows[-1]['reasons']}".rstrip(), flush=True)
        writeTables(rows, tables, folder)  # after each volume: a batch that is stopped keeps what is done
    return rows


if __name__ == "__main__":
    # Slicer hands on what follows the script, with or without the dashes that end its own options.
    given = sys.argv[1:]
    code = 1  # of an unexpected error, after which Slicer would else stay open without a window
    try:
        code = main(given[given.index("--") + 1 :] if "--" in given else given)
    finally:
        slicer.util.exit(code)
