"""Contours become the voxels whose centres they enclose."""

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st
from synthetic_dicom import save, save_series, series, structure_set

from HarmonizeExtension import images
from HarmonizeExtension.errors import InputError
from HarmonizeExtension.files import read_scan, write_image
from HarmonizeExtension.files.rtstruct import fill_polygons

ANGLE = st.integers(-300, 300).map(lambda hundredths: hundredths / 100)


def square(low, high):
    return np.array([(low, low), (high, low), (high, high), (low, high)], float)


def winding_inside(point, polygon) -> bool:
    """Even-odd by a ray, one point at a time: slow, and written differently."""
    inside = False
    for (x0, y0), (x1, y1) in zip(polygon, np.roll(polygon, -1, axis=0), strict=True):
        if (y0 > point[1]) != (y1 > point[1]) and point[0] < x0 + (point[1] - y0) * (x1 - x0) / (y1 - y0):
            inside = not inside
    return inside


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.floats(-4, 16), st.floats(-4, 14)), min_size=3, max_size=12))
def test_filling_agrees_with_a_ray_through_every_pixel(points):
    polygon = np.array(points) + 1e-4 * np.sqrt(2)  # off the pixel centres, where both sides are right
    filled = fill_polygons([polygon], (10, 12))
    expected = [[winding_inside((x, y), polygon) for x in range(12)] for y in range(10)]
    assert np.array_equal(filled, expected)


def test_neighbours_share_their_edge_without_gap_or_overlap():
    left = fill_polygons([np.array([(1, 1), (5, 2), (5, 8), (1, 7)], float)], (10, 12)).astype(int)
    right = fill_polygons([np.array([(5, 2), (9, 1), (9, 7), (5, 8)], float)], (10, 12)).astype(int)
    both = fill_polygons([np.array([(1, 1), (5, 2), (9, 1), (9, 7), (5, 8), (1, 7)], float)], (10, 12)).astype(int)
    assert np.array_equal(left + right, both)


def test_holes_and_keyholes():
    ring = fill_polygons([square(1.5, 8.5), square(3.5, 6.5)], (10, 10))
    assert ring.sum() == 49 - 9
    keyhole = np.concatenate([square(1.5, 8.5), square(1.5, 1.5)[:1], square(3.5, 6.5), square(3.5, 3.5)[:1]])
    assert np.array_equal(fill_polygons([keyhole], (10, 10)), ring)


def grid_image(spacing=(0.9, 1.2, 3.0), turn=None, size=(40, 36, 20), origin=(-17, 5, 60)):
    image = sitk.GetImageFromArray(np.random.default_rng(0).normal(size=size[::-1]).astype(np.float32))
    image.SetSpacing([float(v) for v in spacing])
    image.SetOrigin([float(v) for v in origin])
    image.SetDirection(np.asarray(np.eye(3) if turn is None else turn, float).ravel().tolist())
    return image


def circle_contours(image, slices, radius=8.3, centre=(19.7, 17.2), axis=2):
    """Circles in voxel units around `centre`, on planes of constant index along `axis`, as LPS points."""
    angle = np.linspace(0, 2 * np.pi, 200, endpoint=False)
    to_physical = images.index_to_physical(image)
    across = [other for other in range(3) if other != axis]
    contours = []
    for index in slices:
        points = np.empty((len(angle), 3))
        points[:, axis] = index
        points[:, across[0]] = centre[0] + radius * np.cos(angle)
        points[:, across[1]] = centre[1] + radius * np.sin(angle)
        contours.append(points @ to_physical[:3, :3].T + to_physical[:3, 3])
    return contours


def rasterise(tmp_path, image, rois, **more):
    write_image(image, tmp_path / "image.nrrd")
    path = save(structure_set(rois), tmp_path / "RS.dcm")
    return read_scan(tmp_path / "image.nrrd", "CT", segmentation=path, **more)


@settings(max_examples=12, deadline=None)
@given(angles=st.tuples(*[ANGLE] * 3), axis=st.sampled_from([0, 1, 2]))
def test_contours_on_an_oblique_grid_fall_where_they_were_drawn(tmp_path_factory, angles, axis):
    turn = np.array(sitk.Euler3DTransform((0, 0, 0), *angles).GetMatrix()).reshape(3, 3)
    image = grid_image(turn=turn, size=(40, 36, 38))
    contours = circle_contours(image, range(4, 12), axis=axis)
    scan = rasterise(tmp_path_factory.mktemp("rt"), image, {"GTV": contours})
    across = [other for other in range(3) if other != axis]
    index = np.indices((38, 36, 40))[::-1]  # x, y, z
    expected = (index[across[0]] - 19.7) ** 2 + (index[across[1]] - 17.2) ** 2 < 8.3**2
    expected &= (index[axis] >= 4) & (index[axis] < 12)
    # A polygon of 200 corners and coordinates of 1e-6 mm leave only pixels on the very edge to chance.
    assert np.mean(scan.structures["GTV"].array != expected) < 1e-3


def test_coarser_planes_leave_no_gaps_and_keep_the_volume(tmp_path):
    image = grid_image()
    scan = rasterise(
        tmp_path,
        image,
        {"fine": circle_contours(image, range(3, 15)), "coarse": circle_contours(image, range(4, 15, 3))},
    )
    fine, coarse = scan.structures["fine"].array, scan.structures["coarse"].array
    assert np.array_equal(coarse, fine)
    halves = rasterise(tmp_path, image, {"a": circle_contours(image, range(4, 15, 2))}).structures["a"].array
    assert halves.any(axis=(1, 2)).sum() == 12  # six planes two slices apart stand for twelve slices


def test_two_separate_parts_stay_separate(tmp_path):
    image = grid_image()
    scan = rasterise(tmp_path, image, {"a": circle_contours(image, [3, 4, 5, 12, 13])})
    assert np.flatnonzero(scan.structures["a"].array.any(axis=(1, 2))).tolist() == [3, 4, 5, 12, 13]


def test_contours_oblique_to_the_grid_keep_their_volume_and_place(tmp_path):
    """Drawn on another scan of the same frame of reference, turned by 25 degrees."""
    turn = np.array(sitk.Euler3DTransform((0, 0, 0), 0.3, -0.3, 0.2).GetMatrix()).reshape(3, 3)
    drawn_on = grid_image(turn=turn, spacing=(1, 1, 2))
    image = grid_image(spacing=(1.1, 1.3, 1.7), size=(80, 70, 60), origin=(-40, -20, 40))
    contours = circle_contours(drawn_on, range(4, 16))
    mask = rasterise(tmp_path, image, {"a": contours}).structures["a"].array
    volume_mm3 = mask.sum() * np.prod(image.GetSpacing())
    assert volume_mm3 == pytest.approx(np.pi * 8.3**2 * 12 * 2, rel=0.02)
    centre = np.argwhere(mask).mean(axis=0)[::-1]
    wanted = drawn_on.TransformContinuousIndexToPhysicalPoint((19.7, 17.2, 9.5))
    assert np.allclose(image.TransformContinuousIndexToPhysicalPoint(centre.tolist()), wanted, atol=0.3)


def test_a_point_far_away_takes_no_memory(tmp_path):
    turn = np.array(sitk.Euler3DTransform((0, 0, 0), 0.3, -0.3, 0.2).GetMatrix()).reshape(3, 3)
    contours = circle_contours(grid_image(turn=turn, spacing=(1, 1, 2)), range(4, 16))
    wild = [points.copy() for points in contours]
    wild[0][0] += turn[:, 0] * 1e7
    image = grid_image(spacing=(1.1, 1.3, 1.7), size=(80, 70, 60), origin=(-40, -20, 40))
    scan = rasterise(tmp_path, image, {"a": contours, "wild": wild})
    assert np.mean(scan.structures["a"].array != scan.structures["wild"].array) < 0.01


def test_a_contour_given_twice_is_no_hole(tmp_path):
    image = grid_image()
    contours = circle_contours(image, [3, 4])
    scan = rasterise(tmp_path, image, {"a": contours + contours, "b": contours})
    assert np.array_equal(scan.structures["a"].array, scan.structures["b"].array)


def test_structures_are_taken_by_name(tmp_path):
    image = grid_image()
    rois = {"GTV": circle_contours(image, [3, 4]), "Body": circle_contours(image, [3, 4], 15), "never drawn": []}
    scan = rasterise(tmp_path, image, rois)
    assert list(scan.structures) == ["GTV", "Body"]
    assert "never contoured" in scan.provenance[0]["note"]
    assert list(rasterise(tmp_path, image, rois, structures=["Body"]).structures) == ["Body"]
    with pytest.raises(InputError, match="no structure named CTV"):
        rasterise(tmp_path, image, rois, structures=["CTV"])
    with pytest.raises(InputError, match=r"'never drawn'.*is empty"):
        rasterise(tmp_path, image, rois, structures=["never drawn"])
    with pytest.raises(InputError, match="holds no structure"):
        rasterise(tmp_path, image, {"nothing": []})


def test_a_structure_outside_the_scan_is_refused_by_name(tmp_path):
    image = grid_image()
    away = [points + 500 for points in circle_contours(image, [3, 4])]
    with pytest.raises(InputError, match=r"'far away'.*outside the scan"):
        rasterise(tmp_path, image, {"far away": away})


def test_a_structure_drawn_on_another_scan_is_refused(tmp_path):
    stored = np.random.default_rng(0).integers(0, 99, (4, 30, 30)).astype(np.int16)
    datasets = series(stored, spacing_mm=(1, 1, 2.5), origin=(0, 0, 0))
    folder = save_series(datasets, tmp_path / "CT")
    contour = [np.array([(5, 5, z), (15, 5, z), (15, 15, z), (5, 15, z)], float) for z in (2.5, 5.0)]
    own = save(structure_set({"a": contour}, datasets[0].FrameOfReferenceUID), tmp_path / "own.dcm")
    other = save(structure_set({"a": contour}, "1.2.3"), tmp_path / "other.dcm")
    assert read_scan(folder, segmentation=own).structures["a"].array.sum() == 2 * 100
    with pytest.raises(InputError, match="other frame of reference"):
        read_scan(folder, segmentation=other)


def test_files_that_are_no_structure_set(tmp_path):
    image = grid_image()
    write_image(image, tmp_path / "image.nrrd")
    dataset = structure_set({"a": circle_contours(image, [3])})
    for modality, sentence in (("SEG", "save it as .seg.nrrd"), ("RTPLAN", "is RTPLAN, not a segmentation")):
        dataset.Modality = modality
        with pytest.raises(InputError, match=sentence):
            read_scan(tmp_path / "image.nrrd", "CT", segmentation=save(dataset, tmp_path / "x.dcm"))


@pytest.mark.real_data
@pytest.mark.parametrize("kind", ["CT", "MR_T1", "PET"])
def test_a_real_structure_set_agrees_with_the_published_mask(real_data, kind):
    dicom = real_data / "sts_dicom" / "STS_025" / kind
    scan = read_scan(dicom / "image", segmentation=dicom / "mask" / "RS.dcm")
    (structure,) = scan.structures.values()
    published = read_scan(
        real_data / "sts" / "STS_025" / f"{kind}_image.nii.gz",
        scan.modality,
        segmentation=real_data / "sts" / "STS_025" / f"{kind}_mask.nii.gz",
    )
    assert images.same_grid(scan.image, published.image)
    assert np.allclose(scan.array, published.array, rtol=1e-6, atol=1e-6)
    theirs = next(iter(published.structures.values())).array
    dice = 2 * (structure.array & theirs).sum() / (structure.array.sum() + theirs.sum())
    assert dice > 0.95
    assert scan.units == {"CT": "HU", "MR_T1": "", "PET": "SUV"}[kind]
