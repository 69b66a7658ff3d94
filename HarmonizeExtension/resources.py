"""Where the files that ship with the product lie: settings, models, sample anatomy."""

from __future__ import annotations

from pathlib import Path

from .errors import ModelError

_HERE = Path(__file__).resolve().parent


def folder(name: str) -> Path:
    """The folder of that name under Resources: beside the package in a checkout and in Slicer, inside it in a wheel."""
    for root in (_HERE / "Resources", _HERE.parent / "Resources"):
        if (root / name).is_dir():
            return root / name
    raise FileNotFoundError(f"the installation is incomplete: Resources/{name} is missing; install the extension again")


def shipped_model(name: str, system: str) -> Path:
    """The folder of a model that ships. Raises ModelError, which says how to train one, where it does not."""
    try:
        found = folder("Models") / name
    except FileNotFoundError:
        found = None
    if found is None or not found.is_dir():
        raise ModelError(
            f"no model '{name}' ships with this installation; train one with `harmonize train {system}` and give it "
            "as FOLDER#TARGET"
        )
    return found
