"""When a limit will be full: from what was used of it, minute by minute, in the last hour.

``sampling.fullness`` keeps the minutes and asks here once in each; ``Snapshot.to_full`` has the answers. Pure. It would
rather say nothing than be wrong: only what rises through the whole hour, minute for minute, is carried on as a line.
"""

from __future__ import annotations

from exporter.record import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


MINUTES = 60
LEAST_MINUTES = 20
"""So many minutes have to be known: in fewer, a deployment or a burst looks like a leak."""

HORIZON = 30 * 86400
"""Seconds. An hour says nothing of what is farther away: that is as if it did not rise."""

_CURRENT_MINUTES = 3  # the last known minute is of these
_AGREEING = 0.7  # Kendall's tau: a step in the middle of the hour has 0.5, white noise never so much
_EVEN = 0.25  # each quarter of the hour rises by at least this part of the mean: a step or a burst does not


def seconds_to_full(lows: Sequence[float | None], limit: float) -> int | None:
    """The seconds until *limit* is reached at the rate of the last hour.

    *lows* has the least use of each minute, the oldest first, None where it is not known: what comes and goes within a
    minute does not count as used. 0 where it is full, ``HORIZON`` where it does not rise or is not full before; None
    where too few minutes are known.
    """
    known = [(float(minute), low) for minute, low in enumerate(lows) if low is not None]
    if len(known) < LEAST_MINUTES or known[-1][0] < len(lows) - _CURRENT_MINUTES:
        return None
    minute, used = known[-1]
    if used >= limit:
        return 0
    rate = _rate(known)
    if rate <= 0:
        return HORIZON
    reached = _median(low + rate * (minute - then) for then, low in known[-(len(known) // 4) :])
    return min(HORIZON, max(0, round(60 * (limit - max(reached, used)) / rate)))


def _rate(known: Sequence[tuple[float, float]]) -> float:
    """By how much a minute it rises, by the median of the slopes between all pairs; 0.0 where it does not all the time.

    Where it has become slower, as the load of a morning does, the rate is that of the last quarter.
    """
    quarter = len(known) // 4
    first, second, third, last = (
        _median(low for _, low in known[len(known) - (4 - number) * quarter :][:quarter]) for number in range(4)
    )
    least = _EVEN * (last - first) / 3
    if last <= first or min(second - first, third - second, last - third) < least:
        return 0.0
    slopes = _slopes(known)
    rising, falling = sum(slope > 0 for slope in slopes), sum(slope < 0 for slope in slopes)
    if rising - falling < _AGREEING * len(slopes):
        return 0.0
    return min(_median(slopes), _median(_slopes(known[-quarter:])))


def _median(numbers: Iterable[float]) -> float:
    """The middle of *numbers*; ``statistics`` would double what the plugin imports."""
    ordered = sorted(numbers)
    return (ordered[len(ordered) // 2] + ordered[~(len(ordered) // 2)]) / 2


def _slopes(known: Sequence[tuple[float, float]]) -> list[float]:
    """Of the lines through every two of *known* (Theil and Sen): a few outliers do not move their median."""
    return [
        (later - low) / (then - minute)
        for number, (minute, low) in enumerate(known)
        for then, later in known[number + 1 :]
    ]
