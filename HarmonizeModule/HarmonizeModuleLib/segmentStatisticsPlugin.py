"""The radiomics features in Segment Statistics, where Slicer's users look for measures of each segment."""

import dataclasses
import logging

import slicer
from SegmentStatisticsPlugins import SegmentStatisticsPluginBase
from slicer.i18n import tr as _

from HarmonizeExtension.errors import HarmonizeError, InputError
from HarmonizeExtension.radiomics.catalogue import DEFINITIONS
from HarmonizeExtension.radiomics.extraction import extract
from HarmonizeExtension.radiomics.settings import Settings
from HarmonizeExtension.scan import Modality

from . import scene

# "original_glcm_Idmn": (class, feature); Slicer's own plugins measure volume and shape.
FEATURES = {
    f"original_{featureClass}_{feature}": (featureClass, feature)
    for featureClass, definitions in DEFINITIONS.items()
    if featureClass != "shape"
    for feature in definitions
}


class HarmonizeRadiomicsPlugin(SegmentStatisticsPluginBase):
    """The features of one image, as the shipped settings of its modality measure them.

    None is computed unless it is asked for in the plugin's options. An image that does not say its modality is
    measured as MR is, with a fixed number of bins, since nothing is known about its unit.
    """

    def __init__(self):
        super().__init__()
        self.name = "Harmonize Radiomics"
        self.title = _("Harmonize Radiomics")
        self.keys = list(FEATURES)
        self.defaultKeys = []

    def computeStatistics(self, segmentID):
        """The requested features of a segment; none where it cannot be measured, with the reason in the log."""
        requested, volume = self.getRequestedKeys(), self._node("ScalarVolume")
        if not requested or volume is None:
            return {}
        try:
            scan = scene.scanFromNodes(
                volume, self._node("Segmentation"), _modality(volume).value, measured=[segmentID]
            )
            (row,) = extract(scan, _settings(scan.modality, requested)).rows
        except HarmonizeError as error:
            logging.warning("%s: %s", self.title, error)
            return {}
        return {key: row.values[key] for key in requested}

    def getMeasurementInfo(self, key):
        """Name, IBSI name and code, and the unit on the chosen image."""
        if key not in FEATURES:
            return None
        featureClass, feature = FEATURES[key]
        definition, volume = DEFINITIONS[featureClass][feature], self._node("ScalarVolume")
        code = definition.ibsi_code
        return self.createMeasurementInfo(
            name=key,
            title=key,
            description=f"{definition.ibsi_name} (IBSI {code})" if code else definition.ibsi_name or key,
            units=definition.unit_for(scene.unitsOf(volume, _modality(volume)) if volume is not None else ""),
            quantityDicomCode=self.createCodedEntry(code, "IBSI", definition.ibsi_name, True) if code else None,
        )

    def _node(self, parameter: str):
        node = self.getParameterNode()
        return slicer.mrmlScene.GetNodeByID(node.GetParameter(parameter)) if node is not None else None


def _modality(volume) -> Modality:
    try:
        return Modality.parse(scene.modalityOf(volume))
    except InputError:
        return Modality.MR


def _settings(modality: Modality, requested) -> Settings:
    """The settings of the modality, cut to the features that are requested."""
    classes: dict[str, tuple[str, ...]] = {}
    for key in requested:
        featureClass, feature = FEATURES[key]
        classes[featureClass] = (*classes.get(featureClass, ()), feature)
    return dataclasses.replace(Settings.for_modality(modality), feature_classes=classes, image_types={"Original": {}})
