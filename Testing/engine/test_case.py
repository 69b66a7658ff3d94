"""A case from a scan to its results, in memory and in a folder."""

import dataclasses
import errno
import json
import os
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from Testing.engine.scans import bits, head

from HarmonizeExtension import case, guard, images
from HarmonizeExtension.errors import Cancelled, InputError, OutputError, RefusedError
from HarmonizeExtension.files import writing
from HarmonizeExtension.methods.preparation import BiasFieldCorrection, Resampling
from HarmonizeExtension.methods.statistical import WhiteStripe, ZScore
from HarmonizeExtension.scan import Modality

MARKED = {"reference": "white matter", "protected": ["GTV"], "measured": ["GTV", "brain"]}


@pytest.fixture(scope="module")
def result():
    return case.run(head().with_roles(**MARKED), WhiteStripe())


def refused(result):
    check = guard.Check("edges", 0.1, guard.Status.REFUSE, "edges are not where they were")
    return dataclasses.replace(result, verdict=guard.Verdict((check,)))


def listing(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_a_case_measures_before_and_after_on_the_grid_of_the_scan(result):
    assert bits(result.after.image) == bits(result.before.image)
    rows = [(row.label, row.structure) for row in result.features.rows]
    assert sorted(rows) == sorted((label, name) for label in ("before", "after") for name in ("brain", "GTV"))
    assert set(result.seconds) == {"harmonize", "guard", "radiomics"}
    assert all(value >= 0 for value in result.seconds.values())


def test_steps_come_first_and_a_new_grid_moves_the_comparison():
    scan = head().with_roles(**MARKED)
    stepped = case.run(scan, ZScore(), [BiasFieldCorrection(), Resampling((2.0, 2.0, 2.0))])
    assert [entry["method"] for entry in stepped.after.provenance] == ["n4", "resampling", "zscore"]
    assert stepped.before.spacing_mm == stepped.after.spacing_mm == (2.0, 2.0, 2.0)
    assert "prepare" in stepped.seconds
    corrected = case.run(scan, ZScore(), [BiasFieldCorrection()])
    assert corrected.before is scan


def test_progress_rises_and_the_case_stops_wherever_it_is_asked():
    fractions = []
    scan = head().with_roles(**MARKED)
    case.run(scan, WhiteStripe(), [BiasFieldCorrection()], progress=lambda f, text: fractions.append(f))
    assert np.all(np.diff(fractions) > -1e-9)
    assert fractions[-1] == 1
    for stop_at in (0.0, 0.2, 0.4, 0.56, 0.7):
        seen = []
        with pytest.raises(Cancelled):
            case.run(
                scan,
                WhiteStripe(),
                [BiasFieldCorrection()],
                progress=lambda f, text, seen=seen: seen.append(f),
                cancelled=lambda seen=seen, stop_at=stop_at: bool(seen) and seen[-1] >= stop_at,
            )


def test_a_scan_that_does_not_fit_is_refused_before_its_steps():
    with pytest.raises(InputError, match="is for MR"):
        case.run(dataclasses.replace(head(), modality=Modality.CT), ZScore(), [BiasFieldCorrection()])


def test_results_read_back(result, tmp_path):
    paths = case.write(result, tmp_path / "out", suffix=".nrrd")
    assert set(listing(tmp_path / "out")) == {path.name for path in paths.values()}
    volume = sitk.ReadImage(str(paths["volume"]))
    assert images.same_grid(volume, result.after.image)
    assert np.array_equal(sitk.GetArrayFromImage(volume), result.after.array)
    verdict = json.loads(paths["verdict"].read_text())
    assert verdict["status"] == result.verdict.status.value
    assert verdict["provenance"][-1]["protected"] == ["GTV"]
    assert result.after.name in paths["report"].read_text()


def test_a_refused_result_takes_the_place_of_an_earlier_one(result, tmp_path):
    case.write(result, tmp_path)
    (tmp_path / "notes.txt").write_text("of the user")
    with pytest.raises(RefusedError) as caught:
        case.write(refused(result), tmp_path)
    assert caught.value.verdict.status is guard.Status.REFUSE
    assert set(listing(tmp_path)) == {"verdict.json", "report.html", "notes.txt"}
    insisted = case.write(refused(result), tmp_path, insist=True)
    assert insisted["volume"].name == "REFUSED_harmonized.nii.gz"
    case.write(result, tmp_path, suffix=".mha")
    wanted = {"verdict.json", "report.html", "features.csv", "harmonized.mha", "notes.txt"}
    assert set(listing(tmp_path)) == wanted


@pytest.mark.parametrize("fails", ["write_json", "write_text", "write_image", "to_csv", "rename"])
@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "full"), KeyboardInterrupt()])
def test_whatever_fails_the_folder_holds_what_it_held(result, tmp_path, monkeypatch, fails, error):
    case.write(refused(result), tmp_path, insist=True)
    (tmp_path / "notes.txt").write_text("of the user")
    before = listing(tmp_path)

    def fail(*_, **__):
        raise error

    if fails == "rename":
        real, moved = os.replace, []

        def rename(source, place):
            if Path(source).parent.suffix == ".new" and Path(place).parent == tmp_path:
                moved.append(place)
                if len(moved) == 3:  # two files are in their place already
                    raise error
            real(source, place)

        monkeypatch.setattr(writing.os, "replace", rename)
    elif fails == "to_csv":
        monkeypatch.setattr(type(result.features), "to_csv", fail)
    else:
        monkeypatch.setattr(case, fails, fail)
    expected = OutputError if isinstance(error, OSError) else type(error)
    with pytest.raises(expected):
        case.write(result, tmp_path)
    assert listing(tmp_path) == before
    assert {path.name for path in tmp_path.iterdir()} == set(before)


def test_a_folder_in_the_place_of_a_result_is_an_error_that_names_it(result, tmp_path):
    case.write(result, tmp_path)
    (tmp_path / "report.html").unlink()
    (tmp_path / "report.html").mkdir()
    before = listing(tmp_path)
    with pytest.raises(OutputError, match=str(tmp_path)):
        case.write(result, tmp_path)
    assert listing(tmp_path) == before
