"""The bytes of ``inet_diag``: requests to write and dump replies to tally, as in include/uapi/linux/inet_diag.h.

``reader`` owns the netlink socket and hands the received bytes over; ``derivation`` takes the tally. Nothing here does
IO, and nothing is built per socket: messages of one length are read in columns, at C speed.
"""

from __future__ import annotations

import _struct as struct  # what `struct` wraps, and so the one module less
import sys
from _collections import _count_elements  # type: ignore[import-not-found]  # what Counter counts with, in C
from errno import ENOENT, errorcode
from itertools import compress

from exporter.errors import SourceError, SourceMalformed, SourceMissing, SourceUnreadable
from exporter.record import TYPE_CHECKING, NamedTuple
from exporter.tcpstate import StateCounts, TcpState, of_number

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Mapping
    from typing import TypeAlias, TypeVar

    K = TypeVar("K", bound=Hashable)

NETLINK_SOCK_DIAG = 4
TCPDIAG_GETSOCK = 18  # the legacy request: one dump walks IPv4 and IPv6
SOCK_DIAG_BY_FAMILY = 20  # one dump a family
NLMSG_ERROR = 2
NLMSG_DONE = 3
NLM_F_MULTI = 0x2
NLM_F_DUMP_INTR = 0x10
NLM_F_DUMP = 0x301  # REQUEST | ROOT | MATCH
IPPROTO_TCP = 6
AF_INET, AF_INET6 = 2, 10  # include/linux/socket.h

ALL_STATES = 0xFFE
"""The mask of the eleven states, without bit 13: it would walk the host's whole bind hash."""

BOUND_INACTIVE = 1 << 13
"""The mask of sockets that are bound and neither connected nor listening; kernels before 6.8 list none."""

EXTENSION_INFO = 1 << 1
"""Asks for ``INET_DIAG_INFO``, the tcp_info of each socket."""

COPIED_STATES = ALL_STATES & ~(1 << TcpState.ESTABLISHED | 1 << TcpState.TIME_WAIT)
"""The mask of the counting pass on a large host: without the two states that grow, which the kernel itself counts."""

EXTENSION_SKMEMINFO = 1 << 6
"""Asks for ``INET_DIAG_SKMEMINFO``, the memory and the drops of each socket."""

CLOSE_GROUPS = (1, 3)  # SKNLGRP_INET_TCP_DESTROY, SKNLGRP_INET6_TCP_DESTROY (include/uapi/linux/sock_diag.h)

TIMER_TIMEWAIT = 3  # idiag_timer of a mini-socket
ATTRIBUTE_SHUTDOWN = 8  # INET_DIAG_SHUTDOWN: the first attribute of every full socket, of no request socket

_HEADER = struct.Struct("=IHHII")  # nlmsghdr: length, type, flags, sequence, port
BARE = 16 + 72  # nlmsghdr and inet_diag_msg, without attributes
FAMILY, STATE, TIMER, TRIES = 16, 17, 18, 19  # offsets in a message; TRIES is idiag_retrans
PORT, REMOTE_PORT = 20, 22  # likewise, of two bytes in network order
_ANY_COOKIE = 0xFFFFFFFF
_BLOCK = 131072  # bytes of messages that are read in columns at once: a processor's nearer caches hold them
_WORTH_A_PATTERN = 8192  # bytes: a shorter reply is split sooner than a pattern is compiled
_WORTH_RE = 262144  # bytes of one dump: where re is not there yet, as in the plugin, its import takes longer than these
_ERRNO = struct.Struct("=i")
DONE = _HEADER.pack(20, NLMSG_DONE, NLM_F_MULTI, 1, 0) + bytes(4)  # how a dump ends
_QUEUES = struct.Struct("=72xII")  # of a message: receive and send queue, of a listener what waits and may wait
_END = struct.Struct("=16xB3x2s2x16s16xI")  # family, local port and address, device
_COOKIE = _END.size  # offset of the eight bytes by which the kernel tells sockets apart
_ATTRIBUTE = struct.Struct("=HH")  # length, type
_WORD = struct.Struct("=I")
_LOOKUP = struct.Struct("=IHHII3BxI48s")  # nlmsghdr and inet_diag_req_v2
_REQUEST = 1  # NLM_F_REQUEST
_ID = 20  # offset of inet_diag_sockid in a message
_SKMEMINFO, _DROPS_AT = 7, 4 + 8 * 4  # INET_DIAG_SKMEMINFO; SK_MEMINFO_DROPS is its ninth word
_IS_SYN_RECV = bytes(state == TcpState.SYN_RECV for state in range(256))  # for bytes.translate
_IS_NOT_FULL = bytes(attribute != ATTRIBUTE_SHUTDOWN for attribute in range(256))
MAPPED = bytes(10) + b"\xff\xff"  # ::ffff:0:0/96, IPv4 within IPv6

Tally: TypeAlias = "dict[tuple[int, int, int, int], int]"
"""Sockets by (family, state, timer, type of the first attribute or 0), as the messages say."""


def request_both(states: int, sequence: int, port: int = 0, extensions: int = 0) -> bytes:
    """A dump of both families, of one local port unless it is 0: ``inet_diag_req``, 60 bytes."""
    local = port.to_bytes(2, "big")
    body = struct.pack("=3xB2s34x3I2I", extensions, local, 0, _ANY_COOKIE, _ANY_COOKIE, states, 0)
    return _HEADER.pack(16 + len(body), TCPDIAG_GETSOCK, NLM_F_DUMP, sequence, 0) + body


def request_family(family: int, states: int, sequence: int, port: int = 0, extensions: int = 0) -> bytes:
    """A dump of one family, of one local port unless it is 0: ``inet_diag_req_v2``, 56 bytes. As ``request_both``."""
    local = port.to_bytes(2, "big")
    body = struct.pack("=4BI2s34x3I", family, IPPROTO_TCP, extensions, 0, states, local, 0, _ANY_COOKIE, _ANY_COOKIE)
    return _HEADER.pack(16 + len(body), SOCK_DIAG_BY_FAMILY, NLM_F_DUMP, sequence, 0) + body


def request_one(message: bytes, extensions: int) -> bytes:
    """A look-up of the one socket that *message* of a dump is of, and of no other with the same ends."""
    ends = message[_ID : _ID + 48]
    return _LOOKUP.pack(_LOOKUP.size, SOCK_DIAG_BY_FAMILY, _REQUEST, 1, 0, message[FAMILY], IPPROTO_TCP,
                        extensions, ALL_STATES, ends)  # fmt: skip


def found(reply: bytes, states: int) -> bytes:
    """The message that answers a look-up; nothing where the socket is gone, or in none of *states* any more.

    Raises as ``Dump.add``.
    """
    if len(reply) < 20:
        raise _malformed(reply, 0, "an answer to a look-up")
    kind = int.from_bytes(reply[4:6], sys.byteorder)
    if kind == NLMSG_ERROR:
        number = -_ERRNO.unpack_from(reply, 16)[0]
        if number != ENOENT:
            _raise_for(number, refused=True)
        return b""
    return reply if states >> reply[STATE] & 1 else b""


class DumpInterrupted(SourceError):
    """The kernel says that the dump is inconsistent (NLM_F_DUMP_INTR): take it again."""


class Block(NamedTuple):
    """Socket messages of one length, end to end: what can be read in columns."""

    data: bytes
    length: int  # of each message

    @property
    def number(self) -> int:
        """How many messages."""
        return len(self.data) // self.length

    def column(self, offset: int) -> bytes:
        """The byte at *offset* of every message; offsets count from the netlink header."""
        return self.data[offset :: self.length]

    def messages(self) -> list[bytes]:
        """Each message by itself."""
        return [self.data[start : start + self.length] for start in range(0, len(self.data), self.length)]

    @property
    def first_attributes(self) -> bytes:
        """The type of every message's first attribute, 0 where it has none."""
        return self.column(BARE + 2 + (sys.byteorder == "big")) if self.length >= BARE + 4 else bytes(self.number)


class Dump:
    """Takes the replies of a dump and gathers its messages by how they start, into blocks worth reading in columns."""

    def __init__(self) -> None:
        self._messages: dict[bytes, list[bytes]] = {}
        self._gathered = 0  # bytes
        self._received = 0  # bytes

    def add(self, reply: bytes) -> bool:
        """Take one reply; True when the dump is complete, and only then is what was collected whole.

        Raises ``SourceMalformed`` for a reply that is cut or no dump, ``SourceMissing`` where the kernel has no such
        dump, ``SourceUnreadable`` for any other error message of the kernel, ``DumpInterrupted`` to have it taken
        again.
        """
        by_pattern = "re" in sys.modules or self._received >= _WORTH_RE
        complete = _split(reply, self._messages, by_pattern=by_pattern)
        self._gathered += len(reply)
        self._received += len(reply)
        if complete or self._gathered >= _BLOCK:
            for start, messages in self._messages.items():
                if messages:
                    self.take(Block(b"".join(messages), int.from_bytes(start[:4], sys.byteorder)))
                    messages.clear()
            self._gathered = 0
        return complete

    def take(self, block: Block) -> None:
        """Collect what is needed of these sockets."""
        raise NotImplementedError


class TallyDump(Dump):
    """Collects a tally."""

    def __init__(self) -> None:
        super().__init__()
        self.sockets: Tally = {}

    def take(self, block: Block) -> None:
        """Add the messages of a block."""
        self._tally(block, block.column(STATE))

    def _tally(self, block: Block, states: bytes) -> None:
        """Count them; where they are alike but for the state, as mostly, by the states alone."""
        columns = block.column(FAMILY), block.column(TIMER), block.first_attributes
        if all(map(alike, columns)):
            family, timer, attribute = (column[0] for column in columns)
            while states:
                others = states.translate(None, states[:1])
                _add(self.sockets, (family, states[0], timer, attribute), len(states) - len(others))
                states = others
            return
        for key, number in counted(packed(states, *columns)).items():
            _add(self.sockets, (key >> 8 & 0xFF, key & 0xFF, key >> 16 & 0xFF, key >> 24), number)


def counted(elements: Iterable[K]) -> dict[K, int]:
    """How often each of *elements* occurs, as a Counter has it: with ``collections`` the plugin would start later."""
    found: dict[K, int] = {}
    _count_elements(found, elements)
    return found


def _add(numbers: dict[K, int], key: K, number: int) -> None:
    numbers[key] = numbers.get(key, 0) + number


def alike(column: bytes) -> bool:
    """Whether all bytes of it are the same: one comparison of memory, where counting looks at each."""
    return column == column[:1] * len(column)


def packed(*columns: bytes) -> memoryview[int]:
    """A number for each message of at most eight bytes of it, the first the lowest."""
    width = 4 if len(columns) <= 4 else 8
    gathered = bytearray(width * len(columns[0]))
    for position, column in enumerate(columns):
        gathered[position if sys.byteorder == "little" else width - 1 - position :: width] = column
    return memoryview(gathered).cast("I" if width == 4 else "Q")


def both(one: bytes, other: bytes) -> bytes:
    """Bitwise and, byte by byte."""
    both = int.from_bytes(one, "little") & int.from_bytes(other, "little")
    return both.to_bytes(len(one), "little")


_only: dict[int, bytes] = {}  # the tables that were asked for


def only(wanted: int) -> bytes:
    """A table for ``bytes.translate``: 1 for one value of a byte, 0 for the others."""
    if wanted not in _only:
        _only[wanted] = bytes(value == wanted for value in range(256))
    return _only[wanted]


def native(block: Block, offset: int) -> list[bytes]:
    """The four columns of a number in the host's order, the lowest first."""
    columns = [block.column(offset + position) for position in range(4)]
    return columns if sys.byteorder == "little" else columns[::-1]


class Local(NamedTuple):
    """A local end: what a SYN is addressed to. An IPv4 address mapped into IPv6 is IPv4's, as for the kernel."""

    family: int
    port: bytes  # network order
    address: bytes  # 16 bytes; IPv4 has the first four
    device: int = 0  # index of the interface that the socket is bound to; 0: any

    @classmethod
    def of(cls, family: int, port: bytes, address: bytes, device: int = 0) -> Local:
        """The local end of a socket as its message has it."""
        if family == AF_INET6 and address.startswith(MAPPED):
            return cls(AF_INET, port, address[12:] + bytes(12), device)
        return cls(family, port, address, device)


class Listening(NamedTuple):
    """One listening socket: how many connections wait for accept(2), and how many may."""

    local: Local
    queue: int
    limit: int


class CountingDump(TallyDump):
    """Collects what a walk needs: the tally, the listeners, and where the request sockets are.

    With *drops* it is of a dump with ``EXTENSION_SKMEMINFO``, and has the listeners' as ``ListenDump`` has them.
    """

    def __init__(self, *, drops: bool = False) -> None:
        super().__init__()
        self.listening: list[Listening] = []
        self.half_open: dict[Local, int] = {}
        self.drops: dict[bytes, tuple[Local, int]] | None = {} if drops else None

    def take(self, block: Block) -> None:
        """Add the messages of a block."""
        states = block.column(STATE)
        self._tally(block, states)
        if TcpState.SYN_RECV in states or TcpState.LISTEN in states:
            self._add_listeners(block, states)

    def _add_listeners(self, block: Block, states: bytes) -> None:
        ends = struct.Struct(f"=16xB3x2s2x16s16xI{block.length - 60}x")  # family, local port and address, device
        if states.count(TcpState.SYN_RECV):
            half_open, attributes = states.translate(_IS_SYN_RECV), block.first_attributes
            if ATTRIBUTE_SHUTDOWN in attributes:  # full sockets, of which no SYN queue has any
                half_open = both(half_open, attributes.translate(_IS_NOT_FULL))
            for end, number in counted(compress(ends.iter_unpack(block.data), half_open)).items():
                _add(self.half_open, Local.of(*end), number)
        position = states.find(TcpState.LISTEN)
        while position >= 0:
            start = position * block.length
            queue, limit = _QUEUES.unpack_from(block.data, start)
            local = Local.of(*ends.unpack_from(block.data, start))
            self.listening.append(Listening(local, queue, limit))
            if self.drops is not None:
                _add_drops(self.drops, local, block.data[start : start + block.length])
            position = states.find(TcpState.LISTEN, position + 1)


class ListenDump(Dump):
    """Collects the listening sockets, and how many segments each has dropped, by its cookie.

    It is of a dump of LISTEN alone with ``EXTENSION_SKMEMINFO``, for which the kernel walks no connections.
    """

    def __init__(self) -> None:
        super().__init__()
        self.listening: list[Listening] = []
        self.drops: dict[bytes, tuple[Local, int]] = {}

    def take(self, block: Block) -> None:
        """Add the messages of a block, one by one: there are few listeners."""
        for message in block.messages():
            local = Local.of(*_END.unpack_from(message))
            self.listening.append(Listening(local, *_QUEUES.unpack_from(message)))
            _add_drops(self.drops, local, message)


def _add_drops(drops: dict[bytes, tuple[Local, int]], local: Local, message: bytes) -> None:
    """Add what the listener of a message has dropped, by its cookie, if the message tells that."""
    dropped = _dropped(message)
    if dropped is not None:
        drops[message[_COOKIE : _COOKIE + 8]] = local, dropped


def _dropped(message: bytes) -> int | None:
    """The word SK_MEMINFO_DROPS of a message; None where it has none, or the attribute is cut."""
    at = BARE
    while at + 4 <= len(message):
        length, kind = _ATTRIBUTE.unpack_from(message, at)
        if kind == _SKMEMINFO and _DROPS_AT + 4 <= length <= len(message) - at:
            return int(_WORD.unpack_from(message, at + _DROPS_AT)[0])
        at += max(length + 3 & ~3, 4)
    return None


def _split(reply: bytes, messages: dict[bytes, list[bytes]], *, by_pattern: bool) -> bool:
    """Add the messages of any *reply* to those that start alike; True when the dump is complete."""
    offset, end = 0, len(reply)
    while offset < end:
        if end - offset < 16:
            raise _malformed(reply, offset, "a netlink header of 16 bytes")
        length, kind, flags, _, _ = _HEADER.unpack_from(reply, offset)
        if length < 16 or offset + length > end:
            raise _malformed(reply, offset, f"a message of its stated length {length}")
        if flags & NLM_F_DUMP_INTR:
            raise DumpInterrupted("netlink", "the dump was interrupted")
        if kind in {NLMSG_ERROR, NLMSG_DONE}:
            if length >= 20:
                _raise_for(-_ERRNO.unpack_from(reply, offset + 16)[0], refused=kind == NLMSG_ERROR)
            return True
        if kind not in {TCPDIAG_GETSOCK, SOCK_DIAG_BY_FAMILY} or length < BARE or length % 4:
            raise _malformed(reply, offset, "an inet_diag message")
        if offset == 0 and _add_whole(reply, length, messages, by_pattern=by_pattern):
            return False
        messages.setdefault(reply[offset : offset + 8], []).append(reply[offset : offset + length])
        offset += length
    return False


def _add_whole(reply: bytes, length: int, messages: dict[bytes, list[bytes]], *, by_pattern: bool) -> bool:
    """Add all messages of a *reply* at once; False, and none added, where that cannot be done."""
    if _start_alike(reply, length):
        messages.setdefault(reply[:8], []).append(reply)
        return True
    return by_pattern and _sort(reply, messages)


def _start_alike(reply: bytes, length: int) -> bool:
    """Whether all messages have the *length*, kind and flags of the first one, as in most replies."""
    number, rest = divmod(len(reply), length)
    if rest:
        return False
    words, starts = memoryview(reply).cast("I"), memoryview(reply[:8] * number).cast("I")
    return all(words[at :: length // 4] == starts[at::2] for at in (0, 1))


def _sort(reply: bytes, messages: Mapping[bytes, list[bytes]]) -> bool:
    """Add the messages of a large *reply* to those that start alike; False, and none added, where others are in it."""
    if len(reply) < _WORTH_A_PATTERN or not messages:
        return False
    from exporter.kernel.runs import pattern  # noqa: PLC0415 - re: see _WORTH_RE

    runs = pattern(tuple(messages)).findall(reply)
    parts = [b"".join(run) for run in (zip(*runs, strict=True) if len(messages) > 1 else [runs])]
    if sum(map(len, parts)) != len(reply):
        return False
    for pieces, part in zip(messages.values(), parts, strict=True):
        if part:
            pieces.append(part)
    return True


def _malformed(reply: bytes, offset: int, expected: str) -> SourceMalformed:
    return SourceMalformed("netlink", offset, reply[offset : offset + 24].hex(" "), f"{expected} at byte {offset}")


def _raise_for(errno: int, *, refused: bool) -> None:
    """Turn the kernel's answer to a dump into one sentence; 0 is success, and no answer to a dump of ours."""
    name = errorcode.get(errno, f"error {errno}")
    if errno > 0 and name in {"ENOENT", "EOPNOTSUPP", "EPROTONOSUPPORT", "EINVAL"}:
        raise SourceMissing("netlink", f"this kernel offers no tcp_diag dump ({name})")
    if errno > 0 and name in {"EPERM", "EACCES"}:
        raise SourceUnreadable("netlink", f"the kernel refuses tcp_diag dumps to this process ({name})")
    if errno or refused:
        raise SourceUnreadable("netlink", f"the kernel ended the dump with {name}")


def state_counts(sockets: Tally) -> tuple[StateCounts, tuple[str, ...]]:
    """Counts by state, and the state numbers that are unknown here. States outside the mask count too."""
    counts = [0] * len(TcpState)
    unknown = set()
    for (_, number, _, _), amount in sockets.items():
        state = of_number(number)
        counts[state] += amount
        if state is TcpState.UNKNOWN:
            unknown.add(number)
    return tuple(counts), tuple(map(str, sorted(unknown)))


def mini_fin_wait2(sockets: Tally) -> int:
    """The FIN_WAIT2 mini-sockets: those that sockstat's ``tw`` counts beside TIME_WAIT."""
    return sum(
        amount
        for (_, state, timer, _), amount in sockets.items()
        if state == TcpState.FIN_WAIT2 and timer == TIMER_TIMEWAIT
    )


def full_syn_recv(sockets: Tally) -> int:
    """SYN_RECV as full sockets (Fast Open, simultaneous open): those that sockstat's ``inuse`` counts."""
    return sum(
        amount
        for (_, state, _, attribute), amount in sockets.items()
        if state == TcpState.SYN_RECV and attribute == ATTRIBUTE_SHUTDOWN
    )
