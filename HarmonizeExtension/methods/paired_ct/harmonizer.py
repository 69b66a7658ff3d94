"""The paired CT baselines applied: a CT scan as a chosen reconstruction kernel would have shown it.

Sources: Choe et al., Radiology 292:365, 2019; Isola et al. (Pix2Pix), CVPR 2017; Liang et al. (GANai), 2019; Selim et
al. (STAN-CT), 2020.
"""

from __future__ import annotations

import dataclasses
from typing import ClassVar

from ...scan import Modality, TargetKind
from ..base import MethodCard
from ..kernel_slices import KernelTranslation


@dataclasses.dataclass
class PairedCT(KernelTranslation):
    """A residual CNN or a U-Net trained on pairs of reconstructions, alone or against judges.

    It is applied exactly as RadiomicGAN is, so that a comparison of the two compares networks and nothing else.

    site: the kernel to harmonize to, one of the model's. model: its folder; none ships.
    """

    card: ClassVar[MethodCard] = MethodCard(
        name="paired-ct",
        title="Paired CT network",
        summary="Shows a CT scan as a chosen reconstruction kernel would have; learnt from scans reconstructed twice.",
        modalities=frozenset({Modality.CT}),
        target=TargetKind.KERNEL,
        keeps_scale=True,
        pointwise=False,
        whole_image=True,
        citation="Choe et al., Radiology 292:365-373, 2019; Isola et al., CVPR 2017",
    )
