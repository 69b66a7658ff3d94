"""pyradiomics' own test data: images with labels, and the value of every feature in eight configurations.

They come with the source archive of pyradiomics 3.0.1 (van Griethuysen et al. 2017), which is downloaded once.
"""

from __future__ import annotations

import ast
import csv
import io
import json
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import SimpleITK as sitk

from HarmonizeExtension.radiomics.extraction import extract
from HarmonizeExtension.radiomics.settings import Settings
from HarmonizeExtension.scan import Modality, Scan, Structure

VERSION = "3.0.1"
CLASSES = ("firstorder", "glcm", "glrlm", "glszm", "gldm", "ngtdm", "shape")


class Unavailable(Exception):  # noqa: N818 - it is a state of the network, not an error
    """The archive is not here and could not be downloaded."""


class Comparison(NamedTuple):
    """One baseline value and ours."""

    test: str
    feature_class: str
    feature: str
    baseline: float
    ours: float

    @property
    def difference(self) -> float:
        """Relative to the baseline; absolute where that is 0."""
        return abs(self.ours - self.baseline) / (abs(self.baseline) or 1.0)


def archive(folder: Path) -> Path:
    """The source archive in `folder`, downloaded with pip where it is not there yet."""
    path = folder / f"pyradiomics-{VERSION}.tar.gz"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", ":all:"]
        command += ["--no-build-isolation", "--dest", str(folder), f"pyradiomics=={VERSION}"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
        if not path.exists():
            reason = (done.stderr.strip().splitlines() or ["no message"])[-1]
            raise Unavailable(f"the source archive of pyradiomics {VERSION} cannot be downloaded: {reason}")
    return path


def unpacked(folder: Path) -> Path:
    """The `data` folder of the archive."""
    data = folder / f"pyradiomics-{VERSION}" / "data"
    if not data.is_dir():
        with tarfile.open(archive(folder)) as tar:
            members = [m for m in tar.getmembers() if m.name.startswith(f"pyradiomics-{VERSION}/data/")]
            tar.extractall(folder, members, filter="data")
    return data


def read_baseline(data: Path, feature_class: str) -> dict[str, tuple[str, dict, dict[str, float]]]:
    """For each test its case, its settings and the values of the features of a class."""
    text = (data / "baseline" / f"baseline_{feature_class}.csv").read_text(encoding="utf-8")
    header, *lines = csv.reader(io.StringIO(text))
    rows = {line[0]: line[1:] for line in lines}
    tests = {}
    for number, test in enumerate(header[1:]):
        values = {
            name: float(cells[number]) for name, cells in rows.items() if name.startswith("original_") and cells[number]
        }
        setting = ast.literal_eval(rows["diagnostics_Configuration_Settings"][number])
        tests[test] = (rows["diagnostics_Configuration_TestCase"][number], setting, values)
    return tests


def scan(data: Path, case: str) -> Scan:
    """The image of a case with its label as the one structure."""
    image = sitk.ReadImage(str(data / f"{case}_image.nrrd"))
    label = sitk.ReadImage(str(data / f"{case}_label.nrrd"))
    return Scan(image, Modality.CT if case.startswith("lung") else Modality.MR, {case: Structure(case, label == 1)})


def compare(data: Path) -> Iterator[Comparison]:
    """Every baseline value beside ours; classes that a test measures with the same settings are extracted together."""
    together: dict[str, list[tuple[str, str, dict[str, float]]]] = {}
    for feature_class in CLASSES:
        for test, (case, setting, values) in read_baseline(data, feature_class).items():
            key = json.dumps([case, setting], sort_keys=True)
            together.setdefault(key, []).append((test, feature_class, values))
    scans: dict[str, Scan] = {}
    for key, parts in together.items():
        case, setting = json.loads(key)
        if case not in scans:
            scans[case] = scan(data, case)
        classes = {feature_class: [] for _, feature_class, _ in parts}
        settings = Settings.from_dict({"setting": setting, "featureClass": classes})
        ours = extract(scans[case], settings).rows[0].values
        for test, feature_class, values in parts:
            for feature, baseline in values.items():
                yield Comparison(test, feature_class, feature, baseline, ours[feature])
