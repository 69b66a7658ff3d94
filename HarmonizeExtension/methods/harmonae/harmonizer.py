"""HarMOnAE applied: an MR scan as a chosen scanner would have shown it, whatever scanner took it.

Source: Fatania et al., Phys Imaging Radiat Oncol 2022. The encoder needs no knowledge of the scan's own scanner.
"""

from __future__ import annotations

import dataclasses
from typing import ClassVar

from ...scan import Modality, TargetKind
from ..axial_slices import AxialTranslation
from ..base import MethodCard


@dataclasses.dataclass
class Harmonae(AxialTranslation):
    """The style-blind auto-encoder.

    site: the scanner to harmonize to, one of the model's. model: its folder; nothing for the one that ships.
    """

    card: ClassVar[MethodCard] = MethodCard(
        name="harmonae",
        title="HarMOnAE",
        summary="Shows a T1-weighted brain as a chosen scanner would have; the scan's own scanner may be unknown.",
        modalities=frozenset({Modality.MR}),
        target=TargetKind.SITE,
        keeps_scale=False,
        pointwise=False,
        citation="Fatania et al., Phys Imaging Radiat Oncol 22:115-122, 2022",
    )
    shipped: ClassVar[str] = "harmonae-brain-t1"
