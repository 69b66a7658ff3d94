"""RadiomicGAN: the hybrid U-Net on VGG-19, its judge, what they learn, and a CT scan that goes through."""

import dataclasses

import numpy as np
import pytest
import SimpleITK as sitk

torch = pytest.importorskip("torch")
safetensors_torch = pytest.importorskip("safetensors.torch")

from Testing.engine.training.kernel_stacks import blurred, write_stacks  # noqa: E402

from HarmonizeExtension import guard  # noqa: E402
from HarmonizeExtension.errors import InputError, ModelError  # noqa: E402
from HarmonizeExtension.methods.radiomicgan.band_gains import AIR, BandGains  # noqa: E402
from HarmonizeExtension.methods.radiomicgan.harmonizer import RadiomicGAN  # noqa: E402
from HarmonizeExtension.methods.radiomicgan.network import VGG_GROUPS, Encoder, Generator, Translator  # noqa: E402
from HarmonizeExtension.methods.radiomicgan.training import RadiomicGANTraining, Settings  # noqa: E402
from HarmonizeExtension.networks.blocks import parameter_count  # noqa: E402
from HarmonizeExtension.networks.kernel_blocks import PatchJudge, kernel_code  # noqa: E402
from HarmonizeExtension.scan import Modality, Scan  # noqa: E402
from HarmonizeExtension.training import checkpoint  # noqa: E402
from HarmonizeExtension.training.kernel_pairs import KernelRecipe, draw_case  # noqa: E402
from HarmonizeExtension.training.loop import Schedule, train  # noqa: E402


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(before)


def code(*kernels, count=3):
    return kernel_code(torch.tensor(kernels), count, torch.full((len(kernels),), 0.7))


def system(folder, **changes):
    stacks = folder / "stacks"
    if not stacks.exists():
        write_stacks(stacks)
    small = {"slices": str(stacks), "cases": 2, "validation_cases": 1, "width": 4, "crop": 64, "epoch_steps": 2}
    return RadiomicGANTraining(Settings(**(small | {"learning_rate": 0.003} | changes)))


def test_the_published_size():
    generator = Generator(3)
    assert parameter_count(generator.encoder) == 10_585_152  # VGG-19 up to its twelfth convolution
    assert 2.2e6 < parameter_count(generator) - parameter_count(generator.encoder) < 2.4e6
    judge = PatchJudge(2, 3)
    assert judge(torch.zeros(2, 2, 128, 128), code(0, 1)).shape == (2, 1, 6, 6)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_the_weights_of_vgg19_are_taken_from_a_file_of_torchvision(tmp_path, suffix):
    channels, weights = 3, {"classifier.0.weight": torch.zeros(2, 2)}
    for level, numbers in enumerate(VGG_GROUPS):
        for number in numbers:
            wide = 64 * 2**level
            weights[f"features.{number}.weight"] = torch.randn(wide, channels, 3, 3)
            weights[f"features.{number}.bias"] = torch.randn(wide)
            channels = wide
    path = tmp_path / f"vgg19{suffix}"
    safetensors_torch.save_file(weights, path) if suffix == ".safetensors" else torch.save(weights, path)
    encoder = Encoder()
    encoder.load_vgg19(path)
    for group, numbers in zip(encoder.groups, VGG_GROUPS, strict=True):
        for layer, number in zip(group[::2], numbers, strict=True):
            assert torch.equal(layer.weight, weights[f"features.{number}.weight"])
            assert torch.equal(layer.bias, weights[f"features.{number}.bias"])
    assert not any(p.requires_grad for p in encoder.parameters())
    with pytest.raises(InputError, match="set width to 64"):
        Encoder(8).load_vgg19(path)


def test_what_is_no_vgg19_is_said_to_be_none(tmp_path):
    path = tmp_path / "other.pth"
    torch.save({"features.0.weight": torch.zeros(64, 3, 3, 3)}, path)
    with pytest.raises(InputError, match=r"is no VGG-19: it has no 'features.0.bias'"):
        Encoder().load_vgg19(path)
    path.write_bytes(b"nothing")
    with pytest.raises(InputError, match="cannot be read from"):
        Encoder().load_vgg19(path)
    with pytest.raises(InputError, match="cannot be read from"):
        Encoder().load_vgg19(tmp_path / "missing.safetensors")


def test_an_untrained_generator_changes_little_and_the_kernel_and_the_pixels_change_the_result():
    slices = torch.rand(1, 3, 32, 40)
    generator = Generator(3, 8).eval()
    with torch.no_grad():
        first = generator(slices, code(0))
        assert first.shape == (1, 1, 32, 40)
        assert (first - slices[:, 1:2]).abs().mean() < 0.3
        assert not torch.allclose(generator(slices, code(1)), first, atol=1e-4)
        wide = kernel_code(torch.tensor([0]), 3, torch.tensor([1.4]))
        assert torch.equal(generator(slices, wide), first)
        generator.filters[0].kernel.gain[3] += 0.5
        assert not torch.allclose(generator(slices, wide), first, atol=1e-4)
        assert torch.equal(generator(slices, code(0)), first)


def test_gains_of_bands_begin_as_no_change_and_follow_kernel_pixels_and_the_slices_own_detail():
    torch.manual_seed(1)
    gains = BandGains(4, 2)
    slices, nothing = torch.rand(1, 1, 40, 40) - 0.5, torch.zeros(1, 4, 40, 40)
    soft, sharp = code(0, count=2), code(1, count=2)
    assert not gains(slices, soft, nothing).any()
    whole = (gains.scale * gains.bands(slices)[1]).sum(dim=1, keepdim=True)
    torch.testing.assert_close(gains(slices, soft, nothing + 1), whole)
    with torch.no_grad():
        gains.gain[:2] = torch.randn(2, gains.gain.shape[1])
    first = gains(slices, soft, nothing)
    assert not torch.allclose(gains(slices, sharp, nothing), first, rtol=0.01)
    assert not torch.allclose(
        gains(slices, kernel_code(torch.tensor([0]), 2, torch.tensor([1.4])), nothing), first, rtol=0.01
    )
    # What holds for detail twice as strong is no multiple of what holds for this one.
    assert not torch.allclose(gains(2 * slices, soft, nothing), 2 * first, rtol=0.01)


def test_gains_of_bands_are_the_same_in_a_narrower_window_and_air_has_no_say_in_them():
    gains = BandGains(4, 2)
    with torch.no_grad():
        gains.gain.normal_()
    slices, nothing, wanted = 0.4 * torch.rand(1, 1, 40, 40) - 0.9, torch.zeros(1, 4, 40, 40), code(0, count=2)
    seen = gains(slices, wanted, nothing)
    narrow = 4 * (slices + 1) - 1  # the window's low end stays
    torch.testing.assert_close(gains(narrow, wanted, nothing, zoom=4.0), 4 * seen, atol=1e-3, rtol=1e-3)
    air = torch.full((1, 1, 40, 200), -1 + AIR / 2)
    beside = gains(torch.cat([slices, air], dim=3), wanted, torch.zeros(1, 4, 40, 240))
    torch.testing.assert_close(beside[..., :34], seen[..., :34], atol=0.05, rtol=0.2)


def test_each_phase_trains_its_own_network_and_the_curves_tell_the_window(tmp_path):
    trained = system(tmp_path)
    batch = trained.batch(2, np.random.default_rng(0))
    assert batch["source"].shape == (2, 3, 64, 64)
    assert batch["target"].shape == (2, 1, 64, 64)
    for phase, optimizer in trained.optimizers().items():
        before = {name: value.clone() for name, value in trained.named_parameters()}
        trained.zero_grad()
        losses = trained(phase, batch)
        losses["loss"].backward()
        optimizer.step()
        changed = [name for name, value in trained.named_parameters() if not torch.equal(value, before[name])]
        own = "generator.detail." if phase == "gains" else f"{phase}."
        assert changed
        assert all(name.startswith(own) for name in changed)
        assert phase == "gains" or not any("detail" in name for name in changed)
        assert all(value.ndim == 0 and torch.isfinite(value) for value in losses.values())
        if phase == "generator":
            assert (losses["window low"], losses["window high"]) == (-1024, -769)


def test_the_map_of_the_judge_lies_where_it_looks(tmp_path):
    trained = system(tmp_path)
    batch = trained.batch(2, np.random.default_rng(0))
    cam = trained.class_activation(batch["target"], batch["source"][:, 1:2], batch["code"])
    assert cam.shape == (2, 64, 64)
    assert float(cam.min()) >= 0
    assert float(cam.max()) <= 1


def test_windows_move_while_it_is_trained_and_a_killed_training_ends_in_the_same_weights(tmp_path):
    schedule = Schedule(steps=24, batch_size=2, seed=3, report_every=2, validate_every=24)
    whole, _ = train(lambda: system(tmp_path), schedule, tmp_path / "whole")
    rows = np.genfromtxt(tmp_path / "whole" / "curves.csv", delimiter=",", names=True)
    assert rows["generator_window_high"][0] == -769
    assert rows["generator_window_high"].max() > 0
    reports = iter(range(100))
    _, stopped = train(lambda: system(tmp_path), schedule, tmp_path / "parts", cancelled=lambda: next(reports) > 8)
    assert (stopped.ended, stopped.step) == ("stopped", 20)
    train(lambda: system(tmp_path), schedule, tmp_path / "parts")
    states = [checkpoint.load(tmp_path / name / checkpoint.CHECKPOINT)["weights"] for name in ("whole", "parts")]
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())
    whole.save_model(tmp_path / "model", {"score": 1.0})
    again = system(tmp_path, start=str(tmp_path / "model"))
    assert all(torch.equal(value, whole.generator.state_dict()[n]) for n, value in again.generator.state_dict().items())


@pytest.mark.slow
def test_it_learns_to_blur(tmp_path):
    trained, outcome = train(
        lambda: system(tmp_path, growing=False, dynamic=False, width=8, learning_rate=0.01, adversarial=0.1),
        Schedule(steps=120, batch_size=4, seed=3, average=0.9, validate_every=40),
        tmp_path / "out",
    )
    assert outcome.best["Bl64 to Br40"] < 0.75 * outcome.best["Bl64 to Br40 before"]
    trained.save_model(tmp_path / "model", {"score": outcome.best["score"]})
    _check_a_scan(tmp_path / "model")


def _check_a_scan(folder):
    kernels = blurred(np.random.default_rng(77)).astype(np.float32)
    image = sitk.GetImageFromArray(kernels[2])
    image.SetSpacing((0.7, 0.7, 1.0))
    result = RadiomicGAN.for_target(f"{folder}#Br40").apply(Scan(image, Modality.CT, units="HU")).array
    inside = np.s_[:, 10:-10, 10:-10]
    before, after = (np.abs(x - kernels[0])[inside].mean() for x in (kernels[2], result))
    assert after < 0.8 * before


def test_weights_of_something_else_are_refused():
    weights = {"generator.encoder.groups.0.0.bias": np.zeros(4, np.float32)}
    with pytest.raises(ModelError, match="not those of RadiomicGAN"):
        Translator.from_weights(weights, 0, 3, 0.7)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epoch_steps": 0}, "epoch_steps must be at least 1"),
        ({"bands": -1}, "bands must be at least 0"),
        ({"crop": 50}, "multiple of 16"),
        ({"pair_slices": "third"}, "use all, odd, even"),
        ({"cases": 0}, "at least one case"),
        ({"l1": 0.0}, "l1 must be above 0"),
        ({"lowest_hu": 2000.0}, "lower than highest_hu"),
        ({"pair_share": 2.0}, "between 0 and 1"),
    ],
)
def test_settings_that_make_no_sense_are_refused(changes, message):
    with pytest.raises(InputError, match=message):
        dataclasses.replace(Settings(slices="x"), **changes)


@pytest.mark.slow
def test_the_model_that_ships_comes_near_each_of_its_kernels_and_the_guard_lets_it_pass():
    recipe = KernelRecipe(1, 0, slices=4, size=192, spacing_mm=(0.8, 0.8), kinds=("abdomen",))
    arrays, spacing_mm = draw_case(recipe, np.random.SeedSequence([1, 2, 3]), 0)  # no training draws from three words
    scans = {}
    for name, array in zip(recipe.kernel_names, arrays.astype(np.float32), strict=True):
        image = sitk.GetImageFromArray(array)
        image.SetSpacing((spacing_mm, spacing_mm, recipe.slice_mm))
        scans[name] = Scan(image, Modality.CT, units="HU", name=name)
    kernels = RadiomicGAN.sites()
    assert len(kernels) >= 2
    for target in kernels:
        method, truth = RadiomicGAN.for_target(target), scans[target].array
        for source in (name for name in scans if name != target):
            after = method.apply(scans[source])
            far, near = (np.abs(scan.array - truth)[truth > -500].mean() for scan in (scans[source], after))
            assert near < 0.75 * far, (source, target)
            assert guard.inspect(scans[source], after).status is guard.Status.PASS
