"""The paired baselines applied: an MR scan as a chosen scanner would have shown it, whatever scanner took it.

Sources: Dewey et al. (DeepHarmony), Magn Reson Imaging 64:160, 2019; Isola et al. (Pix2Pix), CVPR 2017.
"""

from __future__ import annotations

import dataclasses
from typing import ClassVar

from ...scan import Modality, TargetKind
from ..axial_slices import AxialTranslation
from ..base import MethodCard


@dataclasses.dataclass
class Paired(AxialTranslation):
    """A U-Net trained on pairs, alone or against a judge (Pix2Pix).

    It is applied exactly as HarMOnAE is (scaling, spacing, what lies outside the body), so that a comparison of the two
    compares networks and nothing else.

    site: the scanner to harmonize to, one of the model's. model: its folder; none ships.
    """

    card: ClassVar[MethodCard] = MethodCard(
        name="paired",
        title="Paired U-Net",
        summary="Shows a T1-weighted brain as a chosen scanner would have; learnt from people whom all scanners saw.",
        modalities=frozenset({Modality.MR}),
        target=TargetKind.SITE,
        keeps_scale=False,
        pointwise=False,
        citation="Dewey et al., Magn Reson Imaging 64:160-170, 2019; Isola et al., CVPR 2017",
    )
