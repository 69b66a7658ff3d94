"""Which volumes of the scene are scans, which segmentation belongs to which, and what site each is from."""

from __future__ import annotations

from collections.abc import Iterable

import slicer

from HarmonizeExtension.errors import InputError
from HarmonizeExtension.feature_domain.scanner_label import scanner_labels
from HarmonizeExtension.scan import Modality

from . import scene

SITE_ATTRIBUTE = "Harmonize.Site"


def scans() -> list:
    """The scalar volumes of the scene that are scans or results of ours: no label maps, doses, display helpers."""
    found = []
    for volume in slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode"):
        display = volume.GetHideFromEditors() or volume.GetAttribute(scene.DISPLAY_ATTRIBUTE)
        other = volume.IsA("vtkMRMLLabelMapVolumeNode") or volume.GetAttribute("DicomRtImport.DoseVolume")
        if not display and not other:
            found.append(volume)
    return found


def isResult(volume) -> bool:
    """Whether a volume was harmonized already, or is a map that was made from a scan."""
    return bool(volume.GetAttribute(scene.VERDICT_ATTRIBUTE) or volume.GetAttribute(scene.MAP_ATTRIBUTE))


def scansToHarmonize(modality: Modality | None = None, target=None) -> list:
    """The scans that are no results, nor the reference scan itself (a node or its name).

    modality: only these, and those that do not say theirs; None takes all.
    """
    return [
        volume
        for volume in scans()
        if volume is not target
        and volume.GetName() != target
        and not isResult(volume)
        and saidModality(volume) in (None, modality or saidModality(volume))
    ]


def saidModality(volume) -> Modality | None:
    """The modality that a volume says itself; None where it does not, or another one."""
    try:
        return Modality.parse(scene.modalityOf(volume))
    except InputError:
        return None


def segmentationOf(volume):
    """The segmentation that was drawn on a volume, or None."""
    for segmentation in slicer.util.getNodesByClass("vtkMRMLSegmentationNode"):
        if drawnOn(segmentation) is volume:
            return segmentation
    return None


def drawnOn(segmentation):
    """The volume that a segmentation was drawn on, or None where it does not say."""
    return segmentation.GetNodeReference(slicer.vtkMRMLSegmentationNode.GetReferenceImageGeometryReferenceRole())


def sites(volumes: Iterable, modality: Modality) -> list[str]:
    """The site of each volume: what the user called it, or else by its tags (`feature_domain.scanner_label`)."""
    volumes = list(volumes)
    labels = scanner_labels([scene.acquisitionOf(volume) for volume in volumes], modality).labels if volumes else ()
    return [volume.GetAttribute(SITE_ATTRIBUTE) or label for volume, label in zip(volumes, labels, strict=True)]


def setSite(volume, site: str) -> None:
    """Call the site of a volume something else; an empty name takes it from the tags again. Saved with the scene."""
    if site.strip():
        volume.SetAttribute(SITE_ATTRIBUTE, site.strip())
    else:
        volume.RemoveAttribute(SITE_ATTRIBUTE)
