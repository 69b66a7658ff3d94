"""The benchmarks by name: how near all methods come to a truth that is known, because the scans are simulated.

result = benchmarks.benchmark("mri-benchmark").run(people=3)
print(result.text())
"""

from __future__ import annotations

import dataclasses
import importlib
import inspect
from collections.abc import Callable, Mapping
from typing import TypeVar

from ..progress import CancelCheck, Progress
from ..workers import Task, WorkerDied, run_in_processes
from .results import ProtocolResult

Findings = TypeVar("Findings")


@dataclasses.dataclass(frozen=True)
class Benchmark:
    """One benchmark of the catalogue. module: of this package, whose `run` does it."""

    name: str
    title: str
    module: str

    @property
    def run(self) -> Callable[..., ProtocolResult]:
        """What does it; its module, which brings many others with it, is imported where it is asked for."""
        return importlib.import_module(f".{self.module}", __package__).run

    def options(self) -> tuple[str, ...]:
        """What may be given to `run`, beside progress and cancelled."""
        return tuple(name for name in inspect.signature(self.run).parameters if name not in ("progress", "cancelled"))


BENCHMARKS = (
    Benchmark("mri-benchmark", "Brains on six MR scanners", "mri_benchmark"),
    Benchmark("ct-benchmark", "CT reconstructed with three kernels", "ct_benchmark"),
    Benchmark("pet-benchmark", "Whole-body PET of two centres", "pet_benchmark"),
)


def benchmark(name: str) -> Benchmark | None:
    """The benchmark of that name, None for another."""
    return next((known for known in BENCHMARKS if known.name == name), None)


def side_by_side(
    measure: Task,
    tasks: Mapping[str, tuple],
    processes: int,
    given_up: Callable[[str], Findings],
    progress: Progress,
    cancelled: CancelCheck,
) -> list[Findings]:
    """What `measure` finds in each person or case, in the order of the tasks, whoever was first.

    given_up: what stands in for one whose process died, made of a sentence that says so.
    """
    fractions = dict.fromkeys(tasks, 0.0)

    def report(name: str, fraction: float, text: str) -> None:
        fractions[name] = fraction
        progress(sum(fractions.values()) / len(tasks), f"{name}: {text}")

    answers: dict[str, Findings] = {}
    for name, answer in run_in_processes(measure, tasks, min(processes, len(tasks)), report, cancelled):
        dead = isinstance(answer, WorkerDied)
        answers[name] = given_up(f"{name}: its process died, memory may have run out") if dead else answer
        report(name, 1.0, "done")
    return [answers[name] for name in tasks]
