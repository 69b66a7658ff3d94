"""Simulated people and phantoms in HU: the tissues they should hold, at random, and the same for the same seed."""

import numpy as np
import pytest

from HarmonizeExtension.errors import InputError
from HarmonizeExtension.phantoms import ct_slices
from HarmonizeExtension.phantoms.ct_slices import FIELD_MM, KINDS, PIXEL_MM, draw_slices, from_scan


def share(hu, low, high, of=-900.0):
    """Of what is not air, the share within a range of HU."""
    inside = hu[hu > of]
    return np.mean((inside > low) & (inside < high))


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_lies_in_air_and_differs_with_the_seed_alone(kind):
    first, again, other = (draw_slices(kind, 2, 1.0, np.random.default_rng(seed)) for seed in (1, 1, 2))
    size = round(FIELD_MM / PIXEL_MM)
    assert first.shape == (2, size, size)
    assert first.dtype == np.float32
    np.testing.assert_array_equal(first, again)
    assert np.mean(np.abs(first - other) > 20) > 0.05
    assert np.isfinite(first).all()
    assert first.min() >= -1300
    assert first.max() < 2500
    for edge in (first[:, :8], first[:, -8:], first[:, :, :8], first[:, :, -8:]):
        assert (edge == -1000).all()
    assert 0 < np.abs(first[1] - first[0]).mean() < 0.3 * np.abs(first[0] - other[0]).mean()  # neighbours are alike


def test_a_chest_holds_lung_soft_tissue_fat_and_bone():
    hu = draw_slices("chest", 1, 1.0, np.random.default_rng(3))
    assert share(hu, -1100, -700, of=-1001) > 0.15
    assert share(hu, 20, 90) > 0.15
    assert share(hu, -140, -60) > 0.05
    assert 0.01 < share(hu, 300, 2000) < 0.15


def test_an_abdomen_is_mostly_soft():
    hu = draw_slices("abdomen", 1, 1.0, np.random.default_rng(4))
    assert share(hu, -150, 250) > 0.85
    assert share(hu, 300, 2000) > 0.005


def test_borders_are_as_sharp_as_the_pixels_and_textures_as_fine():
    hu = draw_slices("phantom", 1, 1.0, np.random.default_rng(5))[0]
    assert np.abs(np.diff(hu, axis=1)).max() > 500  # air to plastic within a pixel or two
    canvas = ct_slices.Canvas(1, 1.0, np.random.default_rng(6))
    whole = (slice(None),) * 3
    grain = np.stack([canvas.texture(whole, 50.0) for _ in range(20)])
    assert np.sqrt((grain**2).mean()) == pytest.approx(50, rel=0.1)
    assert np.diff(grain, axis=-1).std() > 5


def test_thin_vessels_keep_their_share_of_a_pixel():
    canvas = ct_slices.Canvas(1, 1.0, np.random.default_rng(7))
    canvas.tube((0, 0, -40), (0, 0, 40), (0.1, 0.1), 1000.0, np.ones(canvas.hu.shape, np.float32))
    across = canvas.hu[0, :, canvas.hu.shape[2] // 2] + 1000
    assert 0 < across.max() <= 2000 * 0.4 + 1  # 0.2 mm of 0.5 mm
    assert np.count_nonzero(across > 1) <= 2


def test_a_real_scan_becomes_a_miniature_in_air():
    array = np.full((5, 120, 100), 60, np.float32)
    array[:, 40:60, 30:50] = 700
    hu = from_scan(array, 3, np.random.default_rng(8))
    size = round(FIELD_MM / PIXEL_MM)
    assert hu.shape == (3, size, size)
    tall, wide = ((hu[1] > -900).any(axis=axis).sum() for axis in (1, 0))
    assert 1.15 < tall / 120 < 1.85
    assert tall / wide == pytest.approx(1.2, rel=0.05)
    assert hu.max() == pytest.approx(700)
    assert (hu[:, :10] == -1000).all()


def test_an_unknown_kind_is_told():
    with pytest.raises(InputError, match="chest, abdomen"):
        draw_slices("leg", 1, 1.0, np.random.default_rng(0))
