"""Accept queues: connections that the application does not accept in time.

Source: net/ipv4/tcp_ipv4.c, tcp_v4_syn_recv_sock, and net/ipv4/tcp_input.c, tcp_conn_request: both drop at a full queue
and count ListenOverflows. net/ipv4/tcp_minisocks.c, tcp_check_req, has tcp_abort_on_overflow.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from exporter.health.finding import Finding, Rule
from exporter.health.findings.shared import (
    EVENTS,
    FILLED,
    NORMAL_HALF_OPEN,
    STEPS,
    dropped_segments,
    goes_on,
    overflows,
    slow_listeners,
)
from exporter.health.thresholds import Status
from exporter.health.window import Window
from exporter.record import NamedTuple
from exporter.snapshot import Listener
from exporter.tcpstate import TcpState

_SHOWN = 3  # listeners that one finding names
_OLD_SOMAXCONN = 128  # its default before Linux 5.4


def _judge(window: Window) -> Finding | None:
    full = [it for it in window.listeners if it.fullest >= 1]
    dropped = overflows(window) if full else window.rise("TcpExt.ListenOverflows")
    if not full and dropped < EVENTS.value:
        return None
    drops = window.drops()
    slow = sorted(slow_listeners(window), key=lambda it: -drops.get(it.place, 0))
    still = bool(slow) or window.now.listeners is None
    lasting = goes_on(window, overflows, still=still)
    limit = _limit(slow[0], window.sysctl("net.core.somaxconn")) if slow else _Limit()
    return Finding(
        name=FULL.name,
        severity=Status.CRITICAL if lasting else Status.WARNING,
        what=f"{_what(window, slow, dropped, drops, lasting=lasting)}: connections arrive faster than the application "
        "accepts them",
        evidence=(*_evidence(window, slow, dropped, drops), *limit.evidence),
        why=_why(window),
        remedy=f"{limit.first}Find out why the application does not call accept() in time: no free worker, a lock, "
        f"garbage collection, a slow dependency.{limit.then}",
        command=limit.command,
        risk="A longer queue helps only with bursts: where the application is always too slow, clients wait longer for "
        "the same refusal. A restart ends the connections that wait.",
        states=(TcpState.LISTEN, TcpState.SYN_RECV, TcpState.ESTABLISHED),
    )


def _what(window: Window, slow: Sequence[Listener], dropped: int, drops: Mapping[str, int], *, lasting: bool) -> str:
    if slow:
        return f"The accept queue of {slow[0].place} {'is full' if slow[0].fullest >= 1 else 'overflows'}"
    happens = "overflows" if lasting else "was full for a moment"
    idle = [it.place for it in window.listeners if it.syn_recv <= NORMAL_HALF_OPEN.value]
    by_drops = sorted(((drops.get(place, 0), place) for place in idle), reverse=True)
    (most, place), (next_most, _) = (*by_drops, (0, ""), (0, ""))[:2]
    if most * 2 > dropped and most > next_most:
        return f"The accept queue of {place} {happens}"
    return f"An accept queue {happens}"


def _evidence(window: Window, slow: Sequence[Listener], dropped: int, drops: Mapping[str, int]) -> list[str]:
    evidence = [_queue_of(listener) for listener in slow[:_SHOWN]]
    if len(slow) > _SHOWN:
        evidence.append(f"{len(slow) - _SHOWN:,} more accept queues are full or filling up.")
    if dropped:
        evidence.append(
            f"{dropped:,} SYNs and final ACKs were dropped {window.during} because an accept queue was full."
        )
    evidence += dropped_segments(window, drops, slow[:_SHOWN])
    half_open = sum(it.syn_recv for it in slow)
    if half_open > NORMAL_HALF_OPEN.value:
        evidence.append(
            f"{half_open:,} connections are half open there, and cannot complete while the accept queue is full."
        )
    return evidence


def _queue_of(listener: Listener) -> str:
    which = f"the fullest of {listener.sockets:,} sockets of" if listener.sockets > 1 else "the accept queue of"
    return (
        f"{listener.fullest_queue:,} connections wait in {which} {listener.place}, "
        f"whose limit is {listener.fullest_limit:,}."
    )


def _why(window: Window) -> str:
    if window.sysctl("tcp_abort_on_overflow"):
        return (
            "tcp_abort_on_overflow is 1, so the kernel resets clients whose handshake finds the queue full: they fail "
            "at once and do not try again."
        )
    return "The kernel drops connections that do not fit, so clients wait for seconds or give up."


class _Limit(NamedTuple):
    """What to say of a listener's limit: where it is from, and what to do about it before and after all else."""

    evidence: tuple[str, ...] = ()
    first: str = ""
    then: str = ""
    command: str | None = None


def _limit(listener: Listener, somaxconn: int | None) -> _Limit:
    """listen() takes the smaller of what the application asks for and somaxconn, once; the kernel keeps no more."""
    limit, who = listener.fullest_limit, f"ss -ltnp 'sport = :{listener.port}'"
    if somaxconn is None:
        return _Limit(command=who)
    if limit < somaxconn:
        old = " 128 was its default before Linux 5.4." if limit == _OLD_SOMAXCONN else ""
        return _Limit(
            evidence=(f"The limit is from the last listen(); net.core.somaxconn is {somaxconn:,} now.{old}",),
            first="Restart the application first: it may have asked listen() for more while net.core.somaxconn was "
            f"lower. If the limit is {limit:,} again, configure a longer backlog there; up to {somaxconn:,} are "
            "allowed. If the queue fills again, the limit is not the cause. ",
            command=who,
        )
    return _Limit(
        evidence=(f"The limit is net.core.somaxconn, {somaxconn:,}: the application asked for that or more.",)
        if limit == somaxconn
        else (f"The limit is above net.core.somaxconn, {somaxconn:,}, which was higher at the last listen().",),
        then=" If the queue fills in bursts only, raise net.core.somaxconn and restart the application: it takes the "
        "limit at listen().",
        command=f"sysctl -w net.core.somaxconn={2 * limit}",
    )


FULL = Rule(
    name="accept_queue_full",
    subject="accept queues",
    definition="An application does not call accept() in time, so the kernel drops connections.",
    limits=(EVENTS, STEPS, FILLED, NORMAL_HALF_OPEN),
    judge=_judge,
    measure="accept_queue_ratio",
)
