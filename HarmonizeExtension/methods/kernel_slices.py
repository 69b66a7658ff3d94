"""Networks of CT slices, applied to scans: a window of HU, a slice between its neighbours, pixels of the scan's own."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from ..errors import InputError
from ..guard import Check, Status
from ..progress import CancelCheck, Progress
from ..scan import Scan
from .kernel_matching import PADDING_HU
from .site_model import SiteModel

PIXELS_BEYOND = 1.1  # times wider than the widest, or narrower than the narrowest learnt ones: no reason for doubt


class KernelTranslation(SiteModel):
    """Base of the methods whose network shows a CT scan as another reconstruction kernel would have, slice by slice.

    The scan stays on its grid: the network is told the width of its pixels. HU beyond the model's window pass through
    on top of the result, so that metal stays; filling outside the field of view stays bit for bit; no result lies below
    air.

    site: the kernel to harmonize to, one of the model's. model: its folder.
    """

    @classmethod
    def for_target(cls, target: object = None, **parameters) -> KernelTranslation:
        """For a kernel of the model ("Br40"), one of another ("model folder#Br40"), or that of a reference scan.

        Raises InputError where the file of a reference scan does not say its kernel.
        """
        if isinstance(target, Scan):
            if not target.acquisition.kernel:
                raise InputError(
                    f"'{target.name}' does not say its kernel (DICOM tag 0018,1210); choose one of the model's by name"
                )
            known = cls.sites(parameters.get("model", ""))
            target = _known_kernel(target.acquisition.kernel, known) or target.acquisition.kernel
        return super().for_target(target, **parameters)

    def check(self, scan: Scan) -> None:
        super().check(scan)
        if scan.units not in ("", "HU"):
            raise InputError(f"'{scan.name}' is in {scan.units}; {self.card.title} needs HU, choose the CT itself")

    def doubts(self, scan: Scan) -> tuple[Check, ...]:
        """Whether pixels are much wider or narrower than those that the model has learnt from."""
        if "pixel_mm" not in self._card.preprocessing:
            return ()
        pixel_mm, (low, high) = _pixel_mm(scan), self._card.preprocessing["pixel_mm"]
        inside = low / PIXELS_BEYOND <= pixel_mm <= high * PIXELS_BEYOND
        text = f"pixels are {pixel_mm:.2g} mm wide; the model has learnt from {low:.2g} to {high:.2g} mm"
        return (Check("pixel size", pixel_mm, Status.PASS if inside else Status.REVIEW, text, "mm"),)

    def _network(self, pixel_mm: float):
        return self._room().Translator.from_weights(
            self._weights, self._card.sites.index(self.site), len(self._card.sites), pixel_mm
        )

    def _harmonize(self, scan: Scan, body: np.ndarray, progress: Progress, cancelled: CancelCheck) -> np.ndarray:
        low, high = self._card.preprocessing["window_hu"]
        network = self._network(_pixel_mm(scan))
        from ..networks.inference import run_on_slices

        before = scan.array
        seen = _SlicesBetweenNeighbours(before, (low, high), self._room().MULTIPLE)
        after = run_on_slices(network, seen, progress=progress, cancelled=cancelled)
        after = after[:, 0, : before.shape[1], : before.shape[2]]
        after += 1
        after *= (high - low) / 2
        after += low
        lowest = min(low, float(before[before >= PADDING_HU].min(initial=low)))
        np.maximum(after, lowest, out=after)
        for result, own in zip(after, before, strict=True):
            result += own - np.clip(own, low, high)
            np.copyto(result, own, where=own < PADDING_HU)
        return after


class _SlicesBetweenNeighbours:
    """A CT scan (z, y, x) in HU as the network sees it, (z, 3, y, x) from -1 to 1, made as it is asked for.

    Made at once it would take four times the memory of the scan. y and x are filled up to multiples of `multiple` with
    the last row and column, as beside air a cropped scan would get an edge there; the outermost slices are their own
    neighbours.
    """

    def __init__(self, hu: np.ndarray, window: tuple[float, float], multiple: int):
        self.hu, self.window = hu, window
        self.short = [(-n) % multiple for n in hu.shape[1:]]
        self.shape = (len(hu), 3, *(n + more for n, more in zip(hu.shape[1:], self.short, strict=True)))

    def __len__(self) -> int:
        return len(self.hu)

    def __getitem__(self, wanted: slice) -> np.ndarray:
        low, high = self.window
        numbers = np.arange(len(self.hu))[wanted]
        around = np.clip(numbers[:, None] + (-1, 0, 1), 0, len(self.hu) - 1)
        seen = (np.clip(self.hu[around], low, high) - low) * (2 / (high - low)) - 1
        return np.pad(seen.astype(np.float32), [(0, 0), (0, 0), *((0, n) for n in self.short)], mode="edge")


def _pixel_mm(scan: Scan) -> float:
    """Width of a pixel; where it differs along x and y, that of a square one of the same area."""
    return float(np.sqrt(scan.spacing_mm[0] * scan.spacing_mm[1]))


def _known_kernel(tag: str, kernels: Sequence[str]) -> str:
    """The kernel of a model that a scan's tag names ("Br40d\\3", "['Br40d', '3']"), or nothing; longest name first."""
    words = [word.lower() for word in re.findall(r"[\w.+-]+", tag)]
    for kernel in sorted(kernels, key=len, reverse=True):
        if any(word.startswith(kernel.lower()) for word in words):
            return kernel
    return ""
