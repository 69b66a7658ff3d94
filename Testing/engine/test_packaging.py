"""What `pip install` would leave out is found here and not by a user."""

import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SETUP = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]


def listed(resources: bool) -> set[str]:
    return {name for name in SETUP["packages"] if name.startswith("HarmonizeExtension.Resources") == resources}


def test_every_package_is_listed():
    files = (ROOT / "HarmonizeExtension").rglob("__init__.py")
    assert listed(False) == {".".join(file.parent.relative_to(ROOT).parts) for file in files}


def test_every_resource_that_the_engine_reads_is_listed():
    folders = {folder.name for folder in (ROOT / "Resources").iterdir() if folder.is_dir() and any(folder.iterdir())}
    assert {name.rsplit(".", 1)[1] for name in listed(True)} == folders - {"Pictures"}
    assert set(SETUP["package-data"]) == listed(True)
