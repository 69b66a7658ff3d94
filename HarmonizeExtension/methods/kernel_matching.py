"""CT kernel matching: an in-plane filter that gives a scan the sharpness and noise texture of another kernel."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import numpy as np

from .. import images
from ..body import body_mask
from ..errors import InputError
from ..physics import ct_edges, ct_kernel, ct_noise
from ..physics.ct_kernel import KernelFilter, KernelMTF
from ..progress import CancelCheck, Progress, part
from ..scan import Modality, Role, Scan, TargetKind
from .base import Harmonizer, MethodCard, statistics_mask

# The range of 12-bit CT. Metal above it (on an extended scale) enters the filter clipped to it and gets back what was
# clipped; no result falls below it or below the scan's own lowest value, whatever a sharp kernel undershoots.
WINDOW_HU = (-1024.0, 3071.0)
PADDING_HU = -1500.0  # no measurement is lower: scanners fill what lies outside the field of view with such values
ERODE_MM = 2.0  # noise is measured this far inside a marked structure, away from its edge

MEASURED_SLICES = 32  # enough for a spectrum; more would only cost time

ESTIMATES = ("edges and noise", "noise", "edges")


@dataclasses.dataclass
class KernelMatching(Harmonizer):
    """A radial in-plane filter MTF_target / MTF_source, regularised where it would blow up noise.

    With a reference scan as target the ratio is estimated from the two scans, which may be of different patients:
    from their edges (how structures are blurred) and from their noise (how texture looks). With filtered back
    projection the two agree; with iterative reconstruction noise is smoothed more than edges (Yu et al., Med Phys
    42:2261, 2015), and their geometric mean shares the disagreement. Where slices are equally spaced, their blend
    with neighbours is matched too.
    With a `KernelMTF` or a generic kernel's name as target, the scan's own MTF is measured on its edges unless given.

    target: reference Scan, KernelMTF, or name of a generic kernel ("soft", "standard", "sharp").
    source_kernel: KernelMTF or generic name of the scan's own kernel; None measures it.
    estimate: what a reference scan is compared by: "edges and noise" (one alone where the other cannot be measured),
        "noise" or "edges".
    noise_to_signal: Wiener regularisation; sharpening gains at most about 1 / (2 noise_to_signal).

    Noise is measured in the structures marked as reference, else in the calmest part of the body's soft tissue.
    Sources: physics/ct_kernel.py, ct_noise.py and ct_edges.py.
    """

    card: ClassVar[MethodCard] = MethodCard(
        name="kernel-matching",
        title="CT kernel matching",
        summary="Filters each slice so that sharpness and noise texture are those of another reconstruction kernel.",
        modalities=frozenset({Modality.CT}),
        target=TargetKind.KERNEL,
        keeps_scale=True,
        pointwise=False,
        whole_image=True,
        citation="Mackin et al., Invest Radiol 54:288, 2019; Samei et al., AAPM TG 233, Med Phys 46:e735, 2019",
        reference="a uniform organ, such as the liver or muscle",
    )

    target: Scan | KernelMTF | str
    source_kernel: KernelMTF | str | None = None
    estimate: str = "edges and noise"
    noise_to_signal: float = 0.1

    def check(self, scan: Scan) -> None:
        super().check(scan)
        if self.estimate not in ESTIMATES:
            raise InputError(f"estimate '{self.estimate}' is unknown; use one of: {', '.join(ESTIMATES)}")
        if not 0.01 <= self.noise_to_signal <= 1:
            raise InputError(f"noise_to_signal {self.noise_to_signal} is not possible; give a number from 0.01 to 1")
        for ct in (scan, self.target):
            if not isinstance(ct, Scan):
                continue
            if ct.modality is not Modality.CT:
                raise InputError(f"the target '{ct.name}' is {ct.modality.value}; choose a CT scan as target")
            if ct.units not in ("", "HU"):
                raise InputError(f"'{ct.name}' is in {ct.units}; kernel matching needs HU, choose the CT itself")

    def kernel_filter(self, scan: Scan, body: np.ndarray) -> KernelFilter:
        """The filter for this scan; `body` is its patient mask (z, y, x)."""
        if not isinstance(self.target, Scan):
            target = _kernel(self.target)
            source = _kernel(self.source_kernel) if self.source_kernel else _edges(scan, body)
            return KernelFilter(ct_kernel.mtf_ratio(source, target), noise_to_signal=self.noise_to_signal)
        reference_body = body_mask(self.target)
        ratios, weight, problems = [], 0.0, []
        if "noise" in self.estimate:
            try:
                source, target = _noise(scan, body), _noise(self.target, reference_body)
                ratios.append(ct_noise.noise_ratio(source, target))
                weight = ct_noise.slice_blend(source, target)
            except InputError as error:
                problems.append(error)
        if "edges" in self.estimate:
            try:
                source = _kernel(self.source_kernel) if self.source_kernel else _edges(scan, body)
                ratios.append(ct_kernel.mtf_ratio(source, _edges(self.target, reference_body)))
            except InputError as error:
                problems.append(error)
        if not ratios:
            raise problems[0]
        ratio = np.exp(np.mean(np.log(ratios), axis=0))
        return KernelFilter(ratio, weight, self.noise_to_signal)

    def _harmonize(self, scan: Scan, body: np.ndarray, progress: Progress, cancelled: CancelCheck) -> np.ndarray:
        progress(0.0, "measuring the two kernels")
        kernel_filter = self.kernel_filter(scan, body)
        before = scan.array
        padding = before < PADDING_HU
        inside = np.where(padding, -1000.0, np.minimum(before, WINDOW_HU[1])).astype(np.float32)
        filtered = kernel_filter.apply(inside, scan.spacing_mm, part(progress, 0.3, 1.0), cancelled)
        lowest = min(WINDOW_HU[0], float(inside.min()))
        after = np.maximum(filtered, lowest) + np.maximum(before - WINDOW_HU[1], 0)
        return np.where(padding, before, after)


def _kernel(kernel: KernelMTF | str) -> KernelMTF:
    return KernelMTF.named(kernel) if isinstance(kernel, str) else kernel


def _noise(scan: Scan, body: np.ndarray) -> ct_noise.NoiseSpectrum:
    """The noise of a scan in its reference structures, else in its calm soft tissue."""
    array, marked = scan.array, bool(scan.with_role(Role.REFERENCE))
    low, high = ct_noise.SOFT_TISSUE_HU
    region = statistics_mask(scan, body) if marked else body & (array > low) & (array < high)
    try:
        if not region.any():
            raise InputError("there is no soft tissue to measure the noise in; mark a uniform reference structure")
        box = _measured_part(region)
        array, region = array[box], region[box]
        if marked:
            region = images.distance_mm(~region, (*scan.spacing_mm[:2], 1e6)) > ERODE_MM
        else:
            region = ct_noise.uniform_tissue(array, body[box], scan.spacing_mm)
        return ct_noise.noise_spectrum(array, region, scan.spacing_mm)
    except InputError as error:
        raise InputError(f"'{scan.name}': {error}") from None


def _edges(scan: Scan, body: np.ndarray) -> KernelMTF:
    """The MTF of a scan measured on its edges."""
    try:
        box = _measured_part(body)
        return ct_edges.edge_mtf(scan.array[box], scan.spacing_mm, scan.acquisition.kernel or scan.name)
    except InputError as error:
        raise InputError(f"'{scan.name}': {error}") from None


def _measured_part(mask: np.ndarray) -> tuple[slice, slice, slice]:
    """The run of at most MEASURED_SLICES slices that holds most of the mask (z, y, x), cut to it with some room."""
    total = np.r_[0, np.cumsum(mask.sum(axis=(1, 2), dtype=float))]
    count = min(MEASURED_SLICES, len(mask))
    start = int(np.argmax(total[count:] - total[:-count]))
    return slice(start, start + count), *images.bounding_box(mask, 24)[1:]
