"""Paired slices are the slices of whole scans, on the same voxels for every scanner, with the truth beneath."""

import dataclasses

import numpy as np
import pytest

from HarmonizeExtension.errors import InputError
from HarmonizeExtension.phantoms.anatomy import head_axes
from HarmonizeExtension.phantoms.brain import stored_image
from HarmonizeExtension.phantoms.maps import property_maps
from HarmonizeExtension.phantoms.person import Person, body_of
from HarmonizeExtension.phantoms.scanners import SCANNERS
from HarmonizeExtension.phantoms.training_pairs import paired_slices

SCANNER_LIST = tuple(SCANNERS.values())
SPACING_MM = 3.0


@pytest.fixture(scope="module")
def person():
    return Person.draw(np.random.default_rng(11))


@pytest.fixture(scope="module")
def pairs(person):
    return paired_slices(person, SCANNER_LIST, np.random.default_rng(0), SPACING_MM, (0.4, 0.7))


def test_every_scanner_shows_the_same_voxels_with_the_brain_in_the_middle(pairs):
    scanners, slices, rows, columns = pairs.scans.shape
    assert (scanners, rows, columns) == (6, 64, 64)
    assert set(pairs.maps) == {1.5, 3.0}
    arrays = [a for m in pairs.maps.values() for a in (m.t1_ms, m.t2_star_ms, m.proton_density)]
    for array in (*arrays, *pairs.structures.values(), *pairs.fractions.values()):
        assert array.shape == (slices, rows, columns)
    y, x = (np.flatnonzero(pairs.structures["brain"].any(axis=axes)) for axes in ((0, 2), (0, 1)))
    assert np.mean(y[[0, -1]]) == pytest.approx((rows - 1) / 2, abs=2)
    assert np.mean(x[[0, -1]]) == pytest.approx((columns - 1) / 2, abs=3)
    assert (np.diff(pairs.heights_mm) == SPACING_MM).all()
    for scan in pairs.scans:
        brain = pairs.structures["brain"]
        assert scan[brain].mean() > 3 * scan[:, :2, :2].mean()


def test_slices_are_those_of_the_whole_head(person, pairs):
    """Without noise and with the same session, what is drawn alone is what the whole scan holds there."""
    z = np.searchsorted(head_axes(SPACING_MM)[0], pairs.heights_mm)
    body = body_of(person, SPACING_MM)
    whole = property_maps(body, 3.0).t1_ms[z]
    y = next(k for k in range(whole.shape[1] - 63) if np.array_equal(whole[:, k : k + 64], pairs.maps[3.0].t1_ms))
    for number in (2, 3):  # one with a full and one with a reduced matrix across slices
        quiet = dataclasses.replace(SCANNER_LIST[number], white_matter_snr=1e9)
        alone = paired_slices(person, (quiet,), np.random.default_rng(1), SPACING_MM, (0.4, 0.7)).scans[0]
        entire = stored_image(body, quiet, np.random.default_rng(1))[z, y : y + 64]
        brain = pairs.structures["brain"]
        gain = np.median(alone[brain] / entire[brain])  # the session's gain is drawn after the noise
        error = alone / gain - entire
        assert np.sqrt(np.mean(error[brain] ** 2)) < 0.006 * entire[brain].mean()


def test_the_same_generator_gives_the_same_bytes_and_another_other_noise(person, pairs):
    again, other = (
        paired_slices(person, SCANNER_LIST, np.random.default_rng(seed), SPACING_MM, (0.4, 0.7)) for seed in (0, 1)
    )
    assert again.scans.tobytes() == pairs.scans.tobytes()
    assert (other.scans != pairs.scans).any()
    np.testing.assert_array_equal(other.maps[1.5].t1_ms, pairs.maps[1.5].t1_ms)


def test_the_whole_brain_is_taken_unless_slices_are_named(person, pairs):
    every = paired_slices(person, SCANNER_LIST[:1], np.random.default_rng(0), SPACING_MM)
    area = every.structures["brain"].sum(axis=(1, 2))
    assert 40 < len(area) < 60  # 130 to 160 mm
    assert area.min() > 0
    assert set(pairs.heights_mm) < set(every.heights_mm)


def test_a_longer_field_holds_the_whole_of_a_large_head(person):
    pairs = paired_slices(person, SCANNER_LIST[:1], np.random.default_rng(0), SPACING_MM, (0.5, 0.6), (231, 192))
    assert pairs.scans.shape[2:] == (77, 64)
    head = pairs.maps[3.0].proton_density > 0
    assert not head[:, [0, -1]].any()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"field_mm": (192, 300)}, "a field of 192 x 300 mm is not possible"),
        ({"field_mm": (5, 192)}, "a field of 5 x 192 mm is not possible"),
        ({"slices": (0.6, 0.5)}, "slices from 0.6 to 0.5"),
        ({"slices": (-1, 0.5)}, "slices from -1 to 0.5"),
    ],
)
def test_what_makes_no_sense_is_refused(person, options, says):
    options = {"spacing_mm": SPACING_MM, **options}
    with pytest.raises(InputError, match=says):
        paired_slices(person, SCANNER_LIST[:1], np.random.default_rng(0), **options)
