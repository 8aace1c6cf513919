"""The columns of a dump: ports, peers, inodes and cgroups, of messages of one length and of several."""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Callable, Iterable
from ipaddress import ip_address
from typing import TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.errors import SourceMalformed
from exporter.kernel.inetdiag import Block
from exporter.kernel.sockets import Counting, address, cgroup_ids, inodes, peers, ports

K = TypeVar("K")

SHUTDOWN = struct.pack("=HHB3x", 5, 8, 0)
MARK = struct.pack("=HHI", 8, 15, 0)
SOCKOPT = struct.pack("=HH2s2x", 6, 22, b"")
DONE = struct.pack("=IHHIIi", 20, 3, 2, 1, 99, 0)


def cgroup(number: int) -> bytes:
    return struct.pack("=HHQ", 12, 21, number)


def message(peer: str = "192.0.2.2", port: int = 443, inode: int = 0, attributes: bytes = b"") -> bytes:
    packed = ip_address(peer).packed
    family = 2 if len(packed) == 4 else 10
    sockid = struct.pack("!HH16s16s", port, 50000, b"", packed) + bytes(12)
    body = bytes([family, 1, 0, 0]) + sockid + struct.pack("=5I", 0, 0, 0, 0, inode) + attributes
    return struct.pack("=IHHII", 16 + len(body), 18, 2, 1, 99) + body


def counted(column: Callable[[Block], Iterable[K]], *replies: bytes) -> Counter[K]:
    counting = Counting(column)
    assert not any(counting.add(reply) for reply in replies)
    assert counting.add(DONE)
    return counting.sockets


@pytest.mark.parametrize("attributes", [b"", SHUTDOWN, SHUTDOWN + MARK + cgroup(1) + SOCKOPT])
def test_ports_inodes_and_peers_are_read_with_and_without_attributes(attributes: bytes) -> None:
    one, other = message("192.0.2.9", 443, 7, attributes), message("2001:db8::1:2", 65535, 0xFFFFFFFF, attributes)
    assert counted(ports, one * 2 + other) == Counter({443: 2, 65535: 1})
    assert counted(inodes, one * 2 + other) == Counter({7: 2, 0xFFFFFFFF: 1})
    by_text = {address(peer): number for peer, number in counted(peers, one * 2, other).items()}
    assert by_text == {"192.0.2.9": 2, "2001:db8::1:2": 1}


def test_messages_of_several_lengths_are_counted_together() -> None:
    reply = message(inode=1, attributes=SHUTDOWN) + message(inode=2) + message(inode=3, attributes=SHUTDOWN + cgroup(9))
    assert counted(inodes, reply) == Counter({1: 1, 2: 1, 3: 1})
    assert counted(cgroup_ids, reply) == Counter({0: 2, 9: 1})


def test_an_ipv4_peer_of_an_ipv6_socket_is_written_as_ipv4() -> None:
    assert [address(peer) for peer in counted(peers, message("::ffff:192.0.2.7"))] == ["192.0.2.7"]


@pytest.mark.parametrize("nowhere", ["0.0.0.0", "::"])
def test_a_listener_has_no_peer(nowhere: str) -> None:
    assert [address(peer) for peer in counted(peers, message(nowhere))] == ["no peer"]


def test_the_bytes_after_an_ipv4_address_do_not_matter() -> None:
    assert address((2, bytes([192, 0, 2, 1]) + bytes(range(12)))) == "192.0.2.1"


def test_the_cgroup_is_read_where_the_same_attributes_stand() -> None:
    small, large = (message(attributes=SHUTDOWN + MARK + cgroup(number) + SOCKOPT) for number in (1, 1 << 40))
    assert counted(cgroup_ids, small * 3 + large) == Counter({1: 3, 1 << 40: 1})


def test_the_cgroup_is_read_where_attributes_of_one_length_in_all_differ() -> None:
    orders = [SHUTDOWN + MARK + cgroup(5), SHUTDOWN + cgroup(6) + MARK, SHUTDOWN + MARK + MARK + bytes(4)]
    assert counted(cgroup_ids, b"".join(message(attributes=order) for order in orders)) == Counter({5: 1, 6: 1, 0: 1})


def test_sockets_without_attributes_have_no_cgroup() -> None:
    assert counted(cgroup_ids, message() * 4) == Counter({0: 4})


def test_a_reply_that_is_cut_is_malformed() -> None:
    with pytest.raises(SourceMalformed):
        Counting(ports).add(message()[:-4])


@given(st.binary(max_size=60), st.integers(1, 3))
def test_attributes_of_any_bytes_are_read_or_passed_over(attributes: bytes, number: int) -> None:
    whole = attributes[: len(attributes) & ~3]
    assert counted(cgroup_ids, message(attributes=whole) * number).total() == number
