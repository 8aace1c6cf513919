"""A host in trouble, made for real: a namespace with listeners, clients, spoofed peers, and the product inside it.

The situations describe what happens on a host; this module does it with the lab's sockets and asks the installed
programs what they conclude. Everything here waits for what the kernel shows, never for a time.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import json
import os
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from tests.lab import LabProcess
from tests.lab.link import ADDRESSES, LAB_MAC, PEER_INTERFACE
from tests.lab.packets import ETHERTYPES, SYN, Endpoint, Segment, encode

HERE = ADDRESSES[socket.AF_INET].lab
"""The address of the host; its peers are on the wire, and none of them answers."""

PATIENCE = 30.0  # seconds for what takes a fraction of one: only a hang reaches it

Socket = socket.socket  # World has a method of that name

_BIN = Path(sys.executable).parent
_PEERS = ADDRESSES[socket.AF_INET].peers
_FIRST_PORT = 1024
_STATES = {
    "established": "01",
    "syn_sent": "02",
    "syn_recv": "03",
    "fin_wait1": "04",
    "time_wait": "06",
    "close_wait": "08",
}


def release() -> tuple[int, int]:
    """The kernel's release."""
    major, minor = os.uname().release.split(".")[:2]
    return int(major), int(minor)


class Advice(NamedTuple):
    """What ``tcp-exporter advise --json`` concluded."""

    document: Mapping[str, object]
    exit_code: int

    @property
    def findings(self) -> dict[str, str]:
        """The severity of each finding by its name, the worst first."""
        return {name: found["severity"] for name, found in self._found().items()}

    def text(self, name: str) -> str:
        """Every sentence of a finding; "" where it is not there."""
        found = self._found().get(name)
        if found is None:
            return ""
        parts = [
            found["what"],
            *found["evidence"],
            found["why"],
            found["remedy"],
            found["command"] or "",
            found["risk"],
        ]
        return "\n".join(parts)

    def evidence(self, name: str) -> list[str]:
        """The sentences with the numbers of a finding."""
        return list(self._found()[name]["evidence"])

    def what(self, name: str) -> str:
        """The headline of a finding."""
        return str(self._found()[name]["what"])

    def command(self, name: str) -> str | None:
        """The command of a finding."""
        command = self._found()[name]["command"]
        return None if command is None else str(command)

    def _found(self) -> dict[str, dict]:  # type: ignore[type-arg]  # JSON
        return {it["name"]: it for it in self.document["findings"]}  # type: ignore[attr-defined]


class World:
    """One host in a lab of its own. Its sockets are used in this process and end with the ``with`` block."""

    def __init__(self, lab: LabProcess) -> None:
        self.lab = lab
        self._asking = threading.Lock()  # the lab answers one question at a time
        self._open = contextlib.ExitStack()
        self._sources = itertools.count()
        lab.make({}, socket.AF_INET)  # gives the host its address
        self._wire = self._open.enter_context(self.socket(socket.AF_PACKET, socket.SOCK_DGRAM))

    def __enter__(self) -> World:
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    # -- the host ------------------------------------------------------------------------------------------------------

    def sysctl(self, name: str, value: str | int) -> None:
        """Set a sysctl of the namespace, by its full name."""
        with self._asking:
            self.lab.sysctl(name, value)

    def socket(self, family: int = socket.AF_INET, kind: int = socket.SOCK_STREAM, protocol: int = 0) -> Socket:
        """A socket of the namespace, for any thread of this process."""
        with self._asking:
            return self.lab.socket(family, kind, protocol)

    def run(self, *command: str) -> str:
        """Run a program in the namespace; return its output."""
        done = self.lab.run(command)
        assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"
        return done.stdout

    def counters(self) -> dict[str, int]:
        """The counters of /proc/net/snmp and netstat, as "TcpExt.ListenDrops"."""
        found = {}
        for file in ("snmp", "netstat"):
            lines = Path(f"/proc/{self.lab.pid}/net/{file}").read_text(encoding="ascii").splitlines()
            for names, values in zip(lines[::2], lines[1::2], strict=True):
                group, *keys = names.split()
                numbers = map(int, values.split()[1:])
                found.update({f"{group[:-1]}.{key}": number for key, number in zip(keys, numbers, strict=True)})
        return found

    def count(self, state: str, port: int = 0) -> int:
        """How many IPv4 sockets the kernel lists in a state, of a local port or of all."""
        rows = Path(f"/proc/{self.lab.pid}/net/tcp").read_text(encoding="ascii").splitlines()[1:]
        return sum(
            fields[3] == _STATES[state] and (not port or int(fields[1].rpartition(":")[2], 16) == port)
            for fields in map(str.split, rows)
        )

    # -- servers and clients -------------------------------------------------------------------------------------------

    def listen(
        self,
        port: int,
        backlog: int,
        *,
        address: str = HERE,
        device: str = "",
        options: Sequence[tuple[int, int, int]] = (),
    ) -> Socket:
        """A listener that nobody accepts from, with these socket options."""
        server = self.keep(self.socket())
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if device:
            server.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device.encode())
        for option in options:
            server.setsockopt(*option)
        server.bind((address, port))
        server.listen(backlog)
        return server

    def serve(
        self, port: int, backlog: int, *, address: str = HERE, options: Sequence[tuple[int, int, int]] = ()
    ) -> Socket:
        """A listener whose application accepts at once and closes."""
        server = self.listen(port, backlog, address=address, options=options)

        def accept() -> None:
            with contextlib.suppress(OSError):  # the end of the listener
                while True:
                    server.accept()[0].close()

        self._in_background(accept, lambda: server.shutdown(socket.SHUT_RDWR))
        return server

    @contextlib.contextmanager
    def accepting(self, server: Socket, rate: float) -> Iterator[None]:
        """An application that accepts about *rate* connections a second from *server*, and closes them."""
        stop = threading.Event()

        def accept() -> None:
            server.settimeout(0.1)
            while not stop.wait(1 / rate):
                with contextlib.suppress(TimeoutError):
                    server.accept()[0].close()

        worker = threading.Thread(target=accept, daemon=True)
        worker.start()
        try:
            yield
        finally:
            stop.set()
            worker.join()

    def start(self, port: int, number: int, *, address: str = HERE) -> list[Socket]:
        """Clients that begin to connect; nobody waits for them."""
        clients = [self.keep(self.socket()) for _ in range(number)]
        for client in clients:
            client.setblocking(False)
            client.connect_ex((address, port))
        return clients

    def connect(self, port: int, number: int, *, address: str = HERE) -> list[Socket]:
        """Clients whose connect() has succeeded."""
        clients = [self.keep(self.socket()) for _ in range(number)]
        for client in clients:
            client.settimeout(PATIENCE)
            client.connect((address, port))
        return clients

    def accept(self, server: Socket, number: int) -> list[Socket]:
        """The server's ends of so many connections."""
        return [self.keep(server.accept()[0]) for _ in range(number)]

    def attempt(self, port: int, seconds: float, *, address: str = HERE) -> str:
        """What one client gets within so many seconds: "connected", or the name of the error."""
        with self.socket() as client:
            client.settimeout(seconds)
            try:
                client.connect((address, port))
            except OSError as error:
                return "ETIMEDOUT" if error.errno is None else errno.errorcode[error.errno]
        return "connected"

    @contextlib.contextmanager
    def clients(self, port: int, rate: float, *, threads: int = 2, patience: float = PATIENCE) -> Iterator[None]:
        """Clients that connect and close, about *rate* a second, while the block runs; each gives up in the end."""
        stop = threading.Event()

        def connect_again_and_again() -> None:
            while not stop.wait(threads / rate):
                self.attempt(port, patience)

        workers = [threading.Thread(target=connect_again_and_again, daemon=True) for _ in range(threads)]
        for worker in workers:
            worker.start()
        try:
            yield
        finally:
            stop.set()
            for worker in workers:
                worker.join()

    @contextlib.contextmanager
    def background(self, work: Callable[[], None], *, every: float) -> Iterator[None]:
        """Do *work* again and again, at most every so many seconds, while the block runs."""
        stop = threading.Event()

        def repeat() -> None:
            while not stop.wait(every):
                work()

        worker = threading.Thread(target=repeat, daemon=True)
        worker.start()
        try:
            yield
        finally:
            stop.set()
            worker.join()

    # -- spoofed peers -------------------------------------------------------------------------------------------------

    def syns(self, port: int, number: int, *, address: str = HERE) -> None:
        """SYNs from as many sources, which never answer."""
        for _ in range(number):
            self._send_syn(port, address)

    def flood(
        self, port: int, rate: float, *, address: str = HERE, number: int | None = None
    ) -> contextlib.AbstractContextManager[None]:
        """SYNs from sources that never answer, about *rate* a second, at most *number*, while the block runs."""
        ports = itertools.repeat(port) if number is None else itertools.repeat(port, number)
        return self._sending(ports, rate, address)

    def scan(self, ports: Iterable[int], rate: float) -> contextlib.AbstractContextManager[None]:
        """One SYN to each of *ports*, about *rate* a second, all sent when the block ends."""
        return self._sending(ports, rate, HERE)

    @contextlib.contextmanager
    def _sending(self, ports: Iterable[int], rate: float, address: str) -> Iterator[None]:
        stop = threading.Event()

        def send() -> None:
            begin = time.monotonic()
            for number, port in enumerate(ports, 1):
                self._send_syn(port, address)
                if stop.wait(max(0.0, begin + number / rate - time.monotonic())):
                    return

        worker = threading.Thread(target=send, daemon=True)
        worker.start()
        try:
            yield
        finally:
            stop.set()
            worker.join()

    def syn(self, port: int, *, address: str = HERE) -> bytes:
        """The IPv4 packet of a SYN, each time from another source."""
        number = next(self._sources)
        source = socket.inet_aton(_PEERS[number % len(_PEERS)])
        from_port = _FIRST_PORT + number // len(_PEERS) % (65536 - _FIRST_PORT)
        return encode(Segment(Endpoint(source, from_port), Endpoint(socket.inet_aton(address), port), SYN, 1_000_000))

    def _send_syn(self, port: int, address: str) -> None:
        packet = self.syn(port, address=address)
        with contextlib.suppress(BlockingIOError):  # a full queue loses packets, as a wire does
            self._wire.sendto(packet, (PEER_INTERFACE, ETHERTYPES[socket.AF_INET], 0, 0, LAB_MAC))

    # -- the product ---------------------------------------------------------------------------------------------------

    def advise(self, interval: str = "2s") -> Advice:
        """What the installed ``tcp-exporter advise`` concludes from two looks, *interval* apart."""
        done = self.lab.run(
            [str(_BIN / "tcp-exporter"), "advise", "--json", "--interval", interval], env=dict(os.environ)
        )
        assert done.returncode in {0, 1, 2}, done.stderr
        assert done.stdout, done.stderr
        return Advice(json.loads(done.stdout), done.returncode)

    def show(self) -> dict:  # type: ignore[type-arg]  # JSON
        """The document of ``tcp-exporter show --json``."""
        return dict(json.loads(self.run(str(_BIN / "tcp-exporter"), "show", "--json")))

    def plugin(self, *arguments: str) -> tuple[int, str]:
        """The exit code and the output of ``check_tcp_states``."""
        done = self.lab.run([str(_BIN / "check_tcp_states"), *arguments])
        return done.returncode, done.stdout

    # -- what ends with the block --------------------------------------------------------------------------------------

    def keep(self, sock: Socket) -> Socket:
        """Let a socket end with the block."""
        self._open.callback(_abort, sock)
        return sock

    def _in_background(self, work: Callable[[], None], end: Callable[[], None]) -> None:
        worker = threading.Thread(target=work, daemon=True)
        worker.start()

        def finish() -> None:
            with contextlib.suppress(OSError):
                end()
            worker.join()

        self._open.callback(finish)


def wait_until(condition: Callable[[], bool], what: str, *, patience: float = PATIENCE) -> None:
    """Return as soon as *condition* holds; fail with *what* was waited for."""
    end = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < end, f"waited {patience:g} s in vain for {what}"
        time.sleep(0.02)


def _abort(sock: Socket) -> None:
    """Close without leaving an orphan that would keep the namespace."""
    with sock, contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("=ii", 1, 0))
