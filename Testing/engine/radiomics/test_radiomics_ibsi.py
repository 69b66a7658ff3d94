"""The consensus values of IBSI-1 are met, but for the two of which we know why."""

import pytest

from Testing.engine.radiomics import ibsi_conformance as ibsi

# 4 sqrt(variance) over 74 voxels; the consensus has it over 73.
AXES_OVER_N_MINUS_1 = {"morph_pca_min_axis", "morph_pca_least_axis"}


def out_of_tolerance(processed, references):
    values = ibsi.ours(processed, [reference.tag for reference in references])
    checked = [reference for reference in references if reference.tag in values]
    return len(checked), {reference.tag for reference in checked if not reference.holds(values[reference.tag])}


@pytest.mark.real_data
def test_the_digital_phantom(real_data):
    count, out = out_of_tolerance(ibsi.digital_phantom(real_data), ibsi.references(real_data, "dig_phantom"))
    assert count == 262
    assert out == AXES_OVER_N_MINUS_1


@pytest.mark.real_data
@pytest.mark.parametrize("letter", ibsi.CONFIGURATIONS)
def test_the_ct_phantom(real_data, letter):
    if not (real_data / "nc_ibsi_ct_phantom").is_dir():
        pytest.skip("the IBSI CT phantom (CC BY-NC) is not here")
    processed = ibsi.ct_phantom(real_data, ibsi.CONFIGURATIONS[letter])
    count, out = out_of_tolerance(processed, ibsi.references(real_data, f"chest_config_{letter.lower()}"))
    assert count == 145
    assert out == set()
