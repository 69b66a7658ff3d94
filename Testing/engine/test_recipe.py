"""A recipe gives structures their roles, or says which one a scan lacks."""

import shutil

import pytest

from Testing.engine.scans import head

from HarmonizeExtension.errors import InputError
from HarmonizeExtension.files.writing import write_image
from HarmonizeExtension.recipe import Recipe
from HarmonizeExtension.scan import Acquisition, Modality, Role


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("scan")
    write_image(head().image, place / "head.nii.gz")
    for name in ("GTV", "brain"):
        write_image(head().structures[name].mask, place / f"{name}.nii.gz")
    return place


def read(folder, recipe, names=("GTV",), **more):
    return recipe.read(folder / "head.nii.gz", [folder / f"{name}.nii.gz" for name in names], Modality.MR, **more)


def names_with(scan, role):
    return [structure.name for structure in scan.with_role(role)]


def test_structures_have_the_roles_of_the_recipe(folder):
    recipe = Recipe("zscore", reference="brain", protected=("GTV",), measured=("GTV",))
    scan = read(folder, recipe, ("GTV", "brain"))
    assert [names_with(scan, role) for role in (Role.REFERENCE, Role.PROTECTED, Role.MEASURED)] == [
        ["brain"],
        ["GTV"],
        ["GTV"],
    ]


def test_a_structure_that_is_missing_is_an_error_unless_it_may_be(folder):
    with pytest.raises(InputError, match="no structure named GTVn"):
        read(folder, Recipe("zscore", protected=("GTV", "GTVn")))
    scan = read(folder, Recipe("zscore", protected=("GTV", "GTVn"), measured=("GTVn",), where_present=True))
    assert names_with(scan, Role.PROTECTED) == ["GTV"]
    assert names_with(scan, Role.MEASURED) == []
    assert "GTVn" in scan.provenance[-1]["note"]
    with pytest.raises(InputError, match="no structure named liver"):  # statistics are taken there or not at all
        read(folder, Recipe("zscore", reference="liver", where_present=True))


def test_the_one_structure_of_a_mask_can_be_named(folder):
    assert list(read(folder, Recipe("zscore"), structure="tumour").structures) == ["tumour"]
    with pytest.raises(InputError, match="it has 2"):
        read(folder, Recipe("zscore"), ("GTV", "brain"), structure="tumour")


def test_the_acquisition_is_that_of_the_file_and_else_what_is_said(folder):
    said = Acquisition(manufacturer="GE", field_strength_tesla=3.0)
    assert read(folder, Recipe("zscore"), acquisition=said).acquisition == said


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
