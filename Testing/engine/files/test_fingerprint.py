"""A fingerprint is another one as soon as anything that is read is another one, and else the same."""

import shutil

import SimpleITK as sitk

from Testing.engine.scans import head

from HarmonizeExtension.files.fingerprint import fingerprint
from HarmonizeExtension.files.writing import write_image


def test_it_is_of_the_content_and_not_of_the_place(tmp_path):
    write_image(head().image, tmp_path / "a.nrrd")
    shutil.copy(tmp_path / "a.nrrd", tmp_path / "b.nrrd")
    assert fingerprint(tmp_path / "a.nrrd") == fingerprint(tmp_path / "b.nrrd") != ""
    write_image(head(seed=1).image, tmp_path / "b.nrrd")
    assert fingerprint(tmp_path / "a.nrrd") != fingerprint(tmp_path / "b.nrrd")
    assert fingerprint(tmp_path / "nowhere.nrrd") == ""


def test_the_names_of_labels_belong_to_a_label_map(tmp_path):
    write_image(head().structures["GTV"].mask, tmp_path / "mask.nii.gz")
    seen = {fingerprint(tmp_path / "mask.nii.gz")}
    for names in ('{"1": "GTV"}', '{"1": "CTV"}'):
        (tmp_path / "mask.json").write_text(names)
        seen.add(fingerprint(tmp_path / "mask.nii.gz"))
    assert len(seen) == 3


def test_voxels_in_a_file_of_their_own_belong_to_their_header(tmp_path):
    sitk.WriteImage(head().image, str(tmp_path / "a.mhd"))
    before = fingerprint(tmp_path / "a.mhd")
    raw = next(path for path in tmp_path.iterdir() if path.suffix in (".raw", ".zraw"))
    data = bytearray(raw.read_bytes())
    data[100] ^= 1
    raw.write_bytes(data)
    assert fingerprint(tmp_path / "a.mhd") != before


def test_every_file_of_a_series_counts_and_so_does_its_uid(tmp_path):
    series = tmp_path / "series"
    series.mkdir()
    for number in range(3):
        (series / f"{number}.dcm").write_bytes(bytes([number]))
    whole = fingerprint(series)
    assert fingerprint(tmp_path / "series#1.2.3") not in ("", whole, fingerprint(tmp_path / "series#1.2.4"))
    (series / "2.dcm").write_bytes(b"other")
    assert fingerprint(series) != whole
