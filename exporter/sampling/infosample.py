"""The sample of connections whose tcp_info each detail pass reads, and what earlier ones told.

``detailer`` asks for one pass, ``kernel.picks`` picks the sockets and ``kernel.quality`` folds what they tell. The next
pass picks their neighbours, so every connection has its turn. A port that a pass has missed keeps what an earlier one
told, for a few minutes.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import TypeVar

from exporter.details import PortQuality, Quality, Transfers
from exporter.errors import SourceError
from exporter.kernel.picks import Picks
from exporter.kernel.quality import QualityDump

FEW = 512
"""ESTABLISHED sockets of which all are read: in a dump, that costs less than to look them up."""

_SHARE = 128  # one of so many sockets is read beside ``FEW``
_KEPT_SECONDS = 300.0

K = TypeVar("K")
V = TypeVar("V")


class InfoSample:
    """Remembers whose turn it is, and what the last passes told. *few* sockets are all read."""

    def __init__(self, few: int = FEW) -> None:
        self._few = few
        self._turn = 0
        self._ports: dict[int, tuple[float, PortQuality]] = {}  # with Unix time
        self._transfers: dict[str, tuple[float, Transfers]] = {}  # likewise

    def picks(self, established: int) -> Callable[[], Picks]:
        """What picks the sockets of the next pass, for each dump of it anew, where about so many are ESTABLISHED."""
        wanted = self._few + max(0, established) // _SHARE
        every = max(1, established // wanted)
        self._turn += 1
        first = self._turn % every
        return lambda: Picks(every, first, 2 * wanted)

    def is_whole(self, established: int) -> bool:
        """Whether all of so many sockets are read."""
        return established <= self._few

    def read(
        self, read: Callable[[], QualityDump], established: int, ports: Collection[int], now: float, *, whole: bool
    ) -> Quality:
        """What *read* tells of the picked sockets, or of the *whole*; *ports* are told apart, *now* is Unix time.

        *established* is how many such sockets there are. Never raises ``SourceError``: it is the problem of what is
        returned.
        """
        try:
            dump = read()
        except SourceError as error:
            return Quality(0, None, {}, problem=str(error))
        if dump.listed and not dump.sockets:
            return Quality(0, None, {}, problem="netlink: this kernel sends no tcp_info")
        found = _kept(self._ports, dump.ports(), now, whole=whole)
        transfers = _kept(self._transfers, dump.transfers, now, whole=whole)
        there = max(established, dump.sockets)
        told_apart = {0, *ports}  # the sockets of a port that is not told apart any more are among those of 0 now
        by_port = {str(port) if port else "other": it for port, it in found.items() if port in told_apart}
        return Quality(dump.sockets, dump.sockets / there if there else None, by_port, transfers)


def _kept(before: dict[K, tuple[float, V]], found: Mapping[K, V], now: float, *, whole: bool) -> dict[K, V]:
    """Remember what was *found*, and return it with what is still worth showing; nothing else if it is the *whole*."""
    if whole:
        before.clear()
    before.update({key: (now, it) for key, it in found.items()})
    for key in [key for key, (at, _) in before.items() if not 0 <= now - at <= _KEPT_SECONDS]:
        del before[key]
    return {key: it for key, (_, it) in before.items()}
