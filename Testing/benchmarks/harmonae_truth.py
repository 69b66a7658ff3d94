"""How near HarMOnAE comes to the truth: simulated people never trained on, each scanned by all six scanners.

    python Testing/benchmarks/harmonae_truth.py [--model FOLDER] [--people N] [--json FILE]

Every scan is harmonized to every scanner that the model knows and held against the same person's scan by that scanner:
SSIM (in axial slices) and PSNR in the brain, both scans on the scale of the method's result. Beside it stand the scan
as it was ("before"), and two oracles fitted to the truth itself: the best linear and the best monotone intensity map,
which is all that a method can reach that only changes contrast. One scanner was never trained on.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import SimpleITK as sitk

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from HarmonizeExtension import guard, images  # noqa: E402
from HarmonizeExtension.body import body_mask  # noqa: E402
from HarmonizeExtension.evaluation.image_quality import psnr_db, ssim, style_change  # noqa: E402
from HarmonizeExtension.methods.axial_slices import OUTPUT_LEVEL  # noqa: E402
from HarmonizeExtension.methods.harmonae.harmonizer import Harmonae  # noqa: E402
from HarmonizeExtension.networks.intensity import body_level  # noqa: E402
from HarmonizeExtension.phantoms.person import Person  # noqa: E402
from HarmonizeExtension.phantoms.scanners import SCANNERS  # noqa: E402
from HarmonizeExtension.phantoms.training_pairs import paired_slices  # noqa: E402
from HarmonizeExtension.protection import MonotoneMap  # noqa: E402
from HarmonizeExtension.resources import shipped_model  # noqa: E402
from HarmonizeExtension.scan import Modality, Scan, Structure  # noqa: E402

SEED = 9009  # of people whom neither training nor validation knows
SLICE_MM = 4  # the method works slice by slice, so that a part of the slices tells all
ROWS = ("before", "best linear map (oracle)", "best monotone map (oracle)", "HarMOnAE")


def scans_of(number: int) -> dict[str, Scan]:
    """One person by every scanner, with true structures, every fourth slice of 1 mm."""
    person_seed, session_seed = np.random.SeedSequence([SEED, number]).spawn(2)
    drawn = paired_slices(
        Person.draw(np.random.default_rng(person_seed)),
        list(SCANNERS.values()),
        np.random.default_rng(session_seed),
        field_mm=(224.0, 192.0),
    )
    scans = {}
    for name, array in zip(SCANNERS, drawn.scans, strict=True):
        image = sitk.GetImageFromArray(np.ascontiguousarray(array[::SLICE_MM]))
        image.SetSpacing((1.0, 1.0, float(SLICE_MM)))
        masks = {s: Structure(s, images.mask_image(mask[::SLICE_MM], image)) for s, mask in drawn.structures.items()}
        scans[name] = Scan(image, Modality.MR, masks, name=f"person {number} {name}")
    return scans


def on_scale(scan: Scan) -> np.ndarray:
    """The scan as it was, on the scale of the method's results."""
    return scan.array * np.float32(OUTPUT_LEVEL / body_level(scan.array, body_mask(scan)))


def measure(model: Path, people: int) -> dict:
    known = Harmonae.sites(model)
    quality: dict[str, dict[str, list]] = {"seen": {}, "unseen": {}}
    verdicts: dict[str, int] = {}
    changes = []
    means: dict[str, list] = {"before": [], "after": []}
    for number in range(people):
        scans = scans_of(number)
        arrays = {name: on_scale(scan) for name, scan in scans.items()}
        brain = next(iter(scans.values())).structures["brain"].array
        white = next(iter(scans.values())).structures["white matter"].array
        harmonized = {}
        for target in known:
            harmonizer = Harmonae(target, model)
            for source, scan in scans.items():
                after = harmonizer.apply(scan)
                harmonized[source, target] = after
                if source == target:
                    continue
                verdict = guard.inspect(scan, after).status.value
                verdicts[verdict] = verdicts.get(verdict, 0) + 1
                x, truth = arrays[source], arrays[target]
                line = np.polyval(np.polyfit(x[brain], truth[brain], 1), x)
                monotone = MonotoneMap.implied_by(x[brain], truth[brain])(x)
                group = quality["seen" if source in known else "unseen"]
                for row, image in zip(ROWS, (x, line, monotone, after.array), strict=True):
                    group.setdefault(row, []).append(
                        (
                            psnr_db(truth, image, OUTPUT_LEVEL, brain),
                            ssim(truth, image, OUTPUT_LEVEL, brain, per_slice=True),
                        )
                    )
            means["after"].append([harmonized[source, target].array[white].mean() for source in scans])
        means["before"].append([arrays[source][white].mean() for source in scans])
        home, away = known[0], known[-1]
        back = Harmonae(home, model).apply(harmonized[home, away].with_array(harmonized[home, away].array.clip(0)))
        changes.append(
            style_change(
                arrays[home],
                harmonized[home, home].array,
                harmonized[home, away].array,
                back.array,
                OUTPUT_LEVEL,
                brain,
            )
        )
    figures: dict = {
        "people": people,
        "data_range": OUTPUT_LEVEL,
        "where": "brain, true mask",
        "verdicts": verdicts,
        "white_matter_cv_over_scanners": {
            name: float(np.mean([np.std(row) / np.mean(row) for row in rows])) for name, rows in means.items()
        },
        "dssim_h": float(np.mean([c.harmonized for c in changes])),
        "dssim_c": float(np.mean([c.cycled for c in changes])),
    }
    for group, rows in quality.items():
        figures[f"from_{group}_scanners"] = {
            row: {"psnr_db": float(np.mean(values, 0)[0]), "ssim": float(np.mean(values, 0)[1]), "pairs": len(values)}
            for row, values in ((row, np.array(v)) for row, v in rows.items())
        }
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--people", type=int, default=4)
    parser.add_argument("--json", type=Path, help="also write the figures here")
    options = parser.parse_args()
    figures = measure(options.model or shipped_model(Harmonae.shipped, Harmonae.card.name), options.people)
    for group in ("seen", "unseen"):
        print(f"\nfrom {group} scanners, {options.people} people: PSNR (dB) and SSIM against truth in the brain")
        for row, values in figures[f"from_{group}_scanners"].items():
            print(f"{row:32}{values['psnr_db']:8.2f}{values['ssim']:9.4f}   ({values['pairs']} pairs)")
    spread = figures["white_matter_cv_over_scanners"]
    print(f"\nwhite matter over the six scanners, CV: {spread['before']:.3f} before, {spread['after']:.3f} after")
    print(f"dSSIM-h {figures['dssim_h']:.4f}, dSSIM-c {figures['dssim_c']:.4f}; verdicts {figures['verdicts']}")
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
