"""The feature table keeps every bit, and says what is wrong with a file."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from Testing.engine.radiomics.structures import ball, scan_of, textured

from HarmonizeExtension.errors import InputError, OutputError
from HarmonizeExtension.radiomics.extraction import extract
from HarmonizeExtension.radiomics.settings import Settings
from HarmonizeExtension.radiomics.table import Column, FeatureTable, Row


def table(values=(1.5, math.nan), unit="HU", settings=None, label="before"):
    columns = (Column("original_firstorder_Mean", "firstorder", "original", "mean intensity", "Q4LE", unit),)
    rows = tuple(Row("P1", label, f"s{k}", {columns[0].name: value}) for k, value in enumerate(values))
    return FeatureTable(columns, rows, {"settings": settings or {"setting": {"binWidth": 25}}})


def same(a, b):
    return all(
        np.array_equal(a.values(name), b.values(name), equal_nan=True) and a.features == b.features
        for name in a.features
    ) and [(r.case, r.label, r.structure) for r in a.rows] == [(r.case, r.label, r.structure) for r in b.rows]


@given(st.lists(st.floats(allow_nan=True, allow_infinity=True), min_size=1, max_size=5))
def test_values_come_back_to_the_last_bit(tmp_path_factory, values):
    folder = tmp_path_factory.mktemp("table")
    original = table(values)
    original.to_csv(folder / "t.csv")
    original.to_json(folder / "t.json")
    assert same(FeatureTable.from_csv(folder / "t.csv"), original)
    assert same(FeatureTable.from_json(folder / "t.json"), original)


def test_json_keeps_what_the_columns_mean_and_how_they_came_about(tmp_path):
    original = extract(
        scan_of(textured(), units="SUV", s=ball()), Settings.load("pet"), case="Ärztin, 1", label="before"
    )
    original.to_json(tmp_path / "t.json")
    read = FeatureTable.from_json(tmp_path / "t.json")
    assert read.columns == original.columns
    assert read.metadata == original.metadata
    assert read == original
    original.to_csv(tmp_path / "t.csv")
    assert same(FeatureTable.from_csv(tmp_path / "t.csv"), original)


def test_before_and_after_are_merged_and_a_unit_that_was_lost_is_left_out():
    merged = FeatureTable.merged([table(), table((2.5,), unit="", label="after")])
    assert merged.values("original_firstorder_Mean").tolist()[::2] == [1.5, 2.5]
    assert merged.columns[0].unit == ""
    assert merged.row("s0", "after").values["original_firstorder_Mean"] == 2.5


def test_tables_of_different_settings_are_not_merged():
    with pytest.raises(InputError, match="different settings"):
        FeatureTable.merged([table(), table(settings={"setting": {"binWidth": 10}})])


def test_a_feature_that_is_not_there_is_named():
    with pytest.raises(InputError, match="original_glcm_Idmn"):
        table().values("original_glcm_Idmn")


@pytest.mark.parametrize(
    "content",
    [
        "",
        "case,label\n",
        "a,b,c\n",
        "case,label,structure,f\nx,y,z\n",
        "\x00\x01",
        "case,label,structure,f\nx,y,z,high\n",
    ],
)
def test_a_damaged_file_is_refused(tmp_path, content):
    (tmp_path / "t.csv").write_text(content)
    with pytest.raises(InputError, match=r"t\.csv"):
        FeatureTable.from_csv(tmp_path / "t.csv")
    (tmp_path / "t.json").write_text(content)
    with pytest.raises(InputError, match=r"t\.json"):
        FeatureTable.from_json(tmp_path / "t.json")


def test_what_cannot_be_written_leaves_nothing_and_what_stood_there_stays(tmp_path):
    with pytest.raises(OutputError, match="nowhere"):
        table().to_csv(tmp_path / "nowhere" / "t.csv")
    target = tmp_path / "t.csv"
    target.mkdir()  # a folder of that name: the replacement fails at the last step
    with pytest.raises(OutputError):
        table().to_csv(target)
    assert list(tmp_path.iterdir()) == [target]
