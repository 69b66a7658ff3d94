"""The PET benchmark: people whom both centres imaged, its tables, and a true pair of reconstructions."""

import dataclasses

import numpy as np
import pytest
import SimpleITK as sitk

from Testing.engine.scans import grid

from HarmonizeExtension.errors import InputError
from HarmonizeExtension.evaluation import pet_benchmark, pet_tables
from HarmonizeExtension.evaluation.pet_arms import (
    BEST_BY_ERROR,
    BEST_BY_NOISE,
    INPUT,
    MATCHING,
    OUTCOME,
    Arm,
    arms,
    best_gaussian,
    largest_lesion,
    visit,
)
from HarmonizeExtension.evaluation.pet_benchmark import (
    Features,
    Findings,
    LesionError,
    Likeness,
    Noise,
    measure,
    measure_outcome,
    run,
)
from HarmonizeExtension.evaluation.pet_tables import LARGEST, SPHERE
from HarmonizeExtension.phantoms.pet_centres import CENTRES
from HarmonizeExtension.physics.pet_reconstruction import Reconstruction
from HarmonizeExtension.physics.pet_resolution import gaussian_blur
from HarmonizeExtension.progress import never, silent


def test_the_same_numbers_give_the_same_person_by_both_centres():
    person, scans = visit(0, 1, OUTCOME)
    _, again = visit(0, 1, OUTCOME)
    assert set(scans) == set(CENTRES)
    name = f"lesion {largest_lesion(person) + 1}"
    for centre, scan in scans.items():
        assert np.array_equal(scan.array, again[centre].array)
        assert scan.structures[name].array.any()
    assert not np.array_equal(visit(1, 1, OUTCOME)[1]["BUD"].array, scans["BUD"].array)


def test_the_oracle_finds_the_gaussian_that_was_used():
    rng = np.random.default_rng(0)
    array = rng.gamma(4, 1, (24, 24, 24)).astype(np.float32)
    truth = gaussian_blur(array, (5.0,) * 3, (3.0,) * 3)
    everywhere = np.ones(array.shape, bool)
    for by_noise in (False, True):
        np.testing.assert_array_equal(best_gaussian(array, truth, (3.0,) * 3, everywhere, everywhere, by_noise), truth)


def test_arms_without_models_and_numbers_that_make_no_sense(tmp_path):
    assert [arm.name for arm in arms(tmp_path)] == [INPUT, BEST_BY_ERROR, BEST_BY_NOISE, MATCHING]
    with pytest.raises(InputError, match="no folder"):
        arms(tmp_path / "nowhere")
    with pytest.raises(InputError, match="at least 5 people"):
        run(people=2, models=tmp_path)


@pytest.mark.slow
def test_a_person_is_measured_in_both_directions():
    found = measure((Arm(INPUT), Arm(MATCHING)), 0, 0, silent, never)
    assert len(found.names) == 93
    assert {(one.arm, one.source) for one in found.noise} == {(INPUT, "BUD"), (INPUT, "TUB"), (MATCHING, "TUB")}
    (failure,) = found.failures
    assert "from BUD to TUB" in failure
    for one in found.likeness:
        if one.arm == INPUT:
            assert one.to_itself == pytest.approx(1)
            assert one.to_truth < 1
    by_source = {name: [e.mean for e in found.lesions if (e.arm, e.source) == (INPUT, name)] for name in CENTRES}
    assert np.mean(by_source["BUD"]) < 0 < np.mean(by_source["TUB"])  # the smoother centre loses uptake of lesions


def test_an_outcome_is_measured_in_the_largest_lesion():
    found = measure_outcome((Arm(INPUT), Arm(BEST_BY_ERROR)), 0, 0, silent, never)
    assert [(one.arm, one.region) for one in found.features] == [
        ("", LARGEST), (INPUT, LARGEST), (BEST_BY_ERROR, LARGEST)
    ]  # fmt: skip
    np.testing.assert_array_equal(found.features[0].values, found.features[1].values)
    assert found.uptake[0][1] > 2


def findings(people=12, others=40, names=("original_glcm_A", "original_glcm_B", "original_firstorder_C")):
    """An arm that is perfect, one that does nothing, and centres one standard deviation apart."""
    rng = np.random.default_rng(0)
    found = Findings(names=list(names))
    for number in range(people):
        own = rng.standard_normal(len(names))
        for source, target in (("BUD", "TUB"), ("TUB", "BUD")):
            shift = 4.0 if source == "TUB" else -4.0
            found.features.append(Features("", number, target, target, SPHERE, own))
            for arm, values in ((INPUT, own + shift), ("perfect", own)):
                found.features.append(Features(arm, number, source, target, SPHERE, values))
                found.noise.append(Noise(arm, number, source, target, 0.1 + 0.05 * (arm == INPUT), 0.1))
                found.likeness.append(Likeness(arm, source, target, "liver", 1.0, 0.9))
                found.lesions.append(LesionError(arm, source, target, 8.0, 0.1 * (arm == INPUT), 0.0))
    for number in range(others):
        suv = float(np.exp(rng.normal(1.5, 0.5)))
        source, target = list(CENTRES)[number % 2], list(CENTRES)[1 - number % 2]
        own = np.log(suv) + 0.1 * rng.standard_normal(len(names))
        found.uptake.append((number, suv))
        found.features.append(Features("", number, source, source, LARGEST, own))
        for arm, off in ((INPUT, 3.0), ("perfect", 0.0)):
            found.features.append(Features(arm, number, source, target, LARGEST, own + off * rng.standard_normal()))
    return found


def test_tables_tell_a_perfect_arm_from_one_that_does_nothing():
    tables, drawn, _ = pet_tables.of(findings(), 0)
    by_name = {table.name: table for table in tables}
    overlap = {(row[0], row[1]): row for row in by_name["pet-benchmark-overlap"].rows}
    assert overlap["perfect", "BUD"][3] > 0.99
    assert overlap[INPUT, "BUD"][3] < 0.3
    assert overlap[INPUT, "TUB"][4].startswith("0 ")
    assert overlap[f"{INPUT}, ComBat", "TUB"][3] > 0.8
    assert ("paper, CycleGAN", "TUB") in overlap
    noise = {(row[0], row[1]): row for row in by_name["pet-benchmark-noise"].rows}
    assert noise["perfect", "TUB"][5] == pytest.approx(0)
    assert noise[INPUT, "TUB"][5] == pytest.approx(0.05)
    lesions = {(row[0], row[1]): row for row in by_name["pet-benchmark-lesions"].rows}
    assert lesions[INPUT, "BUD"][4] == pytest.approx(10)
    outcome = {(row[0], row[1]): row[2] for row in by_name["pet-benchmark-outcome"].rows}
    assert outcome["perfect", "TUB"] > outcome[INPUT, "TUB"]
    assert set(drawn) == {"pet-benchmark-overlap-BUD-TUB", "pet-benchmark-overlap-TUB-BUD"}


def test_an_arm_that_knows_one_direction_only_is_told_in_that_one():
    found = findings(others=0)
    for one in [f for f in found.features if (f.arm, f.source) == ("perfect", "TUB")]:
        found.features.append(dataclasses.replace(one, arm="one way"))
    found.noise.append(Noise("one way", 0, "TUB", "BUD", 0.1, 0.1))
    (overlap, *_), _, _ = pet_tables.of(found, 0)
    assert {(row[0], row[1]) for row in overlap.rows if row[0] == "one way"} == {("one way", "TUB")}


def test_an_outcome_of_too_few_people_is_left_out_and_said():
    tables, _, notes = pet_tables.of(findings(others=4), 0)
    assert "pet-benchmark-outcome" not in {table.name for table in tables}
    assert any("24 people" in note for note in notes)


@pytest.fixture
def pair(tmp_path):
    """Two reconstructions of a phantom with six spheres: paths, noisy and smooth."""
    spacing = (3.0, 3.0, 3.0)
    z, y, x = np.meshgrid(*[(np.arange(n) + 0.5) * 3 - n * 1.5 for n in (40, 72, 88)], indexing="ij")
    activity = (((x / 120) ** 2 + (y / 98) ** 2 < 1) & (np.abs(z) < 54)).astype(np.float32)
    for k, diameter in enumerate((14, 17, 22, 28, 37)):
        angle = 2 * np.pi * k / 5
        centre = 57 * np.cos(angle), 57 * np.sin(angle)
        activity[(x - centre[0]) ** 2 + (y - centre[1]) ** 2 + z**2 < (diameter / 2) ** 2] = 8
    paths = []
    for n, (post, noise) in enumerate(((2.0, 0.25), (5.0, 0.1))):
        how = Reconstruction(4.5, 3.5, post, noise, spacing)
        image = sitk.GetImageFromArray(1700 * how.image_of(activity, spacing, np.random.default_rng(n)))
        image.CopyInformation(grid((88, 72, 40), spacing))
        paths.append(tmp_path / f"{n}.nii.gz")
        sitk.WriteImage(image, str(paths[-1]))
    return tuple(paths)


def test_a_true_pair_is_judged_in_both_directions(pair, tmp_path):
    models = tmp_path / "none"
    models.mkdir()
    result = run(models=models, pair=pair)
    rows = {(row[0], row[1]): row for row in result.tables[0].rows}
    before, best = (rows[name, "reconstruction 1"] for name in (INPUT, BEST_BY_ERROR))
    assert before[2] > rows[INPUT, "reconstruction 2"][2]
    assert best[4] < before[4]
    assert rows[BEST_BY_NOISE, "reconstruction 1"][3] < before[3]
    for row in rows.values():
        assert row[5] == pytest.approx(1, abs=0.05)
        assert row[6:] == (5, 0, 0)
    assert len(result.tables[1].rows) % 5 == 0
    assert "pet-pair-recovery-from-1" in result.figures
    assert result.text()


def test_a_pair_on_two_grids_is_refused(pair, tmp_path):
    other = tmp_path / "other.nii.gz"
    image = sitk.ReadImage(str(pair[0]))
    image.SetSpacing((2.0, 2.0, 2.0))
    sitk.WriteImage(image, str(other))
    with pytest.raises(InputError, match="not on one grid"):
        run(models=tmp_path, pair=(pair[0], other))


def test_findings_of_two_people_add_up():
    one, two = findings(2, 2), findings(3, 1)
    count = len(one.features) + len(two.features)
    one.add(dataclasses.replace(two))
    assert len(one.features) == count
    assert len(one.names) == 3
    assert pet_benchmark.NAME == "pet-benchmark"
