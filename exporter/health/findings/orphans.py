"""Orphans, the sockets without a process, near their limit. Source: net/ipv4/tcp.c, tcp_too_many_orphans.

Limit and number are the host's and not visible in a child network namespace; the counter of those killed is.
"""

from __future__ import annotations

from exporter.health import measures
from exporter.health.finding import Finding, Limit, Rule
from exporter.health.thresholds import Status
from exporter.health.window import CannotTell, NotHere, Window
from exporter.tcpstate import TcpState

_NEAR = Limit(
    0.25, "share of tcp_max_orphans", "the kernel counts a suspicious orphan up to four times against the limit"
)
_NEARER = Limit(0.5, "share of tcp_max_orphans", "an orphan that counts twice is at the limit")
_KILLED = Limit(10, "orphans killed", "where the limit is not visible or not near, a few may be a process that ended")
_BYTES = 65536  # that an orphan may hold (Documentation/networking/ip-sysctl.rst: tcp_max_orphans)


def _judge(window: Window) -> Finding | None:
    killed = window.rose("TcpExt.TCPAbortOnMemory")
    try:
        limit = window.visible("tcp_max_orphans")
    except (CannotTell, NotHere):
        if killed < _KILLED.value:
            raise
        return _finding(window, killed, None, None)
    reading = measures.BY_NAME["orphans_ratio"].read(window.now)
    if reading is None:
        raise CannotTell(window.now.sources.get("sockstat") or "sockstat was not read")
    near = reading.share is not None and reading.share >= _NEAR.value
    return _finding(window, killed, reading, limit) if near or killed >= _KILLED.value else None


def _finding(window: Window, killed: int, reading: measures.Reading | None, limit: int | None) -> Finding:
    evidence = []
    share = None if reading is None else reading.share
    if reading is not None:
        ratio = "" if share is None else f": {share:.0%}"
        evidence.append(f"{reading.used:,} sockets of the host have no process, of tcp_max_orphans = {limit:,}{ratio}.")
    if killed:
        evidence.append(
            f"{killed:,} orphans were killed {window.during}, because of their number or for lack of memory."
        )
    if reading is None:
        evidence.append("tcp_max_orphans is the host's and not visible from this network namespace.")
    higher = None if limit is None or limit <= 0 or share is None or share < _NEAR.value else 2 * limit
    raised = "" if higher is None else f" Each may hold 64 KiB: {measures.amount(_BYTES * higher, 'bytes')} when full."
    return Finding(
        name=NEAR_LIMIT.name,
        severity=Status.CRITICAL if killed or (share or 0.0) >= _NEARER.value else Status.WARNING,
        what="Sockets without a process are killed" if killed else "Sockets without a process are near their limit",
        evidence=tuple(evidence),
        why="The kernel counts a suspicious orphan up to four times, and resets it above the limit: the peer loses the "
        "end of what was sent to it.",
        remedy="Find the peers that do not take what was sent to them. Where they do not answer at all, a lower "
        "tcp_orphan_retries ends their orphans sooner; from 2 on it does nothing for a peer that answers with a closed "
        "window. Only TCP_USER_TIMEOUT, which the application sets, or ss -K dst ADDRESS by hand ends those. Raise "
        "tcp_max_orphans only where memory is to spare.",
        command="tcp-exporter who fin_wait1 --by remote" if higher is None else _raise(higher),
        risk=f"ss -K and TCP_USER_TIMEOUT drop what the peer has not taken yet.{raised}",
        states=(TcpState.FIN_WAIT1, TcpState.LAST_ACK, TcpState.CLOSING),
    )


def _raise(limit: int) -> str:
    return f"sysctl -w net.ipv4.tcp_max_orphans={limit}"


NEAR_LIMIT = Rule(
    name="orphans_near_limit",
    subject="orphans",
    definition="Sockets without a process are near tcp_max_orphans, above which the kernel resets them.",
    limits=(_NEAR, _NEARER, _KILLED),
    judge=_judge,
    measure="orphans_ratio",
)
