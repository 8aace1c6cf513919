"""When the next pass is due: on a grid that does not drift, and no oftener than its share of a core allows."""

from __future__ import annotations

from typing import NamedTuple


class Next(NamedTuple):
    """The plan after a pass: when the next is due, how far apart they are now, whether this one ended too late."""

    due: float
    interval: float
    overrun: bool


def plan(*, due: float, now: float, interval: float, cpu: float, max_cpu_ratio: float) -> Next:
    """Plan the pass after one that was due at *due*, ended at *now* and used *cpu* seconds; all in seconds.

    A pass that cost c is followed by none before c / ratio, so the share of one core holds from pass to pass. Missed
    times are not made up for, and the grid stays where it is.

    >>> plan(due=10.0, now=10.2, interval=1.0, cpu=0.001, max_cpu_ratio=0.01)
    Next(due=11.0, interval=1.0, overrun=False)
    >>> plan(due=10.0, now=10.2, interval=1.0, cpu=0.04, max_cpu_ratio=0.01)
    Next(due=14.0, interval=4.0, overrun=False)
    >>> plan(due=10.0, now=12.5, interval=1.0, cpu=0.001, max_cpu_ratio=0.01)
    Next(due=13.0, interval=1.0, overrun=True)
    """
    interval = max(interval, cpu / max_cpu_ratio)
    following = due + interval
    if following > now:
        return Next(following, interval, overrun=False)
    return Next(due + interval * ((now - due) // interval + 1), interval, overrun=True)
