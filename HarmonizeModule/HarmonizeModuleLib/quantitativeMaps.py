"""T1 and M0 maps as volumes beside their scan, with what they measure and its unit as coded entries."""

from __future__ import annotations

import dataclasses
import json

import SimpleITK as sitk
import slicer
from slicer.i18n import tr as _

from HarmonizeExtension.methods.phycharm.harmonizer import QuantitativeMaps
from HarmonizeExtension.scan import Scan

from . import scene

NOTE = "one image does not determine T1: no measurement, for harmonization and comparison"


@dataclasses.dataclass(frozen=True)
class _Kind:
    """How a map is called, coded (value, scheme, meaning) and shown.

    window: lowest and highest value shown, for tissue; fluid, with a T1 of 4 s, is white.
    """

    name: str
    quantity: tuple[str, str, str]
    units: tuple[str, str, str]
    window: tuple[float, float]


# DICOM PS3.16, Annex D, and UCUM.
T1 = _Kind("T1 map", ("113063", "DCM", "T1"), ("ms", "UCUM", "millisecond"), (0, 2500))
M0 = _Kind("M0 map", ("113058", "DCM", "Proton Density"), ("1", "UCUM", "no units"), (0.4, 1.1))


def writeMaps(maps: QuantitativeMaps, scan: Scan, inputVolume) -> tuple:
    """Both maps as scalar volume nodes on the grid of their scan, in the place of earlier ones: (T1, M0)."""
    return tuple(_write(kind, image, scan, inputVolume) for kind, image in ((T1, maps.t1_ms), (M0, maps.m0)))


def _write(kind: _Kind, image: sitk.Image, scan: Scan, inputVolume):
    volume = scene.writeMap(kind.name, image, scan, inputVolume)
    volume.SetVoxelValueQuantity(_coded(kind.quantity))
    volume.SetVoxelValueUnits(_coded(kind.units))
    provenance = [*map(dict, scan.provenance), {"step": f"PhyCHarm {kind.name}", "note": NOTE}]
    volume.SetAttribute(scene.PROVENANCE_ATTRIBUTE, json.dumps(provenance))
    volume.SetDescription(_("From one T1-weighted image, for harmonization and comparison; no measurement of T1"))
    shown = volume.GetScalarVolumeDisplayNode()
    shown.SetAndObserveColorNodeID("vtkMRMLColorTableNodeGrey")  # no colour hides a step that is there
    shown.SetWindowLevelMinMax(*kind.window)
    return volume


def _coded(entry: tuple[str, str, str]):
    coded = slicer.vtkCodedEntry()
    coded.SetValueSchemeMeaning(*entry)
    return coded
