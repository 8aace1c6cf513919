"""Which sockets' tcp_info is read: every nth of a dump of all sockets, each of which is then looked up by itself.

The kernel finds one socket by its ends in constant time, so a sample costs what its sockets cost. A filter in a dump
would be run for each socket of the table, which takes longer than to walk it. ``detail`` picks, ``reader`` looks up.
Pure. Source: net/ipv4/inet_diag.c, inet_diag_cmd_exact.
"""

from __future__ import annotations

from exporter.kernel.inetdiag import BARE, Block
from exporter.tcpstate import TcpState


class Picks:
    """The *first* and then every *every*-th socket of a dump, those of them that are ESTABLISHED.

    Where these become more than *most*, only every second one of them goes on.
    """

    def __init__(self, every: int = 1, first: int = 0, most: int = 2048) -> None:
        self.messages: list[bytes] = []  # of the sockets, without attributes
        self._every = every
        self._at = first  # of the next block
        self._most = most

    def take(self, block: Block, states: bytes) -> None:
        """Add sockets of a block whose states are the column *states*."""
        at, number, length, established = self._at, len(states), block.length, TcpState.ESTABLISHED.value
        while at < number:
            if states[at] == established:
                self.messages.append(block.data[at * length : at * length + BARE])
                if len(self.messages) > self._most:
                    del self.messages[::2]
                    self._every *= 2
            at += self._every
        self._at = at - number
