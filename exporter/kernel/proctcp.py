"""What /proc/net/tcp and tcp6 say of each socket beside its state: the detail pass where netlink is refused.

Each line becomes the netlink message that the kernel would have sent, as far as /proc goes, and ``detail`` counts
those: what a port, a queue or a destination is stays said in one place. Neither cgroups nor the limits of accept queues
are in /proc. Pure; no more is kept than a batch of lines.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable, Iterator
from itertools import islice

from exporter.errors import SourceMalformed
from exporter.kernel.detail import DetailDump
from exporter.kernel.inetdiag import AF_INET, AF_INET6, ALL_STATES, BARE, DONE, NLM_F_MULTI, SOCK_DIAG_BY_FAMILY
from exporter.record import TYPE_CHECKING
from exporter.tcpstate import TcpState

if TYPE_CHECKING:
    from exporter.kernel.reader import Collector

_TITLE = "sl"
_TITLES = "the column titles of /proc/net/tcp"
_BATCH = 1024  # lines
_PROBING = {"02", "04"}  # timers of keepalive and of a closed window

_LINE = (  # the addresses, then send and receive queue; of the rest, mini-sockets and requests have all up to the inode
    " *[0-9]+:"
    " +(?P<local>{address}):(?P<port>[0-9A-F]{{4}}) +(?P<remote>{address}):(?P<remote_port>[0-9A-F]{{4}})"
    " +(?P<state>[0-9A-F]{{2}}) +(?P<send>[0-9A-F]{{8}}):(?P<receive>[0-9A-F]{{8}})"
    " +(?P<timer>[0-9A-F]{{2}}):[0-9A-F]+ +(?P<resent>[0-9A-F]{{8}})"
    " +[^ \n]+ +(?P<probes>[^ \n]+) +(?P<inode>[0-9]+)(?: [^\n]*)?\n"
)
_LINES = {
    AF_INET: re.compile(_LINE.format(address="[0-9A-F]{8}")),
    AF_INET6: re.compile(_LINE.format(address="[0-9A-F]{32}")),
}
_OF_EITHER_FAMILY = re.compile(_LINE.format(address="[0-9A-F]{8}(?:[0-9A-F]{24})?"))

# An address is printed as the numbers that its words are on this host; a port as people write it.
_WORDS = {AF_INET: struct.Struct(">I"), AF_INET6: struct.Struct(">4I")}
_MESSAGES = {  # nlmsghdr, then inet_diag_msg: family, state, timer and tries, ports, addresses, queues, inode
    AF_INET: struct.Struct("=IHH8x BBBB 2s2s I12xI12x 16xII4xI"),
    AF_INET6: struct.Struct("=IHH8x BBBB 2s2s 4I4I 16xII4xI"),
}


class ProcDetail(DetailDump):
    """Collects the lines of /proc/net/tcp and tcp6; constructed as ``DetailDump``.

    Of ``sockets`` families, states and timers are known, and ``units`` has none to tell: ``summarise`` is given None.
    """

    def add_lines(self, lines: Iterable[str], source: str, family: int) -> None:
        """Take a whole file, that of ``AF_INET`` or ``AF_INET6``, streaming. Raises as ``procnet.parse_tcp`` does."""
        replay(lines, source, family, self)


def replay(lines: Iterable[str], source: str, family: int, collector: Collector, states: int = ALL_STATES) -> None:
    """Hand a file's sockets whose state is in the mask to *collector*, as the replies of a netlink dump."""
    messages = _messages(lines, source, family, states)
    while batch := b"".join(islice(messages, _BATCH)):
        collector.add(batch)
    collector.add(DONE)


def listening_ports(lines: Iterable[str], source: str) -> frozenset[int]:
    """The local ports of the listeners in one of the two files. Raises as ``procnet.parse_tcp`` does."""
    listen = f"{TcpState.LISTEN:02X}"
    found = _sockets(lines, source, _OF_EITHER_FAMILY)
    return frozenset(int(socket["port"], 16) for socket in found if socket["state"] == listen)


def _messages(lines: Iterable[str], source: str, family: int, states: int) -> Iterator[bytes]:
    words, pack = _WORDS[family].unpack, _MESSAGES[family].pack
    for socket in _sockets(lines, source, _LINES[family]):
        local, port, remote, remote_port, state, send, receive, timer, resent, probes, inode = socket.groups()
        if not states >> int(state, 16) & 1 and states != ALL_STATES:
            continue
        yield pack(
            BARE,
            SOCK_DIAG_BY_FAMILY,
            NLM_F_MULTI,
            family,
            int(state, 16),
            int(timer, 16),
            min(_tries(timer, resent, probes), 255),  # as wide as netlink has it
            bytes.fromhex(port),
            bytes.fromhex(remote_port),
            *words(bytes.fromhex(local)),
            *words(bytes.fromhex(remote)),
            int(receive, 16),
            int(send, 16),
            int(inode) & 0xFFFFFFFF,  # as wide as netlink has it
        )


def _tries(timer: str, resent: str, probes: str) -> int:
    """What netlink says beside the timer: netlink has one field for retransmissions and for probes, /proc has two."""
    if timer in _PROBING:
        return int(probes) if probes.isascii() and probes.isdigit() else 0
    return int(resent, 16)


def _sockets(lines: Iterable[str], source: str, pattern: re.Pattern[str]) -> Iterator[re.Match[str]]:
    """A match for every line but the first, which has the titles; a last line without its end was cut."""
    lineno = 0
    for lineno, line in enumerate(lines, start=1):
        if lineno == 1:
            if line.split(maxsplit=1)[:1] != [_TITLE] or not line.endswith("\n"):
                raise SourceMalformed(source, lineno, line.rstrip("\n"), _TITLES)
            continue
        socket = pattern.fullmatch(line)
        if socket is None:
            raise SourceMalformed(source, lineno, line.rstrip("\n"), "a socket with addresses, state, queues and inode")
        yield socket
    if lineno == 0:
        raise SourceMalformed(source, 1, "", _TITLES)
