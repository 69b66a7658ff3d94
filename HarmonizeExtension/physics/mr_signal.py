"""MR signal: from tissue properties and a protocol to what a scanner stores.

Signal equations of the three sequences that T1-weighted imaging of the head uses, and the steps that turn the ideal
signal into an image: coil profile, point spread, Rician noise, gain. Times are in milliseconds, angles in degrees,
the proton density is relative to water. Every equation broadcasts over arrays and keeps float32.

Sources: R. R. Ernst and W. A. Anderson, Rev Sci Instrum 37:93 (1966) for the spoiled gradient echo; J. P. Marques
et al., NeuroImage 49:1271 (2010), appendix, for the steady state of MPRAGE; H. Gudbjartsson and S. Patz, Magn Reson
Med 34:910 (1995) for Rician noise.
"""

from __future__ import annotations

import dataclasses
import enum

import numpy as np
from numpy.polynomial import legendre
from scipy import fft

from ..errors import InputError

INVERSION_EFFICIENCY = 0.96  # of an adiabatic pulse, as Marques 2010 uses


def spoiled_gradient_echo(t1_ms, repetition_time_ms: float, flip_angle_deg) -> np.ndarray:
    """Steady-state signal of the spoiled gradient echo for unit proton density, before T2* decay (Ernst 1966)."""
    e1 = np.exp(-repetition_time_ms / t1_ms)
    angle = np.deg2rad(flip_angle_deg)
    return np.sin(angle) * (1 - e1) / (1 - np.cos(angle) * e1)


def ernst_angle_deg(t1_ms, repetition_time_ms: float) -> np.ndarray:
    """The flip angle at which the spoiled gradient echo of this T1 is strongest: cos(angle) = exp(-TR / T1)."""
    return np.rad2deg(np.arccos(np.exp(-repetition_time_ms / t1_ms)))


def inversion_recovery(t1_ms, inversion_time_ms: float, repetition_time_ms: float) -> np.ndarray:
    """K(T1; TI, TR) = 1 - 2 exp(-TI/T1) + exp(-TR/T1): perfect inversion, and a readout that saturates.

    Negative before the null at which the longitudinal magnetisation crosses zero.
    """
    return 1 - 2 * np.exp(-inversion_time_ms / t1_ms) + np.exp(-repetition_time_ms / t1_ms)


def mprage(
    t1_ms,
    repetition_time_ms: float,
    inversion_time_ms: float,
    flip_angle_deg,
    readout_repetition_time_ms: float,
    echoes_before: int,
    echoes_after: int,
    inversion_efficiency: float = INVERSION_EFFICIENCY,
) -> np.ndarray:
    """Signal at the centre of k-space of MPRAGE or IR-SPGR for unit proton density, before T2* decay.

    An inversion every `repetition_time_ms`, and a train of `echoes_before + echoes_after` excitations, of which the
    one after `echoes_before` falls `inversion_time_ms` after the inversion. The steady state is solved in closed
    form (Marques 2010, appendix). Negative where the magnetisation has not yet crossed zero.
    """
    angle = np.deg2rad(flip_angle_deg)
    e1 = np.exp(-readout_repetition_time_ms / t1_ms)
    kappa = np.cos(angle) * e1  # what one excitation and the wait after it leave of the magnetisation
    before, after = kappa**echoes_before, kappa**echoes_after
    gained = (1 - e1) / (1 - kappa)  # towards which the train drives the magnetisation
    wait_a_ms = inversion_time_ms - echoes_before * readout_repetition_time_ms
    wait_b_ms = repetition_time_ms - inversion_time_ms - echoes_after * readout_repetition_time_ms
    e_a, e_b = np.exp(-wait_a_ms / t1_ms), np.exp(-wait_b_ms / t1_ms)
    train = before * after
    steady = ((1 - e_a) * train + gained * (1 - train)) * e_b + (1 - e_b)
    steady = steady / (1 + inversion_efficiency * train * e_a * e_b)
    at_centre = ((1 - e_a) - inversion_efficiency * steady * e_a) * before + gained * (1 - before)
    return np.sin(angle) * at_centre


def t2_star_decay(t2_star_ms, echo_time_ms: float) -> np.ndarray:
    """The share of the signal that is left at the echo: exp(-TE / T2*)."""
    return np.exp(-echo_time_ms / t2_star_ms)


class Sequence(enum.StrEnum):
    """The T1-weighted sequences that can be simulated."""

    SPOILED_GRADIENT_ECHO = "SPGR"
    INVERSION_RECOVERY = "IR"
    MPRAGE = "MPRAGE"
    IR_SPGR = "IR-SPGR"  # GE's name (BRAVO): inversion-prepared segments, the same recursion as MPRAGE

    @property
    def has_echo_train(self) -> bool:
        return self in (Sequence.MPRAGE, Sequence.IR_SPGR)


@dataclasses.dataclass(frozen=True)
class Protocol:
    """The settings of a T1-weighted sequence; raises InputError when they contradict each other.

    repetition_time_ms: from inversion to inversion where there is one (Siemens writes this into DICOM; GE and Philips
        write the time between echoes, which is `readout_repetition_time_ms` here), else from pulse to pulse.
    inversion_time_ms: from the inversion to the centre of k-space.
    echoes_before, echoes_after: excitations of the train before and after the one at the centre of k-space (which
        counts among those after it).
    """

    name: str
    sequence: Sequence
    repetition_time_ms: float
    echo_time_ms: float
    flip_angle_deg: float
    inversion_time_ms: float | None = None
    readout_repetition_time_ms: float | None = None
    echoes_before: int = 0
    echoes_after: int = 0
    inversion_efficiency: float = INVERSION_EFFICIENCY

    def __post_init__(self):
        self._require_positive("repetition_time_ms", "echo_time_ms")
        if not 0 < self.flip_angle_deg <= 180:
            self._refuse(f"a flip angle of {self.flip_angle_deg:g} degrees is not possible; use 0 to 180")
        if self.sequence is Sequence.SPOILED_GRADIENT_ECHO:
            if self.inversion_time_ms is not None:
                self._refuse("a spoiled gradient echo has no inversion time; leave it out, or choose MPRAGE or IR-SPGR")
            self._require_below("echo_time_ms", "repetition_time_ms")
            return
        self._require_positive("inversion_time_ms")
        self._require_below("inversion_time_ms", "repetition_time_ms")
        if self.sequence.has_echo_train:
            self._check_train()
        else:
            self._require_below("echo_time_ms", "repetition_time_ms")

    def _check_train(self):
        self._require_positive("readout_repetition_time_ms")
        self._require_below("echo_time_ms", "readout_repetition_time_ms")
        if self.echoes_before < 0 or self.echoes_after < 1:
            self._refuse("the echo train needs no fewer than 0 echoes before and 1 after the centre of k-space")
        if not 0 < self.inversion_efficiency <= 1:
            self._refuse(f"an inversion efficiency of {self.inversion_efficiency:g} is not possible; use 0 to 1")
        before_ms = self.echoes_before * self.readout_repetition_time_ms
        after_ms = self.echoes_after * self.readout_repetition_time_ms
        if before_ms > self.inversion_time_ms:
            self._refuse(
                f"{self.echoes_before} echoes before the centre of k-space take {before_ms:g} ms and do not fit into "
                f"the inversion time of {self.inversion_time_ms:g} ms; use fewer echoes or a longer inversion time"
            )
        if self.inversion_time_ms + after_ms > self.repetition_time_ms:
            self._refuse(
                f"inversion time and the {self.echoes_after} echoes after it take "
                f"{self.inversion_time_ms + after_ms:g} ms and do not fit into the repetition time of "
                f"{self.repetition_time_ms:g} ms; use fewer echoes or a longer repetition time"
            )

    def _require_positive(self, *names: str):
        for name in names:
            value = getattr(self, name)
            if value is None:
                self._refuse(f"{_words(name)} is missing; {self.sequence.value} needs it in ms")
            if not (np.isfinite(value) and value > 0):
                self._refuse(f"{_words(name)} is {value:g} ms; it must be positive")

    def _require_below(self, shorter: str, longer: str):
        if not getattr(self, shorter) < getattr(self, longer):
            self._refuse(
                f"{_words(shorter)} ({getattr(self, shorter):g} ms) must be below "
                f"{_words(longer)} ({getattr(self, longer):g} ms)"
            )

    def _refuse(self, reason: str):
        raise InputError(f"protocol '{self.name}': {reason}")

    def signal(self, t1_ms, t2_star_ms, proton_density, relative_b1=1.0) -> np.ndarray:
        """Signal of tissue (broadcast); negative where an inverted magnetisation has not recovered to zero.

        relative_b1: the flip angle that is reached as a share of the one asked for. The inversion is adiabatic and
            does not depend on it.
        """
        angle = self.flip_angle_deg * np.asarray(relative_b1)
        if self.sequence is Sequence.SPOILED_GRADIENT_ECHO:
            ideal = spoiled_gradient_echo(t1_ms, self.repetition_time_ms, angle)
        elif self.sequence is Sequence.INVERSION_RECOVERY:
            ideal = np.sin(np.deg2rad(angle)) * inversion_recovery(
                t1_ms, self.inversion_time_ms, self.repetition_time_ms
            )
        else:
            ideal = mprage(
                t1_ms,
                self.repetition_time_ms,
                self.inversion_time_ms,
                angle,
                self.readout_repetition_time_ms,
                self.echoes_before,
                self.echoes_after,
                self.inversion_efficiency,
            )
        return proton_density * ideal * t2_star_decay(t2_star_ms, self.echo_time_ms)


def _words(name: str) -> str:
    return name.removesuffix("_ms").replace("_", " ")


def coil_field(
    shape: tuple[int, int, int],
    spacing_mm: tuple[float, float, float],
    variation: float,
    centre_brightening: float,
    rng: np.random.Generator,
    part: tuple[slice, slice, slice] = (slice(None), slice(None), slice(None)),
) -> np.ndarray:
    """A smooth multiplicative field (z, y, x), float32, of geometric mean 1 over the field of view.

    variation: standard deviation of the seeded part of its logarithm: products of Legendre polynomials to the third
        order, as bias field correction models it (Sled 1998 uses splines of similar smoothness).
    centre_brightening: how much the logarithm falls from the centre to 100 mm; positive for the dielectric effect of
        transmission at 3 T, negative for an array of surface coils that is brightest at its rim.
    part: what to compute of the field of view `shape`; the field is the same there, whatever the part.
    """
    axes = [(np.arange(n) - (n - 1) / 2) * spacing / 100.0 for n, spacing in zip(shape, spacing_mm[::-1], strict=True)]
    order = np.arange(4)
    total = np.add.outer(np.add.outer(order, order), order)
    # Higher orders are weaker, as a field far from the coil's wires is smoother; all scans draw the same count.
    amplitude = np.where((total > 0) & (total <= 3), 1.0 / np.maximum(total, 1), 0.0)
    coefficients = rng.standard_normal(amplitude.shape) * amplitude
    coefficients *= variation / np.sqrt(
        np.sum(amplitude**2 * np.multiply.outer(np.multiply.outer(*2 * [1 / (2 * order + 1)]), 1 / (2 * order + 1)))
    )
    coefficients = coefficients.astype(np.float32)
    bases = [legendre.legvander(np.clip(axis, -1.5, 1.5), 3).astype(np.float32) for axis in axes]
    squares = [axis.astype(np.float32) ** 2 for axis in axes]
    # Every term is a product over the axes, and so is its mean over the whole field of view.
    mean = np.einsum("i,j,k,ijk->", *(basis.mean(axis=0) for basis in bases), coefficients)
    mean -= np.float32(centre_brightening) * sum(square.mean() for square in squares)
    z, y, x = (square[piece] for square, piece in zip(squares, part, strict=True))
    bases = [basis[piece] for basis, piece in zip(bases, part, strict=True)]
    field = np.einsum("zi,yj,xk,ijk->zyx", *bases, coefficients, optimize=True)
    field -= np.float32(centre_brightening) * (z[:, None, None] + y[:, None] + x)
    field -= np.float32(mean)
    return np.exp(field)


def k_space_window(size: int, acquired: float, taper: float) -> np.ndarray:
    """What one axis of k-space passes, (size,), float32, in the order of the FFT.

    acquired: acquired over reconstructed matrix (0 to 1); the frequencies beyond are zeros, as scanners interpolate.
    taper: the share (0 to 1) of those acquired that a raised cosine damps, against the ringing of a sharp edge.
    """
    frequency = 2 * np.abs(fft.fftfreq(size)) / acquired
    inside = np.clip((1 - frequency) / max(taper, 1e-3), 0, 1)
    return (0.5 - 0.5 * np.cos(np.pi * inside)).astype(np.float32)


def acquire(
    signal: np.ndarray,
    acquired: tuple[float, float, float],
    taper: float,
    noise_sd: float,
    rng: np.random.Generator,
) -> np.ndarray:
    """The magnitude image (z, y, x), float32, of a real signal that was sampled in k-space with complex noise.

    acquired: acquired over reconstructed matrix along (x, y, z). It blurs the image and correlates its noise.
    noise_sd: standard deviation of the noise in each of the two channels of the image; the magnitude is Rician.
    """
    windows = [k_space_window(n, share, taper) for n, share in zip(signal.shape, acquired[::-1], strict=True)]
    passed = float(np.prod([np.mean(window**2) for window in windows]))
    sd = np.float32(noise_sd / np.sqrt(passed))
    channels = np.empty(signal.shape, np.complex64)
    channels.real = signal + sd * rng.standard_normal(signal.shape, dtype=np.float32)
    channels.imag = sd * rng.standard_normal(signal.shape, dtype=np.float32)
    k_space = fft.fftn(channels, overwrite_x=True)
    for axis, window in enumerate(windows):
        k_space *= window.reshape([-1 if i == axis else 1 for i in range(3)])
    return np.abs(fft.ifftn(k_space, overwrite_x=True))
