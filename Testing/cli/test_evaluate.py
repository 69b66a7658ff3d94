"""`harmonize evaluate`: tables in the terminal and in JSON, files with --out, and sentences for what does not fit."""

import json

import pytest

from Testing.cli.harmonize import harmonize, listing
from Testing.engine.evaluation.studies import simulated


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
    ],
)
def test_what_does_not_fit_is_said_in_a_sentence(cohort, arguments, reason, monkeypatch):
    name, manifest, *more = arguments
    more = [cohort / word if word.endswith(".csv") else word for word in more]
    run = harmonize("evaluate", name, cohort / manifest, *more)
    assert run.returncode == 2
    assert reason in run.stderr
    assert "Traceback" not in run.stderr
