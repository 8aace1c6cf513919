"""Transfers over a long path that a buffer limits instead of the path: the own one, or that of the peer.

Source: net/ipv4/tcp_output.c, tcp_chrono_start: of the time with data in flight the kernel counts how long a socket
waited for the peer's window (rwnd_limited), and how long its application waited for room in the send buffer
(sndbuf_limited). A receiver does not see either, so only what this host sends is judged.
"""

from __future__ import annotations

from exporter.details import Transfers
from exporter.health.finding import Finding, Limit, Rule
from exporter.health.thresholds import Status
from exporter.health.window import CannotTell, NotHere, Window
from exporter.kernel.quality import (
    BUSY,
    BY_OWN_BUFFER,
    BY_PEER_WINDOW,
    LONG_PATH,
    MANY_BYTES,
    OWN_BUFFER,
    PEER_WINDOW,
    SENDS_NOW,
)  # fmt: skip
from exporter.tcpstate import TcpState

_LONG = Limit(LONG_PATH, "seconds of the shortest round trip", "on a shorter path small buffers still carry much")
_BYTES = Limit(MANY_BYTES, "bytes that were acknowledged", "less is over before a window matters")
_BUSY = Limit(BUSY, "seconds with data in flight", "a transfer begins with small windows, whatever the buffers are")
_RECENT = Limit(SENDS_NOW, "seconds since data was last sent", "a transfer that is over needs nothing")
_OWN = Limit(
    OWN_BUFFER,
    "share of the busy time for which the send buffer was full",
    "with buffers that are large enough it is a few percent, with small ones about half: the rest waits for the path",
)
_PEER = Limit(
    PEER_WINDOW,
    "share of the busy time that waited for the peer's window",
    "with windows that are large enough it is a few percent, with small ones half or, without pacing, all of it",
)
_SHARE = Limit(0.2, "of the sampled transfers", "a few slow readers are normal, such as players that pace themselves")
_ROOM = Limit(
    4,
    "times the rate times the round trip, the size to set",
    "buffers account for about twice the data, and the rate is what the small one let through",
)
_LEAST_SIZE = Limit(4 << 20, "bytes, the least size to set", "the kernel's own maximum of tcp_wmem")
_MOST_SIZE = Limit(64 << 20, "bytes, the largest size to set", "one connection should not take more memory")


def _judge(window: Window) -> Finding | None:
    detail = window.now.detail
    if detail is None:
        raise window.undetailed()
    if detail.quality is None:
        raise NotHere("it needs the tcp_info of sockets: netlink, and detail.quality not off")
    if detail.quality.problem is not None:
        raise CannotTell(detail.quality.problem)
    transfers = detail.quality.transfers
    least = _SHARE.value * sum(it.sockets for it in transfers.values())
    own, peer = (
        it if (it := transfers.get(limit)) is not None and it.sockets >= least else None
        for limit in (BY_OWN_BUFFER, BY_PEER_WINDOW)
    )
    if own is not None and (peer is None or own.sockets >= peer.sockets):
        return _by_own_buffer(window, own)
    return None if peer is None else _by_peer(peer)


def _by_own_buffer(window: Window, found: Transfers) -> Finding:
    value = window.now.sysctls.get("tcp_wmem")
    limit = None if value is None else dict(value.fields).get("max")
    by_application = None not in {limit, found.send_buffer} and found.send_buffer != limit
    size = _size(found)
    own = "" if found.send_buffer is None else f" It has {_kib(found.send_buffer)}"
    if by_application:
        evidence = f"{own}, which is not the max of tcp_wmem ({limit:,}): its application probably set it by SO_SNDBUF."
    else:
        evidence = "" if not own else f"{own}, the max of tcp_wmem."
    return Finding(
        name=RULE.name,
        severity=Status.WARNING,
        what="A send buffer that its application sized limits transfers over a long path"
        if by_application
        else "A small tcp_wmem limits transfers over a long path",
        evidence=(
            (
                f"{_transfers(found)} {100 * found.share:.0f} % of the time with data in flight its application waited "
                f"for room in the send buffer.{evidence}"
            ),
        ),
        why=_why("send buffer"),
        remedy=(
            "Do not let the application set SO_SNDBUF, which ends the kernel's own sizing; or let it set "
            f"{size} for this path."
            if by_application
            else f"Raise the max of tcp_wmem to {size}{_formula()} New connections and those that grow use it."
        ),
        command=None if by_application else f"sysctl -w net.ipv4.tcp_wmem='{_vector(window, size)}'",
        risk=_risk(found, size),
        states=(TcpState.ESTABLISHED,),
    )


def _by_peer(found: Transfers) -> Finding:
    size = _size(found)
    window = "" if found.window is None else f" Its window is {_kib(found.window)} now."
    return Finding(
        name=RULE.name,
        severity=Status.WARNING,
        what="The receive window of peers limits transfers over a long path: their tcp_rmem, or an application that "
        "reads slowly",
        evidence=(
            (
                f"{_transfers(found)} {100 * found.share:.0f} % of the time with data in flight it waited for the "
                f"peer's window.{window}"
            ),
        ),
        why=_why("window of the receiver"),
        remedy=f"On the receiving host, if its application keeps up with its data, raise the max of tcp_rmem to {size}"
        f"{_formula()} An application there that sets SO_RCVBUF keeps that size: it must not set it.",
        command=f"ss -Htni dst {found.place}",
        risk=_risk(found, size),
        states=(TcpState.ESTABLISHED,),
    )


def _transfers(found: Transfers) -> str:
    many = f"{found.sockets:,} sampled connections send" if found.sockets > 1 else "A sampled connection sends"
    largest = ", the largest" if found.sockets > 1 else ""
    return (
        f"{many} much over a long path{largest} to {found.place} with {found.rate / 1e6:.2g} MB/s and a round trip of "
        f"{1000 * found.least_rtt:.0f} ms or more ({1000 * found.rtt:.0f} ms now)."
    )


def _why(which: str) -> str:
    return f"In one round trip no more is sent than the {which} holds, whatever the path could carry."


def _formula() -> str:
    return (
        f", {_ROOM.value:g} times the rate times the round trip of now, or more where the bandwidth of the path is "
        "known: twice that bandwidth times the round trip."
    )


def _size(found: Transfers) -> int:
    """The bytes to set: a power of two."""
    least = max(_LEAST_SIZE.value, _ROOM.value * found.rate * found.least_rtt)
    return min(int(_MOST_SIZE.value), 1 << (int(least) - 1).bit_length())


def _vector(window: Window, size: int) -> str:
    """``tcp_wmem`` with *size* as its max."""
    value = window.now.sysctls.get("tcp_wmem")
    numbers = {"min": 4096, "default": 16384, **dict(() if value is None else value.fields)}
    return f"{numbers['min']} {numbers['default']} {size}"


def _risk(found: Transfers, size: int) -> str:
    return (
        "Latency: data that the path cannot carry waits in queues on the way, so the round trip grows for everyone on "
        f"it; at the present rate a full buffer is {size / max(1, found.rate):.2g} s of waiting. Memory: up to that "
        "size for each connection, within tcp_mem."
    )


def _kib(size: int) -> str:
    return f"{size / 1024:.0f} KiB"


RULE = Rule(
    name="buffer_limits",
    subject="buffers of transfers",
    definition="Transfers over a long path wait for a send buffer or for the peer's window, and not for the path.",
    limits=(_SHARE, _LONG, _BYTES, _BUSY, _RECENT, _OWN, _PEER, _ROOM, _LEAST_SIZE, _MOST_SIZE),
    judge=_judge,
    worst=Status.WARNING,
)
