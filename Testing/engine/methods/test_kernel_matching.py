"""CT kernel matching keeps its promises on simulated kernels, and beats smoothing on a true pair."""

import dataclasses
import json

import numpy as np
import pytest
import SimpleITK as sitk
from scipy import ndimage

from Testing.engine.physics import simulated_ct
from Testing.engine.physics.simulated_ct import SHARP, SOFT
from Testing.engine.scans import bits, head

from HarmonizeExtension import images
from HarmonizeExtension.body import body_mask
from HarmonizeExtension.errors import Cancelled, InputError
from HarmonizeExtension.methods.kernel_matching import WINDOW_HU, KernelMatching
from HarmonizeExtension.scan import Modality, Role, Scan, Structure


@pytest.fixture(scope="module")
def sharp():
    return simulated_ct.scan(SHARP, 1, name="sharp")


@pytest.fixture(scope="module")
def truth():
    """What the soft kernel would have made of the same patient."""
    return simulated_ct.scan(SOFT, 1, name="truth")


@pytest.fixture(scope="module")
def other_patient():
    """Another patient, another dose, the soft kernel."""
    return simulated_ct.scan(SOFT, 99, level=2000.0, shift=(7.0, -5.0), name="other")


def error_inside(a: Scan, b: Scan) -> float:
    body = b.structures["External"].array
    return float(np.abs(a.array - b.array)[body].mean())


def best_gaussian(scan: Scan, truth: Scan, sigmas_mm) -> float:
    pixel = scan.spacing_mm[0]
    return min(
        error_inside(scan.with_array(ndimage.gaussian_filter(scan.array, (0, s / pixel, s / pixel))), truth)
        for s in sigmas_mm
    )


@pytest.mark.parametrize("estimate", ["edges and noise", "noise", "edges"])
def test_estimated_from_another_patient_it_comes_near_the_other_kernel(sharp, truth, other_patient, estimate):
    after = KernelMatching(other_patient, estimate=estimate).apply(sharp)
    assert error_inside(after, truth) < 0.35 * error_inside(sharp, truth)


def test_given_both_kernels_it_comes_nearer_than_any_gaussian(sharp, truth):
    after = KernelMatching(SOFT, source_kernel=SHARP, noise_to_signal=0.03).apply(sharp)
    assert error_inside(after, truth) < best_gaussian(sharp, truth, np.arange(0.2, 1.6, 0.1))


def test_a_sharp_target_sharpens_and_noise_stays_bounded(truth, sharp):
    after = KernelMatching(simulated_ct.scan(SHARP, 98, shift=(3.0, 3.0))).apply(truth)
    water = ndimage.binary_erosion(truth.structures["water"].array, iterations=3)
    assert error_inside(after, sharp) < error_inside(truth, sharp)
    assert truth.array[water].std() < after.array[water].std() < 1.5 * sharp.array[water].std()


def test_its_own_kernel_changes_next_to_nothing(sharp):
    again = simulated_ct.scan(SHARP, 55, shift=(2.0, -6.0))
    after = KernelMatching(again).apply(sharp)
    assert error_inside(after, sharp) < 0.15 * error_inside(simulated_ct.scan(SOFT, 1), sharp)


def test_grid_and_units_stay_and_the_mean_of_large_regions_air_among_them(sharp, other_patient):
    after = KernelMatching(other_patient).apply(sharp)
    air = images.distance_mm(body_mask(sharp), sharp.spacing_mm) > 5
    assert bits(after.image) == bits(sharp.image)
    assert after.units == "HU"
    assert after.array[air].mean() == pytest.approx(sharp.array[air].mean(), abs=0.5)
    assert after.array[air].std() < sharp.array[air].std()  # the noise of air is the kernel's too
    water = ndimage.binary_erosion(sharp.structures["water"].array, np.ones((1, 3, 3)), iterations=6)
    assert after.array[water].mean() == pytest.approx(sharp.array[water].mean(), abs=0.5)


def test_same_input_same_output_and_the_provenance_is_json(sharp, other_patient):
    method = KernelMatching(other_patient)
    first, second = method.apply(sharp), method.apply(sharp)
    assert np.array_equal(first.array, second.array)
    entry = json.loads(json.dumps(first.provenance[-1]))
    assert entry["method"] == "kernel-matching"
    assert entry["parameters"]["target"] == "other"


def test_noise_is_measured_in_the_reference_structure(sharp, other_patient):
    """Where one organ only has the scanner's noise, marking it makes the estimate right."""
    y, x = np.mgrid[: sharp.array.shape[1], : sharp.array.shape[2]]
    organ = np.broadcast_to(np.hypot(y - 60, x - 70) < 22, sharp.array.shape)

    def spoilt(scan):
        rng = np.random.default_rng(4)
        texture = 60 * rng.standard_normal(scan.array.shape).astype(np.float32)
        masks = {"External": scan.structures["External"].array, "liver": organ}
        return scan.with_array(
            np.where(organ | ~masks["External"], scan.array, scan.array + texture),
            structures={
                name: Structure(name, images.mask_image(mask, scan.image), frozenset()) for name, mask in masks.items()
            },
        )

    body = sharp.structures["External"].array
    source, target = spoilt(sharp), spoilt(other_patient)
    method = KernelMatching(target, estimate="noise")
    blind = method.kernel_filter(source, body)
    method = KernelMatching(target.with_roles(reference="liver"), estimate="noise")
    aware = method.kernel_filter(source.with_roles(reference="liver"), body)
    frequency = np.array([0.2, 0.3, 0.4])
    true = SOFT(frequency) / SHARP(frequency)
    assert np.abs(aware.gain(frequency) - true).max() < 0.15
    assert np.abs(aware.gain(frequency) - true).max() < np.abs(blind.gain(frequency) - true).max()


def test_values_outside_the_window_pass_through_and_nothing_falls_below_it(sharp):
    array = sharp.array
    array[:, :10] = -2000.0  # padding outside the field of view
    array[:, 80:84, 80:84] = 12000.0  # metal on an extended scale
    metal = sharp.with_array(array)
    after = KernelMatching(SHARP, source_kernel=SOFT).apply(metal).array
    assert np.array_equal(after[:, :10], array[:, :10])
    assert after[:, 10:].min() >= min(WINDOW_HU[0], array[:, 10:].min())
    core = after[:, 81:83, 81:83]
    assert (core >= 12000 - WINDOW_HU[1]).all()
    # The excess does not spread: 5 mm off, the metal is no more than an object of the window's top would be.
    capped = KernelMatching(SHARP, source_kernel=SOFT).apply(sharp.with_array(np.minimum(array, WINDOW_HU[1]))).array
    away = np.ones(array.shape, bool)
    away[:, 79:85, 79:85] = False
    assert np.abs(after - capped)[away].max() < 1e-2


def test_a_smooth_kernel_does_not_ring_at_edges(sharp):
    """From sharp to soft nothing over- or undershoots an edge of bone against air by more than 1 % of its step."""
    step = np.full((2, 96, 96), -1000.0, np.float32)
    step[:, 30:70, 30:70] = 1200.0
    image = sitk.GetImageFromArray(step)
    image.SetSpacing((0.6, 0.6, 2.0))
    after = KernelMatching(SOFT, source_kernel=SHARP).apply(Scan(image, Modality.CT, units="HU")).array
    assert after.max() < 1200 + 22
    assert after.min() > -1000 - 22


def test_protected_structures_keep_the_rank_of_their_voxels(sharp, other_patient):
    y, x = np.mgrid[: sharp.array.shape[1], : sharp.array.shape[2]]
    tumour = np.broadcast_to(np.hypot(y - 90, x - 80) < 10, sharp.array.shape)
    structures = {**sharp.structures, "GTV": Structure("GTV", images.mask_image(tumour, sharp.image))}
    scan = dataclasses.replace(sharp, structures=structures).with_roles(protected=["GTV"])
    after = KernelMatching(other_patient).apply(scan).array[tumour]
    order = np.argsort(scan.array[tumour])
    assert (np.diff(after[order]) >= -1e-3).all()
    assert scan.with_role(Role.PROTECTED)


class TestRefusals:
    def test_of_what_is_no_ct(self, sharp):
        with pytest.raises(InputError, match="is for CT"):
            KernelMatching(sharp).apply(head())
        with pytest.raises(InputError, match="choose a CT scan as target"):
            KernelMatching(head()).apply(sharp)
        with pytest.raises(InputError, match="needs HU"):
            KernelMatching("soft").apply(dataclasses.replace(sharp, units="Bq/ml"))

    def test_of_parameters(self, sharp):
        with pytest.raises(InputError, match="no kernel 'Br40'"):
            KernelMatching("Br40").apply(sharp)
        with pytest.raises(InputError, match="edges and noise"):
            KernelMatching("soft", estimate="guess").apply(sharp)
        with pytest.raises(InputError, match="noise_to_signal"):
            KernelMatching("soft", noise_to_signal=0.0).apply(sharp)

    def test_where_nothing_can_be_measured(self, sharp):
        bone = sharp.with_array(np.where(sharp.array > -500, sharp.array + 900, sharp.array), name="only bone")
        with pytest.raises(InputError, match=r"'only bone'.*reference"):
            KernelMatching(sharp, estimate="noise").apply(bone)

    def test_on_request(self, sharp):
        with pytest.raises(Cancelled):
            KernelMatching("soft", source_kernel="sharp").apply(sharp, cancelled=lambda: True)


@pytest.mark.real_data
@pytest.mark.slow
@pytest.mark.parametrize("measured", [slice(0, 15), slice(15, 30)], ids=["first half", "second half"])
def test_true_pair_comes_nearer_than_with_the_best_gaussian(real_data, measured):
    """Bone to soft kernel of a head phantom; the filter is estimated on the other slices, the Gaussian on the truth."""
    estimated = slice(15, 30) if measured.start == 0 else slice(0, 15)

    def half(name, part):
        image = sitk.ReadImage(str(real_data / "ct_kernel_pair" / f"ingenuity_{name}_1mm.nii.gz"))[:, :, part]
        outline = ndimage.binary_closing(
            np.pad(sitk.GetArrayFromImage(image) > -500, ((0, 0), (40, 40), (40, 40))),
            np.ones((1, 3, 3)),
            iterations=30,
        )[:, 40:-40, 40:-40]
        outline = images.largest_component(np.stack([ndimage.binary_fill_holes(s) for s in outline]))
        mask = images.mask_image(outline, image)
        return Scan(image, Modality.CT, {"External": Structure("External", mask, frozenset())}, units="HU", name=name)

    bone, soft = half("YA_bone", measured), half("UB_soft", measured)
    after = KernelMatching(half("UB_soft", estimated)).apply(bone)
    assert error_inside(after, soft) < best_gaussian(bone, soft, np.arange(0.5, 0.75, 0.05))


def test_where_the_noise_of_two_scans_cannot_be_compared_their_edges_are(other_patient):
    """Where there is no noise, no frequency of it rises above rounding."""
    smooth = simulated_ct.scan(SHARP, 1, level=1e-4, name="smooth")
    smooth = smooth.with_array(np.round(smooth.array))
    body = body_mask(smooth)
    with pytest.raises(InputError, match="noise"):
        KernelMatching(other_patient, estimate="noise").kernel_filter(smooth, body)
    edges = KernelMatching(other_patient, estimate="edges").kernel_filter(smooth, body)
    both = KernelMatching(other_patient).kernel_filter(smooth, body)
    assert np.array_equal(both.ratio, edges.ratio)
    with pytest.raises(InputError, match="'smooth'"):
        KernelMatching(other_patient).kernel_filter(smooth, np.zeros(body.shape, bool))
