"""Listeners: what waits in each one's queues, and the limits, from the dump of the light pass.

Half-open connections, which only a walk lists, belong to no listening socket but to its address, port and device, so
they are matched here, as the kernel finds a listener for a SYN. ``sampling.sampler`` brings both, ``snapshot`` has the
result.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping

from exporter.kernel.inetdiag import AF_INET6, Listening, Local
from exporter.kernel.sockets import address_text
from exporter.record import TYPE_CHECKING
from exporter.snapshot import Listener

if TYPE_CHECKING:
    from collections.abc import Callable

_ANY = bytes(16)


def half_open_by_listener(half_open: Mapping[Local, int], sockets: Iterable[Listening]) -> Counter[Local | None]:
    """The half-open connections of each of the listening *sockets* of the same dump, and under None those of none.

    What matches none is of a listener that closed just now, or of one that the kernel picks by other rules: a
    transparent proxy's, or a BPF program's choice (sk_lookup).
    """
    matched: Counter[Local | None] = Counter()
    if half_open:
        listening = {socket.local for socket in sockets}
        for local, number in half_open.items():
            matched[_listener_of(local, listening)] += number
    return matched


def listeners_of(
    sockets: Iterable[Listening],
    half_open: Mapping[Local | None, int],
    device_name: Callable[[int], str],
    dropped: Mapping[Local, int] | None = None,
) -> tuple[Listener, ...]:
    """The listeners, sorted by port, address and device, with the *half_open* connections of each.

    *device_name* gives the name of an interface by its index; *dropped* are the segments that each listener dropped.
    """
    groups: dict[Local, list[Listening]] = {}
    for socket in sockets:
        groups.setdefault(socket.local, []).append(socket)
    found = [
        _listener(
            local,
            group,
            half_open.get(local, 0),
            device_name(local.device) if local.device else "",
            None if dropped is None else dropped.get(local),
        )
        for local, group in groups.items()
    ]
    return tuple(sorted(found, key=lambda it: (it.port, it.address, it.device)))


def shared(found: Iterable[Listener], before: Iterable[Listener]) -> tuple[Listener, ...]:
    """*found*, by the objects of *before* where a listener is the same: a minute of samples of many stays small."""
    known = {it: it for it in before}
    return tuple(known.get(it, it) for it in found)


def _listener(local: Local, group: list[Listening], half_open: int, device: str, dropped: int | None) -> Listener:
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
        device=device,
        dropped=dropped,
    )


class Dropped:
    """How many segments each listener has dropped. The kernel counts by socket, and sockets of a group come and go."""

    def __init__(self) -> None:
        self._seen: Mapping[bytes, tuple[Local, int]] = {}  # by cookie, as the last sample had them
        self._totals: Mapping[Local, int] = {}

    def add(self, sockets: Mapping[bytes, tuple[Local, int]]) -> Mapping[Local, int]:
        """The totals, now that the *sockets* by their cookie have dropped so many; those of closed listeners end."""
        totals: Counter[Local] = Counter()
        for local in {local for local, _ in sockets.values()}:
            totals[local] = self._totals.get(local, 0)
        for cookie, (local, number) in sockets.items():
            _, before = self._seen.get(cookie, (local, 0))
            totals[local] += max(0, number - before)
        self._seen, self._totals = sockets, totals
        return totals


def _listener_of(local: Local, listening: Collection[Local]) -> Local | None:
    """The listener that a SYN to *local* reaches: of its very address, of any address, of any of both families.

    A half-open connection has the device of a listener that is bound to one. Where it has one of its own, as that of a
    VRF or towards a link-local address, a listener on any device may have it too.
    """
    for family, address in ((local.family, local.address), (local.family, _ANY), (AF_INET6, _ANY)):
        for device in (local.device, 0):
            candidate = Local(family, local.port, address, device)
            if candidate in listening:
                return candidate
    return None
