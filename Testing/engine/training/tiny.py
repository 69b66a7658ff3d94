"""A small system to test the loop with, and a program that trains it: `tiny.py FOLDER STEPS [SECONDS A STEP]`."""

import json
import sys
import time
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT))

from HarmonizeExtension.training.loop import Schedule, train  # noqa: E402
from HarmonizeExtension.training.system import System  # noqa: E402


class Tiny(System):
    """Learns y = 3 x - 1 from noisy samples with a network that drops units, and an adversary in turn."""

    def __init__(self, seconds=0.0, rate=0.01):
        super().__init__()
        self.net = torch.nn.Sequential(
            torch.nn.Linear(1, 8), torch.nn.ReLU(), torch.nn.Dropout(0.2), torch.nn.Linear(8, 1)
        )
        self.judge = torch.nn.Linear(1, 1)
        self.seconds, self.learning_rate = seconds, rate
        self.seen = []

    def optimizers(self):
        return {
            "main": torch.optim.Adam(self.net.parameters(), self.learning_rate),
            "judge": torch.optim.Adam(self.judge.parameters(), self.learning_rate),
        }

    def rate(self, step, steps):
        return 1 - step / steps

    def batch(self, size, rng):
        time.sleep(self.seconds)
        x = rng.standard_normal((size, 1)).astype("float32")
        self.seen.append(float(x[0, 0]))
        return {"x": torch.from_numpy(x), "y": torch.from_numpy(3 * x - 1)}

    def forward(self, phase, batch):
        if phase == "judge":
            return {"loss": (self.judge(self.net(batch["x"]).detach()) - batch["x"]).square().mean()}
        y = self.net(batch["x"])
        fooled = self.judge(y).abs().mean()
        return {"loss": (y - batch["y"]).square().mean() + 0.01 * fooled, "fooled": fooled}

    def validate(self):
        torch.rand(3)  # whatever validation draws
        x = torch.linspace(-2, 2, 21)[:, None]
        return {"score": float((self.net(x) - (3 * x - 1)).abs().mean())}

    def save_model(self, folder, figures):
        Path(folder).mkdir()
        (Path(folder) / "figures.json").write_text(json.dumps(figures))


def schedule(steps, **changes):
    return Schedule(
        **(
            {
                "steps": steps,
                "batch_size": 4,
                "seed": 5,
                "report_every": 5,
                "checkpoint_every": 10,
                "validate_every": 20,
                "average": 0.9,
                "threads": 1,
            }
            | changes
        )
    )


if __name__ == "__main__":
    folder, steps, seconds = sys.argv[1], int(sys.argv[2]), float(sys.argv[3]) if len(sys.argv) > 3 else 0.0
    train(lambda: Tiny(seconds), schedule(steps), folder)
