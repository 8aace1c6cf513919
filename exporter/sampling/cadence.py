"""When the next pass is due: on a grid that does not drift, and no oftener than its share of a core allows."""

from __future__ import annotations

from exporter.record import NamedTuple

ALLOWANCE_SECONDS = 60.0
"""The share is kept over a minute: one dear pass may use what a minute allows before the next has to wait for it."""


class Plan(NamedTuple):
    """When the next pass is due and what led to it; times in seconds."""

    due: float
    interval: float  # to the next pass: as configured, or longer to keep the share
    overrun: bool = False  # whether the pass ended after the next one was due
    debt: float = 0.0  # CPU time that was used and has not been earned since
    at: float = 0.0  # when it was planned


def plan(last: Plan, *, now: float, interval: float, cpu: float, max_cpu_ratio: float) -> Plan:
    """Plan the pass after the one that *last* made due, which ended at *now* and used *cpu* seconds.

    CPU time is earned at *max_cpu_ratio* a second. Once more than a minute's worth is owed, the next pass waits until
    it is not. Missed times are not made up for, and the grid stays where it is.

    >>> plan(Plan(due=10.0, interval=1.0), now=10.2, interval=1.0, cpu=0.001, max_cpu_ratio=0.01)
    Plan(due=11.0, interval=1.0, overrun=False, debt=0.001, at=10.2)
    >>> plan(Plan(due=10.0, interval=1.0, debt=30.0, at=10.0), now=10.0, interval=1.0, cpu=2.0, max_cpu_ratio=0.5)
    Plan(due=14.0, interval=4.0, overrun=False, debt=32.0, at=10.0)
    >>> plan(Plan(due=10.0, interval=1.0), now=12.5, interval=1.0, cpu=0.0, max_cpu_ratio=0.01).due
    13.0
    """
    debt = max(0.0, last.debt - (now - last.at) * max_cpu_ratio) + cpu
    wait = debt / max_cpu_ratio - ALLOWANCE_SECONDS
    if wait > 0:
        interval = max(interval, now - last.due + wait)
    due = last.due + interval
    overrun = due <= now
    if overrun:
        due += interval * ((now - due) // interval + 1)
    return Plan(due, interval, overrun, debt, now)


def is_due(planned: Plan, beat: Plan) -> bool:
    """Whether a pass that is made only together with those of *beat* is to be made now: its time is near this one.

    >>> beat = Plan(due=20.0, interval=1.0)
    >>> [is_due(Plan(due=due, interval=13.0), beat) for due in (19.0, 20.4, 20.6)]
    [True, True, False]
    """
    return planned.due < beat.due + beat.interval / 2


def has_credit(last: Plan, max_cpu_ratio: float) -> bool:
    """Whether a pass may do what it can do without: less than half of what may be owed is.

    >>> [has_credit(Plan(due=11.0, interval=1.0, debt=debt), 0.01) for debt in (0.29, 0.31)]
    [True, False]
    """
    return last.debt < max_cpu_ratio * ALLOWANCE_SECONDS / 2
