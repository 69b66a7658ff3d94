"""Does a map say where the decision comes from? Deletion and insertion, held against chance and against edges.

Sources: Petsiuk, Das and Saenko, RISE, BMVC 2018, section 4.2 (the two curves); Papadimitroulas et al., Phys Med 83,
2021, section 4 (maps made for visual appeal may say nothing, and what is deleted may be judged by its strangeness
alone: here it becomes that of a likely reference); Adebayo et al., Sanity checks for saliency maps, NeurIPS 2018 (a map
that an edge detector draws as well explains no model).
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Callable, Mapping

import numpy as np

from ..progress import CancelCheck, Progress, never, silent, stop_if

FRACTIONS = (0.0, 0.1, 0.2, 0.35, 0.5, 0.75, 1.0)
QUOTED = 0.2  # the fraction that the sentence speaks of
DRAWS = 5  # of random maps
MARGIN = 0.05  # by which a map must at least beat a control in gain, what curves of so few points can show

# The score with these blocks (images, blocks; bool) as in the image, the others as in the reference.
Evaluate = Callable[[np.ndarray], float]


class Verdict(enum.StrEnum):
    """What a map is worth."""

    FAITHFUL = "faithful"
    AS_CONTROL = "no better than a control"
    CHANCE = "no better than chance"
    NOTHING = "nothing to explain"


@dataclasses.dataclass(frozen=True)
class Curves:
    """Deletion and insertion at `FRACTIONS` of the blocks, as shares of the whole change: 1 at the image, 0 without.

    gain: area under insertion minus area under deletion; 0 on average for a random map, below 1 unless they overshoot.
    """

    deletion: tuple[float, ...]
    insertion: tuple[float, ...]

    @property
    def deletion_area(self) -> float:
        return float(np.trapezoid(self.deletion, FRACTIONS))

    @property
    def insertion_area(self) -> float:
        return float(np.trapezoid(self.insertion, FRACTIONS))

    @property
    def gain(self) -> float:
        return self.insertion_area - self.deletion_area

    @property
    def taken(self) -> float:
        """The share of the change that deleting the highest `QUOTED` of the blocks takes away."""
        return 1 - self.deletion[FRACTIONS.index(QUOTED)]

    def to_json(self) -> dict:
        return {
            "deletion area": round(self.deletion_area, 4),
            "insertion area": round(self.insertion_area, 4),
            "gain": round(self.gain, 4),
            "deletion": [round(v, 4) for v in self.deletion],
            "insertion": [round(v, 4) for v in self.insertion],
        }


@dataclasses.dataclass(frozen=True)
class Faithfulness:
    """The curves of a map and of the controls ("chance" is the mean of random maps), and what follows in words.

    score, reference: of the image and of the reference, in the unit of the decision.
    """

    verdict: Verdict
    sentence: str
    score: float
    reference: float
    curves: Curves | None = None
    controls: Mapping[str, Curves] = dataclasses.field(default_factory=dict)

    def to_json(self) -> dict:
        """Everything as JSON can hold it."""
        return {
            "verdict": self.verdict.value,
            "sentence": self.sentence,
            "score": self.score,
            "score of the reference": self.reference,
            "fractions": list(FRACTIONS),
            "map": self.curves.to_json() if self.curves else None,
            "controls": {name: curves.to_json() for name, curves in self.controls.items()},
        }


def faithfulness(
    worth: np.ndarray,
    controls: Mapping[str, np.ndarray],
    evaluate: Evaluate,
    rng: np.random.Generator,
    noticeable: float = 0.0,
    progress: Progress = silent,
    cancelled: CancelCheck = never,
) -> Faithfulness:
    """Hold a map against controls.

    worth: of each block of each image by the map (images, blocks), the highest first to go. controls: by name ("edges")
    other maps of the same shape. noticeable: change of the score, in its unit, below which there is nothing to explain.
    """
    everything = np.ones(worth.shape, bool)
    score, reference = evaluate(everything), evaluate(~everything)
    whole = score - reference
    if abs(whole) <= max(noticeable, 1e-9 * max(abs(score), abs(reference))):
        return Faithfulness(Verdict.NOTHING, _nothing(score, reference), score, reference)
    maps = {"map": worth, **controls, **{f"random {n}": rng.random(worth.shape) for n in range(DRAWS)}}
    # Blocks of equal worth go in random order, not from the corner on.
    found = {}
    for number, (name, values) in enumerate(maps.items()):
        rank = np.argsort(np.lexsort((rng.random(values.shape), -values), axis=-1), axis=-1)
        lines: dict[str, list[float]] = {"deletion": [1.0], "insertion": [0.0]}
        for fraction in FRACTIONS[1:-1]:
            stop_if(cancelled)
            progress(number / len(maps), "Checking the map")
            high = rank < round(fraction * values.shape[-1])
            lines["deletion"].append((evaluate(~high) - reference) / whole)
            lines["insertion"].append((evaluate(high) - reference) / whole)
        found[name] = Curves((*lines["deletion"], 0.0), (*lines["insertion"], 1.0))
    drawn = [found.pop(f"random {n}") for n in range(DRAWS)]
    chance = Curves(
        *(tuple(np.mean([getattr(c, line) for c in drawn], axis=0).tolist()) for line in ("deletion", "insertion"))
    )
    curves = found.pop("map")
    progress(1.0, "Checking the map")
    gains = [c.gain for c in drawn]
    by_luck = float(np.mean(gains) + max(2 * np.std(gains, ddof=1), MARGIN))  # which 1 random map in 20 or so exceeds
    verdict, sentence = _judged(curves, found, by_luck, chance)
    return Faithfulness(verdict, sentence, score, reference, curves, {**found, "chance": chance})


def _judged(curves: Curves, controls: Mapping[str, Curves], by_luck: float, chance: Curves) -> tuple[Verdict, str]:
    figures = ", ".join(
        f"{name} {_percent(c.taken)}" for name, c in (("the map", curves), *controls.items(), ("chance", chance))
    )
    figures = f"deleting the highest {_percent(QUOTED)} takes away: {figures} of the change"
    if curves.gain <= by_luck:
        return Verdict.CHANCE, f"This map says nothing: it is no better than chance ({figures})"
    as_good = [name for name, c in controls.items() if curves.gain <= c.gain + MARGIN]
    if as_good:
        return Verdict.AS_CONTROL, f"This map says no more than a map of {' or of '.join(as_good)} ({figures})"
    return Verdict.FAITHFUL, f"This map is faithful: {figures}"


def _nothing(score: float, reference: float) -> str:
    return f"There is nothing to explain: the score is {score:.4g}, and {reference:.4g} for the reference"


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"
