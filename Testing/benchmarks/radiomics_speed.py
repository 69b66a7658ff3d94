"""How much faster our features are than pyradiomics', on the same machine in the same run; and the memory they take.

    python Testing/benchmarks/radiomics_speed.py [--quick]

--quick leaves out pyradiomics' shape of the large structure, which takes it more than a minute.
The anatomy is the MNI152 template that ships with the product, at 1 mm, with noise from a fixed seed.
"""

from __future__ import annotations

import argparse
import gc
import importlib.util
import logging
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402
import SimpleITK as sitk  # noqa: E402

from HarmonizeExtension import images, resources  # noqa: E402
from HarmonizeExtension.radiomics import shape  # noqa: E402
from HarmonizeExtension.radiomics.extraction import extract, extract_many  # noqa: E402
from HarmonizeExtension.radiomics.settings import Settings  # noqa: E402
from HarmonizeExtension.scan import Modality, Scan, Structure  # noqa: E402

LARGE_VOXELS, SMALL_VOXELS = 500_000, 15_000
FEATURES = Settings(bin_count=64)  # the 93, without resampling
MR = Settings.load("mr")
FILTERED = Settings.from_dict(
    {"setting": {"binWidth": 25}, "imageType": {"Original": {}, "LoG": {"sigma": [1.0, 2.0, 3.0]}, "Wavelet": {}}}
)


def brain(seed: int = 0) -> Scan:
    """A T1-like head at 1 mm with its white matter, a lesion and ten blocks as structures."""
    sample = resources.folder("Sample")
    template = sitk.ReadImage(str(sample / "mni152_t1_2mm.nii.gz"), sitk.sitkFloat32)
    white = sitk.ReadImage(str(sample / "mni152_wm_2mm.nii.gz"), sitk.sitkFloat32)
    grid = images.grid_with_spacing(template, (1.0, 1.0, 1.0))
    array = sitk.GetArrayFromImage(images.resample(template, grid, sitk.sitkLinear))
    share = sitk.GetArrayFromImage(images.resample(white, grid, sitk.sitkLinear))
    array = 1000 * array / array.max() + np.random.default_rng(seed).normal(0, 25, array.shape)
    masks = {
        "white matter": _largest(share, LARGE_VOXELS),
        "lesion": _largest(-_distance(array.shape, (80, 110, 120)), SMALL_VOXELS),
    }
    for k in range(10):
        centre = (60 + 6 * k, 70 + 10 * k, 60 + 7 * k)
        masks[f"structure {k}"] = _largest(-_distance(array.shape, centre), SMALL_VOXELS)
    structures = {name: Structure(name, images.mask_image(mask, grid)) for name, mask in masks.items()}
    return Scan(images.to_image(array.astype(np.float32), grid), Modality.MR, structures, name=f"brain {seed}")


def _largest(values: np.ndarray, count: int) -> np.ndarray:
    """The `count` voxels of the largest values."""
    mask = np.zeros(values.size, bool)
    mask[np.argpartition(values, -count, axis=None)[-count:]] = True
    return mask.reshape(values.shape)


def _distance(size, centre) -> np.ndarray:
    axes = np.ogrid[tuple(slice(n) for n in size)]
    return sum((axis - c) ** 2 for axis, c in zip(axes, centre, strict=True)).astype(np.float32)


def by_pyradiomics(scan: Scan, settings: Settings, names: list[str]) -> None:
    """The same features as pyradiomics extracts them, a structure at a time, with its slow diagnostics off."""
    from radiomics.featureextractor import RadiomicsFeatureExtractor

    parameters = settings.as_dict()
    del parameters["description"]
    parameters["featureClass"].pop("shape", None)
    extractor = RadiomicsFeatureExtractor(parameters, additionalInfo=False)
    for name in names:
        extractor.execute(scan.image, scan.structures[name].mask, label=1)


def _quiet() -> None:
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)


def _one_by_pyradiomics(parts: tuple[sitk.Image, sitk.Image]) -> None:
    scan = Scan(parts[0], Modality.MR, {"lesion": Structure("lesion", parts[1])})
    by_pyradiomics(scan, FILTERED, ["lesion"])


def seconds(work: Callable[[], object], repeats: int = 5) -> float:
    """The median time of some repeats; what takes long is done once."""
    taken = []
    while len(taken) < repeats and (not taken or sum(taken) < 20):
        start = time.perf_counter()
        work()
        taken.append(time.perf_counter() - start)
    return statistics.median(taken)


def row(title: str, ours: float, theirs: float | None) -> None:
    """One line of the table."""
    other = f"{theirs:12.3f} {theirs / ours:9.1f}" if theirs is not None else f"{'-':>12} {'-':>9}"
    print(f"{title:58}{ours:9.3f} {other}", flush=True)


def compare(quick: bool) -> None:
    """The table of times."""
    have = importlib.util.find_spec("radiomics") is not None
    scan = brain()
    ten = [f"structure {k}" for k in range(10)]
    print(f"{'seconds':58}{'ours':>9} {'pyradiomics':>12} {'ratio':>9}")
    for title, settings, names in [
        ("93 features, lesion of 15,000 voxels", FEATURES, ["lesion"]),
        ("93 features, white matter of 500,000 voxels", FEATURES, ["white matter"]),
        ("93 features at 2 mm (the MR settings), lesion", MR, ["lesion"]),
        ("93 features at 2 mm (the MR settings), white matter", MR, ["white matter"]),
        ("93 features at 2 mm, two structures", MR, ["lesion", "white matter"]),
        ("93 features at 2 mm, ten structures", MR, ten),
        ("93 features, ten structures", FEATURES, ten),
        ("1,116 features (original, 3 LoG, 8 wavelets), lesion", FILTERED, ["lesion"]),
    ]:
        ours = seconds(lambda s=settings, n=names: extract(scan, s, structures=n))
        theirs = seconds(lambda s=settings, n=names: by_pyradiomics(scan, s, n)) if have else None
        row(title, ours, theirs)

    for name in ("lesion", "white matter"):
        mask = scan.structures[name].array[images.bounding_box(scan.structures[name].array)]
        ours = seconds(lambda m=mask: shape.features(m, scan.spacing_mm, tuple(shape.FEATURES)))
        theirs = None
        if have and not (quick and name == "white matter"):
            from radiomics.shape import RadiomicsShape

            image = sitk.GetImageFromArray(mask.astype(np.uint8))
            theirs = seconds(lambda i=image: RadiomicsShape(i, i).execute())
        row(f"14 of shape, {name}", ours, theirs)

    brains = [scan] + [brain(seed) for seed in range(1, 10)]
    ours = seconds(lambda: extract_many(brains, FILTERED, structures=["lesion"], processes=2), 1)
    theirs = None
    if have:
        parts = [(s.image, s.structures["lesion"].mask) for s in brains]

        def pool() -> None:
            with ProcessPoolExecutor(2, mp_context=get_context("spawn"), initializer=_quiet) as executor:
                list(executor.map(_one_by_pyradiomics, parts))

        theirs = seconds(pool, 1)
    row("1,116 features, ten images, two processes", ours, theirs)
    alone = seconds(lambda: extract_many(brains, FILTERED, structures=["lesion"]), 1)
    row("1,116 features, ten images, one process", alone, None)


def large_ct() -> Scan:
    """A CT of 512 x 512 x 300 voxels with a structure of 2 million."""
    rng = np.random.default_rng(0)
    array = np.empty((300, 512, 512), np.int16)
    for z in range(300):
        array[z] = rng.normal(40, 60, array.shape[1:])
    near = (slice(60, 240), slice(150, 330), slice(180, 360))
    mask = np.zeros(array.shape, np.uint8)
    mask[near] = _largest(-_distance((180, 180, 180), (90, 90, 90)), 2_000_000)
    image = sitk.GetImageFromArray(array)
    image.SetSpacing((0.9, 0.9, 1.0))
    label = sitk.GetImageFromArray(mask)
    label.CopyInformation(image)
    return Scan(image, Modality.CT, {"structure": Structure("structure", label)}, units="HU")


def resident_mb(peak: bool) -> float:
    """Memory of this process now, or its peak since `forget_peak` (Linux)."""
    status = Path("/proc/self/status").read_text()
    key = "VmHWM" if peak else "VmRSS"
    return next(float(line.split()[1]) for line in status.splitlines() if line.startswith(key)) / 1024


def memory_of(what: str) -> None:
    """Print the peak memory of this process in one extraction on the large CT, and the time it took."""
    scan = large_ct()
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")  # forgets the peak of making the CT
    before, start = resident_mb(peak=False), time.perf_counter()
    if what == "pyradiomics":
        by_pyradiomics(scan, Settings(), ["structure"])
    else:
        extract(scan, Settings.load("ct") if what == "resampled" else Settings())
    print(f"peak {resident_mb(peak=True):6.0f} MB ({before:.0f} MB before), {time.perf_counter() - start:.1f} s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="leave out what takes pyradiomics minutes")
    parser.add_argument("--memory-of", choices=["ours", "resampled", "pyradiomics"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    _quiet()
    if options.memory_of:
        memory_of(options.memory_of)
        return
    compare(options.quick)
    print("memory on a CT of 512 x 512 x 300 with a structure of 2 million voxels, 93 features")
    programs = {"ours": "ours", "resampled": "ours at 1 mm (the CT settings)"}
    if importlib.util.find_spec("radiomics") is not None:
        programs["pyradiomics"] = "pyradiomics"
    for what, title in programs.items():
        done = subprocess.run(
            [sys.executable, __file__, "--memory-of", what], capture_output=True, text=True, check=True
        )
        print(f"  {title:34}{done.stdout.strip()}")


if __name__ == "__main__":
    main()
