"""Populations of real kernel TCP sockets, up to millions, for the benchmarks; ``benchmarks`` measures beside them.

Every full socket is held by a descriptor of a process, as an application holds its connections: many processes of up to
19,000 descriptors each make them with ``TCP_REPAIR``, which connects without a peer. What needs packets (TIME_WAIT,
CLOSE_WAIT, half-open) gets them from the far end of a veth pair, where they are written and nobody answers.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import functools
import itertools
import os
import resource
import select
import signal
import socket
import struct
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

from exporter.errors import SourceError
from exporter.kernel import inetdiag, procnet
from exporter.kernel.reader import NetlinkReader, Procfs
from exporter.tcpstate import TcpState, of_number
from tests.lab.link import ADDRESSES, LAB_MAC, PEER_INTERFACE, address_up, wire_up
from tests.lab.namespace import LabError, LabUnavailable, enter, sysctl
from tests.lab.packets import ACK, FIN, RST, SYN, Endpoint, Segment, encode
from tests.lab.peer import Peer

LISTENING = (443, 80, 8080)
"""The ports with a listener, in every population."""

_LOCAL = ADDRESSES[socket.AF_INET].lab
_PEERS = ADDRESSES[socket.AF_INET].peers
_PEER_PORTS = range(1024, 65536)
_EPHEMERAL = range(32768, 61000)  # ip_local_port_range of a fresh namespace

_TEN = 10
_OTHER_STATES = 2  # of ten: what a host has beside the many in TIME_WAIT or CLOSE_WAIT

_DESCRIPTORS = 19_000  # a process, where the limit allows: most hosts' hard limit is at least 20,000
_DESCRIPTORS_BESIDE = 200  # what a process has open anyway
_MOST_PROCESSES = 1000
_FULL_BYTES, _MINI_BYTES = 5120, 512  # of memory: measured 4.8 KiB with the descriptor, and 0.3
_PATIENCE_SECONDS = 300.0
_FAILED, _UNAVAILABLE = 1, 77

_TCP_REPAIR, _TCP_REPAIR_WINDOW = 19, 29
_REPAIR_ON, _REPAIR_OFF_SILENTLY = 1, -1
_OPEN_WINDOW = struct.pack("=5I", 0, 65535, 65535, 65535, 0)  # tcp_repair_window: the FIN may be sent
_SOL_PACKET, _PACKET_VNET_HDR = 263, 15
# virtio_net_hdr: the TCP checksum (34 bytes into the frame, 16 into the segment) is still to be filled in. The kernel
# trusts a packet of its own, so nobody computes one.
_NO_CHECKSUM = struct.pack("=BBHHHH", 1, 0, 0, 0, 34, 16)
_ETHERNET = LAB_MAC + bytes(6) + b"\x08\x00"
_MESSAGE = struct.Struct("=IH")  # of nlmsghdr: length, type
_LOST = (errno.ENOBUFS, errno.EAGAIN)


class Mix(NamedTuple):
    """What ten sockets of a population are, and whether they were accepted or connected from here."""

    states: tuple[TcpState, ...]
    outgoing: bool = False

    def wanted(self, size: int) -> Counter[TcpState]:
        """How many sockets of each state a population of the size has, the listeners not among them."""
        rounds, rest = divmod(size, _TEN)
        return Counter({state: number * rounds for state, number in Counter(self.states).items()}) + Counter(
            self.states[:rest]
        )

    def connection(self, index: int) -> Connection:
        """The two ends of the population's *index*-th socket."""
        if self.outgoing:  # all ephemeral ports towards one destination, then towards the next
            peer, port = divmod(index, len(_EPHEMERAL))
            return Connection(_EPHEMERAL[port], _PEERS[peer], LISTENING[0])
        peer, port = divmod(index, len(_PEER_PORTS))
        return Connection(LISTENING[index % len(LISTENING)], _PEERS[peer], _PEER_PORTS[port])

    @property
    def most(self) -> int:
        """How many connections can be told apart."""
        return len(_PEERS) * len(_EPHEMERAL if self.outgoing else _PEER_PORTS)


class Connection(NamedTuple):
    """The two ends of a socket; the local address is always the same."""

    port: int
    peer: str
    peer_port: int


def _mostly(state: TcpState, number: int) -> tuple[TcpState, ...]:
    return (state,) * number + (TcpState.ESTABLISHED,) * (_TEN - number)


MIXES = {
    "established": Mix(_mostly(TcpState.ESTABLISHED, 10)),
    "client": Mix(_mostly(TcpState.ESTABLISHED, 10), outgoing=True),
    "time_wait": Mix(_mostly(TcpState.TIME_WAIT, 8)),
    "close_wait": Mix(_mostly(TcpState.CLOSE_WAIT, 8)),
    "syn_flood": Mix(_mostly(TcpState.SYN_RECV, 1)),
}

_MINI = frozenset({TcpState.TIME_WAIT, TcpState.SYN_RECV})  # nobody holds a descriptor of these

# What the peer says, as flags, sequence and acknowledgement; a repaired socket starts with both numbers at 0. Each may
# be said again without harm, and in TIME_WAIT it begins the 60 s anew.
_PEER_SAYS = {
    TcpState.SYN_RECV: (SYN, 0, 0),
    TcpState.CLOSE_WAIT: (FIN | ACK, 0, 0),
    TcpState.TIME_WAIT: (FIN | ACK, 0, 1),
}
_PEER_ENDS = dict.fromkeys(_MINI, (RST, 1, 0))
_PEER_ENDS_ALL = [dict.fromkeys(_PEER_SAYS, (RST, sequence, 0)) for sequence in (0, 1)]  # also what is half made


class Population:
    """The sockets of one mix in this network namespace. See ``population``."""

    def __init__(self, mix: str) -> None:
        self.mix = mix
        self.size = 0
        self.made: Mapping[str, int] = {}
        """By label of the state, as the kernel lists them, the listeners included."""
        self.buckets = abs(int(sysctl("net.ipv4.tcp_ehash_entries")))
        """Of the hash table that a dump walks; it is the host's."""
        self._mix = MIXES[mix]
        self._makers = _Processes()

    def grow(self, to: int) -> None:
        """Make what is missing to the size *to*, and check the whole against the kernel.

        Raises ``LabError`` when it cannot be made, or does not come to be what it should.
        """
        if to < self.size:
            raise LabError(f"{self.mix}: {self.size} sockets do not grow to {to}")
        added = range(self.size, to)
        _check_resources(self._mix, added)
        if self.size:
            self._say(_PEER_SAYS)  # what is in TIME_WAIT must outlast the making of the rest
        else:
            self._makers.run([_listen], stay=True)
        self.size = to
        self._makers.run([functools.partial(_make, self._mix, some) for some in _shares(self._mix, added)], stay=True)
        self.refresh()

    def refresh(self) -> None:
        """Begin the 60 s of every TIME_WAIT anew, and check the whole against the kernel.

        Between two samples, and again before the minute is over; at a million it takes seconds. Other mixes are only
        counted.
        """
        wanted = self._mix.wanted(self.size) + Counter({TcpState.LISTEN: len(LISTENING)})
        if wanted[TcpState.TIME_WAIT]:
            self._say(_PEER_SAYS)
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while (counted := census()) != wanted:
            # A packet that was lost leaves a state behind or a half-open connection unmade. All else is not mended.
            lasting, left = (number.total() - number[TcpState.SYN_RECV] for number in (wanted, counted))
            if left != lasting or time.monotonic() > deadline:
                hint = "; TIME_WAIT ends after 60 s" if left < lasting and wanted[TcpState.TIME_WAIT] else ""
                raise LabError(f"{self.mix}: expected {_labelled(wanted)}, the kernel has {_labelled(counted)}{hint}")
            time.sleep(0.05)
            self._say(_PEER_SAYS)
        self.made = _labelled(counted)

    def end(self) -> None:
        """End every socket, without a FIN and without a TIME_WAIT, and wait until the kernel lists none of them."""
        self._say(_PEER_ENDS)  # before the listeners go: half-open connections without one stay until their timer
        self._makers.end()
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while left := census():
            if time.monotonic() > deadline:
                raise LabError(f"{self.mix}: these do not end: {_labelled(left)}")
            time.sleep(0.05)
            for lines in _PEER_ENDS_ALL:
                self._say(lines)

    def _say(self, lines: Mapping[TcpState, tuple[int, int, int]]) -> None:
        if any(state in lines for state in self._mix.states):
            shares = _split(range(self.size), os.cpu_count() or 1)
            self._makers.run([functools.partial(_say, self._mix, some, lines) for some in shares], stay=False)


@contextlib.contextmanager
def population(mix: str, size: int) -> Iterator[Population]:
    """Fill the current network namespace, that of ``enter_namespace``, with *size* sockets and three listeners.

    They are there, exactly, when the block begins, and gone when it has ended: populations can follow each other. The
    makers are forked: call it before threads are started. Raises ``LabError`` when it cannot be made.
    """
    filled = Population(mix)
    try:
        filled.grow(size)
        yield filled
    finally:
        filled.end()


def enter_namespace() -> None:
    """Move this process, of one thread, into a fresh network namespace that populations can be made in.

    Its hash table is the host's, as everywhere unless tcp_child_ehash_entries is set. Raises ``LabUnavailable``.
    """
    enter()
    wire_up()
    address_up(socket.AF_INET)
    sysctl("net.core.somaxconn", 1 << 24)  # a listener with half its backlog half-open would drop the oldest
    sysctl("net.ipv4.tcp_synack_retries", 255)  # a flood that stays
    sysctl("net.ipv4.tcp_max_tw_buckets", 1 << 24)
    _wait_for_the_wire()


def census() -> Counter[TcpState]:
    """How many sockets of the population the kernel has in each state: those of the wire, nobody else's."""
    counted = NetlinkReader().collect(inetdiag.ALL_STATES, _Census).counted
    return Counter({of_number(state): number for state, number in counted.items()})


def beside(mix: str, size: int) -> int:
    """How many sockets this network namespace has beside a population and listeners: what others left behind.

    Negative where some of the population are gone. Half-open ones are in none of the kernel's sums, nor in this.
    """
    held = sum(number for state, number in MIXES[mix].wanted(size).items() if state is not TcpState.SYN_RECV)
    listeners = NetlinkReader().collect(1 << TcpState.LISTEN, inetdiag.TallyDump).sockets.values()
    procfs = Procfs()
    full = procnet.parse_sockstat(procfs.text("net/sockstat"), "net/sockstat")
    full6 = procnet.parse_sockstat6(procfs.text("net/sockstat6"), "net/sockstat6")
    return full.inuse + full.tw + full6 - sum(listeners) - held


class _Census:
    """Collects the states of the sockets with the wire's address, message by message: not as what is measured does."""

    def __init__(self) -> None:
        self.counted: Counter[int] = Counter()
        self._address = socket.inet_aton(_LOCAL)

    def add(self, reply: bytes) -> bool:
        """Take one reply; True when the dump is complete."""
        start, counted, address = 0, self.counted, self._address
        while start < len(reply):
            length, kind = _MESSAGE.unpack_from(reply, start)
            if kind == inetdiag.NLMSG_DONE:
                return True
            if kind == inetdiag.NLMSG_ERROR:
                raise LabError("the kernel dumps no TCP sockets: no tcp_diag, or not for this user")
            if reply[start + 24 : start + 28] == address:  # idiag_src
                counted[reply[start + 17]] += 1  # idiag_state
            start += length
        return False


class _Processes:
    """Forked processes that do a job, and those of them that stay to hold what they made until they are ended."""

    def __init__(self) -> None:
        self._staying: list[int] = []
        self._alive, self._we_live = os.pipe()  # readable, as ended, for who stays when this process is gone

    def run(self, jobs: Sequence[Callable[[], None]], *, stay: bool) -> None:
        """Do all jobs at once; return when all are done, raise ``LabError`` when one failed."""
        reports, report = os.pipe()
        passing: list[int] = []
        with os.fdopen(reports, "rb", buffering=0) as file:
            for job in jobs:
                if (pid := os.fork()) == 0:
                    self._be(job, report, stay=stay)
                (self._staying if stay else passing).append(pid)
            os.close(report)
            said = _read_until_all_have_closed(file.fileno())
        for pid in passing:
            os.waitpid(pid, 0)
        failures = [line for line in said.splitlines() if line != "done"]
        if failures:
            raise LabError(failures[0])
        if (missing := len(jobs) - len(said.splitlines())) > 0:
            raise LabError(f"{missing} of {len(jobs)} processes were killed: too little memory?")

    def end(self) -> None:
        """End those that stay; their sockets are gone when it returns."""
        os.close(self._we_live)
        os.close(self._alive)
        for pid in self._staying:
            os.kill(pid, signal.SIGKILL)
        for pid in self._staying:
            os.waitpid(pid, 0)

    def _be(self, job: Callable[[], None], report: int, *, stay: bool) -> None:
        try:
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the benchmark's, which then ends us
            if stay:
                os.close(self._we_live)
            job()
            os.write(report, b"done\n")
            os.close(report)
            if stay:
                os.read(self._alive, 1)
        except BaseException as error:  # noqa: BLE001 - a forked process must end here, whatever happens
            os.write(report, (str(error) or type(error).__name__).replace("\n", " ").encode() + b"\n")
        finally:
            os._exit(0)


def _listen() -> None:
    for port in LISTENING:
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((_LOCAL, port))
        listener.listen(1 << 24)
        listener.detach()


def _make(mix: Mix, indices: range) -> None:
    """Bring a share of the population into its states and keep the descriptors open."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    with _wire() as wire:
        for index in indices:
            state, connection = mix.states[index % _TEN], mix.connection(index)
            if state is TcpState.SYN_RECV:
                _send(wire, connection, _PEER_SAYS[state])
                continue
            sock = _established(connection)
            if state is TcpState.CLOSE_WAIT:
                _be_left(sock, wire, connection)
            if state is TcpState.TIME_WAIT:
                _leave(sock, wire, connection)
            else:
                sock.detach()  # the descriptor stays, and this process may forget it


def _established(connection: Connection) -> socket.socket:
    """A socket that stays in repair mode, so that closing it, by a kill too, says nothing and leaves nothing."""
    sock = socket.socket()
    sock.setsockopt(socket.IPPROTO_TCP, _TCP_REPAIR, _REPAIR_ON)
    sock.bind((_LOCAL, connection.port))
    sock.connect((connection.peer, connection.peer_port))
    return sock


def _be_left(sock: socket.socket, wire: socket.socket, connection: Connection) -> None:
    """The peer closes, and the application reads the end but does not close: CLOSE_WAIT."""
    sock.setsockopt(socket.IPPROTO_TCP, _TCP_REPAIR, _REPAIR_OFF_SILENTLY)
    while True:
        _send(wire, connection, _PEER_SAYS[TcpState.CLOSE_WAIT])
        try:
            sock.recv(1, socket.MSG_DONTWAIT)
            break
        except BlockingIOError:
            time.sleep(0.001)  # it is lost, or not there yet
    sock.setsockopt(socket.IPPROTO_TCP, _TCP_REPAIR, _REPAIR_ON)


def _leave(sock: socket.socket, wire: socket.socket, connection: Connection) -> None:
    """The application closes, and the peer acknowledges it and closes too: TIME_WAIT."""
    sock.setsockopt(socket.IPPROTO_TCP, _TCP_REPAIR_WINDOW, _OPEN_WINDOW)
    sock.setsockopt(socket.IPPROTO_TCP, _TCP_REPAIR, _REPAIR_OFF_SILENTLY)
    sock.close()
    _send(wire, connection, _PEER_SAYS[TcpState.TIME_WAIT])


def _say(mix: Mix, indices: range, lines: Mapping[TcpState, tuple[int, int, int]]) -> None:
    """Let the peer of each connection say its line, if its state has one."""
    with _wire() as wire:
        for index in indices:
            line = lines.get(mix.states[index % _TEN])
            if line is not None:
                _send(wire, mix.connection(index), line)


def _wire() -> socket.socket:
    """The far end of the wire, for writing."""
    wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)  # protocol 0: it receives nothing
    wire.setsockopt(_SOL_PACKET, _PACKET_VNET_HDR, 1)
    wire.bind((PEER_INTERFACE, 0))
    return wire


def _send(wire: socket.socket, connection: Connection, line: tuple[int, int, int]) -> None:
    before, after = _around_the_peers_port(connection.port, connection.peer, line)
    try:
        wire.send(before + connection.peer_port.to_bytes(2, "big") + after)
    except OSError as error:
        if error.errno not in _LOST:  # what is lost is said again when the kernel's count is short
            raise


@functools.cache
def _around_the_peers_port(port: int, peer: str, line: tuple[int, int, int]) -> tuple[bytes, bytes]:
    """The bytes of a packet before and after the peer's port."""
    local = Endpoint(socket.inet_aton(_LOCAL), port)
    packet = encode(Segment(Endpoint(socket.inet_aton(peer), 0), local, *line))
    return _NO_CHECKSUM + _ETHERNET + packet[:20], packet[22:]


def _wait_for_the_wire() -> None:
    # The kernel drops packets until the link is ready, some milliseconds later. A closed port answers with a reset.
    peer = Peer()
    asking = Endpoint(socket.inet_aton(_PEERS[-1]), 1)
    closed = Endpoint(socket.inet_aton(_LOCAL), 9)
    line = Segment(asking, closed, SYN, 0)
    peer.converse({asking: line}, lambda segment: bool(segment.flags & RST), "a reset", say_again_after=0.002)
    peer.close()


def _descriptors() -> int:
    """How many a maker may hold."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    return min(_DESCRIPTORS, most - _DESCRIPTORS_BESIDE) if most >= 0 else _DESCRIPTORS


def _shares(mix: Mix, indices: range) -> list[range]:
    """The indices in as many parts as the descriptors need, and at least one for each processor."""
    held = sum(state not in _MINI for state in mix.states)
    parts = -(-len(indices) * held // _TEN // _descriptors()) if _descriptors() > 0 else _MOST_PROCESSES + 1
    if parts > _MOST_PROCESSES:
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        raise LabError(
            f"too few descriptors: {len(indices)} sockets with a hard limit (ulimit -Hn) of {most} a process"
        )
    return _split(indices, max(parts + 1, os.cpu_count() or 1))


def _split(indices: range, parts: int) -> list[range]:
    edges = [len(indices) * part // parts for part in range(parts + 1)]
    return [indices[first:last] for first, last in itertools.pairwise(edges) if first < last]


def _check_resources(mix: Mix, indices: range) -> None:
    """Refuse what this machine cannot hold, before it is half there."""
    if indices.stop > mix.most:
        raise LabError(f"{indices.stop} sockets are too many: there are addresses for {mix.most}")
    wanted = mix.wanted(len(indices))
    mini = sum(wanted[state] for state in _MINI)
    full = len(indices) - mini
    needed, available = full * _FULL_BYTES + mini * _MINI_BYTES, _available_bytes()
    if needed > available:
        raise LabError(f"too little memory: {needed >> 20} MiB are needed, {available >> 20} MiB available")
    with open("/proc/sys/fs/file-nr", encoding="ascii") as file:
        used, _, most = map(int, file.read().split())
    if used + full > most:
        raise LabError(f"too few descriptors: {full} are needed beside {used}, fs.file-max is {most}")


def _available_bytes() -> int:
    with open("/proc/meminfo", encoding="ascii") as file:
        for line in file:
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) << 10
    raise LabError("/proc/meminfo says no MemAvailable")


def _read_until_all_have_closed(reports: int) -> str:
    ears = select.poll()
    ears.register(reports, select.POLLIN)
    deadline = time.monotonic() + _PATIENCE_SECONDS
    said = b""
    while ears.poll(max(0.0, deadline - time.monotonic()) * 1000):
        part = os.read(reports, 65536)
        if not part:
            return said.decode(errors="replace")
        said += part
    raise LabError(f"the sockets were not there after {_PATIENCE_SECONDS:g} s")


def _labelled(counted: Mapping[TcpState, int]) -> dict[str, int]:
    return {state.label: counted[state] for state in sorted(counted) if counted[state]}


def main(arguments: list[str]) -> int:
    """Run the command line; return the exit status: the command's, 1 for a failure, 77 where it is not permitted."""
    own, command = arguments, []
    if "--" in arguments:
        end = arguments.index("--")
        own, command = arguments[:end], arguments[end + 1 :]
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.population",
        usage="%(prog)s --mix MIX --size N -- COMMAND [ARGUMENT...]",
        description="Run a command beside a population of real TCP sockets, in a network namespace of their own.",
        epilog="Sockets in TIME_WAIT are gone after 60 s. It exits as the command does, with 1 when it failed itself,"
        " and with 77 where such a namespace is not permitted.",
        allow_abbrev=False,
    )
    parser.add_argument("--mix", choices=sorted(MIXES), required=True, help="what most of the sockets are")
    parser.add_argument("--size", type=int, required=True, metavar="N", help="how many, beside three listeners")
    options = parser.parse_args(own)
    if not command:
        parser.error("expected -- and a command to run beside the sockets")
    if options.size < 0:
        parser.error(f"--size: expected at least 0, found {options.size}")
    try:
        return _run_beside(options.mix, options.size, command)
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except (LabError, SourceError, OSError) as error:
        print(f"population: {error}", file=sys.stderr)
        return _UNAVAILABLE if isinstance(error, LabUnavailable) else _FAILED


def _run_beside(mix: str, size: int, command: list[str]) -> int:
    enter_namespace()
    started = time.monotonic()
    with population(mix, size) as filled:
        made = ", ".join(f"{number} {label}" for label, number in filled.made.items())
        taken = time.monotonic() - started
        print(f"population: {made}; {filled.buckets} buckets; {taken:.1f} s", file=sys.stderr, flush=True)
        try:
            with subprocess.Popen(command) as program:
                signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the command's; its end is ours
                status = program.wait()
        except OSError as error:
            raise LabError(f"cannot run {command[0]}: {error}") from error
        started = time.monotonic()
    print(f"population: gone; {time.monotonic() - started:.1f} s", file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
