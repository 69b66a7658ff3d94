"""Kernels measured on a scan that was reconstructed twice."""

import dataclasses

import numpy as np
import pytest
import SimpleITK as sitk

from Testing.engine.physics import simulated_ct

from HarmonizeExtension.errors import InputError
from HarmonizeExtension.files.reading import read_scan
from HarmonizeExtension.physics.ct_kernel import KernelMTF
from HarmonizeExtension.physics.ct_pair import kernels_of_pair
from HarmonizeExtension.physics.ct_scan import Geometry, scan_with_kernels
from HarmonizeExtension.scan import Modality, Scan


def scan(edges: KernelMTF, noise: KernelMTF, name: str, seed: int = 0) -> Scan:
    """Discs blurred by one MTF under noise of another."""
    plain = simulated_ct.scan(edges, seed, size=200, level=0.0, name=name)
    rng = np.random.default_rng(seed)
    return plain.with_array(plain.array + simulated_ct.noise(noise, plain.array.shape, 0.6, 3000.0, rng))


def test_edges_and_noise_of_both_kernels_are_found():
    quiet = KernelMTF.from_mtf50_mtf10("quiet", 0.2, 0.5)
    soft, sharp = scan(simulated_ct.SOFT, quiet, "soft"), scan(simulated_ct.SHARP, simulated_ct.SHARP, "sharp")
    first, second = kernels_of_pair(soft, sharp)
    assert (first.name, second.name) == ("soft", "sharp")
    f = np.array([0.15, 0.3, 0.45, 0.6])
    np.testing.assert_allclose(first.mtf(f), simulated_ct.SOFT(f), atol=0.06)
    np.testing.assert_allclose(second.mtf(f), simulated_ct.SHARP(f), atol=0.06)
    np.testing.assert_allclose(first.noise_mtf(f), quiet(f), atol=0.1)
    np.testing.assert_allclose(second.noise_mtf(f), simulated_ct.SHARP(f), atol=0.1)


def test_some_slices_say_the_same_as_others_and_other_grids_are_refused():
    soft, sharp = (scan(kernel, kernel, kernel.name) for kernel in (simulated_ct.SOFT, simulated_ct.SHARP))
    even, odd = (kernels_of_pair(soft, sharp, slice(start, None, 2)) for start in (0, 1))
    for one, other in zip(even, odd, strict=True):
        for field in ("mtf50_lp_per_mm", "mtf10_lp_per_mm"):
            assert getattr(one, field) == pytest.approx(getattr(other, field), rel=0.08)
    small = dataclasses.replace(sharp, image=sharp.image[:-1], structures={})
    with pytest.raises(InputError, match="other grids"):
        kernels_of_pair(soft, small)


def test_the_blend_of_slices_is_found_where_neighbours_are_seen():
    sharp = scan(simulated_ct.SHARP, simulated_ct.SHARP, "sharp")
    plain = simulated_ct.scan(simulated_ct.SOFT, 0, size=200, level=0.0, name="soft")
    noise = simulated_ct.noise(
        simulated_ct.SOFT, plain.array.shape, 0.6, 3000.0, np.random.default_rng(1), slice_weight=0.12
    )
    blended = plain.with_array(plain.array + noise)
    for pair, wanted in (((blended, sharp), (0.12, 0)), ((sharp, blended), (0, 0.12))):
        assert [kernel.slice_weight for kernel in kernels_of_pair(*pair)] == pytest.approx(wanted, abs=0.03)
    assert [kernel.slice_weight for kernel in kernels_of_pair(blended, sharp, slice(0, None, 2))] == [0, 0]


@pytest.mark.slow
@pytest.mark.real_data
def test_a_simulated_pair_looks_like_the_real_one_that_its_kernels_were_measured_on(real_data):
    """The ratio of noise and of edges, measured again on water simulated with the measured kernels."""
    folder = real_data / "ct_kernel_pair"
    real = [
        read_scan(folder / f"ingenuity_{name}_1mm.nii.gz", modality=Modality.CT, units="HU")
        for name in ("UB_soft", "YA_bone")
    ]
    kernels = kernels_of_pair(*real, slice(1, None, 2))
    assert kernels[0].mtf50_lp_per_mm < 0.6 * kernels[1].mtf50_lp_per_mm
    assert (
        kernels[0].noise_mtf50_lp_per_mm < 0.4 * kernels[1].noise_mtf50_lp_per_mm
    )  # iterative: quieter than its edges
    axis = np.arange(-109.5, 110) * 0.5
    distance = np.hypot(*np.meshgrid(axis, axis))
    water = (-1000 + 1090 * np.clip((45 - distance) / 0.5 + 0.5, 0, 1)).astype(np.float32)
    scanned = (np.repeat(water[None], 6, 0), 0.5, kernels, 1e5, np.random.default_rng(0))
    images = scan_with_kernels(*scanned, size=240, spacing_mm=0.45, geometry=Geometry(240, 0.5))
    simulated = []
    for kernel, array in zip(kernels, images, strict=True):
        image = sitk.GetImageFromArray(array)
        image.SetSpacing((0.45, 0.45, 2.0))
        simulated.append(Scan(image, Modality.CT, units="HU", name=kernel.name))
    again = kernels_of_pair(*simulated)
    f = np.array([0.2, 0.4, 0.6])
    for one, other in zip(kernels, again, strict=True):
        np.testing.assert_allclose(other.mtf(f), one.mtf(f), atol=0.08)
        np.testing.assert_allclose(other.noise_mtf(f), one.noise_mtf(f), atol=0.15)
