"""A cohort on disk is one that every reader here understands, whole or not there at all."""

import json
import subprocess
import sys

import numpy as np
import pytest
import SimpleITK as sitk

from HarmonizeExtension import images
from HarmonizeExtension.errors import Cancelled, InputError
from HarmonizeExtension.files.manifest import Manifest
from HarmonizeExtension.files.reading import read_scan
from HarmonizeExtension.phantoms.anatomy import folder as resources
from HarmonizeExtension.phantoms.brain import travelling_cohort
from HarmonizeExtension.phantoms.cohort import scanners_named, write_cohort
from HarmonizeExtension.phantoms.lesions import Disease

NAMES = ["GE 3T", "Siemens 1.5T"]
SPACING_MM = 4.0


@pytest.fixture(scope="module")
def manifest(tmp_path_factory) -> Manifest:
    folder = tmp_path_factory.mktemp("phantom") / "cohort"
    return Manifest.read(write_cohort(folder, 2, scanners_named(NAMES), 5, SPACING_MM, diseased=1.0))


def test_the_manifest_has_a_line_for_each_person_on_each_scanner(manifest):
    assert [entry.case for entry in manifest.entries] == [
        f"person_{number:03d}_{name}" for number in (1, 2) for name in ("GE_3T", "Siemens_1.5T")
    ]
    assert [entry.site for entry in manifest.entries] == 2 * NAMES
    first = manifest.entries[0].columns
    assert first["person"] == "person 001"
    assert Disease(first["disease"]) is not Disease.NONE
    assert [float(first[name]) for name in ("repetition_time_ms", "echo_time_ms", "inversion_time_ms")] == [
        1800,
        2.9,
        600,
    ]
    assert (float(first["flip_angle_deg"]), float(first["field_strength_tesla"])) == (11, 3)


def test_scans_and_structures_are_those_of_the_simulation(manifest):
    simulated = travelling_cohort(2, scanners_named(NAMES), 5, SPACING_MM, diseased=1.0)
    for entry, (_, _, scan) in zip(manifest.entries, simulated, strict=True):
        read = read_scan(entry.image, modality=entry.modality, segmentation=list(entry.segmentation))
        np.testing.assert_array_equal(read.array, scan.array)
        assert images.same_grid(read.image, scan.image)
        assert set(read.structures) == set(scan.structures)
        for name, structure in scan.structures.items():
            np.testing.assert_array_equal(read.structures[name].array, structure.array)


def test_the_truth_lies_beside_the_scans(manifest):
    place = manifest.entries[0].image.parent
    scan = sitk.ReadImage(str(manifest.entries[0].image))
    files = {path.name: sitk.ReadImage(str(path)) for path in (place / "truth").iterdir()}
    assert {"T1_1.5T.nii.gz", "T1_3T.nii.gz", "T2star_1.5T.nii.gz", "T2star_3T.nii.gz"} < set(files)
    assert {"proton_density.nii.gz", "white_matter.nii.gz", "grey_matter.nii.gz"} < set(files)
    assert all(images.same_grid(image, scan) for image in files.values())
    names = json.loads((place / "structures.json").read_text())
    labels = sitk.GetArrayFromImage(sitk.ReadImage(str(place / "structures.nii.gz")))
    white = labels == next(int(label) for label, name in names.items() if name == "white matter")
    t1_ms = [np.median(images.to_array(files[f"T1_{field}T.nii.gz"])[white]) for field in ("1.5", "3")]
    assert 650 < t1_ms[0] < t1_ms[1] < 950
    assert images.to_array(files["white_matter.nii.gz"])[white].min() > 127


def test_a_folder_that_holds_something_is_left_alone(manifest, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="is not empty; choose a new folder"):
        write_cohort(tmp_path, 1, scanners_named(NAMES), 0, SPACING_MM)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_a_cohort_that_is_stopped_leaves_nothing(tmp_path):
    answers = iter([False, True])
    with pytest.raises(Cancelled):
        write_cohort(tmp_path / "cohort", 2, scanners_named(NAMES), 0, 6.0, cancelled=lambda: next(answers))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"people": 0}, "at least 1 person"),
        ({"seed": -1}, "a seed of at least 0"),
        ({"diseased": 1.5}, "a share from 0 to 1"),
        ({"spacing_mm": 0.0}, "is not possible for a head"),
    ],
)
def test_numbers_that_make_no_sense_are_refused(tmp_path, options, says):
    with pytest.raises(InputError, match=says):
        write_cohort(tmp_path / "c", **{"people": 1, "scanners": scanners_named([]), "seed": 0, **options})
    assert not list(tmp_path.iterdir())


def test_a_scanner_that_nobody_knows_is_refused_with_those_that_are_known():
    with pytest.raises(InputError, match=r"no scanner is named 'Hitachi'; choose from Siemens 3T, Siemens 1.5T"):
        scanners_named(["GE 3T", "Hitachi"])
    assert [scanner.name for scanner in scanners_named(["GE 3T", "GE 3T"])] == ["GE 3T"]
    assert len(scanners_named([])) == 6


def test_the_command_writes_the_same_bytes(manifest, tmp_path):
    command = [sys.executable, "-m", "HarmonizeExtension", "phantom", "brain", "--people", "2", "--seed", "5"]
    command += ["--spacing", "4", "--diseased", "1", "--scanners", *NAMES, "--out", str(tmp_path / "out"), "--json"]
    run = subprocess.run(command, cwd=resources("Sample").parents[1], capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stderr
    answer = json.loads(run.stdout)
    assert answer["scans"] == 4
    again = Manifest.read(answer["files"]["manifest"])
    for one, other in zip(manifest.entries, again.entries, strict=True):
        first, second = (sitk.GetArrayFromImage(sitk.ReadImage(str(e.image))) for e in (one, other))
        assert first.tobytes() == second.tobytes()
