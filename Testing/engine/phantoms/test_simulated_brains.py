"""Simulated people and scanners: determinism, anatomy that holds together, and differences that a scanner makes."""

import importlib.util
import subprocess
import sys

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st

from HarmonizeExtension import images
from HarmonizeExtension.errors import InputError
from HarmonizeExtension.phantoms import anatomy, brain, person
from HarmonizeExtension.phantoms.fields import SplineField, texture, total
from HarmonizeExtension.phantoms.lesions import Disease
from HarmonizeExtension.phantoms.person import Person, body_of
from HarmonizeExtension.phantoms.scanners import SCANNERS
from HarmonizeExtension.physics import tissues
from HarmonizeExtension.scan import Modality, Role

SPACING_MM = 4.0
BOX_MM = ((-40.0, 40.0), (-50.0, 50.0), (-30.0, 30.0))


def someone(seed: int = 0, **options) -> Person:
    return Person.draw(np.random.default_rng(seed), **options)


# Fields


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), knot_mm=st.floats(4, 15), sd=st.floats(0.1, 5))
def test_a_field_is_the_same_on_every_grid_and_has_its_deviation(seed, knot_mm, sd):
    field = SplineField.draw(BOX_MM, knot_mm, sd, np.random.default_rng(seed))
    axes = tuple(np.linspace(start, end, 21) for start, end in BOX_MM)
    whole = field.on(axes)
    np.testing.assert_array_equal(whole[::2, 1::3, ::4], field.on((axes[0][::2], axes[1][1::3], axes[2][::4])))
    # The mean square over knots is known only as well as their number allows.
    independent = np.prod([(end - start) / knot_mm for start, end in BOX_MM])
    assert whole.std() == pytest.approx(sd, rel=max(0.1, 4 / np.sqrt(independent)))
    steepest = np.abs(np.diff(whole, axis=0)).max() / (axes[0][1] - axes[0][0])
    assert steepest < 2 * np.abs(field.coefficients).max() / knot_mm


def test_texture_adds_scales_to_the_deviation_asked_for():
    fields = texture(BOX_MM, (4.0, 8.0), 0.06, np.random.default_rng(0))
    axes = tuple(np.arange(start, end, 2.0) for start, end in BOX_MM)
    assert total(fields, axes).std() == pytest.approx(0.06, rel=0.1)


# Anatomy


def test_without_nilearn_the_shipped_maps_take_its_place(monkeypatch):
    pytest.importorskip("nilearn")
    full = anatomy.mni152()
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    shipped = anatomy.mni152()
    assert shipped["gm"].GetSpacing() == (2.0, 2.0, 2.0)
    assert full["gm"].GetSpacing() == (1.0, 1.0, 1.0)
    for name in ("t1", "gm", "wm"):
        small = images.to_array(shipped[name])
        large = images.to_array(images.resample(full[name], shipped[name], sitk.sitkLinear))
        correlation = np.corrcoef(small.ravel(), large.ravel())[0, 1]
        assert correlation > 0.98, name
        litres = [images.to_array(m).sum() * np.prod(m.GetSpacing()) for m in (shipped[name], full[name])]
        assert litres[0] == pytest.approx(litres[1], rel=0.02), name


def test_the_shipped_maps_have_their_notice_beside_them():
    notice = (anatomy.folder("Sample") / "MNI152-LICENSE.txt").read_text()
    assert "McConnell Brain Imaging Centre" in notice
    for name in ("t1", "gm", "wm"):
        file = anatomy.folder("Sample") / anatomy.SHIPPED_NAME.format(map=name)
        assert file.name in notice
        assert file.stat().st_size < 250_000


def test_the_maps_are_read_without_importing_nilearn():
    code = "import sys; from HarmonizeExtension.phantoms import brain, anatomy; anatomy.mni152(); "
    code += "sys.exit(any(m in sys.modules for m in ('nilearn', 'torch', 'pandas', 'sklearn', 'matplotlib')))"
    assert subprocess.run([sys.executable, "-c", code], cwd=anatomy.folder("Sample").parents[1]).returncode == 0


@pytest.mark.parametrize("spacing_mm", [0.0, -1.0, 0.1, 50.0, float("nan")])
def test_a_spacing_that_makes_no_head_is_refused(spacing_mm):
    with pytest.raises(InputError, match="is not possible for a head"):
        anatomy.head_grid(spacing_mm)


def test_grids_of_all_spacings_cover_the_same_box():
    for spacing_mm in (1.0, 2.0, 3.0, 4.0):
        grid = anatomy.head_grid(spacing_mm)
        middle = grid.TransformContinuousIndexToPhysicalPoint([(n - 1) / 2 for n in grid.GetSize()])
        np.testing.assert_allclose(middle[::-1], [np.mean(limits) for limits in anatomy.HEAD_BOX_MM], atol=1e-9)
        extent = np.array(grid.GetSize()) * spacing_mm
        full = np.array([end - start for start, end in anatomy.HEAD_BOX_MM])[::-1]
        assert (extent <= full + 1e-9).all()
        assert (extent > full - spacing_mm).all()


# People


def test_the_same_seed_is_the_same_person_and_another_seed_is_not():
    first, second, other = (body_of(someone(seed), SPACING_MM) for seed in (1, 1, 2))
    for tissue, portion in first.portions.items():
        assert portion.share.tobytes() == second.portions[tissue].share.tobytes()
        assert portion.t1_texture.tobytes() == second.portions[tissue].t1_texture.tobytes()
    assert (first.structures["brain"] != other.structures["brain"]).any()


@pytest.mark.parametrize("seed", range(4))
def test_the_deformation_folds_nowhere(seed):
    axes = anatomy.head_axes(3.0)
    points = someone(seed).template_points_mm(axes)
    assert person._jacobian(points, axes).min() > 0.2


def test_a_deformation_that_would_fold_is_weakened(monkeypatch):
    monkeypatch.setattr(person, "DISPLACEMENT_MM", ((60.0, 20.0), (20.0, 12.0)))
    axes = anatomy.head_axes(4.0)
    assert person._jacobian(someone(0).template_points_mm(axes), axes).min() >= person.SMALLEST_JACOBIAN


@pytest.mark.parametrize("seed", range(3))
def test_tissues_fill_the_head_and_leave_the_air(seed):
    body = body_of(someone(seed), SPACING_MM)
    filled = np.zeros(body.shape, np.float32)
    for portion in body.portions.values():
        assert len(np.unique(portion.index)) == len(portion.index)
        filled.ravel()[portion.index] += portion.share
    assert filled.max() <= 1 + 1e-4
    assert filled.min() >= 0
    brain_mask = body.structures["brain"]
    inner = brain_mask & (filled > 0)
    assert np.mean(filled[inner] > 0.98) > 0.97
    # Only the neck leaves the field of view.
    for side in (filled[-1], filled[:, 0], filled[:, -1, :], filled[:, :, 0], filled[:, :, -1]):
        assert np.mean(side[len(side) // 4 :] > 0) < 0.01


@pytest.mark.parametrize("seed", range(3))
def test_volumes_are_those_of_adults(seed):
    structures = body_of(someone(seed), 2.0).structures
    litres = {name: mask.sum() * 8e-6 for name, mask in structures.items()}
    assert 1.0 < litres["brain"] < 1.9
    assert 0.3 < litres["white matter"] < 0.7
    assert 0.45 < litres["grey matter"] < 1.0
    assert not (structures["white matter"] & structures["grey matter"]).any()
    assert np.mean(structures["brain"][structures["white matter"]]) > 0.98


def test_a_person_is_the_same_anatomy_at_every_spacing():
    who = someone(3)
    fine, coarse = body_of(who, 2.0).structures["brain"], body_of(who, 4.0).structures["brain"]
    z, y, x = coarse.shape
    share = fine.reshape(z, 2, y, 2, x, 2).mean(axis=(1, 3, 5))
    overlap = 2 * np.sum((share > 0.5) & coarse) / (np.sum(share > 0.5) + coarse.sum())
    assert overlap > 0.97


def test_a_lesion_changes_the_person_only_where_it_grows():
    healthy, ill = (body_of(someone(4, disease=disease), 2.0) for disease in (Disease.NONE, Disease.TUMOUR))
    lesion = ill.structures["lesion"]
    assert 1.0 < lesion.sum() * 8e-3 < 15  # ml
    assert "lesion" not in healthy.structures
    scanner = SCANNERS["Siemens 3T"]
    flat = np.ones(ill.shape, np.float32)
    before, after = (brain.ideal_signal(body, scanner, flat) for body in (healthy, ill))
    assert after[lesion].mean() < 0.8 * before[lesion].mean()  # long T1 is dark
    away = images.distance_mm(lesion, (2.0,) * 3) > 4
    np.testing.assert_array_equal(before[away], after[away])
    white = ill.structures["white matter"]
    assert not (white & lesion).any()
    assert ill.structures["brain"][lesion].all()


# Scans


def test_signals_mix_not_properties():
    body = body_of(someone(5), SPACING_MM)
    scanner = SCANNERS["GE 3T"]
    flat = np.ones(body.shape, np.float32)
    mixed = brain.ideal_signal(body, scanner, flat)
    for tissue, portion in body.portions.items():
        alone = portion.index[portion.share > 0.999]
        p = tissues.properties(3.0)[tissue]
        pure = scanner.protocol.signal(p.t1_ms, p.t2_star_ms, p.proton_density)
        if len(alone) > 50:
            assert np.median(mixed.ravel()[alone]) == pytest.approx(pure, rel=0.05, abs=1e-5), tissue


def test_an_unknown_field_strength_is_refused():
    with pytest.raises(InputError, match=r"known at 1.5 and 3 T, not at 7 T"):
        tissues.properties(7.0)


@pytest.fixture(scope="module")
def cohort():
    return list(brain.travelling_cohort(3, list(SCANNERS.values()), seed=1, spacing_mm=SPACING_MM))


def test_a_cohort_is_every_person_on_every_scanner_on_one_grid(cohort):
    assert [(who.name, scanner.name) for who, scanner, _ in cohort] == [
        (f"person {number:03d}", name) for number in (1, 2, 3) for name in SCANNERS
    ]
    first = cohort[0][2]
    for who, scanner, scan in cohort:
        assert scan.modality is Modality.MR
        assert images.same_grid(scan.image, first.image)
        assert set(scan.structures) == {"white matter", "grey matter", "brain"}
        assert scan.acquisition.manufacturer == scanner.manufacturer
        assert scan.acquisition.field_strength_tesla == scanner.field_strength_tesla
        assert scan.acquisition.inversion_time_ms < scan.acquisition.repetition_time_ms
        same_person = next(s for w, _, s in cohort if w is who)
        for name, structure in scan.structures.items():
            np.testing.assert_array_equal(structure.array, same_person.structures[name].array)


def test_the_same_seed_gives_the_same_bytes_whoever_else_is_scanned(cohort):
    again = list(brain.travelling_cohort(1, list(SCANNERS.values())[:2], seed=1, spacing_mm=SPACING_MM))
    for (_, _, first), (_, _, second) in zip(cohort, again, strict=False):
        assert first.array.tobytes() == second.array.tobytes()
    _, _, other = next(brain.travelling_cohort(1, list(SCANNERS.values())[:1], seed=2, spacing_mm=SPACING_MM))
    assert other.array.tobytes() != cohort[0][2].array.tobytes()


def test_white_matter_is_brighter_than_grey_and_grey_than_air(cohort):
    for _, _, scan in cohort:
        white, grey = (scan.array[scan.structures[name].array].mean() for name in ("white matter", "grey matter"))
        air = scan.array[-2:].mean()
        assert 0.5 < grey / white < 0.9
        assert air < 0.3 * grey


def test_scanners_differ_in_contrast_noise_and_level_by_factors(cohort):
    figures = {name: [] for name in SCANNERS}
    for _, scanner, scan in cohort:
        array, white, grey = scan.array, scan.structures["white matter"].array, scan.structures["grey matter"].array
        level = array[white].mean()
        figures[scanner.name].append((level, array[grey].mean() / level, array[-2:].std() / level))
    means = np.array([np.mean(rows, axis=0) for rows in figures.values()])
    level, contrast, noise = means.max(axis=0) / means.min(axis=0)
    assert level > 5
    assert contrast > 1.08
    assert noise > 1.8


def test_no_intensity_map_turns_one_scanner_into_another(cohort):
    """Fields, blur and noise differ too: the best map of intensities alone leaves more than a repeated scan would."""
    who = cohort[0][0]
    one, two = SCANNERS["Siemens 3T"], SCANNERS["GE 1.5T"]
    a, again, b = (
        brain.scan_person(who, scanner, np.random.default_rng(seed), SPACING_MM)
        for scanner, seed in ((one, 1), (one, 2), (two, 3))
    )
    inside = a.structures["brain"].array

    def left_over(source, target):
        x, y = source.array[inside], target.array[inside]
        edges = np.quantile(x, np.linspace(0, 1, 65)[1:-1])
        level = np.digitize(x, edges)
        mean = np.bincount(level, y) / np.bincount(level)
        return np.std(y - mean[level]) / np.std(y)

    assert left_over(a, b) > 1.5 * left_over(a, again)
    assert left_over(a, b) < 0.7  # and yet it is the same head


def test_the_sample_case_is_one_person_with_a_protected_lesion_on_three_scanners():
    case = brain.three_scanner_case(1, SPACING_MM)
    assert len(case) == 3
    assert len({scan.acquisition.manufacturer for scan in case.values()}) == 3
    assert {scan.acquisition.field_strength_tesla for scan in case.values()} == {1.5, 3.0}
    first = next(iter(case.values()))
    for scan in case.values():
        assert [s.name for s in scan.with_role(Role.REFERENCE)] == ["white matter"]
        assert [s.name for s in scan.with_role(Role.PROTECTED)] == ["lesion"]
        assert {s.name for s in scan.with_role(Role.MEASURED)} == {"white matter", "grey matter", "brain", "lesion"}
        assert images.same_grid(scan.image, first.image)
        lesion, white = scan.structures["lesion"].array, scan.structures["white matter"].array
        assert lesion.sum() > 10
        assert scan.array[lesion].mean() < 0.85 * scan.array[white].mean()


def test_a_scan_at_an_impossible_spacing_is_refused():
    with pytest.raises(InputError, match="is not possible for a head"):
        brain.scan_person(someone(), SCANNERS["GE 3T"], np.random.default_rng(0), 0.0)
