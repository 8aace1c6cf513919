"""How long the peers of sockets have been silent: what tells connections that are forgotten from those just closed.

``sampling.detailer`` asks for it where a state has many sockets. Pure; a number is kept for each socket of the dump.
"""

from __future__ import annotations

import struct

from exporter.kernel.inetdiag import BARE, PORT, Block, Dump
from exporter.snapshot import CloseWait

_INODE, _NO_INODE = 84, bytes(4)  # offset in a message
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
        self._sockets: list[tuple[int, bool]] = []  # age in milliseconds, whether its port is one of *listening*

    def take(self, block: Block) -> None:
        """Add the messages of a block."""
        for message in block.messages():
            if message[_INODE : _INODE + 4] != _NO_INODE and (age := _last_acknowledgement(message)) is not None:
                self._sockets.append((age, int.from_bytes(message[PORT : PORT + 2], "big") in self._listening))

    def close_wait(self) -> CloseWait:
        """The sockets by their age."""
        return CloseWait(
            sockets=len(self._sockets),
            served=sum(served for _, served in self._sockets),
            over_5_seconds=sum(age > 5000 for age, _ in self._sockets),
            served_over_10_seconds=sum(age > 10000 for age, served in self._sockets if served),
            over_60_seconds=sum(age > 60000 for age, _ in self._sockets),
        )


def _last_acknowledgement(message: bytes) -> int | None:
    """tcpi_last_ack_recv in milliseconds, of a message's attributes; None without them, or where they are cut."""
    offset = BARE
    while offset + 4 <= len(message):
        length, kind = _ATTRIBUTE.unpack_from(message, offset)
        if kind == _INFO and 4 + _LAST_ACK_RECV + 4 <= length <= len(message) - offset:
            return int(_NUMBER.unpack_from(message, offset + 4 + _LAST_ACK_RECV)[0])
        offset += max(4, length + 3 & ~3)
    return None
