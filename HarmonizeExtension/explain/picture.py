"""A map as a picture: axial slices in grey, the map over them in colour, a legend, and what it is worth in words."""

from __future__ import annotations

import textwrap

import numpy as np
import SimpleITK as sitk

from .. import comparison, images, pictures
from ..scan import Modality, Scan
from .explanation import Explanation

HEIGHT = 380  # of a slice, in pixels
SHOWN = 3  # slices
AROUND_MM = 30.0  # a structure is shown with
FAINTEST = 0.08  # of full colour, below which nothing is drawn
# From faint to strong: for one sign a scale that rises in lightness, for two the colours of `pictures.diverging_rgb`.
RISING = ((0.0, (90, 0, 110)), (0.4, (210, 50, 60)), (0.7, (250, 150, 20)), (1.0, (255, 245, 120)))
AGAINST = ((0.0, (120, 190, 255)), (1.0, (20, 60, 230)))
FOR = ((0.0, (255, 190, 120)), (1.0, (230, 20, 20)))


def colours(share: np.ndarray, signed: bool) -> np.ndarray:
    """The colour (..., 3), 0 to 255, of values from 0 (or -1) to 1."""

    def ramp(points, at):
        places, values = zip(*points, strict=True)
        return np.stack([np.interp(at, places, channel) for channel in zip(*values, strict=True)], axis=-1)

    if not signed:
        return ramp(RISING, share)
    return np.where(share[..., None] >= 0, ramp(FOR, np.abs(share)), ramp(AGAINST, np.abs(share)))


def opacity(share: np.ndarray) -> np.ndarray:
    """How much a value hides of the scan: nothing at 0, most at full colour."""
    size = np.abs(share)
    return np.where(size < FAINTEST, 0.0, 0.2 + 0.5 * size)


def picture(found: Explanation, scan: Scan) -> bytes:
    """PNG: slices that show most of the map, upright, with the legend and the verdict."""
    from PIL import Image, ImageDraw, ImageFont

    scan = pictures.upright(scan)
    values = sitk.GetArrayFromImage(sitk.DICOMOrient(found.image, "LPS"))
    limit = (found.structure and float(np.abs(values).max())) or 1.0
    low, high = comparison.window(scan)
    array = scan.array
    box = tuple(slice(0, n) for n in array.shape)
    masks = {}
    if found.structure:
        inside = scan.structures[found.structure].array
        margin = int(AROUND_MM / min(scan.spacing_mm[:2]))
        box = (box[0], *images.bounding_box(inside, margin)[1:])
        masks[found.structure] = inside
    tiles = []
    for z in _slices(values):
        at = (z, *box[1:])
        grey = pictures.grey_rgb(array[at], low, high)
        if scan.modality is Modality.PET:
            grey = 255 - grey
        share = np.clip(values[at] / limit, -1, 1)
        base = pictures.enlarge(grey, scan.spacing_mm, HEIGHT).astype(float)
        fine = np.asarray(
            Image.fromarray(share.astype(np.float32)).resize(base.shape[1::-1], Image.Resampling.BILINEAR)
        )
        cover = opacity(fine)[..., None]
        blended = (base * (1 - cover) + colours(fine, found.signed) * cover).astype(np.uint8)
        drawn = pictures.outline(blended, [(mask[at], (255, 255, 255)) for mask in masks.values()])
        tiles.append(pictures.lettered(drawn))
    gap = np.full((HEIGHT, 8, 3), 255, np.uint8)
    row = np.concatenate(
        [piece for tile in tiles for piece in (tile, gap)]
        + [_legend(limit, found, float(values.min()) < -FAINTEST * limit)],
        axis=1,
    )
    words = [
        (found.question.title, 22),
        (f"{found.about}. {found.method.title}.", 15),
        (found.faithfulness.sentence, 15),
    ]
    lines = [
        (line, size) for text, size in words for line in textwrap.wrap(text, max(int(row.shape[1] / (0.5 * size)), 20))
    ]
    tall = sum(size + 8 for _, size in lines) + 16
    page = Image.new("RGB", (row.shape[1] + 16, HEIGHT + tall + 8), (255, 255, 255))
    draw, y = ImageDraw.Draw(page), 8
    for line, size in lines:
        draw.text((8, y), line, (20, 20, 20), ImageFont.load_default(size))
        y += size + 8
    page.paste(Image.fromarray(row), (8, tall))
    return pictures.png(np.asarray(page))


def _slices(values: np.ndarray) -> list[int]:
    """Axial slices (z) that show most of a map (z, y, x), apart from each other, from feet to head."""
    weight = np.abs(values).sum(axis=(1, 2))
    if not weight.any():
        return [len(values) // 2]
    place = np.cumsum(weight) / weight.sum()
    wanted = (np.arange(SHOWN) + 0.5) / SHOWN
    return sorted({int(np.searchsorted(place, share)) for share in wanted})


def _legend(limit: float, found: Explanation, below: bool) -> np.ndarray:
    """The scale of colours, as it looks over mid grey, with its ends; below: whether there are negative values."""
    from PIL import Image, ImageDraw, ImageFont

    width, bar, edge = 96, 20, 34
    page = Image.new("RGB", (width, HEIGHT), (255, 255, 255))
    lowest = -1.0 if below else 0.0
    share = np.linspace(1.0, lowest, HEIGHT - 2 * edge)[:, None].repeat(bar, 1)
    cover = opacity(share)[..., None]
    page.paste(Image.fromarray((110 * (1 - cover) + colours(share, found.signed) * cover).astype(np.uint8)), (6, edge))
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(14)
    percent = found.structure != ""
    for at in (1.0, 0.5, 0.0, -0.5, -1.0):
        if at < lowest:
            continue
        y = edge + (1 - at) / (1 - lowest) * (HEIGHT - 2 * edge)
        text = f"{100 * at * limit:+.3g} %" if percent and at else f"{at * limit:.2g}"
        draw.text((6 + bar + 6, y), text, (20, 20, 20), font, "lm")
    return np.asarray(page)
