"""What tissue is to the MR signal: T1, T2* and proton density by field strength, from the literature."""

from __future__ import annotations

import dataclasses
import enum

from ..errors import InputError


class Tissue(enum.StrEnum):
    """The tissues of a simulated head, in the order of their maps; what is none of them is air."""

    WHITE_MATTER = "white matter"
    GREY_MATTER = "grey matter"
    CSF = "cerebrospinal fluid"
    BONE = "cortical bone"
    FAT = "fat"  # subcutaneous, orbital and bone marrow
    SOFT = "muscle and skin"
    LESION = "lesion"
    OEDEMA = "oedema"
    PLAQUE = "white matter lesion"


@dataclasses.dataclass(frozen=True)
class Properties:
    """Relaxation times and proton density (relative to water) of one tissue at one field strength.

    texture: standard deviation of T1 from place to place inside the tissue, as a share of T1.
    """

    t1_ms: float
    t2_star_ms: float
    proton_density: float
    texture: float = 0.0


# White and grey matter, T1: 1.5 T Rooney et al., Magn Reson Med 57:308 (2007); 3 T Wansapura et al., J Magn Reson
# Imaging 9:531 (1999); both lie inside the range of the review of Bojorquez et al., Magn Reson Imaging 35:69 (2017).
# T2*: Peters et al., Magn Reson Imaging 25:748 (2007). Proton density: Tofts, Quantitative MRI of the Brain (2003),
# chapter 4. CSF: T1 Rooney 2007 (at 3 T between their 1.5 and 4 T), T2* long against every echo time here.
# Fat and muscle, T1: Gold et al., AJR 183:343 (2004). T2* of fat is short, as its several resonances dephase, and is
# assumed, like that of muscle and the proton densities of both.
# Cortical bone: T1 and T2* Reichert et al., Magn Reson Imaging 23:611 (2005); it gives no signal at these echo times.
# Lesion: a cellular tumour without contrast agent, T1 between grey matter and oedema (Bottomley et al., Med Phys
# 14:1, 1987, table of tumours, carried to both field strengths).
# Oedema around a tumour: T1 longer and protons denser than in white matter (Blystad et al., Sci Rep 10:17937, 2020).
# White matter lesion: T1 and T2* longer than in white matter (Lommers et al., Neuroimage Clin 23:101879, 2019, at 3 T).
# How much longer is assumed for both: T1 about 1.5 to 1.75 times, T2* 1.4 to 1.7 times that of white matter.
# Texture inside white and grey matter: assumed 4 and 6 %, about the spread that T1 maps show within the tissues.
PROPERTIES: dict[float, dict[Tissue, Properties]] = {
    1.5: {
        Tissue.WHITE_MATTER: Properties(656, 66, 0.70, 0.04),
        Tissue.GREY_MATTER: Properties(1188, 84, 0.82, 0.06),
        Tissue.CSF: Properties(4070, 1000, 1.00),
        Tissue.BONE: Properties(223, 0.5, 0.20),
        Tissue.FAT: Properties(288, 16, 0.80, 0.05),
        Tissue.SOFT: Properties(1130, 28, 0.78, 0.08),
        Tissue.LESION: Properties(1450, 90, 0.87, 0.10),
        Tissue.OEDEMA: Properties(1150, 110, 0.84, 0.06),
        Tissue.PLAQUE: Properties(1050, 95, 0.81, 0.06),
    },
    3.0: {
        Tissue.WHITE_MATTER: Properties(832, 53, 0.70, 0.04),
        Tissue.GREY_MATTER: Properties(1331, 66, 0.82, 0.06),
        Tissue.CSF: Properties(4300, 500, 1.00),
        Tissue.BONE: Properties(223, 0.4, 0.20),
        Tissue.FAT: Properties(371, 9, 0.80, 0.05),
        Tissue.SOFT: Properties(1420, 22, 0.78, 0.08),
        Tissue.LESION: Properties(1700, 70, 0.87, 0.10),
        Tissue.OEDEMA: Properties(1400, 85, 0.84, 0.06),
        Tissue.PLAQUE: Properties(1280, 75, 0.81, 0.06),
    },
}


def properties(field_strength_tesla: float) -> dict[Tissue, Properties]:
    """The properties of every tissue at 1.5 or 3 T. Raises InputError for any other field strength."""
    try:
        return PROPERTIES[field_strength_tesla]
    except KeyError:
        known = " and ".join(f"{field:g}" for field in PROPERTIES)
        raise InputError(f"tissue properties are known at {known} T, not at {field_strength_tesla:g} T") from None
