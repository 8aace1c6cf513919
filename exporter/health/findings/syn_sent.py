"""SYNs that nobody answers: connect() to a destination that is silent.

Source: net/ipv4/tcp_timer.c, tcp_retransmit_timer; /proc/net/netstat, TCPSynRetrans, counts SYN-ACKs too, so which
connections wait is taken from the dump where there is one.
"""

from __future__ import annotations

from exporter.health.finding import Finding, Limit, Rule
from exporter.health.findings.shared import NEAR, lasting, rto_max
from exporter.health.measures import BY_NAME
from exporter.health.sysctls.arithmetic import syn_sent
from exporter.health.thresholds import Status
from exporter.health.window import Window
from exporter.kernel.troubles import SYN_UNANSWERED
from exporter.tcpstate import TcpState

_MANY = Limit(20, "connections whose SYN is unanswered", "a crawler or a monitoring host always has a few")
_OUT = Limit(
    100, "such connections to one destination", "so many callers wait at once only where it answers none of them"
)


def _judge(window: Window) -> Finding | None:
    waiting = window.count(TcpState.SYN_SENT)
    if waiting < _MANY.value:
        return None
    peers = window.trouble(SYN_UNANSWERED)
    if peers is None:
        if window.rise("TcpExt.TCPSynRetrans") < _MANY.value:
            return None
    elif peers.sockets < _MANY.value:
        return None
    silent = "" if peers is None or 2 * peers.most <= peers.sockets else f" from {peers.place}"
    return Finding(
        name=UNANSWERED.name,
        severity=Status.CRITICAL if peers is not None and peers.most >= _OUT.value else Status.WARNING,
        what=f"Connections that this host opens get no answer{silent}",
        evidence=tuple(_evidence(window, waiting)),
        why="A SYN without an answer was dropped: the destination is down, or a filter, a route or a full conntrack "
        "table loses it. A host that is up and has no listener would refuse at once." + _patience(window),
        remedy="Check whether the destination is up, then the firewalls, security groups, routes and the conntrack "
        "table on the way to it. Meanwhile let the application use a short connect timeout and another destination.",
        command="tcp-exporter who syn_sent --by remote",
        risk="None: the command only reads.",
        states=(TcpState.SYN_SENT,),
    )


def _evidence(window: Window, waiting: int) -> list[str]:
    evidence = [f"{waiting:,} connections are in SYN-SENT{lasting(window, TcpState.SYN_SENT, int(_MANY.value))}."]
    peers = window.trouble(SYN_UNANSWERED)
    if peers is not None:
        evidence.append(
            f"{peers.sockets:,} connections sent their SYN more than once and got no answer; {peers.most:,} of them go "
            f"to {peers.place}."
        )
    resent, failed = window.known_rise("TcpExt.TCPSynRetrans"), window.known_rise("Tcp.AttemptFails")
    if resent is not None:
        evidence.append(f"{resent:,} SYNs and SYN-ACKs were sent again {window.during}.")
    if failed:
        evidence.append(f"{failed:,} handshakes failed {window.during}.")
    tracked = BY_NAME["conntrack_ratio"].read(window.now)
    if tracked is not None and tracked.share is not None and tracked.share >= NEAR.value:
        evidence.append(f"The conntrack table of this host is {tracked.share:.0%} full.")
    return evidence


def _patience(window: Window) -> str:
    retries = window.sysctl("tcp_syn_retries")
    if retries is None:
        return ""
    seconds, _ = syn_sent(retries, window.sysctl("tcp_syn_linear_timeouts") or 0, rto_max(window))
    return f" connect() without a timeout of its own gives up after {seconds:g} s (tcp_syn_retries = {retries})."


UNANSWERED = Rule(
    name="syn_sent_unanswered",
    subject="unanswered SYNs",
    definition="Connections that this host opens get no answer at all.",
    limits=(_MANY, _OUT),
    judge=_judge,
)
