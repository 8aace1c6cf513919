"""Connection tracking: the sysctls and the counters of netfilter that tell how full its table is.

``sampling.sources`` brings the texts. Every network namespace has its own entries and counters, and the limit is the
host's. Source: net/netfilter/nf_conntrack_core.c, __nf_conntrack_alloc; nf_conntrack_standalone.c.
"""

from __future__ import annotations

from exporter.errors import SourceMalformed

COUNT = "sys/net/netfilter/nf_conntrack_count"
LIMIT = "sys/net/netfilter/nf_conntrack_max"
ESTABLISHED_TIMEOUT = "sys/net/netfilter/nf_conntrack_tcp_timeout_established"
STATISTICS = "net/stat/nf_conntrack"
INSERT_FAILED, DROP = LOSSES = "insert_failed", "drop"  # columns of the statistics

_HEXADECIMAL = frozenset("0123456789abcdef")
_DIGITS = 10  # of a number of 32 bits


def parse_number(text: str, source: str) -> int:
    r"""The one number of a file.

    >>> parse_number("262144\n", "nf_conntrack_max")
    262144
    """
    word = text.strip()
    if not (word.isascii() and word.isdigit() and len(word) <= _DIGITS):
        raise SourceMalformed(source, 1, word, "a number")
    return int(word)


def parse_statistics(text: str, source: str) -> dict[str, int]:
    r"""The sums of ``LOSSES`` over all CPUs in /proc/net/stat/nf_conntrack, those that the kernel has.

    A line of names, then for each CPU one of hexadecimals. Of hundreds of CPUs every second it must not take long.

    >>> parse_statistics("entries insert_failed drop\n00000002 00000001 0000000a\n00000002 00000000 00000001\n", "stat")
    {'insert_failed': 1, 'drop': 11}
    """
    titles, *rows = text.splitlines() or [""]
    names = titles.split()
    if not names or not rows:
        raise SourceMalformed(source, 1, titles, "a line of names, then one of numbers for each CPU")
    columns = {name: names.index(name) for name in LOSSES if name in names}
    sums = dict.fromkeys(columns, 0)
    for lineno, row in enumerate(rows, start=2):
        words = row.split()
        if len(words) != len(names) or not all(
            len(words[column]) <= _DIGITS and _HEXADECIMAL.issuperset(words[column]) for column in columns.values()
        ):
            raise SourceMalformed(source, lineno, row, f"{len(names)} hexadecimal numbers")
        for name, column in columns.items():
            sums[name] += int(words[column], 16)
    return sums
