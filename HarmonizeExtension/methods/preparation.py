"""Steps that may come before a harmonizer: bias field correction and resampling to a common grid."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, Protocol

import numpy as np
import SimpleITK as sitk

from .. import images
from ..errors import Cancelled, InputError
from ..progress import CancelCheck, Progress, never, silent, stop_if
from ..scan import Modality, Role, Scan, TargetKind
from .base import Harmonizer, MethodCard, statistics_mask

MINIMUM_BLOCKS = 10  # fewer hold no field


class Step(Protocol):
    """Anything that turns a scan into a scan; every harmonizer is one."""

    def apply(self, scan: Scan, progress: Progress = silent, cancelled: CancelCheck = never) -> Scan: ...


@dataclasses.dataclass
class BiasFieldCorrection(Harmonizer):
    """N4: divides out the smooth intensity field of the coils.

    Source: Tustison et al., N4ITK: improved N3 bias correction, IEEE TMI 29:1310-1320, 2010.

    fitting_levels: levels of the B-spline field, each twice as fine as the one before.
    iterations: most iterations at each level.
    working_spacing_mm: the field is estimated on averages over blocks of this size and evaluated on the scan's grid.

    The defaults are measured on simulated heads whose field is known: a finer field or grid follows the anatomy and
    leaves more shading in white matter, not less, and takes several times as long.
    """

    fitting_levels: int = 3
    iterations: int = 50
    working_spacing_mm: float = 7.0

    card: ClassVar[MethodCard] = MethodCard(
        name="n4",
        title="N4 bias field correction",
        summary="Removes the slow shading that receive coils leave; often the first step before another method.",
        modalities=frozenset({Modality.MR}),
        target=TargetKind.NONE,
        keeps_scale=True,
        pointwise=False,
        citation="Tustison et al., IEEE TMI 29:1310-1320, 2010",
        reference="brain or body, where the field is to be estimated",
    )

    def _harmonize(self, scan: Scan, body: np.ndarray, progress: Progress, cancelled: CancelCheck) -> np.ndarray:
        image = sitk.Cast(scan.image, sitk.sitkFloat32)
        lowest = float(sitk.GetArrayViewFromImage(image).min())
        positive = image - (lowest - 1.0) if lowest <= 0 else image
        shrink = [
            max(1, min(round(self.working_spacing_mm / s), n // 8))
            for s, n in zip(scan.spacing_mm, image.GetSize(), strict=True)
        ]
        small = sitk.BinShrink(positive, shrink)
        inside = sitk.BinShrink(images.mask_image(statistics_mask(scan, body), scan.image) * 255, shrink) > 127
        if np.count_nonzero(sitk.GetArrayViewFromImage(inside)) < MINIMUM_BLOCKS:
            where = " and ".join(f"'{s.name}'" for s in scan.with_role(Role.REFERENCE)) or "the body"
            raise InputError(
                f"{where} of '{scan.name}' is too small to estimate a bias field in; mark a larger reference structure"
            )
        n4 = sitk.N4BiasFieldCorrectionImageFilter()
        n4.SetMaximumNumberOfIterations([self.iterations] * self.fitting_levels)
        stopped = []

        def report():
            # An exception cannot pass through the library: it is kept until the library has stopped.
            try:
                stop_if(cancelled)
                level = min(n4.GetCurrentLevel() + n4.GetElapsedIterations() / self.iterations, self.fitting_levels)
                progress(0.9 * level / self.fitting_levels, self.card.title)
            except Cancelled as request:
                stopped.append(request)
                n4.Abort()

        n4.AddCommand(sitk.sitkIterationEvent, report)
        n4.Execute(small, inside)
        if stopped:
            raise stopped[0]
        field = np.exp(sitk.GetArrayFromImage(n4.GetLogBiasFieldAsImage(image)))
        # The field has no scale of its own: keep the mean intensity of the body.
        corrected = scan.array / field
        return corrected * (scan.array[body].mean(dtype=float) / corrected[body].mean(dtype=float))


@dataclasses.dataclass
class Resampling:
    """Resamples a scan and its structures to a common voxel size (B-spline for the image, nearest for masks).

    spacing_mm: voxel size (x, y, z); the box in space stays the same.
    """

    spacing_mm: tuple[float, float, float]

    def __post_init__(self):
        if not (np.isfinite(self.spacing_mm).all() and min(self.spacing_mm) > 0):
            raise InputError(f"spacing {self.spacing_mm} mm is not possible; give positive numbers")

    def apply(self, scan: Scan, progress: Progress = silent, cancelled: CancelCheck = never) -> Scan:
        """The scan on the new grid. Raises InputError where a structure has no voxel left on it."""
        stop_if(cancelled)
        progress(0.0, "Resampling")
        grid = images.grid_with_spacing(scan.image, self.spacing_mm)
        before = scan.array
        # Voxel centres of the new grid may lie half a voxel outside the old ones: continue the edge, and never
        # overshoot the range of the scan, as splines do at strong edges.
        image = sitk.Resample(
            images.to_image(before, scan.image),
            grid,
            sitk.Transform(),
            sitk.sitkBSpline,
            float(before.min()),
            sitk.sitkFloat32,
            True,
        )
        image = sitk.Clamp(image, sitk.sitkFloat32, float(before.min()), float(before.max()))
        structures = {}
        for name, structure in scan.structures.items():
            mask = images.resample_mask(structure.mask, grid)
            if structure.array.any() and not sitk.GetArrayViewFromImage(mask).any():
                raise InputError(
                    f"structure '{name}' is smaller than a voxel of {self.spacing_mm} mm; choose a finer grid"
                )
            structures[name] = dataclasses.replace(structure, mask=mask)
        entry = {"method": "resampling", "parameters": {"spacing_mm": [float(v) for v in self.spacing_mm]}}
        progress(1.0, "Resampling")
        return dataclasses.replace(scan, image=image, structures=structures, provenance=(*scan.provenance, entry))
