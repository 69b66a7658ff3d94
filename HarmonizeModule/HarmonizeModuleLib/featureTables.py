"""The feature table in the scene: numeric columns for people, exact values for the statistics."""

from __future__ import annotations

import json

import slicer
from slicer.i18n import tr as _

from HarmonizeExtension.errors import InputError
from HarmonizeExtension.radiomics.table import KEYS, FeatureTable

from . import scene
from .tables import fillTable

EXACT_REFERENCE = "Harmonize.ExactValues"


def writeFeatures(features: FeatureTable, inputVolume, tableNode):
    """The feature table as a table node (one row per structure and image, numeric columns); returns the node.

    Slicer's table storage keeps six digits, so the exact values go along in a text node that the table refers to;
    `readFeatures` and `restoreExactValues` read them. inputVolume: that was measured, None where there are several.
    """
    if tableNode is None:
        source = inputVolume.GetName() if inputVolume is not None else _("Cohort")
        name = slicer.mrmlScene.GenerateUniqueName(f"{source} features")
        tableNode = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTableNode", name)
    _fillTable(features, tableNode)
    exact = tableNode.GetNodeReference(EXACT_REFERENCE)
    if exact is None:
        exact = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTextNode", f"{tableNode.GetName()} (exact values)")
        tableNode.SetNodeReferenceID(EXACT_REFERENCE, exact.GetID())
    exact.SetText(json.dumps(features.as_dict()))
    if inputVolume is not None:
        tableNode.SetNodeReferenceID(scene.SOURCE_REFERENCE, inputVolume.GetID())
        for node in (tableNode, exact):
            scene.besideInHierarchy(inputVolume, node)
    return tableNode


def _fillTable(features: FeatureTable, tableNode) -> None:
    keys = {key: [getattr(row, key) for row in features.rows] for key in KEYS}
    wasModified = tableNode.StartModify()
    fillTable(tableNode, keys | {column.name: features.values(column.name) for column in features.columns})
    for column in features.columns:
        tableNode.SetColumnDescription(column.name, column.description)
        tableNode.SetColumnUnitLabel(column.name, column.unit)
    tableNode.EndModify(wasModified)


def readFeatures(tableNode) -> FeatureTable:
    """The exact feature table behind a table node that `writeFeatures` made."""
    exact = tableNode.GetNodeReference(EXACT_REFERENCE)
    if exact is None:
        raise InputError(_("'{name}' is not a feature table of this module").format(name=tableNode.GetName()))
    return FeatureTable.from_dict(json.loads(exact.GetText()), exact.GetName())


def restoreExactValues() -> None:
    """Give every feature table its exact values again, after the scene was read from a file."""
    for tableNode in slicer.util.getNodesByClass("vtkMRMLTableNode"):
        if tableNode.GetNodeReference(EXACT_REFERENCE) is not None:
            _fillTable(readFeatures(tableNode), tableNode)
