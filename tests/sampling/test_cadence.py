"""When the next pass is due."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from exporter.sampling.cadence import plan


@given(
    due=st.floats(0, 1e6),
    late=st.floats(0, 100),
    interval=st.floats(0.1, 60),
    cpu=st.floats(0, 10),
    ratio=st.floats(0.001, 1),
)
def test_the_next_pass_is_in_the_future_and_never_sooner_than_the_cpu_share_allows(
    due: float, late: float, interval: float, cpu: float, ratio: float
) -> None:
    now = due + late
    following = plan(due=due, now=now, interval=interval, cpu=cpu, max_cpu_ratio=ratio)
    assert following.due >= now  # equal only where adding to a float changes nothing
    assert following.interval >= max(interval, cpu / ratio)
    assert following.due - due >= following.interval * (1 - 1e-9)


def test_the_grid_does_not_drift() -> None:
    due, now = 100.0, 100.0
    for _ in range(1000):
        now = due + 0.25
        due = plan(due=due, now=now, interval=1.0, cpu=0.001, max_cpu_ratio=0.01).due
    assert due == 1100.0


def test_missed_times_are_not_made_up_for() -> None:
    assert plan(due=5.0, now=9.9, interval=1.0, cpu=0.0, max_cpu_ratio=1.0) == (10.0, 1.0, True)


def test_a_pass_that_is_switched_off_is_never_due_again() -> None:
    infinite = float("inf")
    assert plan(due=5.0, now=6.0, interval=infinite, cpu=0.1, max_cpu_ratio=0.01) == (infinite, infinite, False)
