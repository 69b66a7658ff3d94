"""The CT benchmark: the oracle is one, nobody in it was trained on, kernels are asked for rightly, its tables count."""

import dataclasses

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from HarmonizeExtension.errors import InputError
from HarmonizeExtension.evaluation import ct_arms, ct_benchmark, ct_tables
from HarmonizeExtension.evaluation.agreement import HU_STRATA
from HarmonizeExtension.evaluation.ct_arms import (
    GAUSSIAN,
    INPUT,
    MATCHING,
    MEASURED_FILTER,
    TOLD_FILTER,
    Arm,
    Case,
    best_gaussian,
    matched,
    shown_as,
)
from HarmonizeExtension.files.models import ModelCard, save_model
from HarmonizeExtension.physics.ct_scan import KERNELS
from HarmonizeExtension.progress import never, silent
from HarmonizeExtension.radiomics.settings import Settings
from HarmonizeExtension.scan import Modality, Scan

PLAIN = (INPUT, MATCHING, GAUSSIAN, MEASURED_FILTER, TOLD_FILTER)
CUBE_MM = (8.0, 8.0, 8.0)
FAST = Settings(feature_classes={"firstorder": ("Mean", "Variance", "Entropy"), "glcm": ("Contrast",)})


def tissue(seed: int = 0, slices: int = 8, size: int = 64) -> np.ndarray:
    """A body of patches of lung, soft tissue and bone with texture, in air."""
    rng = np.random.default_rng(seed)
    kinds = rng.choice([-550.0, 60.0, 500.0], (1, size // 16, size // 16))
    array = np.kron(kinds, np.ones((slices, 16, 16))) + 60 * ndimage.gaussian_filter(
        rng.normal(size=(slices, size, size)), (0, 0.6, 0.6)
    )
    array[:, :4], array[:, -4:] = -1000, -1000
    return array.astype(np.float32)


def scan(array: np.ndarray, name: str, spacing=(0.7, 0.7, 1.0)) -> Scan:
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(spacing)
    return Scan(image, Modality.CT, units="HU", name=name)


def case(blur: float = 1.3, counted: slice = slice(None)) -> Case:
    """A case whose first kernel is the second one blurred."""
    sharp, other = tissue(), tissue(9)
    arrays = {"soft": ndimage.gaussian_filter(sharp, (0, blur, blur)), "sharp": sharp}
    return Case(
        "case",
        {name: scan(array, name) for name, array in arrays.items()},
        {"soft": scan(ndimage.gaussian_filter(other, (0, blur, blur)), "soft"), "sharp": scan(other, "sharp")},
        {},
        counted,
    )


@settings(max_examples=8, deadline=None)
@given(sigma=st.floats(0.5, 3.0), seed=st.integers(0, 99))
def test_the_oracle_finds_the_gaussian_and_no_other_comes_nearer(sigma, seed):
    sharp = tissue(seed, 2)
    soft = ndimage.gaussian_filter(sharp, (0, sigma, sigma))
    result, found = best_gaussian(sharp, soft)
    assert found == pytest.approx(sigma, abs=0.05)
    for other in (0.7 * sigma, 1.4 * sigma):
        assert np.mean((result - soft) ** 2) < np.mean((ndimage.gaussian_filter(sharp, (0, other, other)) - soft) ** 2)
    back, none = best_gaussian(soft, sharp)
    assert none == 0  # a blur sharpens nothing
    np.testing.assert_array_equal(back, soft)


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 99), gain=st.floats(0.2, 5), offset=st.floats(-500, 500))
def test_matching_gives_the_histogram_of_the_reference(seed, gain, offset):
    array = np.random.default_rng(seed).normal(size=(3, 20, 20)).astype(np.float32)
    reference = gain * np.random.default_rng(seed + 1).permutation(array.ravel()).reshape(array.shape) + offset
    np.testing.assert_allclose(matched(array, reference), gain * array + offset, rtol=1e-3, atol=1e-3)


def test_nobody_in_the_benchmark_was_trained_on():
    """Trainings draw cases from [seed, number], the benchmark from three words."""

    def state(*words):
        return tuple(np.random.SeedSequence(words).spawn(1)[0].generate_state(4))

    seeds = (0, 1, 3001, 4002)
    here = {state(s, n, word) for s in seeds for n in range(60) for word in (ct_arms.SEEN, ct_arms.REFERENCE)}
    trained = {state(s, n) for s in (*seeds, 2002) for n in range(300)}
    assert len(here) == len(seeds) * 120
    assert not here & trained


def test_cases_are_drawn_with_three_words(monkeypatch):
    asked = []

    def draw(recipe, seed, number):
        asked.append((list(seed.entropy), recipe.kinds, number))
        return np.arange(len(KERNELS) * recipe.slices * 64, dtype=np.int16).reshape(-1, recipe.slices, 8, 8), 0.7

    monkeypatch.setattr(ct_arms, "draw_case", draw)
    ct_arms.references.cache_clear()
    found = ct_arms.simulated_case(5, 4)
    assert asked == [([5, 4, ct_arms.SEEN], ("abdomen",), 0), ([5, 1, ct_arms.REFERENCE], ("abdomen",), 0)]
    assert list(found.scans) == list(KERNELS)
    assert found.scans["Br40"].acquisition.kernel == "Br40"
    assert found.scans["Br40"].spacing_mm == (0.7, 0.7, 1.0)
    assert ct_arms.simulated_case(5, 4, 3).scans["Br40"].spacing_mm == (0.7, 0.7, 3.0)
    ct_arms.references.cache_clear()


def test_arms_are_the_filters_and_every_model_of_kernels(tmp_path):
    assert [arm.name for arm in ct_arms.arms(tmp_path)] == list(PLAIN)
    weights = {"w": np.zeros(1, np.float32)}
    save_model(tmp_path / "gan", ModelCard("radiomicgan", "GAN", ("Br40", "Bl64")), weights)
    save_model(tmp_path / "brains", ModelCard("paired", "U-Net", ("GE 3T",)), weights)
    assert [(arm.name, arm.known) for arm in ct_arms.arms(tmp_path)[len(PLAIN) :]] == [("gan", ("Br40", "Bl64"))]


def test_a_model_is_asked_for_the_target_or_for_the_kernel_nearest_to_it():
    known = Arm("gan", "gan", "radiomicgan", ("Br40", "Bl57", "Bl64"))
    of = {name: kernel.mtf for name, kernel in KERNELS.items()}
    real = dataclasses.replace(case(), kernels={"soft": of["Br40"], "sharp": of["Bl57"], "Bl64": of["Bl64"]})
    assert [shown_as(known, real, target) for target in ("soft", "sharp", "Bl64")] == ["Br40", "Bl57", "Bl64"]
    tuned = dataclasses.replace(known, known=(*known.known, "soft"))
    assert shown_as(tuned, real, "soft") == "soft"
    # A model of one kernel is tried towards that one, or one like it, only.
    sharp = dataclasses.replace(known, known=("Bl64",))
    assert [ct_arms.usable(sharp, real, target) for target in ("soft", "sharp", "Bl64")] == [False, False, True]
    other = dataclasses.replace(real, kernels=real.kernels | {"sharp": of["Bl64"]})
    assert [ct_arms.usable(sharp, other, target) for target in ("soft", "sharp")] == [False, True]


def test_the_true_kernel_agrees_with_itself_and_the_oracle_nearly():
    found = ct_benchmark.measure(case(), [Arm(INPUT), Arm(GAUSSIAN)], FAST, CUBE_MM, 6, silent, never)
    assert {(one.source, one.target) for one in found.features} == {("soft", "sharp"), ("sharp", "soft")}
    by = {(one.arm, one.source): one for one in found.likeness}
    assert by[GAUSSIAN, "sharp"].difference_hu < 0.05 * by[INPUT, "sharp"].difference_hu
    assert by[GAUSSIAN, "soft"].difference_hu == by[INPUT, "soft"].difference_hu
    assert by[GAUSSIAN, "sharp"].psnr_db > by[INPUT, "sharp"].psnr_db + 20
    assert by[INPUT, "sharp"].bias_hu == pytest.approx(-by[INPUT, "soft"].bias_hu)
    features = {(one.arm, one.source): one for one in found.features}
    np.testing.assert_allclose(
        features[GAUSSIAN, "sharp"].values[:, 0], features[GAUSSIAN, "sharp"].truth[:, 0], atol=2
    )
    np.testing.assert_array_equal(features[INPUT, "soft"].values, features[INPUT, "sharp"].truth)


def test_only_the_counted_slices_are_measured():
    whole, alone = case(counted=slice(0, None, 2)), case()
    array = whole.scans["sharp"].array
    array[1::2] = 3000
    whole.scans["sharp"] = whole.scans["sharp"].with_array(array)
    for name, one in alone.scans.items():
        alone.scans[name] = scan(one.array[0::2], name, (0.7, 0.7, 2.0))
    found, expected = (
        ct_benchmark.measure(one, [Arm(INPUT), Arm(GAUSSIAN)], FAST, CUBE_MM, 6, silent, never)
        for one in (whole, alone)
    )
    for one, other in zip(found.likeness, expected.likeness, strict=True):
        assert one.difference_hu == pytest.approx(other.difference_hu, rel=1e-4)
    for one, other in zip(found.features, expected.features, strict=True):
        np.testing.assert_allclose(one.values, other.values, rtol=1e-4)


def test_noise_spectra_differ_by_what_noise_does():
    rng = np.random.default_rng(0)
    white = rng.normal(0, 10, (8, 80, 80)).astype(np.float32)
    inside = np.ones(white.shape, bool)
    spacing = (0.7, 0.7, 1.0)
    again = rng.normal(0, 10, white.shape).astype(np.float32)
    assert ct_benchmark.noise_difference(white, white, inside, spacing) == 0
    assert ct_benchmark.noise_difference(white, again, inside, spacing) < 0.1
    assert ct_benchmark.noise_difference(white, 2 * white, inside, spacing) == pytest.approx(3, rel=0.01)
    assert ct_benchmark.noise_difference(white, 0 * white, inside, spacing) == pytest.approx(1, rel=0.01)
    assert np.isnan(ct_benchmark.noise_difference(white, white, np.zeros_like(inside), spacing))


def test_a_real_pair_gives_tables_and_every_second_slice_counts(tmp_path):
    names = []
    for name, one in case().scans.items():
        array = np.repeat(one.array, 2, 0)
        array[1::2] += 5  # the slices that do not count
        path = tmp_path / f"{name}.nii.gz"
        image = sitk.GetImageFromArray(array.astype(np.int16))
        image.SetSpacing((0.7, 0.7, 1.0))
        sitk.WriteImage(image, str(path))
        names.append(f"{path}#{name}")
    (tmp_path / "models").mkdir()
    few = tmp_path / "few.json"
    few.write_text('{"setting": {"binWidth": 25}, "featureClass": {"firstorder": ["Mean", "Variance"], "shape": []}}')
    result = ct_benchmark.run(models=tmp_path / "models", pair=names, settings=few)
    tables = {table.name: table for table in result.tables}
    rows = {(row[0], row[1]): row for row in tables["ct-benchmark-features"].rows}
    assert {kernels for kernels, _ in rows} == {"soft to sharp", "sharp to soft"}
    assert {arm for _, arm in rows} >= {INPUT, MATCHING, GAUSSIAN}
    assert TOLD_FILTER not in {arm for _, arm in rows}  # nobody knows the MTF of a real scan
    images = {(row[0], row[1]): row for row in tables["ct-benchmark-images"].rows}
    assert images["sharp to soft", GAUSSIAN][3] > images["sharp to soft", INPUT][3] + 10
    assert all(len(row) == len(table.header) for table in result.tables for row in table.rows)
    assert {f"ct-benchmark-{a}-to-{b}" for a, b in (("soft", "sharp"), ("sharp", "soft"))} == set(result.figures)
    assert len(tables["ct-benchmark-by-feature"].rows) == 2 * len(rows)
    assert result.text()


def test_what_does_not_fit_is_told(tmp_path):
    with pytest.raises(InputError, match="at least 3 people"):
        ct_benchmark.run(people=1)
    with pytest.raises(InputError, match="slices of 0 mm"):
        ct_benchmark.run(slice_mm=0)
    with pytest.raises(InputError, match="two files, not 1"):
        ct_benchmark.run(pair=["one.nii.gz"], models=tmp_path)
    for name, size in (("a", 32), ("b", 48)):
        image = sitk.GetImageFromArray(tissue(slices=4, size=size).astype(np.int16))
        sitk.WriteImage(image, str(tmp_path / f"{name}.nii.gz"))
    a, b = (str(tmp_path / f"{name}.nii.gz") for name in "ab")
    with pytest.raises(InputError, match="other grids"):
        ct_arms.real_case([a, b])
    with pytest.raises(InputError, match="both scans have the kernel"):
        ct_arms.real_case([f"{a}#X", f"{a}#X"])


def test_an_arm_that_fails_in_one_case_is_left_out_of_that_direction():
    compared = [Arm(INPUT), Arm(GAUSSIAN)]
    found, second = (
        ct_benchmark.measure(dataclasses.replace(case(blur), name=name), compared, FAST, CUBE_MM, 6, silent, never)
        for name, blur in (("first", 1.3), ("second", 1.0))
    )
    second.features = [one for one in second.features if (one.arm, one.source) != (GAUSSIAN, "sharp")]
    found.add(second)
    tables, drawn = ct_tables.of(found, compared)
    arms = {(row[0], row[1]) for row in tables[0].rows}
    assert arms == {("soft to sharp", INPUT), ("soft to sharp", GAUSSIAN), ("sharp to soft", INPUT)}
    assert len(drawn) == 2
    assert len(HU_STRATA) * 2 == len(tables[0].header) - 2
    found.features = [one for one in found.features if one.source == "soft"]
    assert len(ct_tables.of(found, compared)[1]) == 1


def test_a_trained_model_is_measured_as_the_filters_are(tmp_path, monkeypatch):
    torch = pytest.importorskip("torch")
    pytest.importorskip("safetensors")
    from HarmonizeExtension.methods.radiomicgan.network import Generator
    from HarmonizeExtension.networks import inference

    monkeypatch.setattr(inference, "default_backend", lambda: "torch")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    generator = Generator(2, 2)
    with torch.no_grad():  # it changes nothing but adds 10 HU
        generator.last.weight.zero_()
        generator.last.bias.fill_(10 / 1012)
    weights = {f"generator.{name}": value.numpy() for name, value in generator.state_dict().items()}
    card = ModelCard("radiomicgan", "constant", ("soft", "sharp"), preprocessing={"window_hu": [-1024.0, 1000.0]})
    save_model(tmp_path / "gan", card, weights)
    compared = [arm for arm in ct_arms.arms(tmp_path) if arm.name in (INPUT, "gan")]
    found = ct_benchmark.measure(case(), compared, FAST, CUBE_MM, 6, silent, never)
    torch.set_num_threads(threads)
    assert not found.failures
    by = {(one.arm, one.source): one for one in found.likeness}
    for source in ("soft", "sharp"):
        np.testing.assert_allclose(by["gan", source].bias_hu, by[INPUT, source].bias_hu + 10, atol=0.2)


@pytest.mark.slow
@pytest.mark.real_data
def test_the_plain_gaussian_is_as_strong_on_the_real_pair_as_is_known(real_data):
    """Bone to soft: 31.3 HU before, 5.4 HU after a Gaussian of 1.4 pixels."""
    files = [real_data / "ct_kernel_pair" / f"ingenuity_{name}_1mm.nii.gz" for name in ("UB_soft", "YA_bone")]
    pair = ct_arms.real_case([f"{files[0]}#UB", f"{files[1]}#YA"])
    soft, bone = (one.array[pair.counted] for one in pair.scans.values())
    assert len(soft) == 15
    result, sigma = best_gaussian(bone, soft)
    assert np.abs(bone - soft).mean() == pytest.approx(31.3, abs=0.3)
    assert np.abs(result - soft).mean() < 5.5
    assert sigma == pytest.approx(1.4, abs=0.15)
