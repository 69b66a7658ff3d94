"""An empty real MRML scene for each test, with the module's library on the path."""

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "HarmonizeModule"))

from Testing.harness import application  # noqa: E402
from Testing.harness import scene as harness  # noqa: E402

application.start()


@pytest.fixture(autouse=True)
def emptyScene():
    harness.clear()
    yield harness
    harness.assertNoErrors()
