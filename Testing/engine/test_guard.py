"""The guard passes what is sound and stops what is not: faults made on purpose, on several heads."""

import dataclasses

import numpy as np
import pytest
from scipy import ndimage

from Testing.engine.scans import grid, head

from HarmonizeExtension import guard, images
from HarmonizeExtension.guard import Status
from HarmonizeExtension.methods.preparation import BiasFieldCorrection
from HarmonizeExtension.methods.statistical import HistogramMatching, WhiteStripe, ZScore
from HarmonizeExtension.phantoms.brain import three_scanner_case
from HarmonizeExtension.scan import Modality

SEEDS = (0, 1, 2)
PROTECTED = {"protected": ["GTV"]}


def verdict(before, array, **changes):
    return guard.inspect(before, before.with_array(np.asarray(array, dtype=np.float32), **changes))


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("method", [ZScore(), WhiteStripe(), HistogramMatching(head(seed=5)), BiasFieldCorrection()])
def test_sound_methods_pass(method, seed):
    before = head(seed=seed).with_roles(**PROTECTED)
    found = guard.inspect(before, method.apply(before))
    assert found.status is Status.PASS, found.reasons


@pytest.mark.parametrize("seed", SEEDS)
def test_a_contrast_change_with_light_denoising_passes_without_protected_structures(seed):
    before = head(seed=seed)
    gentle = ndimage.gaussian_filter(before.array, 0.4) ** 0.8
    assert verdict(before, gentle).status is Status.PASS


FAULTS = {
    "shifted by two voxels": lambda a: np.roll(a, 2, axis=2),
    "mirrored": lambda a: a[:, :, ::-1],
    "inverted contrast": lambda a: a.max() - a,
    "only noise": lambda a: np.random.default_rng(0).normal(a.mean(), a.std(), a.shape),
    "another person": lambda a: head(seed=77).array[::-1, ::-1],
    "flat": lambda a: np.where(a > a.mean(), 1.0, 0.0),
}


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("fault", FAULTS)
def test_gross_faults_are_refused(fault, seed):
    before = head(seed=seed).with_roles(**PROTECTED)
    found = verdict(before, FAULTS[fault](before.array))
    assert found.status is Status.REFUSE
    assert found.reasons


def hallucination(before):
    """A bright blob where there was none."""
    array = before.array
    array[15:21, 12:18, 10:16] += 120
    return array


def vanished_tumour(before):
    array = before.array
    array[before.structures["GTV"].array] = np.median(array[before.structures["white matter"].array])
    return array


def smoothed_tumour(before):
    array = before.array
    inside = before.structures["GTV"].array
    array[inside] = ndimage.gaussian_filter(array, 3)[inside]
    return array


def noisy_edge_slice(before):
    array = before.array
    array[3] += np.random.default_rng(0).normal(0, 150, array[3].shape)
    return array


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("fault", [hallucination, vanished_tumour, smoothed_tumour])
def test_local_faults_in_or_near_structures_are_reported(fault, seed):
    before = head(seed=seed).with_roles(**PROTECTED)
    assert verdict(before, fault(before)).status is not Status.PASS


def lost_slice(a):
    a[15] = 0
    return a


def striped(a):
    a[::2] *= 1.3
    return a


UNSEEN_BY_STRUCTURES = {
    "a slice is lost": lost_slice,
    "every other slice is brighter": striped,
    "blurred": lambda a: ndimage.gaussian_filter(a, 1.5),
    "shifted by one voxel": lambda a: np.roll(a, 1, axis=2),
}


@pytest.mark.parametrize("seed", [3, 4, 5])  # not those that the limits were set on
@pytest.mark.parametrize("fault", UNSEEN_BY_STRUCTURES)
def test_faults_of_the_whole_image_are_seen_without_any_structure(fault, seed):
    before = dataclasses.replace(head(seed=seed), structures={})
    assert verdict(before, UNSEEN_BY_STRUCTURES[fault](before.array)).status is not Status.PASS


@pytest.fixture(scope="module")
def person():
    """A simulated head with a lesion as dark as grey matter, which no intensity map can make vanish alone."""
    return three_scanner_case(seed=3, spacing_mm=2.0)["GE 3T"]


def test_a_lesion_that_vanishes_is_seen_though_nobody_contoured_it(person):
    array = person.array
    white = np.median(array[person.structures["white matter"].array])
    array[person.structures["lesion"].array] = white
    found = verdict(dataclasses.replace(person, structures={}), array)
    assert any("local change" in reason for reason in found.reasons)


def test_a_lesion_that_appears_is_seen_though_nobody_contoured_it(person):
    array = person.array
    z, y, x = (int(v) for v in ndimage.center_of_mass(person.structures["white matter"].array))
    inside = np.zeros(array.shape, bool)
    inside[z - 2 : z + 3, y + 8 : y + 13, x + 8 : x + 13] = True
    array[inside] *= 0.4
    found = verdict(dataclasses.replace(person, structures={}), array)
    assert any("local change" in reason for reason in found.reasons)


@pytest.mark.parametrize("seed", [3, 4, 5])
def test_an_emptied_protected_structure_is_refused(seed):
    before = head(seed=seed).with_roles(**PROTECTED)
    assert verdict(before, vanished_tumour(before)).status is Status.REFUSE


def test_a_shift_of_hounsfield_units_is_seen_without_any_structure():
    before = head()
    image = images.to_image(before.array - 60, before.image)
    ct = dataclasses.replace(before, modality=Modality.CT, units="HU", image=image, structures={})
    assert any("soft tissue" in reason for reason in verdict(ct, ct.array + 60).reasons)


def test_an_artefact_in_the_last_slice_is_named():
    before = head(grid(size=(40, 44, 30), spacing=(1, 1, 1.5)))
    found = verdict(before, noisy_edge_slice(before))
    assert any("edge of the field" in reason for reason in found.reasons)


def test_not_finite_and_another_grid_are_refused_at_once():
    before = head()
    moved = head(grid(size=(40, 44, 30), spacing=(1, 1, 1.6)))
    assert guard.inspect(before, moved).status is Status.REFUSE
    image = images.to_image(before.array, before.image)
    broken = before.array
    broken[3, 4, 5] = np.nan
    after = dataclasses.replace(before)
    object.__setattr__(after, "image", images.to_image(broken, image))
    assert guard.inspect(before, after).status is Status.REFUSE


def test_drift_in_ct_is_told_in_hu_and_in_pet_as_a_share():
    before = head()
    ct = dataclasses.replace(
        before, modality=Modality.CT, units="HU", image=images.to_image(before.array - 60, before.image)
    )
    found = verdict(ct, ct.array + 25 * ct.structures["GTV"].array)
    assert any("'GTV' changed by +25.0 HU" in reason for reason in found.reasons)
    pet = dataclasses.replace(
        before, modality=Modality.PET, units="SUV", image=images.to_image(before.array / 40, before.image)
    )
    found = verdict(pet, pet.array * (1 + 0.3 * pet.structures["GTV"].array))
    assert any("'GTV' changed by +30.0%" in reason for reason in found.reasons)


def test_the_verdict_is_the_worst_check_and_json_can_hold_it():
    import json

    before = head()
    found = verdict(before, before.array[:, :, ::-1])
    content = json.loads(json.dumps(found.to_json()))
    assert content["status"] == found.status.value
    assert len(content["checks"]) == len(found.checks)
    assert content["reasons"] == list(found.reasons)
