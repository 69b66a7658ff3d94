"""Tasks side by side: each has its answer, whatever happens to the process of another."""

import os
import signal
import subprocess
import sys
import textwrap
import time

import pytest

from Testing.cli.harmonize import ROOT
from Testing.engine import tasks

from HarmonizeExtension import workers
from HarmonizeExtension.errors import Cancelled, InputError


def run(task, arguments, count=2, report=lambda *_: None, **options):
    return dict(workers.run_in_processes(task, arguments, count, report, **options))


def alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def until(condition, seconds=20.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.05)


def test_every_task_has_its_answer_and_reports():
    reports = []
    answers = run(tasks.square, {f"n{n}": (n,) for n in range(7)}, report=lambda *words: reports.append(words))
    assert answers == {f"n{n}": n * n for n in range(7)}
    assert reports
    assert all(words[1:] == (0.5, "halfway") for words in reports)
    assert run(tasks.square, {}) == {}


def test_a_task_that_ends_its_process_costs_itself_alone():
    answers = run(tasks.die_of, {f"n{n}": (3, n) for n in range(6)})
    assert isinstance(answers.pop("n3"), workers.WorkerDied)
    assert answers == {f"n{n}": n for n in range(6) if n != 3}


def test_a_task_whose_process_ended_once_is_tried_again(tmp_path):
    assert run(tasks.die_once, {f"n{n}": (str(tmp_path / "mark"), n) for n in range(4)}) == {
        f"n{n}": n for n in range(4)
    }


def test_an_error_is_raised():
    with pytest.raises(OSError, match="no 1"):
        run(tasks.fail, {"a": (1,)})


def test_a_stop_reaches_the_tasks_that_run(tmp_path):
    def cancelled():
        return len(list(tmp_path.glob("*.pid"))) == 2

    with pytest.raises(Cancelled):
        run(tasks.wait, {f"n{n}": (str(tmp_path), n) for n in range(5)}, cancelled=cancelled)
    assert len(list(tmp_path.glob("*.stopped"))) == 2


def test_the_environment_is_as_before():
    before = dict(os.environ)
    run(tasks.square, {"a": (1,)})
    assert dict(os.environ) == before


def test_workers_end_with_a_parent_that_is_killed(tmp_path):
    script = f"""
        from HarmonizeExtension import workers
        from Testing.engine import tasks
        if __name__ == "__main__":
            list(workers.run_in_processes(
                tasks.wait, {{str(n): ({str(tmp_path)!r}, n) for n in range(4)}}, 2, lambda *_: None))
    """
    (tmp_path / "parent.py").write_text(textwrap.dedent(script))
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    parent = subprocess.Popen([sys.executable, str(tmp_path / "parent.py")], cwd=ROOT, env=environment)
    until(lambda: len(list(tmp_path.glob("*.pid"))) == 2)
    pids = [int(path.read_text()) for path in tmp_path.glob("*.pid")]
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    until(lambda: not any(map(alive, pids)))


@pytest.fixture
def cluster():
    distributed = pytest.importorskip("distributed", reason="dask.distributed is not installed")
    with distributed.LocalCluster(2, threads_per_worker=1, processes=True, dashboard_address=None) as running:
        yield running


@pytest.mark.slow
def test_a_cluster_gives_the_same_answers_though_a_worker_is_killed(cluster, tmp_path):
    reports, killed = [], []
    arguments = {f"n{n}": (str(tmp_path), n) for n in range(8)}
    answers = {}
    for name, answer in workers.run_on_cluster(
        tasks.slowly, arguments, cluster.scheduler_address, lambda *words: reports.append(words)
    ):
        answers[name] = answer
        if not killed:
            pids = {int(pid) for path in tmp_path.glob("*.pids") for pid in path.read_text().split()}
            killed.append(max(pids))
            os.kill(killed[0], signal.SIGKILL)
    assert answers == {f"n{n}": n for n in range(8)}
    assert not alive(killed[0])
    assert {words[0] for words in reports} <= set(arguments)
    assert reports
    runs = [path.read_text().split() for path in tmp_path.glob("*.pids")]
    assert any(len(pids) > 1 for pids in runs), "no task was on the worker that was killed"


@pytest.mark.slow
def test_on_a_cluster_an_error_is_raised_and_a_stop_is_heard(cluster):
    address = cluster.scheduler_address
    with pytest.raises(OSError, match="no 1"):
        list(workers.run_on_cluster(tasks.fail, {"a": (1,)}, address, lambda *_: None))
    with pytest.raises(Cancelled):
        list(workers.run_on_cluster(tasks.square, {"a": (1,)}, address, lambda *_: None, lambda: True))


def test_no_scheduler_is_said(monkeypatch):
    pytest.importorskip("distributed", reason="dask.distributed is not installed")
    with pytest.raises(InputError, match="no dask scheduler"):
        list(workers.run_on_cluster(tasks.square, {"a": (1,)}, "tcp://127.0.0.1:9", lambda *_: None))
