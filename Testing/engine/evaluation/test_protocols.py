"""The protocols find what was put into simulated studies, and print, write and draw it."""

import csv
import dataclasses

import numpy as np
import pytest
import SimpleITK as sitk
from scipy import ndimage

from Testing.engine.evaluation.studies import FEATURES, simulated, write_manifest

from HarmonizeExtension.errors import Cancelled, InputError
from HarmonizeExtension.evaluation import protocols
from HarmonizeExtension.evaluation.results import Table
from HarmonizeExtension.evaluation.study import Study
from HarmonizeExtension.files.manifest import Manifest


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    manifest, table = simulated(tmp_path_factory.mktemp("study"))
    return Study.of(table, manifest, "GTV").with_combat(keep=("age",))


def rng():
    return np.random.default_rng(0)


def column(table: Table, name: str, where: int = 0) -> dict:
    """A column of a table by the entry of another one."""
    return {row[where]: row[table.header.index(name)] for row in table.rows}


def test_an_unknown_protocol_is_answered_with_all_of_them(study):
    with pytest.raises(InputError, match=r"(?s)no protocol 'roc'.*site-effect.*liver-noise"):
        protocols.run("roc", study, rng())


def test_site_effect_falls_with_the_shift_and_is_gone_after_combat(study):
    result = protocols.run("site-effect", study, rng())
    ks = column(result.tables[0], "KS (%)")
    by_scanner = {row[1]: row[3] for row in result.tables[1].rows if row[0] == "before"}
    assert min(by_scanner["GE"], by_scanner["Siemens"]) > 90  # the third lies between them
    assert ks["before"] > ks["after"]
    assert ks["after"] > ks["after, ComBat"]
    assert ks["before, ComBat"] <= 5
    explained = column(result.tables[0], "variance between sites (%)")
    assert explained["before"] > explained["after"] > explained["after, ComBat"]
    assert len(result.tables[1].rows) == 4 * 3
    assert "alike sites: 5 %, with BH 0 %, variance 3.4 %" in result.tables[0].title  # 2 / 59 of 3 sites, 60 scans
    assert max(len(note) for note in result.notes) < 200


def test_overlap_gains_by_class_and_pair(study):
    result = protocols.run("overlap", study, rng())
    summary, pairs = result.tables
    for row in summary.rows:
        before, after, gain = row[2:5]
        assert gain == pytest.approx(after - before)
        assert gain > 5
    assert len(pairs.rows) == 3 * 3 * 2  # pairs of sites, arms, classes
    far = {row[0]: row[4] for row in pairs.rows if row[1] == "glcm"}
    assert far["GE ~ Siemens"] < far["GE ~ Philips"]
    assert {row[-1] < 0.05 for row in pairs.rows if row[3] == "after"} == {True}
    # What the note says alike sites have is near to what ComBat reached.
    (alike,) = [float(note.split("about ")[1].split(" %")[0]) for note in result.notes if "Alike sites" in note]
    reached = [row[3] for row in summary.rows if row[0] == "before, ComBat"]
    assert np.mean(reached) == pytest.approx(alike, abs=8)


def test_site_prediction_is_near_guessing_after_combat(study):
    result = protocols.run("site-prediction", study, rng())
    auc, mmd = (column(result.tables[0], name) for name in ("AUC", "MMD²"))
    assert auc["before"] > 0.75  # the middle one of three is no half space
    assert abs(auc["before, ComBat"] - 0.5) < 0.15
    assert mmd["before"] > 10 * abs(mmd["before, ComBat"])


@pytest.mark.slow
def test_the_outcome_is_predicted_and_a_shuffled_one_is_not(study):
    result = protocols.run("outcome", study, rng())
    (table,) = result.tables
    auc, chance = column(table, "AUC"), column(table, "shuffled AUC")
    assert min(auc.values()) > 0.9
    assert column(table, "gain")["after, ComBat"] == auc["after, ComBat"] - auc["before"]
    assert all(abs(value - 0.5) < 0.12 for value in chance.values())
    assert np.isnan(column(table, "DeLong p")["before"])
    assert 0 <= column(table, "DeLong p")["after"] <= 1


def test_the_outcome_must_be_known(study):
    unknown = dataclasses.replace(study, outcome=(None,) * len(study.cases))
    with pytest.raises(InputError, match="column 'outcome'"):
        protocols.run("outcome", unknown, rng())


def test_agreement_of_arms_and_of_repeats(tmp_path):
    manifest, table = simulated(tmp_path)
    study = Study.of(table, manifest)
    (row,) = [row for row in protocols.run("agreement", study, rng()).tables[0].rows if row[1] == "all"]
    ccc, icc21, icc31 = row[4:]
    assert ccc < icc31  # an offset is no agreement, and it is consistent
    assert icc21 == pytest.approx(ccc, abs=0.05)
    # The same patient on each scanner, equal but for the scanner's shift.
    repeat = np.array([case.split("-")[1] for case in study.cases])
    values = np.random.default_rng(3).normal(size=(20, len(FEATURES)))[repeat.astype(int)]
    shifted = values + 2.0 * np.searchsorted(study.sites, study.site)[:, None]
    travelling = dataclasses.replace(study, arms={"before": shifted, "after": values}, covariates={"repeat": repeat})
    result = protocols.run("agreement", travelling, rng())
    share = {row[0]: row[3] for row in result.tables[0].rows if row[1] == "all"}
    assert share == {"before": 0, "after": 100}
    consistency = {row[0]: row[6] for row in result.tables[0].rows if row[1] == "all"}
    assert consistency["before"] == pytest.approx(1)
    with pytest.raises(InputError, match="measured twice"):
        protocols.run("agreement", dataclasses.replace(study, arms={"before": values}), rng())


def test_things_not_measured_everywhere_are_left_out(tmp_path):
    study = Study.of(*reversed(simulated(tmp_path)))
    repeat = np.array([case.split("-")[1] for case in study.cases])
    repeat[study.cases.index("GE-4")] = ""
    result = protocols.run("agreement", dataclasses.replace(study, covariates={"repeat": repeat}), rng())
    assert any("not measured in all of GE, Philips, Siemens: 4" in note for note in result.notes)
    assert any(note.startswith("19 subjects measured 3 times") for note in result.notes)


def test_one_site_cannot_be_compared(study):
    alone = study.of_scans(study.site == "GE")
    for name in ("site-effect", "overlap", "site-prediction"):
        with pytest.raises(InputError, match="are of 'GE'; give two sites"):
            protocols.run(name, alone, rng())


def test_overlap_needs_two_arms(study):
    with pytest.raises(InputError, match="there is one"):
        protocols.run("overlap", dataclasses.replace(study, arms={"before": study.arms["before"]}), rng())


def test_small_sites_are_left_out_before_the_tests(study):
    few = study.of_scans(np.arange(60) < 42)
    result = protocols.run("site-effect", few, rng())
    assert {row[1] for row in result.tables[1].rows} == {"GE", "Philips"}
    assert any("Siemens (2)" in note for note in result.notes)


@pytest.mark.parametrize("name", ["site-effect", "overlap", "site-prediction", "outcome", "agreement"])
def test_every_protocol_can_be_stopped(study, name):
    with pytest.raises(Cancelled):
        protocols.run(name, study, rng(), cancelled=lambda: True)


def test_a_result_is_written_whole_and_the_same_twice(study, tmp_path):
    first, second = (protocols.run("site-effect", study, rng()) for _ in range(2))
    assert first.text() == second.text()
    files = first.write(tmp_path / "a")
    second.write(tmp_path / "b")
    assert {path.suffix for path in files.values()} == {".csv", ".svg", ".png"}
    for name, path in files.items():
        assert path.read_bytes() == (tmp_path / "b" / name).read_bytes()
    with open(files["site-effect.csv"], newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))
    assert tuple(rows[0]) == first.tables[0].header
    assert float(rows[1][1]) == first.tables[0].rows[0][1]


def test_a_table_is_aligned_and_says_what_is_missing():
    table = Table("t", "A title", ("arm", "p"), (("before", float("nan")), ("after, ComBat", 0.012345)))
    lines = table.text().splitlines()
    assert lines[0] == "A title"
    assert lines[3].endswith("–")
    assert len({len(line) for line in lines[1:]}) == 1
    assert table.cells()[0] == ("before", "–")


def image_of(array, path, spacing=3.0):
    image = sitk.GetImageFromArray(array.astype(np.float32))
    image.SetSpacing((spacing,) * 3)
    sitk.WriteImage(image, str(path))
    return path.name


@pytest.fixture
def images(tmp_path):
    """Images of a liver in noise, more of it on the second scanner, their truth, and a denoised result."""
    generator = np.random.default_rng(0)
    grid = np.indices((24, 24, 24)) - 12
    liver = (grid**2).sum(axis=0) < 10**2
    truth = 100.0 * liver + 5 + 0.1 * grid[2]  # not quite flat inside
    rows = []
    for i in range(8):
        site, noise = ("A", 5.0) if i < 4 else ("B", 15.0)
        added = noise * generator.normal(size=truth.shape)
        rows.append(
            {
                "case": f"P{i}",
                "image": image_of(truth + added, tmp_path / f"P{i}.nii.gz"),
                "truth": image_of(truth, tmp_path / f"P{i}_truth.nii.gz"),
                "harmonized": image_of(truth + added * 5 / noise, tmp_path / f"P{i}_after.nii.gz"),
                "segmentation": image_of(liver, tmp_path / f"P{i}_liver.nii.gz"),
                "structure": "liver",
                "modality": "PET",
                "units": "SUV",
                "site": site,
            }
        )
    return tmp_path, rows


def test_image_quality_against_the_truth(images):
    folder, rows = images
    manifest = Manifest.read(write_manifest(folder / "manifest.csv", rows))
    result = protocols.run("image-quality", manifest, rng())
    summary, cases = result.tables
    mean = {row[:3]: row[4] for row in summary.rows}
    for where in ("whole image", "liver"):
        assert mean[where, "SSIM ↑", "after"] > mean[where, "SSIM ↑", "before"]
        assert mean[where, "NRMSE ↓", "after"] < mean[where, "NRMSE ↓", "before"]
    psnr = {(row[0], row[3]): row[6] for row in cases.rows if row[2] == "whole image"}
    spread = max(row[10] for row in cases.rows)
    assert spread == pytest.approx(100, abs=2.5)
    assert {row[1]: row[-1] for row in summary.rows if row[0] == "liver"} == {
        **dict.fromkeys(("SSIM ↑", "SSIM by slice ↑", "PSNR (dB) ↑", "NRMSE ↓"), pytest.approx(spread)),
        **dict.fromkeys(("Jensen-Shannon ↓", "earth mover ↓"), pytest.approx(np.nan, nan_ok=True)),
    }
    # Inside the nearly flat liver too: the range is that of the whole image.
    assert min(row[6] for row in cases.rows if row[2] == "liver") > 10
    assert psnr["P7", "before"] == pytest.approx(20 * np.log10(spread / 15), abs=0.2)
    assert psnr["P7", "after"] == pytest.approx(20 * np.log10(spread / 5), abs=0.2)
    assert psnr["P0", "after"] == psnr["P0", "before"]


def test_a_structure_without_contrast_is_measured_too(images):
    folder, rows = images
    image_of(np.pad(np.ones((1, 1, 1)), ((12, 11),) * 3), folder / "P2_liver.nii.gz")
    result = protocols.run("image-quality", Manifest.read(write_manifest(folder / "m.csv", rows[1:3])), rng())
    (row,) = [row for row in result.tables[1].rows if row[0] == "P2" and row[2:4] == ("liver", "after")]
    assert row[-1] == 1
    assert row[6] > 10


def test_the_range_of_ct_is_that_of_a_window(images):
    folder, rows = images
    rows = [{**row, "modality": "CT", "units": "HU"} for row in rows[:2]]
    result = protocols.run("image-quality", Manifest.read(write_manifest(folder / "m.csv", rows)), rng())
    assert {row[10] for row in result.tables[1].rows} == {2024.0}


def test_image_quality_says_what_does_not_fit(images):
    folder, rows = images
    without = [{name: cell for name, cell in row.items() if name != "truth"} for row in rows]
    with pytest.raises(InputError, match="no column 'truth'"):
        protocols.run("image-quality", Manifest.read(write_manifest(folder / "m.csv", without)), rng())
    image_of(np.arange(20.0**3).reshape(20, 20, 20), folder / "small.nii.gz")
    wrong = [{**rows[0], "truth": "small.nii.gz"}, *rows[1:]]
    with pytest.raises(InputError, match=r"'P0' is not on the grid of 'P0, truth'"):
        protocols.run("image-quality", Manifest.read(write_manifest(folder / "m.csv", wrong)), rng())
    outside = [{**rows[0], "truth": "../truth.nii.gz"}, *rows[1:]]
    with pytest.raises(InputError, match=r"line 2: '\.\./truth\.nii\.gz' leads out"):
        Manifest.read(write_manifest(folder / "m.csv", outside))


def test_images_of_several_modalities_are_not_compared(images):
    folder, rows = images
    mixed = [{**row, "modality": "CT" if i else "PET", "units": ""} for i, row in enumerate(rows)]
    manifest = Manifest.read(write_manifest(folder / "m.csv", mixed))
    for name in ("image-quality", "liver-noise"):
        with pytest.raises(InputError, match="CT and PET scans; choose one with --modality"):
            protocols.run(name, manifest, rng())


def test_liver_noise_is_compared_between_sites_and_arms(images):
    folder, rows = images
    image_of(np.pad(np.ones((3, 3, 3)), ((0, 21),) * 3), folder / "P2_liver.nii.gz")  # no sphere fits
    manifest = Manifest.read(write_manifest(folder / "manifest.csv", rows))
    result = protocols.run("liver-noise", manifest, rng())
    medians = {row[:2]: row[3] for row in result.tables[0].rows}
    assert medians["before", "A"] == pytest.approx(5 / 105, rel=0.15)
    assert medians["before", "B"] == pytest.approx(15 / 105, rel=0.15)
    assert medians["after", "B"] == pytest.approx(5 / 105, rel=0.15)
    gaps = column(result.tables[1], "gap")
    assert gaps["before"] > 5 * gaps["after"]
    assert any("left out, 'P2'" in note for note in result.notes)
    with pytest.raises(InputError, match="no liver could be measured"):
        protocols.run("liver-noise", manifest, rng(), structure="spleen")


def test_liver_noise_is_measured_on_a_result_of_another_voxel_size(images):
    folder, rows = images
    for row in rows:
        image = sitk.ReadImage(str(folder / row["image"]))
        sitk.WriteImage(sitk.Shrink(image, [1, 1, 2]), str(folder / row["harmonized"]))
    result = protocols.run("liver-noise", Manifest.read(write_manifest(folder / "m.csv", rows)), rng())
    medians = {row[:2]: row[3] for row in result.tables[0].rows}
    assert medians["after", "B"] == pytest.approx(15 / 105, rel=0.2)


@pytest.fixture
def blurred(tmp_path):
    """CT of a body with lung, soft tissue and bone, each textured, as the truth; blurred; and nearly as the truth."""
    generator = np.random.default_rng(1)
    hu = np.full((4, 18, 30), -1000.0)
    hu[:, 2:16, 2:28] = 50
    hu[:, 4:14, 4:12], hu[:, 4:14, 18:26] = -550, 550
    texture = ndimage.gaussian_filter(generator.normal(size=hu.shape), 0.7) * ndimage.gaussian_filter(
        generator.uniform(0, 900, hu.shape), 4
    )
    truth = hu + np.where(hu > -1000, texture, 0)
    rows = [
        {
            "case": f"P{i}",
            "image": image_of(ndimage.gaussian_filter(truth, 1.5), tmp_path / f"P{i}.nii.gz", 2.0),
            "truth": image_of(truth, tmp_path / f"P{i}_truth.nii.gz", 2.0),
            "harmonized": image_of(truth + generator.normal(size=hu.shape), tmp_path / f"P{i}_after.nii.gz", 2.0),
            "segmentation": image_of(hu == 550, tmp_path / f"P{i}_bone.nii.gz", 2.0),
            "structure": "bone",
            "modality": "CT",
            "units": "HU",
        }
        for i in range(2)
    ]
    return tmp_path, rows


def test_reproducible_features_by_range_of_hu(blurred):
    folder, rows = blurred
    rows.append({**rows[0], "case": "P2", "harmonized": ""})
    manifest = Manifest.read(write_manifest(folder / "m.csv", rows))
    result = protocols.run("reproducibility", manifest, rng())
    table, by_feature = result.tables
    share, cubes = ({row[1:4:2]: row[i] for row in table.rows} for i in (6, 2))
    for tissue in ("lung", "soft tissue", "bone"):
        assert cubes[tissue, "before"] == cubes[tissue, "after"] >= 16
        assert share[tissue, "after"] > 90
        assert share[tissue, "before"] < 60
    assert "left out, without a harmonized image: P2" in result.notes
    assert len(by_feature.rows) == 2 * table.rows[0][4]
    assert {"VoxelVolume"}.isdisjoint(name.split("_")[-1] for name, *_ in by_feature.rows)
    in_bone = protocols.run("reproducibility", manifest, rng(), structure="bone").tables[0]
    assert {row[1] for row in in_bone.rows if row[2]} == {"bone"}
    assert np.isnan([row[6] for row in in_bone.rows if not row[2]]).all()


def test_reproducibility_says_what_does_not_fit(blurred):
    folder, rows = blurred
    for changes, words in (
        ({"modality": "MR", "units": ""}, "is MR"),
        ({"truth": ""}, "no column 'truth'"),
    ):
        manifest = Manifest.read(write_manifest(folder / "m.csv", [{**row, **changes} for row in rows]))
        with pytest.raises(InputError, match=words):
            protocols.run("reproducibility", manifest, rng())
    manifest = Manifest.read(write_manifest(folder / "m.csv", rows))
    with pytest.raises(InputError, match="no structure 'lung'"):
        protocols.run("reproducibility", manifest, rng(), structure="lung")


def scanned_again(study, scans=3, noise=0.05):
    """The study's scans, each several times, by the same person; the features are noise that is the person's own."""
    generator = np.random.default_rng(0)
    again = np.repeat(np.arange(len(study.cases)), scans)
    values = np.repeat(generator.normal(size=(len(study.cases), len(FEATURES))), scans, axis=0)
    values += noise * generator.normal(size=values.shape)
    return dataclasses.replace(
        study,
        cases=tuple(f"{study.cases[i]}-{k}" for k, i in enumerate(again)),
        site=study.site[again],
        outcome=tuple(bool(i % 3 == 0) for i in again),
        arms={"before": values},
        derived={},
        covariates={"person": np.array([f"person {i}" for i in again])},
    )


@pytest.mark.slow
def test_noise_of_people_with_several_scans_predicts_neither_outcome_nor_site(tmp_path):
    study = scanned_again(Study.of(*reversed(simulated(tmp_path)))).with_combat()
    result = protocols.run("outcome", study, rng())
    assert max(column(result.tables[0], "AUC").values()) < 0.7
    assert any(note.startswith("60 patients (180 scans") for note in result.notes)
    for control, spread in zip(
        column(result.tables[0], "shuffled AUC").values(), column(result.tables[0], "sd").values(), strict=True
    ):
        assert abs(control - 0.5) < 0.1
        assert spread < 0.15
    site = protocols.run("site-prediction", study, rng())
    assert max(column(site.tables[0], "AUC").values()) < 0.65


def test_sites_of_too_few_people_are_left_out_where_people_are_split(tmp_path):
    study = scanned_again(Study.of(*reversed(simulated(tmp_path, scans=5))))
    few = study.of_scans(np.arange(len(study.cases)) < 39)  # of the last site three people, nine scans
    result = protocols.run("site-prediction", few, rng())
    assert any("fewer than 4 people: Siemens (3)" in note for note in result.notes)


def test_sites_too_small_for_the_ks_test_have_a_dash_and_a_reason(tmp_path):
    study = Study.of(*reversed(simulated(tmp_path, scans=3)))
    two = study.of_scans(study.site != "Philips")
    result = protocols.run("site-effect", two, rng())
    assert np.isnan(column(result.tables[0], "KS (%)")["before"])
    assert column(result.tables[0], "Welch (%)")["before"] >= 0
    assert any("KS cannot reach p < 0.05" in note and "GE (3 scans)" in note for note in result.notes)
    assert set(result.figures) == {"site-effect-p-values", "site-effect-variance"}  # no empty one of shares
    assert Table(**result.as_dict()["tables"][0]).text() == result.tables[0].text()
    all_three = protocols.run("site-effect", study, rng())  # 3 against 6: the least p is 2 / 84
    assert column(all_three.tables[0], "KS (%)")["before"] >= 0
    assert not any("cannot reach" in note for note in all_three.notes)


def test_several_scans_of_a_person_at_a_site_are_spoken_of(tmp_path):
    study = scanned_again(Study.of(*reversed(simulated(tmp_path, scans=5))))
    assert any("several people" in note for note in protocols.run("site-effect", study, rng()).notes)


def test_sites_that_are_too_small_are_the_reason_not_the_outcome(study):
    tiny = study.of_scans(np.arange(len(study.cases)) % 4 == 0)
    with pytest.raises(InputError, match=r"no site has 10 scans .*: GE \(5\), Philips \(5\), Siemens \(5\)"):
        protocols.run("outcome", tiny, rng())
    with pytest.raises(InputError, match="no site has 3 scans"):
        protocols.run("site-effect", study.of_scans(np.arange(60) % 20 < 2), rng())


def test_a_site_is_counted_after_scans_without_outcome_are_left_out(study):
    outcome = tuple(known if k < 42 else None for k, known in enumerate(study.outcome))  # Siemens is the last
    chosen = protocols.protocol("outcome").usable(dataclasses.replace(study, outcome=outcome))
    assert chosen.sites == ("GE", "Philips")
    assert any("outcome not known: 18 scans" in note for note in chosen.notes)
    assert any("Siemens (2)" in note for note in chosen.notes)


@pytest.mark.slow
def test_a_covariate_with_a_rare_category_costs_only_its_arm(tmp_path):
    study = Study.of(*reversed(simulated(tmp_path)))
    centre = np.where(np.arange(60) == 3, "rare", np.where(np.arange(60) % 2, "a", "b"))
    study = dataclasses.replace(study, covariates={"centre": centre})
    study = study.with_combat().with_combat("ComBat with centre", keep=("centre",))
    for name in ("outcome", "site-prediction"):
        result = protocols.run(name, study, rng())
        assert [row[0] for row in result.tables[0].rows] == ["before", "after", "before, ComBat", "after, ComBat"]
        assert any("'before, ComBat with centre' is left out" in note and "'centre'" in note for note in result.notes)
