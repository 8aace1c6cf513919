"""Ephemeral ports of a dump: which sockets take one, from whom, and what tells that bind() picked it."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterable

import pytest

from exporter.details import CloseWait
from exporter.kernel.detail import DetailDump
from exporter.kernel.ephemeral import BoundDump, EphemeralPorts, Taken
from exporter.kernel.inetdiag import DONE, MAPPED
from exporter.kernel.silence import SilenceDump
from exporter.tcpstate import TcpState

RANGE = EphemeralPorts(40000, 40999)
ESTABLISHED, TIME_WAIT = TcpState.ESTABLISHED, TcpState.TIME_WAIT


def message(
    port: int, remote: str = "198.51.100.7", remote_port: int = 443, *, source: str = "192.0.2.1",
    state: int = ESTABLISHED, age: int = 0, inode: int = 7, attributes: bytes = b"", mapped: bool = False,
) -> bytes:  # fmt: skip
    """A socket as a dump lists it; of TIME-WAIT the *age* in milliseconds."""
    addresses = [socket.inet_aton(address) for address in (source, remote)]
    filled = [MAPPED + it if mapped else it + bytes(12) for it in addresses]
    ends = struct.pack("!HH16s16s", port, remote_port, *filled) + bytes(12)
    numbers = struct.pack("=IIIII", 60000 - age if state == TIME_WAIT else 0, 0, 0, 0, inode)
    body = bytes([10 if mapped else 2, state, 3 if state == TIME_WAIT else 0, 0]) + ends + numbers + attributes
    return struct.pack("=IHHII", 16 + len(body), 18, 2, 1, 99) + body


def fullest(messages: Iterable[bytes], ephemeral: EphemeralPorts = RANGE, *listening: int) -> Taken:
    dump = DetailDump(frozenset(), frozenset(listening), ephemeral=ephemeral)
    for it in messages:
        assert not dump.add(it)
    assert dump.add(DONE)
    assert dump.destinations is not None
    return dump.destinations.fullest()


def test_the_destination_with_the_fewest_ports_left_is_told() -> None:
    messages = [message(40000 + n) for n in range(30)] + [message(40000 + n, remote_port=80) for n in range(40)]
    assert fullest(messages) == Taken(40, 0, 0, 1, "192.0.2.1 -> 198.51.100.7:80")
    assert fullest(messages, RANGE, *range(40000, 40035)) == Taken(5, 0, 0, 1, "192.0.2.1 -> 198.51.100.7:80")
    assert fullest([]) == Taken()


@pytest.mark.parametrize(
    ("reuse", "remote", "taken"),
    [
        (0, "198.51.100.7", (35, 25, 0)),
        (1, "198.51.100.7", (15, 5, 20)),
        (2, "198.51.100.7", (35, 25, 0)),
        (0, "127.0.0.1", (35, 25, 0)),
        (1, "127.0.0.1", (15, 5, 20)),
        (2, "127.0.0.1", (15, 5, 20)),
    ],
)
@pytest.mark.parametrize("mapped", [False, True])
def test_time_wait_that_connect_may_take_over_is_free(
    reuse: int, remote: str, taken: tuple[int, int, int], *, mapped: bool
) -> None:
    held = [message(40000 + n, remote, mapped=mapped) for n in range(10)]
    young = [message(40100 + n, remote, state=TIME_WAIT, age=999, mapped=mapped) for n in range(5)]
    old = [message(40200 + n, remote, state=TIME_WAIT, age=1000, mapped=mapped) for n in range(20)]
    found = fullest([*held, *young, *old], RANGE._replace(reuse=reuse))
    assert (found.used, found.waiting, found.reusable) == taken


def test_the_age_from_which_time_wait_is_reused_is_the_hosts() -> None:
    waiting = [message(40000 + n, state=TIME_WAIT, age=1500) for n in range(20)]
    assert fullest(waiting, RANGE._replace(reuse=1, reuse_delay=2000)).used == 20
    assert fullest(waiting, RANGE._replace(reuse=1, reuse_delay=1000))[:3] == (0, 0, 20)


def test_ports_that_bind_picked_are_those_of_a_source() -> None:
    spread = [message(40000 + n, remote_port=443 + n % 4) for n in range(700)]
    assert fullest(spread) == Taken(700, 0, 0, 4, "192.0.2.1 -> 4 destinations")
    assert fullest([*spread, *(message(40000 + n, source="192.0.2.2") for n in range(100))]).used == 700


@pytest.mark.parametrize(
    "messages",
    [
        [message(40000 + n, remote_port=443 + n % 4) for n in range(550)],  # not more than half of the range
        [message(40000 + n // 2, remote_port=443 + n % 2) for n in range(1400)],  # each port is used twice
        [*(message(40000 + n) for n in range(700)), message(40700, remote_port=80)],  # hardly any other destination
    ],
)
def test_ports_that_connect_picked_are_those_of_a_destination(messages: list[bytes]) -> None:
    assert " destinations" not in fullest(messages).towards


def test_more_sources_than_are_told_apart_are_counted_by_destination() -> None:
    messages = [message(40000 + n, source=f"10.0.{n}.1", remote_port=443 + n % 2) for n in range(200)]
    assert fullest(messages).used == 1


def test_bound_ports_are_listed_once_and_their_sockets_counted() -> None:
    dump = BoundDump()
    for port in (40001, 40002, 40001):
        dump.add(message(port, state=TcpState.CLOSE))
    assert dump.add(DONE)
    assert (dump.ports, dump.sockets) == ({40001, 40002}, 3)


def info(age: int) -> bytes:
    """INET_DIAG_SHUTDOWN and INET_DIAG_INFO with so many milliseconds since the last acknowledgement."""
    return struct.pack("=HHB3x", 5, 8, 3) + struct.pack("=HH56xI180x", 244, 2, age)


def test_the_silence_of_peers_is_that_of_sockets_that_a_process_has() -> None:
    dump = SilenceDump(frozenset({8080}))
    for port, age, inode in (
        (8080, 5000, 7), (8080, 5001, 8), (8080, 10001, 9), (40000, 10001, 10), (40001, 60001, 11), (8080, 99999, 0),
    ):  # fmt: skip
        dump.add(message(port, state=TcpState.CLOSE_WAIT, inode=inode, attributes=info(age)))
    dump.add(message(8080, state=TcpState.CLOSE_WAIT))  # without attributes nothing is known
    assert dump.add(DONE)
    assert dump.close_wait() == CloseWait(5, 4, 1, 1, 3)
