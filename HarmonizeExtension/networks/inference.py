"""Running a network on slices: OpenVINO on the CPU where it is installed, else torch, on a GPU where there is one.

Always in float32: what bfloat16 saves in time it costs in texture features, which move by 1 to 3 %.
"""

from __future__ import annotations

import importlib.util
import math
import warnings
from collections.abc import Callable

import numpy as np
import torch

from ..progress import CancelCheck, Progress, never, silent, stop_if

BACKENDS = ("openvino", "torch")

Runner = Callable[[np.ndarray], np.ndarray]


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

    Float32 in and out. Memory is bounded by `batch` slices; where a GPU has not enough for them, fewer are tried, and
    then the CPU. Raises Cancelled between batches.
    """
    network = network.eval()
    batch = min(batch, len(slices))
    if (backend or default_backend()) == "openvino":
        run = _openvino(network, (batch, *slices.shape[1:]))
    else:
        run = _torch(network)
    results = []
    for start in range(0, len(slices), batch):
        stop_if(cancelled)
        part = slices[start : start + batch]
        # The last batch is filled up, since a compiled network has one shape.
        filled = np.concatenate([part, np.repeat(part[-1:], batch - len(part), axis=0)])
        results.append(run(np.ascontiguousarray(filled, np.float32))[: len(part)])
        progress(min(1.0, (start + batch) / len(slices)), f"Slice {start + len(part)} of {len(slices)}")
    return np.concatenate(results)


def _openvino(network: torch.nn.Module, shape: tuple[int, ...]) -> Runner:
    import openvino

    small = torch.zeros(1, shape[1], 32, 32)  # what a network does to a slice does not depend on its size
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about tracing, which is all that OpenVINO needs
        traced = torch.jit.trace(network.cpu(), small, check_trace=False)
    model = openvino.convert_model(traced, example_input=small, input=list(shape))
    compiled = openvino.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return lambda slices: np.array(compiled(slices)[0])


def _torch(network: torch.nn.Module) -> Runner:
    def run(slices: np.ndarray, device: torch.device, most: int) -> np.ndarray:
        parts = np.array_split(slices, math.ceil(len(slices) / most))
        moved = network.to(device)
        with torch.inference_mode():
            return np.concatenate([moved(torch.from_numpy(p).to(device)).float().cpu().numpy() for p in parts])

    def with_less_memory(slices: np.ndarray) -> np.ndarray:
        most = len(slices)
        while torch.cuda.is_available() and most >= 1:
            try:
                return run(slices, torch.device("cuda"), most)
            except torch.OutOfMemoryError:
                torch.cuda.empty_cache()
                most //= 2
        return run(slices, torch.device("cpu"), len(slices))

    return with_less_memory
