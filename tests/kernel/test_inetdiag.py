"""The bytes of inet_diag: what is asked, and how replies are tallied."""

from __future__ import annotations

import struct
import sys
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.errors import SourceError, SourceMalformed, SourceMissing, SourceUnreadable
from exporter.kernel.inetdiag import (
    ALL_STATES,
    COPIED_STATES,
    DumpInterrupted,
    Tally,
    TallyDump,
    full_syn_recv,
    mini_fin_wait2,
    request_both,
    request_family,
    state_counts,
)
from exporter.tcpstate import TcpState

SHUTDOWN = struct.pack("=HHB3x", 5, 8, 0)
MARK = struct.pack("=HHI", 8, 15, 0)


def message(
    family: int, state: int, timer: int = 0, attributes: bytes = SHUTDOWN, *, kind: int = 18, flags: int = 2
) -> bytes:
    body = bytes([family, state, timer, 0]) + bytes(68) + attributes
    return struct.pack("=IHHII", 16 + len(body), kind, flags, 1, 99) + body


def done(error: int = 0) -> bytes:
    return struct.pack("=IHHIIi", 20, 3, 2, 1, 99, error)


def refusal(errno: int) -> bytes:
    return struct.pack("=IHHIIi", 36, 2, 0, 1, 99, -errno) + bytes(16)


def tallied(*replies: bytes) -> Tally:
    """The tally of a dump of these replies, ended unless its last reply ends it."""
    dump = TallyDump()
    complete = [dump.add(reply) for reply in replies]
    if True not in complete:
        dump.add(done())
    return dump.sockets


def test_the_masks_ask_for_the_eleven_states_and_for_all_but_the_two_large_ones() -> None:
    assert (ALL_STATES, COPIED_STATES) == (0b1111_1111_1110, 0b1111_1011_1100)


def test_the_legacy_request_is_sixty_bytes_with_the_mask_at_52_and_no_extensions() -> None:
    request = request_both(0xFBC, 7)
    assert struct.unpack_from("=IHHII", request) == (76, 18, 0x301, 7, 0)
    assert request[16:20] == bytes(4)
    assert struct.unpack_from("=II", request, 16 + 52) == (0xFBC, 0)
    assert len(request) == 76


def test_a_request_by_family_is_fifty_six_bytes_with_family_protocol_and_mask() -> None:
    request = request_family(10, 0xFFE, 7)
    assert struct.unpack_from("=IHHII", request) == (72, 20, 0x301, 7, 0)
    assert struct.unpack_from("=BBBBI", request, 16) == (10, 6, 0, 0, 0xFFE)
    assert len(request) == 72


def test_messages_of_one_length_are_tallied_by_family_state_timer_and_first_attribute() -> None:
    reply = message(2, 1) * 3 + message(10, 8) * 2
    assert tallied(reply) == Counter({(2, 1, 0, 8): 3, (10, 8, 0, 8): 2})


def test_messages_of_different_lengths_are_tallied_alike() -> None:
    reply = message(2, 1) + message(2, 3, 1, MARK + MARK) + message(2, 6, 3, b"")
    assert tallied(reply) == Counter({(2, 1, 0, 8): 1, (2, 3, 1, 15): 1, (2, 6, 3, 0): 1})


def test_a_dump_ends_with_its_done_message_only() -> None:
    assert TallyDump().add(message(2, 1)) is False
    assert TallyDump().add(message(2, 1) + done()) is True
    assert TallyDump().add(done()) is True


def test_a_request_socket_is_told_from_a_full_syn_recv_by_its_first_attribute() -> None:
    sockets = tallied(message(2, 3, 1, MARK), message(2, 3, 1), message(10, 3, 1, b""))
    assert (state_counts(sockets)[0][TcpState.SYN_RECV], full_syn_recv(sockets)) == (3, 1)


def test_a_fin_wait2_mini_socket_is_told_by_its_timer() -> None:
    sockets = tallied(message(2, 5, 3, MARK), message(2, 5, 0), message(2, 6, 3, MARK))
    assert (state_counts(sockets)[0][TcpState.FIN_WAIT2], mini_fin_wait2(sockets)) == (2, 1)


def test_a_state_without_a_name_is_counted_as_unknown_and_named_by_its_number() -> None:
    counts, unknown = state_counts(tallied(message(2, 1), message(2, 14) * 2))
    assert (counts[TcpState.ESTABLISHED], counts[TcpState.UNKNOWN], unknown) == (1, 2, ("14",))


def test_states_outside_the_mask_are_counted_too() -> None:
    assert state_counts(tallied(message(2, 7)))[0][TcpState.CLOSE] == 1


@pytest.mark.parametrize(
    ("reply", "error", "text"),
    [
        (refusal(2), SourceMissing, "netlink: this kernel offers no tcp_diag dump (ENOENT)"),
        (refusal(22), SourceMissing, "netlink: this kernel offers no tcp_diag dump (EINVAL)"),
        (refusal(1), SourceUnreadable, "netlink: the kernel refuses tcp_diag dumps to this process (EPERM)"),
        (refusal(16), SourceUnreadable, "netlink: the kernel ended the dump with EBUSY"),
        (refusal(0), SourceUnreadable, "netlink: the kernel ended the dump with error 0"),
        (message(2, 1) + done(-12), SourceUnreadable, "netlink: the kernel ended the dump with ENOMEM"),
        (message(2, 1, flags=0x12), DumpInterrupted, "netlink: the dump was interrupted"),
    ],
)
def test_every_error_message_of_the_kernel_becomes_a_sentence(
    reply: bytes, error: type[SourceError], text: str
) -> None:
    with pytest.raises(error) as raised:
        tallied(reply)
    assert (type(raised.value), str(raised.value)) == (error, text)


def test_a_cut_reply_is_an_error_that_says_where() -> None:
    whole = message(2, 1) + message(2, 8, 0, SHUTDOWN + MARK)
    with pytest.raises(SourceMalformed) as raised:
        tallied(whole[:-1])
    assert "expected a message of its stated length 104 at byte 96" in str(raised.value)


def test_a_message_of_another_kind_is_an_error() -> None:
    with pytest.raises(SourceMalformed, match="expected an inet_diag message at byte 0"):
        tallied(message(2, 1, kind=77))


SOCKETS = st.tuples(
    st.sampled_from([2, 10]),
    st.integers(0, 15),
    st.integers(0, 4),
    st.sampled_from([b"", SHUTDOWN, MARK, SHUTDOWN + MARK]),
)


@given(st.lists(SOCKETS, max_size=40), st.integers(1, 5), st.integers(1, 8))
def test_every_socket_of_a_dump_is_counted_once_however_its_replies_are_cut(
    sockets: list[tuple[int, int, int, bytes]], repeat: int, size: int
) -> None:
    expected = Counter((f, s, t, int.from_bytes(a[2:4], sys.byteorder)) for f, s, t, a in sockets * repeat * 60)
    messages = [message(*socket) * 60 for socket in sockets] * repeat
    replies = [b"".join(messages[start : start + size]) for start in range(0, len(messages), size)]
    assert tallied(*replies) == expected


def test_a_broken_message_within_a_large_reply_is_an_error_that_says_where() -> None:
    many = message(2, 1) * 200
    for broken, expected in ((message(2, 1, kind=77), "an inet_diag message"), (b"\0" * 96, "its stated length 0")):
        dump = TallyDump()
        dump.add(many)
        with pytest.raises(SourceMalformed) as raised:
            dump.add(many + broken + many)
        assert str(raised.value).endswith(f"{expected} at byte {len(many)}")


def test_a_large_reply_that_says_it_is_interrupted_is_taken_so() -> None:
    dump = TallyDump()
    dump.add(message(2, 1) * 200)
    with pytest.raises(DumpInterrupted):
        dump.add(message(2, 1) * 100 + message(2, 1, flags=0x12) * 100)


@given(st.lists(SOCKETS, min_size=1, max_size=10), st.data())
def test_a_reply_cut_anywhere_is_an_error_or_whole_messages(
    sockets: list[tuple[int, int, int, bytes]], data: st.DataObject
) -> None:
    messages = [message(*socket) for socket in sockets]
    reply = b"".join(messages)
    cut = data.draw(st.integers(0, len(reply)))
    ends = [sum(map(len, messages[:i])) for i in range(len(messages) + 1)]
    if cut in ends:
        assert sum(tallied(reply[:cut]).values()) == ends.index(cut)
    else:
        with pytest.raises(SourceMalformed):
            tallied(reply[:cut])


@given(st.binary(max_size=600))
def test_no_bytes_raise_anything_but_a_source_error(reply: bytes) -> None:
    try:
        TallyDump().add(reply)
    except SourceError as error:
        assert str(error).startswith("netlink")
