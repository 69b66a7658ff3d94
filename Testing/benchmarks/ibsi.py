"""IBSI conformance: features in tolerance, out of tolerance, not applicable, ours and pyradiomics' side by side.

"ours" and "pyradiomics" measure an image processed as IBSI says; "own grid and bins" is what `extract` gives with the
nearest settings, processing the image as pyradiomics does.

    python Testing/benchmarks/ibsi.py [DATA]

DATA is the folder with ibsi/ and nc_ibsi_ct_phantom/, by default ../shared/data beside the checkout.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from Testing.engine.radiomics import ibsi_conformance as ibsi  # noqa: E402

from HarmonizeExtension.radiomics.ibsi import DIFFERENCES_FROM_IBSI  # noqa: E402


def main() -> None:
    data = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT.parent / "shared" / "data"
    have_pyradiomics = importlib.util.find_spec("radiomics") is not None
    print(f"{'':28}{'in':>6}{'out':>6}{'n/a':>6}   out of tolerance")
    for name, title in [("dig_phantom", "digital phantom")] + [
        (f"chest_config_{letter.lower()}", f"CT configuration {letter}") for letter in ibsi.CONFIGURATIONS
    ]:
        if name == "dig_phantom":
            processed = ibsi.digital_phantom(data)
        else:
            processed = ibsi.ct_phantom(data, ibsi.CONFIGURATIONS[name[-1].upper()])
        wanted = ibsi.references(data, name)
        print(title)
        tags = [reference.tag for reference in wanted]
        programs = {"ours": ibsi.ours(processed, tags)}
        if have_pyradiomics:
            programs["pyradiomics"] = ibsi.pyradiomics(processed, tags)
        if name != "dig_phantom":
            programs["ours, own grid and bins"] = ibsi.extracted(data, ibsi.CONFIGURATIONS[name[-1].upper()], tags)
        for program, values in programs.items():
            fits = {r.tag: r.holds(values[r.tag]) for r in wanted if r.tag in values}
            out = [tag for tag, fit in fits.items() if not fit]
            print(
                f"  {program:26}{sum(fits.values()):6}{len(out):6}{len(wanted) - len(fits):6}   "
                + ", ".join(out[:4])
                + (f" and {len(out) - 4} more" if len(out) > 4 else "")
            )
    print("Where pyradiomics, and our extraction with it, knowingly differs from IBSI:")
    for difference in DIFFERENCES_FROM_IBSI:
        print(f"  - {difference}")


if __name__ == "__main__":
    main()
