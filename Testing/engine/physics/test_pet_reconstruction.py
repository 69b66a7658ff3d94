"""A simulated reconstruction has the blur, the noise and the correlation of noise that it states."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from HarmonizeExtension.errors import InputError
from HarmonizeExtension.physics.pet_reconstruction import Reconstruction, correlated_noise
from HarmonizeExtension.physics.pet_resolution import FWHM_PER_SIGMA, noise_fwhm_mm

SPACING = (2.5, 2.5, 3.0)


@settings(max_examples=12, deadline=None)
@given(fwhm=st.floats(0, 9), seed=st.integers(0, 99))
def test_noise_has_variance_one_whatever_its_correlation(fwhm, seed):
    noise = correlated_noise((64, 64, 64), fwhm, SPACING, np.random.default_rng(seed))
    assert noise.std() == pytest.approx(1, abs=0.12)
    assert noise.mean() == pytest.approx(0, abs=0.2)


def test_uniform_activity_becomes_noise_of_the_stated_size_and_correlation_and_keeps_its_mean():
    how = Reconstruction(5.0, 4.0, 5.0, 0.12, SPACING)
    image = how.image_of(np.full((48, 64, 64), 3.0, np.float32), SPACING, np.random.default_rng(0))
    assert image.mean() == pytest.approx(3.0, rel=0.02)
    assert image.std() / image.mean() == pytest.approx(0.12, rel=0.06)
    found = noise_fwhm_mm(image, np.ones(image.shape, bool), SPACING)
    assert np.mean(found) == pytest.approx(np.hypot(4, 5), rel=0.1)


def test_noise_falls_with_the_activity_and_grows_with_the_patient():
    how = Reconstruction(0.0, 3.0, 0.0, 0.1, SPACING)
    activity = np.full((32, 32, 64), 8.0, np.float32)
    activity[..., :32] = 0.5
    image = how.image_of(activity, SPACING, np.random.default_rng(1))
    low, high = image[..., 2:30], image[..., 34:62]
    assert low.std() / high.std() == pytest.approx(0.5 / 8, rel=0.15)
    large = how.image_of(activity, SPACING, np.random.default_rng(1), diameter_mm=360)
    assert large[..., 34:62].std() > 1.1 * high.std()
    assert image.min() > 0


def test_a_point_is_as_wide_as_stated():
    how = Reconstruction(6.0, 3.0, 4.0, 0.0, SPACING)
    point = np.zeros((31, 31, 31), np.float32)
    point[15, 15, 15] = 1
    image = how.image_of(point, SPACING, np.random.default_rng(0))
    x = (np.arange(31) - 15) * SPACING[0]
    profile = image.sum(axis=(0, 1))
    assert profile.sum() == pytest.approx(1, rel=1e-4)
    assert np.sqrt((profile * x**2).sum()) * FWHM_PER_SIGMA == pytest.approx(how.image_fwhm_mm, rel=0.02)


def test_negative_widths_are_refused():
    with pytest.raises(InputError, match="cannot be negative"):
        Reconstruction(-1.0, 3.0, 0.0, 0.1, SPACING)
