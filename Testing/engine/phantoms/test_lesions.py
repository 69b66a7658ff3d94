"""Lesions take the place of tissue and of nothing else, and look on every scanner as they do in patients."""

import functools

import numpy as np
import pytest

from HarmonizeExtension.phantoms.brain import ideal_signal
from HarmonizeExtension.phantoms.lesions import Disease, Plaques
from HarmonizeExtension.phantoms.maps import property_maps
from HarmonizeExtension.phantoms.person import Person, body_of
from HarmonizeExtension.phantoms.scanners import SCANNERS
from HarmonizeExtension.physics.tissues import PROPERTIES, Tissue

SPACING_MM = 2.0
MASKS = {
    Disease.TUMOUR: {"lesion"},
    Disease.TUMOUR_WITH_OEDEMA: {"lesion", "oedema"},
    Disease.MULTIPLE_SCLEROSIS: {"white matter lesions"},
}


@functools.cache
def body_with(disease: Disease, seed: int = 3):
    return body_of(Person.draw(np.random.default_rng(seed), disease=disease), SPACING_MM)


def filled(body) -> np.ndarray:
    total = np.zeros(body.shape, np.float32)
    for portion in body.portions.values():
        total.ravel()[portion.index] += portion.share
    return total


@pytest.mark.parametrize("disease", MASKS)
def test_a_disease_changes_tissue_where_its_masks_are_and_adds_none(disease):
    healthy, ill = body_with(Disease.NONE), body_with(disease)
    assert set(ill.structures) - set(healthy.structures) == MASKS[disease]
    np.testing.assert_allclose(filled(ill), filled(healthy), atol=5e-3)
    t1_before, t1_after = (property_maps(body, 3.0).t1_ms for body in (healthy, ill))
    changed = np.abs(t1_after - t1_before) > 0.25 * t1_before
    grown = np.any([ill.structures[name] for name in MASKS[disease]], axis=0)
    assert np.mean(grown[changed]) > 0.6  # the rest is the lesions' soft edge
    assert ill.structures["brain"][grown].all()
    assert not (grown & (ill.structures["white matter"] | ill.structures["grey matter"])).any()


@pytest.mark.parametrize("seed", range(4))
def test_volumes_are_those_of_patients(seed):
    ml = {n: m.sum() * SPACING_MM**3 / 1e3 for n, m in body_with(Disease.TUMOUR_WITH_OEDEMA, seed).structures.items()}
    assert 1 < ml["lesion"] < 15
    assert 5 < ml["oedema"] < 80
    ml = {n: m.sum() * SPACING_MM**3 / 1e3 for n, m in body_with(Disease.MULTIPLE_SCLEROSIS, seed).structures.items()}
    assert 0.5 < ml["white matter lesions"] < 25


def test_lesions_are_darker_than_white_matter_on_every_scanner_and_oedema_lies_between():
    tumour, plaques = body_with(Disease.TUMOUR_WITH_OEDEMA), body_with(Disease.MULTIPLE_SCLEROSIS)
    for scanner in SCANNERS.values():
        level = {}
        for body in (tumour, plaques):
            signal = ideal_signal(body, scanner, np.ones(body.shape, np.float32))
            level |= {name: np.median(signal[mask]) for name, mask in body.structures.items()}
        assert level["lesion"] < level["oedema"] < level["white matter"], scanner.name
        assert 0.5 < level["white matter lesions"] / level["white matter"] < 0.93, scanner.name


def test_disease_lengthens_t1_and_fields_order_it():
    for tissues in PROPERTIES.values():
        white = tissues[Tissue.WHITE_MATTER]
        for tissue in (Tissue.LESION, Tissue.OEDEMA, Tissue.PLAQUE):
            assert tissues[tissue].t1_ms > 1.4 * white.t1_ms
            assert tissues[tissue].t2_star_ms > white.t2_star_ms
            assert tissues[tissue].proton_density > white.proton_density
    for tissue in Tissue:
        assert PROPERTIES[3.0][tissue].t1_ms >= PROPERTIES[1.5][tissue].t1_ms


def test_the_same_seed_grows_the_same_lesions():
    first, second = (Plaques.draw(np.random.default_rng(3)) for _ in range(2))
    np.testing.assert_array_equal(first.centres_mm, second.centres_mm)
    np.testing.assert_array_equal(first.outline.coefficients, second.outline.coefficients)
    other = body_with(Disease.MULTIPLE_SCLEROSIS, 2).structures["white matter lesions"]
    assert (body_with(Disease.MULTIPLE_SCLEROSIS).structures["white matter lesions"] != other).any()
