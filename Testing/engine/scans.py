"""Small scans for tests: any grid, any content, made from a seed."""

import numpy as np
import SimpleITK as sitk
from hypothesis import strategies as st
from scipy import ndimage
from scipy.spatial.transform import Rotation

from HarmonizeExtension import images
from HarmonizeExtension.scan import Modality, Scan, Structure


def grid(size=(24, 28, 20), spacing=(1.0, 1.2, 2.0), rotation=(0.0, 0.0, 0.0), origin=(-10.0, 5.0, 33.0)) -> sitk.Image:
    """An empty grid; size and spacing (x, y, z), rotation as Euler angles in degrees."""
    image = sitk.Image([int(v) for v in size], sitk.sitkUInt8)
    image.SetSpacing([float(v) for v in spacing])
    image.SetOrigin([float(v) for v in origin])
    # No file has a cosine of 1e-297, which ITK's resampling does not survive.
    direction = np.round(Rotation.from_euler("xyz", rotation, degrees=True).as_matrix(), 15)
    image.SetDirection(direction.ravel().tolist())
    return image


@st.composite
def grids(draw):
    """Random oblique, anisotropic grids."""
    size = draw(st.tuples(*[st.integers(9, 26)] * 3))
    spacing = draw(st.tuples(*[st.floats(0.4, 4.0)] * 3))
    rotation = draw(st.tuples(*[st.floats(-180, 180)] * 3))
    origin = draw(st.tuples(*[st.floats(-300, 300)] * 3))
    return grid(size, spacing, rotation, origin)


def head(on: sitk.Image | None = None, seed: int = 0, noise: float = 4.0) -> Scan:
    """An MR-like head: air, bright shell, grey and white matter; structures "brain", "white matter" and "GTV"."""
    on = on or grid(size=(40, 44, 30), spacing=(1.0, 1.0, 1.5))
    rng = np.random.default_rng(seed)
    z, y, x = np.meshgrid(*[np.linspace(-1, 1, n) for n in on.GetSize()[::-1]], indexing="ij")
    radius = np.sqrt(x**2 + y**2 + z**2)
    brain, white = radius < 0.75, radius < 0.5
    tumour = (x - 0.3) ** 2 + (y - 0.1) ** 2 + z**2 < 0.2**2
    array = np.where(radius < 0.9, 180.0, 5.0)
    array[brain], array[white], array[tumour] = 90.0, 140.0, 110.0
    array += (radius < 0.9) * 3 * ndimage.gaussian_filter(rng.standard_normal(array.shape), 1.5) * 5
    array = np.hypot(array + noise * rng.standard_normal(array.shape), noise * rng.standard_normal(array.shape))
    masks = {"brain": brain, "white matter": white & ~tumour, "GTV": tumour}
    return Scan(
        images.to_image(array.astype(np.float32), on),
        Modality.MR,
        {name: Structure(name, images.mask_image(mask, on)) for name, mask in masks.items()},
        name="head",
    )


def bits(image: sitk.Image) -> tuple:
    """Everything that makes a grid, to compare to the last bit."""
    return image.GetSize(), image.GetSpacing(), image.GetOrigin(), image.GetDirection()
