"""What the user chose in the panel; saved with the scene."""

from typing import Annotated

from slicer import vtkMRMLScalarVolumeNode, vtkMRMLSegmentationNode, vtkMRMLTableNode
from slicer.parameterNodeWrapper import WithinRange, parameterNodeWrapper


@parameterNodeWrapper
class HarmonizeModuleParameterNode:
    """The parameters of the module.

    inputVolume - the scan to harmonize.
    modality - MR, CT or PET; empty to take it from the scan.
    segmentation - its structures.
    referenceSegment, protectedSegments, measuredSegments - their roles, by segment ID.
    method - name of the method in the catalogue.
    targetVolume, targetSegmentation - the reference scan, for methods that take one.
    targetFolder - the model folder, for methods that take one.
    targetText - kernel name or resolution, for methods that take one.
    biasCorrection - N4 first.
    commonSpacing - voxel size in mm of the common grid; 0 keeps the grid of the scan.
    settings - name of the radiomics settings; empty for those of the modality.
    insist - write a refused result too, marked.
    outputVolume, featureTable - where results go; made anew when not selected.
    cohortManifest - the file that lists the scans of a cohort, where cohortFromManifest is set; else those of the scene
        but cohortLeftOut (volume IDs). The site of a volume stands on its node.
    cohortKeep - covariates that ComBat keeps, with commas between them.
    cohortFolder - where a cohort is written to. cohortProcesses - scans at once.
    trainingSystem - what is trained, by its name. trainingConfig - by which file; empty for one to start from.
    trainingFolder - where checkpoint, curves and model of a training are.
    attributionQuestion, attributionMethod - what a map shall answer, and how; names of the engine's catalogue.
    attributionStructure, attributionFeature - whose feature moved, by the segment's name, and which.
    attributionModel, attributionSite - the folder of the model that is asked, and its scanner, kernel or centre.
    """

    inputVolume: vtkMRMLScalarVolumeNode
    modality: str = ""
    segmentation: vtkMRMLSegmentationNode
    referenceSegment: str = ""
    protectedSegments: list[str]
    measuredSegments: list[str]
    method: str = ""
    targetVolume: vtkMRMLScalarVolumeNode
    targetSegmentation: vtkMRMLSegmentationNode
    targetFolder: str = ""
    targetText: str = ""
    biasCorrection: bool = False
    commonSpacing: Annotated[float, WithinRange(0, 10)] = 0.0
    settings: str = ""
    insist: bool = False
    outputVolume: vtkMRMLScalarVolumeNode
    featureTable: vtkMRMLTableNode
    cohortFromManifest: bool = False
    cohortManifest: str = ""
    cohortLeftOut: list[str]
    cohortKeep: str = ""
    cohortFolder: str = ""
    cohortProcesses: Annotated[int, WithinRange(1, 64)] = 1
    trainingSystem: str = ""
    trainingConfig: str = ""
    trainingFolder: str = ""
    attributionQuestion: str = ""
    attributionMethod: str = ""
    attributionStructure: str = ""
    attributionFeature: str = ""
    attributionModel: str = ""
    attributionSite: str = ""
