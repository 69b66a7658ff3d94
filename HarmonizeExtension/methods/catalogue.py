"""The list of methods: panel, command line and documentation are filled from it. A new method is one line here."""

from __future__ import annotations

import difflib
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from ..errors import InputError
from ..files import dicom
from ..files.reading import read_scan
from ..files.volume import read_volume
from ..scan import Modality, TargetKind
from .base import Harmonizer, MethodCard
from .cyclegan.harmonizer import Cyclegan
from .harmonae.harmonizer import Harmonae
from .kernel_matching import KernelMatching
from .phycharm.harmonizer import Phycharm
from .phycharm.protocols import ProtocolTarget
from .preparation import BiasFieldCorrection
from .radiomicgan.harmonizer import RadiomicGAN
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
    Harmonae,
    Phycharm,
    Cyclegan,
    RadiomicGAN,
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


def target_from_text(card: MethodCard, text: str, modality: Modality, units: str = "") -> object:
    """What a user typed as target, as `Harmonizer.for_target` takes it: a scan, a number, a path, a name or a protocol.

    A reference scan may carry its segmentation behind a comma: `reference.nii.gz,reference.seg.nrrd`. Where its file
    does not say modality and units, it is taken to have those of the scan that is harmonized.
    """
    if card.target is TargetKind.MODEL:
        return Path(text)
    volume, segmentation = scan_and_segmentation(text)
    if card.target is TargetKind.SCAN or (
        card.target in (TargetKind.KERNEL, TargetKind.RESOLUTION, TargetKind.PROTOCOL) and Path(volume).exists()
    ):
        if Modality.CT not in card.modalities and not dicom_says(volume) and looks_like_ct(volume):
            raise InputError(
                f"the target scan '{volume}' {LOOKS_LIKE_CT}, but {card.title} is not for CT; choose another"
            )
        try:
            return read_scan(volume, modality=modality, segmentation=segmentation or None, units=units or None)
        except InputError as error:
            raise InputError(f"the target scan: {error}") from None
    if card.target is TargetKind.RESOLUTION:
        try:
            return float(text)
        except ValueError:
            raise InputError(f"target '{text}' is neither a number of mm nor an existing reference scan") from None
    if card.target is TargetKind.PROTOCOL:
        return ProtocolTarget.from_text(text)
    return text


def scan_and_segmentation(text: str) -> tuple[str, str]:
    """A reference scan and, behind a comma, its segmentation or nothing; a comma may be part of either path."""
    commas = [at for at, letter in enumerate(text) if letter == ","]
    for at in (len(text), *commas):
        volume, segmentation = text[:at].strip(), text[at + 1 :].strip()
        if volume and Path(volume).exists():
            return volume, segmentation
    volume, _, segmentation = text.partition(",")
    return volume.strip(), segmentation.strip()


def dicom_says(path: str | Path) -> bool:
    """Whether a scan is DICOM, which says its own modality and units."""
    path = Path(path)
    return path.is_dir() or "#" in path.name or dicom.is_dicom(path)


# No MR or PET image has voxels this dark over a tenth of its field; every CT has, in the air around the patient.
AIR_HU = -500.0
LOOKS_LIKE_CT = f"looks like CT (a tenth of it is below {AIR_HU:g})"


def implied_modality(card: MethodCard, path: str | Path) -> Modality | None:
    """The modality of an image file that does not say it: the only one that the method is for.

    None for DICOM, which says it itself, and where the method is for several. Raises InputError where the voxels look
    like Hounsfield units and the method is not for CT.
    """
    path = Path(path)
    if len(card.modalities) != 1 or dicom_says(path):
        return None
    modality = next(iter(card.modalities))
    if modality is not Modality.CT and looks_like_ct(path):
        raise InputError(
            f"'{path}' {LOOKS_LIKE_CT}, but {card.title} is for {modality.value}; choose a method for CT, or say the "
            "modality"
        )
    return modality


def looks_like_ct(path: str | Path) -> bool:
    """Whether the voxels of an image file look like Hounsfield units; False where there is no file."""
    if not Path(path).exists():
        return False
    image = read_volume(path)  # held in a name: a view of its voxels does not keep it alive
    return bool(np.mean(sitk.GetArrayViewFromImage(image) < AIR_HU) > 0.1)
