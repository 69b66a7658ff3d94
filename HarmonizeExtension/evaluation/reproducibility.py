"""RadiomicGAN's table: how many features of a CT are the same in the true image, in lung, soft tissue and bone.

Selim et al. 2021, section 4.1, Table 1.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ..body import body_mask
from ..errors import InputError
from ..files.manifest import Manifest
from ..progress import CancelCheck, Progress, part
from ..radiomics.settings import Settings
from ..scan import Modality
from . import figures
from .agreement import HU_STRATA, REPRODUCIBLE, reproducible_by_stratum
from .case_images import arms, check_same_grid, comparable, read_truth
from .cubes import MOST, SIZE_MM, features_of_cubes, place_cubes
from .results import Answer, Table
from .study import BEFORE

TISSUES = ("lung", "soft tissue", "bone")  # of HU_STRATA, roughly
TRUTH = "truth"


def reproducibility_protocol(manifest: Manifest, structure: str, progress: Progress, cancelled: CancelCheck) -> Answer:
    """The share of features with CCC > 0.85 between each image and the true one of the column `truth`, by HU stratum.

    Cubes are placed by rule on the true image, inside the body, and measured in every image; those of all cases count
    together. structure: place them inside this one instead. Where some cases have a harmonized image, those without are
    left out and named in the notes. Raises InputError for a scan that is no CT, without a truth or on another grid than
    it, and where no stratum has three cubes.
    """
    settings = Settings.for_modality(Modality.CT)
    names: tuple[str, ...] = ()
    values: dict[str, list[np.ndarray]] = {}
    mean_hu: list[float] = []
    chosen, left = comparable(manifest)
    for number, entry in enumerate(chosen):
        report = part(progress, number / len(chosen), (number + 1) / len(chosen))
        report(0.0, f"Reproducibility: {entry.case}")
        if entry.modality is not Modality.CT:
            raise InputError(f"'{entry.case}' is {entry.modality}; the ranges of HU are those of CT (--modality CT)")
        scan = entry.scan()
        truth = read_truth(manifest, entry, scan)
        if structure and structure not in scan.structures:
            raise InputError(f"'{entry.case}' has no structure '{structure}'; it has: {', '.join(scan.structures)}")
        measured = {TRUTH: truth, **dict(arms(entry, scan))}
        for image in measured.values():
            check_same_grid(image, truth)
        cubes = place_cubes(truth, scan.structures[structure].array if structure else body_mask(truth))
        if not cubes:
            continue
        mean_hu += [cube.mean_hu for cube in cubes]
        for i, (arm, image) in enumerate(measured.items()):
            report(i / len(measured), f"Reproducibility: {entry.case}, {arm}")
            names, found = features_of_cubes(image, cubes, settings, cancelled)
            values.setdefault(arm, []).append(found)
    tables, drawn = _answer(names, {arm: np.concatenate(found) for arm, found in values.items()}, np.array(mean_hu))
    notes = (
        f"Measured in cubes of {SIZE_MM[0]:g} mm inside {structure or 'the body'}, up to {MOST} of a range of HU in "
        f"each of {len(chosen)} cases; the true image itself would have 100 %.",
        "Selim et al. 2021 (1401 features, other regions) found 61, 42 and 33 % before and 83, 86 and 61 % after, from "
        "kernel Bl57 to Bl64.",
        *left,
    )
    return Answer(tables, drawn, notes)


def _answer(
    names: tuple[str, ...], values: Mapping[str, np.ndarray], mean_hu: np.ndarray
) -> tuple[tuple[Table, ...], dict[str, figures.Figure]]:
    """Tables and figure from the values (cubes, features) of the truth and of each arm."""
    if not names:
        raise InputError("no cube lies in a range of HU; check the structure, and that the images are CT in HU")
    # The same features in every arm: those that could be measured in every cube.
    use = np.all([np.isfinite(array).all(axis=0) for array in values.values()], axis=0)
    counts = {
        arm: reproducible_by_stratum(array[:, use], values[TRUTH][:, use], mean_hu)
        for arm, array in values.items()
        if arm != TRUTH
    }
    if all(stratum.regions < 3 for stratum in counts[BEFORE]):
        raise InputError("no range of HU has three cubes; give more cases, or a larger structure")
    summary = [
        (
            f"{found[i].low_hu:g} to {found[i].high_hu:g}",
            tissue,
            found[i].regions,
            arm,
            found[i].features,
            found[i].reproducible,
            100 * found[i].share,
            float(np.median(known)) if len(known := found[i].ccc[np.isfinite(found[i].ccc)]) else float("nan"),
        )
        for i, tissue in enumerate(TISSUES)
        for arm, found in counts.items()
    ]
    measured = [name for name, used in zip(names, use, strict=True) if used]
    by_feature = [
        (name, arm, *(float(stratum.ccc[i]) for stratum in found))
        for i, name in enumerate(measured)
        for arm, found in counts.items()
    ]
    limit = f"CCC > {REPRODUCIBLE:g}"
    tables = (
        Table(
            "reproducibility",
            f"Features that agree with the true image ({limit}; higher is better), by its HU",
            ("HU", "tissue", "cubes", "arm", "features", limit, "share (%)", "median CCC"),
            tuple(summary),
        ),
        Table("reproducibility-by-feature", "CCC of each feature", ("feature", "arm", *TISSUES), tuple(by_feature)),
    )
    labels = [f"{tissue}\n{low:g} to {high:g} HU" for tissue, (low, high) in zip(TISSUES, HU_STRATA, strict=True)]
    shares = {arm: np.array([100 * stratum.share for stratum in found]) for arm, found in counts.items()}
    title = "Features that agree with the true image"
    return tables, {"reproducibility": figures.bars(title, labels, shares, f"features with {limit} (%)")}
