"""HTTP/1.1 on asyncio streams, with h11 as the parser: connections, deadlines and caps, whatever is served.

Every phase of a connection has one absolute deadline, so a client that trickles is cut as surely as one that is silent.
A rim module: the sockets are here. It has no log; what goes wrong inside is handed to ``on_error``.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable
from email.utils import formatdate
from http import HTTPStatus
from ssl import SSLContext
from typing import NamedTuple
from urllib.parse import unquote

import h11

from exporter.errors import UsageError
from exporter.web.http import Handler, Request, Response, plain_text

_READ = 4096  # small beside head_bytes: a head may exceed the limit by at most one read
_SLICE = 65536  # a body goes out in pieces, so a client that does not read costs one piece and not a body
_BACKLOG = 128
_LINGER = 2.0  # seconds that a client has to read its last answer before the connection goes
_TLS_HANDSHAKE = 10.0
_TLS_SHUTDOWN = 5.0


class Limits(NamedTuple):
    """What one client may take from the others. Times are seconds."""

    head: float = 10.0  # for a whole head, from the connection's start or the head's first byte
    write: float = 20.0  # for a whole response
    idle: float = 120.0  # between requests; above two usual scrape intervals, so Prometheus keeps its connection
    grace: float = 3.0  # for requests in flight when the server closes
    unread: float = 0.1  # that an answer waits for its reader before another client may have its place
    connections: int = 100
    head_bytes: int = 16384
    max_requests: int = 40  # in flight; 0 is without limit


DEFAULT_LIMITS = Limits()


class Server:
    """Answers requests with *handler*, which is called in the loop: it must return ready bytes, quickly.

    Authentication is no part of it: a handler is a function of the request, and authentication wraps one in another.
    With *tls* every address speaks HTTPS; a handshake in progress has its own deadline and is not yet a connection.
    """

    def __init__(
        self,
        handler: Handler,
        *,
        limits: Limits = DEFAULT_LIMITS,
        on_error: Callable[[BaseException], None],
        tls: SSLContext | None = None,
    ) -> None:
        self._handler = handler
        self._limits = limits
        self._on_error = on_error
        self._tls = tls
        self._listeners: list[asyncio.Server] = []
        self._connections: dict[_Connection, asyncio.Task[None]] = {}  # oldest first
        self._closing = False

    async def start(self, addresses: list[tuple[str, int]]) -> list[str]:
        """Listen on all of *addresses*, or on none and raise ``UsageError``; returns the addresses in use, as URLs.

        The host ``""`` is every address of the machine, IPv4 and IPv6; the port 0 is a free one.
        """
        self._closing = False
        urls = []
        for host, port in addresses:
            try:
                urls.append(await self._listen(host, port))
            except (OSError, OverflowError, ValueError) as exc:  # the last two: a port or a name that cannot be
                await self.close()
                reason = getattr(exc, "strerror", None) or str(exc)
                raise UsageError(f"cannot listen on {_host_port(host, port)}: {reason}") from exc
        return urls

    async def close(self) -> None:
        """Stop accepting, let the requests in flight finish within ``Limits.grace``, and leave nothing open."""
        self._closing = True
        for listener in self._listeners:
            listener.close()
        for connection in self._connections:
            connection.finish()
        if self._connections:
            await asyncio.wait(self._connections.values(), timeout=self._limits.grace)
        for connection in self._connections:
            connection.drop()
        if self._connections:
            await asyncio.wait(self._connections.values())
        for listener in self._listeners:
            with contextlib.suppress(TimeoutError):  # 3.12 and newer wait for TLS handshakes in progress too
                await asyncio.wait_for(listener.wait_closed(), 1)
        self._listeners.clear()

    async def _listen(self, host: str, port: int) -> str:
        if not host:
            host = "::" if socket.has_dualstack_ipv6() else "0.0.0.0"  # noqa: S104 - every address is what "" means
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        # One socket for one address in the list; of a name's addresses the IPv4 one, as exporters written in Go do.
        family, _, _, _, address = min(found, key=lambda info: info[0] != socket.AF_INET)
        # Where the protocol is named, asyncio turns Nagle's algorithm off: it would hold answers back for 40 ms.
        listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        try:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, address[0] != "::")
            listening.bind(address)
            listener = await asyncio.start_server(
                self._accept,
                sock=listening,
                limit=self._limits.head_bytes,
                backlog=_BACKLOG,
                ssl=self._tls,
                ssl_handshake_timeout=_TLS_HANDSHAKE if self._tls else None,
                ssl_shutdown_timeout=_TLS_SHUTDOWN if self._tls else None,
            )
        except BaseException:
            listening.close()
            raise
        self._listeners.append(listener)
        return f"{'https' if self._tls else 'http'}://{_host_port(*listening.getsockname()[:2])}"

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._closing or not self._has_room():
            writer.transport.abort()
            return
        connection = _Connection(reader, writer, self._limits, self._answer)
        task = asyncio.get_running_loop().create_task(connection.run())
        self._connections[connection] = task

        def ended(task: asyncio.Task[None]) -> None:
            del self._connections[connection]
            if not task.cancelled() and (error := task.exception()):
                self._on_error(error)

        task.add_done_callback(ended)

    def _has_room(self) -> bool:
        """Whether one more connection fits, if need be in the place of one that asks for nothing.

        The oldest that never sent a complete head goes first, then the one that is idle for longest between two
        requests, then the one whose answer waits for its reader: none of them can keep Prometheus out.
        """
        present = [connection for connection in self._connections if not connection.dropped]
        if len(present) < self._limits.connections:
            return True
        asking_nothing = (each for each in present if not each.busy)
        victim = min(asking_nothing, key=lambda each: (each.served, each.since), default=None) or self._unread()
        if victim is not None:
            victim.drop()
        return victim is not None

    def _unread(self) -> _Connection | None:
        """The connection whose answer waits for its reader, of several the one that waits for longest."""
        waiting = {
            each: each.unread_since
            for each in self._connections
            if each.unread_since is not None and not each.dropped
        }
        longest = min(waiting, key=waiting.__getitem__, default=None)
        latest = asyncio.get_running_loop().time() - self._limits.unread
        return longest if longest is not None and waiting[longest] <= latest else None

    def _answer(self, request: Request) -> Response:
        in_flight = sum(each.busy and not each.dropped for each in self._connections)  # this one included
        if 0 < self._limits.max_requests < in_flight:
            unread = self._unread()
            if unread is None:
                return plain_text(503, None, ("Retry-After", "1"))
            unread.drop()
        try:
            return self._handler(request)
        except Exception as error:  # noqa: BLE001 - a handler's bug costs its request, not the daemon
            self._on_error(error)
            return plain_text(500)


class _Connection:
    """One client, from its first byte to its last."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, limits: Limits, answer: Handler
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._limits = limits
        self._answer = answer
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=limits.head_bytes)
        self._last = False
        self.busy = False  # from a complete head to the last byte of its response
        self.served = False  # has ever sent a complete head
        self.since = asyncio.get_running_loop().time()  # of the connection's start, or of its last answer's end
        self.unread_since: float | None = None  # what was written of an answer waits for its reader
        self.dropped = False
        # drain() then returns when the system has the bytes, so the write deadline covers the end of a body too.
        # Not 0: asyncio's TLS transport pauses at the limit, and at 0 it would never resume.
        writer.transport.set_write_buffer_limits(high=1)

    def finish(self) -> None:
        """End after the request in flight, or now where there is none."""
        self._last = True
        if not self.busy:
            self.drop()

    def drop(self) -> None:
        """End now. No cancellation is needed: reads see the end of the stream, writes an error."""
        self.dropped = True
        self._writer.transport.abort()

    async def run(self) -> None:
        """Serve requests until either side has had enough."""
        orderly = False
        try:
            while await self._exchange():
                pass
            orderly = True
        except OSError:
            pass  # the client went away, or a deadline passed (TimeoutError): nobody is left to tell
        finally:
            if not orderly:
                self._writer.transport.abort()
            self._writer.close()
            with contextlib.suppress(OSError):
                await self._writer.wait_closed()

    async def _exchange(self) -> bool:
        """One request and its response; whether another may follow."""
        method = b""
        try:
            head = await self._head()
            if head is None:
                return False
            self.busy = self.served = True
            method = head.method
            response = _refusal(head)
            if response is None:
                self._http.next_event()  # the end of a request without a body
                response = self._answer(_request(head))
        except h11.RemoteProtocolError as exc:
            response = _refuse(exc.error_status_hint)
        await self._send(method, response)
        self.busy, self.since = False, asyncio.get_running_loop().time()
        if not self._last and self._http.our_state is h11.DONE and self._http.their_state is h11.DONE:
            self._http.start_next_cycle()
            await asyncio.sleep(0)  # a client that pipelines without end lets the others have their turn
            return True
        await self._linger()
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

    async def _send(self, method: bytes, response: Response) -> None:
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
            # h11 counts the body and hands back the very same object: it is shared, never copied as a whole.
            body = memoryview(b"".join(self._http.send_with_data_passthrough(h11.Data(data=response.body)) or ()))
        self._http.send(h11.EndOfMessage())
        async with asyncio.timeout(self._limits.write):
            for start in range(0, len(body) or 1, _SLICE):
                self._writer.write(first + body[start : start + _SLICE])
                first = b""
                self.unread_since = asyncio.get_running_loop().time()
                await self._writer.drain()
                self.unread_since = None

    async def _linger(self) -> None:
        """Let the client close first: closing with its bytes unread would reset the connection and lose the answer."""
        if self._writer.can_write_eof():  # TLS cannot
            self._writer.write_eof()
            async with asyncio.timeout(_LINGER):
                while await self._reader.read(_READ):
                    pass


def _refusal(head: h11.Request) -> Response | None:
    """The answer to a head that h11 finds well-formed and that is not served."""
    headers = dict(head.headers)
    if not head.http_version.startswith(b"1."):
        return _refuse(505)
    if not head.target.startswith(b"/"):
        return _refuse(400)  # this is no proxy: the only target is a path
    if b"transfer-encoding" in headers:
        return _refuse(400)
    if headers.get(b"content-length", b"").strip(b"0"):
        return _refuse(413)
    return None


def _refuse(status: int) -> Response:
    """The last answer of a connection: where the next request would begin is not known."""
    return plain_text(status, None, ("Connection", "close"))


def _request(head: h11.Request) -> Request:
    path, _, query = head.target.decode("ascii").partition("?")
    headers: dict[str, str] = {}
    for raw_name, raw_value in head.headers:
        name, value = raw_name.decode("ascii"), raw_value.decode("latin-1")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return Request(head.method.decode("ascii"), unquote(path), query, headers)


def _host_port(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
