"""Stacks of slices with three kernels for tests, made in no time: noise that each kernel blurs by its own width."""

import dataclasses
import json

import numpy as np
from scipy import ndimage

from HarmonizeExtension.physics.ct_scan import KERNELS
from HarmonizeExtension.training.drawn import INDEX, array_path, save_array
from HarmonizeExtension.training.kernel_pairs import KernelRecipe
from HarmonizeExtension.training.kernel_translation import SPACING_MM

BLUR = (1.5, 0.8, 0.4)  # pixels, soft kernel first


def blurred(rng, slices=3, size=80):
    """(kernel, slice, y, x), int16: tissue with noise in a frame of air."""
    tissue = np.kron(rng.normal(50, 150, (slices, size // 8, size // 8)), np.ones((1, 8, 8)))
    tissue = tissue + rng.normal(0, 40, tissue.shape)
    tissue[:, :8], tissue[:, -8:] = -1000, -1000
    kernels = [ndimage.gaussian_filter(tissue, (0, width, width)) for width in BLUR]
    return np.rint(np.stack(kernels)).astype(np.int16)


def write_stacks(folder, cases=2, validation_cases=1, seed=3001):
    """A folder as `training.kernel_pairs` leaves it."""
    assert len(KERNELS) == len(BLUR)
    for name, count, recipe_seed in (("train", cases, seed), ("validation", validation_cases, seed + 1001)):
        recipe = KernelRecipe(count, recipe_seed, spacing_mm=SPACING_MM, slices=3, size=80)
        (folder / name).mkdir(parents=True)
        for number in range(count):
            save_array(array_path(folder / name, number), blurred(np.random.default_rng([recipe_seed, number])))
            save_array(array_path(folder / name, number, "spacing"), np.array(0.7))
        settings = dataclasses.asdict(dataclasses.replace(recipe, slices=8, size=256))
        (folder / name / INDEX).write_text(json.dumps(settings))
    return folder
