"""The traffic of a busy, healthy host: what it serves, the proxy before it, its clients, and strangers.

``python -m tests.soak.mix ROLE`` plays one role in the network namespace that it runs in, until SIGTERM; then it prints
as one line of JSON what it did. ``healthy`` runs all of them. Nothing here is trouble that clients would call so: a
service restarts, a deployment takes a second, a burst fills a short queue for a moment, a stranger scans the ports.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import itertools
import json
import random
import resource
import signal
import socket
import struct
import sys
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Iterator

from tests.lab.link import ADDRESSES, LAB_MAC, PEER_INTERFACE
from tests.lab.packets import ETHERTYPES, FIN, SYN, Endpoint, Segment, encode

HERE = "127.0.0.1"
PROXY, BACKEND, DEPLOYED, SHORT, DATABASE, DEFERRED, DOWNLOAD = range(8080, 8087)
SERVED = (BACKEND, DEPLOYED, SHORT, DATABASE, DEFERRED, DOWNLOAD)
"""What ``services`` listens on; ``proxy`` listens on the port before them."""

PORT_RANGE = "30000 33767"
"""Local ports of the clients: fewer than they use in the 60 s of TIME-WAIT, so connect() takes some again."""

PROXIED_RATE, DIRECT_RATE = 45.0, 36.0  # connections a second
POOLED, DEFERRING, UPSTREAM, DOWNLOADS = 50, 105, 10, 3  # connections at a time
BURST = 24  # connects at once, of which a queue of SHORT_BACKLOG takes nine

_SHORT_BACKLOG = 8
_SERVING_SECONDS = 0.02  # of one connection to SHORT, one after the other
_PATIENCE_SECONDS = 20.0
_REQUEST, _ANSWER, _CHUNK = b"GET /\r\n", b"200 " + 2000 * b"x" + b"\n", bytes(1 << 16)

_said: Counter[str] = Counter()
_chance = random.Random(20)

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


# -- what the host serves ----------------------------------------------------------------------------------------------


class Service:
    """A listener with its connections, which can be restarted as a process is: all of them end at once."""

    def __init__(self, port: int, answer: Handler, backlog: int = 512) -> None:
        self._port, self._answer, self._backlog = port, answer, backlog
        self._open: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Listen."""
        self._server = await asyncio.start_server(self.serve, HERE, self._port, backlog=self._backlog)

    async def restart(self, seconds: float, *, drop: bool) -> None:
        """Refuse connections for so long; *drop* ends those that are open too, as when a process ends."""
        assert self._server is not None
        self._server.close()
        for writer in tuple(self._open) if drop else ():
            writer.close()
        await asyncio.sleep(seconds)
        await self.start()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        _said[f"connections to {self._port}"] += 1
        try:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                await self._answer(reader, writer)
        finally:
            self._open.discard(writer)
            writer.close()


async def _answers(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """An answer to each request until the client closes."""
    while await reader.readline():
        writer.write(_ANSWER)
        await writer.drain()


async def _answers_once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readline()
    writer.write(_ANSWER)


async def _sends_much(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readline()
    for _ in range(32):
        writer.write(_CHUNK)
        await writer.drain()


async def _short() -> None:
    """A service with a short accept queue and one worker, which answers and closes."""
    with socket.socket() as server:
        server.setblocking(False)
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind((HERE, SHORT))
        server.listen(_SHORT_BACKLOG)
        loop = asyncio.get_running_loop()
        while True:
            connection, _ = await loop.sock_accept(server)
            _said[f"connections to {SHORT}"] += 1
            with connection:
                await asyncio.sleep(_SERVING_SECONDS)
                with contextlib.suppress(OSError):
                    connection.recv(len(_REQUEST))
                    connection.send(_ANSWER[:4])


async def services(work: Work) -> None:
    """Everything behind the proxy and beside it; some of it restarts now and then."""
    database, deployed = Service(DATABASE, _answers), Service(DEPLOYED, _answers)
    for service in (database, deployed, Service(BACKEND, _answers), Service(DOWNLOAD, _sends_much)):
        await service.start()
    listener = socket.create_server((HERE, DEFERRED), backlog=512)
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, 30)
    deferred = await asyncio.start_server(Service(DEFERRED, _answers_once).serve, sock=listener, backlog=512)
    work.go(_short())
    work.every(150, 9, "restarts of the database", lambda: database.restart(1.5, drop=True))
    work.every(110, 22, "deployments", lambda: deployed.restart(1.2, drop=False))
    work.ready()
    await deferred.serve_forever()


# -- the proxy ---------------------------------------------------------------------------------------------------------


async def proxy(work: Work) -> None:
    """Takes a request, asks the backend over a connection that it keeps, answers, and closes first."""
    idle: asyncio.Queue[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = asyncio.Queue()
    for _ in range(UPSTREAM):
        idle.put_nowait(await asyncio.open_connection(HERE, BACKEND))

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = await reader.readline()
        upstream = await idle.get()
        try:
            writer.write(await _ask(*upstream, request))
        finally:
            idle.put_nowait(upstream)

    await Service(PROXY, answer).start()
    work.ready()
    await asyncio.Event().wait()


async def _ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes = _REQUEST) -> bytes:
    writer.write(request)
    await writer.drain()
    return await reader.readline()


# -- the clients -------------------------------------------------------------------------------------------------------


async def _visit(port: int, use: Handler) -> None:
    """Connect, *use* the connection, close. What goes wrong is counted and no more, as by a client that tries again."""
    try:
        reader, writer = await asyncio.wait_for(asyncio.open_connection(HERE, port), _PATIENCE_SECONDS)
        try:
            await use(reader, writer)
        finally:
            writer.close()
    except (OSError, asyncio.IncompleteReadError, TimeoutError) as error:
        name = errno.errorcode.get(getattr(error, "errno", None) or 0, type(error).__name__)
        _said[f"{name} of {port}"] += 1


async def _request(port: int, *, first: bool = False, reset: bool = False) -> None:
    """One request on a connection of its own; the client closes *first*, or when the server has, or resets."""

    async def use(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        answer = await _ask(reader, writer)
        _said[f"answers of {port}"] += answer == _ANSWER
        if reset:
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("=ii", 1, 0))
        elif not first:
            await reader.read()

    await _visit(port, use)


async def _load(work: Work, port: int, rate: float, *, first: bool = False) -> None:
    """So many requests a second, at random moments; one in a hundred clients ends with a reset."""
    while True:
        await asyncio.sleep(_chance.expovariate(rate))
        work.go(_request(port, first=first, reset=_chance.random() < 0.01))


async def _burst(work: Work) -> None:
    """A load generator that triples the load of the proxy for three seconds."""
    for _ in range(int(6 * PROXIED_RATE)):
        work.go(_request(PROXY))
        await asyncio.sleep(0.5 / PROXIED_RATE)


async def _again_and_again(port: int, use: Handler) -> None:
    while True:
        await _visit(port, use)
        await asyncio.sleep(_chance.uniform(0.2, 1))


async def _pooled(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A pool's connection: asks now and then, has keepalive, and notices only then that the database has closed it."""
    made = writer.get_extra_info("socket")
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in ((socket.TCP_KEEPIDLE, 5), (socket.TCP_KEEPINTVL, 5), (socket.TCP_KEEPCNT, 3)):
        made.setsockopt(socket.IPPROTO_TCP, option, value)
    while await _ask(reader, writer):
        _said["queries"] += 1
        await asyncio.sleep(_chance.uniform(6, 18))


async def _deferring(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A client that is silent for a while after it has connected."""
    await asyncio.sleep(_chance.uniform(8, 25))
    await _ask(reader, writer)
    await reader.read()


async def _downloading(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A reader that is slower than its server, so its window is closed at times."""
    writer.write(_REQUEST)
    while await reader.read(1 << 15):  # noqa: ASYNC110 - this is the slowness, and not a wait for an event
        await asyncio.sleep(0.05)


async def _connects_at_once() -> None:
    """A burst on the short queue: nine fit, the others try again after a second."""

    async def use(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(_REQUEST)
        await reader.read()

    async with asyncio.TaskGroup() as group:
        for _ in range(BURST):
            group.create_task(_visit(SHORT, use))


async def _unanswered() -> None:
    """Health checks of hosts that are down: their SYNs are lost."""
    async with asyncio.TaskGroup() as group:
        for number in range(4):
            group.create_task(_give_up(f"192.0.2.{200 + number}"))


async def _give_up(address: str) -> None:
    with contextlib.suppress(TimeoutError, OSError):
        await asyncio.wait_for(asyncio.open_connection(address, PROXY), 3.5)


async def clients(work: Work) -> None:
    """All who connect."""
    work.go(_load(work, PROXY, PROXIED_RATE))
    work.go(_load(work, DEPLOYED, DIRECT_RATE, first=True))
    for port, use, number in (
        (DATABASE, _pooled, POOLED), (DEFERRED, _deferring, DEFERRING), (DOWNLOAD, _downloading, DOWNLOADS),
    ):  # fmt: skip
        for _ in range(number):
            work.go(_again_and_again(port, use))
    work.every(45, 14, "bursts of the load generator", lambda: _burst(work))
    work.every(130, 32, "bursts that overflow a queue", _connects_at_once)
    work.every(40, 5, "health checks of hosts that are down", _unanswered)
    work.ready()
    await asyncio.Event().wait()


# -- strangers ---------------------------------------------------------------------------------------------------------


class Strangers:
    """Segments from addresses where nobody answers."""

    def __init__(self) -> None:
        self._sources = itertools.cycle(ADDRESSES[socket.AF_INET].peers)
        self._ports = itertools.cycle(range(20_000, 60_000))
        self._wire = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM)

    def send(self, port: int, flags: int) -> None:
        """One segment to a port of the host."""
        source = Endpoint(socket.inet_aton(next(self._sources)), next(self._ports))
        here = Endpoint(socket.inet_aton(ADDRESSES[socket.AF_INET].lab), port)
        packet = encode(Segment(source, here, flags, 1_000_000))
        with contextlib.suppress(BlockingIOError):
            self._wire.sendto(packet, (PEER_INTERFACE, ETHERTYPES[socket.AF_INET], 0, 0, LAB_MAC))
        _said["segments of strangers"] += 1

    async def scan(self, ports: Iterator[int], flags: int) -> None:
        """A segment to each port, a hundred a second."""
        for port in ports:
            self.send(port, flags)
            await asyncio.sleep(0.01)


async def strangers(work: Work) -> None:
    """Scans with SYNs, with FINs and with no flag at all; a dozen stray SYNs to one port, more than its queue takes."""
    crowd = Strangers()
    public = socket.create_server((ADDRESSES[socket.AF_INET].lab, SHORT), backlog=_SHORT_BACKLOG)  # noqa: F841 - stays open
    kinds = itertools.cycle((SYN, FIN, 0))
    work.every(60, 3, "port scans", lambda: crowd.scan(iter(range(8000, 8300)), next(kinds)))
    work.every(140, 18, "dozens of stray SYNs", lambda: crowd.scan(iter(12 * (SHORT,)), SYN))
    work.ready()
    await asyncio.Event().wait()


# -- a role ------------------------------------------------------------------------------------------------------------


class Work:
    """The tasks of a role, which all end with it; one that fails ends it."""

    def __init__(self, group: asyncio.TaskGroup) -> None:
        self._group = group

    def go(self, work: Coroutine[object, object, None]) -> None:
        """Begin something."""
        self._group.create_task(work)

    def every(
        self, seconds: float, first: float, name: str, begin: Callable[[], Coroutine[object, object, None]]
    ) -> None:
        """Do something after *first* seconds, and then about every so many; count it by *name*."""

        async def again_and_again() -> None:
            await asyncio.sleep(first)
            while True:
                _said[name] += 1
                await begin()
                await asyncio.sleep(seconds * _chance.uniform(0.8, 1.2))

        self.go(again_and_again())

    @staticmethod
    def ready() -> None:
        """Say that the role is played from now on."""
        print("ready", flush=True)


ROLES = {role.__name__: role for role in (services, proxy, clients, strangers)}
"""In the order in which they begin."""


async def _play(role: Callable[[Work], Coroutine[object, object, None]]) -> None:
    async with asyncio.TaskGroup() as group:
        whole = group.create_task(role(Work(group)))
        ended = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
        group.create_task(_end(ended))
        await whole


async def _end(ended: asyncio.Event) -> None:
    await ended.wait()
    used = resource.getrusage(resource.RUSAGE_SELF)
    print(
        json.dumps({"cpu seconds": round(used.ru_utime + used.ru_stime, 1), **dict(sorted(_said.items()))}), flush=True
    )
    raise SystemExit


if __name__ == "__main__":
    asyncio.run(_play(ROLES[sys.argv[1]]))
