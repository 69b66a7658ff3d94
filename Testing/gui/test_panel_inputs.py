"""The inputs and the method, clicked through as a planner does: roles, modality, what is asked for and when."""

import pytest

pytest.importorskip("Testing.gui.panels", reason="slicer-core or PySide6 is missing", exc_type=ImportError)

import qt
import slicer

from HarmonizeModuleLib import scene as door
from HarmonizeModuleLib.inputsPanel import MEASURED_COLUMN, PROTECTED_COLUMN, REFERENCE_COLUMN
from Testing.engine.scans import head
from Testing.gui.panels import ct, parameters, pet, rows, select, tick, ticked
from Testing.harness import scene

from HarmonizeExtension.methods import catalogue
from HarmonizeExtension.scan import Modality, TargetKind

# ---------------------------------------------------------------- inputs


def test_the_first_scan_and_its_segmentation_are_chosen_and_its_modality_is_read(heads, panel):
    p = parameters(panel)
    assert p.inputVolume is heads[0][0]
    assert p.segmentation is heads[0][1]
    assert panel.ui.modalityCombo.currentText == "from the scan (MR)"
    assert list(rows(panel)) == ["brain", "white matter", "GTV"]
    scene.assertNoErrors()


def test_another_scan_brings_its_own_segmentation_and_a_fresh_output(panel, heads):
    select(panel, heads[0][0], "zscore")
    panel.ui.applyButton.click()
    result = parameters(panel).outputVolume
    assert result is not None
    select(panel, heads[1][0])
    p = parameters(panel)
    assert p.segmentation is heads[1][1]
    assert p.outputVolume is None  # the result of the first scan is not overwritten
    assert p.featureTable is None
    panel.ui.applyButton.click()
    assert parameters(panel).outputVolume is not result
    scene.assertNoErrors()


def test_in_mr_disease_is_protected_and_everything_measured_by_default(panel, heads):
    select(panel, heads[0][0])
    assert ticked(panel, PROTECTED_COLUMN) == ["GTV"]
    assert ticked(panel, MEASURED_COLUMN) == ["brain", "white matter", "GTV"]
    assert ticked(panel, REFERENCE_COLUMN) == []
    scene.assertNoErrors()


def test_in_pet_and_ct_nothing_is_protected_by_default_but_may_be(panel):
    volume, segmentation = door.nodesFromScan(pet())
    select(panel, volume)
    assert ticked(panel, PROTECTED_COLUMN) == []
    assert ticked(panel, MEASURED_COLUMN) == ["brain", "white matter", "GTV"]
    tick(panel, "GTV", PROTECTED_COLUMN)
    for modality, protected in (("CT", []), ("MR", ["CTV MR"])):  # only segments that are new get defaults
        panel.ui.modalityCombo.currentIndex = panel.ui.modalityCombo.findData(modality)
        assert ticked(panel, PROTECTED_COLUMN) == ["GTV"]
        segmentation.GetSegmentation().AddEmptySegment("", f"CTV {modality}")
        assert ticked(panel, PROTECTED_COLUMN) == ["GTV", *protected]
    scene.assertNoErrors()


def test_reference_is_exclusive_and_the_other_roles_are_not(panel, heads):
    select(panel, heads[0][0])
    tick(panel, "brain", REFERENCE_COLUMN)
    tick(panel, "white matter", REFERENCE_COLUMN)
    assert ticked(panel, REFERENCE_COLUMN) == ["white matter"]
    tick(panel, "white matter", REFERENCE_COLUMN, on=False)
    assert ticked(panel, REFERENCE_COLUMN) == []
    tick(panel, "brain", PROTECTED_COLUMN)
    tick(panel, "GTV", MEASURED_COLUMN, on=False)
    p, ids = parameters(panel), rows(panel)
    stored = [panel.ui.structureTable.item(ids[name], 0).data(qt.Qt.UserRole) for name in ("brain", "GTV")]
    assert list(p.protectedSegments) == stored
    assert stored[1] not in list(p.measuredSegments)
    scene.assertNoErrors()


def test_segments_are_followed_while_they_are_edited(panel, heads):
    select(panel, heads[0][0])
    tick(panel, "brain", MEASURED_COLUMN, on=False)
    segmentation = heads[0][1].GetSegmentation()
    segmentID = segmentation.AddEmptySegment("", "Segment_1")
    assert list(rows(panel)) == ["brain", "white matter", "GTV", "Segment_1"]
    assert ticked(panel, MEASURED_COLUMN) == ["white matter", "GTV", "Segment_1"]
    segmentation.GetSegment(segmentID).SetName("Lesion left")
    assert ticked(panel, PROTECTED_COLUMN) == ["GTV", "Lesion left"]
    tick(panel, "Lesion left", PROTECTED_COLUMN, on=False)
    segmentation.GetSegment(segmentID).Modified()  # such as a stroke of the brush
    assert ticked(panel, PROTECTED_COLUMN) == ["GTV"]
    segmentation.RemoveSegment(segmentID)
    assert list(rows(panel)) == ["brain", "white matter", "GTV"]
    assert segmentID not in list(parameters(panel).measuredSegments)
    scene.assertNoErrors()


def test_another_segmentation_gets_its_own_roles_even_where_the_ids_are_the_same(panel, heads):
    volume, _segmentation = heads[0]
    nodes = []
    for name in ("GTV", "liver"):
        node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", name)
        node.GetSegmentation().AddEmptySegment("Segment_1", name)
        nodes.append(node)
    select(panel, volume)
    panel.ui.segmentationSelector.setCurrentNode(nodes[0])
    assert ticked(panel, PROTECTED_COLUMN) == ["GTV"]
    panel.ui.segmentationSelector.setCurrentNode(nodes[1])
    assert ticked(panel, PROTECTED_COLUMN) == []
    assert ticked(panel, MEASURED_COLUMN) == ["liver"]
    panel.ui.segmentationSelector.setCurrentNode(None)
    assert rows(panel) == {}
    assert list(parameters(panel).measuredSegments) == []
    scene.assertNoErrors()


def test_a_scan_that_does_not_say_its_modality_asks_for_it(panel, heads):
    volume = heads[0][0]
    volume.RemoveAttribute(door.MODALITY_ATTRIBUTE)
    select(panel, volume, "zscore")
    assert panel.ui.modalityCombo.currentText == "from the scan (not said)"
    assert not panel.ui.applyButton.enabled
    assert "Choose the modality" in panel.ui.applyButton.toolTip
    panel.ui.modalityCombo.currentIndex = panel.ui.modalityCombo.findData("MR")
    assert panel.ui.applyButton.enabled
    assert parameters(panel).modality == "MR"
    scene.assertNoErrors()


# ---------------------------------------------------------------- method and target


@pytest.mark.parametrize(("make", "modality"), [(head, Modality.MR), (ct, Modality.CT), (pet, Modality.PET)])
def test_only_methods_that_fit_the_modality_are_offered(panel, make, modality):
    volume, _segmentation = door.nodesFromScan(make())
    select(panel, volume)
    combo = panel.ui.methodCombo
    offered = [combo.itemData(i) for i in range(combo.count)]
    assert offered == [card.name for card in catalogue.cards(modality)]
    assert parameters(panel).method in offered
    scene.assertNoErrors()


def shown(panel):
    names = ("targetVolumeSelector", "targetSegmentationSelector", "targetFolderEdit", "targetTextCombo")
    return [name for name in names if not getattr(panel.ui, name).isHidden()]


def test_the_target_is_asked_for_as_the_method_needs_it_and_apply_says_what_is_missing(panel, heads, tmp_path):
    ui = panel.ui

    def why():
        assert ui.applyButton.enabled == ui.applyButton.toolTip.startswith("Harmonize the scan")
        return ui.applyButton.toolTip

    select(panel, heads[0][0], "histogram-matching")
    assert shown(panel) == ["targetVolumeSelector"]
    assert why() == "Choose a reference scan"
    select(panel, heads[0][0], target=heads[0][0])
    assert "is the scan itself" in why()
    select(panel, heads[0][0], target=heads[1][0])
    assert ui.applyButton.enabled
    assert parameters(panel).targetSegmentation is heads[1][1]
    tick(panel, "brain", REFERENCE_COLUMN)
    assert shown(panel) == ["targetVolumeSelector", "targetSegmentationSelector"]
    ui.targetSegmentationSelector.setCurrentNode(None)
    assert "Choose the segmentation of the reference scan" in why()
    ui.targetSegmentationSelector.setCurrentNode(heads[1][1])
    assert ui.applyButton.enabled
    ui.outputSelector.setCurrentNode(heads[0][0])
    assert "would overwrite the scan" in why()
    ui.outputSelector.setCurrentNode(heads[1][0])
    assert "would overwrite the reference scan" in why()
    ui.outputSelector.setCurrentNode(None)
    select(panel, heads[0][0], "nyul")
    assert shown(panel) == ["targetFolderEdit"]
    assert why() == "Choose a model folder"
    ui.targetFolderEdit.currentPath = str(tmp_path)
    assert ui.applyButton.enabled
    select(panel, heads[0][0], "zscore")
    assert shown(panel) == []
    assert ui.applyButton.enabled
    ui.inputSelector.setCurrentNodeID("")
    assert why() == "Choose a scan to harmonize"
    scene.assertNoErrors()


def test_a_kernel_is_chosen_by_name_or_by_a_reference_scan(panel):
    volume, _none = door.nodesFromScan(ct())
    other, _none = door.nodesFromScan(ct("reference"))
    select(panel, volume, "kernel-matching")
    combo = panel.ui.targetTextCombo
    assert shown(panel) == ["targetVolumeSelector", "targetTextCombo"]
    assert [combo.itemText(i) for i in range(combo.count)] == ["", "soft", "standard", "sharp"]
    assert panel.ui.applyButton.toolTip == "Choose a reference scan or a kernel"
    combo.currentIndex = combo.findText("soft")
    assert parameters(panel).targetText == "soft"
    assert panel.ui.applyButton.enabled
    select(panel, volume, target=other)
    assert not combo.enabled
    assert "The reference scan says it" in combo.toolTip
    panel.ui.targetVolumeSelector.setCurrentNode(None)
    assert combo.enabled
    combo.setEditText("B30f")  # no generic kernel
    panel.ui.applyButton.click()
    assert "there is no kernel 'B30f'; choose soft, standard, sharp" in scene.errorTexts()[0]
    scene.messages.clear()
    scene.assertNoErrors()


def test_a_resolution_is_typed_in_mm_and_does_not_outlive_its_method(panel):
    for made in (pet(), ct()):
        door.nodesFromScan(made)
    select(panel, slicer.util.getNode("PET"), "resolution-matching")
    assert panel.ui.applyButton.toolTip == "Choose a reference scan or a resolution in mm"
    panel.ui.targetTextCombo.setEditText("9.5")
    assert parameters(panel).targetText == "9.5"
    assert panel.ui.applyButton.enabled
    select(panel, slicer.util.getNode("CT"))
    assert parameters(panel).method == "kernel-matching"
    assert parameters(panel).targetText == ""
    scene.assertNoErrors()


def test_bias_correction_is_offered_for_mr_only(panel, heads):
    select(panel, heads[0][0], "zscore")
    assert not panel.ui.biasCheckBox.isHidden()
    volume, _none = door.nodesFromScan(ct())
    select(panel, volume)
    assert panel.ui.biasCheckBox.isHidden()
    scene.assertNoErrors()


@pytest.mark.parametrize("card", catalogue.cards(), ids=lambda card: card.name)
def test_every_method_asks_for_its_target_or_for_none(panel, heads, card):
    """A method that is new in the catalogue must be one that the panel can show."""
    if Modality.MR not in card.modalities:
        volume, _ = door.nodesFromScan(ct() if Modality.CT in card.modalities else pet())
    else:
        volume = heads[0][0]
    select(panel, volume, card.name)
    assert parameters(panel).method == card.name
    if card.target is TargetKind.NONE:
        assert panel.ui.applyButton.enabled
    else:
        assert not panel.ui.applyButton.enabled
        assert "Choose a" in panel.ui.applyButton.toolTip
    scene.assertNoErrors()
