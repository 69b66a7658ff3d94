"""The MRI benchmark: its oracle and segmenter are what they claim, nobody in it was trained on, its tables count."""

import csv
import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from HarmonizeExtension.errors import Cancelled, InputError, ModelError
from HarmonizeExtension.evaluation import mri_arms, mri_benchmark, mri_tables
from HarmonizeExtension.evaluation.mri_arms import AGAIN, ORACLE, UNHARMONIZED, Arm, monotone_map
from HarmonizeExtension.evaluation.mri_benchmark import Cycle, Features, Findings, Likeness, MapError, tissues
from HarmonizeExtension.evaluation.mri_lesions import Invented, LesionKept
from HarmonizeExtension.files.models import ModelCard, save_model
from HarmonizeExtension.phantoms.person import Person
from HarmonizeExtension.phantoms.scanners import SCANNERS

SHAPE = (6, 7, 8)


@given(seed=st.integers(0, 10_000), levels=st.integers(2, 60))
def test_no_rising_map_comes_nearer_to_the_truth_than_the_oracle(seed, levels):
    rng = np.random.default_rng(seed)
    image = rng.integers(0, levels, SHAPE).astype(np.float32)
    truth = rng.normal(size=SHAPE).astype(np.float32) + rng.normal() * image
    mask = rng.random(SHAPE) < 0.7
    mapped = monotone_map(image, truth, mask)
    order = np.argsort(image[mask], kind="stable")
    assert (np.diff(mapped[mask][order]) >= 0).all()
    assert all(np.ptp(mapped[mask & (image == level)]) == 0 for level in np.unique(image[mask]))

    def error(values):
        return np.mean((values - truth[mask]) ** 2)

    best = error(mapped[mask])
    slope, offset = np.polyfit(image[mask], truth[mask], 1)
    if slope >= 0:
        assert best <= error(slope * image[mask] + offset) + 1e-5
    for _ in range(5):
        other = np.sort(rng.normal(size=levels)) * truth.std() + truth.mean()
        assert best <= error(other[image[mask].astype(int)]) + 1e-5


def test_the_oracle_finds_a_rising_map_and_goes_on_beyond_the_mask():
    image = np.arange(np.prod(SHAPE), dtype=np.float32).reshape(SHAPE)
    mask = (image > 50) & (image < 200)
    mapped = monotone_map(image, np.sqrt(image), mask)
    np.testing.assert_allclose(mapped[mask], np.sqrt(image)[mask], rtol=1e-6)
    assert mapped[0, 0, 0] == mapped[mask].min()
    assert mapped[-1, -1, -1] == mapped[mask].max()
    with_holes = mask & (image.astype(int) % 2 == 0)
    np.testing.assert_allclose(monotone_map(image, np.sqrt(image), with_holes)[mask], np.sqrt(image)[mask], rtol=0.01)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000), gain=st.floats(0.1, 50), offset=st.floats(-500, 500))
def test_tissues_are_told_apart_whatever_gain_and_offset(seed, gain, offset):
    rng = np.random.default_rng(seed)
    kind = np.digitize(ndimage.gaussian_filter(rng.normal(size=(16, 20, 20)), 1.5), (-0.04, 0.04))
    array = np.array([20.0, 60.0, 90.0])[kind] + rng.normal(scale=4, size=kind.shape)
    brain = np.zeros(kind.shape, bool)
    brain[2:-2, 2:-2, 2:-2] = True
    white, grey = tissues(gain * array + offset, brain)
    assert not (white & grey).any()
    assert not ((white | grey) & ~brain).any()
    assert np.mean(white[brain] == (kind == 2)[brain]) > 0.99
    assert np.mean(grey[brain] == (kind == 1)[brain]) > 0.98


def test_nobody_in_the_benchmark_was_trained_on():
    """Trainings draw people from [seed, number], cohorts from one seed; the benchmark from three words."""

    def state(sequence):
        return tuple(sequence.spawn(1)[0].generate_state(4))

    here = {
        state(np.random.SeedSequence([seed, number, kind]))
        for seed in (0, 1, 1001, 2002)
        for number in range(60)
        for kind in (mri_arms.SEEN, mri_arms.REFERENCE, mri_arms.ILL)
    }
    assert len(here) == 4 * 60 * 3
    trained = {state(np.random.SeedSequence([seed, n])) for seed in (0, 1, 1001, 2002, 3003) for n in range(300)}
    cohorts = {state(one) for seed in range(20) for one in np.random.SeedSequence(seed).spawn(60)}
    assert not here & trained
    assert not here & cohorts


def test_learned_people_are_drawn_from_two_words_as_the_benchmark_assumes(tmp_path):
    from HarmonizeExtension.training import simulated_slices

    drawn = []

    class CaughtError(Exception):
        pass

    def draw(rng, *_):
        drawn.append(rng.bit_generator.seed_seq)
        raise CaughtError

    recipe = simulated_slices.Recipe(1, 1001, ("GE 3T",), paired=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(simulated_slices.Person, "draw", draw)
        with pytest.raises(CaughtError):
            simulated_slices._draw(tmp_path, recipe, 0)
    assert list(drawn[0].entropy) == [1001, 0]


def test_arms_are_the_statistical_ones_the_oracle_and_every_model_to_each_of_its_scanners(tmp_path):
    plain = mri_arms.arms(tmp_path)
    assert mri_arms.names(plain) == (
        UNHARMONIZED,
        "Z-score",
        "WhiteStripe",
        "Nyul",
        "histogram matching",
        ORACLE,
        AGAIN,
    )
    weights = {"w": np.zeros(1, np.float32)}
    save_model(tmp_path / "mine", ModelCard("paired", "U-Net", ("GE 3T", "Siemens 3T")), weights)
    save_model(tmp_path / "maps", ModelCard("phycharm", "maps", ("GE 3T",)), weights)
    save_model(tmp_path / "scale", ModelCard("nyul", "scale"))
    learned = mri_arms.arms(tmp_path)[len(plain) :]
    assert [(arm.name, arm.target) for arm in learned] == [
        *(("maps", name) for name in SCANNERS),
        ("mine", "GE 3T"),
        ("mine", "Siemens 3T"),
    ]
    with pytest.raises(InputError, match="no folder"):
        mri_arms.arms(tmp_path / "nowhere")
    (tmp_path / "mine" / "model.json").write_text("{")
    with pytest.raises(ModelError, match="damaged"):
        mri_arms.arms(tmp_path)


def findings(people: int, shift: float) -> tuple[Findings, list[Arm]]:
    """Features in which one arm's scanners differ by `shift` standard deviations, and the other's do not."""
    rng = np.random.default_rng(0)
    compared = [Arm(UNHARMONIZED), Arm("model", "GE 3T", "folder", "paired", tuple(SCANNERS)[:5])]
    found = Findings()
    for arm in compared:
        for person in range(people):
            for n, source in enumerate(SCANNERS):
                for tissue in mri_tables.TISSUES:
                    values = rng.normal(size=75) + (shift * n if arm.name == UNHARMONIZED else 0)
                    found.features.append(Features(arm, person, source, tissue, values))
                for target in [arm.target] if arm.target else SCANNERS:
                    if source != target:
                        figures = (0.9 if arm.target else 0.8, 30.0, 0.03, 100.0, (0.9, 0.8), (-0.1, 0.1))
                        found.likeness.append(Likeness(arm, person, source, target, *figures))
    found.cycles.append(Cycle(compared[1], 0, "Siemens 3T", 0.01, 0.002, 0.02, 0.003))
    for protected, contrast in ((False, 0.8), (True, 1.0)):
        found.lesions.append(
            LesionKept(compared[1], 0, "GE 1.5T", "GE 3T", "oedema", protected, contrast, contrast, 0.9)
        )
    found.invented += [Invented(compared[1], 0, source, "GE 3T", n, 40.0 * n) for n, source in enumerate(SCANNERS)]
    found.maps.append(MapError(compared[1], 0, "Siemens 3T", "white matter", 0.04, -0.02, 0.05))
    return found, compared


def test_the_tables_count_what_differs_and_compare_arms_on_the_same_directions():
    found, compared = findings(18, 2.0)
    tables, drawn = mri_tables.of(found, compared, 18)
    by_name = {table.name: table for table in tables}
    shares = {(row[0], row[2]): row[3:] for row in by_name["mri-benchmark-features"].rows if row[0] != "HarMOnAE"}
    # The scanners in the middle lie among the others; those at the ends do not.
    assert min(shares[UNHARMONIZED, mri_tables.TRAVELLING][:2]) > 80
    assert max(shares["model", mri_tables.TRAVELLING]) < 10
    assert max(shares["model", mri_tables.ONCE]) < 15
    assert shares["WhiteStripe", mri_tables.PAPER][:2] == (40.9, 39.1)
    truth = {(row[0], row[1]): row for row in by_name["mri-benchmark-truth"].rows}
    assert truth[UNHARMONIZED, "all"][2:5] == (5, 5 * 18, pytest.approx(0.8))
    unseen = truth["model", "from a scanner never trained on"]
    assert unseen[2:5] == (1, 18, pytest.approx(0.9))
    assert unseen[-2:] == pytest.approx((10, 10))  # differences of volume do not cancel
    assert by_name["mri-benchmark-cycles"].rows[0][:5] == ("model", "GE 3T", 1, 0.01, 0.002)
    assert by_name["mri-benchmark-maps"].rows[0][-3:] == pytest.approx((4, -2, 5))
    assert [row[2:6] for row in by_name["mri-benchmark-lesions"].rows] == [
        ("", 1, pytest.approx(80), pytest.approx(80)),
        ("protected", 1, pytest.approx(100), pytest.approx(100)),
    ]
    assert by_name["mri-benchmark-invented"].rows == (("model", 6, 5, pytest.approx(2.5), pytest.approx(100)),)
    assert {"mri-benchmark-features", "mri-benchmark-ssim", "mri-benchmark-psnr"} == set(drawn)


def test_few_people_give_the_travelling_design_alone_and_the_notes_say_so():
    found, compared = findings(4, 2.0)
    tables, _ = mri_tables.of(found, compared, 4)
    assert {row[2] for row in tables[0].rows} == {mri_tables.TRAVELLING, mri_tables.PAPER}
    assert "needs 18 people" in " ".join(mri_tables.notes(4))
    assert "needs 18 people" not in " ".join(mri_tables.notes(18))


@pytest.mark.parametrize("numbers", [{"people": 2}, {"processes": 0}, {"seed": -1}, {"spacing_mm": 50.0}])
def test_numbers_that_make_no_sense_are_refused_before_any_work(numbers):
    with pytest.raises(InputError):
        mri_benchmark.run(**numbers)


@pytest.mark.slow
def test_it_runs_in_processes_and_writes_what_it_found(tmp_path, monkeypatch):
    monkeypatch.setattr(mri_benchmark, "arms", lambda models: [Arm(UNHARMONIZED)])
    told = []
    result = mri_benchmark.run(3, 6.0, progress=lambda fraction, text: told.append(fraction))
    assert told[-1] == pytest.approx(1)
    assert told == sorted(told)
    files = result.write(tmp_path / "out")
    rows = list(csv.DictReader(files["mri-benchmark-truth.csv"].read_text().splitlines()))
    assert (rows[0]["method"], rows[0]["number"], rows[0]["scans"]) == (UNHARMONIZED, "30", "90")
    assert 10 < float(rows[0]["PSNR (dB)"]) < 40
    shares = list(csv.DictReader(files["mri-benchmark-features.csv"].read_text().splitlines()))
    assert 5 < float(shares[0]["KS WM"]) <= 100
    assert files["mri-benchmark-features.png"].stat().st_size > 5000
    with pytest.raises(Cancelled):
        mri_benchmark.run(3, 6.0, cancelled=lambda: True)


@pytest.mark.slow
def test_models_are_cycled_and_what_they_cannot_harmonize_is_told(tmp_path, monkeypatch):
    torch = pytest.importorskip("torch")
    pytest.importorskip("safetensors")
    from HarmonizeExtension.methods.paired.network import Translator
    from HarmonizeExtension.networks import inference

    monkeypatch.setattr(inference, "default_backend", lambda: "torch")
    torch.set_num_threads(1)
    known = ("Siemens 3T", "GE 3T")
    network = Translator(0, 2, 2)
    with torch.no_grad():
        network.unet.last.weight.zero_()  # no residue: gives back what it sees
    weights = {name: value.detach().numpy() for name, value in network.state_dict().items() if name != "scanner"}
    save_model(tmp_path / "same", ModelCard("paired", "same", known, preprocessing={"spacing_mm": 5.0}), weights)
    arm = mri_arms.arms(tmp_path)[-1]
    seen = mri_arms.visit(0, 0, 5.0)
    again = mri_arms.visit(0, 0, 5.0)
    assert all(np.array_equal(seen.scans[name].array, again.scans[name].array) for name in SCANNERS)
    negative = seen.scans["GE 1.5T"]
    negative = negative.with_array(negative.array - negative.array.mean())
    seen = dataclasses.replace(seen, scans={**seen.scans, "GE 1.5T": negative})
    person = mri_benchmark._Person(0, seen, 0, 5.0, lambda: False)
    person.texture = dataclasses.replace(person.texture, feature_classes={"glcm": ("Idm",)})
    person.try_arm(arm)
    assert [one.source for one in person.found.cycles] == ["Siemens 3T"]
    cycle = person.found.cycles[0]
    assert max(map(abs, (cycle.harmonized, cycle.cycled, cycle.harmonized_direct, cycle.cycled_direct))) < 1e-3
    assert len(person.found.likeness) == 4  # to GE 3T from the others, but the one that is refused
    assert len(person.found.features) == 2 * 5
    assert "negative intensities" in person.found.failures[0]
    person.try_arm(Arm(ORACLE, "GE 3T"))
    unchanged, oracle = person.found.likeness[:4], person.found.likeness[4:9]
    person.hold_again(Arm(AGAIN, "GE 3T"))
    again = person.found.likeness[9:]
    assert [one.source for one in again] == [name for name in SCANNERS if name != "GE 3T"]
    assert min(one.psnr_db for one in again) > max(one.psnr_db for one in oracle) + 1
    for one in unchanged:  # the negative scan differs by an offset only, so that the oracle can map it too
        assert one.psnr_db < next(best.psnr_db for best in oracle if best.source == one.source)
    assert isinstance(seen.person, Person)


@pytest.mark.slow
def test_maps_are_held_against_the_true_ones(tmp_path, monkeypatch):
    torch = pytest.importorskip("torch")
    pytest.importorskip("safetensors")
    from HarmonizeExtension.methods.phycharm.network import MapsGenerator
    from HarmonizeExtension.networks import inference
    from HarmonizeExtension.phantoms.maps import property_maps
    from HarmonizeExtension.phantoms.person import body_of

    monkeypatch.setattr(inference, "default_backend", lambda: "torch")
    torch.manual_seed(0)
    weights = {f"generator.{name}": value.numpy() for name, value in MapsGenerator(4).state_dict().items()}
    save_model(tmp_path / "maps", ModelCard("phycharm", "maps", preprocessing={"spacing_mm": 5.0}), weights)
    arm = next(arm for arm in mri_arms.arms(tmp_path) if arm.model and arm.target == "GE 3T")
    seen = mri_arms.visit(0, 0, 5.0)
    seen = dataclasses.replace(seen, scans={"Siemens 3T": seen.scans["Siemens 3T"]})
    person = mri_benchmark._Person(0, seen, 0, 5.0, lambda: False)
    person.try_maps(arm)
    assert [one.tissue for one in person.found.maps] == list(mri_tables.TISSUES)
    assert all(0 < one.t1 < 0.5 for one in person.found.maps)  # untrained, the first guess

    true = property_maps(body_of(seen.person, 5.0), 3.0)
    exact = (1.1 * true.t1_ms[seen.slices], 7.0 * true.proton_density[seen.slices])
    monkeypatch.setattr(mri_benchmark, "maps_of", lambda arm, scan: exact)
    person.try_maps(arm)
    for one in person.found.maps[2:]:
        assert (one.t1, one.t1_bias) == pytest.approx((0.1, 0.1), rel=1e-3)
        assert one.m0 == pytest.approx(0, abs=1e-5)
