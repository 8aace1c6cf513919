"""The snapshots of the last minute, and what of them can be compared with the present."""

from __future__ import annotations

from exporter.sampling.past import SnapshotWindow
from exporter.snapshot import Snapshot

UNIX = 1_700_000_000.0  # Unix time at monotonic second 0


def taken(at: float) -> Snapshot:
    return Snapshot(at, connections=None, counters={}, sockstat=None, sysctls={}, page_size=4096, sources={})


def at(seconds: float, clock_set_by: float = 0.0) -> Snapshot:
    return taken(UNIX + seconds + clock_set_by)


def filled() -> SnapshotWindow:
    past = SnapshotWindow()
    for second in (0.0, 10.0, 20.0):
        past.add(second, at(second))
    return past


def test_the_past_is_of_even_distances_and_of_a_minute() -> None:
    past = SnapshotWindow()
    before = {}
    for second in range(200):
        before[second] = [it.taken_at - UNIX for it in past.before(float(second), UNIX + second)]
        past.add(float(second), at(float(second)))
    assert {second: before[second] for second in (0, 5, 65, 199)} == {
        0: [],
        5: [0],
        65: [0, 10, 20, 30, 40, 50, 60],
        199: [130, 140, 150, 160, 170, 180, 190],
    }
    assert past.before(1000.0, UNIX + 1000.0) == (at(190.0),)


def test_samples_that_are_further_apart_than_a_minute_are_compared_with_the_last_one() -> None:
    past = SnapshotWindow()
    before = []
    for second in (0.0, 300.0, 600.0, 900.0):
        before.append([it.taken_at - UNIX for it in past.before(second, UNIX + second)])
        past.add(second, at(second))
    assert before == [[], [0.0], [300.0], [600.0]]


def test_the_first_sample_after_the_clock_was_set_is_kept_so_that_the_second_has_a_rate() -> None:
    past = filled()
    past.add(21.0, at(21.0, 3600.0))
    past.add(22.0, at(22.0, 3600.0))
    assert past.before(23.0, UNIX + 23.0 + 3600.0) == (at(21.0, 3600.0),)


def test_a_clock_that_is_slewed_changes_nothing() -> None:
    assert len(filled().before(30.0, UNIX + 30.02)) == 3


def test_after_the_clock_was_set_nothing_from_before_is_compared_with() -> None:
    for step in (3600.0, -3600.0, 2.0):
        past = filled()
        assert past.before(30.0, UNIX + 30.0 + step) == ()
        past.add(30.0, at(30.0, step))
        past.add(40.0, at(40.0, step))
        assert len(past.before(45.0, UNIX + 45.0 + step)) == 2
