"""Whether files are still what they were: one digest of everything that reading a scan, a mask or a model looks at."""

from __future__ import annotations

import hashlib
from pathlib import Path

from ..errors import InputError
from .structures import SIDECARS
from .volume import data_file, stem


def fingerprint(path: Path) -> str:
    """SHA-256 of a file with what belongs to it, or of the files of a folder; empty where nothing is there.

    To a file belong the data file that a detached header names (.mhd, .nhdr) and the names of labels beside a label
    map. Behind a # stands what is taken from a folder (the UID of a DICOM series, the site of a model).
    """
    part = ""
    if not path.exists():
        folder, _, part = path.name.rpartition("#")
        path = path.with_name(folder) if folder else path
    if not path.exists():
        return ""
    digest = hashlib.sha256(part.encode())
    for file in sorted(p for p in path.iterdir() if p.is_file()) if path.is_dir() else _files_of(path):
        try:
            with open(file, "rb") as stream:
                digest.update(hashlib.file_digest(stream, "sha256").digest())
        except OSError:  # reading it will say so in a sentence
            digest.update(b"unreadable")
    return digest.hexdigest()


def _files_of(path: Path) -> list[Path]:
    try:
        files = [path, data_file(path)]
    except InputError:  # a damaged header; reading it will say so
        files = [path]
    sidecars = (path.with_name(stem(path) + suffix) for suffix in SIDECARS)
    return [*dict.fromkeys(files), *(file for file in sidecars if file.is_file())]
