"""The list of methods: panel, command line and documentation are filled from it. A new method is one line here."""

from __future__ import annotations

import difflib
from pathlib import Path

from ..errors import InputError
from ..files.reading import read_scan
from ..scan import Modality, TargetKind
from .base import Harmonizer, MethodCard
from .kernel_matching import KernelMatching
from .preparation import BiasFieldCorrection
from .resolution_matching import ResolutionMatching
from .statistical import HistogramMatching, Nyul, WhiteStripe, ZScore

METHODS: tuple[type[Harmonizer], ...] = (
    HistogramMatching,
    WhiteStripe,
    Nyul,
    ZScore,
    BiasFieldCorrection,
    KernelMatching,
    ResolutionMatching,
)


def cards(modality: Modality | None = None) -> list[MethodCard]:
    """The cards of all methods, or of those that fit a modality."""
    return [m.card for m in METHODS if modality is None or modality in m.card.modalities]


def method(name: str) -> type[Harmonizer]:
    """The class of a method by its name. Raises InputError that lists the names for an unknown one."""
    for candidate in METHODS:
        if candidate.card.name == name:
            return candidate
    names = [m.card.name for m in METHODS]
    near = difflib.get_close_matches(name, names, 1)
    hint = f"did you mean '{near[0]}'?" if near else f"there are: {', '.join(names)}"
    raise InputError(f"there is no method '{name}'; {hint}")


def target_from_text(card: MethodCard, text: str, modality: Modality) -> object:
    """What a user typed as target, as `Harmonizer.for_target` takes it: a scan, a number, a path or a name.

    A reference scan may carry its segmentation behind a comma: `reference.nii.gz,reference.seg.nrrd`.
    """
    volume, _, segmentation = text.partition(",")
    if card.target is TargetKind.MODEL:
        return Path(text)
    if card.target is TargetKind.SCAN or (
        card.target in (TargetKind.KERNEL, TargetKind.RESOLUTION) and Path(volume).exists()
    ):
        return read_scan(volume, modality=modality, segmentation=segmentation or None)
    if card.target is TargetKind.RESOLUTION:
        try:
            return float(text)
        except ValueError:
            raise InputError(f"target '{text}' is neither a number of mm nor an existing reference scan") from None
    return text
