"""The PET CycleGAN applied: a scan in SUV as a chosen centre's scanner and reconstruction would have shown it.

Source: Haberl et al., EJNMMI 2024, where windows of 128 x 128 x 64 overlap by 0.85.
"""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import numpy as np
import SimpleITK as sitk
from scipy import ndimage

from ... import images
from ...body import body_mask
from ...errors import InputError
from ...guard import Check, Status
from ...physics.pet_resolution import FWHM_PER_SIGMA
from ...progress import CancelCheck, Progress, part, stop_if
from ...scan import Modality, Scan, TargetKind
from ..base import MethodCard
from ..site_model import SiteModel
from .suv_scale import SuvScale

MARGIN_MM = 24.0  # around the body, so that its outline lies inside of the windows
KEPT_FWHM_MM = 40.0  # activity over such lengths is no matter of blur or noise
NOISE_SEED = 20240325  # one draw for all scans: the same scan gives the same result
UNSURE = (0.25, 0.75)  # of the way from this centre to the other; between, a scan gets a part of the change
DETAIL_BEYOND = 1.5  # times what was learnt; from there on the result asks for a look
WINDOW = {"small": (64, 64, 64), "published": (64, 128, 128)}  # voxels z, y, x


@dataclasses.dataclass
class Cyclegan(SiteModel):
    """GAN-harmonization of whole-body PET to a centre, whichever of the two the scan is from.

    The scan is seen at the spacing of the training, and the change is brought back to the scan's grid. What the network
    does to activity over several centimetres is taken off again: a scanner's blur moves activity by millimetres, and
    noise makes none. So the mean SUV of an organ stays, while edges, SUVmax and texture follow the centre. SUV above
    the network's scale (25) pass through on top of the change. A scan whose noise and detail are those of the centre
    already is left alone.

    site: the centre. model: its folder. overlap: share of a window that the next one covers again. Small networks look
        no further than what 0.25 covers, so that nothing changes by more (measured: 37 times fewer windows of a whole
        body than at the published 0.85, no difference in SUV; at 0.125 up to 9.5 %). The published networks normalise
        each window by itself; give them 0.75 and more.
    """

    overlap: float = 0.25

    shipped: ClassVar[str] = "cyclegan-pet"

    card: ClassVar[MethodCard] = MethodCard(
        name="cyclegan",
        title="PET CycleGAN",
        summary="Shows a whole-body PET scan with the sharpness and noise of a chosen centre; organ means are kept.",
        modalities=frozenset({Modality.PET}),
        target=TargetKind.SITE,
        keeps_scale=True,
        pointwise=False,
        citation="Haberl et al., Eur J Nucl Med Mol Imaging 51:2532-2546, 2024",
    )

    def check(self, scan: Scan) -> None:
        super().check(scan)
        if not 0 <= self.overlap < 1:
            raise InputError(f"an overlap of {self.overlap} is not possible; give a share from 0 to below 1")
        if scan.units != "SUV":
            raise InputError(
                f"'{scan.name}' is in {scan.units or 'unknown units'}; {self.card.title} needs SUV. Multiply Bq/ml by "
                "the patient's weight in g and divide by the dose in Bq, decayed to the time of the scan, and state "
                "units SUV"
            )

    def doubts(self, scan: Scan) -> tuple[Check, ...]:
        """Whether noise or detail are far stronger or weaker than in the scans that the model has learnt from.

        Says besides how much of the change was made, where the scan is near to the centre already.
        """
        if "detail" not in self._card.preprocessing:
            return ()
        _, near, grid = self._near(scan, body_mask(scan))
        seen = SuvScale().to_network(images.to_array(images.resample(near, grid)))
        found = self._room().detail_strength(seen)
        share = self._share(found)
        low, high = np.array(self._card.preprocessing["detail_range"])
        # Half of the logarithm of an energy is that of an amplitude.
        weaker, stronger = (float(np.exp(np.max(away) / 2)) for away in (low - found, found - high))
        worst = max(weaker, stronger, 1.0)
        status = Status.PASS if worst < DETAIL_BEYOND else Status.REVIEW
        text = "noise and detail are as strong as in scans that the model has learnt from"
        if status is Status.REVIEW:
            how = "weaker" if weaker > stronger else "stronger"
            text = f"noise or detail is {worst:.2g} times {how} than in any scan that the model has learnt from"
        checks = [Check("noise and detail", worst, status, text, "times", review=DETAIL_BEYOND)]
        if share < 1:
            text = f"noise and detail are near those of {self.site} or beyond: {share:.0%} of the usual change was made"
            checks.append(Check("change made", share, Status.PASS, text))
        return tuple(checks)

    def _share(self, found: np.ndarray) -> float:
        """How much of the change a scan of this `detail_strength` needs: 1 if of the other centre, 0 if of this one."""
        usual = {name: np.array(values) for name, values in self._card.preprocessing["detail"].items()}
        own = usual.pop(self.site)
        way = np.mean(list(usual.values()), axis=0) - own
        place = (found - own) @ way / (way @ way)
        low, high = UNSURE
        return float(np.clip((place - low) / (high - low), 0, 1))

    def _harmonize(self, scan: Scan, body: np.ndarray, progress: Progress, cancelled: CancelCheck) -> np.ndarray:
        network = self._network()
        from ...networks.sliding_window import run_on_windows

        # Trained on patches mirrored along every axis, so that it does not matter how the patient lies in the array.
        box, near, grid = self._near(scan, body)
        suv = images.to_array(images.resample(near, grid))
        stop_if(cancelled)
        scale = SuvScale.of(self._card.preprocessing["scale"], suv)
        seen = scale.to_network(suv)
        share = self._share(self._room().detail_strength(seen)) if "detail" in self._card.preprocessing else 1.0
        if not share:
            return scan.array
        channels = [seen]
        if network.channels_in == 2:
            channels.append(np.random.default_rng(NOISE_SEED).standard_normal(seen.shape, dtype=np.float32))
        shown = np.stack(channels)
        window = WINDOW[self._card.preprocessing["size"]]
        after, _ = run_on_windows(
            network.tuned(shown), shown, window, self.overlap, progress=part(progress, 0.05, 0.95), cancelled=cancelled
        )
        change = scale.to_suv(after) - scale.to_suv(seen)
        change *= np.float32(share)
        change -= ndimage.gaussian_filter(
            change, KEPT_FWHM_MM / FWHM_PER_SIGMA / self._card.preprocessing["spacing_mm"], truncate=3.0
        )
        back = images.resample(images.to_image(change, grid), near)
        result = scan.array
        # No activity is negative, where the scan has none that is.
        result[box] = np.maximum(result[box] + sitk.GetArrayViewFromImage(back), np.minimum(result[box], 0))
        return result

    def _near(self, scan: Scan, body: np.ndarray) -> tuple[tuple[slice, ...], sitk.Image, sitk.Image]:
        """Where the body is (z, y, x), that part of the scan, and the grid on which the network sees it."""
        z, y, x = box = self._box(scan, body)
        near = scan.image[x, y, z]
        return box, near, images.grid_with_spacing(near, (float(self._card.preprocessing["spacing_mm"]),) * 3)

    def _box(self, scan: Scan, body: np.ndarray) -> tuple[slice, ...]:
        """The part (z, y, x) around the body; the whole scan where no body was found."""
        if not body.any():
            return tuple(slice(0, n) for n in body.shape)
        margins = [int(np.ceil(MARGIN_MM / s)) for s in scan.spacing_mm[::-1]]
        tight = images.bounding_box(body)
        return tuple(
            slice(max(s.start - m, 0), min(s.stop + m, n)) for s, m, n in zip(tight, margins, body.shape, strict=True)
        )

    def _network(self):
        """The generator towards the centre."""
        return self._room().from_weights(self._weights, self._card.preprocessing["size"], self.site)
