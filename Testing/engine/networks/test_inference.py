"""Slices are run through a network whatever memory there is: fewer at a time, then on the CPU, and progress says so."""

import subprocess
import sys

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from HarmonizeExtension.errors import InputError  # noqa: E402
from HarmonizeExtension.networks import inference  # noqa: E402
from HarmonizeExtension.networks.inference import run_on_slices  # noqa: E402


class Doubled(torch.nn.Module):
    """Twice the slices; memory suffices for so many at a time."""

    def __init__(self, most: int, error: Exception):
        super().__init__()
        self.most, self.error, self.asked = most, error, []

    def forward(self, x):
        self.asked.append(len(x))
        if len(x) > self.most:
            raise self.error
        return 2 * x


SLICES = np.random.default_rng(0).normal(size=(11, 1, 8, 9)).astype(np.float32)
ERRORS = (
    MemoryError(),
    torch.OutOfMemoryError("CUDA out of memory"),
    RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes."),
    RuntimeError("Exception from src/plugins: std::bad_alloc"),
)


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("most", [1, 2, 3, 8])
def test_where_memory_is_short_fewer_slices_are_run_at_a_time(most, error):
    told = []
    network = Doubled(most, error)
    result = run_on_slices(network, SLICES, 8, "torch", lambda fraction, text: told.append((fraction, text)))
    np.testing.assert_array_equal(result, 2 * SLICES)
    fits = max(n for n in (1, 2, 4, 8) if n <= most)
    assert max(n for n in network.asked[1:]) <= max(8 // 2, fits)
    assert told[-1][0] == pytest.approx(1)
    assert (f"memory suffices for {fits} at a time" in told[-1][1]) == (fits < 8)


def test_a_gpu_that_cannot_hold_one_slice_gives_way_to_the_cpu(monkeypatch):
    def ways(network, shape, backend):
        short = Doubled(0, torch.OutOfMemoryError("CUDA out of memory"))
        return [lambda most, n=n: inference._torch(n, torch.device("cpu")) for n in (short, network)]

    monkeypatch.setattr(inference, "_ways", ways)
    told = []
    result = run_on_slices(Doubled(99, MemoryError()), SLICES, 4, "torch", lambda fraction, text: told.append(text))
    np.testing.assert_array_equal(result, 2 * SLICES)
    assert "on the CPU" in told[-1]


def test_what_cannot_be_run_at_all_is_said_in_a_sentence():
    with pytest.raises(InputError, match="not enough memory for one slice of 8 x 9"):
        run_on_slices(Doubled(0, MemoryError()), SLICES, 4, "torch")


def test_other_errors_are_not_taken_for_want_of_memory():
    with pytest.raises(RuntimeError, match="shapes"):
        run_on_slices(Doubled(0, RuntimeError("shapes differ")), SLICES, 4, "torch")


def test_openvino_reports_to_nobody():
    """Converted in a process of its own: no other process is started there, which is how its telemetry sends."""
    pytest.importorskip("openvino")
    code = (
        "import multiprocessing.process, sys, numpy, torch\n"
        "started = []\n"
        "multiprocessing.process.BaseProcess.start = lambda self: started.append(self)\n"
        "from HarmonizeExtension.networks.inference import run_on_slices\n"
        "network = torch.nn.Conv2d(1, 1, 3, padding=1)\n"
        "run_on_slices(network, numpy.zeros((2, 1, 32, 32), numpy.float32), backend='openvino')\n"
        "print('openvino' in sys.modules, len(started))\n"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert run.stdout.split() == ["True", "0"], run.stderr
