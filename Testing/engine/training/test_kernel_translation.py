"""Samples of CT kernels: a square by two kernels, alike in all but the kernel; real pairs beside simulated stacks."""

import numpy as np
import pytest
import SimpleITK as sitk

torch = pytest.importorskip("torch")
pytest.importorskip("safetensors")

from Testing.engine.training.kernel_stacks import blurred, write_stacks  # noqa: E402

from HarmonizeExtension.errors import InputError  # noqa: E402
from HarmonizeExtension.methods.paired_ct.training import PairedCTTraining, Settings  # noqa: E402
from HarmonizeExtension.networks.kernel_blocks import kernel_code  # noqa: E402
from HarmonizeExtension.training.kernel_translation import read_pair  # noqa: E402

SMALL = {"cases": 2, "validation_cases": 1, "width": 4, "crop": 64, "judges": 0}


@pytest.fixture(scope="module")
def stacks(tmp_path_factory):
    return write_stacks(tmp_path_factory.mktemp("stacks") / "drawn")


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """A line of `pairs`, and its slices (kernel, slice, y, x): slice z of kernel k lies around 60 z + 1000 k - 800."""
    folder = tmp_path_factory.mktemp("pair")
    scans = np.random.default_rng(0).normal(0, 5, (2, 12, 80, 90))
    scans += 60 * np.arange(12)[None, :, None, None] + 1000 * np.arange(2)[:, None, None, None] - 800
    for name, scan in zip(("soft", "bone"), scans, strict=True):
        image = sitk.GetImageFromArray(scan.astype(np.float32))
        image.SetSpacing((0.5, 0.5, 1.0))
        sitk.WriteImage(image, str(folder / f"{name}.nii.gz"))
    return f"UB={folder / 'soft.nii.gz'}, YA={folder / 'bone.nii.gz'}", scans


def test_a_square_is_the_same_part_by_two_kernels(stacks):
    system = PairedCTTraining(Settings(slices=str(stacks), **SMALL))
    batch = system.batch(24, np.random.default_rng(0))
    again = system.batch(24, np.random.default_rng(0))
    assert all(torch.equal(value, again[name]) for name, value in batch.items())
    assert batch["source"].shape == (24, 3, 64, 64)
    for source, target in zip(batch["source"], batch["target"], strict=True):
        both = np.corrcoef(source[1].numpy().ravel(), target[0].numpy().ravel())
        assert both[0, 1] > 0.7  # the same tissue, at the same place, turned alike
    assert set(batch["code"][:, :3].argmax(dim=1).tolist()) == {0, 1, 2}


def test_real_pairs_add_their_kernels_and_only_the_chosen_slices(stacks, pair):
    text, scans = pair
    system = PairedCTTraining(Settings(slices=str(stacks), pairs=(text,), pair_slices="odd", pair_share=1.0, **SMALL))
    assert system.sites == ("Br40", "Bl57", "Bl64", "UB", "YA")
    (stack,) = system.pairs
    assert sorted([*stack.learnt, *stack.judged]) == [1, 3, 5, 7, 9, 11]
    assert len(stack.judged)
    assert np.allclose(stack.scans, scans, atol=1e-3)
    batch = system.batch(16, np.random.default_rng(1))
    wanted = batch["code"][:, :-1].argmax(dim=1) - 3
    assert torch.allclose(batch["code"][:, -1], torch.log2(torch.tensor(0.5 / 0.7)))
    for source, target, kernel in zip(batch["source"], batch["target"], wanted, strict=True):
        at = (float(target.mean()) + 800 - 1000 * float(kernel)) / 60
        assert round(at) in stack.learnt
        below, middle, above = (((float(s.mean()) + 900) % 1000 - 100) / 60 for s in source)
        assert middle == pytest.approx(at, abs=0.1)
        assert below == pytest.approx(max(at - 1, 0), abs=0.1)
        assert above == pytest.approx(min(at + 1, 11), abs=0.1)


def test_the_figures_name_every_direction(stacks, pair):
    system = PairedCTTraining(Settings(slices=str(stacks), pairs=(pair[0],), pair_slices="odd", **SMALL)).eval()
    with torch.no_grad():
        figures = system.validate()
    assert figures["UB to YA before"] == pytest.approx(1000, rel=0.15)
    assert figures["Br40 to Bl64"] > 0
    assert {"score", "mae_hu", "psnr_db", "YA to UB", "Bl64 to Br40"} <= set(figures)


def test_a_model_to_begin_from_hands_its_kernels_on(stacks, pair, tmp_path):
    small = SMALL | {"generator": "residual-cnn"}
    first = PairedCTTraining(Settings(slices=str(stacks), **small))
    with torch.no_grad():
        for gain in first.generator.gains:
            gain.gain.normal_()
    first.save_model(tmp_path / "model", {"score": 1.0})
    second = PairedCTTraining(Settings(slices=str(stacks), pairs=(pair[0],), start=str(tmp_path / "model"), **small))
    slices = torch.rand(1, 3, 64, 64)
    for kernel in range(3):
        results = [
            system.generator(slices, kernel_code(torch.tensor([kernel]), len(system.sites), torch.tensor([0.5])))
            for system in (first, second)
        ]
        assert torch.allclose(*results, atol=1e-5)
    with pytest.raises(InputError, match="give one of the same width"):
        PairedCTTraining(Settings(slices=str(stacks), start=str(tmp_path / "model"), **(small | {"width": 5})))


def test_a_pair_that_cannot_be_read_is_named(pair, tmp_path):
    text, _ = pair
    with pytest.raises(InputError, match="write it as SOFT=soft"):
        read_pair("soft.nii.gz, bone.nii.gz", "all")
    smaller = sitk.GetImageFromArray(blurred(np.random.default_rng(0))[0].astype(np.float32))
    sitk.WriteImage(smaller, str(tmp_path / "smaller.nii.gz"))
    with pytest.raises(InputError, match="does not lie on the grid of"):
        read_pair(f"{text.split(',')[0]}, X={tmp_path / 'smaller.nii.gz'}", "all")


def test_with_one_target_every_other_kernel_is_brought_to_it(stacks, pair, tmp_path):
    small = SMALL | {"targets": ("Bl64",)}
    system = PairedCTTraining(Settings(slices=str(stacks), **small))
    assert system.sites == ("Bl64",)
    assert (system.batch(6, np.random.default_rng(0))["code"][:, 0] == 1).all()
    with torch.no_grad():
        figures = system.eval().validate()
    assert {name for name in figures if name.endswith("before")} == {"Br40 to Bl64 before", "Bl57 to Bl64 before"}
    with pytest.raises(InputError, match="has none of the targets Bl64"):
        PairedCTTraining(Settings(slices=str(stacks), pairs=(pair[0],), **small))
    with pytest.raises(InputError, match="no scan has the kernel 'Br99'"):
        PairedCTTraining(Settings(slices=str(stacks), **(SMALL | {"targets": ("Br99",)})))


def test_where_only_a_real_kernel_is_wanted_nothing_is_simulated(pair, tmp_path):
    system = PairedCTTraining(Settings(slices=str(tmp_path / "none"), pairs=(pair[0],), targets=("UB",), **SMALL))
    assert not (tmp_path / "none").exists()
    assert system.judged == system.pairs
    assert system.batch(2, np.random.default_rng(0))["source"].shape == (2, 3, 64, 64)
    system.save_model(tmp_path / "model", {"score": 1.0})
