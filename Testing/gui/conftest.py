"""The panel in an empty scene, with two heads in it where a test wants them."""

import dataclasses

import pytest


@pytest.fixture
def emptyScene():
    from Testing.harness import scene

    scene.clear()
    yield
    scene.clear()


@pytest.fixture
def panel(emptyScene):
    from Testing.gui import panels
    from Testing.harness import application

    loaded = application.loadModule(panels.MODULE)
    yield loaded
    loaded.close()


@pytest.fixture
def heads(emptyScene):
    """Two heads in the scene: [(volume, segmentation), (volume, segmentation)]."""
    from HarmonizeModuleLib.scene import nodesFromScan
    from Testing.engine.scans import head

    return [
        nodesFromScan(dataclasses.replace(head(seed=seed), name=f"scanner {name}")) for seed, name in enumerate("AB")
    ]
