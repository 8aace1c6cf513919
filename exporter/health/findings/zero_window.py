"""Closed windows: a receiver that does not read stops its sender.

Source: net/ipv4/tcp_output.c, tcp_select_window (TCPToZeroWindowAdv, TCPFromZeroWindowAdv) on the side that does not
read; tcp_timer.c, tcp_probe_timer (TCPWinProbe) on the other. Only the first probes are frequent, so the sockets
themselves tell more than the counters.
"""

from __future__ import annotations

from exporter.health.finding import Finding, Limit, Rule
from exporter.health.thresholds import Status
from exporter.health.window import Window
from exporter.kernel.troubles import NOT_READ, PEER_READS_NOTHING, UNREAD
from exporter.record import NamedTuple
from exporter.tcpstate import TcpState

_MANY = Limit(20, "connections behind a closed window", "a few slow readers are normal: windows exist for them")
_SHARE = Limit(0.05, "share of ESTABLISHED", "on a large server some clients always pause")
_UNREAD = Limit(UNREAD, "bytes that wait in one receive queue", "half of the first window with the default tcp_rmem")


class _Blocked(NamedTuple):
    """Connections that do not move, by the side that does not read."""

    here: int
    there: int


def _judge(window: Window) -> Finding | None:
    blocked = _blocked(window)
    least = max(_MANY.value, _SHARE.value * window.count(TcpState.ESTABLISHED))
    here, there = blocked.here >= least, blocked.there >= least
    if not (here or there):
        return None
    unread = window.trouble(NOT_READ) if here else None
    port = f" at local {unread.place}" if unread is not None and 2 * unread.most > unread.sockets else ""
    return Finding(
        name=RULE.name,
        severity=Status.WARNING,
        what=f"An application of this host does not read what its peers send{port}"
        if here
        else "Peers do not read what this host sends",
        evidence=tuple(_evidence(window, blocked, here=here, there=there)),
        why="The window is closed, so nothing is sent, and both ends keep their buffers until it opens again.",
        remedy="Find out why the application does not read: a blocked thread, a lock, a slow dependency, too "
        "little CPU. A larger tcp_rmem only makes the queue longer."
        if here
        else "Find out why the peers do not read. Let the application give such a connection a timeout, by "
        "TCP_USER_TIMEOUT or of its own, because the kernel waits as long as the peer answers its probes.",
        command=f"ss -Htnp state established | sort -k{1 if here else 2},{1 if here else 2}nr | head",
        risk="None: the command only reads.",
        states=(TcpState.ESTABLISHED, TcpState.CLOSE_WAIT),
    )


def _blocked(window: Window) -> _Blocked:
    """By the sockets where there is a detail, and else by what the counters say of the window's time."""
    unread, probed = window.trouble(NOT_READ), window.trouble(PEER_READS_NOTHING)
    if unread is None or probed is None:
        closed = window.rise("TcpExt.TCPToZeroWindowAdv") - window.rise("TcpExt.TCPFromZeroWindowAdv")
        return _Blocked(max(0, closed), window.rose("TcpExt.TCPWinProbe") // 5)  # at most five in the first six seconds
    here, closed_ever = unread.sockets, _closed(window)
    return _Blocked(here if closed_ever is None else min(here, closed_ever), probed.sockets)


def _closed(window: Window) -> int | None:
    """How many windows this host may hold closed: those that it closed since boot and did not open again."""
    counters = window.now.counters
    to, back = counters.get("TcpExt.TCPToZeroWindowAdv"), counters.get("TcpExt.TCPFromZeroWindowAdv")
    return None if to is None or back is None else max(0, to - back)


def _evidence(window: Window, blocked: _Blocked, *, here: bool, there: bool) -> list[str]:
    evidence, detail = [], window.now.detail
    unread, probed = window.trouble(NOT_READ), window.trouble(PEER_READS_NOTHING)
    if here and unread is not None and detail is not None:
        evidence.append(
            f"{unread.sockets:,} connections have at least {UNREAD >> 10} KiB each that the application has not read, "
            f"{unread.most:,} of them at local {unread.place}; {detail.receive_queue:,} bytes in all."
        )
    elif here:
        evidence.append(f"This host closed {blocked.here:,} windows {window.during} and did not open them again.")
    if there and probed is not None and detail is not None:
        evidence.append(
            f"{probed.sockets:,} connections wait for a peer to open its window, {probed.most:,} of them with "
            f"{probed.place}; {detail.send_queue:,} bytes wait to be sent or acknowledged."
        )
    for counter, words in (
        ("TcpExt.TCPToZeroWindowAdv", "This host closed its window {:,} times {}."),
        ("TcpExt.TCPWinProbe", "{:,} probes of closed windows were sent {}."),
    ):
        rose = window.rose(counter)
        if rose:
            evidence.append(words.format(rose, window.during))
    return evidence


RULE = Rule(
    name="zero_window",
    subject="closed windows",
    definition="Connections are stalled because a receiver, here or at the other end, does not read.",
    limits=(_MANY, _SHARE, _UNREAD),
    judge=_judge,
    worst=Status.WARNING,
)
