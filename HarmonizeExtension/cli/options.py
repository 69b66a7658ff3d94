"""Options that several commands share, and what is made of them."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..recipe import Recipe
    from ..scan import Scan

MODALITIES = ("MR", "CT", "PET")
DONE, BAD_INPUT, REFUSED, NOT_WRITTEN, INTERRUPTED = 0, 2, 3, 4, 130  # exit codes


def done(answer: dict) -> int:
    """The exit code of a command that gave an answer, unless it has another to say."""
    return DONE


def command(
    commands, name: str, function: Callable[..., dict], text: str, exit_code: Callable[[dict], int] = done
) -> argparse.ArgumentParser:
    """A command: function(options, progress, cancelled) gives its answer, exit_code(answer) its exit code."""
    parser = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
    parser.add_argument("--json", action="store_true", help="answer in JSON, without a progress bar")
    parser.add_argument(
        "--watched",
        action="store_true",
        help="for programs that start this one: progress as JSON lines on the error stream, and a stop as by Ctrl-C "
        "once the input stream is closed",
    )
    parser.set_defaults(command=function, exit_code=exit_code)
    return parser


def add_scan(parser: argparse.ArgumentParser, segmentation_required: bool = False) -> None:
    """The options that say which scan."""
    parser.add_argument("--volume", required=True, metavar="FILE", help="NIfTI, NRRD, MetaImage, or a DICOM folder")
    parser.add_argument(
        "--segmentation", metavar="FILE", required=segmentation_required, help="mask, label map, .seg.nrrd or RTSTRUCT"
    )
    parser.add_argument("--modality", choices=MODALITIES, help="needed where the file does not say it")
    parser.add_argument("--units", metavar="HU|SUV|Bq/ml", help="of a PET file that does not say them")


def add_recipe(parser: argparse.ArgumentParser) -> None:
    """The options that say what is done to a scan."""
    parser.add_argument("--method", required=True, metavar="NAME", help="see `harmonize methods`")
    parser.add_argument(
        "--target",
        metavar="T",
        help="reference scan (its segmentation behind a comma), model folder, kernel, FWHM in mm, scanner, or protocol",
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


def read_scan_of(options, **roles) -> Scan:
    """The scan that the options name."""
    from ..files.reading import read_scan

    scan = read_scan(options.volume, modality=options.modality, segmentation=options.segmentation, units=options.units)
    return scan.with_roles(**roles) if scan.structures or any(roles.values()) else scan


def recipe_of(options) -> Recipe:
    """What the options say to do."""
    from ..recipe import Recipe

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


def notes_of(scan: Scan) -> list[str]:
    """What was decided while reading, such as a mask brought to the scan's grid."""
    return [entry["note"] for entry in scan.provenance if "note" in entry]
