import pytest
import SimpleITK as sitk

from Testing.engine.scans import head

from HarmonizeExtension.files.writing import write_image


@pytest.fixture(scope="session")
def files(tmp_path_factory):
    """A folder with a head, `head.nii.gz`, two other people, and a mask of each structure (`GTV.nii.gz`, ...)."""
    folder = tmp_path_factory.mktemp("files")
    scan = head()
    write_image(scan.image, folder / "head.nii.gz")
    for seed in (1, 2):
        write_image(head(seed=seed).image, folder / f"head{seed}.nii.gz")
    for name, structure in scan.structures.items():
        write_image(structure.mask, folder / f"{name.replace(' ', '_')}.nii.gz")
    labels = sum(sitk.Cast(s.mask, sitk.sitkUInt8) * 2**n for n, s in enumerate(scan.structures.values()))
    write_image(labels, folder / "labels.nii.gz")
    return folder
