"""Segmentation-aware harmonization of MR, CT and PET for radiation oncology: the engine, free of Slicer and Qt.

The way through it, one case at a time (`case.run`):

    files -> Scan -> methods -> Scan -> guard -> radiomics before and after -> report

    scan, errors, progress   the nouns, what callers may catch, how long work reports and stops
    images, body, protection grids and masks; where the patient is; how protected structures are kept safe
    files/                   scans, structures and models in and out
    methods/                 the image domain: base.py says what a harmonizer is, catalogue.py lists them
    guard, comparison        may this result be trusted; before and after in one picture
    radiomics/               features of structures, and the table they stand in
    feature_domain/          ComBat and its relatives: features harmonized instead of images
    evaluation/              the papers' protocols: site effect, image quality, agreement, outcome
    physics/, phantoms/      signal, kernel and resolution models; simulated people and scanners with known truth
    case, report, pictures, cli, demo
"""

__version__ = "0.1.0"
