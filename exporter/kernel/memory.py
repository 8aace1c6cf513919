"""The buffer memory of each socket, summed by local port and by cgroup within a full dump that asks for it.

``detail`` hands over each block of a dump with ``EXTENSION_SKMEMINFO``; ``sampling.detailer`` names the cgroups and
makes a ``snapshot.Memory`` of the sums. ``owners`` reads the same words for ``who``. Pure; no more is kept than a
number for each port and each cgroup.

Source: net/core/sock.c, sk_get_meminfo. What is received and what is to be sent is charged to TCP's memory (``mem`` of
/proc/net/sockstat), and so is what the socket has reserved for both. The backlog, segments that wait until a process
lets go of the socket, is charged a moment later.
"""

from __future__ import annotations

import struct
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeVar

from exporter.details import Memory
from exporter.errors import SourceUnreadable
from exporter.kernel.cgroup import NO_UNIT
from exporter.kernel.inetdiag import ATTRIBUTE_SHUTDOWN, PORT, Block, packed
from exporter.kernel.sockets import Counting, attributes, cgroup_columns
from exporter.record import NamedTuple

K = TypeVar("K")

_MISSING = "a socket without the memory that was asked for (INET_DIAG_SKMEMINFO)"
_SKMEMINFO = 7  # INET_DIAG_SKMEMINFO
_HEADER = struct.Struct("=HH")  # length, type
_RMEM_ALLOC, _FWD_ALLOC, _WMEM_QUEUED, _BACKLOG = 0, 4, 5, 7  # words, of four bytes (include/uapi/linux/sock_diag.h)
_SUMMED = (_RMEM_ALLOC, _FWD_ALLOC, _WMEM_QUEUED, _BACKLOG)
_SHORTEST = _HEADER.size + 4 * (_BACKLOG + 1)
_WORDS = struct.Struct("=8i")
_TOP = 3 if sys.byteorder == "little" else 0  # the byte of a word that has the sign


class Buffers(NamedTuple):
    """The buffer memory of one socket, in bytes."""

    received: int  # not yet read, with the overhead of the kernel; the backlog too
    to_send: int  # not yet acknowledged, likewise
    reserved: int  # charged to the socket and free for either

    @property
    def total(self) -> int:
        """All of it."""
        return sum(self)


class MemoryTally:
    """Sums the buffer memory of the sockets of a dump; *ports* are told apart, so many more listeners' are *untold*."""

    def __init__(self, ports: frozenset[int], untold: int = 0) -> None:
        self.problem: str | None = None  # why the sums are not to be trusted
        self._ports = ports
        self._untold = untold
        self._by_port: defaultdict[int, int] = defaultdict(int)
        self._by_cgroup: defaultdict[int, int] = defaultdict(int)

    def take(self, block: Block) -> None:
        """Add the messages of a block; mini-sockets and half-open connections have no buffers and no attribute."""
        full = block.first_attributes.count(ATTRIBUTE_SHUTDOWN)
        if not full or self.problem is not None:
            return
        at = _offset(block) if full == block.number else None
        if at is None and block.number > 1:  # messages of one length that have not the same attributes: rare
            for message in block.messages():
                self.take(Block(message, block.length))
        elif at is None:
            self.problem = f"netlink: {_MISSING}"
        else:
            self._add(block, at)

    def summary(
        self, units: Mapping[int, str] | None, configured: Iterable[int], max_series: int, now: float
    ) -> Memory | None:
        """The sums as a value of the snapshot, taken at *now* (Unix time); None where they are not to be trusted.

        *units* has the label for each cgroup id, None where there is no cgroup v2. At most *max_series* ports and
        units have a number of their own, *configured* ports first.
        """
        if self.problem is not None:
            return None
        by_port = {str(port): self._by_port[port] for port in self._ports}
        first = set(map(str, configured))
        told, folded = _largest(by_port, max_series, first, sum(self._by_port.values()) - sum(by_port.values()))
        by_unit, folded_units = None, 0
        if units is not None:
            sums: Counter[str] = Counter(dict.fromkeys(units.values(), 0))  # nothing held is known to be nothing
            for cgroup, size in self._by_cgroup.items():
                sums[units[cgroup] if cgroup else NO_UNIT] += size
            by_unit, folded_units = _largest(sums, max_series)
        return Memory(
            taken_at=now,
            ports=told,
            units=by_unit,
            folded={
                "tcp_port_memory_bytes": folded + self._untold,
                **({} if by_unit is None else {"tcp_unit_memory_bytes": folded_units}),
            },
        )

    def _add(self, block: Block, at: int) -> None:
        words = memoryview(block.data).cast("i")
        signs = (block.column(at + 4 * word + _TOP) for word in _SUMMED if word != _FWD_ALLOC)
        columns = [words[at // 4 + word :: block.length // 4] for word in _SUMMED]
        used = [column for column in columns if any(column)]
        sizes = used[0].tolist() if len(used) == 1 else list(map(sum, zip(*used, strict=True)))
        if not all(map(bytes.isascii, signs)) or min(sizes, default=0) < 0:
            self.problem = "netlink: a socket with less than no memory (INET_DIAG_SKMEMINFO)"
            return
        if sizes:
            _sum(self._by_port, packed(block.column(PORT + 1), block.column(PORT)), sizes)
            _sum(self._by_cgroup, packed(*cgroup_columns(block)), sizes)


class Weighing(Counting[K]):
    """Collects how many sockets of a dump have each value of a column, and their buffer memory by that value."""

    def __init__(self, column: Callable[[Block], Iterable[K]]) -> None:
        super().__init__(column)
        self.received: Counter[K] = Counter()
        self.to_send: Counter[K] = Counter()
        self.reserved: Counter[K] = Counter()

    def take(self, block: Block) -> None:
        """Add the messages of a block, one by one. Raises ``SourceUnreadable`` where a socket lacks its memory."""
        super().take(block)
        full = block.first_attributes
        for key, message, first in zip(self._column(block), block.messages(), full, strict=True):
            found = buffers(message) if first == ATTRIBUTE_SHUTDOWN else Buffers(0, 0, 0)
            if found is None:
                raise SourceUnreadable("netlink", _MISSING)
            self.received[key] += found.received
            self.to_send[key] += found.to_send
            self.reserved[key] += found.reserved


def buffers(message: bytes) -> Buffers | None:
    """The buffer memory of the socket of one message; None where the kernel does not tell it, or tells nonsense."""
    at = _offset(Block(message, len(message)))
    if at is None:
        return None
    words = _WORDS.unpack_from(message, at)
    found = Buffers(words[_RMEM_ALLOC] + words[_BACKLOG], words[_WMEM_QUEUED], words[_FWD_ALLOC])
    return None if min(words[_RMEM_ALLOC], words[_BACKLOG], words[_WMEM_QUEUED], found.total) < 0 else found


def _sum(sums: defaultdict[int, int], keys: Sequence[int], sizes: Sequence[int]) -> None:
    if keys[0] == keys[-1] and len({*keys}) == 1:  # one unit, one port: as often
        sums[keys[0]] += sum(sizes)
        return
    for key, size in zip(keys, sizes, strict=True):
        if size:
            sums[key] += size


def _offset(block: Block) -> int | None:
    """Where the words begin in every message; None where that differs, or the first message has none or too few."""
    before: list[tuple[int, bytes]] = []
    for offset, header in attributes(block.data[: block.length]).items():
        before.append((offset, header))
        length, kind = _HEADER.unpack(header)
        if kind == _SKMEMINFO:
            alike = all(
                block.column(start + i).count(byte) == block.number
                for start, header in before
                for i, byte in enumerate(header)
            )
            return offset + _HEADER.size if alike and length >= _SHORTEST else None
    return None


def _largest(
    sizes: Mapping[str, int], limit: int, first: Iterable[str] = (), rest: int = 0
) -> tuple[dict[str, int], int]:
    """The *limit* largest of *sizes*, *first* before all, the others and *rest* as ``other``; how many fold."""
    before = set(first)
    ranked = sorted(sizes, key=lambda name: (name not in before, -sizes[name], name))
    kept, folded = ranked[:limit], ranked[limit:]
    return {name: sizes[name] for name in kept} | {"other": rest + sum(sizes[name] for name in folded)}, len(folded)
