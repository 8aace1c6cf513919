"""SYN queues: half-open connections that are not the application's fault.

Source: net/ipv4/tcp_input.c, tcp_conn_request. A full queue makes the kernel send SYN cookies, or drop where they are
off; which listener's queue it is, the dump of request sockets tells.
"""

from __future__ import annotations

from exporter.health.finding import Finding, Limit, Rule
from exporter.health.findings.shared import NORMAL_HALF_OPEN
from exporter.health.measures import syn_queue_limit
from exporter.health.thresholds import Status
from exporter.health.window import Window
from exporter.record import NamedTuple
from exporter.snapshot import Listener
from exporter.tcpstate import TcpState

_MANY = Limit(100, "half-open connections of the host", "several times what a busy server has anyway")
_SLOW = Limit(1.0, "seconds that a handshake takes", "no round trip takes as long, so handshakes never complete")
_BACK = Limit(0.5, "share of the cookies that came back", "attackers return none")
_SHOWN = 3  # listeners that one finding names


class _Queues(NamedTuple):
    """What is known of the SYN queues."""

    cookies: int
    drops: int
    full: tuple[Listener, ...]
    overflows: int


def _queues(window: Window) -> _Queues:
    overflows = window.rose("TcpExt.ListenOverflows")
    full = tuple(
        sorted(
            (
                it
                for it in window.listeners
                if it.syn_recv > NORMAL_HALF_OPEN.value
                and it.syn_recv >= syn_queue_limit(window.now, it) - it.sockets
                and it.fullest < 1
                and not overflows
            ),
            key=lambda it: -it.syn_recv,
        )
    )
    if not full:
        window.rise("TcpExt.SyncookiesSent")
    # A cookie is counted as decided on before a full accept queue may drop its SYN.
    cookies = min(window.rose("TcpExt.SyncookiesSent"), window.rose("TcpExt.TCPReqQFullDoCookies"))
    return _Queues(cookies, 0 if overflows else window.rose("TcpExt.TCPReqQFullDrop"), full, overflows)


def _are_clients(window: Window, queues: _Queues) -> bool:
    received = window.known_rise("TcpExt.SyncookiesRecv")
    return bool(queues.cookies) and received is not None and received >= queues.cookies * _BACK.value


def _evidence(window: Window, queues: _Queues) -> list[str]:
    evidence = [
        f"{it.syn_recv} connections to {it.place} are half open, of at most {syn_queue_limit(window.now, it)}; "
        f"about {NORMAL_HALF_OPEN.value:.0f} are normal."
        for it in queues.full[:_SHOWN]
    ]
    if queues.cookies:
        evidence.append(f"{queues.cookies} SYN cookies were sent {window.during} because a SYN queue was full.")
    if queues.drops:
        evidence.append(
            f"{queues.drops} SYNs were dropped {window.during} because a SYN queue was full and cookies are off."
        )
    return evidence


def _flood(window: Window) -> Finding | None:
    queues = _queues(window)
    if not (queues.cookies or queues.drops or queues.full) or _are_clients(window, queues):
        return None
    evidence = _evidence(window, queues)
    opened, received = window.known_rise("Tcp.PassiveOpens"), window.known_rise("TcpExt.SyncookiesRecv")
    if opened is not None:
        evidence.append(f"{opened} handshakes were completed {window.during}.")
    if queues.cookies and received is not None:
        evidence.append(f"{received} of the cookies came back.")
    off = window.sysctl("tcp_syncookies") == 0 or bool(queues.drops)
    where = f" of {queues.full[0].place}" if queues.full else ""
    return Finding(
        name=FLOOD.name,
        severity=Status.CRITICAL if off else Status.WARNING,
        what=f"SYN flood: the SYN queue{where} is full, and most handshakes never complete",
        evidence=tuple(evidence),
        why="Cookies are off, so the SYNs of clients are dropped with those of the attacker."
        if off
        else "SYN cookies keep the service up, at the price of CPU time and of options of the clients' connections.",
        remedy=("Switch SYN cookies on. " if off else "Keep tcp_syncookies at 1. ")
        + "Then filter the sources before they reach this host, or limit their rate in a firewall. Neither "
        "tcp_max_syn_backlog nor tcp_fin_timeout helps.",
        command="sysctl -w net.ipv4.tcp_syncookies=1" if off else "tcp-exporter who syn_recv --by remote",
        risk="A limit by source hits clients behind one NAT together, and spoofed sources are not who they say.",
        states=(TcpState.SYN_RECV, TcpState.LISTEN),
    )


def _too_small(window: Window) -> Finding | None:
    queues = _queues(window)
    if not _are_clients(window, queues):
        return None
    received = window.rise("TcpExt.SyncookiesRecv")
    where = f" of {queues.full[0].place}" if queues.full else ""
    return Finding(
        name=TOO_SMALL.name,
        severity=Status.WARNING,
        what=f"The SYN queue{where} is too small for its clients",
        evidence=(*_evidence(window, queues), f"{received} cookies came back."),
        why="A connection made by cookie lacks window scaling and SACK unless both sides use timestamps.",
        remedy="Let the application ask listen() for a longer backlog, raise net.core.somaxconn to it, and restart "
        "the application. tcp_max_syn_backlog has no effect while cookies are on.",
        command=_raise_somaxconn(window, queues.full),
        risk="A longer queue costs memory while it is full: 320 bytes for each half-open connection.",
        states=(TcpState.SYN_RECV, TcpState.LISTEN),
    )


def _raise_somaxconn(window: Window, full: tuple[Listener, ...]) -> str | None:
    somaxconn = window.sysctl("net.core.somaxconn")
    if somaxconn is None or not any(it.fullest_limit >= somaxconn for it in full):
        return None
    return f"sysctl -w net.core.somaxconn={2 * somaxconn}"


def _half_open(window: Window) -> Finding | None:
    """Many half-open connections in queues that are not full, and more than the rate of handshakes explains."""
    half_open = window.count(TcpState.SYN_RECV)
    if half_open < _MANY.value:
        return None
    queues = _queues(window)
    full = any(it.fullest >= 1 for it in window.listeners)
    if queues.cookies or queues.drops or queues.full or queues.overflows or full:
        return None
    opened = window.rise("Tcp.PassiveOpens")
    if half_open <= opened / window.seconds * _SLOW.value:
        return None
    evidence = [
        f"{half_open} connections are half open; about {NORMAL_HALF_OPEN.value:.0f} are normal.",
        f"{opened} handshakes were completed {window.during}.",
    ]
    listener = max(window.listeners, key=lambda it: it.syn_recv, default=None)
    if listener is not None and listener.syn_recv:
        evidence.append(f"{listener.syn_recv} of them are to {listener.place}, whose accept queue is not full.")
    return Finding(
        name=HALF_OPEN.name,
        severity=Status.WARNING,
        what="Many half-open connections: handshakes never complete",
        evidence=tuple(evidence),
        why="It is how a SYN flood begins, or a sign of a path on which the answers of this host are lost.",
        remedy="See whose they are. Many sources that were never clients: a SYN flood, which SYN cookies answer when "
        "the queue is full. A few networks of clients: look for a route or a firewall that loses the SYN-ACKs.",
        command="tcp-exporter who syn_recv --by remote",
        risk="None: it only looks.",
        states=(TcpState.SYN_RECV, TcpState.LISTEN),
    )


FLOOD = Rule(
    name="syn_flood",
    subject="SYN queues",
    definition="A SYN queue is full, and most of the handshakes in it never complete.",
    limits=(NORMAL_HALF_OPEN, _BACK),
    judge=_flood,
    measure="syn_queue_ratio",
)
TOO_SMALL = Rule(
    name="syn_queue_too_small",
    subject="SYN cookies",
    definition="A SYN queue is too short for the clients that connect: their cookies come back.",
    limits=(_BACK,),
    judge=_too_small,
    worst=Status.WARNING,
    measure="syn_queue_ratio",
)
HALF_OPEN = Rule(
    name="half_open_connections",
    subject="half-open connections",
    definition="Many handshakes do not complete, in queues that are not full.",
    limits=(_MANY, _SLOW),
    judge=_half_open,
    worst=Status.WARNING,
)
