"""A travelling cohort as files: every person on every scanner, with the truth, ready for `harmonize cohort`.

manifest.csv                             a line for each scan, with the settings of its protocol
person_001/Siemens_3T.nii.gz             the scans, int16 as scanners store, all of a person on one grid
person_001/structures.nii.gz, .json      label map of tissues and lesions, and its names
person_001/brain.nii.gz                  mask, which overlaps with tissues and so stands alone
person_001/truth/T1_3T.nii.gz            T1 at this field strength, int16 in ms
person_001/truth/T2star_3T.nii.gz        T2*, float32 in ms
person_001/truth/proton_density.nii.gz   relative to water, float32
person_001/truth/white_matter.nii.gz     share of this tissue in each voxel, uint8, 255 is all of it
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from .. import images
from ..errors import InputError
from ..files.manifest import Entry, Manifest
from ..files.writing import output_folder, replacing, write_image, write_json
from ..progress import CancelCheck, Progress, never, silent, stop_if
from ..scan import Modality, Scan
from .anatomy import head_grid
from .brain import travelling_cohort
from .maps import quantitative_maps
from .person import Person
from .scanners import SCANNERS, Scanner

ALONE = "brain"  # the structure that holds others
PROTOCOL = ("repetition_time_ms", "echo_time_ms", "inversion_time_ms", "flip_angle_deg", "field_strength_tesla")


def scanners_named(names: Sequence[str]) -> list[Scanner]:
    """The scanners of these names, all for none. Raises InputError that lists the known ones."""
    unknown = [name for name in names if name not in SCANNERS]
    if unknown:
        raise InputError(f"no scanner is named {', '.join(map(repr, unknown))}; choose from {', '.join(SCANNERS)}")
    return [SCANNERS[name] for name in dict.fromkeys(names)] or list(SCANNERS.values())


def write_cohort(
    folder: str | os.PathLike,
    people: int,
    scanners: Sequence[Scanner],
    seed: int,
    spacing_mm: float = 1.0,
    diseased: float = 0.0,
    progress: Progress = silent,
    cancelled: CancelCheck = never,
) -> Path:
    """Write a cohort to a new or empty folder, which appears when all of it is there; returns its manifest.

    The same seed gives the same voxels. diseased: share (0 to 1) of the people who are ill, on average.
    Raises InputError for a folder that holds something or numbers that make no sense, OutputError, Cancelled.
    """
    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"'{folder}' is there already and is not empty; choose a new folder for the cohort")
    if people < 1 or seed < 0 or not 0 <= diseased <= 1:
        raise InputError(
            f"{people} people, seed {seed}, {diseased:g} of them ill: use at least 1 person, a seed of at least 0 and "
            "a share from 0 to 1"
        )
    head_grid(spacing_mm)  # a spacing that makes no sense is refused before anything is made
    output_folder(folder.parent)
    with replacing(folder) as beside:
        beside.mkdir()
        entries: list[Entry] = []
        total, drawn = people * len(scanners), None
        for number, (person, scanner, scan) in enumerate(
            travelling_cohort(people, scanners, seed, spacing_mm, diseased)
        ):
            stop_if(cancelled)
            progress(number / total, f"Writing {scan.name} ({number + 1} of {total})")
            place = beside / _file_name(person.name)
            if person is not drawn:
                _write_truth(place, person, scan, scanners, spacing_mm)
                drawn = person
            image = place / f"{_file_name(scanner.name)}.nii.gz"
            write_image(scan.image, image)
            entries.append(_entry(number + 2, person, scanner, scan, image))
        manifest = Manifest(beside / "manifest.csv", tuple(entries))
        manifest.write(manifest.path)
    return folder / "manifest.csv"


def _file_name(name: str) -> str:
    return name.replace(" ", "_")


def _entry(line: int, person: Person, scanner: Scanner, scan: Scan, image: Path) -> Entry:
    settings = {name: format(getattr(scan.acquisition, name), "g") for name in PROTOCOL}
    return Entry(
        line=line,
        case=_file_name(scan.name),
        image=image,
        segmentation=(image.with_name("structures.nii.gz"), image.with_name(f"{ALONE}.nii.gz")),
        modality=Modality.MR,
        site=scanner.name,
        columns={
            "person": person.name,
            "disease": person.disease.value,
            "manufacturer": scanner.manufacturer,
            "model": scanner.model,
            **settings,
        },
    )


def _write_truth(place: Path, person: Person, scan: Scan, scanners: Sequence[Scanner], spacing_mm: float) -> None:
    truth = place / "truth"
    truth.mkdir(parents=True)
    names = [name for name in scan.structures if name != ALONE]
    labels = np.zeros(scan.structures[ALONE].array.shape, np.uint8)
    for label, name in enumerate(names, start=1):
        labels[scan.structures[name].array] = label
    write_image(images.to_image(labels, scan.image), place / "structures.nii.gz")
    write_json({str(label): name for label, name in enumerate(names, start=1)}, place / "structures.json")
    write_image(scan.structures[ALONE].mask, place / f"{ALONE}.nii.gz")
    for field in sorted({scanner.field_strength_tesla for scanner in scanners}):
        maps = quantitative_maps(person, field, spacing_mm)
        write_image(_stored(maps.t1_ms, 1, np.int16), truth / f"T1_{field:g}T.nii.gz")
        write_image(maps.t2_star_ms, truth / f"T2star_{field:g}T.nii.gz")
    write_image(maps.proton_density, truth / "proton_density.nii.gz")  # the same at every field strength
    for tissue, share in maps.fractions.items():
        write_image(_stored(share, 255, np.uint8), truth / f"{_file_name(tissue.value)}.nii.gz")


def _stored(image: sitk.Image, factor: int, kind: type) -> sitk.Image:
    """The image in whole numbers, as smaller files are written faster."""
    return images.to_image(np.rint(images.to_array(image) * factor).astype(kind), image)
