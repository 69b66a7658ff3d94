"""One image file in: NIfTI, NRRD or MetaImage, proven whole before its voxels are believed.

The image libraries read a damaged NIfTI file without a word and allocate whatever a header asks for; so the size that
the header declares is held against the bytes that are there first.
"""

from __future__ import annotations

import gzip
import math
import os
import re
import struct
import zlib
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from ..errors import InputError

NIFTI_SUFFIXES = (".nii", ".nii.gz")
SUFFIXES = (*NIFTI_SUFFIXES, ".nrrd", ".nhdr", ".mha", ".mhd")
_MAXIMUM_DEFLATE_RATIO = 1032  # of any deflate stream: 258 bytes from 2 bits
_NIFTI_HEADER_BYTES = 540  # of NIfTI-2, the longer one
_NIFTI_FLOATS = ((16, 32), (64, 64))  # code and bits of the types that can hold NaN
_CHUNK_BYTES = 1 << 22
_HEADER_BYTES = 65536  # in which a detached header names its data file


def stem(path: str | os.PathLike) -> str:
    """The name of a file without the suffixes of its format (GTV for GTV.seg.nrrd)."""
    name = Path(path).name
    return re.sub(r"(\.nii(\.gz)?|(\.seg)?\.(nrrd|nhdr)|\.mh[ad]|\.dcm)$", "", name, flags=re.IGNORECASE) or name


def check_file(path: Path) -> None:
    """Raise InputError unless there is a file at `path`, not empty and readable."""
    if path.is_dir():
        raise InputError(f"'{path}' is a folder; choose a file")
    if not path.exists():
        raise InputError(f"there is no file '{path}'; check the path")
    if not path.is_file():
        raise InputError(f"'{path}' is no ordinary file; choose an image file")
    if path.stat().st_size == 0:
        raise InputError(f"'{path}' is empty (0 bytes); export or copy it again")
    try:
        with open(path, "rb"):
            pass
    except OSError as error:
        raise InputError(f"'{path}' cannot be read: {error.strerror}") from error


def read_volume(path: str | os.PathLike) -> sitk.Image:
    """The image in a NIfTI, NRRD or MetaImage file, 3D (a fourth axis of one entry is dropped), LPS, mm.

    Several values per voxel (a layered segmentation) are left as they are; who wants a scalar checks.
    Raises InputError for a missing, empty, truncated, damaged or foreign file, and for 2D and 4D images.
    """
    path = Path(path)
    check_file(path)
    if not path.name.lower().endswith(SUFFIXES):
        raise InputError(
            f"'{path}' is in no format that can be read here; use NIfTI (.nii, .nii.gz), NRRD (.nrrd), "
            "MetaImage (.mha, .mhd) or the folder of a DICOM series"
        )
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    nifti = path.name.lower().endswith(NIFTI_SUFFIXES)
    if nifti:
        _check_nifti_whole(path)
    try:
        reader.ReadImageInformation()
        _check_header(reader, path)
        if not nifti:
            _check_whole(reader, path)
        image = reader.Execute()
    except RuntimeError as error:
        raise InputError(_sentence(str(error), path)) from error
    if image.GetDimension() == 4:
        size = list(image.GetSize())
        image = sitk.Extract(image, [*size[:3], 0], [0, 0, 0, 0])
    return image


def _check_header(reader: sitk.ImageFileReader, path: Path) -> None:
    size, dimension = reader.GetSize(), reader.GetDimension()
    if dimension < 3:
        raise InputError(f"'{path}' is a single slice ({_times(size)} pixels); harmonization needs a volume")
    if dimension > 4 or (dimension == 4 and size[3] > 1):
        raise InputError(f"'{path}' has {dimension} dimensions ({_times(size)}); choose a single 3D volume of it")
    if "complex" in sitk.GetPixelIDValueAsString(reader.GetPixelID()):
        raise InputError(f"'{path}' holds complex numbers; export the magnitude image")
    geometry = (*reader.GetSpacing(), *reader.GetOrigin(), *reader.GetDirection())
    if not np.isfinite(geometry).all() or min(reader.GetSpacing()) <= 0:
        raise InputError(f"'{path}' has an impossible grid (spacing {reader.GetSpacing()} mm); export it again")


def _check_whole(reader: sitk.ImageFileReader, path: Path) -> None:
    declared = int(np.prod(reader.GetSize(), dtype=object)) * reader.GetNumberOfComponents()
    declared *= _bytes_per_value(reader.GetPixelID())
    there = data_file(path).stat().st_size
    # A text encoding too takes fewer bytes than the numbers that it spells.
    packed = re.search(r"(?im)^(encoding:\s*(gz|a|t)|CompressedData\s*=\s*T)", _header_text(path))
    if declared > there * (_MAXIMUM_DEFLATE_RATIO if packed else 1):
        raise InputError(_truncated(path, f"{_times(reader.GetSize())} voxels cannot be in {there} bytes"))


def _bytes_per_value(pixel_id: int) -> int:
    scalar = sitk.GetPixelIDValueAsString(pixel_id)
    bits = re.search(r"(\d+)-bit", scalar)
    return int(bits.group(1)) // 8 if bits else 1


def _header_text(path: Path) -> str:
    with open(path, "rb") as file:
        return file.read(_HEADER_BYTES).split(b"\n\n", 1)[0].decode("utf-8", errors="surrogateescape")


def data_file(path: Path) -> Path:
    """The file that holds the voxels: the file itself, or the one that a detached header names."""
    found = re.search(r"(?im)^(?:ElementDataFile\s*=|data ?file:)[ \t]*(.+?)\s*$", _header_text(path))
    if not found or found.group(1).upper() == "LOCAL":
        return path
    if found.group(1).upper().startswith("LIST") or "%" in found.group(1):
        raise InputError(f"'{path}' spreads its voxels over many files; save it as one .nrrd or .mha file")
    data = path.parent / found.group(1)
    check_file(data)
    return data


def _check_nifti_whole(path: Path) -> None:
    """Read the whole stream once: the NIfTI reader fills what is missing with whatever the memory held, and puts 0 in
    the place of NaN and infinity, so that nobody would learn of them."""
    with open(path, "rb") as file:
        zipped = file.read(2) == b"\x1f\x8b"
    bad, first = 0, None
    try:
        with gzip.open(path) if zipped else open(path, "rb") as file:
            offset, shape, kind = _nifti_layout(file.read(_NIFTI_HEADER_BYTES))
            wanted = math.prod(shape) * kind.itemsize
            if offset + wanted > path.stat().st_size * (_MAXIMUM_DEFLATE_RATIO if zipped else 1):
                raise InputError(_truncated(path, f"its header declares {offset + wanted} bytes"))
            file.seek(offset)
            there = 0
            while there < wanted and (chunk := file.read(min(_CHUNK_BYTES, wanted - there))):
                if kind.kind == "f" and len(chunk) % kind.itemsize == 0:
                    found = np.flatnonzero(~np.isfinite(np.frombuffer(chunk, kind)))
                    if len(found) and first is None:
                        first = there // kind.itemsize + int(found[0])
                    bad += len(found)
                there += len(chunk)
            while file.read(_CHUNK_BYTES):  # to the end, where the checksum of the compressed data stands
                pass
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise InputError(_truncated(path, f"its compressed data break off: {error}")) from error
    except struct.error as error:
        raise InputError(_no_such_format(path)) from error
    if there < wanted:
        raise InputError(_truncated(path, f"{offset + there} bytes of {offset + wanted} are there"))
    if bad:
        index = ", ".join(str(int(i)) for i in np.unravel_index(first, shape, order="F")[:3])
        raise InputError(
            f"'{path}' has {bad} voxels that are NaN or infinite, the first at index ({index}); "
            "replace them (for example with the background value) and try again"
        )


def _nifti_layout(header: bytes) -> tuple[int, tuple[int, ...], np.dtype]:
    """Where the voxels begin in the unzipped file, how many there are along each axis, and their type (bytes where it
    is no plain float), as the header declares it (NIfTI-1 and NIfTI-2, either byte order)."""
    for order in "<>":
        (header_size,) = struct.unpack_from(order + "i", header, 0)
        if header_size == 348:
            dim = struct.unpack_from(order + "8h", header, 40)
            code, bits = struct.unpack_from(order + "2h", header, 70)
            (offset,) = struct.unpack_from(order + "f", header, 108)
            break
        if header_size == 540:
            dim = struct.unpack_from(order + "8q", header, 16)
            code, bits = struct.unpack_from(order + "2h", header, 12)
            (offset,) = struct.unpack_from(order + "q", header, 168)
            break
    else:
        raise struct.error("no NIfTI header")
    if not np.isfinite(offset) or offset < 0 or bits <= 0 or bits % 8:
        raise struct.error("no NIfTI header")
    shape = tuple(max(int(count), 1) for count in dim[1 : 1 + min(max(dim[0], 1), 7)])
    kind = np.dtype(f"{order}f{bits // 8}") if (code, bits) in _NIFTI_FLOATS else np.dtype(f"V{bits // 8}")
    return int(offset), shape, kind


def _truncated(path: Path, detail: str) -> str:
    return f"'{path}' is truncated or damaged ({detail}); export or copy it again"


def _sentence(message: str, path: Path) -> str:
    """What an image library said about a file, as a sentence for its user."""
    text = message.lower()
    if "unable to determine imageio" in text:
        return _no_such_format(path)
    if "orthonormal" in text or "direction" in text or "determinant" in text:
        return f"'{path}' has skewed axes, which an image grid cannot have; resample it or export it again"
    if "spacing" in text:
        return f"'{path}' has an impossible voxel size; export it again"
    if "alloc" in text:
        return f"'{path}' does not fit into memory; crop or resample it first"
    if short := re.search(r"expected (\d+) bytes but received (\d+)", text):
        return _truncated(path, f"{short.group(2)} bytes of {short.group(1)} are there")
    return _truncated(path, f"it cannot be understood as {_format(path)}")


def _no_such_format(path: Path) -> str:
    return f"'{path}' is no {_format(path)} file, whatever its name says; export it again"


def _format(path: Path) -> str:
    name = path.name.lower()
    if name.endswith(NIFTI_SUFFIXES):
        return "NIfTI"
    return "NRRD" if name.endswith((".nrrd", ".nhdr")) else "MetaImage"


def _times(size) -> str:
    return " x ".join(str(count) for count in size)
