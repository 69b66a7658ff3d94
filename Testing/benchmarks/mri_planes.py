"""Which plane: HarMOnAE on axial, coronal and sagittal slices of isotropic voxels, and the mean of all three.

    python Testing/benchmarks/mri_planes.py [--model FOLDER] [--people N] [--spacing MM]

The network was trained on axial slices. A simulated person never trained on goes from one scanner to another, and each
result is held against the scan that this one took: SSIM and PSNR inside the brain after the best gain and offset, and
the seconds (of the CPU, all threads) that it takes.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import time
from pathlib import Path

import numpy as np
import SimpleITK as sitk

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from HarmonizeExtension import images  # noqa: E402
from HarmonizeExtension.evaluation.image_quality import psnr_db, range_of, ssim  # noqa: E402
from HarmonizeExtension.evaluation.mri_arms import BRAIN, SEEN  # noqa: E402
from HarmonizeExtension.methods.harmonae.harmonizer import Harmonae  # noqa: E402
from HarmonizeExtension.phantoms.brain import scan_person  # noqa: E402
from HarmonizeExtension.phantoms.person import Person  # noqa: E402
from HarmonizeExtension.phantoms.scanners import SCANNERS  # noqa: E402
from HarmonizeExtension.resources import shipped_model  # noqa: E402
from HarmonizeExtension.scan import Scan  # noqa: E402

WAYS = (("GE 1.5T", "Siemens 3T"), ("Philips 1.5T", "GE 3T"), ("Siemens 1.5T", "Philips 3T"))  # people in turn
# Which axes (z, y, x) become those of the slices: along them, their rows and their columns, head and nose upward.
PLANES = {"axial": (0, 1, 2), "coronal": (1, 0, 2), "sagittal": (2, 0, 1)}


def in_plane(method: Harmonae, scan: Scan, order: tuple[int, int, int]) -> np.ndarray:
    """The result (z, y, x) on slices of another plane, which the method is told are axial ones."""
    upward = order[1] == 0
    turned = scan.array.transpose(order)[:, ::-1] if upward else scan.array.transpose(order)
    image = sitk.GetImageFromArray(np.ascontiguousarray(turned))
    image.SetSpacing(scan.spacing_mm)
    result = method.apply(dataclasses.replace(scan, image=image, structures={})).array
    return (result[:, ::-1] if upward else result).transpose(np.argsort(order))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--people", type=int, default=1)
    parser.add_argument("--spacing", type=float, default=1.0, help="mm; up to 1.25 slices are taken as they are")
    options = parser.parse_args()
    model = options.model or shipped_model(Harmonae.shipped, Harmonae.card.name)
    figures: dict[str, list] = {}
    for number in range(options.people):
        source, target = WAYS[number % len(WAYS)]
        person_seed, *sessions = np.random.SeedSequence([0, number, SEEN]).spawn(3)
        person = Person.draw(np.random.default_rng(person_seed))
        scan, truth = (
            scan_person(person, SCANNERS[name], np.random.default_rng(seed), options.spacing)
            for name, seed in zip((source, target), sessions, strict=True)
        )
        brain = scan.structures[BRAIN].array
        box = images.bounding_box(brain, 4)
        true, brain = truth.array[box].astype(float), brain[box]
        method, results, seconds = Harmonae(target, model), {}, {}
        results["before"], seconds["before"] = scan.array, 0.0
        for plane, order in PLANES.items():
            start = time.process_time()
            results[plane] = in_plane(method, scan, order)
            seconds[plane] = time.process_time() - start
        results["mean of three"] = np.mean([results[plane] for plane in PLANES], axis=0)
        seconds["mean of three"] = sum(seconds[plane] for plane in PLANES)
        for name, array in results.items():
            image = array[box].astype(float)
            image = np.polyval(np.polyfit(image[brain], true[brain], 1), image)
            span = range_of(true[brain])
            quality = (ssim(true, image, span, brain), psnr_db(true, image, span, brain), seconds[name])
            figures.setdefault(name, []).append(quality)
            print(f"{source} to {target}: {name:14} SSIM {quality[0]:.4f}, PSNR {quality[1]:.2f} dB", flush=True)
    print(f"\n{options.people} people, {options.spacing:g} mm: SSIM, PSNR (dB), CPU seconds")
    for name, values in figures.items():
        print(f"{name:14} {np.mean(values, 0)[0]:.4f} {np.mean(values, 0)[1]:6.2f} {np.mean(values, 0)[2]:6.1f}")


if __name__ == "__main__":
    main()
