"""What listeners dropped: read from the kernel's own messages, and kept while the sockets of a group come and go."""

from __future__ import annotations

import socket
import struct

import pytest

from exporter.kernel.inetdiag import AF_INET, AF_INET6, DONE, EXTENSION_SKMEMINFO, ListenDump, Local
from exporter.kernel.listeners import Dropped
from exporter.kernel.reader import NetlinkReader
from exporter.tcpstate import TcpState

HTTP, HTTPS = (Local(AF_INET, port.to_bytes(2, "big"), bytes(16)) for port in (80, 443))
ONE, OTHER, THIRD = (bytes([number] * 8) for number in (1, 2, 3))


def test_drops_of_sockets_that_come_and_go_are_never_counted_twice_or_taken_back() -> None:
    dropped = Dropped()
    assert dropped.add({ONE: (HTTP, 5), OTHER: (HTTP, 2), THIRD: (HTTPS, 0)}) == {HTTP: 7, HTTPS: 0}
    assert dropped.add({ONE: (HTTP, 6), THIRD: (HTTPS, 0)}) == {HTTP: 8, HTTPS: 0}
    assert dropped.add({ONE: (HTTP, 6), OTHER: (HTTP, 1), THIRD: (HTTPS, 0)}) == {HTTP: 9, HTTPS: 0}


def test_a_listener_that_is_gone_is_forgotten() -> None:
    dropped = Dropped()
    dropped.add({ONE: (HTTP, 5), THIRD: (HTTPS, 1)})
    assert dropped.add({THIRD: (HTTPS, 1)}) == {HTTPS: 1}
    assert dropped.add({OTHER: (HTTP, 2), THIRD: (HTTPS, 1)}) == {HTTP: 2, HTTPS: 1}


@pytest.mark.parametrize("family", [AF_INET, AF_INET6])
def test_the_kernel_lists_the_drops_of_each_listener(family: int) -> None:
    with socket.create_server(
        ("127.0.0.1" if family == AF_INET else "::1", 0), family=socket.AddressFamily(family), backlog=5
    ) as server:
        dump = NetlinkReader().collect(1 << TcpState.LISTEN, ListenDump, extensions=EXTENSION_SKMEMINFO)
        port = server.getsockname()[1].to_bytes(2, "big")
        assert [number for local, number in dump.drops.values() if (local.family, local.port) == (family, port)] == [0]


def test_a_dump_that_did_not_ask_for_drops_has_none() -> None:
    with socket.create_server(("127.0.0.1", 0)):
        assert NetlinkReader().collect(1 << TcpState.LISTEN, ListenDump).drops == {}


def test_an_attribute_that_is_cut_tells_nothing() -> None:
    words = struct.pack("=HH9I", 40, 7, *range(9))  # INET_DIAG_SKMEMINFO
    listener = bytes([AF_INET, TcpState.LISTEN]) + bytes(70)
    for end in range(4, len(words) + 1, 4):
        message = struct.pack("=IHHII", 88 + end, 20, 2, 1, 0) + listener + words[:end]
        dump = ListenDump()
        assert dump.add(message + DONE)
        assert [number for _, number in dump.drops.values()] == ([8] if end == len(words) else [])
