"""Which commands there are, and what happens around each: its exit code, its complaint, its answer."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from .. import __version__
from ..errors import Cancelled, HarmonizeError, InputError, OutputError, RefusedError
from . import cohorts, scans, training
from .options import BAD_INPUT, INTERRUPTED, NOT_WRITTEN, REFUSED
from .terminal import Bar, Interrupt, in_words


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code."""
    options = _parser().parse_args(arguments)
    try:
        _check_out(options)
        with Interrupt(options.watched) as interrupted, Bar(options, interrupted) as progress:
            answer = options.command(options, progress, interrupted)
    except HarmonizeError as error:
        return _complain(error, options.json)
    except (Cancelled, KeyboardInterrupt):
        print("interrupted; nothing was left half-written", file=sys.stderr)
        return INTERRUPTED
    try:
        print(json.dumps(answer, indent=1) if options.json else in_words(answer), flush=True)
    except BrokenPipeError:  # such as `| head`: the work is done, and nobody listens any more
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return options.exit_code(answer)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="harmonize", description="Segmentation-aware harmonization of MR, CT and PET. For research only."
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for group in (scans, cohorts, training):
        group.add_to(commands)
    return parser


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
