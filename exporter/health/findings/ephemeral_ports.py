"""Ephemeral ports: the local ports that connect() and bind() pick. Source: net/ipv4/inet_hashtables.c.

``__inet_hash_connect`` goes past each port with a listener or a socket that was bound to it, whatever the address.
Measured on 6.18: 10 ports bound before connect() are 10 connections to all destinations together, and plain connect()
fails too; without bind(), or with IP_BIND_ADDRESS_NO_PORT, they are 10 for each destination.
"""

from __future__ import annotations

from exporter.details import Detail
from exporter.health import measures
from exporter.health.finding import Finding, Limit, Rule
from exporter.health.findings.shared import NEAR
from exporter.health.sysctls.ports import NODE_PORTS, RANGE, RESERVED, WIDEST, newly_exposed, with_reserved
from exporter.health.thresholds import Status
from exporter.health.window import CannotTell, Window
from exporter.record import NamedTuple
from exporter.tcpstate import TcpState

_NEARLY_GONE = Limit(0.95, "share of the ports", "the kernel tries every second port first, and connect() slows down")
_WIDE = Limit(60000, "local ports in the range", "widening it gains hardly any more")
_WAITING = Limit(0.5, "share of the ports taken", "TIME-WAIT holds them, not connections in use, so tcp_tw_reuse helps")


class _Cause(NamedTuple):
    """What took the ports, and what to do about that."""

    what: str
    why: str
    remedy: str
    command: str | None
    risk: str


def _judge(window: Window) -> Finding | None:
    detail = window.now.detail
    if detail is None:
        raise window.undetailed()
    reading = measures.BY_NAME["ephemeral_ports_ratio"].read(window.now)
    if reading is None:
        raise CannotTell(f"{RANGE} or {RESERVED} could not be read")
    if reading.share is None or reading.share < NEAR.value:
        return None
    span = _range(window)
    if detail.ephemeral_destinations > 1:
        cause = _bound_first(detail)
    elif detail.ephemeral_bound > max(detail.ephemeral_used or 0, detail.ephemeral_listening):
        cause = _bound_only()
    else:
        cause = _connected(window, detail, span)
    return Finding(
        name=NEAR_LIMIT.name,
        severity=Status.CRITICAL if reading.share >= _NEARLY_GONE.value else Status.WARNING,
        what=cause.what,
        evidence=tuple(_evidence(detail, span)),
        why=cause.why,
        remedy=cause.remedy,
        command=cause.command,
        risk=cause.risk,
        states=(TcpState.SYN_SENT, TcpState.TIME_WAIT, TcpState.ESTABLISHED),
    )


def _evidence(detail: Detail, span: tuple[int, int] | None) -> list[str]:
    used, available, towards = detail.ephemeral_used or 0, detail.ephemeral_available or 0, detail.ephemeral_towards
    said = []
    if detail.ephemeral_destinations > 1:
        source, _, destinations = towards.partition(" -> ")
        said.append(f"{used:,} of {available:,} local ports of {source} are taken, each once, towards {destinations}.")
        said.append("connect() would have used a port for several of them: bind() picked these before it.")
    elif used:
        said.append(f"{used:,} of {available:,} local ports are taken towards one destination: {towards}.")
    if detail.ephemeral_waiting:
        said.append(f"{detail.ephemeral_waiting:,} of them are in TIME-WAIT, for up to 60 s.")
    if detail.ephemeral_reusable:
        text = "{:,} more are in TIME-WAIT and not among them: tcp_tw_reuse lets connect() take them over."
        said.append(text.format(detail.ephemeral_reusable))
    if detail.ephemeral_listening:
        said.append(f"{detail.ephemeral_listening:,} ports of the range have a listener: connect() cannot pick them.")
    if detail.ephemeral_bound:
        text = (
            "{:,} ports of the range are bound by sockets that neither connect nor listen: connect() cannot pick them."
        )
        said.append(text.format(detail.ephemeral_bound))
    if span is not None:
        low, high = span
        reserved = high - low + 1 - available - detail.ephemeral_listening - detail.ephemeral_bound
        less = f", less {reserved:,} reserved ports" if reserved > 0 else ""
        said.append(f"{RANGE} is {low} to {high}{less}.")
    return said


def _connected(window: Window, detail: Detail, span: tuple[int, int] | None) -> _Cause:
    """Ports that connect() has picked, and those that listeners keep from it."""
    command, risk = None, "A second address doubles the ports, and has to be allowed where the first one is."
    if span is not None and span[1] - span[0] + 1 < _WIDE.value:
        command = _widen(window, span)
        risk = (
            "A service that starts later may find its port taken: reserve it too. Writing the list replaces the old "
            f"one, so the command keeps that. {NODE_PORTS}"
        )
    elif _reuse_helps(window, detail):
        command = "sysctl -w net.ipv4.tcp_tw_reuse=1"
        risk = "The kernel's documentation says to change tcp_tw_reuse only on expert advice; it needs timestamps."
    return _Cause(
        what="Local ports towards one destination are nearly gone",
        why="When they are gone, connect() to it fails with EADDRNOTAVAIL.",
        remedy="Reuse connections, by a pool or HTTP keep-alive: that removes the cause. For now widen the range, or "
        "let the client use several source addresses, or the service several addresses or ports.",
        command=command,
        risk=risk,
    )


def _bound_first(detail: Detail) -> _Cause:
    source = detail.ephemeral_towards.partition(" -> ")[0]
    return _Cause(
        what=f"Local ports of {source} are nearly gone: bind() takes each from every destination",
        why="When they are gone, bind() fails with EADDRINUSE, and connect() to any destination with EADDRNOTAVAIL.",
        remedy="Let the application set IP_BIND_ADDRESS_NO_PORT before bind(), which leaves the port to connect(): "
        "then each destination has the whole range. Until then widen the range, or use several source addresses.",
        command=f"ss -Htanp src '{f'[{source}]' if ':' in source else source}'",
        risk="With IP_BIND_ADDRESS_NO_PORT the port is known only after connect().",
    )


def _bound_only() -> _Cause:
    return _Cause(
        what="Local ports are nearly gone: sockets are bound to them and not connected",
        why="When they are gone, bind() fails with EADDRINUSE, and connect() to any destination with EADDRNOTAVAIL.",
        remedy="Find the process that binds sockets and neither connects nor closes them. Where it binds only to "
        "choose the address, let it set IP_BIND_ADDRESS_NO_PORT, which leaves the port to connect().",
        command="ss -Htanp --bound-inactive",
        risk="A restart of that process ends its other connections too. Older releases of ss lack that option.",
    )


def _widen(window: Window, before: tuple[int, int]) -> str:
    """The command that widens the range, and before it reserves the ports of the listeners that get into it."""
    low, high = min(before[0], WIDEST[0]), WIDEST[1]
    widen = f'sysctl -w {RANGE}="{low} {high}"'
    ports = newly_exposed((it.port for it in window.listeners), before, (low, high))
    if not ports:
        return widen
    reserved = None if window.now.detail is None else window.now.detail.ephemeral_reserved
    if reserved is not None:
        return f'sysctl -w {RESERVED}="{with_reserved(ports, reserved)}" && {widen}'
    return f'sysctl -w {RESERVED}="$(sysctl -n {RESERVED}),{ports}" && {widen}'


def _reuse_helps(window: Window, detail: Detail) -> bool:
    """Whether tcp_tw_reuse=1 gives ports back: TIME-WAIT towards this very destination holds them."""
    held = detail.ephemeral_waiting > _WAITING.value * (detail.ephemeral_used or 0)
    return held and window.sysctl("tcp_tw_reuse") in {0, 2} and window.sysctl("tcp_timestamps") != 0


def _range(window: Window) -> tuple[int, int] | None:
    value = window.now.sysctls.get(RANGE)
    ports = {} if value is None else dict(value.fields)
    return (ports["low"], ports["high"]) if ports.keys() >= {"low", "high"} else None


NEAR_LIMIT = Rule(
    name="ephemeral_ports_near_limit",
    subject="ephemeral ports",
    definition="Few local ports are left for connect() to a destination, or for bind(), which fails without one.",
    limits=(NEAR, _NEARLY_GONE, _WIDE, _WAITING),
    judge=_judge,
    measure="ephemeral_ports_ratio",
)
