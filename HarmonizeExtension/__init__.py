"""Segmentation-aware harmonization of MR, CT and PET for radiation oncology: the engine, free of Slicer and Qt.

The way through it: a `Scan` is read (`files`), a harmonizer is taken from `methods.catalogue` and applied, the
`guard` says whether the result may be trusted, `radiomics` measures before and after; `case.run` does all of it.
"""

__version__ = "0.1.0"
