"""The report: one HTML file that needs no network, for a planner to read and a paper to quote."""

from __future__ import annotations

import base64
import dataclasses
import html as markup
import json
import math
from collections.abc import Iterable, Mapping, Sequence

from . import __version__
from .guard import Verdict
from .radiomics.table import FeatureTable

# Shown first; all features stand behind a click. One or two of each class, those that reviews discuss most.
HEADLINE_FEATURES = (
    "original_firstorder_Mean",
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


@dataclasses.dataclass(frozen=True)
class Section:
    """One case of a report.

    pictures: PNG bytes by caption, in the order in which they are to be shown.
    """

    title: str
    verdict: Verdict
    features: FeatureTable
    provenance: Sequence[Mapping]
    pictures: Mapping[str, bytes]


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
    """An HTML table; numbers are set right and rounded to four digits (the CSV keeps them exactly)."""
    head = "".join(f"<th>{markup.escape(str(cell))}</th>" for cell in header)
    lines = "".join("<tr>" + "".join(_cell(cell) for cell in row) + "</tr>" for row in rows)
    return f"<div class='wide'><table><thead><tr>{head}</tr></thead><tbody>{lines}</tbody></table></div>"


def change(before: float, after: float) -> str:
    """The relative change in words: "+12 %", "x 3.4", or a dash where it cannot be said."""
    if not (math.isfinite(before) and math.isfinite(after)) or before == 0:
        return "–"
    ratio = after / before
    if ratio > 3:
        return f"× {ratio:.3g}"
    return f"{ratio - 1:+.1%}" if ratio > 0 else "sign"


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"<td class='number'>{value:.4g}</td>"
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
        ("check", "figure", "unit", "verdict", "in words"),
        [(c.name, c.value, c.unit, c.status.value, c.text) for c in section.verdict.checks],
    )
    return f"""<section><h2>{markup.escape(section.title)} <span class="badge {status}">{status}</span></h2>
<ul>{reasons or "<li>Every check passed.</li>"}</ul>
<div class="pictures">{pictures}</div>
<details><summary>All checks</summary>{checks}</details>
{_features(section.features)}
<details><summary>What was done</summary><pre>{markup.escape(_what_was_done(section))}</pre></details>
</section>"""


def _features(features: FeatureTable) -> str:
    parts = []
    for structure in features.structures():
        rows = [
            (name, before, after, change(before, after)) for name, before, after in features.before_and_after(structure)
        ]
        if not rows:
            continue
        header = ("feature", "before", "after", "change")
        chosen = [row for row in rows if row[0] in HEADLINE_FEATURES]
        short = [(name.split("_", 1)[1].replace("_", " "), *rest) for name, *rest in chosen]
        parts.append(
            f"<h3>{markup.escape(structure)}</h3>{table(header, short)}"
            f"<details><summary>All {len(rows)} features</summary>{table(header, rows)}</details>"
        )
    return "".join(parts)


def _what_was_done(section: Section) -> str:
    return json.dumps(
        {"provenance": [dict(entry) for entry in section.provenance], "radiomics": dict(section.features.metadata)},
        indent=2,
        default=str,
    )


_STYLE = """
:root { color-scheme: light dark; --line: #8884; --soft: #8881; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 75rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.25rem; border-top: 1px solid var(--line); padding-top: 1rem; }
h3 { font-size: 1rem; margin-bottom: .3rem; }
.note { opacity: .7; } .wide { overflow-x: auto; }
.badge { font-size: .8rem; padding: .15rem .6rem; border-radius: 1rem; color: #fff; vertical-align: middle; }
.badge.pass { background: #1a7f37; } .badge.review { background: #9a6700; } .badge.refuse { background: #b42318; }
.pictures { display: flex; flex-wrap: wrap; gap: .8rem; } figure { margin: 0; }
figure img { height: 21rem; max-width: 100%; object-fit: contain; background: #000; display: block; }
figcaption { text-align: center; opacity: .8; }
table { border-collapse: collapse; margin: .4rem 0; } th, td { padding: .2rem .7rem; text-align: left; }
th { border-bottom: 1px solid var(--line); } tr:nth-child(even) td { background: var(--soft); }
td.number { text-align: right; font-variant-numeric: tabular-nums; }
pre { overflow-x: auto; background: var(--soft); padding: .6rem; } summary { cursor: pointer; margin: .4rem 0; }
"""
