"""The recipes: how a socket is brought into each state, and the lab that cooks them.

A kind is a way into a state; most are named for it. Each step waits for what the kernel answers or shows, and after
each population the kernel's own tables must hold exactly the numbers that were asked for.
"""

from __future__ import annotations

import contextlib
import functools
import resource
import socket
import struct
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from exporter.tcpstate import TcpState
from tests.lab import census
from tests.lab.link import ADDRESSES, address_up, wire_up
from tests.lab.namespace import LabError
from tests.lab.packets import ACK, FIN, RST, SYN, Endpoint, Segment
from tests.lab.peer import PATIENCE_SECONDS, Peer

PORT = 443
"""The local port that connections belong to unless asked otherwise."""

BACKLOG = 1024
"""The accept queue limit of the lab's listeners unless asked otherwise."""

_TCP_REPAIR = 19
_REPAIR_ON, _REPAIR_OFF_SILENTLY = 1, -1  # plain 0 would send a window probe
_ABORT = struct.pack("=ii", 1, 0)  # a lingering time of zero: close() resets the connection
_AT_ONCE = 64  # packets that the peer's queue and a processor's backlog hold with room to spare
_FIRST_PEER_PORT = 1024
_PEER_PORTS = 65536 - _FIRST_PEER_PORT
_CLOSED_PORT = 9
_PEER_SEQUENCE = 1_000_000
_ACCEPT_QUEUE_LENGTH = struct.Struct("=24xI")  # of a listener, in tcp_info.tcpi_unacked


class Expected(NamedTuple):
    """What a reader of this namespace must count."""

    total: dict[str, int]
    by_family: dict[str, dict[str, int]]


@dataclass
class _Connection:
    """One connection, seen from the peer: what it says next, and the lab's socket if a program here holds it."""

    lab: Endpoint
    peer: Endpoint
    sock: socket.socket | None = None
    sequence: int = _PEER_SEQUENCE
    acknowledgement: int = 0

    def segment(self, flags: int) -> Segment:
        return Segment(self.peer, self.lab, flags, self.sequence, self.acknowledgement if flags & ACK else 0)

    def held(self) -> socket.socket:
        if self.sock is None:
            raise LabError(f"nobody accepted the connection of peer port {self.peer.port}")
        return self.sock

    def close(self) -> None:
        self.held().close()
        self.sock = None


class Lab:
    """Sockets in exact numbers, in the current network namespace, which must be fresh: see ``enter``.

    Everything made stays until the lab is closed or the namespace ends, except for what the kernel's timers end:
    TIME_WAIT and orphaned FIN_WAIT2 after 60 s, connections half made after about that, unacknowledged orphans after
    about 100 s.
    """

    def __init__(self) -> None:
        _refuse_a_namespace_in_use()
        _allow_many_descriptors()
        wire_up()
        self._peer = Peer()
        self._expected: Counter[tuple[socket.AddressFamily, TcpState]] = Counter()
        self._families: set[socket.AddressFamily] = set()
        self._doors: dict[tuple[socket.AddressFamily, int], socket.socket] = {}
        self._held: list[socket.socket] = []
        self._unheld: list[
            _Connection
        ] = []  # no program has a descriptor of these, and the kernel keeps them for minutes
        self._repaired: list[tuple[socket.AddressFamily, socket.socket]] = []
        self._peers_met: Counter[socket.AddressFamily] = Counter()
        self._port = PORT
        self._backlog = BACKLOG

    def __enter__(self) -> Lab:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def make(
        self,
        population: Mapping[str, int],
        family: int = socket.AF_INET,
        *,
        port: int = PORT,
        backlog: int = BACKLOG,
    ) -> Expected:
        """Add so many sockets of each kind and return what is to be counted now.

        Connections belong to the local ``port``; the first that a program accepts opens a listener there. ``syn_recv``
        and ``established_unaccepted`` fill queues, so they get listeners of their own, one for each ``backlog`` of
        them. All these count in ``listen``, beside those asked for.
        """
        if unknown := sorted(set(population) - set(KINDS)):
            raise LabError(f"no such kind: {', '.join(unknown)}; there are {', '.join(KINDS)}")
        self._port, self._backlog = port, backlog
        known_family = self._family(family)
        for kind, number in population.items():
            state, recipe = _RECIPES[kind]
            recipe(self, known_family, number)
            self._expected[known_family, state] += number
        return self.verify()

    def establish(self, number: int, family: int = socket.AF_INET, *, port: int = PORT) -> Expected:
        """Add so many ESTABLISHED sockets by the kernel's repair mode: fast, and no packet is sent."""
        known_family = self._family(family)
        address = ADDRESSES[known_family]
        # Peers from the far end of the range: the scripted ones have theirs from the near end.
        first = sum(1 for used, _ in self._repaired if used == known_family)
        for index in range(first, first + number):
            sock = socket.socket(known_family, socket.SOCK_STREAM)
            self._repaired.append((known_family, sock))
            sock.setsockopt(socket.IPPROTO_TCP, _TCP_REPAIR, _REPAIR_ON)
            sock.bind((address.lab, port))
            sock.connect((address.peers[-1 - index // _PEER_PORTS], _FIRST_PEER_PORT + index % _PEER_PORTS))
            sock.setsockopt(socket.IPPROTO_TCP, _TCP_REPAIR, _REPAIR_OFF_SILENTLY)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # leaving repair mode has cleared it
            self._expected[known_family, TcpState.ESTABLISHED] += 1
        return self.verify()

    def release(self, number: int | None = None) -> Expected:
        """Make so many of the sockets of ``establish`` vanish, the youngest first, or all: no FIN, no TIME_WAIT."""
        for _ in range(len(self._repaired) if number is None else number):
            family, sock = self._repaired.pop()
            _vanish(sock)
            self._expected[family, TcpState.ESTABLISHED] -= 1
        return self.verify()

    @property
    def expected(self) -> dict[str, int]:
        """How many sockets are in each of the eleven states, the lab's listeners included."""
        return census.by_state(self._expected)

    @property
    def expected_by_family(self) -> dict[str, dict[str, int]]:
        """The same by ``ipv4`` and ``ipv6``."""
        return census.by_family(self._expected)

    def verify(self) -> Expected:
        """Ask the kernel and return what it holds; raise if that does not come to be the expected numbers.

        Only the lab's own addresses are looked at, so that programs may run beside it.
        """
        addresses = [address.lab for address in ADDRESSES.values()]
        _wait_until(
            lambda: not census.difference(self._expected, census.count(*addresses)),
            lambda: f"the kernel disagrees: {census.difference(self._expected, census.count(*addresses))}",
        )
        return Expected(self.expected, self.expected_by_family)

    def close(self) -> None:
        """End every socket but those in TIME_WAIT and FIN_WAIT2's mini-sockets, which end with the namespace.

        An orphan that is left to its timers would keep the namespace for minutes, and counts against the whole host's
        tcp_max_orphans; so the peer resets those, and those that programs here hold are aborted rather than closed.
        """
        for connection in self._unheld:
            self._peer.say(connection.segment(RST))
        for _, sock in self._repaired:
            _vanish(sock)
        for sock in [*self._held, *self._doors.values()]:
            with sock:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _ABORT)
        self._peer.close()
        for some in (self._unheld, self._repaired, self._held, self._doors):
            some.clear()
        self._expected.clear()

    # The recipes, each a way into one state.

    def _listen(self, family: socket.AddressFamily, number: int) -> None:
        self._held.extend(self._listener(family) for _ in range(number))

    def _syn_sent(self, family: socket.AddressFamily, number: int) -> None:
        for _ in range(number):
            self._call(family)

    def _syn_recv(self, family: socket.AddressFamily, number: int) -> None:
        for some in _batches(number, self._backlog):
            listener = self._own_listener(family)
            for few in _batches(some, _AT_ONCE):
                self._unheld.extend(self._half_open(listener, few))

    def _syn_recv_full(self, family: socket.AddressFamily, number: int) -> None:
        # A simultaneous open: the SYN meets a SYN instead of a SYN-ACK.
        for few in _batches(number, _AT_ONCE):
            connections = [self._call(family) for _ in range(few)]
            self._say(connections, SYN, _has(SYN | ACK), "a SYN-ACK in answer to the peer's SYN")

    def _established_unaccepted(self, family: socket.AddressFamily, number: int) -> None:
        for some in _batches(number, self._backlog):
            listener = self._own_listener(family)
            waiting = 0
            for few in _batches(some, _AT_ONCE):
                connections = self._half_open(listener, few)
                waiting += few
                not_yet_there = functools.partial(_unless_queued, listener, waiting, connections)
                self._repeat_until(not_yet_there, f"{waiting} connections in the accept queue")

    def _established(self, family: socket.AddressFamily, number: int) -> None:
        for connections in self._accepted(family, number):
            self._held.extend(connection.held() for connection in connections)

    def _close_wait(self, family: socket.AddressFamily, number: int) -> None:
        for connections in self._accepted(family, number):
            self._peer_closes(connections)
            self._held.extend(connection.held() for connection in connections)

    def _last_ack(self, family: socket.AddressFamily, number: int) -> None:
        for connections in self._accepted(family, number):
            self._peer_closes(connections)
            self._abandon(connections)

    def _fin_wait1(self, family: socket.AddressFamily, number: int) -> None:
        for connections in self._accepted(family, number):
            self._abandon(connections)

    def _closing(self, family: socket.AddressFamily, number: int) -> None:
        for connections in self._accepted(family, number):
            self._abandon(connections)
            self._peer_closes(connections)  # its FIN does not acknowledge ours

    def _fin_wait2(self, family: socket.AddressFamily, number: int) -> None:
        for connections in self._half_closed(family, number):
            self._held.extend(connection.held() for connection in connections)

    def _fin_wait2_orphan(self, family: socket.AddressFamily, number: int) -> None:
        for connections in self._half_closed(family, number):
            _close(connections)

    def _time_wait(self, family: socket.AddressFamily, number: int) -> None:
        for connections in self._half_closed(family, number):
            self._peer_closes(connections)
            _close(connections)

    # The steps that they are made of.

    def _half_open(self, listener: socket.socket, number: int) -> list[_Connection]:
        """The peer's SYN, answered."""
        lab = _endpoint(listener.family, listener.getsockname())
        connections = [_Connection(lab, self._new_peer(listener.family)) for _ in range(number)]
        self._say(connections, SYN, _has(SYN | ACK), "a SYN-ACK")
        return connections

    def _accepted(self, family: socket.AddressFamily, number: int) -> Iterator[list[_Connection]]:
        """Connections that a program here accepted, a batch at a time."""
        for few in _batches(number, _AT_ONCE):
            door = self._door(family)
            waiting = {connection.peer: connection for connection in self._half_open(door, few)}
            connections = list(waiting.values())
            not_yet_there = functools.partial(_accept, door, waiting)
            self._repeat_until(not_yet_there, "the last acknowledgement to complete each handshake")
            yield connections

    def _half_closed(self, family: socket.AddressFamily, number: int) -> Iterator[list[_Connection]]:
        """Connections that a program here has shut down and the peer has acknowledged: FIN_WAIT2, still held."""
        for connections in self._accepted(family, number):
            for connection in connections:
                connection.held().shutdown(socket.SHUT_WR)
                connection.acknowledgement = connection.acknowledgement + 1 & 0xFFFFFFFF
            not_yet_there = functools.partial(_not_in_fin_wait2, connections)
            self._repeat_until(not_yet_there, "FIN_WAIT2 after the acknowledgement of the FIN")
            yield connections

    def _peer_closes(self, connections: list[_Connection]) -> None:
        """The peer's FIN, acknowledged."""
        after_fin = _PEER_SEQUENCE + 2  # its SYN and its FIN

        def acknowledges_it(segment: Segment) -> bool:
            return bool(segment.flags & ACK) and segment.acknowledgement == after_fin

        self._say(connections, FIN | ACK, acknowledges_it, "an acknowledgement of the peer's FIN")

    def _abandon(self, connections: list[_Connection]) -> None:
        """A program here closes them before their end: orphans."""
        _close(connections)
        self._unheld.extend(connections)

    def _call(self, family: socket.AddressFamily) -> _Connection:
        """A connect() from here to a peer that says nothing yet."""
        sock = socket.socket(family, socket.SOCK_STREAM)
        self._held.append(sock)
        sock.setblocking(False)
        peer = self._new_peer(family)
        with contextlib.suppress(BlockingIOError):
            sock.connect((socket.inet_ntop(family, peer.address), peer.port))
        return _Connection(_endpoint(family, sock.getsockname()), peer, sock)

    def _say(
        self, connections: list[_Connection], flags: int, is_answer: Callable[[Segment], bool], awaited: str
    ) -> None:
        lines: dict[Endpoint, Segment | None] = {c.peer: c.segment(flags) for c in connections}
        answers = self._peer.converse(lines, is_answer, awaited)
        for connection in connections:
            if flags & (SYN | FIN):
                connection.sequence += 1
            if flags & SYN:
                connection.acknowledgement = answers[connection.peer].sequence + 1 & 0xFFFFFFFF

    def _repeat_until(self, remaining: Callable[[], Iterable[_Connection]], awaited: str) -> None:
        """Acknowledge, which the kernel answers with a state and no packet, until nobody is left to be acknowledged."""
        for again in _until_the_deadline():
            left = list(remaining())
            if not left:
                return
            if again:
                for connection in left:
                    self._peer.say(connection.segment(ACK))
        raise LabError(f"expected {awaited}: {len(list(remaining()))} connections never got there")

    def _family(self, family: int) -> socket.AddressFamily:
        known = socket.AddressFamily(family)
        if known not in ADDRESSES:
            raise LabError(f"TCP is not made of {known.name}")
        if known not in self._families:
            address_up(known)
            self._wait_for_the_wire(known)
            self._families.add(known)
        return known

    def _wait_for_the_wire(self, family: socket.AddressFamily) -> None:
        # The kernel makes the link and the routes ready some milliseconds later, and drops packets until then. A closed
        # port answers with a reset and keeps nothing.
        peer = self._new_peer(family)
        closed = Endpoint(socket.inet_pton(family, ADDRESSES[family].lab), _CLOSED_PORT)
        lines = {peer: Segment(peer, closed, SYN, _PEER_SEQUENCE)}
        self._peer.converse(lines, _has(RST | ACK), "a reset from a closed port", say_again_after=0.002)

    def _new_peer(self, family: socket.AddressFamily) -> Endpoint:
        """A peer's endpoint that no other connection has."""
        index = self._peers_met[family]
        self._peers_met[family] += 1
        address = ADDRESSES[family].peers[index // _PEER_PORTS]
        return Endpoint(socket.inet_pton(family, address), _FIRST_PEER_PORT + index % _PEER_PORTS)

    def _door(self, family: socket.AddressFamily) -> socket.socket:
        """The listener through which accepted connections come."""
        key = family, self._port
        if key not in self._doors:
            self._doors[key] = self._listener(family, self._port)
            self._doors[key].setblocking(False)
            self._expected[family, TcpState.LISTEN] += 1
        return self._doors[key]

    def _own_listener(self, family: socket.AddressFamily) -> socket.socket:
        """A listener whose queues are to be filled."""
        listener = self._listener(family)
        self._held.append(listener)
        self._expected[family, TcpState.LISTEN] += 1
        return listener

    def _listener(self, family: socket.AddressFamily, port: int = 0) -> socket.socket:
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((ADDRESSES[family].lab, port))
        listener.listen(self._backlog)
        return listener


_Recipe = Callable[[Lab, socket.AddressFamily, int], None]

_RECIPES: dict[str, tuple[TcpState, _Recipe]] = {
    "established": (TcpState.ESTABLISHED, Lab._established),
    "established_unaccepted": (TcpState.ESTABLISHED, Lab._established_unaccepted),
    "syn_sent": (TcpState.SYN_SENT, Lab._syn_sent),
    "syn_recv": (TcpState.SYN_RECV, Lab._syn_recv),
    "syn_recv_full": (TcpState.SYN_RECV, Lab._syn_recv_full),
    "fin_wait1": (TcpState.FIN_WAIT1, Lab._fin_wait1),
    "fin_wait2": (TcpState.FIN_WAIT2, Lab._fin_wait2),
    "fin_wait2_orphan": (TcpState.FIN_WAIT2, Lab._fin_wait2_orphan),
    "time_wait": (TcpState.TIME_WAIT, Lab._time_wait),
    "close_wait": (TcpState.CLOSE_WAIT, Lab._close_wait),
    "last_ack": (TcpState.LAST_ACK, Lab._last_ack),
    "listen": (TcpState.LISTEN, Lab._listen),
    "closing": (TcpState.CLOSING, Lab._closing),
}

KINDS = {kind: state.label for kind, (state, _) in _RECIPES.items()}
"""From kind to the label of the state that it counts in."""


def _refuse_a_namespace_in_use() -> None:
    with open("/proc/thread-self/net/route", encoding="ascii") as file:
        if len(file.readlines()) > 1:
            raise LabError("this network namespace has routes, so it is somebody's: a lab is made in a fresh one")


def _allow_many_descriptors() -> None:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _batches(number: int, most: int) -> Iterator[int]:
    for done in range(0, number, most):
        yield min(most, number - done)


def _until_the_deadline() -> Iterator[bool]:
    """One turn after another; true for a turn in which it is time to say again what may have been lost."""
    started = time.monotonic()
    said = -PATIENCE_SECONDS
    while (now := time.monotonic() - started) < PATIENCE_SECONDS:
        again = now - said > 0.3
        if again:
            said = now
        yield again
        if not again:
            time.sleep(0.001)  # leaves the processor to the kernel; nothing depends on its length


def _wait_until(holds: Callable[[], bool], failure: Callable[[], str]) -> None:
    for _ in _until_the_deadline():
        if holds():
            return
    raise LabError(failure())


def _has(flags: int) -> Callable[[Segment], bool]:
    return lambda segment: segment.flags == flags


def _close(connections: Iterable[_Connection]) -> None:
    for connection in connections:
        connection.close()


def _vanish(sock: socket.socket) -> None:
    with sock:
        sock.setsockopt(socket.IPPROTO_TCP, _TCP_REPAIR, _REPAIR_ON)


def _accept(door: socket.socket, waiting: dict[Endpoint, _Connection]) -> Iterable[_Connection]:
    """Accept whom the door lets in; return who still waits."""
    with contextlib.suppress(BlockingIOError):
        while waiting:
            sock, name = door.accept()
            waiting.pop(_endpoint(door.family, name)).sock = sock
    return waiting.values()


def _unless_queued(listener: socket.socket, number: int, connections: list[_Connection]) -> Iterable[_Connection]:
    info = listener.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _ACCEPT_QUEUE_LENGTH.size)
    return [] if _ACCEPT_QUEUE_LENGTH.unpack(info) == (number,) else connections


def _not_in_fin_wait2(connections: list[_Connection]) -> Iterable[_Connection]:
    return [connection for connection in connections if _state(connection.held()) != TcpState.FIN_WAIT2]


def _state(sock: socket.socket) -> int:
    return sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0]


def _endpoint(family: int, name: tuple[str, int]) -> Endpoint:
    return Endpoint(socket.inet_pton(family, name[0]), name[1])
