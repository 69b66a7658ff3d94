"""Intensity standardisation of MR by statistics: Z-score, WhiteStripe, Nyul's standard scale, histogram matching.

Each result is a monotone map of intensity alone, learnt inside the reference structure (white matter, muscle) when
one is marked, else inside the body, and applied everywhere, so that no edge can appear and air stays the darkest.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from pathlib import Path
from typing import ClassVar

import numpy as np
from scipy import ndimage

from ..body import body_mask
from ..errors import InputError, ModelError
from ..files.models import ModelCard, load_model, save_model
from ..progress import CancelCheck, Progress
from ..scan import Modality, Role, Scan, TargetKind
from .base import Harmonizer, MethodCard, statistics_mask

MR_ONLY = frozenset({Modality.MR})


def statistics_values(scan: Scan, body: np.ndarray) -> np.ndarray:
    """The intensities (1D) that statistics are learnt from; InputError when there are too few or all are equal."""
    values = scan.array[statistics_mask(scan, body)]
    where = " and ".join(f"'{s.name}'" for s in scan.with_role(Role.REFERENCE)) or "the body"
    if len(values) < 50:
        raise InputError(f"{where} of '{scan.name}' has only {len(values)} voxels; mark a larger reference structure")
    if values.min() == values.max():
        raise InputError(f"'{scan.name}' is constant inside {where} ({values[0]:g}); mark another reference structure")
    return values


def piecewise_linear(array: np.ndarray, levels: np.ndarray, values: np.ndarray) -> np.ndarray:
    """A monotone map through (levels, values); beyond the ends it goes on with the slope of the whole range, so that
    a lesion brighter than every landmark keeps its contrast."""
    slope = (values[-1] - values[0]) / (levels[-1] - levels[0])
    mapped = np.interp(array, levels, values)
    mapped += slope * (np.minimum(array - levels[0], 0) + np.maximum(array - levels[-1], 0))
    return mapped


@dataclasses.dataclass
class ZScore(Harmonizer):
    """(I - mean) / standard deviation of the reference structure or body.

    Source: Carre et al., Standardization of brain MR images across machines and protocols, Sci Rep 2020.
    """

    card: ClassVar[MethodCard] = MethodCard(
        name="zscore",
        title="Z-score",
        summary="Shifts and scales intensities to mean 0 and standard deviation 1 inside the reference structure.",
        modalities=MR_ONLY,
        target=TargetKind.NONE,
        keeps_scale=False,
        pointwise=True,
        citation="Carre et al., Sci Rep 10:12340, 2020",
        reference="brain, or a tissue that disease spares",
    )

    def _harmonize(self, scan: Scan, body: np.ndarray, progress: Progress, cancelled: CancelCheck) -> np.ndarray:
        values = statistics_values(scan, body)
        return (scan.array - values.mean(dtype=float)) / values.std(dtype=float)


@dataclasses.dataclass
class WhiteStripe(Harmonizer):
    """(I - mean) / standard deviation of the white stripe: the intensities around the white-matter peak.

    The peak is the last one of the smoothed histogram that is not a rare tail (T1 weighting), or the highest one
    (T2, FLAIR); the stripe reaches `half_width` of the cumulative distribution to either side.
    Source: Shinohara et al., Statistical normalization techniques for MRI, NeuroImage: Clinical 2014, section 2.2.

    half_width: share of voxels on each side of the peak, 0 to 0.5.
    weighting: "T1", or "T2" for T2 and FLAIR.
    """

    half_width: float = 0.05
    weighting: str = "T1"

    card: ClassVar[MethodCard] = MethodCard(
        name="whitestripe",
        title="WhiteStripe",
        summary="Sets the white-matter peak of a T1-weighted scan to 0 and the spread around it to 1.",
        modalities=MR_ONLY,
        target=TargetKind.NONE,
        keeps_scale=False,
        pointwise=True,
        citation="Shinohara et al., NeuroImage: Clinical 6:9-19, 2014",
        reference="white matter or brain; without one a peak of fat may be taken for white matter",
    )

    def __post_init__(self):
        if not 0 < self.half_width < 0.5:
            raise InputError(f"half_width {self.half_width} is not between 0 and 0.5")
        if self.weighting not in ("T1", "T2"):
            raise InputError(f"weighting '{self.weighting}' is unknown; use T1 or T2")

    def _harmonize(self, scan: Scan, body: np.ndarray, progress: Progress, cancelled: CancelCheck) -> np.ndarray:
        values = statistics_values(scan, body)
        at = np.mean(values < histogram_peak(values, last=self.weighting == "T1"))
        low, high = np.quantile(values, [max(at - self.half_width, 0), min(at + self.half_width, 1)])
        stripe = values[(values >= low) & (values <= high)]
        if len(stripe) < 10 or stripe.std() == 0:
            raise InputError(f"the white stripe of '{scan.name}' is empty; mark white matter as reference structure")
        return (scan.array - stripe.mean(dtype=float)) / stripe.std(dtype=float)


def histogram_peak(values: np.ndarray, last: bool) -> float:
    """The intensity of the last (or highest) peak of the smoothed histogram of `values` (1D).

    Peaks lower than a fifth of the highest one are a rare tail, not a tissue (Shinohara et al. 2014).
    """
    from scipy import signal  # importing it takes half a second, which listing the methods should not

    low, high = np.quantile(values, [0.001, 0.999])
    count, edges = np.histogram(values, bins=512, range=(low, high if high > low else low + 1))
    # A bandwidth of a twentieth of the spread separates grey from white matter and ignores noise and rounding.
    bandwidth = 0.05 * values.std() / (edges[1] - edges[0])
    smooth = ndimage.gaussian_filter1d(count.astype(float), max(bandwidth, 1.0))
    peaks, _ = signal.find_peaks(np.pad(smooth, 1), height=0.2 * smooth.max())
    chosen = peaks[-1] - 1 if last else int(np.argmax(smooth))
    return float((edges[chosen] + edges[chosen + 1]) / 2)


@dataclasses.dataclass(frozen=True)
class StandardScale:
    """Nyul's learnt standard scale: the value that each percentile takes.

    percentiles, landmarks: one-dimensional, increasing, of equal length.
    reference: name of the structure that percentiles were taken in; empty for the body.
    """

    SYSTEM: ClassVar[str] = "nyul"

    percentiles: tuple[float, ...]
    landmarks: tuple[float, ...]
    reference: str = ""
    name: str = "standard scale"

    @classmethod
    def fit(
        cls,
        scans: Iterable[Scan],
        percentiles: Iterable[float] = (1, 10, 20, 30, 40, 50, 60, 70, 80, 90, 99),
        low: float = 0.0,
        high: float = 100.0,
    ) -> StandardScale:
        """The mean of the scans' landmarks after each scan's outer percentiles went to `low` and `high`.

        Source: Nyul, Udupa, Zhang, New variants of a method of MRI scale standardization, IEEE TMI 2000, section II;
        percentiles of Shah et al., Evaluating intensity normalization on MRIs of human brain with MS, MedIA 2011.
        """
        percentiles = tuple(float(p) for p in percentiles)
        if (
            len(percentiles) < 3
            or list(percentiles) != sorted(set(percentiles))
            or not 0 <= percentiles[0] < percentiles[-1] <= 100
        ):
            raise InputError(f"percentiles {percentiles} must rise within 0 to 100, at least three of them")
        rows, references = [], set()
        for scan in scans:
            if scan.modality is not Modality.MR:
                raise InputError(f"a standard scale is for MR; '{scan.name}' is {scan.modality.value}, leave it out")
            values = statistics_values(scan, body_mask(scan))
            found = np.percentile(values, percentiles)
            rows.append(low + (found - found[0]) / (found[-1] - found[0]) * (high - low))
            references.add(" and ".join(s.name for s in scan.with_role(Role.REFERENCE)))
        if not rows:
            raise InputError("no scans were given; a standard scale is learnt from a set of scans")
        if len(references) > 1:
            raise InputError(
                f"the scans have different reference structures ({', '.join(sorted(references))}); mark the same"
            )
        landmarks = np.maximum.accumulate(np.mean(rows, axis=0))
        return cls(
            percentiles, tuple(float(v) for v in landmarks), references.pop(), f"standard scale of {len(rows)} scans"
        )

    def save(self, folder: Path | str) -> None:
        """Write the model folder: a card that holds the learnt numbers."""
        learnt = {"percentiles": self.percentiles, "landmarks": self.landmarks, "reference": self.reference}
        save_model(folder, ModelCard(system=self.SYSTEM, title=self.name, learnt=learnt))

    @classmethod
    def load(cls, folder: Path | str) -> StandardScale:
        """Read a model folder; ModelError where it is damaged or of another system."""
        card, _ = load_model(folder, cls.SYSTEM)
        try:
            percentiles = tuple(float(v) for v in card.learnt["percentiles"])
            landmarks = tuple(float(v) for v in card.learnt["landmarks"])
        except (KeyError, TypeError, ValueError) as error:
            raise ModelError(f"the standard scale in {folder} is damaged ({error}); train it again") from error
        rising = all(np.all(np.diff(v) >= 0) and np.isfinite(v).all() for v in (percentiles, landmarks))
        if len(percentiles) != len(landmarks) or len(percentiles) < 3 or not rising or landmarks[0] == landmarks[-1]:
            raise ModelError(f"the standard scale in {folder} is damaged (its landmarks do not rise); train it again")
        return cls(percentiles, landmarks, str(card.learnt.get("reference", "")), card.title)


@dataclasses.dataclass
class Nyul(Harmonizer):
    """Maps the scan's percentiles piecewise linearly to a standard scale that was learnt from a set of scans.

    Source: Nyul, Udupa, Zhang, IEEE TMI 19:143-150, 2000.

    standard: the learnt scale, or its model folder.
    """

    standard: StandardScale | Path | str

    card: ClassVar[MethodCard] = MethodCard(
        name="nyul",
        title="Nyul standard scale",
        summary="Maps intensity percentiles to a standard scale learnt from a set of scans.",
        modalities=MR_ONLY,
        target=TargetKind.MODEL,
        keeps_scale=False,
        pointwise=True,
        citation="Nyul et al., IEEE TMI 19:143-150, 2000",
        reference="the structure the scale was learnt in, if it was learnt in one",
    )

    def __post_init__(self):
        if not isinstance(self.standard, StandardScale):
            self.standard = StandardScale.load(self.standard)

    def check(self, scan: Scan) -> None:
        super().check(scan)
        marked = " and ".join(s.name for s in scan.with_role(Role.REFERENCE))
        if marked != self.standard.reference:
            learnt, given = (
                f"inside '{name}'" if name else "inside the body" for name in (self.standard.reference, marked)
            )
            raise InputError(
                f"the standard scale was learnt {learnt}, but '{scan.name}' would be measured {given}; "
                "mark the same reference structure"
            )

    def _harmonize(self, scan: Scan, body: np.ndarray, progress: Progress, cancelled: CancelCheck) -> np.ndarray:
        found = np.percentile(statistics_values(scan, body), self.standard.percentiles)
        levels, first = np.unique(found, return_index=True)
        return piecewise_linear(scan.array, levels, np.asarray(self.standard.landmarks)[first])


@dataclasses.dataclass
class HistogramMatching(Harmonizer):
    """Gives the scan the intensity distribution of a reference scan, quantile by quantile.

    Source: Wang et al., MR image intensity matching, Magn Reson Imaging 1998; Gonzalez and Woods, Digital Image
    Processing, section 3.3.2. Quantiles are taken inside the reference structure of both scans where one is marked.

    reference: the scan of the look that is wanted.
    quantiles: how many levels the map has; more follow the histogram closer, and its noise too.
    contrast_limit: how many times steeper or flatter than the whole map any part of it may be. Where a histogram is
        empty (a lesion between two tissues) plain matching would squash whatever lies there, as limiting the slope
        prevents in adaptive equalisation (Zuiderveld, Graphics Gems IV, 1994).
    """

    reference: Scan
    quantiles: int = 101
    contrast_limit: float = 3.0

    card: ClassVar[MethodCard] = MethodCard(
        name="histogram-matching",
        title="Histogram matching",
        summary="Gives the scan the intensity distribution of a reference scan.",
        modalities=MR_ONLY,
        target=TargetKind.SCAN,
        keeps_scale=False,
        pointwise=True,
        citation="Wang et al., Magn Reson Imaging 16:1037-1045, 1998",
        reference="a structure that both scans have; else the body of each",
    )

    def __post_init__(self):
        if self.quantiles < 3 or self.contrast_limit < 1:
            raise InputError("histogram matching needs at least 3 quantiles and a contrast limit of at least 1")

    def check(self, scan: Scan) -> None:
        super().check(scan)
        if self.reference.modality is not scan.modality:
            raise InputError(
                f"the reference scan '{self.reference.name}' is {self.reference.modality.value}, "
                f"'{scan.name}' is {scan.modality.value}; choose a reference of the same modality"
            )

    def _harmonize(self, scan: Scan, body: np.ndarray, progress: Progress, cancelled: CancelCheck) -> np.ndarray:
        # The outermost half percent is noise, flow and fat spikes: the map goes straight on there.
        at = np.linspace(0.005, 0.995, self.quantiles)
        source = np.quantile(statistics_values(scan, body), at)
        target = np.quantile(self._reference_values(scan), at)
        levels, first = np.unique(source, return_index=True)
        if len(levels) < 3:
            raise InputError(f"'{scan.name}' has too few grey levels to be matched; check the file")
        return piecewise_linear(scan.array, levels, self._limited(levels, target[first]))

    def _limited(self, levels: np.ndarray, values: np.ndarray) -> np.ndarray:
        """The values with every slope within the contrast limit, moved so that they are right on average."""
        whole = (values[-1] - values[0]) / (levels[-1] - levels[0])
        step = np.diff(levels)
        slope = np.clip(np.diff(values) / step, whole / self.contrast_limit, whole * self.contrast_limit)
        limited = np.concatenate([[0.0], np.cumsum(slope * step)])
        return limited + (values - limited).mean()

    def _reference_values(self, scan: Scan) -> np.ndarray:
        marked = [s.name for s in scan.with_role(Role.REFERENCE)]
        missing = [name for name in marked if name not in self.reference.structures]
        if missing:
            raise InputError(
                f"the reference scan '{self.reference.name}' has no structure {', '.join(missing)}; "
                "give its segmentation too, or mark no reference structure"
            )
        body = body_mask(self.reference)
        if not marked:
            return statistics_values(self.reference.with_roles(), body)
        values = self.reference.array[np.any([self.reference.structures[name].array for name in marked], axis=0)]
        if len(values) < 50:
            raise InputError(
                f"the reference structure has only {len(values)} voxels in '{self.reference.name}'; mark a larger one"
            )
        return values
