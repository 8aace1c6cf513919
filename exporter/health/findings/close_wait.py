"""CLOSE-WAIT leaks: connections that the peer has closed and the application forgets.

A step is not a leak: when a backend restarts, a pool of idle connections notices later. What tells them apart is age,
or a count that rises again and again. Connections that wait in an accept queue belong to ``accept_queue_full``.
Measured on 6.18: 30 sockets with SO_KEEPALIVE, tcp_keepalive_time 3 s and tcp_fin_timeout 5 s leave the state within
8 s and keep their descriptors, because the peer, whose own socket is gone, answers the probe with a reset.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, pairwise

from exporter.details import CloseWait
from exporter.health.finding import Finding, Limit, Rule
from exporter.health.findings.shared import holders
from exporter.health.thresholds import Status
from exporter.health.window import NEEDS_TWO, CannotTell, Window
from exporter.snapshot import Connections, Snapshot
from exporter.tcpstate import TcpState

_LEAST = Limit(20, "CLOSE-WAIT sockets", "fewer are normal between a peer's close and the application's")
_MORE = Limit(10, "more CLOSE-WAIT sockets than before", "a rise that a busy application does not show by chance")
_SECONDS = Limit(50, "seconds over which the count rises", "pools notice within seconds, so their counts fall again")
_RISES = Limit(3, "rises within a minute, none followed by a fall", "backends that restart are a step or two")
_MANY = Limit(
    100,
    "CLOSE-WAIT sockets whose peer has been silent for 60 s; where they outnumber the established, for 10 s on a "
    "listener's port (with a single sample, for any time), or for 5 s while their number rises",
    "pools notice within that time that their backend has closed; a server that reads notices at once",
)
_STILL = Limit(3, "more of them between two samples", "one or two are connections that are just ending")
_PARTS = Limit(6, "parts of 10, 20, 40 or 60 minutes, each with a higher minimum", "a slow leak; load falls again")
_POINTS = (60, 120, 240, 360)  # of ten seconds each: the spans in which a slow leak is looked for
_HOLE = -1


def _judge(window: Window) -> Finding | None:
    number = _accepted(window)
    if number < _LEAST.value:
        return None
    evidence = [f"{number:,} connections were closed by their peers and not by the application."]
    signs = [sign for sign in (_old(window, number), _rising(window), _slow(window)) if sign]
    if not signs:
        if not window.past:
            raise CannotTell(NEEDS_TWO)
        return None
    evidence += signs
    owner = ""
    for kind, name, held in holders(window.now, TcpState.CLOSE_WAIT):
        evidence.append(f"{held:,} of them belong to {kind} {name}, as of the last detail pass.")
        owner = owner or f" of {kind} {name}"
    return Finding(
        name=LEAK.name,
        severity=Status.WARNING,
        what=f"The application{owner} does not close connections that its peers have closed",
        evidence=tuple(evidence),
        why="Each holds a file descriptor until the process ends: at its limit the application can accept and open "
        "nothing more. Keepalive ends the state once the peer's side is gone, but not the leak: the descriptor stays.",
        remedy="It is a bug of the application, or it hangs. Find the process, have it close the socket when read() "
        "returns 0, and restart it for now.",
        command="tcp-exporter who close_wait",
        risk="A restart ends the application's other connections too.",
        states=(TcpState.CLOSE_WAIT,),
    )


def _accepted(window: Window) -> int:
    """The CLOSE-WAIT sockets that a process has, at least: those in accept queues nobody has to close."""
    ages, counted = _ages(window), window.count(TcpState.CLOSE_WAIT)
    return max(0 if ages is None else min(ages.sockets, counted), _course(window)[-1])


def _course(window: Window) -> list[int]:
    """The sockets of every snapshot that has counts, less what waited in accept queues then; the oldest first."""
    return [
        max(0, it.connections.counts[TcpState.CLOSE_WAIT] - _queued(it, it.connections))
        for it in (*window.past, window.now)
        if it.connections is not None
    ]


def _queued(snapshot: Snapshot, connections: Connections) -> int:
    """What waited in all accept queues when CLOSE_WAIT was counted: a light pass may have read them anew since."""
    if connections.queued is not None:
        return connections.queued
    return sum(it.accept_queue for it in snapshot.listeners or ())


def _ages(window: Window) -> CloseWait | None:
    detail = window.now.detail
    return None if detail is None else detail.close_wait


def _old(window: Window, number: int) -> str:
    """Connections whose peers have been silent for long, and for not so long where other signs go with it."""
    ages = _ages(window)
    if ages is None:
        return ""
    said = "The peers of {:,} of them have been silent for more than {} s."
    if ages.over_60_seconds >= _MANY.value:
        return said.format(ages.over_60_seconds, 60)
    return _where_they_outnumber(window, ages, said) if number > window.count(TcpState.ESTABLISHED) else ""


def _where_they_outnumber(window: Window, ages: CloseWait, said: str) -> str:
    """What is a leak where fewer connections are established than wait to be closed."""
    if not window.past and ages.served >= _MANY.value:
        return (
            f"A server here has accepted {ages.served:,} of them, and one that reads closes at once; this is one "
            "sample."
        )
    if ages.served_over_10_seconds >= _MANY.value:
        return said.format(ages.served_over_10_seconds, 10) + " A server that reads closes at once."
    course = _course(window)
    rise = course[-1] - course[-2] if len(course) > 1 else 0
    if ages.over_5_seconds >= _MANY.value and rise >= _STILL.value:
        return f"{said.format(ages.over_5_seconds, 5)} {rise:,} more came meanwhile."
    return ""


def _rising(window: Window) -> str:
    """A count that rises for a minute, and not in a step or two."""
    course = _course(window)
    rises = sum(after > before for before, after in pairwise(course))
    if window.seconds < _SECONDS.value or rises < _RISES.value or course != sorted(course):
        return ""
    if course[-1] - course[0] < _MORE.value:
        return ""
    return (
        f"There were {course[0]:,} of them {window.seconds:.3g} s ago, and no count since was lower than the one "
        "before."
    )


def _slow(window: Window) -> str:
    """The least count of ten seconds, rising for ten minutes or more."""
    lows = window.lows[TcpState.CLOSE_WAIT] if window.lows else ()
    for points in _POINTS:
        least = _least_by_part(lows[-points:]) if len(lows) >= points else ()
        if len(least) > 1 and least[-1] - least[0] >= _MORE.value and all(map(int.__lt__, least, least[1:])):
            return f"Their minimum rose from {least[0]:,} to {least[-1]:,} within {points // 6} minutes."
    return ""


def _least_by_part(lows: Sequence[int]) -> tuple[int, ...]:
    """The minimum of each part of equal length; nothing where the counts have a hole or fall in between."""
    if _HOLE in lows:
        return ()
    size = len(lows) // int(_PARTS.value)
    least = tuple(min(lows[start : start + size]) for start in range(0, len(lows), size))
    allowed = max(2, (least[-1] - least[0]) // 10)  # a few that are closed in time come and go
    falls = max(most - low for most, low in zip(accumulate(lows, max), lows, strict=True))
    return least if falls <= allowed else ()


LEAK = Rule(
    name="close_wait_leak",
    subject="CLOSE-WAIT sockets",
    definition="An application does not close connections that its peers have closed.",
    limits=(_LEAST, _MORE, _SECONDS, _RISES, _MANY, _STILL, _PARTS),
    judge=_judge,
    worst=Status.WARNING,
)
