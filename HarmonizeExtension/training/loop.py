"""One loop for every system: seeded, in bf16 or f32, on one device or many, and killed at any moment it continues.

A training that is resumed reaches the same weights, bit for bit, as one that never stopped (on the same device and with
as many processes). Start it with torchrun for several GPUs: gradients are averaged by DistributedDataParallel, and
process 0 validates and writes.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

from ..errors import InputError
from ..files.writing import output_folder
from ..progress import CancelCheck, Progress, never, silent
from . import checkpoint
from .checkpoint import BEST, CHECKPOINT, STOP, Curve
from .system import System

PRECISIONS = ("f32", "bf16")


@dataclasses.dataclass(frozen=True)
class Schedule:
    """How long and how a system is trained.

    steps: updates in all. batch_size: samples of each process in a step. seed: of weights and samples.
    precision: "f32", or "bf16" (autocast; weights and their averages stay f32): several times as fast where the machine
        has it, but images have 8 bits then, too few for differences of kernels in CT.
    average: decay per step of the exponential moving average of the weights, which is what is validated and kept
        (Polyak and Juditsky, SIAM J Control Optim 1992).
    report_every, checkpoint_every, validate_every: in steps; validation and checkpoint also come at the end.
    patience: validations without a better score after which the training stops; 0 never stops early.
    threads: of the CPU; 0 leaves torch's own choice.
    """

    steps: int
    batch_size: int = 16
    seed: int = 0
    precision: str = "f32"
    average: float = 0.999
    report_every: int = 50
    checkpoint_every: int = 500
    validate_every: int = 1000
    patience: int = 0
    threads: int = 0

    def __post_init__(self):
        if self.precision not in PRECISIONS:
            raise InputError(f"precision '{self.precision}' is unknown; use {' or '.join(PRECISIONS)}")
        for name in ("steps", "batch_size", "report_every", "checkpoint_every", "validate_every"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} must be at least 1, not {getattr(self, name)}")
        if not 0 <= self.average < 1:
            raise InputError(f"average must lie between 0 and 1, not at {self.average}")
        if self.patience < 0 or self.threads < 0 or self.seed < 0:
            raise InputError("patience, threads and seed cannot be negative")


@dataclasses.dataclass(frozen=True)
class Outcome:
    """Where a training stands: `ended` says whether it is over ("finished", "no better") or waits ("stopped")."""

    step: int
    ended: str
    best_step: int
    best: Mapping[str, float]


def train(
    build: Callable[[], System],
    schedule: Schedule,
    folder: Path | str,
    progress: Progress = silent,
    cancelled: CancelCheck = never,
) -> tuple[System, Outcome]:
    """Train from the checkpoint in the folder, or from the start; gives the system with its best averaged weights.

    build: makes the system, with weights from torch's generator. The training ends after its steps or when validation
    stops getting better; it stops, to be continued by the same call, when `cancelled()` is true or a file "stop"
    appears in the folder. Raises InputError when a loss is no longer finite.
    """
    if schedule.threads:
        torch.set_num_threads(schedule.threads)
    folder = output_folder(folder)
    with _processes() as (rank, world, device):
        run = _Run(build, schedule, folder, rank, world, device)
        return run.to_the_end(progress, cancelled)


@contextlib.contextmanager
def _processes() -> Iterator[tuple[int, int, torch.device]]:
    """Rank, number of processes and device; torchrun says the first two in the environment."""
    cuda = torch.cuda.is_available()
    if "LOCAL_RANK" not in os.environ:
        yield 0, 1, torch.device("cuda" if cuda else "cpu")
        return
    device = torch.device("cuda", int(os.environ["LOCAL_RANK"])) if cuda else torch.device("cpu")
    if cuda:
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if cuda else "gloo")
    try:
        yield dist.get_rank(), dist.get_world_size(), device
    finally:
        dist.destroy_process_group()


class _Run:
    """The state of one training, and its steps."""

    def __init__(self, build, schedule: Schedule, folder: Path, rank: int, world: int, device: torch.device):
        self.schedule, self.folder, self.rank, self.world, self.device = schedule, folder, rank, world, device
        torch.manual_seed(schedule.seed)
        self.system = build().to(device)
        self.module = DistributedDataParallel(self.system, find_unused_parameters=True) if world > 1 else self.system
        self.optimizers = self.system.optimizers()
        self.rates = {name: [g["lr"] for g in o.param_groups] for name, o in self.optimizers.items()}
        self.rng = np.random.default_rng([schedule.seed, rank])
        torch.manual_seed(schedule.seed + 1 + rank)
        self.average = {name: value.clone() for name, value in self.system.state_dict().items()}
        self.step, self.seconds, self.waited = 0, 0.0, 0
        self.best: dict[str, float] = {}
        self.best_step = 0
        self.curves, self.validations = Curve(folder / "curves.csv"), Curve(folder / "validation.csv")
        self.losses: dict[str, torch.Tensor] = {}
        self.summed = 0
        if (folder / CHECKPOINT).exists():
            self._resume(checkpoint.load(folder / CHECKPOINT))
        if rank == 0:
            self.curves.cut(self.step)
            self.validations.cut(self.step)

    def to_the_end(self, progress: Progress, cancelled: CancelCheck) -> tuple[System, Outcome]:
        schedule, started = self.schedule, time.perf_counter() - self.seconds
        ended = self._ended()
        self.system.train()
        while not ended:
            self._one_step()
            self.seconds = time.perf_counter() - started
            last = self.step == schedule.steps
            validate = last or self.step % schedule.validate_every == 0
            keep = validate or self.step % schedule.checkpoint_every == 0
            if keep or self.step % schedule.report_every == 0:
                wanted = cancelled() or (self.folder / STOP).exists()
                ended = "stopped" if self._agreed(wanted) else ""
                keep = keep or bool(ended)
                # Who asked to stop may raise when told of progress, and the checkpoint is still to be written.
                self._report(silent if ended else progress)
            if validate:
                self._validate()
            if keep:
                self._keep()
                ended = self._ended() or ended
        if ended == "stopped" and self.rank == 0:
            (self.folder / STOP).unlink(missing_ok=True)
        if (self.folder / BEST).exists():
            self.system.load_state_dict(checkpoint.load(self.folder / BEST)["weights"])
        self.system.eval()
        return self.system, Outcome(self.step, ended, self.best_step, self.best)

    def _ended(self) -> str:
        if self.schedule.patience and self.waited >= self.schedule.patience:
            return "no better"
        return "finished" if self.step >= self.schedule.steps else ""

    def _one_step(self) -> None:
        samples = self.system.batch(self.schedule.batch_size, self.rng)
        samples = {name: value.to(self.device) for name, value in samples.items()}
        factor = self.system.rate(self.step, self.schedule.steps)
        low = self.schedule.precision == "bf16"
        for phase, optimizer in self.optimizers.items():
            for group, rate in zip(optimizer.param_groups, self.rates[phase], strict=True):
                group["lr"] = rate * factor
            # All gradients, also of what another phase trains: an adversary gets some that are not for it.
            self.system.zero_grad(set_to_none=True)
            with torch.autocast(self.device.type, torch.bfloat16, enabled=low):
                losses = self.module(phase, samples)
            losses["loss"].backward()
            optimizer.step()
            for name, value in losses.items():
                name = f"{phase} {name}"
                self.losses[name] = self.losses.get(name, 0.0) + value.detach().float()
        self.step += 1
        self.summed += 1
        # In the first steps an average over hundreds would still hold the random start.
        keep = min(self.schedule.average, self.step / (self.step + 10))
        for name, value in self.system.state_dict().items():
            if value.is_floating_point():
                self.average[name].lerp_(value, 1 - keep)
            else:
                self.average[name].copy_(value)

    def _report(self, progress: Progress) -> None:
        values = {name: float(value) / self.summed for name, value in self.losses.items()}
        self.losses, self.summed = {}, 0
        bad = [name for name, value in values.items() if not math.isfinite(value)]
        if bad:
            raise InputError(
                f"the training failed at step {self.step}: {bad[0]} is no longer finite; use a lower learning rate"
            )
        if self.rank == 0:
            self.curves.add(self.step, {"seconds": self.seconds, **values})
            left = self.seconds / self.step * (self.schedule.steps - self.step)
            first_loss = next(iter(values.items()))
            text = f"step {self.step} of {self.schedule.steps}, {first_loss[0]} {first_loss[1]:.4g}, {_time(left)} left"
            progress(self.step / self.schedule.steps, text)

    def _agreed(self, wanted: bool) -> bool:
        """True on every process when any of them wants it."""
        if self.world == 1:
            return wanted
        flag = torch.tensor([float(wanted)], device=self.device)
        dist.all_reduce(flag)
        return bool(flag.item())

    def _validate(self) -> None:
        """Judge the averaged weights; the best ones are kept. Process 0 does, and tells the others."""
        told: list = [None]
        if self.rank == 0:
            with self._averaged():
                told = [self.system.validate()]
            self.validations.add(self.step, told[0])
        if self.world > 1:
            dist.broadcast_object_list(told, device=self.device)
        figures = told[0]
        if not self.best or figures["score"] < self.best["score"]:
            self.best, self.best_step, self.waited = figures, self.step, 0
            if self.rank == 0:
                weights = {name: value.cpu() for name, value in self.average.items()}
                checkpoint.save({"weights": weights, "step": self.step}, self.folder / BEST)
        else:
            self.waited += 1

    @contextlib.contextmanager
    def _averaged(self) -> Iterator[None]:
        own = {name: value.clone() for name, value in self.system.state_dict().items()}
        # Whatever validation draws, the training goes on with the numbers that it would have drawn without it.
        with torch.random.fork_rng(devices=[self.device] if self.device.type == "cuda" else []):
            self.system.load_state_dict(self.average)
            self.system.eval()
            try:
                with torch.no_grad():
                    yield
            finally:
                self.system.load_state_dict(own)
                self.system.train()

    def _keep(self) -> None:
        mine = {"samples": self.rng.bit_generator.state, "torch": torch.get_rng_state()}
        if self.device.type == "cuda":
            mine["cuda"] = torch.cuda.get_rng_state(self.device)
        generators: list = [mine]
        if self.world > 1:
            generators = [None] * self.world
            dist.all_gather_object(generators, mine)
        if self.rank == 0:
            state = {
                "step": self.step,
                "seconds": self.seconds,
                "weights": self.system.state_dict(),
                "average": self.average,
                "optimizers": {name: optimizer.state_dict() for name, optimizer in self.optimizers.items()},
                "generators": generators,
                "best": self.best,
                "best_step": self.best_step,
                "waited": self.waited,
                "seed": self.schedule.seed,
            }
            checkpoint.save(state, self.folder / CHECKPOINT)
        if self.world > 1:
            dist.barrier()

    def _resume(self, state: dict) -> None:
        if state["seed"] != self.schedule.seed:
            raise InputError(
                f"'{self.folder}' holds a training with seed {state['seed']}, not {self.schedule.seed}; "
                "choose another folder or the same seed"
            )
        try:
            self.system.load_state_dict(state["weights"])
            for name, optimizer in self.optimizers.items():
                optimizer.load_state_dict(state["optimizers"][name])
        except (RuntimeError, KeyError, ValueError) as error:
            raise InputError(
                f"'{self.folder}' holds the training of another network; choose another folder or the same settings"
            ) from error
        self.average = {name: value.to(self.device) for name, value in state["average"].items()}
        self.step, self.seconds, self.waited = state["step"], state["seconds"], state["waited"]
        self.best, self.best_step = state["best"], state["best_step"]
        if len(state["generators"]) == self.world:
            mine = state["generators"][self.rank]
            self.rng.bit_generator.state = mine["samples"]
            torch.set_rng_state(mine["torch"])
            if self.device.type == "cuda" and "cuda" in mine:
                torch.cuda.set_rng_state(mine["cuda"], self.device)
        else:  # other processes than before draw other samples, and never those of the first steps again
            self.rng = np.random.default_rng([self.schedule.seed, self.rank, self.step])


def _time(seconds: float) -> str:
    return f"{seconds / 3600:.1f} h" if seconds > 5400 else f"{seconds / 60:.0f} min"
