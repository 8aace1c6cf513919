"""Ephemeral ports: the local ports that connect() and bind() pick, and how many of them the sockets of a dump take.

``detail`` hands over each block of messages. Pure; what is kept is a number for each destination and a map of the ports
of each local address, both bounded. Source: net/ipv4/inet_hashtables.c, __inet_hash_connect.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import lru_cache
from itertools import compress

from exporter.kernel.inetdiag import (
    AF_INET,
    AF_INET6,
    FAMILY,
    MAPPED,
    PORT,
    REMOTE_PORT,
    Block,
    Dump,
    both,
    native,
    only,
    packed,
)  # fmt: skip
from exporter.kernel.sockets import address_text
from exporter.record import NamedTuple
from exporter.tcpstate import TcpState

_EXPIRES = 68  # offset in a message: milliseconds that a timer has left, in the host's order
_CONNECTED = bytes(
    state in frozenset(TcpState) - {TcpState.UNKNOWN, TcpState.CLOSE, TcpState.LISTEN} for state in range(256)
)
_SOME = 2  # a high byte with ports of both kinds

_BOUND_FIRST_SHARE = 0.6  # of the range: connect() takes every second port first, so that only one destination has more
_ONCE = 1.02  # sockets a port, where hardly any port is taken twice
_SPREAD = 0.9  # of the ports, the most that one destination has where they are spread over several
_MAX_SOURCES = 64  # local addresses whose ports are told apart: 64 KiB each

_TIME_WAIT_MILLISECONDS = 60000  # include/net/tcp.h: TCP_TIMEWAIT_LEN
_NOT_TIME_WAIT = bytes(state != TcpState.TIME_WAIT for state in range(256))
_LOOPBACK6 = bytes(15) + b"\1"

HELD, YOUNG, OLD = "held", "young", "old"
"""How a socket takes its port: for itself; in TIME-WAIT; in TIME-WAIT for so long that tcp_tw_reuse may end it."""


class EphemeralPorts(NamedTuple):
    """The local ports that connect() may pick: a range with both its ends, less the reserved."""

    low: int
    high: int
    reserved: frozenset[int] = frozenset()
    reserved_text: str | None = None  # the same as the kernel prints it; None where that is long
    reuse: int = 0  # tcp_tw_reuse: 1 takes TIME-WAIT over everywhere, 2 on loopback; 0 also without timestamps
    reuse_delay: int = 1000  # milliseconds that TIME-WAIT lasts before it may be taken over

    def has(self, port: int) -> bool:
        """Whether connect() may pick this port."""
        return self.low <= port <= self.high and port not in self.reserved

    @property
    def number(self) -> int:
        """How many there are."""
        return max(0, self.high - self.low + 1) - sum(self.low <= port <= self.high for port in self.reserved)


class Taken(NamedTuple):
    """The local ports that are taken where fewest are left: towards one destination, or of one source address."""

    used: int = 0  # ports that connect() there, or bind() to the source, does not get
    waiting: int = 0  # of these, the ones in TIME-WAIT
    reusable: int = 0  # beside them, the ones in TIME-WAIT that connect() may take over
    destinations: int = 0  # that those used are spread over: several where bind() picked the ports
    towards: str = ""  # "192.0.2.1 -> 198.51.100.7:443"; "" where nothing is taken


class Destinations:
    """Counts the sockets on ports that connect() or bind() has picked, by destination. Ports of *listening* are not."""

    def __init__(self, ephemeral: EphemeralPorts, listening: frozenset[int]) -> None:
        self._ephemeral = ephemeral
        self._picked = _Picked(ephemeral, listening)
        # By family, and by how their port is taken: remote port, local address, remote address.
        self._ports: dict[tuple[int, str], Counter[bytes]] = {}
        self._sources: dict[int, dict[bytes, bytearray]] = {}  # by family and local address: 1 for each port it has

    def add(self, block: Block, states: bytes, low: bytes, high: bytes) -> None:
        """Count those messages of a block whose local port, in two columns, connect() or bind() has picked."""
        picked = self._picked.column(low, high)
        if not picked:
            return
        picked = both(picked, states.translate(_CONNECTED))
        kinds = dict(self._kinds(block, states))
        families = block.column(FAMILY)
        for family in set(families):
            chosen = both(picked, families.translate(only(family)))
            keys = [key for (key,) in _destination(block.length).iter_unpack(block.data)]
            for kind, column in kinds.items():
                of_kind = both(chosen, column)
                counted = compress(keys, of_kind) if 0 in of_kind else keys
                self._ports.setdefault((family, kind), Counter()).update(counted)
            self._add_sources(family, compress(keys, chosen), compress(packed(low, high), chosen))

    def fold(self, most: int) -> None:
        """Forget the smallest destinations where there are more than *most*."""
        for destinations in self._ports.values():
            least = 1
            while len(destinations) > most:
                for destination in [key for key, number in destinations.items() if number <= least]:
                    del destinations[destination]
                least *= 2

    def ports(self, *kinds: str) -> Counter[bytes]:
        """Local ports taken by family, remote port, local and remote address; IPv4 is IPv4, mapped into IPv6 or not.

        Only those taken in one of *kinds*, or all without any.
        """
        merged: Counter[bytes] = Counter()  # the kernel has one space of ports for both
        for (family, kind), destinations in self._ports.items():
            if not kinds or kind in kinds:
                for key, number in destinations.items():
                    merged[_unmapped(bytes([family]) + key)] += number
        return merged

    def fullest(self) -> Taken:
        """Where fewest local ports are left. Source: net/ipv4/inet_hashtables.c, __inet_hash_connect.

        That is mostly one destination. Where bind() picked the ports, before connect(), each is taken from all
        destinations: then it is a source address. Nothing in a dump tells such a socket, but ports do that connect()
        would not have picked: more than half of the range, each once, and towards several destinations.
        """
        used, waiting, reusable = self._towards()
        most = max({**used, **reusable}, key=lambda it: (used[it], reusable[it]), default=b"")
        found = Taken(used[most], waiting[most], reusable[most], int(bool(most)), destination_text(most))
        for source, ports in self._bound_first():
            if ports > found.used:
                towards = sum(_source_of(key) == source for key in self.ports())
                text = f"{address_text(source[0], source[1:])} -> {towards} destinations"
                found = Taken(ports, 0, 0, towards, text)
        return found

    def _towards(self) -> tuple[Counter[bytes], Counter[bytes], Counter[bytes]]:
        """By destination the ports that are used, those of them in TIME-WAIT, and the TIME-WAIT that may be reused."""
        used, waiting, old = self.ports(HELD), self.ports(YOUNG), self.ports(OLD)
        reusable: Counter[bytes] = Counter()
        for key, number in old.items():
            (reusable if self._ephemeral.reuse == 1 or is_loopback(key) else waiting)[key] += number
        for key, number in waiting.items():
            used[key] += number
        return used, waiting, reusable

    def _bound_first(self) -> Iterator[tuple[bytes, int]]:
        """The source addresses whose ports are as bind() picks them, and how many ports that is."""
        by_source: dict[bytes, list[int]] = {}
        for key, number in self.ports().items():
            by_source.setdefault(_source_of(key), []).append(number)
        least = _BOUND_FIRST_SHARE * self._ephemeral.number
        for source, ports in self._ports_by_source().items():
            sockets = by_source.get(source, [])
            spread = len(sockets) > 1 and max(sockets) <= _SPREAD * ports
            if spread and ports > least and sum(sockets) <= _ONCE * ports:
                yield source, ports

    def _ports_by_source(self) -> dict[bytes, int]:
        """How many ports of the range each source address has, by family and address; mapped IPv4 is IPv4."""
        merged: dict[bytes, int] = {}  # a bit for each byte of the 65,536
        for family, sources in self._sources.items():
            for address, seen in sources.items():
                mapped = family == AF_INET6 and address.startswith(MAPPED)
                source = bytes([AF_INET]) + address[12:] + bytes(12) if mapped else bytes([family]) + address
                merged[source] = merged.get(source, 0) | int.from_bytes(seen, "little")
        return {source: ports.to_bytes(65536, "little").count(1) for source, ports in merged.items()}

    def _kinds(self, block: Block, states: bytes) -> Iterator[tuple[str, bytes]]:
        """By how a port may be taken, a column with 1 for the sockets that take it so; none for kinds without any."""
        waiting = states.translate(only(TcpState.TIME_WAIT))
        if 1 not in waiting:
            yield HELD, b"\1" * len(states)
            return
        held = states.translate(_NOT_TIME_WAIT)
        if 1 in held:
            yield HELD, held
        if not self._ephemeral.reuse:
            yield YOUNG, waiting
            return
        longest = _TIME_WAIT_MILLISECONDS - self._ephemeral.reuse_delay  # that an old one has left; /proc knows only 0
        old = bytes(map(longest.__ge__, packed(*native(block, _EXPIRES))))
        yield OLD, both(waiting, old)
        yield YOUNG, both(waiting, old.translate(only(0)))

    def _add_sources(self, family: int, keys: Iterable[bytes], ports: Iterable[int]) -> None:
        """Note which local ports each source address has; the keys are those of destinations."""
        sources = self._sources.setdefault(family, {})
        for key, port in zip(keys, ports, strict=True):
            seen = sources.get(source := key[2:18])
            if seen is None:
                if len(sources) >= _MAX_SOURCES:
                    continue
                seen = sources[source] = bytearray(65536)
            seen[port] = 1


def lists_bound(release: str) -> bool:
    """Whether a mainline kernel of *release* lists sockets that are bound and in no state; False where unknown.

    >>> lists_bound("6.8.0-31-generic"), lists_bound("6.1.0"), lists_bound("7.0"), lists_bound("")
    (True, False, True, False)
    """
    major, _, rest = release.partition(".")
    minor = rest[: len(rest) - len(rest.lstrip("0123456789"))]
    return bool(minor) and major.isascii() and major.isdigit() and (int(major), int(minor)) >= (6, 8)


class BoundDump(Dump):
    """Collects the local ports of sockets that are bound and in no state, and counts these."""

    def __init__(self) -> None:
        super().__init__()
        self.ports: set[int] = set()
        self.sockets = 0

    def take(self, block: Block) -> None:
        """Add the messages of a block."""
        self.ports.update(packed(block.column(PORT + 1), block.column(PORT)))
        self.sockets += block.number


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


def destination_text(destination: bytes) -> str:
    """A destination as a person reads it: ``192.0.2.1 -> 198.51.100.7:443``."""
    if not destination:
        return ""
    family, port = destination[0], int.from_bytes(destination[1:3], "big")
    source, target = (address_text(family, destination[start : start + 16]) for start in (3, 19))
    return f"{source} -> {f'[{target}]' if ':' in target else target}:{port}"


def is_loopback(destination: bytes) -> bool:
    """Whether one of its addresses is a loopback one. Source: net/ipv4/tcp_ipv4.c, tcp_twsk_unique."""
    addresses = destination[3:19], destination[19:35]
    if destination[0] == AF_INET:
        return any(address[0] == 127 for address in addresses)
    return any(address == _LOOPBACK6 or address.startswith(MAPPED + b"\x7f") for address in addresses)


@lru_cache(maxsize=64)
def _destination(length: int) -> struct.Struct:
    """Remote port, local and remote address of a message."""
    return struct.Struct(f"{REMOTE_PORT}x34s{length - REMOTE_PORT - 34}x")


def _source_of(destination: bytes) -> bytes:
    """Family and local address of a destination."""
    return destination[:1] + destination[3:19]


def _unmapped(destination: bytes) -> bytes:
    """A destination whose addresses are IPv4's mapped into IPv6 as what it is."""
    source, target = destination[3:19], destination[19:]
    if destination[0] == AF_INET6 and source.startswith(MAPPED) and target.startswith(MAPPED):
        return bytes([AF_INET]) + destination[1:3] + source[12:] + bytes(12) + target[12:] + bytes(12)
    return destination
