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
from .benchmarks import BENCHMARKS
from .results import Answer, ProtocolResult
from .study import PERSON, Study, check_one_modality


@dataclasses.dataclass(frozen=True)
class Protocol:
    """One protocol of the catalogue.

    needs: what the manifest and the feature table must hold, in words. run: the function.
    minimum: scans of a site, below which the site is left out; of a protocol that learns from the features of some
    people for others (`learns`), people. outcome: takes scans with an outcome only. from_images: reads the images of a
    manifest instead of the features of a study.
    """

    name: str
    title: str
    citation: str
    needs: str
    run: Callable[..., Answer]
    minimum: int = 0
    learns: bool = False
    outcome: bool = False
    from_images: bool = False

    def usable(self, study: Study) -> Study:
        """The scans that the protocol can use, what is left out named in the notes; InputError where none is."""
        study = study.with_outcome() if self.outcome else study
        return study.with_sites_of(self.minimum, people=self.learns)


_WHOSE = f"column {' or '.join(PERSON)} where a person has several scans"

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
        f"features; column site; {_WHOSE}",
        site_protocols.site_prediction_protocol,
        4,
        learns=True,
    ),
    Protocol(
        "outcome",
        "Whether the features predict the outcome",
        "Haberl et al., EJNMMI 2024, section 2.6",
        f"features; columns site and outcome; {_WHOSE}",
        patient_protocols.outcome_arms_protocol,
        10,
        learns=True,
        outcome=True,
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
    lines = [f"  {known.name:16} {known.title} (needs {known.needs})" for known in PROTOCOLS]
    lines += [f"  {known.name:16} {known.title} (needs nothing: it simulates its scans)" for known in BENCHMARKS]
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
        check_one_modality(source)
        answer = chosen.run(source, structure, progress, cancelled)
        return ProtocolResult(chosen.name, chosen.title, chosen.citation, *answer)
    study = chosen.usable(source)
    answer = chosen.run(study, rng, progress, cancelled)
    title = f"{chosen.title}: {study.structure}, {len(study.cases)} scans"
    notes = tuple(dict.fromkeys((*answer.notes, *study.notes)))
    return ProtocolResult(chosen.name, title, chosen.citation, answer.tables, answer.figures, notes)
