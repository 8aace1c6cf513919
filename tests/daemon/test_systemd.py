"""Messages to a real datagram socket in the service manager's place, and real sockets passed as systemd passes them."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from exporter.daemon.systemd import NotifySocket, passed_sockets
from exporter.errors import UsageError

PID = 4711


@contextlib.contextmanager
def manager(address: str) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        channel.bind(address)
        channel.setblocking(False)
        yield channel


def test_a_message_goes_to_the_path(tmp_path: Path) -> None:
    address = str(tmp_path / "notify")
    with manager(address) as channel:
        assert NotifySocket({"NOTIFY_SOCKET": address}, PID).send("READY=1", "STATUS=counting by netlink")
        assert channel.recv(4096) == b"READY=1\nSTATUS=counting by netlink"


def test_a_message_goes_to_the_abstract_name() -> None:
    name = f"tcp-exporter-test-{os.getpid()}"
    with manager(f"\0{name}") as channel:
        assert NotifySocket({"NOTIFY_SOCKET": f"@{name}"}, PID).send("STOPPING=1")
        assert channel.recv(4096) == b"STOPPING=1"


def test_a_name_in_a_status_is_neither_another_assignment_nor_an_error(tmp_path: Path) -> None:
    address = str(tmp_path / "notify")
    with manager(address) as channel:
        name = os.fsdecode(b"/etc/a\nMAINPID=1\xff.yml")
        assert NotifySocket({"NOTIFY_SOCKET": address}, PID).send("READY=1", f"STATUS={name}: cannot be read")
        assert channel.recv(4096) == b"READY=1\nSTATUS=/etc/a?MAINPID=1?.yml: cannot be read"


def test_a_manager_that_comes_again_gets_the_next_message(tmp_path: Path) -> None:
    address = str(tmp_path / "notify")
    notifier = NotifySocket({"NOTIFY_SOCKET": address}, PID)
    assert not notifier.send("READY=1")
    with manager(address) as channel:
        assert notifier.send("READY=1")
        assert channel.recv(4096) == b"READY=1"
    assert not notifier.send("READY=1")


def test_a_manager_that_does_not_read_holds_nothing_up(tmp_path: Path) -> None:
    address = str(tmp_path / "notify")
    with manager(address):
        notifier = NotifySocket({"NOTIFY_SOCKET": address}, PID)
        assert False in {notifier.send("WATCHDOG=1") for _ in range(10_000)}  # the kernel's queue is much shorter


@pytest.mark.parametrize("address", [None, "", "vsock:2:1234", "relative"])
def test_without_a_manager_a_message_goes_nowhere(address: str | None) -> None:
    assert NotifySocket({} if address is None else {"NOTIFY_SOCKET": address}, PID).send("READY=1")


def test_an_address_that_cannot_be_ends_nothing() -> None:
    assert not NotifySocket({"NOTIFY_SOCKET": "/" + "x" * 200}, PID).send("READY=1")


@pytest.mark.parametrize(
    ("environ", "seconds"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "30000000"}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(PID)}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({"WATCHDOG_USEC": "-1"}, None),
    ],
)
def test_the_watchdog_is_this_process_own(environ: dict[str, str], seconds: float | None) -> None:
    assert NotifySocket(environ, PID).watchdog == seconds


def test_what_was_read_is_gone_from_the_environment(tmp_path: Path) -> None:
    environ = {
        "PATH": "/bin", "NOTIFY_SOCKET": str(tmp_path), "WATCHDOG_USEC": "1", "WATCHDOG_PID": "1",
        "LISTEN_PID": "1", "LISTEN_FDS": "1", "LISTEN_FDNAMES": "http",
    }  # fmt: skip
    NotifySocket(environ, PID)
    with pytest.raises(UsageError):
        passed_sockets(environ, PID)
    assert environ == {"PATH": "/bin"}


@contextlib.contextmanager
def passing(*sockets: socket.socket) -> Iterator[int]:
    """The first of descriptors in a row, for *sockets*: passing is what closes them."""
    first = 200
    for number, each in enumerate(sockets, first):
        os.dup2(each.fileno(), number)
        each.close()
    try:
        yield first
    finally:
        for number in range(first, first + len(sockets)):
            with contextlib.suppress(OSError):
                os.close(number)


def listening(family: int, address: object) -> socket.socket:
    made = socket.socket(family, socket.SOCK_STREAM)  # protocol 0, as systemd makes them
    made.bind(address)  # type: ignore[arg-type]
    made.listen()
    return made


def test_every_passed_socket_is_taken_as_what_it_is(tmp_path: Path) -> None:
    path = str(tmp_path / "socket")
    with passing(listening(socket.AF_INET, ("127.0.0.1", 0)), listening(socket.AF_UNIX, path)) as first:
        passed = passed_sockets({"LISTEN_PID": str(PID), "LISTEN_FDS": "2"}, PID, first)
        try:
            assert [(each.fileno(), each.family, each.proto, each.get_inheritable()) for each in passed] == [
                (first, socket.AF_INET, socket.IPPROTO_TCP, False),
                (first + 1, socket.AF_UNIX, 0, False),
            ]
            assert passed[1].getsockname() == path
        finally:
            for each in passed:
                each.close()


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"LISTEN_PID": str(PID)},
        {"LISTEN_PID": str(PID), "LISTEN_FDS": "0"},
        {"LISTEN_PID": str(PID), "LISTEN_FDS": "many"},
        {"LISTEN_PID": "1", "LISTEN_FDS": "1"},
        {"LISTEN_FDS": "1"},
    ],
)
def test_where_none_was_passed_it_is_said_as_exporters_in_go_say_it(environ: dict[str, str]) -> None:
    with pytest.raises(UsageError, match=r"^no socket activation file descriptors found$"):
        passed_sockets(environ, PID)


def refused(made: socket.socket) -> str:
    environ = {"LISTEN_PID": str(PID), "LISTEN_FDS": "2", "LISTEN_FDNAMES": "good:bad"}
    with passing(listening(socket.AF_INET, ("127.0.0.1", 0)), made) as first, pytest.raises(UsageError) as caught:
        passed_sockets(environ, PID, first)
    return str(caught.value)


def test_a_socket_that_cannot_be_served_is_named() -> None:
    wanted = "file descriptor 201 (bad), which systemd passed: expected a listening stream socket, got "
    assert refused(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) == wanted + "a socket of another type"
    ours, theirs = socket.socketpair()
    with theirs:
        assert refused(ours) == wanted + "a stream that nobody listens on, as Accept=yes makes them"


def test_a_descriptor_that_is_no_socket_is_named() -> None:
    environ = {"LISTEN_PID": str(PID), "LISTEN_FDS": "1"}
    read, write = os.pipe()
    try:
        with pytest.raises(UsageError) as caught:
            passed_sockets(environ, PID, read)
    finally:
        os.close(read)
        os.close(write)
    message = f"file descriptor {read}, which systemd passed: Socket operation on non-socket"
    assert str(caught.value) == message
