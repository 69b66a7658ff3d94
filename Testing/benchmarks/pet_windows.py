"""How far the windows of the PET CycleGAN may overlap less than the published 0.85 before anybody sees it.

    python -m Testing.benchmarks.pet_windows MODEL [--centre TUB] [--overlaps 0.25 0.5]

Part of a trunk is harmonized with each overlap; differences are against 0.85, in SUV and as a share of the SUV there.
Windows are counted for a whole body besides.
"""

import argparse
import time

import numpy as np

from HarmonizeExtension.body import body_mask
from HarmonizeExtension.methods.cyclegan.harmonizer import WINDOW, Cyclegan
from HarmonizeExtension.networks.sliding_window import window_count
from HarmonizeExtension.phantoms.pet_body import FIELD_MM, PetPerson
from HarmonizeExtension.phantoms.pet_centres import CENTRES, scan_person

PUBLISHED = 0.85
PART_MM = ((330.0, 500.0), (-130.0, 130.0), (-150.0, 150.0))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--centre", default="TUB", choices=CENTRES)
    parser.add_argument("--overlaps", nargs="+", type=float, default=[0.0, 0.125, 0.25, 0.5])
    options = parser.parse_args()
    (source,) = (name for name in CENTRES if name != options.centre)
    person = PetPerson.draw(np.random.default_rng([7, 7, 7]), "somebody")
    scan = scan_person(person, source, np.random.default_rng(1), PART_MM)
    inside = body_mask(scan)
    method = Cyclegan(options.centre, options.model)
    window = WINDOW[method._card.preprocessing["size"]]
    spacing = method._card.preprocessing["spacing_mm"]
    whole = tuple(round((end - start) / spacing) for start, end in FIELD_MM)
    most = window_count(whole, window, PUBLISHED)
    columns = f"{'overlap':>8}{'seconds':>9}{'windows, whole body':>21}{'times fewer':>13}{'mean |dSUV|':>13}"
    print(f"{columns}{'max':>8}{'max %':>8}")
    results = {}
    for overlap in (PUBLISHED, *options.overlaps):
        started = time.perf_counter()
        results[overlap] = Cyclegan(options.centre, options.model, overlap=overlap).apply(scan).array
        seconds = time.perf_counter() - started
        away = np.abs(results[overlap] - results[PUBLISHED])[inside]
        share = away / np.maximum(results[PUBLISHED][inside], 0.5)
        count = window_count(whole, window, overlap)
        print(
            f"{overlap:8.3f}{seconds:9.1f}{count:21d}{most / count:13.1f}{away.mean():13.5f}{away.max():8.3f}"
            f"{100 * share.max():8.2f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
