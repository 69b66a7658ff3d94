"""Scanners that are alike differ by chance only; scanners that are not are found."""

import numpy as np
import pytest

from HarmonizeExtension.errors import InputError
from HarmonizeExtension.evaluation.site_effect import differing_share


def scans(shift, n=20, features=400, seed=0):
    rng = np.random.default_rng(seed)
    return {name: rng.standard_normal((n, features)) + s for name, s in zip("abc", shift, strict=True)}


def test_alike_scanners_differ_in_about_the_share_that_chance_gives():
    shares = differing_share(scans((0, 0, 0)))
    assert all(0.005 < share < 0.09 for share in shares.values())  # KS is conservative in small samples


def test_a_shifted_scanner_differs_in_nearly_every_feature():
    assert differing_share(scans((0, 0, 3)))["c"] > 0.99


def test_a_feature_that_is_not_finite_is_left_out_and_too_few_scans_are_refused():
    values = scans((0, 0, 3))
    values["a"][0, :200] = np.nan
    assert differing_share(values)["c"] > 0.99
    with pytest.raises(InputError, match="at least two scanners"):
        differing_share({"a": values["a"]})
    with pytest.raises(InputError, match="scans of b"):
        differing_share({"a": values["a"], "b": values["b"][:2]})
