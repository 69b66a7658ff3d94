"""Real scans of one person taken twice, before and after harmonization: do radiomic features agree better?

    python Testing/benchmarks/real_mr_pairs.py [--data FOLDER] [--harmonae FOLDER] [--target SCANNER] [--picture FILE]

open_ms: a patient with multiple sclerosis, two visits with different T1-weighted protocols (Lesjak et al.,
Neuroinformatics 2016). Prisma: a volunteer, once more in another position, the same protocol: nothing is to be
harmonized, and a method should leave it so. Each scan is harmonized on its own grid, the second to the first
(histogram matching) or both to one scanner (HarMOnAE). Then the second is brought onto the first (rigid), and features
of cubes that lie in the brain in both are compared: Lin's CCC of each feature over the cubes. PhyCHarm needs the
protocol of each scan, which these files do not carry.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from scipy import ndimage

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from HarmonizeExtension import guard, images  # noqa: E402
from HarmonizeExtension.errors import HarmonizeError  # noqa: E402
from HarmonizeExtension.evaluation.agreement import REPRODUCIBLE, concordance  # noqa: E402
from HarmonizeExtension.evaluation.cubes import features_of_cubes, place_cubes  # noqa: E402
from HarmonizeExtension.evaluation.mri_benchmark import tissues  # noqa: E402
from HarmonizeExtension.methods.harmonae.harmonizer import Harmonae  # noqa: E402
from HarmonizeExtension.methods.phycharm.harmonizer import Phycharm  # noqa: E402
from HarmonizeExtension.methods.statistical import HistogramMatching  # noqa: E402
from HarmonizeExtension.phantoms.brain import scan_person  # noqa: E402
from HarmonizeExtension.phantoms.person import Person  # noqa: E402
from HarmonizeExtension.phantoms.scanners import SCANNERS  # noqa: E402
from HarmonizeExtension.radiomics.settings import Settings  # noqa: E402
from HarmonizeExtension.scan import Modality, Scan, Structure  # noqa: E402

PAIRS = {
    "open_ms, two protocols": ("open_ms/long/raw/patient01/study1_T1W.nii.gz", "study2_T1W.nii.gz"),
    "Prisma, two positions": ("prisma_positions/prisma_fit_fl2d_HFS.nii.gz", "prisma_fit_fl2d_HFP.nii.gz"),
}
MASK = "open_ms/long/coregistered/patient01/brainmask.nii.gz"  # in the space that both visits were brought to
CUBE_MM = (12.0, 12.0, 12.0)
CUBES = 60
REFERENCE = "brain"


def registered(fixed: sitk.Image, moving: sitk.Image, affine: bool) -> sitk.Transform:
    """From points of `fixed` to those of `moving`, rigid or affine, by mutual information (Mattes et al. 2003)."""
    fixed, moving = (sitk.Cast(image, sitk.sitkFloat32) for image in (fixed, moving))
    kind = sitk.AffineTransform(3) if affine else sitk.Euler3DTransform()
    start = sitk.CenteredTransformInitializer(fixed, moving, kind, sitk.CenteredTransformInitializerFilter.MOMENTS)
    method = sitk.ImageRegistrationMethod()
    method.SetMetricAsMattesMutualInformation(32)
    method.SetMetricSamplingStrategy(method.RANDOM)
    method.SetMetricSamplingPercentage(0.05, 1)
    method.SetInterpolator(sitk.sitkLinear)
    method.SetOptimizerAsRegularStepGradientDescent(2.0, 0.02, 60)
    method.SetOptimizerScalesFromPhysicalShift()
    method.SetShrinkFactorsPerLevel([4, 2])
    method.SetSmoothingSigmasPerLevel([3, 1])
    method.SmoothingSigmasAreSpecifiedInPhysicalUnitsOn()
    method.SetInitialTransform(start, inPlace=False)
    return method.Execute(fixed, moving)


def given(folder: Path, image: sitk.Image) -> tuple[sitk.Image, sitk.Transform]:
    """open_ms: the brain on the first visit's grid and the way to the second visit, by the transforms given with it."""
    there = []
    for study in ("study1", "study2"):
        steps = (f"{study}_T1W_intrastudy_to_FLAIR.txt", f"{study}_FLAIR_to_common_space.txt")
        # From points of the common space to those of the visit; the last is applied first.
        there.append(sitk.CompositeTransform([sitk.ReadTransform(str(folder / step)) for step in steps]))
    back = there[0].GetInverse()
    mask = sitk.ReadImage(str(folder.parents[3] / MASK), sitk.sitkUInt8)
    return sitk.Resample(mask, image, back, sitk.sitkNearestNeighbor, 0), sitk.CompositeTransform([there[1], back])


def found(image: sitk.Image, other: sitk.Image) -> tuple[sitk.Image, sitk.Transform]:
    """The same for a scan that comes without: the brain is that of a simulated head, brought onto the scan (affine).

    Its rim and what lies low are taken off, as such a brain fits within some millimetres only.
    """
    rng = np.random.default_rng(0)
    head = scan_person(Person.draw(rng), SCANNERS["Siemens 3T"], rng, 4.0)
    place = registered(image, head.image, affine=True)
    brain = head.structures[REFERENCE].array
    area = brain.sum(axis=(1, 2))
    brain = ndimage.binary_erosion(brain & (area > 0.6 * area.max())[:, None, None], iterations=2)
    inside = images.mask_image(brain, head.image)
    return sitk.Resample(inside, image, place, sitk.sitkNearestNeighbor, 0), registered(image, other, affine=False)


def scans_of(folder: Path, files: tuple[str, str]) -> tuple[Scan, Scan, sitk.Transform]:
    """Both visits with the brain as reference structure, and the way from the first to the second."""
    place = (folder / files[0]).parent
    first, second = (sitk.ReadImage(str(place / Path(file).name), sitk.sitkFloat32) for file in files)
    brain, way = given(place, first) if "open_ms" in files[0] else found(first, second)
    there = sitk.Resample(brain, second, way.GetInverse(), sitk.sitkNearestNeighbor, 0)
    return (
        *(
            Scan(image, Modality.MR, {REFERENCE: Structure(REFERENCE, mask)}, name=name).with_roles(reference=REFERENCE)
            for name, image, mask in (("first visit", first, brain), ("second visit", second, there))
        ),
        way,
    )


def rows(first: Scan, second: Scan, model: Path | None, target: str):
    """Name and both scans of each row, or the reason why there is none."""
    yield "before", first, second
    yield "histogram matching", first, HistogramMatching(first).apply(second)
    for name, harmonizer in (
        ("PhyCHarm", lambda: Phycharm.for_target(target)),
        ("HarMOnAE", lambda: Harmonae.for_target(f"{model}#{target}" if model else target)),
    ):
        start = time.perf_counter()
        try:
            method = harmonizer()
            yield name, method.apply(first), method.apply(second)
            print(f"  ({name}: {time.perf_counter() - start:.0f} s for both scans)")
        except HarmonizeError as error:
            print(f"  {name}: not applied. {error}")


def compared(a: Scan, b: Scan, way: sitk.Transform, inside: np.ndarray, cubes, settings: Settings) -> dict[str, float]:
    """How well the features of the same cubes agree, and grey against white matter in either scan."""
    moved = sitk.Resample(b.image, a.image, way, sitk.sitkBSpline, 0.0)
    onto = Scan(sitk.Cast(moved, sitk.sitkFloat32), Modality.MR, name=b.name)
    names, one = features_of_cubes(a, cubes, settings)
    _, two = features_of_cubes(onto, cubes, settings)
    found = concordance(one, two)
    texture = np.array(["firstorder" not in name for name in names])
    ratio = []
    for scan in (a, onto):
        white, grey = tissues(scan.array, inside)
        ratio.append(float(scan.array[grey].mean() / scan.array[white].mean()))
    return {
        "CCC": float(np.nanmedian(found)),
        "texture": float(np.nanmedian(found[texture])),
        "reproducible %": 100 * float(np.mean(found > REPRODUCIBLE)),
        "grey/white 1": ratio[0],
        "grey/white 2": ratio[1],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data" / "t1")
    parser.add_argument("--harmonae", type=Path, help="model folder; the one that ships where left out")
    parser.add_argument("--target", default="Siemens 3T")
    parser.add_argument("--pair", choices=sorted(PAIRS), help="only this one")
    parser.add_argument("--picture", type=Path)
    options = parser.parse_args()
    settings = Settings.load("mr")
    panels = {}
    for pair, files in PAIRS.items():
        if options.pair not in (None, pair):
            continue
        if not (options.data / files[0]).exists():
            print(f"{pair}: skipped, '{options.data / files[0]}' is not there")
            continue
        first, second, way = scans_of(options.data, files)
        both = sitk.Resample(second.structures[REFERENCE].mask, first.image, way, sitk.sitkNearestNeighbor, 0)
        covered = sitk.Resample(sitk.Cast(second.image >= 0, sitk.sitkUInt8), first.image, way)
        inside = first.structures[REFERENCE].array & (sitk.GetArrayFromImage(both) != 0)
        inside &= sitk.GetArrayFromImage(covered) != 0
        cubes = place_cubes(first, inside, CUBE_MM, ((-np.inf, np.inf),), CUBES)
        print(
            f"\n{pair}: {inside.sum() * np.prod(first.spacing_mm) / 1000:.0f} ml of brain in both, {len(cubes)} cubes"
        )
        for name, a, b in rows(first, second, options.harmonae, options.target):
            figures = compared(a, b, way, inside, cubes, settings)
            verdicts = [guard.inspect(x, y) for x, y in ((first, a), (second, b)) if x is not y]
            said = ", ".join(f"{k} {v:.2f}" for k, v in figures.items())
            print(f"  {name:20}{said}; guard: {', '.join(v.status.value for v in verdicts) or '-'}", flush=True)
            for reason in dict.fromkeys(reason for verdict in verdicts for reason in verdict.reasons):
                print(f"      {reason}")
            panels[pair, name] = picture_of(a, b, way)
    if options.picture and panels:
        draw(panels, options.picture)


def picture_of(a: Scan, b: Scan, way: sitk.Transform) -> np.ndarray:
    """The middle slice of the first scan and the second one there, side by side, to the brain's brightest."""
    there = sitk.Resample(b.image, a.image, way, sitk.sitkLinear, 0.0)
    inside = a.structures[REFERENCE].array
    middle = int(np.median(np.flatnonzero(inside.any(axis=(1, 2)))))
    halves = (array / np.percentile(array[inside], 99) for array in (a.array, sitk.GetArrayFromImage(there)))
    return np.concatenate([half[middle] for half in halves], axis=1)


def draw(panels: dict[tuple[str, str], np.ndarray], path: Path) -> None:
    from matplotlib.figure import Figure

    pairs, names = (list(dict.fromkeys(key[n] for key in panels)) for n in (0, 1))
    figure = Figure(figsize=(4 * len(names), 2.4 * len(pairs)), layout="constrained")
    axes = figure.subplots(len(pairs), len(names), squeeze=False)
    for (pair, name), array in panels.items():
        place = axes[pairs.index(pair), names.index(name)]
        place.imshow(array, cmap="gray", vmin=0, vmax=1.2)
        place.set_title(f"{pair}\n{name}", fontsize=9)
        place.axis("off")
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
