"""Ten patients with soft-tissue sarcoma as two cohorts: MR by vendor, CT by kernel.

    python -m Testing.benchmarks.sts_cohort [--data FOLDER] [--out FOLDER]

Prints the site effect in the tumour by arm, the time with two processes as a share of that with one, whether both gave
the same files, and whether a run that was killed again and again ended with the same files too. Images: TCIA
Soft-tissue Sarcoma, IBSI validation subset (CC-BY 3.0).
"""

import argparse
import csv
import random
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

from Testing.cli.harmonize import ROOT, command, listing

# Method, target patient, and the column of the header table that says the site.
COHORTS = {
    "MR": ("MR_T1", "histogram-matching", "STS_025", "manufacturer"),
    "CT": ("CT", "kernel-matching", "STS_008", "kernel"),
}
KILLS = 4


def manifest(data: Path, modality: str, folder: Path) -> Path:
    """A manifest of all patients with a scan of the modality; returns its path."""
    name, _, _, column = COHORTS[modality]
    with open(data / "scanner_headers.tsv", newline="", encoding="utf-8") as file:
        headers = {row["subject"]: row for row in csv.DictReader(file, delimiter="\t") if row["modality"] == name}
    path = folder / f"{modality}.csv"
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["case", "image", "segmentation", "structure", "modality", "site"])
        for patient in sorted(data.glob("STS_*")):
            site = headers[patient.name][column].split("/")[0].split()[0]
            scan, mask = patient / f"{name}_image.nii.gz", patient / f"{name}_mask.nii.gz"
            writer.writerow([patient.name, scan, mask, "tumour", modality, site])
    return path


def cohort(data: Path, modality: str, table: Path, out: Path, processes: int) -> list[str]:
    """The one command of a cohort."""
    name, method, target, _ = COHORTS[modality]
    given = ("--method", method, "--target", data / target / f"{name}_image.nii.gz", "--protect", "tumour")
    return command("cohort", table, "--outside", *given, "--processes", processes, "--out", out)


def run(words: list[str]) -> float:
    """Seconds that a command takes; its complaints are shown."""
    start = time.perf_counter()
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    if done.returncode not in (0, 3):
        raise SystemExit(done.stderr)
    return time.perf_counter() - start


def killed(words: list[str], out: Path, seconds: float, rng: random.Random) -> None:
    """Start the command `KILLS` times, kill it at a random moment each time, then let it end."""
    left = []
    for _ in range(KILLS):
        process = subprocess.Popen(words, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(rng.uniform(0.3, 0.8) * seconds)
        process.send_signal(signal.SIGKILL)
        process.wait()
        left.append(len(list((out / "cases").glob("STS_*"))) if (out / "cases").exists() else 0)
    print(f"  cases done after each kill: {left}")
    run(words)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data" / "sts")
    parser.add_argument("--out", type=Path, help="keep the cohorts there")
    options = parser.parse_args()
    folder = options.out or Path(tempfile.mkdtemp())
    folder.mkdir(parents=True, exist_ok=True)
    rng = random.Random(0)
    for modality in COHORTS:
        table = manifest(options.data, modality, folder)
        outs = {name: folder / f"{modality} {name}" for name in ("one", "two", "killed")}
        for out in outs.values():
            shutil.rmtree(out, ignore_errors=True)
        one = run(cohort(options.data, modality, table, outs["one"], 1))
        two = run(cohort(options.data, modality, table, outs["two"], 2))
        print(f"{modality}: two processes take {two / one:.2f} of the time of one")
        killed(cohort(options.data, modality, table, outs["killed"], 2), outs["killed"], two, rng)
        whole = listing(outs["one"])
        print(f"  the same {len(whole)} files with two processes: {listing(outs['two']) == whole}")
        print(f"  the same {len(whole)} files after {KILLS} kills: {listing(outs['killed']) == whole}")
        print((outs["one"] / "evaluation" / "tumour" / "site-effect.csv").read_text())
        with open(outs["one"] / "cases.csv", newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                print(f"  {row['case']} {row['site']}: {row['status']} {row['reasons']}")
    if options.out is None:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
