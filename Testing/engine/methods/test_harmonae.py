"""HarMOnAE: the networks are those of the paper, the losses have their minima where they should, and what is applied
keeps the promises of a harmonizer. Small untrained networks; the model that ships is tested where it is there."""

import dataclasses
import math
import sys

import numpy as np
import pytest
import SimpleITK as sitk

torch = pytest.importorskip("torch")
pytest.importorskip("safetensors")

from hypothesis import given  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from Testing.engine.scans import bits, grid, head  # noqa: E402

from HarmonizeExtension import resources  # noqa: E402
from HarmonizeExtension.body import body_mask  # noqa: E402
from HarmonizeExtension.errors import InputError, ModelError  # noqa: E402
from HarmonizeExtension.files.models import ModelCard, save_model  # noqa: E402
from HarmonizeExtension.methods import catalogue  # noqa: E402
from HarmonizeExtension.methods.axial_slices import OUTPUT_LEVEL  # noqa: E402
from HarmonizeExtension.methods.harmonae.harmonizer import Harmonae  # noqa: E402
from HarmonizeExtension.methods.harmonae.network import (  # noqa: E402
    Classifier,
    Decoder,
    Encoder,
    ImageDiscriminator,
    Translator,
    one_hot,
)
from HarmonizeExtension.methods.harmonae.training import (  # noqa: E402
    HarmonaeTraining,
    Settings,
    adversarial_loss,
    least_squares,
    reconstruction_loss,
)
from HarmonizeExtension.networks import inference  # noqa: E402
from HarmonizeExtension.networks.blocks import parameter_count  # noqa: E402
from HarmonizeExtension.networks.inference import run_on_slices  # noqa: E402
from HarmonizeExtension.networks.intensity import body_level  # noqa: E402
from HarmonizeExtension.scan import Modality  # noqa: E402

SITES = ("Siemens 3T", "GE 1.5T", "GE 3T")


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def _torch_only(monkeypatch):
    """Compiling takes longer than these small scans; that both paths agree is a test of its own."""
    monkeypatch.setattr(inference, "default_backend", lambda: "torch")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """The folder of an untrained model."""
    torch.manual_seed(1)
    network = Translator(0, len(SITES), width=4)
    weights = {name: value.numpy() for name, value in network.state_dict().items() if name != "scanner"}
    folder = tmp_path_factory.mktemp("models") / "untrained"
    save_model(folder, ModelCard("harmonae", "untrained", SITES, preprocessing={"spacing_mm": 1.0}), weights)
    return folder


def test_the_networks_are_as_large_as_the_paper_makes_them():
    decoder = Decoder(5)
    assert parameter_count(Encoder()) == pytest.approx(0.337e6, rel=0.002)
    assert parameter_count(decoder) - parameter_count(decoder.style) == pytest.approx(0.360e6, rel=0.002)
    assert parameter_count(decoder.style) == pytest.approx(0.330e6, rel=0.002)
    content = Encoder()(torch.zeros(2, 1, 128, 132))
    assert content.shape == (2, 64, 32, 33)
    assert decoder(content, one_hot(torch.tensor([0, 4]), 5)).shape == (2, 1, 128, 132)
    assert Classifier(5)(content).shape == (2, 5)


def test_the_encoder_does_not_see_the_gain_and_the_decoder_shows_the_scanner():
    x = torch.rand(1, 1, 32, 32)
    encoder, decoder = Encoder(8), Decoder(3, 8)
    assert torch.allclose(encoder(x), encoder(3 * x), atol=2e-3)
    results = [decoder(encoder(x), one_hot(torch.tensor([site]), 3)) for site in range(3)]
    assert not torch.allclose(results[0], results[1])
    assert all(result.abs().max() <= 1 for result in results)


@given(n=st.integers(2, 8), seed=st.integers(0, 1000))
def test_the_adversarial_loss_is_least_where_nothing_is_told(n, seed):
    rng = np.random.default_rng(seed)
    sites_ = torch.from_numpy(rng.integers(0, n, 6))
    assert float(adversarial_loss(torch.zeros(6, n), sites_)) == pytest.approx(0, abs=1e-6)
    logits = torch.from_numpy(rng.standard_normal((6, n)))
    chance = torch.softmax(logits, 1)[torch.arange(6), sites_].numpy()
    # For each sample first, so that one told too much and one too little do not cancel.
    assert float(adversarial_loss(logits, sites_)) == pytest.approx(
        np.abs(math.log(n) + np.log(chance)).mean(), rel=1e-5
    )
    sure = 20 * one_hot(sites_, n)
    assert float(adversarial_loss(sure, sites_)) == pytest.approx(math.log(n), rel=1e-3)
    assert float(adversarial_loss(-sure, sites_)) > 10  # the style of another scanner is no escape


def test_the_reconstruction_loss_counts_edges():
    image = torch.rand(1, 1, 9, 9)
    assert float(reconstruction_loss(image, image)) == 0
    assert float(reconstruction_loss(image, image + 0.1)) == pytest.approx(0.1, rel=1e-4)  # a level has no edges
    stripes = image + 0.1 * (torch.arange(9) % 2)
    assert float(reconstruction_loss(image, stripes)) == pytest.approx(0.1 * 4 / 9 + 0.1, rel=1e-4)


def tiny_training(tmp_path, **changes):
    """The system on random slices that look like drawn ones."""
    rng = np.random.default_rng(0)
    small = Settings(
        **({"slices": str(tmp_path), "people": 3, "validation_people": 1, "width": 2, "learning_rate": 0.01,
            "scanners": ("Siemens 3T", "GE 1.5T", "GE 3T")} | changes)
    )  # fmt: skip
    for kind, count in (("train", 3), ("validation", 1)):
        (tmp_path / kind).mkdir()
        for number in range(count):
            scanners = 1 if kind == "train" else 4
            array = rng.integers(0, 16384, (scanners, 4, 136, 128)).astype(np.uint16)
            np.save(tmp_path / kind / f"{number:05d}.npy", array)
            np.save(tmp_path / kind / f"{number:05d}.brain.npy", np.ones(array.shape[1:], bool))
    return HarmonaeTraining(small)


@pytest.mark.parametrize("discriminator", [0.0, 2.0])
def test_each_phase_trains_its_own_networks(tmp_path, discriminator):
    system = tiny_training(tmp_path, crop=128, discriminator=discriminator)
    assert ("discriminator" in system.optimizers()) == bool(discriminator)
    batch = system.batch(2, np.random.default_rng(0))
    assert batch["image"].shape == (2, 1, 128, 128)
    assert (batch["site"] != batch["other"]).all()
    for phase, optimizer in system.optimizers().items():
        before = {name: value.clone() for name, value in system.state_dict().items()}
        system.zero_grad()
        losses = system(phase, batch)
        losses["loss"].backward()
        optimizer.step()
        moved = {
            name.split(".")[0] for name, value in system.state_dict().items() if not torch.equal(value, before[name])
        }
        assert moved == ({"encoder", "decoder"} if phase == "auto-encoder" else {phase})
        assert all(value.ndim == 0 and torch.isfinite(value) for value in losses.values())


def test_the_system_comes_back_from_its_model_folder(tmp_path):
    system = tiny_training(tmp_path)
    figures = system.validate()
    assert {"score", "unseen", "before", "reconstruction", "site_effect"} <= set(figures)
    assert all(np.isfinite(value) for value in figures.values())
    system.save_model(tmp_path / "model", {"validation": figures})
    assert Harmonae.sites(tmp_path / "model") == ("Siemens 3T", "GE 1.5T", "GE 3T")
    harmonizer_ = Harmonae("GE 1.5T", tmp_path / "model")
    x = torch.rand(2, 1, 32, 32)
    with torch.no_grad():
        expected = system.decoder(system.encoder(x), one_hot(torch.tensor([1, 1]), 3))
        assert torch.allclose(harmonizer_._network()(x), expected, atol=1e-5)


def test_the_discriminator_learns_to_tell_images_and_is_told_the_scanner():
    """Bright from dark, where which of them is real depends on the scanner alone."""
    discriminator = ImageDiscriminator(2, 4)
    optimizer = torch.optim.Adam(discriminator.parameters(), 3e-3)
    images = torch.cat([torch.full((2, 1, 64, 64), 0.7), torch.full((2, 1, 64, 64), -0.7)])
    scanners = one_hot(torch.tensor([0, 1, 0, 1]), 2)
    real = torch.tensor([True, False, False, True])
    for _ in range(150):
        answers = discriminator(images, scanners)
        loss = least_squares([a[real] for a in answers], 1.0) + least_squares([a[~real] for a in answers], 0.0)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert [tuple(a.shape[2:]) for a in answers] == [(4, 4), (2, 2), (1, 1)]
    for answer in discriminator(images, scanners):
        assert answer[real].min() > 0.6
        assert answer[~real].max() < 0.4


def test_the_same_numbers_draw_the_same_batch(tmp_path):
    system = tiny_training(tmp_path)
    a, b, c = (system.batch(3, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert not torch.equal(a["image"], c["image"])


@pytest.mark.parametrize(
    "changes", [{"scanners": ("GE 3T",)}, {"people": 1}, {"crop": 130}, {"crop": 64}, {"discriminator": -1.0}]
)
def test_settings_that_make_no_sense_are_refused(changes):
    with pytest.raises(InputError):
        Settings(**({"slices": "x"} | changes))


def test_a_target_is_a_site_of_the_model(model):
    assert Harmonae.for_target(f"{model}#GE 3T").site == "GE 3T"
    assert catalogue.target_from_text(Harmonae.card, f"{model}#GE 3T", Modality.MR) == f"{model}#GE 3T"
    with pytest.raises(InputError, match="did you mean 'GE 3T'"):
        Harmonae.for_target(f"{model}#GE 3 T")
    with pytest.raises(InputError, match=r"it knows: Siemens 3T, GE 1\.5T, GE 3T"):
        Harmonae.for_target(f"{model}#x")
    with pytest.raises(ModelError, match="no model folder"):
        Harmonae.for_target("nowhere#GE 3T")
    with pytest.raises(InputError, match="needs a target"):
        Harmonae.for_target(None)


def test_without_a_shipped_model_it_says_what_to_do(monkeypatch):
    def missing(name):
        raise FileNotFoundError(name)

    monkeypatch.setattr(resources, "folder", missing)
    with pytest.raises(ModelError, match=r"harmonize train harmonae.*FOLDER#TARGET"):
        Harmonae.for_target("GE 3T")


def test_without_torch_it_says_what_to_install(model, monkeypatch):
    # As a broken or missing torch shows itself to whoever imports what needs it.
    monkeypatch.setitem(sys.modules, "HarmonizeExtension.methods.harmonae.network", None)
    harmonae = Harmonae("GE 3T", model)
    with pytest.raises(ModelError, match="pip install torch"):
        harmonae.apply(head())


def test_the_result_keeps_what_every_harmonizer_promises(model):
    scan = head().with_roles(reference="white matter", protected=["GTV"])
    harmonae = Harmonae("GE 3T", model)
    result = harmonae.apply(scan)
    assert bits(result.image) == bits(scan.image)
    body = body_mask(scan)
    level = body_level(scan.array, body)
    np.testing.assert_allclose(result.array[~body], scan.array[~body] * OUTPUT_LEVEL / level, rtol=1e-5, atol=1e-3)
    assert np.array_equal(harmonae.apply(scan).array, result.array)
    assert result.provenance[-1]["parameters"] == {"site": "GE 3T", "model": "untrained"}
    gtv = scan.structures["GTV"].array
    order = np.argsort(scan.array[gtv])
    assert (np.diff(result.array[gtv][order]) > -1e-2).all()  # ranks inside what is protected stay


def test_the_gain_of_the_scan_does_not_matter(model):
    scan = head()
    harmonae = Harmonae("GE 3T", model)
    once, louder = (harmonae.apply(scan.with_array(gain * scan.array)).array for gain in (1.0, 7.0))
    np.testing.assert_allclose(louder, once, atol=0.5)


@pytest.mark.parametrize(
    ("order", "flips"), [((0, 1, 2), (True, False, True)), ((1, 2, 0), (False, True, True)), ((2, 0, 1), (False,) * 3)]
)
def test_how_the_voxels_are_stored_does_not_matter(model, order, flips):
    scan = head(grid(size=(40, 44, 16), spacing=(1.0, 1.0, 2.0), origin=(0, 0, 0)))
    harmonae = Harmonae("GE 3T", model)
    turned = sitk.Flip(sitk.PermuteAxes(scan.image, list(order)), list(flips), False)
    other = dataclasses.replace(scan, image=turned, structures={})
    back = sitk.DICOMOrient(harmonae.apply(other).image, "LPS")
    expected = harmonae.apply(dataclasses.replace(scan, structures={})).array
    np.testing.assert_allclose(sitk.GetArrayFromImage(back), expected, atol=0.5)


def test_what_lies_above_the_level_passes_through_on_top(model):
    scan = head()
    array = scan.array
    hot = (slice(15, 17), slice(20, 23), slice(18, 21))
    level = body_level(array, body_mask(scan))
    array[hot] = 2 * level
    brighter = array.copy()
    brighter[hot] = 3 * level
    harmonae = Harmonae("GE 3T", model)
    a, b = (harmonae.apply(scan.with_array(x)).array for x in (array, brighter))
    np.testing.assert_allclose((b - a)[hot], OUTPUT_LEVEL, rtol=0.02)


def test_finer_voxels_keep_their_detail(model):
    """At half the trained spacing, a pattern that the trained spacing cannot hold comes out as it went in."""
    scan = head(grid(size=(80, 88, 8), spacing=(0.5, 0.5, 3.0)), noise=0.0)
    x = np.arange(80)
    pattern = np.where(scan.structures["white matter"].array, 5.0 * (-1.0) ** x, 0)
    harmonae = Harmonae("GE 3T", model)
    plain, fine = (harmonae.apply(scan.with_array(scan.array + p)).array for p in (0 * pattern, pattern))
    level = body_level(scan.array, body_mask(scan))
    inside = scan.structures["white matter"].array
    difference = (fine - plain)[inside]
    expected = pattern[inside] * OUTPUT_LEVEL / level
    assert np.corrcoef(difference, expected)[0, 1] > 0.9
    assert np.polyfit(expected, difference, 1)[0] == pytest.approx(1, abs=0.15)


def test_scans_that_do_not_suit_are_refused(model):
    harmonae = Harmonae("GE 3T", model)
    scan = head()
    with pytest.raises(InputError, match="negative intensities"):
        harmonae.apply(scan.with_array(scan.array - scan.array.mean()))
    with pytest.raises(InputError, match="is for MR"):
        harmonae.apply(dataclasses.replace(scan, modality=Modality.CT, units="HU"))


def test_damaged_weights_are_refused(tmp_path):
    save_model(tmp_path / "m", ModelCard("harmonae", "odd", SITES), {"encoder.layers.0.bias": np.zeros(4, np.float32)})
    with pytest.raises(ModelError, match="not those of HarMOnAE"):
        Harmonae("GE 3T", tmp_path / "m").apply(head())


def test_openvino_and_torch_agree_to_a_ten_thousandth_of_the_range():
    pytest.importorskip("openvino", reason="OpenVINO is not installed")
    network = Translator(2, 5).eval()
    slices = np.random.default_rng(0).uniform(-1, 1, (3, 1, 48, 40)).astype(np.float32)
    results = [run_on_slices(network, slices, 2, backend) for backend in ("torch", "openvino")]
    assert np.ptp(results[0]) > 0.01
    assert np.abs(results[0] - results[1]).max() < 1e-4 * 2
