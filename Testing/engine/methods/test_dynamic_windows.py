"""The window of HU that a training sees: it grows from air to the full range, then follows what the judge betrays."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from hypothesis import given  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from HarmonizeExtension.methods.radiomicgan.dynamic_windows import (  # noqa: E402
    PACE_HU,
    DynamicWindow,
    failing_values,
)
from HarmonizeExtension.networks.kernel_blocks import scaled, unscaled  # noqa: E402

FULL = (-1024.0, 1000.0)


def never():
    raise AssertionError("it was asked too early")


def test_it_grows_by_the_steps_of_the_paper_and_covers_the_range_in_eight_windows():
    window = DynamicWindow(FULL, dynamic=False)
    seen = [window.current]
    for _ in range(7):
        window.next_epoch(lambda: 1.0, never)
        seen.append(window.current)
    assert seen[:3] == [(-1024, -769), (-1024, -513), (-1024, -257)]
    assert seen[-1] == (-1024, 1000)
    window.next_epoch(lambda: 1.0, never)
    window.next_epoch(never, never)  # covered: nothing is asked any more
    assert window.current == (-1024, 1000)


def test_an_inaccurate_model_stays_in_a_window_for_as_many_epochs_as_allowed():
    window = DynamicWindow(FULL, dynamic=False)
    window.next_epoch(lambda: 0.5, never)
    assert window.current == (-1024, -769)
    window.next_epoch(lambda: 0.5, never)
    assert window.current == (-1024, -513)


def test_the_dynamic_step_follows_the_list_and_may_widen_again():
    window = DynamicWindow(FULL, growing=False)
    assert window.current == (-1024, 1000)
    window.next_epoch(never, lambda: np.arange(-100, 301))
    assert window.current == (-96, 296)  # 1st to 99th percentile
    window.next_epoch(never, lambda: np.arange(-1000, 901))
    assert window.current[0] < -950
    assert window.current[1] > 850
    window.next_epoch(never, lambda: np.array([], int))
    assert window.current == (-1024, 1000)


def test_both_steps_follow_each_other_and_a_training_that_was_killed_goes_on_where_it_was():
    window = DynamicWindow(FULL)
    for _ in range(8):
        window.next_epoch(lambda: 1.0, lambda: np.arange(-800, 401))
    assert window.current == (-788, 388)
    other = DynamicWindow(FULL)
    other.load_state_dict(window.state_dict())
    other.next_epoch(never, lambda: np.arange(0, 1000))
    assert other.current == (9, 989)


@given(st.lists(st.integers(-1024, 1000), min_size=1, max_size=30))
def test_a_window_is_never_narrow_and_never_beyond_the_range(values):
    window = DynamicWindow(FULL, growing=False)
    window.next_epoch(never, lambda: np.array(values))
    low, high = window.current
    assert FULL[0] <= low
    assert high <= FULL[1]
    assert high - low >= PACE_HU - 1


@given(st.integers(-1024, 700), st.integers(10, 300), st.integers(-2000, 3000))
def test_scaling_is_undone_inside_the_window_and_clips_outside(low, width, hu):
    window = (low, low + width)
    seen = scaled(torch.tensor([float(hu)]), window)
    assert -1 <= float(seen) <= 1
    assert float(unscaled(seen, window)) == pytest.approx(np.clip(hu, *window), abs=0.01)


def test_hot_pixels_give_their_values_but_those_that_occur_once():
    made = torch.tensor([[[[10.2, 9.9], [55.0, -300.0]]]])
    hot = torch.tensor([[[0.9, 0.8], [0.7, 0.2]]])
    assert sorted(failing_values(hot, made)) == [10, 10]
    assert len(failing_values(torch.zeros(1, 2, 2), made)) == 0
