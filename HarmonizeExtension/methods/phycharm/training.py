"""How PhyCHarm is trained: maps against the truth and the source's own image, and then the look of each scanner.

Source: Lee et al., medRxiv 2025.02.07.25321867, sections 2.2 to 2.5. The truth is that of simulated people, whose maps
and whose scan by every scanner are known; the consistency loss is the one of `consistency`. The harmonization network
learns beside the maps, from images that are mapped with them as they are; it sends no gradient back to them.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from ...errors import InputError
from ...evaluation.image_quality import nrmse, ssim
from ...files.models import ModelCard, save_model
from ...phantoms.scanners import SCANNERS
from ...physics.tissues import Tissue, properties
from ...progress import Progress, silent
from ...training.system import System
from .consistency import consistency_loss, mapped_image
from .first_guess import FIELD_TESLA, WHITE_MATTER_PERCENTILE, relative_signal, t1_from_image
from .harmonizer import SYSTEM
from .network import HarmonizationNetwork, MapsGenerator
from .samples import ONE, Sampling, draw_samples

LEVEL_VARIATION = 0.02  # standard deviation of the logarithm: no percentile finds white matter exactly
SOFTEST = 0.25  # share of each neighbour along an axis: finer scans are less noisy once they are on this grid
NEAR_TISSUE = 0.15  # relative departure of T1 from the tissue's, within which a voxel counts as that tissue


@dataclasses.dataclass(frozen=True)
class Settings:
    """What is trained, on what.

    samples: folder that holds, or gets, the simulated brains with their maps.
    scanners: those that are trained on. unseen: scanners that only validation knows.
    people, validation_people: how many; `people_seed` says whom. every: of the slices `spacing_mm` apart.
    width: channels of the first layer (the paper's 16). learning_rate: of Adam; it falls to zero along half a cosine.
    t1, m0, consistency, harmonization: weights of the losses; errors of the maps are relative to the truth, those of
        images to white matter. In milliseconds fluid, whose T1 is five times that of white matter and hardly seen in
        such images, is most of the loss. The paper's weight for consistency is 1e-6, since its loss constrains nothing.
    workers: processes that draw people.
    """

    samples: str
    scanners: tuple[str, ...] = ("Siemens 3T", "Siemens 1.5T", "Philips 3T", "GE 3T", "GE 1.5T")
    unseen: tuple[str, ...] = ("Philips 1.5T",)
    people: int = 60
    validation_people: int = 6
    people_seed: int = 2002
    every: int = 2
    spacing_mm: float = 1.5
    width: int = 16
    learning_rate: float = 1e-3
    t1: float = 1.0
    m0: float = 1.0
    consistency: float = 0.2
    harmonization: float = 1.0
    workers: int = 2

    def __post_init__(self):
        if len(self.scanners) < 2:
            raise InputError("at least two scanners are needed, to harmonize from one to another")
        if self.people < 1 or self.validation_people < 1:
            raise InputError("at least one person for training, and one for validation, are needed")


class PhycharmTraining(System):
    """Quantitative maps generator and harmonization network, trained together."""

    def __init__(self, settings: Settings, progress: Progress = silent):
        super().__init__()
        self.settings = settings
        folder, known = Path(settings.samples), settings.scanners
        self.learnt = draw_samples(
            folder / "train",
            Sampling(settings.people, settings.people_seed, known, settings.every, settings.spacing_mm),
            settings.workers,
            progress,
        )
        self.held_out = draw_samples(
            folder / "validation",
            Sampling(
                settings.validation_people,
                settings.people_seed + 1001,
                (*known, *settings.unseen),
                2 * settings.every,
                settings.spacing_mm,
            ),
            settings.workers,
            progress,
        )
        self.generator = MapsGenerator(settings.width)
        self.harmonization = HarmonizationNetwork(len(known), settings.width)
        scanners = [SCANNERS[name] for name in (*known, *settings.unseen)]
        tables = np.stack([relative_signal(s.protocol, s.field_strength_tesla) for s in scanners])
        self.register_buffer("tables", torch.from_numpy(tables.astype(np.float32)), persistent=False)
        self.to(memory_format=torch.channels_last)

    def optimizers(self) -> dict[str, torch.optim.Optimizer]:
        return {"both": torch.optim.Adam(self.parameters(), self.settings.learning_rate)}

    def rate(self, step: int, steps: int) -> float:
        return 0.5 * (1 + math.cos(math.pi * step / steps))

    def batch(self, size: int, rng: np.random.Generator) -> dict[str, Tensor]:
        """seen (batch, 2, y, x) as `MapsGenerator` takes it, its true maps, and the scan of another scanner."""
        drawn: dict[str, list] = {"seen": [], "truth": [], "wanted": [], "source": [], "target": []}
        scanners = len(self.settings.scanners)
        for _ in range(size):
            number, source, target = (int(rng.integers(n)) for n in (self.settings.people, scanners, scanners))
            scans = self.learnt.scans(number)
            slice_ = int(rng.integers(scans.shape[1]))
            level = math.exp(LEVEL_VARIATION * rng.standard_normal())
            turn = slice(None, None, int(rng.choice([1, -1])))  # heads are all but symmetric
            brain = self.learnt.brain(number)[slice_][:, turn]
            image = _smoothed(scans[source, slice_][:, turn] * np.float32(level / ONE), brain, rng.uniform(0, SOFTEST))
            drawn["seen"].append(self._seen(image, brain, source))
            drawn["truth"].append(self.learnt.truth(number)[:, slice_][..., turn].astype(np.float32))
            drawn["wanted"].append(scans[target, slice_][None, :, turn] * np.float32(1 / ONE))
            drawn["source"].append(source)
            drawn["target"].append(target)
        return {name: torch.from_numpy(np.array(values)) for name, values in drawn.items()}

    def _seen(self, image: np.ndarray, brain: np.ndarray, scanner: int) -> np.ndarray:
        taken_by = SCANNERS[(*self.settings.scanners, *self.settings.unseen)[scanner]]
        t1_ms = t1_from_image(image, taken_by.protocol, taken_by.field_strength_tesla)
        return np.stack([image, t1_ms * brain / 1000]).astype(np.float32)

    def forward(self, phase: str, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        settings = self.settings
        seen, truth = batch["seen"], batch["truth"]
        source, target = self.tables[batch["source"]], self.tables[batch["target"]]
        image, brain = seen[:, :1], (seen[:, 1:] > 0).float()
        count = brain.sum().clamp(min=1)
        maps = self.generator(seen.contiguous(memory_format=torch.channels_last)).float()
        t1, m0 = maps[:, :1], maps[:, 1:]
        errors = ((maps / truth.clamp(min=1e-3) - 1).abs() * brain).sum((0, 2, 3)) / count
        consistency = consistency_loss(image, t1, m0, source)
        mapped = mapped_image(image, t1.detach(), m0.detach(), source, target)
        rest = self.harmonization(torch.cat([mapped, image], dim=1).contiguous(memory_format=torch.channels_last))
        own = rest.float()[torch.arange(len(rest)), batch["target"]][:, None]
        harmonized = ((mapped + own - batch["wanted"]).abs() * brain).sum() / count
        loss = (
            settings.t1 * errors[0]
            + settings.m0 * errors[1]
            + settings.consistency * consistency
            + settings.harmonization * harmonized
        )
        return {
            "loss": loss,
            "t1": errors[0],
            "m0": errors[1],
            "consistency": consistency,
            "harmonization": harmonized,
        }

    def validate(self) -> dict[str, float]:
        """People never trained on, by every scanner; what was trained for, and ("unseen ...") what never was.

        t1_white, t1_grey: median over their voxels of the absolute error of T1, as a share, and m0_white, m0_grey
        likewise; t1_bias_white, t1_bias_grey: of T1's median. nrmse_before, nrmse_mapped, nrmse_harmonized, and ssim
        likewise: against the target's own scan, over all pairs of different scanners. score: nrmse_harmonized and the
        errors of T1 added up.
        """
        found: dict[str, list[float]] = {}
        for person in range(self.settings.validation_people):
            self._judge(person, found)
        figures = {name: float(np.mean(values)) for name, values in found.items()}
        score = figures["nrmse_harmonized"] + figures["t1_white"] + figures["t1_grey"]
        return {"score": score, **figures}

    def _judge(self, person: int, found: dict[str, list[float]]) -> None:
        known = len(self.settings.scanners)
        brain = np.array(self.held_out.brain(person))
        truth = np.array(self.held_out.truth(person), np.float32)
        scans = self.held_out.scans(person) * np.float32(1 / ONE)
        tissues = {"white": _voxels_of(Tissue.WHITE_MATTER, truth), "grey": _voxels_of(Tissue.GREY_MATTER, truth)}
        device = next(self.parameters()).device
        for source, scan in enumerate(scans):
            mark = "unseen " if source >= known else ""
            seen = self._seen(scan, brain, source).swapaxes(0, 1)
            seen = torch.from_numpy(np.ascontiguousarray(seen)).to(device)
            with torch.autocast(device.type, torch.bfloat16):
                maps = self.generator(seen).float()
            t1, m0 = (maps[:, k].cpu().numpy() for k in (0, 1))
            for name, inside in tissues.items():
                relative = t1[inside] / truth[0][inside] - 1
                found.setdefault(f"{mark}t1_{name}", []).append(float(np.median(np.abs(relative))))
                found.setdefault(f"{mark}t1_bias_{name}", []).append(float(abs(np.median(relative))))
                found.setdefault(f"{mark}m0_{name}", []).append(
                    float(np.median(np.abs(m0[inside] / truth[1][inside] - 1)))
                )
            for target in range(len(scans)):
                if target == source:
                    continue
                tables = (self.tables[k].expand(len(maps), -1) for k in (source, target))
                mapped = mapped_image(seen[:, :1], maps[:, :1], maps[:, 1:], *tables)
                results = {"before": scan, "mapped": mapped[:, 0].cpu().numpy()}
                if target < known:
                    with torch.autocast(device.type, torch.bfloat16):
                        rest = self.harmonization(torch.cat([mapped, seen[:, :1]], dim=1))[:, target]
                    results["harmonized"] = results["mapped"] + rest.float().cpu().numpy() * brain
                both = "unseen " if max(source, target) >= known else ""
                for name, result in results.items():
                    found.setdefault(f"{both}nrmse_{name}", []).append(nrmse(scans[target], result, 1.0, brain))
                    found.setdefault(f"{both}ssim_{name}", []).append(
                        ssim(scans[target], result, 1.0, brain, per_slice=True)
                    )

    def save_model(self, folder: Path | str, figures: Mapping[str, object]) -> None:
        """Both networks and the protocols that the second one was trained for."""
        weights = {
            f"{part}.{name}": value.float().cpu().numpy()
            for part, network in (("generator", self.generator), ("harmonization", self.harmonization))
            for name, value in network.state_dict().items()
        }
        save_model(folder, self.card(figures), weights)

    def card(self, figures: Mapping[str, object]) -> ModelCard:
        """What the model states about itself."""
        settings = self.settings
        protocols = [
            {
                "name": name,
                "field_strength_tesla": SCANNERS[name].field_strength_tesla,
                **{k: v for k, v in dataclasses.asdict(SCANNERS[name].protocol).items() if k != "name"},
            }
            for name in settings.scanners
        ]
        return ModelCard(
            system=SYSTEM,
            title="PhyCHarm, T1-weighted brain",
            sites=settings.scanners,
            protocols=tuple(protocols),
            preprocessing={
                "brain": "mask",
                "level_percentile": WHITE_MATTER_PERCENTILE,
                "spacing_mm": settings.spacing_mm,
                "plane": "axial",
            },
            training_data=(
                {
                    "name": f"{settings.people} simulated people with their true maps at {FIELD_TESLA:g} T, each "
                    f"scanned by {len(settings.scanners)} simulated scanners",
                    "source": "HarmonizeExtension.phantoms, anatomy from ICBM 2009a nonlinear symmetric (MNI152)",
                    "licence": "Apache-2.0; the template: Resources/Sample/MNI152-LICENSE.txt",
                    "subjects": settings.people,
                },
            ),
            figures=figures,
        )


def _smoothed(image: np.ndarray, brain: np.ndarray, share: float) -> np.ndarray:
    """A slice (y, x) whose voxels give a share to each neighbour inside the brain, along y and then along x."""
    kernel = [share, 1 - 2 * share, share]
    total, weight = image.astype(np.float32), brain.astype(np.float32)
    for axis in (0, 1):
        total, weight = (ndimage.correlate1d(array, kernel, axis, mode="constant") for array in (total, weight))
    return np.divide(total, weight, out=np.zeros_like(total), where=brain)


def _voxels_of(tissue: Tissue, truth: np.ndarray) -> np.ndarray:
    """Where the true T1 is that of a tissue (slice, y, x), and voxels shared with another one are not counted."""
    return np.abs(truth[0] * 1000 / properties(FIELD_TESLA)[tissue].t1_ms - 1) < NEAR_TISSUE
