"""What a network sees of a scan, and the way back from its grid for a map."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
import SimpleITK as sitk

from .. import images
from ..body import body_mask
from ..scan import Scan

MARGIN_MM = 10.0  # of what lies around the patient, as networks see it in training
SIMILAR_SPACING = 1.25  # up to this ratio to the trained spacing voxels are taken as they are


@dataclasses.dataclass(frozen=True)
class View:
    """The part of a scan around the patient, axial slices from feet to head, in intensities of the network.

    array: (z, y, x) float32, filled up with `air` behind the last row and column to the sizes that a network takes.
    box: where it lies on `grid`, without what was filled up. grid: upright (LPS), at the spacing of the network.
    """

    array: np.ndarray
    grid: sitk.Image
    box: tuple[slice, ...]

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Voxel size (x, y, z) in mm."""
        return self.grid.GetSpacing()

    def to_scan(self, found: np.ndarray, scan: Scan) -> sitk.Image:
        """A map (z, y, x) on the view as an image on the scan's grid, float32; 0 where the network did not look."""
        whole = np.zeros(self.grid.GetSize()[::-1], np.float32)
        whole[self.box] = found[tuple(slice(0, s.stop - s.start) for s in self.box)]
        return images.resample(images.to_image(whole, self.grid), scan.image, sitk.sitkLinear)


def view(
    scan: Scan,
    scaled: Callable[[np.ndarray, np.ndarray], np.ndarray],
    spacing_mm: Sequence[float] = (0, 0, 0),
    air: float = -1.0,
    multiple: int = 1,
    smallest: int = 1,
    body: np.ndarray | None = None,
) -> View:
    """See a scan as a network does.

    scaled: from intensities and body mask (both z, y, x) to the network's intensities. spacing_mm: (x, y, z) that the
    network was trained at; 0 where it takes any. multiple, smallest: of y and x, in voxels. body: mask (z, y, x) of the
    patient on the scan's grid, found where it is not given; two scans on one grid are seen alike with the same.
    """
    body = body_mask(scan) if body is None else body
    array = np.asarray(scaled(scan.array, body), np.float32)
    # Permuted and flipped, never interpolated, so that front and left are where they were in training.
    seen = sitk.DICOMOrient(images.to_image(array, scan.image), "LPS")
    inside = sitk.DICOMOrient(images.mask_image(body, scan.image), "LPS")
    own = seen.GetSpacing()
    wanted = [w if w and max(w / s, s / w) > SIMILAR_SPACING else s for w, s in zip(spacing_mm, own, strict=True)]
    if wanted != list(own):
        grid = images.grid_with_spacing(seen, tuple(wanted))
        seen, inside = images.resample(seen, grid, outside=air), images.resample_mask(inside, grid)
    array, shown = sitk.GetArrayFromImage(seen), sitk.GetArrayFromImage(inside) != 0
    if not shown.any():
        shown[:] = True
    margins = [0, *(int(np.ceil(MARGIN_MM / s)) for s in seen.GetSpacing()[1::-1])]
    box = tuple(
        slice(max(s.start - m, 0), min(s.stop + m, n))
        for s, m, n in zip(images.bounding_box(shown), margins, array.shape, strict=True)
    )
    cut = array[box]
    short = [0, *(max(smallest - n, 0) + -max(smallest, n) % multiple for n in cut.shape[1:])]
    return View(np.pad(cut, [(0, n) for n in short], constant_values=air), seen, box)
