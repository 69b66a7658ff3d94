"""A cohort of the scene as files that the command `harmonize cohort` reads.

FOLDER/scans/CASE.nrrd, CASE.seg.nrrd   each scan with its structures
FOLDER/target.nrrd, target.seg.nrrd     the reference scan, where one was chosen in the scene
FOLDER/manifest.csv                     case, site, modality, units and these files
FOLDER/results/                         the folder of the command
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from slicer.i18n import tr as _

from HarmonizeExtension.errors import InputError
from HarmonizeExtension.files.manifest import Entry
from HarmonizeExtension.files.writing import output_folder, write_image
from HarmonizeExtension.scan import Modality, Scan, Structure

from . import scene, sceneScans

SCANS, MANIFEST, RESULTS, TARGET = "scans", "manifest.csv", "results", "target"
_NOT_IN_A_NAME = re.compile(r'[/\\:*?"<>|;#\x00-\x1f]')  # of a folder on any system, or of a path in a manifest
_LONGEST_NAME = 80


@dataclasses.dataclass(frozen=True)
class SceneCase:
    """A scan of the scene as a case: its unique name, which can be that of a folder, and what it is made of."""

    name: str
    volume: object
    segmentation: object
    modality: Modality
    site: str


def sceneCases(volumes: Iterable, modality: Modality, sites: Sequence[str] | None = None) -> list[SceneCase]:
    """The cases that volume nodes make, with the segmentation that was drawn on each.

    modality: of those that do not say theirs.
    sites: of each volume, in their order; what the user called them or by their tags where None.
    Raises InputError for no volume, for a result of ours and where the sites do not fit.
    """
    volumes = list(volumes)
    if not volumes:
        raise InputError(_("There is no scan to harmonize; load one first"))
    for volume in volumes:
        scene.requireNode(volume, "vtkMRMLVolumeNode", _("scan"))
        if sceneScans.isResult(volume):
            raise InputError(
                _("'{name}' was harmonized already; take the scan it was made from").format(name=volume.GetName())
            )
    sites = sceneScans.sites(volumes, modality) if sites is None else list(sites)
    if len(sites) != len(volumes):
        raise InputError(
            _("{volumes} volumes but {sites} sites; give one for each volume").format(
                volumes=len(volumes), sites=len(sites)
            )
        )
    return [
        SceneCase(name, volume, sceneScans.segmentationOf(volume), sceneScans.saidModality(volume) or modality, site)
        for name, volume, site in zip(_caseNames(volumes), volumes, sites, strict=True)
    ]


def _caseNames(volumes: Sequence) -> list[str]:
    names: list[str] = []
    for volume in volumes:
        wanted = _NOT_IN_A_NAME.sub("_", volume.GetName())[:_LONGEST_NAME].strip(" .") or "scan"
        name, number = wanted, 1
        while name.casefold() in [other.casefold() for other in names]:  # one name on some file systems
            number += 1
            name = f"{wanted} ({number})"
        names.append(name)
    return names


def writeCase(case: SceneCase, folder: Path, named: Collection[str] | None) -> Entry:
    """Write a case below the folder of its cohort; returns its line of the manifest.

    named: the structures to write, with the outline of the body; all where None. One that the case lacks is left for
    the run to tell. Raises InputError where the case cannot be harmonized, OutputError.
    """
    names = scene.segmentNames(case.segmentation)
    scan = scene.scanFromNodes(
        case.volume,
        case.segmentation,
        case.modality.value,
        measured=[segmentID for segmentID, name in names.items() if named is None or name in named],
    )
    paths = writeScan(scan, output_folder(folder / SCANS), case.name)
    said = dataclasses.asdict(scan.acquisition)  # the files cannot hold it
    return Entry(
        0,
        case.name,
        paths[0],
        paths[1:],
        modality=scan.modality,
        units=scan.units,
        site=case.site,
        columns={name: "" if value is None else str(value) for name, value in said.items()},
    )


def writeScan(scan: Scan, folder: Path, name: str) -> tuple[Path, ...]:
    """Write a scan as NAME.nrrd and its structures, where it has any, as NAME.seg.nrrd; returns the files."""
    paths = [folder / f"{name}.nrrd"]
    write_image(scan.image, paths[0])
    if scan.structures:
        paths.append(folder / f"{name}.seg.nrrd")
        write_image(segmentationImage(scan.structures), paths[1])
    return tuple(paths)


def segmentationImage(structures: Mapping[str, Structure]) -> sitk.Image:
    """Structures as the image of a Slicer segmentation, which keeps their names; those that overlap lie in layers."""
    layers: list[np.ndarray] = []
    header = {}
    for number, (name, structure) in enumerate(structures.items()):
        mask, label = structure.array, number + 1
        layer = next((i for i, other in enumerate(layers) if not other[mask].any()), len(layers))
        if layer == len(layers):
            layers.append(np.zeros(mask.shape, np.min_scalar_type(len(structures))))
        layers[layer][mask] = label
        extent = " ".join(f"0 {size - 1}" for size in mask.shape[::-1])
        fields = {"ID": f"Segment_{label}", "Name": name, "Extent": extent, "LabelValue": label, "Layer": layer}
        header |= {f"Segment{number}_{key}": str(value) for key, value in fields.items()}
    image = sitk.GetImageFromArray(layers[0] if len(layers) == 1 else np.stack(layers, axis=-1), len(layers) > 1)
    image.CopyInformation(next(iter(structures.values())).mask)
    for key, value in header.items():
        image.SetMetaData(key, value)
    return image


def writeTarget(volume, segmentation, modality: Modality, reference: str | None, folder: Path) -> str:
    """Write the reference scan, with its reference structure where one is named; returns it as `--target` takes it.

    The text is relative to the folder: a cohort that was moved still knows its target.
    """
    scan = scene.scanFromNodes(volume, segmentation, modality.value, reference, measured=())
    return ",".join(path.name for path in writeScan(scan, output_folder(folder), TARGET))
