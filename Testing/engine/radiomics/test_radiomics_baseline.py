"""All 3,325 baseline values of pyradiomics' own tests."""

from pathlib import Path

import pytest

from Testing.engine.radiomics import pyradiomics_baseline as pyradiomics

ROOT = Path(__file__).resolve().parents[3]

# The file's mesh of this case is not what pyradiomics itself gives: 0.09 % off in its release 3.0.1 and later.
STALE = {
    ("brain1", f"original_shape_{name}") for name in ("MeshVolume", "SurfaceArea", "SurfaceVolumeRatio", "Sphericity")
}


@pytest.fixture(scope="module")
def comparisons():
    try:
        data = pyradiomics.unpacked(ROOT / "build" / "pyradiomics")
    except pyradiomics.Unavailable as reason:
        pytest.skip(str(reason))
    return list(pyradiomics.compare(data))


@pytest.mark.slow
def test_every_baseline_value_is_met_within_1e_minus_9(comparisons):
    assert len(comparisons) == 3325
    off = [c for c in comparisons if not c.difference <= 1e-9 and (c.test, c.feature) not in STALE]
    assert off == []


@pytest.mark.slow
def test_the_stale_mesh_is_met_within_a_thousandth(comparisons):
    stale = [c for c in comparisons if (c.test, c.feature) in STALE]
    assert len(stale) == 4
    assert max(c.difference for c in stale) < 1e-3
