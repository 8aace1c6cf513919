"""Which sockets a pass reads in full: a window of ports, cut along the observed density.

A socket's key is its higher port and then its lower one. The higher one is mostly the ephemeral port, on servers and on
clients alike, so a window has sockets of every service. ``detail`` hands over the ports of a full dump, ``inetdiag``
sends the bytecode of a window, and the kernel skips the other sockets before it fills them in. Pure.
Source: net/ipv4/inet_diag.c, inet_diag_bc_run and inet_diag_bc_audit.
"""

from __future__ import annotations

import struct
from array import array
from bisect import bisect_left
from collections.abc import Sequence
from itertools import compress

from exporter.kernel.inetdiag import PORT, REMOTE_PORT, Block, only, packed
from exporter.record import NamedTuple
from exporter.tcpstate import TcpState

MOST_KEYS = 8192
"""Keys that a density keeps: 32 KiB."""

_LAST = 0xFFFFFFFF
_JUMP, _LOCAL_GE, _LOCAL_LE, _REMOTE_GE, _REMOTE_LE = 1, 2, 3, 4, 5  # INET_DIAG_BC_*
_OPERATION = struct.Struct("=BBH")  # code, bytes to go on by where it holds, and where it does not


class Density:
    """Where the keys of the ESTABLISHED sockets are: every nth of a dump, the fewer the more there are."""

    def __init__(self) -> None:
        self._every = 1
        self._keys = array("I")

    def take(self, block: Block, states: bytes) -> None:
        """Add sockets of a block whose states are the column *states*."""
        step = self._every
        at = (PORT + 1, PORT, REMOTE_PORT + 1, REMOTE_PORT)
        columns = (block.data[offset :: block.length * step] for offset in at)
        self._keys.extend(compress(packed(*columns), states[::step].translate(only(TcpState.ESTABLISHED))))
        while len(self._keys) > MOST_KEYS:
            del self._keys[::2]
            self._every *= 2

    def keys(self) -> list[int]:
        """The keys that were kept, in order."""
        return sorted(map(key_of, self._keys))


def key_of(ports: int) -> int:
    """The key of a socket by its two ports, 16 bits each.

    >>> hex(key_of(443 << 16 | 50000)) == hex(key_of(50000 << 16 | 443)) == hex(50000 << 16 | 443)
    True
    """
    one, other = ports >> 16, ports & 0xFFFF
    return ports if one >= other else other << 16 | one


class Window(NamedTuple):
    """The sockets with a key from *first* to *last*: higher ports of a range, or lower ones of one higher port."""

    first: int
    last: int

    @property
    def is_all(self) -> bool:
        """Whether it has every socket."""
        return self.first == 0 and self.last == _LAST

    @property
    def next(self) -> int:
        """Where the window after it begins."""
        return (self.last + 1) & _LAST

    def bytecode(self) -> bytes:
        """What makes the kernel list these sockets only; nothing for all of them."""
        if self.is_all:
            return b""
        low, high = self.first >> 16, self.last >> 16
        if low < high or (self.first & 0xFFFF, self.last & 0xFFFF) == (0, 0xFFFF):
            both_below = _holds(_LOCAL_LE, high, _REJECT) + _holds(_REMOTE_LE, high, _REJECT)
            return _assembled([*both_below, *_either([(_LOCAL_GE, low)], [(_REMOTE_GE, low)])])
        first, last = self.first & 0xFFFF, min(self.last & 0xFFFF, high)  # the lower port is the lower one
        local = [(_LOCAL_GE, high), (_LOCAL_LE, high), (_REMOTE_GE, first), (_REMOTE_LE, last)]
        remote = [(_REMOTE_GE, high), (_REMOTE_LE, high), (_LOCAL_GE, first), (_LOCAL_LE, last)]
        return _assembled(_either(local, remote))


EVERYTHING = Window(0, _LAST)


def cut(keys: Sequence[int], sockets: int, most: int, begin: int) -> Window:
    """The window that begins at key *begin* and has about *most* of so many *sockets*, which are spread as *keys* are.

    It ends with its round: the last key of all. Sockets that share both ports cannot be told apart.

    >>> cut([1 << 16, 2 << 16, 3 << 16, 4 << 16], 4, 2, 0)
    Window(first=0, last=196607)
    """
    if sockets <= most or not keys:
        return Window(begin, _LAST) if begin else EVERYTHING
    after = bisect_left(keys, begin) + max(1, len(keys) * most // sockets)
    if after >= len(keys):
        return _straight(begin, _LAST)
    return _straight(begin, max(begin, keys[after] - 1))


def _straight(first: int, last: int) -> Window:
    """The window, or its longest beginning that is one of the two kinds."""
    if first & 0xFFFF and first >> 16 < last >> 16:
        return Window(first, first | 0xFFFF)  # what is left of one higher port
    if first >> 16 < last >> 16 and last & 0xFFFF != 0xFFFF:
        return Window(first, ((last >> 16) << 16) - 1)  # whole higher ports
    return Window(first, last)


# -- the bytecode: a line that holds falls through, one that does not jumps forwards ---------------------------------

_ACCEPT, _REJECT = "accept", "reject"
_Line = tuple[int, int, str]  # code, port, where to go on where it does not hold: a label
_OTHER = "other"


def _holds(code: int, port: int, otherwise: str) -> list[_Line]:
    return [(code, port, otherwise)]


def _either(one: Sequence[tuple[int, int]], other: Sequence[tuple[int, int]]) -> list[_Line]:
    """All of *one*, or all of *other*."""
    first = [(code, port, _OTHER) for code, port in one]
    return [*first, (_JUMP, 0, _ACCEPT), *((code, port, _REJECT) for code, port in other)]


def _assembled(lines: Sequence[_Line]) -> bytes:
    sizes = [4 if code == _JUMP else 8 for code, _, _ in lines]
    total, at, code_of = sum(sizes), 0, b""
    jump = next(index for index, (code, _, _) in enumerate(lines) if code == _JUMP)
    labels = {_ACCEPT: total, _REJECT: total + 4, _OTHER: sum(sizes[: jump + 1])}
    for (code, port, otherwise), size in zip(lines, sizes, strict=True):
        code_of += _OPERATION.pack(code, size, labels[otherwise] - at)
        if code != _JUMP:
            code_of += _OPERATION.pack(0, 0, port)
        at += size
    return code_of
