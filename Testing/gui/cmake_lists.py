"""The lists of files that CMake installs, held against the tree.

python -m Testing.gui.cmake_lists            what is missing in the lists, or listed and not there
python -m Testing.gui.cmake_lists --write    brings the lists up to date
"""

import re
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class CMakeList:
    """One `set(NAME ...)` of a CMakeLists.txt, and the files that belong into it.

    folder: that of the CMakeLists.txt, below the root; its paths are relative to it.
    parts: files and folders; `scripts` says whether their Python files belong here or all others.
    """

    folder: str
    name: str
    parts: tuple[str, ...]
    scripts: bool

    def __str__(self):
        return f"{Path(self.folder, 'CMakeLists.txt')}: {self.name}"

    @property
    def path(self) -> Path:
        return ROOT / self.folder / "CMakeLists.txt"

    @property
    def _pattern(self) -> str:
        return rf"set\({self.name}\n(?P<files>(?:  [^)\n]+\n)*)  \)"

    def listed(self) -> list[str]:
        """The files as the CMakeLists.txt lists them."""
        found = re.search(self._pattern, self.path.read_text(encoding="utf-8"))
        return found["files"].split() if found else []

    def there(self) -> list[str]:
        """The files of the tree that belong into the list, in order."""
        base = ROOT / self.folder
        found = []
        for part in self.parts:
            top = base / part
            files = [top] if top.is_file() else [f for f in top.rglob("*") if f.is_file()]
            for file in sorted(files):
                name = file.relative_to(base)
                hidden = any(piece.startswith(".") or piece == "__pycache__" for piece in name.parts)
                if not hidden and (file.suffix == ".py") == self.scripts:
                    found.append(name.as_posix())
        return found

    def write(self) -> None:
        """Bring the list up to date."""
        files = "".join(f"  {name}\n" for name in self.there())
        text = re.sub(self._pattern, f"set({self.name}\n{files}  )", self.path.read_text(encoding="utf-8"))
        self.path.write_text(text, encoding="utf-8")


MODULE = ("HarmonizeModule.py", "HarmonizeModuleLib", "Resources")
ENGINE = ("HarmonizeExtension", "Resources/Models", "Resources/Sample", "Resources/Settings")
LISTS = (
    CMakeList("HarmonizeModule", "MODULE_PYTHON_SCRIPTS", MODULE, scripts=True),
    CMakeList("HarmonizeModule", "MODULE_PYTHON_RESOURCES", MODULE, scripts=False),
    CMakeList(".", "ENGINE_PYTHON_SCRIPTS", ENGINE, scripts=True),
    CMakeList(".", "ENGINE_RESOURCES", ENGINE, scripts=False),
)


def differences() -> list[str]:
    """A line for each file that is not listed, and for each that is listed and not there."""
    found = []
    for each in LISTS:
        listed, there = each.listed(), each.there()
        found += [f"{each}: {name} is not listed, so it is not shipped" for name in there if name not in listed]
        found += [f"{each}: {name} is listed and not there, so the build stops" for name in listed if name not in there]
    return found


def copyFlat(target: Path) -> None:
    """Copy every listed file to where the build puts it: all in one folder, each with its own sub-folders."""
    for each in LISTS:
        for name in each.listed():
            file = target / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes((ROOT / each.folder / name).read_bytes())


if __name__ == "__main__":
    if "--write" in sys.argv[1:]:
        for item in LISTS:
            item.write()
    problems = differences()
    print("\n".join(problems))
    sys.exit(bool(problems))
