"""Results are whole or not there, and what stood before stays."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st

from HarmonizeExtension import images
from HarmonizeExtension.errors import InputError, OutputError
from HarmonizeExtension.files.writing import (
    inside,
    output_folder,
    plain,
    replacing,
    write_image,
    write_json,
    write_text,
)
from HarmonizeExtension.scan import Modality

ANGLE = st.integers(-300, 300).map(lambda hundredths: hundredths / 100)

ROOT = Path(__file__).resolve().parents[3]


def random_image(seed: int = 0, size=(9, 8, 7)) -> sitk.Image:
    rng = np.random.default_rng(seed)
    image = sitk.GetImageFromArray(rng.normal(size=size[::-1]).astype(np.float32))
    image.SetSpacing((0.7, 1.3, 2.9))
    image.SetOrigin((-12.5, 3.25, 100.125))
    return image


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".nrrd", ".mha"])
def test_an_image_comes_back_as_it_was(tmp_path, suffix):
    image = random_image()
    path = tmp_path / f"Übung 1 (neu){suffix}"
    write_image(image, path)
    back = sitk.ReadImage(str(path))
    assert np.array_equal(sitk.GetArrayFromImage(back), sitk.GetArrayFromImage(image))
    assert images.same_grid(back, image)
    assert os.listdir(tmp_path) == [path.name]


@settings(max_examples=15, deadline=None)
@given(
    angles=st.tuples(*[ANGLE] * 3),
    spacing=st.tuples(*[st.floats(0.2, 8)] * 3),
    origin=st.tuples(*[st.floats(-500, 500)] * 3),
    mirrored=st.booleans(),
    suffix=st.sampled_from([".nii.gz", ".nrrd", ".mha"]),
)
def test_oblique_grids_survive_the_file(tmp_path_factory, angles, spacing, origin, mirrored, suffix):
    image = random_image()
    turn = np.array(sitk.Euler3DTransform((0, 0, 0), *angles).GetMatrix()).reshape(3, 3)
    if mirrored:
        turn[:, 2] *= -1
    image.SetDirection(turn.ravel().tolist())
    image.SetSpacing(spacing)
    image.SetOrigin(origin)
    path = tmp_path_factory.mktemp("grid") / f"a{suffix}"
    write_image(image, path)
    back = sitk.ReadImage(str(path))
    exact = 1e-9 if suffix != ".nii.gz" else 2e-4  # NIfTI keeps its grid in 32-bit floats
    assert np.allclose(images.index_to_physical(back), images.index_to_physical(image), rtol=0, atol=exact)


def test_a_failure_leaves_what_stood_before(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("old")

    def interrupted():
        with replacing(path) as temporary:
            temporary.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["table.csv"]


def test_a_folder_replaces_a_folder_only_when_it_is_done(tmp_path):
    path = tmp_path / "model"
    path.mkdir()
    (path / "old").touch()

    def fails():
        with replacing(path) as temporary:
            temporary.mkdir()
            raise RuntimeError("half done")

    with pytest.raises(RuntimeError, match="half done"):
        fails()
    assert os.listdir(path) == ["old"]
    with replacing(path) as temporary:
        temporary.mkdir()
        (temporary / "new").touch()
    assert os.listdir(path) == ["new"]
    assert os.listdir(tmp_path) == ["model"]


@pytest.mark.parametrize("write", [lambda p: write_image(random_image(), p), lambda p: write_text("a", p)])
def test_places_that_cannot_be_written_are_named(tmp_path, write):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match=r"file/a\.nii.*a part of its path is a file"):
        write(tmp_path / "file" / "a.nii")
    with pytest.raises(OutputError, match=r"no/a\.nii.*does not exist"):
        write(tmp_path / "no" / "a.nii")
    (tmp_path / "folder.nii").mkdir()
    with pytest.raises(OutputError, match=r"folder\.nii.*folder of that name"):
        write(tmp_path / "folder.nii")
    assert sorted(os.listdir(tmp_path)) == ["file", "folder.nii"]


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="needs a user whom the permissions bind")
def test_a_folder_without_permission_is_named(tmp_path):
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(OutputError, match="may not write"):
            write_image(random_image(), tmp_path / "a.nii.gz")
        with pytest.raises(OutputError, match="may not write"):
            output_folder(tmp_path / "results")
    finally:
        tmp_path.chmod(0o700)


@pytest.mark.skipif(sys.platform == "win32", reason="limits of a process are a matter of POSIX")
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".nrrd", ".mha", ".json"])
def test_a_disk_that_fills_up_midway_leaves_the_old_file(tmp_path, suffix):
    """A limit on the size of files stands for the full disk: the write fails after its first bytes too."""
    path = tmp_path / f"result{suffix}"
    path.write_bytes(b"old")
    program = (
        "import resource, signal, sys\n"
        "import numpy as np, SimpleITK as sitk\n"
        "from HarmonizeExtension.errors import OutputError\n"
        "from HarmonizeExtension.files.writing import write_image, write_json\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000))\n"
        "noise = np.random.default_rng(0).normal(size=(30, 30, 30)).astype(np.float32)\n"
        "try:\n"
        "    if sys.argv[1].endswith('.json'):\n"
        "        write_json(noise, sys.argv[1])\n"
        "    else:\n"
        "        write_image(sitk.GetImageFromArray(noise), sys.argv[1])\n"
        "except OutputError as error:\n"
        "    print(error)\n"
        "    sys.exit(7)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(path)], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 7, done.stderr
    assert str(path) in done.stdout
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == [path.name]


def test_json_keeps_every_digit_and_has_no_nan(tmp_path):
    value = {
        "pi": np.float64(np.pi),
        "third": np.float32(1 / 3),
        "list": np.array([1.5, np.nan]),
        "modality": Modality.MR,
        "path": Path("a") / "b",
        "names": frozenset({"b", "a"}),
        "ä": True,
    }
    write_json(value, tmp_path / "a.json")
    text = (tmp_path / "a.json").read_text(encoding="utf-8")
    back = json.loads(text, parse_constant=lambda word: pytest.fail(word))
    assert back["pi"] == np.pi
    assert np.float32(back["third"]) == np.float32(1 / 3)
    assert back["list"] == [1.5, None]
    assert back["modality"] == "MR"
    assert back["names"] == ["a", "b"]
    assert '"ä": true' in text
    with pytest.raises(TypeError):
        plain(object())


@pytest.mark.parametrize("path", ["../a", "a/../../b", "/etc/passwd", "C:\\a", "a\\..\\..\\b", "link/a", "\0"])
def test_a_path_that_leaves_its_folder_is_refused(tmp_path, path):
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "link").symlink_to(tmp_path)
    with pytest.raises(InputError, match="leaves the folder"):
        inside(folder, path)


def test_a_path_inside_its_folder_is_given_whole(tmp_path):
    (tmp_path / "b").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "b")
    assert inside(tmp_path, "link/c.nii.gz") == (tmp_path / "b" / "c.nii.gz").resolve()


def test_an_output_folder_is_made_or_refused(tmp_path):
    made = output_folder(tmp_path / "a" / "b c")
    assert made.is_dir()
    assert os.listdir(made) == []
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="is a file"):
        output_folder(tmp_path / "file")
    with pytest.raises(OutputError, match="part of its path is a file"):
        output_folder(tmp_path / "file" / "below")


def test_a_suffix_that_says_nothing_is_refused(tmp_path):
    with pytest.raises(OutputError, match=r"a\.png"):
        write_image(random_image(), tmp_path / "a.png")
    assert os.listdir(tmp_path) == []
