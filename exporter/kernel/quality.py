"""How well connections do: the tcp_info of a sample of the ESTABLISHED sockets, folded by local port.

``picks`` picks the sockets, ``sampling.detailer`` has them looked up with ``EXTENSION_INFO`` and
``EXTENSION_SKMEMINFO``. Pure; nothing is kept for each socket. Source: include/uapi/linux/tcp.h,
struct tcp_info, which is shorter on older kernels: what it lacks is unknown, never 0.
"""

from __future__ import annotations

import struct
from bisect import bisect_left
from collections import Counter
from collections.abc import Collection, Iterator
from functools import lru_cache, partial

from exporter.details import IDLE_BOUNDS, RTT_BOUNDS, PortQuality, Transfers
from exporter.kernel.inetdiag import BARE, FAMILY, PORT, Block, Dump
from exporter.kernel.sockets import address_text
from exporter.record import NamedTuple

BY_PATH, BY_OWN_BUFFER, BY_PEER_WINDOW = "path", "send_buffer", "peer_window"
"""What limits a transfer: the rate of the path, or of the application; the send buffer; the window of the peer."""

LONG_PATH = 0.01  # seconds of the shortest round trip; below it even a small window carries tens of megabytes a second
SENDS_NOW = 5.0  # seconds since the last data was sent
BUSY = 2.0  # seconds with data in flight
MANY_BYTES = 4 << 20  # that were acknowledged
OWN_BUFFER, PEER_WINDOW = 0.2, 0.3  # share of the busy time from which on the one limits a transfer

_ATTRIBUTE = struct.Struct("=HH")  # length, type
_INFO, _SKMEMINFO = 2, 7  # INET_DIAG_INFO, INET_DIAG_SKMEMINFO
_BASIC = 104  # bytes of tcp_info that every kernel has
_LIMITED = 192  # bytes of tcp_info with the times for which a transfer was limited, since Linux 4.10
_WINDOW = 232  # bytes of tcp_info with the peer's window, since Linux 5.4
_MEMORY = 16  # bytes of SKMEMINFO with the send buffer

# From the start of tcp_info: retrans; last_data_sent and last_data_recv, milliseconds; rtt, microseconds.
_NOW_FIELDS = "36xI4xI4xI12xI"
# Then busy_time, rwnd_limited, sndbuf_limited: microseconds.
_LIMITED_FIELDS = "96xQQQ"
# Beside them: rtt, bytes_acked, min_rtt in microseconds, delivery_rate in bytes a second.
_TRANSFER = struct.Struct("=68xI48xQ20xI8xQ")
_SND_WND = struct.Struct("=228xI")
_SNDBUF = struct.Struct("=12xI")  # SK_MEMINFO_SNDBUF
_REMOTE_ADDRESS = slice(40, 56)  # in a message

_RTT_MICROSECONDS = tuple(round(bound * 1e6) for bound in RTT_BOUNDS)
_IDLE_MILLISECONDS = tuple(round(bound * 1e3) for bound in IDLE_BOUNDS)


class _Layout(NamedTuple):
    """Where a message has what is read of it; 0 for what it does not have."""

    info: int  # offset of tcp_info
    length: int  # of tcp_info
    memory: int  # offset of the socket's memory


class QualityDump(Dump):
    """Collects the quality of the sockets of a dump by local port: those of *ports* by themselves, the rest under 0."""

    def __init__(self, ports: Collection[int]) -> None:
        super().__init__()
        self.listed = 0
        self.sockets = 0  # of those listed, with a tcp_info
        self.transfers: dict[str, Transfers] = {}  # by what limits them
        self._ports = {port.to_bytes(2, "big"): port for port in ports}
        self._by_port: Counter[int] = Counter()
        self._rtt: Counter[tuple[int, int]] = Counter()  # by port and bucket
        self._idle: Counter[tuple[int, int]] = Counter()  # likewise
        self._retransmitting: Counter[int] = Counter()
        self._busy: dict[int, tuple[int, int, int]] = {}  # microseconds: in all, for the peer's window, the own buffer

    def take(self, block: Block) -> None:
        """Add the messages of a block."""
        self.listed += block.number
        for layout, data in _by_layout(block):
            self._take(layout, data, block.length)

    def ports(self) -> dict[int, PortQuality]:
        """What was found, by local port."""
        found = {}
        for port, sockets in self._by_port.items():
            busy, peer_window, send_buffer = self._busy.get(port, (None, None, None))
            found[port] = PortQuality(
                sockets=sockets,
                rtt=tuple(self._rtt[port, bucket] for bucket in range(len(RTT_BOUNDS) + 1)),
                idle=tuple(self._idle[port, bucket] for bucket in range(len(IDLE_BOUNDS) + 1)),
                retransmitting=self._retransmitting[port],
                busy=busy,
                peer_window=peer_window,
                send_buffer=send_buffer,
            )
        return found

    def _take(self, layout: _Layout, data: bytes, length: int) -> None:
        """Add messages of one layout."""
        told = layout.length >= _LIMITED
        rows = _rows(layout.info, _NOW_FIELDS + _LIMITED_FIELDS * told, length).iter_unpack(data)
        local, retrans, sent, received, rtts, *limited = zip(*rows, strict=True)
        ports = [self._ports.get(port, 0) for port in local]
        self.sockets += len(ports)
        self._by_port.update(ports)
        rtt_buckets = map(partial(bisect_left, _RTT_MICROSECONDS), rtts)
        known = zip(ports, rtt_buckets, rtts, strict=True)
        self._rtt.update((port, bucket) for port, bucket, rtt in known if rtt)  # 0: none was measured
        self._idle.update(
            zip(ports, map(partial(bisect_left, _IDLE_MILLISECONDS), map(min, sent, received)), strict=True)
        )
        if any(retrans):
            self._retransmitting.update(port for port, number in zip(ports, retrans, strict=True) if number)
        if told:
            busy_since = zip(range(0, len(data), length), ports, sent, *limited, strict=True)
            for start, port, ago, busy, window, buffer in busy_since:
                if busy:
                    before = self._busy.get(port, (0, 0, 0))
                    self._busy[port] = before[0] + busy, before[1] + window, before[2] + buffer
                    if busy >= BUSY * 1e6 and ago <= SENDS_NOW * 1e3:
                        message = data[start : start + length]
                        self._add_transfer(layout, message, window / busy, buffer / busy)

    def _add_transfer(self, layout: _Layout, message: bytes, window: float, buffer: float) -> None:
        """Add the socket of *message* if it sends much over a long path; *window* and *buffer* are shares."""
        rtt, acknowledged, least, rate = _TRANSFER.unpack_from(message, layout.info)
        if least < LONG_PATH * 1e6 or acknowledged < MANY_BYTES:
            return
        limit, share = BY_PATH, 1 - window - buffer
        if buffer >= OWN_BUFFER and buffer >= window:
            limit, share = BY_OWN_BUFFER, buffer
        elif window >= PEER_WINDOW:
            limit, share = BY_PEER_WINDOW, window
        transfer = Transfers(
            sockets=1,
            rate=rate,
            share=share,
            rtt=rtt / 1e6,
            least_rtt=least / 1e6,
            send_buffer=_SNDBUF.unpack_from(message, layout.memory)[0] if layout.memory else None,
            window=_SND_WND.unpack_from(message, layout.info)[0] if layout.length >= _WINDOW else None,
            place=address_text(message[FAMILY], message[_REMOTE_ADDRESS]),
        )
        before = self.transfers.get(limit)
        if before is not None:
            most = max(before, transfer, key=lambda it: it.rate * it.least_rtt)
            transfer = most._replace(sockets=before.sockets + 1)
        self.transfers[limit] = transfer


def together(one: PortQuality, other: PortQuality) -> PortQuality:
    """The sockets of both."""

    def added(first: int | None, second: int | None) -> int | None:
        return second if first is None else first if second is None else first + second

    return PortQuality(
        sockets=one.sockets + other.sockets,
        rtt=tuple(map(sum, zip(one.rtt, other.rtt, strict=True))),
        idle=tuple(map(sum, zip(one.idle, other.idle, strict=True))),
        retransmitting=one.retransmitting + other.retransmitting,
        busy=added(one.busy, other.busy),
        peer_window=added(one.peer_window, other.peer_window),
        send_buffer=added(one.send_buffer, other.send_buffer),
    )


def _by_layout(block: Block) -> Iterator[tuple[_Layout, bytes]]:
    """The messages of a block that have a tcp_info, by their layout: mostly all have one."""
    headers = _headers(block.data[: block.length])
    same = all(
        block.column(at + position).count(byte) == block.number
        for at, header in headers.items()
        for position, byte in enumerate(header)
    )
    if same:
        layout = _layout(headers)
        if layout is not None:
            yield layout, block.data
        return
    found: dict[_Layout, list[bytes]] = {}
    for message in block.messages():
        layout = _layout(_headers(message))
        if layout is not None:
            found.setdefault(layout, []).append(message)
    for layout, messages in found.items():
        yield layout, b"".join(messages)


def _headers(message: bytes) -> dict[int, bytes]:
    """The header, length and type, of each attribute by its offset; one that is cut ends them."""
    headers, at = {}, BARE
    while at + _ATTRIBUTE.size <= len(message):
        length, _ = _ATTRIBUTE.unpack_from(message, at)
        if length < _ATTRIBUTE.size or at + length > len(message):
            break
        headers[at] = message[at : at + _ATTRIBUTE.size]
        at += (length + 3) & ~3
    return headers


def _layout(headers: dict[int, bytes]) -> _Layout | None:
    """Where the attributes are; None where there is no tcp_info, or one that is shorter than any kernel's."""
    info, info_length, memory = 0, 0, 0
    for at, header in headers.items():
        length, kind = _ATTRIBUTE.unpack(header)
        length -= _ATTRIBUTE.size
        if kind == _INFO and length >= _BASIC:
            info, info_length = at + _ATTRIBUTE.size, length
        elif kind == _SKMEMINFO and length >= _MEMORY:
            memory = at + _ATTRIBUTE.size
    return _Layout(info, info_length, memory) if info else None


@lru_cache(maxsize=64)
def _rows(info: int, fields: str, length: int) -> struct.Struct:
    """The local port of a message of *length* bytes, and *fields* of the tcp_info that begins at *info*."""
    front = f"={PORT}x2s{info - PORT - 2}x{fields}"
    return struct.Struct(f"{front}{length - struct.calcsize(front)}x")
