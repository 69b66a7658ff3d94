"""Where the files that ship with the product lie: settings, models, sample anatomy."""

from __future__ import annotations

from pathlib import Path

_HERE = Path(__file__).resolve().parent


def folder(name: str) -> Path:
    """The folder of that name under Resources: beside the package in a checkout and in Slicer, inside it in a wheel."""
    for root in (_HERE / "Resources", _HERE.parent / "Resources"):
        if (root / name).is_dir():
            return root / name
    raise FileNotFoundError(f"the installation is incomplete: Resources/{name} is missing; install the extension again")
