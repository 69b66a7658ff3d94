"""PET resolution matching: blurs a scan to a common resolution, as EARL asks of the sites of a trial."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import numpy as np
from scipy import ndimage

from .. import images
from ..body import body_mask
from ..errors import InputError
from ..physics import pet_resolution
from ..progress import CancelCheck, Progress, stop_if
from ..scan import Modality, Role, Scan, TargetKind
from .base import Harmonizer, MethodCard, statistics_mask

ESTIMATES = ("noise", "edges")
TOLERANCE = 0.05  # a target this much finer than the source is within the error of the measurement
MARGIN_MM = 10.0  # noise is measured this far inside the outline of a structure or the body, away from its edge


@dataclasses.dataclass
class ResolutionMatching(Harmonizer):
    """Gaussian smoothing by sqrt(target^2 - source^2) along each axis; SUV are kept.

    EARL accredits PET systems whose recovery coefficients on the NEMA phantom lie in a common band, so that SUV compare
    between sites: EARL 1 for older systems, EARL 2 for time of flight and point spread modelling. A finer
    reconstruction is smoothed until it lies in the band; which FWHM a scanner needs for it, its phantom tells.
    Resolution cannot be added: where the scan is the coarser one, the other scan is the one to harmonize.

    target: FWHM in mm, or a reference Scan in SUV.
    source_fwhm_mm: the scan's own FWHM where its phantom measurement is known; None measures it on the scan.
    estimate: how a reference scan is compared. "noise": the smoothness of the noise, inside structures marked as
        reference (liver), else in the calmer half of the body; it sees the post-filter, whatever the anatomy.
        "edges": the sharpness of the outlines of body and organs; as a target in mm, always, is compared.

    Sources: Boellaard et al., EJNMMI 42:328, 2015; Kaalep et al., EJNMMI 45:1344, 2018; physics/pet_resolution.py.
    """

    card: ClassVar[MethodCard] = MethodCard(
        name="resolution-matching",
        title="PET resolution matching",
        summary="Smooths a PET scan to a target resolution (as EARL does between sites), so that SUV compare.",
        modalities=frozenset({Modality.PET}),
        target=TargetKind.RESOLUTION,
        keeps_scale=True,
        pointwise=False,
        whole_image=True,
        citation="Boellaard et al., EJNMMI 42:328, 2015; Kaalep et al., EJNMMI 45:1344, 2018",
        reference="a uniform organ, such as the liver",
    )

    target: float | Scan
    source_fwhm_mm: float | None = None
    estimate: str = "noise"

    def check(self, scan: Scan) -> None:
        super().check(scan)
        if self.estimate not in ESTIMATES:
            raise InputError(f"estimate '{self.estimate}' is unknown; use one of: {', '.join(ESTIMATES)}")
        for value in (self.source_fwhm_mm, None if isinstance(self.target, Scan) else self.target):
            if value is not None and not (np.isfinite(value) and 0 < value < 50):
                raise InputError(f"a resolution of {value} mm is not possible; give a FWHM in mm, such as 7")
        if isinstance(self.target, Scan) and self.target.modality is not Modality.PET:
            raise InputError(
                f"the target '{self.target.name}' is {self.target.modality.value}; choose a PET scan or a FWHM in mm"
            )
        for pet in (scan, self.target):
            if isinstance(pet, Scan) and pet.units != "SUV":
                raise InputError(
                    f"'{pet.name}' is in {pet.units or 'unknown units'}; resolution matching needs SUV. Multiply Bq/ml "
                    "by the patient's weight in g and divide by the dose in Bq, decayed to the time of the scan "
                    "(in Slicer: PET Standard Uptake Value Computation, or read the DICOM series), and state units SUV"
                )

    def blur_fwhm_mm(self, scan: Scan, body: np.ndarray) -> tuple[float, float, float]:
        """The FWHM of the smoothing along (x, y, z); `body` is the scan's patient mask (z, y, x)."""
        if isinstance(self.target, Scan) and self.estimate == "noise" and self.source_fwhm_mm is None:
            source = np.array(_noise_fwhm_mm(scan, body))
            target = np.array(_noise_fwhm_mm(self.target, body_mask(self.target)))
        else:
            source = np.full(3, self.source_fwhm_mm or _edge_fwhm_mm(scan, body))
            wanted = self.target
            if isinstance(wanted, Scan):
                wanted = _edge_fwhm_mm(wanted, body_mask(wanted))
            target = np.full(3, wanted)
        if np.mean(target**2) < np.mean(((1 - TOLERANCE) * source) ** 2):
            raise InputError(
                f"'{scan.name}' has a resolution of {np.sqrt(np.mean(source**2)):.1f} mm ({self._measured_by()}), "
                f"coarser than the target of {np.sqrt(np.mean(target**2)):.1f} mm, and resolution cannot be added; "
                "choose a coarser target, or harmonize the other scan to this one"
            )
        return tuple(float(v) for v in np.sqrt(np.maximum(target**2 - source**2, 0)))

    def _measured_by(self) -> str:
        if self.source_fwhm_mm is not None:
            return "as given"
        return f"measured by {self.estimate if isinstance(self.target, Scan) else 'edges'}"

    def _harmonize(self, scan: Scan, body: np.ndarray, progress: Progress, cancelled: CancelCheck) -> np.ndarray:
        progress(0.0, "measuring the resolution")
        fwhm_mm = self.blur_fwhm_mm(scan, body)
        stop_if(cancelled)
        progress(0.5, f"smoothing by {max(fwhm_mm):.1f} mm")
        return pet_resolution.gaussian_blur(scan.array, fwhm_mm, scan.spacing_mm)


def _edge_fwhm_mm(scan: Scan, body: np.ndarray) -> float:
    try:
        return pet_resolution.edge_fwhm_mm(scan.array, body, scan.spacing_mm)
    except InputError as error:
        raise InputError(f"'{scan.name}': {error}") from None


def _noise_fwhm_mm(scan: Scan, body: np.ndarray) -> tuple[float, float, float]:
    """Noise smoothness in the reference structures, else in the calmer half of the inner body."""
    array, reference = scan.array, scan.with_role(Role.REFERENCE)
    mask = np.pad(statistics_mask(scan, body), 1)  # the border of the volume is an outline too
    mask = images.distance_mm(~mask, scan.spacing_mm)[1:-1, 1:-1, 1:-1] > MARGIN_MM
    if mask.any() and not reference:
        smooth = ndimage.gaussian_filter(array, [6.0 / s for s in scan.spacing_mm[::-1]])
        slope = np.stack(np.gradient(smooth, *scan.spacing_mm[::-1]))
        unrest = np.sqrt((slope**2).sum(0)) / np.maximum(smooth, 1e-3)
        mask &= unrest <= np.median(unrest[mask])
    try:
        return pet_resolution.noise_fwhm_mm(array, mask, scan.spacing_mm)
    except InputError as error:
        raise InputError(f"'{scan.name}': {error}") from None
