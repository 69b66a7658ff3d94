"""The anatomy that every simulated person is a deformation of: MNI152's brain in a simple head.

The brain is the ICBM 2009a nonlinear symmetric template (V. S. Fonov et al., NeuroImage 54:313, 2011): probabilities
of white and grey matter, averaged over 152 people, and the T1-weighted average, which ends at the brain's surface. What
lies outside is drawn here with signed distances: cerebrospinal fluid, skull with marrow, scalp, a face with eyes,
airway and sinuses, a neck.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib.util
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from scipy import ndimage

from ..errors import InputError
from ..resources import folder
from .fields import Axes

# The field of view in LPS mm: (z0, z1), (y0, y1), (x0, x1), outer edges of the voxels.
HEAD_BOX_MM = ((-106.0, 110.0), (-127.0, 133.0), (-96.0, 96.0))

FADING_MM = 4.0  # of the template, at its lower end
AROUND_MM = 20.0  # by which the template is larger than the field of view, since people deform it

_NILEARN_NAME = "mni_icbm152_{map}_tal_nlin_sym_09a_converted.nii.gz"
SHIPPED_NAME = "mni152_{map}_2mm.nii.gz"
_MAPS = ("t1", "gm", "wm")


def head_axes(spacing_mm: float, box_mm=HEAD_BOX_MM) -> Axes:
    """Voxel centres in LPS mm along z, y and x that fill the box, centred in it."""
    axes = []
    for start, end in box_mm:
        count = int(np.floor((end - start) / spacing_mm + 1e-6))
        axes.append((start + end) / 2 + (np.arange(count) - (count - 1) / 2) * spacing_mm)
    return tuple(axes)


def head_grid(spacing_mm: float) -> sitk.Image:
    """The empty grid of a scan of the head, axial, in LPS. Raises InputError for a spacing that makes no sense."""
    if not 0.4 <= spacing_mm <= 8:
        raise InputError(f"a spacing of {spacing_mm:g} mm is not possible for a head; use 0.4 to 8 mm")
    axes = head_axes(spacing_mm)
    grid = sitk.Image([len(axis) for axis in axes[::-1]], sitk.sitkUInt8)
    grid.SetSpacing([float(spacing_mm)] * 3)
    grid.SetOrigin([float(axis[0]) for axis in axes[::-1]])
    return grid


@dataclasses.dataclass(frozen=True)
class Map:
    """A scalar map of the template: values (z, y, x) from `origin_mm` (z, y, x in LPS) every `spacing_mm`."""

    values: np.ndarray
    origin_mm: tuple[float, float, float]
    spacing_mm: float

    def at(self, points_mm: np.ndarray) -> np.ndarray:
        """Linear interpolation at points (3, n) in z, y, x mm, float32; the value at the edge continues outside."""
        index = (points_mm - np.array(self.origin_mm, np.float32)[:, None]) / np.float32(self.spacing_mm)
        return ndimage.map_coordinates(self.values, index, np.float32, order=1, mode="nearest")


def mni152() -> dict[str, sitk.Image]:
    """The T1 average and the probabilities of grey and white matter ("t1", "gm", "wm"; uint8, 255 is 1) in LPS.

    At 1 mm from nilearn's package data where nilearn is installed (nothing of nilearn is imported), else at 2 mm
    from the copy in Resources/Sample.
    """
    return {name: sitk.DICOMOrient(sitk.ReadImage(str(path)), "LPS") for name, path in _files().items()}


def _files() -> dict[str, Path]:
    package = importlib.util.find_spec("nilearn")
    if package is not None and package.origin:
        data = Path(package.origin).parent / "datasets" / "data"
        files = {name: data / _NILEARN_NAME.format(map=name) for name in _MAPS}
        if all(file.is_file() for file in files.values()):
            return files
    return {name: folder("Sample") / SHIPPED_NAME.format(map=name) for name in _MAPS}


@dataclasses.dataclass(frozen=True)
class HeadTemplate:
    """Continuous maps of the head in template space. Distances are in mm and negative inside.

    white, grey, csf: probabilities, which add up to 1 in the brain and its fluid. brain: 1 in the template's brain.
    core: 1 in the deep nuclei and the brainstem, where intermediate probabilities are tissue and not blurred folds.
    cavity: distance to the cranial cavity and the spinal canal. face: to the soft tissue of face and neck.
    eyes: to the eyeballs. airway: to air inside the head.
    """

    white: Map
    grey: Map
    csf: Map
    brain: Map
    core: Map
    cavity: Map
    face: Map
    eyes: Map
    airway: Map


@functools.lru_cache(maxsize=1)
def head_template() -> HeadTemplate:
    """The template, made once from `mni152()`."""
    images = mni152()
    arrays = {name: sitk.GetArrayFromImage(image) for name, image in images.items()}
    spacing = images["gm"].GetSpacing()[0]
    origin = images["gm"].GetOrigin()[::-1]
    # The template fades out in the brainstem: its last whole slice goes on down the neck as the spinal cord.
    cut = round(FADING_MM / spacing)
    extra = int(np.ceil((origin[0] - HEAD_BOX_MM[0][0] + AROUND_MM) / spacing)) + cut
    arrays = {name: _with_cord(array[cut:], extra) for name, array in arrays.items()}
    origin = (origin[0] - (extra - cut) * spacing, origin[1], origin[2])
    grey, white = arrays["gm"] / np.float32(255), arrays["wm"] / np.float32(255)
    inside = arrays["t1"] > 0
    # Sulci are narrower than the differences between 152 people: what is dark in the average is fluid in each.
    dark = np.clip((150 - arrays["t1"].astype(np.float32)) / 75, 0, 1) * inside
    fluid = np.maximum(np.clip(1 - grey - white, 0, 1), dark)
    tissue = np.maximum(grey + white, 1e-3)
    share = np.minimum(1, (1 - fluid) / tissue)

    def as_map(values: np.ndarray) -> Map:
        return Map(np.ascontiguousarray(values, np.float32), origin, spacing)

    coarse = 2.0
    axes = head_axes(coarse, tuple((start - AROUND_MM, end + AROUND_MM) for start, end in HEAD_BOX_MM))
    points = np.stack([c.ravel() for c in np.meshgrid(*axes, indexing="ij")]).astype(np.float32)
    brain = as_map(inside)
    inside_coarse = ndimage.map_coordinates(
        brain.values, (points - np.array(origin, np.float32)[:, None]) / spacing, order=1, mode="constant"
    ).reshape([len(axis) for axis in axes])
    shapes = _head_shapes(axes, inside_coarse > 0.5, coarse)
    start = tuple(float(axis[0]) for axis in axes)
    distances = {name: Map(values.astype(np.float32), start, coarse) for name, values in shapes.items()}
    return HeadTemplate(
        white=as_map(white * share), grey=as_map(grey * share), csf=as_map(fluid), brain=brain, **distances
    )


def _with_cord(array: np.ndarray, extra: int) -> np.ndarray:
    """The array (z, y, x) with `extra` slices below: its last slice, led backward as the cord runs."""
    cord = [np.roll(array[0], round(0.25 * depth), axis=0) for depth in range(extra, 0, -1)]
    return np.concatenate([np.stack(cord), array])


def _ellipsoid(axes: Axes, centre_mm, radii_mm) -> np.ndarray:
    """About the distance in mm to an ellipsoid (z, y, x), negative inside."""
    scaled = [((axis - centre) / radius) for axis, centre, radius in zip(axes, centre_mm, radii_mm, strict=True)]
    radius = np.sqrt(scaled[0][:, None, None] ** 2 + scaled[1][:, None] ** 2 + scaled[2] ** 2)
    return (radius - 1) * min(radii_mm)


def _union(*distances: np.ndarray) -> np.ndarray:
    return functools.reduce(np.minimum, distances)


def _head_shapes(axes: Axes, brain: np.ndarray, spacing: float) -> dict[str, np.ndarray]:
    """Signed distances (z, y, x) of the parts of a head around the brain, drawn with ellipsoids."""
    # The cavity closes over sulci and fissures; a margin keeps the closing away from the array's edge.
    reach = 14
    padded = np.pad(brain, reach)
    outward = ndimage.distance_transform_edt(~padded, sampling=spacing) <= 14
    hull = ndimage.distance_transform_edt(outward, sampling=spacing) > 14
    hull = hull[reach:-reach, reach:-reach, reach:-reach] | brain
    cavity = ndimage.distance_transform_edt(~hull, sampling=spacing) - ndimage.distance_transform_edt(
        hull, sampling=spacing
    )
    cavity = ndimage.gaussian_filter(cavity, 2.0 / spacing)
    # z, y (posterior), x (left) of the parts of a face, mm in template space.
    face = _union(
        _ellipsoid(axes, (-62, -46, 0), (62, 48, 62)),
        _ellipsoid(axes, (-100, -50, 0), (34, 38, 44)),
        _ellipsoid(axes, (-58, -96, 0), (20, 16, 14)),
        _ellipsoid(axes, (-70, -8, 0), (58, 62, 69)),
        _ellipsoid(axes, (-120, 26, 0), (80, 66, 62)),
    )
    face = ndimage.gaussian_filter(face, 6.0 / spacing)
    eyes = _union(*(_ellipsoid(axes, (-38, -70, side * 32), (12.5, 12.5, 12.5)) for side in (-1, 1)))
    airway = _union(
        _ellipsoid(axes, (-62, -68, 5), (17, 26, 3.5)),
        _ellipsoid(axes, (-62, -68, -5), (17, 26, 3.5)),
        _ellipsoid(axes, (-60, -62, 26), (15, 15, 11)),
        _ellipsoid(axes, (-60, -62, -26), (15, 15, 11)),
        _ellipsoid(axes, (-22, -88, 0), (9, 5, 16)),
        _ellipsoid(axes, (-36, -44, 0), (8, 10, 9)),
        _ellipsoid(axes, (-95, -24, 0), (38, 7, 11)),
    )
    core = np.minimum(
        _ellipsoid(axes, (4, 4, 0), (20, 28, 33)),
        _ellipsoid(axes, (-45, 30, 0), (52, 20, 21)),
    )
    return {
        "cavity": cavity,
        "face": face,
        "eyes": eyes,
        "airway": airway,
        "core": np.clip(0.5 - core / 8, 0, 1),
    }
