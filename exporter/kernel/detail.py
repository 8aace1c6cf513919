"""What needs each socket: a full dump, folded reply by reply into counters whose size does not grow with the sockets.

``reader`` hands over the replies and ``sampling.sampler`` makes a ``snapshot.Detail`` of the result. Messages of one
length are read in columns, at C speed; nothing is built or kept per socket.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain, compress

from exporter.details import CloseWait, Detail
from exporter.kernel.cgroup import NO_UNIT
from exporter.kernel.ephemeral import Destinations, EphemeralPorts, Taken
from exporter.kernel.inetdiag import (
    AF_INET6,
    FAMILY,
    PORT,
    REMOTE_PORT,
    STATE,
    TIMER,
    TRIES,
    Block,
    Dump,
    Tally,
    alike,
    both,
    native,
    only,
    packed,
)  # fmt: skip
from exporter.kernel.memory import MemoryTally
from exporter.kernel.picks import Picks
from exporter.kernel.sockets import cgroup_columns
from exporter.kernel.timers import NAMES, Waiting
from exporter.kernel.troubles import Troubles
from exporter.tcpstate import NO_SOCKETS, StateCounts, TcpState, of_number

_RECEIVE_QUEUE, _SEND_QUEUE = 72, 76  # offsets in a message

MAX_KEYS = 65536
"""Ports and destinations that are told apart while the dump runs; beyond it those that matter least are folded."""


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
    bound: frozenset[int] = frozenset(),
    close_wait: CloseWait | None = None,
) -> Detail:
    """The dump as a value of the snapshot, taken at *now* (Unix time), with at most *max_series* ports and units.

    *units* has the label for each cgroup id, one for each unit; None where there is no cgroup v2. *bound* are the ports
    of sockets that are bound and neither connected nor listening, *close_wait* is as in ``Detail``.
    """
    by_port = dump.ports()
    rest = by_port.pop(0)
    ports, folded = capped({str(port): counts for port, counts in by_port.items()}, max_series, map(str, configured))
    ports["other"] = tuple(map(sum, zip(ports["other"], rest, strict=True)))
    by_unit, folded_units = None, 0
    if units is not None:
        by_unit, folded_units = capped(dump.units(units), max_series)
    taken = Taken() if dump.destinations is None else dump.destinations.fullest()
    listening, others = set(), set()
    if ephemeral is not None:
        listening = set(filter(ephemeral.has, dump.listening))
        others = set(filter(ephemeral.has, bound)) - listening
    return Detail(
        taken_at=now,
        families=dump.families(),
        ports=ports,
        remote_ports={str(port): counts for port, counts in dump.remote_ports().items()},
        units=by_unit,
        receive_queue=dump.receive_queue,
        send_queue=dump.send_queue,
        ephemeral_used=None if ephemeral is None else taken.used,
        ephemeral_available=None if ephemeral is None else ephemeral.number - len(listening) - len(others),
        ephemeral_towards=taken.towards,
        folded={
            "tcp_port_connections": folded + dump.untold,
            **({} if by_unit is None else {"tcp_unit_connections": folded_units}),
        },
        ephemeral_waiting=taken.waiting,
        ephemeral_reusable=taken.reusable,
        ephemeral_destinations=taken.destinations,
        ephemeral_listening=len(listening),
        ephemeral_bound=len(others),
        ephemeral_reserved=None if ephemeral is None else ephemeral.reserved_text,
        close_wait=close_wait,
        troubles=dump.troubles.peers(),
        timers=dump.timers(),
        unanswered=dump.waiting.unanswered(),
        accept_pending=dump.waiting.accept_pending,
    )


def capped(
    counts: Mapping[str, StateCounts], limit: int, configured: Iterable[str] = ()
) -> tuple[dict[str, StateCounts], int]:
    """The *limit* largest of *counts*, configured ones first, and the rest as ``other``; and how many that folds."""
    first = set(configured)
    counts = dict(counts)
    rest = [counts.pop("other")] if "other" in counts else []  # what is folded already
    ranked = sorted(counts, key=lambda name: (name not in first, -sum(counts[name]), name))
    rest += [counts[name] for name in ranked[limit:]]
    kept = {name: counts[name] for name in ranked[:limit]}
    return kept | {"other": tuple(map(sum, zip(NO_SOCKETS, *rest, strict=True)))}, len(ranked[limit:])


class DetailDump(Dump):
    """Collects a dump of every socket.

    *ports* are the local ports to count by themselves, *remote_ports* the remote ones. Where connect() picks its ports
    is *ephemeral*; sockets on such a port, and on none of *listening*, are counted in ``destinations``. A dump that
    has the *memory* of each socket is summed in ``memory``, which is None of others. *picks* takes some of the sockets.
    """

    def __init__(
        self,
        ports: frozenset[int],
        listening: frozenset[int] = frozenset(),
        remote_ports: frozenset[int] = frozenset(),
        ephemeral: EphemeralPorts | None = None,
        *,
        memory: bool = False,
        picks: Picks | None = None,
    ) -> None:
        super().__init__()
        self.troubles = Troubles()
        self.picks = picks
        self.waiting = Waiting()
        self.receive_queue = 0
        self.send_queue = 0
        self.listening = listening
        self.untold = len(listening - ports)  # ports with a listener that are not counted by themselves
        self.memory = MemoryTally(ports, self.untold) if memory else None
        self._ports = ports
        self._remote_ports = remote_ports
        self._near_ports = _high_bytes(ports)
        self._near_remote_ports = _high_bytes(remote_ports)
        self.destinations = None if ephemeral is None else Destinations(ephemeral, listening)
        # By port | state << 16 | family << 24 | timer << 32 | cgroup id << 40; ports unlike any of *ports* are 0.
        self._sockets: Counter[int] = Counter()
        # Where those become too many: the same sockets without their port, and by port | state << 16 alone.
        self._without_port: Counter[int] = Counter()
        self._by_port: Counter[int] = Counter()
        self._by_remote_port: Counter[int] = Counter()  # port | state << 16

    def take(self, block: Block) -> None:
        """Add the messages of a block."""
        states, low, high = block.column(STATE), block.column(PORT + 1), block.column(PORT)
        timers, received = block.column(TIMER), native(block, _RECEIVE_QUEUE)
        self._add_sockets(block, states, low, high, timers)
        if self._remote_ports:
            columns = _near(self._near_remote_ports, block.column(REMOTE_PORT + 1), block.column(REMOTE_PORT))
            self._by_remote_port.update(packed(*columns, states))
        self.receive_queue += _queued(received, states)
        self.send_queue += _queued(native(block, _SEND_QUEUE), states)
        if self.destinations is not None:
            self.destinations.add(block, states, low, high)
        self.add_waiting(block, states, timers, received)
        if self.memory is not None:
            self.memory.take(block)
        if self.picks is not None:
            self.picks.take(block, states)
        self._fold()

    def add_waiting(self, block: Block, states: bytes, timers: bytes, received: list[bytes]) -> None:
        """Add what timers, tries, inodes and receive queues tell of a block."""
        tries = block.column(TRIES)
        self.waiting.take(block, states, timers, tries)
        self.troubles.take(block, states, timers, tries, received)

    @property
    def sockets(self) -> Tally:
        """The tally, without the first attributes."""
        tally: Counter[tuple[int, int, int, int]] = Counter()
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

    def timers(self) -> dict[str, int]:
        """The ESTABLISHED sockets by the name of the timer that runs."""
        counts = dict.fromkeys(NAMES.values(), 0)
        for (_, state, timer, _), number in self.sockets.items():
            if state == TcpState.ESTABLISHED and timer in NAMES:
                counts[NAMES[timer]] += number
        return counts

    def _add_sockets(self, block: Block, states: bytes, low: bytes, high: bytes, timers: bytes) -> None:
        low, high = _near(self._near_ports, low, high)
        columns = [low, high, states, block.column(FAMILY), timers, *cgroup_columns(block)]
        if all(map(alike, columns[8:])):  # ids are small, or alike
            above = int.from_bytes(bytes(column[0] for column in columns[8:]), "little") << 64
            keys: Iterable[int] = packed(*columns[:8])
            if above:
                keys = (above | key for key in keys)
            self._sockets.update(keys)
        else:
            self._sockets.update(int.from_bytes(bytes(key), "little") for key in zip(*columns, strict=True))

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
        if self.destinations is not None:
            self.destinations.fold(MAX_KEYS)


def _high_bytes(ports: Iterable[int]) -> bytes:
    """A table for ``bytes.translate``: 255 for the high bytes that one of *ports* has."""
    found = {port >> 8 for port in ports}
    return bytes(255 * (high in found) for high in range(256))


def _near(table: bytes, low: bytes, high: bytes) -> tuple[bytes, bytes]:
    """Both columns of a port, 0 where the high byte says that it is none of those that *table* was made of."""
    near = high.translate(table)
    return (low, high) if 0 not in near else (both(low, near), both(high, near))


def _by_port(counted: Iterable[tuple[int, int]], kept: frozenset[int]) -> dict[int, StateCounts]:
    counts = {port: [0] * len(TcpState) for port in (*sorted(kept), 0)}
    for key, number in counted:
        port = key & 0xFFFF
        counts[port if port in kept else 0][of_number(key >> 16 & 0xFF)] += number
    return {port: tuple(by_state) for port, by_state in counts.items()}


def _queued(columns: list[bytes], states: bytes) -> int:
    """The bytes in a queue, of four columns, of all sockets but listeners, whose queues count connections."""
    if not any(column.strip(b"\0") for column in columns):
        return 0
    sizes = packed(*columns)
    return sum(sizes) - sum(compress(sizes, states.translate(only(TcpState.LISTEN))))
