"""`harmonize evaluate mri-benchmark`: it needs no manifest, and what does not fit is said before any work."""

import pytest

from Testing.cli.harmonize import harmonize


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("mri-benchmark", "manifest.csv"), "leave the manifest out"),
        (("mri-benchmark", "--people", "2"), "at least 3 people"),
        (("mri-benchmark", "--models", "nowhere"), "no folder 'nowhere'"),
        (("mri-benchmark", "--pair", "a.nii", "b.nii"), "--pair has no part in 'mri-benchmark'"),
        (("site-effect",), "needs a manifest: features"),
        (("site-effect", "manifest.csv", "--people", "3"), "--people has no part in 'site-effect'"),
    ],
)
def test_what_does_not_fit_is_said_in_a_sentence(arguments, reason):
    run = harmonize("evaluate", *arguments)
    assert run.returncode == 2
    assert reason in run.stderr
    assert "Traceback" not in run.stderr
