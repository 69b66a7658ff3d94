"""The paired baselines applied: an MR scan as a chosen scanner would have shown it, whatever scanner took it.

Sources: Dewey et al. (DeepHarmony), Magn Reson Imaging 64:160, 2019; Isola et al. (Pix2Pix), CVPR 2017.
"""

from __future__ import annotations

import dataclasses
import difflib
from pathlib import Path
from typing import ClassVar

from ...errors import InputError, ModelError
from ...files.models import load_model
from ...scan import Modality, TargetKind
from ..base import MethodCard
from ..harmonae.harmonizer import Harmonae

SYSTEM = "paired"


@dataclasses.dataclass
class Paired(Harmonae):
    """A U-Net trained on pairs, alone or against a judge (Pix2Pix), on axial slices.

    It is applied exactly as HarMOnAE is (scaling, spacing, what lies outside the body), so that a comparison of the two
    compares networks and nothing else.

    site: the scanner to harmonize to, one of the model's. model: its folder; none ships.
    """

    site: str
    model: Path | str = dataclasses.field()  # no default; without this line it would be that of HarMOnAE

    card: ClassVar[MethodCard] = MethodCard(
        name=SYSTEM,
        title="Paired U-Net",
        summary="Shows a T1-weighted brain as a chosen scanner would have; learnt from people whom all scanners saw.",
        modalities=frozenset({Modality.MR}),
        target=TargetKind.SITE,
        keeps_scale=False,
        pointwise=False,
        citation="Dewey et al., Magn Reson Imaging 64:160-170, 2019; Isola et al., CVPR 2017",
    )

    @classmethod
    def for_target(cls, target: object = None, **parameters) -> Paired:
        """For a site of a model: "model folder#Siemens 3T"."""
        if isinstance(target, str) and "#" not in target and "model" not in parameters:
            raise InputError(f"{cls.card.title} needs a model and a scanner, as FOLDER#SCANNER, not '{target}'")
        return super().for_target(target, **parameters)

    def __post_init__(self):
        self._card, self._weights = load_model(self.model, SYSTEM)
        sites = self._card.sites
        if self.site not in sites:
            near = difflib.get_close_matches(str(self.site), sites, 1)
            hint = f"did you mean '{near[0]}'?" if near else f"it knows: {', '.join(sites)}"
            raise InputError(f"the model '{self._card.title}' does not know a scanner '{self.site}'; {hint}")

    def _network(self):
        """The U-Net, told the site, as one network of images."""
        try:
            from .network import Translator
        except ImportError as error:
            raise ModelError(f"{self.card.title} needs PyTorch; install it: pip install torch safetensors") from error
        return Translator.from_weights(self._weights, self._card.sites.index(self.site), len(self._card.sites))
