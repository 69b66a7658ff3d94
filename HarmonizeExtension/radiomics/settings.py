"""How features are extracted: read from JSON files that speak pyradiomics' names."""

from __future__ import annotations

import dataclasses
import difflib
import json
from collections.abc import Mapping
from pathlib import Path

from .. import resources
from ..errors import InputError
from ..scan import Modality
from .catalogue import DEFINITIONS

IMAGE_TYPES = ("Original", "LoG", "Wavelet")
INTERPOLATORS = ("sitkBSpline", "sitkLinear", "sitkNearestNeighbor")
WEIGHTINGS = ("no_weighting", "infinity", "euclidean", "manhattan")
RESEGMENT_MODES = ("absolute", "relative", "sigma")

# Settings of pyradiomics that say how it is run, not what is measured.
WITHOUT_EFFECT = {"additionalInfo", "label", "label_channel", "correctMask", "geometryTolerance"}


def _key(pyradiomics_name: str, default, **more):
    return dataclasses.field(default=default, metadata={"key": pyradiomics_name, **more})


@dataclasses.dataclass(frozen=True)
class Settings:
    """What is measured and how; the defaults are pyradiomics' own. Its name for each setting stands beside ours.

    Fixed bins: `bin_count` where it is given, else `bin_width`, in the unit of the intensities.
    resampled_spacing_mm: (x, y, z); None keeps the grid, 0 keeps it along that axis.
    distances_voxels: Chebyshev distances of neighbours for GLCM, GLDM and NGTDM.
    force_2d: texture within the planes across `force_2d_axis` (0 = z) only.
    resegment_range: one or two limits, in intensities, in shares of the maximum, or in standard deviations.
    image_types: the images that are measured, each with the settings that differ for it (LoG has its sigmas there).
    feature_classes: the classes, each with the features wanted; none named means all.
    """

    bin_width: float = _key("binWidth", 25.0)
    bin_count: int | None = _key("binCount", None)
    resampled_spacing_mm: tuple[float, float, float] | None = _key("resampledPixelSpacing", None)
    interpolator: str | None = _key("interpolator", "sitkBSpline", among=INTERPOLATORS)
    pad_distance_voxels: int = _key("padDistance", 5)
    pre_crop: bool = _key("preCrop", False)
    normalize: bool = _key("normalize", False)
    normalize_scale: float = _key("normalizeScale", 1.0)
    remove_outliers_sigma: float | None = _key("removeOutliers", None)
    resegment_range: tuple[float, ...] | None = _key("resegmentRange", None)
    resegment_mode: str = _key("resegmentMode", "absolute", among=RESEGMENT_MODES)
    resegment_shape: bool = _key("resegmentShape", False)
    minimum_dimensions: int = _key("minimumROIDimensions", 2)
    minimum_voxels: int | None = _key("minimumROISize", None)
    distances_voxels: tuple[int, ...] = _key("distances", (1,))
    force_2d: bool = _key("force2D", False)
    force_2d_axis: int = _key("force2Ddimension", 0)
    symmetrical_glcm: bool = _key("symmetricalGLCM", True)
    weighting: str | None = _key("weightingNorm", None, among=WEIGHTINGS)
    gldm_alpha: int = _key("gldm_a", 0)
    voxel_array_shift: float = _key("voxelArrayShift", 0.0)
    log_sigmas_mm: tuple[float, ...] = _key("sigma", ())
    image_types: Mapping[str, Mapping] = dataclasses.field(default_factory=lambda: {"Original": {}})
    feature_classes: Mapping[str, tuple[str, ...]] = dataclasses.field(
        default_factory=lambda: {name: () for name in DEFINITIONS if name != "shape"}
    )
    description: str = ""

    def __post_init__(self):
        positive = ("bin_width", "bin_count", "normalize_scale", "remove_outliers_sigma")
        for name in positive:
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise InputError(f"radiomics setting {_keys()[name]} is {value}; it must be above 0")
        if not self.distances_voxels or min(self.distances_voxels) < 1:
            raise InputError(f"radiomics setting distances is {list(self.distances_voxels)}; give whole numbers from 1")
        if self.resampled_spacing_mm is not None and (
            len(self.resampled_spacing_mm) != 3 or min(self.resampled_spacing_mm) < 0
        ):
            raise InputError("radiomics setting resampledPixelSpacing needs three numbers in mm, each 0 or more")
        if self.resegment_range is not None and len(self.resegment_range) not in (1, 2):
            raise InputError("radiomics setting resegmentRange needs one or two limits")
        if self.force_2d_axis not in (0, 1, 2):
            raise InputError("radiomics setting force2Ddimension is 0 (z), 1 (y) or 2 (x)")
        if any(sigma <= 0 for sigma in self.log_sigmas_mm):
            raise InputError("radiomics setting sigma needs numbers above 0, in mm")
        for field in dataclasses.fields(self):
            among, value = field.metadata.get("among"), getattr(self, field.name)
            if among and value is not None:
                _check_known(value, among, f"radiomics setting {field.metadata['key']}")

    @classmethod
    def load(cls, name_or_path: str | Path) -> Settings:
        """From a file, or by the name of one that ships with the product ("mr", "ct", "pet", "ct_wavelet_log")."""
        path = Path(name_or_path)
        if not path.suffix:
            shipped = {p.stem: p for p in resources.folder("Settings").glob("*.json")}
            _check_known(str(name_or_path), sorted(shipped), "radiomics settings")
            path = shipped[str(name_or_path)]
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise InputError(f"the radiomics settings {path} cannot be read ({error.strerror})") from error
        except ValueError as error:
            raise InputError(f"the radiomics settings {path} are not valid JSON ({error})") from error
        if not isinstance(content, dict):
            raise InputError(f"the radiomics settings {path} must be a JSON object with 'setting' in it")
        return cls.from_dict(content)

    @staticmethod
    def names() -> list[str]:
        """The names of the settings that ship."""
        return sorted(path.stem for path in resources.folder("Settings").glob("*.json"))

    @classmethod
    def for_modality(cls, modality: Modality) -> Settings:
        """The settings that ship for a modality."""
        return cls.load(modality.value.lower())

    @classmethod
    def from_dict(cls, content: Mapping) -> Settings:
        """From pyradiomics' parameter layout: "setting", "imageType" and "featureClass", each optional."""
        for section in content:
            _check_known(section, ("setting", "imageType", "featureClass", "description"), "radiomics settings section")
        values = _parse(content.get("setting") or {})
        if "imageType" in content:
            values["image_types"] = {}
            for image_type, changes in content["imageType"].items():
                _check_known(image_type, IMAGE_TYPES, "radiomics image type")
                cls(**_parse(changes or {}, image_type))  # refuses what is unknown or impossible
                values["image_types"][image_type] = dict(changes or {})
        if "featureClass" in content:
            values["feature_classes"] = {}
            for feature_class, wanted in content["featureClass"].items():
                _check_known(feature_class, tuple(DEFINITIONS), "radiomics feature class")
                for name in wanted or ():
                    _check_known(name, tuple(DEFINITIONS[feature_class]), f"radiomics feature of {feature_class}")
                values["feature_classes"][feature_class] = tuple(wanted or ())
        settings = cls(**values, description=content.get("description", ""))
        if "LoG" in settings.image_types and not settings.for_image_type("LoG").log_sigmas_mm:
            raise InputError('radiomics image type LoG needs its widths in mm, such as "LoG": {"sigma": [1.0, 3.0]}')
        return settings

    def as_dict(self) -> dict:
        """pyradiomics' parameter layout, as JSON holds it; `from_dict` reads it back."""
        setting = {}
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if "key" in field.metadata and (value != field.default or field.name == "bin_width"):
                setting[field.metadata["key"]] = list(value) if isinstance(value, tuple) else value
        return {
            "description": self.description,
            "setting": setting,
            "imageType": {name: dict(changes) for name, changes in self.image_types.items()},
            "featureClass": {name: list(wanted) for name, wanted in self.feature_classes.items()},
        }

    def for_image_type(self, image_type: str) -> Settings:
        """These settings with what differs for one image type."""
        return dataclasses.replace(self, **_parse(self.image_types[image_type], image_type))

    @property
    def plane_axis(self) -> int | None:
        """The axis across which texture is not followed; None in 3D."""
        return self.force_2d_axis if self.force_2d else None

    @property
    def resamples(self) -> bool:
        """Whether the image is brought to another spacing."""
        return self.resampled_spacing_mm is not None and self.interpolator is not None


def _keys() -> dict[str, str]:
    return {field.name: field.metadata["key"] for field in dataclasses.fields(Settings) if "key" in field.metadata}


def _parse(setting: Mapping, image_type: str = "") -> dict:
    """Our names and types for pyradiomics' settings; raises InputError for one that is not known or not fitting."""
    fields = {field.metadata["key"]: field for field in dataclasses.fields(Settings) if "key" in field.metadata}
    values = {}
    for key, value in setting.items():
        if key in WITHOUT_EFFECT:
            continue
        if image_type == "Wavelet" and (key, value) in (("wavelet", "coif1"), ("level", 1), ("start_level", 0)):
            continue
        _check_known(key, [*fields, *WITHOUT_EFFECT], f"radiomics setting{' of ' + image_type if image_type else ''}")
        values[fields[key].name] = _converted(key, value, str(fields[key].type))
    return values


def _converted(key: str, value, type_: str):
    """A JSON value as the type that the dataclass states."""
    if value is None and "None" in type_:
        return None
    base = type_.split(" | ")[0]
    try:
        if base.startswith("tuple"):
            number = int if "int" in base else int | float
            if not all(isinstance(v, number) and not isinstance(v, bool) for v in value):
                raise TypeError
            return tuple(value)  # 1 stays 1 and 1.0 stays 1.0: the name of a filtered image shows it
        fits = {"bool": bool, "int": int, "float": int | float, "str": str}[base]
        if not isinstance(value, fits) or (base != "bool" and isinstance(value, bool)):
            raise TypeError
        return value
    except (TypeError, ValueError):
        raise InputError(f"radiomics setting {key} is {value!r}, which is not a {base}") from None


def _check_known(name, known, what: str) -> None:
    if name not in known:
        nearest = difflib.get_close_matches(str(name), [str(k) for k in known], n=1, cutoff=0.0)
        raise InputError(f"{what} '{name}' is not known; did you mean '{nearest[0]}'?")
