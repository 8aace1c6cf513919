"""Connections that are refused or reset, by this host and by its peers.

Source: net/ipv4/tcp_ipv4.c, tcp_v4_send_reset (OutRsts for a segment that no socket takes); tcp.c, tcp_done
(AttemptFails) and tcp_set_state (EstabResets). A SYN to a port without a listener raises OutRsts alone, and a connect()
that is refused raises AttemptFails on the side that called it.
"""

from __future__ import annotations

from exporter.health.finding import Finding, Limit, Rule
from exporter.health.thresholds import Status
from exporter.health.window import CannotTell, NotHere, Window
from exporter.record import NamedTuple
from exporter.tcpstate import TcpState

_SECONDS = 20.0  # what is judged: a refusal is over once its cause is
_LASTING_SECONDS = 50.0

_SOME = Limit(20, "refused connections", "fewer are a health check or a few clients of a service that restarts")
_RATE = Limit(5.0, "refused connections a second", "fewer are a health check, or a client that retries once a second")
_SHARE = Limit(0.1, "share of the connections", "a balancer that has lost one of ten backends drops it by itself")
_DOWN = Limit(
    0.75, f"share of the connections, for {_LASTING_SECONDS:.0f} s", "longer than a restart, so the service is down"
)
_RESET_RATE = Limit(50.0, "reset connections a second", "health checks of a hundred backends end in as many resets")
_RESET_SHARE = Limit(0.5, "share of the connections that end in a reset", "most connections of a healthy host do not")


class _Refusals(NamedTuple):
    """What was refused within a window."""

    here: int  # resets in answer to segments that no socket took
    accepted: int
    connects: int  # of this host, that were refused
    opened: int
    reset_here: int  # connections that applications of this host reset
    reset_there: int  # connections that their peers reset
    seconds: float

    @property
    def share_here(self) -> float:
        """Of the connections to this host."""
        return self.here / max(1, self.here + self.accepted)

    @property
    def share_of_connects(self) -> float:
        """Of those that this host opens."""
        return self.connects / max(1, self.opened)

    def is_refused_here(self, share: float) -> bool:
        """Whether it is enough to speak of, and at least *share* of all."""
        return _many(self.here, self.seconds) and self.share_here >= share

    def is_refused_there(self, share: float) -> bool:
        """As ``is_refused_here``, for the connects of this host."""
        return _many(self.connects, self.seconds) and self.share_of_connects >= share

    @property
    def is_reset(self) -> bool:
        """Whether most connections end in a reset."""
        resets = self.reset_here + self.reset_there
        ends = self.opened - self.connects + self.accepted
        return resets >= _RESET_RATE.value * max(1.0, self.seconds) and resets >= _RESET_SHARE.value * ends


def _many(number: int, seconds: float) -> bool:
    return number >= max(_SOME.value, _RATE.value * seconds)


def _refusals(window: Window) -> _Refusals:
    """What was refused since the oldest snapshot; raises as ``Window.rise``."""
    rose = window.rise_if_counted
    aborted = rose("TcpExt.TCPAbortOnData") + rose("TcpExt.TCPAbortOnClose") + rose("TcpExt.TCPAbortOnLinger")
    # A mini-socket answers late data with a reset that no other counter tells: at most one for each that began to wait.
    late = rose("TcpExt.TW") + rose("TcpExt.TWKilled")
    overflows = rose("TcpExt.ListenOverflows") if window.sysctl("tcp_abort_on_overflow") else 0
    others = aborted + late + rose("TcpExt.TCPAbortOnMemory") + overflows
    # A half-open connection that its client resets, as in a port scan, counts as a failed attempt too.
    not_refused = rose("TcpExt.EmbryonicRsts") + rose("TcpExt.TCPAbortOnTimeout")
    return _Refusals(
        here=max(0, window.rise("Tcp.OutRsts") - others),
        accepted=rose("Tcp.PassiveOpens"),
        connects=max(0, window.rise("Tcp.AttemptFails") - not_refused),
        opened=rose("Tcp.ActiveOpens"),
        reset_here=aborted,
        reset_there=max(0, rose("Tcp.EstabResets") - aborted - rose("TcpExt.TCPAbortOnTimeout") - overflows),
        seconds=window.seconds,
    )


def _is_down(window: Window) -> bool:
    """Whether nearly all was refused in every step of a time that no restart takes, and a service is known to be it."""
    if window.seconds < _LASTING_SECONDS:
        return False
    try:
        steps = [_refusals(stretch) for stretch in window.stretches()]
    except (CannotTell, NotHere):
        return False
    steps = [step for step in steps if step.seconds >= 1]  # the newest step may have just begun
    listening, most = _listening(window)
    here = listening < most and all(
        _rated(step.here, step.seconds) and step.share_here >= _DOWN.value for step in steps
    )
    there = all(_rated(step.connects, step.seconds) and step.share_of_connects >= _DOWN.value for step in steps)
    return here or there


def _listening(window: Window) -> tuple[int, int]:
    """How many sockets listen, and the most that did within the last hour: a scan is refused too, and ends none."""
    lows = window.lows[TcpState.LISTEN] if window.lows else ()
    course = window.course(TcpState.LISTEN)
    return (course[-1], max((*course, *lows))) if course else (0, 0)


def _rated(number: int, seconds: float) -> bool:
    return number >= _RATE.value * seconds


def _judge(window: Window) -> Finding | None:
    recent = window.recent(_SECONDS)
    refusals = _refusals(recent)
    here, there = refusals.is_refused_here(_SHARE.value), refusals.is_refused_there(_SHARE.value)
    if not (here or there or refusals.is_reset):
        return None
    return Finding(
        name=REFUSED.name,
        severity=Status.CRITICAL if _is_down(window) else Status.WARNING,
        what=_what(here=here, there=there),
        evidence=tuple(_evidence(refusals, recent.during, _listening(window), here=here, there=there)),
        why="Clients see connection refused or connection reset, at once and for every attempt.",
        remedy=_remedy(here=here, there=there),
        command="ss -Hltn" if here else "tcpdump -nni any -c 20 'tcp[tcpflags] & tcp-rst != 0'",
        risk="None: the command only reads.",
        states=(TcpState.CLOSE, TcpState.SYN_SENT, TcpState.LISTEN)
        if here or there
        else (TcpState.CLOSE, TcpState.ESTABLISHED),
    )


def _what(*, here: bool, there: bool) -> str:
    if here and there:
        return "This host refuses connections, and those that it opens are refused"
    if here:
        return "This host refuses connections: nothing listens on their destination port"
    if there:
        return "Connections that this host opens are refused"
    return "Most connections end in a reset"


def _evidence(refusals: _Refusals, during: str, listening: tuple[int, int], *, here: bool, there: bool) -> list[str]:
    evidence = []
    if here:
        evidence.append(
            f"This host answered {refusals.here:,} segments that belong to no socket with a reset {during}, and "
            f"accepted {refusals.accepted:,} connections."
        )
        if listening[0] < listening[1]:
            evidence.append("{:,} sockets listen, and {:,} did within the last hour.".format(*listening))
    if there:
        evidence.append(
            f"{refusals.connects:,} of {refusals.opened:,} connections that it opened were refused {during}."
        )
    if here and there and abs(refusals.here - refusals.connects) <= 0.1 * refusals.here:
        evidence.append("Both numbers are similar, so these are probably connections of this host to itself.")
    if refusals.is_reset:
        evidence.append(
            f"{refusals.reset_here + refusals.reset_there:,} connections were reset {during}: {refusals.reset_here:,} "
            f"by applications of this host, {refusals.reset_there:,} by their peers."
        )
    return evidence


def _remedy(*, here: bool, there: bool) -> str:
    if here:
        return (
            "See whether the service is down, or listens on another port or address: localhost may be ::1 for the "
            "client and 127.0.0.1 for the service. Where nobody should use that port, find the clients that do: a "
            "port scan looks the same."
        )
    if there:
        return (
            "Find the destination by its resets, and start the service there. A firewall that rejects answers in the "
            "same way."
        )
    return (
        "Find which side resets. An application resets a connection by closing it with unread data or with SO_LINGER "
        "of 0, and the kernel does so when its process dies."
    )


REFUSED = Rule(
    name="connections_refused",
    subject="refused connections",
    definition="Connections to this host or from it are refused, or most of them end in a reset.",
    limits=(_SOME, _RATE, _SHARE, _DOWN, _RESET_RATE, _RESET_SHARE),
    judge=_judge,
)
