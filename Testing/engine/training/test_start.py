"""A configuration file is read whole or refused with a sentence, and leads to a model that the harmonizer opens."""

import dataclasses
import json

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("ruamel.yaml")

from HarmonizeExtension.errors import InputError  # noqa: E402
from HarmonizeExtension.methods.harmonae.harmonizer import Harmonae  # noqa: E402
from HarmonizeExtension.methods.harmonae.training import Settings  # noqa: E402
from HarmonizeExtension.training.loop import Schedule  # noqa: E402
from HarmonizeExtension.training.simulated_slices import Recipe, draw_slices  # noqa: E402
from HarmonizeExtension.training.start import read_config, run, settings_from  # noqa: E402


def written(folder, text):
    path = folder / "config.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_values_come_as_they_are_meant(tmp_path):
    path = written(
        tmp_path, "schedule: {steps: 10}\nsystem:\n  slices: here\n  scanners: [GE 3T, GE 1.5T]\n  content: 2\n"
    )
    entries = read_config(path)
    assert settings_from(Schedule, entries["schedule"], "s") == Schedule(steps=10)
    assert settings_from(Settings, entries["system"], "s") == Settings(
        slices="here", scanners=("GE 3T", "GE 1.5T"), content=2
    )
    path = written(tmp_path, json.dumps({"schedule": {"steps": 3}}))
    assert read_config(path) == {"schedule": {"steps": 3}}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("schedule: {step: 3}\nsystem: {slices: x}", "has no 'step'; did you mean 'steps'"),
        ("schedule: {steps: many}\nsystem: {slices: x}", "'steps' of schedule .* must be a whole number, not 'many'"),
        ("schedule: {steps: true}\nsystem: {slices: x}", "must be a whole number"),
        ("schedule: {steps: 3}\nsystem: {}", "needs 'slices'"),
        ("schedule: {steps: 3}\nsystem: {slices: x, scanners: GE 3T}", "must be a list of names"),
        ("schedule: {steps: 3}\nsystem: {slices: x}\nmodel: {}", "unknown part 'model'"),
        ("schedule: 3", "must have the parts"),
        ("a: [", "is no YAML"),
        ("!!python/object/apply:os.system ['true']", "is no YAML|must have the parts"),
    ],
)
def test_what_does_not_fit_is_told(tmp_path, text, reason):
    with pytest.raises(InputError, match=reason):
        run("harmonae", written(tmp_path, text), tmp_path / "out")


def test_an_unknown_system_and_a_missing_file_are_told(tmp_path):
    with pytest.raises(InputError, match=r"no system 'harmony' to train; there are: .*harmonae"):
        run("harmony", tmp_path / "c.yaml", tmp_path)
    with pytest.raises(InputError, match="cannot be read"):
        run("harmonae", tmp_path / "c.yaml", tmp_path)


@pytest.mark.slow
def test_slices_are_drawn_once_and_a_model_is_trained_on_them(tmp_path):
    path = written(
        tmp_path,
        f"""
schedule: {{steps: 2, batch_size: 1, validate_every: 2, threads: 1}}
system:
  slices: {tmp_path / "slices"}
  scanners: [GE 3T, GE 1.5T]
  unseen: []
  people: 2
  validation_people: 1
  every: 40
  width: 2
  crop: 128
  workers: 1
""",
    )
    texts = []
    answer = run("harmonae", path, tmp_path / "out", lambda fraction, text: texts.append(text))
    assert answer["ended"] == "finished"
    assert any("Drawing people: 2 of 2" in text for text in texts)
    assert Harmonae.sites(answer["files"]["model"]) == ("GE 3T", "GE 1.5T")
    assert np.isfinite(answer["best"]["score"])

    recipe = Recipe(2, 1001, ("GE 3T", "GE 1.5T"), paired=False, every=40)
    slices = draw_slices(tmp_path / "slices" / "train", recipe)
    images, which = slices.batch(8, np.random.default_rng(0))
    assert images.shape == (8, 1, 224, 176)
    assert (images.min(), set(which)) == (pytest.approx(-1, abs=0.05), {0, 1})
    assert images.max() == 1
    held_out = draw_slices(
        tmp_path / "slices" / "validation", dataclasses.replace(recipe, people=1, seed=2002, paired=True, every=80)
    )
    scans, brain = held_out.scans(0), held_out.brain(0)
    assert scans.shape == (2, *brain.shape)
    # Both scanners saw the same head.
    assert np.corrcoef(scans[0][brain], scans[1][brain])[0, 1] > 0.8
    with pytest.raises(InputError, match="drawn otherwise"):
        draw_slices(tmp_path / "slices" / "train", dataclasses.replace(recipe, every=5))
