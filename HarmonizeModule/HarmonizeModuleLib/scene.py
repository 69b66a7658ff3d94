"""The scene's door: MRML nodes in and a Scan out, a harmonized Scan and its verdict in and MRML nodes out."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Iterable

import numpy as np
import pydicom
import SimpleITK as sitk
import slicer
import vtk
from pydicom.datadict import tag_for_keyword
from slicer.i18n import tr as _
from vtk.util.numpy_support import numpy_to_vtk, vtk_to_numpy

from HarmonizeExtension import images
from HarmonizeExtension.body import OUTLINE_NAMES
from HarmonizeExtension.errors import InputError
from HarmonizeExtension.files.dicom import ACQUISITION_KEYWORDS, acquisition
from HarmonizeExtension.files.rtstruct import mask_of_contours
from HarmonizeExtension.guard import Check, Status, Verdict
from HarmonizeExtension.pictures import OUTLINE_COLOURS
from HarmonizeExtension.scan import Acquisition, Modality, Scan, Structure

# What we leave on nodes; one prefix, so that a user can see and remove it.
MODALITY_ATTRIBUTE = "Harmonize.Modality"
UNITS_ATTRIBUTE = "Harmonize.Units"
ACQUISITION_ATTRIBUTE = "Harmonize.Acquisition"
PROVENANCE_ATTRIBUTE = "Harmonize.Provenance"
VERDICT_ATTRIBUTE = "Harmonize.Verdict"
SOURCE_UIDS_ATTRIBUTE = "Harmonize.SourceInstanceUIDs"
DISPLAY_ATTRIBUTE = "Harmonize.Display"
MAP_ATTRIBUTE = "Harmonize.Map"
SOURCE_REFERENCE = "Harmonize.Source"
REFUSED_SUFFIX = " (refused)"  # of the name of a result that was written all the same

LPS_FROM_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
CT_QUANTITY_CODE = "112031"  # DICOM: attenuation coefficient
PET_SUV_CODE = "126400"  # DICOM: standardized uptake value


# ---------------------------------------------------------------- in


def scanFromNodes(
    volumeNode,
    segmentationNode=None,
    modality: str = "",
    reference: str | None = None,
    protected: Iterable[str] = (),
    measured: Iterable[str] | None = None,
) -> Scan:
    """A volume node with the segments of a segmentation node as a Scan on the volume's grid.

    modality: MR, CT or PET; found on the node when empty. Segments are named by name or ID; `measured=None` measures
    all; a single name need not be put into a list. Only segments that have a role are rasterised, and the outline of
    the body, which tells the engine where the patient is. Raises InputError for anything that cannot be harmonized.
    """
    image = imageFromVolume(volumeNode)
    if segmentationNode is not None:
        requireNode(segmentationNode, "vtkMRMLSegmentationNode", _("segmentation"))
    modality = Modality.parse(modality or modalityOf(volumeNode))
    units = unitsOf(volumeNode, modality)
    names = segmentNames(segmentationNode)
    chosen = {
        "reference": _segmentIDs([reference] if reference else [], names, segmentationNode),
        "protected": _segmentIDs(protected, names, segmentationNode),
        "measured": list(names) if measured is None else _segmentIDs(measured, names, segmentationNode),
    }
    wanted = [segmentID for segmentID in names if any(segmentID in ids for ids in chosen.values())]
    structures = {
        names[segmentID]: Structure(names[segmentID], maskFromSegment(segmentationNode, segmentID, volumeNode, image))
        for segmentID in wanted
    }
    for segmentID, name in names.items():
        if name not in structures and name.strip().lower() in OUTLINE_NAMES:
            # Nobody asked for it: one that cannot be used is as good as none, and the engine finds the body itself.
            with contextlib.suppress(InputError):
                structures[name] = Structure(name, maskFromSegment(segmentationNode, segmentID, volumeNode, image))
    scan = Scan(
        image, modality, structures, acquisitionOf(volumeNode), units, volumeNode.GetName(), provenanceOf(volumeNode)
    )
    return scan.with_roles(
        reference=names[chosen["reference"][0]] if chosen["reference"] else None,
        protected=[names[segmentID] for segmentID in chosen["protected"]],
        measured=[names[segmentID] for segmentID in chosen["measured"]],
    )


def imageFromVolume(volumeNode) -> sitk.Image:
    """The voxels of a scalar volume node in LPS, without its parent transform. Raises InputError where it has none."""
    if volumeNode is None:
        raise InputError(_("No input volume is selected; choose the scan to harmonize"))
    requireNode(volumeNode, "vtkMRMLVolumeNode", _("scan"))
    name = volumeNode.GetName()
    if volumeNode.GetImageData() is None:
        raise InputError(_("The volume '{name}' is empty; load its image first").format(name=name))
    if volumeNode.IsA("vtkMRMLLabelMapVolumeNode"):
        raise InputError(_("'{name}' is a label map, not a scan; choose the image itself").format(name=name))
    if volumeNode.GetAttribute("DicomRtImport.DoseVolume"):
        raise InputError(_("'{name}' is a dose volume; dose must never be harmonized").format(name=name))
    array = slicer.util.arrayFromVolume(volumeNode)
    if array.ndim != 3:
        raise InputError(_("'{name}' is a colour or vector volume; choose a scalar volume").format(name=name))
    if array.dtype.kind not in "iuf":
        raise InputError(_("'{name}' has voxels of type {type}").format(name=name, type=array.dtype))
    image = sitk.GetImageFromArray(array)
    matrix = LPS_FROM_RAS @ _ijkToRAS(volumeNode)
    spacing = np.linalg.norm(matrix[:3, :3], axis=0)
    first = np.array([*volumeNode.GetImageData().GetExtent()[::2], 1.0])
    image.SetSpacing(spacing.tolist())
    image.SetDirection((matrix[:3, :3] / spacing).ravel().tolist())
    image.SetOrigin((matrix @ first)[:3].tolist())
    return image


def requireNode(node, className: str, role: str) -> None:
    """Raise InputError, which names what was given as `role`, where it is no node of the class that is wanted."""
    if not (hasattr(node, "IsA") and node.IsA(className)):
        raise InputError(
            _("{given} was given as {role}; it must be a {className}").format(
                given=describe(node), role=role, className=className
            )
        )


def describe(node) -> str:
    """A node, or what was given in place of one, in words."""
    if hasattr(node, "GetName"):
        return f"'{node.GetName()}' ({node.GetClassName()})"
    return f"{node!r} ({type(node).__name__})"


def _ijkToRAS(volumeNode) -> np.ndarray:
    matrix = vtk.vtkMatrix4x4()
    volumeNode.GetIJKToRASMatrix(matrix)
    return slicer.util.arrayFromVTKMatrix(matrix)


def segmentNames(segmentationNode) -> dict[str, str]:
    """Unique name of each segment by segment ID; segments of one name are numbered."""
    if segmentationNode is None:
        return {}
    segmentation, names = segmentationNode.GetSegmentation(), {}
    for segmentID in segmentation.GetSegmentIDs():
        name = wanted = segmentation.GetSegment(segmentID).GetName() or segmentID
        number = 1
        while name in names.values():
            number += 1
            name = f"{wanted} ({number})"
        names[segmentID] = name
    return names


def _segmentIDs(wanted: Iterable[str], names: dict[str, str], segmentationNode) -> list[str]:
    wanted = [wanted] if isinstance(wanted, str) else list(wanted)
    byName = {name: segmentID for segmentID, name in names.items()}
    for name in wanted:
        same = [s for s in names if segmentationNode.GetSegmentation().GetSegment(s).GetName() == name]
        if name not in names and len(same) > 1:
            raise InputError(
                _("'{where}' has {count} segments named '{name}'; rename them, or name one by its ID: {ids}").format(
                    where=segmentationNode.GetName(), count=len(same), name=name, ids=", ".join(same)
                )
            )
    ids = [w if w in names else byName.get(w) for w in wanted]
    missing = [w for w, segmentID in zip(wanted, ids, strict=True) if segmentID is None]
    if missing:
        where = f"'{segmentationNode.GetName()}'" if segmentationNode else _("the scene (no segmentation is selected)")
        raise InputError(
            _("There is no segment {missing} in {where}; it has: {names}").format(
                missing=", ".join(missing), where=where, names=", ".join(names.values()) or _("none")
            )
        )
    return ids


def maskFromSegment(segmentationNode, segmentID: str, volumeNode, image: sitk.Image) -> sitk.Image:
    """A segment on the grid of the volume (uint8), the transforms of both nodes regarded.

    Planar contours (RTSTRUCT) are filled on the volume's own grid, so that no surface comes between: a small
    structure that goes through a surface loses a third of its voxels, and for that reason surfaces are refused.
    """
    segmentation = segmentationNode.GetSegmentation()
    name = segmentation.GetSegment(segmentID).GetName()
    toVolume = vtk.vtkGeneralTransform()
    slicer.vtkMRMLTransformNode.GetTransformBetweenNodes(
        segmentationNode.GetParentTransformNode(), volumeNode.GetParentTransformNode(), toVolume
    )
    converter = slicer.vtkSegmentationConverter
    source = segmentation.GetSourceRepresentationName()
    if source == converter.GetSegmentationPlanarContourRepresentationName():
        points = _contourPoints(segmentation.GetSegment(segmentID).GetRepresentation(source), toVolume)
        if not points:
            raise InputError(_("Segment '{name}' has no contours; do not choose it").format(name=name))
        return mask_of_contours(points, image, name, segmentationNode.GetName())
    if source == converter.GetSegmentationClosedSurfaceRepresentationName():
        raise InputError(
            _(
                "Segment '{name}' is a surface, which voxels cannot be measured in; make Binary labelmap the source "
                "representation of '{segmentation}' in the Segmentations module, and look at the result"
            ).format(name=name, segmentation=segmentationNode.GetName())
        )
    array = _labelmapOnGrid(segmentationNode, segmentID, volumeNode, toVolume)
    if not array.any():
        raise InputError(
            _("Segment '{name}' is empty or lies outside '{volume}'; edit it, or do not choose it").format(
                name=name, volume=volumeNode.GetName()
            )
        )
    return images.mask_image(array, image)


def _labelmapOnGrid(segmentationNode, segmentID: str, volumeNode, toVolume) -> np.ndarray:
    """A binary labelmap by nearest neighbour as a bool array (z, y, x); no node is made on the way."""
    shape = volumeNode.GetImageData().GetDimensions()[::-1]
    drawn, grid, resampled = (slicer.vtkOrientedImageData() for _each in range(3))
    if not segmentationNode.GetBinaryLabelmapRepresentation(segmentID, drawn) or drawn.IsEmpty():
        return np.zeros(shape, bool)
    matrix = vtk.vtkMatrix4x4()
    volumeNode.GetIJKToRASMatrix(matrix)
    grid.SetExtent(volumeNode.GetImageData().GetExtent())
    grid.SetImageToWorldMatrix(matrix)
    done = slicer.vtkOrientedImageDataResample.ResampleOrientedImageToReferenceOrientedImage(
        drawn, grid, resampled, False, False, toVolume
    )
    scalars = resampled.GetPointData().GetScalars()
    if not done or scalars is None:
        return np.zeros(shape, bool)
    return vtk_to_numpy(scalars).reshape(shape) != 0


def _contourPoints(polyData, toVolume) -> list[np.ndarray]:
    """Each planar contour as (points, 3) in the volume's LPS mm."""
    found = []
    cells = polyData.GetLines() if polyData is not None else vtk.vtkCellArray()
    for index in range(cells.GetNumberOfCells()):
        ids = vtk.vtkIdList()
        cells.GetCellAtId(index, ids)
        points = [toVolume.TransformPoint(polyData.GetPoint(ids.GetId(i))) for i in range(ids.GetNumberOfIds())]
        if len(points) > 2:
            found.append(np.array(points) * (-1.0, -1.0, 1.0))
    return found


def modalityOf(volumeNode) -> str:
    """MR, CT or PET, as far as the scene knows it. Raises InputError that asks for it where nothing says so."""
    known = volumeNode.GetAttribute(MODALITY_ATTRIBUTE) or dicomTag(volumeNode, "0008,0060")
    if not known:
        hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)
        item = hierarchy.GetItemByDataNode(volumeNode)
        known = hierarchy.GetItemAttribute(item, "DICOM.Modality") if item else ""
    quantity = volumeNode.GetVoxelValueQuantity()
    code = quantity.GetCodeValue() if quantity else ""
    known = known or {CT_QUANTITY_CODE: "CT", PET_SUV_CODE: "PET"}.get(code, "")
    if not known:
        raise InputError(
            _("The modality of '{name}' is not known; choose MR, CT or PET").format(name=volumeNode.GetName())
        )
    return known


def unitsOf(volumeNode, modality: Modality) -> str:
    """HU for CT, SUV or Bq/ml for PET, nothing for MR."""
    if modality is Modality.CT:
        return "HU"
    if modality is Modality.MR:
        return ""
    said = volumeNode.GetAttribute(UNITS_ATTRIBUTE)
    if said:
        return said
    unit = volumeNode.GetVoxelValueUnits()
    quantity = volumeNode.GetVoxelValueQuantity()
    words = " ".join(
        f"{entry.GetCodeValue()} {entry.GetCodeMeaning()}" for entry in (unit, quantity) if entry is not None
    )
    return "SUV" if "SUV" in words.upper() or PET_SUV_CODE in words or "uptake" in words.lower() else "Bq/ml"


def dicomTag(volumeNode, tag: str) -> str:
    """A DICOM tag ("0018,0087") of the volume's first instance; empty where the database does not have it."""
    uids = (volumeNode.GetAttribute("DICOM.instanceUIDs") or "").split()
    database = getattr(slicer, "dicomDatabase", None)
    return database.instanceValue(uids[0], tag) if uids and database else ""


def acquisitionOf(volumeNode) -> Acquisition:
    """From the DICOM database, or from what was kept on the node when it was last there (files have no tags)."""
    header = pydicom.Dataset()
    for keyword in ACQUISITION_KEYWORDS:
        tag = tag_for_keyword(keyword)
        header.add_new(tag, "LO", dicomTag(volumeNode, f"{tag >> 16:04x},{tag & 0xFFFF:04x}"))
    found = acquisition(header)
    if found.known():
        volumeNode.SetAttribute(ACQUISITION_ATTRIBUTE, json.dumps(found.known()))
        return found
    kept = volumeNode.GetAttribute(ACQUISITION_ATTRIBUTE)
    fields = {field.name for field in dataclasses.fields(Acquisition)}
    return Acquisition(**{k: v for k, v in json.loads(kept).items() if k in fields}) if kept else Acquisition()


def provenanceOf(volumeNode) -> tuple[dict, ...]:
    """What was done to a volume that is itself a result, oldest first; empty for any other volume."""
    return tuple(json.loads(volumeNode.GetAttribute(PROVENANCE_ATTRIBUTE) or "[]"))


# ---------------------------------------------------------------- out


def nodesFromScan(scan: Scan):
    """A scan that was made or read by the engine as new nodes: (volume node, segmentation node or None)."""
    volume = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", scan.name)
    setVoxels(scan, None, volume)
    volume.CreateDefaultDisplayNodes()
    volume.SetAttribute(MODALITY_ATTRIBUTE, scan.modality.value)
    if scan.units:
        volume.SetAttribute(UNITS_ATTRIBUTE, scan.units)
    volume.SetAttribute(ACQUISITION_ATTRIBUTE, json.dumps(scan.acquisition.known()))
    if not scan.structures:
        return volume, None
    segmentation = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", f"{scan.name} structures")
    segmentation.CreateDefaultDisplayNodes()
    segmentation.SetReferenceImageGeometryParameterFromVolumeNode(volume)
    for number, structure in enumerate(scan.structures.values()):
        colour = [channel / 255 for channel in OUTLINE_COLOURS[number % len(OUTLINE_COLOURS)]]
        segmentID = segmentation.GetSegmentation().AddEmptySegment("", structure.name, colour)
        mask = structure.array.astype(np.uint8)
        slicer.util.updateSegmentBinaryLabelmapFromArray(mask, segmentation, segmentID, volume)
    besideInHierarchy(volume, segmentation)
    return volume, segmentation


def writeVolume(after: Scan, inputVolume, outputVolume, verdict: Verdict):
    """The harmonized scan as a scalar volume node beside its input; returns the node.

    The grid, parent transform and (where the scale is kept) units of the input stay; its DICOM instance UIDs go to
    an attribute of ours, since the voxels are no longer those of the series.
    """
    if outputVolume is None:
        name = slicer.mrmlScene.GenerateUniqueName(f"{inputVolume.GetName()} harmonized")
        outputVolume = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", name)
    wasModified = outputVolume.StartModify()
    setVoxels(after, inputVolume, outputVolume)
    outputVolume.SetAndObserveTransformNodeID(inputVolume.GetTransformNodeID())
    kept = bool(after.units)
    outputVolume.SetVoxelValueQuantity(inputVolume.GetVoxelValueQuantity() if kept else None)
    outputVolume.SetVoxelValueUnits(inputVolume.GetVoxelValueUnits() if kept else None)
    attributes = {
        MODALITY_ATTRIBUTE: after.modality.value,
        UNITS_ATTRIBUTE: after.units,
        ACQUISITION_ATTRIBUTE: json.dumps(after.acquisition.known()),
        PROVENANCE_ATTRIBUTE: json.dumps([dict(entry) for entry in after.provenance]),
        VERDICT_ATTRIBUTE: verdict.status.value,
        SOURCE_UIDS_ATTRIBUTE: inputVolume.GetAttribute("DICOM.instanceUIDs"),
        "DICOM.instanceUIDs": None,
    }
    for name, value in attributes.items():
        if value:
            outputVolume.SetAttribute(name, value)
        else:
            outputVolume.RemoveAttribute(name)
    outputVolume.SetNodeReferenceID(SOURCE_REFERENCE, inputVolume.GetID())
    name = outputVolume.GetName().removesuffix(REFUSED_SUFFIX)
    outputVolume.SetName(name + REFUSED_SUFFIX if verdict.status is Status.REFUSE else name)
    _setDisplay(inputVolume, outputVolume, kept)
    outputVolume.EndModify(wasModified)
    besideInHierarchy(inputVolume, outputVolume)
    return outputVolume


def setVoxels(scan: Scan, inputVolume, outputVolume) -> None:
    """Voxels and grid of a scan; `inputVolume` is the node whose grid it has, or None."""
    array = np.ascontiguousarray(sitk.GetArrayViewFromImage(scan.image))
    imageData = vtk.vtkImageData()
    if inputVolume is not None and images.same_grid(scan.image, imageFromVolume(inputVolume)):
        # The input's own numbers: even CopyOrientation takes the matrix apart and may be off by a last bit.
        directions = [[0.0] * 3 for _row in range(3)]
        inputVolume.GetIJKToRASDirections(directions)
        outputVolume.SetIJKToRASDirections(directions)
        outputVolume.SetSpacing(inputVolume.GetSpacing())
        outputVolume.SetOrigin(inputVolume.GetOrigin())
        imageData.SetExtent(inputVolume.GetImageData().GetExtent())
    else:
        imageData.SetDimensions(array.shape[::-1])
        matrix = LPS_FROM_RAS @ images.index_to_physical(scan.image)
        outputVolume.SetIJKToRASMatrix(slicer.util.vtkMatrixFromArray(matrix))
    scalars = numpy_to_vtk(array.ravel(), deep=True)
    scalars.SetName("ImageScalars")
    imageData.GetPointData().SetScalars(scalars)
    outputVolume.SetAndObserveImageData(imageData)


def _setDisplay(inputVolume, outputVolume, kept: bool) -> None:
    outputVolume.CreateDefaultDisplayNodes()
    before, after = inputVolume.GetScalarVolumeDisplayNode(), outputVolume.GetScalarVolumeDisplayNode()
    if before is None:
        return
    after.SetAndObserveColorNodeID(before.GetColorNodeID())
    if kept:
        after.SetAutoWindowLevel(before.GetAutoWindowLevel())
        after.SetWindowLevel(before.GetWindow(), before.GetLevel())
    else:
        after.AutoWindowLevelOn()


def writeVerdict(verdict: Verdict, after: Scan, inputVolume, outputVolume):
    """The verdict with its figures and the provenance as a JSON text node; returns the node."""
    about = outputVolume if outputVolume is not None else inputVolume
    node = about.GetNodeReference(VERDICT_ATTRIBUTE)
    if node is None:
        node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTextNode", f"{about.GetName()} verdict")
        about.SetNodeReferenceID(VERDICT_ATTRIBUTE, node.GetID())
    content = {**verdict.to_json(), "provenance": [dict(entry) for entry in after.provenance]}
    node.SetText(json.dumps(content, indent=1))
    besideInHierarchy(inputVolume, node)
    return node


def readVerdict(outputVolume) -> Verdict | None:
    """The verdict that `writeVerdict` left with a result; None for a volume that is none."""
    node = outputVolume.GetNodeReference(VERDICT_ATTRIBUTE)
    if node is None:
        return None
    return verdictFromJson(json.loads(node.GetText()))


def verdictFromJson(content: dict) -> Verdict:
    """The verdict that its `to_json` gave."""
    return Verdict(tuple(Check(**{**check, "status": Status(check["status"])}) for check in content["checks"]))


def writeMap(name: str, image: sitk.Image, scan: Scan, inputVolume):
    """A map of a scan as a scalar volume node beside it, with plain display, in the place of its earlier one.

    name: what the map is called; a volume has one of each name.
    """
    role = f"{MAP_ATTRIBUTE}.{name}"
    volume = inputVolume.GetNodeReference(role)
    if volume is None:
        called = slicer.mrmlScene.GenerateUniqueName(f"{inputVolume.GetName()} {name}")
        volume = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", called)
        inputVolume.SetNodeReferenceID(role, volume.GetID())
    wasModified = volume.StartModify()
    setVoxels(dataclasses.replace(scan, image=image, structures={}), inputVolume, volume)
    volume.SetAndObserveTransformNodeID(inputVolume.GetTransformNodeID())
    volume.SetNodeReferenceID(SOURCE_REFERENCE, inputVolume.GetID())
    volume.SetAttribute(MAP_ATTRIBUTE, name)
    volume.SetAttribute(MODALITY_ATTRIBUTE, scan.modality.value)
    volume.CreateDefaultDisplayNodes()
    volume.GetScalarVolumeDisplayNode().AutoWindowLevelOff()
    volume.EndModify(wasModified)
    besideInHierarchy(inputVolume, volume)
    return volume


def besideInHierarchy(inputNode, node) -> None:
    """Put a node beside another in the subject hierarchy (the same study, the same folder)."""
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)
    if hierarchy is None:
        return
    items = [
        hierarchy.GetItemByDataNode(n) or hierarchy.CreateItem(hierarchy.GetSceneItemID(), n) for n in (inputNode, node)
    ]
    hierarchy.SetItemParent(items[1], hierarchy.GetItemParent(items[0]))
