"""Resolution measured on phantoms whose FWHM is known, and the laws of the blur."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from Testing.engine.physics import simulated_pet

from HarmonizeExtension.body import body_mask
from HarmonizeExtension.errors import InputError
from HarmonizeExtension.physics import pet_resolution


@pytest.mark.parametrize(
    ("fwhm_mm", "voxel_mm"), [(4.0, (2.0, 2.0, 2.0)), (6.0, (2.5, 2.5, 3.0)), (8.0, (4.0, 4.0, 3.0))]
)
def test_edges_give_the_fwhm(fwhm_mm, voxel_mm):
    scan = simulated_pet.scan(fwhm_mm, voxel_mm=voxel_mm)
    found = pet_resolution.edge_fwhm_mm(scan.array, body_mask(scan), scan.spacing_mm)
    # The voxel's own width belongs to the resolution: a box of width v has the variance v^2 / 12.
    box = np.mean(np.square(voxel_mm)) / 12 * pet_resolution.FWHM_PER_SIGMA**2
    assert found == pytest.approx(np.sqrt(fwhm_mm**2 + box), rel=0.1)


@pytest.mark.parametrize("fwhm_mm", [(3.0, 3.0, 3.0), (5.0, 5.0, 8.0), (7.0, 4.0, 6.0)])
def test_noise_gives_the_post_filter_on_each_axis(fwhm_mm):
    spacing = (2.0, 2.5, 3.0)
    white = np.random.default_rng(1).standard_normal((50, 60, 60)).astype(np.float32)
    noise = pet_resolution.gaussian_blur(white, fwhm_mm, spacing)
    found = pet_resolution.noise_fwhm_mm(noise, np.ones(noise.shape, bool), spacing)
    assert found == pytest.approx(fwhm_mm, rel=0.1)


def test_white_noise_has_no_post_filter():
    white = np.random.default_rng(2).standard_normal((40, 40, 40))
    assert max(pet_resolution.noise_fwhm_mm(white, np.ones(white.shape, bool), (2.0, 2.0, 2.0))) < 1.0


def test_what_cannot_be_measured_is_refused():
    flat = np.ones((20, 20, 20), np.float32)
    with pytest.raises(InputError, match="source_fwhm_mm"):
        pet_resolution.edge_fwhm_mm(flat, np.ones(flat.shape, bool), (4.0, 4.0, 4.0))
    few = np.zeros(flat.shape, bool)
    few[:3, :3, :3] = True
    with pytest.raises(InputError, match="only 27 voxels"):
        pet_resolution.noise_fwhm_mm(flat, few, (4.0, 4.0, 4.0))


widths = st.tuples(*[st.floats(0.0, 12.0)] * 3)
spacings = st.tuples(*[st.floats(1.0, 6.0)] * 3)
shapes = st.tuples(*[st.integers(2, 16)] * 3)


@settings(max_examples=20, deadline=None)
@given(widths, spacings, shapes, st.integers(0, 99))
def test_blur_keeps_the_sum_the_range_and_uniform_images(fwhm_mm, spacing_mm, shape, seed):
    array = np.random.default_rng(seed).uniform(0, 20, shape).astype(np.float32)
    after = pet_resolution.gaussian_blur(array, fwhm_mm, spacing_mm)
    assert after.mean(dtype=float) == pytest.approx(array.mean(dtype=float), rel=1e-4)
    assert array.min() - 1e-3 <= after.min()
    assert after.max() <= array.max() + 1e-3
    assert pet_resolution.gaussian_blur(np.full(shape, 3.0), fwhm_mm, spacing_mm) == pytest.approx(3.0, rel=1e-5)


@settings(max_examples=20, deadline=None)
@given(st.floats(0.5, 8.0), st.floats(0.5, 8.0), st.integers(0, 99))
def test_two_blurs_are_one_whose_square_is_the_sum(first_mm, second_mm, seed):
    spacing = (2.0, 3.0, 4.0)
    array = np.random.default_rng(seed).uniform(0, 10, (12, 14, 16)).astype(np.float32)
    twice = pet_resolution.gaussian_blur(
        pet_resolution.gaussian_blur(array, (first_mm,) * 3, spacing), (second_mm,) * 3, spacing
    )
    once = pet_resolution.gaussian_blur(array, (float(np.hypot(first_mm, second_mm)),) * 3, spacing)
    assert np.abs(twice - once).max() < 1e-3
