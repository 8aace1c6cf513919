"""The history: an hour of extremes by state, with holes where nothing was counted."""

from __future__ import annotations

import sys
from collections.abc import Iterable

from hypothesis import given
from hypothesis import strategies as st

from exporter.sampling.history import HOLE, POINTS, STEP_SECONDS, TOTAL, History, Points
from exporter.tcpstate import NO_SOCKETS, StateCounts, TcpState

EPOCH = 1_700_000_000.0


def established(number: int) -> StateCounts:
    counts = list(NO_SOCKETS)
    counts[TcpState.ESTABLISHED] = number
    return tuple(counts)


def history(samples: Iterable[tuple[float, int | None]]) -> Points | None:
    """What the history has after these counts of ESTABLISHED, by monotonic time."""
    made = History()
    for now, number in samples:
        made.add(now, EPOCH + now, None if number is None else established(number))
    return made.points


def extremes(points: Points | None) -> list[tuple[int, int]]:
    assert points is not None
    state = TcpState.ESTABLISHED
    return list(zip(points.low[state], points.high[state], strict=True))


def test_a_point_is_there_when_its_ten_seconds_are_over() -> None:
    samples = [(100.0, 3), (101.0, 9), (109.0, 1)]
    assert history(samples) is None
    points = history([*samples, (110.0, 4)])
    assert extremes(points) == [(1, 9)]
    assert points is not None
    assert points.end == EPOCH + 110


def test_a_burst_and_a_dip_of_one_sample_are_kept() -> None:
    second_by_second = [(100.0 + second, {3: 5000, 7: 0}.get(second, 600)) for second in range(11)]
    assert extremes(history(second_by_second)) == [(0, 5000)]


def test_time_without_a_sample_is_a_hole_and_no_zero() -> None:
    assert extremes(history([(100.0, 7), (135.0, 8), (140.0, 8)])) == [(7, 7), (HOLE, HOLE), (HOLE, HOLE), (8, 8)]


def test_a_sample_that_was_current_for_longer_than_a_point_is_repeated_and_no_longer() -> None:
    def after(pause: float, first: int | None = 7) -> list[tuple[int, int]]:
        made = History()
        made.add(100.0, EPOCH, None if first is None else established(first))
        made.add(100.0 + pause, EPOCH + pause, established(9), held=30.0)
        return extremes(made.points)

    assert after(20.0) == [(7, 7), (7, 7)]
    assert after(60.0) == [(7, 7), (7, 7), (7, 7), (7, 7), (HOLE, HOLE), (HOLE, HOLE)]
    assert after(20.0, first=None) == [(HOLE, HOLE), (HOLE, HOLE)]


def test_what_could_not_be_counted_is_a_hole_and_no_zero() -> None:
    assert extremes(history([(100.0, 7), (110.0, None), (120.0, 0), (130.0, 5)])) == [(7, 7), (HOLE, HOLE), (0, 0)]


def test_a_pause_of_days_leaves_an_hour_of_holes() -> None:
    assert extremes(history([(100.0, 7), (300_000.0, 8), (300_010.0, 8)])) == [(HOLE, HOLE)] * (POINTS - 1) + [(8, 8)]


def test_when_the_clocks_part_it_begins_anew() -> None:
    made = History()
    for now in (100.0, 110.0, 120.0):
        made.add(now, EPOCH + now, established(7))
    assert made.points is not None
    for now in (130.0, 140.0):
        made.add(now, EPOCH + now + 3600, established(8))
    assert extremes(made.points) == [(8, 8)]
    assert made.points.end == EPOCH + 140 + 3600


def test_what_was_published_does_not_change_any_more() -> None:
    made = History()
    made.add(100.0, EPOCH, established(1))
    made.add(110.0, EPOCH + 10, established(2))
    before = made.points
    made.add(120.0, EPOCH + 20, established(3))
    assert (extremes(before), extremes(made.points)) == ([(1, 1)], [(1, 1), (2, 2)])


def test_a_number_that_no_host_has_ends_at_the_most_that_is_kept() -> None:
    assert extremes(history([(100.0, 10**20), (110.0, 0)])) == [(2**31 - 1, 2**31 - 1)]


def test_its_memory_is_fixed() -> None:
    points = history((10.0 * number, 100_000 + number) for number in range(3 * POINTS))
    assert points is not None
    assert sum(sys.getsizeof(series) for series in (*points.low, *points.high)) < 50_000


@given(st.lists(st.tuples(st.integers(0, 300), st.none() | st.integers(0, 50)), max_size=60))
def test_every_point_is_the_extremes_of_its_samples(steps: list[tuple[int, int | None]]) -> None:
    samples, now = [], 1000.0
    for pause, number in steps:
        now += pause / 10
        samples.append((now, number))
    by_slot: dict[int, list[int]] = {}
    for at, number in samples:
        by_slot.setdefault(int(at // STEP_SECONDS), [])
        if number is not None:
            by_slot[int(at // STEP_SECONDS)].append(number)
    first, last = (min(by_slot), max(by_slot)) if by_slot else (0, 0)
    expected = [by_slot.get(slot) or [HOLE] for slot in range(first, last)]
    points = history(samples)
    assert (extremes(points) if points else []) == [(min(numbers), max(numbers)) for numbers in expected]


def test_the_total_is_the_extremes_of_the_sum_and_not_the_sum_of_extremes() -> None:
    made = History()
    for now, open_ones, waiting in [(100.0, 5, 1), (101.0, 1, 5), (102.0, HOLE, 7), (110.0, 0, 0)]:
        counts = list(NO_SOCKETS)
        counts[TcpState.ESTABLISHED], counts[TcpState.TIME_WAIT] = open_ones, waiting
        made.add(now, EPOCH + now, tuple(counts))
    assert made.points is not None
    assert (made.points.low[TOTAL].tolist(), made.points.high[TOTAL].tolist()) == ([6], [7])


def test_drops_belong_to_the_point_in_which_the_counter_rose() -> None:
    made = History()
    samples = [
        (100.0, 7),
        (101.0, 9),
        (109.0, 12),
        (110.0, 20),
        (121.0, None),
        (131.0, 4),
        (141.0, 5),
        (175.0, 8),
        (180.0, 8),
    ]
    for now, counter in samples:
        made.add(now, EPOCH + now, NO_SOCKETS, dropped=counter)
    assert made.points is not None
    # 2 + 3; 8; the counter was not readable, twice there is nothing to compare with; 1; two points without a sample; 3
    assert made.points.dropped.tolist() == [5, 8, HOLE, HOLE, 1, HOLE, HOLE, 3]
