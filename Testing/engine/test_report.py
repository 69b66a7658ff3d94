"""The report says what was done to what, for whom it is to be signed by."""

import dataclasses
import html as markup
import re

import pytest

from Testing.engine.scans import head

from HarmonizeExtension import case, report
from HarmonizeExtension.guard import Check, Status, Verdict
from HarmonizeExtension.methods import catalogue
from HarmonizeExtension.methods.preparation import BiasFieldCorrection, Resampling
from HarmonizeExtension.methods.resolution_matching import ResolutionMatching
from HarmonizeExtension.methods.statistical import HistogramMatching, ZScore
from HarmonizeExtension.scan import Acquisition, Modality


@pytest.fixture(scope="module")
def result():
    scan = dataclasses.replace(
        head(), acquisition=Acquisition(field_strength_tesla=1.5), provenance=({"note": "The mask was resampled"},)
    ).with_roles(reference="white matter", protected=["GTV"], measured=["brain"])
    target = dataclasses.replace(head(seed=1), name="scanner A")
    return case.run(scan, HistogramMatching(target), [BiasFieldCorrection(iterations=2), Resampling((1.5, 1.5, 1.5))])


def test_the_facts_are_those_of_the_case(result):
    facts = report.facts(result.before, result.after.provenance)
    assert HistogramMatching.card.citation in facts["Method"]
    assert facts["Target"] == "scanner A"
    assert BiasFieldCorrection.card.citation in facts["Steps before"]
    assert "resampling spacing (mm) 1.5 × 1.5 × 1.5" in facts["Steps before"]
    roles = [facts[f"{role} structures"] for role in ("Reference", "Protected", "Measured")]
    assert roles == ["white matter", "GTV", "brain"]
    assert facts["Acquisition"] == "field strength (T) 1.5"
    assert facts["Voxel size"].startswith("1.5 × 1.5 × 1.5 mm")
    assert facts["While reading"] == "The mask was resampled."
    assert "scanner A" not in facts["Settings"]


def test_a_methods_section_needs_no_more_than_its_two_sentences(result):
    text = report.methods_text(result.after.provenance, result.features)
    for part in (HistogramMatching.card.citation, "scanner A", "64 bins", "2 mm by B-spline", report.__version__):
        assert part in text
    assert text.count("Radiomic features") == 1


def test_a_method_without_target_names_none():
    facts = report.facts(head(), ZScore().apply(head()).provenance)
    assert "Target" not in facts
    assert facts["Steps before"] == "none"


def test_a_resolution_is_a_target_in_mm():
    entry = {"method": ResolutionMatching.card.name, "parameters": {"target": 7.5, "estimate": "noise"}}
    assert report.facts(head(), [entry])["Target"] == "7.5 mm FWHM"


@pytest.mark.parametrize("card", catalogue.cards(), ids=lambda card: card.name)
def test_every_method_of_the_catalogue_is_cited(card):
    assert card.citation in report.facts(head(), [{"method": card.name, "parameters": {}}])["Method"]


@pytest.mark.parametrize("status", list(Status))
def test_checks_lie_open_unless_all_passed_and_show_their_limits(result, status):
    check = Check("shift", 0.4, status, "The image moved", "voxels", 0.3125, 1.625)
    section = dataclasses.replace(result.section({}), verdict=Verdict((check,)))
    page = report.html([section])
    assert ("<details open><summary>All checks" in page) == (status is not Status.PASS)
    assert "0.3125" in page
    assert "1.625" in page


def short_table(page):
    return re.findall(r"<td title='([^']*)'>(?!original_)([^<]*)</td>", page)


@pytest.mark.parametrize(
    ("modality", "only"),
    [
        (Modality.MR, set()),
        (Modality.CT, {"firstorder 10Percentile", "firstorder 90Percentile"}),
        (Modality.PET, {"firstorder Maximum"}),
    ],
)
def test_each_modality_is_headed_by_the_features_it_is_read_by(result, modality, only):
    section = result.section({})
    page = report.html([dataclasses.replace(section, scan=dataclasses.replace(section.scan, modality=modality))])
    shown = {name: title for title, name in short_table(page)}
    some = {"firstorder 10Percentile", "firstorder 90Percentile", "firstorder Maximum"}
    assert shown.keys() & some == only
    assert "shape VoxelVolume" in shown
    assert "IBSI" in shown["firstorder Mean"]
    assert "<td>mm^3</td>" in page


def test_names_cannot_break_the_page(result):
    evil = "<script>'\""
    section = dataclasses.replace(
        result.section({evil: b"png"}, {evil: (1, 2, 3)}), scan=dataclasses.replace(result.before, name=evil)
    )
    page = report.html([section])
    assert "<script>" not in page
    assert page.count(markup.escape(evil)) >= 4
    assert "rgb(1, 2, 3)" in page
