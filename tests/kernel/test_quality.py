"""tcp_info of real and of made sockets, folded by local port."""

from __future__ import annotations

import struct

import pytest

from exporter.details import PortQuality, Transfers
from exporter.kernel.quality import QualityDump

DONE = struct.pack("=IHHIIi", 20, 3, 2, 1, 99, 0)
LONGEST = 280


def info(length: int = LONGEST, **fields: int) -> bytes:
    """An INET_DIAG_INFO attribute with a tcp_info of *length* bytes."""
    made = bytearray(LONGEST)
    for name, number in fields.items():
        at, kind = {
            "retrans": (36, "I"),
            "sent": (44, "I"),
            "received": (52, "I"),
            "rtt": (68, "I"),
            "acked": (120, "Q"),
            "min_rtt": (148, "I"),
            "rate": (160, "Q"),
            "busy": (168, "Q"),
            "rwnd": (176, "Q"),
            "sndbuf": (184, "Q"),
            "window": (228, "I"),
        }[name]
        struct.pack_into(f"={kind}", made, at, number)
    return struct.pack("=HH", 4 + length, 2) + bytes(made[:length])


def memory(send_buffer: int) -> bytes:
    return struct.pack("=HH9I", 40, 7, 0, 0, 0, send_buffer, 0, 0, 0, 0, 0)


def message(attributes: bytes, port: int = 443) -> bytes:
    ends = struct.pack("!HH16s16s", port, 50000, bytes(16), bytes([192, 0, 2, 7]) + bytes(12)) + bytes(12)
    body = bytes([2, 1, 0, 0]) + ends + bytes(20) + attributes
    return struct.pack("=IHHII", 16 + len(body), 18, 2, 1, 99) + body


def collected(*messages: bytes) -> QualityDump:
    dump = QualityDump([443])
    assert dump.add(b"".join(messages) + DONE)
    return dump


def test_sockets_fall_into_the_buckets_of_their_round_trip_and_of_their_last_data() -> None:
    dump = collected(
        message(info(rtt=1000, sent=5000, received=900)),  # the bounds belong to the bucket below
        message(info(rtt=1001, sent=7_200_001, received=9_000_000, retrans=2)),
        message(info(rtt=0)),  # not measured yet
        message(info(rtt=2_000_000), port=50000),
    )
    assert dump.ports() == {
        443: PortQuality(3, (1, 1, 0, 0, 0, 0, 0), (2, 0, 0, 0, 0, 0, 1), retransmitting=1),
        0: PortQuality(1, (0, 0, 0, 0, 0, 0, 1), (1, 0, 0, 0, 0, 0, 0), retransmitting=0),
    }


def test_busy_time_is_added_up_by_what_limited_it() -> None:
    found = collected(
        message(info(busy=4000, rwnd=1000, sndbuf=2000)), message(info(busy=6000)), message(info())
    ).ports()[443]
    assert (found.busy, found.peer_window, found.send_buffer) == (10000, 1000, 2000)
    assert found.limited() == {"peer_window": 0.1, "send_buffer": 0.2, "path": 0.7}


def test_what_an_older_kernel_does_not_tell_is_absent() -> None:
    found = collected(message(info(104, rtt=1000, busy=1))).ports()[443]
    assert (found.busy, found.limited()) == (None, {})


@pytest.mark.parametrize("attributes", [b"", info(100), info()[:-8], memory(1)])
def test_a_socket_without_a_whole_tcp_info_is_not_sampled(attributes: bytes) -> None:
    dump = collected(message(attributes), message(attributes))
    assert (dump.listed, dump.sockets, dump.ports()) == (2, 0, {})


def test_messages_of_one_length_may_differ_in_their_attributes() -> None:
    mark = struct.pack("=HHI", 8, 15, 0)
    dump = collected(message(mark + info(rtt=1000)), message(info(rtt=2000) + mark), message(memory(9) * 7 + mark))
    assert dump.sockets == 2
    assert dump.ports()[443].rtt[:2] == (1, 1)


FAR = {"rtt": 45_000, "min_rtt": 40_000, "acked": 50 << 20, "rate": 3_000_000, "busy": 20_000_000, "window": 65536}


def test_transfers_over_a_long_path_are_told_apart_by_what_limits_them() -> None:
    dump = collected(
        message(info(**FAR) + memory(131072)),
        message(info(**FAR, sndbuf=9_000_000) + memory(131072)),
        message(info(**FAR, rwnd=19_000_000) + memory(131072)),
        message(info(**FAR | {"rate": 1_000_000}, rwnd=19_000_000) + memory(131072)),
    )
    one = Transfers(1, 3_000_000, 1.0, 0.045, 0.04, 131072, 65536, "192.0.2.7")
    assert dump.transfers == {
        "path": one,
        "send_buffer": one._replace(share=0.45),
        "peer_window": one._replace(sockets=2, share=0.95),
    }


@pytest.mark.parametrize("field", [{"min_rtt": 900}, {"acked": 1 << 20}, {"busy": 1_000_000}, {"sent": 9000}])
def test_a_transfer_that_is_short_near_or_over_is_none(field: dict[str, int]) -> None:
    assert collected(message(info(**FAR | field) + memory(131072))).transfers == {}
