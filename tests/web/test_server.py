"""Real clients against a real server on a free port of the loopback."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import os
import re
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import NamedTuple

import pytest

from exporter.errors import UsageError
from exporter.web.http import Handler, Middleware, Request, Response, method_not_allowed, not_found, plain_text
from exporter.web.server import DEFAULT_LIMITS, Limits, Server, _is_loopback
from exporter.web.webconfig import ServerTls

BIG = bytes(8 * 1024 * 1024)  # more than the kernel keeps for a client that does not read
SOME = bytes(48 * 1024)  # more than a small client takes, less than the kernel keeps for it
PATIENCE = 120.0  # seconds until a test counts as hanging; no test waits for it


class Serving(NamedTuple):
    server: Server
    port: int
    requests: list[Request]
    errors: list[BaseException]
    handshakes: list[tuple[str, str]]  # those that failed: address and reason


def pages(request: Request) -> Response:
    """What the tests serve: enough of a router to show that methods are the handler's matter."""
    if request.method not in ("GET", "HEAD"):
        return method_not_allowed()
    if request.path == "/big":
        return Response(200, "application/octet-stream", BIG)
    if request.path == "/some":
        return Response(200, "application/octet-stream", SOME)
    if request.path == "/bug":
        raise RuntimeError("secret")
    if request.path.startswith("/page"):
        return plain_text(200, request.path)
    return not_found()


@contextlib.asynccontextmanager
async def serving(
    limits: Limits = DEFAULT_LIMITS,
    handler: Handler = pages,
    *,
    gate: Middleware | None = None,
    tls: Callable[[], ServerTls] | None = None,
) -> AsyncIterator[Serving]:
    requests: list[Request] = []
    errors: list[BaseException] = []

    def noting(request: Request) -> Response:
        requests.append(request)
        return handler(request)

    handshakes: list[tuple[str, str]] = []

    def failed(address: str, reason: str) -> None:
        handshakes.append((address, reason))

    server = Server(noting, limits=limits, on_error=errors.append, on_handshake=failed, gate=gate, tls=tls)
    [url] = await server.start([("127.0.0.1", 0)])
    try:
        scheme, _, port = url.partition("://127.0.0.1:")
        assert scheme == ("http" if tls is None else "https")
        yield Serving(server, int(port), requests, errors, handshakes)
    finally:
        await server.close()
    assert asyncio.all_tasks() == {asyncio.current_task()}


def run(scenario: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(PATIENCE):
            await scenario()

    asyncio.run(bounded())


class Client:
    """A client that does nothing of its own accord."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def send(self, *lines: str) -> None:
        self.writer.write("\r\n".join(lines).encode("latin-1"))

    def get(self, path: str) -> None:
        self.send(f"GET {path} HTTP/1.1", "Host: localhost", "", "")

    async def rest(self) -> str:
        """All until the server closes; what a reset leaves of it."""
        received = bytearray()
        with contextlib.suppress(ConnectionError):
            while data := await self.reader.read(65536):
                received += data
        return shown(bytes(received))

    async def response(self) -> str:
        """One response, when its length is given and it has a body."""
        head = await self.reader.readuntil(b"\r\n\r\n")
        [length] = re.findall(rb"Content-Length: ([0-9]+)", head)
        return shown(head + await self.reader.readexactly(int(length)))


def shown(received: bytes) -> str:
    return re.sub(r"Date: \w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT", "Date: NOW", received.decode("latin-1"))


@contextlib.asynccontextmanager
async def client(port: int, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None) -> AsyncIterator[Client]:
    reader, writer = await asyncio.open_connection(host, port, ssl=tls)
    try:
        yield Client(reader, writer)
    finally:
        writer.close()
        with contextlib.suppress(OSError):  # of TLS too
            await writer.wait_closed()


async def until(happened: Callable[[], bool]) -> None:
    while not happened():  # noqa: ASYNC110 - what is awaited has no event
        await asyncio.sleep(0.01)


def pass_time(seconds: float) -> None:
    """Set the clock of the loop forward, by which the server knows its deadlines: nobody has to wait for them."""
    loop = asyncio.get_running_loop()
    clock = loop.time
    loop.time = lambda: clock() + seconds  # type: ignore[method-assign] # which is how a loop is given a clock


async def talk(port: int, *lines: str, host: str = "127.0.0.1") -> str:
    """Everything that the server says to *lines* and to the end of sending after them."""
    async with client(port, host) as peer:
        peer.send(*lines)
        peer.writer.write_eof()
        return await peer.rest()


def answer(
    status: str, body: str, *more: str, content_type: str = "text/plain; charset=utf-8", sent: bool = True
) -> str:
    head = [
        f"HTTP/1.1 {status}",
        "Server: tcp-exporter",
        "Date: NOW",
        f"Content-Type: {content_type}",
        f"Content-Length: {len(body)}",
        *more,
    ]
    return "\r\n".join([*head, "", body if sent else ""])


PAGE = answer("200 OK", "/page\n")
CLOSING = "Connection: close"


def test_get_is_answered_with_the_handlers_response() -> None:
    async def scenario() -> None:
        async with serving() as at:
            assert await talk(at.port, "GET /page HTTP/1.1", "Host: localhost", "", "") == PAGE

    run(scenario)


def test_an_answer_leaves_at_once_and_in_one_piece() -> None:
    """Head and body in two writes with Nagle's algorithm between them cost every scrape but the first 40 ms."""

    async def scenario() -> None:
        async with serving() as at, client(at.port) as peer:
            for _ in range(3):
                peer.get("/page")
                assert shown(await peer.reader.read(65536)).endswith("\r\n\r\n/page\n")
            [connection] = at.server._connections
            assert connection._accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1

    run(scenario)


def test_the_handler_gets_a_decoded_path_the_raw_query_and_joined_headers() -> None:
    async def scenario() -> None:
        async with serving() as at:
            await talk(
                at.port,
                "GET /a%20%C3%A9%2F?x=%20&y?z HTTP/1.1",
                "Host: localhost",
                "X-A: 1",
                "x-a:  2 ",
                "X-B: \xe9",
                "",
                "",
            )
            headers = {"host": "localhost", "x-a": "1, 2", "x-b": "\xe9"}
            (request,) = at.requests
            assert request == Request("GET", "/a \xe9/", "x=%20&y?z", headers, "127.0.0.1", request.peer)
            assert re.fullmatch(r"127\.0\.0\.1:\d+", request.peer)

    run(scenario)


def test_head_has_the_headers_of_get_and_no_body() -> None:
    async def scenario() -> None:
        async with serving() as at:
            assert await talk(at.port, "HEAD /page HTTP/1.1", "Host: localhost", "", "") == answer(
                "200 OK", "/page\n", sent=False
            )

    run(scenario)


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "CONNECT", "BREW"])
def test_other_methods_reach_the_handler(method: str) -> None:
    async def scenario() -> None:
        async with serving() as at:
            said = await talk(at.port, f"{method} /page HTTP/1.1", "Host: localhost", "Content-Length: 0", "", "")
            assert said == answer("405 Method Not Allowed", "Method Not Allowed\n", "Allow: GET, HEAD")
            assert [request.method for request in at.requests] == [method]

    run(scenario)


def test_a_connection_serves_many_requests_and_ends_when_the_client_says_so() -> None:
    async def scenario() -> None:
        async with serving() as at, client(at.port) as peer:
            for path in ("/page1", "/page2", "/nowhere"):
                peer.get(path)
                expected = f"{path}\n" if path != "/nowhere" else "Not Found\n"
                assert await peer.response() == answer("200 OK" if "page" in path else "404 Not Found", expected)
            peer.send("GET /page HTTP/1.1", "Host: localhost", "Connection: close", "", "")
            assert await peer.rest() == answer("200 OK", "/page\n", CLOSING)

    run(scenario)


def test_pipelined_requests_are_answered_in_order() -> None:
    async def scenario() -> None:
        async with serving() as at:
            requests = [line for n in range(300) for line in (f"GET /page{n} HTTP/1.1", "Host: localhost", "")]
            expected = "".join(answer("200 OK", f"/page{n}\n") for n in range(300))
            assert await talk(at.port, *requests, "") == expected

    run(scenario)


def test_pipelined_junk_spoils_nothing_before_it() -> None:
    async def scenario() -> None:
        async with serving() as at:
            said = await talk(at.port, "GET /page HTTP/1.1", "Host: localhost", "", "junk", "", "")
            assert said == PAGE + answer("400 Bad Request", "Bad Request\n", CLOSING)

    run(scenario)


def test_http_1_0_is_answered_and_closed_and_needs_no_host() -> None:
    async def scenario() -> None:
        async with serving() as at, client(at.port) as peer:
            peer.send("GET /page HTTP/1.0", "", "")
            assert await peer.rest() == answer("200 OK", "/page\n", CLOSING)

    run(scenario)


def test_a_head_may_come_in_pieces() -> None:
    async def scenario() -> None:
        async with serving() as at, client(at.port) as peer:
            for piece in ("GE", "T /page HTTP/1.1\r", "\nHost: loc", "alhost\r\n\r", "\n"):
                peer.send(piece)
                await asyncio.sleep(0.02)
            assert await peer.response() == PAGE

    run(scenario)


@pytest.mark.parametrize("start", ["", "G", "GET /page HTTP/1.1\r\nHost: localhost\r\n", "junk\r\n"])
def test_a_silent_client_is_closed_by_the_head_deadline(start: str) -> None:
    async def scenario() -> None:
        async with serving(Limits(head=0.2)) as at, client(at.port) as peer:
            peer.send(start)
            assert await peer.rest() == ""

    run(scenario)


@pytest.mark.parametrize("requests_before", [0, 1])
def test_a_trickled_head_is_closed_by_the_same_deadline(requests_before: int) -> None:
    async def scenario() -> None:
        async with serving(Limits(head=30.0)) as at, client(at.port) as peer:
            for _ in range(requests_before):
                peer.get("/page")
                assert await peer.response() == PAGE

            async def trickle() -> None:
                with contextlib.suppress(ConnectionError):
                    while True:
                        peer.send("x")
                        await peer.writer.drain()
                        await asyncio.sleep(0.01)
                        pass_time(1.0)

            trickling = asyncio.create_task(trickle())
            assert await peer.rest() == ""
            trickling.cancel()
            await asyncio.wait([trickling])

    run(scenario)


def test_an_idle_connection_outlives_the_head_deadline() -> None:
    async def scenario() -> None:
        async with serving(Limits(head=30.0, idle=PATIENCE)) as at, client(at.port) as peer:
            for pause in (45.0, 0.0):
                peer.get("/page")
                assert await peer.response() == PAGE
                pass_time(pause)
                await asyncio.sleep(0.01)  # in which a deadline that has passed takes effect

    run(scenario)


def test_an_idle_connection_is_closed_by_a_deadline_of_its_own() -> None:
    async def scenario() -> None:
        async with serving(Limits(idle=0.2)) as at, client(at.port) as peer:
            peer.get("/page")
            assert await peer.rest() == PAGE

    run(scenario)


def test_eighty_half_heads_do_not_keep_a_good_request_out() -> None:
    async def scenario() -> None:
        async with serving() as at, contextlib.AsyncExitStack() as stack:
            for _ in range(80):
                peer = await stack.enter_async_context(client(at.port))
                peer.send("GET /page HTTP/1.1\r\nHost:")
            assert await talk(at.port, "GET /page HTTP/1.1", "Host: localhost", "", "") == PAGE

    run(scenario)


@contextlib.asynccontextmanager
async def stuck(at: Serving) -> AsyncIterator[socket.socket]:
    """A client that asks for 8 MiB and reads none of them; the server is at it when this returns."""
    before = len(at.requests)
    with socket.socket() as peer:
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)  # the kernel would grow it otherwise
        peer.setblocking(False)
        await asyncio.get_running_loop().sock_connect(peer, ("127.0.0.1", at.port))
        peer.send(b"GET /big HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await until(lambda: len(at.requests) > before)
        yield peer


async def drained(peer: socket.socket) -> int:
    """How many bytes there were until the server closed."""
    total = 0
    with contextlib.suppress(ConnectionError):
        while data := await asyncio.get_running_loop().sock_recv(peer, 65536):
            total += len(data)
    return total


def test_readers_that_do_not_read_block_nobody_and_are_cut_by_the_write_deadline() -> None:
    async def scenario() -> None:
        async with serving(Limits(write=1.0)) as at, contextlib.AsyncExitStack() as stack:
            peers = [await stack.enter_async_context(stuck(at)) for _ in range(8)]
            assert await talk(at.port, "GET /page HTTP/1.1", "Host: localhost", "", "") == PAGE
            await until(lambda: not at.server._connections)
            received = [await drained(peer) for peer in peers]
            assert [count < len(BIG) for count in received] == [True] * 8

    run(scenario)


def test_a_big_body_arrives_whole() -> None:
    async def scenario() -> None:
        async with serving() as at:
            expected = answer("200 OK", BIG.decode(), content_type="application/octet-stream")
            assert await talk(at.port, "GET /big HTTP/1.1", "Host: localhost", "", "") == expected

    run(scenario)


@pytest.mark.parametrize(
    "lines",
    [
        ("\x16\x03\x01\x02\x00\x01",),  # a TLS client on a plain port
        ("\x00\xff\xfe", "", ""),
        ("", "", ""),
        ("hello", "", ""),
        ("GET  /page HTTP/1.1", "Host: localhost", "", ""),
        ("GET /p\xe9ge HTTP/1.1", "Host: localhost", "", ""),
        ("GET /page HTTP/1.1", "", ""),
        ("GET /page HTTP/1.1", "Host: a", "Host: b", "", ""),
        ("GET /page HTTP/1.1", "Host: localhost", "no colon", "", ""),
        ("GET /page HTTP/1.1", "Host: localhost", "Bad Name: x", "", ""),
        ("GET ftp://localhost/page HTTP/1.1", "Host: localhost", "", ""),
        ("OPTIONS * HTTP/1.1", "Host: localhost", "", ""),
        ("CONNECT test:80 HTTP/1.1", "Host: localhost", "", ""),
        ("GET /page HTTP/1.1", "Host: localhost", "Content-Length: -1", "", ""),
        ("GET /page HTTP/1.1", "Host: localhost", "Content-Length: " + "9" * 9000, "", ""),
        ("POST /page HTTP/1.1", "Host: localhost", "Content-Length: 1", "Content-Length: 2", "", ""),
    ],
)
def test_what_is_no_request_for_a_path_is_a_bad_request(lines: tuple[str, ...]) -> None:
    async def scenario() -> None:
        async with serving() as at:
            async with client(at.port) as peer:
                peer.send(*lines)
                assert await peer.rest() == answer("400 Bad Request", "Bad Request\n", CLOSING)
            assert (at.requests, at.errors) == ([], [])

    run(scenario)


def test_another_major_version_is_not_supported() -> None:
    async def scenario() -> None:
        async with serving() as at:
            said = await talk(at.port, "GET / HTTP/2.0", "Host: localhost", "", "")
            assert said == answer("505 HTTP Version Not Supported", "HTTP Version Not Supported\n", CLOSING)

    run(scenario)


@pytest.mark.parametrize("start", ["GET /page HTTP/1.1\r\nHost: localhost\r\nX: ", "GET /", "x"])
def test_a_head_above_the_limit_is_too_large(start: str) -> None:
    async def scenario() -> None:
        async with serving() as at, client(at.port) as peer:
            peer.send(start + "x" * 40_000)
            text = "Request Header Fields Too Large"
            assert await peer.rest() == answer(f"431 {text}", f"{text}\n", CLOSING)

    run(scenario)


@pytest.mark.parametrize(("number", "status"), [(64, "200"), (65, "431")])
def test_headers_are_counted(number: int, status: str) -> None:
    async def scenario() -> None:
        async with serving() as at, client(at.port) as peer:
            peer.send("GET /page HTTP/1.1", "Host: localhost", *["X: y"] * (number - 1), "", "")
            assert (await peer.response()).split(" ")[1] == status

    run(scenario)


def test_a_head_within_the_limit_is_served() -> None:
    async def scenario() -> None:
        async with serving() as at:
            said = await talk(at.port, "GET /page HTTP/1.1", "Host: localhost", "X: " + "x" * 16_000, "", "")
            assert said == PAGE

    run(scenario)


@pytest.mark.parametrize("method", ["GET", "POST", "HEAD"])
@pytest.mark.parametrize(
    ("header", "status"),
    [
        ("Content-Length: 1000000", "413 Request Entity Too Large"),
        ("Transfer-Encoding: chunked", "400 Bad Request"),
    ],
)
def test_a_body_is_refused_and_the_refusal_arrives(method: str, header: str, status: str) -> None:
    async def scenario() -> None:
        async with serving() as at, client(at.port) as peer:
            peer.send(f"{method} /page HTTP/1.1", "Host: localhost", header, "", "x" * 1_000_000)
            said = await peer.rest()
            # Python 3.13 spells 413 as RFC 9110 does.
            said = said.replace("Content Too Large", "Request Entity Too Large").replace(": 18\r\n", ": 25\r\n")
            assert said == answer(status, f"{status[4:]}\n", CLOSING, sent=method != "HEAD")
            assert at.requests == []

    run(scenario)


def test_a_handler_that_raises_is_a_500_that_tells_nothing_and_the_error_is_reported() -> None:
    async def scenario() -> None:
        async with serving() as at, client(at.port) as peer:
            peer.get("/bug")
            assert await peer.response() == answer("500 Internal Server Error", "Internal Server Error\n")
            peer.get("/page")
            assert await peer.response() == PAGE
            assert [repr(error) for error in at.errors] == ["RuntimeError('secret')"]

    run(scenario)


def test_a_response_that_cannot_be_sent_is_reported_and_costs_its_connection_only() -> None:
    def handler(request: Request) -> Response:
        return plain_text(200, "fine", *([("X", "a\r\nb")] if request.path == "/bad" else []))

    async def scenario() -> None:
        async with serving(handler=handler) as at:
            assert await talk(at.port, "GET /bad HTTP/1.1", "Host: localhost", "", "") == ""
            assert await talk(at.port, "GET / HTTP/1.1", "Host: localhost", "", "") == answer("200 OK", "fine\n")
            assert [type(error).__name__ for error in at.errors] == ["LocalProtocolError"]

    run(scenario)


@pytest.mark.parametrize(("max_requests", "served"), [(2, False), (3, True), (0, True)])
def test_requests_above_the_limit_in_flight_are_sent_away(max_requests: int, served: bool) -> None:
    async def scenario() -> None:
        limits = Limits(max_requests=max_requests, grace=0.1, unread=PATIENCE)
        async with serving(limits) as at, stuck(at), stuck(at):
            text = "Service Unavailable"
            busy = answer(f"503 {text}", f"{text}\n", "Retry-After: 1")
            said = await talk(at.port, "GET /page HTTP/1.1", "Host: localhost", "", "")
            assert said == (PAGE if served else busy)

    run(scenario)


def test_a_full_server_drops_the_oldest_connection_without_a_head() -> None:
    async def scenario() -> None:
        async with (
            serving(Limits(connections=3)) as at,
            client(at.port) as idle,
            client(at.port) as silent,
            client(at.port) as slow,
        ):
            idle.get("/page")
            assert await idle.response() == PAGE
            slow.send("GET /page HTTP/1.1\r\n")
            assert await talk(at.port, "GET /page HTTP/1.1", "Host: localhost", "", "") == PAGE
            assert await silent.rest() == ""
            slow.send("Host: localhost\r\n\r\n")
            idle.get("/page")
            assert await slow.response() == await idle.response() == PAGE

    run(scenario)


def test_of_addresses_the_one_with_the_most_connections_makes_room() -> None:
    """A crowd from one address takes no place from a client of another, however long that one has been silent."""

    async def scenario() -> None:
        async with serving(Limits(connections=10)) as at, contextlib.AsyncExitStack() as stack:
            reader, writer = await asyncio.open_connection("127.0.0.1", at.port, local_addr=("127.0.0.2", 0))
            stack.callback(writer.close)
            await until(lambda: len(at.server._connections) == 1)
            for _ in range(100):
                await stack.enter_async_context(client(at.port))
            writer.write(b"GET /page HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            assert shown(await reader.read()).startswith("HTTP/1.1 200 OK")

    run(scenario)


@pytest.mark.parametrize(
    "host",
    ["localhost", "LOCALHOST:19293", "localhost.", "a.localhost", "127.0.0.1:19293", "[::1]:19293", "192.0.2.1"],
)
def test_on_a_loopback_address_names_of_this_host_are_answered(host: str) -> None:
    async def scenario() -> None:
        async with serving() as at:
            for name in (host, socket.gethostname()):
                assert await talk(at.port, "GET /page HTTP/1.1", f"Host: {name}", "", "") == PAGE

    run(scenario)


@pytest.mark.parametrize(
    "lines",
    [
        ("GET /page HTTP/1.1", "Host: evil.example"),
        ("GET /page HTTP/1.1", "Host: evil.example:19293"),
        ("GET /page HTTP/1.1", "Host: localhost.evil.example"),
        ("GET /page HTTP/1.1", "Host: 127.0.0.1.evil.example"),
        ("GET http://evil.example/page HTTP/1.1", "Host: localhost"),
    ],
)
def test_on_a_loopback_address_other_names_are_misdirected(lines: tuple[str, ...]) -> None:
    """A browser that DNS rebinding leads here sends the name of the page that it shows."""

    async def scenario() -> None:
        async with serving() as at:
            told = "This address answers only to names of this host: to localhost, an IP address or the host's name.\n"
            assert await talk(at.port, *lines, "", "") == answer("421 Misdirected Request", told, CLOSING)
            assert (at.requests, at.errors) == ([], [])

    run(scenario)


def test_a_target_in_absolute_form_is_served() -> None:
    async def scenario() -> None:
        async with serving() as at:
            for target in ("http://localhost/page", "HTTP://127.0.0.1:1/page", "https://localhost/page?x=1"):
                assert await talk(at.port, f"GET {target} HTTP/1.1", "Host: localhost", "", "") == PAGE
            await talk(at.port, "GET http://localhost?y HTTP/1.1", "Host: localhost", "", "")
            asked = [(request.path, request.query) for request in at.requests]
            assert asked == [("/page", ""), ("/page", ""), ("/page", "x=1"), ("/", "y")]

    run(scenario)


def test_a_full_server_then_drops_the_one_that_is_idle_for_longest() -> None:
    async def scenario() -> None:
        async with serving(Limits(connections=2)) as at, client(at.port) as busier, client(at.port) as idler:
            for peer in (busier, idler, busier):
                peer.get("/page")
                assert await peer.response() == PAGE
            assert await talk(at.port, "GET /page HTTP/1.1", "Host: localhost", "", "") == PAGE
            assert await idler.rest() == ""
            busier.get("/page")
            assert await busier.response() == PAGE

    run(scenario)


def test_a_server_full_of_requests_in_flight_refuses_a_new_connection() -> None:
    async def scenario() -> None:
        limits = Limits(connections=2, grace=0.1, unread=PATIENCE)
        async with serving(limits) as at, stuck(at), stuck(at), client(at.port) as peer:
            assert await peer.rest() == ""

    run(scenario)


@pytest.mark.parametrize("limits", [Limits(connections=2), Limits(max_requests=2)])
def test_an_answer_that_nobody_reads_makes_room_and_the_longest_unread_goes_first(limits: Limits) -> None:
    async def scenario() -> None:
        async with serving(limits._replace(unread=0.0, idle=0.2)) as at, stuck(at) as older, stuck(at) as newer:
            assert await talk(at.port, "GET /page HTTP/1.1", "Host: localhost", "", "") == PAGE
            assert await drained(older) < len(BIG)
            assert await drained(newer) > len(BIG)

    run(scenario)


def test_who_waits_at_the_gate_takes_no_place_from_those_who_are_let_in() -> None:
    async def scenario() -> None:
        opened = asyncio.Event()

        async def gate(request: Request, handler: Handler) -> Response:
            if request.path == "/slow":
                await opened.wait()
            return handler(request)

        async with (
            serving(Limits(max_requests=1), gate=gate) as at,
            client(at.port) as first,
            client(at.port) as second,
            client(at.port) as third,
        ):
            for peer in (first, second):
                peer.get("/slow")
            for _ in range(3):
                third.get("/page")
                assert await third.response() == PAGE
            opened.set()
            assert await first.response() == await second.response() == answer("404 Not Found", "Not Found\n")

    run(scenario)


def test_a_full_server_drops_those_without_the_password_before_the_idle_one_with_it() -> None:
    async def scenario() -> None:
        async def gate(request: Request, handler: Handler) -> Response:
            return plain_text(401) if request.path == "/secret" else handler(request)

        async with serving(Limits(connections=3), gate=gate) as at, client(at.port) as scraper:
            scraper.get("/page")
            assert await scraper.response() == PAGE
            for _ in range(10):
                async with client(at.port) as stranger:
                    stranger.get("/secret")
                    assert (await stranger.response()).startswith("HTTP/1.1 401 ")
                    async with client(at.port), client(at.port), client(at.port):
                        pass
            scraper.get("/page")
            assert await scraper.response() == PAGE

    run(scenario)


def test_a_crowd_that_resets_its_connections_at_once_does_not_stop_the_server() -> None:
    def flood(port: int) -> None:
        for _ in range(500):
            with socket.create_connection(("127.0.0.1", port)) as peer:
                peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    async def scenario() -> None:
        async with serving(Limits(connections=3)) as at:
            await asyncio.to_thread(flood, at.port)
            assert await talk(at.port, "GET /page HTTP/1.1", "Host: localhost", "", "") == PAGE
            assert at.errors == []

    run(scenario)


def test_who_is_dropped_for_another_leaves_no_answer_in_the_kernel() -> None:
    async def scenario() -> None:
        async with serving(Limits(connections=1, unread=0.0)) as at, stuck(at) as reader:
            assert await talk(at.port, "GET /page HTTP/1.1", "Host: localhost", "", "") == PAGE
            with pytest.raises(ConnectionResetError):
                while await asyncio.get_running_loop().sock_recv(reader, 65536):
                    pass

    run(scenario)


def test_a_last_answer_is_read_to_its_end_however_long_that_takes() -> None:
    async def scenario() -> None:
        async with serving() as at:
            with socket.socket() as peer:
                peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                peer.setblocking(False)
                await asyncio.get_running_loop().sock_connect(peer, ("127.0.0.1", at.port))
                peer.send(b"GET /some HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
                await until(lambda: len(at.requests) > 0)
                while at.server._connections:  # the server has sent it all, and waits for the client's end in vain
                    await asyncio.sleep(0.01)
                    pass_time(0.5)
                assert await drained(peer) > len(SOME)

    run(scenario)


def test_a_flood_of_connections_leaves_the_cap_standing() -> None:
    async def scenario() -> None:
        async with serving(Limits(connections=10)) as at, contextlib.AsyncExitStack() as stack:
            for _ in range(300):
                await stack.enter_async_context(client(at.port))
            assert await talk(at.port, "GET /page HTTP/1.1", "Host: localhost", "", "") == PAGE
            assert len(at.server._connections) <= 10

    run(scenario)


def test_a_port_in_use_is_a_usage_error_that_names_it() -> None:
    async def scenario() -> None:
        async with serving() as at:
            second = Server(pages, on_error=at.errors.append)
            with pytest.raises(UsageError) as caught:
                await second.start([("127.0.0.1", at.port)])
            reason = os.strerror(errno.EADDRINUSE)
            assert str(caught.value) == f"cannot listen on 127.0.0.1:{at.port}: {reason}"

    run(scenario)


@pytest.mark.parametrize(
    ("host", "port", "named"),
    [("192.0.2.1", 0, "192.0.2.1:0"), ("2001:db8::1", 0, "[2001:db8::1]:0"), ("a..b", 1, "a..b:1"), ("\0", 1, "\0:1")],
)
def test_an_address_that_cannot_be_is_a_usage_error_that_names_it(host: str, port: int, named: str) -> None:
    async def scenario() -> None:
        with pytest.raises(UsageError) as caught:
            await Server(pages, on_error=lambda _: None).start([(host, port)])
        assert re.fullmatch(f"cannot listen on {re.escape(named)}: .+", str(caught.value))

    run(scenario)


def test_when_the_second_address_fails_the_first_is_closed() -> None:
    async def scenario() -> None:
        async with serving() as at:
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", 0))
                free = probe.getsockname()[1]
            server = Server(pages, on_error=at.errors.append)
            with pytest.raises(UsageError):
                await server.start([("127.0.0.1", free), ("127.0.0.1", at.port)])
            with pytest.raises(ConnectionRefusedError):
                await asyncio.open_connection("127.0.0.1", free)
            assert await server.start([("127.0.0.1", free)]) == [f"http://127.0.0.1:{free}"]
            await server.close()

    run(scenario)


def test_a_server_listens_on_all_its_addresses() -> None:
    async def scenario() -> None:
        server = Server(pages, on_error=lambda _: None)
        urls = await server.start([("127.0.0.1", 0), ("127.0.0.2", 0), ("localhost", 0)])
        assert [re.sub(r"[0-9]+$", "PORT", url) for url in urls] == [
            "http://127.0.0.1:PORT",
            "http://127.0.0.2:PORT",
            "http://127.0.0.1:PORT",
        ]
        for url in urls:
            host, port = url.removeprefix("http://").split(":")
            assert await talk(int(port), "GET /page HTTP/1.1", "Host: localhost", "", "", host=host) == PAGE
        await server.close()

    run(scenario)


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


needs_ipv6 = pytest.mark.skipif(not has_ipv6(), reason="this host has no [::1]")


@needs_ipv6
def test_an_ipv6_address_is_written_in_brackets() -> None:
    async def scenario() -> None:
        server = Server(pages, on_error=lambda _: None)
        [url] = await server.start([("::1", 0)])
        port = int(url.removeprefix("http://[::1]:"))
        assert await talk(port, "GET /page HTTP/1.1", "Host: localhost", "", "", host="::1") == PAGE
        await server.close()

    run(scenario)


@needs_ipv6
def test_no_host_is_every_address_of_both_families() -> None:
    async def scenario() -> None:
        server = Server(pages, on_error=lambda _: None)
        [url] = await server.start([("", 0)])
        port = int(url.removeprefix("http://[::]:"))
        for host in ("127.0.0.1", "::1"):
            assert await talk(port, "GET /page HTTP/1.1", "Host: localhost", "", "", host=host) == PAGE
        await server.close()

    run(scenario)


def test_no_host_is_every_ipv4_address_where_there_is_no_ipv6(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "has_dualstack_ipv6", lambda: False)

    async def scenario() -> None:
        server = Server(pages, on_error=lambda _: None)
        [url] = await server.start([("", 0)])
        port = int(url.removeprefix("http://0.0.0.0:"))
        assert await talk(port, "GET /page HTTP/1.1", "Host: localhost", "", "") == PAGE
        await server.close()

    run(scenario)


def test_file_descriptors_do_not_grow_with_requests() -> None:
    async def scenario() -> None:
        async with serving() as at:
            await talk(at.port, "GET /page HTTP/1.1", "Host: localhost", "", "")
            gc.collect()
            before = len(os.listdir("/proc/self/fd"))
            for n in range(200):
                await talk(
                    at.port, *[("GET /page HTTP/1.1", "Host: localhost", "", ""), ("junk", "", ""), ("GET",)][n % 3]
                )
            await until(lambda: not at.server._connections)
            assert len(os.listdir("/proc/self/fd")) == before

    run(scenario)


def test_close_lets_a_request_in_flight_finish_and_drops_the_idle_and_the_new() -> None:
    async def scenario() -> None:
        async with (
            serving(Limits(grace=PATIENCE)) as at,
            stuck(at) as reader,
            client(at.port) as idle,
            client(at.port) as silent,
        ):
            idle.get("/page")
            assert await idle.response() == PAGE
            closing = asyncio.create_task(at.server.close())
            assert await idle.rest() == await silent.rest() == ""
            with pytest.raises(ConnectionRefusedError):
                await asyncio.open_connection("127.0.0.1", at.port)
            assert await drained(reader) > len(BIG)
            await closing

    run(scenario)


def test_close_cuts_a_request_that_does_not_finish_in_time() -> None:
    async def scenario() -> None:
        async with serving(Limits(grace=0.2)) as at, stuck(at) as reader:
            await at.server.close()
            assert await drained(reader) < len(BIG)
            await at.server.close()  # again is no error

    run(scenario)


def test_a_request_that_the_gate_holds_does_not_hold_up_the_end() -> None:
    """As bcrypt does, of which sixteen checks may wait, each for seconds."""

    async def scenario() -> None:
        held = asyncio.Event()

        async def gate(_: Request, __: Handler) -> Response:
            held.set()
            await asyncio.Event().wait()
            raise AssertionError("unreachable")

        async with serving(Limits(grace=0.05), gate=gate) as at, client(at.port) as it:
            it.get("/page")
            await held.wait()
            await at.server.close()
            assert await it.rest() == ""
            assert at.requests == []
            assert at.errors == []

    run(scenario)


def test_who_comes_in_the_moment_of_the_end_is_no_error() -> None:
    async def scenario() -> None:
        unexpected: list[dict[str, object]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: unexpected.append(context))
        async with serving() as at:
            await talk(at.port, "GET /page HTTP/1.1", "Host: localhost", "Connection: close", "", "")
            with socket.create_connection(("127.0.0.1", at.port)):
                await asyncio.sleep(0)  # asyncio has seen it, and would accept it right after this
                await at.server.close()
                await asyncio.sleep(0)
        assert unexpected == []

    run(scenario)


@pytest.mark.parametrize(
    ("family", "address", "is_loopback"),
    [
        (socket.AF_INET, "127.0.0.2", True),
        (socket.AF_INET, "0.0.0.0", False),
        (socket.AF_INET6, "::1", True),
        (socket.AF_INET6, "::ffff:127.0.0.1", True),
        (socket.AF_INET6, "::", False),
    ],
)
def test_a_loopback_address_is_one_however_it_is_written(
    family: socket.AddressFamily, address: str, is_loopback: bool
) -> None:
    with socket.socket(family) as listening:
        if family == socket.AF_INET6:
            listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        listening.bind((address, 0))
        assert _is_loopback(listening) == is_loopback
