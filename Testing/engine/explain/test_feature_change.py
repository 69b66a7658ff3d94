"""What moved a feature is shared out without a rest, to where it happened."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from Testing.engine.scans import grid, head

from HarmonizeExtension.errors import Cancelled, InputError
from HarmonizeExtension.explain import feature_change as module
from HarmonizeExtension.explain.faithfulness import Verdict
from HarmonizeExtension.explain.feature_change import feature_change, narrowed
from HarmonizeExtension.radiomics.extraction import extract
from HarmonizeExtension.radiomics.settings import Settings
from HarmonizeExtension.scan import Modality

MEAN, CONTRAST = "original_firstorder_Mean", "original_glcm_Contrast"


def as_ct(scan):
    """The same voxels as HU, whose scale stays."""
    return scan.with_array(scan.array, modality=Modality.CT, units="HU")


def change(before, after, feature, settings=None, seed=0, **more):
    return feature_change(
        before,
        after,
        "GTV",
        [feature],
        lambda values: values[feature],
        settings or Settings(bin_width=10.0),
        np.random.default_rng(seed),
        **more,
    )


@pytest.fixture(scope="module")
def before():
    return as_ct(head(grid(size=(40, 44, 30))))


@settings(max_examples=3, deadline=None)
@given(seed=st.integers(0, 1000))
def test_shares_add_up_to_the_change_whatever_changed(before, seed):
    rng = np.random.default_rng(seed)
    field = ndimage.gaussian_filter(rng.standard_normal(before.array.shape), 3) * 200
    after = before.with_array(before.array + field)
    found = change(before, after, CONTRAST, seed=seed)
    assert found.share.sum() == pytest.approx(found.after - found.before, rel=1e-9)
    bins = Settings(bin_width=10.0)
    measured = [extract(s, bins, structures=["GTV"]).rows[0].values[CONTRAST] for s in (before, after)]
    assert [found.before, found.after] == pytest.approx(measured, rel=1e-12)


def test_the_shares_of_a_mean_are_those_of_the_voxels(before):
    rng = np.random.default_rng(1)
    after = before.with_array(before.array + ndimage.gaussian_filter(rng.standard_normal(before.array.shape), 2) * 100)
    found = change(before, after, MEAN)
    inside = before.structures["GTV"].array
    moved = np.where(inside, after.array - before.array, 0) / inside.sum()
    expected = ndimage.sum(moved, found.label, np.arange(len(found.share)))
    assert found.share == pytest.approx(expected, abs=1e-4)
    assert found.uncertainty.max() < 1e-4
    assert found.faithfulness.verdict is Verdict.FAITHFUL
    assert len(found.share) <= module.MOST_BLOCKS + 1


def test_what_happened_in_one_place_is_found_there(before):
    inside = before.structures["GTV"].array
    at = np.argwhere(inside)[0]
    array = before.array
    spot = np.zeros(array.shape, bool)
    spot[tuple(slice(i, i + 3) for i in at)] = True
    spot &= inside
    array[spot] += 80
    found = change(before, before.with_array(array), CONTRAST)
    volume = found.volume()
    touched = np.isin(found.label, found.label[spot])
    assert volume.shape == before.array.shape
    assert np.abs(volume[~touched]).max() < 1e-9
    assert volume[spot].max() > 0.1
    # Where the image changed in one place only, that place says all.
    assert found.faithfulness.verdict is Verdict.AS_CONTROL
    assert "the change of intensity" in found.faithfulness.sentence


def test_what_changes_outside_belongs_to_the_surroundings(before):
    array = before.array
    array[ndimage.binary_dilation(before.structures["GTV"].array, iterations=12) == 0] += 50
    with pytest.raises(InputError, match="did not change"):
        change(before, before.with_array(array), MEAN)


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (0.8, 0.8, 1.6)])
def test_a_part_is_measured_as_the_whole(spacing):
    scan = as_ct(head(grid(size=(90, 96, 60), spacing=spacing)))
    resampled = Settings.for_modality(Modality.CT)
    own = narrowed(resampled, [CONTRAST, MEAN])
    box = module._box(scan, "GTV", own)
    assert any(s.start > 0 for s in box)
    whole, cut = (extract(s, own, structures=["GTV"]).rows[0].values for s in (scan, module._part(scan, "GTV", box)))
    assert dict(cut) == pytest.approx(dict(whole), rel=1e-9)


def test_where_no_part_is_measured_as_the_whole_the_whole_is_taken():
    """New voxels that lie half-way between old ones round to either side, by the last bit of the origin."""
    before = as_ct(head(grid(size=(48, 52, 40), spacing=(0.75, 0.75, 1.5))))
    after = before.with_array(1.1 * before.array)
    ct = Settings.for_modality(Modality.CT)
    found = change(before, after, MEAN, ct)
    whole = [extract(s, ct, structures=["GTV"]).rows[0].values[MEAN] for s in (before, after)]
    assert [found.before, found.after] == pytest.approx(whole, rel=1e-12)


def test_settings_are_narrowed_to_what_is_asked():
    whole = Settings.load("ct_wavelet_log")
    own = narrowed(whole, ["wavelet-LLH_glcm_Idm", "original_firstorder_Mean"])
    assert set(own.image_types) == {"Wavelet", "Original"}
    assert own.feature_classes == {"glcm": ("Idm",), "firstorder": ("Mean",)}
    for wrong in ("Contrast", "original_glcm_Nothing", "original_shape_VoxelVolume", "squared_glcm_Contrast", ""):
        with pytest.raises(InputError, match="did you mean"):
            narrowed(whole, [wrong])


def test_an_mr_scan_is_brought_to_the_new_scale_first():
    scan = head(grid(size=(40, 44, 30)))
    scaled = scan.with_array(3 * scan.array + 10)  # harmonized to another unit, nothing else
    found = change(scan, scaled.with_array(scaled.array + 30 * (scan.array > 105)), MEAN)
    assert found.before > 2.5 * scan.array[scan.structures["GTV"].array].mean()


def test_what_does_not_fit_is_said(before):
    other = as_ct(head(grid(size=(30, 30, 30))))
    with pytest.raises(InputError, match="not on the grid"):
        change(before, other, MEAN)
    with pytest.raises(InputError, match="did not change"):
        change(before, before, MEAN)
    with pytest.raises(InputError, match="no structure 'liver'"):
        feature_change(before, before, "liver", [MEAN], len, Settings(), np.random.default_rng(0))
    with pytest.raises(Cancelled):
        change(before, before.with_array(before.array + 1), MEAN, cancelled=lambda: True)
