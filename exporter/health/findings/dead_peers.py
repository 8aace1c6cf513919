"""Peers that no longer answer, by the timers of their connections.

Source: net/ipv4/tcp_timer.c: tcp_keepalive_timer counts probes without an answer, tcp_retransmit_timer the timeouts of
the same data; any answer sets both to 0. A peer that died in silence, without keepalive and without data to it, cannot
be told from an idle one.
"""

from __future__ import annotations

from exporter.details import Peers
from exporter.health.finding import Finding, Limit, Rule
from exporter.health.findings.retransmissions import is_lossy
from exporter.health.findings.shared import rto_max
from exporter.health.sysctls.arithmetic import unacknowledged
from exporter.health.thresholds import Status
from exporter.health.window import Window
from exporter.kernel.troubles import DATA_TRIES, DATA_UNANSWERED, KEEPALIVE_UNANSWERED, PROBES
from exporter.tcpstate import TcpState

_MANY = Limit(10, "connections to peers that do not answer", "a few clients that vanish are normal")
_SHARE = Limit(
    0.01,
    "share of ESTABLISHED, unless 10 of them lead to one address",
    "on a large server some clients have always vanished",
)
_PROBES = Limit(PROBES, "keepalive probes without an answer", "one may be lost")
_TRIES = Limit(
    DATA_TRIES, "retransmissions without an answer", "3 s or more without an answer, longer than a short outage"
)


def _judge(window: Window) -> Finding | None:
    probed, sent = window.trouble(KEEPALIVE_UNANSWERED), window.trouble(DATA_UNANSWERED)
    if probed is None or sent is None:
        raise window.undetailed()
    if sent.sockets and is_lossy(window):
        sent = sent._replace(sockets=0, most=0)  # lost, and not unanswered
    dead = probed.sockets + sent.sockets
    of_one = max(probed.most, sent.most)
    if dead < _MANY.value or (of_one < _MANY.value and dead < _SHARE.value * window.count(TcpState.ESTABLISHED)):
        return None
    evidence = [
        *_by(probed, f"did not answer {PROBES} or more keepalive probes"),
        *_by(sent, f"did not acknowledge the same data after {DATA_TRIES} or more retransmissions"),
    ]
    gone = window.rose("TcpExt.TCPAbortOnTimeout")
    if gone:
        evidence.append(f"{gone:,} connections were given up {window.during} because nothing answered.")
    return Finding(
        name=RULE.name,
        severity=Status.WARNING,
        what=f"{dead:,} established connections lead to peers that no longer answer",
        evidence=tuple(evidence),
        why="They hold descriptors and memory, and calls on them hang until the kernel gives up." + _patience(window),
        remedy="See what the peers have in common: a host that is down, a network, a firewall or a NAT that has "
        "forgotten idle connections. Let the application set TCP_USER_TIMEOUT, which bounds both waits.",
        command="ss -Htno state established | grep -E 'timer:\\((on|keepalive),[^)]*,[1-9][0-9]*\\)'",
        risk="None: the command only reads.",
        states=(TcpState.ESTABLISHED, TcpState.CLOSE_WAIT),
    )


def _patience(window: Window) -> str:
    """How long data may stay without an answer."""
    retries = window.sysctl("tcp_retries2")
    if retries is None:
        return ""
    seconds = unacknowledged(retries, rto_max(window))
    return f" For unacknowledged data that takes {seconds:.0f} s or more (tcp_retries2 = {retries})."


def _by(peers: Peers, what: str) -> list[str]:
    if not peers.sockets:
        return []
    return [f"The peers of {peers.sockets:,} connections {what}; {peers.most:,} of them are with {peers.place}."]


RULE = Rule(
    name="dead_peers",
    subject="peers that do not answer",
    definition="Established connections lead to peers that answer neither keepalive probes nor data.",
    limits=(_MANY, _SHARE, _PROBES, _TRIES),
    judge=_judge,
    worst=Status.WARNING,
)
