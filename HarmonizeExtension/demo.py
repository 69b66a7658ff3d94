"""The demonstration: one person seen by three scanners, and how far a cohort's features tell the scanners apart."""

from __future__ import annotations

import functools
import multiprocessing
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from . import case, report
from .evaluation.site_effect import differing_share
from .feature_domain.combat import ComBat
from .files.reading import read_scan
from .files.writing import output_folder
from .methods import catalogue
from .methods.base import Harmonizer
from .methods.preparation import BiasFieldCorrection
from .methods.statistical import HistogramMatching, WhiteStripe, ZScore
from .phantoms.brain import scan_person, three_scanner_case
from .phantoms.person import Person
from .phantoms.scanners import SCANNERS
from .progress import Progress, part, silent
from .radiomics.extraction import extract
from .radiomics.settings import Settings
from .scan import Modality, Scan

COHORT_SCANNERS = ("Siemens 3T", "Philips 1.5T", "GE 3T")
TISSUES = ("white matter", "grey matter")
TEXTURE_CLASSES = ("glcm", "glrlm", "glszm", "gldm", "ngtdm")


# What a user's own scan is shown with: a method and, where it needs one, a target.
OWN_SCAN_METHODS = {
    Modality.MR: ("zscore", None),
    Modality.CT: ("kernel-matching", "soft"),
    Modality.PET: ("resolution-matching", 10.0),
}


def run(
    out: Path | str,
    volume: str | None = None,
    segmentation: str | None = None,
    modality: str | None = None,
    units: str | None = None,
    progress: Progress = silent,
) -> dict:
    """Run the demonstration and write its results below `out`; returns what the command line prints.

    volume, segmentation, modality, units: a scan of the user's own instead of the simulated case.
    """
    folder = output_folder(out)
    if volume is not None:
        scan = own_scan(volume, segmentation, modality, units)
        name, target = OWN_SCAN_METHODS[scan.modality]
        result = case.run(scan, catalogue.method(name).for_target(target), progress=progress)
        paths = case.write(result, folder)
        return {"verdict": result.verdict.status.value, "files": {n: str(p) for n, p in paths.items()}}
    progress(0.0, "Simulating one person on three scanners")
    first, *others = three_scanner_case().values()
    verdicts, reports = {}, {}
    for number, scan in enumerate(others):
        result = case.run(
            scan.with_roles(reference="brain", protected=["lesion"]),
            HistogramMatching(first),
            [BiasFieldCorrection()],
            progress=part(progress, 0.2 + 0.25 * number, 0.45 + 0.25 * number),
        )
        verdicts[scan.name] = result.verdict.status.value
        reports[scan.name] = str(case.write(result, folder / scan.name)["report"])
    table = scanner_table(progress=part(progress, 0.7, 1.0))
    return {"verdicts": verdicts, "reports": reports, "features that tell the scanners apart": in_percent(table)}


def own_scan(volume: str, segmentation: str | None, modality: str | None, units: str | None) -> Scan:
    """A user's own scan; MR where neither the file nor the user says otherwise and the voxels do not look like CT."""
    modality = modality or catalogue.implied_modality(ZScore.card, volume)
    return read_scan(volume, modality=modality, segmentation=segmentation, units=units)


@functools.cache
def arms() -> dict[str, Harmonizer | None]:
    """What the images of the cohort are harmonized with, by name; `None` leaves them as they are."""
    return {
        "as scanned": None,
        "WhiteStripe": WhiteStripe(),
        "histogram matching": HistogramMatching(_cohort_scan(0, 0)),
    }


def scanner_table(people: int = 30, seed: int = 0, progress: Progress = silent) -> dict[str, dict[str, float]]:
    """Share of the 75 texture features in which the scanners differ, mean over scanners, by arm and tissue.

    Each of the simulated people is scanned once, by one of three scanners in turn, as in Fatania et al. 2022: what
    differs between scanners is then both chance and scanner, and 5 % is what chance alone would give. In the last
    arm the features themselves are harmonized, by ComBat, fitted on all of these people.
    """
    processes = min(os.cpu_count() or 1, 4)
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, mp_context=spawn, initializer=_one_thread) as pool:
        found = []
        for number, texture in enumerate(pool.map(_texture, [(person, seed) for person in range(people)])):
            found.append(texture)
            progress((number + 1) / people, f"Measuring person {number + 1} of {people}")
    scanner = [COHORT_SCANNERS[number % len(COHORT_SCANNERS)] for number in range(people)]
    table: dict[str, dict[str, float]] = {}
    values = {key: np.array([texture[key] for texture in found]) for key in found[0]}
    for tissue in TISSUES:
        values["ComBat on the features", tissue] = ComBat().fit_transform(values["as scanned", tissue], scanner)
    for (arm, tissue), features in values.items():
        table.setdefault(arm, {})[tissue] = _mean_share(features, scanner)
    return table


def _mean_share(values: np.ndarray, scanner: Sequence[str]) -> float:
    by_scanner = {name: values[[s == name for s in scanner]] for name in COHORT_SCANNERS}
    return float(np.mean(list(differing_share(by_scanner).values())))


def in_percent(table: Mapping[str, Mapping[str, float]]) -> dict[str, str]:
    """The table as short lines of text."""
    return {arm: ", ".join(f"{tissue} {share:.0%}" for tissue, share in row.items()) for arm, row in table.items()}


def introduction(table: Mapping[str, Mapping[str, float]]) -> str:
    """The table with a sentence of what it says, as HTML for the top of the report."""
    rows = [(arm, *(f"{row[tissue]:.0%}" for tissue in TISSUES)) for arm, row in table.items()]
    return (
        "<h2>Do the features tell the scanners apart?</h2>"
        "<p>Share of 75 texture features in which a scanner differs from the others (Kolmogorov-Smirnov, p &lt; 0.05, "
        "mean over three simulated scanners, other people on each); chance alone gives about 5 %. Intensity "
        "maps bring contrast together, but noise and sharpness, which texture measures, stay as they are; ComBat "
        "works on the features themselves (here fitted on the very people that it is judged on).</p>"
        + report.table(("scans", *TISSUES), rows)
    )


def _cohort_scan(number: int, seed: int) -> Scan:
    sequence = np.random.SeedSequence((seed, number))
    person_seed, session_seed = sequence.spawn(2)
    person = Person.draw(np.random.default_rng(person_seed), f"person {number + 1:02d}")
    scanner = SCANNERS[COHORT_SCANNERS[number % len(COHORT_SCANNERS)]]
    scan = scan_person(person, scanner, np.random.default_rng(session_seed), spacing_mm=2.0)
    return scan.with_roles(reference="white matter", measured=TISSUES)


def _one_thread() -> None:
    """Processes that share the cores must not each take all of them."""
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)


def _texture(task: tuple[int, int]) -> dict[tuple[str, str], list[float]]:
    """The texture features of one person by arm and tissue; runs in a process of its own."""
    number, seed = task
    scan, settings = _cohort_scan(number, seed), Settings.for_modality(Modality.MR)
    found = {}
    for arm, method in arms().items():
        table = extract(method.apply(scan) if method else scan, settings)
        names = [c.name for c in table.columns if c.feature_class in TEXTURE_CLASSES]
        for tissue in TISSUES:
            row = table.row(tissue)
            found[arm, tissue] = [row.values[name] for name in names]
    return found
