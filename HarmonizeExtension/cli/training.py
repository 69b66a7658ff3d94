"""The commands that make networks and their data: simulate a cohort with its truth, train."""

from __future__ import annotations

from ..errors import InputError
from ..progress import CancelCheck, Progress
from .options import command


def add_to(commands) -> None:
    """Add these commands to the parser."""
    phantom = command(commands, "phantom", _phantom, "simulate people whom every scanner scans, with the truth")
    phantom.add_argument("anatomy", choices=("brain",), help="what is scanned")
    phantom.add_argument("--people", type=int, required=True, metavar="N")
    phantom.add_argument("--scanners", nargs="+", default=[], metavar="NAME", help="such as 'GE 3T'; all by default")
    phantom.add_argument("--seed", type=int, default=0, metavar="S", help="the same seed gives the same voxels")
    phantom.add_argument("--spacing", type=float, default=1.0, metavar="MM", help="of the voxels; 1 mm by default")
    phantom.add_argument("--diseased", type=float, default=0.0, metavar="SHARE", help="of the people, from 0 to 1")
    phantom.add_argument("--out", required=True, metavar="DIR", help="new folder for manifest, scans and truth")

    train = command(commands, "train", _train, "train a network as a configuration file says; continues where it was")
    train.add_argument("system", metavar="SYSTEM", help="such as harmonae")
    train.add_argument("config", metavar="CONFIG.yaml", help="parts 'schedule' and 'system', see the README")
    train.add_argument("--out", metavar="DIR", help="folder for checkpoint, curves and the model")
    train.add_argument(
        "--sample",
        action="store_true",
        help="train nothing; write CONFIG.yaml to start from, all settings explained",
    )


def _phantom(options, progress: Progress, cancelled: CancelCheck) -> dict:
    from ..phantoms.cohort import scanners_named, write_cohort

    scanners = scanners_named(options.scanners)
    manifest = write_cohort(
        options.out, options.people, scanners, options.seed, options.spacing, options.diseased, progress, cancelled
    )
    return {"scans": options.people * len(scanners), "files": {"manifest": str(manifest)}}


def _train(options, progress: Progress, cancelled: CancelCheck) -> dict:
    from ..training import start

    if options.sample:
        return {"files": {"configuration": str(start.write_sample(options.system, options.config))}}
    if options.out is None:
        raise InputError("--out is missing; name a folder for checkpoint, curves and the model")
    # Ctrl-C is heard at the next report, with a checkpoint written, and not in the middle of one.
    return start.run(options.system, options.config, options.out, progress, cancelled)
