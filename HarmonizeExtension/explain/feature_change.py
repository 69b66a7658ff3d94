"""Which part of a structure moved a radiomics feature, or a model of features, between before and after.

Features have no gradient, so blocks are exchanged and the features computed again, exactly as a case measures them
(radiomics/extraction). A block alone has no fixed effect: the bins of a histogram hang on the extremes of all blocks.
So the blocks are harmonized one after the other in random orders, each order run forwards and backwards, and a block's
share is what it changed on average: its Shapley value, exactly where no more than two blocks interplay, and always with
shares that add up to the whole change (Shapley, A value for n-person games, 1953; Strumbelj and Kononenko, Knowl Inf
Syst 41, 2014; for orders in pairs Mitchell et al., J Mach Learn Res 23, 2022).
"""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from scipy import ndimage

from .. import comparison, images
from ..errors import InputError
from ..progress import CancelCheck, Progress, never, part, silent, stop_if
from ..radiomics import filters
from ..radiomics.catalogue import DEFINITIONS
from ..radiomics.extraction import extract
from ..radiomics.settings import Settings
from ..scan import Role, Scan
from .faithfulness import Faithfulness, faithfulness

MOST_BLOCKS = 40
ORDERS = 2  # each run forwards and backwards
RIM_VOXELS = 2  # around the structure that count as its own: what interpolation and filters draw on first
REACH_VOXELS = 16  # beyond which a voxel moves a spline by less than 1e-9

# From the features of the structure, by name, to one number.
Number = Callable[[Mapping[str, float]], float]


@dataclasses.dataclass(frozen=True)
class FeatureChange:
    """The parts of a structure and what each did to the number.

    structure: its name. before, after: the number on both images.
    label: (z, y, x) on the scan's grid, the block of each voxel from 1; 0 for the surroundings, which count as one.
    share: (blocks + 1,) of the number's change, in its unit, the surroundings first. uncertainty: (blocks + 1,)
    standard errors of the shares, 0 where blocks do not interplay.
    faithfulness: of the shares, held against edges, the size of the change of intensity, and chance.
    """

    structure: str
    before: float
    after: float
    label: np.ndarray
    share: np.ndarray
    uncertainty: np.ndarray
    faithfulness: Faithfulness

    def volume(self) -> np.ndarray:
        """Every voxel with its block's share of the whole change (z, y, x), float32; 0 in the surroundings."""
        worth = self.share / (self.after - self.before)
        worth[0] = 0
        return worth[self.label].astype(np.float32)


def feature_change(
    before: Scan,
    after: Scan,
    structure: str,
    features: Sequence[str],
    number: Number,
    settings: Settings,
    rng: np.random.Generator,
    progress: Progress = silent,
    cancelled: CancelCheck = never,
) -> FeatureChange:
    """Share the change of a number out to the blocks of a structure.

    before, after: on one grid, with the structures of `before`. Where the method changed the scale of intensities,
    `before` is brought to that of `after`, and the change is what remains. features: those that `number` needs; the
    settings are those of the case.
    Raises InputError where grids differ, the structure or a feature is not there, or nothing changed.
    """
    if not images.same_grid(before.image, after.image):
        raise InputError(f"'{after.name}' is not on the grid of '{before.name}'; explain two images of one grid")
    name = structure or next((s.name for s in before.with_role(Role.MEASURED)), "")
    if name not in before.structures:
        have = ", ".join(before.structures) or "none"
        raise InputError(f"'{before.name}' has no structure '{name}' to measure; it has: {have}")
    own = narrowed(settings, features)
    after = dataclasses.replace(after, structures=before.structures)  # those of a file stand in another
    scale = before.with_array(comparison.on_scale_of(before, after))

    def measured(scan: Scan) -> float:
        row = extract(scan, own, structures=[name]).rows[0]
        value = number(row.values)
        if not np.isfinite(value):
            raise InputError(f"there is no value of {', '.join(features)} in '{name}'; choose another feature")
        return value

    exchange = _Exchange(scale, after, name, own, measured)
    whole = exchange.after - exchange.before
    if whole == 0:
        raise InputError(f"{', '.join(features)} of '{name}' did not change; there is nothing to explain")

    def evaluate(kept: np.ndarray) -> float:
        stop_if(cancelled)
        return exchange(kept)

    found = np.empty((2 * ORDERS, exchange.blocks))
    drawn = rng.permuted(np.tile(np.arange(exchange.blocks), (ORDERS, 1)), axis=1)
    for row, order in enumerate(way for forwards in drawn for way in (forwards, forwards[::-1])):
        found[row] = _effects(order, evaluate, part(progress, row / (4 * ORDERS), (row + 1) / (4 * ORDERS)))
    pairs = found.reshape(ORDERS, 2, -1).mean(axis=1)
    share, uncertainty = pairs.mean(axis=0), pairs.std(axis=0, ddof=1) / np.sqrt(ORDERS)
    checked = faithfulness(
        share[None] * np.sign(whole), exchange.controls(), evaluate, rng, 0.0, part(progress, 0.5, 1.0), cancelled
    )
    label = np.zeros(before.array.shape, exchange.label.dtype)
    label[exchange.box] = exchange.label
    return FeatureChange(name, exchange.before, exchange.after, label, share, uncertainty, checked)


class _Exchange:
    """The number of a structure with some of its blocks harmonized: call it with which (1, blocks; bool).

    box: the part of the scans that is measured. label: (z, y, x) in it, the block of each voxel; 0: the surroundings.
    """

    def __init__(self, before: Scan, after: Scan, name: str, settings: Settings, measured: Callable[[Scan], float]):
        self._measured = measured
        self.before, self.after = measured(before), measured(after)
        self.box = _box(before, name, settings)
        parts = [_part(scan, name, self.box) for scan in (before, after)]
        if not np.allclose([measured(p) for p in parts], [self.before, self.after], rtol=1e-9, atol=0):
            self.box = tuple(slice(0, n) for n in before.array.shape)  # the part does not measure what the whole does
            parts = [_part(scan, name, self.box) for scan in (before, after)]
        self._scan, self._old, self._new = parts[0], parts[0].array, parts[1].array
        self.label = _blocks(parts[0].structures[name].array, before.spacing_mm)
        self.blocks = int(self.label.max()) + 1
        everything = np.ones((1, self.blocks), bool)
        self._known = {everything.tobytes(): self.after, (~everything).tobytes(): self.before}

    def __call__(self, kept: np.ndarray) -> float:
        key = kept.tobytes()
        if key not in self._known:
            self._known[key] = self._measured(
                self._scan.with_array(np.where(kept[0][self.label], self._new, self._old))
            )
        return self._known[key]

    def controls(self) -> dict[str, np.ndarray]:
        """What a map without any knowledge of the feature would say of each block (1, blocks)."""
        numbers = np.arange(self.blocks)
        edges = ndimage.mean(ndimage.gaussian_gradient_magnitude(self._old, 1.0), self.label, numbers)
        changed = ndimage.sum(np.abs(self._new - self._old), self.label, numbers)
        return {"edges": np.asarray(edges)[None], "the change of intensity": np.asarray(changed)[None]}


def _effects(order: np.ndarray, evaluate: Callable[[np.ndarray], float], progress: Progress) -> np.ndarray:
    """What each block (blocks,) changes when they are harmonized one after the other in this order."""
    kept = np.zeros((1, len(order)), bool)
    values = [evaluate(kept)]
    for count, block in enumerate(order):
        kept[0, block] = True
        values.append(evaluate(kept))
        progress((count + 1) / len(order), f"Exchanging block {count + 1} of {len(order)}")
    effects = np.empty(len(order))
    effects[order] = np.diff(values)
    return effects


def feature_names(settings: Settings) -> list[str]:
    """The features of intensities that the settings measure, as the feature table names them."""
    return [
        f"{image_name}_{feature_class}_{name}"
        for image_type in settings.image_types
        for image_name in filters.names(image_type, settings.for_image_type(image_type))
        for feature_class, wanted in settings.feature_classes.items()
        if feature_class != "shape"
        for name in wanted or DEFINITIONS[feature_class]
    ]


def narrowed(settings: Settings, features: Sequence[str]) -> Settings:
    """The settings that measure these features ("original_glcm_Contrast"), and as little else as can be.

    Raises InputError for a feature that the settings do not measure.
    """
    known = feature_names(settings)
    types: dict[str, Mapping] = {}
    classes: dict[str, list[str]] = {}
    for feature in features:
        if feature not in known:
            near = difflib.get_close_matches(feature, known, 1)
            raise InputError(
                f"the radiomics settings measure no feature '{feature}' of intensities; did you mean "
                f"'{near[0] if near else known[0]}'?"
            )
        image_name, feature_class, name = feature.rsplit("_", 2)
        for image_type, own in settings.image_types.items():
            if image_name in filters.names(image_type, settings.for_image_type(image_type)):
                types[image_type] = own
        classes.setdefault(feature_class, []).append(name)
    return dataclasses.replace(settings, image_types=types, feature_classes={c: tuple(n) for c, n in classes.items()})


def _box(scan: Scan, name: str, settings: Settings) -> tuple[slice, ...]:
    """A part of the scan (z, y, x) around the structure in which features are measured as in the whole.

    Resampled grids share the corner of the image (radiomics/preparation), so a part begins where a new voxel does.
    """
    shape = scan.array.shape
    if settings.normalize:
        return tuple(slice(0, n) for n in shape)
    around = images.bounding_box(scan.structures[name].array, margin=REACH_VOXELS)
    new = settings.resampled_spacing_mm or (0, 0, 0)
    box = []
    for slice_, old_mm, new_mm in zip(around, scan.spacing_mm[::-1], new[::-1], strict=True):
        starts = np.arange(slice_.start + 1)
        steps = starts * (old_mm / new_mm if new_mm else 1.0)
        fitting = starts[np.abs(steps - np.round(steps)) < 1e-9]
        box.append(slice(int(fitting[-1]), slice_.stop))
    return tuple(box)


def _part(scan: Scan, name: str, box: tuple[slice, ...]) -> Scan:
    """The scan in a box (z, y, x), with one structure, float32."""
    across = box[::-1]
    structure = scan.structures[name]
    image = images.to_image(scan.array, scan.image)[across]
    return dataclasses.replace(
        scan, image=image, structures={name: dataclasses.replace(structure, mask=structure.mask[across])}
    )


def _blocks(inside: np.ndarray, spacing_mm: Sequence[float]) -> np.ndarray:
    """Cubes of a structure with its rim (z, y, x), from 1, at most MOST_BLOCKS; 0 elsewhere."""
    if not inside.any():
        raise InputError("the structure is empty; draw it first")
    near = ndimage.binary_dilation(inside, iterations=RIM_VOXELS)
    voxel = np.array(spacing_mm[::-1])
    at = np.argwhere(near)
    mm = (at - at.min(0)) * voxel
    side = max((len(at) * voxel.prod() / MOST_BLOCKS) ** (1 / 3), float(voxel.max()))
    while True:
        _, number = np.unique((mm // side).astype(int), axis=0, return_inverse=True)
        if number.max() < MOST_BLOCKS:
            break
        side *= 1.1
    label = np.zeros(inside.shape, np.int32)
    label[tuple(at.T)] = number.ravel() + 1
    return label
