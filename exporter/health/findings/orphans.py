"""Orphans: sockets that no process holds any more. Source: net/ipv4/tcp.c, tcp_too_many_orphans."""

from __future__ import annotations

from exporter.health import measures
from exporter.health.finding import Finding, Limit, Rule
from exporter.health.thresholds import Status
from exporter.health.window import Window
from exporter.tcpstate import TcpState

_NEAR = Limit(
    0.25, "share of tcp_max_orphans", "the kernel counts a suspicious orphan up to four times against the limit"
)
_NEARER = Limit(0.5, "share of tcp_max_orphans", "an orphan that counts twice is at the limit")


def _judge(window: Window) -> Finding | None:
    limit = window.visible("tcp_max_orphans")
    reading = measures.BY_NAME["orphans_ratio"].read(window.now)
    ratio = None if reading is None else reading.share
    if reading is None or ratio is None or ratio < _NEAR.value:
        return None
    killed = window.rose("TcpExt.TCPAbortOnMemory")
    evidence = [f"{reading.used} sockets of the host have no process, of tcp_max_orphans = {limit}: {ratio:.0%}."]
    if killed:
        evidence.append(f"{killed} orphans were killed {window.during}.")
    return Finding(
        name=NEAR_LIMIT.name,
        severity=Status.CRITICAL if killed or ratio >= _NEARER.value else Status.WARNING,
        what="Sockets without a process are near their limit",
        evidence=tuple(evidence),
        why="The kernel counts a suspicious orphan up to four times, and resets it above the limit: the peer loses the "
        "end of what was sent to it.",
        remedy="Find who closes connections whose peers no longer answer. Then raise the limit, or let orphans end "
        "sooner with a lower tcp_orphan_retries.",
        command=f"sysctl -w net.ipv4.tcp_max_orphans={2 * limit}",
        risk=f"Each may hold 64 KiB that cannot be swapped out: {2 * limit >> 4} MiB when full.",
        states=(TcpState.FIN_WAIT1, TcpState.LAST_ACK, TcpState.CLOSING),
    )


NEAR_LIMIT = Rule(
    name="orphans_near_limit",
    subject="orphans",
    definition="Sockets without a process are near tcp_max_orphans, above which the kernel resets them.",
    limits=(_NEAR, _NEARER),
    judge=_judge,
    measure="orphans_ratio",
)
