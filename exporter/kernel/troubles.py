"""Sockets whose timer, retries or queue show trouble, counted by the place they lead to, within a full dump.

``detail`` hands over each block that it takes; the columns are read at C speed, and only sockets in trouble cost more.
No more is kept than a number for each place, and no more places than ``MAX_PLACES``. Source: net/ipv4/inet_diag.c,
inet_sk_diag_fill, of which idiag_timer is 1 for retransmission, 2 for keepalive and 4 for a window probe.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Callable, Mapping
from functools import lru_cache
from itertools import compress

from exporter.details import Peers
from exporter.kernel.inetdiag import FAMILY, Block, both, only
from exporter.kernel.sockets import address_text
from exporter.kernel.timers import KEEPALIVE, PROBE, RETRANSMIT
from exporter.record import NamedTuple
from exporter.tcpstate import TcpState

SYN_UNANSWERED = "syn_unanswered"  # SYN-SENT, and the SYN was sent more than once: by remote address and port
RETRANSMITTING = "retransmitting"  # sends data again now: by remote address
DATA_UNANSWERED = "data_unanswered"  # has sent the same data DATA_TRIES times or more: by remote address
KEEPALIVE_UNANSWERED = "keepalive_unanswered"  # PROBES keepalive probes or more have no answer: by remote address
PEER_READS_NOTHING = "peer_reads_nothing"  # waits for the peer's window to open, and the peer answers: by address
NOT_READ = "not_read"  # UNREAD bytes or more that the application has not read: by local port

DATA_TRIES = 4
PROBES = 2
UNREAD = 32768  # bytes

MAX_PLACES = 65536

_ENDS = "=20x2s2s16x16s"  # local port, remote port, remote address


class _Trouble(NamedTuple):
    """Which sockets have one trouble, and what is their place."""

    states: bytes  # tables for bytes.translate: 1 for those that have it, 0 for the others
    timers: bytes
    tries: bytes
    place: Callable[[bytes, bytes, bytes], bytes]  # of local port, remote port and remote address


def _table(holds: Callable[[int], bool]) -> bytes:
    return bytes(holds(value) for value in range(256))


_ANY = _table(lambda _: True)
_OPEN = _table(lambda state: state in {TcpState.ESTABLISHED, TcpState.CLOSE_WAIT})


def _at_least(least: int) -> bytes:
    return _table(lambda value: value >= least)


def _remote(_: bytes, port: bytes, address: bytes) -> bytes:
    return port + address


def _address(_: bytes, __: bytes, address: bytes) -> bytes:
    return address


_BY_TRIES = {
    SYN_UNANSWERED: _Trouble(only(TcpState.SYN_SENT), only(RETRANSMIT), _at_least(1), _remote),
    RETRANSMITTING: _Trouble(_OPEN, only(RETRANSMIT), _at_least(1), _address),
    DATA_UNANSWERED: _Trouble(_OPEN, only(RETRANSMIT), _at_least(DATA_TRIES), _address),
    KEEPALIVE_UNANSWERED: _Trouble(_OPEN, only(KEEPALIVE), _at_least(PROBES), _address),
}
_BY_PROBE = {PEER_READS_NOTHING: _Trouble(_OPEN, only(PROBE), only(0), _address)}
_TRYING = _table(lambda state: state in {TcpState.SYN_SENT, TcpState.ESTABLISHED, TcpState.CLOSE_WAIT})
_TRIED = _at_least(1)


class Troubles:
    """Counts sockets in trouble, block by block."""

    def __init__(self) -> None:
        self._places: dict[tuple[str, int], Counter[bytes]] = {}  # by trouble and family
        self._sockets: Counter[str] = Counter()

    def take(self, block: Block, states: bytes, timers: bytes, tries: bytes, received: list[bytes]) -> None:
        """Count those of a block; *received* has the four columns of its receive queues, the lowest byte first."""
        if PROBE in timers:
            self._add_those(_BY_PROBE, block, states, timers, tries)
        if tries.count(0) != len(tries) and 1 in both(states.translate(_TRYING), tries.translate(_TRIED)):
            self._add_those(_BY_TRIES, block, states, timers, tries)
        queued = received[1:]
        if any(column.count(0) != len(column) for column in queued):
            long = bytes(map(_is_long, *queued))
            self._add(NOT_READ, block, both(states.translate(_OPEN), long), _local_port)

    def peers(self) -> dict[str, Peers]:
        """What was counted, by trouble; a trouble that no socket has is not there."""
        found = {}
        for name, number in self._sockets.items():
            places: Counter[str] = Counter()
            for (trouble, family), counted in self._places.items():
                if trouble == name:
                    for key, sockets in counted.items():
                        places[_place_text(family, key)] += sockets
            place, most = max(places.items(), key=lambda item: item[1], default=("", 0))
            found[name] = Peers(number, most, place)
        return found

    def _add_those(
        self, troubles: Mapping[str, _Trouble], block: Block, states: bytes, timers: bytes, tries: bytes
    ) -> None:
        for name, trouble in troubles.items():
            chosen = both(states.translate(trouble.states), timers.translate(trouble.timers))
            self._add(name, block, both(chosen, tries.translate(trouble.tries)), trouble.place)

    def _add(self, name: str, block: Block, chosen: bytes, place: Callable[[bytes, bytes, bytes], bytes]) -> None:
        number = chosen.count(1)
        if not number:
            return
        self._sockets[name] += number
        families = block.column(FAMILY)
        for family, ends in zip(
            compress(families, chosen), compress(_ends(block.length).iter_unpack(block.data), chosen), strict=True
        ):
            counted = self._places.setdefault((name, family), Counter())
            counted[place(*ends)] += 1
            if len(counted) > MAX_PLACES:
                _forget_small(counted)


def _local_port(port: bytes, _: bytes, __: bytes) -> bytes:
    return port


def _is_long(second: int, third: int, fourth: int) -> bool:
    """Whether a queue has ``UNREAD`` bytes or more, by all but its lowest byte."""
    return second >= UNREAD >> 8 or third > 0 or fourth > 0


def _forget_small(counted: Counter[bytes]) -> None:
    least = 1
    while len(counted) > MAX_PLACES // 2:
        for key in [key for key, number in counted.items() if number <= least]:
            del counted[key]
        least *= 2


@lru_cache(maxsize=64)
def _ends(length: int) -> struct.Struct:
    return struct.Struct(f"{_ENDS}{length - struct.calcsize(_ENDS)}x")


def _place_text(family: int, place: bytes) -> str:
    """A place as a person reads it: a local port, an address, or an address with its port."""
    if len(place) == 2:
        return f"port {int.from_bytes(place, 'big')}"
    text = address_text(family, place[-16:])
    if len(place) == 16:
        return text
    return f"{f'[{text}]' if ':' in text else text}:{int.from_bytes(place[:2], 'big')}"
