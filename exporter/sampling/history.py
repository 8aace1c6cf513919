"""An hour of counts in fixed memory: for each ten seconds the least and the most sockets in each state.

The loop adds every sample; the page takes ``points``, which is replaced as a whole when a point is complete. A
burst or a dip of one sample is in it. Time for which there was no current sample is a hole, not a zero.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence

from exporter.record import NamedTuple
from exporter.snapshot import NO_SOCKETS, StateCounts

STEP_SECONDS = 10.0
POINTS = 360
HOLE = -1  # in place of a number, where there was no sample that could count

_MOST = 2**31 - 1  # what an element of array("i") holds


class Points(NamedTuple):
    """Complete points, oldest first, by ``TcpState``; each is a number of sockets or ``HOLE``."""

    end: float  # Unix time at which the last point ends
    low: tuple[array[int], ...]
    high: tuple[array[int], ...]


class History:
    """The last ``POINTS`` points. Not safe for two writers; ``points`` is for any reader, None before the first."""

    def __init__(self) -> None:
        self.points: Points | None = None
        self._low = self._high = tuple(array("i") for _ in NO_SOCKETS)
        self._open: tuple[Sequence[int], Sequence[int]] | None = None  # of the point that is being made
        self._slot: int | None = None  # its number, counted from the monotonic clock's zero
        self._offset = 0.0  # from monotonic to Unix time
        self._last: StateCounts | None = None
        self._last_at = 0.0

    def add(self, now: float, taken_at: float, counts: StateCounts | None, *, held: float = 0.0) -> None:
        """Take the counts of monotonic time *now*, which is Unix time *taken_at*; None where nothing can count.

        The sample before was current for *held* seconds: points of that time in which there was none repeat it.
        Where the two clocks part by more than a point, as when a machine slept or its time was set, it begins anew:
        when the earlier points were could not be said any more.
        """
        slot, offset = int(now // STEP_SECONDS), taken_at - now
        if self._slot is None or abs(offset - self._offset) > STEP_SECONDS:
            self._low = tuple(array("i") for _ in NO_SOCKETS)
            self._high = tuple(array("i") for _ in NO_SOCKETS)
            self.points, self._open, self._slot = None, None, slot
        self._offset = offset
        if slot > self._slot:
            self._complete(self._slot, slot, int((self._last_at + held) // STEP_SECONDS))
            self._slot = slot
        self._last, self._last_at = counts, now
        if counts is not None:
            low, high = self._open or (counts, counts)
            self._open = [*map(min, low, counts)], [*map(max, high, counts)]

    def _complete(self, slot: int, following: int, held: int) -> None:
        """End the point of *slot*, repeat the last sample until *held*, leave holes up to *following*, and publish."""
        low, high = self._open or (None, None)
        skipped = following - slot - 1
        repeated = min(max(0, held - slot), skipped) if self._last is not None else 0
        holes = array("i", [HOLE]) * min(skipped - repeated, POINTS)
        for series, made in ((self._low, low), (self._high, high)):
            for state, points in enumerate(series):
                points.append(HOLE if made is None else min(made[state], _MOST))
                if self._last is not None:
                    points.extend(array("i", [min(self._last[state], _MOST)]) * min(repeated, POINTS))
                points.extend(holes)
                del points[:-POINTS]
        self._open = None
        self.points = Points(
            following * STEP_SECONDS + self._offset,
            (*(points[:] for points in self._low),),  # tuple() would leave one more on Python's free list each time
            (*(points[:] for points in self._high),),
        )
