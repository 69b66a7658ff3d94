"""The command line as a process: what it answers, its exit codes, its progress bar, and that it can be stopped."""

import csv
import fcntl
import json
import os
import pty
import shutil
import signal
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from Testing.cli.harmonize import ROOT, command, harmonize, listing
from Testing.engine.scans import head

from HarmonizeExtension import images
from HarmonizeExtension.files.writing import write_image
from HarmonizeExtension.methods import catalogue
from HarmonizeExtension.methods.statistical import StandardScale


def on_head(files, *more):
    return ("--volume", files / "head.nii.gz", "--segmentation", files / "GTV.nii.gz", "--modality", "MR", *more)


def test_apply_writes_volume_features_verdict_and_report(files, tmp_path):
    run = harmonize("apply", *on_head(files), "--method", "zscore", "--protect", "GTV", "--out", tmp_path / "out")
    assert run.returncode == 0
    assert run.stderr == ""  # no terminal, no progress bar
    assert set(listing(tmp_path / "out")) == {"harmonized.nii.gz", "features.csv", "verdict.json", "report.html"}
    written = sitk.ReadImage(str(tmp_path / "out" / "harmonized.nii.gz"))
    assert images.same_grid(written, head().image)
    verdict = json.loads((tmp_path / "out" / "verdict.json").read_text())
    assert f"verdict: {verdict['status']}" in run.stdout
    assert verdict["provenance"][-1]["method"] == "zscore"
    with open(tmp_path / "out" / "features.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["label"], row["structure"]) for row in rows] == [("before", "GTV"), ("after", "GTV")]
    for path in ("volume", "features", "verdict", "report"):
        assert f"{path}: {tmp_path / 'out'}" in run.stdout


def test_apply_answers_in_json(files, tmp_path):
    arguments = ("--method", "histogram-matching", "--target", f"{files / 'head1.nii.gz'}", "--n4")
    run = harmonize("apply", *on_head(files), *arguments, "--out", tmp_path / "out", "--json")
    assert run.returncode == 0, run.stderr
    answer = json.loads(run.stdout)
    assert answer["notes"] == []
    assert set(answer["seconds"]) == {"prepare", "harmonize", "guard", "radiomics"}
    assert all(Path(path).is_file() for path in answer["files"].values())


def test_the_same_input_gives_the_same_bytes(files, tmp_path):
    for out in ("one", "two"):
        harmonize("apply", *on_head(files), "--method", "n4", "--out", tmp_path / out)
    one, two = (listing(tmp_path / out) for out in ("one", "two"))
    for name in ("harmonized.nii.gz", "features.csv"):
        assert one[name] == two[name]


def refused_case(files, tmp_path, *more):
    """A scan whose harmonization the guard refuses: the standard scale presses nearly all of it into one grey level."""
    StandardScale((1.0, 90.0, 99.0), (0.0, 0.0, 1.0)).save(tmp_path / "scale")
    volume = ("--volume", files / "head.nii.gz", "--segmentation", files / "white_matter.nii.gz")
    return harmonize("apply", *volume, "--method", "nyul", "--target", tmp_path / "scale", *more)


def test_a_refused_result_leaves_its_verdict_only_and_a_code(files, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "harmonized.nii.gz").write_text("of an earlier case")
    (tmp_path / "out" / "mine.txt").write_text("of somebody else")
    run = refused_case(files, tmp_path, "--out", tmp_path / "out")
    assert run.returncode == 3
    assert run.stderr.startswith("harmonize: the result was refused: ")
    assert set(listing(tmp_path / "out")) == {"verdict.json", "report.html", "mine.txt"}
    insisted = refused_case(files, tmp_path, "--out", tmp_path / "out", "--insist", "--json")
    assert insisted.returncode == 0
    assert json.loads(insisted.stdout)["verdict"] == "refuse"
    kept = {"verdict.json", "report.html", "mine.txt"}
    assert set(listing(tmp_path / "out")) == kept | {"REFUSED_harmonized.nii.gz", "features.csv"}


def test_radiomics_writes_the_table(files, tmp_path):
    arguments = on_head(files)
    run = harmonize("radiomics", *arguments, "--out", tmp_path / "deep" / "table.csv", "--json")
    assert run.returncode == 0, run.stderr
    answer = json.loads(run.stdout)
    assert answer["rows"] == 1
    with open(tmp_path / "deep" / "table.csv", newline="") as file:
        (row,) = csv.DictReader(file)
    assert row["structure"] == "GTV"
    assert len(row) == 3 + answer["features"]


def test_compare_judges_two_volumes(files):
    same = harmonize("compare", *on_head(files), "--after", files / "head.nii.gz", "--json")
    assert same.returncode == 0
    assert json.loads(same.stdout)["verdict"] == "pass"
    other = harmonize("compare", *on_head(files), "--after", files / "GTV.nii.gz")
    assert other.returncode == 3
    assert "verdict: refuse" in other.stdout


def test_fit_makes_a_model_that_apply_takes(files, tmp_path):
    volumes = [files / f"head{n}.nii.gz" for n in ("", 1, 2)]
    run = harmonize("fit", "--volumes", *volumes, "--out", tmp_path / "scale")
    assert run.returncode == 0, run.stderr
    assert "landmarks:" in run.stdout
    applied = harmonize(
        "apply", *on_head(files), "--method", "nyul", "--target", tmp_path / "scale", "--out", tmp_path / "out"
    )
    assert applied.returncode == 0, applied.stderr
    uneven = harmonize("fit", "--volumes", *volumes, "--segmentations", files / "brain.nii.gz", "--out", tmp_path / "x")
    assert uneven.returncode == 2
    assert "3 volumes but 1 segmentations" in uneven.stderr
    assert not (tmp_path / "x").exists()


def test_methods_lists_what_fits():
    run = harmonize("methods", "--json")
    assert {m["name"] for m in json.loads(run.stdout)["methods"]} == {card.name for card in catalogue.cards()}
    text = harmonize("methods", "--modality", "CT").stdout
    assert "kernel-matching" in text
    assert "whitestripe" not in text


def test_usage_errors_and_help():
    assert harmonize("apply").returncode == 2
    assert harmonize().returncode == 2
    assert "Harmonize a scan" in harmonize("apply", "--help").stdout


def test_it_is_installed_as_harmonize():
    program = shutil.which("harmonize", path=Path(sys.executable).parent)
    if program is None:
        pytest.skip("the package is not installed in this environment")
    run = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=60)
    assert run.returncode == 0
    assert run.stdout.strip()


def test_listing_the_methods_imports_nothing_heavy():
    heavy = {"torch", "pandas", "sklearn", "matplotlib", "skimage", "scipy.stats", "scipy.signal"}
    script = (
        f"import sys, HarmonizeExtension.cli as c; c.main(['methods']); print(sorted({heavy!r} & set(sys.modules)))"
    )
    run = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert run.stdout.strip().splitlines()[-1] == "[]"


def test_a_progress_bar_on_a_terminal(files, tmp_path):
    terminal, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("4H", 24, 100, 0, 0))
    arguments = command("apply", *on_head(files), "--method", "zscore", "--out", tmp_path / "out")
    run = subprocess.Popen(arguments, cwd=ROOT, stdout=subprocess.PIPE, stderr=theirs)
    os.close(theirs)
    shown = b""
    while True:
        try:
            chunk = os.read(terminal, 1 << 16)
        except OSError:  # how Linux says that the other side is closed
            break
        if not chunk:
            break
        shown += chunk
    assert run.wait(60) == 0
    os.close(terminal)
    assert b"Reading" in shown
    assert b"%|" in shown
    assert b"%|" not in run.stdout.read()
    run.stdout.close()


def hear_interrupts():
    """A shell that runs the tests in the background has its children ignore Ctrl-C, as it should."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.mark.parametrize("delay_s", [0.0, 0.4])
def test_an_interrupt_leaves_nothing_half_written(files, tmp_path, delay_s):
    """The process is stopped while it works: N4 on a head of twice the size takes longer than the delays."""
    big = images.resample(head().image, images.grid_with_spacing(head().image, (0.35, 0.35, 0.5)), sitk.sitkLinear)
    write_image(big, tmp_path / "big.nii.gz")
    out = tmp_path / "out"
    arguments = ("--volume", tmp_path / "big.nii.gz", "--modality", "MR", "--method", "n4", "--n4", "--out", out)
    run = subprocess.Popen(
        command("apply", *arguments), cwd=ROOT, stderr=subprocess.PIPE, text=True, preexec_fn=hear_interrupts
    )
    deadline = time.monotonic() + 60
    while not out.exists() and time.monotonic() < deadline:  # made when the work begins
        time.sleep(0.01)
    time.sleep(delay_s)
    run.send_signal(signal.SIGINT)
    _, said = run.communicate(timeout=60)
    assert run.returncode == 130, said
    assert said.strip() == "interrupted; nothing was left half-written"
    assert listing(out) == {}
    assert list(out.iterdir()) == []


def test_maps_are_written_with_the_protocol_from_tags_or_from_the_user(tmp_path):
    pytest.importorskip("torch", reason="PyTorch is not installed")
    study = tmp_path / "study"
    run = harmonize("phantom", "brain", "--people", 1, "--scanners", "Siemens 3T", "--spacing", 3, "--out", study)
    assert run.returncode == 0, run.stderr
    scan, brain = (study / "person_001" / name for name in ("Siemens_3T.nii.gz", "brain.nii.gz"))
    given = ("maps", "--volume", scan, "--segmentation", brain, "--out", tmp_path / "maps")
    run = harmonize(*given)
    assert run.returncode == 2
    assert "lacks repetition time" in run.stderr
    run = harmonize(*given, "--source", "TR=2300 TI=900 TE=2.98 FA=9 FIELD=3")
    assert run.returncode == 0, run.stderr
    t1_ms = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "maps" / "t1_ms.nii.gz")))
    inside = sitk.GetArrayFromImage(sitk.ReadImage(str(brain))) != 0
    assert not t1_ms[~inside].any()
    assert 700 < np.quantile(t1_ms[inside], 0.25) < 1200  # white matter at 3 T
