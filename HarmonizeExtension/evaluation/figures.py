"""The figures of the protocols: what they show as plain data, and how matplotlib draws it.

A figure is a few series of numbers with names, so that it can be drawn elsewhere too (as plot nodes in Slicer). A
violin, a density and a cumulative distribution are nothing but lines. Colours are those of Okabe and Ito (Color
Universal Design, 2008), which people with any colour vision can tell apart; dashes and markers say the same again.
"""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Mapping, Sequence

import numpy as np
from scipy import stats

from .agreement import bland_altman
from .roc import auc, roc_curve

LINE, DASHED, POINTS, BARS, AREA = "line", "dashed", "points", "bars", "area"
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000", "#8A6D00")
NEUTRAL = "#5A5A5A"  # of a series that belongs to no group: chance, limits
_MARKERS = "os^DvPX*"
_RESOLUTION = 256  # points of a density
_MOST_AREAS = 5  # over each other; more are drawn as lines alone
_MOST_POINTS = 400  # of a violin drawn as dots too; more would be a smear


@dataclasses.dataclass(frozen=True, eq=False)
class Series:
    """One thing to draw. kind: "line", "dashed", "points", "bars" or "area" (the closed outline of a filled shape).

    x, y: (points,), numbers in the units of the axes; of bars, centres and heights (from 0).
    group: which colour, -1 for none. name: in the legend, empty where it is not to stand there.
    error: (points,), of points and bars, half the length of their error bars; None without. width: of bars.
    """

    kind: str
    x: np.ndarray
    y: np.ndarray
    group: int = -1
    name: str = ""
    error: np.ndarray | None = None
    width: float = 0.8


@dataclasses.dataclass(frozen=True, eq=False)
class Figure:
    """What to draw, in the order of drawing. ticks: (position, text) along x where it has names instead of numbers."""

    title: str
    x_label: str
    y_label: str
    series: tuple[Series, ...]
    ticks: tuple[tuple[float, str], ...] = ()
    square: bool = False


def violin(title: str, samples: Mapping[str, np.ndarray], y_label: str, groups: Sequence[int] | None = None) -> Figure:
    """The distribution of each sample (values,), with quartiles and median as lines.

    groups: the colour of each sample; by default the same. Values that are not finite are left out.
    """
    series: list[Series] = []
    for i, (_, values) in enumerate(samples.items()):
        values = _finite(values)
        group = 0 if groups is None else groups[i]
        if len(values) > 2 and np.ptp(values) > 0:
            grid = np.linspace(values.min(), values.max(), _RESOLUTION)
            density = stats.gaussian_kde(values)(grid)
            half = 0.38 * density / density.max()
            outline = np.concatenate([i - half, (i + half)[::-1]])
            series.append(Series(AREA, outline, np.concatenate([grid, grid[::-1]]), group))
        if len(values) and len(values) <= _MOST_POINTS:
            # Low-discrepancy shifts to the side keep dots apart and are the same in every run.
            aside = i + 0.16 * (np.modf(0.5 + 0.6180339887 * np.arange(len(values)))[0] - 0.5)
            series.append(Series(POINTS, aside, values, group))
        if len(values):
            low, median, high = np.quantile(values, (0.25, 0.5, 0.75))
            series += [Series(LINE, i + np.array([-w, w]), np.array([q, q])) for q, w in ((low, 0.1), (high, 0.1))]
            series.append(Series(LINE, i + np.array([-0.2, 0.2]), np.array([median, median])))
            series.append(Series(LINE, np.array([i, i], float), np.array([low, high])))
    return Figure(title, "", y_label, tuple(series), tuple((float(i), name) for i, name in enumerate(samples)))


def densities(title: str, samples: Mapping[str, np.ndarray], x_label: str) -> Figure:
    """The densities of several samples (values,) over each other, Gaussian kernels of Scott's width."""
    finite = {name: _finite(values) for name, values in samples.items()}
    series = []
    for group, (name, values) in enumerate(finite.items()):
        if len(values) < 2 or np.ptp(values) == 0:
            continue
        kernel = stats.gaussian_kde(values)
        reach = 3 * np.sqrt(kernel.covariance[0, 0])
        grid = np.linspace(values.min() - reach, values.max() + reach, _RESOLUTION)
        height = kernel(grid)
        outline = np.concatenate([[grid[0]], grid, [grid[-1]]])
        if len(finite) <= _MOST_AREAS:
            series.append(Series(AREA, outline, np.concatenate([[0], height, [0]]), group))
        series.append(Series(LINE, grid, height, group, f"{name} ({len(values)})"))
    return Figure(title, x_label, "density", tuple(series))


def roc(title: str, outcome: np.ndarray, scores: Mapping[str, np.ndarray]) -> Figure:
    """The ROC curve of each score (scans,) for a boolean outcome (scans,), with its area in the legend."""
    series = [Series(DASHED, np.array([0.0, 1.0]), np.array([0.0, 1.0]), name="chance")]
    for group, (name, score) in enumerate(scores.items()):
        false, true = roc_curve(outcome, score)
        series.append(Series(LINE, false, true, group, f"{name} (AUC {auc(outcome, score):.2f})"))
    return Figure(title, "false positive rate", "true positive rate", tuple(series), square=True)


def ecdf(title: str, p_values: Mapping[str, np.ndarray], alpha: float = 0.05) -> Figure:
    """The share of features with a p-value up to x, by name; where nothing differs it lies on the diagonal."""
    series = [
        Series(DASHED, np.array([0.0, 1.0]), np.array([0.0, 1.0]), name="no difference"),
        Series(LINE, np.array([alpha, alpha]), np.array([0.0, 1.0]), name=f"p = {alpha:g}"),
    ]
    for group, (name, p) in enumerate(p_values.items()):
        p = np.sort(_finite(p))
        steps = np.repeat(np.arange(len(p) + 1) / max(len(p), 1), 2)[1:-1]
        x = np.concatenate([[0.0], np.repeat(p, 2), [1.0]])
        series.append(Series(LINE, x, np.concatenate([[0.0], steps, [1.0]]), group, name))
    return Figure(title, "p-value", "share of tests", tuple(series), square=True)


def agreement(title: str, first: np.ndarray, second: np.ndarray, unit: str = "") -> Figure:
    """The plot of Bland and Altman of two measurements (n,), in their unit: difference over mean, bias and limits."""
    found = bland_altman(first, second)
    ends = np.array([found.mean.min(), found.mean.max()])
    in_unit = f" ({unit})" if unit else ""
    series = (
        Series(POINTS, found.mean, found.difference, 0),
        Series(LINE, ends, np.full(2, found.bias), name=f"bias {found.bias:.3g}"),
        *(
            Series(DASHED, ends, np.full(2, limit), name=f"{word} limit {limit:.3g}")
            for word, limit in (("upper", found.upper), ("lower", found.lower))
        ),
    )
    return Figure(title, f"mean of both{in_unit}", f"second minus first{in_unit}", series)


def bars(
    title: str,
    labels: Sequence[str],
    heights: Mapping[str, np.ndarray],
    y_label: str,
    reference: tuple[float, str] | None = None,
    errors: Mapping[str, np.ndarray] | None = None,
) -> Figure:
    """Bars side by side: heights (labels,) by name, at each label one bar a name.

    reference: a height to draw a dashed line at, and what it is; errors: (labels,) by name, half lengths.
    """
    at, width = np.arange(len(labels), dtype=float), 0.8 / len(heights)
    series = []
    if reference is not None:
        series.append(Series(DASHED, np.array([-0.5, len(labels) - 0.5]), np.full(2, reference[0]), -1, reference[1]))
    for group, (name, height) in enumerate(heights.items()):
        x = at + (group - (len(heights) - 1) / 2) * width
        error = None if errors is None else np.asarray(errors[name], dtype=float)
        series.append(Series(BARS, x, np.asarray(height, dtype=float), group, name, error, width))
    return Figure(title, "", y_label, tuple(series), tuple(zip(at.tolist(), labels, strict=True)))


def draw(figure: Figure, kind: str = "svg") -> bytes | None:
    """The figure as a file: kind "svg" or "png", the same bytes in every run; None where matplotlib is not installed.

    Dark ink on white, so that it is legible on a light page, on a dark one, and on paper.
    """
    try:
        import matplotlib
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure as Sheet
    except ImportError:
        return None
    # No date, no program version, and ids from a fixed salt.
    settings = {"svg.hashsalt": "harmonize", "font.family": "DejaVu Sans", "font.size": 10, "axes.titlesize": 11}
    nothing = {"Date": None, "Creator": None} if kind == "svg" else {"Software": None}
    with matplotlib.rc_context(settings):
        wide = len(figure.ticks) > 8
        sheet = Sheet(figsize=(5, 5) if figure.square else (9 if wide else 6.4, 4.4), dpi=150, layout="constrained")
        FigureCanvasAgg(sheet)
        axes = sheet.add_subplot()
        for series in figure.series:
            _draw_series(axes, series)
        axes.set(title=figure.title, xlabel=figure.x_label, ylabel=figure.y_label)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y" if figure.ticks else "both", color="#00000018", linewidth=0.6)
        axes.set_axisbelow(True)
        if figure.square:
            axes.set(aspect="equal", xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
        if figure.ticks:
            places, names = zip(*figure.ticks, strict=True)
            crowded = sum(max(map(len, name.split("\n"))) + 2 for name in names) > (95 if wide else 62)
            axes.set_xticks(places, names, rotation=35 if crowded else 0, ha="right" if crowded else "center")
        if any(series.name for series in figure.series):
            sheet.legend(loc="outside lower center", ncols=2 if figure.square else 3, frameon=False, fontsize=8.5)
        file = io.BytesIO()
        sheet.savefig(file, format=kind, metadata=nothing, facecolor="white")
    return file.getvalue()


def _draw_series(axes, series: Series) -> None:
    colour = NEUTRAL if series.group < 0 else COLOURS[series.group % len(COLOURS)]
    name = series.name or None
    if series.kind == AREA:
        axes.fill(series.x, series.y, color=colour, alpha=0.25, linewidth=0, label=name)
    elif series.kind == POINTS:
        axes.plot(
            series.x,
            series.y,
            _MARKERS[max(series.group, 0) % len(_MARKERS)],
            color=colour,
            markersize=4,
            alpha=0.7,
            markeredgewidth=0,
            label=name,
        )
    elif series.kind == BARS:
        # Bars of later rounds through the colours are hatched,
        hatch = "" if series.group < len(COLOURS) else "////"
        axes.bar(
            series.x, series.y, series.width * 0.92, color=colour, hatch=hatch, edgecolor="white", lw=0, label=name
        )
    else:
        # and lines dotted.
        style = "--" if series.kind == DASHED else "-" if series.group < len(COLOURS) else ":"
        axes.plot(series.x, series.y, style, color=colour, linewidth=1.2 if series.group < 0 else 1.8, label=name)
    if series.error is not None:
        axes.errorbar(series.x, series.y, series.error, fmt="none", ecolor="#222222", elinewidth=1, capsize=2.5)


def _finite(values: np.ndarray) -> np.ndarray:
    values = np.asarray(values, dtype=float).ravel()
    return values[np.isfinite(values)]
