"""An hour of counts in fixed memory: for each ten seconds the least and the most sockets in each state and in all.

Beside them is how much listeners dropped in those seconds. The loop adds every sample; the page takes ``points``,
which is replaced as a whole when a point is complete. A burst or a dip of one sample is in it. Time for which there was
no current sample is a hole, not a zero.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence

from exporter.record import NamedTuple
from exporter.tcpstate import NO_SOCKETS, StateCounts

STEP_SECONDS = 10.0
POINTS = 360
TOTAL = len(NO_SOCKETS)  # the place of all sockets, behind the states
HOLE = -1  # in place of a number, where there was no sample that could count

_MOST = 2**31 - 1  # what an element of array("i") holds


class Points(NamedTuple):
    """Complete points, oldest first, by ``TcpState``, and by ``TOTAL``; each is a number of sockets or ``HOLE``."""

    end: float  # Unix time at which the last point ends
    low: tuple[array[int], ...]
    high: tuple[array[int], ...]
    dropped: array[int]  # segments that listeners dropped during the point; ``HOLE`` where that is not known


class History:
    """The last ``POINTS`` points. Not safe for two writers; ``points`` is for any reader, None before the first."""

    def __init__(self) -> None:
        self.points: Points | None = None
        self._begin()
        self._open: tuple[Sequence[int], Sequence[int]] | None = None  # of the point that is being made
        self._open_dropped: int | None = None  # likewise
        self._counter: int | None = None  # what the kernel's counter of drops was
        self._slot: int | None = None  # its number, counted from the monotonic clock's zero
        self._offset = 0.0  # from monotonic to Unix time
        self._last: Sequence[int] | None = None
        self._last_at = 0.0

    def _begin(self) -> None:
        self._low, self._high = (tuple(array("i") for _ in range(TOTAL + 1)) for _ in range(2))
        self._dropped = array("i")

    def add(
        self,
        now: float,
        taken_at: float,
        counts: StateCounts | None,
        *,
        held: float = 0.0,
        dropped: int | None = None,
    ) -> None:
        """Take the counts of monotonic time *now*, which is Unix time *taken_at*; None where nothing can count.

        *dropped* is the kernel's counter of what listeners dropped; what it rose by belongs to the point of *now*. The
        sample before was current for *held* seconds: points of that time in which there was none repeat it. Where the
        two clocks part by more than a point, as when a machine slept or its time was set, it begins anew: when the
        earlier points were could not be said any more.
        """
        slot, offset = int(now // STEP_SECONDS), taken_at - now
        if self._slot is None or abs(offset - self._offset) > STEP_SECONDS:
            self._begin()
            self.points, self._open, self._open_dropped, self._counter, self._slot = None, None, None, None, slot
        self._offset = offset
        if slot > self._slot:
            self._complete(self._slot, slot, int((self._last_at + held) // STEP_SECONDS))
            self._slot = slot
        if dropped is not None and self._counter is not None:
            self._open_dropped = (self._open_dropped or 0) + max(0, dropped - self._counter)
        self._counter = dropped
        series = None if counts is None else (*counts, sum(it for it in counts if it != HOLE))
        self._last, self._last_at = series, now
        if series is not None:
            low, high = self._open or (series, series)
            self._open = [*map(min, low, series)], [*map(max, high, series)]

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
        self._dropped.append(HOLE if self._open_dropped is None else min(self._open_dropped, _MOST))
        self._dropped.extend(array("i", [HOLE]) * min(skipped, POINTS))
        del self._dropped[:-POINTS]
        self._open = self._open_dropped = None
        self.points = Points(
            following * STEP_SECONDS + self._offset,
            (*(points[:] for points in self._low),),  # tuple() would leave one more on Python's free list each time
            (*(points[:] for points in self._high),),
            self._dropped[:],
        )
