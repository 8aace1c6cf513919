"""How long peers have been silent: what hostile messages say. The situations have the kernel's own."""

from __future__ import annotations

import struct

from exporter.kernel.inetdiag import AF_INET, DONE
from exporter.kernel.silence import SilenceDump
from exporter.tcpstate import TcpState


def test_a_tcp_info_that_is_cut_tells_nothing() -> None:
    info = struct.pack("=HH56xI", 64, 2, 7000)  # INET_DIAG_INFO with tcpi_last_ack_recv
    socket = bytes([AF_INET, TcpState.CLOSE_WAIT]) + bytes(66) + struct.pack("=I", 4711)
    for end in range(4, len(info) + 1, 4):
        message = struct.pack("=IHHII", 88 + end, 20, 2, 1, 0) + socket + info[:end]
        dump = SilenceDump(frozenset())
        assert dump.add(message + DONE)
        assert dump.close_wait().over_5_seconds == (end == len(info))
