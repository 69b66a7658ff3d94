"""Bands of detail in slices and in volumes: they add up, lie apart, and know flat from steep."""

import pytest

torch = pytest.importorskip("torch")

from HarmonizeExtension.networks.bands import Bands, blurred, blurs, local_strength, strength  # noqa: E402


@pytest.mark.parametrize("count", [1, 3, 6])
@pytest.mark.parametrize("shape", [(40, 36), (16, 20, 18)])
def test_the_rest_and_the_bands_add_up_to_the_image_and_flat_ones_have_no_detail(count, shape):
    torch.manual_seed(0)
    image = torch.randn(2, 1, *shape)
    rest, bands = Bands(count)(image)
    assert bands.shape == (2, count, *shape)
    torch.testing.assert_close(rest + bands.sum(dim=1, keepdim=True), image, atol=1e-4, rtol=0)
    inner = (..., *(slice(count, -count),) * len(shape))
    torch.testing.assert_close(rest[inner], blurs(image, count)[:, -1:][inner])
    rest, bands = Bands(count)(torch.full((1, 1, *shape), 0.7))
    torch.testing.assert_close(rest, torch.full_like(rest, 0.7))
    assert bands.abs().max() < 1e-4


@pytest.mark.parametrize("axes", [2, 3])
def test_each_band_lies_at_finer_frequencies_than_the_one_before(axes):
    point = torch.zeros(1, 1, *(32,) * axes)
    point[(0, 0, *(16,) * axes)] = 1
    rest, bands = Bands(4)(point)
    frequency = torch.meshgrid(*[torch.fft.fftfreq(32)] * axes, indexing="ij")
    radius = sum(f.square() for f in frequency).sqrt()
    power = torch.fft.fftn(torch.cat([rest, bands], dim=1)[0], dim=tuple(range(1, axes + 1))).abs() ** 2
    middle = (power * radius).flatten(1).sum(1) / power.flatten(1).sum(1)
    assert (middle.diff() > 0).all()


def test_blurring_is_that_by_one_two_one_along_each_axis():
    point = torch.zeros(1, 1, 7, 7)
    point[0, 0, 3, 3] = 16
    wanted = torch.outer(torch.tensor([1.0, 2, 1]), torch.tensor([1.0, 2, 1]))
    torch.testing.assert_close(blurred(point)[0, 0, 2:5, 2:5], wanted)
    torch.testing.assert_close(blurred(torch.full((1, 2, 4, 5, 6), 3.0)), torch.full((1, 2, 4, 5, 6), 3.0))


def test_strength_tells_noise_from_edges_of_the_same_energy_and_leaves_air_out():
    torch.manual_seed(0)
    noise = 0.1 * torch.randn(1, 1, 64, 64)
    edge = torch.zeros(1, 1, 64, 64)
    edge[..., 32:] = 2.0
    of_noise, of_edge = (strength(Bands(3)(image)[1], torch.ones(1, 1, 64, 64))[0] for image in (noise, edge))
    assert (of_noise[:3] > of_edge[:3] + 2).all()  # mean logarithm: noise is everywhere
    assert of_edge[3] > of_noise[3] + 2  # logarithm of the mean, in the coarsest band
    body = torch.zeros(1, 1, 64, 64)
    body[..., :28] = 1
    assert (strength(Bands(3)(edge)[1], body)[0] < -10).all()
    around = local_strength(Bands(3)(edge)[1], 1)[0]
    assert (around[:, 32, 32] > around[:, 32, 8] + 3).all()
