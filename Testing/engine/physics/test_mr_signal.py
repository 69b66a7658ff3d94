"""The signal equations against a pulse-by-pulse simulation and against closed forms; the image chain by its laws."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from HarmonizeExtension.errors import InputError
from HarmonizeExtension.physics import mr_signal
from HarmonizeExtension.physics.mr_signal import Protocol, Sequence

T1_MS = np.array([250.0, 656.0, 832.0, 1331.0, 4300.0])


def bloch_mprage(t1_ms, tr_ms, ti_ms, angle_deg, readout_ms, before, after, efficiency, shots=60):
    """Follow the longitudinal magnetisation through every inversion, pulse and wait, to the steady state."""
    events = [(0.0, "inversion")] + [(ti_ms + (k - before) * readout_ms, k) for k in range(before + after)]
    m, signal = 1.0, None
    for _ in range(shots):
        now = 0.0
        for time, event in events:
            m = 1 + (m - 1) * np.exp(-(time - now) / t1_ms)
            now = time
            if event == "inversion":
                m = -efficiency * m
            else:
                if event == before:
                    signal = np.sin(np.deg2rad(angle_deg)) * m
                m = m * np.cos(np.deg2rad(angle_deg))
        m = 1 + (m - 1) * np.exp(-(tr_ms - now) / t1_ms)
    return signal


def bloch_spoiled(t1_ms, tr_ms, angle_deg, pulses=4000):
    m, signal = 1.0, None
    for _ in range(pulses):
        signal = np.sin(np.deg2rad(angle_deg)) * m
        m = 1 + (m * np.cos(np.deg2rad(angle_deg)) - 1) * np.exp(-tr_ms / t1_ms)
    return signal


@settings(max_examples=25, deadline=None)
@given(
    t1_ms=st.floats(200, 4500),
    before=st.integers(0, 90),
    after=st.integers(1, 150),
    readout_ms=st.floats(4, 12),
    angle_deg=st.floats(2, 30),
    wait_a_ms=st.floats(0, 900),
    wait_b_ms=st.floats(0, 1500),
    efficiency=st.floats(0.8, 1),
)
def test_mprage_is_the_steady_state_of_the_bloch_simulation(
    t1_ms, before, after, readout_ms, angle_deg, wait_a_ms, wait_b_ms, efficiency
):
    ti_ms = wait_a_ms + before * readout_ms
    tr_ms = ti_ms + after * readout_ms + wait_b_ms
    closed = mr_signal.mprage(t1_ms, tr_ms, ti_ms, angle_deg, readout_ms, before, after, efficiency)
    # Long T1 and short shots take many shots to settle.
    shots = int(60 + 40 * t1_ms / tr_ms)
    simulated = bloch_mprage(t1_ms, tr_ms, ti_ms, angle_deg, readout_ms, before, after, efficiency, shots)
    assert closed == pytest.approx(simulated, abs=1e-9)


@pytest.mark.parametrize(("tr_ms", "angle_deg"), [(8.0, 5.0), (18.0, 20.0), (500.0, 90.0)])
def test_spoiled_gradient_echo_is_the_steady_state_of_the_bloch_simulation(tr_ms, angle_deg):
    for t1_ms in T1_MS:
        closed = mr_signal.spoiled_gradient_echo(t1_ms, tr_ms, angle_deg)
        assert closed == pytest.approx(bloch_spoiled(t1_ms, tr_ms, angle_deg), abs=1e-9)


def test_limits_of_the_spoiled_gradient_echo():
    saturated = mr_signal.spoiled_gradient_echo(T1_MS, 500.0, 90.0)
    np.testing.assert_allclose(saturated, 1 - np.exp(-500.0 / T1_MS), rtol=1e-12)
    relaxed = mr_signal.spoiled_gradient_echo(T1_MS, 1e6, 30.0)
    np.testing.assert_allclose(relaxed, 0.5, rtol=1e-12)


@settings(max_examples=25, deadline=None)
@given(t1_ms=st.floats(200, 4500), tr_ms=st.floats(4, 500), other=st.floats(0.5, 90))
def test_no_angle_gives_more_signal_than_ernsts(t1_ms, tr_ms, other):
    best = mr_signal.spoiled_gradient_echo(t1_ms, tr_ms, mr_signal.ernst_angle_deg(t1_ms, tr_ms))
    assert mr_signal.spoiled_gradient_echo(t1_ms, tr_ms, other) <= best * (1 + 1e-12)


def test_a_single_saturating_echo_makes_mprage_an_inversion_recovery():
    one_echo = mr_signal.mprage(T1_MS, 2300.0, 900.0, 90.0, 10.0, 0, 1, inversion_efficiency=1.0)
    np.testing.assert_allclose(one_echo, mr_signal.inversion_recovery(T1_MS, 900.0, 2300.0), atol=1e-12)


def test_a_long_train_forgets_the_inversion():
    driven = mr_signal.mprage(T1_MS, 90000.0, 40000.0, 12.0, 8.0, 5000, 100)
    np.testing.assert_allclose(driven, mr_signal.spoiled_gradient_echo(T1_MS, 8.0, 12.0), rtol=1e-9)


def test_inversion_recovery_crosses_zero_at_t1_times_ln_2():
    null_ms = T1_MS * np.log(2)
    for t1_ms, ti_ms in zip(T1_MS, null_ms, strict=True):
        assert mr_signal.inversion_recovery(t1_ms, ti_ms, 1e6) == pytest.approx(0, abs=1e-12)
    assert (mr_signal.inversion_recovery(T1_MS, 0.9 * null_ms, 1e6) < 0).all()


MPRAGE = Protocol("mprage", Sequence.MPRAGE, 2300, 2.98, 9, 900, 7.1, 80, 96)


def test_protocol_signal_is_the_equation_times_density_and_decay():
    expected = 0.7 * np.exp(-2.98 / 53) * mr_signal.mprage(T1_MS, 2300, 900, 9, 7.1, 80, 96)
    np.testing.assert_allclose(MPRAGE.signal(T1_MS, 53.0, 0.7), expected, rtol=1e-12)
    weaker = MPRAGE.signal(T1_MS, 53.0, 0.7, relative_b1=0.8)
    expected = dataclasses.replace(MPRAGE, flip_angle_deg=7.2).signal(T1_MS, 53.0, 0.7)
    np.testing.assert_allclose(weaker, expected, rtol=1e-12)


def test_signal_keeps_float32():
    t1_ms = T1_MS.astype(np.float32)
    for protocol in (
        MPRAGE,
        Protocol("spgr", Sequence.SPOILED_GRADIENT_ECHO, 18, 5, 20),
        Protocol("ir", Sequence.INVERSION_RECOVERY, 2300, 3, 90, 900),
    ):
        signal = protocol.signal(t1_ms, np.float32(50), np.float32(0.7), np.ones_like(t1_ms))
        assert signal.dtype == np.float32
        assert np.isfinite(signal).all()


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"inversion_time_ms": 2300}, "inversion time .* must be below repetition time"),
        ({"inversion_time_ms": None}, "inversion time is missing"),
        ({"inversion_time_ms": -5}, "inversion time is -5 ms; it must be positive"),
        ({"repetition_time_ms": float("nan")}, "repetition time is nan ms"),
        ({"echo_time_ms": 8}, "echo time .* must be below readout repetition time"),
        ({"readout_repetition_time_ms": None}, "readout repetition time is missing"),
        ({"echoes_before": 130}, "130 echoes before .* do not fit"),
        ({"echoes_after": 200}, "200 echoes after .* do not fit"),
        ({"echoes_after": 0}, "echo train"),
        ({"flip_angle_deg": 0}, "flip angle of 0 degrees"),
        ({"inversion_efficiency": 1.2}, "inversion efficiency of 1.2"),
        ({"sequence": Sequence.SPOILED_GRADIENT_ECHO}, "has no inversion time"),
    ],
)
def test_a_protocol_that_contradicts_itself_is_refused_by_name(changes, says):
    with pytest.raises(InputError, match=f"protocol 'mprage': .*{says}"):
        dataclasses.replace(MPRAGE, **changes)


def test_coil_field_is_a_smooth_positive_field_that_grids_share():
    coarse = mr_signal.coil_field((20, 24, 20), (8.0, 8.0, 8.0), 0.1, 0.2, np.random.default_rng(1))
    fine = mr_signal.coil_field((40, 48, 40), (4.0, 4.0, 4.0), 0.1, 0.2, np.random.default_rng(1))
    assert coarse.min() > 0
    assert np.log(coarse).mean() == pytest.approx(0, abs=1e-5)
    averaged = fine.reshape(20, 2, 24, 2, 20, 2).mean(axis=(1, 3, 5))
    np.testing.assert_allclose(averaged, coarse, rtol=0.02)
    steps = np.abs(np.diff(np.log(fine), axis=0))
    assert steps.max() < 0.25 * np.ptp(np.log(fine))
    assert coarse[10, 12, 10] > 1.1 * coarse[0, 12, 10]  # brighter in the centre


def test_a_full_matrix_without_filter_returns_the_signal():
    signal = np.random.default_rng(2).uniform(1, 2, (12, 14, 16)).astype(np.float32)
    signal = signal[:11, :13, :15]  # odd sizes have no frequency on the edge of k-space
    image = mr_signal.acquire(signal, (1.0, 1.0, 1.0), 0.0, 0.0, np.random.default_rng(0))
    np.testing.assert_allclose(image, signal, rtol=1e-5)


@pytest.mark.parametrize(("axis", "acquired"), [(2, (0.5, 1, 1)), (1, (1, 0.5, 1)), (0, (1, 1, 0.5))])
def test_a_smaller_matrix_blurs_its_own_axis_and_keeps_the_sum(axis, acquired):
    point = np.full((32, 32, 32), 100, np.float32)  # a pedestal, so that ringing stays above zero
    point[16, 16, 16] += 100
    image = mr_signal.acquire(point, acquired, 0.3, 0.0, np.random.default_rng(0)) - 100
    assert image.sum() == pytest.approx(100, rel=1e-2)
    profiles = [np.moveaxis(image, a, 0)[:, 16, 16] for a in range(3)]
    widths = [float((p > p.max() / 2).sum()) for p in profiles]
    assert widths[axis] > max(w for a, w in enumerate(widths) if a != axis)


def test_noise_is_rician_with_the_deviation_asked_for():
    rng = np.random.default_rng(3)
    shape, acquired = (40, 40, 40), (0.8, 1.0, 0.7)
    air = mr_signal.acquire(np.zeros(shape, np.float32), acquired, 0.3, 2.0, rng)
    assert air.mean() == pytest.approx(2.0 * np.sqrt(np.pi / 2), rel=0.02)  # Rayleigh
    assert air.std() == pytest.approx(2.0 * np.sqrt(2 - np.pi / 2), rel=0.03)
    tissue = mr_signal.acquire(np.full(shape, 100, np.float32), acquired, 0.3, 2.0, rng)
    assert tissue.std() == pytest.approx(2.0, rel=0.03)
    assert tissue.mean() == pytest.approx(100 + 2.0**2 / 200, rel=1e-3)


def test_the_same_generator_state_gives_the_same_bytes():
    signal = np.ones((10, 10, 10), np.float32)
    first, second, other = (
        mr_signal.acquire(signal, (0.9, 0.9, 0.9), 0.3, 0.1, np.random.default_rng(seed)) for seed in (5, 5, 6)
    )
    assert first.tobytes() == second.tobytes() != other.tobytes()


@settings(max_examples=15, deadline=None)
@given(start=st.tuples(*[st.integers(0, 9)] * 3), size=st.tuples(*[st.integers(1, 10)] * 3), seed=st.integers(0, 99))
def test_a_part_of_a_coil_field_is_the_field_there(start, size, seed):
    shape, part = (20, 22, 24), tuple(slice(a, a + n) for a, n in zip(start, size, strict=True))
    settings_of_field = (shape, (8.0, 7.0, 9.0), 0.1, 0.2)
    whole = mr_signal.coil_field(*settings_of_field, np.random.default_rng(seed))
    alone = mr_signal.coil_field(*settings_of_field, np.random.default_rng(seed), part)
    np.testing.assert_allclose(alone, whole[part], rtol=1e-5)
