"""HTTP/1.1 on asyncio streams, with h11 as the parser: connections, deadlines and caps, for any handler.

Every phase of a connection has one absolute deadline, so a client that trickles is cut as surely as one that is silent.
A rim module: it has the sockets. It does not log; it hands errors to ``on_error``.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import random
import socket
import struct
import time
from asyncio import sslproto
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from email.utils import formatdate
from http import HTTPStatus
from itertools import count
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import unquote

import h11

from exporter import system
from exporter.errors import UsageError
from exporter.web import unixsocket
from exporter.web.http import Handler, Middleware, Request, Response, place_of, plain_text

if TYPE_CHECKING:
    from exporter.web.webconfig import ServerTls

_READ = 4096  # small beside head_bytes: a head may exceed the limit by at most one read
_SLICE = 65536  # a body goes out in pieces, so a client that does not read costs one piece and not a body
_BACKLOG = 1024  # bounded by net.core.somaxconn; a flood fills a short one, and then a scrape waits for its second SYN
_LINGER = 2.0  # seconds that a client has to read its last answer before the connection goes
_ACCEPTS = 2  # in a row: the first of a crowd are read before so many more arrive that they seem silent
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER: close() sends a reset and leaves nothing, neither data nor TIME-WAIT
_STARVED = 0.25  # seconds until accept(2) is retried after the system refused a descriptor
_CLOSING = 0.01  # the same after an eviction, which frees a descriptor
_HANDSHAKE_GRACE = 2.0  # seconds that a TLS client is spared after its first byte: a far one is silent for round trips
_STARVED_SILENT = 60.0  # seconds without a refusal, after which the next one is reported again

# asyncio's TLS allocates 256 KiB for each connection: 25 MiB for the silent ones alone. A record has 16 KiB.
sslproto.SSLProtocol.max_size = 32768


class Limits(NamedTuple):
    """The limits that keep one client from starving the others. Times are seconds."""

    handshake: float = 5.0  # of TLS
    head: float = 5.0  # for a whole head, from the end of the handshake or the head's first byte
    write: float = 20.0  # for a whole response
    idle: float = 120.0  # between requests; above two usual scrape intervals, so Prometheus keeps its connection
    close: float = 5.0  # for the end of TLS
    grace: float = 3.0  # for requests in flight when the server closes
    unread: float = 0.01  # that an answer stays unread before another client may take its place
    connections: int = 100  # from accept(2) on: a handshake in progress is one
    head_bytes: int = 16384
    headers: int = 64
    max_requests: int = 0  # in flight; 0 is without limit; the configuration has the default


DEFAULT_LIMITS = Limits()


class Server:
    """Answers requests with *handler*, which runs in the event loop and must return ready bytes quickly.

    The *gate* runs before it: authentication may take long there and does not count against ``Limits.max_requests``.
    With *tls*, which is called for each connection, every address serves HTTPS. *on_starved* is called once when
    accept(2) begins to fail, *on_handshake* with the client's address and the reason of each failed TLS handshake.

    A listener on a loopback address answers only to names of this host, because a browser on this host that is led
    there by another name (DNS rebinding) would read it for a stranger.
    """

    def __init__(
        self,
        handler: Handler,
        *,
        limits: Limits = DEFAULT_LIMITS,
        on_error: Callable[[BaseException], None],
        on_starved: Callable[[OSError | MemoryError], None] = lambda _: None,
        on_handshake: Callable[[str, str], None] = lambda _, __: None,
        gate: Middleware | None = None,
        tls: Callable[[], ServerTls] | None = None,
    ) -> None:
        self._handler = handler
        self._limits = limits
        self._on_error = on_error
        self._on_starved = on_starved
        self._on_handshake = on_handshake
        self._gate = gate
        self._tls = tls
        self._listeners: dict[socket.socket, asyncio.Task[None]] = {}
        self._files = contextlib.ExitStack()  # removes those of unix sockets
        self._connections: dict[_Connection, asyncio.Task[None]] = {}  # oldest first
        self._closing = False

    async def start(self, addresses: Sequence[tuple[str, int] | str]) -> list[str]:
        """Listen on all of *addresses*, or on none and raise ``UsageError``; returns the addresses in use, as URLs.

        A pair is host and port: the host ``""`` is every address of the machine, IPv4 and IPv6; the port 0 is a free
        one. A text is the path of a unix socket, which ``close`` removes.
        """
        self._closing = False
        urls = []
        for address in addresses:
            try:
                listening = self._unix(address) if isinstance(address, str) else await self._listen(*address)
                urls.append(self._serve(listening))
            except (OSError, OverflowError, ValueError) as exc:  # the last two: a port or a name that cannot be
                await self.close()
                reason = getattr(exc, "strerror", None) or str(exc)
                shown = f"unix:{address}" if isinstance(address, str) else _host_port(*address)
                raise UsageError(f"cannot listen on {shown}: {reason}") from exc
        return urls

    async def take(self, listening: Sequence[socket.socket]) -> list[str]:
        """Serve on sockets that listen already; returns their addresses as URLs. ``close`` leaves their files alone."""
        self._closing = False
        return [self._serve(each) for each in listening]

    async def close(self) -> None:
        """Stop accepting, let the requests in flight finish within ``Limits.grace``, and leave nothing open."""
        self._closing = True
        for listening, accepting in self._listeners.items():
            # asyncio's accept ignores a cancelled future: a connection that arrives now would be logged as an error.
            asyncio.get_running_loop().remove_reader(listening)
            accepting.cancel()
        if self._listeners:
            await asyncio.wait(self._listeners.values())
        for listening in self._listeners:
            listening.close()
        self._listeners.clear()
        self._files.close()  # before the connections end: another server may want the path
        for connection in self._connections:
            connection.finish()
        if self._connections:
            await asyncio.wait(self._connections.values(), timeout=self._limits.grace)
        for connection, task in self._connections.items():
            connection.drop()
            task.cancel()  # authentication may take longer than the grace
        if self._connections:
            await asyncio.wait(self._connections.values())

    def end_unadmitted(self) -> None:
        """End the connections of clients whose certificate is not accepted any more: expired, or after a reload."""
        for connection in list(self._connections):
            if not connection.is_admitted() and not connection.dropped:
                connection.evict()

    def _unix(self, path: str) -> socket.socket:
        listening, remove = unixsocket.bind(path)
        self._files.callback(remove)
        return listening

    async def _listen(self, host: str, port: int) -> socket.socket:
        if not host:
            host = "::" if socket.has_dualstack_ipv6() else "0.0.0.0"  # noqa: S104 - every address is what "" means
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        # One socket for one address in the list; of a name's addresses the IPv4 one, as exporters written in Go do.
        family, _, _, _, address = min(found, key=lambda info: info[0] != socket.AF_INET)
        # Where the protocol is named, asyncio turns Nagle's algorithm off: it would hold answers back for 40 ms.
        listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        try:
            if not system.WINDOWS:  # where it would let another process take the port over
                listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, address[0] != "::")
            listening.bind(address)
        except BaseException:
            listening.close()
            raise
        return listening

    def _serve(self, listening: socket.socket) -> str:
        """Take over *listening* and accept its connections; returns its address as a URL."""
        try:
            # Inherited by what is accepted: else a client that does not read keeps megabytes of answers in the kernel.
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SLICE)
            listening.listen(_BACKLOG)
            listening.settimeout(0)
        except BaseException:
            listening.close()
            raise
        own = frozenset({"localhost", socket.gethostname().lower()}) if _is_loopback(listening) else None
        self._listeners[listening] = asyncio.get_running_loop().create_task(self._accept_all(listening, own))
        return _url(listening, "https" if self._tls else "http")

    async def _accept_all(self, listening: socket.socket, own: frozenset[str] | None) -> None:
        """Accept connections, which answer to *own* names, or to any name where that is None.

        When out of descriptors or memory, evict one and back off instead of spinning.
        """
        loop, silent_until = asyncio.get_running_loop(), 0.0
        for number in count(1):
            try:
                accepted, _ = await loop.sock_accept(listening)
                self._accept(accepted, own)
            except ConnectionError:
                pass  # the client left before it was accepted
            except (OSError, MemoryError) as error:
                if loop.time() >= silent_until:
                    self._on_starved(error)
                silent_until = loop.time() + _STARVED_SILENT
                await asyncio.sleep(_CLOSING if self._make_room() else _STARVED)
            if number % _ACCEPTS == 0:
                await asyncio.sleep(0)  # a queue that is never empty lets the others have their turn

    def _accept(self, accepted: socket.socket, own: frozenset[str] | None) -> None:
        if self._closing or not self._has_room():
            accepted.close()
            return
        connection = _Connection(accepted, self._limits, self._answer, self._tls, self._on_handshake, own)
        task = asyncio.get_running_loop().create_task(connection.run())
        self._connections[connection] = connection.task = task

        def ended(task: asyncio.Task[None]) -> None:
            del self._connections[connection]
            connection.task = None  # breaks a reference cycle that would keep the buffers of TLS
            accepted.close()  # in case it was dropped before it began
            if not task.cancelled() and (error := task.exception()):
                self._on_error(error)

        task.add_done_callback(ended)

    def _has_room(self) -> bool:
        """Whether one more connection fits, if need be by evicting one that has no request in flight."""
        present = sum(not connection.dropped for connection in self._connections)
        return present < self._limits.connections or self._make_room()

    def _make_room(self) -> bool:
        """Evict the least valuable connection; return whether one was evicted.

        The larger of two groups gives, so neither can take all places: connections that were never admitted (silent,
        in their handshake, without the password), and connections that are idle between two requests. In it, the
        address with the most connections gives, so one client cannot take the places of others; a /64 of IPv6 counts as
        one address. Of it, the oldest stranger or the longest idle goes. Among equal addresses the oldest stranger goes
        too, because a good client speaks as soon as it is connected, but of the idle ones one at random, so many
        addresses cannot know whom they push out.

        A connection whose bytes wait to be read is spared, because the loop was only too busy to read them, and so is
        one that has begun its handshake a moment ago, because a far client is silent for the time of a round trip.
        Where only spared ones are left, the address is one at random too. Where both groups are empty, the connection
        whose answer stays unread goes; also where only spared ones are left and its address has more connections than
        theirs.
        """
        idle = [connection for connection in self._connections if not connection.dropped and not connection.busy]
        served = [connection for connection in idle if connection.served]
        larger = served if 2 * len(served) > len(idle) else [it for it in idle if not it.served]
        victim = _least_valuable(larger) if larger else None
        if victim is None or victim.is_spared:
            places = Counter(each.place for each in self._connections if not each.dropped)
            unread = self._unread()
            if unread is not None and (victim is None or places[unread.place] > places[victim.place]):
                victim = unread
        if victim is not None:
            victim.evict()
        return victim is not None

    def _unread(self) -> _Connection | None:
        """The connection whose answer has stayed unread for longest, if any has."""
        waiting = {
            each: each.unread_since for each in self._connections if each.unread_since is not None and not each.dropped
        }
        longest = min(waiting, key=waiting.__getitem__, default=None)
        latest = asyncio.get_running_loop().time() - self._limits.unread
        return longest if longest is not None and waiting[longest] <= latest else None

    async def _answer(self, connection: _Connection, request: Request) -> Response:
        def admitted(request: Request) -> Response:
            others = sum(each.answering and not each.dropped for each in self._connections)
            if 0 < self._limits.max_requests <= others:
                unread = self._unread()
                if unread is None:
                    return plain_text(503, None, ("Retry-After", "1"))
                unread.evict()
            connection.served = connection.answering = True
            return self._handler(request)

        try:
            return admitted(request) if self._gate is None else await self._gate(request, admitted)
        except Exception as error:  # noqa: BLE001 - a handler's bug costs its request, not the daemon
            self._on_error(error)
            return plain_text(500)


class _Connection:
    """One client, from its first byte to its last."""

    _reader: asyncio.StreamReader

    def __init__(
        self,
        accepted: socket.socket,
        limits: Limits,
        answer: Callable[[_Connection, Request], Awaitable[Response]],
        tls: Callable[[], ServerTls] | None,
        on_handshake: Callable[[str, str], None],
        own: frozenset[str] | None,
    ) -> None:
        self._accepted = accepted
        self._address, self._peer = _names(accepted)
        self.place = place_of(self._address)
        self._writer: asyncio.StreamWriter | None = None  # none before the end of the handshake
        self._limits = limits
        self._answer = answer
        self._tls = tls
        self._on_handshake = on_handshake
        self._own = own
        self._admitted_by: ServerTls | None = None  # what admitted the client, and its certificate
        self._certificate: Mapping[str, object] | None = None
        self._begun_at: float | None = None  # when the first byte of a TLS handshake came
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=limits.head_bytes)
        self._last = False
        self.task: asyncio.Task[None] | None = None  # the task of ``run``
        self.busy = False  # from a complete head to the last byte of its response
        self.answering = False  # the part of ``busy`` after the gate
        self.served = False  # whether a request has ever passed the gate
        self.since = asyncio.get_running_loop().time()  # when the connection began, or its last answer ended
        self.unread_since: float | None = None  # when the piece of an answer that stays unread was written
        self.dropped = False

    @property
    def is_speaking(self) -> bool:
        """Whether bytes of the client wait to be read: then it is not silent."""
        if self._accepted.fileno() < 0:
            return False  # closed, and its task has not run since
        try:
            self._accepted.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return False
        except OSError:  # the error waits to be read
            pass
        return True

    @property
    def is_spared(self) -> bool:
        """Whether the client has done its part and waits for this server, or for a long way."""
        if self._begun_at is not None and not self.served and time.monotonic() - self._begun_at < _HANDSHAKE_GRACE:
            return True
        return self.is_speaking

    def is_admitted(self) -> bool:
        """Whether the client's certificate is still accepted."""
        if self._tls is None or self._admitted_by is None:
            return True
        now = self._tls()
        return now.clients == self._admitted_by.clients and now.admits(self._certificate, time.time())

    def finish(self) -> None:
        """End after the request in flight, or at once where there is none."""
        self._last = True
        if not self.busy:
            self.drop()

    def drop(self) -> None:
        """End at once: reads see the end of the stream, and writes an error."""
        self.dropped = True
        if self._writer is not None:
            self._writer.transport.abort()
        elif self.task is not None:
            self.task.cancel()

    def evict(self) -> None:
        """End at once, in favour of another connection."""
        self._leave_nothing()
        self.drop()

    def _leave_nothing(self) -> None:
        """End with a reset: for a client that does not read, the kernel would keep the answer for minutes."""
        with contextlib.suppress(OSError):  # it is closed already
            self._accepted.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)

    async def run(self) -> None:
        """Serve requests until either side ends the connection."""
        try:
            if self._tls is not None and await self._speaks_plain_http():
                await self._explain_tls()
                return
            writer = self._writer = await self._open()
        except OSError as error:  # of TLS too: without a handshake there is no way to answer
            reason = getattr(error, "reason", None)
            if isinstance(reason, str) and not self.dropped:
                self._on_handshake(self._address, reason.lower().replace("_", " "))
            return
        orderly = False
        try:
            while await self._exchange(writer):
                pass
            orderly = True
        except OSError:
            pass  # the client went away, or a deadline passed (TimeoutError): there is no way to answer
        finally:
            if not orderly:
                writer.transport.abort()
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def _speaks_plain_http(self) -> bool:
        """Whether the first byte, which is waited for, is one of a method's name and not of a TLS handshake."""
        loop = asyncio.get_running_loop()
        readable = loop.create_future()

        def came() -> None:
            if not readable.done():
                readable.set_result(None)

        loop.add_reader(self._accepted, came)
        try:
            async with asyncio.timeout(self._limits.handshake):
                await readable
        finally:
            loop.remove_reader(self._accepted)
        first = self._accepted.recv(1, socket.MSG_PEEK)
        if not first:
            raise ConnectionAbortedError
        self._begun_at = time.monotonic()
        return first.isupper()

    async def _explain_tls(self) -> None:
        """Answer plain HTTP on a port of TLS as Go's server does."""
        loop = asyncio.get_running_loop()
        text = b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n"
        await loop.sock_sendall(self._accepted, text)
        self._accepted.shutdown(socket.SHUT_WR)
        async with asyncio.timeout(_LINGER):  # closing with bytes unread would lose the answer
            while await loop.sock_recv(self._accepted, _READ):  # noqa: ASYNC110 - it may return at once
                await asyncio.sleep(0)

    async def _open(self) -> asyncio.StreamWriter:
        """The stream, after the handshake where there is one; ``_NotAdmittedError`` for a client that is not let in."""
        loop = asyncio.get_running_loop()
        tls = self._tls() if self._tls is not None else None
        self._reader = asyncio.StreamReader(self._limits.head_bytes, loop)
        protocol = asyncio.StreamReaderProtocol(self._reader, loop=loop)
        transport, _ = await loop.connect_accepted_socket(
            lambda: protocol,
            self._accepted,
            ssl=tls and tls.context,
            ssl_handshake_timeout=self._limits.handshake if tls else None,
            ssl_shutdown_timeout=self._limits.close if tls else None,
        )
        if tls is not None:
            self._admitted_by, self._certificate = tls, transport.get_extra_info("peercert")
            if not tls.admits(self._certificate, time.time()):
                transport.abort()
                raise _NotAdmittedError
        # drain() then returns when the system has the bytes, so the write deadline covers the end of a body too.
        # Not 0: asyncio's TLS transport pauses at the limit, and at 0 it would never resume.
        transport.set_write_buffer_limits(high=1)
        # asyncio would ask for 256 KiB at each read, which a process at its memory limit does not get.
        transport.max_size = _READ  # type: ignore[attr-defined]  # of its socket transport
        return asyncio.StreamWriter(transport, protocol, self._reader, loop)

    async def _exchange(self, writer: asyncio.StreamWriter) -> bool:
        """One request and its response; whether another may follow."""
        method = b""
        try:
            head = await self._head()
            if head is None:
                return False
            if not self.is_admitted():
                return False
            self.busy = True
            method = head.method
            response = _refusal(head, self._limits, self._own)
            if response is None:
                self._http.next_event()  # the end of a request without a body
                response = await self._answer(self, _request(head, self._address, self._peer))
        except h11.RemoteProtocolError as exc:
            response = _refuse(exc.error_status_hint)
        await self._send(writer, method, response)
        self.busy = self.answering = False
        self.since = asyncio.get_running_loop().time()
        if not self._last and self._http.our_state is h11.DONE and self._http.their_state is h11.DONE:
            self._http.start_next_cycle()
            await asyncio.sleep(0)  # a client that pipelines without end lets the others have their turn
            return True
        await self._linger(writer)
        return False

    async def _head(self) -> h11.Request | None:
        """The next request's head; None when the client has ended the connection."""
        event = self._http.next_event()
        if event is h11.NEED_DATA and self.served and not self._http.trailing_data[0]:
            async with asyncio.timeout(self._limits.idle):
                self._http.receive_data(await self._reader.read(_READ))
            event = self._http.next_event()
        async with asyncio.timeout(self._limits.head):
            while event is h11.NEED_DATA:
                self._http.receive_data(await self._reader.read(_READ))
                event = self._http.next_event()
        return event if isinstance(event, h11.Request) else None

    async def _send(self, writer: asyncio.StreamWriter, method: bytes, response: Response) -> None:
        headers = [
            ("Server", "tcp-exporter"),
            ("Date", formatdate(usegmt=True)),
            ("Content-Type", response.content_type),
            ("Content-Length", str(len(response.body))),
            *response.headers,
        ]
        reason = HTTPStatus(response.status).phrase
        first = self._http.send(h11.Response(status_code=response.status, headers=headers, reason=reason)) or b""
        body = memoryview(b"")
        if method != b"HEAD":
            # h11 counts the body and returns the same object: it is shared, never copied as a whole.
            body = memoryview(b"".join(self._http.send_with_data_passthrough(h11.Data(data=response.body)) or ()))
        self._http.send(h11.EndOfMessage())
        try:
            async with asyncio.timeout(self._limits.write):
                for start in range(0, len(body) or 1, _SLICE):
                    writer.write(first + body[start : start + _SLICE])
                    first = b""
                    self.unread_since = asyncio.get_running_loop().time()
                    await writer.drain()
                    self.unread_since = None
        except TimeoutError:
            self._leave_nothing()
            raise

    async def _linger(self, writer: asyncio.StreamWriter) -> None:
        """Let the client close first: closing with its bytes unread would reset the connection and lose the answer."""
        if writer.can_write_eof():  # TLS cannot
            writer.write_eof()
            async with asyncio.timeout(_LINGER):
                while await self._reader.read(_READ):
                    pass


class _NotAdmittedError(PermissionError):
    """A client certificate that verifies and is not admitted."""

    reason = "the client's certificate has expired or none of its names is in client_allowed_sans"


def _least_valuable(connections: Sequence[_Connection]) -> _Connection:
    """As ``Server._make_room`` has it; *connections* are of one group and not empty."""
    places = Counter(each.place for each in connections)
    most = max(places.values())
    ranked = sorted((it for it in connections if places[it.place] == most), key=lambda each: each.since)
    silent = (it for it in ranked if not it.is_spared)  # looked for one by one: each costs a system call
    first = next(silent, None)
    if first is not None and not first.served:
        return first
    oldest: dict[str, _Connection] = {}
    for each in ranked if first is None else (first, *silent):
        oldest.setdefault(each.place, each)
    return random.choice(list(oldest.values()))  # noqa: S311 - fairness, not a secret


def _refusal(head: h11.Request, limits: Limits, own: frozenset[str] | None) -> Response | None:
    """The answer to a head that h11 finds well-formed and that is not served; *own* are the names that are."""
    headers = dict(head.headers)
    if len(head.headers) > limits.headers:
        return _refuse(431)
    if not head.http_version.startswith(b"1."):
        return _refuse(505)
    host, target = _target(head)
    if not target.startswith(b"/"):
        return _refuse(400)
    if own is not None and not _is_own(host.decode("latin-1"), own):
        # RFC 9110, 15.5.20
        text = "This address answers only to names of this host: to localhost, an IP address or the host's name."
        return plain_text(421, text, ("Connection", "close"))
    has_body = headers.get(b"content-length", b"").strip(b"0")
    return _refuse(400) if b"transfer-encoding" in headers else _refuse(413) if has_body else None


def _target(head: h11.Request) -> tuple[bytes, bytes]:
    """The host that is asked and the target's path and query, of both forms that a server must accept.

    Source: RFC 9112, 3.2.2: the host of a target in absolute form takes precedence over the header.
    """
    scheme, separator, rest = head.target.partition(b"://")
    if separator and scheme.lower() in {b"http", b"https"}:
        end = min((at for at in (rest.find(b"/"), rest.find(b"?")) if at >= 0), default=len(rest))
        path = rest[end:]
        return rest[:end], path if path.startswith(b"/") else b"/" + path
    return dict(head.headers).get(b"host", b""), head.target


def _is_own(host: str, own: frozenset[str]) -> bool:
    """Whether *host*, as a Host header has it, is an IP address, one of the *own* names, or missing."""
    name = host.rpartition("@")[2].strip().lower()
    name = name[1:].partition("]")[0] if name.startswith("[") else name.partition(":")[0].rstrip(".")
    if not name or name in own or name.endswith(".localhost") or name in {it.partition(".")[0] for it in own}:
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _is_loopback(listening: socket.socket) -> bool:
    name = listening.getsockname()
    if not isinstance(name, tuple):
        return False
    address = ipaddress.ip_address(name[0].partition("%")[0])
    return (getattr(address, "ipv4_mapped", None) or address).is_loopback  # Python 3.13 sees through it by itself


def _refuse(status: int) -> Response:
    """The last answer of a connection, because the start of the next request is unknown."""
    return plain_text(status, None, ("Connection", "close"))


def _names(accepted: socket.socket) -> tuple[str, str]:
    """The client's address, without its port and with it; nothing of a unix socket's clients."""
    try:
        name = accepted.getpeername()
    except OSError:  # the client has left already
        return "", ""
    return (str(name[0]), _host_port(*name[:2])) if isinstance(name, tuple) else ("", "")


def _request(head: h11.Request, address: str, peer: str) -> Request:
    path, _, query = _target(head)[1].decode("ascii").partition("?")
    headers: dict[str, str] = {}
    for raw_name, raw_value in head.headers:
        name, value = raw_name.decode("ascii"), raw_value.decode("latin-1")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return Request(head.method.decode("ascii"), unquote(path), query, headers, address, peer)


def _url(listening: socket.socket, scheme: str) -> str:
    name = listening.getsockname()
    if not isinstance(name, tuple):  # of a unix socket
        return f"unix:{name}" if isinstance(name, str) else f"unix:@{name[1:].decode(errors='replace')}"  # abstract
    return f"{scheme}://{_host_port(*name[:2])}"


def _host_port(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
