"""HarMOnAE applied: an MR scan as a chosen scanner would have shown it, whatever scanner took it.

Source: Fatania et al., Phys Imaging Radiat Oncol 2022. The encoder needs no knowledge of the scan's own scanner.
"""

from __future__ import annotations

import dataclasses
import difflib
from pathlib import Path
from typing import ClassVar

import numpy as np
import SimpleITK as sitk

from ... import images
from ...errors import InputError, ModelError
from ...files.models import load_model
from ...networks.intensity import body_level, from_network, to_network
from ...progress import CancelCheck, Progress
from ...resources import folder
from ...scan import Modality, Scan, TargetKind
from ..base import Harmonizer, MethodCard

SYSTEM = "harmonae"
SHIPPED = "harmonae-brain-t1"
OUTPUT_LEVEL = 1000.0  # what the robust maximum becomes: one scale for all results, easy on the eye
MARGIN_MM = 10.0  # of air around the body, as in training
SIMILAR_SPACING = 1.25  # up to this ratio to the trained spacing slices are taken as they are
MOST_NEGATIVE = 0.05  # of the body's voxels; magnitude images have none


@dataclasses.dataclass
class Harmonae(Harmonizer):
    """The style-blind auto-encoder, slice by slice on axial slices.

    Intensities are scaled by the 99.5th percentile of the body, as in training. What lies above passes through on top
    of the result; voxels outside the body keep their value, on the new scale, where the percentile is 1000. Slices
    whose voxels are much finer or coarser than those in training are harmonized at the trained spacing, and the change
    is brought back to the scan's grid, so that detail finer than the network knows is kept.

    site: the scanner to harmonize to, one of the model's. model: its folder; the one that ships by its name.
    """

    site: str
    model: Path | str = SHIPPED

    card: ClassVar[MethodCard] = MethodCard(
        name=SYSTEM,
        title="HarMOnAE",
        summary="Shows a T1-weighted brain as a chosen scanner would have; the scan's own scanner may be unknown.",
        modalities=frozenset({Modality.MR}),
        target=TargetKind.SITE,
        keeps_scale=False,
        pointwise=False,
        citation="Fatania et al., Phys Imaging Radiat Oncol 22:115-122, 2022",
    )

    @classmethod
    def for_target(cls, target: object = None, **parameters) -> Harmonae:
        """For a site of the model that ships ("Siemens 3T"), or of any other: "model folder#Siemens 3T"."""
        if isinstance(target, str) and "#" in target:
            model, _, site = target.rpartition("#")
            return cls(site.strip(), Path(model), **parameters)
        return super().for_target(target, **parameters)

    def __post_init__(self):
        self._card, self._weights = load_model(_model_folder(self.model), SYSTEM)
        sites = self._card.sites
        if self.site not in sites:
            near = difflib.get_close_matches(str(self.site), sites, 1)
            hint = f"did you mean '{near[0]}'?" if near else f"it knows: {', '.join(sites)}"
            raise InputError(f"the model '{self._card.title}' does not know a scanner '{self.site}'; {hint}")

    def check(self, scan: Scan) -> None:
        super().check(scan)
        if np.mean(scan.array < 0) > MOST_NEGATIVE:
            raise InputError(
                f"'{scan.name}' has negative intensities, as after a standardisation; {self.card.title} needs the scan "
                "as the scanner stored it"
            )

    def _harmonize(self, scan: Scan, body: np.ndarray, progress: Progress, cancelled: CancelCheck) -> np.ndarray:
        array = scan.array
        level = body_level(array, body)
        if level <= 0:
            raise InputError(f"the body in '{scan.name}' is dark throughout; check the file")
        network = self._network()
        # Permuted and flipped, never interpolated, so that front and left are where they were in training.
        axial = sitk.DICOMOrient(scan.image, "LPS")
        body_axial = sitk.DICOMOrient(images.mask_image(body, scan.image), "LPS")
        spacing = float(self._card.preprocessing.get("spacing_mm", 1.0))
        in_plane = axial.GetSpacing()[:2]
        as_it_is = max(max(s / spacing, spacing / s) for s in in_plane) <= SIMILAR_SPACING
        grid = axial if as_it_is else images.grid_with_spacing(axial, (spacing, spacing, axial.GetSpacing()[2]))
        seen, inside = axial, body_axial
        if not as_it_is:
            seen = images.resample(axial, grid, outside=float(array.min()))
            inside = images.resample_mask(body_axial, grid)
        before = to_network(images.to_array(seen), level)
        after = _on_slices(
            network, before, sitk.GetArrayViewFromImage(inside) != 0, grid.GetSpacing(), progress, cancelled
        )
        change = images.to_image(from_network(after, OUTPUT_LEVEL) - from_network(before, OUTPUT_LEVEL), grid)
        if not as_it_is:
            change = images.resample(change, axial, sitk.sitkLinear)
        back = sitk.DICOMOrientImageFilter.GetOrientationFromDirectionCosines(scan.image.GetDirection())
        change = images.to_array(sitk.DICOMOrient(change, back))
        return array * np.float32(OUTPUT_LEVEL / level) + np.where(body, change, 0)

    def _network(self):
        """Encoder, and decoder told the site, as one network of images."""
        try:
            from .network import Translator
        except ImportError as error:
            raise ModelError(f"{self.card.title} needs PyTorch; install it: pip install torch safetensors") from error
        return Translator.from_weights(self._weights, self._card.sites.index(self.site), len(self._card.sites))


def sites(model: Path | str = SHIPPED) -> tuple[str, ...]:
    """The scanners that a model can harmonize to. Raises ModelError where there is no such model."""
    return load_model(_model_folder(model), SYSTEM)[0].sites


def _model_folder(model: Path | str) -> Path:
    if model != SHIPPED:
        return Path(model)
    try:
        return folder("Models") / SHIPPED
    except FileNotFoundError:
        raise ModelError(
            "no model of HarMOnAE ships with this installation; train one with `harmonize train harmonae`, and give it "
            "as FOLDER#SITE"
        ) from None


def _on_slices(network, before: np.ndarray, inside: np.ndarray, spacing_mm, progress, cancelled) -> np.ndarray:
    """The network's result on the slices (z, y, x) that show the body; the others as they were."""
    from ...networks.inference import run_on_slices
    from .network import MULTIPLE

    margin = int(np.ceil(MARGIN_MM / min(spacing_mm[:2])))
    z, y, x = images.bounding_box(inside)
    rows, columns = (slice(max(s.start - margin, 0), s.stop + margin) for s in (y, x))
    part = before[z, rows, columns]
    shown = np.flatnonzero(inside[z].any(axis=(1, 2)))
    # Filled up with air to what the encoder can halve twice.
    short = [(-n) % MULTIPLE for n in part.shape[1:]]
    padded = np.pad(part[shown], [(0, 0), *((0, n) for n in short)], constant_values=-1.0)
    after = run_on_slices(network, padded[:, None], progress=progress, cancelled=cancelled)[:, 0]
    result = before.copy()
    result[z, rows, columns][shown] = after[:, : part.shape[1], : part.shape[2]]
    return result
