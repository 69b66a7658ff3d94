"""A model folder comes back as it was, or is refused with a clear sentence."""

import builtins
import hashlib
import json
import os
import sys

import numpy as np
import pytest

from HarmonizeExtension.errors import ModelError, OutputError
from HarmonizeExtension.files import ModelCard, load_model, save_model


def card(**changes) -> ModelCard:
    entries = {
        "system": "nyul",
        "title": "Standard scale of six simulated scanners",
        "sites": ("A", "B"),
        "protocols": ({"echo_time_ms": 2.98},),
        "preprocessing": {"spacing_mm": [1.0, 1.0, 1.0]},
        "training_data": ({"name": "simulated", "licence": "Apache-2.0"},),
        "figures": {"ssim": 0.1 + 0.2},
        "learnt": {"landmarks": [0.0, 1 / 3, 100.0]},
    }
    return ModelCard(**(entries | changes))


WEIGHTS = {"a.weight": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.array([1.5], np.float64)}


def test_a_model_comes_back_as_it_was(tmp_path):
    pytest.importorskip("safetensors")
    written = save_model(tmp_path / "model", card(), WEIGHTS)
    back, weights = load_model(tmp_path / "model", "nyul")
    assert back == written
    assert list(back.files) == ["weights.safetensors"]
    assert back.learnt == card().learnt
    assert {name: (array.dtype, array.tolist()) for name, array in weights.items()} == {
        name: (array.dtype, array.tolist()) for name, array in WEIGHTS.items()
    }


def test_a_statistical_model_needs_no_weights_and_no_package(tmp_path, monkeypatch):
    save_model(tmp_path / "plain", card(learnt={"landmarks": np.array([1, 2.5])}))
    pytest.importorskip("safetensors")
    save_model(tmp_path / "network", card(), WEIGHTS)
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name.startswith("safetensors"):
            raise ImportError(name)
        return real(name, *args, **kwargs)

    for name in [name for name in sys.modules if name.startswith("safetensors")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(builtins, "__import__", without)
    back, weights = load_model(tmp_path / "plain", "nyul")
    assert back.learnt == {"landmarks": [1.0, 2.5]}
    assert weights == {}
    with pytest.raises(ModelError, match="pip install safetensors"):
        load_model(tmp_path / "network", "nyul")


def test_a_model_replaces_a_model_but_nothing_else(tmp_path):
    save_model(tmp_path / "model", card(title="old"))
    save_model(tmp_path / "model", card(title="new"))
    assert load_model(tmp_path / "model", "nyul")[0].title == "new"
    assert os.listdir(tmp_path) == ["model"]
    (tmp_path / "papers").mkdir()
    (tmp_path / "papers" / "thesis.txt").write_text("years of work")
    with pytest.raises(OutputError, match="is no model"):
        save_model(tmp_path / "papers", card())
    assert (tmp_path / "papers" / "thesis.txt").read_text() == "years of work"
    with pytest.raises(OutputError, match="does not exist"):
        save_model(tmp_path / "no" / "model", card())


@pytest.mark.parametrize("value", [float("nan"), np.float32("inf"), np.array([[1.0, np.nan]]), object()])
def test_numbers_that_a_file_cannot_keep_are_refused(tmp_path, value):
    with pytest.raises(ModelError, match="nyul"):
        save_model(tmp_path / "model", card(learnt={"deep": [{"value": value}]}))
    assert os.listdir(tmp_path) == []


@pytest.fixture
def network(tmp_path):
    pytest.importorskip("safetensors")
    save_model(tmp_path / "network", card(), WEIGHTS)
    return tmp_path / "network"


def change_card(folder, **changes):
    path = folder / "model.json"
    entries = json.loads(path.read_text())
    entries.update(changes)
    path.write_text(json.dumps({name: value for name, value in entries.items() if value is not ...}))


def refusal(folder, system="nyul") -> str:
    with pytest.raises(ModelError) as caught:
        load_model(folder, system)
    assert str(folder) in str(caught.value)
    return str(caught.value)


def test_the_wrong_model_is_refused(network, tmp_path):
    assert "is for 'nyul', not for 'combat'" in refusal(network, "combat")
    assert "no model folder" in refusal(tmp_path / "nowhere")
    assert "has no model.json" in refusal(tmp_path)
    change_card(network, version=2)
    assert "update the program" in refusal(network)


@pytest.mark.parametrize(
    "changes",
    [
        {"system": 3},
        {"system": ...},
        {"version": ...},
        {"version": "1"},
        {"version": True},
        {"sites": "AB"},
        {"protocols": [1]},
        {"learnt": [1]},
        {"files": {"weights.safetensors": 3}},
        {"entry": "unknown"},
    ],
)
def test_a_damaged_card_is_refused(network, changes):
    change_card(network, **changes)
    assert "get the model again" in refusal(network)


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"null", b"\xff\xfe", b"[" * 100000])
def test_a_card_that_is_no_card_is_refused(network, text):
    (network / "model.json").write_bytes(text)
    assert "damaged" in refusal(network)


def test_damaged_missing_and_foreign_weights_are_refused(network):
    weights = network / "weights.safetensors"
    data = weights.read_bytes()
    weights.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    assert "wrong checksum" in refusal(network)
    weights.unlink()
    assert "is missing" in refusal(network)
    weights.write_bytes(data)
    change_card(network, files={})
    assert "not listed" in refusal(network)


@pytest.mark.parametrize("data", [b"", b"\x08\0\0\0\0\0\0\0{]      ", b"\xff" * 64])
def test_weights_that_are_damaged_though_their_checksum_fits_are_refused(network, data):
    (network / "weights.safetensors").write_bytes(data)
    change_card(network, files={"weights.safetensors": hashlib.sha256(data).hexdigest()})
    assert "weights of the model" in refusal(network)


@pytest.mark.parametrize("name", ["../secret", "/etc/hostname", "link", "..\\secret"])
def test_a_file_outside_the_folder_is_never_read(network, name):
    (network.parent / "secret").write_text("secret")
    (network / "link").symlink_to(network.parent / "secret")
    change_card(network, files={name: "0" * 64})
    (network / "weights.safetensors").unlink()
    assert "outside its folder" in refusal(network)
