"""What every feature is called: here, by the Image Biomarker Standardisation Initiative, and its unit.

Each class of features (`first_order`, `glcm`, ...) states its features as a mapping from pyradiomics' name to a
`Definition`. The codes are those of the IBSI reference manual (Zwanenburg et al. 2020, Radiology 295:328; the
manual is arXiv:1612.07003). A feature that IBSI does not define has no code.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

# The smallest step at 1: added inside logarithms by pyradiomics, so that empty cells count as nothing.
EPSILON = float(np.spacing(1))

INTENSITY = "intensity"  # stands for the unit of the scan (HU, SUV) in `Definition.unit`


class Definition(NamedTuple):
    """A feature's IBSI name and code, and its unit (of the intensities where it says "intensity").

    emphasis: which of the features in `emphasis.py` it is, where a matrix counts by grey level and size.
    """

    ibsi_name: str
    ibsi_code: str = ""
    unit: str = ""
    emphasis: str = ""

    def unit_for(self, intensity_unit: str) -> str:
        """The unit on a scan whose intensities have this unit; empty where they have none, as in MR."""
        if INTENSITY in self.unit and not intensity_unit:
            return ""
        return self.unit.replace(INTENSITY, intensity_unit)
