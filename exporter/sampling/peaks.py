"""The highest count of each state in a sliding window: bursts between two scrapes are not lost."""

from __future__ import annotations

from collections import deque

from exporter.tcpstate import NO_SOCKETS, StateCounts


class Peaks:
    """Sliding maxima. Each state keeps only the samples that can still become its maximum, so memory is bounded."""

    def __init__(self, window: float) -> None:
        self.window = window
        self._candidates: list[deque[tuple[float, int]]] = [deque() for _ in NO_SOCKETS]

    def add(self, now: float, counts: StateCounts) -> StateCounts:
        """Take the counts of time *now* (seconds, never going back) and return the maxima since *now* - window."""
        for candidates, count in zip(self._candidates, counts, strict=True):
            while candidates and candidates[-1][1] <= count:
                candidates.pop()
            candidates.append((now, count))
            while candidates[0][0] < now - self.window:
                candidates.popleft()
        return tuple(candidates[0][1] for candidates in self._candidates)
