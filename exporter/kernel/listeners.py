"""Listeners: what waits in each one's queues, and the limits. From a dump of LISTEN only, which is almost free.

Half-open connections belong to no listening socket but to its address and port, so they are matched here, as the kernel
finds a listener for a SYN. ``sampling.sampler`` brings both, ``snapshot`` has the result.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Iterable, Mapping

from exporter.kernel.inetdiag import AF_INET6, STATE, Local, blocks
from exporter.kernel.sockets import address_text
from exporter.record import NamedTuple
from exporter.snapshot import Listener
from exporter.tcpstate import TcpState

# Family, local port and address (network order), receive and send queue of a message, from its netlink header.
_SOCKET = struct.Struct("=16xB3x2s2x16s32xII")
_ANY = bytes(16)


class Listening(NamedTuple):
    """One listening socket."""

    local: Local
    queue: int
    limit: int


class ListenerDump:
    """Collects the listening sockets of a dump of LISTEN."""

    def __init__(self) -> None:
        self.sockets: list[Listening] = []

    def add(self, reply: bytes) -> bool:
        """Take one reply; True when the dump is complete. Raises as ``inetdiag.blocks`` does."""
        found, complete = blocks(reply)
        for block in found:
            for offset in range(0, len(block.data), block.length):
                if block.data[offset + STATE] == TcpState.LISTEN:
                    family, port, address, queue, limit = _SOCKET.unpack_from(block.data, offset)
                    self.sockets.append(Listening(Local(family, port, address), queue, limit))
        return complete


def listeners(sockets: Iterable[Listening], half_open: Mapping[Local, int]) -> tuple[Listener, ...]:
    """The listeners by address and port, with the half-open connections of each, sorted by port and address."""
    groups: dict[Local, list[Listening]] = {}
    for socket in sockets:
        groups.setdefault(socket.local, []).append(socket)
    waiting: Counter[Local] = Counter()
    for local, number in half_open.items():
        listener = _listener_of(local, groups)
        if listener is not None:  # else it closed just now: what is left of its half-open connections is nobody's
            waiting[listener] += number
    return tuple(
        sorted(
            (
                Listener(
                    address=address_text(local.family, local.address),
                    port=int.from_bytes(local.port, "big"),
                    sockets=len(group),
                    accept_queue=sum(socket.queue for socket in group),
                    accept_limit=sum(socket.limit for socket in group),
                    syn_recv=waiting[local],
                    fullest=max(socket.queue / (socket.limit + 1) for socket in group),
                )
                for local, group in groups.items()
            ),
            key=lambda listener: (listener.port, listener.address),
        )
    )


def _listener_of(local: Local, groups: Mapping[Local, object]) -> Local | None:
    """The listener that a SYN to *local* reaches: of its very address, of any address, of any of both families."""
    for candidate in (local, local._replace(address=_ANY), Local(AF_INET6, local.port, _ANY)):
        if candidate in groups:
            return candidate
    return None
