"""The older snapshots that a rate needs: a few, at even distances, of the last minute. Fixed memory, no clock."""

from __future__ import annotations

from collections import deque

from exporter.snapshot import Snapshot

WINDOW_SECONDS = 60.0
_KEPT = 6


class Past:
    """Keeps a snapshot of every tenth second; the oldest is up to a minute and a step old."""

    def __init__(self, window: float = WINDOW_SECONDS) -> None:
        self._step = window / _KEPT
        self._kept: deque[tuple[float, Snapshot]] = deque(maxlen=_KEPT + 1)

    def before(self, now: float) -> tuple[Snapshot, ...]:
        """Those kept until monotonic second *now*, the oldest first."""
        while self._kept and now - self._kept[0][0] > self._step * (_KEPT + 1):
            self._kept.popleft()
        return tuple(snapshot for _, snapshot in self._kept)

    def add(self, now: float, snapshot: Snapshot) -> None:
        """Keep it where the last one that was kept is a step old."""
        if not self._kept or now - self._kept[-1][0] >= self._step:
            self._kept.append((now, snapshot))
