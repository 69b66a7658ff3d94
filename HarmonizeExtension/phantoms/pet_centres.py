"""Simulated PET centres: every person can be imaged by both, so that the truth of a harmonization is known.

The two are made after Haberl et al., EJNMMI 2024 (Table 1, figure 6): Budapest smooth and quiet (median coefficient of
variation in the liver 0.09), Tuebingen sharper and noisier (0.13). Resolution and noise correlation are not in the
paper; they were chosen so that no Gaussian makes one centre's images like the other's in both edges and noise.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from .. import images
from ..errors import InputError
from ..files.volume import read_volume
from ..physics.pet_reconstruction import Reconstruction
from ..scan import Acquisition, Modality, Scan, Structure
from .fields import Axes
from .pet_body import FIELD_MM, PetPerson

CENTRES = {
    "BUD": Reconstruction(5.5, 4.0, 6.0, 0.090, (4.07, 4.07, 3.26)),
    "TUB": Reconstruction(5.0, 3.5, 2.0, 0.130, (2.04, 2.04, 3.00)),
}
DOSE_SPREAD = 0.12  # of the noise between patients of one size: injected activity, time on the bed


def centre(name: str) -> Reconstruction:
    """A centre by its name. Raises InputError that lists the names for an unknown one."""
    if name not in CENTRES:
        raise InputError(f"there is no simulated centre '{name}'; there are: {', '.join(CENTRES)}")
    return CENTRES[name]


def scan_person(
    person: PetPerson,
    name: str,
    rng: np.random.Generator,
    field_mm: tuple[tuple[float, float], ...] = FIELD_MM,
    noiseless: bool = False,
) -> Scan:
    """The person's scan in SUV by a centre, with organs and lesions as structures. field_mm: z, y and x of it.

    noiseless: what endlessly many such scans would be on average.
    """
    how = centre(name)
    axes = _axes(field_mm, how.voxel_mm)
    activity, masks = person.activity(axes)
    grid = sitk.Image([len(axis) for axis in axes[::-1]], sitk.sitkUInt8)
    grid.SetSpacing(how.voxel_mm)
    grid.SetOrigin([float(axis[0]) for axis in axes[::-1]])
    how = dataclasses.replace(how, noise=0.0) if noiseless else _dosed(how, rng)
    array = how.image_of(activity, how.voxel_mm, rng, person.diameter_mm)
    structures = {key: Structure(key, images.mask_image(mask, grid)) for key, mask in masks.items()}
    return Scan(images.to_image(array, grid), Modality.PET, structures, _acquisition(name), "SUV", person.name)


def true_activity(
    person: PetPerson, name: str, field_mm: tuple[tuple[float, float], ...] = FIELD_MM
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """SUV (z, y, x) without blur or noise, and masks, on the grid of a centre's scan of the same field."""
    return person.activity(_axes(field_mm, centre(name).voxel_mm))


def scan_image(image: sitk.Image, name: str, rng: np.random.Generator, title: str = "scan") -> Scan:
    """A real PET image (SUV) taken for activity, as a centre would show it: its own blur adds to the centre's."""
    how = centre(name)
    grid = images.grid_with_spacing(image, how.voxel_mm)
    activity = np.maximum(images.to_array(images.resample(image, grid)), 0)
    array = _dosed(how, rng).image_of(activity, grid.GetSpacing(), rng)
    return Scan(images.to_image(array, grid), Modality.PET, units="SUV", name=title, acquisition=_acquisition(name))


def read_real(folder: Path | str) -> dict[str, sitk.Image]:
    """All PET images (SUV) in a folder and below it, by path: files with PET in their name, not masks.

    Raises InputError where there is none.
    """
    found = {
        str(path.relative_to(folder)): read_volume(path)
        for path in sorted(Path(folder).rglob("*.nii*"))
        if "pet" in path.name.lower() and "mask" not in path.name.lower()
    }
    if not found:
        raise InputError(f"'{folder}' holds no PET image; put NIfTI files in SUV there, with PET in their names")
    return found


def _axes(field_mm: tuple[tuple[float, float], ...], voxel_mm: tuple[float, float, float]) -> Axes:
    return tuple(
        start + (np.arange(int((end - start) / step)) + 0.5) * step
        for (start, end), step in zip(field_mm, voxel_mm[::-1], strict=True)
    )


def _dosed(how: Reconstruction, rng: np.random.Generator) -> Reconstruction:
    """With the noise of one patient's dose."""
    return dataclasses.replace(how, noise=how.noise * float(np.exp(DOSE_SPREAD * rng.standard_normal())))


def _acquisition(name: str) -> Acquisition:
    return Acquisition(manufacturer="simulated", model=name)
