"""Networks of axial slices, applied to MR scans: intensities, spacing, direction and air as they were in training."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import SimpleITK as sitk

from .. import images
from ..errors import InputError
from ..networks.intensity import body_level, from_network, to_network
from ..progress import CancelCheck, Progress
from ..scan import Scan
from .site_model import SiteModel

OUTPUT_LEVEL = 1000.0  # what the robust maximum becomes: one scale for all results, easy on the eye
MARGIN_MM = 10.0  # of air around what is shown, as in training
SIMILAR_SPACING = 1.25  # up to this ratio to the trained spacing slices are taken as they are
MOST_NEGATIVE = 0.05  # of the voxels; magnitude images have none


class AxialTranslation(SiteModel):
    """Base of the methods that show an MR scan as another scanner would have, slice by slice on axial slices.

    Intensities are scaled by the 99.5th percentile of the body, as in training. What lies above passes through on top
    of the result; voxels outside the body keep their value, on the new scale, where the percentile is 1000. Slices
    whose voxels are much finer or coarser than those in training are harmonized at the trained spacing, and the change
    is brought back to the scan's grid, so that detail finer than the network knows is kept.

    Slices are axial, as in training. On one simulated person at 1.2 mm the mean of three planes came 1.2 dB nearer to
    the truth than axial slices alone, in part because it smooths, for 2.6 times the time
    (Testing/benchmarks/mri_planes.py).
    """

    def check(self, scan: Scan) -> None:
        super().check(scan)
        check_magnitude(scan, self.card.title)

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
        shown = sitk.GetArrayViewFromImage(inside) != 0
        after = run_where_shown(
            network, before[:, None], shown, grid.GetSpacing(), self._room().MULTIPLE, -1.0, progress, cancelled
        )[:, 0]
        change = images.to_image(from_network(after, OUTPUT_LEVEL) - from_network(before, OUTPUT_LEVEL), grid)
        if not as_it_is:
            change = images.resample(change, axial, sitk.sitkLinear)
        back = sitk.DICOMOrientImageFilter.GetOrientationFromDirectionCosines(scan.image.GetDirection())
        change = images.to_array(sitk.DICOMOrient(change, back))
        return array * np.float32(OUTPUT_LEVEL / level) + np.where(body, change, 0)


def check_magnitude(scan: Scan, title: str) -> None:
    """Raise InputError where a scan is no magnitude image, as a scanner stores it; `title` names the method."""
    if np.mean(scan.array < 0) > MOST_NEGATIVE:
        raise InputError(
            f"'{scan.name}' has negative intensities, as after a standardisation; {title} needs the scan as the "
            "scanner stored it"
        )


def run_where_shown(
    network,
    seen: np.ndarray,
    shown: np.ndarray,
    spacing_mm: Sequence[float],
    multiple: int,
    air: float,
    progress: Progress,
    cancelled: CancelCheck,
) -> np.ndarray:
    """A network's result (z, channel, y, x), float32, on the part of the slices around what is to be harmonized.

    seen: (z, channel, y, x). shown: mask (z, y, x); slices without any of it are not run. spacing_mm: x, y, z.
    multiple: of which y and x must be, for the network; they are filled up with `air`. What is not run is the first
    channel of `seen` in every channel of the result.
    """
    from ..networks.inference import run_on_slices

    margin = int(np.ceil(MARGIN_MM / min(spacing_mm[:2])))
    _, y, x = images.bounding_box(shown)
    rows, columns = (slice(max(s.start - margin, 0), s.stop + margin) for s in (y, x))
    slices = np.flatnonzero(shown.any(axis=(1, 2)))
    cut = seen[slices][:, :, rows, columns]
    short = [(-n) % multiple for n in cut.shape[2:]]
    padded = np.pad(cut, [(0, 0), (0, 0), *((0, n) for n in short)], constant_values=air)
    found = run_on_slices(network, padded, progress=progress, cancelled=cancelled)
    result = np.repeat(seen[:, :1], found.shape[1], axis=1)
    result[slices, :, rows, columns] = found[:, :, : cut.shape[2], : cut.shape[3]]
    return result
