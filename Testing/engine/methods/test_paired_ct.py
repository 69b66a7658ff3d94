"""The paired CT baselines: which of them the settings make, what each phase trains, what they learn."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("safetensors")

from Testing.engine.training.kernel_stacks import write_stacks  # noqa: E402

from HarmonizeExtension.errors import InputError, ModelError  # noqa: E402
from HarmonizeExtension.files.models import load_model  # noqa: E402
from HarmonizeExtension.methods.paired_ct.network import ResidualCNN, Translator, UNet  # noqa: E402
from HarmonizeExtension.methods.paired_ct.training import PairedCTTraining, Settings  # noqa: E402
from HarmonizeExtension.networks.kernel_blocks import kernel_code  # noqa: E402

BASELINES = {
    "Residual CNN (Choe)": {"generator": "residual-cnn", "judges": 0},
    "Pix2Pix": {},
    "GANai": {"judges": 2},
    "STAN-CT": {"judges": 2, "latent": 1.0},
    "U-Net": {"judges": 0},
}


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def stacks(tmp_path_factory):
    return write_stacks(tmp_path_factory.mktemp("stacks") / "drawn")


def system(stacks, **changes):
    small = {"slices": str(stacks), "cases": 2, "validation_cases": 1, "width": 4, "crop": 64, "learning_rate": 0.003}
    return PairedCTTraining(Settings(**(small | changes)))


@pytest.mark.parametrize("title", BASELINES)
def test_each_phase_trains_its_own_networks_and_the_model_is_read_again(stacks, tmp_path, title):
    trained = system(stacks, **BASELINES[title])
    batch = trained.batch(2, np.random.default_rng(0))
    phases = trained.optimizers()
    assert list(phases) == (["generator", "judges"] if trained.settings.judges else ["generator"])
    for phase, optimizer in phases.items():
        before = {name: value.clone() for name, value in trained.named_parameters()}
        trained.zero_grad()
        losses = trained(phase, batch)
        losses["loss"].backward()
        optimizer.step()
        changed = {n.split(".")[0] for n, value in trained.named_parameters() if not torch.equal(value, before[n])}
        assert changed == {phase}
        assert ("latent" in losses) == (title == "STAN-CT" and phase == "generator")
    trained.eval().save_model(tmp_path / "model", {"score": 1.0})
    card, weights = load_model(tmp_path / "model", "paired-ct")
    assert card.title == f"{title}, CT kernels"
    assert card.sites == ("Br40", "Bl57", "Bl64")
    slices = (batch["source"] + 1024) / 1012 - 1
    with torch.no_grad():
        wanted = trained.generator(slices, kernel_code(torch.tensor([1, 1]), 3, torch.full((2,), 0.9)))
        assert torch.allclose(Translator.from_weights(weights, 1, 3, 0.9)(slices), wanted, atol=1e-5)


def test_the_residual_cnn_has_six_layers_of_64_filters():
    network = ResidualCNN(3)
    layers = [layer for layer in network.modules() if isinstance(layer, torch.nn.Conv2d)]
    assert [layer.out_channels for layer in layers] == [64] * 5 + [1]
    assert {layer.kernel_size for layer in layers} == {(3, 3)}


@pytest.mark.parametrize("network", [ResidualCNN(3, 4), UNet(3, 4)])
def test_untrained_networks_change_little(network):
    slices = torch.rand(1, 3, 32, 48)
    with torch.no_grad():
        result = network.eval()(slices, kernel_code(torch.tensor([0]), 3, torch.tensor([0.7])))
    assert result.shape == (1, 1, 32, 48)
    assert (result - slices[:, 1:2]).abs().mean() < 0.3


def test_settings_that_make_no_sense_are_refused():
    for changes, message in (
        ({"generator": "resnet"}, "use residual-cnn or unet|use unet or residual-cnn|use .*unet"),
        ({"judges": 3}, "judges must be 0, 1 or 2"),
        ({"latent": 1.0, "generator": "residual-cnn"}, "needs a generator with an encoder"),
    ):
        with pytest.raises(InputError, match=message):
            Settings(slices="x", **changes)


def test_weights_of_something_else_are_refused():
    with pytest.raises(ModelError, match="not those of a paired CT network"):
        Translator.from_weights({"generator.last.weight": np.zeros((1, 4, 3, 3), np.float32)}, 0, 3, 0.7)
