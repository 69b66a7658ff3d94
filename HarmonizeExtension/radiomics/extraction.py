"""Features of structures on scans: the one function behind which both backends stand."""

from __future__ import annotations

import dataclasses
import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from importlib import metadata as distributions

import numpy as np
import scipy
import SimpleITK as sitk

from .. import __version__
from ..errors import InputError
from ..progress import CancelCheck, Progress, never, silent, stop_if
from ..scan import Role, Scan, Structure
from . import filters, first_order, glcm, gldm, glrlm, glszm, ngtdm, shape
from .catalogue import DEFINITIONS
from .discretisation import GreyLevels, directions, discretise
from .preparation import Preparation, Region
from .settings import Settings
from .table import Column, FeatureTable, Row

BACKENDS = ("own", "pyradiomics")


def extract(
    scan: Scan,
    settings: Settings,
    *,
    label: str = "",
    case: str = "",
    structures: Sequence[str] | None = None,
    backend: str = "own",
    progress: Progress = silent,
    cancelled: CancelCheck = never,
) -> FeatureTable:
    """The features of a scan's structures, one row each.

    structures: names; by default those with the role of being measured.
    label: what the image is ("before", "after"); case: whose it is, by default the scan's name.
    backend: "own", or "pyradiomics" where that is installed (shape is always our own, which is fast).
    Raises InputError where a structure cannot be measured at all, Cancelled when `cancelled()` became true.
    """
    if backend not in BACKENDS:
        raise InputError(f"radiomics backend '{backend}' is not known; use {' or '.join(BACKENDS)}")
    chosen = _chosen(scan, structures)
    measure = _pyradiomics_features if backend == "pyradiomics" else _own_features
    measured_by = _measured_by(backend)  # before the work: it fails where the backend is not installed
    preparation = Preparation(scan, chosen, settings)
    columns = _columns(scan.units, settings)
    rows = []
    for number, structure in enumerate(chosen):
        values: dict[str, float] = {}
        measured_on = ""
        for name, value in measure(preparation, structure):
            image_name = name.split("_", 1)[0]
            if image_name != measured_on:
                measured_on = image_name
                stop_if(cancelled)
                done = number + len(values) / len(columns)
                progress(done / len(chosen), f"radiomics: {structure.name}, {image_name}")
            values[name] = value
        rows.append(Row(case or scan.name, label, structure.name, values))
    progress(1.0, "radiomics: done")
    metadata = {"settings": settings.as_dict(), "software": measured_by}
    return FeatureTable(columns, tuple(rows), metadata)


def extract_many(
    scans: Sequence[Scan],
    settings: Settings,
    *,
    processes: int = 1,
    label: str = "",
    structures: Sequence[str] | None = None,
    backend: str = "own",
    progress: Progress = silent,
    cancelled: CancelCheck = never,
) -> FeatureTable:
    """`extract` for each scan, in a pool of processes; rows come in the order of the scans.

    Programs that start it with more than one process need the usual `if __name__ == "__main__":` guard.
    """
    if not scans:
        raise InputError("no scans to extract features from")
    options = {"label": label, "structures": structures, "backend": backend}
    tables: dict[int, FeatureTable] = {}

    def done(number: int, table: FeatureTable) -> None:
        tables[number] = table
        progress(len(tables) / len(scans), f"radiomics: {scans[number].name}")
        stop_if(cancelled)

    if processes <= 1:
        for number, scan in enumerate(scans):
            done(number, extract(scan, settings, cancelled=cancelled, **options))
    else:
        context = multiprocessing.get_context("spawn")  # a fork would inherit ITK's threads in an unknown state
        with ProcessPoolExecutor(processes, mp_context=context, initializer=_one_thread) as pool:
            waiting = {
                pool.submit(_extract_portable, _portable(scan, structures), settings, options): number
                for number, scan in enumerate(scans)
            }
            try:
                for future in as_completed(waiting):
                    done(waiting[future], future.result())
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
    return FeatureTable.merged(tables[number] for number in range(len(scans)))


def _one_thread() -> None:
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)


def _portable(scan: Scan, structures: Sequence[str] | None) -> dict:
    """The parts of a scan that another process needs; a read-only mapping cannot travel."""
    parts = {field.name: getattr(scan, field.name) for field in dataclasses.fields(scan)}
    return parts | {"structures": {s.name: s for s in _chosen(scan, structures)}, "provenance": ()}


def _extract_portable(parts: dict, settings: Settings, options: dict) -> FeatureTable:
    return extract(Scan(**parts), settings, **options)


def _chosen(scan: Scan, structures: Sequence[str] | None) -> list[Structure]:
    if structures is None:
        chosen = scan.with_role(Role.MEASURED)
        if not chosen:
            raise InputError(f"'{scan.name}' has no structure to measure; add a segmentation or mark one as measured")
        return chosen
    missing = [name for name in structures if name not in scan.structures]
    if missing or not structures:
        have = ", ".join(scan.structures) or "none"
        raise InputError(f"'{scan.name}' has no structure named {', '.join(missing) or '...'}; it has: {have}")
    return [scan.structures[name] for name in structures]


def _own_features(preparation: Preparation, structure: Structure) -> Iterator[tuple[str, float]]:
    for number, region in enumerate(preparation.regions(structure)):
        if number == 0:
            yield from _shape_features(region)
        for feature_class, values in texture_and_intensity(region):
            wanted = region.settings.feature_classes[feature_class] or values
            for name in wanted:
                yield f"{region.image_type}_{feature_class}_{name}", float(values[name])


def _shape_features(region: Region) -> Iterator[tuple[str, float]]:
    wanted = region.settings.feature_classes.get("shape")
    if wanted is not None:
        values = shape.features(region.whole, region.spacing_mm, wanted or tuple(shape.FEATURES))
        for name, value in values.items():
            yield f"original_shape_{name}", float(value)


def texture_and_intensity(region: Region) -> Iterator[tuple[str, dict[str, float]]]:
    """The values of each class of features wanted, but shape; discretised once for all of them."""
    settings = region.settings
    classes = [name for name in settings.feature_classes if name != "shape"]
    if not classes:
        return
    values = region.array[region.mask]
    level = discretise(values, settings.bin_width, settings.bin_count)
    grey = GreyLevels(level, region.mask, max(settings.distances_voxels))
    near = directions(settings.distances_voxels, settings.plane_axis)
    next_to = directions((1,), settings.plane_axis)
    measure: dict[str, Callable[[], dict[str, float]]] = {
        "firstorder": lambda: first_order.features(
            values, level, float(np.prod(region.spacing_mm)), settings.voxel_array_shift
        ),
        "glcm": lambda: glcm.features(
            grey, near, _weights(near, region, settings.weighting, squared=True), settings.symmetrical_glcm
        ),
        "glrlm": lambda: glrlm.features(grey, next_to, _weights(next_to, region, settings.weighting, squared=False)),
        "glszm": lambda: glszm.features(grey, next_to),
        "gldm": lambda: gldm.features(grey, near, settings.gldm_alpha),
        "ngtdm": lambda: ngtdm.features(grey, near),
    }
    for name in classes:
        yield name, measure[name]()


def _weights(offsets, region: Region, weighting: str | None, squared: bool) -> np.ndarray | None:
    """The weight of each direction, by its length in mm; None where directions are averaged instead of added.

    pyradiomics weighs a GLCM by exp(-length^2) and a GLRLM by the length itself.
    """
    if weighting is None:
        return None
    if weighting == "no_weighting":
        return np.ones(len(offsets))
    length = np.abs(offsets) * np.array(region.spacing_mm[::-1])
    norm = {"infinity": length.max(1), "manhattan": length.sum(1), "euclidean": np.sqrt((length**2).sum(1))}[weighting]
    return np.exp(-(norm**2)) if squared else norm


def _pyradiomics_features(preparation: Preparation, structure: Structure) -> Iterator[tuple[str, float]]:
    """The same features by pyradiomics, but shape, whose way there takes a minute on a large structure."""
    from radiomics.featureextractor import RadiomicsFeatureExtractor

    region = next(preparation.regions(structure))  # the same checks, with the same messages
    yield from _shape_features(region)
    parameters = preparation.settings.as_dict()
    del parameters["description"]
    parameters["featureClass"].pop("shape", None)
    if not parameters["featureClass"]:
        return
    extractor = RadiomicsFeatureExtractor(parameters, additionalInfo=False)
    result = extractor.execute(preparation.scan.image, structure.mask, label=1)
    for name, value in result.items():
        if not name.startswith("diagnostics"):
            yield name, float(value)


def _measured_by(backend: str) -> dict[str, str]:
    """Names and versions of the software that the values depend on."""
    versions = {
        "SlicerHarmonize": __version__,
        "backend": backend,
        "numpy": np.__version__,
        "scipy": scipy.__version__,
        "SimpleITK": sitk.Version_VersionString(),
    }
    if backend == "pyradiomics":
        try:
            import radiomics
        except ImportError:
            raise InputError(
                "pyradiomics is not installed here; use the built-in radiomics (backend 'own'), which gives the same "
                "values, or install pyradiomics"
            ) from None
        names = [name for name in ("pyradiomics", "pyradiomics-cuda") if _installed(name)]
        versions["pyradiomics"] = f"{' '.join(names)} {distributions.version(names[0])}" if names else ""
        versions["pyradiomics"] = versions["pyradiomics"] or str(getattr(radiomics, "__version__", "unknown"))
    return versions


def _installed(name: str) -> bool:
    try:
        distributions.version(name)
    except distributions.PackageNotFoundError:
        return False
    return True


def _columns(units: str, settings: Settings) -> tuple[Column, ...]:
    """What each feature that the settings ask for is; intensities lose their unit where the settings normalise them."""
    units = "" if settings.normalize else units
    columns = []
    for image_type in settings.image_types:
        own = settings.for_image_type(image_type)
        for image_name in filters.names(image_type, own):
            for feature_class, wanted in settings.feature_classes.items():
                if feature_class == "shape":
                    continue
                columns += [
                    _column(image_name, feature_class, name, units) for name in wanted or DEFINITIONS[feature_class]
                ]
    shapes = settings.feature_classes.get("shape")
    if shapes is not None:
        columns = [_column("original", "shape", name, units) for name in shapes or shape.FEATURES] + columns
    return tuple(columns)


def _column(image_name: str, feature_class: str, feature: str, units: str) -> Column:
    definition = DEFINITIONS[feature_class][feature]
    name = f"{image_name}_{feature_class}_{feature}"
    return Column(
        name, feature_class, image_name, definition.ibsi_name, definition.ibsi_code, definition.unit_for(units)
    )
