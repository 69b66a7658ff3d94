"""The benchmarks by name: how near all methods come to a truth that is known, because the scans are simulated.

result = benchmarks.benchmark("mri-benchmark").run(people=3)
print(result.text())
"""

from __future__ import annotations

import dataclasses
import importlib
import inspect
from collections.abc import Callable

from .results import ProtocolResult


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
