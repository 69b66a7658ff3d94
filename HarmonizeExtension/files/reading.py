"""A scan in, from whatever a planner has: an image file or a DICOM series, with its segmentation."""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path

from ..errors import InputError
from ..images import check_volume
from ..scan import Acquisition, Modality, Scan
from . import dicom
from .structures import read_structures
from .tags import is_dicom
from .volume import read_volume, stem

UNITS_OF = {Modality.MR: (), Modality.CT: ("HU",), Modality.PET: ("SUV", "Bq/ml")}
UNITS = tuple(unit for units in UNITS_OF.values() for unit in units)


def read_scan(
    path: str | os.PathLike,
    modality: Modality | str | None = None,
    segmentation: str | os.PathLike | list[str | os.PathLike] | None = None,
    name: str | None = None,
    units: str | None = None,
    structures: Collection[str] | None = None,
) -> Scan:
    """The scan at `path`, with the structures of `segmentation` on its grid.

    path: a NIfTI, NRRD or MetaImage file, or the folder of a DICOM series; `folder#SeriesInstanceUID` names one of
        several series in a folder.
    modality: MR, CT or PET; needed where the file does not say it (only DICOM does).
    segmentation: one file or a list: binary mask, label map (names from a .json, .csv or .tsv file of the same name
        beside it), .seg.nrrd, or RTSTRUCT (.dcm). Masks on another grid are resampled.
    name: what to call the scan; by default the name of the file or folder.
    units: "HU", "SUV" or "Bq/ml", where the file does not say it (PET in NIfTI); CT is HU.
    structures: names to take from the segmentation; by default all.

    What was decided on the way stands in `provenance` as entries {"note": sentence}.
    Raises InputError, naming the file and what to do, for anything that cannot be used as it is.
    """
    if units is not None and units not in UNITS:
        raise InputError(f"units '{units}' are not known; use {', '.join(UNITS)}")
    given = Modality.parse(modality) if modality is not None else None
    folder, series_uid = _split(path)
    if folder.is_dir() or is_dicom(folder):
        series = dicom.read_series(folder, series_uid)
        if given not in (None, series.modality):
            raise InputError(f"'{path}' is {series.modality.value} by its DICOM tags, not {given.value}")
        image, found, notes = series.image, series.modality, list(series.notes)
        acquisition, own_units, references = series.acquisition, series.units, series.references
    else:
        image, found, notes = read_volume(folder), given, []
        acquisition, own_units, references = Acquisition(), "", frozenset()
        if found is None:
            raise InputError(f"'{path}' does not say its modality (only DICOM does); give it: MR, CT or PET")
    if found is Modality.CT:
        own_units = "HU"
    if units is not None and own_units not in ("", units):
        raise InputError(f"'{path}' is in {own_units}, not {units}")
    if units is not None and units not in UNITS_OF[found]:
        raise InputError(f"'{path}' is {found.value}, which is not measured in {units}; check modality and units")
    name = name or stem(os.path.abspath(folder))
    check_volume(image, name)  # before the structures, whose grid it is
    masks = {}
    if segmentation is not None:
        masks, more = read_structures(segmentation, image, structures, references)
        notes += more
    elif structures:
        raise InputError(f"structures {', '.join(structures)} are asked for, but there is no segmentation")
    return Scan(
        image=image,
        modality=found,
        structures=masks,
        acquisition=acquisition,
        units=units or own_units,
        name=name,
        provenance=tuple({"note": note} for note in notes),
    )


def _split(path: str | os.PathLike) -> tuple[Path, str | None]:
    """The folder and, after a #, the SeriesInstanceUID; a # that belongs to an existing name stays."""
    whole = Path(path)
    if whole.exists() or "#" not in str(path):
        return whole, None
    folder, _, uid = str(path).rpartition("#")
    return Path(folder), uid
