"""Six scanners like those of the CC359 data set: three makers, two field strengths, one T1-weighted protocol each.

The protocols follow what the makers' sequences and ADNI's recommendations use (C. R. Jack et al., J Magn Reson
Imaging 27:685, 2008); coil, resolution, noise and gain are chosen to differ as scanners of that age do.
CC359: R. Souza et al., NeuroImage 170:482 (2018).
"""

from __future__ import annotations

import dataclasses

from ..physics.mr_signal import Protocol, Sequence


@dataclasses.dataclass(frozen=True)
class Scanner:
    """One scanner with its protocol.

    acquired: acquired over reconstructed matrix (x, y, z). taper: share of k-space that the reconstruction's filter
        damps (0 rings most, 1 is softest).
    transmit_brightening, receive_brightening: fall of the logarithm of the coil's field from the centre to 100 mm.
    receive_variation: standard deviation of the rest of the logarithm of the receive field, and `coil_seed` its shape.
    white_matter_snr: white matter against noise, at any spacing, as larger voxels are used to save time.
    white_matter_level: stored value of white matter.
    """

    name: str
    manufacturer: str
    model: str
    field_strength_tesla: float
    protocol: Protocol
    acquired: tuple[float, float, float]
    taper: float
    transmit_brightening: float
    receive_brightening: float
    receive_variation: float
    coil_seed: int
    white_matter_snr: float
    white_matter_level: float


def _train(name, sequence, tr, te, angle, ti, readout_tr, before, after) -> Protocol:
    return Protocol(name, sequence, tr, te, angle, ti, readout_tr, before, after)


_ALL = (
    Scanner(
        "Siemens 3T", "SIEMENS", "Skyra", 3.0,
        _train("MPRAGE", Sequence.MPRAGE, 2300, 2.98, 9, 900, 7.1, 80, 96),
        (1.0, 1.0, 1.0), 0.15, 0.22, -0.10, 0.05, 31, 34, 420,
    ),
    Scanner(
        "Siemens 1.5T", "SIEMENS", "Avanto", 1.5,
        _train("MPRAGE", Sequence.MPRAGE, 2400, 3.6, 8, 1000, 8.6, 80, 96),
        (0.85, 0.85, 1.0), 0.3, 0.06, -0.25, 0.09, 15, 17, 260,
    ),
    Scanner(
        "Philips 3T", "Philips Medical Systems", "Achieva", 3.0,
        _train("T1 TFE", Sequence.MPRAGE, 2200, 3.2, 8, 850, 6.9, 60, 120),
        (0.9, 0.85, 0.8), 0.6, 0.28, 0.05, 0.06, 32, 30, 1100,
    ),
    Scanner(
        "Philips 1.5T", "Philips Medical Systems", "Intera", 1.5,
        _train("T1 TFE", Sequence.MPRAGE, 2600, 4.0, 8, 1000, 8.6, 60, 90),
        (0.8, 0.75, 0.65), 0.6, 0.06, 0.10, 0.10, 16, 14, 700,
    ),
    Scanner(
        "GE 3T", "GE MEDICAL SYSTEMS", "DISCOVERY MR750", 3.0,
        _train("BRAVO", Sequence.IR_SPGR, 1800, 2.9, 11, 600, 7.2, 40, 150),
        (1.0, 0.8, 0.9), 0.2, 0.24, -0.18, 0.07, 33, 23, 3200,
    ),
    Scanner(
        "GE 1.5T", "GE MEDICAL SYSTEMS", "SIGNA HDxt", 1.5,
        _train("IR-SPGR", Sequence.IR_SPGR, 1900, 4.9, 12, 650, 10.5, 30, 110),
        (0.7, 0.7, 0.8), 0.45, 0.07, -0.32, 0.10, 17, 20, 1900,
    ),
)  # fmt: skip

SCANNERS: dict[str, Scanner] = {scanner.name: scanner for scanner in _ALL}
