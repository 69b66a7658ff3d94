"""The command line as a user has it: a process of its own."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent


def command(*arguments) -> list[str]:
    """The command line of one run."""
    return [sys.executable, "-m", "HarmonizeExtension", *map(str, arguments)]


def harmonize(*arguments, **options) -> subprocess.CompletedProcess:
    """One run to its end; its output as text."""
    return subprocess.run(command(*arguments), cwd=ROOT, capture_output=True, text=True, timeout=120, **options)


def listing(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, hidden ones too, with its bytes."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
