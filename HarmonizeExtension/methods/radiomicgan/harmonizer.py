"""RadiomicGAN applied: a CT scan as a chosen reconstruction kernel would have shown it, whatever its own kernel.

Source: Selim et al., CT image harmonization for enhancing radiomics studies, 2021.
"""

from __future__ import annotations

import dataclasses
from typing import ClassVar

from ...scan import Modality, TargetKind
from ..base import MethodCard
from ..kernel_slices import KernelTranslation


@dataclasses.dataclass
class RadiomicGAN(KernelTranslation):
    """The generator of RadiomicGAN.

    site: the kernel to harmonize to, one of the model's. model: its folder; nothing for the one that ships.
    """

    shipped: ClassVar[str] = "radiomicgan-ct"

    card: ClassVar[MethodCard] = MethodCard(
        name="radiomicgan",
        title="RadiomicGAN",
        summary="Shows a CT scan as a chosen reconstruction kernel would have; the scan's own kernel may be unknown.",
        modalities=frozenset({Modality.CT}),
        target=TargetKind.KERNEL,
        keeps_scale=True,
        pointwise=False,
        whole_image=True,
        citation="Selim et al., CT image harmonization for enhancing radiomics studies, 2021",
    )
