"""The turns of connections: each detail pass reads the tcp_info of one window of them, and the next pass goes on there.

``detailer`` asks for one pass, ``kernel.portwindows`` cuts the windows and ``kernel.quality`` folds what they hold.
A port that a window has missed keeps what an earlier one told, for a few minutes.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import TypeVar

from exporter.errors import SourceError
from exporter.kernel.portwindows import EVERYTHING, Density, Window, cut
from exporter.kernel.quality import QualityDump
from exporter.snapshot import PortQuality, Quality, Transfers

MOST_SOCKETS = 4096
"""Sockets whose tcp_info a pass reads about; at twice as many it stops."""

_KEPT_SECONDS = 300.0

K = TypeVar("K")
V = TypeVar("V")

Read = Callable[[Callable[[], QualityDump], bytes], QualityDump]
"""Dumps the ESTABLISHED sockets that a bytecode chooses; raises ``SourceError``."""


class Rotation:
    """Remembers whose turn it is, and what the last windows told. *most* sockets are read in a pass."""

    def __init__(self, most: int = MOST_SOCKETS) -> None:
        self._most = most
        self._begin = 0
        self._target = most
        self._ports: dict[int, tuple[float, PortQuality]] = {}  # with Unix time
        self._transfers: dict[str, tuple[float, Transfers]] = {}  # likewise

    def read(
        self, read: Read, density: Density, established: int, ports: Collection[int], now: float, *, everything: bool
    ) -> Quality:
        """Read the next window, or *everything*; *ports* are told apart, *now* is Unix time.

        *established* is how many such sockets there are, and *density* where. Never raises ``SourceError``: it is the
        problem of what is returned.
        """
        window, most = EVERYTHING, 0
        if not everything and established > self._most:
            window, most = cut(density.keys(), established, self._target, self._begin), 2 * self._most
        try:
            dump = read(lambda: QualityDump(ports, most), window.bytecode())
        except SourceError as error:
            return Quality(0, None, {}, problem=str(error))
        if dump.listed and not dump.sockets:
            return Quality(0, None, {}, problem="netlink: this kernel sends no tcp_info")
        self._turn(window, cut_short=dump.cut)
        whole = window == EVERYTHING
        found = _kept(self._ports, dump.ports(), now, whole=whole)
        transfers = _kept(self._transfers, dump.transfers, now, whole=whole)
        there = max(established, dump.sockets)
        told_apart = {0, *ports}  # the sockets of a port that is not told apart any more are among those of 0 now
        by_port = {str(port) if port else "other": it for port, it in found.items() if port in told_apart}
        return Quality(dump.sockets, dump.sockets / there if there else None, by_port, transfers)

    def _turn(self, window: Window, *, cut_short: bool) -> None:
        """Go on after *window*; one that had too many sockets is read again in smaller ones."""
        if cut_short and self._target > 1:
            self._target //= 2
            self._begin = window.first
        else:
            self._target, self._begin = self._most, window.next


def _kept(before: dict[K, tuple[float, V]], found: Mapping[K, V], now: float, *, whole: bool) -> dict[K, V]:
    """Remember what was *found*, and return it with what is still worth showing; nothing else if it is the *whole*."""
    if whole:
        before.clear()
    before.update({key: (now, it) for key, it in found.items()})
    for key in [key for key, (at, _) in before.items() if not 0 <= now - at <= _KEPT_SECONDS]:
        del before[key]
    return {key: it for key, (_, it) in before.items()}
