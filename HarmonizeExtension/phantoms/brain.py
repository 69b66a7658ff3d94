"""Brain scans of simulated people: the same head, scanned by every scanner, with the truth known.

A `Person` is a seeded anatomy, a `Scanner` is a protocol with coil, resolution, noise and gain; `scan_person` brings
them together. All scans of one person lie on one grid, so the scan by another scanner is the truth for a translation
to it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from .. import images
from ..errors import InputError
from ..physics import mr_signal
from ..physics.tissues import Tissue, properties
from ..scan import Acquisition, Modality, Scan, Structure
from .anatomy import head_axes, head_grid
from .lesions import Disease
from .maps import PropertyMaps, tissue_values
from .person import Body, Person, body_of
from .scanners import SCANNERS, Scanner

# Standard deviations of the logarithm of what differs from session to session on one scanner.
TRANSMIT_VARIATION = 0.02  # of the transmitted field, around the brightening that the field strength brings
LOADING_VARIATION = 0.02  # of the coil's field, as every head loads it differently
NOISE_VARIATION = 0.05
GAIN_VARIATION = 0.10


def ideal_signal(body: Body, scanner: Scanner, relative_b1: np.ndarray) -> np.ndarray:
    """The signal (z, y, x), float32, before coil, blur and noise: tissues mix by their signals, not their properties.

    relative_b1: (z, y, x), the flip angle that is reached as a share of the one asked for.
    """
    signal = np.zeros(body.shape, np.float32)
    flat, b1 = signal.ravel(), relative_b1.ravel()
    of_tissue = properties(scanner.field_strength_tesla)
    for tissue, portion in body.portions.items():
        t1_ms, t2_star_ms, density = tissue_values(portion, of_tissue[tissue])
        # Every voxel stands once in a tissue's index, so that adding in place is safe.
        flat[portion.index] += portion.share * scanner.protocol.signal(t1_ms, t2_star_ms, density, b1[portion.index])
    return signal


def receive_field(body: Body, scanner: Scanner) -> np.ndarray:
    """The scanner's receive profile on the body's grid (z, y, x), float32, as it is before a head loads the coil."""
    coil = np.random.default_rng(scanner.coil_seed)
    return _field(body, scanner.receive_variation, scanner.receive_brightening, coil)


def _field(body: Body, variation: float, brightening: float, rng: np.random.Generator) -> np.ndarray:
    whole = tuple(len(axis) for axis in head_axes(body.spacing_mm))
    return mr_signal.coil_field(whole, (body.spacing_mm,) * 3, variation, brightening, rng, body.part)


def stored_image(body: Body, scanner: Scanner, rng: np.random.Generator) -> np.ndarray:
    """What the scanner stores of the body in one session: (z, y, x), int16.

    `rng` gives what differs from session to session: coil loading, gain and noise.
    """
    b1 = _field(body, TRANSMIT_VARIATION, scanner.transmit_brightening, rng)
    receive = receive_field(body, scanner)
    receive *= _field(body, LOADING_VARIATION, 0.0, rng)
    return _stored(ideal_signal(body, scanner, b1) * receive, scanner, rng)


def scan_maps(maps: PropertyMaps, scanner: Scanner, rng: np.random.Generator, spacing_mm: float) -> np.ndarray:
    """What the scanner stores of maps (z, y, x) of any grid, its centre in the coil's: (z, y, x), int16.

    Raises InputError for maps of another field strength than the scanner's.
    """
    if maps.field_strength_tesla != scanner.field_strength_tesla:
        raise InputError(
            f"maps at {maps.field_strength_tesla:g} T cannot be scanned at {scanner.field_strength_tesla:g} T; make "
            "them for the scanner's field strength"
        )
    shape, spacing = maps.t1_ms.shape, (spacing_mm,) * 3
    b1 = mr_signal.coil_field(shape, spacing, TRANSMIT_VARIATION, scanner.transmit_brightening, rng)
    coil = np.random.default_rng(scanner.coil_seed)
    receive = mr_signal.coil_field(shape, spacing, scanner.receive_variation, scanner.receive_brightening, coil)
    receive *= mr_signal.coil_field(shape, spacing, LOADING_VARIATION, 0.0, rng)
    signal, tissue = np.zeros(shape, np.float32), maps.t1_ms > 0
    signal[tissue] = scanner.protocol.signal(
        maps.t1_ms[tissue], maps.t2_star_ms[tissue], maps.proton_density[tissue], b1[tissue]
    )
    return _stored(signal * receive, scanner, rng)


def _stored(signal: np.ndarray, scanner: Scanner, rng: np.random.Generator) -> np.ndarray:
    """The image (z, y, x), int16, of a signal that the coil has received."""
    white = properties(scanner.field_strength_tesla)[Tissue.WHITE_MATTER]
    level = float(scanner.protocol.signal(white.t1_ms, white.t2_star_ms, white.proton_density))
    noise_sd = level / scanner.white_matter_snr * np.exp(NOISE_VARIATION * rng.standard_normal())
    magnitude = mr_signal.acquire(signal, scanner.acquired, scanner.taper, noise_sd, rng)
    gain = scanner.white_matter_level / level * np.exp(GAIN_VARIATION * rng.standard_normal())
    return np.rint(np.clip(magnitude * np.float32(gain), 0, 32767)).astype(np.int16)


def scan_person(person: Person, scanner: Scanner, rng: np.random.Generator, spacing_mm: float = 1.0) -> Scan:
    """One session: the person scanned by the scanner, with the true structures; int16 as scanners store."""
    grid = head_grid(spacing_mm)
    body = body_of(person, spacing_mm)
    structures = {name: Structure(name, images.mask_image(mask, grid)) for name, mask in body.structures.items()}
    return Scan(
        image=images.to_image(stored_image(body, scanner, rng), grid),
        modality=Modality.MR,
        structures=structures,
        acquisition=_acquisition(scanner, spacing_mm),
        name=f"{person.name} {scanner.name}",
    )


def _acquisition(scanner: Scanner, spacing_mm: float) -> Acquisition:
    protocol = scanner.protocol
    return Acquisition(
        manufacturer=scanner.manufacturer,
        model=scanner.model,
        field_strength_tesla=scanner.field_strength_tesla,
        repetition_time_ms=protocol.repetition_time_ms,
        echo_time_ms=protocol.echo_time_ms,
        inversion_time_ms=protocol.inversion_time_ms,
        flip_angle_deg=protocol.flip_angle_deg,
        slice_thickness_mm=spacing_mm / scanner.acquired[2],
    )


def travelling_cohort(
    people: int, scanners: Sequence[Scanner], seed: int, spacing_mm: float = 1.0, diseased: float = 0.0
) -> Iterator[tuple[Person, Scanner, Scan]]:
    """Every person scanned by every scanner, person by person. The same seed gives the same bytes.

    A person is the same whatever the number of people, scanners and the spacing are.
    diseased: share (0 to 1) of the people who are ill, on average, half with a tumour and half with multiple sclerosis.
    """
    for number, sequence in enumerate(np.random.SeedSequence(seed).spawn(people), start=1):
        person_seed, *session_seeds = sequence.spawn(1 + len(scanners))
        fate = np.random.default_rng(person_seed.spawn(1)[0])
        ill, which = fate.random() < diseased, fate.choice([Disease.TUMOUR_WITH_OEDEMA, Disease.MULTIPLE_SCLEROSIS])
        disease = Disease(which) if ill else Disease.NONE
        person = Person.draw(np.random.default_rng(person_seed), f"person {number:03d}", disease)
        for scanner, session_seed in zip(scanners, session_seeds, strict=True):
            yield person, scanner, scan_person(person, scanner, np.random.default_rng(session_seed), spacing_mm)


def three_scanner_case(seed: int = 1, spacing_mm: float = 1.0) -> dict[str, Scan]:
    """One person with a small tumour, scanned by three scanners of different make and field, by the scanner's name.

    White matter is marked as reference, the lesion as protected; everything is measured.
    """
    person_seed, *session_seeds = np.random.SeedSequence(seed).spawn(4)
    person = Person.draw(np.random.default_rng(person_seed), "sample", Disease.TUMOUR)
    names = ("Siemens 3T", "Philips 1.5T", "GE 3T")
    return {
        name: scan_person(person, SCANNERS[name], np.random.default_rng(session_seed), spacing_mm).with_roles(
            reference="white matter", protected=["lesion"]
        )
        for name, session_seed in zip(names, session_seeds, strict=True)
    }
