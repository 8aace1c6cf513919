"""How much is measured: all of it, a quick part, or just enough to see that the suite works."""

from __future__ import annotations

from typing import NamedTuple


class Plan(NamedTuple):
    """Sizes are numbers of sockets, times are seconds. The whole daemon is measured at the first and the last size."""

    name: str
    sizes: tuple[int, ...]
    rounds: int  # of samples, at most
    seconds: float  # for all samples of one contender at one size; one sample at least
    mixed: tuple[tuple[str, int], ...]  # mixes and sizes for the floor and ours
    mixed_seconds: float  # as above; TIME_WAIT is over after a minute
    peers_beside: tuple[tuple[str, int], ...]  # those of them that the peers are measured in too
    load_rounds: int
    load_seconds: float
    paced_seconds: float  # of many clients at a pace: of some rounds a walk of the daemon is part
    idle_size: int
    idle_seconds: float  # in windows of 15, the interval of detail passes
    age_seconds: float  # at the first and the last size: longer than a minute's allowance lasts at the last one
    starts: int
    hour_seconds: float  # for an hour's worth of samples at most
    listeners: int  # at which the page and the JSON are asked for
    document_rounds: int
    document_requests: int  # in a round
    plugin_sizes: tuple[int, ...]
    plugin_runs: int
    plugin_seconds: float  # for all runs of one command at one size


_MIXES = ("time_wait", "close_wait", "syn_flood")

FULL = Plan(
    name="full",
    sizes=(1_000, 10_000, 100_000, 1_000_000),
    rounds=12,
    seconds=8.0,
    mixed=(("time_wait", 100_000), *((mix, 1_000_000) for mix in _MIXES)),
    mixed_seconds=5.0,
    peers_beside=(("time_wait", 100_000),),
    load_rounds=3,
    load_seconds=1.5,
    paced_seconds=8.0,
    idle_size=10_000,
    idle_seconds=60.0,
    age_seconds=45.0,
    starts=3,
    hour_seconds=60.0,
    listeners=5_000,
    document_rounds=9,
    document_requests=500,
    plugin_sizes=(1_000, 100_000),
    plugin_runs=40,
    plugin_seconds=12.0,
)

QUICK = FULL._replace(
    name="quick",
    sizes=(1_000, 10_000, 100_000),
    rounds=5,
    seconds=2.5,
    mixed=tuple((mix, 100_000) for mix in _MIXES),
    mixed_seconds=2.0,
    peers_beside=(),
    load_rounds=2,
    load_seconds=0.4,
    paced_seconds=2.0,
    idle_seconds=30.0,
    age_seconds=15.0,
    starts=2,
    hour_seconds=8.0,
    document_rounds=3,
    plugin_runs=12,
    plugin_seconds=4.0,
)

SMOKE = QUICK._replace(
    name="smoke",
    sizes=(100, 300),
    rounds=1,
    seconds=0.5,
    mixed=tuple((mix, 300) for mix in _MIXES),
    mixed_seconds=0.2,
    load_rounds=1,
    load_seconds=0.1,
    paced_seconds=0.5,
    idle_size=100,
    idle_seconds=1.0,
    age_seconds=1.0,
    starts=1,
    hour_seconds=1.0,
    listeners=10,
    document_rounds=1,
    document_requests=2,
    plugin_sizes=(100, 300),
    plugin_runs=2,
    plugin_seconds=1.0,
)

PLANS = {plan.name: plan for plan in (FULL, QUICK, SMOKE)}
