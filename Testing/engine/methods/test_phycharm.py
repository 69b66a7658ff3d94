"""PhyCHarm applied and trained: it keeps a harmonizer's promises, maps come with units, and what is missing is told.

The small model of these tests has networks that change nothing: the first guess of the protocol and the signal
equation alone. The model that ships is tested where it is there.
"""

import dataclasses
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

torch = pytest.importorskip("torch")
pytest.importorskip("safetensors")

from Testing.engine.scans import bits, grid, head  # noqa: E402

from HarmonizeExtension import (  # noqa: E402
    guard,
    images,
    resources,
)
from HarmonizeExtension.errors import InputError, ModelError  # noqa: E402
from HarmonizeExtension.evaluation.image_quality import nrmse  # noqa: E402
from HarmonizeExtension.files.models import ModelCard, load_model, save_model  # noqa: E402
from HarmonizeExtension.methods.phycharm import harmonizer  # noqa: E402
from HarmonizeExtension.methods.phycharm.first_guess import white_matter_level  # noqa: E402
from HarmonizeExtension.methods.phycharm.harmonizer import OUTPUT_LEVEL, Phycharm, quantitative_maps  # noqa: E402
from HarmonizeExtension.methods.phycharm.network import HarmonizationNetwork, MapsGenerator  # noqa: E402
from HarmonizeExtension.methods.phycharm.protocols import ProtocolTarget, of_scanner  # noqa: E402
from HarmonizeExtension.methods.phycharm.training import PhycharmTraining, Settings  # noqa: E402
from HarmonizeExtension.networks import inference  # noqa: E402
from HarmonizeExtension.networks.inference import run_on_slices  # noqa: E402
from HarmonizeExtension.phantoms.brain import scan_person  # noqa: E402
from HarmonizeExtension.phantoms.maps import quantitative_maps as true_maps  # noqa: E402
from HarmonizeExtension.phantoms.person import Person  # noqa: E402
from HarmonizeExtension.phantoms.scanners import SCANNERS  # noqa: E402
from HarmonizeExtension.scan import Acquisition, Modality, Role  # noqa: E402
from HarmonizeExtension.training.loop import Schedule, train  # noqa: E402

ROOT = Path(__file__).resolve().parents[3]
SITES = ("Siemens 3T", "GE 1.5T")
SPACING_MM = 4.0
TYPED = "TR=2000 TI=880 TE=3 FA=8 FIELD=3"


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


def weights_of(**networks):
    return {f"{part}.{name}": value.numpy() for part, n in networks.items() for name, value in n.state_dict().items()}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Two models whose maps are the first guess: one ends there, the other's second network adds 0.1 to 'GE 1.5T'."""
    torch.manual_seed(1)
    generator, look = MapsGenerator(4), HarmonizationNetwork(2, 4)
    with torch.no_grad():
        look.residual.last.bias[1] = 0.1
    top = tmp_path_factory.mktemp("models")
    card = ModelCard("phycharm", "untrained", SITES, preprocessing={"spacing_mm": SPACING_MM})
    save_model(top / "alone", card, weights_of(generator=generator))
    save_model(top / "both", card, weights_of(generator=generator, harmonization=look))
    return top


@pytest.fixture(scope="module")
def person():
    return Person.draw(np.random.default_rng(8))


@pytest.fixture(scope="module")
def scans(person):
    return {
        name: scan_person(person, SCANNERS[name], np.random.default_rng(k), SPACING_MM)
        for k, name in enumerate(SCANNERS)
    }


def ready(folders, target=TYPED, model="alone", source=None):
    return Phycharm.for_target(target, model=folders / model, source=source)


def brain_of(scan):
    return scan.structures["brain"].array


def test_the_result_keeps_the_grid_is_finite_and_the_same_again(folders, scans):
    scan = scans["GE 1.5T"]
    first, second = (ready(folders).apply(scan) for _ in range(2))
    assert bits(first.image) == bits(scan.image)
    assert first.image.GetPixelID() == sitk.sitkFloat32
    assert np.isfinite(first.array).all()
    assert first.array.min() >= 0
    assert first.array.tobytes() == second.array.tobytes()
    assert first.units == ""


def test_outside_the_brain_the_image_keeps_its_own_contrast(folders, scans):
    scan = scans["GE 3T"]
    brain = brain_of(scan)
    after = ready(folders, "Siemens 1.5T").apply(scan).array
    scaled = scan.array * OUTPUT_LEVEL / white_matter_level(scan.array, brain, "")
    far = images.distance_mm(brain, scan.spacing_mm) > 12
    assert np.allclose(after[far], scaled[far], rtol=1e-3, atol=0.5)
    # The change dies away: no voxel outside changes more than the brain itself.
    change = np.abs(after - scaled)
    assert change[~brain].max() <= 1.01 * change[brain].max()
    assert change[brain].mean() > 5 * change[~brain].mean()


def test_the_contrast_becomes_that_of_the_target(folders, scans):
    def contrast(scan):
        white, grey = (np.median(scan.array[scan.structures[n].array]) for n in ("white matter", "grey matter"))
        return grey / white

    ratios = []
    pairs = [("Philips 1.5T", "GE 3T"), ("GE 3T", "Siemens 1.5T"), ("GE 1.5T", "Siemens 3T")]
    for source, target in pairs:
        before, wanted = contrast(scans[source]), contrast(scans[target])
        after = contrast(ready(folders, target).apply(scans[source]))
        ratios.append(abs(after - wanted) / abs(before - wanted))
    assert max(ratios) < 0.9
    assert np.mean(ratios) < 0.6


def test_gain_does_not_matter_and_white_matter_becomes_a_thousand(folders, scans):
    scan = scans["Siemens 3T"]
    first = ready(folders, "GE 3T").apply(scan).array
    other = ready(folders, "GE 3T").apply(scan.with_array(scan.array * 7.5)).array
    assert np.allclose(first, other, rtol=1e-3, atol=0.5)
    assert np.median(first[scan.structures["white matter"].array]) == pytest.approx(OUTPUT_LEVEL, rel=0.06)


def test_orientation_does_not_matter(folders, scans):
    scan = scans["Siemens 3T"]
    structures = {
        name: dataclasses.replace(s, mask=sitk.DICOMOrient(s.mask, "PIR")) for name, s in scan.structures.items()
    }
    turned = dataclasses.replace(scan, image=sitk.DICOMOrient(scan.image, "PIR"), structures=structures)
    first = ready(folders).apply(scan)
    other = sitk.DICOMOrient(ready(folders).apply(turned).image, "LPS")
    assert np.allclose(images.to_array(sitk.DICOMOrient(first.image, "LPS")), images.to_array(other), atol=2.0)


def test_the_provenance_says_whether_the_signal_equation_served_alone(folders, scans):
    scan = scans["Siemens 3T"]
    results = {}
    for model, target in (("both", "GE 1.5T"), ("both", "GE 3T"), ("both", TYPED), ("alone", "GE 1.5T")):
        results[model, target] = ready(folders, target, model).apply(scan)
    steps = {key: result.provenance[-1]["parameters"]["steps"] for key, result in results.items()}
    assert steps.pop(("both", "GE 1.5T")) == "signal equation and harmonization network"
    assert set(steps.values()) == {"signal equation alone"}
    parameters = results["both", TYPED].provenance[-1]["parameters"]
    assert next(iter(parameters.values())) == TYPED
    json.dumps(parameters)
    look = results["both", "GE 1.5T"].array - results["alone", "GE 1.5T"].array
    brain = brain_of(scan)
    cord = brain.sum(axis=(1, 2)) < 0.15 * brain.sum(axis=(1, 2)).max()  # there nothing is trained, and changed
    assert cord.any()
    inside = brain & (results["alone", "GE 1.5T"].array > 200) & ~cord[:, None, None]
    assert np.abs(look[np.flatnonzero(cord)[:3]]).max() < 1
    assert look[inside] == pytest.approx(0.1 * OUTPUT_LEVEL, abs=0.5)
    # A reference scan that bears a scanner's name has a look of its own.
    named = dataclasses.replace(scans["GE 1.5T"], name="GE 1.5T")
    assert ready(folders, named, "both").learnt_target is None


def test_maps_come_in_milliseconds_on_the_scans_grid(folders, person, scans):
    for name in ("Siemens 3T", "Philips 1.5T"):
        scan, field = scans[name], SCANNERS[name].field_strength_tesla
        found = quantitative_maps(scan, model=folders / "alone")
        truth = true_maps(person, field, SPACING_MM)
        assert bits(found.t1_ms) == bits(found.m0) == bits(scan.image)
        t1_ms, m0 = (images.to_array(image) for image in found)
        true_t1, true_m0 = images.to_array(truth.t1_ms), images.to_array(truth.proton_density)
        assert (t1_ms[~brain_of(scan)] == 0).all()
        for tissue in ("white matter", "grey matter"):
            inside = scan.structures[tissue].array
            assert np.median(t1_ms[inside] / true_t1[inside]) == pytest.approx(1, abs=0.15), (name, tissue)
            assert np.median(m0[inside] / true_m0[inside]) == pytest.approx(1, abs=0.08), (name, tissue)


def test_a_scan_without_protocol_or_brain_says_how_to_give_it(folders, scans):
    scan = scans["GE 3T"]
    silent = dataclasses.replace(scan, acquisition=dataclasses.replace(scan.acquisition, field_strength_tesla=None))
    for attempt in (ready(folders).apply, lambda s: quantitative_maps(s, model=folders / "alone")):
        with pytest.raises(InputError, match=r"magnetic field strength \(0018,0087\).*'SOURCE -> TARGET'"):
            attempt(silent)
        with pytest.raises(InputError, match="no structure 'brain'"):
            attempt(dataclasses.replace(scan, structures={}))
    told = ready(folders, source=of_scanner("GE 3T")).apply(dataclasses.replace(scan, acquisition=Acquisition()))
    assert told.provenance[-1]["parameters"]["source"] == "GE 3T"
    marked = {"head": dataclasses.replace(scan.structures["brain"], name="head", roles=frozenset({Role.REFERENCE}))}
    other = ready(folders).apply(dataclasses.replace(scan, structures=marked))
    assert other.array.tobytes() == ready(folders).apply(scan).array.tobytes()
    with pytest.raises(InputError, match="negative intensities"):
        ready(folders).apply(scan.with_array(scan.array - scan.array.mean()))
    with pytest.raises(InputError, match="PhyCHarm is for MR"):
        quantitative_maps(dataclasses.replace(scan, modality=Modality.CT), model=folders / "alone")


def test_without_torch_or_a_model_it_says_what_to_do(folders, scans, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "HarmonizeExtension.methods.phycharm.network", None)
    with pytest.raises(ModelError, match="PhyCHarm needs PyTorch; install it"):
        ready(folders).apply(scans["GE 3T"])
    monkeypatch.setattr(resources, "folder", lambda name: (_ for _ in ()).throw(FileNotFoundError(name)))
    with pytest.raises(ModelError, match="train phycharm"):
        Phycharm.for_target("GE 3T")
    save_model(tmp_path / "other", ModelCard("harmonae", "other"), {})
    with pytest.raises(ModelError, match="is for 'harmonae'"):
        Phycharm.for_target(ProtocolTarget(of_scanner("GE 3T"), model=tmp_path / "other"))


def test_weights_of_another_network_are_refused(folders, scans, tmp_path):
    card, weights = load_model(folders / "alone", "phycharm")
    weights.pop("generator.m0.last.bias")
    save_model(tmp_path / "torn", card, weights)
    with pytest.raises(ModelError, match="not those of PhyCHarm"):
        Phycharm.for_target("GE 3T", model=tmp_path / "torn").apply(scans["GE 3T"])


def test_an_oblique_scan_of_another_spacing_is_harmonized_on_its_own_grid(folders):
    scan = head(grid(size=(44, 40, 22), spacing=(4.0, 3.7, 6.0), rotation=(12.0, -8.0, 5.0)))
    tags = Acquisition(None, None, None, 3.0, 2300, 3.0, 900, 9)
    after = ready(folders, "GE 3T").apply(dataclasses.replace(scan, acquisition=tags))
    assert bits(after.image) == bits(scan.image)
    assert np.isfinite(after.array).all()


@pytest.mark.slow
def test_openvino_and_torch_agree():
    pytest.importorskip("openvino")
    rng = np.random.default_rng(0)
    generator, look = MapsGenerator(4), HarmonizationNetwork(3, 4)
    for unet in (generator.t1, generator.m0, look.residual):
        torch.nn.init.normal_(unet.last.weight, std=0.1)
    brain = rng.random((3, 1, 48, 64)) > 0.3
    seen = np.concatenate([rng.random(brain.shape), rng.uniform(0.5, 4, brain.shape)], 1).astype(np.float32) * brain
    for network in (generator, look):
        first, other = (run_on_slices(network, seen, 2, backend) for backend in inference.BACKENDS)
        assert np.abs(first - other).max() < 1e-4 * np.ptp(other)


def test_training_learns_maps_and_look_and_writes_a_model_that_serves(tmp_path, scans):
    settings = Settings(
        str(tmp_path / "samples"), SITES, ("GE 3T",), 2, 1, spacing_mm=6.0, width=4, learning_rate=0.01, workers=1
    )
    built = PhycharmTraining(settings)
    with torch.no_grad():
        before = built.validate()
    schedule = Schedule(40, 4, average=0.5, validate_every=40, threads=1, precision="bf16")
    trained, outcome = train(lambda: PhycharmTraining(settings), schedule, tmp_path / "run")
    after = outcome.best
    assert after["score"] < before["score"]
    assert {"unseen t1_white", "unseen nrmse_mapped", "ssim_harmonized", "nrmse_before"} <= set(after)
    trained.save_model(tmp_path / "model", {"validation": dict(after)})
    result = Phycharm.for_target("GE 1.5T", model=tmp_path / "model")
    assert result.learnt_target == 1
    assert np.isfinite(result.apply(scans["Philips 3T"]).array).all()
    # Whoever asks for the same samples again finds them, and other settings are not mixed in.
    with pytest.raises(InputError, match="drawn otherwise"):
        PhycharmTraining(dataclasses.replace(settings, every=3))


def test_samples_are_the_scans_with_their_maps_and_come_from_the_generator_alone(tmp_path):
    settings = Settings(str(tmp_path / "samples"), SITES, ("GE 3T",), 2, 1, spacing_mm=6.0, width=2, workers=1)
    system = PhycharmTraining(settings)
    first, again, other = (system.batch(4, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["seen"], other["seen"])
    image, guess = first["seen"][:, :1], first["seen"][:, 1:]
    inside = first["truth"][:, :1] > 0
    assert image.shape == (4, 1, 32, 32)
    assert torch.equal(inside, guess > 0)
    assert (first["wanted"][~inside] == 0).all()
    assert float((guess[inside] / first["truth"][:, :1][inside]).median()) == pytest.approx(1, abs=0.2)
    many = system.batch(24, np.random.default_rng(3))
    brain = many["truth"][:, 0] > 0
    errors = (many["seen"][:, 0] - many["wanted"][:, 0]).abs()
    means = np.array([float(error[inside].mean()) for error, inside in zip(errors, brain, strict=True)])
    same = (many["source"] == many["target"]).numpy()
    assert means[same].mean() < 0.5 * means[~same].mean()  # the same scan, but for what is varied
    with pytest.raises(InputError, match="at least two scanners"):
        dataclasses.replace(settings, scanners=("GE 3T",))
    with pytest.raises(InputError, match="one scanner of 3 T is needed"):
        PhycharmTraining(dataclasses.replace(settings, scanners=("GE 1.5T", "Siemens 1.5T")))


MEDIAN_T1 = 0.08  # of tissue, as a share; 0.05 is aimed at, and met in the mean of the trained scanners only
SHIPPED = ROOT / "Resources" / "Models" / harmonizer.SHIPPED


@pytest.mark.slow
@pytest.mark.skipif(not SHIPPED.exists(), reason="no model of PhyCHarm ships with this checkout")
def test_the_model_that_ships_knows_t1_and_beats_doing_nothing(person):
    """On a person and, with 'Philips 1.5T', on a scanner that it was never trained on."""
    pair = {
        name: scan_person(person, SCANNERS[name], np.random.default_rng(k), 1.5)
        for k, name in enumerate(("Siemens 3T", "Philips 1.5T"))
    }
    brain = brain_of(pair["Siemens 3T"])
    for name, scan in pair.items():
        t1_ms = images.to_array(quantitative_maps(scan, model=SHIPPED).t1_ms)
        truth = images.to_array(true_maps(person, SCANNERS[name].field_strength_tesla, 1.5).t1_ms)
        for tissue in ("white matter", "grey matter"):
            inside = scan.structures[tissue].array
            assert np.median(t1_ms[inside] / truth[inside]) == pytest.approx(1, abs=MEDIAN_T1), (name, tissue)
    for source, target in (("Philips 1.5T", "Siemens 3T"), ("Siemens 3T", "Philips 1.5T")):
        method = Phycharm.for_target(target, model=SHIPPED)
        after = method.apply(pair[source])
        relative = [
            scan.array / white_matter_level(scan.array, brain, "") for scan in (pair[source], after, pair[target])
        ]
        before, result, truth = (nrmse(relative[2], array, 1.0, brain) for array in relative)
        assert truth == 0
        assert result < 0.9 * before, (source, target, method.learnt_target)
        assert guard.inspect(pair[source], after).status is guard.Status.PASS
