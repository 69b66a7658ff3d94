"""The list of methods, and what a user may type."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from Testing.engine.scans import head

from HarmonizeExtension import images
from HarmonizeExtension.errors import InputError
from HarmonizeExtension.files.writing import write_image
from HarmonizeExtension.methods import catalogue
from HarmonizeExtension.methods.base import Harmonizer
from HarmonizeExtension.scan import Modality, Scan, TargetKind


def test_every_method_states_what_it_is():
    names = [card.name for card in catalogue.cards()]
    assert len(set(names)) == len(names)
    for method in catalogue.METHODS:
        assert issubclass(method, Harmonizer)
        assert dataclasses.is_dataclass(method)
        card = method.card
        assert catalogue.method(card.name) is method
        assert card.title
        assert card.summary.endswith(".")
        assert card.citation
        assert card.modalities
        assert not (card.pointwise and card.keeps_scale)


@pytest.mark.parametrize("modality", list(Modality))
def test_methods_of_a_modality(modality):
    fitting = catalogue.cards(modality)
    assert fitting
    assert all(modality in card.modalities for card in fitting)


def test_a_mistyped_name_gets_a_hint_and_a_wild_one_the_list():
    with pytest.raises(InputError, match="did you mean 'whitestripe'"):
        catalogue.method("whitestrip")
    with pytest.raises(InputError, match="there are: histogram-matching"):
        catalogue.method("q")


def card_for(target):
    return next(card for card in catalogue.cards() if card.target is target)


def test_a_target_is_a_scan_a_number_a_folder_or_a_name(tmp_path):
    scan = head()
    volume, mask = tmp_path / "reference.nii.gz", tmp_path / "brain.nii.gz"
    write_image(scan.image, volume)
    write_image(scan.structures["brain"].mask, mask)
    found = catalogue.target_from_text(card_for(TargetKind.SCAN), f"{volume},{mask}", Modality.MR)
    assert isinstance(found, Scan)
    assert list(found.structures) == ["brain"]
    assert catalogue.target_from_text(card_for(TargetKind.RESOLUTION), "6.5", Modality.PET) == 6.5
    assert catalogue.target_from_text(card_for(TargetKind.KERNEL), "soft", Modality.CT) == "soft"
    assert catalogue.target_from_text(card_for(TargetKind.MODEL), "a,b", Modality.MR) == Path("a,b")
    with pytest.raises(InputError, match="neither a number of mm nor"):
        catalogue.target_from_text(card_for(TargetKind.RESOLUTION), "sharp", Modality.PET)
    with pytest.raises(InputError, match="the target scan: there is no file"):
        catalogue.target_from_text(card_for(TargetKind.SCAN), str(tmp_path / "no.nii.gz"), Modality.MR)


def test_the_modality_of_a_plain_image_is_that_of_the_method_unless_it_looks_like_ct(tmp_path):
    scan = head()
    write_image(scan.image, tmp_path / "mr.nii.gz")
    air = scan.array
    air[:10] = -1000
    write_image(images.to_image(air.astype(np.float32), scan.image), tmp_path / "ct.nii.gz")
    mr, ct = (next(c for c in catalogue.cards(m) if len(c.modalities) == 1) for m in (Modality.MR, Modality.CT))
    assert catalogue.implied_modality(mr, tmp_path / "mr.nii.gz") is Modality.MR
    assert catalogue.implied_modality(ct, tmp_path / "ct.nii.gz") is Modality.CT
    with pytest.raises(InputError, match="looks like CT"):
        catalogue.implied_modality(mr, tmp_path / "ct.nii.gz")
    assert catalogue.implied_modality(mr, tmp_path) is None
    with pytest.raises(InputError, match=r"the target scan '.*ct.nii.gz' looks like CT"):
        catalogue.target_from_text(card_for(TargetKind.SCAN), str(tmp_path / "ct.nii.gz"), Modality.MR)
    both = dataclasses.replace(mr, modalities=frozenset(Modality))
    assert catalogue.implied_modality(both, tmp_path / "mr.nii.gz") is None


def test_a_large_file_is_looked_at_without_a_view_of_freed_memory(tmp_path):
    import numpy as np

    array = np.random.default_rng(0).random((200, 200, 200), dtype=np.float32)  # 32 MB: freed memory is given back
    sitk.WriteImage(sitk.GetImageFromArray(array), str(tmp_path / "large.nrrd"))
    card = next(m.card for m in catalogue.METHODS if m.card.name == "zscore")
    assert catalogue.implied_modality(card, tmp_path / "large.nrrd") is Modality.MR


def test_a_method_without_a_target_refuses_one_and_a_method_with_one_asks_for_it():
    for method in catalogue.METHODS:
        if method.card.target is TargetKind.NONE:
            with pytest.raises(InputError, match="takes no target, but 'nonsense' is given"):
                method.for_target("nonsense")
        else:
            with pytest.raises(InputError, match="needs a target"):
                method.for_target(None)


def test_a_target_has_the_units_of_the_scan_and_may_have_a_comma_in_its_name(tmp_path):
    path = tmp_path / "Smith, John.nii.gz"
    write_image(head().image, path)
    found = catalogue.target_from_text(card_for(TargetKind.RESOLUTION), str(path), Modality.PET, "SUV")
    assert (found.modality, found.units, found.name) == (Modality.PET, "SUV", "Smith, John")
