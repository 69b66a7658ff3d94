"""Structures in: binary masks, label maps with their names, Slicer segmentations and RTSTRUCT, on the scan's grid."""

from __future__ import annotations

import csv
import json
import os
import re
from collections.abc import Collection, Iterator
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from .. import images
from ..errors import InputError
from ..scan import Structure
from . import rtstruct
from .tags import is_dicom
from .volume import check_file, read_volume, stem

MINIMUM_OVERLAP = 0.5  # of a structure that must lie inside the scan
_SEGMENT_KEY = re.compile(r"Segment(\d+)_(ID|Name|LabelValue|Layer)$", re.ASCII)
SIDECARS = (".tsv", ".csv", ".json")  # of a label map, with its names
_LABEL_COLUMNS = ("label", "index", "value", "id", "labelvalue", "label_value", "number")
_NAME_COLUMNS = ("name", "structure", "label_name", "labelname", "segment", "roi")


def read_structures(
    segmentation: str | os.PathLike | list[str | os.PathLike],
    grid: sitk.Image,
    wanted: Collection[str] | None = None,
    references: frozenset[str] = frozenset(),
) -> tuple[dict[str, Structure], list[str]]:
    """The structures of one segmentation file, or of several, on `grid`; and notes on what was done to them.

    wanted: names to take; None takes all.
    references: UIDs of the scan's series and frame of reference, which an RTSTRUCT must have been drawn on.
    Raises InputError, by name, for a structure that is empty, hardly inside the scan, missing or there twice.
    """
    files = [segmentation] if isinstance(segmentation, str | os.PathLike) else list(segmentation)
    structures: dict[str, Structure] = {}
    notes: list[str] = []
    for file in map(Path, files):
        check_file(file)
        if is_dicom(file):
            found = rtstruct.read_rtstruct(file, grid, wanted, references, notes)
        else:
            found = _from_image(file, grid, wanted, notes)
        for name, mask in found:
            if name in structures:
                raise InputError(f"two structures are named '{name}' (one of them in '{file}'); rename one")
            structures[name] = Structure(name, mask)
    missing = [name for name in wanted or () if name not in structures]
    if missing:
        have = ", ".join(structures) or "none of these"
        raise InputError(f"the segmentation has no structure named {', '.join(missing)}; it has: {have}")
    if not structures:
        raise InputError(f"the segmentation '{', '.join(map(str, files))}' holds no structure; choose another")
    return structures, notes


def _from_image(
    path: Path, grid: sitk.Image, wanted: Collection[str] | None, notes: list[str]
) -> Iterator[tuple[str, sitk.Image]]:
    image = read_volume(path)
    segments = _segments(image, path) if _is_segmentation(image) else _labels(image, path, notes)
    for name, layer, label in segments:
        if wanted is None or name in wanted:
            mask = images.mask_image(sitk.GetArrayViewFromImage(layer) == label, layer)
            yield name, _on_grid(mask, grid, name, path, notes)


def _on_grid(mask: sitk.Image, grid: sitk.Image, name: str, path: Path, notes: list[str]) -> sitk.Image:
    """The mask on exactly the scan's grid, or InputError where it does not belong there."""
    if not sitk.GetArrayViewFromImage(mask).any():
        raise InputError(f"structure '{name}' in '{path}' is empty; contour it or leave it out")
    if images.same_grid(mask, grid):
        return images.mask_image(sitk.GetArrayViewFromImage(mask) != 0, grid)
    inside = images.overlap_fraction(mask, grid)
    if inside < MINIMUM_OVERLAP:
        raise InputError(
            f"structure '{name}' in '{path}' lies outside the scan ({inside:.0%} of it is inside); "
            "choose the segmentation that was made on this scan"
        )
    moved = images.resample_mask(mask, grid)
    if not sitk.GetArrayViewFromImage(moved).any():
        raise InputError(
            f"structure '{name}' in '{path}' falls between the voxels of the scan and vanishes; "
            "contour it on the scan itself"
        )
    if inside < 1 or not _same_lattice(mask, grid):
        notes.append(
            f"structure '{name}' was resampled from a grid of {_grid_text(mask)} to the scan's {_grid_text(grid)} "
            f"by nearest neighbour; {inside:.0%} of it lies inside the scan"
        )
    return moved


def _same_lattice(mask: sitk.Image, grid: sitk.Image) -> bool:
    """True when the voxels of both coincide where they overlap, as in a segmentation cropped to its structures."""
    relation = np.linalg.inv(images.index_to_physical(grid)) @ images.index_to_physical(mask)
    far = 1e-4 * max(*mask.GetSize(), *grid.GetSize())
    offset = relation[:3, 3]
    return np.allclose(relation[:3, :3], np.eye(3), atol=1e-4) and np.allclose(offset, np.round(offset), atol=far)


def _grid_text(image: sitk.Image) -> str:
    size = " x ".join(str(count) for count in image.GetSize())
    return f"{size} voxels of {' x '.join(f'{spacing:.4g}' for spacing in image.GetSpacing())} mm"


def _is_segmentation(image: sitk.Image) -> bool:
    return any(_SEGMENT_KEY.match(key) and key.endswith(("_ID", "_Name")) for key in image.GetMetaDataKeys())


def _utf8(text: str) -> str:
    """A name from a header of unknown encoding: UTF-8, or else Latin-1, which fits all bytes."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogateescape").decode("latin-1")
    return text


def _segments(image: sitk.Image, path: Path) -> Iterator[tuple[str, sitk.Image, int]]:
    """Name, layer and label of the segments of a Slicer segmentation (.seg.nrrd), from its header.

    Segment{i}_Name, Segment{i}_LabelValue and Segment{i}_Layer say it. Overlapping segments lie in layers, the values
    of one voxel; files of Slicer 4.10 and older keep one segment a layer and name neither layer nor label.
    """
    header = {key: _utf8(image.GetMetaData(key)).strip() for key in image.GetMetaDataKeys() if _SEGMENT_KEY.match(key)}
    numbers = sorted({int(_SEGMENT_KEY.match(key).group(1)) for key in header if key.endswith(("_ID", "_Name"))})
    layers = _layers(image)
    for number in numbers:
        name = header.get(f"Segment{number}_Name") or header[f"Segment{number}_ID"]
        try:
            label = int(header.get(f"Segment{number}_LabelValue", 1))
            layer = int(header.get(f"Segment{number}_Layer", number if len(layers) > 1 else 0))
        except ValueError as error:
            raise InputError(f"the header of segment '{name}' in '{path}' is damaged: {error}") from error
        if not 0 <= layer < len(layers):
            raise InputError(f"segment '{name}' in '{path}' names layer {layer}, which the file does not have")
        yield name, layers[layer], label


def _layers(image: sitk.Image) -> list[sitk.Image]:
    count = image.GetNumberOfComponentsPerPixel()
    return [image] if count == 1 else [sitk.VectorIndexSelectionCast(image, index) for index in range(count)]


def _labels(image: sitk.Image, path: Path, notes: list[str]) -> Iterator[tuple[str, sitk.Image, int]]:
    """Name, image and label of the labels of a label map.

    A single label is a binary mask, named like its file unless a sidecar names it.
    """
    if image.GetNumberOfComponentsPerPixel() != 1:
        raise InputError(f"'{path}' has several values per voxel but names no segments; export it as a label map")
    array = sitk.GetArrayViewFromImage(image)
    if array.dtype.kind == "f" and not (np.isfinite(array).all() and np.array_equal(array, np.round(array))):
        raise InputError(f"'{path}' holds values that are no labels (a probability map?); threshold it first")
    labels = sorted({int(value) for slice_ in array for value in np.unique(slice_)} - {0})
    if not labels:
        raise InputError(f"the segmentation '{path}' is empty; contour something or leave it out")
    if labels[0] < 0 or len(labels) > 1000:
        raise InputError(
            f"'{path}' holds {len(labels)} different values from {labels[0]} to {labels[-1]}: that is an image, "
            "not a segmentation; choose the label map"
        )
    names = {label: name.strip() or f"label_{label}" for label, name in _sidecar(path).items()}
    for label in sorted(set(names) - set(labels) - {0}):
        notes.append(f"'{path.name}' has no voxel of label {label} ({names[label]})")
    for label in labels:
        alone = stem(path) if len(labels) == 1 else f"label_{label}"
        yield names.get(label, alone), image, label


def _sidecar(path: Path) -> dict[int, str]:
    """Names by label from the .tsv, .csv or .json file beside a label map that has its name; {} without one.

    JSON: {"1": "GTV"} or {"GTV": 1}, alone or under "labels". CSV and TSV: a column label (or index, value, id) and a
    column name (or structure, segment, roi), or just two columns in this order.
    """
    for suffix in SIDECARS:
        sidecar = path.with_name(stem(path) + suffix)
        if sidecar.is_file():
            try:
                text = sidecar.read_text(encoding="utf-8-sig")
                return _names_from_json(text) if suffix == ".json" else _names_from_table(text)
            except (ValueError, TypeError, KeyError, IndexError, AttributeError, OSError) as error:
                raise InputError(
                    f"the names in '{sidecar}' cannot be understood ({error}); give them as "
                    '{"1": "GTV"} in JSON or with the columns label and name in CSV'
                ) from error
    return {}


def _names_from_json(text: str) -> dict[int, str]:
    entries = json.loads(text)
    entries = entries.get("labels", entries)
    if all(str(key).strip().isdigit() for key in entries):
        return {int(key): str(name) for key, name in entries.items()}
    return {int(label): str(name) for name, label in entries.items()}


def _names_from_table(text: str) -> dict[int, str]:
    rows = [row for row in csv.reader(text.splitlines(), delimiter="\t" if "\t" in text else ",") if any(row)]
    head = [cell.strip().lower() for cell in rows[0]]
    label_column = next((head.index(word) for word in _LABEL_COLUMNS if word in head), 0)
    name_column = next((head.index(word) for word in _NAME_COLUMNS if word in head), 1)
    body = rows if head[label_column].isdigit() else rows[1:]
    return {int(row[label_column]): row[name_column].strip() for row in body}
