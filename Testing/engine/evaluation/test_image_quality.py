"""Image quality against scikit-image, and what must hold for every image."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from HarmonizeExtension.errors import InputError
from HarmonizeExtension.evaluation import image_quality as iq

quick = settings(max_examples=10, deadline=None)


def pair(seed=0, shape=(14, 17, 19), noise=0.3):
    rng = np.random.default_rng(seed)
    image = ndimage.gaussian_filter(rng.standard_normal(shape), 1) * 300 + 100
    return image, image + noise * image.std() * rng.standard_normal(shape)


@quick
@given(st.integers(0, 10_000), st.floats(0.01, 3), st.sampled_from([50.0, 1000.0]))
def test_ssim_is_scikit_images(seed, noise, span):
    metrics = pytest.importorskip("skimage.metrics")
    a, b = pair(seed, noise=noise)
    gaussian = {"gaussian_weights": True, "sigma": 1.5}
    assert iq.ssim(a, b, span) == pytest.approx(metrics.structural_similarity(a, b, data_range=span), abs=1e-9)
    theirs = metrics.structural_similarity(a, b, data_range=span, **gaussian)
    assert iq.ssim(a, b, span, window="gaussian 1.5") == pytest.approx(theirs, abs=1e-9)
    slices = [metrics.structural_similarity(x, y, data_range=span) for x, y in zip(a, b, strict=True)]
    assert np.allclose(iq.ssim_of_slices(a, b, span), slices, atol=1e-9)
    assert iq.ssim(a, b, span, per_slice=True) == pytest.approx(np.mean(slices), abs=1e-9)


def test_masked_ssim_is_the_mean_of_the_map_inside_mask_and_border():
    metrics = pytest.importorskip("skimage.metrics")
    a, b = pair()
    mask = np.zeros(a.shape, bool)
    mask[2:9, 5:12, :9] = True
    _, full = metrics.structural_similarity(a, b, data_range=500, full=True)
    inside = np.zeros_like(mask)
    inside[3:-3, 3:-3, 3:-3] = True
    assert iq.ssim(a, b, 500, mask) == pytest.approx(full[mask & inside].mean(), abs=1e-9)
    assert np.isnan(iq.ssim(a, b, 500, np.zeros_like(mask)))
    assert np.isnan(iq.ssim_of_slices(a, b, 500, mask)[0])


def test_psnr_and_nrmse_are_scikit_images():
    metrics = pytest.importorskip("skimage.metrics")
    a, b = pair()
    assert iq.psnr_db(a, b, 700) == pytest.approx(metrics.peak_signal_noise_ratio(a, b, data_range=700))
    theirs = metrics.normalized_root_mse(a, b, normalization="min-max")
    assert iq.nrmse(a, b, iq.range_of(a)) == pytest.approx(theirs)


@quick
@given(st.integers(0, 10_000), st.floats(0.01, 100), st.sampled_from(iq.WINDOWS), st.booleans())
def test_laws_of_ssim(seed, factor, window, per_slice):
    a, b = pair(seed)
    value = iq.ssim(a, b, 400, window=window, per_slice=per_slice)
    assert -1 <= value < 1
    assert iq.ssim(a, a, 400, window=window, per_slice=per_slice) == pytest.approx(1)
    assert iq.ssim(b, a, 400, window=window, per_slice=per_slice) == pytest.approx(value)
    assert iq.ssim(a * factor, b * factor, 400 * factor, window=window, per_slice=per_slice) == pytest.approx(value)


def test_more_noise_is_worse_in_every_figure():
    mask = np.zeros((14, 17, 19), bool)
    mask[3:10, 4:14, 4:14] = True
    figures = [iq.image_quality(*pair(noise=noise), mask) for noise in (0.1, 0.4, 1.5)]
    for better, worse in itertools.pairwise(figures):
        assert better.ssim > worse.ssim
        assert better.ssim_slices > worse.ssim_slices
        assert better.psnr_db > worse.psnr_db
        assert better.nrmse < worse.nrmse
    a, _ = pair()
    assert figures[0].data_range == np.ptp(a)  # of the whole image
    assert figures[0].voxels == mask.sum()
    assert np.isinf(iq.psnr_db(a, a, 1))


def test_style_change_is_0_for_perfect_cycling_and_grows_with_what_is_lost():
    image, rough = pair()
    autoencoded = ndimage.gaussian_filter(image, 0.3)
    perfect = iq.style_change(image, autoencoded, rough, autoencoded, 500)
    assert perfect.cycled == perfect.cycled_direct == 0
    assert perfect.harmonized > 0
    assert perfect.harmonized_direct > 0
    lossy = iq.style_change(image, autoencoded, rough, ndimage.gaussian_filter(image, 2), 500)
    assert lossy.cycled > 0.01
    assert lossy.cycled_direct > 0.01


def test_histogram_distances():
    rng = np.random.default_rng(0)
    a = rng.normal(100, 10, 5000)
    same = iq.histogram_distance(a, a)
    assert (same.jensen_shannon, same.earth_mover) == (0, 0)
    assert iq.histogram_distance(a, a + 1000).jensen_shannon == pytest.approx(1)
    assert iq.histogram_distance(a, a + 7).earth_mover == pytest.approx(7)
    near, far = (iq.histogram_distance(a, a + d).jensen_shannon for d in (3, 12))
    assert 0 < near < far < 1
    assert iq.histogram_distance(np.zeros(3), np.zeros(4)).jensen_shannon == 0


def test_dice_and_volumes():
    a, b = np.zeros((4, 4, 4), bool), np.zeros((4, 4, 4), bool)
    a[0], b[:2] = True, True
    assert iq.dice(a, a) == 1
    assert iq.dice(a, b) == pytest.approx(2 * 16 / 48)
    assert iq.volume_difference(a, b) == 1
    assert iq.volume_difference(b, a) == -0.5
    assert np.isnan(iq.dice(a & False, a & False))
    assert np.isnan(iq.volume_difference(a & False, a))


def test_what_cannot_be_compared_is_refused():
    a, b = pair()
    with pytest.raises(InputError, match="shapes"):
        iq.ssim(a, b[1:], 1)
    with pytest.raises(InputError, match="data range"):
        iq.ssim(a, b, 0)
    with pytest.raises(InputError, match="window 'box'"):
        iq.ssim(a, b, 1, window="box")
    with pytest.raises(InputError, match="smaller than the window"):
        iq.ssim(a[:5], b[:5], 1)
    with pytest.raises(InputError, match="mask is empty"):
        iq.psnr_db(a, b, 1, np.zeros(a.shape, bool))
    with pytest.raises(InputError, match="constant"):
        iq.range_of(np.ones(a.shape))
