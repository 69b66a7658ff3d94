"""The simulated CT scanner: line integrals, HU, the kernels' MTF and noise are what they are said to be."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from HarmonizeExtension.errors import InputError
from HarmonizeExtension.physics import ct_edges, ct_noise
from HarmonizeExtension.physics.ct_kernel import FREQUENCIES_LP_PER_MM, mtf_ratio
from HarmonizeExtension.physics.ct_scan import (
    KERNELS,
    WATER_PER_MM,
    Geometry,
    Kernel,
    add_photon_noise,
    project,
    reconstruct,
    scan_with_kernels,
)

PIXEL_MM = 0.5
SIZE = 220  # 110 mm
GEOMETRY = Geometry(views=240, detector_mm=PIXEL_MM)
ALL = tuple(kernel.mtf for kernel in KERNELS.values())


def disc(centre=(0.0, 0.0), radius=35.0, hu=0.0, around=-1000.0, size=SIZE) -> np.ndarray:
    axis = (np.arange(size) - (size - 1) / 2) * PIXEL_MM
    y, x = np.meshgrid(axis - centre[0], axis - centre[1], indexing="ij")
    cover = np.clip((radius - np.hypot(y, x)) / PIXEL_MM + 0.5, 0, 1)
    return (around + cover * (hu - around)).astype(np.float32)


@pytest.fixture(scope="module")
def noisy():
    """Four slices of a disc of water, noisy, with each kernel; 0.7 mm pixels."""
    slices = np.repeat(disc(radius=45.0)[None], 6, 0)
    return scan_with_kernels(
        slices, PIXEL_MM, list(KERNELS.values()), 3e4, np.random.default_rng(0), 128, 0.7, geometry=GEOMETRY
    )


@settings(max_examples=8, deadline=None)
@given(y=st.floats(-12, 12), x=st.floats(-12, 12), hu=st.floats(-900, 2000))
def test_rays_see_the_chords_of_a_disc(y, x, hu):
    sinogram = project(disc((y, x), 30.0, hu, size=190)[None], PIXEL_MM, Geometry(16, PIXEL_MM))
    angles = (np.arange(16) + 0.5) * np.pi / 16
    s = (np.arange(sinogram.shape[1]) - (sinogram.shape[1] - 1) / 2) * PIXEL_MM
    off = s[None] - (x * np.cos(angles) + y * np.sin(angles))[:, None]
    expected = WATER_PER_MM * (1 + hu / 1000) * 2 * np.sqrt(np.maximum(30.0**2 - off**2, 0))
    inside = np.abs(off) < 27
    np.testing.assert_allclose(sinogram[..., 0][inside], expected[inside], rtol=0.01)
    assert np.abs(sinogram[..., 0][np.abs(off) > 32]).max() < 1e-3


def test_hu_are_right_and_the_lattice_of_pixels_does_not_show():
    image = disc(hu=40.0)
    for centre, hu in (((10.0, 15.0), -100.0), ((-15.0, 5.0), 900.0), ((5.0, -20.0), -1000.0)):
        image = np.maximum(image, disc(centre, 8, hu)) if hu > 40 else np.minimum(image, disc(centre, 8, hu, 1e4))
    found = reconstruct(project(image[None], PIXEL_MM, GEOMETRY), ALL, GEOMETRY, 128, 0.7)[:, 0]
    axis = (np.arange(128) - 63.5) * 0.7
    y, x = np.meshgrid(axis, axis, indexing="ij")
    for (cy, cx), hu in (((10, 15), -100), ((-15, 5), 900), ((5, -20), -1000), ((-5, -5), 40), ((0, 48), -1000)):
        place = found[:, np.hypot(y - cy, x - cx) < 4]
        assert place.mean(axis=1) == pytest.approx([hu] * len(ALL), abs=3)
        assert place.std(axis=1).max() < 12  # rings and streaks of few views; noise is five times as much


def test_a_part_of_the_field_is_the_part_of_the_whole():
    sinogram = project(disc((8.0, -6.0), 25.0)[None], PIXEL_MM, GEOMETRY)
    whole = reconstruct(sinogram, ALL[:1], GEOMETRY, 100, 0.7)[0, 0]
    part = reconstruct(sinogram, ALL[:1], GEOMETRY, 40, 0.7, (7.0, -14.0))[0, 0]
    np.testing.assert_allclose(part, whole[40:80, 10:50], atol=2)


@pytest.mark.parametrize("kernel", KERNELS.values(), ids=lambda kernel: kernel.name)
def test_the_mtf_of_the_images_is_the_kernels(kernel):
    sinogram = project(disc(radius=40.0, hu=50.0)[None], PIXEL_MM, GEOMETRY)
    fine = reconstruct(sinogram, [kernel.mtf], GEOMETRY, 260, 0.35)[0]
    measured = ct_edges.edge_mtf(np.repeat(fine, 3, 0), (0.35, 0.35, 1.0))
    f = np.array([0.15, 0.3, 0.45, 0.6, 0.75])
    np.testing.assert_allclose(measured(f), kernel.mtf(f), atol=0.06)


def test_noise_differs_as_the_kernels_do(noisy):
    water = np.zeros(noisy.shape[1:], bool)
    water[:, 24:104, 24:104] = True
    spectra = [ct_noise.noise_spectrum(images, water, (0.7, 0.7, 1.0)) for images in noisy]
    soft, sharp = 0, len(ALL) - 1
    ratio = ct_noise.noise_ratio(spectra[soft], spectra[sharp])
    f = FREQUENCIES_LP_PER_MM
    use = (f > 0.1) & (f < 0.42)  # beyond, pixels of 0.7 mm alias what a sharp kernel lets pass
    np.testing.assert_allclose(np.log(ratio[use]), np.log(mtf_ratio(ALL[soft], ALL[sharp])[use]), atol=0.25)
    sd = noisy[:, :, 40:88, 40:88].std(axis=(1, 2, 3))
    assert (np.diff(sd) > 0).all()
    # The ramp: noise of a sharp kernel has little power at low frequency and most in the middle.
    power = np.interp([0.08, 0.4], spectra[1].frequency_lp_per_mm, spectra[1].power)
    assert power[1] > 2 * power[0]


def test_all_kernels_are_given_the_same_photons(noisy):
    """Blurred alike, the noise of two kernels is one and the same."""
    frequency = np.hypot(*np.meshgrid(*[np.fft.fftfreq(128, 0.7)] * 2))
    low = (frequency < 0.15) & (frequency > 0.05)
    first, last = (np.fft.fft2(images - images.mean(axis=0))[:, low] for images in (noisy[0], noisy[-1]))
    assert np.corrcoef(np.abs(first).ravel(), np.abs(last).ravel())[0, 1] > 0.85
    assert np.abs(noisy[0] - noisy[0].mean(axis=0)).max() > 1  # and there is noise


def test_fewer_photons_and_longer_ways_are_noisier():
    rng = np.random.default_rng(1)
    ways = np.repeat(np.array([0.0, 2.0, 5.0], np.float32), 20_000)
    few, many = (add_photon_noise(ways, photons, rng).reshape(3, -1) for photons in (1e4, 1e5))
    np.testing.assert_allclose(many.std(axis=1), np.sqrt(np.exp([0, 2, 5]) / 1e5), rtol=0.03)
    np.testing.assert_allclose(many.mean(axis=1), [0, 2, 5], atol=0.01)
    assert (few.std(axis=1) > 2 * many.std(axis=1)).all()
    assert np.isfinite(add_photon_noise(np.full(5, 60.0, np.float32), 1e4, rng)).all()  # no photon left


def test_noise_may_be_filtered_otherwise_than_edges():
    slices = disc(radius=40.0)[None].repeat(2, 0)
    kernels = [
        Kernel("plain", 0.5, 0.8),
        Kernel("quiet", 0.5, 0.8, 0.0, 0.3, 0.5),
        Kernel("none", 0.5, 0.8, noise_level=0),
    ]
    rng = np.random.default_rng(2)
    plain, quiet, none = scan_with_kernels(slices, PIXEL_MM, kernels, 3e4, rng, 96, 0.7, geometry=GEOMETRY)
    clean = reconstruct(project(slices, PIXEL_MM, GEOMETRY), [kernels[0].mtf], GEOMETRY, 96, 0.7)[0]
    np.testing.assert_allclose(none, clean, atol=0.1)
    assert 0 < (quiet - clean).std() < 0.6 * (plain - clean).std()


def test_slices_are_blended_with_their_neighbours():
    slices = np.stack([disc(hu=hu) for hu in (0.0, 0.0, 300.0, 0.0, 0.0)])
    plain = Kernel("plain", 0.5, 0.8, noise_level=0.0)
    kernels = [plain, dataclasses.replace(plain, slice_weight=0.2)]
    rng = np.random.default_rng(3)
    apart, blended = scan_with_kernels(slices, PIXEL_MM, kernels, 1e4, rng, 40, 0.7, geometry=GEOMETRY)
    middle = (slice(None), slice(15, 25), slice(15, 25))
    assert apart[middle].mean(axis=(1, 2)) == pytest.approx([0, 0, 300, 0, 0], abs=3)
    assert blended[middle].mean(axis=(1, 2)) == pytest.approx([0, 60, 180, 60, 0], abs=3)


def test_a_boost_lifts_the_middle_and_leaves_the_mean():
    kernel = Kernel("edge", 0.6, 0.9, 0.2)
    assert kernel.mtf(0.0) == 1
    assert kernel.mtf(0.3) == pytest.approx(1.2 * Kernel("plain", 0.6, 0.9).mtf(0.3), rel=1e-6)


def test_what_cannot_be_scanned_is_told():
    with pytest.raises(InputError, match="multiple of 4"):
        Geometry(views=30)
    with pytest.raises(InputError, match="square"):
        project(np.zeros((1, 20, 30), np.float32), 0.5, GEOMETRY)
