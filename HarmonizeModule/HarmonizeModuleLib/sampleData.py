"""Sample data that needs no network: one simulated person with a small tumour, scanned by three scanners."""

import os

import slicer
from slicer.i18n import tr as _

from . import scene

CATEGORY = "Harmonize"
SAMPLE = "ThreeScannerCase"


def registerSampleData():
    """Offer the three-scanner case in the Sample Data module, unless that is switched off; called at Slicer's start."""
    try:
        import SampleData
    except ImportError:
        return

    logic = SampleData.SampleDataLogic
    if hasattr(logic, "registerCustomSampleDataCategory"):  # since Slicer 5.10
        logic.registerCustomSampleDataCategory(CATEGORY, title=_("Harmonize"))
    icons = os.path.join(os.path.dirname(os.path.dirname(__file__)), "Resources", "Icons")
    logic.registerCustomSampleDataSource(
        category=CATEGORY,
        sampleName=SAMPLE,
        uris="made-here:three-scanner-case",
        fileNames=f"{SAMPLE}.nrrd",
        nodeNames=SAMPLE,
        thumbnailFileName=os.path.join(icons, f"{SAMPLE}.png"),
        customDownloader=_onButton,
    )


def _onButton(source):
    with slicer.util.tryWithErrorDisplay(_("The sample could not be made."), waitCursor=True):
        return makeThreeScannerCase()[0]


def makeThreeScannerCase(spacing: float = 1.0, seed: int = 1):
    """Make the case in the scene; returns (volume nodes, segmentation nodes), one of each for each scanner.

    spacing: voxel size in mm; ten seconds or so at 1 mm, two at 2 mm. The same seed gives the same voxels.
    """
    from HarmonizeExtension.phantoms.brain import three_scanner_case

    nodes = [scene.nodesFromScan(scan) for scan in three_scanner_case(seed, spacing).values()]
    slicer.util.setSliceViewerLayers(background=nodes[0][0], fit=True)
    return [volume for volume, _segmentation in nodes], [segmentation for _volume, segmentation in nodes]
