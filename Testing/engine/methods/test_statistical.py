"""Z-score, WhiteStripe, Nyul, histogram matching: what their definitions promise."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from Testing.engine.scans import bits, grids, head

from HarmonizeExtension.errors import InputError, ModelError
from HarmonizeExtension.methods.statistical import HistogramMatching, Nyul, StandardScale, WhiteStripe, ZScore
from HarmonizeExtension.scan import Modality

WHITE = {"reference": "white matter"}


def methods():
    reference = head(seed=9)
    return [ZScore(), WhiteStripe(), HistogramMatching(reference), Nyul(StandardScale.fit([reference, head(seed=8)]))]


def inside(scan, name="white matter"):
    return scan.array[scan.structures[name].array]


def test_zscore_has_mean_0_and_sd_1_in_the_reference_structure():
    after = ZScore().apply(head().with_roles(**WHITE))
    assert abs(inside(after).mean()) < 1e-4
    assert inside(after).std() == pytest.approx(1, abs=1e-4)


def test_whitestripe_centres_on_white_matter_though_fat_is_brighter_and_grey_matter_more_frequent():
    scan = head().with_roles(reference="brain")
    after = WhiteStripe().apply(scan)
    assert abs(np.median(inside(after))) < 1.0
    assert np.median(after.array[scan.structures["brain"].array & ~scan.structures["white matter"].array]) < -2


@settings(max_examples=12, deadline=None)
@given(gain=st.floats(0.05, 30), offset=st.floats(-50, 500))
def test_gain_and_offset_of_a_scanner_leave_no_trace(gain, offset):
    scan = head().with_roles(**WHITE)
    other = scan.with_array((scan.array * gain + offset).astype(np.float32))
    for method in (ZScore(), WhiteStripe(), HistogramMatching(head(seed=9))):
        one, two = method.apply(scan).array, method.apply(other).array
        assert np.abs(one - two).max() < 2e-2 * np.ptp(one)


@pytest.mark.parametrize("number", range(4))
def test_every_method_is_monotone_keeps_the_grid_and_repeats_itself(number):
    scan, method = head(), methods()[number]
    after = method.apply(scan)
    order = np.argsort(scan.array, axis=None, kind="stable")
    assert (np.diff(after.array.ravel()[order]) >= -1e-4 * np.ptp(after.array)).all()
    assert bits(after.image) == bits(scan.image)
    assert after.array.tobytes() == method.apply(scan).array.tobytes()
    assert after.units == ""
    assert json.dumps(after.provenance)  # must be plain JSON


@settings(max_examples=15, deadline=None)
@given(on=grids(), seed=st.integers(0, 99))
def test_any_oblique_anisotropic_grid_comes_back_to_the_last_bit_and_masks_stay(on, seed):
    scan = head(on, seed)
    after = ZScore().apply(scan)
    assert bits(after.image) == bits(on)
    for name, structure in scan.structures.items():
        assert bits(after.structures[name].mask) == bits(on)
        assert (after.structures[name].array == structure.array).all()


def test_histogram_matching_gives_the_quantiles_of_the_reference():
    reference = head(seed=3)
    darker = reference.with_array((reference.array**0.7 * 12).astype(np.float32))
    after = HistogramMatching(reference.with_roles(reference="brain")).apply(darker.with_roles(reference="brain"))
    at = np.linspace(0.02, 0.98, 25)
    assert np.allclose(np.quantile(inside(after, "brain"), at), np.quantile(inside(reference, "brain"), at), atol=1.0)


def test_a_lesion_brighter_than_every_landmark_keeps_its_contrast():
    scan = head()
    array = scan.array
    array[scan.structures["GTV"].array] += 400
    for method in methods():
        after = method.apply(scan.with_array(array)).array
        lesion = scan.structures["GTV"].array
        assert after[lesion].std() > 0
        assert after[lesion].min() > after[scan.structures["white matter"].array].max()


def test_nyul_brings_scans_of_different_gamma_onto_one_scale():
    train = [head(seed=s).with_roles(**WHITE) for s in range(4)]
    scale = StandardScale.fit(train)
    bent = head(seed=7).with_roles(**WHITE)
    bent = bent.with_array((bent.array**1.3 * 0.4).astype(np.float32))
    found = np.percentile(inside(Nyul(scale).apply(bent)), scale.percentiles)
    assert np.allclose(found, scale.landmarks, atol=0.5)


def test_a_standard_scale_survives_its_folder_and_refuses_damage(tmp_path):
    scale = StandardScale.fit([head(seed=s) for s in range(3)])
    scale.save(tmp_path / "scale")
    assert StandardScale.load(tmp_path / "scale") == scale
    card = json.loads((tmp_path / "scale" / "model.json").read_text())
    card["learnt"]["landmarks"][3] = -1e9
    (tmp_path / "scale" / "model.json").write_text(json.dumps(card))
    with pytest.raises(ModelError, match="damaged"):
        StandardScale.load(tmp_path / "scale")
    with pytest.raises(ModelError):
        Nyul.for_target(tmp_path / "nowhere")


def test_nyul_asks_for_the_structure_that_its_scale_was_learnt_in():
    scale = StandardScale.fit([head().with_roles(**WHITE)])
    with pytest.raises(InputError, match="white matter"):
        Nyul(scale).apply(head())


def test_ct_is_refused_by_name():
    import dataclasses

    ct = dataclasses.replace(head(), modality=Modality.CT, units="HU", name="planning CT")
    for method in methods():
        with pytest.raises(InputError, match=r"planning CT.*is CT"):
            method.apply(ct)


def test_too_small_or_constant_reference_structures_are_named():
    scan = head()
    array = scan.array
    array[scan.structures["white matter"].array] = 77
    with pytest.raises(InputError, match="constant inside 'white matter'"):
        ZScore().apply(scan.with_array(array).with_roles(**WHITE))
    with pytest.raises(InputError, match="no structure named liver"):
        scan.with_roles(reference="liver")


def test_a_reference_structure_missing_in_the_reference_scan_is_asked_for():
    import dataclasses

    bare = dataclasses.replace(head(seed=5), structures={}, name="target scan")
    with pytest.raises(InputError, match="'target scan' has no structure white matter"):
        HistogramMatching(bare).apply(head().with_roles(**WHITE))
