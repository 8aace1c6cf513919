"""How long the peers of sockets have been silent: what tells connections that are forgotten from those just closed.

``sampling.detailer`` asks for it where a state has many sockets. Pure; what is kept does not grow with the
sockets.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from operator import add

from exporter.details import CloseWait
from exporter.kernel.inetdiag import BARE, PORT, Block, Dump, alike, native, packed

_INODE = 84  # offset in a message
_ATTRIBUTE, _NUMBER = struct.Struct("=HH"), struct.Struct("=I")
_INFO, _LAST_ACK_RECV = 2, 56  # INET_DIAG_INFO, and where tcp_info has tcpi_last_ack_recv (include/uapi/linux/tcp.h)


class SilenceDump(Dump):
    """Collects how long the peers of a process's sockets have been silent: a dump with ``INET_DIAG_INFO``.

    An age is that of the last segment with an acknowledgement, which the peer's FIN has too: of a CLOSE_WAIT socket the
    time since the peer closed, or since it answered a keepalive probe. Sockets without an inode, which wait to be
    accepted, are left out.
    """

    def __init__(self, listening: frozenset[int]) -> None:
        super().__init__()
        self._listening = listening
        self._found = CloseWait(0, 0, 0, 0, 0)

    def take(self, block: Block) -> None:
        """Add the messages of a block."""
        inodes, ports = packed(*native(block, _INODE)), packed(block.column(PORT + 1), block.column(PORT))
        aged = [
            (age, port in self._listening)
            for age, inode, port in zip(_ages(block), inodes, ports, strict=True)
            if inode and age is not None
        ]
        found = CloseWait(
            sockets=len(aged),
            served=sum(served for _, served in aged),
            over_5_seconds=sum(age > 5000 for age, _ in aged),
            served_over_10_seconds=sum(age > 10000 for age, served in aged if served),
            over_60_seconds=sum(age > 60000 for age, _ in aged),
        )
        self._found = CloseWait(*map(add, self._found, found))

    def close_wait(self) -> CloseWait:
        """The sockets by their age."""
        return self._found


def _ages(block: Block) -> Sequence[int | None]:
    """tcpi_last_ack_recv of each message, in milliseconds; in columns where all have their attributes alike."""
    offset = BARE
    while offset + 4 <= block.length and all(alike(block.column(offset + at)) for at in range(4)):
        length, kind = _ATTRIBUTE.unpack_from(block.data, offset)
        if kind == _INFO and 4 + _LAST_ACK_RECV + 4 <= length <= block.length - offset:
            return packed(*native(block, offset + 4 + _LAST_ACK_RECV))
        offset += max(4, length + 3 & ~3)
    return [_last_acknowledgement(message) for message in block.messages()]


def _last_acknowledgement(message: bytes) -> int | None:
    """tcpi_last_ack_recv in milliseconds, of a message's attributes; None without them, or where they are cut."""
    offset = BARE
    while offset + 4 <= len(message):
        length, kind = _ATTRIBUTE.unpack_from(message, offset)
        if kind == _INFO and 4 + _LAST_ACK_RECV + 4 <= length <= len(message) - offset:
            return int(_NUMBER.unpack_from(message, offset + 4 + _LAST_ACK_RECV)[0])
        offset += max(4, length + 3 & ~3)
    return None
