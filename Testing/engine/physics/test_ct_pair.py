"""Kernels measured on a scan that was reconstructed twice."""

import dataclasses

import numpy as np
import pytest

from Testing.engine.physics import simulated_ct

from HarmonizeExtension.errors import InputError
from HarmonizeExtension.physics.ct_kernel import KernelMTF
from HarmonizeExtension.physics.ct_pair import kernels_of_pair
from HarmonizeExtension.scan import Scan


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
