"""The minutes of each limit: what is kept of the readings, and what is told of them."""

from __future__ import annotations

from collections.abc import Iterable
from tracemalloc import get_traced_memory, start, stop

from exporter.health.forecast import HORIZON
from exporter.health.measures import Reading, Readings
from exporter.sampling.fullness import Fullness

SECONDS_BETWEEN = 5


def tracked(used: int, limit: int | None = 10_000) -> Readings:
    return {"conntrack_ratio": Reading(used, limit)}


def hour(readings: Iterable[Readings], begun: float = 1000 * 60.0) -> Fullness:
    """After one of *readings* in every fifth second."""
    made = Fullness()
    for number, it in enumerate(readings):
        made.add(begun + SECONDS_BETWEEN * number, it)
    return made


def leak(minutes: int, limit: int = 10_000) -> list[Readings]:
    return [tracked(1000 + it * SECONDS_BETWEEN // 6, limit) for it in range(minutes * 60 // SECONDS_BETWEEN + 1)]


def test_a_leak_is_told_when_twenty_minutes_are_over_and_not_before() -> None:
    assert hour(leak(19)).to_full == {}
    assert hour(leak(20)).to_full == {"conntrack": 60 * (10_000 - 1190) // 10}


def test_a_limit_that_was_raised_is_the_limit_from_then_on() -> None:
    readings = leak(30) + leak(60, limit=20_000)[len(leak(30)) :]
    assert hour(readings).to_full == {"conntrack": 60 * (20_000 - 1590) // 10}


def test_what_comes_and_goes_within_a_minute_is_not_used() -> None:
    bursts = [tracked(5000 + 100 * it if it % 4 else 100) for it in range(12 * 60 + 1)]
    assert hour(bursts).to_full == {"conntrack": HORIZON}


def test_of_queues_it_is_the_share_because_each_has_its_own_limit() -> None:
    queues = [Reading(it // 12 * 10, 1000, "a") if it % 2 else Reading(it // 12, 100, "b") for it in range(12 * 60 + 1)]
    assert hour({"accept_queue_ratio": it} for it in queues).to_full == {"accept_queue": 60 * (100 - 59)}


def test_without_a_limit_or_a_reading_nothing_is_told() -> None:
    assert hour([tracked(1000 + it, None) for it in range(12 * 60)]).to_full == {}
    assert hour([{"conntrack_ratio": None}] * 12 * 60).to_full == {}


def test_a_pause_of_hours_leaves_nothing_to_go_by() -> None:
    made = hour(leak(60))
    assert made.to_full != {}
    for second in range(0, 19 * 60, SECONDS_BETWEEN):
        made.add(2000 * 60.0 + second, tracked(1000 + second))
    assert made.to_full == {}


def test_a_day_takes_no_more_memory_than_an_hour() -> None:
    made = hour(leak(61))
    start()
    try:
        before, _ = get_traced_memory()
        for second in range(0, 24 * 3600, SECONDS_BETWEEN):
            made.add(1061 * 60.0 + second, tracked(second))
        after, _ = get_traced_memory()
    finally:
        stop()
    assert after - before < 16_384
