"""`harmonize evaluate`: tables in the terminal and in JSON, files with --out, and sentences for what does not fit."""

import json

import numpy as np
import pytest
import SimpleITK as sitk

from Testing.cli.harmonize import harmonize, listing
from Testing.engine.evaluation.studies import simulated, write_manifest

from HarmonizeExtension.files.manifest import Manifest


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    """A folder with manifest.csv and features.csv."""
    folder = tmp_path_factory.mktemp("cohort")
    _, table = simulated(folder)
    table.to_csv(folder / "features.csv")
    return folder


def test_the_table_is_printed_and_nothing_written(cohort):
    before = listing(cohort)
    run = harmonize("evaluate", "site-effect", cohort / "manifest.csv", "--keep", "age")
    assert run.returncode == 0, run.stderr
    assert "after, ComBat" in run.stdout
    assert "KS, BH (%)" in run.stdout
    assert listing(cohort) == before


def test_tables_and_figures_are_written_and_answered_in_json(cohort, tmp_path):
    run = harmonize("evaluate", "overlap", cohort / "manifest.csv", "--out", tmp_path / "out", "--json")
    assert run.returncode == 0, run.stderr
    answer = json.loads(run.stdout)
    assert [table["name"] for table in answer["tables"]] == ["overlap-all-pairs", "overlap"]
    assert set(answer["files"]) == set(listing(tmp_path / "out"))
    assert "overlap-by-class.svg" in answer["files"]


def test_a_plain_table_is_evaluated(cohort, tmp_path):
    rows = [line.split(",") for line in (cohort / "manifest.csv").read_text().split()[1:]]
    wide = ["SubjectID,f,g"] + [f"{row[0]},{n % 7},{n % 5 + 9 * (row[1] == 'GE')}" for n, row in enumerate(rows)]
    (tmp_path / "wide.csv").write_text("\n".join(wide))
    run = harmonize("evaluate", "site-effect", cohort / "manifest.csv", "--features", tmp_path / "wide.csv")
    assert run.returncode == 0, run.stderr
    assert "2 of 2 features" in run.stdout


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("nonsense", "manifest.csv"), "image-quality"),
        (("site-effect", "nothing.csv"), "cannot be read"),
        (("site-effect", "manifest.csv", "--structure", "liver"), "name one of: 'GTV'"),
        (("site-effect", "manifest.csv", "--keep", "weight"), "no column weight"),
        (("liver-noise", "manifest.csv"), "no column 'image'"),
        (("site-effect", "manifest.csv", "--features", "manifest.csv"), "no column of numbers"),
        (("nonsense", "manifest.csv"), "mri-benchmark"),
        (("liver-noise", "manifest.csv", "--keep", "age"), "--keep has no part in 'liver-noise'"),
        (("image-quality", "manifest.csv", "--logarithms"), "--logarithms has no part"),
        (("site-effect", "manifest.csv", "--people", "3"), "--people has no part in 'site-effect'"),
    ],
)
def test_what_does_not_fit_is_said_in_a_sentence(cohort, arguments, reason, monkeypatch):
    name, manifest, *more = arguments
    more = [cohort / word if word.endswith(".csv") else word for word in more]
    run = harmonize("evaluate", name, cohort / manifest, *more)
    assert run.returncode == 2
    assert reason in run.stderr
    assert "Traceback" not in run.stderr


def test_options_of_scans_have_no_part_in_the_benchmark():
    run = harmonize("evaluate", "mri-benchmark", "--keep", "age")
    assert run.returncode == 2
    assert "--keep has no part in 'mri-benchmark'" in run.stderr


def test_a_covariate_that_is_the_site_costs_combat_only(cohort, tmp_path):
    lines = (cohort / "manifest.csv").read_text().splitlines()
    lines = [f"{line},{'centre' if i == 0 else line.split(',')[1]}" for i, line in enumerate(lines)]
    (tmp_path / "manifest.csv").write_text("\n".join(lines))
    given = ("--features", cohort / "features.csv", "--keep", "centre", "--json")
    run = harmonize("evaluate", "site-effect", tmp_path / "manifest.csv", *given)
    assert run.returncode == 0, run.stderr
    answer = json.loads(run.stdout)
    assert [row[0] for row in answer["tables"][0]["rows"]] == ["before", "after"]
    assert any(note.startswith("without ComBat that keeps centre") for note in answer["notes"])


def image_of(array, path):
    image = sitk.GetImageFromArray(array.astype(np.float32))
    image.SetSpacing((3.0, 3.0, 3.0))
    sitk.WriteImage(image, str(path))
    return path.name


@pytest.fixture(scope="module")
def livers(tmp_path_factory):
    """The folder of a cohort that was run: livers on a dark scanner and a bright one, and one case that cannot be read.

    Their true images lie in a folder of their own, outside of that of the manifest.
    """
    folder = tmp_path_factory.mktemp("livers")
    (folder / "study").mkdir()
    (folder / "truth").mkdir()
    grid = np.indices((20, 22, 24)) - 11
    liver = (grid**2).sum(axis=0) < 8**2
    rows = []
    for i in range(5):
        generator = np.random.default_rng(i)
        truth = 100.0 * liver + 10 * (np.abs(grid[1]) < 10)
        scan = (truth + 4 * generator.normal(size=truth.shape)) * (1.0, 2.0)[i % 2]
        place = folder / "study"
        rows.append(
            {
                "case": f"P{i}",
                "image": image_of(scan, place / f"P{i}.nii.gz"),
                "segmentation": image_of(liver, place / f"P{i}_liver.nii.gz"),
                "structure": "liver",
                "modality": "MR",
                "site": "AB"[i % 2],
                "truth": "../truth/" + image_of(truth, folder / "truth" / f"P{i}.nii.gz"),
            }
        )
    image_of(np.pad(np.ones((1, 1, 1)), ((0, 19), (0, 21), (0, 23))), folder / "study" / "P4_liver.nii.gz")
    manifest = write_manifest(folder / "study" / "manifest.csv", rows)
    given = ("--method", "histogram-matching", "--target", folder / "study" / "P0.nii.gz", "--outside")
    run = harmonize("cohort", manifest, *given, "--out", folder / "out", "--json")
    assert json.loads(run.stdout)["failed"], run.stdout + run.stderr
    return folder / "out"


def test_the_manifest_of_a_cohort_names_what_was_made(livers):
    entries = Manifest.read(livers / "manifest.csv", outside=True).entries
    made = [livers / "cases" / f"P{i}" / "harmonized.nii.gz" for i in range(4)]
    assert [entry.harmonized for entry in entries] == [*made, None]


def test_what_a_cohort_made_is_the_arm_after(livers):
    run = harmonize("evaluate", "liver-noise", livers / "manifest.csv", "--outside", "--json")
    assert run.returncode == 0, run.stderr
    table = json.loads(run.stdout)["tables"][0]
    assert {tuple(row[:3]) for row in table["rows"]} == {(arm, site, 2) for arm in ("before", "after") for site in "AB"}
    run = harmonize("evaluate", "image-quality", livers / "manifest.csv", "--outside", "--json")
    assert run.returncode == 0, run.stderr
    table = json.loads(run.stdout)["tables"][1]
    error = {(row[0], row[3]): row[table["header"].index("NRMSE")] for row in table["rows"] if row[2] == "liver"}
    assert error["P1", "after"] < error["P1", "before"] / 3
    # The case that failed is in neither arm.
    assert {case for case, _ in error} == {"P0", "P1", "P2", "P3"}
    assert "left out, without a harmonized image: P4" in json.loads(run.stdout)["notes"]


def test_true_images_elsewhere_are_an_error_with_their_line_unless_allowed(livers):
    run = harmonize("evaluate", "image-quality", livers.parent / "study" / "manifest.csv")
    assert run.returncode == 2
    assert "line 6: '../truth/P4.nii.gz' leads out" in run.stderr
