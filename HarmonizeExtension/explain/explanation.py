"""One question, one map: asked of a scan, checked, and written as a volume with its record and a picture."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from scipy import ndimage

from .. import __version__, images
from ..errors import InputError, ModelError
from ..files.writing import IMAGE_SUFFIXES, replacing_together, write_image, write_json
from ..progress import CancelCheck, Progress, never, part, silent, stop_if
from ..radiomics.settings import Settings
from ..scan import Scan
from . import catalogue
from .catalogue import MapMethod, Question
from .faithfulness import Faithfulness, faithfulness
from .feature_change import FeatureChange, feature_change

BRIGHTEST = 99.9  # percentile of a network's map that becomes 1: single voxels may be far above
BATCH = 4  # slices at once
VOXELWISE = (catalogue.INTEGRATED_GRADIENTS, catalogue.SMOOTH_GRAD, catalogue.GUIDED_BACKPROPAGATION)
SMOOTHED_MM = 4.0  # standard deviation, for these: neighbours differ in sign, and blocks are what is checked


@dataclasses.dataclass(frozen=True)
class Explanation:
    """A map with what it answers and what it is worth.

    image: float32 on the scan's grid; of a network -1 to 1 or 0 to 1, of a feature each voxel has its block's share of
    the whole change. about: what was asked, with the figures. scale: what a value in the image is, in words.
    structure: what the map is about, empty for the whole image. details: more figures, as JSON can hold them.
    """

    question: Question
    method: MapMethod
    image: sitk.Image
    about: str
    scale: str
    faithfulness: Faithfulness
    structure: str = ""
    details: Mapping[str, object] = dataclasses.field(default_factory=dict)

    @property
    def signed(self) -> bool:
        """Whether negative values speak against."""
        return self.method.signed

    def to_json(self) -> dict:
        """The record."""
        return {
            "question": self.question.title,
            "about": self.about,
            "method": self.method.title,
            "citation": self.method.citation,
            "scale": self.scale,
            "structure": self.structure,
            **self.details,
            "faithfulness": self.faithfulness.to_json(),
            "version": __version__,
        }


def explain(
    question: str,
    scan: Scan,
    rng: np.random.Generator,
    method: str = "",
    after: Scan | None = None,
    model: Path | str = "",
    site: str = "",
    structure: str = "",
    feature: str = "",
    settings: Settings | None = None,
    progress: Progress = silent,
    cancelled: CancelCheck = never,
) -> Explanation:
    """Answer a question about a scan with a map.

    question: by its name in the catalogue. method: by its name; the best for the question by default.
    after: the harmonized scan; what a feature or an outcome model is asked about, and for a network the image that
    stands for what is absent (by default the scan, blurred). model: folder of what is asked. site: of the model's.
    structure, feature, settings: of the radiomics.
    Raises InputError where something is missing or does not fit, ModelError for a model that cannot be asked.
    """
    asked = catalogue.question(question)
    choice = catalogue.map_method(method) if method else catalogue.methods_for(asked)[0]
    if choice not in catalogue.methods_for(asked):
        raise InputError(f"{choice.title} needs {choice.needs}; '{asked.title}' is answered by occlusion")
    if asked.needs and not str(model):
        raise InputError(f"'{asked.title}' is asked of {asked.needs}; give its folder")
    if after is not None and not images.same_grid(scan.image, after.image):
        raise InputError(f"'{after.name}' is not on the grid of '{scan.name}'; give the harmonized scan itself")
    if asked.of_network:
        return _of_network(asked, choice, scan, after, model, site, rng, progress, cancelled)
    if after is None:
        raise InputError(f"'{asked.title}' needs the harmonized scan too; give it as the one after")
    settings = settings or Settings.for_modality(scan.modality)
    if asked.name == "outcome":
        from .outcome_model import OutcomeModel

        outcome = OutcomeModel.load(model)
        structure = structure or outcome.structure
        features, number, named = outcome.features, outcome.log_odds, f"log odds of '{outcome.title}'"
        settings = outcome.settings
    elif not feature:
        raise InputError("name the feature, as the feature table does, such as original_glcm_Contrast")
    else:
        features, named = (feature,), feature

        def number(values: Mapping[str, float]) -> float:
            return values[feature]

    found = feature_change(scan, after, structure, features, number, settings, rng, progress, cancelled)
    # Intensities without a unit were brought to one scale first, so that `before` is not as measured alone.
    when = "before" if after.units else "before, on the scale of after"
    return _of_feature(asked, choice, scan, found, f"{named} of '{found.structure}': {found.before:.5g} {when}")


def _of_feature(asked: Question, method: MapMethod, scan: Scan, found: FeatureChange, told: str) -> Explanation:
    whole = found.after - found.before
    error = float(np.sqrt(np.mean(found.uncertainty**2)) / max(np.abs(found.share).max(), 1e-300))
    return Explanation(
        asked,
        method,
        images.to_image(found.volume(), scan.image),
        f"{told}, {found.after:.5g} after",
        "share of the whole change that a block brought about; negative where it worked against it",
        found.faithfulness,
        found.structure,
        {
            "before": found.before,
            "after": found.after,
            "blocks": len(found.share) - 1,
            "share of the surroundings": float(found.share[0] / whole),
            "typical error of a share, of the largest": error,
        },
    )


def _of_network(
    asked: Question,
    method: MapMethod,
    scan: Scan,
    after: Scan | None,
    model: Path | str,
    site: str,
    rng: np.random.Generator,
    progress: Progress,
    cancelled: CancelCheck,
) -> Explanation:
    try:
        from .decisions import critic_decision, scanner_decision
    except ImportError as error:
        raise ModelError("to ask a network, PyTorch is needed; install it: pip install torch safetensors") from error
    progress(0.0, "Asking the network")
    seen = (scanner_decision if asked.name == "scanner" else critic_decision)(scan, model, site, after)
    decision = seen.decision
    maps = []
    for start in range(0, len(decision.image), BATCH):
        stop_if(cancelled)
        progress(0.5 * start / len(decision.image), f"{method.title}: image {start + 1} of {len(decision.image)}")
        maps.append(catalogue.attribution(method, decision.of(slice(start, start + BATCH)), rng))
    found = np.concatenate(maps).astype(np.float32)
    checked = _checked(seen, found, method, rng, part(progress, 0.5, 1.0), cancelled)
    whole = checked.score - checked.reference
    details: dict[str, object] = {"model": str(model), "images looked at": len(found)}
    if method is catalogue.INTEGRATED_GRADIENTS and whole:
        details["sum of the map, of the whole change"] = float(found.sum() / len(found) / whole)
    scale = f"relative to the highest{'; negative where it speaks against' if method.signed else ''}"
    if method in VOXELWISE:
        spacing = seen.view.spacing_mm[::-1][1 - found.ndim :]
        found = ndimage.gaussian_filter(found, [0, *(SMOOTHED_MM / s for s in spacing)])
        scale += f", smoothed by {SMOOTHED_MM:g} mm"
    brightest = float(np.percentile(np.abs(found), BRIGHTEST)) or 1.0
    return Explanation(
        asked,
        method,
        seen.view.to_scan(seen.volume(np.clip(found / brightest, -1, 1)), scan),
        f"{seen.about}: {checked.score:.3g}, and {checked.reference:.3g} for "
        f"{'the harmonized scan' if after is not None else 'the scan blurred'}",
        scale,
        checked,
        details=details,
    )


def _checked(
    seen, found: np.ndarray, method: MapMethod, rng: np.random.Generator, progress: Progress, cancelled: CancelCheck
) -> Faithfulness:
    """Deletion and insertion of blocks of a network's images, by the map and by the edges of the images."""
    import torch

    from .looking import block_numbers

    decision = seen.decision
    image, reference = decision.image, decision.reference
    number = block_numbers(image.shape[2:], decision.block)
    blocks = np.arange(number.max() + 1)

    def by_block(arrays: np.ndarray) -> np.ndarray:
        return np.stack([ndimage.mean(array, number, blocks) for array in arrays])

    def evaluate(kept: np.ndarray) -> float:
        chosen = torch.from_numpy(kept[:, number][:, None])
        return float(decision.scores(torch.where(chosen, image, reference)).mean())

    everything = np.ones((len(image), len(blocks)), bool)
    direction = np.sign(evaluate(everything) - evaluate(~everything))
    worth = by_block(found) * (direction if method.signed else 1.0)
    edges = by_block(np.stack([ndimage.gaussian_gradient_magnitude(i, 1.0) for i in image[:, 0].numpy()]))
    return faithfulness(worth, {"edges": edges}, evaluate, rng, seen.noticeable, progress, cancelled)


VOLUME, RECORD, PICTURE = "attribution", "attribution.json", "attribution.png"


def write(found: Explanation, scan: Scan, folder: Path | str, suffix: str = ".nii.gz") -> dict[str, Path]:
    """Write map, record and picture into a folder, all together or none; returns the path of each.

    Raises OutputError where a file cannot be written.
    """
    from .picture import picture

    names = {"map": f"{VOLUME}{suffix}", "record": RECORD, "picture": PICTURE}
    with replacing_together(folder, [f"{VOLUME}{ending}" for ending in IMAGE_SUFFIXES]) as staging:
        write_image(found.image, staging / names["map"])
        write_json(found.to_json(), staging / RECORD)
        (staging / PICTURE).write_bytes(picture(found, scan))
    return {name: Path(folder) / file for name, file in names.items()}
