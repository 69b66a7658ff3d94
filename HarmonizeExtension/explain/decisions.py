"""The decisions that trained models make about a scan: which scanner took it, and does it look standard?

What judged during a training is kept in the model's folder beside what harmonizes: a scanner classifier under
`classifier.`, a critic under `critic.`. A model without it answers all else, and says so here in a sentence.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from ..body import body_mask
from ..errors import InputError, ModelError
from ..files.models import ModelCard
from ..methods.cyclegan.network import critic
from ..methods.cyclegan.suv_scale import SuvScale
from ..methods.harmonae.network import MULTIPLE, SMALLEST_SIDE, Classifier, Encoder
from ..networks.intensity import body_level, to_network
from ..networks.kernel_blocks import PatchJudge, kernel_code, scaled
from ..scan import Scan
from .catalogue import model_of, question
from .looking import Decision, mean_output
from .views import View, view

BLUR_MM = 6.0  # standard deviation of what takes away texture and edges, and leaves organs
BLOCK_MM = 16.0
NOTICEABLE = 0.25  # of log odds: a chance of 50 % against one of 56 %
MOST_BLOCKS = 160
SMALLEST_CT, SMALLEST_PET = 128, 32  # pixels that the patch critics need, and some
NOTICEABLE_OPINION = 0.05  # of a critic that says 1 or 0
MOST_SLICES = 8  # that are looked at, evenly spaced; the map is interpolated between them


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
    card, weights = model_of(question("scanner"), folder)
    own = _under(weights, "classifier.")
    if not own:
        raise ModelError(
            f"the model '{folder}' was written without its scanner classifier; train it again to be able to ask it"
        )
    _check_site(card, site)
    own_encoder = _under(weights, "encoder.")
    width = _channels(own_encoder, "layers.0.bias", folder)
    encoder, classifier = Encoder(width), Classifier(len(card.sites), width)
    _load(encoder, own_encoder, folder)
    _load(classifier, own, folder)
    spacing = float(card.preprocessing.get("spacing_mm", 1.0))

    def seen(array: np.ndarray, body: np.ndarray) -> np.ndarray:
        return to_network(array, max(body_level(array, body), 1e-6))

    views = _views(scan, after, seen, spacing_mm=(spacing, spacing, 0), multiple=MULTIPLE, smallest=SMALLEST_SIDE)
    image, reference, slices, block = _slices(views)
    network = torch.nn.Sequential(encoder, classifier).eval()
    with torch.inference_mode():
        chances = torch.cat([network(part) for part in image.split(4)]).softmax(1).mean(0)
    index = card.sites.index(site) if site else int(chances.argmax())

    def log_odds(logits: Tensor) -> Tensor:
        others = [n for n in range(logits.shape[1]) if n != index]
        return logits[:, index] - torch.logsumexp(logits[:, others], 1)

    about = (
        f"Log odds that {card.sites[index]} took the scan, by the scanner classifier of '{card.title}', which gives it "
        f"{float(chances[index]):.0%} (by chance {1 / len(card.sites):.0%})"
    )
    # After the second convolution: places of 16 pixels. Those behind it see the whole head.
    decision = Decision(network, log_odds, classifier.layers[5], image, reference, block)
    return Seen(decision, views[0], slices, about, NOTICEABLE)


def critic_decision(scan: Scan, folder: Path | str, site: str = "", after: Scan | None = None) -> Seen:
    """How far a model's critic takes the scan for one that is not of a standard.

    site: the standard (a kernel, a centre), one of the model's; by default its first. after: what stands for a standard
    image (a harmonized scan on the same grid); by default the scan itself, blurred.
    """
    card, weights = model_of(question("critic"), folder)
    _check_site(card, site)
    site = site or card.sites[0]
    prefix = "judge." if card.system == "radiomicgan" else f"critic.{site}."
    own = _under(weights, prefix)
    if not own:
        raise ModelError(f"the model '{folder}' was written without its critic; train it again to be able to ask it")
    ask = _kernel_critic if card.system == "radiomicgan" else _centre_critic
    about = f"How far the critic of '{card.title}' takes the scan for one that is not of {site}"
    return ask(scan, after, card, own, site, about, folder)


class _SideBySide(torch.nn.Module):
    """A judge that is shown the source (batch, 1, y, x) beside the image in question, and a code."""

    def __init__(self, judge: torch.nn.Module):
        super().__init__()
        self.judge = judge

    def forward(self, image: Tensor, source: Tensor, code: Tensor) -> Tensor:
        return self.judge(torch.cat([source, image], dim=1), code)


def _kernel_critic(scan: Scan, after, card: ModelCard, weights, site: str, about: str, folder) -> Seen:
    """RadiomicGAN's judge of CT slices, which is shown the scan and, beside it, the image in question."""
    judge = PatchJudge(2, len(card.sites), _channels(weights, "features.0.bias", folder))
    _load(judge, weights, folder)
    window = tuple(card.preprocessing["window_hu"])

    def seen(array: np.ndarray, body: np.ndarray) -> np.ndarray:
        return scaled(torch.from_numpy(array), window).numpy()

    views = _views(scan, after, seen, smallest=SMALLEST_CT)
    image, reference, slices, block = _slices(views)
    pixel_mm = torch.full((len(image),), float(np.sqrt(np.prod(views[0].spacing_mm[:2]))))
    code = kernel_code(torch.full((len(image),), card.sites.index(site)), len(card.sites), pixel_mm)
    decision = Decision(_SideBySide(judge).eval(), not_standard, judge.features, image, reference, block, (image, code))
    return Seen(decision, views[0], slices, f"{about} (mean logit of its patches)", NOTICEABLE)


def _centre_critic(scan: Scan, after, card: ModelCard, weights, site: str, about: str, folder) -> Seen:
    """The PET CycleGAN's critic for one centre, on the whole volume at once."""
    network = critic(card.preprocessing["size"], _channels(weights, "body.0.bias", folder), sigmoid=False)
    _load(network, weights, folder)
    scale = SuvScale.of(card.preprocessing["scale"], scan.array)
    views = _views(
        scan,
        after,
        lambda array, body: scale.to_network(array),
        spacing_mm=(float(card.preprocessing["spacing_mm"]),) * 3,
        smallest=SMALLEST_PET,
    )
    image, reference = (torch.from_numpy(array[None, None]) for array in _with_reference(views))
    block = _block(image.shape[2:], views[0].spacing_mm[::-1])
    decision = Decision(network.eval(), not_standard, network.body[2], image, reference, block)
    return Seen(decision, views[0], (), f"{about} (-1 for its own, 0 for others)", NOTICEABLE_OPINION)


def not_standard(output: Tensor) -> Tensor:
    """How little a critic takes the patches of images for true ones, (batch,); it says 1 or a high logit for those."""
    return -mean_output(output)


def _views(scan: Scan, after: Scan | None, seen, **more) -> list[View]:
    """The scan as a network sees it, and the one after, if there is one, with the same eyes."""
    body = body_mask(scan)
    return [view(each, seen, body=body, **more) for each in (scan, after) if each is not None]


def _with_reference(views: list[View]) -> tuple[np.ndarray, np.ndarray]:
    """The volume that a network sees (z, y, x), and the one without what is asked for: that after, or blurred."""
    array = views[0].array
    if len(views) > 1:
        return array, views[1].array
    return array, ndimage.gaussian_filter(array, [BLUR_MM / s for s in views[0].spacing_mm[::-1]], mode="nearest")


def _block(shape: tuple[int, ...], spacing_mm: Sequence[float]) -> tuple[int, ...]:
    """The size in voxels of a block, a square or a cube; there are at most about MOST_BLOCKS in an image."""
    extent_mm = np.array(shape) * spacing_mm
    side = max(BLOCK_MM, (extent_mm.prod() / MOST_BLOCKS) ** (1 / len(shape)))
    return tuple(max(round(side / s), 1) for s in spacing_mm)


def _slices(views: list[View]):
    """Images and references of the slices looked at (n, 1, y, x), their z, and the size of a block."""
    array, reference = _with_reference(views)
    count = min(MOST_SLICES, len(array))
    # The middle of as many equal parts, so that the ends of the body, which show little, do not stand for much.
    slices = tuple(((np.arange(count) + 0.5) * len(array) / count).astype(int).tolist())
    image, without = (torch.from_numpy(volume[list(slices)][:, None]) for volume in (array, reference))
    return image, without, slices, _block(array.shape[1:], views[0].spacing_mm[1::-1])


def _check_site(card: ModelCard, site: str) -> None:
    if site and site not in card.sites:
        raise InputError(f"the model '{card.title}' does not know '{site}'; it knows: {', '.join(card.sites)}")


def _under(weights: Mapping[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    """The arrays whose name begins so, without that beginning."""
    return {name.removeprefix(prefix): array for name, array in weights.items() if name.startswith(prefix)}


def _channels(weights: Mapping[str, np.ndarray], name: str, folder: Path | str) -> int:
    """The channels of a layer, by the length of its bias."""
    if name not in weights:
        raise ModelError(f"the weights of the model '{folder}' are not what its card says; get it again")
    return len(weights[name])


def _load(network, weights: Mapping[str, np.ndarray], folder: Path | str) -> None:
    try:
        network.load_state_dict({name: torch.from_numpy(array.copy()) for name, array in weights.items()})
    except (KeyError, RuntimeError, TypeError) as error:
        raise ModelError(f"the weights of the model '{folder}' are not what its card says; get it again") from error
