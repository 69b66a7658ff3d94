"""Peak memory and time of a PET scan of 400 x 400 x 1000 voxels through the CycleGAN, in a process of its own.

python -m Testing.benchmarks.pet_memory MODEL [--centre BUD]
"""

import argparse
import resource
import time

import numpy as np
import SimpleITK as sitk

from HarmonizeExtension.methods.cyclegan.harmonizer import Cyclegan
from HarmonizeExtension.phantoms.pet_body import FIELD_MM, PetPerson
from HarmonizeExtension.phantoms.pet_centres import CENTRES, scan_person
from HarmonizeExtension.scan import Modality, Scan

SIZE = (400, 400, 1000)


def large_scan() -> Scan:
    """A whole body on very fine voxels."""
    person = PetPerson.draw(np.random.default_rng([7, 7, 7]), "somebody")
    coarse = scan_person(person, "BUD", np.random.default_rng(1)).image
    grid = sitk.Image(list(SIZE), sitk.sitkUInt8)
    grid.SetSpacing([(end - start) / n for (start, end), n in zip(FIELD_MM[::-1], SIZE, strict=True)])
    grid.SetOrigin([start for start, _ in FIELD_MM[::-1]])
    fine = sitk.Resample(coarse, grid, sitk.Transform(), sitk.sitkLinear, 0.0, sitk.sitkFloat32)
    return Scan(fine, Modality.PET, units="SUV", name="large")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--centre", default="TUB", choices=CENTRES)
    options = parser.parse_args()
    scan = large_scan()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    started = time.perf_counter()
    Cyclegan(options.centre, options.model).apply(scan)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(
        f"{' x '.join(map(str, SIZE))} voxels: {time.perf_counter() - started:.0f} s, peak {peak:.2f} GiB "
        f"(before the method {before:.2f} GiB)"
    )


if __name__ == "__main__":
    main()
