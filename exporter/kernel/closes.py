"""The kernel's close events: one ``inet_diag`` message for each TCP socket that it destroys, folded by local port.

``reader.CloseEvents`` receives them and ``sampling.closing`` decides when to listen. Messages of one length are read
with one ``struct`` at C speed. Source: net/core/sock_diag.c and net/ipv4/inet_diag.c, inet_diag_handler_get_info.
"""

from __future__ import annotations

import struct
from bisect import bisect_left
from collections.abc import Iterable, Sequence

from exporter.details import CLOSED_RTT_BOUNDS, PortCloses
from exporter.errors import SourceMalformed
from exporter.kernel.inetdiag import BARE, PORT, SOCK_DIAG_BY_FAMILY, Block
from exporter.record import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_ATTRIBUTE = struct.Struct("=HH")  # length, type
_INFO = 2  # INET_DIAG_INFO
_NO_PORT = bytes(2)
_RTT, _BYTES_RECEIVED, _BYTES_RETRANS = 68, 128, 208  # offsets in tcp_info (include/uapi/linux/tcp.h)
# tcpi_rtt, tcpi_total_retrans, tcpi_bytes_acked, tcpi_bytes_received; then tcpi_bytes_sent, tcpi_bytes_retrans
_FIELDS, _FIELDS_SENT = "I28xI16xQQ", "64xQQ"
_RTT_MICROSECONDS = [round(bound * 1e6) for bound in CLOSED_RTT_BOUNDS]

Row = tuple[bytes, bytes, int, int, int, int, int, int]
"""Local port and remote port in network order, RTT in microseconds, retransmitted segments, bytes acknowledged,
received, sent in all, and sent again. The last two are -1 where the kernel's tcp_info has no such fields.
"""


def rows(messages: Sequence[bytes]) -> Iterator[Row]:
    """The fields of each message; ``SourceMalformed`` for one that is no close event with a whole tcp_info."""
    by_length: dict[int, list[bytes]] = {}
    for message in messages:
        by_length.setdefault(len(message), []).append(message)
    for length, alike in by_length.items():
        yield from _rows(Block(b"".join(alike), length))


def _rows(block: Block) -> Iterable[Row]:
    """Rows of messages of one length: in one go where their attributes are at the same place, else one by one."""
    first = block.data[: block.length]
    at, size = _info(first)
    fixed = (*range(6), *range(at, at + 4))  # length and type of the message, and of the attribute
    if any(block.column(offset).count(first[offset]) != block.number for offset in fixed):
        return (row for message in block.messages() for row in _rows(Block(message, block.length)))
    has_sent = size >= _BYTES_RETRANS + 8
    end = _BYTES_RETRANS + 8 if has_sent else _BYTES_RECEIVED + 8
    form = f"{PORT}x2s2s{at + 4 + _RTT - PORT - 4}x{_FIELDS}{_FIELDS_SENT if has_sent else ''}"
    layout = struct.Struct(f"={form}{block.length - at - 4 - end}x")
    found: Iterator[Row] = layout.iter_unpack(block.data)
    return found if has_sent else ((*row[:6], -1, -1) for row in found)


def _info(message: bytes) -> tuple[int, int]:
    """Where INET_DIAG_INFO begins and the bytes of tcp_info that it has."""
    if len(message) >= BARE:
        length, kind = struct.unpack_from("=IH", message)
        at = BARE
        while length == len(message) and kind == SOCK_DIAG_BY_FAMILY and at + 4 <= length:
            size, attribute = _ATTRIBUTE.unpack_from(message, at)
            if size < 4 or at + size > length:
                break
            if attribute == _INFO and size - 4 >= _BYTES_RECEIVED + 8:
                return at, size - 4
            at += size + 3 & ~3
    raise SourceMalformed("closes", 0, message[:24].hex(" "), "a close event with tcp_info at byte 0")


class _Port:
    """The counters of one port while they are added to."""

    __slots__ = ("connections", "received", "retransmitted", "rtt", "rtt_microseconds", "sent")

    def __init__(self) -> None:
        self.connections = self.received = self.retransmitted = self.rtt_microseconds = 0
        self.sent: int | None = 0
        self.rtt = [0] * (len(CLOSED_RTT_BOUNDS) + 1)

    def value(self) -> PortCloses:
        return PortCloses(
            self.connections, self.received, self.sent, self.retransmitted, tuple(self.rtt), self.rtt_microseconds / 1e6
        )


class CloseCounters:
    """Counts connections by local port, all others together; a port that is told apart once stays so."""

    def __init__(self) -> None:
        self._other = _Port()
        self._ports: dict[bytes, _Port] = {}  # by port in network order

    def tell_apart(self, ports: Iterable[int], limit: int) -> int:
        """Count these ports by themselves as well, as long as there are fewer than *limit*; how many find no place."""
        left_out = 0
        for port in (number.to_bytes(2, "big") for number in sorted(ports)):
            if port not in self._ports:
                if len(self._ports) < limit:
                    self._ports[port] = _Port()
                else:
                    left_out += 1
        return left_out

    def add(self, messages: Sequence[bytes]) -> int:
        """Count the connections among the destroyed sockets; how many there are. Raises as ``rows`` does.

        Sockets that were never connected are left out: listeners, bound sockets and attempts that failed. So are
        connections aborted by SO_LINGER with 0 seconds, because the kernel clears their ends and numbers first.
        """
        seen = 0
        of: Callable[[bytes, _Port], _Port] = self._ports.get
        for local, remote, rtt, retransmitted, acked, received, sent, again in rows(messages):
            if remote == _NO_PORT or not (rtt or acked or received):
                continue
            seen += 1
            port = of(local, self._other)
            port.connections += 1
            port.received += received
            port.retransmitted += retransmitted
            if sent < 0:
                port.sent = None
            elif port.sent is not None:
                port.sent += max(0, sent - again)
            if rtt:  # 0: none was measured
                port.rtt[bisect_left(_RTT_MICROSECONDS, rtt)] += 1
                port.rtt_microseconds += rtt
        return seen

    def values(self) -> dict[str, PortCloses]:
        """The counters so far, by port as a label."""
        return {str(int.from_bytes(port, "big")): it.value() for port, it in self._ports.items()} | {
            "other": self._other.value()
        }
