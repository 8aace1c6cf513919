"""The least use of every limit in each minute of the last hour, in fixed memory, and when each will be full.

The loop adds the readings of every sample and puts ``to_full`` into the next snapshot. ``forecast`` judges the minutes,
once when each is over.
"""

from __future__ import annotations

from array import array
from collections.abc import Mapping
from math import isnan, nan

from exporter.health.forecast import MINUTES, seconds_to_full
from exporter.health.measures import LISTENERS, RATIOS, Measure, Reading, Readings

_MINUTE = 60.0
_UNKNOWN = array("d", [nan])


class Fullness:
    """The minutes of each ratio. ``to_full`` is as ``Snapshot.to_full``: by resource, replaced as a whole."""

    def __init__(self) -> None:
        self.to_full: Mapping[str, int] = {}
        self._lows = {measure.name: array("d") for measure in RATIOS}
        self._least: dict[str, float] = {}  # of the minute that is not over
        self._limits: dict[str, float] = {}  # the newest
        self._minute: int | None = None

    def add(self, now: float, readings: Readings) -> None:
        """Take the *readings* of monotonic time *now*."""
        minute = int(now // _MINUTE)
        if self._minute is not None and minute > self._minute:
            self._complete(minute - self._minute - 1)
        self._minute = minute
        for measure in RATIOS:
            level = _level(measure, readings.get(measure.name))
            if level is not None:
                used, self._limits[measure.name] = level
                self._least[measure.name] = min(used, self._least.get(measure.name, used))

    def _complete(self, skipped: int) -> None:
        """End the minute, leave *skipped* ones unknown, and look ahead."""
        to_full = {}
        for measure in RATIOS:
            name, lows = measure.name, self._lows[measure.name]
            lows.append(self._least.get(name, nan))
            lows.extend(_UNKNOWN * min(skipped, MINUTES))
            del lows[:-MINUTES]
            if name in self._least:
                seconds = seconds_to_full([None if isnan(low) else low for low in lows], self._limits[name])
                if seconds is not None:
                    to_full[measure.resource] = seconds
        self._least, self.to_full = {}, to_full


def _level(measure: Measure, reading: Reading | None) -> tuple[float, float] | None:
    """What is used, and the limit at this moment.

    A limit that somebody raises changes only the limit. That of the fullest queue changes with the queue, so of queues
    it is the share.
    """
    if reading is None or reading.limit is None:
        return None
    if LISTENERS in measure.needs:
        return reading.used / reading.limit, 1.0
    return reading.used, reading.limit
