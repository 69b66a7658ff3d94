"""Our features, and pyradiomics', against the consensus values of the Image Biomarker Standardisation Initiative.

IBSI-1 (Zwanenburg et al. 2020): a digital phantom of 5 x 4 x 4 voxels, and a CT of a lung cancer processed in five
ways. The CT is processed here as IBSI says (its grid is centred, pyradiomics' shares a corner; its mask is
interpolated linearly), so that what is compared are the definitions of the features.
"""

from __future__ import annotations

import csv
import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from scipy import ndimage

from HarmonizeExtension import images
from HarmonizeExtension.radiomics import first_order, glcm, gldm, glrlm, glszm, ngtdm, shape
from HarmonizeExtension.radiomics.discretisation import GreyLevels, directions
from HarmonizeExtension.radiomics.extraction import extract
from HarmonizeExtension.radiomics.settings import Settings
from HarmonizeExtension.scan import Modality, Scan, Structure

STATISTICS = {
    "stat_mean": "Mean",
    "stat_var": "Variance",
    "stat_skew": "Skewness",
    "stat_kurt": "Kurtosis",
    "stat_median": "Median",
    "stat_min": "Minimum",
    "stat_p10": "10Percentile",
    "stat_p90": "90Percentile",
    "stat_max": "Maximum",
    "stat_iqr": "InterquartileRange",
    "stat_range": "Range",
    "stat_mad": "MeanAbsoluteDeviation",
    "stat_rmad": "RobustMeanAbsoluteDeviation",
    "stat_energy": "Energy",
    "stat_rms": "RootMeanSquared",
    "ih_entropy": "Entropy",
    "ih_uniformity": "Uniformity",
}
MORPHOLOGY = {
    "morph_volume": "MeshVolume",
    "morph_vol_approx": "VoxelVolume",
    "morph_area_mesh": "SurfaceArea",
    "morph_av": "SurfaceVolumeRatio",
    "morph_sphericity": "Sphericity",
    "morph_diam": "Maximum3DDiameter",
    "morph_pca_maj_axis": "MajorAxisLength",
    "morph_pca_min_axis": "MinorAxisLength",
    "morph_pca_least_axis": "LeastAxisLength",
    "morph_pca_elongation": "Elongation",
    "morph_pca_flatness": "Flatness",
}
TEXTURE = {
    "cm": {
        "joint_max": "MaximumProbability",
        "joint_avg": "JointAverage",
        "joint_var": "SumSquares",
        "joint_entr": "JointEntropy",
        "diff_avg": "DifferenceAverage",
        "diff_var": "DifferenceVariance",
        "diff_entr": "DifferenceEntropy",
        "sum_avg": "SumAverage",
        "sum_var": "ClusterTendency",
        "sum_entr": "SumEntropy",
        "energy": "JointEnergy",
        "contrast": "Contrast",
        "dissimilarity": "DifferenceAverage",
        "inv_diff": "Id",
        "inv_diff_norm": "Idn",
        "inv_diff_mom": "Idm",
        "inv_diff_mom_norm": "Idmn",
        "inv_var": "InverseVariance",
        "corr": "Correlation",
        "auto_corr": "Autocorrelation",
        "clust_tend": "ClusterTendency",
        "clust_shade": "ClusterShade",
        "clust_prom": "ClusterProminence",
        "info_corr1": "Imc1",
        "info_corr2": "Imc2",
    },
    "rlm": {
        "sre": "ShortRunEmphasis",
        "lre": "LongRunEmphasis",
        "lgre": "LowGrayLevelRunEmphasis",
        "hgre": "HighGrayLevelRunEmphasis",
        "srlge": "ShortRunLowGrayLevelEmphasis",
        "srhge": "ShortRunHighGrayLevelEmphasis",
        "lrlge": "LongRunLowGrayLevelEmphasis",
        "lrhge": "LongRunHighGrayLevelEmphasis",
        "glnu": "GrayLevelNonUniformity",
        "glnu_norm": "GrayLevelNonUniformityNormalized",
        "rlnu": "RunLengthNonUniformity",
        "rlnu_norm": "RunLengthNonUniformityNormalized",
        "r_perc": "RunPercentage",
        "gl_var": "GrayLevelVariance",
        "rl_var": "RunVariance",
        "rl_entr": "RunEntropy",
    },
    "szm": {
        "sze": "SmallAreaEmphasis",
        "lze": "LargeAreaEmphasis",
        "lgze": "LowGrayLevelZoneEmphasis",
        "hgze": "HighGrayLevelZoneEmphasis",
        "szlge": "SmallAreaLowGrayLevelEmphasis",
        "szhge": "SmallAreaHighGrayLevelEmphasis",
        "lzlge": "LargeAreaLowGrayLevelEmphasis",
        "lzhge": "LargeAreaHighGrayLevelEmphasis",
        "glnu": "GrayLevelNonUniformity",
        "glnu_norm": "GrayLevelNonUniformityNormalized",
        "zsnu": "SizeZoneNonUniformity",
        "zsnu_norm": "SizeZoneNonUniformityNormalized",
        "z_perc": "ZonePercentage",
        "gl_var": "GrayLevelVariance",
        "zs_var": "ZoneVariance",
        "zs_entr": "ZoneEntropy",
    },
    "ngt": {
        "coarseness": "Coarseness",
        "contrast": "Contrast",
        "busyness": "Busyness",
        "complexity": "Complexity",
        "strength": "Strength",
    },
    "ngl": {
        "lde": "SmallDependenceEmphasis",
        "hde": "LargeDependenceEmphasis",
        "lgce": "LowGrayLevelEmphasis",
        "hgce": "HighGrayLevelEmphasis",
        "ldlge": "SmallDependenceLowGrayLevelEmphasis",
        "ldhge": "SmallDependenceHighGrayLevelEmphasis",
        "hdlge": "LargeDependenceLowGrayLevelEmphasis",
        "hdhge": "LargeDependenceHighGrayLevelEmphasis",
        "glnu": "GrayLevelNonUniformity",
        "dcnu": "DependenceNonUniformity",
        "dcnu_norm": "DependenceNonUniformityNormalized",
        "gl_var": "GrayLevelVariance",
        "dc_var": "DependenceVariance",
        "dc_entr": "DependenceEntropy",
    },
}
# Aggregation of a tag -> whether in planes, and whether the directions' matrices are added up ("comb").
AGGREGATIONS = {
    "_3D_avg": (False, False),
    "_3D_comb": (False, True),
    "_2_5D_avg": (True, False),
    "_2_5D_comb": (True, True),
    "_2_5D": (True, False),
    "_3D": (False, False),
}


@dataclasses.dataclass(frozen=True)
class Configuration:
    """How IBSI processes the CT phantom. spacing_mm (x, y, z); 0 keeps it."""

    spacing_mm: tuple[float, float, float] | None
    spline_order: int = 1
    value_range: tuple[float, float] | None = None
    outlier_sigmas: float | None = None
    bin_width: float | None = None
    bin_count: int | None = None


CONFIGURATIONS = {
    "A": Configuration(None, value_range=(-500, 400), bin_width=25),
    "B": Configuration((2, 2, 0), value_range=(-500, 400), bin_count=32),
    "C": Configuration((2, 2, 2), value_range=(-1000, 400), bin_width=25),
    "D": Configuration((2, 2, 2), outlier_sigmas=3, bin_count=32),
    "E": Configuration((2, 2, 2), spline_order=3, value_range=(-1000, 400), outlier_sigmas=3, bin_count=32),
}


@dataclasses.dataclass(frozen=True)
class Processed:
    """An image ready for its features: intensities and masks (z, y, x), grey levels of the voxels inside."""

    array: np.ndarray
    whole: np.ndarray
    inside: np.ndarray
    level: np.ndarray
    spacing_mm: tuple[float, float, float]
    bins: Mapping[str, float]


@dataclasses.dataclass(frozen=True)
class Reference:
    """A consensus value."""

    tag: str
    value: float
    tolerance: float

    def holds(self, value: float) -> bool:
        """Within the tolerance, after rounding to the three digits of the consensus."""
        if not math.isfinite(value):
            return False
        digit = 10.0 ** (math.floor(math.log10(abs(self.value))) - 2) if self.value else 1e-3
        return abs(value - self.value) <= self.tolerance + 0.501 * digit


def references(data: Path, name: str) -> list[Reference]:
    """The consensus values of "dig_phantom" or "chest_config_a" to "chest_config_e", where there is a consensus."""
    path = data / "ibsi" / "ibsi_1_reference_values" / f"ibsi_1_{name}.csv"
    with open(path, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file, delimiter=";"))
    return [
        Reference(row["tag"], float(row["reference value"]), float(row["tolerance"] or 0))
        for row in rows
        if row["reference value"]
        and row["tag"].split("_")[0] not in ("img", "vox", "mean", "min", "max", "int")
        and not row["tag"].startswith("morph_mask")
    ]


def digital_phantom(data: Path) -> Processed:
    """The digital phantom: its intensities are its grey levels."""
    folder = data / "ibsi" / "ibsi_1_digital_phantom" / "nifti"
    image = sitk.ReadImage(str(folder / "image" / "phantom.nii.gz"), sitk.sitkFloat64)
    inside = sitk.GetArrayFromImage(sitk.ReadImage(str(folder / "mask" / "mask.nii.gz"))) == 1
    array = sitk.GetArrayFromImage(image)
    level = array[inside].astype(int)
    return Processed(array, inside, inside, level, image.GetSpacing(), {"binWidth": 1})


def ct_phantom_scan(data: Path) -> Scan:
    """The CT phantom as a user would give it."""
    folder = data / "nc_ibsi_ct_phantom" / "nifti"
    image = sitk.ReadImage(str(folder / "image" / "phantom.nii.gz"))
    mask = sitk.ReadImage(str(folder / "mask" / "mask.nii.gz"))
    return Scan(image, Modality.CT, {"GTV": Structure("GTV", mask > 0)}, units="HU")


def ct_phantom(data: Path, configuration: Configuration) -> Processed:
    """The CT phantom, processed as IBSI says for a configuration."""
    scan = ct_phantom_scan(data)
    array = np.round(sitk.GetArrayFromImage(scan.image).astype(float))
    share = scan.structures["GTV"].array.astype(float)
    spacing = np.array(scan.spacing_mm[::-1])
    if configuration.spacing_mm is not None:
        new = np.array(configuration.spacing_mm[::-1], float)
        new = np.where(new == 0, spacing, new)
        array = np.round(_on_centred_grid(array, spacing, new, configuration.spline_order))
        share = _on_centred_grid(share, spacing, new, 1)
        spacing = new
    whole = share >= 0.5 - 1e-6  # half is in, and interpolation is not exact
    inside = whole.copy()
    if configuration.value_range is not None:
        inside &= (array >= configuration.value_range[0]) & (array <= configuration.value_range[1])
    if configuration.outlier_sigmas is not None:
        mean, reach = array[inside].mean(), configuration.outlier_sigmas * array[inside].std()
        inside &= (array >= mean - reach) & (array <= mean + reach)
    x = array[inside]
    if configuration.bin_width is not None:
        level = np.floor((x - configuration.value_range[0]) / configuration.bin_width).astype(int) + 1
        bins = {"binWidth": configuration.bin_width}
    else:
        count = configuration.bin_count
        level = np.minimum(np.floor(count * (x - x.min()) / np.ptp(x)).astype(int) + 1, count)
        bins = {"binCount": count}
    box = images.bounding_box(whole)
    return Processed(array[box], whole[box], inside[box], level, tuple(float(s) for s in spacing[::-1]), bins)


def _on_centred_grid(array: np.ndarray, old: np.ndarray, new: np.ndarray, order: int) -> np.ndarray:
    """IBSI's interpolation grid (section 2.4): its centre is that of the image."""
    size = np.array(array.shape)
    count = np.ceil(size * old / new - 1e-9).astype(int)
    axes = [
        0.5 * (n - 1) + (np.arange(m) - 0.5 * (m - 1)) * s / o for n, m, o, s in zip(size, count, old, new, strict=True)
    ]
    return ndimage.map_coordinates(array, np.meshgrid(*axes, indexing="ij"), order=order, mode="nearest")


def split(tag: str) -> tuple[str, str, str] | None:
    """Family, short name and aggregation of a texture tag that we have a feature for; None otherwise."""
    family, _, rest = tag.partition("_")
    for ending in AGGREGATIONS:
        short = rest.removesuffix(ending)
        if short != rest and short in TEXTURE.get(family, {}):
            return family, short, ending
    return None


def ours(processed: Processed, tags: list[str]) -> dict[str, float]:
    """Our value for each tag that we have a feature for."""
    grey = GreyLevels(processed.level, processed.inside)
    values = processed.array[processed.inside]
    found = first_order.features(values, processed.level, float(np.prod(processed.spacing_mm)))
    found["Kurtosis"] -= 3
    form = shape.features(processed.whole, processed.spacing_mm, tuple(MORPHOLOGY.values()))

    def texture(family: str, planar: bool, added: bool) -> dict[str, float]:
        offsets = directions((1,), 0 if planar else None)
        weights = np.ones(len(offsets)) if added else None
        if family == "cm":
            return glcm.features(grey, offsets, weights)
        if family == "rlm":
            return glrlm.features(grey, offsets, weights)
        return {"szm": glszm, "ngt": ngtdm, "ngl": gldm}[family].features(grey, offsets)

    return _by_tag(tags, found, form, texture)


def pyradiomics(processed: Processed, tags: list[str]) -> dict[str, float]:
    """pyradiomics' value for each of those tags, on the same processed image."""
    from radiomics import firstorder as pr_firstorder
    from radiomics import glcm as pr_glcm
    from radiomics import gldm as pr_gldm
    from radiomics import glrlm as pr_glrlm
    from radiomics import glszm as pr_glszm
    from radiomics import ngtdm as pr_ngtdm
    from radiomics import shape as pr_shape

    def measure(feature_class, mask: np.ndarray, **settings) -> dict[str, float]:
        image = sitk.GetImageFromArray(processed.array)
        image.SetSpacing(processed.spacing_mm)
        label = sitk.GetImageFromArray(mask.astype(np.uint8))
        label.CopyInformation(image)
        instance = feature_class(image, label, **processed.bins, **settings)
        instance.enableAllFeatures()
        return {name: float(value) for name, value in instance.execute().items()}

    found = measure(pr_firstorder.RadiomicsFirstOrder, processed.inside)
    found["Kurtosis"] -= 3
    form = measure(pr_shape.RadiomicsShape, processed.whole)
    classes = {
        "cm": pr_glcm.RadiomicsGLCM,
        "rlm": pr_glrlm.RadiomicsGLRLM,
        "szm": pr_glszm.RadiomicsGLSZM,
        "ngt": pr_ngtdm.RadiomicsNGTDM,
        "ngl": pr_gldm.RadiomicsGLDM,
    }

    def texture(family: str, planar: bool, added: bool) -> dict[str, float]:
        weighting = "no_weighting" if added else None
        return measure(classes[family], processed.inside, force2D=planar, weightingNorm=weighting)

    return _by_tag(tags, found, form, texture)


def extracted(data: Path, configuration: Configuration, tags: list[str]) -> dict[str, float]:
    """What `extract` gives for the CT phantom with the settings nearest to a configuration, its own grid and bins."""
    scan = ct_phantom_scan(data)
    setting = {
        "binCount": configuration.bin_count,
        "resampledPixelSpacing": configuration.spacing_mm,
        "interpolator": "sitkBSpline" if configuration.spline_order == 3 else "sitkLinear",
        "resegmentRange": configuration.value_range,
    }
    if configuration.value_range is None:
        setting |= {"resegmentRange": (-configuration.outlier_sigmas, configuration.outlier_sigmas)}
        setting |= {"resegmentMode": "sigma"}

    def measure(feature_class: str, **more) -> dict[str, float]:
        content = {"setting": setting | more, "featureClass": {feature_class: []}}
        row = extract(scan, Settings.from_dict(content)).rows[0]
        return {name.split("_")[-1]: value for name, value in row.values.items()}

    def texture(family: str, planar: bool, added: bool) -> dict[str, float]:
        classes = {"cm": "glcm", "rlm": "glrlm", "szm": "glszm", "ngt": "ngtdm", "ngl": "gldm"}
        return measure(classes[family], force2D=planar, weightingNorm="no_weighting" if added else None)

    found = measure("firstorder")
    found["Kurtosis"] -= 3
    return _by_tag(tags, found, measure("shape"), texture)


def _by_tag(tags, first, form, texture) -> dict[str, float]:
    values, matrices = {}, {}
    for tag in tags:
        if tag in STATISTICS:
            values[tag] = first[STATISTICS[tag]]
        elif tag in MORPHOLOGY:
            values[tag] = form[MORPHOLOGY[tag]]
        elif (parts := split(tag)) is not None:
            family, short, ending = parts
            if (family, ending) not in matrices:
                matrices[family, ending] = texture(family, *AGGREGATIONS[ending])
            values[tag] = matrices[family, ending][TEXTURE[family][short]]
    return values
