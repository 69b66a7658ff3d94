"""The decisions that trained models make about a scan: which scanner took it, and does it look standard?

What judged during a training is kept in the model's folder beside what harmonizes: a scanner classifier under
`classifier.`, a critic under `critic.`. A model without it answers all else, and says so here in a sentence.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from scipy import ndimage

from ..body import body_mask
from ..errors import InputError, ModelError
from ..files.models import ModelCard, load_model
from ..networks.intensity import body_level, to_network
from ..scan import Scan
from .looking import Decision
from .views import View, view

BLUR_MM = 6.0  # standard deviation of what takes away texture and edges, and leaves organs
BLOCK_MM = 16.0
MOST_SLICES = 16  # that are looked at, evenly spaced; the map is interpolated between them


@dataclasses.dataclass(frozen=True)
class Seen:
    """A decision about a scan, and how its maps come back to the scan.

    decision: about the slices looked at (a batch), or about the volume as one. slices: their z in the view, empty where
    the network sees volumes. about: what the score is, with its unit. noticeable: the least change of it that matters.
    """

    decision: Decision
    view: View
    slices: tuple[int, ...]
    about: str
    noticeable: float

    def volume(self, maps: np.ndarray) -> np.ndarray:
        """Maps of the batch as one volume on the view (z, y, x), linear between the slices that were looked at."""
        if not self.slices:
            return maps[0]
        wanted = np.arange(len(self.view.array))
        after = np.clip(np.searchsorted(self.slices, wanted), 0, len(self.slices) - 1)
        before = np.maximum(after - 1, 0)
        at = np.array(self.slices)
        gap = np.maximum(at[after] - at[before], 1)
        share = np.clip((wanted - at[before]) / gap, 0, 1) if len(at) > 1 else np.ones(len(wanted))
        share = np.where(after == before, 1.0, share)[:, None, None].astype(np.float32)
        return (1 - share) * maps[before] + share * maps[after]


def scanner_decision(scan: Scan, folder: Path | str, site: str = "", after: Scan | None = None) -> Seen:
    """Which scanner took it, by the classifier of a HarMOnAE model: log odds against all others.

    site: the scanner that is asked about; by default the one that the classifier takes to be right. after: what stands
    for an image that does not give it away (a harmonized scan on the same grid); by default the scan itself, blurred.
    """
    card, weights = _model(folder, "harmonae")
    own = _under(weights, "classifier.")
    if not own:
        raise ModelError(
            f"the model '{folder}' was written without its scanner classifier; train it again to be able to ask it"
        )
    torch = _torch()
    from ..methods.harmonae.network import MULTIPLE, SMALLEST_SIDE, Classifier, Encoder

    width = len(weights["encoder.layers.0.bias"])
    encoder, classifier = Encoder(width), Classifier(len(card.sites), width)
    _load(encoder, _under(weights, "encoder."), folder)
    _load(classifier, own, folder)
    body = body_mask(scan)
    spacing = float(card.preprocessing.get("spacing_mm", 1.0))

    def scaled(array: np.ndarray, body: np.ndarray) -> np.ndarray:
        return to_network(array, max(body_level(array, body), 1e-6))

    views = [
        view(each, scaled, (spacing, spacing, 0), multiple=MULTIPLE, smallest=SMALLEST_SIDE, body=body)
        for each in (scan, after)
        if each is not None
    ]
    image, reference, slices, block = _slices(views)
    network = torch.nn.Sequential(encoder, classifier).eval()
    if site and site not in card.sites:
        raise InputError(
            f"the model '{card.title}' does not know a scanner '{site}'; it knows: {', '.join(card.sites)}"
        )
    with torch.inference_mode():
        chances = torch.cat([network(part) for part in image.split(4)]).softmax(1).mean(0)
    index = card.sites.index(site) if site else int(chances.argmax())

    def log_odds(logits):
        others = [n for n in range(logits.shape[1]) if n != index]
        return logits[:, index] - torch.logsumexp(logits[:, others], 1)

    about = (
        f"log odds that {card.sites[index]} took the scan, by the scanner classifier of '{card.title}', which gives it "
        f"{float(chances[index]):.0%} (by chance {1 / len(card.sites):.0%})"
    )
    # After the second convolution: places of 16 pixels. Those behind it see the whole head.
    decision = Decision(network, log_odds, classifier.layers[5], image, reference, block)
    return Seen(decision, views[0], slices, about, 0.1)


def critic_decision(scan: Scan, folder: Path | str, site: str = "", after: Scan | None = None) -> Seen:
    """How far a model's critic takes the scan for one that is not standard.

    site: the standard (a kernel, a centre), one of the model's; by default its first. after: what stands for a standard
    image (a harmonized scan on the same grid); by default the scan itself, blurred.
    """
    card, weights = _model(folder, *CRITICS)
    _check_site(card, site)
    own = _under(weights, "critic.")
    if not own:
        raise ModelError(f"the model '{folder}' was written without its critic; train it again to be able to ask it")
    _torch()
    return CRITICS[card.system](scan, card, own, site or card.sites[0], after, folder)


def _pet_critic(
    scan: Scan, card: ModelCard, weights: Mapping[str, np.ndarray], site: str, after: Scan | None, folder: Path | str
) -> Seen:
    """The patch critic of the PET CycleGAN for one centre, on the whole volume at once."""
    raise NotImplementedError


CRITICS = {"cyclegan": _pet_critic}


def _slices(views: list[View]):
    """Images and references of the slices looked at (n, 1, y, x), their z, and the size of a block."""
    torch = _torch()
    array, spacing = views[0].array, views[0].spacing_mm
    count = min(MOST_SLICES, len(array))
    # The middle of as many equal parts, so that the ends of the body, which show little, do not stand for much.
    slices = tuple(((np.arange(count) + 0.5) * len(array) / count).astype(int).tolist())
    image = array[list(slices)]
    if len(views) > 1:
        reference = views[1].array[list(slices)]
    else:
        sigma = [0.0, *(BLUR_MM / s for s in spacing[1::-1])]
        reference = ndimage.gaussian_filter(image, sigma, mode="nearest")
    block = tuple(max(round(BLOCK_MM / s), 1) for s in spacing[1::-1])
    return torch.from_numpy(image[:, None]), torch.from_numpy(reference[:, None]), slices, block


def _model(folder: Path | str, *systems: str) -> tuple[ModelCard, dict[str, np.ndarray]]:
    """A model of one of the systems. Raises ModelError for any other."""
    error: ModelError | None = None
    for system in systems:
        try:
            return load_model(folder, system)
        except ModelError as found:
            error = error or found
    raise error


def _check_site(card: ModelCard, site: str) -> None:
    if site and site not in card.sites:
        raise InputError(f"the model '{card.title}' does not know '{site}'; it knows: {', '.join(card.sites)}")


def _under(weights: Mapping[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    """The arrays whose name begins so, without that beginning."""
    return {name.removeprefix(prefix): array for name, array in weights.items() if name.startswith(prefix)}


def _load(network, weights: Mapping[str, np.ndarray], folder: Path | str) -> None:
    torch = _torch()
    try:
        network.load_state_dict({name: torch.from_numpy(array.copy()) for name, array in weights.items()})
    except (KeyError, RuntimeError, TypeError) as error:
        raise ModelError(f"the weights of the model '{folder}' are not what its card says; get it again") from error


def _torch():
    try:
        import torch
    except ImportError as error:
        raise ModelError("to ask a network, PyTorch is needed; install it: pip install torch safetensors") from error
    return torch
