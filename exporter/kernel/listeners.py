"""Listeners: what waits in each one's queues, and the limits, from what the counting pass's dump lists anyway.

Half-open connections belong to no listening socket but to its address and port, so they are matched here, as the kernel
finds a listener for a SYN. ``sampling.sampler`` brings both, ``snapshot`` has the result.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from exporter.kernel.inetdiag import AF_INET6, Listening, Local
from exporter.kernel.sockets import address_text
from exporter.snapshot import Listener

_ANY = bytes(16)


def listeners_of(sockets: Iterable[Listening], half_open: Mapping[Local, int]) -> tuple[Listener, ...]:
    """The listeners by address and port, with the half-open connections of each, sorted by port and address."""
    groups: dict[Local, list[Listening]] = {}
    for socket in sockets:
        groups.setdefault(socket.local, []).append(socket)
    waiting: Counter[Local] = Counter()
    for local, number in half_open.items():
        listener = _listener_of(local, groups)
        if listener is not None:  # else it closed just now: what is left of its half-open connections is nobody's
            waiting[listener] += number
    found = [_listener(local, group, waiting[local]) for local, group in groups.items()]
    return tuple(sorted(found, key=lambda listener: (listener.port, listener.address)))


def _listener(local: Local, group: list[Listening], half_open: int) -> Listener:
    fullest = max(group, key=lambda socket: socket.queue / (socket.limit + 1))
    return Listener(
        address=address_text(local.family, local.address),
        port=int.from_bytes(local.port, "big"),
        sockets=len(group),
        accept_queue=sum(socket.queue for socket in group),
        accept_limit=sum(socket.limit for socket in group),
        syn_recv=half_open,
        fullest_queue=fullest.queue,
        fullest_limit=fullest.limit,
    )


def _listener_of(local: Local, groups: Mapping[Local, object]) -> Local | None:
    """The listener that a SYN to *local* reaches: of its very address, of any address, of any of both families."""
    for candidate in (local, local._replace(address=_ANY), Local(AF_INET6, local.port, _ANY)):
        if candidate in groups:
            return candidate
    return None
