"""The Bloch mapping of PhyCHarm: from T1 and M0 maps and one protocol's image to the image of another protocol.

G. Lee et al., medRxiv 2025.02.07.25321867, equations 3 to 10: the signal equation gives what the source's and the
target's protocol make of the maps, and what is left between the source's image and the source's signal is a corrective
term that the target's signal is multiplied with.

Three things are done otherwise than there. The signal is that of MPRAGE with its train of small flip angles: the
paper's equation, in which the readout saturates, misses the contrast of such scans by 12 to 61 % of the mean signal,
the train that is assumed where the tags are silent by 1 to 4 % (root mean square over simulated brains, true maps,
Testing/engine/methods/test_bloch.py). The corrective term is smooth and bounded: one that is computed voxel by voxel
repeats the image whatever the maps are, and no error of the maps would show. And it is not read as T2*: a smooth field
is mostly gain and coil, which do not change with the echo time, so that only the difference of the echo times enters,
with one T2* for all tissue. Where the field strengths differ, T1 is carried over first.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.polynomial import legendre

from ...errors import InputError
from ...physics.mr_signal import Protocol, Sequence
from ...physics.tissues import Tissue, properties
from ...scan import Acquisition

T2_STAR_MS = (
    50.0  # of brain tissue, between grey and white matter at 3 T (Peters et al., Magn Reson Imaging 25:748, 2007)
)
SHORTEST_SHOT_MS = 500.0  # a repetition time below is that between echoes, or between pulses
TRAIN_ECHOES = 160  # after one inversion: a head at 1 mm along the direction that the train encodes
SPOILING_MS = 1.2  # of an echo's time that lies outside the echo time before and after its middle
CORRECTION_LIMITS = (0.5, 1.5)  # of the corrective term relative to its median
POLYNOMIAL_ORDER = 3
FIT_VOXELS = 60_000
LEAST_SIGNAL = 0.3  # of the median: darker voxels say little about gain

# How T1 of one field strength becomes that of another: through these tissues.
_LANDMARKS = (Tissue.FAT, Tissue.WHITE_MATTER, Tissue.GREY_MATTER, Tissue.CSF)


def protocol_of(acquisition: Acquisition, name: str, shot_repetition_time_ms: float | None = None) -> Protocol:
    """The protocol that a scan's tags describe: MPRAGE where there is an inversion time, else spoiled gradient echo.

    Tags do not hold the echo train that follows an inversion. It is taken to be as long as such trains are, with its
    centre at the inversion time, and the echoes as close as their echo time lets them be.
    shot_repetition_time_ms: from inversion to inversion, where the tags give the time between echoes instead.
    Raises InputError for tags that are missing or contradict each other, with what to do.
    """
    needed = {
        "repetition time (0018,0080)": acquisition.repetition_time_ms,
        "echo time (0018,0081)": acquisition.echo_time_ms,
        "flip angle (0018,1314)": acquisition.flip_angle_deg,
    }
    missing = [what for what, value in needed.items() if value is None]
    if missing:
        raise InputError(f"the protocol of '{name}' lacks {', '.join(missing)}; type the protocol in")
    tr_ms, ti_ms = acquisition.repetition_time_ms, acquisition.inversion_time_ms
    te_ms, angle_deg = acquisition.echo_time_ms, acquisition.flip_angle_deg
    if not ti_ms:  # some scanners write 0 where there is no inversion
        if tr_ms >= SHORTEST_SHOT_MS:
            raise InputError(
                f"the protocol of '{name}' has a repetition time of {tr_ms:g} ms, but no inversion time; give it, as "
                "a spoiled gradient echo is never that slow and other sequences cannot be mapped"
            )
        return Protocol(name, Sequence.SPOILED_GRADIENT_ECHO, tr_ms, te_ms, angle_deg)
    shot_ms = tr_ms if shot_repetition_time_ms is None else shot_repetition_time_ms
    if shot_ms < SHORTEST_SHOT_MS:
        raise InputError(
            f"the protocol of '{name}' has an inversion time of {ti_ms:g} ms and a repetition time of {shot_ms:g} ms, "
            "which is the time between echoes, as GE and Philips write it; give the time from inversion to inversion"
        )
    readout_ms = tr_ms if tr_ms < SHORTEST_SHOT_MS else 2 * te_ms + SPOILING_MS
    before, after = (min(TRAIN_ECHOES // 2, int(time_ms / readout_ms)) for time_ms in (ti_ms, shot_ms - ti_ms))
    train = (readout_ms, before, max(after, 1))
    return Protocol(name, Sequence.MPRAGE, shot_ms, te_ms, angle_deg, ti_ms, *train)


def t1_at_field(t1_ms: np.ndarray, source_tesla: float, target_tesla: float) -> np.ndarray:
    """T1 (ms) at another field strength: the ratio of fat, white and grey matter and fluid, and between them by log T1.

    Raises InputError for a field strength other than 1.5 and 3 T, unless both are the same.
    """
    if source_tesla == target_tesla:
        return t1_ms
    source, target = (
        np.array([properties(field)[tissue].t1_ms for tissue in _LANDMARKS]) for field in (source_tesla, target_tesla)
    )
    known = np.maximum(t1_ms, 1.0)
    ratio = np.exp(np.interp(np.log(known), np.log(source), np.log(target / source)))
    return (t1_ms * ratio).astype(np.float32)


@dataclasses.dataclass(frozen=True)
class BlochMapping:
    """From the image of one protocol to that of another, by way of T1 and M0 maps.

    field_strengths_tesla: of source and target; the maps are those of the source.
    """

    source: Protocol
    target: Protocol
    field_strengths_tesla: tuple[float, float] = (3.0, 3.0)

    def apply(
        self,
        image: np.ndarray,
        t1_ms: np.ndarray,
        m0: np.ndarray,
        mask: np.ndarray,
        spacing_mm: tuple[float, float, float],
    ) -> np.ndarray:
        """The image (z, y, x), float32, as the target's protocol would show it, on the intensity scale of the source.

        image: (z, y, x), the source's. t1_ms, m0: maps on the same voxels, m0 on any scale; 0 where there is no tissue.
        mask: the tissue whose maps are to be trusted, such as the brain. spacing_mm: (x, y, z).
        Raises InputError for maps that do not fit the image or hold nothing inside the mask.
        """
        self._check(image, t1_ms, m0, mask)
        field = corrective_term(image, _signal(self.source, t1_ms, m0), mask, spacing_mm)
        later_ms = self.target.echo_time_ms - self.source.echo_time_ms
        field *= np.float32(np.exp(-later_ms / T2_STAR_MS))
        return _signal(self.target, t1_at_field(t1_ms, *self.field_strengths_tesla), m0) * field

    @staticmethod
    def _check(image, t1_ms, m0, mask):
        for what, array in (("T1 map", t1_ms), ("M0 map", m0), ("mask", mask)):
            if array.shape != image.shape:
                raise InputError(f"the {what} is {array.shape}, but the image is {image.shape}; resample it")
            if not np.isfinite(array).all():
                raise InputError(f"the {what} holds values that are no numbers; replace them by 0")
        if (t1_ms < 0).any():
            raise InputError("the T1 map is negative in places; it must be in ms, and 0 where there is no tissue")
        tissue = t1_ms[mask.astype(bool) & (t1_ms > 0)]
        if not tissue.size:
            raise InputError("the T1 map holds nothing inside the mask; map the tissue that the mask holds")
        if np.median(tissue) < 20:
            raise InputError(f"the T1 map has a median of {np.median(tissue):g} inside the mask; it must be in ms")


def _signal(protocol: Protocol, t1_ms: np.ndarray, m0: np.ndarray) -> np.ndarray:
    """The magnitude of the signal before T2* decay (z, y, x), float32; 0 where there is no tissue."""
    signal = np.zeros(t1_ms.shape, np.float32)
    tissue = t1_ms > 0
    signal[tissue] = np.abs(protocol.signal(t1_ms[tissue].astype(np.float32), np.inf, m0[tissue]))
    return signal


def corrective_term(
    image: np.ndarray, signal: np.ndarray, mask: np.ndarray, spacing_mm: tuple[float, float, float]
) -> np.ndarray:
    """The smooth field (z, y, x), float32, by which an image differs from the signal of its maps: gain, coil, decay.

    Its logarithm is a polynomial of third order, as a coil's field is (`mr_signal.coil_field`), fitted inside the mask
    with Tukey's weights, so that what the maps do not explain, such as vessels, has no say; limited to 0.5 to 1.5
    times its median. spacing_mm: (x, y, z). Raises InputError where the mask holds no signal.
    """
    usable = mask.astype(bool) & (image > 0) & (signal > 0)
    usable &= signal > LEAST_SIGNAL * np.median(signal[usable]) if usable.any() else False
    index = np.flatnonzero(usable)
    if len(index) < 100:
        raise InputError("image and maps share hardly any signal inside the mask; check that they belong together")
    index = index[:: max(1, len(index) // FIT_VOXELS)]
    place = np.unravel_index(index, image.shape)
    spans = [(p.min(), p.max()) for p in place]
    bases = [
        _basis(np.arange(n), span, step) for n, span, step in zip(image.shape, spans, spacing_mm[::-1], strict=True)
    ]
    powers = [p for p in np.ndindex(*[POLYNOMIAL_ORDER + 1] * 3) if sum(p) <= POLYNOMIAL_ORDER]
    terms = np.stack([np.prod([b[i, k] for b, i, k in zip(bases, place, p, strict=True)], axis=0) for p in powers], 1)
    ratio = np.log(image.ravel()[index] / signal.ravel()[index].astype(np.float64))
    strength = signal.ravel()[index].astype(np.float64)  # the darker a voxel, the more its logarithm is noise
    weight = strength
    for _ in range(6):
        weighted = terms * (weight**2)[:, None]
        # The normal equations of few terms and many voxels; a single slice leaves some terms undetermined.
        found = np.linalg.lstsq(weighted.T @ terms, weighted.T @ ratio, rcond=1e-12)[0]
        misfit = np.abs(ratio - terms @ found)
        scale = 4.685 * 1.4826 * np.median(misfit) + 1e-9
        weight = strength * np.clip(1 - (misfit / scale) ** 2, 0, 1)  # the square root of Tukey's weights
    cube = np.zeros([POLYNOMIAL_ORDER + 1] * 3)
    for power, value in zip(powers, found, strict=True):
        cube[power] = value
    field = np.einsum(
        "zi,yj,xk,ijk->zyx", *(b.astype(np.float32) for b in bases), cube.astype(np.float32), optimize=True
    )
    middle = np.median(terms @ found)
    low, high = (np.log(limit) for limit in CORRECTION_LIMITS)
    return np.exp(np.clip(field, middle + low, middle + high)).astype(np.float32)


def _basis(index: np.ndarray, span: tuple[int, int], step_mm: float) -> np.ndarray:
    """Legendre polynomials along one axis, constant beyond the mask, where nothing is known of the field."""
    middle = (span[0] + span[1]) / 2
    return legendre.legvander((np.clip(index, *span) - middle) * step_mm / 100.0, POLYNOMIAL_ORDER)
