"""How long peers have been silent: what hostile messages say. The situations have the kernel's own."""

from __future__ import annotations

import struct
import tracemalloc

from exporter.details import CloseWait
from exporter.kernel.inetdiag import AF_INET, DONE
from exporter.kernel.silence import SilenceDump
from exporter.tcpstate import TcpState

OTHER = struct.pack("=HHI", 8, 8, 0)  # an attribute of another kind


def info(age: int) -> bytes:
    """INET_DIAG_INFO with an age in milliseconds as tcpi_last_ack_recv."""
    return struct.pack("=HH56xI", 64, 2, age)


def message(attributes: bytes, inode: int = 4711) -> bytes:
    socket = bytes([AF_INET, TcpState.CLOSE_WAIT]) + bytes(66) + struct.pack("=I", inode)
    return struct.pack("=IHHII", 88 + len(attributes), 20, 2, 1, 0) + socket + attributes


def test_a_tcp_info_that_is_cut_tells_nothing() -> None:
    whole = info(7000)
    for end in range(4, len(whole) + 1, 4):
        dump = SilenceDump(frozenset())
        assert dump.add(message(whole[:end]) + DONE)
        assert dump.close_wait().over_5_seconds == (end == len(whole))


def test_attributes_in_another_order_tell_the_same() -> None:
    ages = (4000, 7000, 90_000)
    for attributes in (
        [info(age) + OTHER for age in ages],
        [OTHER + info(age) for age in ages],
        [OTHER + info(age) if age == 7000 else info(age) + OTHER for age in ages],
    ):
        dump = SilenceDump(frozenset())
        assert dump.add(b"".join(map(message, attributes)) + message(attributes[0], inode=0) + DONE)
        assert dump.close_wait() == CloseWait(
            sockets=3, over_5_seconds=2, served_over_10_seconds=0, over_60_seconds=1, served=0
        )


def test_what_is_kept_does_not_grow_with_the_sockets() -> None:
    dump, reply = SilenceDump(frozenset()), b"".join(message(info(age * 100)) for age in range(200))
    dump.add(reply)
    tracemalloc.start()
    for _ in range(500):
        dump.add(reply)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert dump.add(DONE)
    assert (dump.close_wait().sockets, peak < 2_000_000) == (501 * 200, True)
