"""The images of a case of a manifest: the scan, its truth, and what harmonization made of it (the arm "after")."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from .. import images
from ..errors import InputError
from ..files.manifest import Entry, Manifest
from ..files.reading import read_scan
from ..scan import Scan
from .study import AFTER, BEFORE


def comparable(manifest: Manifest) -> tuple[list[Entry], list[str]]:
    """The entries that have every image arm, and a note on those left out: arms must rest on the same cases."""
    harmonized = [entry for entry in manifest.entries if entry.harmonized]
    chosen = harmonized or list(manifest.entries)
    left = [entry.case for entry in manifest.entries if entry not in chosen]
    return chosen, [f"left out, without a harmonized image: {', '.join(left)}"] if left else []


def read_truth(manifest: Manifest, entry: Entry, scan: Scan) -> Scan:
    """The true image of an entry, with the structures of its scan. Raises InputError where it has none."""
    if not any(other.truth for other in manifest.entries):
        raise InputError(f"'{manifest.path}' has no column 'truth'; name the true image of each case there")
    if not entry.truth:
        raise InputError(f"'{manifest.path}', line {entry.line}: the column 'truth' is empty")
    return _other(entry, "truth", scan)


def arms(entry: Entry, scan: Scan) -> Iterator[tuple[str, Scan]]:
    """The scan itself as "before", and the harmonized image as "after" where the manifest names one."""
    yield BEFORE, scan
    if entry.harmonized:
        yield AFTER, _other(entry, "harmonized", scan)


def check_same_grid(image: Scan, truth: Scan) -> None:
    """Raise InputError where two images cannot be compared voxel by voxel."""
    if not images.same_grid(image.image, truth.image):
        raise InputError(f"'{image.name}' is not on the grid of '{truth.name}'; resample one to the other")


def _other(entry: Entry, column: str, scan: Scan) -> Scan:
    """Another image of the entry, with the structures of the scan on its own grid."""
    path = getattr(entry, column)
    other = read_scan(path, scan.modality, name=f"{entry.case}, {column}", units=scan.units or None)
    structures = dict(scan.structures)
    if not images.same_grid(other.image, scan.image):
        structures = {
            name: dataclasses.replace(one, mask=images.resample_mask(one.mask, other.image))
            for name, one in structures.items()
        }
    return dataclasses.replace(other, structures=structures)
