"""Settings files speak pyradiomics' names, and a mistake in one is named."""

import json

import pytest

from HarmonizeExtension.errors import InputError
from HarmonizeExtension.radiomics.settings import Settings
from HarmonizeExtension.scan import Modality


@pytest.mark.parametrize("name", ["mr", "ct", "pet", "ct_wavelet_log"])
def test_what_ships_can_be_read_and_written(name):
    settings = Settings.load(name)
    assert settings.description
    assert Settings.from_dict(json.loads(json.dumps(settings.as_dict()))) == settings


def test_the_mr_settings_are_those_of_the_harmonae_paper():
    settings = Settings.for_modality(Modality.MR)
    assert settings.bin_count == 64
    assert tuple(settings.resampled_spacing_mm) == (2, 2, 2)
    assert settings.interpolator == "sitkBSpline"
    for modality in (Modality.CT, Modality.PET):
        assert Settings.for_modality(modality).bin_count is None


def test_nothing_said_means_pyradiomics_defaults():
    settings = Settings.from_dict({})
    assert (settings.bin_width, settings.bin_count, settings.distances_voxels) == (25, None, (1,))
    assert set(settings.feature_classes) == {"firstorder", "glcm", "glrlm", "glszm", "gldm", "ngtdm"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"setting": {"binwidth": 5}}, "'binwidth' is not known; did you mean 'binWidth'"),
        ({"setting": {"resampledPixelspacing": [1, 1, 1]}}, "did you mean 'resampledPixelSpacing'"),
        ({"settings": {}}, "did you mean 'setting'"),
        ({"imageType": {"LOG": {}}}, "did you mean 'LoG'"),
        ({"imageType": {"Wavelet": {"wavelet": "haar"}}}, "wavelet"),
        ({"featureClass": {"glc": []}}, "did you mean 'glcm'"),
        ({"featureClass": {"glcm": ["Contrst"]}}, "did you mean 'Contrast'"),
        ({"setting": {"binWidth": "25"}}, "binWidth is '25'"),
        ({"setting": {"binWidth": 0}}, "binWidth is 0"),
        ({"setting": {"force2D": 1}}, "force2D is 1"),
        ({"setting": {"distances": [0]}}, "distances"),
        ({"setting": {"resampledPixelSpacing": [1, 1]}}, "three numbers"),
        ({"setting": {"interpolator": "sitkBspline"}}, "did you mean 'sitkBSpline'"),
        ({"imageType": {"LoG": {}}}, "sigma"),
        ({"imageType": {"LoG": {"sigma": [-1]}}}, "sigma"),
    ],
)
def test_a_mistake_is_named(content, message):
    with pytest.raises(InputError) as error:
        Settings.from_dict(content)
    assert message in str(error.value)


def test_a_file_of_the_users_own(tmp_path):
    path = tmp_path / "mine.json"
    path.write_text(json.dumps({"setting": {"binWidth": 10, "label": 1, "additionalInfo": True}}))
    assert Settings.load(path).bin_width == 10
    path.write_text("{")
    with pytest.raises(InputError, match=r"mine\.json"):
        Settings.load(path)
    with pytest.raises(InputError, match=r"nothing\.json"):
        Settings.load(tmp_path / "nothing.json")
    with pytest.raises(InputError, match="did you mean 'mr'"):
        Settings.load("mri")


def test_an_image_type_may_have_settings_of_its_own():
    settings = Settings.from_dict({"imageType": {"Original": {}, "Wavelet": {"binWidth": 5}}})
    assert settings.for_image_type("Wavelet").bin_width == 5
    assert settings.for_image_type("Original").bin_width == 25
