"""TIME-WAIT sockets near their limit. Source: net/ipv4/tcp_minisocks.c, tcp_time_wait; TCPTimeWaitOverflow."""

from __future__ import annotations

from exporter.health import measures
from exporter.health.finding import Finding, Rule
from exporter.health.findings.shared import NEAR
from exporter.health.thresholds import Status
from exporter.health.window import Window
from exporter.tcpstate import TcpState


def _judge(window: Window) -> Finding | None:
    reading = measures.BY_NAME["time_wait_ratio"].read(window.now)
    limit = window.visible("tcp_max_tw_buckets")
    ratio = None if reading is None else reading.share
    overflows = window.rose("TcpExt.TCPTimeWaitOverflow")
    if reading is None or ratio is None or (ratio < NEAR.value and not overflows):
        return None
    buckets = window.sysctl("tcp_ehash_entries")
    higher = max(2 * limit, 0 if buckets is None else abs(buckets) // 2)
    evidence = [f"{reading.used} sockets wait, of tcp_max_tw_buckets = {limit}: {ratio:.0%}."]
    if overflows:
        evidence.append(f"{overflows} connections skipped TIME-WAIT {window.during} because the limit was reached.")
    return Finding(
        name=NEAR_LIMIT.name,
        severity=Status.CRITICAL if overflows else Status.WARNING,
        what="TIME-WAIT is at its limit: connections skip it" if overflows else "TIME-WAIT is near its limit",
        evidence=tuple(evidence),
        why="A connection that skips TIME-WAIT leaves its late segments to the next one with the same ports, and "
        "answers a late FIN with a reset.",
        remedy="Raise the limit; it was made against denial of service and not to save memory. Then let the "
        "connections live longer, by HTTP keep-alive or a pool, or let the peer close first.",
        command=f"sysctl -w net.ipv4.tcp_max_tw_buckets={higher}",
        risk=f"256 bytes for each: {higher * 256 / 2**20:.0f} MiB when full.",
        states=(TcpState.TIME_WAIT, TcpState.FIN_WAIT2),
    )


NEAR_LIMIT = Rule(
    name="time_wait_near_limit",
    subject="TIME-WAIT sockets",
    definition="TIME-WAIT sockets are near tcp_max_tw_buckets, above which connections skip the state.",
    limits=(NEAR,),
    judge=_judge,
    measure="time_wait_ratio",
)
