"""Real TLS clients against the server: whose handshake counts, and what each connection begins with."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import socket
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import pytest

from exporter.web.server import Limits
from exporter.web.tls import context
from exporter.web.webconfig import NO_CLIENT_CERT, REQUIRED, ServerTls, Tls
from tests.certificates import Authority, Pair
from tests.web.test_server import BIG, PAGE, Client, answer, client, run, serving, shown, until

REFUSED = {"IncompleteReadError", "ConnectionResetError", "BrokenPipeError", "SSLError"}  # as the client sees it


class Keys(NamedTuple):
    """An authority, a server's certificate of it, and what the two ends make of them."""

    authority: Authority
    server: Pair
    tls: ServerTls
    trusting: ssl.SSLContext  # a client's


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    authority = Authority(tmp_path_factory.mktemp("tls"), "ca")
    server = authority.issue("server")
    return Keys(authority, server, server_tls(server), ssl.create_default_context(cafile=authority.cert))


def server_tls(pair: Pair, authority: Path | None = None, sans: frozenset[str] | None = None) -> ServerTls:
    """A server's side; with *authority*, clients need a certificate of it."""
    tls = Tls(
        cert=pair.cert.read_bytes(),
        key=pair.key.read_bytes(),
        client_ca=None if authority is None else authority.read_bytes(),
        client_auth_type=REQUIRED if authority else None,
    )
    return ServerTls(context(tls), sans, tls.client_auth_type or NO_CLIENT_CERT, tls.authorities)


async def fetched(port: int, tls: ssl.SSLContext) -> str:
    """The page; what a client gets of it."""
    try:
        async with client(port, tls=tls) as peer:
            peer.get("/page")
            return await peer.response()
    except (OSError, asyncio.IncompleteReadError) as error:
        return type(error).__name__


def test_a_request_over_tls_is_answered_and_the_connection_is_kept(keys: Keys) -> None:
    async def scenario() -> None:
        async with serving(tls=lambda: keys.tls) as at, client(at.port, tls=keys.trusting) as peer:
            for _ in range(3):
                peer.get("/page")
                assert await peer.response() == PAGE
            assert at.errors == []

    run(scenario)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_big_body_arrives_whole_over_tls(keys: Keys, version: ssl.TLSVersion) -> None:
    async def scenario() -> None:
        trusting = ssl.create_default_context(cafile=keys.authority.cert)
        trusting.minimum_version = trusting.maximum_version = version
        async with serving(tls=lambda: keys.tls) as at, client(at.port, tls=trusting) as peer:
            peer.send("GET /big HTTP/1.1", "Host: localhost", "Connection: close", "", "")
            head, _, body = (await peer.rest()).partition("\r\n\r\n")
            assert (head.split("\r\n")[0], len(body)) == ("HTTP/1.1 200 OK", len(BIG))

    run(scenario)


@pytest.mark.parametrize("start", [b"", b"\x16", b"\x16\x03\x01\x02\x00\x01"])
def test_a_silent_handshake_is_closed_by_its_deadline(keys: Keys, start: bytes) -> None:
    async def scenario() -> None:
        async with serving(Limits(handshake=0.2), tls=lambda: keys.tls) as at, client(at.port) as peer:
            peer.writer.write(start)
            assert await peer.rest() == ""
            await until(lambda: not at.server._connections)
            assert at.errors == []

    run(scenario)


def test_a_trickled_handshake_is_closed_by_the_same_deadline(keys: Keys) -> None:
    async def scenario() -> None:
        async with serving(Limits(handshake=0.5), tls=lambda: keys.tls) as at, client(at.port) as peer:

            async def trickle() -> None:
                with contextlib.suppress(ConnectionError):
                    for byte in b"\x16\x03\x01\x40\x00" + bytes(16384):
                        peer.writer.write(bytes([byte]))
                        await peer.writer.drain()
                        await asyncio.sleep(0.02)

            trickling = asyncio.create_task(trickle())
            await peer.rest()
            trickling.cancel()
            await asyncio.wait([trickling])
            await until(lambda: not at.server._connections)

    run(scenario)


def test_a_client_that_is_silent_after_the_handshake_is_closed_by_the_head_deadline(keys: Keys) -> None:
    async def scenario() -> None:
        limits = Limits(head=0.2, close=0.2)
        async with serving(limits, tls=lambda: keys.tls) as at, client(at.port, tls=keys.trusting) as peer:
            assert await peer.rest() == ""

    run(scenario)


@pytest.mark.parametrize("number", [1, 21])
def test_silent_handshakes_do_not_keep_a_good_request_out(keys: Keys, number: int) -> None:
    async def scenario() -> None:
        async with serving(tls=lambda: keys.tls) as at, contextlib.AsyncExitStack() as stack:
            for _ in range(number):
                await stack.enter_async_context(client(at.port))
            assert await fetched(at.port, keys.trusting) == PAGE

    run(scenario)


def test_silent_handshakes_count_and_the_oldest_goes_when_the_server_is_full(keys: Keys) -> None:
    async def scenario() -> None:
        async with serving(Limits(connections=10), tls=lambda: keys.tls) as at, contextlib.AsyncExitStack() as stack:
            for _ in range(300):
                await stack.enter_async_context(client(at.port))
            assert await fetched(at.port, keys.trusting) == PAGE
            assert len([each for each in at.server._connections if not each.dropped]) <= 10

    run(scenario)


def test_plain_http_is_answered_as_by_the_server_of_go(keys: Keys) -> None:
    async def scenario() -> None:
        async with serving(tls=lambda: keys.tls) as at:
            for _ in range(3):
                async with client(at.port) as peer:
                    peer.get("/page")
                    assert await peer.rest() == (
                        "HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n"
                    )
            assert (at.requests, at.errors) == ([], [])

    run(scenario)


def test_who_goes_on_sending_plain_http_leaves_the_others_their_turns(keys: Keys) -> None:
    async def scenario() -> None:
        async with serving(tls=lambda: keys.tls) as at:
            with socket.create_connection(("127.0.0.1", at.port)) as peer:
                peer.sendall(b"G" * 60000)  # waits in the kernel: nothing keeps the server from reading it all
                peer.shutdown(socket.SHUT_WR)
                while not at.server._connections:  # noqa: ASYNC110 - until() could miss it
                    await asyncio.sleep(0)
                turns = 0
                while at.server._connections:
                    await asyncio.sleep(0)
                    turns += 1
                assert turns > 60000 // 4096, "one for each read"

    run(scenario)


def test_what_is_neither_tls_nor_http_is_closed_without_an_answer(keys: Keys) -> None:
    async def scenario() -> None:
        async with serving(tls=lambda: keys.tls) as at, client(at.port) as peer:
            peer.send("\x00\x01 junk")
            assert "HTTP" not in await peer.rest()
            assert (at.requests, at.errors) == ([], [])

    run(scenario)


def test_a_handshake_that_fails_is_reported_with_its_reason(keys: Keys) -> None:
    async def scenario() -> None:
        required = server_tls(keys.server, keys.authority.cert)
        async with serving(tls=lambda: required) as at:
            assert await fetched(at.port, presenting(keys, None)) in REFUSED
            await until(lambda: bool(at.handshakes))
            assert at.handshakes == [("127.0.0.1", "peer did not return a certificate")]

    run(scenario)


def test_a_client_in_its_handshake_is_spared_while_others_are_silent(keys: Keys) -> None:
    """A scraper that is far away is silent for a round trip after its first packet."""

    async def scenario() -> None:
        async with serving(Limits(connections=10), tls=lambda: keys.tls) as at, contextlib.AsyncExitStack() as stack:
            to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
            far = keys.trusting.wrap_bio(to_client, to_server, server_hostname="127.0.0.1")
            with contextlib.suppress(ssl.SSLWantReadError):
                far.do_handshake()
            reader, writer = await asyncio.open_connection("127.0.0.1", at.port)
            stack.callback(writer.close)
            writer.write(to_server.read())
            to_client.write(await reader.read(65536))  # the server's part, which took a while
            for _ in range(100):
                await stack.enter_async_context(client(at.port))
            far.do_handshake()
            far.write(b"GET /page HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            writer.write(to_server.read())
            to_client.write(await reader.read(65536))
            assert far.read(15) == b"HTTP/1.1 200 OK"

    run(scenario)


def test_a_client_that_does_not_end_tls_is_closed_by_a_deadline(keys: Keys) -> None:
    async def scenario() -> None:
        async with serving(Limits(close=0.2), tls=lambda: keys.tls) as at, client(at.port, tls=keys.trusting) as peer:
            hold(peer)  # so that the server's close_notify is never answered
            peer.send("GET /page HTTP/1.1", "Host: localhost", "Connection: close", "", "")
            await until(lambda: bool(at.requests))
            await until(lambda: not at.server._connections)
            peer.writer.transport.abort()

    run(scenario)


def hold(peer: Client) -> None:
    """Read nothing from now on."""
    transport = peer.writer.transport
    assert isinstance(transport, asyncio.ReadTransport)
    transport.pause_reading()


async def stuck(port: int, tls: ssl.SSLContext) -> Client:
    """A client that asks for 8 MiB and reads none of them."""
    narrow = socket.socket()
    narrow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)  # the kernel would grow it otherwise
    narrow.setblocking(False)
    await asyncio.get_running_loop().sock_connect(narrow, ("127.0.0.1", port))
    peer = Client(*await asyncio.open_connection(sock=narrow, ssl=tls, server_hostname="127.0.0.1"))
    hold(peer)
    peer.get("/big")
    return peer


def test_readers_that_do_not_read_give_way_to_a_client_in_its_handshake(keys: Keys) -> None:
    """Each that asks and does not read is busy, so the others of the crowd would push out the scraper alone."""

    async def scenario() -> None:
        limits = Limits(connections=4, unread=0.0)
        async with serving(limits, tls=lambda: keys.tls) as at, contextlib.AsyncExitStack() as stack:
            peers = [await stuck(at.port, keys.trusting) for _ in range(3)]
            for peer in peers:
                stack.callback(peer.writer.transport.abort)
            await until(lambda: sum(it.unread_since is not None for it in at.server._connections) == 3)
            _reader, writer = await asyncio.open_connection("127.0.0.1", at.port, local_addr=("127.0.0.2", 0))
            stack.callback(writer.close)
            writer.write(b"\x16")  # the rest of its handshake is on the way
            await until(lambda: any(it.is_spared for it in at.server._connections if it.place == "127.0.0.2"))
            await stack.enter_async_context(client(at.port))
            await until(lambda: sum(it.unread_since is not None for it in at.server._connections) == 2)
            assert [it.dropped for it in at.server._connections if it.place == "127.0.0.2"] == [False]

    run(scenario)


def test_readers_that_do_not_read_are_cut_by_the_write_deadline(keys: Keys) -> None:
    async def scenario() -> None:
        async with serving(Limits(write=0.5), tls=lambda: keys.tls) as at:
            peers = [await stuck(at.port, keys.trusting) for _ in range(8)]
            await until(lambda: len(at.requests) == 8)
            assert await fetched(at.port, keys.trusting) == PAGE
            await until(lambda: not at.server._connections)
            for peer in peers:
                peer.writer.transport.abort()

    run(scenario)


def test_a_new_connection_gets_the_certificate_of_now_and_an_old_one_goes_on(keys: Keys, tmp_path: Path) -> None:
    async def scenario() -> None:
        now = keys.tls
        other = Authority(tmp_path, "other")
        trusting_other = ssl.create_default_context(cafile=other.cert)
        async with serving(tls=lambda: now) as at, client(at.port, tls=keys.trusting) as old:
            old.get("/page")
            assert await old.response() == PAGE
            now = server_tls(other.issue("server"))
            assert await fetched(at.port, trusting_other) == PAGE
            assert await fetched(at.port, keys.trusting) == "SSLCertVerificationError"
            old.get("/page")
            assert await old.response() == PAGE

    run(scenario)


def presenting(keys: Keys, pair: Pair | None) -> ssl.SSLContext:
    made = ssl.create_default_context(cafile=keys.authority.cert)
    if pair is not None:
        made.load_cert_chain(pair.cert, pair.key)
    return made


def test_a_client_needs_a_certificate_of_the_authority_where_one_is_required(keys: Keys, tmp_path: Path) -> None:
    async def scenario() -> None:
        mine = keys.authority.issue("client", "DNS:prometheus.example")
        strangers = Authority(tmp_path, "ca").issue("client", "DNS:prometheus.example")
        required = server_tls(keys.server, keys.authority.cert)
        async with serving(tls=lambda: required) as at:
            assert await fetched(at.port, presenting(keys, mine)) == PAGE
            for pair in (None, strangers):
                assert await fetched(at.port, presenting(keys, pair)) in REFUSED
            assert (len(at.requests), at.errors) == (1, [])

    run(scenario)


def test_of_the_authoritys_clients_only_those_with_an_allowed_name_come_in(keys: Keys) -> None:
    async def scenario() -> None:
        allowed = server_tls(keys.server, keys.authority.cert, frozenset({"prometheus.example", "2001:db8::1"}))
        names = ["DNS:prometheus.example", "DNS:x,IP:2001:db8::1", "DNS:other.example", "email:prometheus.example"]
        pairs = [keys.authority.issue(f"client{number}", name) for number, name in enumerate(names)]
        async with serving(tls=lambda: allowed) as at:
            got = [await fetched(at.port, presenting(keys, pair)) for pair in pairs]
            assert [each if each == PAGE else each in REFUSED for each in got] == [PAGE, PAGE, True, PAGE]
            assert (len(at.requests), at.errors) == (3, [])

    run(scenario)


def test_a_client_whose_authority_is_removed_gets_no_more_answers(keys: Keys, tmp_path: Path) -> None:
    async def scenario() -> None:
        mine = presenting(keys, keys.authority.issue("client", "DNS:prometheus.example"))
        now = server_tls(keys.server, keys.authority.cert)
        async with (
            serving(tls=lambda: now) as at,
            client(at.port, tls=mine) as asking,
            client(at.port, tls=mine) as idle,
        ):
            for peer in (asking, idle):
                peer.get("/page")
                assert await peer.response() == PAGE
            now = server_tls(keys.server, Authority(tmp_path, "other").cert)
            asking.get("/page")
            assert await asking.rest() == ""
            at.server.end_unadmitted()
            assert await idle.rest() == ""
            assert (len(at.requests), at.errors) == (2, [])

    run(scenario)


def test_a_renewed_certificate_of_the_server_ends_no_connection(keys: Keys) -> None:
    async def scenario() -> None:
        now = server_tls(keys.server, keys.authority.cert)
        mine = presenting(keys, keys.authority.issue("client", "DNS:prometheus.example"))
        async with serving(tls=lambda: now) as at, client(at.port, tls=mine) as peer:
            peer.get("/page")
            assert await peer.response() == PAGE
            now = server_tls(keys.authority.issue("renewed"), keys.authority.cert)
            at.server.end_unadmitted()
            peer.get("/page")
            assert await peer.response() == PAGE

    run(scenario)


def test_close_ends_handshakes_in_progress(keys: Keys) -> None:
    async def scenario() -> None:
        async with serving(tls=lambda: keys.tls) as at, client(at.port) as peer:
            await until(lambda: bool(at.server._connections))
            await at.server.close()
            assert await peer.rest() == ""

    run(scenario)


def test_file_descriptors_do_not_grow_with_handshakes_that_fail(keys: Keys) -> None:
    async def scenario() -> None:
        async with serving(tls=lambda: keys.tls) as at:
            assert await fetched(at.port, keys.trusting) == PAGE
            await until(lambda: not at.server._connections)
            gc.collect()
            before = len(os.listdir("/proc/self/fd"))
            for number in range(60):
                async with client(at.port) as peer:
                    peer.writer.write([b"", b"\x16\x03\x01", b"junk\r\n\r\n"][number % 3])
                assert await fetched(at.port, keys.trusting) == PAGE
            await until(lambda: not at.server._connections)
            gc.collect()
            assert len(os.listdir("/proc/self/fd")) == before

    run(scenario)


def test_the_first_answer_needs_no_second_packet_from_the_client(keys: Keys) -> None:
    async def scenario() -> None:
        async with serving(tls=lambda: keys.tls) as at, client(at.port, tls=keys.trusting) as peer:
            peer.send("junk", "", "")
            assert shown(await peer.reader.read(65536)) == answer(
                "400 Bad Request", "Bad Request\n", "Connection: close"
            )

    run(scenario)


@pytest.mark.parametrize("tickets", [True, False])
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_client_that_is_no_longer_admitted_resumes_nothing(
    keys: Keys, tmp_path: Path, version: ssl.TLSVersion, tickets: bool
) -> None:
    """Neither by a ticket nor by the session's id: of a removed authority, without its name, or expired."""
    mine = presenting(keys, keys.authority.issue("client", "DNS:prometheus.example"))
    mine.minimum_version = mine.maximum_version = version
    if not tickets:
        mine.options |= ssl.OP_NO_TICKET
    first = server_tls(keys.server, keys.authority.cert, frozenset({"prometheus.example"}))
    later = {
        "removed": server_tls(keys.server, Authority(tmp_path, "other").cert, first.allowed_sans),
        "unnamed": first._replace(allowed_sans=frozenset({"other.example"})),
        "expired": Expired(*first),
    }
    state = {"now": first}

    def resumed(port: int, session: ssl.SSLSession | None) -> tuple[str, bool | None, ssl.SSLSession | None]:
        """The status line, whether the session was resumed, and the session to resume the next time."""
        try:
            with (
                socket.create_connection(("127.0.0.1", port), 60) as plain,
                mine.wrap_socket(plain, server_hostname="localhost", session=session) as peer,
            ):
                peer.sendall(b"GET /page HTTP/1.1\r\nHost: localhost\r\n\r\n")
                found = peer.recv(65536)[:15].decode(), peer.session_reused, peer.session
                with contextlib.suppress(OSError):
                    peer.unwrap()  # else neither end keeps the session
                return found
        except OSError:
            return "", None, None

    async def scenario() -> None:
        async with serving(tls=lambda: state["now"]) as at:
            line, _, session = await asyncio.to_thread(resumed, at.port, None)
            assert line == "HTTP/1.1 200 OK"
            again = await asyncio.to_thread(resumed, at.port, session)
            assert again[:2] == ("HTTP/1.1 200 OK", version is ssl.TLSVersion.TLSv1_2)
            for kind, now in later.items():
                state["now"] = now
                assert (kind, (await asyncio.to_thread(resumed, at.port, session))[0]) == (kind, "")
                assert (kind, (await asyncio.to_thread(resumed, at.port, None))[0]) == (kind, "")
            assert (len(at.requests), at.errors) == (2, [])

    run(scenario)


class Expired(ServerTls):
    """The same as it will be when the certificates of the test have expired."""

    def admits(self, certificate: Mapping[str, object] | None, now: float) -> bool:
        return super().admits(certificate, now + 30 * 86400)
