"""Kernels, noise spectra and filters against simulations whose truth is known exactly."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from Testing.engine.physics import simulated_ct
from Testing.engine.physics.simulated_ct import SHARP, SOFT

from HarmonizeExtension.errors import InputError
from HarmonizeExtension.physics import ct_edges, ct_kernel, ct_noise
from HarmonizeExtension.physics.ct_kernel import FREQUENCIES_LP_PER_MM, KernelFilter, KernelMTF

SPACING = (0.6, 0.6, 2.0)
kernels = st.builds(
    lambda f50, more: KernelMTF.from_mtf50_mtf10("any", f50, f50 * more), st.floats(0.2, 0.8), st.floats(1.3, 2.5)
)


def ratio_error(found, source, target, up_to=0.6):
    """Largest error of a ratio where the truth is between 5 % and 200 %."""
    f = FREQUENCIES_LP_PER_MM
    use = (f > 0) & (f < up_to) & (source(f) > 0.08) & (target(f) > 0.08)
    truth = target(f[use]) / source(f[use])
    return np.abs(found[use] / truth - 1).max(), np.abs(found[use] - truth).max()


@given(st.floats(0.2, 1.0), st.floats(1.3, 3.0))
def test_mtf_goes_through_the_two_figures_it_is_made_from(f50, more):
    kernel = KernelMTF.from_mtf50_mtf10("k", f50, f50 * more)
    assert kernel(0.0) == 1
    assert kernel(f50) == pytest.approx(0.5, abs=0.02)
    if f50 * more < 2:
        assert kernel(f50 * more) == pytest.approx(0.1, abs=0.02)
    assert (np.diff(kernel.value) <= 0).all()


@pytest.mark.parametrize(
    ("frequency", "value"),
    [([0, 1], [1]), ([0.1, 1], [1, 0.5]), ([0, 1], [0.9, 0.5]), ([0, 1, 1], [1, 0.5, 0.2]), ([0, 1], [1, np.nan])],
)
def test_an_impossible_mtf_is_refused_by_name(frequency, value):
    with pytest.raises(InputError, match="'odd'"):
        KernelMTF("odd", frequency, value)


def test_unknown_kernels_are_refused_with_the_names_there_are():
    with pytest.raises(InputError, match="soft, standard, sharp"):
        KernelMTF.named("B46f")
    with pytest.raises(InputError, match="MTF50"):
        KernelMTF.from_mtf50_mtf10("k", 0.7, 0.5)


@pytest.mark.parametrize("kernel", [SOFT, SHARP], ids=["soft", "sharp"])
def test_noise_spectrum_is_the_one_the_noise_was_made_with(kernel):
    shape = (24, 160, 160)
    noise = simulated_ct.noise(kernel, shape, 0.6, 4000.0, np.random.default_rng(1))
    spectrum = ct_noise.noise_spectrum(noise, np.ones(shape, bool), SPACING)
    truth = simulated_ct.noise_power(kernel, spectrum.frequency_lp_per_mm, 4000.0)
    band = (spectrum.frequency_lp_per_mm > 0.15) & (truth > 0.05 * truth.max())
    assert np.abs(spectrum.power[band] / truth[band] - 1).max() < 0.1
    # Slices were made independent.
    assert np.abs(spectrum.cross_power[1:][:, band] / truth[band]).max() < 0.1


def test_noise_spectrum_of_white_noise_is_its_variance_times_the_pixel_area():
    white = 7.0 * np.random.default_rng(2).standard_normal((10, 120, 140))
    spectrum = ct_noise.noise_spectrum(white, np.ones(white.shape, bool), (0.5, 0.8, 3.0))
    band = spectrum.frequency_lp_per_mm > 0.15
    assert spectrum.power[band] == pytest.approx(49 * 0.4, rel=0.1)
    assert spectrum.rounding_power == 0
    rounded = ct_noise.noise_spectrum(np.round(white), np.ones(white.shape, bool), (0.5, 0.8, 3.0))
    assert rounded.rounding_power == pytest.approx(0.4 / 12)


def test_noise_spectrum_does_not_depend_on_the_shape_of_the_region():
    shape = (30, 160, 160)
    noise = simulated_ct.noise(SHARP, shape, 0.6, 4000.0, np.random.default_rng(3))
    y, x = np.mgrid[:160, :160]
    crescent = (np.hypot(y - 80, x - 80) < 70) & (np.hypot(y - 60, x - 95) > 40)
    outside = np.where(crescent, noise, 5000.0)  # must not count
    whole = ct_noise.noise_spectrum(noise, np.ones(shape, bool), SPACING)
    inside = ct_noise.noise_spectrum(outside, np.broadcast_to(crescent, shape), SPACING)
    band = (whole.frequency_lp_per_mm > 0.15) & (whole.power > 0.1 * whole.power.max())
    assert np.abs(inside.power[band] / whole.power[band] - 1).max() < 0.15


def test_a_region_that_is_too_small_for_a_spectrum_is_refused():
    mask = np.zeros((4, 50, 50), bool)
    mask[:, :10, :10] = True
    with pytest.raises(InputError, match="only 400 voxels"):
        ct_noise.noise_spectrum(np.zeros(mask.shape), mask, SPACING)


def test_uniform_tissue_keeps_away_from_edges():
    scan = simulated_ct.scan(SHARP, 1)
    calm = ct_noise.uniform_tissue(scan.array, scan.structures["External"].array, scan.spacing_mm)
    assert calm.sum() > 0.2 * scan.structures["water"].array.sum()
    assert not (calm & ~scan.structures["water"].array).any()


@pytest.mark.parametrize(("kernel", "pixel_mm"), [(SOFT, 0.6), (SHARP, 0.6), (SHARP, 0.45), (SOFT, 0.9)])
def test_edges_of_discs_give_the_mtf(kernel, pixel_mm):
    scan = simulated_ct.scan(kernel, 5, size=200, pixel_mm=pixel_mm, slices=3, level=500.0)
    found = ct_edges.edge_mtf(scan.array, scan.spacing_mm)
    f = np.arange(0.0, 0.8 * 0.5 / pixel_mm, 0.02)
    pixel = np.sinc(f * pixel_mm) ** 0.5 * 1.0  # between no and full pixel aperture, which depends on direction
    assert np.abs(found(f) - kernel(f) * pixel).max() < 0.06


def test_an_image_without_edges_has_no_mtf():
    with pytest.raises(InputError, match="clean edges"):
        ct_edges.edge_mtf(np.random.default_rng(0).normal(40, 10, (3, 64, 64)), SPACING)


@pytest.mark.parametrize("pair", [(SHARP, SOFT), (SOFT, SHARP)], ids=["to soft", "to sharp"])
def test_ratio_from_the_noise_of_two_patients_at_two_doses(pair):
    spectra = []
    for number, kernel in enumerate(pair):
        shape = (24, 160, 160)
        noise = simulated_ct.noise(kernel, shape, 0.6, (9000.0, 2500.0)[number], np.random.default_rng(10 + number))
        spectra.append(ct_noise.noise_spectrum(noise, np.ones(shape, bool), SPACING))
    ratio = ct_noise.noise_ratio(*spectra)
    assert ratio[0] == 1
    relative, _ = ratio_error(ratio, *pair)
    assert relative < 0.15


def test_ratio_from_noise_on_grids_of_different_pixel_size():
    spectra = []
    for number, (kernel, pixel_mm, size) in enumerate(((SHARP, 0.5, 180), (SOFT, 0.75, 120))):
        shape = (24, size, size)
        noise = simulated_ct.noise(kernel, shape, pixel_mm, 4000.0, np.random.default_rng(20 + number))
        spectra.append(ct_noise.noise_spectrum(noise, np.ones(shape, bool), (pixel_mm, pixel_mm, 2.0)))
    assert ratio_error(ct_noise.noise_ratio(*spectra), SHARP, SOFT)[0] < 0.15


@settings(max_examples=20)
@given(kernels, kernels)
def test_ratio_of_two_mtfs_is_exact_where_both_are_known(source, target):
    ratio = ct_kernel.mtf_ratio(source, target)
    assert ratio[0] == pytest.approx(1)
    f = FREQUENCIES_LP_PER_MM
    known = np.cumprod((source(f) >= 0.05) & (target(f) >= 0.05)).astype(bool)
    assert ratio[known] == pytest.approx(target(f[known]) / source(f[known]), rel=1e-6)
    assert np.isfinite(ratio).all()
    assert (ratio > 0).all()


@pytest.mark.parametrize(("before", "after"), [(0.0, 0.08), (0.0, 0.2), (0.05, 0.15), (0.12, 0.0)])
def test_blend_between_slices_is_found_and_undone(before, after):
    shape = (48, 128, 128)
    spectra = [
        ct_noise.noise_spectrum(
            simulated_ct.noise(SHARP, shape, 0.6, 4000.0, np.random.default_rng(seed), weight),
            np.ones(shape, bool),
            SPACING,
        )
        for seed, weight in ((30, before), (31, after))
    ]
    found = ct_noise.slice_blend(*spectra)
    filtered = KernelFilter(np.ones_like(FREQUENCIES_LP_PER_MM), found).apply(
        simulated_ct.noise(SHARP, shape, 0.6, 4000.0, np.random.default_rng(30), before), SPACING
    )
    wanted = simulated_ct.noise(SHARP, shape, 0.6, 4000.0, np.random.default_rng(32), after)

    def neighbours(array):
        return np.corrcoef(array[5:-6].ravel(), array[6:-5].ravel())[0, 1]

    assert neighbours(filtered) == pytest.approx(neighbours(wanted), abs=0.03)


def test_slices_of_other_spacing_are_not_blended():
    noise = simulated_ct.noise(SHARP, (16, 128, 128), 0.6, 4000.0, np.random.default_rng(0), 0.2)
    one = ct_noise.noise_spectrum(noise, np.ones(noise.shape, bool), (0.6, 0.6, 1.0))
    other = ct_noise.noise_spectrum(noise, np.ones(noise.shape, bool), (0.6, 0.6, 3.0))
    assert ct_noise.slice_blend(one, other) == 0


class TestFilter:
    filters = st.builds(
        lambda source, target, weight: KernelFilter(ct_kernel.mtf_ratio(source, target), weight),
        kernels,
        kernels,
        st.floats(-0.2, 0.25),
    )
    shapes = st.tuples(st.integers(1, 5), st.integers(8, 40), st.integers(8, 40))

    @settings(max_examples=20, deadline=None)
    @given(filters, shapes, st.floats(-1000, 3000))
    def test_a_uniform_image_stays_as_it_is(self, kernel_filter, shape, hu):
        after = kernel_filter.apply(np.full(shape, hu, np.float32), SPACING)
        assert after.shape == shape
        assert np.abs(after - np.float32(hu)).max() < 2e-3

    @settings(max_examples=20, deadline=None)
    @given(filters, shapes, st.floats(-3, 3), st.integers(0, 99))
    def test_it_is_linear(self, kernel_filter, shape, factor, seed):
        a, b = np.random.default_rng(seed).normal(0, 100, (2, *shape)).astype(np.float32)
        together = kernel_filter.apply(a + np.float32(factor) * b, SPACING)
        apart = kernel_filter.apply(a, SPACING) + factor * kernel_filter.apply(b, SPACING)
        assert np.abs(together - apart).max() < 0.05

    @settings(max_examples=20)
    @given(kernels, kernels, st.floats(0.02, 0.5))
    def test_gain_is_1_at_frequency_0_and_bounded(self, source, target, noise_to_signal):
        kernel_filter = KernelFilter(ct_kernel.mtf_ratio(source, target), noise_to_signal=noise_to_signal)
        assert kernel_filter.gain(np.array([0.0]))[0] == pytest.approx(1)
        gain = kernel_filter.gain(FREQUENCIES_LP_PER_MM)
        assert gain.max() <= (1 + noise_to_signal**2) / (2 * noise_to_signal) + 1e-9
        assert (gain >= 0).all()

    @settings(max_examples=15, deadline=None)
    @given(st.floats(-0.2, -0.01), st.integers(2, 9), st.integers(0, 99))
    def test_a_blend_undone_is_the_blend_inverted(self, weight, slices, seed):
        flat = np.ones_like(FREQUENCIES_LP_PER_MM)
        array = np.random.default_rng(seed).normal(0, 100, (slices, 12, 12)).astype(np.float32)
        undone = KernelFilter(flat, weight).apply(array, SPACING)
        assert np.abs(KernelFilter(flat, -weight).apply(undone, SPACING) - array).max() < 0.05

    @pytest.mark.parametrize("pair", [(SHARP, SOFT), (SOFT, SHARP)], ids=["to soft", "to sharp"])
    def test_the_exact_ratio_turns_one_kernel_into_the_other(self, pair):
        before, truth = (simulated_ct.scan(kernel, 7, level=100.0).array for kernel in pair)
        after = KernelFilter(ct_kernel.mtf_ratio(*pair), noise_to_signal=0.02).apply(before, SPACING)
        assert np.abs(after - truth).mean() < 0.1 * np.abs(before - truth).mean()


def test_spectra_that_share_no_frequency_are_refused_in_words():
    coarse = ct_noise.NoiseSpectrum(np.array([0.0, 0.05]), np.ones((1, 2)), 2.0, 0.0)
    with pytest.raises(InputError, match="too few frequencies"):
        ct_noise.common_band(coarse, coarse)
