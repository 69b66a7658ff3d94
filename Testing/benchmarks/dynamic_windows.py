"""The window of HU over a training of RadiomicGAN, as in figure 5a of Selim et al. 2021.

python -m Testing.benchmarks.dynamic_windows TRAINING_FOLDER OUT.png

Figure 5b, a class activation map: harmonize explain SCAN --question critic --method grad-cam --model FOLDER.
"""

import argparse
from pathlib import Path

import numpy as np

from HarmonizeExtension.evaluation import figures
from HarmonizeExtension.training.start import CURVES


def window_figure(curves: Path) -> figures.Figure:
    """The window (shaded) and its bounds by step."""
    rows = np.genfromtxt(curves, delimiter=",", names=True)
    step, low, high = rows["step"], rows["generator_window_low"], rows["generator_window_high"]
    area = figures.Series(figures.AREA, np.r_[step, step[::-1]], np.r_[low, high[::-1]], 0, "seen in training")
    bounds = (figures.Series(figures.LINE, step, bound, 0) for bound in (low, high))
    return figures.Figure("Dynamic Window Training", "step", "HU", (area, *bounds))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("training", type=Path)
    parser.add_argument("out", type=Path)
    options = parser.parse_args()
    options.out.write_bytes(figures.draw(window_figure(options.training / CURVES), "png"))


if __name__ == "__main__":
    main()
