"""When the next pass is due."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.sampling.cadence import ALLOWANCE_SECONDS, Plan, plan


def passes(costs: list[float], *, interval: float = 1.0, ratio: float = 0.01) -> list[Plan]:
    """The plans after passes that cost this much CPU and as much wall time."""
    plans = [Plan(due=100.0, interval=interval, at=100.0)]
    for cost in costs:
        last = plans[-1]
        plans.append(plan(last, now=last.due + cost, interval=interval, cpu=cost, max_cpu_ratio=ratio))
    return plans[1:]


def test_the_grid_does_not_drift() -> None:
    assert [p.due for p in passes([0.005] * 1000)][-1] == 1100.0


def test_missed_times_are_not_made_up_for() -> None:
    late = plan(Plan(due=5.0, interval=1.0, at=5.0), now=9.9, interval=1.0, cpu=0.0, max_cpu_ratio=1.0)
    assert (late.due, late.interval, late.overrun) == (10.0, 1.0, True)


def test_one_dear_pass_does_not_silence_the_next_ones() -> None:
    assert [p.interval for p in passes([0.001] * 5 + [0.55] + [0.001] * 5)] == [1.0] * 11


def test_passes_that_are_always_dear_are_stretched_to_their_share() -> None:
    plans = passes([0.033] * 200)
    assert plans[0].interval == 1.0
    assert plans[-1].interval == pytest.approx(3.3, rel=0.02)


def test_a_pass_that_is_switched_off_is_never_due_again() -> None:
    infinite = float("inf")
    off = plan(Plan(due=5.0, interval=1.0), now=6.0, interval=infinite, cpu=0.1, max_cpu_ratio=0.01)
    assert (off.due, off.interval, off.overrun) == (infinite, infinite, False)


@given(st.lists(st.floats(0, 5), min_size=1, max_size=60), st.floats(0.1, 60), st.floats(0.001, 1))
def test_the_share_holds_over_any_time_but_for_a_minutes_allowance_and_the_last_pass(
    costs: list[float], interval: float, ratio: float
) -> None:
    plans = passes(costs, interval=interval, ratio=ratio)
    elapsed = plans[-1].due - 100.0
    earned = (elapsed + ALLOWANCE_SECONDS) * ratio
    assert sum(costs) <= earned * (1 + 1e-9) + 1e-9


@given(st.lists(st.floats(0, 5), min_size=1, max_size=60), st.floats(0.1, 60), st.floats(0.001, 1))
def test_the_next_pass_is_never_due_before_now(costs: list[float], interval: float, ratio: float) -> None:
    now = 100.0
    for cost, planned in zip(costs, passes(costs, interval=interval, ratio=ratio), strict=True):
        assert planned.due >= now + cost
        now = planned.due
