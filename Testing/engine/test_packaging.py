"""What `pip install` would leave out is found here and not by a user."""

import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SETUP = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]


def test_every_package_is_listed():
    found = {
        ".".join(file.parent.relative_to(ROOT).parts) for file in (ROOT / "HarmonizeExtension").rglob("__init__.py")
    }
    assert set(SETUP["packages"]) - {"HarmonizeExtension.Resources"} == found


def test_every_resource_that_the_engine_reads_is_listed():
    listed = {pattern.split("/")[0] for pattern in SETUP["package-data"]["HarmonizeExtension.Resources"]}
    folders = {folder.name for folder in (ROOT / "Resources").iterdir() if folder.is_dir() and any(folder.iterdir())}
    assert folders - {"Pictures"} <= listed
