"""A cohort by one command: what it writes, what it says of what fails, and how it continues when it was killed."""

import csv
import fcntl
import json
import os
import re
import resource
import shutil
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest

from Testing.cli.harmonize import ROOT, command, harmonize, listing
from Testing.engine.scans import grid, head

from HarmonizeExtension import cohort as cohort_module
from HarmonizeExtension import cohort_report
from HarmonizeExtension.cohort import Cohort
from HarmonizeExtension.errors import InputError
from HarmonizeExtension.files.manifest import Manifest
from HarmonizeExtension.files.writing import write_image
from HarmonizeExtension.radiomics.table import FeatureTable
from HarmonizeExtension.recipe import Recipe

COLUMNS = ("case", "image", "segmentation", "structure", "modality", "site", "age", "outcome")
SMALL = grid(size=(24, 26, 18), spacing=(1.6, 1.6, 2.4))
PEOPLE = 10


def scanned(folder, number):
    """One person on scanner A or B; B is brighter and noisier. Returns the line of the manifest."""
    scanner = "AB"[number % 2]
    scan = head(SMALL, seed=number, noise=(3.0, 9.0)[number % 2])
    image = scan.with_array(scan.array * (1.0, 1.7)[number % 2]).image
    write_image(image, folder / f"{number}.nii.gz")
    write_image(scan.structures["GTV"].mask, folder / f"{number}_mask.nii.gz")
    return {
        "case": f"P{number:02d}",
        "image": f"{number}.nii.gz",
        "segmentation": f"{number}_mask.nii.gz",
        "structure": "GTV",
        "modality": "MR",
        "site": scanner,
        "age": str(40 + 3 * number),
        "outcome": str(number // 2 % 2),
    }


def write_manifest(folder, lines, name="manifest.csv"):
    with open(folder / name, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(lines)
    return folder / name


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """A folder with the manifest of ten people on two scanners."""
    folder = tmp_path_factory.mktemp("study")
    write_manifest(folder, [scanned(folder, number) for number in range(PEOPLE)])
    return folder


def words(study, out, *more, manifest="manifest.csv", target="0.nii.gz"):
    given = ("--method", "histogram-matching", "--target", study / target, "--protect", "GTV", "--keep", "age")
    return ("cohort", study / manifest, *given, "--out", out, *more)


@pytest.fixture(scope="module")
def whole(study, tmp_path_factory):
    """The folder of a run that nothing disturbed, with one process."""
    out = tmp_path_factory.mktemp("whole") / "out"
    run = harmonize(*words(study, out))
    assert run.returncode == 0, run.stderr
    return out


def rows_of(path):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_what_a_cohort_leaves(study, whole):
    files = set(listing(whole))
    assert {"report.html", "cases.csv", "manifest.csv", "features.csv", "cohort.json"} <= files
    for number in range(PEOPLE):
        case = f"cases/P{number:02d}"
        assert {f"{case}/{name}" for name in ("harmonized.nii.gz", "verdict.json", "report.html", "case.json")} <= files
    assert {f"evaluation/GTV/{name}.csv" for name in ("site-effect", "overlap", "site-prediction")} <= files
    cases = rows_of(whole / "cases.csv")
    assert [row["case"] for row in cases] == [f"P{number:02d}" for number in range(PEOPLE)]
    assert {row["status"] for row in cases} == {"pass"}
    features = FeatureTable.from_csv(whole / "features.csv")
    assert len(features.rows) == 2 * PEOPLE
    assert {row.label for row in features.rows} == {"before", "after"}
    copied = Manifest.read(whole / "manifest.csv", outside=True)
    assert [entry.image.resolve() for entry in copied.entries] == [
        (study / f"{number}.nii.gz").resolve() for number in range(PEOPLE)
    ]


def test_the_report_says_how_it_went_and_needs_no_network(whole):
    page = (whole / "report.html").read_text(encoding="utf-8")
    for text in ("10 pass", "A (5), B (5)", "Histogram matching", "before, ComBat", "after, ComBat", "keeping age"):
        assert text in page, text
    assert "not for dose calculation" in page
    assert "href='cases/P03/report.html'" in page
    assert not re.search(r"""(?:src|href)\s*=\s*["'](?:https?:|//)""", page)
    assert "<script" not in page


def test_harmonization_brings_the_scanners_together(whole):
    """Histogram matching the grey levels, ComBat all features (texture keeps the noise of the louder scanner)."""
    features = FeatureTable.from_csv(whole / "features.csv")
    means = {(row.case, row.label): row.values["original_firstorder_Mean"] for row in features.rows}
    gaps = {}
    for label in ("before", "after"):
        a, b = ([means[f"P{n:02d}", label] for n in range(PEOPLE) if n % 2 == scanner] for scanner in (0, 1))
        gaps[label] = abs(np.mean(a) - np.mean(b)) / np.mean(a)
    assert gaps["after"] < 0.1 * gaps["before"]
    table = {row["arm"]: row for row in rows_of(whole / "evaluation" / "GTV" / "site-effect.csv")}
    explained = {arm: float(row["variance between sites (%)"]) for arm, row in table.items()}
    assert list(explained) == ["before", "after", "before, ComBat", "after, ComBat"]
    for arm in ("before", "after"):
        assert explained[f"{arm}, ComBat"] < 0.5 * explained[arm]


def test_evaluate_takes_the_folder_of_a_cohort(whole):
    run = harmonize("evaluate", "site-effect", whole / "manifest.csv")
    assert run.returncode == 0, run.stderr
    assert "before" in run.stdout
    assert "after" in run.stdout


def test_two_processes_write_the_same_bytes(study, whole, tmp_path):
    out = tmp_path / "out"
    # The copied manifest holds paths relative to its folder, so both lie equally deep.
    assert harmonize(*words(study, out, "--processes", 2)).returncode == 0
    assert same_but_paths(listing(out), listing(whole))


def same_but_paths(one: dict, other: dict, *more: str) -> bool:
    """Equal to the last bit; the files that name paths may differ in where the folders lie."""
    named = {"manifest.csv", "cohort.json", *more}
    return set(one) == set(other) and all(one[name] == other[name] for name in set(one) - named)


@pytest.mark.slow
def test_a_run_that_is_killed_again_and_again_ends_with_the_same_bytes(study, whole, tmp_path):
    out, rng, done = tmp_path / "out", np.random.default_rng(7), 0
    kills = 0
    while done < PEOPLE - 1 and kills < 30:
        process = subprocess.Popen(
            command(*words(study, out, "--processes", 2)), cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        wanted = done + int(rng.integers(1, 4))
        while process.poll() is None and finished(out) < wanted:
            time.sleep(0.01)
        time.sleep(rng.uniform(0, 0.2))
        process.send_signal(signal.SIGKILL)
        process.wait()
        kills, done = kills + 1, finished(out)
    assert kills >= 3
    survivor = max((out / "cases").glob("P*/harmonized.nii.gz"), key=lambda path: path.stat().st_mtime_ns)
    stamp = survivor.stat().st_mtime_ns
    assert harmonize(*words(study, out, "--processes", 2)).returncode == 0
    assert survivor.stat().st_mtime_ns == stamp, "a case that was done was done again"
    assert same_but_paths(listing(out), listing(whole))


def finished(out) -> int:
    return len(list((out / "cases").glob("P*")))


@pytest.mark.slow
def test_a_dask_cluster_that_loses_a_worker_writes_the_same_bytes(study, whole, tmp_path):
    distributed = pytest.importorskip("distributed", reason="dask.distributed is not installed")
    folder = shutil.copytree(study, tmp_path / "study")
    shutil.rmtree(folder / "out", ignore_errors=True)
    out = folder / "out"
    with distributed.LocalCluster(2, threads_per_worker=1, processes=True, dashboard_address=None) as cluster:
        pids = [nanny.pid for nanny in cluster.workers.values()]
        process = subprocess.Popen(
            command(*words(Path("."), Path("out"), "--scheduler", cluster.scheduler_address)),
            cwd=folder,  # not that of the workers
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        while finished(out) < 3:
            assert process.poll() is None, process.stdout.read()
            time.sleep(0.02)
        os.kill(pids[0], signal.SIGKILL)
        assert finished(out) < PEOPLE, "it was killed too late to matter"
        answer, _ = process.communicate(timeout=120)
        assert process.returncode == 0, answer
    # The report names folder and target as they were typed.
    assert same_but_paths(listing(out), listing(whole), "report.html")


def test_ctrl_c_keeps_what_is_done(study, whole, tmp_path):
    out = tmp_path / "out"
    process = subprocess.Popen(
        command(*words(study, out)),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A shell lets what it starts in the background ignore Ctrl-C, these tests and their children too.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    while finished(out) < 2:
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "interrupted" in errors
    kept = finished(out)
    assert 2 <= kept < PEOPLE
    assert harmonize(*words(study, out)).returncode == 0
    assert same_but_paths(listing(out), listing(whole))


@pytest.fixture
def other(study, tmp_path):
    """A copy of three of the people, to be changed."""
    folder = tmp_path / "other"
    folder.mkdir()
    lines = [scanned(folder, number) for number in range(3)]
    write_manifest(folder, lines)
    return folder


def test_a_case_that_fails_is_reported_and_tried_again(other, tmp_path):
    good = (other / "1.nii.gz").read_bytes()
    (other / "1.nii.gz").write_bytes(good[: len(good) // 2])  # a download that broke off: its header is whole
    out = tmp_path / "out"
    run = harmonize(*words(other, out))
    assert run.returncode == 2
    assert "P01: " in run.stdout
    assert [row["status"] for row in rows_of(out / "cases.csv")] == ["pass", "failed", "pass"]
    assert "P01" in (out / "report.html").read_text(encoding="utf-8")
    assert set(listing(out / "cases" / "P01")) == {"case.json"}
    (other / "1.nii.gz").write_bytes(good)
    assert harmonize(*words(other, out)).returncode == 0
    assert [row["status"] for row in rows_of(out / "cases.csv")] == ["pass"] * 3


def test_a_case_whose_files_changed_is_done_again(other, tmp_path):
    out = tmp_path / "out"
    assert harmonize(*words(other, out)).returncode == 0
    stamps = {path: path.stat().st_mtime_ns for path in (out / "cases").glob("*/case.json")}
    before = rows_of(out / "features.csv")
    write_image(head(SMALL, seed=77).image, other / "2.nii.gz")
    assert harmonize(*words(other, out)).returncode == 0
    again = {path.parent.name for path, stamp in stamps.items() if path.stat().st_mtime_ns != stamp}
    assert again == {"P02"}
    after = rows_of(out / "features.csv")
    assert [a != b for a, b in zip(before, after, strict=True)] == [False] * 4 + [True] * 2


def test_another_recipe_or_a_folder_of_something_else_is_refused(other, tmp_path):
    out = tmp_path / "out"
    assert harmonize(*words(other, out)).returncode == 0
    before = listing(out)
    run = harmonize("cohort", other / "manifest.csv", "--method", "zscore", "--out", out)
    assert run.returncode == 2
    assert "method was histogram-matching, now zscore" in run.stderr
    shutil.copy(other / "1.nii.gz", other / "0.nii.gz")  # the target is another image now
    run = harmonize(*words(other, out))
    assert run.returncode == 2
    assert "run otherwise (another target)" in run.stderr
    assert listing(out) == before
    run = harmonize(*words(other, other))
    assert run.returncode == 2
    assert "choose an empty one" in run.stderr


def test_a_folder_of_somebody_else_stays_as_it_is(other, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    before = listing(tmp_path)
    assert harmonize(*words(other, tmp_path)).returncode == 2
    assert {name: data for name, data in listing(tmp_path).items() if not name.startswith("other")} == {
        name: data for name, data in before.items() if not name.startswith("other")
    }


def test_the_same_recipe_from_another_place_continues(other, tmp_path):
    """Paths may be written otherwise, and results be missing: what is gone is made again."""
    out = tmp_path / "out"
    assert harmonize(*words(other, out)).returncode == 0
    before = listing(out)
    (out / "cases" / "P01" / "harmonized.nii.gz").unlink()
    (out / "cases" / "P02" / "features.json").write_text("{")
    run = subprocess.run(
        command("cohort", "manifest.csv", "--method", "histogram-matching", "--target", "0.nii.gz", "--protect", "GTV",
                "--keep", "age", "--out", "../out"),
        cwd=other, capture_output=True, text=True, timeout=120, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert run.returncode == 2
    assert "delete the folder of that case" in run.stderr
    shutil.rmtree(out / "cases" / "P02")
    assert harmonize(*words(other, out)).returncode == 0
    assert same_but_paths(listing(out), before)


def test_structures_whose_names_are_alike_have_folders_of_their_own(other, tmp_path):
    lines = rows_of(other / "manifest.csv")
    for line in lines:
        shutil.copy(other / line["segmentation"], other / f"{line['case']}_GTV_a.nii.gz")
        (other / f"{line['case']}_GTV_a.json").write_text('{"1": "GTV?a"}')
        line["segmentation"] = f"{line['case']}_GTV_a.nii.gz;{line['case']}_b.nii.gz"
        line["structure"] = ""
        shutil.copy(other / f"{line['case']}_GTV_a.nii.gz", other / f"{line['case']}_b.nii.gz")
        (other / f"{line['case']}_b.json").write_text(json.dumps({"1": "gtv_a", "2": "L" * 300}))
    write_manifest(other, lines)
    out = tmp_path / "out"
    run = harmonize("cohort", other / "manifest.csv", "--method", "zscore", "--out", out)
    assert run.returncode == 0, run.stderr
    assert cohort_report._folder_names(["GTV?a", "gtv_a", "L" * 300]) == ["GTV_a", "gtv_a (2)", "L" * 60]
    # A name that changed in the file beside the label map is another input.
    (other / "P01_b.json").write_text('{"1": "CTV"}')
    assert harmonize("cohort", other / "manifest.csv", "--method", "zscore", "--out", out).returncode == 0
    names = {row["structure"] for row in rows_of(out / "features.csv") if row["case"] == "P01"}
    assert names == {"GTV?a", "CTV"}


def test_pet_without_units_is_found_before_the_work(other, tmp_path):
    lines = rows_of(other / "manifest.csv")
    write_manifest(other, [{**line, "modality": "PET"} for line in lines])
    run = harmonize("cohort", other / "manifest.csv", "--method", "resolution-matching", "--target", "8",
                    "--out", tmp_path / "out")  # fmt: skip
    assert run.returncode == 2
    assert "line 2, 3, 4" in run.stderr
    assert not (tmp_path / "out").exists()


def test_two_runs_do_not_share_a_folder(other, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    with open(out / cohort_module.LOCK, "wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        run = harmonize(*words(other, out))
    assert run.returncode == 2
    assert "another run is at work" in run.stderr


def test_a_folder_that_takes_no_more_stops_the_run_cleanly(other, tmp_path):
    """A limit on the size of files stands for the full disk."""
    out = tmp_path / "out"
    run = harmonize(*words(other, out), preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (15_000, 15_000)))
    assert run.returncode == 4
    assert "could not be written" in run.stderr
    assert not list((out / "cases").iterdir())
    assert harmonize(*words(other, out)).returncode == 0
    assert {row["status"] for row in rows_of(out / "cases.csv")} == {"pass"}


def test_a_folder_that_cannot_be_written(other, tmp_path):
    (tmp_path / "file").write_text("")
    run = harmonize(*words(other, tmp_path / "file"))
    assert run.returncode == 4
    assert "is a file, not a folder" in run.stderr


@pytest.mark.parametrize(
    ("more", "text"),
    [
        (("--keep", "weight"), "no column 'weight'"),
        (("--processes", "0"), "0 processes"),
        (("--reference", "liver"), "no structure named liver"),
        (("--modality", "CT"), "no CT scan"),
        (("--scheduler", "tcp://127.0.0.1:9"), "no dask scheduler"),
    ],
)
def test_what_does_not_fit_is_said(other, tmp_path, more, text):
    run = harmonize(*words(other, tmp_path / "out", *more))
    assert run.returncode == 2
    assert text in run.stderr + run.stdout


def test_a_program_can_watch_and_stop_it(study, tmp_path):
    out = tmp_path / "out"
    process = subprocess.Popen(
        command(*words(study, out, "--watched", "--json")),
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    fractions = []
    for line in process.stderr:
        if not line.startswith("{"):
            break
        told = json.loads(line)
        fractions.append(told["fraction"])
        if "1 of 10 cases done" in told["text"] and not process.stdin.closed:
            process.stdin.close()
    assert process.wait(timeout=60) == 130
    assert fractions == sorted(fractions)
    assert 1 <= finished(out) < PEOPLE


def test_sites_come_from_the_tags_where_the_manifest_has_none(other, tmp_path):
    lines = rows_of(other / "manifest.csv")
    write_manifest(other, [{**line, "site": ""} for line in lines])
    out = tmp_path / "out"
    assert harmonize(*words(other, out)).returncode == 0
    assert {row["site"] for row in rows_of(out / "manifest.csv")} == {"unknown"}
    assert "fewer than two sites" in (out / "report.html").read_text(encoding="utf-8")


def test_a_cohort_is_loaded_as_it_ended(study, whole):
    manifest = Manifest.read(study / "manifest.csv")
    recipe = Recipe("histogram-matching", str(study / "0.nii.gz"), protected=("GTV",))
    loaded = Cohort.load(whole, manifest, recipe)
    assert loaded.counts() == {"pass": PEOPLE, "review": 0, "refuse": 0, "failed": 0}
    evaluations = cohort_report.evaluate(loaded, ("age",))
    assert [result.protocol for result in evaluations[0].results][:3] == ["site-effect", "overlap", "site-prediction"]
    assert cohort_report.html(loaded, evaluations, ("age",)) == (whole / "report.html").read_text(encoding="utf-8")
    os.rename(whole / "cases" / "P04", whole / "P04")
    try:
        with pytest.raises(InputError, match="lacks P04"):
            Cohort.load(whole, manifest, recipe)
    finally:
        os.rename(whole / "P04", whole / "cases" / "P04")
