"""Trained models in a folder of model folders, for benchmarks that compare all they find."""

from __future__ import annotations

import json
from pathlib import Path

from .. import resources
from ..errors import InputError, ModelError
from ..files.models import CARD


def model_folders(models: Path | str | None) -> list[Path]:
    """The model folders in a folder, by name; those that ship where None.

    Raises InputError for a folder that is not there.
    """
    if models is None:
        try:
            models = resources.folder("Models")
        except FileNotFoundError:
            return []
    if not Path(models).is_dir():
        raise InputError(f"there is no folder '{models}'; give a folder that holds model folders")
    return sorted(card.parent for card in Path(models).glob(f"*/{CARD}"))


def system_of(folder: Path) -> str:
    """The system of a model. Raises ModelError for a damaged card."""
    try:
        return str(json.loads((folder / CARD).read_text(encoding="utf-8"))["system"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"the card of the model '{folder}' is damaged ({error}); get the model again") from error
