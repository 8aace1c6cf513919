"""ESTABLISHED sockets by what they wait for: the running timer, tries without an answer, accept().

``detail`` hands over the columns of each block that it takes and ``summarise`` makes values of the result. Pure; a
block in which nothing was tried twice costs a look at two columns. Source: net/ipv4/inet_diag.c, inet_sk_diag_fill.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Mapping
from itertools import compress

from exporter.kernel.inetdiag import Block, both, only
from exporter.tcpstate import TcpState

RETRANSMIT, KEEPALIVE, PROBE = 1, 2, 4
"""idiag_timer of a full socket: retransmission or loss probe, keepalive, probe of a closed window."""

NAMES: Mapping[int, str] = {0: "none", KEEPALIVE: "keepalive", RETRANSMIT: "retransmit", PROBE: "probe"}
TRIES = (1, 2, 3, 5, 8)
"""The least numbers of unanswered tries that are counted."""

_INODE = 84  # offset in a message; 0 until accept() gives the socket a descriptor
_NO_INODE = bytes(4)
_LOWEST = _INODE if sys.byteorder == "little" else _INODE + 3
_ESTABLISHED = only(TcpState.ESTABLISHED)
_IS_0 = only(0)
_TRIED = bytes(value > 0 for value in range(256))


class Waiting:
    """Counts, block by block, the ESTABLISHED sockets that wait for an answer or for accept()."""

    def __init__(self) -> None:
        self.accept_pending = 0
        self._unanswered: Counter[tuple[int, int]] = Counter()  # by timer and tries

    def take(self, block: Block, states: bytes, timers: bytes, tries: bytes) -> None:
        """Count those of a block; *states*, *timers* and *tries* are its columns."""
        if tries.count(0) != len(tries):
            tried = both(states.translate(_ESTABLISHED), tries.translate(_TRIED))
            if 1 in tried:
                self._unanswered.update(compress(zip(timers, tries, strict=True), tried))
        self._add_pending(block, states)

    def unanswered(self) -> dict[str, dict[int, int]]:
        """By kind, for each of ``TRIES`` the sockets with at least so many unanswered tries."""
        return {
            name: {
                least: sum(number for (of, tries), number in self._unanswered.items() if of == timer and tries >= least)
                for least in TRIES
            }
            for timer, name in NAMES.items()
            if timer
        }

    def _add_pending(self, block: Block, states: bytes) -> None:
        """Of most blocks one column of the inodes is enough: few end in a byte of 0, and only those are read."""
        lowest = block.column(_LOWEST)
        if 0 not in lowest or TcpState.ESTABLISHED not in states:
            return
        maybe = both(states.translate(_ESTABLISHED), lowest.translate(_IS_0))
        position = maybe.find(1)
        while position >= 0:
            start = position * block.length + _INODE
            self.accept_pending += block.data[start : start + 4] == _NO_INODE
            position = maybe.find(1, position + 1)
