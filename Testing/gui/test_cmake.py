"""What CMake installs: the lists equal the tree, and what they name works from one flat folder of its own."""

import os
import shutil
import subprocess
import sys

import pytest
from cmake_lists import LISTS, ROOT, CMakeList, copyFlat, differences

USE = """
import sys
from pathlib import Path
from Testing.harness import application, scene
flat = Path(sys.argv[1])
panel = application.loadModule(flat / "HarmonizeModule.py")
from HarmonizeModuleLib.logic import HarmonizeModuleLogic
from HarmonizeModuleLib.sampleData import makeThreeScannerCase
volumes, segmentations = makeThreeScannerCase(spacing=4.0)
result = HarmonizeModuleLogic().process(
    volumes[1], segmentations[1], "histogram-matching", volumes[0], protectedSegments=["lesion"]
)
assert result.featureTable.GetNumberOfRows() > 0
assert not panel.module.icon.isNull()
for name, module in sys.modules.items():
    if name.split(".")[0] in ("HarmonizeModule", "HarmonizeModuleLib", "HarmonizeExtension"):
        assert Path(module.__file__).is_relative_to(flat), module.__file__
scene.assertNoErrors()
"""


def test_every_file_is_listed_and_every_listed_file_is_there():
    assert differences() == [], "run: python -m Testing.gui.cmake_lists --write"


@pytest.mark.parametrize("each", LISTS, ids=str)
def test_no_list_is_empty_or_names_a_file_twice(each):
    listed = each.listed()
    assert listed
    assert len(set(listed)) == len(listed)


def test_a_file_that_is_not_listed_and_one_that_is_missing_are_named(tmp_path, monkeypatch):
    monkeypatch.setattr("cmake_lists.ROOT", tmp_path)
    (tmp_path / "lib").mkdir()
    for name in ("new.py", "old.py", "panel.ui"):
        (tmp_path / "lib" / name).write_text("")
    (tmp_path / "CMakeLists.txt").write_text("set(SCRIPTS\n  lib/old.py\n  lib/gone.py\n  )\n\nset(REST\n  )\n")
    scripts, rest = (CMakeList(".", name, ("lib",), scripts=name == "SCRIPTS") for name in ("SCRIPTS", "REST"))
    monkeypatch.setattr("cmake_lists.LISTS", (scripts, rest))
    assert differences() == [
        "CMakeLists.txt: SCRIPTS: lib/new.py is not listed, so it is not shipped",
        "CMakeLists.txt: SCRIPTS: lib/gone.py is listed and not there, so the build stops",
        "CMakeLists.txt: REST: lib/panel.ui is not listed, so it is not shipped",
    ]
    for each in (scripts, rest):
        each.write()
    assert differences() == []
    assert scripts.listed() == ["lib/new.py", "lib/old.py"]


def test_the_two_halves_share_one_folder_without_a_clash():
    names = [name for each in LISTS for name in each.listed()]
    assert len({name.lower() for name in names}) == len(names)
    # Every module of an extension lies in this folder, and it is on sys.path: names must not be anybody's.
    assert {name.split("/")[0] for name in names} == {
        "HarmonizeModule.py",
        "HarmonizeModuleLib",
        "HarmonizeExtension",
        "Resources",
    }


@pytest.mark.slow
def test_the_installed_files_work_without_the_checkout(tmp_path):
    pytest.importorskip("slicer", reason="slicer-core is not installed")
    flat, site = tmp_path / "qt-scripted-modules", tmp_path / "site"
    copyFlat(flat)
    shutil.copytree(ROOT / "Testing" / "harness", site / "Testing" / "harness")
    (site / "Testing" / "__init__.py").write_text("")
    done = subprocess.run(
        [sys.executable, "-c", USE, str(flat)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (flat, site)))},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
