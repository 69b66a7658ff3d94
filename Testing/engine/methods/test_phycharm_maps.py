"""PhyCHarm's physics as layers: the first guess inverts the signal equation, and the consistency loss constrains."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from HarmonizeExtension.errors import InputError
from HarmonizeExtension.methods.phycharm.first_guess import (
    density_of,
    relative_signal,
    t1_from_image,
    t1_grid_ms,
    white_matter_level,
)
from HarmonizeExtension.phantoms.scanners import SCANNERS
from HarmonizeExtension.physics.tissues import PROPERTIES, Tissue

torch = pytest.importorskip("torch")

from HarmonizeExtension.methods.phycharm.consistency import (  # noqa: E402
    consistency_loss,
    mapped_image,
    signal_of,
    smooth_gain,
)
from HarmonizeExtension.methods.phycharm.network import MULTIPLE, HarmonizationNetwork, MapsGenerator  # noqa: E402
from HarmonizeExtension.networks.blocks import parameter_count  # noqa: E402

SIDE = 48


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(before)


def table(name) -> "torch.Tensor":
    scanner = SCANNERS[name]
    return torch.from_numpy(relative_signal(scanner.protocol, scanner.field_strength_tesla).astype(np.float32))[None]


def maps():
    """T1 in seconds and M0 (1, 1, y, x): a disc of grey matter with white matter in patches and texture."""
    rng = np.random.default_rng(3)
    y, x = np.mgrid[-1 : 1 : SIDE * 1j, -1 : 1 : SIDE * 1j]
    white = np.sin(7 * x) * np.cos(5 * y) > 0
    t1 = np.where(white, 0.83, 1.33) * (1 + 0.03 * rng.standard_normal(x.shape))
    t1 = np.where(np.hypot(x, y) < 0.9, t1, 0).astype(np.float32)
    m0 = np.where(t1 > 0, density_of(1000 * np.maximum(t1, 0.1)), 0).astype(np.float32)
    return torch.from_numpy(t1)[None, None], torch.from_numpy(m0)[None, None]


def coil():
    y, x = np.mgrid[-1 : 1 : SIDE * 1j, -1 : 1 : SIDE * 1j]
    return torch.from_numpy((1 + 0.15 * x - 0.1 * y * x).astype(np.float32))[None, None]


@pytest.mark.parametrize("name", SCANNERS)
@pytest.mark.parametrize("tissue", [Tissue.WHITE_MATTER, Tissue.GREY_MATTER, Tissue.CSF])
def test_the_first_guess_finds_the_tissues_of_every_scanner(name, tissue):
    scanner = SCANNERS[name]
    white, found = (PROPERTIES[scanner.field_strength_tesla][t] for t in (Tissue.WHITE_MATTER, tissue))
    signal = [abs(scanner.protocol.signal(t.t1_ms, np.inf, t.proton_density)) for t in (white, found)]
    guess = t1_from_image(np.array([signal[1] / signal[0]]), scanner.protocol, scanner.field_strength_tesla)[0]
    # Fluid lies where the signal hardly changes with T1, or has come back from beyond zero.
    assert guess == pytest.approx(PROPERTIES[3.0][tissue].t1_ms, rel=0.35 if tissue is Tissue.CSF else 0.03)


@given(name=st.sampled_from(list(SCANNERS)), seed=st.integers(0, 1000))
def test_the_first_guess_falls_with_brightness_and_is_within_the_grid(name, seed):
    image = np.sort(np.random.default_rng(seed).uniform(0, 2, 50)).astype(np.float32)
    guess = t1_from_image(image, SCANNERS[name].protocol, SCANNERS[name].field_strength_tesla)
    assert (np.diff(guess) <= 0).all()
    assert t1_grid_ms()[0] <= guess.min() <= guess.max() <= t1_grid_ms()[-1] * 1.001


def test_the_level_is_that_of_white_matter_and_an_empty_brain_is_told():
    array = np.concatenate([np.full(600, 60.0), np.full(400, 100.0)]).reshape(10, 10, 10)
    assert white_matter_level(array, np.ones(array.shape, bool), "scan") == pytest.approx(100)
    for brain in (np.zeros(array.shape, bool), np.ones(array.shape, bool)):
        with pytest.raises(InputError, match="brain in 'scan' is empty or dark"):
            white_matter_level(array * 0, brain, "scan")


@given(name=st.sampled_from(list(SCANNERS)), t1_ms=st.floats(400, 4500))
def test_the_layer_is_the_signal_equation(name, t1_ms):
    from HarmonizeExtension.methods.phycharm.bloch import t1_at_field

    scanner = SCANNERS[name]
    white = PROPERTIES[scanner.field_strength_tesla][Tissue.WHITE_MATTER]
    level = abs(scanner.protocol.signal(white.t1_ms, np.inf, white.proton_density))
    at_field = t1_at_field(np.array([t1_ms]), 3.0, scanner.field_strength_tesla)
    wanted = abs(scanner.protocol.signal(at_field, np.inf, 0.8)) / level
    found = signal_of(table(name), torch.full((1, 1, 1, 1), t1_ms / 1000), torch.full((1, 1, 1, 1), 0.8))
    assert float(found) == pytest.approx(float(wanted[0]), abs=2e-3)


def test_the_smooth_gain_is_the_coil_has_limits_and_no_gradient():
    t1, m0 = maps()
    t1.requires_grad_(True)
    signal = signal_of(table("Siemens 3T"), t1, m0)
    brain = (t1 > 0).float()
    found = smooth_gain((coil() * signal).detach(), signal, brain)
    assert not found.requires_grad
    assert torch.allclose(found * brain, coil() * brain, atol=0.01)
    wild = smooth_gain((coil() ** 12 * signal).detach(), signal, brain)
    mean = (wild * brain).sum() / brain.sum()
    assert wild.max() <= 1.8 * mean  # 1.5 times the mean before the limits
    assert wild.min() > 0


def test_the_consistency_loss_is_least_at_the_truth_and_leads_there():
    t1, m0 = maps()
    image = coil() * signal_of(table("GE 3T"), t1, m0)
    right = consistency_loss(image, t1, m0, table("GE 3T"))
    grey = t1 > 1.1
    wrong = torch.where(grey, 1.25 * t1, t1).requires_grad_(True)
    loss = consistency_loss(image, wrong, m0, table("GE 3T"))
    loss.backward()
    assert float(loss.detach()) > 5 * float(right)
    # The published term is computed voxel by voxel and takes part in the gradient: it leaves none.
    again = wrong.detach().clone().requires_grad_(True)
    signal = signal_of(table("GE 3T"), again, m0)
    published = (signal * (image / (signal + 1e-4)) - image).abs()[t1 > 0].mean()
    published.backward()
    assert float(published.detach()) < 0.01 * float(loss.detach())
    assert float(wrong.grad[grey].mean()) > 0  # down towards the truth
    assert float(wrong.grad.abs()[grey].mean()) > 100 * float(again.grad.abs()[grey].mean())


def test_down_the_consistency_loss_grey_matter_is_found_where_white_matter_is_known():
    """The gain is free, so that one of the two must be known; in training the other losses see to it."""
    t1, m0 = maps()
    image = coil() * signal_of(table("Siemens 1.5T"), t1, m0)
    found = torch.where(t1 > 1.1, 1.25 * t1, t1).requires_grad_(True)
    before = float((found.detach() - t1).abs().mean())
    optimizer = torch.optim.Adam([found], 0.01)
    for _ in range(60):
        optimizer.zero_grad()
        consistency_loss(image, found, m0, table("Siemens 1.5T")).backward()
        found.grad[t1 < 1.1] = 0
        optimizer.step()
    assert float((found.detach() - t1).abs().mean()) < 0.4 * before


@settings(max_examples=6, deadline=None)
@given(names=st.permutations(list(SCANNERS)))
def test_mapping_with_true_maps_gives_the_target_through_the_coil_of_the_source(names):
    t1, m0 = maps()
    source, target = table(names[0]), table(names[1])
    image = coil() * signal_of(source, t1, m0)
    wanted = coil() * signal_of(target, t1, m0)
    found = mapped_image(image, t1, m0, source, target)
    assert torch.allclose(found, wanted, atol=0.02)
    assert (found[t1 == 0] == 0).all()


def test_the_networks_have_the_papers_size_and_begin_with_what_the_protocol_says():
    assert parameter_count(MapsGenerator(16).t1) == pytest.approx(1.96e6, rel=0.01)
    t1, _ = maps()
    generator = MapsGenerator(4).eval()
    seen = torch.cat([torch.rand_like(t1), t1], 1)
    with torch.no_grad():
        found = generator(seen)
        torch.nn.init.normal_(generator.t1.last.weight, std=5.0)
        other = generator(seen)
    assert found.shape == seen.shape
    assert SIDE % MULTIPLE == 0
    assert torch.allclose(found[:, :1], t1, rtol=1e-5)
    assert (other[:, 0][t1[:, 0] == 0] == 0).all()
    assert torch.isfinite(other).all()
    assert (other[:, :1] / t1)[t1 > 0].max() <= np.exp(1.5) + 1e-3
    assert HarmonizationNetwork(5, 4)(seen).abs().max() == 0
