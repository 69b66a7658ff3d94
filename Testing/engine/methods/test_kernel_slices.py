"""Networks of CT kernels on scans: HU in and out, air and metal safe, the kernel chosen by name or by a reference."""

import numpy as np
import pytest
import SimpleITK as sitk

torch = pytest.importorskip("torch")
pytest.importorskip("safetensors")

from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from HarmonizeExtension import case  # noqa: E402
from HarmonizeExtension.errors import InputError  # noqa: E402
from HarmonizeExtension.files.models import ModelCard, save_model  # noqa: E402
from HarmonizeExtension.guard import Status  # noqa: E402
from HarmonizeExtension.methods.catalogue import method  # noqa: E402
from HarmonizeExtension.methods.kernel_slices import _known_kernel, _SlicesBetweenNeighbours  # noqa: E402
from HarmonizeExtension.methods.paired_ct import network as paired  # noqa: E402
from HarmonizeExtension.methods.paired_ct.harmonizer import PairedCT  # noqa: E402
from HarmonizeExtension.methods.radiomicgan import network as radiomicgan  # noqa: E402
from HarmonizeExtension.methods.radiomicgan.harmonizer import RadiomicGAN  # noqa: E402
from HarmonizeExtension.networks import inference  # noqa: E402
from HarmonizeExtension.scan import Acquisition, Modality, Scan  # noqa: E402

KERNELS = ("Br40", "Bl57", "Bl64")


@pytest.fixture(autouse=True)
def _one_thread(monkeypatch):
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    monkeypatch.setattr(inference, "default_backend", lambda: "torch")
    yield
    torch.set_num_threads(before)


def folder_of(tmp_path_factory, generator, system, change, **learnt):
    """A model whose last layer gives the same change, as a share of half the window, everywhere."""
    with torch.no_grad():
        generator.last.weight.zero_()
        generator.last.bias.fill_(change)
    weights = {f"generator.{name}": value.numpy() for name, value in generator.state_dict().items()}
    folder = tmp_path_factory.mktemp("models") / system
    preprocessing = {"window_hu": [-1024.0, 1000.0], **learnt}
    save_model(folder, ModelCard(system, "constant", KERNELS, preprocessing=preprocessing), weights)
    return folder


@pytest.fixture(scope="module", params=[("radiomicgan", RadiomicGAN), ("paired-ct", PairedCT), ("cnn", PairedCT)])
def model(request, tmp_path_factory):
    name, cls = request.param
    makers = {"radiomicgan": radiomicgan.Generator, "paired-ct": paired.UNet, "cnn": paired.ResidualCNN}
    return cls, folder_of(tmp_path_factory, makers[name](3, 2), cls.card.name, 10 / 1012)


def ct(array, kernel=None, units="HU", pixel_mm=0.7):
    image = sitk.GetImageFromArray(array.astype(np.float32))
    image.SetSpacing((pixel_mm, pixel_mm, 1.0))
    return Scan(image, Modality.CT, acquisition=Acquisition(kernel=kernel), units=units, name="chest")


def chest(size=40):
    array = np.full((3, size, size + 5), -1000.0)
    array[:, 8:-8, 8:-8] = 40 + 20 * np.random.default_rng(0).standard_normal((3, size - 16, size - 11))
    array[:, 0, 0] = -2048  # filling
    array[:, 12, 12] = 4000  # metal
    return array


def test_hu_go_in_and_come_out_metal_and_filling_stay_and_nothing_falls_below_air(model):
    cls, folder = model
    scan = ct(chest())
    result = cls.for_target(f"{folder}#Br40").apply(scan)
    assert result.units == "HU"
    before, after = scan.array, result.array
    assert np.array_equal(after[:, 0, 0], before[:, 0, 0])
    inside = (before > -1024) & (before < 1000)
    assert np.allclose(after[inside], before[inside] + 10, atol=1e-2)
    assert np.allclose(after[:, 12, 12], 4010, atol=1e-2)  # clipped to the window, changed, and put back on top
    assert np.array_equal(after, cls.for_target(f"{folder}#Br40").apply(scan).array)


def test_a_scan_that_ends_inside_the_patient_gets_no_edge_there(tmp_path_factory):
    generator = radiomicgan.Generator(3, 2, bands=4)
    with torch.no_grad():
        generator.last.weight.zero_()
        generator.detail.gain.fill_(0.1)
    folder = folder_of(tmp_path_factory, generator, "radiomicgan", 0.0)
    array = np.full((3, 41, 43), 40.0)
    array[:, 20, 20] = 400  # or it would be no image
    result = RadiomicGAN.for_target(f"{folder}#Br40").apply(ct(array)).array
    assert np.abs(result[:, 20, 20] - 400).min() > 10
    assert np.allclose(result[:, :, 30:], 40, atol=0.1)
    assert np.allclose(result[:, 30:], 40, atol=0.1)


def test_no_result_lies_below_air(tmp_path_factory):
    folder = folder_of(tmp_path_factory, radiomicgan.Generator(3, 2), "radiomicgan", -0.5)
    array = chest()
    array[:, 0, 0] = -1000
    assert RadiomicGAN.for_target(f"{folder}#Br40").apply(ct(array)).array.min() == -1024


def test_a_reference_scan_names_the_kernel_by_its_tag(model):
    cls, folder = model
    for tag, expected in (("Br40d\\3", "Br40"), ("['Bl64', '2']", "Bl64"), ("bl57", "Bl57")):
        assert cls.for_target(ct(chest(), tag), model=folder).site == expected
    with pytest.raises(InputError, match="does not say its kernel"):
        cls.for_target(ct(chest()), model=folder)
    with pytest.raises(InputError, match="does not know 'FC08'; it knows: Br40"):
        cls.for_target(ct(chest(), "FC08"), model=folder)


def test_the_longest_name_is_meant():
    assert _known_kernel("Br40s", ("Br4", "Br40", "Br")) == "Br40"
    assert _known_kernel("B40f", ("Br40",)) == ""


def test_pixels_of_a_size_never_learnt_from_ask_for_a_look(tmp_path_factory):
    folder = folder_of(tmp_path_factory, radiomicgan.Generator(3, 2), "radiomicgan", 0.01, pixel_mm=[0.5, 0.9])
    method = RadiomicGAN.for_target(f"{folder}#Br40")
    for pixel_mm, doubted in ((0.7, False), (0.4, True), (1.2, True)):
        verdict = case.run(ct(chest(), pixel_mm=pixel_mm), method).verdict
        text = f"pixels are {pixel_mm} mm wide; the model has learnt from 0.5 to 0.9 mm"
        assert (text in verdict.reasons) == doubted
        assert any(check.name == "pixel size" and check.value == pytest.approx(pixel_mm) for check in verdict.checks)
        assert not doubted or verdict.status is not Status.PASS


def test_a_model_that_does_not_say_what_it_has_learnt_from_raises_no_doubt(model):
    cls, folder = model
    assert cls.for_target(f"{folder}#Br40").doubts(ct(chest(), pixel_mm=5.0)) == ()


def test_another_unit_is_refused(model):
    cls, folder = model
    with pytest.raises(InputError, match="needs HU"):
        cls.for_target(f"{folder}#Br40").apply(ct(chest(), units="SUV"))


def test_without_a_model_the_user_is_told_to_give_one():
    with pytest.raises(InputError, match="FOLDER#SITE"):
        PairedCT.for_target("Br40")


def test_it_is_in_the_catalogue():
    assert method("radiomicgan") is RadiomicGAN


@settings(max_examples=20, deadline=None)
@given(depth=st.integers(1, 5), rows=st.integers(2, 9), columns=st.integers(2, 9), start=st.integers(0, 4))
def test_slices_are_seen_between_their_neighbours(depth, rows, columns, start):
    hu = np.random.default_rng(0).uniform(-1500, 1500, (depth, rows, columns)).astype(np.float32)
    seen = _SlicesBetweenNeighbours(hu, (-1024.0, 1000.0), 8)
    part = seen[start : start + 2]
    assert seen.shape == (depth, 3, -(-rows // 8) * 8, -(-columns // 8) * 8)
    assert part.shape == (len(range(depth)[start : start + 2]), *seen.shape[1:])
    assert part.dtype == np.float32
    for image, z in zip(part, range(start, depth), strict=False):
        for colour, n in zip(image, (max(z - 1, 0), z, min(z + 1, depth - 1)), strict=True):
            expected = (np.clip(hu[n], -1024, 1000) + 1024) / 1012 - 1
            assert np.allclose(colour[:rows, :columns], expected, atol=1e-6)
        assert (image[:, rows:] == image[:, rows - 1 : rows]).all()
        assert (image[:, :, columns:] == image[:, :, columns - 1 : columns]).all()
