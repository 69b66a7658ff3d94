"""The true maps: what a protocol makes of them is what the scanner sees, where one tissue fills the voxel exactly."""

import numpy as np
import pytest
import SimpleITK as sitk

from HarmonizeExtension import images
from HarmonizeExtension.errors import InputError
from HarmonizeExtension.phantoms.brain import ideal_signal, scan_person
from HarmonizeExtension.phantoms.lesions import Disease
from HarmonizeExtension.phantoms.maps import property_maps, quantitative_maps
from HarmonizeExtension.phantoms.person import Person, body_of
from HarmonizeExtension.phantoms.scanners import SCANNERS
from HarmonizeExtension.physics.tissues import Tissue

SPACING_MM = 3.0


@pytest.fixture(scope="module")
def person():
    return Person.draw(np.random.default_rng(21), disease=Disease.TUMOUR_WITH_OEDEMA)


@pytest.mark.parametrize("scanner", SCANNERS.values(), ids=SCANNERS)
def test_the_signal_of_the_maps_is_the_scan_where_one_tissue_fills_the_voxel(person, scanner):
    body = body_of(person, SPACING_MM)
    b1 = np.linspace(0.8, 1.2, int(np.prod(body.shape)), dtype=np.float32).reshape(body.shape)
    maps = property_maps(body, scanner.field_strength_tesla)
    seen = ideal_signal(body, scanner, b1)
    head = maps.t1_ms > 0
    predicted = np.zeros_like(seen)
    predicted[head] = scanner.protocol.signal(
        maps.t1_ms[head], maps.t2_star_ms[head], maps.proton_density[head], b1[head]
    )
    pure = np.zeros(body.shape, bool)
    for portion in body.portions.values():
        pure.ravel()[portion.index[portion.share > 0.999]] = True
    brain = body.structures["brain"]
    assert np.sum(pure & brain) > 300
    np.testing.assert_allclose(predicted[pure], seen[pure], rtol=2e-3, atol=2e-3 * seen[brain].max())
    # In mixed voxels no single T1 is exact; over all of the brain the difference stays small.
    error = np.sqrt(np.mean((predicted - seen)[brain] ** 2)) / np.sqrt(np.mean(seen[brain] ** 2))
    assert error < 0.03


def test_maps_lie_on_the_grid_of_the_scans_and_have_sensible_values(person):
    maps = quantitative_maps(person, 1.5, SPACING_MM)
    scan = scan_person(person, SCANNERS["GE 1.5T"], np.random.default_rng(0), SPACING_MM)
    every = (maps.t1_ms, maps.t2_star_ms, maps.proton_density, maps.brain, *maps.fractions.values())
    for image in every:
        assert images.same_grid(image, scan.image)
        assert np.isfinite(images.to_array(sitk.Cast(image, sitk.sitkFloat32))).all()
    t1_ms, density = images.to_array(maps.t1_ms), images.to_array(maps.proton_density)
    assert t1_ms[t1_ms > 0].min() > 200
    assert t1_ms.max() < 4100
    assert density.max() <= 1.001
    white, lesion = (scan.structures[name].array for name in ("white matter", "lesion"))
    assert np.median(t1_ms[white]) == pytest.approx(656, rel=0.1)
    assert np.median(t1_ms[lesion]) > 1.5 * np.median(t1_ms[white])
    total = np.sum([images.to_array(share) for share in maps.fractions.values()], axis=0)
    assert total.max() < 1.001
    assert set(maps.fractions) == set(Tissue) - {Tissue.PLAQUE}
    assert (t1_ms[total < 0.04] == 0).all()


def test_an_unknown_field_strength_is_refused(person):
    with pytest.raises(InputError, match=r"not at 7 T"):
        quantitative_maps(person, 7.0, 4.0)
