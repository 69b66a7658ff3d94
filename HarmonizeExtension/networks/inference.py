"""Running a network on slices: OpenVINO on the CPU where it is installed, else torch, on a GPU where there is one.

Always in float32: what bfloat16 saves in time it costs in texture features, which move by 1 to 3 %.
"""

from __future__ import annotations

import importlib.util
import sys
import warnings
from collections.abc import Callable

import numpy as np
import torch

from ..errors import InputError
from ..progress import CancelCheck, Progress, never, silent, stop_if

BACKENDS = ("openvino", "torch")

Runner = Callable[[np.ndarray], np.ndarray]  # of a batch of slices
Maker = Callable[[int], Runner]  # of a runner for batches of at most so many


def default_backend() -> str:
    """The faster of what is here: torch where it has a GPU, else OpenVINO where it is installed."""
    return "torch" if torch.cuda.is_available() or importlib.util.find_spec("openvino") is None else "openvino"


def run_on_slices(
    network: torch.nn.Module,
    slices: np.ndarray,
    batch: int = 8,
    backend: str | None = None,
    progress: Progress = silent,
    cancelled: CancelCheck = never,
) -> np.ndarray:
    """A network from (batch, channels, y, x) to images of the same y and x, applied to slices (n, channels, y, x).

    Float32 in and out. Memory is bounded by `batch` slices; where it does not suffice, fewer are tried, down to one,
    and then the CPU after a GPU; progress says so. Raises InputError where one slice is too much, Cancelled between
    batches.
    """
    network = network.eval()
    ways = _ways(network, slices.shape[1:], backend or default_backend())
    batch = most = min(batch, len(slices))
    run, results, done, note = None, [], 0, ""
    while done < len(slices):
        stop_if(cancelled)
        try:
            run = run or ways[0](most)
            found = run(np.ascontiguousarray(slices[done : done + most], np.float32))
        except (MemoryError, RuntimeError) as error:
            if not _for_want_of_memory(error):
                raise
            run = None  # with it goes what it holds
            if most > 1:
                most, note = most // 2, f"; memory suffices for {most // 2} at a time"
            elif len(ways) > 1:
                torch.cuda.empty_cache()
                del ways[0]
                most, note = batch, "; on the CPU, as the GPU has too little memory"
            else:
                rows, columns = slices.shape[2:]
                raise InputError(
                    f"there is not enough memory for one slice of {rows} x {columns} pixels; close other programs"
                ) from error
            continue
        results.append(found)
        done += len(found)
        progress(done / len(slices), f"Slice {done} of {len(slices)}{note}")
    return np.concatenate(results)


def _for_want_of_memory(error: Exception) -> bool:
    # torch's CPU allocator and OpenVINO raise a plain RuntimeError.
    words = str(error).lower()
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "alloc" in words or "out of memory" in words


def _ways(network: torch.nn.Module, shape: tuple[int, ...], backend: str) -> list[Maker]:
    """How the network can be run on slices of a shape (channels, y, x): the first as long as memory suffices."""
    if backend == "openvino":
        return [lambda most: _openvino(network, (most, *shape))]
    devices = [torch.device("cuda"), torch.device("cpu")] if torch.cuda.is_available() else [torch.device("cpu")]
    return [lambda most, device=device: _torch(network, device) for device in devices]


def compiled(network: torch.nn.Module, shape: tuple[int, ...]) -> Runner:
    """A network compiled by OpenVINO for the CPU, in float32, for images of one shape (batch, channels, [z,] y, x)."""
    # OpenVINO tells its maker over the internet that it is used; without this module it cannot. A clinic's computer
    # reports to nobody.
    sys.modules.setdefault("openvino_telemetry", None)
    import openvino

    side = 32 if len(shape) == 4 else 16  # what a network does to an image does not depend on its size
    example = torch.zeros(1, shape[1], *(side for _ in shape[2:]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about tracing, which is all that OpenVINO needs
        traced = torch.jit.trace(network.cpu(), example, check_trace=False)
    model = openvino.convert_model(traced, example_input=example, input=list(shape))
    # As many threads as torch has: in processes side by side each has one, and more would fight for the cores.
    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": torch.get_num_threads()}
    on_cpu = openvino.Core().compile_model(model, "CPU", settings)
    return lambda images: np.array(on_cpu(images)[0])


def _openvino(network: torch.nn.Module, shape: tuple[int, ...]) -> Runner:
    on_cpu = compiled(network, shape)

    def run(slices: np.ndarray) -> np.ndarray:
        # The last batch is filled up, since a compiled network has one shape.
        missing = shape[0] - len(slices)
        filled = np.concatenate([slices, np.repeat(slices[-1:], missing, axis=0)]) if missing else slices
        return on_cpu(filled)[: len(slices)]

    return run


def _torch(network: torch.nn.Module, device: torch.device) -> Runner:
    moved = network.to(device)

    def run(slices: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return moved(torch.from_numpy(slices).to(device)).float().cpu().numpy()

    return run
