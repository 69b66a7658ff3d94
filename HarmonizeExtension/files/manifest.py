"""The manifest of a cohort: a CSV file with a line for each scan, checked whole before any work starts.

    case,image,segmentation,modality,site,age,outcome
    P001,P001/T1.nii.gz,P001/GTV.nii.gz,MR,Siemens 3T,63,1

Only `case` must be there; what else is needed depends on what the manifest is for. Paths (image, segmentation, truth,
harmonized) are relative to the manifest. Columns other than those of `Entry` are covariates or pairings, and are kept
as text.
"""

from __future__ import annotations

import csv
import dataclasses
import math
import os
import re
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path, PureWindowsPath

import SimpleITK as sitk

from ..errors import InputError
from ..scan import Acquisition, Modality, Scan
from .dicom import first_modality
from .reading import UNITS_OF, read_scan
from .tables import read_csv
from .tags import is_dicom
from .writing import inside, replacing

COMPARED = ("truth", "harmonized")  # images that `image` is held against
KNOWN = ("case", "image", "segmentation", "structure", "modality", "units", "site", "outcome", *COMPARED)
_OUTCOMES = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False, "": None}
# Fields of an acquisition, and whether each is a number.
_ACQUISITION = {field.name: "float" in str(field.type) for field in dataclasses.fields(Acquisition)}
# Case names become folders, on every system.
_NO_FOLDER_NAME = re.compile(r'[/\\:*?"<>|\x00-\x1f]|^[.\s]|[.\s]$|^(con|prn|aux|nul|com\d|lpt\d)(\.|$)', re.IGNORECASE)
_LONGEST_NAME = 150  # bytes in UTF-8: files beside it get a longer one, and 255 is the most
_MOST_PROBLEMS = 50  # shown, of a manifest that is wrong from top to bottom


@dataclasses.dataclass(frozen=True)
class Entry:
    """One scan of a cohort.

    line: in the file, counted from 1. case: its name, unique in its modality.
    image: as `read_scan` takes it; None where the manifest has no image.
    segmentation: files, none or several. structure: what to call the one structure of a mask without names.
    modality, units: where the files do not say them. site: scanner, protocol or centre; empty where not known.
    outcome: of the patient, None where not known.
    truth: the image as it ought to be; harmonized: what was made of it; None where there is none.
    columns: the text of all other columns. Those that are named like a field of `Acquisition` ("echo_time_ms") say how
        the scan was taken, where its files do not.
    """

    line: int
    case: str
    image: Path | None = None
    segmentation: tuple[Path, ...] = ()
    structure: str = ""
    modality: Modality | None = None
    units: str = ""
    site: str = ""
    outcome: bool | None = None
    truth: Path | None = None
    harmonized: Path | None = None
    columns: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @property
    def acquisition(self) -> Acquisition:
        """What the columns say of how the scan was taken."""
        said = {name: text for name, text in self.columns.items() if name in _ACQUISITION and text}
        return Acquisition(**{name: float(text) if _ACQUISITION[name] else text for name, text in said.items()})

    def scan(self) -> Scan:
        """The scan that the entry names, with its structures; what its files say goes before what the entry says.

        Raises InputError where it cannot be read, and where `structure` is to name one of several.
        """
        scan = read_scan(self.image, self.modality, list(self.segmentation) or None, self.case, self.units or None)
        known = self.acquisition.known() | scan.acquisition.known()
        scan = dataclasses.replace(scan, acquisition=Acquisition(**known))
        if not self.structure:
            return scan
        if len(scan.structures) != 1:
            raise InputError(
                f"'{self.structure}' is to name the one structure of '{self.case}', but it has {len(scan.structures)}"
            )
        (only,) = scan.structures.values()
        return dataclasses.replace(scan, structures={self.structure: dataclasses.replace(only, name=self.structure)})


@dataclasses.dataclass(frozen=True)
class Manifest:
    """The entries of a manifest file, in its order."""

    path: Path
    entries: tuple[Entry, ...]

    @classmethod
    def read(cls, path: str | os.PathLike, outside: bool = False, images: bool = True) -> Manifest:
        """Read and check a manifest.

        outside: True allows paths that lead out of the manifest's folder.
        images: whether every line must name an image, which is then looked for, as is every other image that is named;
            False where nobody opens a path.
        Raises InputError that lists every problem with its line.
        """
        path = Path(path)
        header, lines = read_csv(path, "the manifest")
        if not lines:
            raise InputError(f"the manifest '{path}' has no scan; give a header and a line for each scan")
        problems = _problems_of_header(header, images)
        if problems:
            raise _rejected(path, problems)
        entries: list[Entry] = []
        for number, cells in lines:
            if len(cells) != len(header):
                problems.append((number, f"{len(cells)} cells, but the header has {len(header)}"))
                continue
            texts = dict(zip(header, cells, strict=True))
            entry, wrong = _entry(number, texts, path.parent, outside or not images, images)
            problems += [(number, text) for text in wrong]
            entries.append(entry)
        problems += _problems_between(entries)
        if problems:
            raise _rejected(path, sorted(problems))
        return cls(path, tuple(entries))

    def of(self, modality: Modality) -> Manifest:
        """Only the entries of one modality. Raises InputError where there is none."""
        chosen = tuple(entry for entry in self.entries if entry.modality is modality)
        if not chosen:
            raise InputError(f"the manifest '{self.path}' has no {modality.value} scan")
        return Manifest(self.path, chosen)

    def column_names(self) -> tuple[str, ...]:
        """The names of the columns beyond the known ones."""
        return tuple(self.entries[0].columns)

    def write(self, path: str | os.PathLike, folder: str | os.PathLike | None = None) -> None:
        """Write the entries as a manifest, its paths relative to `folder` (its own by default). Raises OutputError."""
        folder = Path(path).parent if folder is None else Path(folder)
        with replacing(path) as beside, open(beside, "w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow([*KNOWN, *self.column_names()])
            for entry in self.entries:
                known = (_text(getattr(entry, name), folder) for name in KNOWN)
                writer.writerow([*known, *entry.columns.values()])


def _text(value: object, folder: Path) -> str:
    """A field as it stands in the file."""
    if isinstance(value, tuple):
        return ";".join(_text(part, folder) for part in value)
    if isinstance(value, Path):
        try:
            return Path(os.path.relpath(value, folder)).as_posix()
        except ValueError:  # on another drive of Windows
            return str(value)
    if isinstance(value, bool):
        return str(int(value))
    return "" if value is None else str(value)


def _problems_of_header(header: Sequence[str], images: bool) -> list[tuple[int, str]]:
    needed = ("case", "image") if images else ("case",)
    problems = [
        f"there is no column '{name}'; the columns are {', '.join(header)}" for name in needed if name not in header
    ]
    if "" in header:
        problems.append(f"column {header.index('') + 1} has no name")
    near = {name.casefold(): name for name in KNOWN}
    problems += [
        f"column '{name}' must be written '{near[name.casefold()]}'"
        for name in header
        if name.casefold() in near and name not in KNOWN
    ]
    return [(1, text) for text in problems]


def _entry(number: int, texts: Mapping[str, str], folder: Path, outside: bool, images: bool) -> tuple[Entry, list[str]]:
    problems = []
    case = texts["case"]
    if not case:
        problems.append("the case has no name")
    elif _NO_FOLDER_NAME.search(case) or len(case.encode(errors="replace")) > _LONGEST_NAME:
        problems.append(
            f"case '{case}' cannot be the name of a folder; leave out / \\ : * ? \" < > | and dots or blanks at its "
            f"ends, names that Windows keeps for itself, and more than {_LONGEST_NAME} letters (fewer beyond ASCII)"
        )
    modality = None
    if texts.get("modality"):
        try:
            modality = Modality.parse(texts["modality"])
        except InputError as error:
            problems.append(str(error))
    units = texts.get("units", "")
    known_units = UNITS_OF[modality] if modality else [unit for units_of in UNITS_OF.values() for unit in units_of]
    if units and units not in known_units:
        which = f"{modality.value} is not measured in {units}" if modality else f"units '{units}' are not known"
        problems.append(f"{which}; use {' or '.join(known_units) or 'none'}")
    outcome = _OUTCOMES.get(texts.get("outcome", "").lower(), ...)
    if outcome is ...:
        problems.append(f"outcome '{texts['outcome']}' is neither 1 nor 0 (nor empty for unknown)")
        outcome = None
    image, *compared = (_path(texts.get(name, ""), folder, outside, problems) for name in ("image", *COMPARED))
    parts = [part.strip() for part in texts.get("segmentation", "").split(";")]
    segmentation = [path for part in parts if (path := _path(part, folder, outside, problems))]
    if images:
        problems += ["there is no image"] if not texts.get("image") else []
        problems += [f"there is no segmentation '{path}'" for path in segmentation if not path.exists()]
        if image is not None:
            modality, wrong = _look_at(image, modality)
            problems += wrong
        if modality is not None:  # else it was said of the image, and is the same for these
            problems += [text for path in compared if path for text in _look_at(path, modality)[1]]
    others = {name: text for name, text in texts.items() if name not in KNOWN}
    numbers = ((name, text) for name, text in others.items() if text and _ACQUISITION.get(name))
    problems += [f"{name} '{text}' is no number" for name, text in numbers if not _is_number(text)]
    return Entry(
        number,
        case,
        image,
        tuple(segmentation),
        texts.get("structure", ""),
        modality,
        units,
        texts.get("site", ""),
        outcome,
        *compared,
        others,
    ), problems


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def _path(text: str, folder: Path, outside: bool, problems: list[str]) -> Path | None:
    """A path of the manifest; None for an empty cell, and, as a problem, where it leaves the folder and may not."""
    if not text:
        return None
    try:
        if not outside:
            inside(folder, text)
    except InputError:
        reason = "is not relative" if Path(text).is_absolute() or PureWindowsPath(text).anchor else "leads out of it"
        problems.append(
            f"'{text}' {reason}: paths are relative to the manifest's folder; move the file there, or allow paths "
            "outside (--outside)"
        )
        return None
    return folder / text


def _look_at(image: Path, modality: Modality | None) -> tuple[Modality | None, list[str]]:
    """The modality of an image and what is wrong with it, by its header alone: to read a whole cohort takes long."""
    series = image.name.rpartition("#")[0]
    place = image if image.exists() or not series else image.with_name(series)
    if not place.exists():
        return modality, [f"there is no image '{image}'"]
    if place.is_dir() or is_dicom(place):
        try:
            found = first_modality(place)
        except InputError as error:
            return modality, [str(error)]
        if found is None:
            return modality, [f"'{place}' holds no MR, CT or PET series"]
        if modality not in (None, found):
            return modality, [f"'{place}' is {found.value} by its DICOM tags, not {modality.value}"]
        return found, []
    problems = [] if modality else [f"'{place}' does not say its modality; add a column 'modality' (MR, CT or PET)"]
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(place))
    try:
        reader.ReadImageInformation()
    except RuntimeError:
        problems.append(f"'{place}' is no image file that can be read (NIfTI, NRRD, MetaImage, DICOM)")
    return modality, problems


def _problems_between(entries: Sequence[Entry]) -> list[tuple[int, str]]:
    problems = []
    first: dict[tuple[str, Modality | None], int] = {}
    for entry in entries:
        # Some file systems do not tell upper from lower case, or an accent from a letter with one.
        key = (unicodedata.normalize("NFC", entry.case).casefold(), entry.modality)
        line = first.setdefault(key, entry.line)
        if entry.case and line != entry.line:
            problems.append(
                (entry.line, f"case '{entry.case}' stands in line {line} already; give each scan its own name")
            )
    if any(entry.site for entry in entries):
        problems += [
            (
                entry.line,
                "the site is empty; fill it in, or leave the whole column empty to take it from the DICOM tags",
            )
            for entry in entries
            if not entry.site
        ]
    return problems


def _rejected(path: Path, problems: Sequence[tuple[int, str]]) -> InputError:
    count = len(problems)
    lines = [f"  line {number}: {text}" for number, text in problems[:_MOST_PROBLEMS]]
    if count > _MOST_PROBLEMS:
        lines.append(f"  and {count - _MOST_PROBLEMS} more")
    return InputError(f"the manifest '{path}' has {count} problem{'s' if count > 1 else ''}:\n" + "\n".join(lines))
