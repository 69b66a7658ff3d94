"""What `apply` promises holds for any method, even one that misbehaves."""

import dataclasses
import json
from typing import ClassVar

import numpy as np
import pytest

from Testing.engine.scans import bits, head

from HarmonizeExtension.body import body_mask
from HarmonizeExtension.errors import Cancelled, InputError
from HarmonizeExtension.methods.base import Harmonizer, MethodCard, statistics_mask
from HarmonizeExtension.scan import Modality, Scan, TargetKind

CARD = MethodCard(
    name="misbehaving",
    title="Misbehaving method",
    summary="Does what it is told.",
    modalities=frozenset({Modality.MR}),
    target=TargetKind.NONE,
    keeps_scale=True,
    pointwise=False,
    citation="",
)


@dataclasses.dataclass
class Misbehaving(Harmonizer):
    """Returns what `result` makes of the scan's intensities."""

    result: object
    strength: float = 2.0

    card: ClassVar[MethodCard] = CARD

    def _harmonize(self, scan, body, progress, cancelled):
        return self.result(scan.array)


class Rescaling(Misbehaving):
    card = dataclasses.replace(CARD, keeps_scale=False)


class WholeImage(Misbehaving):
    card = dataclasses.replace(CARD, whole_image=True)


def noise(array):
    return array + np.random.default_rng(0).normal(0, 50, array.shape)


def test_air_stays_bit_for_bit_where_the_scale_is_kept():
    scan = head()
    body = body_mask(scan)
    after = Misbehaving(noise).apply(scan)
    assert np.array_equal(after.array[~body], scan.array[~body])
    assert np.array_equal(after.array[body], noise(scan.array).astype(np.float32)[body])
    assert np.array_equal(WholeImage(noise).apply(scan).array, noise(scan.array).astype(np.float32))


def test_the_result_is_float32_on_the_same_grid_whatever_the_method_returns():
    scan = head()
    for kind in (np.float64, np.int16, np.uint8, bool):
        after = Rescaling(lambda array, kind=kind: (array > 100).astype(kind)).apply(scan)
        assert after.image.GetPixelIDTypeAsString() == "32-bit float"
        assert bits(after.image) == bits(scan.image)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("protected", [(), ("GTV",)])
def test_values_that_are_not_finite_are_refused_and_counted(bad, protected):
    def result(array):
        array[15, 22:24, 20] = bad
        return array

    with pytest.raises(InputError, match="2 voxels that are not finite"):
        Misbehaving(result).apply(head().with_roles(protected=protected))


@pytest.mark.parametrize("method", [lambda a: a[1:], lambda a: a[..., None], lambda a: a.mean()])
@pytest.mark.parametrize("protected", [(), ("GTV",)])
def test_a_result_of_another_shape_is_refused(method, protected):
    with pytest.raises(InputError, match="shape"):
        Misbehaving(method).apply(head().with_roles(protected=protected))


def test_a_constant_result_is_refused():
    with pytest.raises(InputError, match="gave 7 everywhere on 'head'"):
        Misbehaving(lambda array: np.full(array.shape, 7)).apply(head())


def test_the_scan_is_not_changed_though_the_method_writes_into_its_input():
    def result(array):
        array *= 2
        return array

    scan = head()
    before = scan.array
    Rescaling(result).apply(scan)
    assert np.array_equal(scan.array, before)


def test_a_protected_structure_keeps_its_ranks_and_the_rest_does_not():
    scan = head().with_roles(protected=["GTV"])
    inside = scan.structures["GTV"].array
    after = Misbehaving(noise).apply(scan)
    order = np.argsort(scan.array[inside], kind="stable")
    assert np.all(np.diff(after.array[inside][order]) >= 0)
    outside = scan.structures["white matter"].array & ~inside
    order = np.argsort(scan.array[outside], kind="stable")
    assert not np.all(np.diff(after.array[outside][order]) >= 0)


def test_a_protected_structure_that_reaches_into_air_is_not_cut_at_the_skin():
    scan = head()
    box = np.zeros(scan.array.shape, bool)
    box[10:16, 0:10, 15:25] = True
    assert not body_mask(scan)[box].all()
    gtv = dataclasses.replace(scan.structures["GTV"], mask=scan.with_array(box.astype(np.uint8)).image)
    scan = dataclasses.replace(scan, structures={"GTV": gtv}).with_roles(protected=["GTV"])
    after = Misbehaving(noise).apply(scan).array[box]
    order = np.argsort(scan.array[box], kind="stable")
    assert np.all(np.diff(after[order]) >= 0)


def test_provenance_says_what_was_done_and_json_can_hold_it():
    scan = head().with_roles(reference="brain", protected=["GTV"])
    twice = Misbehaving(noise, strength=3.0).apply(Misbehaving(noise).apply(scan))
    assert [entry["method"] for entry in twice.provenance] == ["misbehaving"] * 2
    entry = json.loads(json.dumps(twice.provenance[-1]))
    assert entry["parameters"]["strength"] == 3.0
    assert entry["reference"] == ["brain"]
    assert entry["protected"] == ["GTV"]
    assert isinstance(Misbehaving(scan).parameters()["result"], str)


def test_the_unit_goes_with_the_scale():
    scan = dataclasses.replace(head(), units="a.u.")
    assert Misbehaving(noise).apply(scan).units == "a.u."
    assert Rescaling(noise).apply(scan).units == ""


def test_the_same_input_gives_the_same_output():
    scan = head().with_roles(protected=["GTV"])
    assert np.array_equal(Misbehaving(noise).apply(scan).array, Misbehaving(noise).apply(scan).array)


def test_another_modality_is_refused_before_any_work():
    def result(array):
        raise AssertionError("must not be asked")

    with pytest.raises(InputError, match="is for MR; 'head' is CT"):
        Misbehaving(result).apply(dataclasses.replace(head(), modality=Modality.CT))


def test_it_stops_when_asked_before_and_after_the_work():
    with pytest.raises(Cancelled):
        Misbehaving(noise).apply(head(), cancelled=lambda: True)
    done = []
    with pytest.raises(Cancelled):
        Misbehaving(lambda a: done.append(1) or a).apply(head(), cancelled=lambda: bool(done))


def test_statistics_are_taken_in_the_reference_else_in_the_body():
    scan = head().with_roles(reference="brain")
    body = np.ones(scan.array.shape, bool)
    assert np.array_equal(statistics_mask(scan, body), scan.structures["brain"].array)
    assert statistics_mask(head().with_roles(), body) is body


def test_a_method_with_a_target_asks_for_it():
    @dataclasses.dataclass
    class Wanting(Misbehaving):
        card: ClassVar[MethodCard] = dataclasses.replace(CARD, target=TargetKind.SCAN)

    with pytest.raises(InputError, match="needs a target"):
        Wanting.for_target()
    target = head()
    assert isinstance(Wanting.for_target(target).result, Scan)
    assert Misbehaving.for_target(None, result=noise).result is noise
    with pytest.raises(InputError, match="takes no target, but 'head' is given"):
        Misbehaving.for_target(target, result=noise)
