"""Each way to a map finds the place that a network looks at, hears of its weights, and keeps its paper's promise."""

import dataclasses
import warnings

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("captum")

from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from scipy import ndimage, stats  # noqa: E402
from torch import nn  # noqa: E402

from Testing.engine.explain.networks import OnePlace, Plain, decision  # noqa: E402

from HarmonizeExtension.errors import InputError  # noqa: E402
from HarmonizeExtension.explain import catalogue  # noqa: E402
from HarmonizeExtension.explain.catalogue import METHODS, attribution  # noqa: E402
from HarmonizeExtension.explain.faithfulness import Verdict, faithfulness  # noqa: E402
from HarmonizeExtension.explain.gradients import guided_backpropagation  # noqa: E402
from HarmonizeExtension.explain.integrated_gradients import integrated_gradients  # noqa: E402
from HarmonizeExtension.explain.looking import Decision, block_numbers, mean_output  # noqa: E402
from HarmonizeExtension.explain.occlusion import occlusion  # noqa: E402

named = pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(before)


def by_block(maps, asked):
    """The mean of each map in each block (batch, blocks)."""
    number = block_numbers(maps.shape[1:], asked.block)
    return np.stack([ndimage.mean(one, number, np.arange(number.max() + 1)) for one in maps])


def mixed(asked):
    """The mean score with some blocks of the image, the others of the reference."""
    number = block_numbers(asked.image.shape[2:], asked.block)

    def evaluate(kept):
        return float(
            asked.scores(torch.where(torch.from_numpy(kept[:, number][:, None]), asked.image, asked.reference)).mean()
        )

    return evaluate


@named
@pytest.mark.parametrize("size", [(24, 28), (12, 16, 16)], ids=["plane", "space"])
def test_the_map_lies_where_the_network_looks(method, size):
    box = (slice(4, 8),) * (len(size) - 1) + (slice(8, 16),)
    network = OnePlace(box).train()
    asked = decision(network, network.window, size)
    state = {name: value.clone() for name, value in network.state_dict().items()}
    found = attribution(method, asked, np.random.default_rng(0))
    assert found.shape == (2, *size)
    near = np.zeros(size, bool)
    near[tuple(slice(s.start - 1, s.stop + 1) for s in box)] = True
    if method.name == "occlusion":
        near = np.isin(block_numbers(size, asked.block), block_numbers(size, asked.block)[near])
    assert np.abs(found[:, near]).sum() > 0.95 * np.abs(found).sum() > 0
    assert network.training
    assert all(torch.equal(value, state[name]) for name, value in network.state_dict().items())
    assert all(p.grad is None for p in network.parameters())
    if not method.signed:
        assert found.min() >= 0


@named
def test_deleting_what_the_map_names_beats_deleting_by_chance(method):
    network = OnePlace((slice(4, 12), slice(8, 16)))
    asked = decision(network, network.window)
    found = attribution(method, asked, np.random.default_rng(0))
    checked = faithfulness(by_block(found, asked), {}, mixed(asked), np.random.default_rng(1))
    assert checked.verdict is Verdict.FAITHFUL, checked.sentence
    assert checked.curves.deletion_area < checked.controls["chance"].deletion_area
    assert checked.curves.insertion_area > checked.controls["chance"].insertion_area


@named
def test_other_weights_give_another_map(method):
    """The sanity check of Adebayo et al., NeurIPS 2018."""
    alike = []
    for seed in range(4):
        maps = []
        for weights in (seed, seed + 100):
            torch.manual_seed(weights)
            network = Plain()
            maps.append(attribution(method, decision(network, network.layers[3], seed=seed), np.random.default_rng(0)))
        alike.append(stats.spearmanr(maps[0].ravel(), maps[1].ravel()).statistic)
    assert abs(np.mean(alike)) < 0.5


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_integrated_gradients_add_up_to_the_change_of_the_score(seed):
    torch.manual_seed(seed)
    network = Plain()
    asked = decision(network, network.layers[1], seed=seed)
    found = integrated_gradients(asked).sum(dim=(1, 2, 3)).numpy()
    whole = asked.scores(asked.image) - asked.scores(asked.reference)
    assert found == pytest.approx(whole, rel=0.02, abs=0.01 * np.abs(whole).max() + 1e-3)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_occlusion_of_a_linear_network_adds_up_too(seed):
    torch.manual_seed(seed)
    network = nn.Conv2d(1, 1, 3, padding=1)
    asked = decision(network, network, seed=seed)
    found = occlusion(asked)
    number = block_numbers(found.shape[2:], asked.block)
    each = [[one[number == block][0] for block in range(number.max() + 1)] for one in found[:, 0].numpy()]
    whole = asked.scores(asked.image) - asked.scores(asked.reference)
    assert np.sum(each, axis=1) == pytest.approx(whole, rel=1e-4, abs=1e-5)


def test_what_is_the_same_in_the_reference_is_nothing():
    network = Plain()
    asked = decision(network, network.layers[1])
    asked.reference[..., :14] = asked.image[..., :14]
    for function in (integrated_gradients, occlusion):
        assert function(asked)[..., :12].abs().max() == 0


@named
def test_a_condition_is_shown_and_not_explained(method):
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer, self.relu = nn.Conv2d(2, 4, 3, padding=1), nn.ReLU()

        def forward(self, image, condition):
            return self.relu(self.layer(torch.cat([image, condition], 1)))

    network = Two()
    rng = np.random.default_rng(0)
    image, condition = torch.from_numpy(rng.random((2, 3, 1, 12, 12), np.float32))
    asked = Decision(network, mean_output, network.layer, image, torch.zeros_like(image), (4, 4), (condition,))
    found = attribution(method, asked, np.random.default_rng(0))
    other = attribution(method, asked.of(slice(1, 2)), np.random.default_rng(0))
    assert found.shape == (3, 12, 12)
    if method.name != "smoothgrad":  # whose noise is that of the batch
        assert found[1:2] == pytest.approx(other, abs=1e-5)


def test_the_same_seed_gives_the_same_map_and_leaves_torch_alone():
    network = Plain()
    asked = decision(network, network.layers[1])
    state = torch.random.get_rng_state()
    first, second, other = (
        attribution(catalogue.SMOOTH_GRAD, asked, np.random.default_rng(seed)) for seed in (1, 1, 2)
    )
    assert np.array_equal(first, second)
    assert not np.array_equal(first, other)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_guided_backpropagation_is_that_of_captum_where_all_are_plain():
    from captum.attr import GuidedBackprop

    network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.ReLU(), nn.Conv2d(4, 1, 3))
    asked = decision(network, network[0])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that hooks are set
        theirs = GuidedBackprop(nn.Sequential(network, nn.Flatten())).attribute(asked.image, target=0)
    asked = dataclasses.replace(asked, score=lambda output: output.flatten(1)[:, 0])
    assert torch.allclose(guided_backpropagation(asked), theirs.abs(), atol=1e-6)


def test_guided_backpropagation_lets_nothing_negative_through_a_leaky_relu():
    layer = nn.Conv2d(1, 1, 1)
    nn.init.ones_(layer.weight)
    network = nn.Sequential(layer, nn.LeakyReLU(0.2))
    asked = decision(network, layer)
    assert guided_backpropagation(asked).max() > 0
    against = dataclasses.replace(asked, score=lambda output: -mean_output(output))
    assert guided_backpropagation(against).abs().max() == 0
    assert all(not module._backward_hooks for module in network)


def test_guided_backpropagation_asks_for_relus():
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Tanh())
    with pytest.raises(InputError, match="ReLU"):
        guided_backpropagation(decision(network, network[0]))


def test_the_catalogue_names_what_is_near():
    assert catalogue.map_method("grad-cam") is catalogue.GRAD_CAM
    with pytest.raises(InputError, match="did you mean 'smoothgrad'"):
        catalogue.map_method("smooth-grad")
    with pytest.raises(InputError, match="feature, outcome, scanner, critic"):
        catalogue.question("why?")
    assert catalogue.methods_for(catalogue.question("feature")) == (catalogue.OCCLUSION,)
    assert len(catalogue.methods_for(catalogue.question("critic"))) == 5
