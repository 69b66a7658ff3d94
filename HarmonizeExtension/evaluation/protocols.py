"""The papers' protocols by name: what each asks, what it needs, and how it is run.

result = protocols.run("site-effect", study, np.random.default_rng(0))
print(result.text())
result.write("evaluation")
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np

from ..errors import InputError
from ..files.manifest import Manifest
from ..progress import CancelCheck, Progress, never, silent
from . import image_protocols, patient_protocols, reproducibility, site_protocols
from .results import Answer, ProtocolResult
from .study import Study


@dataclasses.dataclass(frozen=True)
class Protocol:
    """One protocol of the catalogue.

    needs: what the manifest and the feature table must hold, in words. run: the function.
    minimum_scans: of a site, below which the site is left out. from_images: reads the images of a manifest instead of
    the features of a study.
    """

    name: str
    title: str
    citation: str
    needs: str
    run: Callable[..., Answer]
    minimum_scans: int = 0
    from_images: bool = False


PROTOCOLS = (
    Protocol(
        "site-effect",
        "Which features tell the scanners apart",
        "Fatania et al., Phys Imaging Radiat Oncol 2022, section 2.4",
        "features; column site",
        site_protocols.site_effect_protocol,
        3,
    ),
    Protocol(
        "overlap",
        "How far two scanners' distributions overlap",
        "Haberl et al., EJNMMI 2024, section 2.5",
        "features of two arms; column site",
        site_protocols.overlap_protocol,
        3,
    ),
    Protocol(
        "site-prediction",
        "Whether all features together name the scanner",
        "Gretton et al., JMLR 2012; cross-validated ridge logistic regression",
        "features; column site",
        site_protocols.site_prediction_protocol,
        4,
    ),
    Protocol(
        "outcome",
        "Whether the features predict the outcome",
        "Haberl et al., EJNMMI 2024, section 2.6",
        "features; columns site and outcome",
        patient_protocols.outcome_arms_protocol,
        10,
    ),
    Protocol(
        "agreement",
        "Whether two measurements of the same thing agree",
        "Lin 1989; Shrout and Fleiss 1979; Bland and Altman 1986; threshold of Selim et al. 2021",
        "features of two arms, or a column repeat that names what was measured again",
        patient_protocols.agreement_protocol,
    ),
    Protocol(
        "image-quality",
        "How alike images are to the true ones",
        "Wang et al., IEEE Trans Image Process 2004",
        "columns image and truth; harmonized and segmentation where there are any",
        image_protocols.image_quality_protocol,
        from_images=True,
    ),
    Protocol(
        "reproducibility",
        "How many CT features agree with the true image",
        "Selim et al., 2021, section 4.1, Table 1; Lin, Biometrics 1989",
        "columns image and truth, CT; harmonized and segmentation where there are any",
        reproducibility.reproducibility_protocol,
        from_images=True,
    ),
    Protocol(
        "liver-noise",
        "How noisy the liver is on each scanner",
        "Haberl et al., EJNMMI 2024, section 2.5",
        "columns image, segmentation and site; harmonized where there is one",
        image_protocols.liver_noise_protocol,
        from_images=True,
    ),
)


def protocol(name: str) -> Protocol:
    """The protocol of that name; InputError, listing all, for another."""
    for known in PROTOCOLS:
        if known.name == name:
            return known
    lines = (f"  {known.name:16} {known.title} (needs {known.needs})" for known in PROTOCOLS)
    raise InputError(f"there is no protocol '{name}'; the protocols are:\n" + "\n".join(lines))


def run(
    name: str,
    source: Study | Manifest,
    rng: np.random.Generator,
    structure: str = "",
    progress: Progress = silent,
    cancelled: CancelCheck = never,
) -> ProtocolResult:
    """Run a protocol on a study, or on a manifest where it reads images.

    structure: of the images, where the protocol looks at one; of a study it is the study's own.
    Sites with too few scans for the protocol are left out and named in the notes.
    Raises InputError where what the protocol needs is missing, Cancelled when `cancelled()` became true.
    """
    chosen = protocol(name)
    if chosen.from_images:
        answer = chosen.run(source, structure, progress, cancelled)
        return ProtocolResult(chosen.name, chosen.title, chosen.citation, *answer)
    study = source.with_sites_of(chosen.minimum_scans)
    answer = chosen.run(study, rng, progress, cancelled)
    title = f"{chosen.title}: {study.structure}, {len(study.cases)} scans"
    notes = tuple(dict.fromkeys((*answer.notes, *study.notes)))
    return ProtocolResult(chosen.name, title, chosen.citation, answer.tables, answer.figures, notes)
