"""Descriptors of sockets that are in no state any more: the connection has ended, and the application has not noticed.

Source: net/ipv4/proc.c, sockstat_seq_show: alloc less inuse. ``kernel.stateless`` says where that can be told.
"""

from __future__ import annotations

from exporter.health.finding import Finding, Limit, Rule
from exporter.health.thresholds import Status
from exporter.health.window import CannotTell, NotHere, Window
from exporter.tcpstate import TcpState

_MANY = Limit(200, "sockets of the host in no state", "programs open a few before they connect them")
_SHARE = Limit(0.01, "share of the host's TCP sockets", "on a large host connections open and close during the count")


def _judge(window: Window) -> Finding | None:
    detail = window.now.detail
    if detail is None:
        raise window.undetailed()
    if detail.stateless is None:
        if detail.problem is not None:
            raise CannotTell(detail.problem)
        raise NotHere("it needs to see every process of the host, and netlink of Linux 6.8 or newer")
    leaked = detail.stateless
    sockstat = window.now.sockstat
    allocated = None if sockstat is None else sockstat.alloc
    if leaked < max(_MANY.value, _SHARE.value * (allocated or 0)):
        return None
    evidence = [f"{leaked:,} TCP sockets of the host are held by a descriptor and are in no state."]
    if allocated is not None:
        evidence.append(f"{allocated:,} are allocated in all (/proc/net/sockstat: alloc).")
    return Finding(
        name=LEAK.name,
        severity=Status.WARNING,
        what=f"{leaked:,} sockets are in no state, and their descriptors are still open",
        evidence=tuple(evidence),
        why="Most of their connections have ended, by a reset or by keepalive, and the application has not closed "
        "them. Each takes a descriptor, until accept(), connect() and open() fail with EMFILE.",
        remedy="Find the process that holds them, and let the application close a socket once reading from it returns "
        "an error or the end of data. A restart frees them for now.",
        command="tcp-exporter who leaked",
        risk="None: the command only reads.",
        states=(TcpState.CLOSE, TcpState.CLOSE_WAIT),
    )


LEAK = Rule(
    name="descriptor_leak",
    subject="sockets in no state",
    definition="Descriptors hold TCP sockets whose connections have ended.",
    limits=(_MANY, _SHARE),
    judge=_judge,
    worst=Status.WARNING,
)
