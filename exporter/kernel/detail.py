"""What needs each socket: a full dump, folded reply by reply into counters whose size does not grow with the sockets.

``reader`` hands over the replies and ``sampling.sampler`` makes a ``snapshot.Detail`` of the result. Messages of one
length are read in columns, at C speed; nothing is built or kept per socket.
"""

from __future__ import annotations

import struct
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from itertools import chain, compress

from exporter.kernel.inetdiag import AF_INET, AF_INET6, FAMILY, MAPPED, STATE, TIMER, Block, Dump, Tally, packed
from exporter.kernel.sockets import address_text, cgroup_columns
from exporter.kernel.troubles import Troubles
from exporter.record import NamedTuple
from exporter.snapshot import NO_SOCKETS, Detail, StateCounts
from exporter.tcpstate import TcpState, of_number

_PORT, _REMOTE_PORT = 20, 22  # offsets in a message, from its netlink header; network order
_RECEIVE_QUEUE, _SEND_QUEUE = 72, 76
_CONNECTED = bytes(
    state in frozenset(TcpState) - {TcpState.UNKNOWN, TcpState.CLOSE, TcpState.LISTEN} for state in range(256)
)
_SOME = 2  # a high byte with ports of both kinds

NO_UNIT = "none"
"""The unit of sockets that the kernel keeps no cgroup of: half-open, TIME-WAIT, FIN-WAIT-2 after close()."""

MAX_KEYS = 65536
"""Ports and destinations that are told apart while the dump runs; beyond it those that matter least are folded."""


class EphemeralPorts(NamedTuple):
    """The local ports that connect() may pick: a range with both its ends, less the reserved."""

    low: int
    high: int
    reserved: frozenset[int] = frozenset()

    def has(self, port: int) -> bool:
        """Whether connect() may pick this port."""
        return self.low <= port <= self.high and port not in self.reserved

    @property
    def number(self) -> int:
        """How many there are."""
        return max(0, self.high - self.low + 1) - sum(self.low <= port <= self.high for port in self.reserved)


def told_apart(
    listening: frozenset[int], configured: Sequence[int], ephemeral: EphemeralPorts | None
) -> frozenset[int]:
    """The local ports that are counted by themselves: configured ones, and those with a listener that has its place.

    A listener on an ephemeral port is somebody's for the moment: an FTP data channel, a test, a Java RMI port. A
    reserved port inside the range is a service's.
    """
    fixed = (port for port in listening if ephemeral is None or not ephemeral.has(port))
    return frozenset((*configured, *fixed))


def summarise(
    dump: DetailDump,
    units: Mapping[int, str] | None,
    configured: Sequence[int],
    max_series: int,
    ephemeral: EphemeralPorts | None,
    now: float,
) -> Detail:
    """The dump as a value of the snapshot, taken at *now* (Unix time), with at most *max_series* ports and units.

    *units* has the name for each cgroup id; None where there is no cgroup v2.
    """
    by_port = dump.ports()
    rest = by_port.pop(0)
    ports, folded = capped({str(port): counts for port, counts in by_port.items()}, max_series, map(str, configured))
    ports["other"] = tuple(map(sum, zip(ports["other"], rest, strict=True)))
    by_unit, folded_units = None, 0
    if units is not None:
        by_unit, folded_units = capped(dump.units(units), max_series)
    used, destination = dump.busiest()
    return Detail(
        taken_at=now,
        families=dump.families(),
        ports=ports,
        remote_ports={str(port): counts for port, counts in dump.remote_ports().items()},
        units=by_unit,
        receive_queue=dump.receive_queue,
        send_queue=dump.send_queue,
        ephemeral_used=None if ephemeral is None else used,
        ephemeral_available=None if ephemeral is None else ephemeral.number,
        ephemeral_towards=destination_text(destination),
        folded={
            "tcp_port_connections": folded + dump.untold,
            **({} if by_unit is None else {"tcp_unit_connections": folded_units}),
        },
        troubles=dump.troubles.peers(),
    )


def capped(
    counts: Mapping[str, StateCounts], limit: int, configured: Iterable[str] = ()
) -> tuple[dict[str, StateCounts], int]:
    """The *limit* largest of *counts*, configured ones first, and the rest as ``other``; and how many that folds."""
    first = set(configured)
    counts = dict(counts)
    rest = [counts.pop("other")] if "other" in counts else []  # somebody's own name for it: what it is called anyway
    ranked = sorted(counts, key=lambda name: (name not in first, -sum(counts[name]), name))
    rest += [counts[name] for name in ranked[limit:]]
    kept = {name: counts[name] for name in ranked[:limit]}
    return kept | {"other": tuple(map(sum, zip(NO_SOCKETS, *rest, strict=True)))}, len(ranked[limit:])


def destination_text(destination: bytes) -> str:
    """A destination as a person reads it: ``192.0.2.1 -> 198.51.100.7:443``."""
    if not destination:
        return ""
    family, port = destination[0], int.from_bytes(destination[1:3], "big")
    source, target = (address_text(family, destination[start : start + 16]) for start in (3, 19))
    return f"{source} -> {f'[{target}]' if ':' in target else target}:{port}"


class DetailDump(Dump):
    """Collects a dump of every socket.

    *ports* are the local ports to count by themselves, *remote_ports* the remote ones. Where connect() picks its ports
    is *ephemeral*; sockets on such a port, and on none of *listening*, are counted by destination; None counts none.
    """

    def __init__(
        self,
        ports: frozenset[int],
        listening: frozenset[int] = frozenset(),
        remote_ports: frozenset[int] = frozenset(),
        ephemeral: EphemeralPorts | None = None,
    ) -> None:
        super().__init__()
        self.troubles = Troubles()
        self.receive_queue = 0
        self.send_queue = 0
        self.untold = len(listening - ports)  # ports with a listener that are not counted by themselves
        self._ports = ports
        self._remote_ports = remote_ports
        self._near_ports = _high_bytes(ports)
        self._near_remote_ports = _high_bytes(remote_ports)
        self._picked = None if ephemeral is None else _Picked(ephemeral, listening)
        # By port | state << 16 | family << 24 | timer << 32 | cgroup id << 40; ports unlike any of *ports* are 0.
        self._sockets: Counter[int] = Counter()
        # Where those become too many: the same sockets without their port, and by port | state << 16 alone.
        self._without_port: Counter[int] = Counter()
        self._by_port: Counter[int] = Counter()
        self._by_remote_port: Counter[int] = Counter()  # port | state << 16
        self._destinations: dict[int, Counter[bytes]] = {}  # by family: remote port, local address, remote address

    def take(self, block: Block) -> None:
        """Add the messages of a block."""
        states, low, high = block.column(STATE), block.column(_PORT + 1), block.column(_PORT)
        self._add_sockets(block, states, low, high)
        if self._remote_ports:
            columns = _near(self._near_remote_ports, block.column(_REMOTE_PORT + 1), block.column(_REMOTE_PORT))
            self._by_remote_port.update(packed(*columns, states))
        self.receive_queue += _queued(block, _RECEIVE_QUEUE, states)
        self.send_queue += _queued(block, _SEND_QUEUE, states)
        if self._picked is not None:
            self._add_destinations(block, states, self._picked.column(low, high))
        self.troubles.take(block, states)
        self._fold()

    @property
    def sockets(self) -> Tally:
        """The tally, without the first attributes."""
        tally = Tally()
        for key, number in chain(self._sockets.items(), self._without_port.items()):
            tally[key >> 24 & 0xFF, key >> 16 & 0xFF, key >> 32 & 0xFF, 0] += number
        return tally

    @property
    def by_cgroup(self) -> Counter[tuple[int, int]]:
        """Sockets by cgroup id, 0 where there is none, and state number."""
        counts: Counter[tuple[int, int]] = Counter()
        for key, number in chain(self._sockets.items(), self._without_port.items()):
            counts[key >> 40, key >> 16 & 0xFF] += number
        return counts

    def ports(self) -> dict[int, StateCounts]:
        """Counts by state of each of the local ports, and of all others together under 0."""
        return _by_port(chain(self._sockets.items(), self._by_port.items()), self._ports)

    def remote_ports(self) -> dict[int, StateCounts]:
        """Counts by state of each of the remote ports."""
        counted = _by_port(self._by_remote_port.items(), self._remote_ports)
        return {port: counts for port, counts in counted.items() if port}

    def units(self, names: Mapping[int, str]) -> dict[str, StateCounts]:
        """Counts by state of each unit; mini-sockets and half-open ones, without a cgroup, are ``NO_UNIT``'s."""
        counts: dict[str, list[int]] = {}
        for (cgroup, state), number in self.by_cgroup.items():
            unit = names[cgroup] if cgroup else NO_UNIT
            counts.setdefault(unit, [0] * len(TcpState))[of_number(state)] += number
        return {unit: tuple(by_state) for unit, by_state in counts.items()}

    def families(self) -> dict[str, StateCounts]:
        """Counts by state of the IPv4 and the IPv6 sockets."""
        counts = {"ipv4": [0] * len(TcpState), "ipv6": [0] * len(TcpState)}
        for (family, state, _, _), number in self.sockets.items():
            counts["ipv6" if family == AF_INET6 else "ipv4"][of_number(state)] += number
        return {family: tuple(by_state) for family, by_state in counts.items()}

    @property
    def destinations(self) -> Counter[bytes]:
        """Local ports taken by family, remote port, local and remote address; IPv4 is IPv4, mapped into IPv6 or not."""
        merged: Counter[bytes] = Counter()  # the kernel has one space of ports for both
        for family, destinations in self._destinations.items():
            for key, number in destinations.items():
                merged[_unmapped(bytes([family]) + key)] += number
        return merged

    def busiest(self) -> tuple[int, bytes]:
        """The most local ports that are taken towards one destination, and that destination; 0 and nothing for none."""
        destination, number = max(self.destinations.items(), key=lambda item: item[1], default=(b"", 0))
        return number, destination

    def _add_sockets(self, block: Block, states: bytes, low: bytes, high: bytes) -> None:
        low, high = _near(self._near_ports, low, high)
        columns = [low, high, states, block.column(FAMILY), block.column(TIMER), *cgroup_columns(block)]
        if all(column.count(column[0]) == len(column) for column in columns[8:]):  # ids are small, or alike
            above = int.from_bytes(bytes(column[0] for column in columns[8:]), "little") << 64
            keys: Iterable[int] = packed(*columns[:8])
            if above:
                keys = (above | key for key in keys)
            self._sockets.update(keys)
        else:
            self._sockets.update(int.from_bytes(bytes(key), "little") for key in zip(*columns, strict=True))

    def _add_destinations(self, block: Block, states: bytes, picked: bytes) -> None:
        if not picked:
            return
        picked = _both(picked, states.translate(_CONNECTED))
        families = block.column(FAMILY)
        for family in set(families):
            chosen = _both(picked, families.translate(_only(family)))
            keys: Iterable[bytes] = chain.from_iterable(_destination(block.length).iter_unpack(block.data))
            if 0 in chosen:
                keys = compress(keys, chosen)
            self._destinations.setdefault(family, Counter()).update(keys)

    def _fold(self) -> None:
        """Keep what is told apart within bounds: other ports lose their number, small destinations are forgotten."""
        for counter, kept in ((self._sockets, self._ports), (self._by_remote_port, self._remote_ports)):
            if len(counter) > MAX_KEYS:
                for key in [key for key in counter if key & 0xFFFF not in kept and key & 0xFFFF]:
                    counter[key & ~0xFFFF] += counter.pop(key)
        if len(self._sockets) > MAX_KEYS:  # of the ports that are told apart alone
            for key, number in self._sockets.items():
                self._by_port[key & 0xFFFFFF] += number
                self._without_port[key & ~0xFFFF] += number
            self._sockets.clear()
        for destinations in self._destinations.values():
            least = 1
            while len(destinations) > MAX_KEYS:
                for destination in [key for key, number in destinations.items() if number <= least]:
                    del destinations[destination]
                least *= 2


class _Picked:
    """Tells local ports that connect() has picked, by their high byte where that is enough."""

    def __init__(self, ports: EphemeralPorts, listening: frozenset[int]) -> None:
        table = bytearray(65536)
        low, above = max(ports.low, 0), max(min(ports.high, 65535) + 1, 0)
        table[low:above] = b"\1" * (above - low) if low < above else b""
        for port in listening | ports.reserved:
            table[port] = 0
        self._table = bytes(table)
        picked = (table.count(1, first, first + 256) for first in range(0, 65536, 256))
        self._high = bytes({0: 0, 256: 1}.get(number, _SOME) for number in picked)

    def column(self, low: bytes, high: bytes) -> bytes:
        """1 for each port of two columns that is such a one, and 0 for the others; nothing where none is."""
        picked = high.translate(self._high)
        if _SOME in picked:
            picked = bytes(map(self._table.__getitem__, packed(low, high)))
        return picked if 1 in picked else b""


def _high_bytes(ports: Iterable[int]) -> bytes:
    """A table for ``bytes.translate``: 255 for the high bytes that one of *ports* has."""
    found = {port >> 8 for port in ports}
    return bytes(255 * (high in found) for high in range(256))


def _near(table: bytes, low: bytes, high: bytes) -> tuple[bytes, bytes]:
    """Both columns of a port, 0 where the high byte says that it is none of those that *table* was made of."""
    near = high.translate(table)
    return (low, high) if 0 not in near else (_both(low, near), _both(high, near))


def _both(one: bytes, other: bytes) -> bytes:
    """Bitwise and, byte by byte."""
    both = int.from_bytes(one, "little") & int.from_bytes(other, "little")
    return both.to_bytes(len(one), "little")


@lru_cache(maxsize=8)
def _only(wanted: int) -> bytes:
    """A table for ``bytes.translate``: 1 for one value, 0 for the others."""
    return bytes(value == wanted for value in range(256))


@lru_cache(maxsize=64)
def _destination(length: int) -> struct.Struct:
    """Remote port, local and remote address of a message."""
    return struct.Struct(f"{_REMOTE_PORT}x34s{length - _REMOTE_PORT - 34}x")


def _unmapped(destination: bytes) -> bytes:
    """A destination whose addresses are IPv4's mapped into IPv6 as what it is."""
    source, target = destination[3:19], destination[19:]
    if destination[0] == AF_INET6 and source.startswith(MAPPED) and target.startswith(MAPPED):
        return bytes([AF_INET]) + destination[1:3] + source[12:] + bytes(12) + target[12:] + bytes(12)
    return destination


def _by_port(counted: Iterable[tuple[int, int]], kept: frozenset[int]) -> dict[int, StateCounts]:
    counts = {port: [0] * len(TcpState) for port in (*sorted(kept), 0)}
    for key, number in counted:
        port = key & 0xFFFF
        counts[port if port in kept else 0][of_number(key >> 16 & 0xFF)] += number
    return {port: tuple(by_state) for port, by_state in counts.items()}


def _queued(block: Block, offset: int, states: bytes) -> int:
    """The bytes in a queue of all sockets but listeners, whose queues count connections."""
    number = block.number
    columns = [block.column(offset + position) for position in range(4)]
    if all(column.count(0) == number for column in columns):
        return 0
    sizes = packed(*(columns if sys.byteorder == "little" else columns[::-1]))
    return sum(size for size, state in zip(sizes, states, strict=True) if state != TcpState.LISTEN)
