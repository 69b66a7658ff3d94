"""What an image discriminator does to HarMOnAE, and whether the guard catches it: a negative control.

    python Testing/benchmarks/harmonae_discriminator.py --without FOLDER --with FOLDER [--people N] [--picture FILE]

The folders are models that were trained alike, but for `discriminator: weight` in the configuration of one of them.
Simulated people never trained on go from one scanner to another and back. Fatania et al. 2022 report a dSSIM-c of
0.0021 without and 0.0062 with it, and anatomy that is not there. Beside dSSIM stand regions of white matter that were
invented (evaluation/mri_lesions.py) and the guard's verdict on each result, with what it found worst.
"""

from __future__ import annotations

import argparse
import collections
from pathlib import Path

import numpy as np
from harmonae_truth import on_scale, scans_of  # beside this file

from HarmonizeExtension import guard
from HarmonizeExtension.body import body_mask
from HarmonizeExtension.evaluation.image_quality import style_change
from HarmonizeExtension.evaluation.mri_lesions import GREY, WHITE, invented
from HarmonizeExtension.methods.axial_slices import OUTPUT_LEVEL
from HarmonizeExtension.methods.harmonae.harmonizer import Harmonae

WAYS = (("Siemens 3T", "GE 3T"), ("GE 1.5T", "Philips 3T"))  # there and back, people in turn


def measure(model: Path, people: int) -> tuple[list[dict], dict]:
    """What was measured on each result, and a slice of the first one: before, after, the target's own scan."""
    rows, shown = [], {}
    for number in range(people):
        scans = scans_of(number)
        home, away = WAYS[number % len(WAYS)]
        scan, truth = scans[home], on_scale(scans[away])
        there, here = Harmonae(away, model), Harmonae(home, model)
        result = there.apply(scan)
        back = here.apply(result.with_array(result.array.clip(0)))
        body = body_mask(scan)
        change = style_change(on_scale(scan), here.apply(scan).array, result.array, back.array, OUTPUT_LEVEL, body)
        verdict = guard.inspect(scan, result)
        white, grey, brain = (scan.structures[name].array for name in (WHITE, GREY, "brain"))
        image = np.polyval(np.polyfit(result.array[brain], truth[brain], 1), result.array)
        regions = invented(image, truth, white, grey, scan.spacing_mm)
        rows.append(
            {
                "dSSIM-h": change.harmonized,
                "dSSIM-c": change.cycled,
                "invented": len(regions),
                "verdict": verdict.status.value,
                "reasons": verdict.reasons,
                "checks": {check.name: check.value for check in verdict.checks},
            }
        )
        middle = len(truth) // 2
        shown = shown or {"before": on_scale(scan)[middle], "after": result.array[middle], "truth": truth[middle]}
    return rows, shown


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--without", type=Path, required=True)
    parser.add_argument("--with", type=Path, required=True, dest="with_one")
    parser.add_argument("--people", type=int, default=2)
    parser.add_argument("--picture", type=Path, help="also draw a slice of the first person")
    options = parser.parse_args()
    shown = {}
    for name, model in (("without", options.without), ("with", options.with_one)):
        rows, shown[name] = measure(model, options.people)
        means = {key: np.mean([row[key] for row in rows]) for key in ("dSSIM-h", "dSSIM-c", "invented")}
        verdicts = dict(collections.Counter(row["verdict"] for row in rows))
        print(f"{name:8} discriminator, {len(rows)} results: " + ", ".join(f"{k} {v:.4f}" for k, v in means.items()))
        print(f"         verdicts {verdicts}; largest dSSIM-c {max(row['dSSIM-c'] for row in rows):.4f}")
        for check in rows[0]["checks"]:
            print(f"         {check:32} {np.mean([row['checks'][check] for row in rows]):.3f}")
        for reason in dict.fromkeys(reason for row in rows for reason in row["reasons"]):
            print(f"         {reason}")
    if options.picture:
        draw(shown, options.picture)


def draw(shown: dict[str, dict[str, np.ndarray]], path: Path) -> None:
    from matplotlib.figure import Figure

    panels = {
        "the scan": shown["without"]["before"],
        "the target's own": shown["without"]["truth"],
        "without": shown["without"]["after"],
        "with a discriminator": shown["with"]["after"],
    }
    figure = Figure(figsize=(12, 4), layout="constrained")
    for axes, (title, slice_) in zip(figure.subplots(1, 4), panels.items(), strict=True):
        axes.imshow(slice_, cmap="gray", vmin=0, vmax=OUTPUT_LEVEL)
        axes.set_title(title)
        axes.axis("off")
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
