"""A recipe gives structures their roles, or says which one a scan lacks."""

import shutil

import pytest

from Testing.engine.scans import head

from HarmonizeExtension.errors import InputError
from HarmonizeExtension.files.reading import read_scan
from HarmonizeExtension.files.writing import write_image
from HarmonizeExtension.recipe import Recipe
from HarmonizeExtension.scan import Modality, Role


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("scan")
    write_image(head().image, place / "head.nii.gz")
    for name in ("GTV", "brain"):
        write_image(head().structures[name].mask, place / f"{name}.nii.gz")
    return place


def scan_of(folder, names=("GTV",)):
    return read_scan(folder / "head.nii.gz", Modality.MR, [folder / f"{name}.nii.gz" for name in names])


def names_with(scan, role):
    return [structure.name for structure in scan.with_role(role)]


def test_structures_have_the_roles_of_the_recipe(folder):
    recipe = Recipe("zscore", reference="brain", protected=("GTV",), measured=("GTV",))
    scan = recipe.with_roles(scan_of(folder, ("GTV", "brain")))
    assert [names_with(scan, role) for role in (Role.REFERENCE, Role.PROTECTED, Role.MEASURED)] == [
        ["brain"],
        ["GTV"],
        ["GTV"],
    ]


def test_a_structure_that_is_missing_is_an_error_unless_it_may_be(folder):
    with pytest.raises(InputError, match="no structure named GTVn"):
        Recipe("zscore", protected=("GTV", "GTVn")).with_roles(scan_of(folder))
    recipe = Recipe("zscore", protected=("GTV", "GTVn"), measured=("GTVn",), where_present=True)
    scan = recipe.with_roles(scan_of(folder))
    assert names_with(scan, Role.PROTECTED) == ["GTV"]
    assert names_with(scan, Role.MEASURED) == []
    assert "GTVn" in scan.provenance[-1]["note"]
    with pytest.raises(InputError, match="no structure named liver"):  # statistics are taken there or not at all
        Recipe("zscore", reference="liver", where_present=True).with_roles(scan_of(folder))


@pytest.mark.parametrize(
    ("recipe", "words"),
    [
        (Recipe("kernel-matching", "soft"), "Choose a method for MR"),
        (Recipe("histogram-matching"), "needs a target"),
        (Recipe("histogram-matching", "nowhere.nii.gz"), "nowhere.nii.gz"),
        (Recipe("zscore", spacing_mm=-1.0), "-1"),
        (Recipe("zscore", settings="nowhere.json"), "nowhere.json"),
    ],
)
def test_what_does_not_fit_is_known_before_the_work(folder, recipe, words):
    with pytest.raises(InputError, match=words):
        recipe.check_modality(Modality.MR, "head")


def test_paths_become_whole_and_other_targets_stay(folder, tmp_path, monkeypatch):
    place = tmp_path / "with, comma"
    shutil.copytree(folder, place)
    monkeypatch.chdir(place)
    recipe = Recipe("histogram-matching", "head.nii.gz,GTV.nii.gz").with_whole_paths()
    monkeypatch.chdir(tmp_path)
    assert recipe.target == f"{place / 'head.nii.gz'},{place / 'GTV.nii.gz'}"
    recipe.check_modality(Modality.MR, "head")  # the comma of the folder is not the one between the files
    for target in (None, "soft", "8", "Siemens 3T", "TR=2300, TI=900"):
        assert Recipe("zscore", target).with_whole_paths().target == target
    (tmp_path / "model").mkdir()
    assert Recipe("harmonae", "model#GE 3T").with_whole_paths().target == f"{tmp_path / 'model'}#GE 3T"
