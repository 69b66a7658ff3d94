"""Grad-CAM finds the place that a network decides by, in the plane and in space, and leaves the network as it was."""

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("captum")

from torch import nn  # noqa: E402

from HarmonizeExtension.explain.grad_cam import grad_cam  # noqa: E402
from HarmonizeExtension.explain.looking import mean_output  # noqa: E402


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(before)


class BrightAndDark(nn.Module):
    """One channel for what is brighter than 0 and one for what is darker, halved; answers by the first only."""

    def __init__(self, dimensions: int):
        super().__init__()
        convolution, norm, pool = (
            (nn.Conv2d, nn.BatchNorm2d, nn.AvgPool2d) if dimensions == 2 else (nn.Conv3d, nn.BatchNorm3d, nn.AvgPool3d)
        )
        self.first, self.norm, self.pool = convolution(1, 2, 1, bias=False), norm(2), pool(2)
        with torch.no_grad():
            self.first.weight.copy_(torch.tensor([1.0, -1.0]).reshape(self.first.weight.shape))

    def forward(self, x):
        return self.pool(torch.relu_(self.norm(self.first(x))))[:, :1]


def bright_here_dark_there(dimensions: int):
    """Images (3, 1, ...) of 16 voxels an axis: bright in one corner, dark in the other; the two masks."""
    bright = torch.zeros([16] * dimensions, dtype=torch.bool)
    bright[(slice(2, 6),) * dimensions] = True
    dark = bright.flip(list(range(dimensions)))
    image = bright.float() - dark.float()
    return image.expand(3, 1, *image.shape).clone(), bright, dark


@pytest.mark.parametrize("dimensions", [2, 3])
def test_it_finds_the_place_and_leaves_the_network_as_it_was(dimensions):
    network = BrightAndDark(dimensions).train()
    network.requires_grad_(False)  # as a critic is frozen while its windows are chosen
    running = network.norm.running_mean.clone()
    images, bright, dark = bright_here_dark_there(dimensions)
    cam = grad_cam(network, network.pool, images)
    assert cam.shape == (3, *[16] * dimensions)
    assert torch.allclose(cam.flatten(1).amax(1), torch.ones(3))
    assert cam.min() >= 0
    assert not (cam > 0.5)[:, ~bright].any()
    assert cam[:, bright].mean() > 0.4  # its own edge is smoothed by the halved grid
    assert cam[:, dark].max() == 0
    assert network.training
    assert network.norm.training
    assert torch.equal(network.norm.running_mean, running)


def test_what_speaks_against_a_score_is_the_map_of_its_negative():
    network = BrightAndDark(2)
    against = grad_cam(network, network.pool, bright_here_dark_there(2)[0], score=lambda output: -mean_output(output))
    assert against.max() == 0  # bright pixels can only speak for it


def test_images_of_a_batch_do_not_hear_of_each_other():
    network = nn.Sequential(nn.Conv2d(1, 4, 3, 2, 1), nn.InstanceNorm2d(4), nn.ReLU(), nn.Conv2d(4, 1, 3))
    images = torch.randn(4, 1, 24, 20)
    together = grad_cam(network, network[2], images)
    alone = torch.cat([grad_cam(network, network[2], image[None]) for image in images])
    assert torch.allclose(together, alone, atol=1e-5)


def test_a_network_of_two_images_is_shown_both():
    class Pair(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Conv2d(2, 1, 1)
            nn.init.ones_(self.layer.weight)
            nn.init.zeros_(self.layer.bias)

        def forward(self, source, image):
            return self.layer(torch.cat([source, image], 1))

    network = Pair()
    source, image = torch.zeros(2, 1, 1, 8, 8)
    source[..., :4, :], image[..., :4] = 1, 1
    network.layer.weight.grad = torch.full_like(network.layer.weight, 7.0)
    cam = grad_cam(network, network.layer, source, image)
    assert torch.equal(cam[0], (source + image)[0, 0] / 2)
    assert (network.layer.weight.grad == 7).all()
