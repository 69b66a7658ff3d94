"""The configuration to start from names and explains every setting of its system, and a training runs with it."""

import json
import re

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("ruamel.yaml")

from HarmonizeExtension.errors import InputError  # noqa: E402
from HarmonizeExtension.training import checkpoint, start  # noqa: E402

# Of whatever a system has, what makes it small; the rest stays as the sample says.
SCHEDULE = {"steps": 1, "batch_size": 1, "threads": 1}
SYSTEM = {"scanners": ["GE 3T", "GE 1.5T"], "unseen": [], "people": 2, "validation_people": 1, "every": 30, "width": 2}
SYSTEM |= {"cases": 2, "validation_cases": 1, "crop": 128, "workers": 1, "spacing_mm": 3.0}


@pytest.mark.parametrize("system", start.SYSTEMS)
def test_every_setting_is_named_and_explained(tmp_path, system):
    path = start.write_sample(system, tmp_path / "config.yaml")
    entries, text = start.read_config(path), path.read_text()
    schedule, settings, _system = start._parts(system)
    for part, cls in (("schedule", schedule), ("system", settings)):
        assert set(entries[part]) == set(cls.__dataclass_fields__)
        start.settings_from(cls, entries[part], part)  # or it raises
        for name in entries[part]:
            assert re.search(rf"^ +# .*\b{name}\b", text, re.MULTILINE), f"{name} is not explained"
    assert max(map(len, text.splitlines())) < 130
    with pytest.raises(InputError, match=r"config.yaml' is there already"):
        start.write_sample(system, path)


@pytest.mark.slow
@pytest.mark.parametrize("system", start.SYSTEMS)
def test_a_training_runs_with_it(tmp_path, monkeypatch, system):
    entries = start.read_config(start.write_sample(system, tmp_path / "config.yaml"))
    entries["schedule"] |= SCHEDULE
    entries["system"] |= {name: value for name, value in SYSTEM.items() if name in entries["system"]}
    (tmp_path / "small.yaml").write_text(json.dumps(entries))
    monkeypatch.chdir(tmp_path)  # beside which its relative folders lie
    threads = torch.get_num_threads()
    try:
        answer = start.run(system, "small.yaml", "out")
    finally:
        torch.set_num_threads(threads)
    assert answer["ended"] == "finished"
    assert (tmp_path / "out" / start.MODEL / "model.json").is_file()
    for name in (start.CHECKPOINT, start.CURVES, start.VALIDATION):
        assert (tmp_path / "out" / name).is_file()


def test_the_names_of_the_files_are_those_of_the_checkpoint():
    assert (start.CHECKPOINT, start.STOP) == (checkpoint.CHECKPOINT, checkpoint.STOP)


def test_an_unknown_system_has_none(tmp_path):
    with pytest.raises(InputError, match="no system 'harmony'"):
        start.write_sample("harmony", tmp_path / "config.yaml")
