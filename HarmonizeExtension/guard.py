"""May this result be trusted? Per case: pass, review or refuse, with the figures behind it.

The guard knows no method. It asks what every harmonization must answer: is the grid the same, are the values finite
and in range, are the edges where they were (in the body and in each structure), did any structure drift against the
rest of the image, did a protected structure keep its texture, and do the outermost slices differ from the others?
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Mapping

import numpy as np
import SimpleITK as sitk
from scipy import ndimage

from . import images
from .body import body_mask
from .protection import MonotoneMap
from .scan import Modality, Role, Scan


class Status(enum.StrEnum):
    """From best to worst."""

    PASS = "pass"
    REVIEW = "review"
    REFUSE = "refuse"


_ORDER = list(Status)
SOFT_TISSUE_HU = (-150.0, 250.0)


@dataclasses.dataclass(frozen=True)
class Check:
    """One question: its figure, the limits it was held against, and the answer in words.

    name, value, unit: what was measured, and in what.
    review, refuse: the figure's limits; None where there is none.
    """

    name: str
    value: float
    status: Status
    text: str
    unit: str = ""
    review: float | None = None
    refuse: float | None = None


@dataclasses.dataclass(frozen=True)
class Verdict:
    """All checks of one result; the verdict is the worst of them."""

    checks: tuple[Check, ...]

    @property
    def status(self) -> Status:
        return max((check.status for check in self.checks), key=_ORDER.index, default=Status.PASS)

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why the verdict is not a pass, worst first; empty for a pass."""
        failed = [check for check in self.checks if check.status is not Status.PASS]
        return tuple(check.text for check in sorted(failed, key=lambda c: -_ORDER.index(c.status)))

    def to_json(self) -> dict:
        """The verdict as JSON can hold it."""
        return {
            "status": self.status.value,
            "reasons": list(self.reasons),
            "checks": [dataclasses.asdict(check) for check in self.checks],
        }


@dataclasses.dataclass(frozen=True)
class Limits:
    """Where a figure stops being good enough: (review, refuse). Set on simulated faults (Testing/engine/test_guard.py).

    edge_agreement: cosine between image gradients before and after, weighted by edge strength; 1 is perfect.
    drift: change of a structure's mean beyond the map that the rest of the image follows, in standard deviations
        of the result inside the body.
    drift_hu: change of the mean in HU, for CT, beyond a tenth (three tenths) of the spread inside the structure:
        sharper edges move the mean of a thin bone, and rightly.
    drift_suv_fraction: the same as a share of the structure's SUV mean, for PET.
    texture: rank correlation of the fine detail of a protected structure before and after.
    edge_slice: change of an outermost slice against the median slice, as a multiple.
    shift: displacement of the whole image, in voxels.
    local: by modality, the strongest change between 3 and 12 mm in size that neither the image as a whole nor its
        shading explains, in standard deviations of the image's own detail of that size. A PET resolution is there to
        change just that.
    slices: change of a slice's mean against its two neighbours, in standard deviations inside the body.
    sharpness: fine detail left, as a share, where intensities have no unit (a CT kernel or PET resolution is there to
        change it); more than its inverse is as bad.
    out_of_range: share of voxels beyond the range of the scan (where the scale is kept).
    collapsed: share of grey levels that are left of those of the scan.
    """

    edge_agreement: tuple[float, float] = (0.90, 0.60)
    drift: tuple[float, float] = (0.35, 1.0)
    drift_hu: tuple[float, float] = (10.0, 40.0)
    drift_suv_fraction: tuple[float, float] = (0.15, 0.5)
    texture: tuple[float, float] = (0.95, 0.80)
    edge_slice: tuple[float, float] = (4.0, 12.0)
    shift: tuple[float, float] = (0.3, 1.0)
    local: Mapping[Modality, tuple[float, float]] = dataclasses.field(
        default_factory=lambda: {Modality.MR: (1.0, 4.0), Modality.CT: (0.25, 2.0), Modality.PET: (4.0, 12.0)}
    )
    slices: tuple[float, float] = (0.12, 0.35)
    sharpness: tuple[float, float] = (0.6, 0.25)
    out_of_range: tuple[float, float] = (0.001, 0.02)
    collapsed: tuple[float, float] = (0.10, 0.01)


def inspect(before: Scan, after: Scan, limits: Limits = Limits()) -> Verdict:
    """Hold a result against the scan it was made from.

    Both on the same grid, with the structures and roles of `before`; a result on another grid, or with values that
    are not finite, is refused at once. Deterministic; takes a few seconds on a 1 mm brain.
    """
    checks = [_grid(before.image, after.image)]
    if checks[0].status is Status.REFUSE:
        return Verdict(tuple(checks))
    a, b = before.array, after.array
    checks.append(_finite(b))
    if checks[-1].status is Status.REFUSE:
        return Verdict(tuple(checks))
    body = body_mask(before)
    # Air tells nothing: look at the box around the patient only.
    box = images.bounding_box(body | _union(before, body.shape), margin=4)
    before = _cropped(before, box)
    a, b, body = a[box], b[box], body[box]
    # Where units are kept, so should the values be; else they follow one intensity map for the whole image.
    kept = bool(after.units) and after.units == before.units
    expected = a if kept else MonotoneMap.implied_by(a[body], b[body])(a)
    checks.append(_levels(a, b, body, limits))
    if kept:
        checks.append(_range(a, b, body, limits))
        checks.append(_body_drift(before, a, b, body, limits))
    else:
        checks.append(_sharpness(expected, b, body, limits))
    checks.append(_shift(expected, b, body, limits))
    checks.append(_local(before, expected, b, body, limits))
    checks += _edges(before, a, b, body, limits)
    for structure in before.structures.values():
        mask = structure.array
        if mask.any():
            checks.append(_drift(before, structure.name, a, b, expected, body, mask, kept, limits))
            if Role.PROTECTED in structure.roles:
                checks.append(_texture(structure.name, a, b, mask, limits))
    checks.append(_slices(b - expected, float(b[body].std()), body, box[0].start, limits))
    checks.append(_edge_slices(b - expected, float(b[body].std()), body, box[0].start, limits))
    return Verdict(tuple(checks))


def _cropped(scan: Scan, box: tuple[slice, ...]) -> Scan:
    """The scan inside a box of slices (z, y, x)."""
    z, y, x = box
    structures = {
        name: dataclasses.replace(structure, mask=structure.mask[x, y, z])
        for name, structure in scan.structures.items()
    }
    return dataclasses.replace(scan, image=scan.image[x, y, z], structures=structures)


def _judge(
    name: str, value: float, limits: tuple[float, float], text: Mapping[Status, str] | str, unit: str = ""
) -> Check:
    """A check of a figure that is good when it is far from `refuse`, on whichever side that lies."""
    review, refuse = limits
    worse = (lambda v, limit: v > limit) if refuse > review else (lambda v, limit: v < limit)
    status = Status.REFUSE if worse(value, refuse) else Status.REVIEW if worse(value, review) else Status.PASS
    return Check(name, float(value), status, text if isinstance(text, str) else text[status], unit, review, refuse)


def _grid(before: sitk.Image, after: sitk.Image) -> Check:
    same = images.same_grid(before, after)
    text = "the result lies on the grid of the scan" if same else "the result lies on another grid than the scan"
    return Check("grid", float(same), Status.PASS if same else Status.REFUSE, text)


def _finite(b: np.ndarray) -> Check:
    bad = int(b.size - np.isfinite(b).sum())
    text = f"{bad} voxels of the result are not finite" if bad else "all values are finite"
    return Check("finite", float(bad), Status.REFUSE if bad else Status.PASS, text, "voxels")


def _levels(a: np.ndarray, b: np.ndarray, body: np.ndarray, limits: Limits) -> Check:
    """A result that lost its grey levels looks flat, whatever its range."""
    edges = [np.quantile(x[body], [0.005, 0.995]) for x in (a, b)]
    used = [
        np.count_nonzero(np.histogram(x[body], bins=256, range=(low, high if high > low else low + 1))[0])
        for x, (low, high) in zip((a, b), edges, strict=True)
    ]
    share = used[1] / max(used[0], 1)
    return _judge(
        "grey levels", share, limits.collapsed, f"{share:.0%} of the scan's grey levels are left in the result"
    )


def _range(a: np.ndarray, b: np.ndarray, body: np.ndarray, limits: Limits) -> Check:
    low, high = float(a.min()), float(a.max())
    margin = 0.05 * (high - low)
    share = float(np.mean((b[body] < low - margin) | (b[body] > high + margin)))
    return _judge("range", share, limits.out_of_range, f"{share:.2%} of the voxels lie beyond the range of the scan")


def _body_drift(before: Scan, a: np.ndarray, b: np.ndarray, body: np.ndarray, limits: Limits) -> Check:
    """The drift of soft tissue (CT) or of the whole body (PET), where no structure would show it."""
    if before.modality is not Modality.CT:
        return _drift(before, "the body", a, b, a, body, body, True, limits)
    calm = ndimage.gaussian_filter(a, 1.5)  # noise must not decide what counts as tissue
    tissue = ndimage.binary_erosion(body & (calm > SOFT_TISSUE_HU[0]) & (calm < SOFT_TISSUE_HU[1]), iterations=2)
    change = float(np.median((b - a)[tissue if tissue.any() else body]))
    text = f"soft tissue as a whole changed by {change:+.1f} HU"
    return _signed("drift of soft tissue", change, _judge("", abs(change), limits.drift_hu, text, "HU"))


def _sharpness(expected: np.ndarray, b: np.ndarray, body: np.ndarray, limits: Limits) -> Check:
    """Detail finer than about two voxels, against what a mere intensity map would have left."""
    fine = [float((x - ndimage.gaussian_filter(x, 1.0))[body].std()) for x in (expected, b)]
    ratio = fine[1] / fine[0] if fine[0] > 0 else 1.0
    text = f"{ratio:.0%} of the fine detail is left" if ratio <= 1 else f"fine detail or noise grew to {ratio:.0%}"
    check = _judge("sharpness", min(ratio, 1 / max(ratio, 1e-6)), limits.sharpness, text)
    return dataclasses.replace(check, value=ratio)


def _shift(expected: np.ndarray, b: np.ndarray, body: np.ndarray, limits: Limits) -> Check:
    """The displacement that explains the change best: least squares on the gradient (Lucas and Kanade, IJCAI 1981)."""
    smooth = [ndimage.gaussian_filter(x, 1.0) for x in (expected, b)]
    slope = np.stack([g[body] for g in np.gradient(smooth[0])]).astype(float)
    normal = slope @ slope.T
    if np.linalg.matrix_rank(normal) < 3:
        return Check("shift", 0.0, Status.PASS, "too flat to see a shift", "voxels")
    moved = np.linalg.solve(normal, slope @ (smooth[0] - smooth[1])[body].astype(float))
    size = float(np.linalg.norm(moved))
    return _judge("shift", size, limits.shift, f"the image as a whole moved by {size:.2f} voxels", "voxels")


def _local(before: Scan, expected: np.ndarray, b: np.ndarray, body: np.ndarray, limits: Limits) -> Check:
    """What appeared or vanished somewhere, contoured or not."""

    def detail(array):
        sigmas = ([mm / s for s in before.spacing_mm[::-1]] for mm in (3.0, 12.0))
        fine, coarse = (ndimage.gaussian_filter(array, sigma) for sigma in sigmas)
        return fine - coarse

    change = np.abs(detail(b - expected))
    # At the edge of the body air is mixed in.
    inner = ndimage.binary_erosion(body, iterations=3)
    inside = inner if inner.any() else body
    usual = float(np.sqrt(np.mean(detail(expected)[inside] ** 2))) or 1.0
    z, y, x = np.unravel_index(int(np.argmax(np.where(inside, change, -1))), change.shape)
    point = before.image.TransformIndexToPhysicalPoint((int(x), int(y), int(z)))
    where = ", ".join(f"{abs(v):.0f} {'LPS'[i] if v >= 0 else 'RAI'[i]}" for i, v in enumerate(point))
    ratio = float(change[z, y, x]) / usual
    text = f"the strongest local change is {ratio:.2f} times the image's usual detail of that size, at {where} mm"
    return _judge("local change", ratio, limits.local[before.modality], text)


def _slices(change: np.ndarray, spread: float, body: np.ndarray, first: int, limits: Limits) -> Check:
    """A slice that was lost, or that differs from its neighbours in brightness."""
    covered = body.reshape(len(body), -1).sum(1)
    slices = np.flatnonzero(covered >= 0.1 * covered.max())
    if len(slices) < 5:
        return Check("slices", 0.0, Status.PASS, "too few slices to compare each with its neighbours")
    mean = np.array([change[z][body[z]].mean() for z in slices])
    jump = np.abs(mean[1:-1] - (mean[:-2] + mean[2:]) / 2) / (spread or 1.0)
    worst = int(np.argmax(jump))
    text = (
        f"slice {first + int(slices[1 + worst])} differs from its neighbours by {jump[worst]:.2f} standard deviations"
    )
    return _judge("slices", float(jump[worst]), limits.slices, text, "SD")


def _edges(before: Scan, a: np.ndarray, b: np.ndarray, body: np.ndarray, limits: Limits) -> list[Check]:
    """Whether edges are where they were and point the same way.

    Gradients at a scale of 1.5 mm or one voxel, whichever is coarser; each voxel counts by the larger of its two edge
    strengths, so that an edge that only one image has is not averaged away.
    """
    first, second = (_gradient(x, before.spacing_mm) for x in (a, b))
    strength = [np.sqrt(np.einsum("i...,i...", g, g)) for g in (first, second)]
    cosine = np.einsum("i...,i...", first, second) / np.maximum(strength[0] * strength[1], 1e-12)
    regions = {"outside structures": body & ~_union(before, body.shape)}
    regions.update({f"in '{name}'": s.array for name, s in before.structures.items()})
    checks = []
    for where, mask in regions.items():
        if np.count_nonzero(mask) < 20:
            continue
        one, two = strength[0][mask], strength[1][mask]
        weight = np.maximum(one / max(one.mean(), 1e-12), two / max(two.mean(), 1e-12))
        # Only real edges: the stronger half, where noise does not decide the direction.
        strong = weight >= np.median(weight)
        agreement = float(np.average(cosine[mask][strong], weights=weight[strong]))
        text = {
            Status.PASS: f"edges {where} are where they were (agreement {agreement:.2f})",
            Status.REVIEW: f"edges {where} changed somewhat (agreement {agreement:.2f}); compare the images there",
            Status.REFUSE: f"edges {where} are not where they were (agreement {agreement:.2f})",
        }
        checks.append(_judge(f"edges {where}", agreement, limits.edge_agreement, text))
    return checks


def _gradient(array: np.ndarray, spacing_mm: tuple[float, float, float]) -> np.ndarray:
    """Intensity per mm along z, y and x (3, z, y, x), at a scale of 1.5 mm or one voxel, whichever is coarser."""
    smooth = ndimage.gaussian_filter(array, [max(1.5 / s, 1.0) for s in spacing_mm[::-1]], truncate=3.0)
    return np.stack(np.gradient(smooth, *spacing_mm[::-1])).astype(np.float32)


def _union(scan: Scan, shape: tuple[int, ...]) -> np.ndarray:
    union = np.zeros(shape, bool)
    for structure in scan.structures.values():  # one by one: a stack of all masks can be gigabytes
        union |= structure.array
    return union


def _drift(
    before: Scan,
    name: str,
    a: np.ndarray,
    b: np.ndarray,
    expected: np.ndarray,
    body: np.ndarray,
    mask: np.ndarray,
    keeps_units: bool,
    limits: Limits,
) -> Check:
    """How far a structure's mean moved: absolutely where units are kept, else beyond what the image as a whole did."""
    if keeps_units and before.modality is Modality.CT:
        change = float(b[mask].mean() - a[mask].mean())
        text = f"mean of '{name}' changed by {change:+.1f} HU"
        spread = float(a[mask].std())
        allowed = (limits.drift_hu[0] + 0.1 * spread, limits.drift_hu[1] + 0.3 * spread)
        return _signed(f"drift of '{name}'", change, _judge(name, abs(change), allowed, text, "HU"))
    if keeps_units and before.modality is Modality.PET:
        share = float(b[mask].mean() / a[mask].mean() - 1) if a[mask].mean() else 0.0
        text = f"mean of '{name}' changed by {share:+.1%}"
        return _signed(f"drift of '{name}'", share, _judge(name, abs(share), limits.drift_suv_fraction, text))
    spread = float(b[body].std()) or 1.0
    change = float((b[mask] - expected[mask]).mean()) / spread
    text = f"mean of '{name}' moved by {change:+.2f} standard deviations against the rest of the image"
    return _signed(f"drift of '{name}'", change, _judge(name, abs(change), limits.drift, text, "SD"))


def _signed(name: str, value: float, check: Check) -> Check:
    return dataclasses.replace(check, name=name, value=value)


def _texture(name: str, a: np.ndarray, b: np.ndarray, mask: np.ndarray, limits: Limits) -> Check:
    """Rank correlation of fine detail with what the structure's own intensity map would give, whatever its shape."""
    box = images.bounding_box(mask, 4)
    inside = mask[box]
    mapped = MonotoneMap.implied_by(a[box][inside], b[box][inside])(a[box])
    detail = [(x - ndimage.gaussian_filter(x, 2.0))[inside] for x in (mapped, b[box])]
    spread = [float(x[box][inside].std()) for x in (a, b)]
    if len(detail[0]) < 8 or spread[0] == 0:
        agreement = 1.0
    elif spread[1] == 0 or any(d.std() == 0 for d in detail):
        agreement = 0.0  # all that was in it is gone
    else:
        ranks = [np.argsort(np.argsort(d)).astype(float) for d in detail]
        agreement = float(np.corrcoef(*ranks)[0, 1])
    text = f"fine detail of the protected structure '{name}' agrees by {agreement:.2f}; compare the images there"
    return _judge(f"texture of '{name}'", agreement, limits.texture, text)


def _edge_slices(change: np.ndarray, spread: float, body: np.ndarray, first: int, limits: Limits) -> Check:
    """The outermost slices against the median slice; Haberl et al. 2024 saw artefacts there in 5.6 % of scans."""
    covered = body.reshape(len(body), -1).sum(1)
    slices = np.flatnonzero(covered >= 0.1 * covered.max())
    if len(slices) < 5:
        return Check("edge slices", 1.0, Status.PASS, "too few slices to compare the outermost with")
    size = np.array([np.abs(change[z][body[z]]).mean() for z in slices])
    margin = max(1, min(3, len(slices) // 8))
    outermost = [*range(margin), *range(len(slices) - margin, len(slices))]
    middle = float(np.median(size[margin:-margin]))
    # Below a fiftieth of the image's own spread nothing is visible, whatever the ratio.
    floor = 0.02 * spread + 1e-12
    worst = max(((slices[i], size[i]) for i in outermost), key=lambda pair: pair[1])
    ratio = float(worst[1] / max(middle, floor))
    text = (
        f"slice {first + int(worst[0])} at the edge of the field changed {ratio:.1f} times as much as the median slice"
    )
    return _judge("edge slices", ratio, limits.edge_slice, text)
