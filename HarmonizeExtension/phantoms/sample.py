"""Makes the small copy of MNI152 that ships in Resources/Sample: `python -m HarmonizeExtension.phantoms.sample`.

It lets the sample data be made offline where nilearn, which brings the 1 mm maps, is not installed. Run it again only
to change how the copy is made; the files belong into the repository, with MNI152-LICENSE.txt beside them.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import SimpleITK as sitk

from .. import images
from ..errors import InputError
from ..resources import folder
from .anatomy import SHIPPED_NAME, mni152

SPACING_MM = 2.0
STEP = 8  # of 255: fewer grey levels make a smaller file, and the maps are blurred sharper than that


def write_sample(target: Path) -> list[Path]:
    """Write the T1 average and the grey and white matter maps at 2 mm, cropped to the brain, as uint8 NIfTI files.

    Raises InputError unless the 1 mm maps of nilearn are at hand.
    """
    maps = mni152()
    if maps["t1"].GetSpacing()[0] >= SPACING_MM:
        raise InputError("the 1 mm maps are not here; install nilearn, which brings them, and try again")
    grid = images.grid_with_spacing(maps["t1"], (SPACING_MM,) * 3)
    brain = sitk.Cast(maps["t1"] > 0, sitk.sitkFloat32)
    covered = _averaged(brain, grid)
    averages = {name: _averaged(sitk.Cast(image, sitk.sitkFloat32), grid) for name, image in maps.items()}
    inside = covered > 0.5
    averages["t1"] = np.where(inside, averages["t1"] / np.maximum(covered, 0.5), 0)
    box = images.bounding_box(np.any([average > STEP / 2 for average in averages.values()], axis=0), margin=1)
    written = []
    for name, average in averages.items():
        levels = np.clip(np.rint(average / STEP) * STEP, 0, 255).astype(np.uint8)
        whole = images.to_image(levels, grid)
        z, y, x = box
        path = target / SHIPPED_NAME.format(map=name)
        sitk.WriteImage(whole[x, y, z], str(path), useCompression=True, compressionLevel=9)
        written.append(path)
    return written


def _averaged(image: sitk.Image, grid: sitk.Image) -> np.ndarray:
    """The image on a coarser grid (z, y, x), float32, smoothed as averaging over its voxels would."""
    smooth = sitk.DiscreteGaussian(image, (SPACING_MM / 2.355) ** 2)
    # The lowest slice of the template cuts the brainstem: repeat what is at the edge, do not let it fade.
    resampled = sitk.Resample(
        smooth, grid, sitk.Transform(), sitk.sitkLinear, 0.0, sitk.sitkFloat32, useNearestNeighborExtrapolator=True
    )
    return images.to_array(resampled)


if __name__ == "__main__":
    for file in write_sample(folder("Sample")):
        print(f"{file} {file.stat().st_size / 1000:.0f} kB")
