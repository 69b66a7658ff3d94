"""Bias field correction against fields that are known, and resampling by its laws."""

import dataclasses
import functools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from Testing.engine.scans import bits, grid, grids, head

from HarmonizeExtension import images
from HarmonizeExtension.errors import Cancelled, InputError
from HarmonizeExtension.methods.preparation import BiasFieldCorrection, Resampling
from HarmonizeExtension.phantoms.brain import scan_person
from HarmonizeExtension.phantoms.person import Person
from HarmonizeExtension.phantoms.scanners import SCANNERS
from HarmonizeExtension.physics.mr_signal import coil_field


@functools.cache
def shaded_head():
    """A simulated head, seen through a field that is known (z, y, x)."""
    ideal = dataclasses.replace(
        SCANNERS["GE 3T"], transmit_brightening=0.0, receive_brightening=0.0, receive_variation=0.0
    )
    scan = scan_person(Person.draw(np.random.default_rng(1)), ideal, np.random.default_rng(5), spacing_mm=2.0)
    field = coil_field(scan.array.shape, scan.spacing_mm, 0.1, 0.25, np.random.default_rng(8))
    return scan.with_array(np.rint(scan.array * field)), field


def variation(values):
    return values.std() / values.mean()


@pytest.mark.slow
@pytest.mark.parametrize("reference", [None, "brain"])
def test_a_known_field_is_removed_from_white_matter(reference):
    scan, field = shaded_head()
    white = scan.structures["white matter"].array
    after = BiasFieldCorrection().apply(scan.with_roles(reference=reference))
    removed = scan.array[white] / after.array[white]
    assert variation(field[white] / removed) < 0.4 * variation(field[white])
    assert bits(after.image) == bits(scan.image)


def test_the_field_is_estimated_where_the_reference_structure_is():
    scan = head()
    whole = BiasFieldCorrection().apply(scan.with_roles()).array
    within = BiasFieldCorrection().apply(scan.with_roles(reference="brain")).array
    assert not np.array_equal(whole, within)


def test_air_stays_and_the_mean_of_the_body_is_kept():
    scan = head()
    after = BiasFieldCorrection().apply(scan)
    untouched = after.array == scan.array
    assert untouched[:2, :2, :2].all()
    assert after.array[~untouched].mean() == pytest.approx(scan.array[~untouched].mean(), rel=1e-3)


def test_it_does_not_depend_on_the_gain():
    scan = head()
    once = BiasFieldCorrection().apply(scan).array
    twice = BiasFieldCorrection().apply(scan.with_array(scan.array * 2)).array
    assert np.corrcoef(once.ravel(), twice.ravel())[0, 1] > 0.9999


@pytest.mark.parametrize("reports", [1, 3, 10])
def test_it_stops_when_asked_midway(reports):
    seen = []
    with pytest.raises(Cancelled):
        BiasFieldCorrection().apply(head(), lambda *report: seen.append(report), lambda: len(seen) >= reports)
    assert len(seen) <= reports + 1


def test_a_progress_that_asks_to_stop_is_heard():
    def stop(fraction, text):
        if fraction > 0.2:
            raise Cancelled

    with pytest.raises(Cancelled):
        BiasFieldCorrection().apply(head(), stop)


def test_progress_rises_from_0_to_1():
    fractions = []
    BiasFieldCorrection().apply(head(), lambda fraction, text: fractions.append(fraction))
    assert fractions[0] == 0
    assert fractions[-1] == 1
    assert np.all(np.diff(fractions) > -1e-9)
    assert len(fractions) > 10


def test_a_reference_too_small_for_a_field_is_named():
    scan = head()
    dot = np.zeros(scan.array.shape, bool)
    dot[15, 22, 20] = True
    dot = dataclasses.replace(scan.structures["GTV"], name="dot", mask=images.mask_image(dot, scan.image))
    scan = dataclasses.replace(scan, structures={"dot": dot}).with_roles(reference="dot")
    with pytest.raises(InputError, match="'dot' of 'head' is too small"):
        BiasFieldCorrection().apply(scan)


def corners(image):
    """The outer edges of the box that the voxels fill, in the image's own axes (mm)."""
    matrix = np.array(image.GetDirection()).reshape(3, 3)
    low = np.array(image.TransformContinuousIndexToPhysicalPoint([-0.5] * 3)) @ matrix
    high = np.array(image.TransformContinuousIndexToPhysicalPoint([n - 0.5 for n in image.GetSize()])) @ matrix
    return low, high


@settings(max_examples=15, deadline=None)
@given(grids(), st.tuples(*[st.floats(0.6, 1.6)] * 3))
def test_resampling_keeps_the_box_the_range_and_the_volumes(on, factors):
    scan = head(on)
    scan = dataclasses.replace(scan, structures={"brain": scan.structures["brain"]})
    spacing = tuple(float(f * s) for f, s in zip(factors, scan.spacing_mm, strict=True))
    after = Resampling(spacing).apply(scan)
    before_low, before_high = corners(scan.image)
    low, high = corners(after.image)
    assert after.spacing_mm == pytest.approx(spacing)
    assert np.all(np.abs((low + high) / 2 - (before_low + before_high) / 2) < 1e-6 * 300)
    assert np.all((high - low) - (before_high - before_low) >= -1e-4 * np.array(spacing))
    assert np.all((high - low) - (before_high - before_low) < np.array(spacing) * 1.001)
    assert after.array.min() >= scan.array.min()
    assert after.array.max() <= scan.array.max()
    brain, there = (s.structures["brain"].array.sum() * np.prod(s.spacing_mm) for s in (scan, after))
    surface = brain ** (2 / 3) * 6  # of the volume's order; an error of half a voxel on all of it
    assert abs(there - brain) < surface * max(*spacing, *scan.spacing_mm) / 2


def test_resampling_to_the_same_spacing_changes_nothing():
    scan = head(grid((20, 22, 18), (1.1, 0.9, 2.0), rotation=(10, 20, 30)))
    after = Resampling(scan.spacing_mm).apply(scan)
    assert images.same_grid(after.image, scan.image)
    assert np.allclose(after.array, scan.array, atol=1e-3)
    for name, structure in scan.structures.items():
        assert np.array_equal(after.structures[name].array, structure.array)
    assert after.provenance[-1]["parameters"] == {"spacing_mm": list(scan.spacing_mm)}


def test_a_structure_that_would_vanish_is_named():
    scan = head()
    dot = np.zeros(scan.array.shape, bool)
    dot[1, 1, 1] = True
    structures = {
        "dot": dataclasses.replace(scan.structures["GTV"], name="dot", mask=images.mask_image(dot, scan.image))
    }
    with pytest.raises(InputError, match="'dot' is smaller than a voxel"):
        Resampling((9.0, 9.0, 9.0)).apply(dataclasses.replace(scan, structures=structures))


@pytest.mark.parametrize("spacing", [(0, 1, 1), (1, -1, 1), (1, 1, float("nan")), (float("inf"), 1, 1)])
def test_an_impossible_spacing_is_refused(spacing):
    with pytest.raises(InputError, match="not possible; give positive numbers"):
        Resampling(spacing)


def test_a_grid_that_no_memory_holds_is_refused_before_it_is_made():
    for spacing in (1e-3, 1e-300):
        with pytest.raises(InputError, match="choose larger voxels"):
            Resampling((spacing,) * 3).apply(head())
