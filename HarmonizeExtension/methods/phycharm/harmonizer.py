"""PhyCHarm applied: a T1-weighted brain as another protocol would show it, by way of its T1 and M0 maps.

Source: Lee et al., medRxiv 2025.02.07.25321867. Networks turn the scan into maps, the signal equation turns the maps
into the image of the target's protocol, and for a scanner that the model was trained for, a last network adds its look.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, NamedTuple

import numpy as np
import SimpleITK as sitk
from scipy import ndimage

from ... import images
from ...errors import InputError, ModelError
from ...files.models import load_model
from ...phantoms.training_pairs import LEAST_AREA
from ...progress import CancelCheck, Progress, never, part, silent
from ...resources import shipped_model
from ...scan import Modality, Role, Scan, TargetKind
from ..axial_slices import check_magnitude, run_where_shown
from ..base import Harmonizer, MethodCard
from .bloch import T2_STAR_MS, BlochMapping, t1_at_field
from .first_guess import FIELD_TESLA, t1_from_image, white_matter_level, white_matter_signal
from .protocols import ProtocolTarget, ScannerProtocol, of_acquisition, of_scanner

SYSTEM = "phycharm"
SHIPPED = "phycharm-brain-t1"
OUTPUT_LEVEL = 1000.0  # what white matter becomes: one scale for all results, easy on the eye
RIM_MM = 2.0  # standard deviation with which the change dies away outside the brain


class QuantitativeMaps(NamedTuple):
    """Maps on the grid of the scan, float32, 0 outside the brain.

    t1_ms: at the scan's own field strength. m0: relative to water.
    """

    t1_ms: sitk.Image
    m0: sitk.Image


@dataclasses.dataclass
class Phycharm(Harmonizer):
    """T1 and M0 maps, the signal equation with the target's protocol, and the look of the target where it was learnt.

    Networks were trained on brains, so that maps and new contrast are those of the brain: the structure "brain", or
    else the reference structure. What lies outside keeps its own contrast, on the new scale, where white matter is
    1000; within a few millimetres of the brain it follows the change at its edge, so that no rim is seen.
    Maps are made at the spacing of the training, and the change is brought back to the scan's grid, so that detail
    finer than the networks know is kept.

    protocol: the target's. source: the scan's own, where its tags do not tell it. model: a folder; the one that ships
    by its name.
    """

    protocol: ScannerProtocol
    source: ScannerProtocol | None = None
    model: Path | str = SHIPPED

    card: ClassVar[MethodCard] = MethodCard(
        name=SYSTEM,
        title="PhyCHarm",
        summary="Shows a T1-weighted brain as another protocol would, by the signal equation and maps of T1 and M0.",
        modalities=frozenset({Modality.MR}),
        target=TargetKind.PROTOCOL,
        keeps_scale=False,
        pointwise=False,
        citation="Lee et al., medRxiv 2025.02.07.25321867, 2025",
        reference="brain",
    )

    @classmethod
    def for_target(cls, target: object = None, **parameters) -> Phycharm:
        """For a protocol: one as text or of a scan's tags, alone or with the source's protocol and a model."""
        if isinstance(target, str):
            target = ProtocolTarget.from_text(target)
        if isinstance(target, Scan):
            target = of_acquisition(target.acquisition, target.name)
        if isinstance(target, ProtocolTarget):
            given = {"source": target.source, "model": target.model}
            parameters = {name: value for name, value in given.items() if value is not None} | parameters
            target = target.protocol
        return super().for_target(target, **parameters)

    def __post_init__(self):
        self._card, self._weights = load_model(_folder(self.model), SYSTEM)

    @property
    def learnt_target(self) -> int | None:
        """Which of the scanners that the model knows is the target; None where the signal equation serves alone."""
        name = self.protocol.name
        if name not in self._card.sites or not any(key.startswith("harmonization.") for key in self._weights):
            return None
        # A reference scan may bear the name of a scanner; its look is its own.
        return self._card.sites.index(name) if self.protocol == of_scanner(name) else None

    def parameters(self) -> Mapping[str, object]:
        alone = self.learnt_target is None
        steps = "signal equation alone" if alone else "signal equation and harmonization network"
        return {**super().parameters(), "steps": steps}

    def check(self, scan: Scan) -> None:
        super().check(scan)
        _source_of(scan, self.source)
        _brain_of(scan)
        check_magnitude(scan, self.card.title)

    def _harmonize(self, scan: Scan, body: np.ndarray, progress: Progress, cancelled: CancelCheck) -> np.ndarray:
        source, target = _source_of(scan, self.source), self.protocol
        seen = _Slices.of(scan, self._card)
        last = self.learnt_target
        t1_ms, m0 = seen.maps(source, self._weights, part(progress, 0.0, 0.9 if last is None else 0.6), cancelled)
        fields = (source.field_strength_tesla, target.field_strength_tesla)
        mapping = BlochMapping(source.protocol, target.protocol, fields)
        mapped = mapping.apply(
            seen.image, t1_at_field(t1_ms, FIELD_TESLA, fields[0]), m0, seen.brain, seen.grid.GetSpacing()
        )
        # On the scale where white matter is 1 for the target too, which what the target's angle and times cost is not.
        later_ms = target.protocol.echo_time_ms - source.protocol.echo_time_ms
        mapped *= white_matter_signal(source.protocol, fields[0]) / white_matter_signal(target.protocol, fields[1])
        mapped *= np.float32(np.exp(later_ms / T2_STAR_MS))
        if last is not None:
            mapped += seen.look(mapped, self._weights, last, part(progress, 0.6, 0.9), cancelled)
        change = seen.back(_spread((mapped - seen.image) * seen.brain, seen.brain, seen.grid.GetSpacing()), scan)
        return np.maximum(scan.array / np.float32(seen.level) + change, 0) * np.float32(OUTPUT_LEVEL)


def quantitative_maps(
    scan: Scan,
    source: ScannerProtocol | None = None,
    model: Path | str = SHIPPED,
    progress: Progress = silent,
    cancelled: CancelCheck = never,
) -> QuantitativeMaps:
    """T1 (ms) and M0 (relative to water) of the brain in a T1-weighted scan.

    One image does not determine T1: what is had is what tissue of such brightness, place and surroundings had in
    training. It serves harmonization and comparison, and is no measurement of a patient's T1.
    source: the scan's protocol where its tags do not tell it. Raises InputError where protocol or brain are missing,
    ModelError for a model or library that is missing.
    """
    card, weights = load_model(_folder(model), SYSTEM)
    protocol = _source_of(scan, source)
    Phycharm.card.check_modality(scan.modality, scan.name)
    seen = _Slices.of(scan, card)
    t1_ms, m0 = seen.maps(protocol, weights, progress, cancelled)
    t1_ms = t1_at_field(t1_ms, FIELD_TESLA, protocol.field_strength_tesla)
    spacing = seen.grid.GetSpacing()
    brain = _brain_of(scan) & (seen.back(seen.brain.astype(np.float32), scan) > 0)
    found = (seen.back(_spread(array, seen.brain, spacing, fading=False), scan) for array in (t1_ms, m0))
    return QuantitativeMaps(*(images.to_image(np.where(brain, array, 0), scan.image) for array in found))


@dataclasses.dataclass(frozen=True, eq=False)
class _Slices:
    """A scan as the networks see it: axial slices around the brain, at the spacing of the training.

    grid: of the slices. image: (z, y, x), white matter is 1. brain: mask. level: white matter in the scan.
    """

    grid: sitk.Image
    image: np.ndarray
    brain: np.ndarray
    level: float

    @classmethod
    def of(cls, scan: Scan, card) -> _Slices:
        # Permuted and flipped, so that front and left are where they were in training.
        axial = sitk.DICOMOrient(scan.image, "LPS")
        inside = sitk.DICOMOrient(images.mask_image(_brain_of(scan), scan.image), "LPS")
        spacing = float(card.preprocessing["spacing_mm"])
        grid = images.grid_with_spacing(axial, (spacing, spacing, axial.GetSpacing()[2]))
        image = images.to_array(images.resample(axial, grid))
        found = sitk.GetArrayFromImage(images.resample_mask(inside, grid)) != 0
        if not found.any():
            raise InputError(f"the brain in '{scan.name}' is smaller than {spacing:g} mm; check the structure 'brain'")
        # Below is spinal cord, on which nothing was trained.
        area = found.sum(axis=(1, 2))
        found &= (area >= LEAST_AREA * area.max())[:, None, None]
        # Taken here, and not on finer voxels, whose noise would raise the percentile.
        level = white_matter_level(image, found, scan.name)
        return cls(grid, np.maximum(image / np.float32(level), 0), found, level)

    def maps(self, source: ScannerProtocol, weights, progress, cancelled) -> tuple[np.ndarray, np.ndarray]:
        """T1 in ms at 3 T, and M0, (z, y, x), float32; 0 outside the brain."""
        generator = _network("generator", weights)
        guess = t1_from_image(self.image, source.protocol, source.field_strength_tesla) / 1000
        found = self._run(generator, np.stack([self.image, guess], 1) * self.brain[:, None], progress, cancelled)
        return found[:, 0] * 1000 * self.brain, found[:, 1] * self.brain

    def look(self, mapped: np.ndarray, weights, scanner: int, progress, cancelled) -> np.ndarray:
        """What the harmonization network adds to the mapped image for one of its scanners (z, y, x), float32."""
        learnt = _network("harmonization", weights)
        seen = np.stack([mapped, self.image], 1) * self.brain[:, None]
        return self._run(learnt, seen, progress, cancelled)[:, scanner] * self.brain

    def back(self, array: np.ndarray, scan: Scan) -> np.ndarray:
        """An array on these slices, on the scan's grid (z, y, x), float32."""
        return images.to_array(images.resample(images.to_image(array, self.grid), scan.image, sitk.sitkLinear))

    def _run(self, network, seen: np.ndarray, progress, cancelled) -> np.ndarray:
        """The network's result (z, channel, y, x) on the slices that show the brain; elsewhere it says nothing."""
        from .network import MULTIPLE

        spacing = self.grid.GetSpacing()
        return run_where_shown(network, seen, self.brain, spacing, MULTIPLE, 0.0, progress, cancelled)


def _network(part: str, weights: Mapping[str, np.ndarray]):
    """One of the model's two networks, "generator" or "harmonization", with its weights."""
    try:
        from .network import from_weights
    except ImportError as error:
        raise ModelError("PhyCHarm needs PyTorch; install it: pip install torch safetensors") from error
    return from_weights(part, weights)


def _spread(array: np.ndarray, brain: np.ndarray, spacing_mm, fading: bool = True) -> np.ndarray:
    """What is known in the brain (z, y, x), carried on outside of it; fading to 0 within millimetres, or not."""
    sigma = [RIM_MM / step for step in spacing_mm[::-1]]
    share = ndimage.gaussian_filter(brain.astype(np.float32), sigma)
    nearby = ndimage.gaussian_filter(np.where(brain, array, 0).astype(np.float32), sigma)
    outside = np.divide(nearby, share, out=np.zeros_like(nearby), where=share > 1e-3)
    if fading:
        outside *= np.minimum(2 * share, 1)
    return np.where(brain, array, outside).astype(np.float32)


def _brain_of(scan: Scan) -> np.ndarray:
    """The mask of the brain (z, y, x). Raises InputError where the scan has none."""
    named = [s for s in scan.structures.values() if s.name.casefold() in ("brain", "brain mask")]
    found = named or scan.with_role(Role.REFERENCE)
    if not found:
        raise InputError(
            f"'{scan.name}' has no structure 'brain', and PhyCHarm's maps are for the brain; segment the brain and "
            "name it so, or mark its structure as reference"
        )
    return np.any([structure.array for structure in found], axis=0)


def _source_of(scan: Scan, source: ScannerProtocol | None) -> ScannerProtocol:
    """The protocol of the scan; InputError that says how to give it where its tags do not tell it."""
    if source is not None:
        return source
    try:
        return of_acquisition(scan.acquisition, scan.name)
    except InputError as error:
        raise InputError(f"{error} (the scan's own protocol goes before the target: 'SOURCE -> TARGET')") from error


def _folder(model: Path | str) -> Path:
    return shipped_model(SHIPPED, SYSTEM) if model == SHIPPED else Path(model)
