"""The text files of /proc/net: one parser a file, named after it.

``reader`` opens the files and hands lines or text over. A line that cannot be read is an error with file, line number
and text, never a count that is merely smaller.
"""

from __future__ import annotations

from exporter.errors import SourceMalformed
from exporter.record import TYPE_CHECKING
from exporter.snapshot import Sockstat
from exporter.tcpstate import StateCounts, TcpState, of_number

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

_TITLE = "sl"
_HEXADECIMAL = "0123456789ABCDEF"
_DIGITS = 20  # characters, of any number of 64 bits with its sign
_INODE_FIELDS = 10  # mini-sockets and requests have 12 fields, full sockets 17; the tenth, the inode, is in all


def parse_tcp(lines: Iterable[str], source: str, port: int = 0) -> dict[str, int]:
    r"""Count sockets by the state column of /proc/net/tcp or tcp6, streaming; of one local port unless it is 0.

    Returns the hexadecimal states as written. A last line without its end was cut. https://docs.kernel.org/networking/proc_net_tcp.html

    >>> parse_tcp([
    ...     "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n",
    ...     "   0: 0100007F:0CEA 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 8311 1 ...\n",
    ... ], "net/tcp")
    {'0A': 1}
    """
    states: dict[str, int] = {}
    wanted = f":{port:04X}"
    lineno = 0
    for lineno, line in enumerate(lines, start=1):
        if lineno == 1:
            if line.split(maxsplit=1)[:1] != [_TITLE]:
                raise SourceMalformed(source, lineno, line.rstrip("\n"), "the column titles of /proc/net/tcp")
            continue
        fields = line.split(None, _INODE_FIELDS)
        if len(fields) < _INODE_FIELDS or not _is_state(fields[3]) or not line.endswith("\n"):
            raise SourceMalformed(source, lineno, line.rstrip("\n"), "a socket with state and inode")
        if not port or fields[1].endswith(wanted):
            states[fields[3]] = states.get(fields[3], 0) + 1
    if lineno == 0:
        raise SourceMalformed(source, 1, "", "the column titles of /proc/net/tcp")
    return states


def _is_state(text: str) -> bool:
    return len(text) == 2 and not text.strip(_HEXADECIMAL)


def state_counts(states: Mapping[str, int]) -> tuple[StateCounts, tuple[str, ...]]:
    """Counts by state from what ``parse_tcp`` found, and the states that are unknown here."""
    counts = [0] * len(TcpState)
    unknown = []
    for text, amount in states.items():
        state = of_number(int(text, 16))
        counts[state] += amount
        if state is TcpState.UNKNOWN:
            unknown.append(text)
    return tuple(counts), tuple(sorted(unknown))


def parse_snmp(text: str, source: str, table: str) -> dict[str, int]:
    r"""The counters of one table of /proc/net/snmp (``Tcp``) or netstat (``TcpExt``), as ``Tcp.CurrEstab``.

    A table is a line of names and a line of values; columns are matched by name, because they differ by kernel.

    >>> parse_snmp("Tcp: MaxConn CurrEstab\nTcp: -1 5\n", "net/snmp", "Tcp")
    {'Tcp.MaxConn': -1, 'Tcp.CurrEstab': 5}
    """
    prefix = f"{table}: "
    rows = [(lineno, line) for lineno, line in enumerate(text.splitlines(), start=1) if line.startswith(prefix)]
    if len(rows) != 2:
        lineno, line = rows[-1] if rows else (1, "")
        raise SourceMalformed(source, lineno, line, f"one line of names and one of values that start with {table}:")
    (_, names), (lineno, numbers) = rows
    keys, values = _keys(names), numbers.split()[1:]
    if len(keys) != len(values):
        raise SourceMalformed(source, lineno, numbers, f"{len(keys)} values, found {len(values)}")
    try:
        return dict(zip(keys, _integers(values), strict=True))
    except ValueError:
        raise SourceMalformed(source, lineno, numbers, "integers") from None


_keys_of: dict[str, list[str]] = {}  # by the line of names, of which a kernel has two
_FEW_LINES = 8


def _keys(names: str) -> list[str]:
    """The keys of a line of names: the same at each reading, and more than a hundred."""
    if names not in _keys_of:
        if len(_keys_of) == _FEW_LINES:  # not of a kernel
            _keys_of.clear()
        table, *keys = names.split()
        _keys_of[names] = [f"{table[:-1]}.{key}" for key in keys]
    return _keys_of[names]


def parse_sockstat(text: str, source: str) -> Sockstat:
    r"""The line ``TCP:`` of /proc/net/sockstat.

    >>> parse_sockstat("sockets: used 9\nTCP: inuse 1 orphan 0 tw 2 alloc 3 mem 177\n", "net/sockstat")
    Sockstat(inuse=1, orphan=0, tw=2, alloc=3, mem=177, inuse6=None)
    """
    lineno, line, pairs = _sockstat_line(text, source, "TCP:")
    try:
        return Sockstat(**{key: pairs[key] for key in ("inuse", "orphan", "tw", "alloc", "mem")})
    except KeyError as missing:
        raise SourceMalformed(source, lineno, line, f"the field {missing}") from None


def parse_sockstat6(text: str, source: str) -> int:
    """The ``inuse`` of line ``TCP6:`` of /proc/net/sockstat6: hashed full IPv6 sockets."""
    lineno, line, pairs = _sockstat_line(text, source, "TCP6:")
    if "inuse" not in pairs:
        raise SourceMalformed(source, lineno, line, "the field 'inuse'")
    return pairs["inuse"]


def _sockstat_line(text: str, source: str, title: str) -> tuple[int, str, dict[str, int]]:
    for lineno, line in enumerate(text.splitlines(), start=1):
        if line.startswith(title):
            words = line.split()[1:]
            try:
                return lineno, line, dict(_pairs(words))
            except ValueError:
                raise SourceMalformed(source, lineno, line, "pairs of a name and a count") from None
    raise SourceMalformed(source, 1, text[:80], f"a line that starts with {title}")


def _pairs(words: list[str]) -> Iterable[tuple[str, int]]:
    names, numbers = words[::2], words[1::2]
    if any(number.startswith("-") for number in numbers):
        raise ValueError(numbers)
    return zip(names, _integers(numbers), strict=True)


def _integers(words: Sequence[str]) -> Iterable[int]:
    """Integers as the kernel prints them: ``int()`` alone would also take underscores and other scripts' digits."""
    together = "".join(words).replace("-", "")
    if words and not (together.isascii() and together.isdigit() and max(map(len, words)) <= _DIGITS):
        raise ValueError(words)
    return map(int, words)
