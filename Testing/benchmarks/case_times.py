"""Where the time goes from Apply to results, for a 1 mm brain: `python -m Testing.benchmarks.case_times`.

Prints the share of each step and each method's time as a ratio to Z-score's in the same run, and what importing costs.
"""

import subprocess
import sys
import time
from pathlib import Path

from HarmonizeExtension import case
from HarmonizeExtension.methods.preparation import BiasFieldCorrection
from HarmonizeExtension.methods.statistical import HistogramMatching, Nyul, StandardScale, WhiteStripe, ZScore
from HarmonizeExtension.phantoms.brain import three_scanner_case

ROOT = Path(__file__).resolve().parents[2]


def import_seconds(statement: str) -> float:
    """Seconds that a fresh interpreter takes for a statement, beyond starting up; the smaller of two."""

    def run(code):
        start = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, capture_output=True)
        return time.perf_counter() - start

    return min(run(statement) for _ in range(2)) - min(run("pass") for _ in range(2))


def main():
    first, second, third = three_scanner_case().values()
    scan = second.with_roles(reference="brain", protected=["lesion"])
    scale = StandardScale.fit(s.with_roles(reference="brain") for s in (first, third))
    methods = {
        "zscore": (ZScore(), ()),
        "whitestripe": (WhiteStripe(), ()),
        "histogram-matching": (HistogramMatching(first), ()),
        "nyul": (Nyul(scale), ()),
        "n4, then histogram-matching": (HistogramMatching(first), (BiasFieldCorrection(),)),
    }
    size = " x ".join(str(n) for n in scan.image.GetSize())
    print(f"From Apply to results, {size} voxels of 1 mm, {len(scan.structures)} structures, 93 features each")
    print(f"{'method':30} {'ratio':>6}   share of the time by step")
    reference = None
    for name, (method, steps) in methods.items():
        seconds = case.run(scan, method, steps).seconds
        total = sum(seconds.values())
        reference = reference or total
        print(f"{name:30} {total / reference:6.2f}   {', '.join(f'{k} {v / total:.0%}' for k, v in seconds.items())}")
    module = f"import sys; sys.path[:0] = [{str(ROOT)!r}]; from Testing.harness.application import importModule; "
    module += f"importModule({str(ROOT / 'HarmonizeModule' / 'HarmonizeModule.py')!r})"
    harness = f"import sys; sys.path[:0] = [{str(ROOT)!r}]; from Testing.harness.application import start; start()"
    libraries = import_seconds("import numpy, scipy.ndimage, scipy.stats, scipy.optimize, SimpleITK, pydicom")
    engine = import_seconds("import HarmonizeExtension.case, HarmonizeExtension.methods.catalogue")
    print(f"import of the engine: {engine / libraries:.2f} of that of numpy, scipy, SimpleITK and pydicom")
    print(f"import of the module: {(import_seconds(module) - import_seconds(harness)) / libraries:.2f} of the same")


if __name__ == "__main__":
    main()
