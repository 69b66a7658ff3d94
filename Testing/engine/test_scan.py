"""What a scan may be, and the roles of its structures."""

import dataclasses

import pytest

from Testing.engine.scans import head

from HarmonizeExtension.errors import InputError
from HarmonizeExtension.scan import Role


@pytest.mark.parametrize("value", [2e30, -2e30])
def test_values_that_no_scanner_measures_are_refused(value):
    scan = head()
    array = scan.array
    array[3, 4, 5] = value
    with pytest.raises(InputError, match="no measured intensities"):
        scan.with_array(array)


def test_an_empty_reference_is_none():
    scan = head()
    nameless = dataclasses.replace(scan, structures={"": dataclasses.replace(scan.structures["brain"], name="")})
    assert not nameless.with_roles(reference="").with_role(Role.REFERENCE)
