"""Models in folders: a card in model.json, and weights where the system has any.

    folder/
        model.json             the card: what the model is, what it was made from, checksums of the other files
        weights.safetensors    named arrays; only for networks

Reading a model runs no code from it: JSON holds data, safetensors holds arrays.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from ..errors import InputError, ModelError, OutputError
from .writing import inside, plain, replacing, write_json

CARD = "model.json"
WEIGHTS = "weights.safetensors"
CARD_VERSION = 1


@dataclasses.dataclass(frozen=True)
class ModelCard:
    """What a model states about itself; every entry is of JSON's own types once it was read from a file.

    system: name of the method that can use it, as in the catalogue ("nyul").
    title: what a user calls it.
    sites: names of the scanners or sites it was trained on, for models that know sites.
    protocols: acquisition protocols it was trained on, each a mapping with units in its keys.
    preprocessing: what was done to the images before training and must be done again before use.
    training_data: name, source and licence of each data set ("name", "source", "licence", "subjects").
    figures: measured quality, each with what it was measured on.
    learnt: the numbers of a statistical model (landmarks of a standard scale).
    files: SHA-256 by name of every other file in the folder; filled by `save_model`.
    version: layout of the card; a newer one than this program knows is refused.
    """

    system: str
    title: str = ""
    sites: tuple[str, ...] = ()
    protocols: tuple[Mapping, ...] = ()
    preprocessing: Mapping = dataclasses.field(default_factory=dict)
    training_data: tuple[Mapping, ...] = ()
    figures: Mapping = dataclasses.field(default_factory=dict)
    learnt: Mapping = dataclasses.field(default_factory=dict)
    files: Mapping[str, str] = dataclasses.field(default_factory=dict)
    version: int = CARD_VERSION


def save_model(
    folder: str | os.PathLike, card: ModelCard, weights: Mapping[str, np.ndarray] | None = None
) -> ModelCard:
    """Write a model folder, in the place of an older model if there is one, and return the card with its checksums.

    Raises ModelError where the card cannot be kept as JSON, OutputError where the folder cannot be written or holds
    something else than a model.
    """
    folder = Path(folder)
    if folder.exists() and not (folder / CARD).is_file() and (not folder.is_dir() or any(folder.iterdir())):
        raise OutputError(f"'{folder}' exists and is no model; choose a new folder for the model")
    _check_finite(card)
    with replacing(folder) as temporary:
        temporary.mkdir()
        files = {}
        if weights is not None:
            data = _safetensors().numpy.save({name: np.ascontiguousarray(array) for name, array in weights.items()})
            (temporary / WEIGHTS).write_bytes(data)
            files[WEIGHTS] = hashlib.sha256(data).hexdigest()
        card = dataclasses.replace(card, files=files, version=CARD_VERSION)
        write_json(card, temporary / CARD)
    return card


def load_model(folder: str | os.PathLike, system: str) -> tuple[ModelCard, dict[str, np.ndarray]]:
    """The card and the weights ({} without any) of a model for `system`.

    Raises ModelError, naming the folder and what to do, for a model that is missing, damaged, for another system, or
    newer than this program.
    """
    folder = Path(folder)
    card = _read_card(folder)
    if card.system != system:
        raise ModelError(f"the model '{folder}' is for '{card.system}', not for '{system}'; choose another model")
    if WEIGHTS not in card.files and (folder / WEIGHTS).exists():
        raise ModelError(f"the weights in '{folder}' are not listed in {CARD}; get the model again")
    weights: dict[str, np.ndarray] = {}
    for name, checksum in card.files.items():
        data = _read_file(folder, name)
        if hashlib.sha256(data).hexdigest() != checksum:
            raise ModelError(f"'{name}' in the model '{folder}' is damaged (wrong checksum); get the model again")
        if name == WEIGHTS:
            weights = _weights(data, folder)
    return card, weights


def _read_card(folder: Path) -> ModelCard:
    if not folder.is_dir():
        raise ModelError(f"there is no model folder '{folder}'; check the path")
    if not (folder / CARD).exists():
        raise ModelError(f"'{folder}' is no model: it has no {CARD}; choose a model folder")
    text = _read_file(folder, CARD)
    try:
        entries = json.loads(text.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise ModelError(f"the card of the model '{folder}' is damaged ({error}); get the model again") from error
    if not isinstance(entries, dict):
        raise ModelError(f"the card of the model '{folder}' is damaged; get the model again")
    version = entries.get("version")
    if isinstance(version, int) and version > CARD_VERSION:
        raise ModelError(
            f"the model '{folder}' has a card of version {version}, and this program knows up to {CARD_VERSION}; "
            "update the program"
        )
    known = {field.name for field in dataclasses.fields(ModelCard)}
    for name, value in entries.items():
        if name not in known or not _fits(name, value):
            raise ModelError(f"the card of the model '{folder}' is damaged (entry '{name}'); get the model again")
    if not entries.get("system") or version is None:
        raise ModelError(f"the card of the model '{folder}' names no system or version; get the model again")
    return ModelCard(**{name: tuple(value) if isinstance(value, list) else value for name, value in entries.items()})


_TUPLES_OF = {"sites": str, "protocols": dict, "training_data": dict}


def _fits(name: str, value: object) -> bool:
    if name in ("system", "title"):
        return isinstance(value, str)
    if name == "version":
        return isinstance(value, int) and not isinstance(value, bool) and value >= 1
    if name in _TUPLES_OF:
        return isinstance(value, list) and all(isinstance(entry, _TUPLES_OF[name]) for entry in value)
    if name == "files":
        return isinstance(value, dict) and all(isinstance(checksum, str) for checksum in value.values())
    return isinstance(value, dict)


def _read_file(folder: Path, name: str) -> bytes:
    try:
        return inside(folder, name).read_bytes()
    except InputError as error:
        raise ModelError(f"the model '{folder}' names a file outside its folder ('{name}'); do not use it") from error
    except OSError as error:
        raise ModelError(
            f"'{name}' of the model '{folder}' is missing or cannot be read ({error.strerror}); get the model again"
        ) from error


def _weights(data: bytes, folder: Path) -> dict[str, np.ndarray]:
    library = _safetensors()
    try:
        return library.numpy.load(data)
    except (ValueError, KeyError, TypeError, library.SafetensorError) as error:
        raise ModelError(f"the weights of the model '{folder}' are damaged ({error}); get the model again") from error


def _safetensors():
    try:
        import safetensors.numpy
    except ImportError as error:
        raise ModelError("a model with weights needs safetensors; install it: pip install safetensors") from error
    return safetensors


def _check_finite(card: ModelCard) -> None:
    """JSON has no NaN; a model that holds one would come back with holes."""

    def check(value: object, where: str) -> None:
        if isinstance(value, np.ndarray | np.generic):
            value = value.tolist()
        if isinstance(value, float) and not math.isfinite(value):
            raise ModelError(f"the card of a model for '{card.system}' has a number that is not finite in {where}")
        if isinstance(value, Mapping):
            for key, entry in value.items():
                check(entry, f"{where}.{key}")
        elif isinstance(value, list | tuple):
            for entry in value:
                check(entry, where)

    for field in dataclasses.fields(card):
        check(getattr(card, field.name), field.name)
    try:
        plain(card)
    except TypeError as error:
        raise ModelError(f"the card of a model for '{card.system}' cannot be kept: {error}") from error
