"""Scans, structures and models in and out of files.

`read_scan` takes whatever a planner has (NIfTI, NRRD, MetaImage, a DICOM series with RTSTRUCT); everything is
written beside its place and renamed, so that a failure leaves what stood there before.
"""

from .models import ModelCard, load_model, save_model
from .reading import read_scan
from .writing import output_folder, replacing, write_image, write_json, write_text

__all__ = [
    "ModelCard",
    "load_model",
    "output_folder",
    "read_scan",
    "replacing",
    "save_model",
    "write_image",
    "write_json",
    "write_text",
]
