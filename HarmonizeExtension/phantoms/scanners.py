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

    resolution_mm: acquired voxel size (x, y, z); the grid of a scan may be finer. taper: share of k-space that the
        reconstruction's filter damps (0 rings most, 1 is softest).
    transmit_brightening, receive_brightening: fall of the logarithm of the coil's field from the centre to 100 mm.
    receive_variation: standard deviation of the logarithm of the receive field that changes from session to session.
    white_matter_snr: white matter against noise at 1 mm. white_matter_level: stored value of white matter.
    gain_variation: standard deviation of the logarithm of the gain from session to session.
    """

    name: str
    manufacturer: str
    model: str
    field_strength_tesla: float
    protocol: Protocol
    resolution_mm: tuple[float, float, float]
    taper: float
    transmit_brightening: float
    receive_brightening: float
    receive_variation: float
    white_matter_snr: float
    white_matter_level: float
    gain_variation: float = 0.1


def _train(name, sequence, tr, te, angle, ti, readout_tr, before, after) -> Protocol:
    return Protocol(name, sequence, tr, te, angle, ti, readout_tr, before, after)


_ALL = (
    Scanner(
        "Siemens 3T", "SIEMENS", "Skyra", 3.0,
        _train("MPRAGE", Sequence.MPRAGE, 2300, 2.98, 9, 900, 7.1, 80, 96),
        (1.0, 1.0, 1.0), 0.15, 0.22, -0.10, 0.06, 32, 420,
    ),
    Scanner(
        "Siemens 1.5T", "SIEMENS", "Avanto", 1.5,
        _train("MPRAGE", Sequence.MPRAGE, 2400, 3.6, 8, 1000, 8.6, 80, 96),
        (1.25, 1.25, 1.2), 0.3, 0.06, -0.25, 0.10, 19, 260,
    ),
    Scanner(
        "Philips 3T", "Philips Medical Systems", "Achieva", 3.0,
        _train("T1 TFE", Sequence.MPRAGE, 2200, 3.2, 8, 850, 6.9, 60, 120),
        (1.0, 1.0, 1.1), 0.45, 0.28, 0.05, 0.07, 27, 1100,
    ),
    Scanner(
        "Philips 1.5T", "Philips Medical Systems", "Intera", 1.5,
        _train("T1 TFE", Sequence.MPRAGE, 2600, 4.0, 8, 1000, 8.6, 60, 90),
        (1.1, 1.2, 1.5), 0.6, 0.06, 0.10, 0.12, 15, 700,
    ),
    Scanner(
        "GE 3T", "GE MEDICAL SYSTEMS", "DISCOVERY MR750", 3.0,
        _train("BRAVO", Sequence.IR_SPGR, 1800, 2.9, 11, 600, 7.2, 40, 150),
        (1.0, 1.2, 1.2), 0.25, 0.24, -0.18, 0.08, 24, 3200,
    ),
    Scanner(
        "GE 1.5T", "GE MEDICAL SYSTEMS", "SIGNA HDxt", 1.5,
        _train("IR-SPGR", Sequence.IR_SPGR, 1900, 4.9, 12, 650, 10.5, 30, 110),
        (1.2, 1.3, 1.4), 0.4, 0.07, -0.32, 0.11, 17, 1900,
    ),
)  # fmt: skip

SCANNERS: dict[str, Scanner] = {scanner.name: scanner for scanner in _ALL}
