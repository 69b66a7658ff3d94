"""Results in files: written beside their place, checked, then renamed, so nothing is ever half-written."""

from __future__ import annotations

import contextlib
import dataclasses
import enum
import errno
import json
import math
import os
import secrets
import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PureWindowsPath

import numpy as np
import SimpleITK as sitk

from .. import images
from ..errors import InputError, OutputError

IMAGE_SUFFIXES = (".nii", ".nii.gz", ".nrrd", ".mha")  # one file each, so that one rename is enough

_REASONS = {
    errno.ENOSPC: "the disk is full; free some space or choose another folder",
    errno.EDQUOT: "your disk quota is used up; free some space or choose another folder",
    errno.EFBIG: "the file would be larger than allowed here; choose another folder",
    errno.EACCES: "you may not write there; choose another folder",
    errno.EPERM: "you may not write there; choose another folder",
    errno.EROFS: "that disk can only be read; choose another folder",
    errno.ENOENT: "its folder does not exist; create it first",
    errno.ENOTDIR: "a part of its path is a file, not a folder",
    errno.EISDIR: "a folder of that name stands there; choose another name",
    errno.ENAMETOOLONG: "the name is too long; choose a shorter one",
}


@contextlib.contextmanager
def replacing(path: str | os.PathLike) -> Iterator[Path]:
    """A path beside `path` to write a file or a folder to; it takes the place of `path` when the block succeeds.

    The temporary name ends like the real one, so writers that go by the suffix choose right. Whatever happens inside
    the block (an error, Cancelled, Ctrl-C), what stood at `path` before is untouched and the temporary is removed.
    Raises OutputError, naming path and reason, for every OSError inside the block.
    """
    path = Path(path)
    temporary = path.with_name(f".{secrets.token_hex(4)}.{path.name}")
    try:
        yield temporary
        if temporary.is_dir():
            _replace_folder(temporary, path)
        else:
            os.replace(temporary, path)
    except OSError as error:
        raise OutputError(f"'{path}' could not be written: {_reason(error)}") from error
    finally:
        remove(temporary)


@contextlib.contextmanager
def replacing_together(folder: str | os.PathLike, superseded: Iterable[str] = ()) -> Iterator[Path]:
    """A hidden folder inside `folder` to write files to; all of them move into `folder` when the block succeeds.

    superseded: names of files of an earlier result, removed from `folder` unless they are written anew.
    Whatever happens inside the block or while the files are moved (an error, Cancelled, Ctrl-C), `folder` holds what
    it held before. Raises OutputError, naming path and reason, for every OSError inside the block.
    """
    folder = output_folder(folder)
    new, old = (folder / f".{secrets.token_hex(4)}.{what}" for what in ("new", "old"))
    moved: list[tuple[Path, Path]] = []

    def move(source: Path, place: Path) -> None:
        moved.append((source, place))
        os.replace(source, place)

    try:
        new.mkdir()
        yield new
        old.mkdir()
        names = [path.name for path in new.iterdir()]
        for name in {*names, *superseded}:
            if (folder / name).is_file():
                move(folder / name, old / name)
        for name in names:
            move(new / name, folder / name)
        moved.clear()
    except OutputError as error:
        raise OutputError(str(error).replace(str(new), str(folder))) from error
    except OSError as error:
        raise OutputError(f"the results could not be written to '{folder}': {_reason(error)}") from error
    finally:
        for source, place in reversed(moved):
            if not source.exists():  # else the last move did not happen
                os.replace(place, source)
        remove(new)
        remove(old)


def _replace_folder(new: Path, path: Path) -> None:
    old = new.with_name(new.name + ".old")
    if path.exists():
        os.replace(path, old)
    try:
        os.replace(new, path)
    except OSError:
        if old.exists():
            os.replace(old, path)
        raise
    remove(old)


def remove(path: Path) -> None:
    """Remove a file or a folder with all that is in it; nothing happens where there is none."""
    with contextlib.suppress(OSError):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink()


def _reason(error: OSError) -> str:
    return _REASONS.get(error.errno, error.strerror or str(error))


def write_image(image: sitk.Image, path: str | os.PathLike) -> None:
    """Write an image as NIfTI (.nii, .nii.gz), NRRD (.nrrd, .seg.nrrd) or MetaImage (.mha), by the suffix.

    The file is read back and compared before it takes its place, since some writers fail silently on a full disk.
    Raises OutputError when it cannot be written or the format cannot hold the image.
    """
    path = Path(path)
    if not path.name.lower().endswith(IMAGE_SUFFIXES):
        raise OutputError(f"'{path}' has no suffix of an image format; use one of {', '.join(IMAGE_SUFFIXES)}")
    with replacing(path) as temporary:
        temporary.touch()  # where the folder is the problem, the system says it better than the image writer
        try:
            # Noise hardly compresses, so the lowest level loses little and saves time.
            sitk.WriteImage(image, str(temporary), useCompression=True, compressionLevel=1)
            written = sitk.ReadImage(str(temporary))
        except RuntimeError as error:
            detail = str(error).strip().splitlines()[-1]
            raise OutputError(f"'{path}' could not be written: {_why(path, detail)}") from error
        same_values = written.GetSize() == image.GetSize() and np.array_equal(
            sitk.GetArrayViewFromImage(written), sitk.GetArrayViewFromImage(image), equal_nan=_is_float(image)
        )
        if not same_values:
            raise OutputError(f"'{path}' could not be written: {_why(path, 'incomplete when read back')}")
        if not images.same_grid(written, image):
            raise OutputError(f"'{path}': this format cannot hold the image's grid; write it as .nrrd")


def _is_float(image: sitk.Image) -> bool:
    return "float" in image.GetPixelIDTypeAsString()


def _why(path: Path, detail: str) -> str:
    """The image writers do not say that a disk is full, so the disk is asked."""
    free = shutil.disk_usage(path.parent).free
    if free < 1_000_000:
        return _REASONS[errno.ENOSPC]
    return f"{detail} ({free / 1e6:.0f} MB are free there); choose another folder or format"


def write_text(text: str, path: str | os.PathLike) -> None:
    """Write a text in UTF-8 with Unix line ends. Raises OutputError."""
    # A file name may hold bytes that are no text; a report that quotes it must not fail for that.
    with (
        replacing(path) as temporary,
        open(temporary, "w", encoding="utf-8", errors="backslashreplace", newline="\n") as file,
    ):
        file.write(text)


def write_json(value: object, path: str | os.PathLike) -> None:
    """Write a value as JSON that any program can read: what is not finite becomes null. Raises OutputError.

    Mappings, sequences, dataclasses, numpy scalars and arrays, enums and paths are understood.
    """
    write_text(json.dumps(plain(value), indent=2, ensure_ascii=False, allow_nan=False) + "\n", path)


def plain(value: object) -> object:
    """A value as JSON's own types; numbers keep every digit, NaN and infinity become None."""
    if isinstance(value, enum.Enum):
        return plain(value.value)
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, np.generic | np.ndarray):
        return plain(value.tolist())
    if isinstance(value, Mapping):
        return {str(plain(key)): plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [plain(entry) for entry in value]
    if isinstance(value, set | frozenset):
        return sorted(plain(entry) for entry in value)
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    raise TypeError(f"{type(value).__name__} has no form in JSON")


def inside(folder: str | os.PathLike, relative: str) -> Path:
    """The path `relative` below `folder`, symbolic links resolved. Raises InputError where it leaves the folder."""
    root = Path(folder).resolve()
    windows = PureWindowsPath(relative)  # so that what is refused on one system is refused on every other
    try:
        path = (root / relative).resolve()
        leaves = not path.is_relative_to(root) or bool(windows.anchor) or ".." in windows.parts
    except (ValueError, OSError, RuntimeError):  # a null character, a loop of links
        leaves = True
    if leaves:
        raise InputError(f"'{relative}' leaves the folder '{folder}'; only files inside it may be named")
    return path


def output_folder(path: str | os.PathLike) -> Path:
    """The folder, made if need be (with its parents) and proven writable. Raises OutputError, naming the reason."""
    path = Path(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
        probe = path / f".{secrets.token_hex(4)}"
        probe.touch()
        probe.unlink()
    except FileExistsError as error:
        raise OutputError(f"'{path}' is a file, not a folder; choose another output folder") from error
    except OSError as error:
        raise OutputError(f"nothing can be written to the folder '{path}': {_reason(error)}") from error
    return path
