"""Seconds that HarMOnAE's network takes for the slices of a 1 mm brain, through OpenVINO and torch, and how they agree.

    python Testing/benchmarks/harmonae_speed.py [--slices N] [--threads N]

On the CPU, both in float32, with the compilation counted apart. A 2D U-Net of 16 to 256 channels, the kind of network
that supervised harmonization uses (DeepHarmony: Dewey et al., Magn Reson Imaging 2019), is run beside it on the same
slices. Where other work keeps the machine busy, the seconds of the CPU tell more than those of the clock.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from HarmonizeExtension.methods.harmonae.network import Translator  # noqa: E402
from HarmonizeExtension.networks.inference import run_on_slices  # noqa: E402

ROWS, COLUMNS, VOLUME = 224, 192, 192


class UNet(nn.Module):
    """Two 3 x 3 convolutions a level, five levels, bilinear upsampling."""

    def __init__(self, widths=(16, 32, 64, 128, 256)):
        super().__init__()
        before = (1, *widths[:-1])
        self.down = nn.ModuleList(self._level(a, b) for a, b in zip(before, widths, strict=True))
        self.up = nn.ModuleList(self._level(a + b, b) for a, b in zip(widths[:0:-1], widths[-2::-1], strict=True))
        self.last = nn.Conv2d(widths[0], 1, 1)

    @staticmethod
    def _level(channels_in: int, channels_out: int) -> nn.Module:
        layers = []
        for channels in (channels_in, channels_out):
            layers += [nn.Conv2d(channels, channels_out, 3, padding=1), nn.InstanceNorm2d(channels_out), nn.ReLU()]
        return nn.Sequential(*layers)

    def forward(self, x):
        kept = []
        for level in self.down:
            x = level(x)
            kept.append(x)
            x = nn.functional.max_pool2d(x, 2)
        x = kept.pop()
        for level in self.up:
            x = level(torch.cat([nn.functional.interpolate(x, scale_factor=2.0), kept.pop()], dim=1))
        return self.last(x)


def measure(network: nn.Module, slices: np.ndarray, backend: str) -> tuple[float, float, float, np.ndarray]:
    """Seconds before the first slice, of all slices by the clock and of the CPU, and the result; best of two runs."""
    runs = []
    for _ in range(2):
        first, start = [], time.perf_counter()
        # The report comes after the first batch: what is left is a whole number of batches.
        result = run_on_slices(
            network,
            slices,
            8,
            backend,
            lambda fraction, text, first=first: first.append((time.perf_counter(), time.process_time())),
        )
        (clock, used), (end, used_in_all) = first[0], (time.perf_counter(), time.process_time())
        share = len(first) / (len(first) - 1)
        runs.append(
            (
                clock - start - (end - clock) / (len(first) - 1),
                (end - clock) * share,
                (used_in_all - used) * share,
                result,
            )
        )
    return min(runs, key=lambda run: run[2])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--slices", type=int, default=32, help=f"timed, and scaled to {VOLUME}; a multiple of 8")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="of torch; OpenVINO takes all")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    slices = np.random.default_rng(0).uniform(-1, 1, (options.slices, 1, ROWS, COLUMNS)).astype(np.float32)
    print(f"{VOLUME} slices of {ROWS} x {COLUMNS}, float32: seconds a volume, of the CPU (all threads), and to compile")
    used: dict[tuple[str, str], float] = {}
    for name, network in (("HarMOnAE", Translator(0, 5)), ("U-Net 16-256", UNet())):
        results = {}
        for backend in ("torch", "openvino"):
            compiled, clock, cpu, results[backend] = measure(network, slices, backend)
            clock, used[name, backend] = (seconds * VOLUME / options.slices for seconds in (clock, cpu))
            print(f"{name:14}{backend:10}{clock:8.2f}{used[name, backend]:8.2f}{compiled:8.2f}", flush=True)
        difference = np.abs(results["torch"] - results["openvino"]).max() / np.ptp(results["torch"])
        ratio = used[name, "torch"] / used[name, "openvino"]
        print(f"{'':14}OpenVINO is {ratio:.2f} times as fast; they differ by {difference:.1e} of the range at most")
    ratio = used["HarMOnAE", "openvino"] / used["U-Net 16-256", "openvino"]
    print(f"HarMOnAE takes {ratio:.2f} times as long as the U-Net (OpenVINO)")


if __name__ == "__main__":
    main()
