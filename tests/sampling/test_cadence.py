"""When the next pass is due."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.sampling.cadence import ALLOWANCE_SECONDS, Plan, is_due, plan


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


def test_a_walk_joins_the_light_pass_that_its_time_is_nearest_to() -> None:
    """Light passes each second, walks that cost more than their share: on the grid of the light ones, and no dearer."""
    light = walk = Plan(due=100.0, interval=1.0, at=100.0)
    walked = []
    while light.due < 1100.0:
        now = light.due
        if is_due(walk, light):
            walked.append(now)
            walk = plan(walk, now=now + 0.14, interval=1.0, cpu=0.14, max_cpu_ratio=0.01)
            now += 0.14
        light = plan(light, now=now, interval=1.0, cpu=0.0015, max_cpu_ratio=0.01)
    steps = {later - earlier for earlier, later in pairwise(walked)}
    assert light.due == 1100.0
    assert (walked[:4], steps) == ([100.0, 101.0, 102.0, 103.0], {1.0, 6.0, 14.0})
    assert len(walked) * 0.14 <= (1000 + ALLOWANCE_SECONDS) * 0.01 + 0.14


def test_a_walk_that_keeps_its_share_is_in_every_light_pass() -> None:
    light = walk = Plan(due=100.0, interval=1.0, at=100.0)
    for _ in range(1000):
        assert is_due(walk, light)
        now = light.due + 0.003
        walk, light = (plan(it, now=now, interval=1.0, cpu=0.003, max_cpu_ratio=0.01) for it in (walk, light))
