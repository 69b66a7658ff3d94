"""A question to a model folder or about a feature becomes a volume on the scan's grid, a record and a picture."""

import json
import sys
from io import BytesIO

import numpy as np
import pytest
import SimpleITK as sitk
from PIL import Image
from scipy import ndimage

from Testing.engine.scans import bits, grid, head

torch = pytest.importorskip("torch")
pytest.importorskip("captum")
pytest.importorskip("safetensors")

from HarmonizeExtension import images  # noqa: E402
from HarmonizeExtension.cli import main  # noqa: E402
from HarmonizeExtension.errors import Cancelled, InputError, ModelError  # noqa: E402
from HarmonizeExtension.evaluation.logistic import LogisticRegression  # noqa: E402
from HarmonizeExtension.explain import catalogue  # noqa: E402
from HarmonizeExtension.explain.decisions import scanner_decision  # noqa: E402
from HarmonizeExtension.explain.explanation import explain, write  # noqa: E402
from HarmonizeExtension.explain.outcome_model import OutcomeModel  # noqa: E402
from HarmonizeExtension.explain.picture import picture  # noqa: E402
from HarmonizeExtension.explain.views import view  # noqa: E402
from HarmonizeExtension.files.models import ModelCard, save_model  # noqa: E402
from HarmonizeExtension.files.writing import write_image  # noqa: E402
from HarmonizeExtension.methods.cyclegan.network import critic  # noqa: E402
from HarmonizeExtension.methods.harmonae.network import Classifier, Encoder  # noqa: E402
from HarmonizeExtension.networks.kernel_blocks import PatchJudge  # noqa: E402
from HarmonizeExtension.radiomics.settings import Settings  # noqa: E402
from HarmonizeExtension.scan import Modality  # noqa: E402

SITES = ("A", "B", "C")
MEAN, CONTRAST = "original_firstorder_Mean", "original_glcm_Contrast"


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(before)


def arrays(**parts):
    return {f"{part}.{name}": value.numpy() for part, net in parts.items() for name, value in net.state_dict().items()}


def scan_of(modality: Modality):
    """An oblique, anisotropic scan with a structure, in the units of its modality."""
    scan = head(grid(size=(44, 40, 12), spacing=(1.1, 1.0, 4.0), rotation=(5, 10, 20)))
    if modality is Modality.CT:
        return scan.with_array(scan.array * 8 - 1000, modality=modality, units="HU")
    if modality is Modality.PET:
        return scan.with_array(scan.array / 30, modality=modality, units="SUV")
    return scan


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Folders of untrained models by question and modality."""
    torch.manual_seed(3)
    top = tmp_path_factory.mktemp("models")
    classifier = Classifier(3, 4)
    with torch.no_grad():
        classifier.last.weight.mul_(30)
    save_model(
        top / "MR",
        ModelCard("harmonae", "untrained", SITES, preprocessing={"spacing_mm": 1.0}),
        arrays(encoder=Encoder(4), classifier=classifier),
    )
    save_model(
        top / "CT",
        ModelCard("radiomicgan", "untrained", SITES, preprocessing={"window_hu": [-1024, 1000]}),
        arrays(judge=PatchJudge(2, 3, 4)),
    )
    preprocessing = {"spacing_mm": 3.0, "scale": "asinh", "size": "small"}
    save_model(
        top / "PET",
        ModelCard("cyclegan", "untrained", SITES, preprocessing=preprocessing),
        arrays(**{"critic.B": critic("small", 4, False)}),
    )
    return top


@pytest.mark.parametrize(
    ("modality", "question", "method", "site"),
    [
        (Modality.MR, "scanner", "occlusion", ""),
        (Modality.MR, "scanner", "guided-backpropagation", "C"),
        (Modality.CT, "critic", "integrated-gradients", "B"),
        (Modality.CT, "critic", "grad-cam", ""),
        (Modality.PET, "critic", "smoothgrad", "B"),
        (Modality.PET, "critic", "grad-cam", "B"),
        (Modality.PET, "critic", "guided-backpropagation", "B"),
    ],
    ids=lambda value: str(value),
)
def test_a_network_is_asked_and_the_map_lies_on_the_scan(models, modality, question, method, site):
    scan = scan_of(modality)
    found = explain(question, scan, np.random.default_rng(0), method, model=models / modality.value, site=site)
    assert bits(found.image) == bits(scan.image)
    array = sitk.GetArrayFromImage(found.image)
    assert array.dtype == np.float32
    assert np.isfinite(array).all()
    assert np.abs(array).max() <= 1
    assert (array.min() >= 0) or found.signed
    assert found.faithfulness.sentence
    assert ("smoothed" in found.scale) == (method not in ("occlusion", "grad-cam"))
    assert "untrained" in found.about
    assert site in found.about


def test_the_harmonized_scan_can_stand_for_what_is_absent(models):
    scan = scan_of(Modality.PET)
    after = scan.with_array(ndimage.gaussian_filter(scan.array, 1.5))
    found = explain("critic", scan, np.random.default_rng(0), "integrated-gradients", after, models / "PET", "B")
    assert "for the harmonized scan" in found.about
    assert found.details["sum of the map, of the whole change"] == pytest.approx(1, abs=0.05)
    with pytest.raises(InputError, match="not on the grid"):
        explain("critic", scan, np.random.default_rng(0), after=head(), model=models / "PET")


def test_a_map_lies_where_the_network_looked(models):
    """Through turning, resampling and cropping and back, a mark stays where it is."""
    scan = scan_of(Modality.MR)
    seen = scanner_decision(scan, models / "MR")
    at = view(scan, lambda array, body: array, (1.0, 1.0, 0), multiple=4, smallest=128)
    mark = np.zeros(at.array.shape, np.float32)
    inside = tuple(slice(0, s.stop - s.start) for s in at.box)
    mark[inside] = at.array[inside]
    back = images.to_array(at.to_scan(mark, scan))
    there = back != 0
    assert np.corrcoef(back[there], scan.array[there])[0, 1] > 0.97
    assert seen.decision.image.shape[2:] == at.array.shape[1:]
    slices = seen.volume(np.arange(len(seen.slices), dtype=np.float32)[:, None, None] + np.zeros((1, 2, 2), np.float32))
    assert np.all(np.diff(slices[:, 0, 0]) >= 0)
    assert [slices[z, 0, 0] for z in seen.slices] == list(range(len(seen.slices)))


def test_a_model_without_its_judge_says_so(models, tmp_path):
    scan = scan_of(Modality.MR)
    rng = np.random.default_rng(0)
    save_model(tmp_path / "m", ModelCard("harmonae", "m", SITES), arrays(encoder=Encoder(4)))
    with pytest.raises(ModelError, match="without its scanner classifier"):
        explain("scanner", scan, rng, model=tmp_path / "m")
    with pytest.raises(ModelError, match="without its critic"):
        explain("critic", scan_of(Modality.PET), rng, model=models / "PET", site="A")
    save_model(tmp_path / "n", ModelCard("harmonae", "n", SITES), arrays(encoder=Encoder(4), classifier=Encoder(4)))
    with pytest.raises(ModelError, match="not what its card says"):
        explain("scanner", scan, rng, model=tmp_path / "n")
    with pytest.raises(InputError, match="does not know 'D'; it knows: A, B, C"):
        explain("scanner", scan, rng, model=models / "MR", site="D")
    with pytest.raises(ModelError, match="is for 'cyclegan'"):
        explain("scanner", scan, rng, model=models / "PET")
    with pytest.raises(InputError, match="needs a network"):
        explain("feature", scan, rng, "grad-cam", after=scan, feature=MEAN)
    with pytest.raises(InputError, match="needs the harmonized scan"):
        explain("feature", scan, rng, feature=MEAN)
    with pytest.raises(InputError, match="give its folder"):
        explain("scanner", scan, rng)
    with pytest.raises(Cancelled):
        explain("scanner", scan, rng, model=models / "MR", cancelled=lambda: True)


def test_without_captum_a_network_cannot_be_asked(models, monkeypatch):
    monkeypatch.setitem(sys.modules, "captum", None)
    with pytest.raises(InputError, match="pip install captum"):
        explain("scanner", scan_of(Modality.MR), np.random.default_rng(0), model=models / "MR")


@pytest.fixture(scope="module")
def outcome():
    regression = LogisticRegression(np.array([100.0, 5.0]), np.array([20.0, 3.0]), np.array([2.0, -1.0]), 0.3)
    return OutcomeModel("metastasis", "GTV", (MEAN, CONTRAST), regression, Settings(bin_width=10.0))


def test_an_outcome_model_is_kept_and_asked(outcome, tmp_path):
    outcome.save(tmp_path / "model")
    again = OutcomeModel.load(tmp_path / "model")
    values = {MEAN: 110.0, CONTRAST: 8.0}
    assert again.log_odds(values) == outcome.log_odds(values) == pytest.approx(0.3 + 1 - 1)
    chance = outcome.regression.probability(np.array([[110.0, 8.0]]))[0]
    assert chance == pytest.approx(1 / (1 + np.exp(-outcome.log_odds(values))))
    scan = scan_of(Modality.CT)
    after = scan.with_array(scan.array + 30 * (np.indices(scan.array.shape)[2] > 24))
    found = explain("outcome", scan, np.random.default_rng(0), after=after, model=tmp_path / "model")
    assert "log odds of 'metastasis' of 'GTV'" in found.about
    assert found.structure == "GTV"
    card = json.loads((tmp_path / "model" / "model.json").read_text())
    card["learnt"]["weights"] = [1.0]
    (tmp_path / "model" / "model.json").write_text(json.dumps(card))
    with pytest.raises(ModelError, match="is damaged"):
        OutcomeModel.load(tmp_path / "model")


def test_the_command_writes_all_or_nothing(tmp_path, capsys):
    scan = scan_of(Modality.CT)
    label = images.mask_image(scan.structures["GTV"].array, scan.image)
    after = scan.with_array(ndimage.gaussian_filter(scan.array, 0.8))
    paths = {name: tmp_path / f"{name}.nii.gz" for name in ("before", "after", "GTV")}
    for name, image in (("before", scan.image), ("after", after.image), ("GTV", label)):
        write_image(image, paths[name])
    arguments = ["explain", "--volume", str(paths["before"]), "--modality", "CT", "--segmentation", str(paths["GTV"])]
    out = tmp_path / "out"
    arguments += ["--after", str(paths["after"]), "--question", "feature", "--out", str(out), "--json"]
    assert main([*arguments, "--feature", "original_glcm_Contrats"]) == 2
    assert "did you mean 'original_glcm_Contrast'" in json.loads(capsys.readouterr().out)["error"]
    assert not list(out.glob("*"))
    assert main([*arguments, "--feature", CONTRAST]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert set(answer["files"]) == {"map", "record", "picture"}
    record = json.loads((out / "attribution.json").read_text())
    assert record["about"] == answer["about"]
    assert record["faithfulness"]["sentence"] == answer["worth"]
    volume = sitk.ReadImage(str(out / "attribution.nii.gz"))
    assert images.same_grid(volume, scan.image)
    assert Image.open(out / "attribution.png").size[0] > 600


def test_the_picture_shows_colour_only_where_the_map_is(outcome, tmp_path):
    scan = scan_of(Modality.CT)
    after = scan.with_array(scan.array + 30 * (np.indices(scan.array.shape)[2] > 24))
    found = explain("feature", scan, np.random.default_rng(0), after=after, structure="GTV", feature=MEAN)
    rgb = np.asarray(Image.open(BytesIO(picture(found, scan)))).astype(int)
    coloured = (np.ptp(rgb, axis=2) > 60).mean()
    assert 0.002 < coloured < 0.3
    assert write(found, scan, tmp_path)["picture"].stat().st_size > 5000
    assert catalogue.question("feature").title in json.loads((tmp_path / "attribution.json").read_text())["question"]


def test_an_outcome_model_is_learnt_from_a_table_of_features(tmp_path, capsys):
    rng = np.random.default_rng(0)
    outcome = np.arange(24) % 2
    values = {MEAN: rng.standard_normal(24) + 2 * outcome, CONTRAST: rng.standard_normal(24)}
    manifest = ["case,outcome", *(f"p{n},{o}" for n, o in enumerate(outcome))]
    (tmp_path / "manifest.csv").write_text("\n".join(manifest))
    lines = [f"p{n},before,GTV,{values[MEAN][n]},{values[CONTRAST][n]}" for n in range(24)]
    (tmp_path / "features.csv").write_text("\n".join([f"case,label,structure,{MEAN},{CONTRAST}", *lines]))
    out = tmp_path / "model"
    arguments = ["outcome-model", str(tmp_path / "manifest.csv"), "--settings", "ct", "--out", str(out), "--json"]
    assert main([*arguments, "--title", "metastasis"]) == 0
    assert json.loads(capsys.readouterr().out)["features"] == 2
    model = OutcomeModel.load(out)
    assert (model.structure, model.features, model.title) == ("GTV", (MEAN, CONTRAST), "metastasis")
    odds = [model.log_odds({name: column[n] for name, column in values.items()}) for n in range(24)]
    assert np.mean((np.array(odds) > 0) == outcome) > 0.75
    assert model.settings == Settings.for_modality(Modality.CT)
