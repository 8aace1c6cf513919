"""What needs each socket: a full dump, folded reply by reply into counters whose size does not grow with the sockets.

``reader`` hands over the replies and ``sampling.sampler`` makes a ``snapshot.Detail`` of the result. Messages of one
length are read in columns, at C speed; nothing is built or kept per socket.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from exporter.kernel.inetdiag import (
    AF_INET,
    AF_INET6,
    FAMILY,
    MAPPED,
    STATE,
    Block,
    Tally,
    blocks,
    packed,
    tally_blocks,
)
from exporter.kernel.sockets import address_text, cgroup_ids
from exporter.record import NamedTuple
from exporter.snapshot import NO_SOCKETS, Detail, StateCounts
from exporter.tcpstate import TcpState, of_number

_PORT, _REMOTE_PORT = 20, 22  # offsets in a message, from its netlink header; network order
_RECEIVE_QUEUE, _SEND_QUEUE = 72, 76
_CONNECTED = frozenset(TcpState) - {TcpState.UNKNOWN, TcpState.CLOSE, TcpState.LISTEN}

NO_UNIT = "none"
"""The unit of sockets that the kernel keeps no cgroup of: half-open, TIME-WAIT, FIN-WAIT-2 after close()."""

MAX_KEYS = 65536
"""Ports and destinations that are told apart while the dump runs; beyond it those that matter least are folded."""


class EphemeralPorts(NamedTuple):
    """The local ports that connect() may pick: a range with both its ends, less the reserved."""

    low: int
    high: int
    reserved: frozenset[int] = frozenset()

    @property
    def number(self) -> int:
        """How many there are."""
        return max(0, self.high - self.low + 1) - sum(self.low <= port <= self.high for port in self.reserved)


def told_apart(
    listening: frozenset[int], configured: Sequence[int], ephemeral: EphemeralPorts | None
) -> frozenset[int]:
    """The local ports that are counted by themselves: configured ones, and those with a listener that has its place.

    A listener inside the ephemeral range is somebody's for the moment: an FTP data channel, a test, a Java RMI port.
    """
    fixed = (port for port in listening if ephemeral is None or not ephemeral.low <= port <= ephemeral.high)
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


class DetailDump:
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
        self.sockets = Tally()
        self.by_cgroup: Counter[tuple[int, int]] = Counter()  # (cgroup id, state number); id 0 where there is none
        self.receive_queue = 0
        self.send_queue = 0
        self.untold = len(listening - ports)  # ports with a listener that are not counted by themselves
        self._ports = ports
        self._listening = listening
        self._remote_ports = remote_ports
        self._ephemeral = ephemeral
        self._by_port: Counter[int] = Counter()  # port | state << 16
        self._by_remote_port: Counter[int] = Counter()
        self._destinations: Counter[bytes] = Counter()  # family, remote port, local address, remote address

    def add(self, reply: bytes) -> bool:
        """Take one reply; True when the dump is complete. Raises as ``inetdiag.blocks`` does."""
        found, complete = blocks(reply)
        tally_blocks(found, self.sockets)
        for block in found:
            states = block.column(STATE)
            ports = packed(block.column(_PORT + 1), block.column(_PORT), states)
            self._by_port.update(ports)
            if self._remote_ports:
                self._by_remote_port.update(packed(block.column(_REMOTE_PORT + 1), block.column(_REMOTE_PORT), states))
            self._add_cgroups(block, states)
            self.receive_queue += _queued(block, _RECEIVE_QUEUE, states)
            self.send_queue += _queued(block, _SEND_QUEUE, states)
            if self._ephemeral is not None:
                self._add_destinations(block, ports, self._ephemeral)
        self._fold()
        return complete

    def merge(self, other: DetailDump) -> None:
        """Add what a dump of other states collected."""
        self.sockets.update(other.sockets)
        self.by_cgroup.update(other.by_cgroup)
        self.receive_queue += other.receive_queue
        self.send_queue += other.send_queue
        self._by_port.update(other._by_port)
        self._by_remote_port.update(other._by_remote_port)
        self._destinations.update(other._destinations)
        self._fold()

    def ports(self) -> dict[int, StateCounts]:
        """Counts by state of each of the local ports, and of all others together under 0."""
        return _by_port(self._by_port, self._ports)

    def remote_ports(self) -> dict[int, StateCounts]:
        """Counts by state of each of the remote ports."""
        counted = _by_port(self._by_remote_port, self._remote_ports)
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

    def busiest(self) -> tuple[int, bytes]:
        """The most local ports that are taken towards one destination, and that destination; 0 and nothing for none."""
        merged: Counter[bytes] = Counter()  # the kernel has one space of ports for IPv4, mapped into IPv6 or not
        for key, number in self._destinations.items():
            merged[_unmapped(key)] += number
        destination, number = max(merged.items(), key=lambda item: item[1], default=(b"", 0))
        return number, destination

    def _add_cgroups(self, block: Block, states: bytes) -> None:
        ids = cgroup_ids(block)
        if len(set(states)) == 1:  # as mostly: numbers alone count three times faster
            for cgroup, number in Counter(ids).items():
                self.by_cgroup[cgroup, states[0]] += number
        else:
            self.by_cgroup.update(zip(ids, states, strict=True))

    def _add_destinations(self, block: Block, ports: memoryview[int], ephemeral: EphemeralPorts) -> None:
        low, high, listening, data = ephemeral.low, ephemeral.high, self._listening, block.data
        if all(not low <= port <= high or port in listening for port in {key & 0xFFFF for key in set(ports)}):
            return
        for number, key in enumerate(ports):
            port = key & 0xFFFF
            if low <= port <= high and port not in listening and key >> 16 in _CONNECTED:
                start = number * block.length
                self._destinations[data[start + FAMILY : start + FAMILY + 1] + data[start + 22 : start + 56]] += 1

    def _fold(self) -> None:
        """Keep what is told apart within bounds: other ports lose their number, small destinations are forgotten."""
        for counter, kept in ((self._by_port, self._ports), (self._by_remote_port, self._remote_ports)):
            if len(counter) > MAX_KEYS:
                for key in [key for key in counter if key & 0xFFFF not in kept and key & 0xFFFF]:
                    counter[key & ~0xFFFF] += counter.pop(key)
        least = 1
        while len(self._destinations) > MAX_KEYS:
            self._destinations = Counter({key: number for key, number in self._destinations.items() if number > least})
            least *= 2


def _unmapped(destination: bytes) -> bytes:
    """A destination whose addresses are IPv4's mapped into IPv6 as what it is."""
    source, target = destination[3:19], destination[19:]
    if destination[0] == AF_INET6 and source.startswith(MAPPED) and target.startswith(MAPPED):
        return bytes([AF_INET]) + destination[1:3] + source[12:] + bytes(12) + target[12:] + bytes(12)
    return destination


def _by_port(counter: Mapping[int, int], kept: frozenset[int]) -> dict[int, StateCounts]:
    counts = {port: [0] * len(TcpState) for port in (*sorted(kept), 0)}
    for key, number in counter.items():
        port = key & 0xFFFF
        counts[port if port in kept else 0][of_number(key >> 16)] += number
    return {port: tuple(by_state) for port, by_state in counts.items()}


def _queued(block: Block, offset: int, states: bytes) -> int:
    """The bytes in a queue of all sockets but listeners, whose queues count connections."""
    number = block.number
    columns = [block.column(offset + position) for position in range(4)]
    if all(column.count(0) == number for column in columns):
        return 0
    gathered = bytearray(4 * number)
    for position, column in enumerate(columns):
        gathered[position::4] = column
    sizes = memoryview(gathered).cast("I")
    return sum(size for size, state in zip(sizes, states, strict=True) if state != TcpState.LISTEN)
