"""A protected structure keeps its structure, whatever a spatial method does to the image around it."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from Testing.engine.scans import grid, head

from HarmonizeExtension import images
from HarmonizeExtension.errors import InputError
from HarmonizeExtension.protection import FEATHER_MM, MonotoneMap, keep_structure
from HarmonizeExtension.scan import Structure


def smoothed(array, rng):
    return ndimage.gaussian_filter(array, rng.uniform(0.5, 3))


def sharpened(array, rng):
    return array + rng.uniform(0.5, 3) * (array - ndimage.gaussian_filter(array, 1.5))


def hallucinated(array, rng):
    blobs = ndimage.gaussian_filter(rng.standard_normal(array.shape), 2)
    return array + rng.uniform(0.5, 3) * array.std() * blobs / blobs.std()


def shaded(array, rng):
    return array * (1 + 0.5 * np.linspace(-1, 1, array.shape[2])) + rng.uniform(-50, 50)


def unrelated(array, rng):
    return rng.standard_normal(array.shape) * array.std()


METHODS = (smoothed, sharpened, hallucinated, shaded, unrelated)


@st.composite
def protected_heads(draw):
    """A head on any fine grid, with a ball somewhere in it, even cut by the border, as protected structure."""
    on = grid(
        draw(st.tuples(*[st.integers(16, 30)] * 3)),
        draw(st.tuples(*[st.floats(0.6, 2.0)] * 3)),
        draw(st.tuples(*[st.floats(-90, 90)] * 3)),
    )
    scan = head(on, seed=draw(st.integers(0, 100)))
    centre = [draw(st.floats(0, n - 1)) for n in scan.array.shape]
    radius_mm = draw(st.floats(0.5, 9.0))
    axes = np.ogrid[tuple(slice(n) for n in scan.array.shape)]
    squared = sum(((a - c) * s) ** 2 for a, c, s in zip(axes, centre, scan.spacing_mm[::-1], strict=True))
    mask = squared <= max(radius_mm**2, squared.min())
    return protecting(scan, {"ball": mask})


def protecting(scan, masks):
    structures = {name: Structure(name, images.mask_image(mask, scan.image)) for name, mask in masks.items()}
    return dataclasses.replace(scan, structures=structures).with_roles(protected=list(masks))


def is_rising_function(before, after):
    """True where more intensity before is never less after, and equal intensity before is equal after."""
    order = np.argsort(before, kind="stable")
    x, y = before[order], after[order]
    return bool(np.all(np.diff(y) >= 0) and np.all(np.diff(y)[np.diff(x) == 0] == 0))


def extrema(array, mask):
    """Voxels of the mask that are higher, or lower, than their six neighbours in it."""
    outside = np.where(mask, array, np.nan)
    around = np.stack([np.roll(np.pad(outside, 1, constant_values=np.nan), s, a) for a in range(3) for s in (-1, 1)])
    around = around[:, 1:-1, 1:-1, 1:-1]
    higher = np.all((array > around) | np.isnan(around), axis=0)
    lower = np.all((array < around) | np.isnan(around), axis=0)
    return mask & higher, mask & lower


@settings(max_examples=40, deadline=None)
@given(protected_heads(), st.sampled_from(METHODS), st.integers(0, 10**6))
def test_inside_the_result_is_a_rising_function_of_the_scan(scan, method, seed):
    after = method(scan.array, np.random.default_rng(seed)).astype(np.float32)
    mask = scan.structures["ball"].array
    result = keep_structure(scan, after, np.ones(mask.shape, bool))
    assert result.dtype == np.float32
    assert is_rising_function(scan.array[mask], result[mask])
    for found, known in zip(extrema(result, mask), extrema(scan.array, mask), strict=True):
        assert not np.any(found & ~known)


@settings(max_examples=20, deadline=None)
@given(protected_heads(), st.sampled_from(METHODS), st.integers(0, 10**6))
def test_beyond_the_feather_the_result_is_that_of_the_method(scan, method, seed):
    after = method(scan.array, np.random.default_rng(seed)).astype(np.float32)
    mask = scan.structures["ball"].array
    result = keep_structure(scan, after, np.ones(mask.shape, bool))
    beyond = images.distance_mm(mask, scan.spacing_mm) >= FEATHER_MM
    assert np.array_equal(result[beyond], after[beyond])


@settings(max_examples=20, deadline=None)
@given(protected_heads(), st.sampled_from(METHODS), st.integers(0, 10**6))
def test_the_feather_is_no_seam(scan, method, seed):
    """Each step of the result is one of the scan's map, one of the method's, and a share of how far the two differ."""
    after = method(scan.array, np.random.default_rng(seed)).astype(np.float32)
    mask = scan.structures["ball"].array
    everywhere = np.ones(mask.shape, bool)
    result = keep_structure(scan, after, everywhere).astype(float)
    # The map itself, seen by protecting everything within reach of the feather with the same neighbourhood.
    inside = np.flatnonzero(mask)
    levels, first = np.unique(scan.array.ravel()[inside], return_index=True)
    if len(levels) < 2:
        return
    values = result.ravel()[inside][first]
    distance = images.distance_mm(mask, scan.spacing_mm)
    known = (scan.array >= levels[0]) & (scan.array <= levels[-1]) & (distance < FEATHER_MM)
    mapped = np.interp(scan.array, levels, values)
    # Between two intensities that occur inside, the map lies between its values there.
    slack = np.max(np.diff(values))
    for axis, spacing in enumerate(scan.spacing_mm[::-1]):
        lower, upper = ([slice(None)] * 3 for _ in range(2))
        lower[axis], upper[axis] = slice(None, -1), slice(1, None)
        lower, upper = tuple(lower), tuple(upper)
        both = known[lower] & known[upper]
        step = np.abs(result[upper] - result[lower])
        own = np.maximum(np.abs(mapped[upper] - mapped[lower]), np.abs(after[upper] - after[lower].astype(float)))
        apart = np.maximum(np.abs(mapped - after)[lower], np.abs(mapped - after)[upper])
        allowed = own + (np.pi / (2 * FEATHER_MM)) * spacing * apart + 3 * slack + 1e-3 * np.abs(values).max()
        assert np.all(step[both] <= allowed[both])


@pytest.mark.parametrize("gap", [-4, 0, 2, 3])
def test_structures_that_touch_or_overlap_are_both_kept(gap):
    scan = head()
    one, two = (np.zeros(scan.array.shape, bool) for _ in range(2))
    one[10:18, 14:24, 10:18] = True
    two[10:18, 14:24, 18 + gap : 28 + gap] = True
    scan = protecting(scan, {"one": one, "two": two})
    after = shaded(scan.array, np.random.default_rng(0)).astype(np.float32)
    result = keep_structure(scan, after, np.ones(one.shape, bool))
    for mask in (one, two):
        assert is_rising_function(scan.array[mask], result[mask])


def test_structures_far_apart_follow_their_own_surroundings():
    scan = head(grid((60, 20, 20), (2.0, 2.0, 2.0)))
    one, two = (np.zeros(scan.array.shape, bool) for _ in range(2))
    one[8:12, 8:12, 10:14] = True
    two[8:12, 8:12, 46:50] = True
    after = (scan.array + np.linspace(0, 1000, 60)).astype(np.float32)
    result = keep_structure(protecting(scan, {"one": one, "two": two}), after, np.ones(one.shape, bool))
    for mask in (one, two):
        assert result[mask].mean() == pytest.approx(after[mask].mean(), abs=60)


def test_the_order_of_the_structures_does_not_matter():
    scan = head()
    one, two = (np.zeros(scan.array.shape, bool) for _ in range(2))
    one[10:18, 14:24, 10:18] = True
    two[12:20, 18:30, 16:26] = True
    after = hallucinated(scan.array, np.random.default_rng(0)).astype(np.float32)
    everywhere = np.ones(one.shape, bool)
    a = keep_structure(protecting(scan, {"one": one, "two": two}), after, everywhere)
    b = keep_structure(protecting(scan, {"two": two, "one": one}), after, everywhere)
    assert np.array_equal(a, b)


def test_ranks_survive_a_method_that_erases_everything():
    scan = head().with_roles(protected=["GTV"])
    mask = scan.structures["GTV"].array
    rng = np.random.default_rng(0)
    result = keep_structure(scan, unrelated(scan.array, rng).astype(np.float32), np.ones(mask.shape, bool))
    ranks = [np.argsort(np.argsort(x[mask], kind="stable"), kind="stable") for x in (scan.array, result)]
    assert np.corrcoef(*ranks)[0, 1] > 0.999


def test_nothing_protected_changes_nothing():
    scan = head().with_roles()
    after = np.random.default_rng(0).standard_normal(scan.array.shape).astype(np.float32)
    assert np.array_equal(keep_structure(scan, after, np.ones(after.shape, bool)), after)


def test_an_empty_protected_structure_is_named():
    scan = protecting(head(), {"GTV": np.zeros(head().array.shape, bool)})
    with pytest.raises(InputError, match="protected structure 'GTV' is empty"):
        keep_structure(scan, scan.array, np.ones(scan.array.shape, bool))


@settings(max_examples=50, deadline=None)
@given(st.integers(2, 400), st.integers(0, 10**6), st.floats(0, 2))
def test_a_map_is_monotone_and_as_steep_as_asked(count, seed, least_slope):
    rng = np.random.default_rng(seed)
    before, after = rng.standard_normal((2, count)) * 100
    fitted = MonotoneMap.implied_by(before, after).rising(least_slope)
    levels = np.sort(rng.uniform(before.min() - 50, before.max() + 50, 200))
    mapped = fitted(levels).astype(float)
    assert np.all(np.diff(mapped) >= 0.99 * least_slope * np.diff(levels) * (np.diff(levels) > 0) - 1e-3)


def test_a_map_of_a_monotone_change_is_that_change():
    x = np.random.default_rng(0).uniform(0, 1000, 20000)
    fitted = MonotoneMap.implied_by(x, 0.5 * x + 3 * np.sqrt(x))
    assert fitted(x) == pytest.approx(0.5 * x + 3 * np.sqrt(x), abs=5)
