"""The training loop: what is killed, stopped or shared by processes ends where an undisturbed training ends."""

import csv
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from Testing.engine.training.tiny import Tiny, schedule  # noqa: E402

from HarmonizeExtension.errors import InputError  # noqa: E402
from HarmonizeExtension.training import checkpoint  # noqa: E402
from HarmonizeExtension.training.loop import Schedule, train  # noqa: E402

PROGRAM = Path(__file__).with_name("tiny.py")
ONE_THREAD = os.environ | {"OMP_NUM_THREADS": "1"}


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def state(folder):
    kept = checkpoint.load(Path(folder) / "checkpoint.pt")
    del kept["seconds"]
    return kept


def same(a, b) -> bool:
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    return a == b


def rows(path):
    with open(path, newline="", encoding="utf-8") as file:
        return [{k: v for k, v in row.items() if k != "seconds"} for row in csv.DictReader(file)]


@pytest.mark.slow
def test_a_training_that_was_killed_ends_with_the_same_bits(tmp_path):
    train(Tiny, schedule(60), tmp_path / "whole")
    killed = tmp_path / "killed"
    kills = 0
    for wanted in (10, 30):
        process = subprocess.Popen(
            [sys.executable, PROGRAM, killed, "60", "0.02"], env=os.environ | {"OMP_NUM_THREADS": "1"}
        )
        limit = time.monotonic() + 60
        while time.monotonic() < limit and process.poll() is None:
            if (killed / "checkpoint.pt").exists() and state(killed)["step"] >= wanted:
                break
            time.sleep(0.01)
        time.sleep(0.05)  # into the steps after the checkpoint
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            kills += 1
        process.wait()
    assert kills == 2
    assert state(killed)["step"] < 60
    _, outcome = train(Tiny, schedule(60), killed)
    assert outcome.ended == "finished"
    assert same(state(killed), state(tmp_path / "whole"))
    for name in ("curves.csv", "validation.csv"):
        assert rows(killed / name) == rows(tmp_path / "whole" / name)
    assert same(checkpoint.load(killed / "best.pt"), checkpoint.load(tmp_path / "whole" / "best.pt"))


def test_another_seed_gives_other_weights_and_the_same_seed_the_same(tmp_path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        train(Tiny, schedule(10, seed=seed), tmp_path / name)
    a, b, c = (state(tmp_path / name) for name in "abc")
    assert same(a, b)
    assert not same(a["weights"], c["weights"])
    with pytest.raises(InputError, match="seed 1, not 2"):
        train(Tiny, schedule(20, seed=2), tmp_path / "a")


def test_it_learns_and_keeps_the_best_averaged_weights(tmp_path):
    system, outcome = train(lambda: Tiny(rate=0.05), schedule(200), tmp_path)
    scores = [float(row["score"]) for row in rows(tmp_path / "validation.csv")]
    assert len(scores) == 10
    assert min(scores) < 0.5 * scores[0]
    assert outcome.best["score"] == pytest.approx(min(scores), rel=1e-5)
    with torch.no_grad():
        assert system.validate()["score"] == pytest.approx(outcome.best["score"], rel=1e-6)
    assert not system.training


def test_a_stop_file_stops_it_and_the_same_call_goes_on(tmp_path):
    train(Tiny, schedule(60), tmp_path / "whole")
    folder = tmp_path / "stopped"
    folder.mkdir()
    (folder / "stop").touch()
    _, outcome = train(Tiny, schedule(60), folder)
    assert (outcome.ended, outcome.step) == ("stopped", 5)
    assert not (folder / "stop").exists()
    asked = []
    _, outcome = train(Tiny, schedule(60), folder, cancelled=lambda: len(asked) > 3 or asked.append(1))
    assert (outcome.ended, outcome.step) == ("stopped", 30)
    texts = []
    _, outcome = train(Tiny, schedule(60), folder, progress=lambda fraction, text: texts.append((fraction, text)))
    assert outcome.ended == "finished"
    assert texts[0][0] == pytest.approx(35 / 60)
    assert "step 60 of 60" in texts[-1][1]
    # A stop between two checkpoints begins a new window of the curves, so only the weights are compared.
    assert same(state(folder)["weights"], state(tmp_path / "whole")["weights"])


def test_it_ends_early_when_validation_gets_no_better_and_stays_ended(tmp_path):
    class Stuck(Tiny):
        def validate(self):
            return {"score": 1.0}

    for _ in range(2):
        _, outcome = train(Stuck, schedule(200, patience=2), tmp_path)
        assert (outcome.ended, outcome.step, outcome.best_step) == ("no better", 60, 20)


def test_a_loss_that_is_not_finite_is_told_and_leaves_the_last_checkpoint(tmp_path):
    train(Tiny, schedule(10), tmp_path)

    class Broken(Tiny):
        def forward(self, phase, batch):
            losses = super().forward(phase, batch)
            return losses | {"loss": losses["loss"] * float("nan")}

    with pytest.raises(InputError, match="main loss is no longer finite; use a lower learning rate"):
        train(Broken, schedule(60), tmp_path)
    assert state(tmp_path)["step"] == 10


def test_the_checkpoint_of_another_network_and_a_damaged_one_are_refused(tmp_path):
    train(Tiny, schedule(10), tmp_path)

    class Larger(Tiny):
        def __init__(self):
            super().__init__()
            self.judge = torch.nn.Linear(2, 1)

    with pytest.raises(InputError, match="another network"):
        train(Larger, schedule(20), tmp_path)
    (tmp_path / "checkpoint.pt").write_bytes(b"torn")
    with pytest.raises(InputError, match=r"checkpoint\.pt' is damaged"):
        train(Tiny, schedule(20), tmp_path)


@pytest.mark.parametrize(
    "changes",
    [{"steps": 0}, {"precision": "f16"}, {"average": 1.0}, {"patience": -1}, {"batch_size": 0}, {"report_every": 0}],
)
def test_a_schedule_that_makes_no_sense_is_refused(changes):
    with pytest.raises(InputError):
        Schedule(**({"steps": 5} | changes))


def test_bf16_is_used_where_it_is_asked_for_and_weights_stay_f32(tmp_path):
    kinds = set()

    class Watching(Tiny):
        def forward(self, phase, batch):
            kinds.add(self.net(batch["x"]).dtype)
            return super().forward(phase, batch)

    system, _ = train(Watching, schedule(5, precision="bf16"), tmp_path)
    assert kinds == {torch.bfloat16}
    assert {p.dtype for p in system.parameters()} == {torch.float32}


@pytest.mark.slow
def test_two_processes_share_the_work_and_continue(tmp_path):
    torchrun = ["-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone"]

    def run(steps):
        subprocess.run(
            [sys.executable, *torchrun, PROGRAM, tmp_path, steps],
            check=True,
            timeout=120,
            env=ONE_THREAD,
            capture_output=True,
        )

    run("10")
    first = state(tmp_path)
    assert len(first["generators"]) == 2
    assert first["generators"][0]["samples"] != first["generators"][1]["samples"]
    run("20")
    after = state(tmp_path)
    assert after["step"] == 20
    assert np.isfinite(after["best"]["score"])
    assert not same(after["weights"], first["weights"])
