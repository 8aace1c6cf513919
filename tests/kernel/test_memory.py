"""The buffer memory of each socket: which words are summed, by what, and what is not believed."""

from __future__ import annotations

import struct

import pytest

from exporter.details import Memory
from exporter.kernel.detail import DetailDump
from exporter.kernel.memory import Buffers, MemoryTally, buffers
from tests.kernel.test_detail import DONE, Socket, collected

WORDS = 9


def skmeminfo(*words: int, number: int = WORDS) -> bytes:
    """The attribute, of words in the order of the kernel; those that are not given are 7,000, which nothing sums."""
    given = dict(zip((0, 4, 5, 7), words, strict=False))
    return struct.pack(f"=HH{number}i", 4 + 4 * number, 7, *(given.get(at, 7000) for at in range(number)))


def message(socket: Socket, attribute: bytes) -> bytes:
    """A message with the attribute behind the others, where the kernel has it."""
    body = socket.message()[16:] + attribute
    return struct.pack("=IHHII", 16 + len(body), 18, 2, 1, 99) + body


def mini(state: int) -> bytes:
    """A mini-socket or a half-open connection: without attributes."""
    return struct.pack("=IHHII", 88, 18, 2, 1, 99) + Socket(state=state).message()[16:88]


def tally(*messages: bytes, ports: frozenset[int] = frozenset({443, 80})) -> MemoryTally:
    dump = DetailDump(ports, memory=True)
    assert dump.add(b"".join(messages) + DONE)
    assert dump.memory is not None
    return dump.memory


def summary(found: MemoryTally, max_series: int = 10) -> Memory | None:
    return found.summary({7: "a.service", 8: "b.service"}, (), max_series, 5.0)


def test_what_is_received_reserved_to_send_and_in_the_backlog_is_summed_by_port_and_unit() -> None:
    found = tally(
        message(Socket(port=443, cgroup=7), skmeminfo(1000, 96, 300, 4)),
        message(Socket(port=443, cgroup=8), skmeminfo(0, 0, 0, 0)),
        message(Socket(port=50000, cgroup=8), skmeminfo(50, 0, 0, 0)),
        message(Socket(port=80), skmeminfo(0, 4000, 0, 0)),
    )
    assert summary(found) == Memory(
        taken_at=5.0,
        ports={"443": 1400, "80": 4000, "other": 50},
        units={"a.service": 1400, "b.service": 50, "none": 4000, "other": 0},
        folded={"tcp_port_memory_bytes": 0, "tcp_unit_memory_bytes": 0},
    )


def test_mini_sockets_and_half_open_connections_have_no_memory() -> None:
    found = summary(tally(mini(6), mini(3), message(Socket(), skmeminfo(8, 0, 0, 0))))
    assert found is not None
    assert found.ports == {"443": 8, "80": 0, "other": 0}


def test_beyond_the_cap_the_least_are_folded() -> None:
    found = summary(
        tally(message(Socket(port=443), skmeminfo(9, 0, 0, 0)), message(Socket(port=80), skmeminfo(8, 0, 0, 0))), 1
    )
    assert found is not None
    assert (found.ports, found.folded["tcp_port_memory_bytes"]) == ({"443": 9, "other": 8}, 1)


def test_kernels_before_the_word_for_drops_tell_the_memory_too() -> None:
    found = summary(tally(message(Socket(), skmeminfo(8, 0, 1, 0, number=8))))
    assert found is not None
    assert found.ports["443"] == 9


def test_more_reserved_than_there_is_at_the_moment_of_reading_is_a_socket_like_any_other() -> None:
    found = summary(tally(message(Socket(), skmeminfo(4096, -96, 0, 0))))
    assert found is not None
    assert found.ports["443"] == 4000


def test_messages_of_one_length_with_attributes_in_another_order_are_read_one_by_one() -> None:
    mark = struct.pack("=HHI", 8, 15, 0)
    behind = message(Socket(), skmeminfo(10, 0, 0, 0) + mark)
    found = summary(tally(message(Socket(), mark + skmeminfo(100, 0, 0, 0)), behind))
    assert found is not None
    assert found.ports["443"] == 110


@pytest.mark.parametrize(
    "attribute",
    [
        pytest.param(b"", id="none"),
        pytest.param(skmeminfo(8, 0, 0, number=7), id="short"),
        pytest.param(struct.pack("=HH9i", 400, 7, *range(9)), id="longer than the message"),
        pytest.param(skmeminfo(-1, 5, 0, 0), id="negative"),
        pytest.param(skmeminfo(0, -(1 << 31), 0, 0), id="less than none in all"),
    ],
)
def test_an_attribute_that_is_missing_short_or_impossible_is_a_problem_and_no_number(attribute: bytes) -> None:
    found = tally(message(Socket(), skmeminfo(8, 0, 0, 0)), message(Socket(), attribute))
    assert summary(found) is None
    assert (found.problem or "").startswith("netlink: ")


def test_a_dump_that_did_not_ask_for_the_memory_has_none() -> None:
    assert collected([Socket()]).memory is None


def test_the_buffers_of_one_socket_are_told_by_what_they_are_for() -> None:
    assert buffers(message(Socket(), skmeminfo(1000, 96, 300, 4))) == Buffers(1004, 300, 96)
    assert buffers(Socket().message()) is None
