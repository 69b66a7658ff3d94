"""A manifest is read as it was written, and every problem in it is named with its line before any work starts."""

import csv
import dataclasses
import os
import shutil
import string

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from Testing.engine.scans import head

from HarmonizeExtension.errors import InputError
from HarmonizeExtension.files.manifest import KNOWN, Entry, Manifest
from HarmonizeExtension.files.writing import write_image
from HarmonizeExtension.scan import Acquisition, Modality


@pytest.fixture
def folder(tmp_path):
    """A folder with one image and one mask, in a folder of its own below a parent that holds another image."""
    inner = tmp_path / "study"
    inner.mkdir()
    write_image(head().image, inner / "a.nii.gz")
    write_image(head().structures["GTV"].mask, inner / "a_GTV.nii.gz")
    write_image(head(seed=1).image, tmp_path / "beside.nii.gz")
    return inner


def written(folder, *lines, header="case,image,segmentation,modality,site,age"):
    path = folder / "manifest.csv"
    path.write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")
    return path


def problems(path, **options):
    with pytest.raises(InputError) as caught:
        Manifest.read(path, **options)
    return str(caught.value)


def test_what_a_line_says(folder):
    path = written(
        folder,
        "P1,a.nii.gz,a_GTV.nii.gz,MR,Siemens 3T,63,1,kept",
        "",
        "P2, a.nii.gz ,,mr,GE,58,no,",
        header="case,image,segmentation,modality,site,age,outcome,note",
    )
    first, second = Manifest.read(path).entries
    assert (first.line, second.line) == (2, 4)
    assert first.image == folder / "a.nii.gz"
    assert first.segmentation == (folder / "a_GTV.nii.gz",)
    assert (first.modality, first.site, first.outcome) == (Modality.MR, "Siemens 3T", True)
    assert first.columns == {"age": "63", "note": "kept"}
    assert (second.segmentation, second.modality, second.outcome) == ((), Modality.MR, False)


def test_every_problem_is_listed_with_its_line(folder):
    text = problems(
        written(
            folder,
            "P1,a.nii.gz,a_GTV.nii.gz,MR,A,1",
            "p1,a.nii.gz,,MR,A,1",
            "P2,missing.nii.gz,lost.nii.gz,MR,A,1",
            "P3,a.nii.gz,,XR,A,1",
            "../P4,a.nii.gz,,MR,A,1",
            ",a.nii.gz,,MR,A,1",
            "P5,a.nii.gz,,,A,1",
            "P6,manifest.csv,,MR,A,1",
            "P7,a.nii.gz,,MR,,1",
            "P8,,,MR,A,1",
            "P9,a.nii.gz,MR,A",
            "P10,../beside.nii.gz,,MR,A,1",
        )
    )
    expected = {
        3: "case 'p1' stands in line 2",
        4: "no image",
        5: "modality 'XR'",
        6: "cannot be the name of a folder",
        7: "the case has no name",
        8: "does not say its modality",
        9: "no image file that can be read",
        10: "the site is empty",
        11: "there is no image",
        12: "4 cells, but the header has 6",
        13: "leads out",
    }
    lines = {}
    for line in text.splitlines()[1:]:
        number, _, what = line.strip().removeprefix("line ").partition(": ")
        lines.setdefault(int(number), []).append(what)
    assert set(lines) == set(expected)
    for number, words in expected.items():
        assert any(words in what for what in lines[number]), (number, lines[number])
    assert any("no segmentation" in what for what in lines[4])


@pytest.mark.parametrize(
    ("header", "words"),
    [
        ("image,site", "no column 'case'"),
        ("case,site", "no column 'image'"),
        ("case,image,image", "several columns"),
        ("case,Image,image", "must be written 'image'"),
        ("case,image,", "has no name"),
    ],
)
def test_a_header_that_does_not_fit(folder, header, words):
    text = problems(written(folder, "P1" + "," * header.count(","), header=header))
    assert words in text
    assert str(folder / "manifest.csv") in text


@pytest.mark.parametrize("content", [b"", b"case,image\n", b"\xff\xfe\x00case", b'case,image\n"P1,a.nii.gz\n'])
def test_a_file_that_is_no_manifest(folder, content):
    path = folder / "manifest.csv"
    path.write_bytes(content)
    assert str(path) in problems(path)
    assert "cannot be read" in problems(folder / "nowhere.csv")


@pytest.mark.parametrize("name", ["CON", "nul.txt", "a/b", "..", ".hidden", "end.", "汉" * 100, "x" * 151])
def test_a_name_that_no_folder_can_have_everywhere(folder, name):
    assert "cannot be the name of a folder" in problems(written(folder, f"{name},a.nii.gz,,MR,A,1"))


def test_names_that_one_file_system_takes_for_the_same(folder):
    text = problems(written(folder, "caf\u00e9,a.nii.gz,,MR,A,1", "cafe\u0301,a.nii.gz,,MR,A,1"))
    assert "stands in line 2" in text


def test_paths_leave_the_folder_only_when_asked(folder):
    beside = folder.parent / "beside.nii.gz"
    os.symlink(beside, folder / "link.nii.gz")
    for text in ("../beside.nii.gz", str(beside), "link.nii.gz", r"..\beside.nii.gz", r"C:\beside.nii.gz"):
        path = written(folder, f"P1,{text},,MR,A,1")
        assert "--outside" in problems(path)
    for text in ("../beside.nii.gz", str(beside), "link.nii.gz"):
        entry = Manifest.read(written(folder, f"P1,{text},,MR,A,1"), outside=True).entries[0]
        assert entry.image.resolve() == beside.resolve()


HEADER = "case,image,truth,harmonized,modality"


def test_images_to_compare_are_checked_as_the_image_is(folder):
    (first, second) = Manifest.read(
        written(folder, "P1,a.nii.gz,a_GTV.nii.gz,,MR", "P2,a.nii.gz,,,MR", header=HEADER)
    ).entries
    assert (first.truth, first.harmonized) == (folder / "a_GTV.nii.gz", None)
    assert (second.truth, second.columns) == (None, {})
    text = problems(
        written(
            folder,
            "P1,a.nii.gz,gone.nii.gz,../beside.nii.gz,MR",
            "P2,a.nii.gz,a.nii.gz,manifest.csv,MR",
            header=HEADER,
        )
    )
    assert "has 3 problems" in text
    for words in (
        "line 2: there is no image",
        "line 2: '../beside.nii.gz' leads out",
        "no image file that can be read",
    ):
        assert words in text
    entry = Manifest.read(written(folder, "P1,a.nii.gz,,../beside.nii.gz,MR", header=HEADER), outside=True).entries[0]
    assert entry.harmonized.resolve() == folder.parent / "beside.nii.gz"


def test_columns_say_how_the_scan_was_taken(folder):
    header = "case,image,modality,manufacturer,repetition_time_ms,echo_time_ms,age"
    entry = Manifest.read(written(folder, "P1,a.nii.gz,MR,GE,8.2,,63", header=header)).entries[0]
    assert entry.acquisition == Acquisition(manufacturer="GE", repetition_time_ms=8.2)
    assert "echo_time_ms 'short' is no number" in problems(
        written(folder, "P1,a.nii.gz,MR,GE,8.2,short,63", header=header)
    )


def test_an_entry_is_read_with_what_it_says_of_itself(folder):
    header = "case,image,segmentation,structure,modality,manufacturer"
    scan = Manifest.read(written(folder, "P1,a.nii.gz,a_GTV.nii.gz,tumour,MR,GE", header=header)).entries[0].scan()
    assert (scan.name, list(scan.structures), scan.acquisition.manufacturer) == ("P1", ["tumour"], "GE")
    assert scan.structures["tumour"].name == "tumour"
    shutil.copy(folder / "a_GTV.nii.gz", folder / "b.nii.gz")
    two = Manifest.read(written(folder, "P1,a.nii.gz,a_GTV.nii.gz;b.nii.gz,tumour,MR,GE", header=header))
    with pytest.raises(InputError, match="it has 2"):
        two.entries[0].scan()


@pytest.mark.parametrize("separator", [";", "\t"])
def test_a_spreadsheet_may_separate_cells_otherwise(folder, separator):
    lines = ["P1,a.nii.gz,,MR,A,1", "P2,a.nii.gz,a_GTV.nii.gz,MR,B,2"]
    path = written(folder, *(line.replace(",", separator) for line in lines),
                   header="case,image,segmentation,modality,site,age".replace(",", separator))  # fmt: skip
    assert [entry.site for entry in Manifest.read(path).entries] == ["A", "B"]


def test_without_images_the_paths_are_not_looked_at(folder):
    manifest = Manifest.read(written(folder, "P1,../gone.nii.gz,,MR,A,1"), images=False)
    assert manifest.entries[0].site == "A"
    assert Manifest.read(written(folder, "P1,A", header="case,site"), images=False).entries[0].image is None


def test_one_modality_of_several(folder):
    manifest = Manifest.read(written(folder, "P1,a.nii.gz,,MR,A,1", "P1,a.nii.gz,,PET,A,1"))
    assert [entry.case for entry in manifest.of(Modality.PET).entries] == ["P1"]
    with pytest.raises(InputError, match="no CT scan"):
        manifest.of(Modality.CT)


def resolved(entry):
    return dataclasses.replace(
        entry,
        image=entry.image.resolve(),
        segmentation=tuple(path.resolve() for path in entry.segmentation),
        harmonized=entry.harmonized and entry.harmonized.resolve(),
    )


words = st.text(string.ascii_letters + string.digits + ' ,"-äß', max_size=12).map(str.strip)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.tuples(words, words, st.sampled_from([True, False, None])), min_size=1, max_size=5),
    st.sampled_from(list(Modality)),
)
def test_what_is_written_is_read_back_from_another_folder(folder, rows, modality):
    entries = tuple(
        Entry(
            number + 2,
            f"P{number}",
            folder / "a.nii.gz",
            (folder / "a_GTV.nii.gz",) * (number % 3),
            "GTV",
            modality,
            site=f"{site} site".strip(),
            outcome=outcome,
            harmonized=folder / "a.nii.gz" if number % 2 else None,
            columns={"note": note},
        )
        for number, (site, note, outcome) in enumerate(rows)
    )
    (folder / "deep").mkdir(exist_ok=True)
    Manifest(folder / "manifest.csv", entries).write(folder / "deep" / "copy.csv")
    read = Manifest.read(folder / "deep" / "copy.csv", outside=True).entries
    assert list(map(resolved, read)) == list(map(resolved, entries))
    with open(folder / "deep" / "copy.csv", newline="", encoding="utf-8") as file:
        assert next(csv.reader(file)) == [*KNOWN, "note"]
