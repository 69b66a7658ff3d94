"""The report: one HTML file that needs no network, for a planner to read and a paper to quote."""

from __future__ import annotations

import base64
import dataclasses
import html as markup
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from urllib.parse import quote

from . import __version__
from .guard import Status, Verdict
from .methods import catalogue
from .methods.base import MethodCard
from .radiomics.settings import Settings
from .radiomics.table import FeatureTable
from .scan import Modality, Role, Scan, TargetKind

# Shown first; all features stand behind a click. One or two of each class, those that reviews discuss most, and
# those that a modality is read by.
HEADLINE_FEATURES = (
    "original_shape_VoxelVolume",
    "original_firstorder_Mean",
    "original_firstorder_10Percentile",
    "original_firstorder_90Percentile",
    "original_firstorder_Maximum",
    "original_firstorder_Variance",
    "original_firstorder_Entropy",
    "original_glcm_Contrast",
    "original_glcm_Correlation",
    "original_glcm_Idmn",
    "original_glrlm_RunLengthNonUniformityNormalized",
    "original_glszm_ZoneEntropy",
    "original_gldm_DependenceVariance",
    "original_ngtdm_Coarseness",
)
ONLY_FOR = {
    "original_firstorder_10Percentile": Modality.CT,
    "original_firstorder_90Percentile": Modality.CT,
    "original_firstorder_Maximum": Modality.PET,  # SUVmax
}

MISSING = "–"  # where a figure does not exist
INTERPOLATORS = {"sitkBSpline": "B-spline", "sitkLinear": "linear", "sitkNearestNeighbor": "nearest neighbour"}


@dataclasses.dataclass(frozen=True)
class Section:
    """One case of a report.

    scan: before the method, with the roles of its structures. provenance: of the result.
    pictures: PNG bytes by caption, in the order in which they are to be shown.
    outlines: RGB colours (0 to 255) of the outlines in the pictures, by structure.
    """

    scan: Scan
    verdict: Verdict
    features: FeatureTable
    provenance: Sequence[Mapping]
    pictures: Mapping[str, bytes]
    outlines: Mapping[str, tuple[int, int, int]] = dataclasses.field(default_factory=dict)


def html(sections: Iterable[Section], title: str = "Harmonization report", introduction: str = "") -> str:
    """The whole page as text. `introduction` is HTML of the caller's own, shown above the cases."""
    body = "\n".join(_section(section) for section in sections)
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{markup.escape(title)}</title>
<meta name="viewport" content="width=device-width, initial-scale=1"><style>{_STYLE}</style></head>
<body><h1>{markup.escape(title)}</h1>
<p class="note">For research. Not a medical device; not for dose calculation. Harmonize {__version__}.</p>
{introduction}
{body}
</body></html>
"""


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """An HTML table; numbers are set right, with four digits or as whole numbers (the CSV keeps them exactly)."""
    head = "".join(f"<th>{markup.escape(str(cell))}</th>" for cell in header)
    lines = "".join("<tr>" + "".join(_cell(cell) for cell in row) + "</tr>" for row in rows)
    return f"<div class='wide'><table><thead><tr>{head}</tr></thead><tbody>{lines}</tbody></table></div>"


def change(before: float, after: float) -> str:
    """The relative change in words: "+12 %", "x 3.4", or a dash where it cannot be said."""
    if not (math.isfinite(before) and math.isfinite(after)) or before == 0:
        return MISSING
    ratio = after / before
    if ratio > 3:
        return f"× {ratio:.3g}"
    return f"{ratio - 1:+.1%}" if ratio > 0 else "sign"


@dataclasses.dataclass(frozen=True)
class Explained:
    """A cell with an explanation that appears under the pointer."""

    text: str
    explanation: str


@dataclasses.dataclass(frozen=True)
class Link:
    """A cell that leads to a file beside the report."""

    text: str
    file: str


def _cell(value: object) -> str:
    if isinstance(value, Link):
        return f"<td><a href='{markup.escape(quote(value.file))}'>{markup.escape(value.text)}</a></td>"
    if isinstance(value, Explained):
        return f"<td title='{markup.escape(value.explanation)}'>{markup.escape(value.text)}</td>"
    if value == MISSING:
        return f"<td class='number'>{MISSING}</td>"
    if isinstance(value, float):
        return f"<td class='number'>{value:{'.0f' if 1e4 <= abs(value) < 1e7 else '.4g'}}</td>"
    return f"<td>{markup.escape(str(value))}</td>"


def _section(section: Section) -> str:
    status = section.verdict.status.value
    reasons = "".join(f"<li>{markup.escape(reason)}</li>" for reason in section.verdict.reasons)
    pictures = "".join(
        f"<figure><img alt='{markup.escape(name)}' src='data:image/png;base64,{base64.b64encode(data).decode()}'>"
        f"<figcaption>{markup.escape(name)}</figcaption></figure>"
        for name, data in section.pictures.items()
    )
    checks = table(
        ("check", "figure", "unit", "review at", "refuse at", "verdict", "in words"),
        [
            (c.name, float(c.value), c.unit, *_limits(c.review, c.refuse), c.status.value, c.text)
            for c in section.verdict.checks
        ],
    )
    opened = "" if section.verdict.status is Status.PASS else " open"
    return f"""<section><h2>{markup.escape(section.scan.name)} <span class="badge {status}">{status}</span></h2>
<ul>{reasons or "<li>Every check passed.</li>"}</ul>
{table(("", ""), facts(section.scan, section.provenance).items())}
<div class="pictures">{pictures}</div>
{_key(section.outlines)}
<details{opened}><summary>All checks</summary>{checks}</details>
{_features(section.features, section.scan.modality)}
<h3>What to write in a methods section</h3><p>{markup.escape(methods_text(section.provenance, section.features))}</p>
{details(section.provenance, section.features)}
</section>"""


def _limits(*limits: float | None) -> list[float | str]:
    return [MISSING if limit is None else float(limit) for limit in limits]


def _key(outlines: Mapping[str, tuple[int, int, int]]) -> str:
    if not outlines:
        return ""
    entries = "".join(
        f"<span><i style='background: rgb{tuple(colour)}'></i>{markup.escape(name)}</span>"
        for name, colour in outlines.items()
    )
    return f"<p class='key'>Outlines: {entries}</p>"


def facts(scan: Scan, provenance: Sequence[Mapping]) -> dict[str, str]:
    """What was done to which scan, in words; what is not known is left out."""
    roles = {f"{role.value} structures".capitalize(): ", ".join(s.name for s in scan.with_role(role)) for role in Role}
    acquisition = (f"{_words(name)} {_number(value)}" for name, value in scan.acquisition.known().items())
    known = {
        **what_was_done(provenance),
        **roles,
        "Modality": scan.modality.value,
        "Units": scan.units or "none (arbitrary intensities)",
        "Voxel size": " × ".join(f"{size:.4g}" for size in scan.spacing_mm) + " mm (x, y, z)",
        "Acquisition": ", ".join(acquisition) or "not known",
        "While reading": " ".join(f"{note['note'].rstrip('.')}." for note in provenance if "note" in note),
    }
    return {name: text for name, text in known.items() if text}


def what_was_done(provenance: Sequence[Mapping]) -> dict[str, str]:
    """Method, target, steps and settings in words; what is not known is left out."""
    *steps, entry = _methods(provenance) or [{}]
    known = {
        "Method": _named(entry),
        "Target": _target(entry),
        "Steps before": "; ".join(_named(step) for step in steps) or "none",
        "Settings": _parameters(entry),
    }
    return {name: text for name, text in known.items() if text}


def methods_text(provenance: Sequence[Mapping], features: FeatureTable) -> str:
    """Two sentences for a paper: what the images went through, and how the features were measured."""
    *steps, entry = _methods(provenance) or [{}]
    target, settings = _target(entry), _parameters(entry)
    sentence = f"Images were harmonized with {_named(entry)}"
    sentence += f" to the target {target}" if target else ""
    sentence += f", after {' and '.join(_named(step) for step in steps)}" if steps else ""
    sentence += f", using Harmonize {__version__}" + (f" ({settings})" if settings else "") + "."
    if not features.rows:
        return sentence
    return f"{sentence} Radiomic features were extracted with the same software, {radiomics_in_words(features)}."


def radiomics_in_words(features: FeatureTable) -> str:
    """How the features were measured: bins, spacing, interpolator, images."""
    settings = Settings.from_dict(features.metadata["settings"])
    unit = features.column("original_firstorder_Mean").unit if "original_firstorder_Mean" in features.features else ""
    width = f"bins of {settings.bin_width:g} {unit}".rstrip()
    bins = f"{settings.bin_count} bins in each structure" if settings.bin_count else width
    grid = "on the voxels of the image"
    if settings.resampled_spacing_mm and settings.interpolator:
        sizes = dict.fromkeys(f"{size:g}" if size else "original" for size in settings.resampled_spacing_mm)
        spacing = sizes if len(sizes) == 1 else (f"{size:g}" for size in settings.resampled_spacing_mm)
        grid = f"resampled to {' × '.join(spacing)} mm by {INTERPOLATORS[settings.interpolator]}"
    kinds = [kind.replace("Original", "original").replace("Wavelet", "wavelet") for kind in settings.image_types]
    return f"with {bins}, {grid}, from the {' and '.join(kinds)} image{'s' if len(kinds) > 1 else ''}"


def _methods(provenance: Sequence[Mapping]) -> list[Mapping]:
    return [entry for entry in provenance if "method" in entry]


def _card(entry: Mapping) -> MethodCard | None:
    return next((card for card in catalogue.cards() if card.name == entry.get("method")), None)


def _named(entry: Mapping) -> str:
    """The title of a method with its citation; what is not in the catalogue (resampling) with its parameters."""
    card = _card(entry)
    if card:
        return f"{card.title} ({card.citation})"
    return " ".join(filter(None, (str(entry.get("method", "not recorded")), _parameters(entry))))


def _split(entry: Mapping) -> tuple[object, dict[str, object]]:
    """The target of a method, which is the first of its parameters where it takes one, and the other parameters."""
    parameters, card = dict(entry.get("parameters", {})), _card(entry)
    if card and card.target is not TargetKind.NONE and parameters:
        return parameters.pop(next(iter(parameters))), parameters
    return None, parameters


def _target(entry: Mapping) -> str:
    target, _ = _split(entry)
    if target is None:
        return ""
    return f"{target:g} mm FWHM" if isinstance(target, int | float) else str(target)


def _parameters(entry: Mapping) -> str:
    _, parameters = _split(entry)
    return ", ".join(f"{_words(name)} {_number(value)}" for name, value in parameters.items() if value is not None)


def _number(value: object) -> str:
    if isinstance(value, list | tuple):
        return " × ".join(_number(part) for part in value)
    return f"{value:g}" if isinstance(value, float) else str(value)


UNITS_IN_NAMES = {"mm": "mm", "ms": "ms", "tesla": "T", "deg": "degrees", "kvp": "kVp", "hu": "HU"}


def _words(name: str) -> str:
    """A field's name for people: "echo_time_ms" is "echo time (ms)"."""
    *rest, last = name.split("_")
    if rest and last in UNITS_IN_NAMES:
        return f"{' '.join(rest)} ({UNITS_IN_NAMES[last]})".replace("fwhm", "FWHM")
    return name.replace("_", " ")


def _features(features: FeatureTable, modality: Modality) -> str:
    parts = []
    for structure in features.structures():
        columns = (features.column(name) for name in features.features)
        rows = {
            name: (Explained(name, column.description), before, after, column.unit, change(before, after))
            for column, (name, before, after) in zip(columns, features.before_and_after(structure), strict=True)
        }
        if not rows:
            continue
        header = ("feature", "before", "after", "unit", "change")
        chosen = [rows[n] for n in HEADLINE_FEATURES if n in rows and ONLY_FOR.get(n, modality) is modality]
        short = [
            (dataclasses.replace(cell, text=cell.text.split("_", 1)[1].replace("_", " ")), *rest)
            for cell, *rest in chosen
        ]
        parts.append(
            f"<h3>{markup.escape(structure)}</h3>{table(header, short)}"
            f"<details><summary>All {len(rows)} features</summary>{table(header, rows.values())}</details>"
        )
    if parts:
        parts.insert(0, f"<p class='note'>Features {markup.escape(radiomics_in_words(features))}.</p>")
    return "".join(parts)


def details(provenance: Sequence[Mapping], features: FeatureTable) -> str:
    """Everything that was done, with every setting and version, behind a click."""
    entries = {"provenance": [dict(entry) for entry in provenance], "radiomics": dict(features.metadata)}
    text = markup.escape(json.dumps(entries, indent=2, default=str))
    return f"<details><summary>What was done</summary><pre>{text}</pre></details>"


_STYLE = """
:root { color-scheme: light dark; --line: #8884; --soft: #8881; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 75rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.25rem; border-top: 1px solid var(--line); padding-top: 1rem; }
h3 { font-size: 1rem; margin-bottom: .3rem; }
.note { opacity: .7; } .wide { overflow-x: auto; }
.badge { font-size: .8rem; padding: .15rem .6rem; border-radius: 1rem; color: #fff; vertical-align: middle; }
.badge.pass { background: #1a7f37; } .badge.review { background: #9a6700; } .badge.refuse { background: #b42318; }
.pictures { display: grid; grid-template-columns: repeat(3, minmax(0, 1fr)); gap: .8rem; } figure { margin: 0; }
figure img { width: 100%; max-height: 30rem; object-fit: contain; background: #000; display: block; }
.pictures.two { grid-template-columns: repeat(2, minmax(0, 1fr)); align-items: start; }
figure img.plot { background: #fff; max-height: none; }
figcaption { text-align: center; opacity: .8; font-size: .85rem; }
.key span { margin-right: 1rem; } .key i { display: inline-block; width: .9rem; height: .9rem; margin-right: .3rem;
vertical-align: -.1rem; border: 1px solid var(--line); }
table { border-collapse: collapse; margin: .4rem 0; } th, td { padding: .2rem .7rem; text-align: left; }
th { border-bottom: 1px solid var(--line); } tr:nth-child(even) td { background: var(--soft); }
td.number { text-align: right; font-variant-numeric: tabular-nums; }
pre { overflow-x: auto; background: var(--soft); padding: .6rem; } summary { cursor: pointer; margin: .4rem 0; }
"""
