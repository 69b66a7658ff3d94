"""Methods whose network was trained for named sites (scanners, centres, kernels): which model, which of its sites."""

from __future__ import annotations

import dataclasses
import difflib
import importlib
from pathlib import Path
from types import ModuleType
from typing import ClassVar

from ..errors import InputError, ModelError
from ..files.models import load_model
from ..resources import shipped_model
from .base import Harmonizer


@dataclasses.dataclass
class SiteModel(Harmonizer):
    """Base of the methods that harmonize to a site of a trained model.

    Beside the subclass's file lies network.py, whose `Translator.from_weights(weights, site, sites)` is the network
    that shows an image as the site with that index would have.

    site: one of the model's. model: its folder; nothing for the one that ships.
    """

    site: str
    model: Path | str = ""

    shipped: ClassVar[str] = ""  # name of the folder in Resources/Models; empty where no model ships

    @classmethod
    def for_target(cls, target: object = None, **parameters) -> SiteModel:
        """For a site of the model that ships ("Siemens 3T"), or of any other: "model folder#Siemens 3T"."""
        if isinstance(target, str) and "#" in target:
            model, _, site = target.rpartition("#")
            return cls(site.strip(), Path(model), **parameters)
        return super().for_target(target, **parameters)

    @classmethod
    def sites(cls, model: Path | str = "") -> tuple[str, ...]:
        """The sites that a model, or the one that ships, can harmonize to. Raises ModelError where there is none."""
        return load_model(cls._folder(model or cls.shipped), cls.card.name)[0].sites

    def __post_init__(self):
        self.model = self.model or self.shipped
        self._card, self._weights = load_model(self._folder(self.model), self.card.name)
        sites = self._card.sites
        if self.site not in sites:
            near = difflib.get_close_matches(str(self.site), sites, 1)
            hint = f"did you mean '{near[0]}'?" if near else f"it knows: {', '.join(sites)}"
            raise InputError(f"the model '{self._card.title}' does not know '{self.site}'; {hint}")

    @classmethod
    def _folder(cls, model: Path | str) -> Path:
        if not model:
            raise InputError(f"no model of {cls.card.title} ships; give a trained one and its site, as FOLDER#SITE")
        return shipped_model(cls.shipped, cls.card.name) if model == cls.shipped else Path(model)

    def _room(self) -> ModuleType:
        """The system's network.py, which needs torch."""
        try:
            return importlib.import_module(".network", type(self).__module__.rpartition(".")[0])
        except ImportError as error:
            raise ModelError(f"{self.card.title} needs PyTorch; install it: pip install torch safetensors") from error

    def _network(self):
        """The network told the site, from images to images."""
        return self._room().Translator.from_weights(
            self._weights, self._card.sites.index(self.site), len(self._card.sites)
        )
