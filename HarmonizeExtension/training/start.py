"""From a configuration file to a trained model: what `harmonize train` does.

schedule:            # training.loop.Schedule
  steps: 20000
  batch_size: 8
system:              # the settings of the system, such as methods.harmonae.training.Settings
  slices: /data/slices

The files in the folder of a training are those of `training.checkpoint`; the names of some stand here as well, for
those who look into it without PyTorch.
"""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import importlib
import inspect
import json
import os
import typing
from collections.abc import Mapping
from pathlib import Path

from ..errors import Cancelled, InputError
from ..files.writing import write_text
from ..progress import CancelCheck, Progress, never, part, silent

MODEL = "model"  # folder of the result inside the training folder
CHECKPOINT, STOP, CURVES, VALIDATION = "checkpoint.pt", "stop", "curves.csv", "validation.csv"

# By name on the command line: the module that has `Settings` and the class of the system.
SYSTEMS = {
    "cyclegan": ("methods.cyclegan.training", "CycleganTraining"),
    "harmonae": ("methods.harmonae.training", "HarmonaeTraining"),
    "paired": ("methods.paired.training", "PairedTraining"),
    "paired-ct": ("methods.paired_ct.training", "PairedCTTraining"),
    "phycharm": ("methods.phycharm.training", "PhycharmTraining"),
    "radiomicgan": ("methods.radiomicgan.training", "RadiomicGANTraining"),
}

# Of the schedule of a first training: a report within seconds, where it can be stopped, and curves within minutes.
START = {"steps": 5000, "report_every": 10, "checkpoint_every": 100, "validate_every": 250}


def run(
    system: str, config: Path | str, folder: Path | str, progress: Progress = silent, cancelled: CancelCheck = never
) -> dict[str, object]:
    """Train a system as a configuration file says, or go on with it, in a folder; when it is over, write the model.

    Returns where it stands: step, ended, best figures, and the model folder once there is one. Raises InputError for an
    unknown system, and for a file that cannot be read or has keys or values that do not fit.
    """
    Schedule, Settings, System = _parts(system)  # noqa: N806
    from .loop import train

    entries = read_config(config)
    unknown = set(entries) - {"schedule", "system"}
    if unknown:
        raise InputError(f"'{config}' has an unknown part '{min(unknown)}'; there are: schedule, system")
    schedule = settings_from(Schedule, entries.get("schedule", {}), f"schedule in '{config}'")
    settings = settings_from(Settings, entries.get("system", {}), f"system in '{config}'")

    def tell(fraction: float, text: str) -> None:
        # The loop itself asks whether to stop, and writes a checkpoint then; told of progress, nobody may end it.
        with contextlib.suppress(Cancelled):
            progress(fraction, text)

    trained, outcome = train(
        lambda: System(settings, part(progress, 0.0, 0.05)), schedule, folder, part(tell, 0.05, 1.0), cancelled
    )
    answer = dataclasses.asdict(outcome)
    if outcome.ended != "stopped" and os.environ.get("RANK", "0") == "0":
        figures = {"validation": dict(outcome.best), "trained_steps": outcome.best_step}
        trained.save_model(Path(folder) / MODEL, figures)
        answer["files"] = {"model": str(Path(folder) / MODEL)}
    return answer


def write_sample(system: str, path: Path | str) -> Path:
    """Write a configuration to start from: every setting with what it means, and a value that suits a first training.

    Folders of data are beside the file when the training is started where the file is. Raises InputError for an unknown
    system and where the file is there already, OutputError where it cannot be written.
    """
    Schedule, Settings, _System = _parts(system)  # noqa: N806
    path = Path(path)
    if path.exists():
        raise InputError(f"'{path}' is there already; choose another name, or remove it")
    parts = {"schedule": _described(Schedule, START), "system": _described(Settings, {})}
    head = f"# A training of {system}, to be changed. Relative folders are those where it is started.\n"
    write_text("\n".join([head, *(f"{name}:\n{lines}" for name, lines in parts.items())]), path)
    return path


def _described(cls: type, values: Mapping[str, object]) -> str:
    """A dataclass of settings as lines of YAML: what its docstring says, then each value."""
    bases = [base for base in reversed(cls.__mro__) if dataclasses.is_dataclass(base)]
    about = "\n".join(inspect.cleandoc(vars(base)["__doc__"]).partition("\n\n")[2] for base in bases)
    defaults = {field.name: field.default for field in dataclasses.fields(cls)}
    # What has no default is the name of a folder: it is called as the setting is.
    chosen = {name: name if value is dataclasses.MISSING else value for name, value in defaults.items()} | values
    lines = [f"  # {line}".rstrip() for line in about.splitlines() if line]
    # JSON is YAML, with its names in quotes.
    return "\n".join([*lines, *(f"  {name}: {json.dumps(value)}" for name, value in chosen.items()), ""])


def _parts(system: str) -> tuple[type, type, type]:
    """Schedule, and the settings and the class of a system. Raises InputError where it is unknown or lacks PyTorch."""
    if system not in SYSTEMS:
        raise InputError(f"there is no system '{system}' to train; there are: {', '.join(SYSTEMS)}")
    try:
        from .loop import Schedule
    except ImportError as error:
        raise InputError("training needs PyTorch; install it: pip install torch safetensors") from error
    module, name = SYSTEMS[system]
    module = importlib.import_module(f"..{module}", __package__)
    return Schedule, module.Settings, getattr(module, name)


def read_config(path: Path | str) -> Mapping[str, object]:
    """A YAML file (JSON is YAML too) as plain values. Raises InputError."""
    try:
        from ruamel.yaml import YAML, YAMLError
    except ImportError as error:
        raise InputError("a configuration file needs ruamel.yaml; install it: pip install ruamel.yaml") from error
    try:
        entries = YAML(typ="safe", pure=True).load(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"the configuration '{path}' cannot be read ({error})") from error
    except YAMLError as error:
        raise InputError(f"the configuration '{path}' is no YAML: {' '.join(str(error).split())}") from error
    if not isinstance(entries, dict) or not all(isinstance(value, dict) for value in entries.values()):
        raise InputError(f"the configuration '{path}' must have the parts 'schedule' and 'system', with names in each")
    return entries


def settings_from(cls: type, entries: Mapping[str, object], where: str) -> object:
    """A dataclass of settings from plain values; InputError for a key or value that it does not know."""
    types = typing.get_type_hints(cls)
    fields = {field.name: field for field in dataclasses.fields(cls)}
    for key, value in entries.items():
        if key not in fields:
            near = difflib.get_close_matches(str(key), fields, 1)
            hint = f"did you mean '{near[0]}'?" if near else f"there are: {', '.join(fields)}"
            raise InputError(f"{where} has no '{key}'; {hint}")
        if not _fits(value, types[key]):
            raise InputError(f"'{key}' of {where} must be {_word(types[key])}, not {value!r}")
    missing = [n for n, f in fields.items() if f.default is dataclasses.MISSING and n not in entries]
    if missing:
        raise InputError(f"{where} needs '{missing[0]}'")
    return cls(**{key: tuple(value) if isinstance(value, list) else value for key, value in entries.items()})


def _fits(value: object, wanted: type) -> bool:
    if wanted in (int, float):
        return isinstance(value, int if wanted is int else int | float) and not isinstance(value, bool)
    if typing.get_origin(wanted) is tuple:
        return isinstance(value, list) and all(isinstance(entry, str) for entry in value)
    return isinstance(value, wanted)


def _word(wanted: type) -> str:
    words = {int: "a whole number", float: "a number", str: "a text", bool: "true or false"}
    return words.get(wanted, "a list of names")
