"""The list of ways to a map: command line, panel and documentation are filled from it."""

from __future__ import annotations

import dataclasses
import difflib
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..errors import InputError, ModelError
from ..files.models import ModelCard, load_model

if TYPE_CHECKING:
    from .looking import Decision


@dataclasses.dataclass(frozen=True)
class MapMethod:
    """What a way to a map states about itself.

    name: on the command line. title: in the panel. summary: one sentence for users. needs: what it needs of what is
    explained. signed: True where a map tells for from against (-1 to 1); else it only tells where (0 to 1).
    """

    name: str
    title: str
    summary: str
    needs: str
    signed: bool
    citation: str


GRAD_CAM = MapMethod(
    "grad-cam",
    "Grad-CAM",
    "Where the features of a middle layer speak for the decision: coarse, and steady.",
    "a network",
    False,
    "Selvaraju et al., ICCV 2017",
)
SMOOTH_GRAD = MapMethod(
    "smoothgrad",
    "SmoothGrad",
    "Which voxels the decision would react to, averaged over noisy copies: fine, without a sign.",
    "a network",
    False,
    "Smilkov et al., arXiv 1706.03825, 2017",
)
GUIDED_BACKPROPAGATION = MapMethod(
    "guided-backpropagation",
    "Guided backpropagation",
    "Crisp maps that often follow edges whatever the network learnt (Adebayo et al., NeurIPS 2018): look at the check.",
    "a network with ReLUs, leaky or not",
    False,
    "Springenberg et al., ICLR 2015 workshop",
)
INTEGRATED_GRADIENTS = MapMethod(
    "integrated-gradients",
    "Integrated gradients",
    "What each voxel adds to the decision; the map adds up to all of it.",
    "a network",
    True,
    "Sundararajan et al., ICML 2017",
)
OCCLUSION = MapMethod(
    "occlusion",
    "Occlusion",
    "What is lost when a block is exchanged: for networks, and for features, which have no gradient.",
    "anything that gives a number",
    True,
    "Zeiler and Fergus, ECCV 2014",
)

METHODS = (OCCLUSION, INTEGRATED_GRADIENTS, GRAD_CAM, SMOOTH_GRAD, GUIDED_BACKPROPAGATION)


@dataclasses.dataclass(frozen=True)
class Question:
    """What a map may answer. title: in the panel.

    needs: the model folder that it is asked of, in words; empty where there is none. systems: those of its models.
    of_network: True where any method serves, False where only occlusion does, since features have no gradient.
    """

    name: str
    title: str
    needs: str
    systems: tuple[str, ...]
    of_network: bool


QUESTIONS = (
    Question("feature", "What moved a radiomics feature?", "", (), False),
    Question("outcome", "What moved an outcome model?", "an outcome model", ("outcome",), False),
    Question("scanner", "What gives the scanner away?", "a model with a scanner classifier", ("harmonae",), True),
    Question("critic", "What looks non-standard?", "a model with its critic", ("radiomicgan", "cyclegan"), True),
)


def map_method(name: str) -> MapMethod:
    """A method by its name. Raises InputError that lists the names for an unknown one."""
    return _named(name, METHODS, "way to a map")


def question(name: str) -> Question:
    """A question by its name. Raises InputError that lists the names for an unknown one."""
    return _named(name, QUESTIONS, "question")


def methods_for(asked: Question) -> tuple[MapMethod, ...]:
    """The methods that can answer a question, the best first."""
    return METHODS if asked.of_network else (OCCLUSION,)


def model_of(asked: Question, folder: Path | str) -> tuple[ModelCard, dict[str, np.ndarray]]:
    """Card and weights of a model that a question can be asked of. Raises ModelError for any other."""
    error: ModelError | None = None
    for system in asked.systems:
        try:
            return load_model(folder, system)
        except ModelError as found:
            error = error or found
    raise error or ModelError(f"'{asked.title}' is asked of no model; leave the model out")


def attribution(method: MapMethod, decision: Decision, rng: np.random.Generator) -> np.ndarray:
    """The map of a decision, float32, (batch, y, x) or (batch, z, y, x), not scaled.

    Raises InputError where captum is not installed, or where the network does not suit the method.
    """
    try:
        import captum  # noqa: F401 - the functions below import what they need of it
    except ImportError as error:
        raise InputError(
            "attribution maps of networks need captum; install it: pip install captum (or choose a feature, which "
            "needs none)"
        ) from error
    from .grad_cam import grad_cam
    from .gradients import guided_backpropagation, smooth_grad
    from .integrated_gradients import integrated_gradients
    from .occlusion import occlusion

    if method is GRAD_CAM:
        return grad_cam(
            decision.network, decision.layer, decision.image, *decision.conditions, score=decision.score
        ).numpy()
    if method is SMOOTH_GRAD:
        return smooth_grad(decision, rng)[:, 0].numpy()
    function = {
        GUIDED_BACKPROPAGATION: guided_backpropagation,
        INTEGRATED_GRADIENTS: integrated_gradients,
        OCCLUSION: occlusion,
    }[method]
    return function(decision)[:, 0].numpy()


def _named(name: str, among: tuple, what: str):
    for candidate in among:
        if candidate.name == name:
            return candidate
    names = [candidate.name for candidate in among]
    near = difflib.get_close_matches(str(name), names, 1)
    hint = f"did you mean '{near[0]}'?" if near else f"there are: {', '.join(names)}"
    raise InputError(f"there is no {what} '{name}'; {hint}")
