"""Feature tables as spreadsheets and other programs save them are read alike, and what is wrong has its line."""

import numpy as np
import pytest

from Testing.engine.evaluation.studies import simulated, write_manifest

from HarmonizeExtension.errors import InputError
from HarmonizeExtension.evaluation.feature_files import read_features
from HarmonizeExtension.evaluation.study import Study
from HarmonizeExtension.files.manifest import Manifest
from HarmonizeExtension.files.tables import read_csv
from HarmonizeExtension.radiomics.table import FeatureTable


@pytest.fixture
def manifest(tmp_path):
    lines = [{"case": f"P{i}", "site": "ab"[i % 2], "age": 60 + i} for i in range(4)]
    return Manifest.read(write_manifest(tmp_path / "manifest.csv", lines), images=False)


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_every_separator_gives_the_same_numbers(tmp_path, manifest, separator):
    path = tmp_path / "table.csv"
    rows = [("case", "f", "g, of two"), *((f"P{i}", f"{i}.5", f"-{i}.25e3") for i in range(4))]
    lines = [separator.join(f'"{cell}"' if "," in cell else cell for cell in row) for row in rows]
    text = "\n".join(lines)
    path.write_text(text.replace(".", ",") if separator == ";" else text)
    values = Study.of(read_features(path, manifest), manifest).arms["before"]
    assert values.tolist() == [[i + 0.5, -1000 * (i + 0.25)] for i in range(4)]


def test_our_own_table_is_read_to_the_last_bit_and_after_a_spreadsheet(tmp_path):
    manifest, table = simulated(tmp_path, scans=3)
    table.to_csv(tmp_path / "features.csv")
    assert read_features(tmp_path / "features.csv", manifest) == FeatureTable.from_csv(tmp_path / "features.csv")
    text = (tmp_path / "features.csv").read_text()
    (tmp_path / "german.csv").write_text(text.replace(",", ";").replace(".", ","), encoding="utf-8-sig")
    assert read_features(tmp_path / "german.csv", manifest).rows == table.rows
    (tmp_path / "damaged.csv").write_text(text.replace(",GTV,", ",GTV,x", 1))
    with pytest.raises(InputError, match="line 2, 'original_firstorder_0' is no number"):
        read_features(tmp_path / "damaged.csv", manifest)


def test_cells_may_hold_line_breaks_and_lines_keep_their_numbers(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text('case,note\nP0,"two\nlines, and\u2028more"\n\nP1,x\n', encoding="utf-8")
    assert read_csv(path) == (["case", "note"], [(2, ["P0", "two\nlines, and\u2028more"]), (5, ["P1", "x"])])


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("case,f\nP0," + "1" * 140_000, "no CSV text"),
        ('case,f\nP0,"1\n', "no CSV text"),
        ("case,f,g,f\nP0,1,2,3\n", "several columns 'f'"),
        ("case,label,structure,f,f\nP0,before,GTV,1,2\n", "several columns 'f'"),
        ("\n\n", "is empty"),
    ],
)
def test_what_is_no_table_is_said_in_a_sentence(tmp_path, manifest, text, reason):
    (tmp_path / "table.csv").write_text(text)
    with pytest.raises(InputError, match=reason):
        read_features(tmp_path / "table.csv", manifest)


def test_scans_without_any_value_are_left_out_and_named(tmp_path, manifest):
    (tmp_path / "table.csv").write_text("case,f,g\nP0,1,2\nP1,,#DIV/0!\nP2,3,5\nP3,4,\n")
    study = Study.of(read_features(tmp_path / "table.csv", manifest), manifest)
    assert study.cases == ("P0", "P2", "P3")
    assert any("all empty: 'P1'" in note for note in study.notes)
    assert np.isfinite(study.arms["before"][:, 0]).all()
