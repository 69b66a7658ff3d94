"""CT slices drawn for training: the same for the same recipe, whole after an interruption, kernels in their order."""

import dataclasses
import functools
import json

import numpy as np
import pytest
import SimpleITK as sitk
from scipy import ndimage

from HarmonizeExtension.errors import InputError
from HarmonizeExtension.phantoms.ct_slices import draw_slices
from HarmonizeExtension.physics.ct_scan import KERNELS, Geometry, Kernel, scan_with_kernels
from HarmonizeExtension.progress import never, silent
from HarmonizeExtension.training import drawn, kernel_pairs
from HarmonizeExtension.training.drawn import INDEX, array_path
from HarmonizeExtension.training.kernel_pairs import KernelRecipe, draw_case, draw_kernel_pairs

TINY = {"slices": 1, "size": 32, "kinds": ("phantom",)}


@pytest.fixture(autouse=True)
def _few_views(monkeypatch):
    quick = functools.partial(scan_with_kernels, geometry=Geometry(24, 0.5))
    monkeypatch.setattr(kernel_pairs, "scan_with_kernels", quick)


def test_the_same_recipe_gives_the_same_bytes_and_goes_on_where_it_was(tmp_path, monkeypatch):
    recipe = KernelRecipe(2, 5, spacing_mm=(0.5, 0.9), **TINY)
    monkeypatch.setattr(drawn, "run_in_processes", _here)
    texts = []
    pairs = draw_kernel_pairs(tmp_path, recipe, 1, lambda _, text: texts.append(text))
    assert texts[-1] == "Drawing cases: 2 of 2"
    scans, path = [np.array(pairs.scans(n)) for n in range(2)], array_path(tmp_path, 1)
    assert scans[0].shape == (len(KERNELS), 1, 32, 32)
    assert scans[0].dtype == np.int16
    assert not np.array_equal(scans[0], scans[1])
    assert 0.5 <= pairs.spacing_mm(0) <= 0.9
    assert pairs.spacing_mm(0) != pairs.spacing_mm(1)
    kept, before = array_path(tmp_path, 0).stat().st_mtime_ns, path.read_bytes()
    path.unlink()
    draw_kernel_pairs(tmp_path, recipe, 1)
    assert path.read_bytes() == before
    assert array_path(tmp_path, 0).stat().st_mtime_ns == kept
    with pytest.raises(InputError, match="drawn otherwise"):
        draw_kernel_pairs(tmp_path, KernelRecipe(2, 6, **TINY), 1)


def test_kernels_keep_their_order_and_their_sharpness():
    recipe = KernelRecipe(1, 0, photons=(1e5, 1e5), **TINY)
    scans, _ = draw_case(recipe, np.random.SeedSequence([0, 0]), 0)
    sharpness = np.abs(np.diff(scans.astype(float), axis=-1)).mean(axis=(1, 2, 3))
    assert recipe.kernel_names == tuple(KERNELS)
    assert (np.diff(sharpness) > 0).all()
    other = KernelRecipe(1, 0, (Kernel("only", 0.5, 0.8),), photons=(1e5, 1e5), **TINY)
    assert draw_case(other, np.random.SeedSequence([0, 0]), 0)[0].shape[0] == 1


def test_thick_slices_are_quieter_means_of_thin_ones(monkeypatch):
    seen = []

    def remembered(kind, slices, slice_mm, rng):
        seen.append(draw_slices(kind, slices, slice_mm, rng))
        return seen[-1]

    def given(slices, _, kernels, photons, *__):
        seen.append((slices, photons))
        return np.zeros((len(kernels), 1, 32, 32))

    monkeypatch.setattr(kernel_pairs.ct_slices, "draw_slices", remembered)
    monkeypatch.setattr(kernel_pairs, "scan_with_kernels", given)
    recipe = KernelRecipe(2, 0, photons=(1e5, 1e5), thick=(1, 3), **TINY)
    for number in range(2):
        draw_case(recipe, np.random.SeedSequence([0, 0]), number)
    thin, (_, few), thick, (averaged, many) = seen
    assert (len(thin), len(thick), len(averaged)) == (1, 3, 1)
    np.testing.assert_allclose(averaged[0], thick.mean(axis=0), atol=1e-3)
    assert many == pytest.approx(3 * few)


def test_a_folder_that_was_drawn_before_a_setting_existed_is_still_the_same(tmp_path, monkeypatch):
    monkeypatch.setattr(drawn, "run_in_processes", _here)
    monkeypatch.setattr(kernel_pairs, "_draw", lambda *_: None)
    recipe = KernelRecipe(1, 5, **TINY)
    draw_kernel_pairs(tmp_path, recipe, 1)
    settings = json.loads((tmp_path / INDEX).read_text(encoding="utf-8"))
    del settings["thick"], settings["kernels"][0]["slice_weight"]
    (tmp_path / INDEX).write_text(json.dumps(settings), encoding="utf-8")
    draw_kernel_pairs(tmp_path, recipe, 1)
    blended = dataclasses.replace(KERNELS["Br40"], slice_weight=0.1)
    for other in (
        dataclasses.replace(recipe, thick=(2,)),
        dataclasses.replace(recipe, kernels=(blended, *recipe.kernels[1:])),
        dataclasses.replace(recipe, kernels=recipe.kernels[:2]),
        dataclasses.replace(recipe, seed=6),
    ):
        (tmp_path / INDEX).write_text(json.dumps(settings), encoding="utf-8")
        with pytest.raises(InputError, match="drawn otherwise"):
            draw_kernel_pairs(tmp_path, other, 1)
    (tmp_path / INDEX).write_text(json.dumps(settings | {"later": 1}), encoding="utf-8")
    with pytest.raises(InputError, match="drawn otherwise"):
        draw_kernel_pairs(tmp_path, recipe, 1)


def test_real_scans_are_taken_where_they_are_named(tmp_path):
    array = np.full((4, 90, 90), -1000, np.int16)
    array[:, 10:80, 10:80] = 50
    sitk.WriteImage(sitk.GetImageFromArray(array), str(tmp_path / "ct.nii.gz"))
    recipe = KernelRecipe(
        1, 0, slices=2, size=160, spacing_mm=(1.0, 1.0), kinds=("real",), scans=(str(tmp_path / "ct.nii.gz"),)
    )
    scans, _ = draw_case(recipe, np.random.SeedSequence([0, 0]), 0)
    smooth = ndimage.gaussian_filter(scans[0].astype(float), (0, 3, 3))
    assert np.mean(np.abs(smooth - 50) < 30) > 0.05
    assert np.mean(np.abs(smooth + 1000) < 60) > 0.05


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"kinds": ("leg",)}, "no kind of slice leg"),
        ({"kinds": ("real",)}, "real slices need scans"),
        ({"scans": ("ct.nii.gz",)}, "real slices need scans"),
        ({"slices": 0}, "at least one"),
        ({"thick": (1, 0)}, "whole number of times"),
        ({"spacing_mm": (0.9, 0.5)}, "the smaller one first"),
    ],
)
def test_recipes_that_make_no_sense_are_told(changes, reason):
    with pytest.raises(InputError, match=reason):
        KernelRecipe(**({"cases": 1, "seed": 0} | changes))


def _here(task, arguments, *_):
    """In this process, so that what a test changed holds."""
    for name, given in arguments.items():
        yield name, task(*given, silent, never)
