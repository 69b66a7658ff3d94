"""The nouns: a scan with its structures and acquisition, and what it may be harmonized to.

A `Scan` is never changed; methods return a new one made with `dataclasses.replace` or `Scan.with_array`.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Iterable, Mapping
from types import MappingProxyType

import numpy as np
import SimpleITK as sitk

from . import images
from .errors import InputError


class Modality(enum.StrEnum):
    """DICOM's name of the modality (PT is written PET, as everybody says it)."""

    MR = "MR"
    CT = "CT"
    PET = "PET"

    @classmethod
    def parse(cls, text: str) -> Modality:
        """From a user's or DICOM's word; PT is PET. Raises InputError for any other modality."""
        word = str(text).strip().upper()
        try:
            return cls("PET" if word == "PT" else word)
        except ValueError:
            raise InputError(f"modality '{text}' is not supported; use MR, CT or PET") from None


class Role(enum.StrEnum):
    """What a structure is for in a case."""

    REFERENCE = "reference"  # intensity statistics are taken inside it
    PROTECTED = "protected"  # may change in contrast, never in structure
    MEASURED = "measured"  # radiomics before and after


@dataclasses.dataclass(frozen=True)
class Structure:
    """A named mask (uint8, 0 or 1) on the grid of its scan."""

    name: str
    mask: sitk.Image
    roles: frozenset[Role] = frozenset({Role.MEASURED})

    @property
    def array(self) -> np.ndarray:
        """The mask as a bool array (z, y, x)."""
        return sitk.GetArrayViewFromImage(self.mask) != 0


@dataclasses.dataclass(frozen=True)
class Acquisition:
    """How the scan was taken. None means unknown; units stand in the names (DICOM tag beside each)."""

    manufacturer: str | None = None  # (0008,0070)
    model: str | None = None  # (0008,1090)
    device_serial_number: str | None = None  # (0018,1000)
    field_strength_tesla: float | None = None  # (0018,0087)
    repetition_time_ms: float | None = None  # (0018,0080)
    echo_time_ms: float | None = None  # (0018,0081)
    inversion_time_ms: float | None = None  # (0018,0082)
    flip_angle_deg: float | None = None  # (0018,1314)
    kernel: str | None = None  # (0018,1210) convolution kernel
    tube_voltage_kvp: float | None = None  # (0018,0060)
    slice_thickness_mm: float | None = None  # (0018,0050)
    reconstruction: str | None = None  # (0054,1103)

    def known(self) -> dict[str, str | float]:
        """Only the entries that are known."""
        return {name: value for name, value in dataclasses.asdict(self).items() if value is not None}


@dataclasses.dataclass(frozen=True)
class Scan:
    """An image with everything that travels along with it.

    image: SimpleITK scalar image, 3D, in patient coordinates (LPS, mm).
    modality: MR, CT or PET.
    structures: by name, each a mask on the image's grid.
    acquisition: scanner and protocol, as far as known.
    units: "HU", "SUV" or "Bq/ml"; empty where intensities have no unit (MR).
    name: what the user calls it.
    provenance: what was done to it, oldest first; each entry a mapping that JSON can hold.
    """

    image: sitk.Image
    modality: Modality
    structures: Mapping[str, Structure] = dataclasses.field(default_factory=dict)
    acquisition: Acquisition = Acquisition()
    units: str = ""
    name: str = "scan"
    provenance: tuple[Mapping, ...] = ()

    def __post_init__(self):
        images.check_volume(self.image, self.name)
        for structure in self.structures.values():
            if not images.same_grid(structure.mask, self.image):
                raise InputError(
                    f"structure '{structure.name}' is not on the grid of '{self.name}'; "
                    "resample it with images.resample_mask first"
                )
        object.__setattr__(self, "structures", MappingProxyType(dict(self.structures)))

    @property
    def array(self) -> np.ndarray:
        """Intensities as a new float32 array (z, y, x)."""
        return images.to_array(self.image)

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Voxel size (x, y, z) in mm."""
        return self.image.GetSpacing()

    def with_array(self, array: np.ndarray, **changes) -> Scan:
        """The same scan with other intensities (z, y, x) on the same grid, and other fields changed."""
        return dataclasses.replace(self, image=images.to_image(array, self.image), **changes)

    def with_roles(
        self, reference: str | None = None, protected: Iterable[str] = (), measured: Iterable[str] | None = None
    ) -> Scan:
        """The same scan with the roles of its structures set anew; `measured=None` measures every structure."""
        reference = reference or None  # an empty name is none
        protected = set(protected)
        measured = set(self.structures if measured is None else measured)
        wanted = {name for name in (reference,) if name} | protected | measured
        unknown = sorted(wanted - set(self.structures))
        if unknown:
            have = ", ".join(self.structures) or "none"
            raise InputError(f"'{self.name}' has no structure named {', '.join(unknown)}; it has: {have}")
        chosen = {}
        for name, structure in self.structures.items():
            roles = {
                role
                for role, names in (
                    (Role.REFERENCE, {reference}),
                    (Role.PROTECTED, protected),
                    (Role.MEASURED, measured),
                )
                if name in names
            }
            chosen[name] = dataclasses.replace(structure, roles=frozenset(roles))
        return dataclasses.replace(self, structures=chosen)

    def with_role(self, role: Role) -> list[Structure]:
        """The structures that have a role, in their order."""
        return [structure for structure in self.structures.values() if role in structure.roles]


class TargetKind(enum.StrEnum):
    """What a method harmonizes to."""

    NONE = "none"  # nothing to choose
    SCAN = "reference scan"  # another scan of the look that is wanted
    MODEL = "model"  # a model folder, such as a trained standard scale
    KERNEL = "kernel"  # a CT reconstruction kernel: a reference scan, or its name
    RESOLUTION = "resolution"  # a PET resolution: FWHM in mm, or a reference scan
    SITE = "site"  # one of the sites a network was trained on
    PROTOCOL = "protocol"  # MR sequence parameters
