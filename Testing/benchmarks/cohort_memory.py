"""How much memory a worker takes over a cohort of many cases: it must not grow with their number.

    python -m Testing.benchmarks.cohort_memory [--cases 200] [--processes 2]

Prints the largest resident size of any process of the run, after a tenth of the cases and at the end. The cases are
simulated CT-sized scans of `SIZE` voxels with two structures.
"""

import argparse
import csv
import subprocess
import tempfile
import threading
import time
from pathlib import Path

from Testing.cli.harmonize import ROOT, command
from Testing.engine.scans import grid, head

from HarmonizeExtension.files.writing import write_image

SIZE, SPACING = (256, 256, 60), (1.0, 1.0, 3.0)
SCANS = 4  # that are different; the cases take turns


def write_cohort(folder: Path, cases: int) -> Path:
    """A manifest of many cases; returns its path."""
    for seed in range(SCANS):
        scan = head(grid(SIZE, SPACING), seed=seed)
        write_image(scan.image, folder / f"{seed}.nii.gz")
        for name in ("GTV", "brain"):
            write_image(scan.structures[name].mask, folder / f"{seed}_{name}.nii.gz")
    with open(folder / "manifest.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["case", "image", "segmentation", "modality", "site"])
        for case in range(cases):
            masks = ";".join(f"{case % SCANS}_{name}.nii.gz" for name in ("GTV", "brain"))
            writer.writerow([f"case {case:03d}", f"{case % SCANS}.nii.gz", masks, "MR", "AB"[case % 2]])
    return folder / "manifest.csv"


def family(pid: int) -> list[int]:
    """A process and all below it."""
    try:
        below = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return []
    return [pid, *(one for child in below for one in family(int(child)))]


def resident_mb(pid: int) -> float:
    """The largest resident size that a process has had."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM")), 0.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=200)
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        manifest = write_cohort(folder, options.cases)
        words = command("cohort", manifest, "--method", "zscore", "--processes", options.processes)
        process = subprocess.Popen([*words, "--out", str(folder / "out")], cwd=ROOT, stdout=subprocess.DEVNULL)
        peaks: dict[int, float] = {}
        early: dict[int, float] = {}
        waiter = threading.Thread(target=process.wait)
        waiter.start()
        while waiter.is_alive():
            peaks.update({pid: max(peaks.get(pid, 0.0), resident_mb(pid)) for pid in family(process.pid)})
            done = len(list((folder / "out" / "cases").glob("case*"))) if (folder / "out" / "cases").exists() else 0
            if done >= options.cases // 10 and not early:
                early = dict(peaks)
            time.sleep(0.2)
        print(f"exit code {process.returncode}, {options.cases} cases of {SIZE[0]} x {SIZE[1]} x {SIZE[2]} voxels")
        print(f"largest process after a tenth of the cases: {max(early.values(), default=0):.0f} MB")
        print(f"largest process at the end: {max(peaks.values()):.0f} MB")


if __name__ == "__main__":
    main()
