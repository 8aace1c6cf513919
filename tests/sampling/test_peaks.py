"""The sliding maxima."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from exporter.sampling.peaks import Peaks
from exporter.tcpstate import StateCounts, TcpState


def established(number: int) -> StateCounts:
    return tuple(number if state is TcpState.ESTABLISHED else 0 for state in TcpState)


def test_a_burst_is_remembered_for_the_window_and_no_longer() -> None:
    peaks = Peaks(60.0)
    seen = [peaks.add(at, established(number)) for at, number in [(0, 5), (1, 900), (2, 7), (61, 6), (62, 8), (63, 1)]]
    assert [counts[TcpState.ESTABLISHED] for counts in seen] == [5, 900, 900, 900, 8, 8]


@given(st.lists(st.tuples(st.floats(0.1, 50), st.integers(0, 20)), min_size=1, max_size=60))
def test_the_peak_is_the_highest_of_the_samples_in_the_window(steps: list[tuple[float, int]]) -> None:
    peaks, now, samples = Peaks(60.0), 0.0, []
    for step, number in steps:
        now += step
        samples.append((now, number))
        expected = max(count for at, count in samples if at >= now - 60.0)
        assert peaks.add(now, established(number)) == established(expected)
