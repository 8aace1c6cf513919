"""Ephemeral ports: the local ports that connect() may pick. Source: net/ipv4/inet_hashtables.c, __inet_hash_connect."""

from __future__ import annotations

from exporter.health import measures
from exporter.health.finding import Finding, Limit, Rule
from exporter.health.findings.shared import NEAR
from exporter.health.thresholds import Status
from exporter.health.window import CannotTell, NotHere, Window
from exporter.tcpstate import TcpState

_NEARLY_GONE = Limit(0.95, "share of the ports", "the kernel tries every second port first, and connect() slows down")
_LARGEST_RANGE = 60000  # local ports: there is hardly more to be had


def _judge(window: Window) -> Finding | None:
    detail = window.now.detail
    if detail is None:
        problem = window.now.sources.get("detail")
        raise CannotTell(problem) if problem else NotHere("there is no detail pass, which lists every socket")
    reading = measures.BY_NAME["ephemeral_ports_ratio"].read(window.now)
    ratio = None if reading is None else reading.share
    if ratio is None or ratio < NEAR.value:
        return None
    waiting = 0 if window.now.connections is None else window.count(TcpState.TIME_WAIT)
    taken = f"{detail.ephemeral_used} of {detail.ephemeral_available} local ports are taken"
    evidence = [f"{taken} towards one destination: {detail.ephemeral_towards}."]
    if waiting:
        evidence.append(f"{waiting} sockets of this host are in TIME-WAIT and hold their port for 60 s.")
    span = window.now.sysctls.get("net.ipv4.ip_local_port_range")
    ports = {} if span is None else dict(span.fields)
    low, high = ports.get("low"), ports.get("high")
    wide = low is None or high is None or high - low + 1 >= _LARGEST_RANGE
    if low is not None and high is not None:
        evidence.append(f"net.ipv4.ip_local_port_range is {low} to {high}.")
    reuse = window.sysctl("tcp_tw_reuse")
    reusable = wide and reuse is not None and reuse != 1 and waiting * 2 > (detail.ephemeral_used or 0)
    if not wide:
        command = 'sysctl -w net.ipv4.ip_local_port_range="1024 65535"'
        risk = "Services that listen above 1024 may find their port taken: reserve it in ip_local_reserved_ports."
    elif reusable:
        command = "sysctl -w net.ipv4.tcp_tw_reuse=1"
        risk = "The kernel's document wants tcp_tw_reuse changed on the advice of experts only; it needs timestamps."
    else:
        command, risk = None, "A second address doubles the ports, and has to be allowed where the first one is."
    return Finding(
        name=NEAR_LIMIT.name,
        severity=Status.CRITICAL if ratio >= _NEARLY_GONE.value else Status.WARNING,
        what="Local ports towards one destination are nearly gone",
        evidence=tuple(evidence),
        why="When they are gone, connect() to it fails with EADDRNOTAVAIL.",
        remedy="Keep connections and use them again, by a pool or HTTP keep-alive: that mends the cause. For now widen "
        "the range, or let the client use several source addresses, or the service several addresses or ports.",
        command=command,
        risk=risk,
        states=(TcpState.SYN_SENT, TcpState.TIME_WAIT, TcpState.ESTABLISHED),
    )


NEAR_LIMIT = Rule(
    name="ephemeral_ports_near_limit",
    subject="ephemeral ports",
    definition="Hardly any local port is left towards a destination, after which connect() fails.",
    limits=(NEAR, _NEARLY_GONE),
    judge=_judge,
    measure="ephemeral_ports_ratio",
)
