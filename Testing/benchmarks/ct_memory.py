"""Peak memory and time of a CT of 512 x 512 x 300 voxels through a network of CT kernels, in a process of its own.

python -m Testing.benchmarks.ct_memory MODEL KERNEL [--slices 300]
"""

import argparse
import resource
import time

import numpy as np
import SimpleITK as sitk

from HarmonizeExtension.methods.radiomicgan.harmonizer import RadiomicGAN
from HarmonizeExtension.phantoms.ct_slices import draw_slices
from HarmonizeExtension.scan import Modality, Scan

SIZE, PIXEL_MM = 512, 0.5


def large_scan(slices: int) -> Scan:
    """A chest of int16 voxels with noise; its few slices are repeated to and fro."""
    rng = np.random.default_rng(0)
    few = draw_slices("chest", 4, 1.0, rng)[:, 44:-44, 44:-44]
    array = np.empty((slices, SIZE, SIZE), np.int16)
    for n in range(slices):
        noisy = few[n % len(few)] + rng.normal(0, 20, few.shape[1:])
        array[n] = np.clip(noisy, -1024, 3071)
    image = sitk.GetImageFromArray(array)
    image.SetSpacing((PIXEL_MM, PIXEL_MM, 1.0))
    return Scan(image, Modality.CT, units="HU", name="large")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("kernel")
    parser.add_argument("--slices", type=int, default=300)
    options = parser.parse_args()
    scan = large_scan(options.slices)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    started, cpu = time.perf_counter(), time.process_time()
    RadiomicGAN(options.kernel, options.model).apply(scan)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(
        f"{SIZE} x {SIZE} x {options.slices} voxels: {time.perf_counter() - started:.0f} s, of the CPU "
        f"{time.process_time() - cpu:.0f} s, peak {peak:.2f} GiB (before the method {before:.2f} GiB)"
    )


if __name__ == "__main__":
    main()
