"""SYN queues: half-open connections that are not the application's fault.

Source: net/ipv4/tcp_input.c, tcp_conn_request. A full queue makes the kernel send SYN cookies. Where cookies are off it
drops the SYN instead, also when three quarters of tcp_max_syn_backlog are half open, and counts ListenDrops without
ListenOverflows. The dump of request sockets shows which listener's queue it is.
"""

from __future__ import annotations

from exporter.health.finding import Finding, Limit, Rule
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
from exporter.health.measures import syn_queue_limit
from exporter.health.thresholds import Status
from exporter.health.window import Window
from exporter.record import NamedTuple
from exporter.snapshot import Listener
from exporter.tcpstate import TcpState

_MANY = Limit(100, "half-open connections of the host", "several times what a busy server has anyway")
_SLOW = Limit(1.0, "seconds that a handshake takes", "no round trip takes as long, so handshakes never complete")
_REPEATED = Limit(
    0.02,
    "SYNs and SYN-ACKs sent again a second for each half-open connection",
    "an unanswered handshake repeats 0.08, five SYN-ACKs in 63 s; the rest of the host's traffic repeats some too",
)
_NEARLY_ALL = Limit(0.9, "share of the cookies that came back", "the rest is on its way or lost on the path")
_ALWAYS_RATE = Limit(
    15,
    "cookies a second that did not come back while tcp_syncookies is 2",
    "every SYN is answered with a cookie then, so fewer are stray SYNs and port scans, as every public host has them",
)
_SHOWN = 3  # listeners that one finding names
_OFF, _ALWAYS = 0, 2  # values of tcp_syncookies


class _Handshakes(NamedTuple):
    """What became of the SYNs that arrived, and where."""

    mode: int | None  # tcp_syncookies; None where it could not be read
    sent: int  # cookies
    back: int  # of them
    drops: int  # SYNs that were dropped, those at full accept queues left out
    flooded: tuple[Listener, ...]  # whose SYN queue is filled while the application accepts, the most half-open first
    unmatched: int  # half-open connections of no listener

    @property
    def lost(self) -> int:
        """The cookies that did not come back."""
        return max(0, self.sent - self.back)

    @property
    def off(self) -> bool:
        """Whether a full queue drops SYNs; a kernel without cookies has no such sysctl."""
        return self.mode == _OFF or (self.mode is None and not self.sent)

    @property
    def nearly_all_back(self) -> bool:
        """Whether the cookies went to clients."""
        return self.back >= self.sent * _NEARLY_ALL.value

    def is_flood(self, window: Window) -> bool:
        """Whether many handshakes that began in *window* never complete."""
        if self.off:
            # A slow application fills SYN queues too, so a few connections of no listener do not outweigh one.
            few = NORMAL_HALF_OPEN.value if slow_listeners(window) else 0
            unseen = window.now.listeners is None or self.unmatched > few
            return self.drops >= EVENTS.value and (bool(self.flooded) or unseen)
        enough = EVENTS.value
        if self.mode == _ALWAYS:
            enough = max(enough, _ALWAYS_RATE.value * window.seconds)
        return self.lost >= enough and not self.nearly_all_back


def _handshakes(window: Window) -> _Handshakes:
    """Raises ``CannotTell`` where the counters, or those before them, are not known."""
    seen = _Handshakes(
        mode=window.sysctl("tcp_syncookies"),
        sent=window.rise("TcpExt.SyncookiesSent"),
        back=window.rise("TcpExt.SyncookiesRecv"),
        drops=_drops(window),
        flooded=(),
        unmatched=window.now.unmatched_half_open,
    )
    slow = slow_listeners(window)
    # Not only full ones: half-open connections expire in groups, so a flooded queue has room at some moments; and those
    # of a SO_REUSEPORT group may all be in one of its sockets.
    flooded = [
        it
        for it in window.listeners
        if it.syn_recv and it.syn_recv * it.sockets >= syn_queue_limit(window.now, it) * FILLED.value and it not in slow
    ]
    if seen.off and flooded:
        drops = window.drops()
        flooded = [it for it in flooded if drops.get(it.place) != 0]
    return seen._replace(flooded=tuple(sorted(flooded, key=lambda it: -it.syn_recv)))


def _drops(window: Window) -> int:
    return max(0, window.rose("TcpExt.ListenDrops") - overflows(window))


def _evidence(window: Window, seen: _Handshakes) -> list[str]:
    evidence = [
        f"{it.syn_recv:,} connections to {it.place} are half open, of at most {syn_queue_limit(window.now, it):,}."
        for it in seen.flooded[:_SHOWN]
    ]
    if len(seen.flooded) > _SHOWN:
        evidence.append(f"{len(seen.flooded) - _SHOWN:,} more SYN queues are full or filling up.")
    if seen.unmatched:
        evidence.append(
            f"{seen.unmatched:,} half-open connections match no listener, as behind TPROXY; the queue that they fill "
            "is unknown."
        )
    if seen.off:
        evidence.append(
            f"{seen.drops:,} SYNs were dropped {window.during} because a SYN queue was full and cookies are off."
        )
        evidence += dropped_segments(window, window.drops(), seen.flooded[:_SHOWN])
    else:
        cause = "tcp_syncookies is 2" if seen.mode == _ALWAYS else "a SYN queue was full"
        evidence.append(
            f"{seen.sent:,} SYN cookies were sent {window.during} because {cause}: {seen.back:,} came back, "
            f"{seen.lost:,} did not."
        )
    opened = window.known_rise("Tcp.PassiveOpens")
    if opened is not None:
        evidence.append(f"{opened:,} handshakes completed {window.during}.")
    return evidence


def _flood(window: Window) -> Finding | None:
    seen = _handshakes(window)
    if not seen.is_flood(window):
        return None
    where = f" of {seen.flooded[0].place}" if seen.flooded else ""
    critical = seen.off and goes_on(window, _drops, still=True)
    return Finding(
        name=FLOOD.name,
        severity=Status.CRITICAL if critical else Status.WARNING,
        what=f"SYN flood{where}: many handshakes never complete",
        evidence=tuple(_evidence(window, seen)),
        why="Cookies are off, so the kernel drops the SYNs of clients with those of the attacker."
        if seen.off
        else "SYN cookies keep the service up, at the price of CPU time and of options of the clients' connections.",
        remedy=("Switch cookies on. " if seen.off else "Keep SYN cookies on. ")
        + "Then filter the sources before they reach this host, or limit their rate in a firewall. "
        + ("Clients connect at the same time, so do not filter by port alone. " if seen.back >= EVENTS.value else "")
        + "tcp_fin_timeout does not help"
        + (", and a larger tcp_max_syn_backlog only fills later." if seen.off else ", nor does tcp_max_syn_backlog."),
        command="sysctl -w net.ipv4.tcp_syncookies=1" if seen.off else "tcp-exporter who syn_recv --by remote",
        risk="A limit by source hits all clients behind one NAT together, and spoofed sources are not the attackers.",
        states=(TcpState.SYN_RECV, TcpState.LISTEN),
    )


def _too_small(window: Window) -> Finding | None:
    seen = _handshakes(window)
    if not _lacks_room(window, seen):
        return None
    where = f" of {seen.flooded[0].place}" if seen.flooded else ""
    return Finding(
        name=TOO_SMALL.name,
        severity=Status.WARNING,
        what=f"The SYN queue{where} is too small for its clients",
        evidence=tuple(_evidence(window, seen)),
        why="The clients whose SYN was dropped try again after a second or more."
        if seen.off
        else "Nearly every cookie came back, so these are clients. A connection made by cookie lacks window scaling "
        "and SACK unless both sides use timestamps.",
        remedy="Let the application ask listen() for a longer backlog, raise net.core.somaxconn to it, and restart "
        "the application. "
        + (
            "Switch cookies on, so that a full queue drops no SYN; while they are off, tcp_max_syn_backlog limits the "
            "queue too."
            if seen.off
            else "tcp_max_syn_backlog has no effect while cookies are on."
        ),
        command="sysctl -w net.ipv4.tcp_syncookies=1" if seen.off else _raise_somaxconn(window, seen.flooded),
        risk="A longer queue costs memory while it is full: 320 bytes for each half-open connection.",
        states=(TcpState.SYN_RECV, TcpState.LISTEN),
    )


def _lacks_room(window: Window, seen: _Handshakes) -> bool:
    """Whether clients that do connect find SYN queues full."""
    if seen.mode == _ALWAYS or seen.is_flood(window):
        return False
    if not seen.off:
        return seen.sent >= EVENTS.value and seen.nearly_all_back
    # A slow application keeps handshakes half open too; and after a flood fewer complete than were dropped.
    return seen.drops >= EVENTS.value and not slow_listeners(window) and window.rise("Tcp.PassiveOpens") > seen.drops


def _raise_somaxconn(window: Window, full: tuple[Listener, ...]) -> str | None:
    somaxconn = window.sysctl("net.core.somaxconn")
    if somaxconn is None or not any(it.fullest_limit >= somaxconn for it in full):
        return None
    return f"sysctl -w net.core.somaxconn={2 * somaxconn}"


def _half_open(window: Window) -> Finding | None:
    """Many half-open connections that neither a flood, a slow application, deferring nor the rate explains."""
    slow = slow_listeners(window)
    half_open = window.count(TcpState.SYN_RECV) - sum(it.syn_recv for it in slow)
    if half_open < _MANY.value:
        return None
    if _handshakes(window).is_flood(window) or _are_deferred(window, half_open):
        return None
    opened = window.rise("Tcp.PassiveOpens")
    if half_open <= opened / window.seconds * _SLOW.value:
        return None
    evidence = [
        f"{half_open:,} connections are half open; about {NORMAL_HALF_OPEN.value:.0f} a listener are normal.",
        f"{opened:,} handshakes completed {window.during}.",
    ]
    others = [it for it in window.listeners if it not in slow]
    listener = max(others, key=lambda it: it.syn_recv, default=None)
    if listener is not None and listener.syn_recv:
        evidence.append(f"{listener.syn_recv:,} of them are to {listener.place}, whose accept queue is not full.")
    if window.now.counters.get("TcpExt.TCPDeferAcceptDrop"):
        evidence.append("Idle clients of a listener with TCP_DEFER_ACCEPT are half open too, and are not a fault.")
    return Finding(
        name=HALF_OPEN.name,
        severity=Status.WARNING,
        what="Many half-open connections: handshakes never complete",
        evidence=tuple(evidence),
        why="A SYN flood begins like this, and so does a path on which the answers of this host are lost.",
        remedy="Look at their sources. Many addresses that were never clients mean a SYN flood"
        + (
            "; switch cookies on before it fills the queue. "
            if window.sysctl("tcp_syncookies") == _OFF
            else ", which SYN cookies answer when the queue is full. "
        )
        + "A few networks of clients mean a broken path: look for a route or a firewall that loses the SYN-ACKs.",
        command="tcp-exporter who syn_recv --by remote",
        risk="None: the command only reads.",
        states=(TcpState.SYN_RECV, TcpState.LISTEN),
    )


def _are_deferred(window: Window, half_open: int) -> bool:
    """Whether TCP_DEFER_ACCEPT explains all but a few: the client has answered and has sent no data yet.

    The kernel counts each such answer, and repeats no SYN-ACK until the time of deferring is over: the client answers
    that one too, and the handshake completes. A SYN-ACK that nobody answers is repeated, and neither is counted.
    Source: net/ipv4/tcp_minisocks.c, tcp_check_req; net/ipv4/inet_connection_sock.c, syn_ack_recalc.
    """
    deferred = window.now.counters.get("TcpExt.TCPDeferAcceptDrop", 0)
    answered = window.rose("TcpExt.TCPDeferAcceptDrop") + window.rose("Tcp.PassiveOpens")
    repeated = window.rose("TcpExt.TCPSynRetrans") - answered
    many = max(EVENTS.value, _REPEATED.value * half_open * window.seconds)
    return half_open - deferred < _MANY.value and repeated < many


FLOOD = Rule(
    name="syn_flood",
    subject="SYN queues",
    definition="Many handshakes never complete: the cookies of a full SYN queue do not come back, or cookies are off "
    "and a full SYN queue drops SYNs.",
    limits=(EVENTS, STEPS, FILLED, _NEARLY_ALL, _ALWAYS_RATE),
    judge=_flood,
    measure="syn_queue_ratio",
)
TOO_SMALL = Rule(
    name="syn_queue_too_small",
    subject="SYN cookies",
    definition="A SYN queue is too short for the clients that connect: their cookies come back, or they are dropped "
    "for a moment where cookies are off.",
    limits=(EVENTS, _NEARLY_ALL),
    judge=_too_small,
    worst=Status.WARNING,
    measure="syn_queue_ratio",
)
HALF_OPEN = Rule(
    name="half_open_connections",
    subject="half-open connections",
    definition="Many handshakes do not complete, although SYN queues and accept queues have room.",
    limits=(_MANY, _SLOW, EVENTS, _REPEATED),
    judge=_half_open,
    worst=Status.WARNING,
)
