"""The scene's door on real MRML nodes: grids, transforms, segments, units, tags; and what is refused."""

import dataclasses
import json

import numpy as np
import pytest
import SimpleITK as sitk
import slicer
import vtk
from hypothesis import given, settings

from HarmonizeModuleLib import scene
from HarmonizeModuleLib.logic import HarmonizeModuleLogic
from Testing.engine.scans import grid, grids, head

from HarmonizeExtension import images
from HarmonizeExtension.body import body_mask
from HarmonizeExtension.errors import InputError
from HarmonizeExtension.scan import Modality, Role, Scan


def nodes(scan=None):
    return scene.nodesFromScan(scan or head())


def matrixOf(volume):
    matrix = vtk.vtkMatrix4x4()
    volume.GetIJKToRASMatrix(matrix)
    return slicer.util.arrayFromVTKMatrix(matrix)


def process(volume, segmentation=None, **options):
    return HarmonizeModuleLogic().process(volume, segmentation, **{"method": "zscore", **options})


@settings(max_examples=12, deadline=None)
@given(on=grids())
def test_any_grid_goes_in_and_out_to_the_last_bit_and_masks_fall_where_they_fell(on):
    slicer.mrmlScene.Clear(0)
    made = head(on)
    volume, segmentation = nodes(made)
    scan = scene.scanFromNodes(volume, segmentation)
    assert images.same_grid(scan.image, made.image)
    assert (scan.array == made.array).all()
    for name, structure in made.structures.items():
        assert (scan.structures[name].array == structure.array).all()
    result = process(volume, segmentation, measuredSegments=[])
    assert (matrixOf(result.outputVolume) == matrixOf(volume)).all()
    assert result.outputVolume.GetImageData().GetExtent() == volume.GetImageData().GetExtent()
    assert slicer.modules.volumes.logic().CompareVolumeGeometry(volume, result.outputVolume) == ""


def test_an_extent_that_does_not_start_at_zero_is_regarded():
    volume, segmentation = nodes()
    expected = scene.scanFromNodes(volume, segmentation)
    image = volume.GetImageData()
    first = np.array([3, -2, 5])
    shifted = matrixOf(volume)
    shifted[:3, 3] -= shifted[:3, :3] @ first
    dimensions = image.GetDimensions()
    image.SetExtent(*[int(v) for f, n in zip(first, dimensions, strict=True) for v in (f, f + n - 1)])
    volume.SetIJKToRASMatrix(slicer.util.vtkMatrixFromArray(shifted))
    found = scene.imageFromVolume(volume)
    assert images.same_grid(found, expected.image)
    result = process(volume)
    assert result.outputVolume.GetImageData().GetExtent() == image.GetExtent()
    assert (matrixOf(result.outputVolume) == shifted).all()


def transformNode(turn_deg=30.0, shift=(10.0, -20.0, 5.0)):
    transform = vtk.vtkTransform()
    transform.Translate(*shift)
    transform.RotateZ(turn_deg)
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTransformNode")
    node.SetMatrixTransformToParent(transform.GetMatrix())
    return node


def test_one_parent_transform_of_both_changes_nothing_and_the_result_keeps_it():
    volume, segmentation = nodes()
    plain = scene.scanFromNodes(volume, segmentation)
    transform = transformNode()
    for node in (volume, segmentation):
        node.SetAndObserveTransformNodeID(transform.GetID())
    moved = scene.scanFromNodes(volume, segmentation)
    for name in plain.structures:
        assert (moved.structures[name].array == plain.structures[name].array).all()
    assert process(volume, segmentation).outputVolume.GetTransformNodeID() == transform.GetID()


def test_a_transform_of_the_segmentation_alone_moves_its_masks():
    volume, segmentation = nodes()
    plain = scene.scanFromNodes(volume, segmentation).structures["GTV"].array
    segmentation.SetAndObserveTransformNodeID(transformNode(0.0, (4.0, 0.0, 0.0)).GetID())
    moved = scene.scanFromNodes(volume, segmentation).structures["GTV"].array
    # RAS +4 mm is LPS -4 mm: four voxels of 1 mm towards lower x.
    assert (moved == np.roll(plain, -4, axis=2)).mean() > 0.999


def test_planar_contours_are_filled_on_the_grid_of_the_volume():
    volume, _ = nodes(dataclasses.replace(head(), structures={}))
    scan = head()
    mask = scan.structures["white matter"].array
    points, lines, count = vtk.vtkPoints(), vtk.vtkCellArray(), 0
    z = mask.shape[0] // 2
    for k in (z, z + 1):
        ring = circle(radius=8.0, centre=scan.image.TransformContinuousIndexToPhysicalPoint((20.0, 22.0, float(k))))
        lines.InsertNextCell(len(ring))
        for point in ring:
            points.InsertNextPoint(*(point * (-1, -1, 1)))
            lines.InsertCellPoint(count)
            count += 1
    drawn = vtk.vtkPolyData()
    drawn.SetPoints(points)
    drawn.SetLines(lines)
    segmentation = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "RTSTRUCT")
    contours = slicer.vtkSegmentationConverter.GetSegmentationPlanarContourRepresentationName()
    segmentation.GetSegmentation().SetSourceRepresentationName(contours)
    segment = slicer.vtkSegment()
    segment.SetName("GTV")
    segment.AddRepresentation(contours, drawn)
    segmentation.GetSegmentation().AddSegment(segment, "gtv")
    found = scene.scanFromNodes(volume, segmentation).structures["GTV"].array
    assert np.flatnonzero(found.any(axis=(1, 2))).tolist() == [z, z + 1]
    assert found[z].sum() == pytest.approx(np.pi * 8**2, rel=0.05)


def circle(radius, centre):
    angle = np.linspace(0, 2 * np.pi, 60, endpoint=False)
    return np.array(centre) + radius * np.stack([np.cos(angle), np.sin(angle), 0 * angle], axis=1)


def test_segments_of_one_name_are_told_apart_and_roles_follow_ids_or_names():
    volume, segmentation = nodes()
    segmentation.GetSegmentation().GetNthSegment(0).SetName("GTV")
    ids = list(segmentation.GetSegmentation().GetSegmentIDs())
    scan = scene.scanFromNodes(volume, segmentation, protected=["GTV (2)"], reference=ids[0], measured=[])
    assert [s.name for s in scan.with_role(Role.PROTECTED)] == ["GTV (2)"]
    assert [s.name for s in scan.with_role(Role.REFERENCE)] == ["GTV"]
    assert set(scan.structures) == {"GTV", "GTV (2)"}  # only what has a role is rasterised
    assert {s.name for s in scene.scanFromNodes(volume, segmentation, protected=ids).with_role(Role.PROTECTED)} == {
        "GTV",
        "GTV (2)",
        "white matter",
    }
    with pytest.raises(InputError, match=f"2 segments named 'GTV'; .* by its ID: {ids[0]}, {ids[2]}"):
        scene.scanFromNodes(volume, segmentation, protected=["GTV"])
    with pytest.raises(InputError, match="no segment liver"):
        scene.scanFromNodes(volume, segmentation, protected=["liver"])


def test_the_result_stands_beside_its_input_with_provenance_and_without_its_dicom_uids():
    volume, segmentation = nodes()
    volume.SetAttribute("DICOM.instanceUIDs", "1.2.3 1.2.4")
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)
    study = hierarchy.CreateStudyItem(hierarchy.GetSceneItemID(), "study")
    hierarchy.SetItemParent(hierarchy.CreateItem(study, volume), study)
    result = process(volume, segmentation)
    assert result.outputVolume.GetAttribute("DICOM.instanceUIDs") is None
    assert result.outputVolume.GetAttribute(scene.SOURCE_UIDS_ATTRIBUTE) == "1.2.3 1.2.4"
    assert result.outputVolume.GetNodeReference(scene.SOURCE_REFERENCE) is volume
    assert json.loads(result.outputVolume.GetAttribute(scene.PROVENANCE_ATTRIBUTE))[0]["method"] == "zscore"
    assert json.loads(result.verdictNode.GetText())["status"] == result.verdict.status.value
    for node in (result.outputVolume, result.featureTable, result.verdictNode):
        assert hierarchy.GetItemParent(hierarchy.GetItemByDataNode(node)) == study


def test_harmonizing_a_result_again_keeps_its_history():
    volume, segmentation = nodes()
    first = process(volume, segmentation).outputVolume
    second = process(first, segmentation, method="n4").outputVolume

    def history(node):
        return json.loads(node.GetAttribute(scene.PROVENANCE_ATTRIBUTE))

    assert [entry["method"] for entry in history(second)] == ["zscore", "n4"]
    assert history(second)[:1] == history(first)
    assert scene.scanFromNodes(volume).provenance == ()


def test_given_output_nodes_are_used_again_and_nothing_piles_up():
    volume, segmentation = nodes()
    first = process(volume, segmentation)
    count = slicer.mrmlScene.GetNumberOfNodes()
    again = process(volume, segmentation, outputVolume=first.outputVolume, featureTable=first.featureTable)
    assert again.outputVolume is first.outputVolume
    assert again.featureTable is first.featureTable
    assert slicer.mrmlScene.GetNumberOfNodes() == count


def ct(seed=0, name="CT"):
    """A cylinder of soft tissue in air, with noise."""
    on = grid(size=(128, 128, 12), spacing=(1.0, 1.0, 2.0))
    y, x = np.mgrid[-1:1:128j, -1:1:128j]
    noise = 12 * np.random.default_rng(seed).standard_normal((12, 128, 128))
    array = np.where(np.hypot(x, y) < 0.8, 50 + noise, -1000).astype(np.float32)
    return Scan(images.to_image(array, on), Modality.CT, units="HU", name=name)


def test_units_and_window_are_kept_where_the_scale_is_and_cleared_where_it_is_not():
    volume, _ = nodes(ct())
    hounsfield = slicer.vtkCodedEntry()
    hounsfield.SetValueSchemeMeaning("112031", "DCM", "Attenuation Coefficient")
    volume.SetVoxelValueQuantity(hounsfield)
    assert scene.modalityOf(volume) == "CT"
    volume.GetScalarVolumeDisplayNode().AutoWindowLevelOff()
    volume.GetScalarVolumeDisplayNode().SetWindowLevel(350, 40)
    target, _ = nodes(ct(seed=3, name="target"))
    kept = process(volume, method="kernel-matching", target=target, insist=True).outputVolume
    assert kept.GetVoxelValueQuantity().GetCodeValue() == "112031"
    assert kept.GetScalarVolumeDisplayNode().GetWindow() == 350
    mr, _ = nodes()
    mr.SetVoxelValueQuantity(hounsfield)
    assert process(mr).outputVolume.GetVoxelValueQuantity() is None


def test_tags_come_from_the_dicom_database_and_stay_with_the_node():
    volume, _ = nodes()
    volume.RemoveAttribute(scene.MODALITY_ATTRIBUTE)
    volume.SetAttribute("DICOM.instanceUIDs", "1.2.3")
    tags = {"0008,0060": "MR", "0018,0087": "3", "0018,0080": "2300", "0008,0070": "SIEMENS", "0018,1210": "a\\b"}
    slicer.dicomDatabase.instances["1.2.3"] = tags
    found = scene.scanFromNodes(volume).acquisition
    assert (found.manufacturer, found.field_strength_tesla, found.repetition_time_ms) == ("SIEMENS", 3.0, 2300.0)
    slicer.dicomDatabase.instances.clear()
    assert scene.acquisitionOf(volume) == found


# ---------------------------------------------------------------- what is refused, in words, with nothing written


def emptied(volume):
    volume.SetAndObserveImageData(None)


def asDose(volume):
    volume.SetAttribute("DicomRtImport.DoseVolume", "1")


def withHoles(volume):
    array = slicer.util.arrayFromVolume(volume)
    array[2, 3, 4] = np.nan


def constant(volume):
    slicer.util.arrayFromVolume(volume)[:] = 7


def unknown(volume):
    volume.RemoveAttribute(scene.MODALITY_ATTRIBUTE)


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (emptied, "is empty"),
        (asDose, "dose volume"),
        (withHoles, r"1 voxels that are NaN.*\(4, 3, 2\)"),
        (constant, "constant"),
        (unknown, "modality of 'head' is not known"),
    ],
)
def test_an_unfit_volume_is_named_and_nothing_is_written(spoil, says):
    volume, _ = nodes()
    spoil(volume)
    count = slicer.mrmlScene.GetNumberOfNodes()
    with pytest.raises(ValueError, match=says):
        process(volume)
    assert slicer.mrmlScene.GetNumberOfNodes() == count


@pytest.mark.parametrize("overwritten", [0, 1])
def test_a_result_never_overwrites_the_scan_or_its_target(overwritten):
    volumes = [
        nodes(dataclasses.replace(head(seed=seed), name=name))[0] for seed, name in enumerate(("scan", "wanted"))
    ]
    before = [slicer.util.arrayFromVolume(volume).copy() for volume in volumes]
    count = slicer.mrmlScene.GetNumberOfNodes()
    with pytest.raises(ValueError, match=f"overwrite '{volumes[overwritten].GetName()}'; choose another output"):
        process(volumes[0], method="histogram-matching", target=volumes[1], outputVolume=volumes[overwritten])
    assert slicer.mrmlScene.GetNumberOfNodes() == count
    for volume, array in zip(volumes, before, strict=True):
        assert (slicer.util.arrayFromVolume(volume) == array).all()


# ---------------------------------------------------------------- what one writes in the console


def test_a_single_segment_need_not_be_in_a_list_and_a_list_of_one_reference_is_that_one():
    volume, segmentation = nodes()
    result = process(
        volume, segmentation, protectedSegments="GTV", measuredSegments="brain", referenceSegment=["white matter"]
    )
    roles = {s.name: set(s.roles) for s in result.case.after.structures.values()}
    assert roles == {"GTV": {Role.PROTECTED}, "brain": {Role.MEASURED}, "white matter": {Role.REFERENCE}}
    with pytest.raises(InputError, match=r"one reference structure, but 2 are given \(brain, GTV\)"):
        process(volume, segmentation, referenceSegment=["brain", "GTV"])


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"inputVolume": "structures"}, r"'structures' \(vtkMRMLSegmentationNode\) was given as scan"),
        ({"segmentation": "volume"}, r"'volume' \(vtkMRMLScalarVolumeNode\) was given as segmentation"),
        ({"target": "structures"}, r"'structures' \(vtkMRMLSegmentationNode\) was given as scan"),
        ({"method": "nyul"}, r"Nyul standard scale takes a model as target, not 'wanted' \(vtkMRMLScalarVolumeNode\)"),
        ({"targetSegmentation": "wanted"}, r"'wanted' \(vtkMRMLScalarVolumeNode\) was given as segmentation"),
    ],
)
def test_a_node_of_the_wrong_kind_is_named_with_what_is_wanted(options, says):
    volume, segmentation = nodes(dataclasses.replace(head(), name="volume"))
    segmentation.SetName("structures")
    wanted, _none = nodes(dataclasses.replace(head(seed=1), name="wanted", structures={}))
    known = {"volume": volume, "structures": segmentation, "wanted": wanted}
    given = {"inputVolume": volume, "method": "histogram-matching", "target": wanted}
    given.update({key: known.get(value, value) for key, value in options.items()})
    count = slicer.mrmlScene.GetNumberOfNodes()
    with pytest.raises(InputError, match=says):
        HarmonizeModuleLogic().process(**given)
    assert slicer.mrmlScene.GetNumberOfNodes() == count
    with pytest.raises(InputError, match=r"'volume' \(str\) was given as scan; it must be a vtkMRMLVolumeNode"):
        process("volume")


def test_a_target_may_be_the_name_of_the_only_scan_that_has_it():
    volume, _none = nodes(dataclasses.replace(head(), structures={}))
    wanted, _none = nodes(dataclasses.replace(head(seed=1), name="wanted", structures={}))

    def harmonized(target):
        result = process(volume, method="histogram-matching", target=target)
        return slicer.util.arrayFromVolume(result.outputVolume)

    assert (harmonized("wanted") == harmonized(wanted)).all()
    with pytest.raises(InputError, match="overwrite 'wanted'"):
        process(volume, method="histogram-matching", target="wanted", outputVolume=wanted)
    nodes(dataclasses.replace(head(seed=2), name="wanted", structures={}))
    with pytest.raises(InputError, match="2 scans named 'wanted'; give the node itself"):
        harmonized("wanted")


# ---------------------------------------------------------------- images that cannot be harmonized


def test_the_outline_of_the_body_goes_along_without_a_role_and_is_left_out_where_it_cannot_be_used():
    volume, segmentation = nodes()
    own = segmentation.GetSegmentation()
    brain = own.GetSegment(own.GetSegmentIdBySegmentName("brain"))
    brain.SetName(" External")
    scan = scene.scanFromNodes(volume, segmentation, measured=["GTV"])
    assert list(scan.structures) == ["GTV", " External"]
    assert scan.structures[" External"].roles == frozenset()
    assert (body_mask(scan) == scan.structures[" External"].array).all()
    own.AddEmptySegment("empty", "Body")
    assert list(scene.scanFromNodes(volume, segmentation, measured=["GTV"]).structures) == ["GTV", " External"]
    with pytest.raises(InputError, match="'Body' is empty"):
        scene.scanFromNodes(volume, segmentation, measured=["GTV", "Body"])


def test_no_volume_a_label_map_a_colour_volume_and_a_single_slice_are_refused():
    with pytest.raises(ValueError, match="No input volume"):
        process(None)
    label = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode", "labels")
    slicer.util.updateVolumeFromArray(label, np.ones((4, 4, 4), np.uint8))
    with pytest.raises(ValueError, match="label map"):
        process(label)
    colour = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLVectorVolumeNode", "photo")
    slicer.util.updateVolumeFromArray(colour, np.random.default_rng(0).random((4, 4, 4, 3)))
    with pytest.raises(ValueError, match="colour"):
        process(colour)
    flat, _ = nodes()
    slicer.util.updateVolumeFromArray(flat, np.random.default_rng(0).random((1, 30, 30)))
    with pytest.raises(ValueError, match="single slice"):
        process(flat)


def test_an_empty_segment_and_one_outside_the_volume_are_named():
    volume, segmentation = nodes()
    segmentation.GetSegmentation().AddEmptySegment("nothing", "nothing")
    with pytest.raises(ValueError, match="'nothing' is empty or lies outside 'head'"):
        process(volume, segmentation)
    process(volume, segmentation, measuredSegments=["GTV"])  # not chosen, not in the way


def test_ct_offered_to_whitestripe_and_pet_without_suv_are_refused():
    volume, _ = nodes(ct())
    with pytest.raises(ValueError, match="WhiteStripe is for MR; 'CT' is CT"):
        process(volume, method="whitestripe")
    made = head()
    pet, _ = nodes(dataclasses.replace(made, modality=Modality.PET, units="Bq/ml", name="PET"))
    with pytest.raises(ValueError, match="SUV"):
        process(pet, method="resolution-matching", target=8.0)


def test_a_refused_result_is_not_written_unless_insisted_and_then_marked(monkeypatch):
    from HarmonizeExtension.methods.statistical import ZScore

    def mirrored(self, scan, body, progress, cancelled):
        return scan.array[:, :, ::-1]

    monkeypatch.setattr(ZScore, "_harmonize", mirrored)
    volume, segmentation = nodes(head(seed=4))
    array = slicer.util.arrayFromVolume(volume)
    array[:, :, : array.shape[2] // 2] += 500 * np.random.default_rng(0).random(
        array[:, :, : array.shape[2] // 2].shape
    )
    count = slicer.mrmlScene.GetNumberOfNodes()
    with pytest.raises(ValueError, match="refused"):
        process(volume, segmentation)
    assert slicer.mrmlScene.GetNumberOfNodes() == count
    result = process(volume, segmentation, insist=True)
    assert "(refused)" in result.outputVolume.GetName()
    assert result.outputVolume.GetAttribute(scene.VERDICT_ATTRIBUTE) == "refuse"


def test_cancelling_writes_nothing():
    from HarmonizeExtension.errors import Cancelled

    volume, segmentation = nodes()
    count, asked = slicer.mrmlScene.GetNumberOfNodes(), []

    def later():
        asked.append(1)
        return len(asked) > 3

    with pytest.raises(Cancelled):
        process(volume, segmentation, cancelled=later)
    assert slicer.mrmlScene.GetNumberOfNodes() == count


def test_a_common_grid_gives_a_result_on_that_grid():
    volume, segmentation = nodes()
    result = process(volume, segmentation, commonSpacing=2.0)
    assert result.outputVolume.GetSpacing() == pytest.approx((2.0, 2.0, 2.0))
    assert (
        sitk.GetArrayViewFromImage(result.case.after.image).shape
        == slicer.util.arrayFromVolume(result.outputVolume).shape
    )
