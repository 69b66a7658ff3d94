"""Voxel counts, reliability, proposed groups, scanner labels."""

import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import hadamard

from HarmonizeExtension.errors import InputError
from HarmonizeExtension.feature_domain.clustering import propose_labels, silhouette
from HarmonizeExtension.feature_domain.reliability import reliability
from HarmonizeExtension.feature_domain.scanner_label import manufacturer_name, scanner_labels
from HarmonizeExtension.feature_domain.voxel_count import POWERS, voxel_count_corrected
from HarmonizeExtension.radiomics.extraction import extract
from HarmonizeExtension.radiomics.settings import Settings
from HarmonizeExtension.scan import Acquisition, Modality, Scan, Structure


def texture_features(side: int) -> dict[str, float]:
    """Features of a cube of `side` voxels of one homogeneous texture."""
    levels = np.random.default_rng(3).integers(1, 25, (26, 26, 26)).astype(np.float32)
    image = sitk.GetImageFromArray(levels[: side + 2, : side + 2, : side + 2])
    mask = np.zeros((side + 2,) * 3, np.uint8)
    mask[1:-1, 1:-1, 1:-1] = 1
    label = sitk.GetImageFromArray(mask)
    table = extract(Scan(image, Modality.MR, {"cube": Structure("cube", label)}), Settings(bin_width=1))
    return dict(table.rows[0].values)


def test_of_one_texture_only_the_corrected_features_do_not_grow_with_the_voxels():
    small, large = texture_features(12), texture_features(24)
    names = [name for name in small if name.startswith("original_") and name.endswith(tuple(POWERS))]
    assert len(names) == len(POWERS)
    raw = np.array([[features[name] for name in names] for features in (small, large)])
    corrected, changed = voxel_count_corrected(names, raw, [12**3, 24**3])
    assert changed == tuple(names)
    assert (np.abs(np.log2(raw[1] / raw[0])) > 2.5).all()  # eightfold, but for the rim
    assert (np.abs(np.log2(corrected[1] / corrected[0])) < 0.3).all()


def test_other_features_are_left_as_they_are():
    values = np.array([[1.0, 2.0], [3.0, 4.0]])
    got, changed = voxel_count_corrected(["original_firstorder_Mean", "wavelet-LLH_firstorder_Energy"], values, [2, 4])
    assert np.array_equal(got, [[1, 1], [3, 1]])
    assert changed == ("wavelet-LLH_firstorder_Energy",)
    with pytest.raises(InputError, match="without voxels"):
        voxel_count_corrected(["a", "b"], values, [2, 0])
    with pytest.raises(InputError, match="do not fit"):
        voxel_count_corrected(["a"], values, [2, 2])


@pytest.mark.parametrize("measure", ["ccc", "icc"])
def test_features_that_repeat_are_kept_and_noise_and_offsets_are_not(measure):
    rng = np.random.default_rng(0)
    subject = rng.standard_normal((30, 1, 4))
    noise = np.array([0.05, 2.0, 0.05, 0.0])
    measured = subject + noise * rng.standard_normal((30, 2, 4))
    measured[:, 1, 2] += 3.0  # the second scanner reads higher
    measured[:, :, 3] = 5.0  # does not vary: nothing can be said
    found = reliability(measured, ["steady", "noisy", "shifted", "flat"], measure)
    assert found.kept == ("steady",)
    assert np.isnan(found.value[3])


def test_reliability_refuses_what_is_not_repeated():
    with pytest.raises(InputError, match="not \\(subjects, repeats, 2\\)"):
        reliability(np.zeros((5, 2)), ["a", "b"])
    with pytest.raises(InputError, match="'ccc' with 3 repeats"):
        reliability(np.zeros((5, 3, 1)), ["a"], "ccc")


@settings(max_examples=4, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 4))
def test_groups_far_apart_are_found(seed, count):
    rng = np.random.default_rng(seed)
    truth = np.repeat(np.arange(count), 40)
    centres = 15 * hadamard(8)[:count]  # every two equally far apart
    values = centres[truth] + rng.standard_normal((len(truth), 8))
    values = np.column_stack([values, np.full(len(truth), 2.0), np.where(truth == 0, np.nan, 1)])
    found = propose_labels(values, np.random.default_rng(seed))
    pairs = {*zip(truth.tolist(), found.labels, strict=True)}
    assert len(pairs) == found.count  # no group holds scans of two
    assert found.count - count in (0, 1)  # about one time in a hundred a group is halved by chance
    assert found.silhouette > 0.3
    assert found == propose_labels(values, np.random.default_rng(seed))
    assert set(found.labels) == {f"group {i + 1}" for i in range(count)}


def test_one_cloud_is_one_group():
    clouds = (np.random.default_rng(seed).standard_normal((100, 8)) for seed in range(5))
    found = [propose_labels(cloud, np.random.default_rng(0)) for cloud in clouds]
    assert sum(proposal.count == 1 for proposal in found) >= 4
    assert all(np.isnan(p.silhouette) for p in found if p.count == 1)


def test_silhouette_equals_scikit_learns():
    stored = json.loads((Path(__file__).parents[2] / "data" / "evaluation" / "reference.json").read_text())
    got = silhouette(np.array(stored["points"]), np.array(stored["label"]))
    assert got == pytest.approx(stored["silhouette"], abs=1e-12)


def test_groups_need_scans_and_features():
    rng = np.random.default_rng(0)
    with pytest.raises(InputError, match="too small"):
        propose_labels(np.zeros((5, 3)), rng)
    with pytest.raises(InputError, match="no feature"):
        propose_labels(np.ones((30, 3)), rng)


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("GE MEDICAL SYSTEMS", "GE"),
        ("GE", "GE"),
        ("General Electric Company", "GE"),
        ("SIEMENS", "Siemens"),
        ("Siemens Healthineers", "Siemens"),
        (" Philips Medical Systems ", "Philips"),
        ("TOSHIBA", "Canon"),
        ("UIH", "United Imaging"),
        ("Geisinger Workshop", "Geisinger Workshop"),
    ],
)
def test_manufacturers_have_one_name(written, name):
    assert manufacturer_name(written) == name


def test_labels_go_as_deep_as_every_label_has_enough_scans():
    def scans(manufacturer, field, model, count):
        return [Acquisition(manufacturer, model, field_strength_tesla=field)] * count

    all_scans = scans("SIEMENS", 2.89, "Skyra", 20) + scans("Siemens", 3.0, "Trio", 20) + scans("GE", 1.5, "HDx", 25)
    found = scanner_labels(all_scans, Modality.MR)
    assert set(found.labels) == {"Siemens / 3 T / Skyra", "Siemens / 3 T / Trio", "GE / 1.5 T / HDx"}
    assert found.parts == ("manufacturer", "field_strength_tesla", "model")
    found = scanner_labels(all_scans[1:], Modality.MR)  # 19 of one model: the model is dropped for all
    assert set(found.labels) == {"Siemens / 3 T", "GE / 1.5 T"}
    found = scanner_labels([*all_scans, Acquisition()], Modality.MR)
    assert found.parts == ("manufacturer",)
    assert found.small == ("unknown",)
    assert len(found.labels) == 66


@pytest.mark.parametrize(
    ("modality", "tag", "label"),
    [
        (Modality.CT, {"kernel": "B31f "}, "Siemens / B31f / X"),
        (Modality.PET, {"reconstruction": "OSEM"}, "Siemens / OSEM / X"),
        (Modality.CT, {}, "Siemens / unknown / X"),
    ],
)
def test_what_shapes_the_image_most_comes_second(modality, tag, label):
    assert scanner_labels([Acquisition("SIEMENS", "X", **tag)], modality, minimum=1).labels == (label,)
