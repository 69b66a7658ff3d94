"""All features by class: 18 + 24 + 16 + 16 + 14 + 5 of intensity and texture, and 14 of shape."""

from __future__ import annotations

from collections.abc import Mapping

from . import first_order, glcm, gldm, glrlm, glszm, ngtdm, shape
from .definitions import Definition

DEFINITIONS: Mapping[str, Mapping[str, Definition]] = {
    "shape": shape.FEATURES,
    "firstorder": first_order.FEATURES,
    "glcm": glcm.FEATURES,
    "glrlm": glrlm.FEATURES,
    "glszm": glszm.FEATURES,
    "gldm": gldm.FEATURES,
    "ngtdm": ngtdm.FEATURES,
}
