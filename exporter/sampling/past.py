"""The older snapshots that a rate needs: a few, evenly spaced over the last minute. Fixed memory, no clock."""

from __future__ import annotations

from collections import deque

from exporter.snapshot import Snapshot

WINDOW_SECONDS = 60.0
_SAME_CLOCK_SECONDS = 1.0  # by which the two clocks may part in a minute: a clock that is slewed stays far below
_KEPT = 6


class SnapshotWindow:
    """Keeps a snapshot of every tenth second; the oldest is up to a minute and a step old, or the only one."""

    def __init__(self, window: float = WINDOW_SECONDS) -> None:
        self._step = window / _KEPT
        self._kept: deque[tuple[float, Snapshot]] = deque(maxlen=_KEPT + 1)

    def before(self, now: float, taken_at: float) -> tuple[Snapshot, ...]:
        """Those kept until monotonic second *now*, which is Unix time *taken_at*, the oldest first.

        Those from before the system's clock was set are not among them: the time since is not what ``taken_at`` says.
        """
        while len(self._kept) > 1 and now - self._kept[0][0] > self._step * (_KEPT + 1):
            self._kept.popleft()
        return tuple(snapshot for at, snapshot in self._kept if _by_one_clock(snapshot, at, now, taken_at))

    def add(self, now: float, snapshot: Snapshot) -> None:
        """Keep it where the last one that was kept is a step old, or is from before the system's clock was set."""
        if self._kept:
            at, last = self._kept[-1]
            if now - at < self._step and _by_one_clock(last, at, now, snapshot.taken_at):
                return
        self._kept.append((now, snapshot))


def _by_one_clock(older: Snapshot, at: float, now: float, taken_at: float) -> bool:
    """Whether the system's clock was not set between *older*, of monotonic second *at*, and *now*."""
    return abs(taken_at - older.taken_at - (now - at)) < _SAME_CLOCK_SECONDS
