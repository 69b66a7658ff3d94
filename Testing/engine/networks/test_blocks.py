"""Building blocks do what their formulas say."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from hypothesis import given  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from HarmonizeExtension.errors import Cancelled  # noqa: E402
from HarmonizeExtension.networks import blocks  # noqa: E402
from HarmonizeExtension.networks.inference import run_on_slices  # noqa: E402
from HarmonizeExtension.networks.intensity import body_level, from_network, to_network  # noqa: E402


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(before)


def test_adain_gives_every_channel_the_level_and_spread_that_the_style_asks_for():
    x = 5 + 3 * torch.randn(2, 3, 16, 20)
    weight, bias = torch.rand(2, 3) + 0.5, torch.randn(2, 3)
    y = blocks.adain(x, weight, bias)
    assert torch.allclose(y.mean((2, 3)), bias, atol=1e-5)
    assert torch.allclose(y.std((2, 3), correction=0), weight, atol=1e-4)


def test_layer_norm_keeps_the_levels_of_channels_against_each_other():
    x = torch.randn(2, 3, 8, 8) + torch.tensor([0.0, 10.0, 20.0])[:, None, None]
    y = blocks.LayerNorm(3)(x)
    assert torch.allclose(y.mean((1, 2, 3)), torch.zeros(2), atol=1e-5)
    means = y.mean((2, 3))
    assert (means.diff(dim=1) > 0.5).all()
    assert torch.allclose(blocks.LayerNorm(3)(7 * x - 2), y, atol=1e-4)


def test_a_constant_image_has_no_edges_at_its_frame():
    layer = blocks.convolution(1, 4, 7)
    y = layer(torch.ones(1, 1, 12, 12)).detach()
    assert torch.allclose(y, y[:, :, 6:7, 6:7].expand_as(y), atol=1e-5)


def test_sizes():
    x = torch.randn(1, 8, 12, 16)
    assert blocks.convolution(8, 4, 4, 2)(x).shape == (1, 4, 6, 8)
    assert blocks.Upsampling(8, 4)(x).shape == (1, 4, 24, 32)
    assert blocks.ResidualBlock(8)(x).shape == x.shape
    assert blocks.StyledResidualBlock(8)(x, torch.randn(1, 32)).shape == x.shape


@given(slope_y=st.floats(-3, 3), slope_x=st.floats(-3, 3))
def test_the_gradient_loss_of_a_plane_is_its_slopes(slope_y, slope_x):
    y, x = torch.meshgrid(torch.arange(6.0), torch.arange(9.0), indexing="ij")
    plane = (slope_y * y + slope_x * x + 4)[None, None]
    assert float(blocks.gradient_l1(plane)) == pytest.approx(abs(slope_y) + abs(slope_x), abs=1e-4)


@given(level=st.floats(1e-3, 1e5), seed=st.integers(0, 99))
def test_scaling_goes_there_and_back_below_the_level(level, seed):
    array = level * np.random.default_rng(seed).random((3, 4, 5)).astype(np.float32)
    seen = to_network(array, level)
    assert seen.min() >= -1
    assert seen.max() <= 1
    np.testing.assert_allclose(from_network(seen, level), array, atol=1e-5 * level)


def test_the_level_follows_the_gain_and_ignores_air_and_a_few_bright_voxels():
    rng = np.random.default_rng(0)
    array = rng.normal(100, 10, (20, 20, 20))
    body = np.zeros(array.shape, bool)
    body[5:15, 5:15, 5:15] = True
    level = body_level(array, body)
    array[~body] = 1e6
    array[6, 6, 6] = 1e6
    assert body_level(array, body) == pytest.approx(level, rel=0.05)
    assert body_level(3 * array, body) == pytest.approx(3 * body_level(array, body))
    assert body_level(array, np.zeros_like(body)) == 0


class Blur(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = torch.nn.Sequential(
            blocks.convolution(1, 4, 3), blocks.instance_norm(4), torch.nn.ReLU(), blocks.convolution(4, 1, 3)
        )

    def forward(self, x):
        return self.layers(x)


@pytest.mark.parametrize("backend", ["torch", "openvino"])
def test_the_size_of_the_batch_does_not_matter(backend):
    if backend == "openvino":
        pytest.importorskip("openvino", reason="OpenVINO is not installed")
    slices = np.random.default_rng(0).random((7, 1, 12, 16)).astype(np.float32)
    network = Blur()
    results = [run_on_slices(network, slices, batch, backend) for batch in (1, 3, 50)]
    for result in results[1:]:
        np.testing.assert_allclose(result, results[0], atol=1e-5)
    assert results[0].dtype == np.float32


def test_it_can_be_stopped_between_batches():
    slices = np.zeros((6, 1, 8, 8), np.float32)
    told = []
    with pytest.raises(Cancelled):
        run_on_slices(Blur(), slices, 2, "torch", lambda fraction, text: told.append(fraction), lambda: len(told) == 2)
    assert told == pytest.approx([1 / 3, 2 / 3])
