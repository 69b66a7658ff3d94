"""A study holds the scans that every arm has, and harmonizes features as a whole and inside folds."""

import dataclasses

import numpy as np
import pytest

from Testing.engine.evaluation.studies import FEATURES, simulated, write_manifest

from HarmonizeExtension.errors import InputError
from HarmonizeExtension.evaluation.feature_files import read_features
from HarmonizeExtension.evaluation.study import InLogarithms, Study
from HarmonizeExtension.feature_domain.combat import ComBat
from HarmonizeExtension.feature_domain.zscore import ScannerZScore
from HarmonizeExtension.files.manifest import Manifest


@pytest.fixture
def study(tmp_path):
    manifest, table = simulated(tmp_path)
    return Study.of(table, manifest, "GTV")


def test_a_study_has_sites_outcome_covariates_and_an_arm_for_each_label(study):
    assert (len(study.cases), study.sites) == (60, ("GE", "Philips", "Siemens"))
    assert list(study.arms) == ["before", "after"]
    assert study.arms["before"].shape == (60, len(FEATURES))
    assert study.covariates["age"].dtype == float
    assert set(study.covariates["sex"]) == {"M", "F"}
    assert set(study.outcome) == {True, False}
    assert set(study.classes) == {"firstorder", "glcm"}
    assert study.notes == ()


def test_cases_without_every_arm_are_left_out_and_named(tmp_path):
    manifest, table = simulated(tmp_path)
    rows = [row for row in table.rows if (row.case, row.label) != ("GE-3", "after")]
    rows.append(dataclasses.replace(rows[0], case="stranger"))
    study = Study.of(dataclasses.replace(table, rows=tuple(rows)), manifest)
    assert "GE-3" not in study.cases
    assert len(study.cases) == 59
    assert any("GE-3" in note for note in study.notes)
    assert any("stranger" in note for note in study.notes)


def test_the_baseline_comes_first_whatever_the_order_of_the_rows(tmp_path):
    manifest, table = simulated(tmp_path)
    study = Study.of(dataclasses.replace(table, rows=table.rows[::-1]), manifest)
    assert list(study.arms) == ["before", "after"]
    assert study.cases[0] == "GE-0"


def test_what_does_not_fit_is_refused_in_words(tmp_path):
    manifest, table = simulated(tmp_path)
    with pytest.raises(InputError, match="no structure 'liver'; name one of: 'GTV'"):
        Study.of(table, manifest, "liver")
    twice = dataclasses.replace(table, rows=(*table.rows, table.rows[0]))
    with pytest.raises(InputError, match="two rows for case 'GE-0', 'before', 'GTV'"):
        Study.of(twice, manifest)
    two = tuple(dataclasses.replace(row, structure="liver") for row in table.rows)
    with pytest.raises(InputError, match="several structures"):
        Study.of(dataclasses.replace(table, rows=(*table.rows, *two)), manifest)
    others = tuple(dataclasses.replace(row, case=f"x{row.case}") for row in table.rows)
    with pytest.raises(InputError, match="case names of both files"):
        Study.of(dataclasses.replace(table, rows=others), manifest)


def test_combat_makes_an_arm_of_each_image_arm_with_covariates_and_warnings(study):
    found = study.with_combat(keep=("age", "sex"))
    assert list(found.arms) == ["before", "after", "before, ComBat", "after, ComBat"]
    covariates = {name: study.covariates[name] for name in ("age", "sex")}
    own = ComBat(continuous=("age",), categorical=("sex",)).fit(study.arms["after"], study.site, covariates)
    assert np.array_equal(found.arms["after, ComBat"], own.transform(study.arms["after"], study.site, covariates))
    warnings = ComBat().fit(study.arms["after"][:45], study.site[:45]).warnings_
    few = study.of_scans(np.arange(60) < 45).with_combat()
    assert warnings
    assert {f"after, ComBat: {text}" for text in warnings} <= set(few.notes)


def test_a_second_harmonizer_starts_from_the_images_too(study):
    found = study.with_combat().with_harmonizer("z-score", ScannerZScore)
    assert list(found.arms)[-2:] == ["before, z-score", "after, z-score"]


def test_the_outcome_and_unknown_columns_cannot_be_kept(study):
    with pytest.raises(InputError, match="outcome cannot be kept"):
        study.with_combat(keep=("outcome",))
    with pytest.raises(InputError, match="no column weight; it has: age, sex"):
        study.with_combat(keep=("weight",))


def test_inside_a_fold_test_scans_do_not_change_what_was_learnt(study):
    use = np.ones(len(FEATURES), bool)
    use[3] = False
    train, test = np.arange(0, 60, 2), np.arange(1, 60, 2)
    found = study.with_combat(keep=("age",))
    known, new = found.in_folds("before, ComBat", use)(train, test)
    assert known.shape == new.shape == (30, len(FEATURES) - 1)
    arms = dict(study.arms)
    arms["before"] = study.arms["before"].copy()
    arms["before"][test] *= 3
    again, other = (
        dataclasses.replace(study, arms=arms).with_combat(keep=("age",)).in_folds("before, ComBat", use)(train, test)
    )
    assert np.array_equal(known, again)
    assert not np.allclose(new, other)
    plain, _ = found.in_folds("before", use)(train, test)
    assert np.array_equal(plain, study.arms["before"][train][:, use])


def test_logarithms_are_for_positive_skewed_features_and_come_back_in_units(study):
    rng = np.random.default_rng(1)
    values = study.arms["before"].copy()
    values[:, 0] = np.exp(rng.normal(size=60) + (study.site == "GE"))  # multiplied by a scanner
    values[:, 1] = -values[:, 0]  # skewed, and negative
    study = dataclasses.replace(study, arms={"before": values})
    assert study.skewed_features().tolist() == [True] + [False] * (len(FEATURES) - 1)
    harmonized = study.with_combat(shrinkage="none", logarithms=True).arms["before, ComBat"]
    assert np.all(harmonized[:, 0] > 0)
    log = np.log(harmonized[:, 0])
    assert np.ptp([log[study.site == site].mean() for site in study.sites]) < 1e-9
    plain = study.with_combat(shrinkage="none").arms["before, ComBat"]
    assert np.allclose(harmonized[:, 1:], plain[:, 1:])


def test_logarithms_of_nothing_change_nothing(study):
    wrapped = InLogarithms(ComBat(), np.zeros(len(FEATURES), bool)).fit(study.arms["before"], study.site)
    plain = ComBat().fit(study.arms["before"], study.site)
    values = study.arms["before"], study.site
    assert np.array_equal(wrapped.transform(*values), plain.transform(*values))
    assert wrapped.warnings_ == plain.warnings_


def test_small_sites_are_left_out_and_named(study):
    few = study.of_scans(np.arange(60) < 42)
    left = few.with_sites_of(3)
    assert left.sites == ("GE", "Philips")
    assert any("Siemens (2)" in note for note in left.notes)
    assert few.with_sites_of(2) is few


def test_any_table_with_one_row_a_case_is_read(tmp_path):
    lines = [{"case": f"P{i}", "site": "ab"[i % 2], "age": 60 + i} for i in range(6)]
    manifest = Manifest.read(write_manifest(tmp_path / "manifest.csv", lines), images=False)
    table = tmp_path / "table.tsv"
    rows = [f"P{i}\tx\t{i}.5\t{'#DIV/0!' if i == 2 else i}\t99\tn/a" for i in range(6)]
    table.write_text("\n".join(["SubjectID\tsite\tT1_GLCM_Energy\tvolume\tage\trater", *rows]) + "\n")
    study = Study.of(read_features(table, manifest), manifest)
    assert study.features == ("T1_GLCM_Energy", "volume")  # age is the manifest's, a rater is no number
    assert study.classes == ("glcm", "other")
    assert study.arms["before"][1].tolist() == [1.5, 1.0]
    assert np.isnan(study.arms["before"][2, 1])
    assert study.comparable_features().tolist() == [True, False]
    assert any("'rater'" in note for note in study.notes)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("case,f\nP0,1\nP0,2\n", "several rows for 'P0'"),
        ("case,f\nP0,1\nP1\n", "line 3 has another number of cells"),
        ("case,f\n", "no rows"),
        ("case,f\nP0,word\nP1,other\n", "no column of numbers"),
    ],
)
def test_tables_that_cannot_be_used_say_why(tmp_path, text, reason):
    lines = [{"case": "P0", "site": "a"}, {"case": "P1", "site": "b"}]
    manifest = Manifest.read(write_manifest(tmp_path / "manifest.csv", lines), images=False)
    table = tmp_path / "table.csv"
    table.write_text(text)
    with pytest.raises(InputError, match=reason):
        read_features(table, manifest)
    with pytest.raises(InputError, match="cannot be read"):
        read_features(tmp_path / "nothing.csv", manifest)


def test_combat_that_cannot_be_fitted_leaves_the_study_and_says_so(study):
    doubled = dataclasses.replace(study, covariates={"scanner": study.site, "one": np.full(60, "x")})
    found = doubled.with_combat(keep=("scanner",))
    assert list(found.arms) == ["before", "after"]
    assert any(note.startswith("without ComBat that keeps scanner: the covariates follow") for note in found.notes)
    assert any("batch Siemens has one scan" in n for n in study.of_scans(np.arange(60) < 41).with_combat().notes)
    assert any("one site" in note for note in study.of_scans(study.site == "GE").with_combat().notes)
    assert any("the same in every scan" in note for note in doubled.with_combat(keep=("one",)).notes)


@pytest.mark.parametrize("slip", ["1,5", "n/a", "6O"])
def test_a_slip_in_a_column_of_numbers_is_no_category(tmp_path, slip):
    _, table = simulated(tmp_path)
    text = (tmp_path / "manifest.csv").read_text().splitlines()
    cells = text[5].split(",")
    cells[3] = f'"{slip}"'
    (tmp_path / "manifest.csv").write_text("\n".join([*text[:5], ",".join(cells), *text[6:]]))
    study = Study.of(table, Manifest.read(tmp_path / "manifest.csv", images=False))
    with pytest.raises(InputError, match=rf"'age' is to be kept and holds numbers, but not '{slip}' of case 'GE-4'"):
        study.with_combat(keep=("age",))
    assert "before, ComBat" in study.with_combat(keep=("sex",)).arms  # what is not kept may hold anything


def test_an_empty_cell_of_a_kept_column_is_named(study):
    age = study.covariates["age"].copy()
    age[7] = np.nan
    with pytest.raises(InputError, match="empty for 'GE-7'"):
        dataclasses.replace(study, covariates={"age": age}).with_combat(keep=("age",))


def test_scans_of_several_modalities_are_no_study(tmp_path):
    _, table = simulated(tmp_path)
    lines = [{"case": f"GE-{i}", "site": "GE", "modality": "MR" if i else "CT"} for i in range(20)]
    mixed = Manifest.read(write_manifest(tmp_path / "mixed.csv", lines), images=False)
    with pytest.raises(InputError, match="CT and MR scans; choose one with --modality"):
        Study.of(table, mixed)


def test_a_person_is_named_by_the_first_column_that_there_is(study):
    assert study.person.tolist() == list(study.cases)
    named = np.array([f"p{i // 2}" for i in range(60)])
    named[3] = ""
    found = dataclasses.replace(study, covariates={"repeat": np.full(60, "x"), "patient": named})
    assert len(set(found.person)) == 31
    assert found.person[2] != found.person[3]
    assert found.people_by_site() == {"GE": 11, "Philips": 10, "Siemens": 10}


def test_the_outcome_is_a_persons(study):
    both = dataclasses.replace(study, covariates={"person": np.repeat([f"p{i}" for i in range(30)], 2)})
    with pytest.raises(InputError, match=r"the outcome is that of a person, and 'p0', .* has scans with 1 and with 0"):
        both.with_outcome()
