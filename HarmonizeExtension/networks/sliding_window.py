"""A network of volumes, window by window: MONAI's sliding windows with Gaussian blending, mirrored at the edges."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch

from ..errors import ModelError
from ..progress import CancelCheck, Progress, never, silent, stop_if
from .inference import compiled, default_backend

AIR = -1.0
EDGE = 8
BORDER = 1e-6  # not 0, so that every voxel has some weight


def _apply(
    network: torch.nn.Module, shape: tuple[int, ...], device: torch.device
) -> Callable[[torch.Tensor], torch.Tensor]:
    """The network in float32 by OpenVINO on the CPU where it is installed, else by torch."""
    if default_backend() != "openvino":
        moved = network.to(device)
        return lambda part: moved(part).float()
    on_cpu = compiled(network, shape)
    return lambda part: torch.from_numpy(on_cpu(part.numpy()))


def _weights(window: tuple[int, int, int], edge: int) -> torch.Tensor:
    """What a window counts for, (z, y, x): a Gaussian around its middle, next to nothing within `edge` of its border.

    There a network looks at mirrored voxels instead of true ones; another window knows better.
    """
    from monai.data.utils import compute_importance_map

    weights = compute_importance_map(window, mode="gaussian", sigma_scale=0.125)
    outer = torch.ones(window, dtype=torch.bool)
    outer[tuple(slice(edge, n - edge) for n in window)] = False
    weights[outer] *= BORDER
    return weights


def window_count(shape: tuple[int, ...], window: tuple[int, int, int], overlap: float) -> int:
    """How many windows a volume (z, y, x) takes, with those that show nothing but air."""
    steps = [max(1, int(w * (1 - overlap))) for w in window]
    lengths = [max(n + 2 * min(EDGE, n - 1), w) for n, w in zip(shape, window, strict=True)]
    return math.prod(math.ceil((n - w) / step) + 1 for n, w, step in zip(lengths, window, steps, strict=True))


def run_on_windows(
    network: torch.nn.Module,
    volume: np.ndarray,
    window: tuple[int, int, int],
    overlap: float,
    progress: Progress = silent,
    cancelled: CancelCheck = never,
) -> tuple[np.ndarray, int]:
    """A network from (batch, channels, z, y, x) to (batch, 1, z, y, x), applied to a volume (channels, z, y, x).

    Returns the result (z, y, x), float32, and how many windows it took. window: voxels along z, y and x. overlap: share
    of a window that its neighbour covers again; where it is 2 EDGE / window or more, a network that looks no further
    than EDGE gives what it gives on the whole volume. The volume is mirrored by EDGE voxels beyond its borders, so
    that the outermost slices lie inside windows, where a network has neighbours to look at (Haberl et al., EJNMMI
    2024, saw artefacts in outermost slices in 5.6 % of scans). Windows that show air throughout (-1) are not run.
    Raises ModelError where MONAI is not installed, Cancelled between windows.
    """
    try:
        from monai.inferers.utils import sliding_window_inference
    except ImportError as error:
        raise ModelError("networks of volumes need MONAI; install it: pip install monai") from error
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    apply = _apply(network.eval(), (1, len(volume), *window), device)
    shape = volume.shape[1:]
    # Mirrored as far as there is something to mirror; beyond that the last voxel goes on.
    near = [min(EDGE, n - 1) for n in shape]
    short = [max(0, w - n - 2 * e) for w, n, e in zip(window, shape, near, strict=True)]
    padded = np.pad(volume, [(0, 0), *((e, e) for e in near)], mode="reflect")
    padded = np.pad(padded, [(0, 0), *((0, s) for s in short)], mode="edge")
    total = window_count(shape, window, overlap)
    seen = run = 0

    def judged(part: torch.Tensor) -> torch.Tensor:
        nonlocal seen, run
        stop_if(cancelled)
        seen += 1
        progress(min(seen / total, 1.0), f"Window {seen} of {total}")
        if bool((part[:, 0] <= AIR + 1e-3).all()):
            return part[:, :1].clone()  # MONAI weights it in place
        run += 1
        return apply(part)

    with torch.inference_mode():
        result = sliding_window_inference(
            torch.from_numpy(np.ascontiguousarray(padded, np.float32)[None]),
            window,
            1,
            judged,
            overlap=overlap,
            roi_weight_map=_weights(window, EDGE),
            sw_device=device,
            device=torch.device("cpu"),
        )
    inner = tuple(slice(e, e + n) for e, n in zip(near, shape, strict=True))
    return result.numpy()[0, 0][inner], run
