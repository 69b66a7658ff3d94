"""What kernel and resolution matching do on true pairs: one scan, reconstructed twice.

    python Testing/benchmarks/true_pairs.py [FOLDER WITH ct_kernel_pair AND pet_nema_pair]

CT: a head phantom with a soft and a bone kernel. The filter is estimated from the bone scan's measured half of slices
and the soft scan's other half, so that the two show different anatomy; the truth is used to measure only. The Gaussian
of the comparison is an oracle: its width is the one that comes nearest to the truth.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from scipy import ndimage

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from HarmonizeExtension import images  # noqa: E402
from HarmonizeExtension.body import body_mask  # noqa: E402
from HarmonizeExtension.evaluation.agreement import HU_STRATA, reproducible_by_stratum  # noqa: E402
from HarmonizeExtension.evaluation.cubes import features_of_cubes, place_cubes  # noqa: E402
from HarmonizeExtension.methods.kernel_matching import KernelMatching  # noqa: E402
from HarmonizeExtension.methods.resolution_matching import ResolutionMatching  # noqa: E402
from HarmonizeExtension.physics.pet_resolution import gaussian_blur  # noqa: E402
from HarmonizeExtension.radiomics.settings import Settings  # noqa: E402
from HarmonizeExtension.scan import Modality, Scan  # noqa: E402

PATCH_MM = (8.0, 8.0, 4.0)  # x, y, z: small enough to fit the thin walls of the phantom


def ct_halves(folder: Path, kernel: str) -> list[Scan]:
    """The lower and upper slices of a scan, without any structure: what a method is given."""
    image = sitk.ReadImage(str(folder / f"ingenuity_{kernel}_1mm.nii.gz"))
    middle = image.GetSize()[2] // 2
    halves = (slice(0, middle), slice(middle, None))
    return [Scan(image[:, :, part], Modality.CT, units="HU", name=kernel) for part in halves]


def phantom(scan: Scan) -> np.ndarray:
    """The phantom with all that lies inside its outline, as a mask (z, y, x): where errors are measured."""
    solid = images.largest_component(scan.array > -500)
    closed = ndimage.distance_transform_edt(~np.pad(solid, ((0, 0), (40, 40), (40, 40))), sampling=(1e3, 1, 1)) <= 30
    filled = np.stack([ndimage.binary_fill_holes(s) for s in closed])
    return (ndimage.distance_transform_edt(filled, sampling=(1e3, 1, 1)) > 30)[:, 40:-40, 40:-40]


def in_plane(scan: Scan, sigma_mm: float, sigma_slices: float = 0.0) -> Scan:
    return scan.with_array(ndimage.gaussian_filter(scan.array, (sigma_slices, *[sigma_mm / scan.spacing_mm[0]] * 2)))


def ct_rows(source: list[Scan], target: list[Scan], outlines: list[np.ndarray], smoothing: bool):
    """Name and the two harmonized halves of each row of the table."""
    yield "before", source
    if smoothing:

        def error(sigma_mm, sigma_slices):
            return sum(
                np.abs(in_plane(s, sigma_mm, sigma_slices).array - t.array)[outline].mean()
                for s, t, outline in zip(source, target, outlines, strict=True)
            )

        sigmas = np.arange(0.45, 0.80, 0.03)
        plane = min(sigmas, key=lambda sigma: error(sigma, 0.0))
        yield f"best Gaussian in plane (oracle, {plane:.2f} mm)", [in_plane(s, plane) for s in source]
        both = min(((a, b) for a in sigmas[::2] for b in (0.4, 0.45, 0.5, 0.55)), key=lambda ab: error(*ab))
        yield (
            f"best Gaussian in plane and across slices (oracle, {both[0]:.2f} mm, {both[1]:.2f} slices)",
            [in_plane(s, *both) for s in source],
        )
    for title, estimate in (
        ("filter from noise alone", "noise"),
        ("filter from the two measured MTFs (edges)", "edges"),
        ("filter from edges and noise (default)", "edges and noise"),
    ):
        yield title, [KernelMatching(target[1 - n], estimate=estimate).apply(source[n]) for n in (0, 1)]


def ct(folder: Path) -> None:
    soft, bone = ct_halves(folder, "UB_soft"), ct_halves(folder, "YA_bone")
    settings = Settings.load("ct")
    for title, source, target in (("bone to soft", bone, soft), ("soft to bone", soft, bone)):
        outlines = [phantom(t) for t in target]
        cubes = [place_cubes(t, outline, PATCH_MM) for t, outline in zip(target, outlines, strict=True)]
        mean_hu = np.array([cube.mean_hu for half in cubes for cube in half])
        insert = [
            ndimage.binary_erosion(
                np.abs(ndimage.median_filter(t.array, (1, 5, 5))) < 200, np.ones((1, 3, 3)), iterations=4
            )
            for t in target
        ]

        def noise(scans, insert=insert):
            """SD of what a mean over 5 x 5 pixels takes off, in the insert."""
            parts = [
                (s.array - ndimage.uniform_filter(s.array, (1, 5, 5)))[m] for s, m in zip(scans, insert, strict=True)
            ]
            return np.concatenate(parts).std()

        def features(scans, cubes=cubes):
            return np.concatenate([features_of_cubes(s, c, settings)[1] for s, c in zip(scans, cubes, strict=True)])

        counts = ", ".join(f"{np.sum((mean_hu >= a) & (mean_hu <= b))} in {a:g}..{b:g}" for a, b in HU_STRATA)
        print(f"\nCT {title}; truth has noise {noise(target):.2f} HU; patches: {counts}")
        print(f"{'':72}{'MAE (HU)':>26}{'noise':>8}   CCC > 0.85 (%)")
        print(
            f"{'':72}{'phantom':>10}{'insert':>8}{'image':>8}{'(HU)':>8}   "
            + "".join(f"{f'{a:g}..{b:g}':>12}" for a, b in HU_STRATA)
        )
        truth_features = features(target)
        for name, scans in ct_rows(source, target, outlines, title == "bone to soft"):
            differences = [np.abs(s.array - t.array) for s, t in zip(scans, target, strict=True)]
            outlined = np.concatenate([d[m] for d, m in zip(differences, outlines, strict=True)]).mean()
            inside = np.concatenate([d[m] for d, m in zip(differences, insert, strict=True)]).mean()
            image = np.mean(differences)
            strata = reproducible_by_stratum(features(scans), truth_features, mean_hu)
            print(
                f"{name:72}{outlined:10.2f}{inside:8.2f}{image:8.2f}{noise(scans):8.2f}   "
                + "".join(f"{100 * stratum.share:12.0f}" for stratum in strata)
            )


def pet(folder: Path) -> None:
    raw = [sitk.ReadImage(str(folder / f"recon_{n}.nii.gz"), sitk.sitkFloat32) for n in (1, 2)]
    # The files are in arbitrary units; the phantom's background becomes SUV 1, which leaves every ratio as it is.
    level = ndimage.gaussian_filter(sitk.GetArrayFromImage(raw[1]), 3)
    body = images.largest_component(ndimage.binary_opening(level > 0.25 * np.percentile(level, 95)))
    even = ndimage.binary_erosion(body, iterations=6)
    middle = np.median(level[even])
    background = even & (np.abs(level / middle - 1) < 0.35)
    noisy, smooth = (
        Scan(image / float(middle), Modality.PET, units="SUV", name=f"reconstruction {n}")
        for n, image in enumerate(raw, 1)
    )
    truth = smooth.array
    span = float(truth[body].max() - truth[body].min())

    def cov(array):
        return float(array[background].std() / array[background].mean())

    def row(name, array):
        error = float(np.sqrt(np.mean((array - truth)[body] ** 2)) / span)
        print(
            f"{name:60}{cov(array):8.3f}{abs(cov(array) - cov(truth)):10.3f}{100 * error:12.2f}"
            f"{array[background].mean():10.3f}"
        )
        return error

    print(f"\nPET, reconstruction 1 to 2; NRMSE in the phantom over the truth's range there, {span:.1f} SUV")
    print(f"{'':60}{'COV':>8}{'COV gap':>10}{'NRMSE (%)':>12}{'mean SUV':>10}")
    row("truth (reconstruction 2)", truth)
    row("before (reconstruction 1)", noisy.array)
    blurred = {w: gaussian_blur(noisy.array, (w,) * 3, noisy.spacing_mm) for w in np.arange(2.0, 6.01, 0.25)}
    best = min(blurred, key=lambda w: np.mean((blurred[w] - truth)[body] ** 2))
    row(f"best Gaussian by NRMSE (oracle, {best:.2f} mm)", blurred[best])
    best = min(blurred, key=lambda w: abs(cov(blurred[w]) - cov(truth)))
    row(f"best Gaussian by COV (oracle, {best:.2f} mm)", blurred[best])
    method = ResolutionMatching(smooth)
    fwhm = method.blur_fwhm_mm(noisy, body_mask(noisy))
    row(f"matched to the reference scan ({', '.join(f'{v:.1f}' for v in fwhm)} mm)", method.apply(noisy).array)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="?", type=Path, default=ROOT.parent / "shared" / "data")
    folder = parser.parse_args().data
    ct(folder / "ct_kernel_pair")
    pet(folder / "pet_nema_pair")


if __name__ == "__main__":
    main()
