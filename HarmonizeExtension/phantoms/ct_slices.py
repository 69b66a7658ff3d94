"""Simulated people and phantoms in HU, a stack of fine axial slices each: what a simulated CT scanner looks at.

Chest, abdomen, a skull in air and a plastic phantom, drawn at random from ellipsoids, tubes and smooth random fields:
sharp borders, texture down to a millimetre, and the HU of the tissues at 120 kV. They are made to hold every kind of
edge and texture that a kernel changes, not to be anyone.

HU of tissues: Schneider et al., Phys Med Biol 45:459, 2000; of lung: Hoffman et al., J Thorac Imaging 1990.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy import ndimage

from ..errors import InputError
from .fields import SplineField

AIR, WATER, FAT, MUSCLE, CORTICAL = -1000.0, 0.0, -100.0, 55.0, 1100.0
TEXTURE_KNOTS_MM = (1.2, 2.5, 6.0)
PIXEL_MM = 0.5
FIELD_MM = 300.0


class Canvas:
    """Slices that structures are painted on, one over the other.

    hu: (z, y, x), float32. axes_mm: of z, y and x, the middle of each at 0.
    """

    def __init__(self, slices: int, slice_mm: float, rng: np.random.Generator, pixel_mm: float = PIXEL_MM):
        size = round(FIELD_MM / pixel_mm)
        self.rng, self.pixel_mm = rng, pixel_mm
        self.axes_mm = tuple(((np.arange(n) - (n - 1) / 2) * s).astype(np.float32) for n, s in (
            (slices, slice_mm), (size, pixel_mm), (size, pixel_mm)
        ))  # fmt: skip
        self.hu = np.full((slices, size, size), AIR, np.float32)
        self.box = tuple((float(axis[0]) - 1, float(axis[-1]) + 1) for axis in self.axes_mm)
        # Borders bend by `bend`, textures are mixed from `grain`; both are the same for all structures.
        self.bend = [self.field(25.0, 3.0) + self.field(8.0, 0.5) for _ in range(2)]
        self.grain = [self.field(knot, 1.0) for knot in TEXTURE_KNOTS_MM]

    def field(self, knot_mm: float, sd: float) -> np.ndarray:
        """A smooth random field (z, y, x) of mean 0."""
        return SplineField.draw(self.box, knot_mm, sd, self.rng).on(self.axes_mm)

    def texture(self, part, sd: float) -> np.ndarray:
        """A texture of standard deviation `sd`, HU, in a part of the slices; each call mixes scales anew."""
        mix = self.rng.dirichlet(np.ones(len(self.grain))) ** 0.5
        return sum(float(sd * m * self.rng.choice([-1, 1])) * g[part] for m, g in zip(mix, self.grain, strict=True))

    def ellipse(self, centre, axes, turn: float = 0.0, bent: float = 1.0, tall: float = np.inf):
        """The part of the slices around an ellipse, and its cover there, 0 to 1 over a pixel at the border.

        centre: (y, x) or (z, y, x) in mm. axes: half lengths (y, x), mm. tall: half length along z, endless if inf.
        """
        z, y, x = self._around(centre, max(axes) + 12, tall)
        part = (z, y, x)
        cz, cy, cx = (0.0, *centre) if len(centre) == 2 else centre
        dy = self.axes_mm[1][y][None, :, None] - cy + bent * self.bend[0][part]
        dx = self.axes_mm[2][x][None, None, :] - cx + bent * self.bend[1][part]
        dz = (self.axes_mm[0][z][:, None, None] - cz) / np.float32(tall)
        c, s = np.float32(np.cos(turn)), np.float32(np.sin(turn))
        radius = np.sqrt(((c * dy + s * dx) / axes[0]) ** 2 + ((c * dx - s * dy) / axes[1]) ** 2 + dz**2)
        depth = (1 - radius) * min(axes) / self.pixel_mm
        return part, np.clip(depth + 0.5, 0, 1)

    def paint(self, shape, hu, sd: float = 0.0, within: np.ndarray | None = None) -> np.ndarray:
        """Paint a shape (part, cover) in HU with texture; returns its cover of all slices. within: cover of what
        holds it."""
        part, cover = shape
        if within is not None:
            cover = cover * within[part]
        value = hu + (self.texture(part, sd) if sd else 0.0)
        self.hu[part] += cover * (value - self.hu[part])
        full = np.zeros(self.hu.shape, np.float32)
        full[part] = cover
        return full

    def tube(self, start, end, radii, hu: float, within: np.ndarray, wall: tuple[float, float] | None = None) -> None:
        """A straight vessel from `start` to `end` (z, y, x) in mm; wall: of an airway, thickness in mm and HU."""
        start, end = np.asarray(start, np.float32), np.asarray(end, np.float32)
        reach = max(radii) + 2 + (wall[0] if wall else 0)
        part = tuple(
            slice(*np.searchsorted(axis, (min(a, b) - reach, max(a, b) + reach)))
            for axis, a, b in zip(self.axes_mm, start, end, strict=True)
        )
        grid = [axis[p] for axis, p in zip(self.axes_mm, part, strict=True)]
        if not all(len(g) for g in grid):
            return
        d = [g.reshape([-1 if i == k else 1 for i in range(3)]) - start[k] for k, g in enumerate(grid)]
        along = end - start
        t = np.clip(sum(d[k] * along[k] for k in range(3)) / max(float(along @ along), 1e-6), 0, 1)
        distance = np.sqrt(sum((d[k] - t * along[k]) ** 2 for k in range(3)))
        radius = radii[0] + (radii[1] - radii[0]) * t
        if wall:
            cover = np.clip((radius + wall[0] - distance) / self.pixel_mm + 0.5, 0, 1) * within[part]
            self.hu[part] += cover * (wall[1] - self.hu[part])
        # Thinner than a pixel it fills only part of it.
        cover = np.clip((radius - distance) / self.pixel_mm + 0.5, 0, np.minimum(2 * radius / self.pixel_mm, 1))
        self.hu[part] += cover * within[part] * (hu - self.hu[part])

    def _around(self, centre, reach: float, tall: float):
        cz, cy, cx = (0.0, *centre) if len(centre) == 2 else centre
        reach_z = np.inf if not np.isfinite(tall) else tall
        return tuple(
            slice(*np.searchsorted(axis, (c - r, c + r)))
            for axis, c, r in zip(self.axes_mm, (cz, cy, cx), (reach_z, reach, reach), strict=True)
        )


def draw_slices(kind: str, slices: int, slice_mm: float, rng: np.random.Generator) -> np.ndarray:
    """A stack of slices (z, y, x) in HU, float32: PIXEL_MM wide pixels in a square of FIELD_MM, air around.

    kind: a name of KINDS. Raises InputError for another.
    """
    if kind not in KINDS:
        raise InputError(f"there is no kind of slice '{kind}'; there are: {', '.join(KINDS)}")
    canvas = Canvas(slices, slice_mm, rng)
    KINDS[kind](canvas)
    return canvas.hu


def _trunk(canvas: Canvas) -> tuple[np.ndarray, tuple[float, float]]:
    """Skin, fat and muscle; returns the cover of what lies inside and its half axes (y, x)."""
    rng = canvas.rng
    y, x = rng.uniform(82, 105), rng.uniform(112, 138)
    fat = rng.uniform(4, 16)
    canvas.paint(canvas.ellipse((0, 0), (y, x)), rng.uniform(20, 60))
    canvas.paint(canvas.ellipse((0, 0), (y - 1.5, x - 1.5)), rng.uniform(-115, -85), 12)
    muscle = canvas.paint(canvas.ellipse((0, 0), (y - fat, x - fat)), rng.uniform(40, 65), 14)
    for _ in range(rng.integers(6, 14)):  # fat between muscles
        angle = rng.uniform(0, 2 * np.pi)
        at = ((y - fat - 6) * np.sin(angle), (x - fat - 6) * np.cos(angle))
        canvas.paint(canvas.ellipse(at, (rng.uniform(0.6, 2), rng.uniform(4, 14)), angle), FAT, 10, muscle)
    thick = rng.uniform(10, 16)
    inner = (y - fat - thick, x - fat - thick)
    return muscle, inner


def _bone(canvas: Canvas, centre, axes, turn: float, shell_mm: float, bent: float = 1.0) -> None:
    """A bone: a shell of cortical bone, spongy bone inside."""
    rng = canvas.rng
    canvas.paint(canvas.ellipse(centre, axes, turn, bent), rng.uniform(700, 1400), 60)
    inside = [a - shell_mm for a in axes]
    if min(inside) > 1:
        canvas.paint(canvas.ellipse(centre, inside, turn, bent), rng.uniform(150, 600), rng.uniform(40, 130))


def _spine(canvas: Canvas, back: float) -> None:
    rng = canvas.rng
    size = rng.uniform(14, 20)
    y = back - size - rng.uniform(14, 20)
    _bone(canvas, (y, 0), (size * 0.8, size), 0, rng.uniform(1, 2.2))
    for side in (-1, 1):
        _bone(canvas, (y + size, side * size * 0.9), (4, rng.uniform(9, 15)), -side * 0.5, 1.3)
    _bone(canvas, (y + size + 14, 0), (9, 3), 0, 1.2)
    canvas.paint(canvas.ellipse((y + size + 2, 0), (7.5, 8.5)), rng.uniform(10, 40), 8)


def _ribs(canvas: Canvas, axes) -> None:
    rng = canvas.rng
    for angle in np.arange(0, 2 * np.pi, rng.uniform(0.45, 0.8)) + rng.uniform(0, 1):
        at = ((axes[0] + 5) * np.sin(angle), (axes[1] + 5) * np.cos(angle))
        along = np.arctan2(axes[1] * np.cos(angle), -axes[0] * np.sin(angle))
        _bone(canvas, at, (rng.uniform(3.5, 5.5), rng.uniform(5, 16)), -along + rng.uniform(-0.2, 0.2), 1.1)


def _vessels(canvas: Canvas, within: np.ndarray, count: int, hu: tuple[float, float], widest: float, airways=0) -> None:
    """Straight pieces of vessels, thin ones most often, each with branches; airways have a wall and hold air."""
    rng = canvas.rng
    inside = np.argwhere(within[:, ::8, ::8] > 0.5)
    if not len(inside):
        return
    for i in range(count + airways):
        at = inside[rng.integers(len(inside))] * (1, 8, 8)
        start = np.array([axis[j] for axis, j in zip(canvas.axes_mm, at, strict=True)])
        radius = 0.35 + widest * rng.beta(0.7, 3)
        for _ in range(rng.integers(1, 4)):
            direction = rng.standard_normal(3)
            end = start + direction / np.linalg.norm(direction) * rng.uniform(8, 40)
            end_radius = radius * rng.uniform(0.5, 0.95)
            if i < count:
                canvas.tube(start, end, (radius, end_radius), rng.uniform(*hu), within)
            else:
                wall = (0.5 + 0.25 * radius, rng.uniform(-100, 60))
                canvas.tube(start, end, (radius, end_radius), -990.0, within, wall)
            start, radius = end, end_radius


def _lesions(canvas: Canvas, within: np.ndarray, count: int, hu: Callable[[], float], radii, spiky: bool) -> None:
    rng = canvas.rng
    inside = np.argwhere(within[:, ::8, ::8] > 0.5)
    for _ in range(count if len(inside) else 0):
        at = inside[rng.integers(len(inside))] * (1, 8, 8)
        centre = np.array([axis[j] for axis, j in zip(canvas.axes_mm, at, strict=True)])
        radius = rng.uniform(*radii)
        axes = radius * rng.uniform(0.7, 1.3, 2)
        value = hu()
        canvas.paint(canvas.ellipse(centre, axes, rng.uniform(0, np.pi), 2, radius), value, rng.uniform(8, 45), within)
        for _ in range(rng.integers(4, 14) if spiky else 0):
            away = rng.standard_normal(3)
            away /= np.linalg.norm(away)
            canvas.tube(centre, centre + away * radius * rng.uniform(1.2, 1.9), (1.5, 0.3), value, within)


def _chest(canvas: Canvas) -> None:
    rng = canvas.rng
    muscle, (y, x) = _trunk(canvas)
    _ribs(canvas, (y, x))
    inside = canvas.paint(canvas.ellipse((0, 0), (y, x)), rng.uniform(-110, -80), 12, muscle)  # mediastinal fat
    contrast = rng.uniform(30, 60) if rng.random() < 0.4 else rng.uniform(120, 320)
    for side in (-1, 1):
        at, axes = (rng.uniform(-6, 6), side * x * rng.uniform(0.48, 0.54)), (y * rng.uniform(0.8, 0.95), x * 0.45)
        lung = canvas.paint(canvas.ellipse(at, axes, side * 0.1), rng.uniform(-900, -760), rng.uniform(15, 60), inside)
        _lesions(canvas, lung, rng.integers(0, 4), lambda: rng.uniform(-970, -920), (3, 12), False)  # emphysema
        _lesions(canvas, lung, rng.integers(0, 4), lambda: rng.uniform(-750, -350), (5, 22), False)  # ground glass
        _vessels(canvas, lung, int(rng.integers(50, 110)), (0, contrast), 4.0, int(rng.integers(4, 14)))
        _lesions(canvas, lung, rng.integers(0, 4), lambda: rng.uniform(-50, 90), (2, 15), True)  # nodules
    heart = (rng.uniform(-30, 10), rng.uniform(-15, 20))
    canvas.paint(canvas.ellipse(heart, (rng.uniform(25, 42), rng.uniform(28, 45)), rng.uniform(-1, 1)), 45, 10, inside)
    for _ in range(3):
        at = (heart[0] + rng.uniform(-15, 15), heart[1] + rng.uniform(-15, 15))
        canvas.paint(canvas.ellipse(at, rng.uniform(6, 17, 2)), contrast, 10, inside)
    _spine(canvas, y + 8)
    back = y - 50
    canvas.paint(canvas.ellipse((back, -20), (11, 11)), contrast, 8, inside)  # aorta
    canvas.paint(canvas.ellipse((back - 25, 0), (10, 9)), 40, 5, inside)  # trachea's wall, then its air
    canvas.paint(canvas.ellipse((back - 25, 0), (8, 7)), AIR, 0, inside)


def _abdomen(canvas: Canvas) -> None:
    rng = canvas.rng
    muscle, (y, x) = _trunk(canvas)
    _ribs(canvas, (y, x))
    inside = canvas.paint(canvas.ellipse((0, 0), (y, x)), rng.uniform(-115, -85), rng.uniform(8, 20), muscle)
    enhanced = rng.uniform(0, 1)
    vessel = 45 + 180 * enhanced
    liver_at = (rng.uniform(-25, 0), -x * rng.uniform(0.4, 0.5))
    liver_hu = rng.uniform(20, 65) + 50 * enhanced
    axes = (y * rng.uniform(0.7, 0.85), x * rng.uniform(0.42, 0.52))
    liver = canvas.paint(canvas.ellipse(liver_at, axes, rng.uniform(-0.4, 0.4), 2), liver_hu, 10, inside)
    _vessels(canvas, liver, int(rng.integers(10, 35)), (vessel - 30, vessel), 5.0)
    _lesions(canvas, liver, rng.integers(0, 6), lambda: liver_hu + rng.uniform(-60, 60), (2, 16), False)
    spleen_at, axes = (rng.uniform(-5, 20), x * 0.72), (rng.uniform(20, 40), rng.uniform(13, 22))
    canvas.paint(canvas.ellipse(spleen_at, axes, 0.5), 45 + 80 * enhanced, 9, inside)
    for side in (-1, 1):
        at, turn = (rng.uniform(15, 32), side * rng.uniform(38, 50)), side * 0.6
        kidney = canvas.paint(canvas.ellipse(at, (25, 17), turn), 35 + 160 * enhanced, 10, inside)
        canvas.paint(canvas.ellipse((at[0], at[1] - 5 * side), (12, 7), turn), 35 + 80 * enhanced, 8, kidney)
        canvas.paint(canvas.ellipse((at[0], at[1] - 10 * side), (9, 5), turn), FAT, 5, kidney)
        if rng.random() < 0.3:  # stones, and contrast in the pelvis
            canvas.paint(
                canvas.ellipse((at[0], at[1] - 8 * side), rng.uniform(1, 5, 2)), rng.uniform(300, 1100), 30, kidney
            )
    for _ in range(rng.integers(6, 14)):  # bowel: wall, content, gas, sometimes oral contrast
        at = (rng.uniform(-y * 0.75, 15), rng.uniform(-20, x * 0.7))
        radius = rng.uniform(7, 17, 2)
        canvas.paint(canvas.ellipse(at, radius, 0, 3), 40 + 60 * enhanced, 8, inside)
        content = rng.choice([-1000, rng.uniform(-400, 0), rng.uniform(0, 40), rng.uniform(200, 600)])
        canvas.paint(canvas.ellipse(at, radius - 2, 0, 3), content, 5 if content < -900 else 40, inside)
    _vessels(canvas, inside, int(rng.integers(20, 60)), (vessel - 60, vessel), 3.5)
    _spine(canvas, y + 8)
    back = y - 48
    canvas.paint(canvas.ellipse((back, -8), (10, 10)), vessel, 7, inside)
    canvas.paint(canvas.ellipse((back, 16), (9, 12)), vessel - 20, 7, inside)
    if rng.random() < 0.4:
        _bone(canvas, (back - 7, -15), (1.2, rng.uniform(2, 6)), 0.7, 5)  # calcified plaque


def _head(canvas: Canvas) -> None:
    """A skull, filled with brain, or in air with plastic blocks in it as in dry skull phantoms; headrest below."""
    rng = canvas.rng
    y, x = rng.uniform(78, 95), rng.uniform(62, 75)
    dry = rng.random() < 0.6
    canvas.paint(canvas.ellipse((18, 0), (y + 28, x + 35), 0, 0), rng.uniform(-900, 50) if dry else 100, 5)
    canvas.paint(canvas.ellipse((16, 0), (y + 25, x + 32), 0, 0), AIR)
    if not dry:
        canvas.paint(canvas.ellipse((0, 0), (y + 5, x + 5)), 30, 25)
    canvas.paint(canvas.ellipse((0, 0), (y, x)), rng.uniform(800, 1300), 80)
    shell = rng.uniform(4, 8)
    spongy = canvas.paint(canvas.ellipse((0, 0), (y - 1.6, x - 1.6)), rng.uniform(400, 900), 120)
    canvas.paint(canvas.ellipse((0, 0), (y - shell + 1.4, x - shell + 1.4)), rng.uniform(800, 1300), 80, spongy)
    brain = (AIR, 0.0) if dry else (rng.uniform(25, 40), 6.0)
    inner = canvas.paint(canvas.ellipse((0, 0), (y - shell, x - shell)), *brain)
    for side in (-1, 1):  # the base: petrous bones, with cells of air
        _bone(canvas, (15, side * x * 0.55), (rng.uniform(5, 11), rng.uniform(18, 30)), -side * 0.6, 2)
        _bone(canvas, (-y * 0.4, side * x * 0.4), (rng.uniform(1, 5), rng.uniform(10, 25)), side * 0.5, 1.5)
        for _ in range(10):
            at = (20 + rng.normal(0, 8), side * (x * 0.75 + rng.normal(0, 6)))
            canvas.paint(canvas.ellipse(at, rng.uniform(0.8, 3, 2)), -950)
    _bone(canvas, (-y * 0.7, 0), (rng.uniform(8, 20), rng.uniform(2, 6)), 0, 1)
    for _ in range(rng.integers(1, 4)):
        _plastic(canvas, (rng.uniform(-35, 45), rng.uniform(-30, 30)), rng.uniform(14, 32, 2), inner)


def _plastic(canvas: Canvas, centre, axes, within: np.ndarray | None = None) -> None:
    """A plastic block or cylinder with rods of other materials, holes and, at times, a coarse filling."""
    rng = canvas.rng
    hu = rng.choice([rng.uniform(-150, 150), rng.uniform(80, 130), rng.uniform(200, 900)])
    if rng.random() < 0.5:
        block = canvas.paint(canvas.ellipse(centre, axes, 0, 0), hu, rng.choice([0, 5, 40]), within)
    else:
        block = canvas.paint(
            _rectangle(canvas, centre, axes, rng.uniform(-0.3, 0.3)), hu, rng.choice([0, 5, 40]), within
        )
    for _ in range(rng.integers(3, 12)):
        at = [c + rng.uniform(-0.8, 0.8) * a for c, a in zip(centre, axes, strict=True)]
        value = rng.choice([AIR, hu + rng.uniform(-60, 60), rng.uniform(-900, 1300)])
        canvas.paint(canvas.ellipse(at, [rng.uniform(1, 7)] * 2, 0, 0), value, rng.choice([0, 0, 30, 80]), block)


def _rectangle(canvas: Canvas, centre, axes, turn: float):
    dy = canvas.axes_mm[1][None, :, None] - np.float32(centre[0])
    dx = canvas.axes_mm[2][None, None, :] - np.float32(centre[1])
    c, s = np.float32(np.cos(turn)), np.float32(np.sin(turn))
    depth = np.minimum(axes[0] - np.abs(c * dy + s * dx), axes[1] - np.abs(c * dx - s * dy)) / canvas.pixel_mm
    cover = np.clip(depth + 0.5, 0, 1).astype(np.float32)
    return (slice(None),) * 3, np.broadcast_to(cover, canvas.hu.shape)


def _phantom(canvas: Canvas) -> None:
    """A cylinder of plastic with inserts from air to bone, textured ones (cork, resin), and bars ever closer."""
    rng = canvas.rng
    radius = rng.uniform(80, 135)
    body = canvas.paint(canvas.ellipse((0, 0), (radius, radius), 0, 0), rng.uniform(-120, 150), rng.choice([0, 3, 10]))
    count = int(rng.integers(8, 16))
    for i in range(count):
        angle, far = 2 * np.pi * i / count, radius * rng.uniform(0.3, 0.8)
        at, size = (far * np.sin(angle), far * np.cos(angle)), rng.uniform(5, 16)
        coarse = rng.random() < 0.5
        hu = rng.choice([rng.uniform(-950, -300), rng.uniform(-120, 150), rng.uniform(200, 1200)])
        canvas.paint(canvas.ellipse(at, (size, size), 0, 0), hu, rng.uniform(20, 130) if coarse else 0, body)
    for _ in range(rng.integers(0, 4)):
        turn, at = rng.uniform(0, np.pi), rng.uniform(-radius * 0.4, radius * 0.4, 2)
        width = rng.uniform(0.5, 2.5)
        for k in range(5):
            place = at + 2 * width * k * np.array([np.cos(turn), np.sin(turn)])
            canvas.paint(_rectangle(canvas, place, (width / 2, 8), turn), rng.uniform(300, 1200), 0, body)
    for _ in range(rng.integers(0, 3)):
        _plastic(canvas, rng.uniform(-radius * 0.5, radius * 0.5, 2), rng.uniform(10, 25, 2), body)


KINDS: dict[str, Callable[[Canvas], None]] = {"chest": _chest, "abdomen": _abdomen, "head": _head, "phantom": _phantom}


def from_scan(array: np.ndarray, slices: int, rng: np.random.Generator) -> np.ndarray:
    """Neighbouring slices of a real CT (z, y, x) in HU as an object like those of `draw_slices`, float32.

    A real image is blurred by its own kernel. It is drawn smaller, each of its pixels about a pixel and a half of the
    object, so that its finest detail is fine enough for a sharp kernel to show; it is a miniature, for training only.
    """
    scale = rng.uniform(1.2, 1.8)
    size = round(FIELD_MM / PIXEL_MM)
    wanted = int(size / scale) + 2
    start = int(rng.integers(max(1, len(array) - slices + 1)))
    chosen = np.clip(array[np.clip(np.arange(start, start + slices), 0, len(array) - 1)], -1024, 3071)
    cut = [slice(max(0, (n - wanted) // 2), max(0, (n - wanted) // 2) + wanted) for n in array.shape[1:]]
    chosen = chosen[(slice(None), *cut)].astype(np.float32)
    if rng.random() < 0.5:
        chosen = chosen[:, :, ::-1]
    large = ndimage.zoom(chosen, (1, scale, scale), order=1)[:, :size, :size]
    result = np.full((slices, size, size), AIR, np.float32)
    at = [(size - n) // 2 for n in large.shape[1:]]
    result[:, at[0] : at[0] + large.shape[1], at[1] : at[1] + large.shape[2]] = large
    return result
