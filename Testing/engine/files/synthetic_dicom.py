"""DICOM files made on the spot: series, PET with its tags, multi-frame objects, doses and structure sets."""

from pathlib import Path

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, MRImageStorage, generate_uid

PET_STORAGE = "1.2.840.10008.5.1.4.1.1.128"
ENHANCED_MR_STORAGE = "1.2.840.10008.5.1.4.1.1.4.1"
DOSE_STORAGE = "1.2.840.10008.5.1.4.1.1.481.2"
STRUCTURE_STORAGE = "1.2.840.10008.5.1.4.1.1.481.3"
_CLASSES = {"CT": CTImageStorage, "MR": MRImageStorage, "PT": PET_STORAGE, "RTDOSE": DOSE_STORAGE}


def new_file(sop_class: str, modality: str) -> FileDataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = sop_class
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.SOPClassUID, dataset.SOPInstanceUID = sop_class, meta.MediaStorageSOPInstanceUID
    dataset.Modality = modality
    dataset.PatientName, dataset.PatientID = "Doe^Jane", "SECRET-1"
    return dataset


def set_pixels(dataset: Dataset, stored: np.ndarray, bits: int = 16) -> None:
    dataset.Rows, dataset.Columns = stored.shape[-2:]
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, bits, bits - 1
    dataset.PixelRepresentation = int(stored.dtype.kind == "i")
    dataset.PixelData = stored.astype("<i2" if stored.dtype.kind == "i" else "<u2").tobytes()


def save(dataset: Dataset, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pydicom.dcmwrite(path, dataset)
    return path


def series(
    stored: np.ndarray,
    modality: str = "CT",
    spacing_mm=(0.8, 1.1, 2.5),
    origin=(-10.0, 20.0, 35.0),
    row=(1.0, 0.0, 0.0),
    column=(0.0, 1.0, 0.0),
    step=None,
    **tags,
) -> list[FileDataset]:
    """One dataset a slice of `stored` (z, y, x), stacked along the normal unless `step` (LPS, mm) says otherwise."""
    row, column = np.array(row, float), np.array(column, float)
    step = spacing_mm[2] * np.cross(row, column) if step is None else np.array(step, float)
    series_uid, frame_uid = generate_uid(), generate_uid()
    made = []
    for number, slice_ in enumerate(stored):
        dataset = new_file(_CLASSES[modality], modality)
        dataset.SeriesInstanceUID, dataset.FrameOfReferenceUID = series_uid, frame_uid
        dataset.InstanceNumber = number + 1
        dataset.ImagePositionPatient = [f"{v:.6f}" for v in np.array(origin) + number * step]
        dataset.ImageOrientationPatient = [f"{v:.9f}" for v in (*row, *column)]
        dataset.PixelSpacing = [spacing_mm[1], spacing_mm[0]]
        set_pixels(dataset, slice_)
        for keyword, value in tags.items():
            setattr(dataset, keyword, value)
        made.append(dataset)
    return made


def save_series(datasets: list[FileDataset], folder: Path, order=None) -> Path:
    """The files in a folder, named so that their names say nothing about their order in space."""
    order = order if order is not None else np.random.default_rng(3).permutation(len(datasets))
    for name, number in enumerate(order):
        save(datasets[number], folder / f"IM{name:04d}")
    return folder


def structure_set(
    rois: dict[str, list[np.ndarray]], frame_uid: str = "", geometric_type="CLOSED_PLANAR"
) -> FileDataset:
    """An RTSTRUCT of closed contours (points x 3, LPS, mm) by name."""
    dataset = new_file(STRUCTURE_STORAGE, "RTSTRUCT")
    dataset.SeriesInstanceUID = generate_uid()
    dataset.StructureSetROISequence, dataset.ROIContourSequence = [], []
    for number, (name, contours) in enumerate(rois.items(), start=1):
        roi = Dataset()
        roi.ROINumber, roi.ROIName = number, name
        if frame_uid:
            roi.ReferencedFrameOfReferenceUID = frame_uid
        dataset.StructureSetROISequence.append(roi)
        entry = Dataset()
        entry.ReferencedROINumber = number
        entry.ContourSequence = []
        for points in contours:
            contour = Dataset()
            contour.ContourGeometricType = geometric_type
            contour.NumberOfContourPoints = len(points)
            contour.ContourData = [f"{v:.6f}" for v in np.ravel(points)]
            entry.ContourSequence.append(contour)
        dataset.ROIContourSequence.append(entry)
    return dataset
