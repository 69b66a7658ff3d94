"""The paired baselines: a U-Net that is told the scanner, its judge, what they learn, and how it is applied."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("safetensors")

from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from torch.nn import functional  # noqa: E402

from Testing.engine.scans import bits, grid, head  # noqa: E402

from HarmonizeExtension.body import body_mask  # noqa: E402
from HarmonizeExtension.errors import InputError, ModelError  # noqa: E402
from HarmonizeExtension.files.models import ModelCard, save_model  # noqa: E402
from HarmonizeExtension.methods.axial_slices import OUTPUT_LEVEL  # noqa: E402
from HarmonizeExtension.methods.paired.harmonizer import Paired  # noqa: E402
from HarmonizeExtension.methods.paired.network import Judge, Translator, UNet  # noqa: E402
from HarmonizeExtension.methods.paired.training import PairedTraining, Settings  # noqa: E402
from HarmonizeExtension.networks import inference  # noqa: E402
from HarmonizeExtension.networks.blocks import parameter_count  # noqa: E402
from HarmonizeExtension.networks.inference import run_on_slices  # noqa: E402
from HarmonizeExtension.networks.intensity import body_level  # noqa: E402
from HarmonizeExtension.training.loop import Schedule, train  # noqa: E402

SITES = ("Siemens 3T", "GE 1.5T", "GE 3T")


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """The folder of an untrained model whose scanners differ."""
    torch.manual_seed(1)
    network = Translator(0, len(SITES), width=2)
    with torch.no_grad():
        for name, value in network.named_parameters():
            if name.endswith(("gain", "bias")) and value.ndim == 2:
                value.add_(0.3 * torch.randn_like(value))
    weights = {name: value.detach().numpy() for name, value in network.state_dict().items() if name != "scanner"}
    folder = tmp_path_factory.mktemp("models") / "untrained"
    save_model(folder, ModelCard("paired", "untrained", SITES, preprocessing={"spacing_mm": 1.0}), weights)
    return folder


def one_hot(index, count=3):
    return functional.one_hot(torch.tensor(index), count).float()


@settings(max_examples=8, deadline=None)
@given(rows=st.integers(32, 70), columns=st.integers(32, 70))
def test_images_of_any_size_keep_it(rows, columns):
    image = torch.rand(2, 1, rows, columns) * 2 - 1
    with torch.no_grad():
        assert UNet(3, 2)(image, one_hot([0, 2])).shape == image.shape


def test_the_model_fits_its_eight_megabytes_and_the_judge_looks_at_patches():
    assert 4 * parameter_count(UNet(5)) < 8e6
    judge = Judge(3, 4)
    image = torch.zeros(1, 1, 96, 96)
    spot = image.clone().requires_grad_()
    opinion = judge(image, spot, one_hot([1]))
    assert opinion.shape == (1, 1, 10, 10)
    # One value looks at 70 x 70 pixels: the normalisation carries a little from elsewhere, the rest comes from there.
    opinion[0, 0, 5, 5].backward()
    seen = spot.grad[0, 0].abs().sum(0).nonzero()
    assert seen.numel() > 40
    assert not torch.equal(judge(image, image, one_hot([0])), judge(image, image, one_hot([1])))


def test_an_untrained_network_changes_little_and_the_scanner_changes_the_result_once_it_is_learnt():
    image = torch.rand(1, 1, 48, 48)
    network = UNet(3, 4)
    with torch.no_grad():
        same = [network(image, one_hot([site])) for site in range(3)]
        assert torch.equal(same[0], same[1])
        assert (same[0] - image).abs().mean() < 0.2
        network.down[0].gain[1] *= 1.5
        assert not torch.allclose(network(image, one_hot([1])), same[1], atol=1e-3)
        assert torch.equal(network(image, one_hot([2])), same[2])


def training(folder, **changes):
    """The system on slices whose scanners differ by a curve of intensities: brighter, darker, inverted in part."""
    rng = np.random.default_rng(0)
    curves = (lambda v: v, lambda v: v**2, np.sqrt, lambda v: 4 * v * (1 - v))  # the last is the unseen scanner
    chosen = Settings(
        **({"slices": str(folder), "people": 2, "validation_people": 1, "width": 4, "learning_rate": 0.003,
            "scanners": SITES, "crop": 32, "translation_mm": 1.0} | changes)
    )  # fmt: skip
    for kind, people, scanners in (("paired", 2, 3), ("validation", 1, 4)):
        (folder / kind).mkdir(parents=True, exist_ok=True)
        for number in range(people):
            tissue = np.kron(rng.random((4, 10, 10)), np.ones((1, 5, 5)))
            array = np.stack([np.rint(16384 * curves[k](tissue)) for k in range(scanners)]).astype(np.uint16)
            np.save(folder / kind / f"{number:05d}.npy", array)
            np.save(folder / kind / f"{number:05d}.brain.npy", np.ones(array.shape[1:], bool))
    return PairedTraining(chosen)


@pytest.mark.parametrize("adversarial", [0.0, 1.0])
def test_each_phase_trains_its_own_networks(tmp_path, adversarial):
    system = training(tmp_path, adversarial=adversarial)
    batch = system.batch(2, np.random.default_rng(0))
    assert batch["source"].shape == batch["target"].shape == (2, 1, 32, 32)
    phases = system.optimizers()
    assert list(phases) == (["unet", "judge"] if adversarial else ["unet"])
    for phase, optimizer in phases.items():
        before = {name: value.clone() for name, value in system.state_dict().items()}
        system.zero_grad()
        losses = system(phase, batch)
        losses["loss"].backward()
        optimizer.step()
        after = system.state_dict().items()
        assert {name.split(".")[0] for name, value in after if not torch.equal(value, before[name])} == {phase}
        assert all(value.ndim == 0 and torch.isfinite(value) for value in losses.values())


def test_the_losses_have_their_minimum_where_the_target_is_met(tmp_path):
    system = training(tmp_path)
    batch = system.batch(3, np.random.default_rng(0))
    system.unet.last.weight.data.zero_()  # no residue: the source itself
    same = dict(batch, target=batch["source"])
    assert system("unet", same)["loss"].item() == 0
    moved = dict(batch, target=batch["source"] + 0.1)
    assert system("unet", moved)["loss"].item() == pytest.approx(100 * 0.1, rel=1e-4)


def test_source_and_target_are_one_slice_moved_alike_and_the_same_numbers_draw_the_same(tmp_path):
    system = training(tmp_path, crop=0)
    a, b, c = (system.batch(6, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert not torch.equal(a["source"], c["source"])
    for source, target in zip(a["source"], a["target"], strict=True):  # every curve of a learnt scanner rises
        ranks = [torch.argsort(torch.argsort(x[0, 8:-8, 8:-8].ravel())).numpy() for x in (source, target)]
        assert np.corrcoef(*ranks)[0, 1] > 0.98


@pytest.mark.parametrize("adversarial", [0.0, 1.0])
def test_a_few_steps_learn_the_scanners_and_the_same_seed_the_same_numbers(tmp_path, adversarial):
    def trained(steps, name):
        schedule = Schedule(steps, batch_size=4, seed=3, validate_every=80, report_every=40, average=0.9, threads=1)
        return train(lambda: training(tmp_path, adversarial=adversarial), schedule, tmp_path / name)

    system, outcome = trained(80, "learnt")
    assert outcome.best["score"] < 0.7 * outcome.best["before"]
    assert "unseen" in outcome.best
    first, second = (trained(5, name)[0].state_dict() for name in "ab")
    assert all(torch.equal(value, second[name]) for name, value in first.items())
    system.save_model(tmp_path / "model", {"validation": dict(outcome.best)})
    x = torch.rand(2, 1, 32, 48)
    with torch.no_grad():
        expected = system.unet(x, one_hot([1, 1]))
        assert torch.allclose(Paired("GE 1.5T", tmp_path / "model")._network()(x), expected, atol=1e-3)


@pytest.mark.parametrize(
    "changes", [{"scanners": ("GE 3T",)}, {"people": 0}, {"crop": 40}, {"l1": 0.0}, {"adversarial": -1.0}]
)
def test_settings_that_make_no_sense_are_refused(changes):
    with pytest.raises(InputError):
        Settings(**({"slices": "x"} | changes))


def test_a_target_is_a_model_and_one_of_its_scanners(model, tmp_path):
    assert Paired.for_target(f"{model}#GE 3T").site == "GE 3T"
    with pytest.raises(InputError, match="did you mean 'GE 3T'"):
        Paired.for_target(f"{model}#GE 3 T")
    with pytest.raises(InputError, match="FOLDER#SITE"):
        Paired.for_target("GE 3T")
    save_model(tmp_path / "m", ModelCard("paired", "odd", SITES), {"unet.down.0.first.bias": np.zeros(2, np.float32)})
    with pytest.raises(ModelError, match="not those of a paired U-Net"):
        Paired("GE 3T", tmp_path / "m").apply(head())


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.5), (2.0, 2.0, 2.0)])
def test_it_is_applied_on_the_native_grid(model, spacing, monkeypatch):
    monkeypatch.setattr(inference, "default_backend", lambda: "torch")  # compiling takes longer than these slices
    scan = head(grid(size=(44, 44, 20), spacing=spacing)).with_roles(protected=["GTV"])
    method = Paired("GE 3T", model)
    result = method.apply(scan)
    assert bits(result.image) == bits(scan.image)
    body = body_mask(scan)
    level = body_level(scan.array, body)
    np.testing.assert_allclose(result.array[~body], scan.array[~body] * OUTPUT_LEVEL / level, rtol=1e-5, atol=1e-3)
    assert np.array_equal(method.apply(scan).array, result.array)
    assert not np.allclose(Paired("GE 1.5T", model).apply(scan).array, result.array, atol=1)


def test_openvino_and_torch_agree_to_a_ten_thousandth_of_the_range(model):
    pytest.importorskip("openvino", reason="OpenVINO is not installed")
    network = Paired("GE 3T", model)._network()
    slices = np.random.default_rng(0).uniform(-1, 1, (3, 1, 50, 43)).astype(np.float32)
    results = [run_on_slices(network, slices, 2, backend) for backend in ("torch", "openvino")]
    assert np.abs(results[0] - results[1]).max() < 1e-4 * 2
