"""A map on its way: scans to files, `harmonize explain` in a process of its own, the map back into the scene."""

from __future__ import annotations

import dataclasses
import json
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import SimpleITK as sitk
import slicer
from slicer.i18n import tr as _

from HarmonizeExtension.errors import InputError
from HarmonizeExtension.explain.picture import colours, opacity
from HarmonizeExtension.files.volume import read_volume
from HarmonizeExtension.scan import Scan

from . import cohortFiles, scene
from .harmonizeProcess import HarmonizeProcess

ATTRIBUTION = "attribution"
COLOURS = 256
RECORD_ATTRIBUTE = "Harmonize.Attribution"  # the record of the map, JSON


class AttributionRun:
    """Call `step` until it is False, then `result`."""

    def __init__(self, scan: Scan, after: Scan | None, inputVolume, options: Mapping[str, str]):
        """Write the scans into a temporary folder and start.

        scan: with the structure that is asked about, if any. after: the harmonized scan. inputVolume: the node of
        `scan`. options: of `harmonize explain`, without dashes; empty ones are left out.
        Raises OutputError where that cannot be.
        """
        self._scan, self._inputVolume = scan, inputVolume
        self._folder = tempfile.TemporaryDirectory(prefix="harmonize")
        folder = Path(self._folder.name)
        paths = cohortFiles.writeScan(scan, folder, "scan")
        given = {"volume": paths[0], "segmentation": paths[1] if len(paths) > 1 else "", "out": folder / "map"}
        if after is not None:
            given["after"] = cohortFiles.writeScan(dataclasses.replace(after, structures={}), folder, "after")[0]
        given |= {"modality": scan.modality.value, "units": scan.units if scan.units != "HU" else "", **options}
        arguments = [f"--{name}={value}" for name, value in given.items() if str(value)]
        self._process = HarmonizeProcess(["explain", *arguments], folder)

    @property
    def progress(self) -> tuple[float, str]:
        """How far it is, and in words."""
        return self._process.fraction, self._process.text

    def step(self) -> bool:
        """Look at the process; whether it goes on."""
        return self._process.poll()

    def stop(self) -> None:
        """Ask it to stop; `step` until it is False."""
        self._process.stop()

    def result(self) -> tuple[object, str]:
        """The volume node of the map beside its scan, and what it is worth in words.

        Raises InputError with what the engine complained of, Cancelled where it was stopped.
        """
        try:
            answer = self._process.answer()
            image = read_volume(answer["files"]["map"])
            record = json.loads(Path(answer["files"]["record"]).read_text(encoding="utf-8"))
        finally:
            self._folder.cleanup()
        if self._inputVolume.GetScene() is None:
            raise InputError(
                _("'{name}' was removed from the scene meanwhile; nothing was written").format(name=self._scan.name)
            )
        return _write(image, record, self._scan, self._inputVolume), f"{answer['about']}. {answer['worth']}."


def threshold(volume) -> float:
    """The share of full colour below which a map is not shown."""
    return float(volume.GetAttribute(f"{RECORD_ATTRIBUTE}.Threshold") or 0.0)


def setThreshold(volume, share: float) -> None:
    """Show only what is above a share (0 to 1) of full colour, to either side."""
    volume.SetAttribute(f"{RECORD_ATTRIBUTE}.Threshold", f"{share:g}")
    _colour(volume.GetDisplayNode().GetColorNode(), _isSigned(volume), share)


def show(inputVolume, volume, segmentation=None) -> None:
    """The map over its scan in every slice view, with the legend; structures keep their outlines, not their fill."""
    slicer.util.setSliceViewerLayers(background=inputVolume, foreground=volume, foregroundOpacity=1.0)
    if segmentation is not None and segmentation.GetDisplayNode() is not None:
        segmentation.GetDisplayNode().SetVisibility2DFill(False)
    legend = slicer.vtkSlicerColorLogic.AddDefaultColorLegendDisplayNode(volume)
    if legend is not None:  # views made before have one each
        legend.SetTitleText(_("Share of the change") if _ofFeature(volume) else _("Attribution"))
        legend.SetLabelFormat("%.2g")
        legend.SetVisibility(True)


def _write(image: sitk.Image, record: dict, scan: Scan, inputVolume):
    array = sitk.GetArrayViewFromImage(image)
    limit = float(np.abs(array).max())
    if limit == 0:
        raise InputError(_("The map is empty: nothing speaks for it ({worth})").format(
            worth=record["faithfulness"]["sentence"]
        ))  # fmt: skip
    volume = scene.writeMap(ATTRIBUTION, image, scan, inputVolume)
    volume.SetAttribute(RECORD_ATTRIBUTE, json.dumps(record))
    volume.SetDescription(f"{record['question']} {record['about']}. {record['faithfulness']['sentence']}.")
    display = volume.GetScalarVolumeDisplayNode()
    display.SetAndObserveColorNodeID(_colourNode(volume).GetID())
    signed = bool(array.min() < 0)
    display.SetWindowLevelMinMax(-limit if signed else 0.0, limit)
    setThreshold(volume, threshold(volume))
    return volume


def _isSigned(volume) -> bool:
    return bool(slicer.util.arrayFromVolume(volume).min() < 0)


def _ofFeature(volume) -> bool:
    return bool(json.loads(volume.GetAttribute(RECORD_ATTRIBUTE))["structure"])


def _colourNode(volume):
    """The colours of one map; saved with the scene, since the map would be grey without."""
    role = f"{RECORD_ATTRIBUTE}.Colours"
    node = volume.GetNodeReference(role)
    if node is None:
        node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLColorTableNode", f"{volume.GetName()} colours")
        node.SetTypeToUser()
        node.SetNumberOfColors(COLOURS)
        node.SetHideFromEditors(True)
        volume.SetNodeReferenceID(role, node.GetID())
    return node


def _colour(node, signed: bool, share: float) -> None:
    """From blue over nothing to red, or from nothing to yellow; nothing below a share of full colour."""
    values = np.linspace(-1.0 if signed else 0.0, 1.0, COLOURS)
    cover = np.where(np.abs(values) < share, 0.0, opacity(values))
    wasModified = node.StartModify()
    for index, (rgb, alpha) in enumerate(zip(colours(values, signed) / 255, cover, strict=True)):
        node.SetColor(index, f"{values[index]:.2f}", *map(float, rgb), float(alpha))
    node.EndModify(wasModified)
