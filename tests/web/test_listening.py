"""What the server listens on beside one TCP address: several, unix sockets, and sockets that were passed to it."""

from __future__ import annotations

import asyncio
import os
import socket
import stat
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from exporter.daemon.systemd import passed_sockets
from exporter.errors import UsageError
from exporter.web.http import Request, Response, plain_text
from exporter.web.server import Server

PATIENCE = 120.0  # seconds until a test counts as hanging; no test waits for it


def page(_: Request) -> Response:
    return plain_text(200, "page")


def server() -> Server:
    def fail(error: BaseException) -> None:
        raise error

    return Server(page, on_error=fail)


def run(scenario: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(PATIENCE):
            await scenario()

    asyncio.run(bounded())


async def answer(url: str) -> str:
    """What is answered at an address as the server writes it: the first line and the last."""
    if url.startswith("unix:"):
        reader, writer = await asyncio.open_unix_connection(url.removeprefix("unix:").replace("@", "\0"))
    else:
        host, _, port = url.removeprefix("http://").rpartition(":")
        reader, writer = await asyncio.open_connection(host.strip("[]"), int(port))
    writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    lines = (await reader.read()).decode().splitlines()
    writer.close()
    await writer.wait_closed()
    return f"{lines[0]}: {lines[-1]}"


OK = "HTTP/1.1 200 OK: page"


def test_a_free_port_may_be_asked_for_several_times() -> None:
    async def scenario() -> None:
        it = server()
        urls = await it.start([("127.0.0.1", 0)] * 3)
        assert len(set(urls)) == 3
        assert [await answer(url) for url in urls] == [OK] * 3
        await it.close()

    run(scenario)


def test_a_unix_socket_serves_its_group_whatever_the_umask_and_goes_with_the_server(tmp_path: Path) -> None:
    path = tmp_path / "socket"

    async def scenario() -> None:
        it = server()
        before = os.umask(0o077)
        try:
            urls = await it.start([("127.0.0.1", 0), str(path)])
        finally:
            os.umask(before)
        assert urls[1] == f"unix:{path}"
        assert [await answer(url) for url in urls] == [OK, OK]
        assert stat.S_IMODE(path.stat().st_mode) == 0o660
        await it.close()
        assert not path.exists()

    run(scenario)


def test_the_socket_of_a_process_that_has_gone_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX) as gone:
        gone.bind(str(path))
        gone.listen()

    async def scenario() -> None:
        it = server()
        [url] = await it.start([str(path)])
        assert await answer(url) == OK
        await it.close()

    run(scenario)


async def refused(*addresses: tuple[str, int] | str) -> str:
    with pytest.raises(UsageError) as caught:
        await server().start(addresses)
    return str(caught.value)


def test_a_socket_that_another_process_serves_on_is_left_to_it(tmp_path: Path) -> None:
    path = str(tmp_path / "socket")

    async def scenario() -> None:
        first = server()
        [url] = await first.start([path])
        assert await refused(path) == f"cannot listen on unix:{path}: another process listens there"
        assert await answer(url) == OK
        await first.close()

    run(scenario)


def test_a_socket_whose_queue_is_full_is_another_process_too(tmp_path: Path) -> None:
    path = str(tmp_path / "socket")
    with socket.socket(socket.AF_UNIX) as other, socket.socket(socket.AF_UNIX) as waiting:
        other.bind(path)
        other.listen(0)
        waiting.connect(path)

        async def scenario() -> None:
            assert await refused(path) == f"cannot listen on unix:{path}: another process listens there"

        run(scenario)


def test_a_file_that_is_no_socket_stays(tmp_path: Path) -> None:
    path = tmp_path / "notes"
    path.write_text("dear to somebody")

    async def scenario() -> None:
        assert await refused(str(path)) == f"cannot listen on unix:{path}: something is there that is no socket"

    run(scenario)
    assert path.read_text() == "dear to somebody"


def test_a_folder_that_is_not_there_is_a_usage_error_that_names_the_socket(tmp_path: Path) -> None:
    path = str(tmp_path / "nowhere" / "socket")

    async def scenario() -> None:
        assert await refused(path) == f"cannot listen on unix:{path}: No such file or directory"

    run(scenario)


def test_what_another_process_put_in_its_place_stays(tmp_path: Path) -> None:
    path = tmp_path / "socket"

    async def scenario() -> None:
        it = server()
        await it.start([str(path)])
        with socket.socket(socket.AF_UNIX) as other:
            other.bind(str(tmp_path / "other"))
            (tmp_path / "other").rename(path)
            await it.close()
        assert path.exists()

    run(scenario)


def test_when_the_second_address_fails_the_unix_socket_goes(tmp_path: Path) -> None:
    path = tmp_path / "socket"

    async def scenario() -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            address: tuple[str, int] = taken.getsockname()
            taken.listen()
            assert await refused(str(path), address) == (
                f"cannot listen on 127.0.0.1:{address[1]}: Address already in use"
            )
        assert not path.exists()

    run(scenario)


def test_passed_sockets_are_served_without_delay_and_their_files_stay(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    made = [socket.socket(socket.AF_INET, socket.SOCK_STREAM), socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)]
    made[0].bind(("127.0.0.1", 0))
    made[1].bind(str(path))
    first = 210
    for number, each in enumerate(made, first):
        each.listen()
        os.dup2(each.fileno(), number)
    port = made[0].getsockname()[1]
    for each in made:
        each.close()

    async def scenario() -> None:
        it = server()
        urls = await it.take(passed_sockets({"LISTEN_PID": "1", "LISTEN_FDS": "2"}, 1, first))
        assert urls == [f"http://127.0.0.1:{port}", f"unix:{path}"]
        assert [await answer(url) for url in urls] == [OK, OK]
        # Nagle's algorithm would hold back all answers of a connection but the first, each for 40 ms.
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await reader.readuntil(b"page\n")
        [connection] = it._connections
        accepted = connection._accepted
        assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1
        writer.close()
        await writer.wait_closed()
        await it.close()
        assert path.exists()

    run(scenario)


def test_an_abstract_socket_is_written_with_its_at() -> None:
    name = f"tcp-exporter-test-{os.getpid()}"

    async def scenario() -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as made:
            made.bind(f"\0{name}")
            made.listen()
            it = server()
            [url] = await it.take([socket.socket(fileno=os.dup(made.fileno()))])
            assert (url, await answer(url)) == (f"unix:@{name}", OK)
            await it.close()

    run(scenario)
