"""A protocol as target: typed, by name, from a reference scan's tags; what makes no sense is told."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from Testing.engine.scans import head

from HarmonizeExtension.errors import InputError
from HarmonizeExtension.files.models import ModelCard, save_model
from HarmonizeExtension.files.writing import write_image
from HarmonizeExtension.methods import catalogue
from HarmonizeExtension.methods.phycharm.harmonizer import Phycharm
from HarmonizeExtension.methods.phycharm.protocols import (
    ProtocolTarget,
    of_acquisition,
    of_scanner,
    protocol_from_text,
    text_of,
)
from HarmonizeExtension.phantoms.scanners import SCANNERS
from HarmonizeExtension.physics.mr_signal import Sequence
from HarmonizeExtension.scan import Acquisition, Modality

TAGS = Acquisition(
    repetition_time_ms=2300, echo_time_ms=2.98, inversion_time_ms=900, flip_angle_deg=9, field_strength_tesla=3.0
)


@given(
    tr=st.integers(1500, 4000),
    ti=st.integers(400, 1100),
    te=st.floats(1.5, 6).map(lambda v: round(v, 2)),
    fa=st.integers(3, 20),
    field=st.sampled_from([1.5, 3]),
    comma=st.booleans(),
)
def test_what_is_typed_is_the_protocol_of_the_same_tags(tr, ti, te, fa, field, comma):
    text = (", " if comma else " ").join([f"tr = {tr}", f"TI={ti}", f"TE={te}", f"FA={fa}", f"FIELD={field}"])
    found = protocol_from_text(text)
    wanted = of_acquisition(Acquisition(None, None, None, field, tr, te, ti, fa), found.name)
    assert found == wanted
    assert protocol_from_text(found.name) == found  # the name says all
    said = protocol_from_text(text_of(Acquisition(None, None, None, field, tr, te, ti, fa), "scan"))
    assert dataclasses.replace(said, name=found.name) == found


def test_times_between_echoes_need_the_shot_and_no_inversion_is_a_spoiled_gradient_echo():
    ge = protocol_from_text("TR=8.2 TI=450 TE=3.2 FA=12 FIELD=3 SHOT=1800")
    assert (ge.protocol.repetition_time_ms, ge.protocol.readout_repetition_time_ms) == (1800, 8.2)
    assert protocol_from_text("TR=18 TE=4 FA=25 FIELD=1.5").protocol.sequence is Sequence.SPOILED_GRADIENT_ECHO
    with pytest.raises(InputError, match="time between echoes"):
        protocol_from_text("TR=8.2 TI=450 TE=3.2 FA=12 FIELD=3")


def test_a_simulated_scanner_is_known_by_name_with_its_own_train():
    assert of_scanner("GE 1.5T").protocol == SCANNERS["GE 1.5T"].protocol
    assert protocol_from_text(" GE 1.5T ") == of_scanner("GE 1.5T")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("GE 1,5T", "no protocol 'GE 1,5T'; did you mean 'GE 1.5T'"),
        ("fast", "there are: Siemens 3T.*or type one in: TR="),
        ("TR=2300 TI=900 TE=3 FA=9", "lacks FIELD"),
        ("TR=2300 TI=900 TE=3 FA=9 FIELD=7", "not at 7 T"),
        ("TR=2300 TI=2400 TE=3 FA=9 FIELD=3", "inversion time .* must be below repetition time"),
        ("TR=2300 TI=900 TE=three FA=9 FIELD=3", "'TE=three' in a protocol is no number"),
        ("TR=2300 TI=900 TE=3 FA=9 FIELD=3 B0=3", "'B0=3' is no part of a protocol"),
        ("TR=2300 TR=2400 TI=900 TE=3 FA=9 FIELD=3", "TR is given twice"),
        ("TR=2300 TE=3 FA=9 FIELD=3", "no inversion time"),
        ("TR=nan TI=900 TE=3 FA=9 FIELD=3", "'TR=nan' in a protocol is no number"),
    ],
)
def test_what_makes_no_protocol_is_refused_with_a_way_out(text, says):
    with pytest.raises(InputError, match=says):
        protocol_from_text(text)


@pytest.mark.parametrize(("stored", "nominal"), [(2.89, 3.0), (1.494, 1.5), (3.0, 3.0)])
def test_what_scanners_write_for_their_field_is_the_nominal_one(stored, nominal):
    acquisition = dataclasses.replace(TAGS, field_strength_tesla=stored)
    assert of_acquisition(acquisition, "scan").field_strength_tesla == nominal


def test_tags_that_are_missing_are_named():
    with pytest.raises(InputError, match=r"'scan' lacks the magnetic field strength \(0018,0087\); type"):
        of_acquisition(dataclasses.replace(TAGS, field_strength_tesla=None), "scan")
    with pytest.raises(InputError, match=r"'scan' lacks echo time \(0018,0081\)"):
        of_acquisition(dataclasses.replace(TAGS, echo_time_ms=None), "scan")
    with pytest.raises(InputError, match=r"not at 0\.35 T"):
        of_acquisition(dataclasses.replace(TAGS, field_strength_tesla=0.35), "scan")


def test_a_target_may_tell_the_source_and_the_model(tmp_path):
    save_model(tmp_path / "mine", ModelCard("phycharm", "mine"), {})
    text = f"{tmp_path / 'mine'}#TR=2300 TI=900 TE=3 FA=9 FIELD=3 -> GE 3T"
    found = catalogue.target_from_text(Phycharm.card, text, Modality.MR)
    assert found == ProtocolTarget(
        of_scanner("GE 3T"), protocol_from_text("TR=2300 TI=900 TE=3 FA=9 FIELD=3"), tmp_path / "mine"
    )
    assert ProtocolTarget.from_text("GE 3T") == ProtocolTarget(of_scanner("GE 3T"))
    with pytest.raises(InputError, match="no model folder 'nowhere'"):
        ProtocolTarget.from_text("nowhere#GE 3T")


def test_a_reference_scan_gives_its_tags_and_one_without_says_what_is_missing(tmp_path):
    write_image(head().image, tmp_path / "reference.nii.gz")
    scan = catalogue.target_from_text(Phycharm.card, str(tmp_path / "reference.nii.gz"), Modality.MR)
    with pytest.raises(InputError, match=r"'reference.*' lacks repetition time \(0018,0080\).*type the protocol in"):
        Phycharm.for_target(scan)
