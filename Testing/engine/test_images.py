"""Grids and masks by their laws; pictures and comparisons that are the right way up and on one scale."""

import dataclasses
import io
import re

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from Testing.engine.scans import bits, grid, grids, head

from HarmonizeExtension import comparison, images, pictures
from HarmonizeExtension.body import body_mask
from HarmonizeExtension.errors import InputError
from HarmonizeExtension.scan import Modality


@settings(max_examples=25, deadline=None)
@given(grids())
def test_arrays_and_images_go_there_and_back_bit_for_bit(on):
    array = np.random.default_rng(0).standard_normal(on.GetSize()[::-1]).astype(np.float32)
    image = images.to_image(array, on)
    assert bits(image) == bits(on)
    assert np.array_equal(images.to_array(image), array)
    assert images.same_grid(image, on)
    with pytest.raises(InputError, match="does not fit"):
        images.to_image(array[1:], on)


@settings(max_examples=25, deadline=None)
@given(grids(), st.integers(0, 2), st.floats(0.01, 3))
def test_grids_that_differ_by_a_hundredth_of_a_voxel_are_not_the_same(on, axis, shift):
    moved = sitk.Image(on)
    index = [0.0, 0.0, 0.0]
    index[axis] = shift
    moved.SetOrigin(on.TransformContinuousIndexToPhysicalPoint(index))
    assert not images.same_grid(on, moved)
    assert images.same_grid(on, sitk.Image(on))


@settings(max_examples=25, deadline=None)
@given(grids(), st.integers(0, 1000))
def test_overlap_is_the_share_of_voxels_inside(on, seed):
    rng = np.random.default_rng(seed)
    mask = images.mask_image(rng.random(on.GetSize()[::-1]) > 0.7, on)
    assert images.overlap_fraction(mask, on) == 1
    moved = sitk.Image(mask)
    moved.SetOrigin(on.TransformContinuousIndexToPhysicalPoint([0.0, 0.0, float(on.GetSize()[2])]))
    assert images.overlap_fraction(moved, on) == 0
    assert images.overlap_fraction(images.mask_image(np.zeros(on.GetSize()[::-1]), on), on) == 0


@settings(max_examples=25, deadline=None)
@given(st.floats(0.0, 12), st.tuples(*[st.floats(0.5, 6)] * 3))
def test_a_ball_is_round_and_centred(radius, spacing):
    ball = images.ball(radius, spacing)
    assert all(n % 2 == 1 for n in ball.shape)
    assert ball[tuple(n // 2 for n in ball.shape)]
    assert np.array_equal(ball, ball[::-1, ::-1, ::-1])
    if ball.sum() > 300:
        volume = ball.sum() * np.prod(spacing)
        assert volume == pytest.approx(4 / 3 * np.pi * radius**3, rel=0.35)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.integers(0, 4))
def test_a_box_holds_the_mask_and_no_more_than_its_margin(seed, margin):
    mask = np.random.default_rng(seed).random((9, 11, 13)) > 0.99
    mask[4, 5, 6] = True
    box = images.bounding_box(mask, margin)
    assert mask[box].sum() == mask.sum()
    tight = images.bounding_box(mask)
    assert all(t.start - margin <= b.start <= t.start for b, t in zip(box, tight, strict=True))
    with pytest.raises(InputError, match="empty"):
        images.bounding_box(np.zeros((3, 3, 3), bool))


def test_the_largest_piece():
    mask = np.zeros((5, 9, 9), bool)
    mask[1, 1:3, 1:3] = mask[3, 5:9, 5:9] = True
    assert np.array_equal(images.largest_component(mask), mask & (np.arange(5) == 3)[:, None, None])


def test_distance_is_in_mm():
    mask = np.zeros((5, 5, 5), bool)
    mask[2, 2, 2] = True
    distance = images.distance_mm(mask, (1.0, 2.0, 3.0))
    assert (distance[2, 2, 3], distance[2, 3, 2], distance[3, 2, 2]) == (1.0, 2.0, 3.0)


def coloured(png):
    from PIL import Image

    return np.asarray(Image.open(io.BytesIO(png)))


def decoded(png):
    from PIL import Image

    return np.asarray(Image.fromarray(coloured(png)).convert("L")).astype(float)


@pytest.mark.parametrize("direction", ["LPS", "RAS", "LAS", "PIR", "SRA"])
def test_pictures_are_upright_however_the_voxels_are_stored(direction):
    """A bright mark in the patient's right front of one axial slice is at the upper left of the picture."""
    scan = head(grid((40, 40, 20), (1, 1, 1), origin=(0, 0, 0))).with_roles()
    array = scan.array * 0
    array[10, 5:12, 5:12] = 100
    image = images.to_image(array, scan.image)
    stored = dataclasses.replace(scan, image=sitk.DICOMOrient(image, direction), structures={})
    shown = decoded(next(iter(pictures.before_and_after(stored, stored).values())))
    y, x = ndimage.center_of_mass(shown > 200)
    assert y < 0.3 * shown.shape[0]
    assert x < 0.3 * shown.shape[1]


def test_pictures_have_the_proportions_of_the_patient_and_outline_the_structures():
    scan = head(grid((40, 20, 12), (1, 3, 4)))
    shown = pictures.before_and_after(scan, scan, height=300)
    assert [re.split("[ ,]", caption)[0] for caption in shown] == ["before", "after", "after"]
    first, second, _ = shown
    assert decoded(shown[first]).shape == (300, round(300 * 40 / 60))
    assert shown[first] == shown[second]
    colours = np.unique(coloured(shown[first]).reshape(-1, 3), axis=0).tolist()
    assert all(list(colour) in colours for colour in pictures.outlined(scan).values())


def test_the_six_most_important_structures_are_outlined_each_in_its_own_colour():
    scan = head()
    many = {f"{number}": dataclasses.replace(scan.structures["brain"], name=f"{number}") for number in range(7)}
    scan = dataclasses.replace(scan, structures={**many, **scan.structures})
    colours = pictures.outlined(scan.with_roles(reference="white matter", protected=["GTV"]))
    assert list(colours) == ["GTV", "white matter", "0", "1", "2", "3"]
    assert len(set(colours.values())) == 6
    assert pictures.outlined(scan.with_roles(measured=["GTV"])).keys() == {"GTV"}


def test_captions_say_where_the_slice_is_and_what_grey_means():
    scan = dataclasses.replace(head(grid((40, 44, 30), (1, 1, 1.5), origin=(0, 0, -100))), structures={})
    before, after, _ = pictures.before_and_after(scan, scan.with_array(scan.array * 10))
    low, high = comparison.window(scan)
    assert f"{100 - 15 * 1.5:.1f} mm inferior" in before
    assert f"window {low:.4g} to {high:.4g}" in before
    assert before.split(", window")[1] != after.split(", window")[1]


def test_rounding_is_no_difference():
    scan = head()
    shown = pictures.before_and_after(scan, scan.with_array(scan.array * np.float32(1 / 3) - 7))
    rgb = coloured(list(shown.values())[-1]).reshape(-1, 3)
    assert np.mean(rgb.min(axis=1) > 240) > 0.95


def test_uptake_is_dark_in_pet():
    scan = dataclasses.replace(head(), structures={}, units="SUV")
    scan = scan.with_array(scan.array / 20)
    shades = [
        decoded(next(iter(pictures.before_and_after(which, which).values()))).mean()
        for which in (scan, dataclasses.replace(scan, modality=Modality.PET))
    ]
    assert sum(shades) == pytest.approx(255, abs=10)


def test_the_slice_shows_the_smallest_most_important_structure():
    scan = head()
    sizes = scan.structures["GTV"].array.sum(axis=(1, 2))
    assert sizes[pictures.slice_index(scan.with_roles(protected=["GTV"]))] == sizes.max()
    assert pictures.slice_index(dataclasses.replace(scan, structures={})) == scan.array.shape[0] // 2


def test_a_gain_is_no_difference_and_hu_are_never_rescaled():
    scan = head()
    louder = scan.with_array(scan.array * 3 + 20)
    assert np.abs(comparison.difference(scan, louder)).max() < 1e-3 * louder.array.max()
    ct = dataclasses.replace(scan, modality=Modality.CT, units="HU")
    assert comparison.difference(ct, ct.with_array(ct.array + 7)) == pytest.approx(7, abs=1e-3)


def test_air_is_no_difference_where_the_contrast_of_the_tissue_changed():
    scan = head()
    air = ~body_mask(scan)
    bent = scan.with_array(7 * scan.array.max() * (scan.array / scan.array.max()) ** 1.4)
    change = np.abs(comparison.difference(scan, bent))
    assert np.median(change[air]) < 0.25 * np.percentile(change, 99.5)


def test_a_checkerboard_shows_both_and_nothing_else():
    scan = dataclasses.replace(head(), units="HU")
    other = scan.with_array(scan.array + 1000)
    board = comparison.checkerboard(scan, other, square_mm=5)
    from_other = board == other.array
    assert np.all(from_other | (board == scan.array))
    assert 0.4 < from_other.mean() < 0.6


@pytest.mark.parametrize("units", ["HU", "SUV", ""])
def test_a_window_is_never_empty(units):
    scan = head()
    flat = scan.array * 0
    flat[0, 0, 0] = 1
    low, high = comparison.window(dataclasses.replace(scan.with_array(flat), units=units))
    assert low < high
