"""TIME-WAIT sockets near their limit. Source: net/ipv4/inet_timewait_sock.c, inet_twsk_alloc; TCPTimeWaitOverflow.

The kernel compares unsigned numbers: a limit below 0 is none, and with 0 every connection skips TIME-WAIT (measured on
6.18: 249 overflows and no socket that waits; with -1 259 wait).
"""

from __future__ import annotations

from exporter.health import measures
from exporter.health.finding import Finding, Limit, Rule
from exporter.health.findings.shared import NEAR
from exporter.health.thresholds import Status
from exporter.health.window import CannotTell, Window
from exporter.tcpstate import TcpState

_OVERFLOWS = Limit(10, "connections that skipped TIME-WAIT", "fewer are the edge of a burst that is over")


def _judge(window: Window) -> Finding | None:
    limit = window.visible("tcp_max_tw_buckets")
    if limit < 0:
        return None
    reading = measures.BY_NAME["time_wait_ratio"].read(window.now)
    if reading is None:
        raise CannotTell(window.now.sources.get("sockstat") or "sockstat was not read")
    counter = "TcpExt.TCPTimeWaitOverflow"
    overflows = window.rose(counter) if limit else window.rise(counter)  # a limit of 0 shows in nothing else
    near = reading.share is not None and reading.share >= NEAR.value
    if not near and overflows < _OVERFLOWS.value:
        return None
    higher = max(2 * limit, _default(window))
    evidence = [f"{reading.used:,} sockets wait, of tcp_max_tw_buckets = {limit:,}{_share(reading.share)}."]
    if overflows:
        evidence.append(f"{overflows:,} connections skipped TIME-WAIT {window.during} because the limit was reached.")
    return Finding(
        name=NEAR_LIMIT.name,
        severity=Status.CRITICAL if overflows else Status.WARNING,
        what="TIME-WAIT is at its limit: connections skip it" if overflows else "TIME-WAIT is near its limit",
        evidence=tuple(evidence),
        why="A connection that skips TIME-WAIT leaves its late segments to the next one with the same ports, and "
        "answers a late FIN with a reset.",
        remedy="Raise the limit: it protects against denial of service and does not save memory. Then let the "
        "connections live longer, by HTTP keep-alive or a pool, or let the peer close first.",
        command=f"sysctl -w net.ipv4.tcp_max_tw_buckets={higher}",
        risk=f"256 bytes for each: {measures.amount(256 * higher, 'bytes')} when full.",
        states=(TcpState.TIME_WAIT, TcpState.FIN_WAIT2),
    )


def _share(share: float | None) -> str:
    return ": no socket may wait" if share is None else f": {share:.0%}"


def _default(window: Window) -> int:
    """The kernel's own limit: half of the hash table, and at least the 4096 of its smallest. Source: tcp_init."""
    buckets = window.sysctl("tcp_ehash_entries")
    return 4096 if not buckets else abs(buckets) // 2


NEAR_LIMIT = Rule(
    name="time_wait_near_limit",
    subject="TIME-WAIT sockets",
    definition="TIME-WAIT sockets are near tcp_max_tw_buckets, above which connections skip the state.",
    limits=(NEAR, _OVERFLOWS),
    judge=_judge,
    measure="time_wait_ratio",
)
