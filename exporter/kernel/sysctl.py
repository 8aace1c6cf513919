"""Values of sysctls: from the text of a file below /proc/sys/net to numbers with names, or words.

``reader`` brings the text, ``catalogue`` knows what to expect, and what the catalogue does not know, or knows otherwise
than this kernel, is kept all the same. A secret is recognised by its name, before anything is opened.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache

from exporter.errors import SourceMalformed
from exporter.kernel.catalogue import CATALOGUE, INT, PORTS, TEXT, VECTOR, Sysctl
from exporter.printable import printable
from exporter.snapshot import SysctlValue

_INTEGER = re.compile(r"[-+]?[0-9]{1,20}", re.ASCII)
_PORTS = re.compile(r"([0-9]{1,5})(?:-([0-9]{1,5}))?", re.ASCII)


def is_secret(name: str) -> bool:
    """Whether the file must never be opened: ``tcp_fastopen_key``, and whatever is named like a secret.

    >>> [name for name in ("tcp_fastopen_key", "tcp_md5_secret", "tcp_keepalive_time") if is_secret(name)]
    ['tcp_fastopen_key', 'tcp_md5_secret']
    """
    return name.endswith(("_key", "_keys")) or "secret" in name


@lru_cache(maxsize=256)  # they are read again and again, and hardly ever change
def parse(name: str, text: str) -> SysctlValue:
    r"""Read the content of the file of sysctl *name*; ``SourceMalformed`` where a number should be and nothing is.

    >>> parse("tcp_rmem", "4096\t131072\t33554432\n").fields
    (('min', 4096), ('default', 131072), ('max', 33554432))
    >>> parse("tcp_fin_timeout", "60\n")
    SysctlValue(name='tcp_fin_timeout', fields=(('', 60),), text=None, unit='seconds')
    >>> parse("tcp_congestion_control", "cubic\n")
    SysctlValue(name='tcp_congestion_control', fields=(), text='cubic', unit='')
    """
    if is_secret(name):  # should a reader ever come this far, the secret ends here
        return SysctlValue(name, (), None, "")
    words = text.split()
    entry = CATALOGUE.get(name)
    kind = entry.kind if entry else ""
    if kind == TEXT:
        return SysctlValue(name, (), printable(" ".join(words)), "")
    if kind == PORTS:
        return SysctlValue(name, (("count", len(parse_ports(name, text))),), None, "ports")
    if not words and entry is not None:
        raise SourceMalformed(name, 1, text, f"a value of kind {kind}")
    if not words or not all(map(_INTEGER.fullmatch, words)):
        return SysctlValue(name, (), printable(" ".join(words)), "")
    numbers = [int(word) for word in words]
    return SysctlValue(
        name, tuple(zip(_fields(entry, len(numbers)), numbers, strict=True)), None, _unit(entry, len(numbers))
    )


def parse_ports(name: str, text: str) -> frozenset[int]:
    r"""The ports of a list of ranges, as of ``ip_local_reserved_ports``; ``SourceMalformed`` where it is none.

    >>> sorted(parse_ports("net.ipv4.ip_local_reserved_ports", "40003,40005-40006\n"))
    [40003, 40005, 40006]
    """
    ports: set[int] = set()
    for item in filter(None, text.strip().split(",")):
        match = _PORTS.fullmatch(item)
        low, high = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if not low <= high <= 65535:
            raise SourceMalformed(name, 1, text.strip(), "a list of ports and ranges such as 40003,40005-40006")
        ports.update(range(low, high + 1))
    return frozenset(ports)


def ports_text(ports: Iterable[int]) -> str:
    """Ports as the kernel prints and takes them, in order and without doubles.

    >>> ports_text([8081, 53, 8080, 8080, 8082, 90])
    '53,90,8080-8082'
    """
    runs: list[list[int]] = []
    for port in sorted(set(ports)):
        if runs and port == runs[-1][1] + 1:
            runs[-1][1] = port
        else:
            runs.append([port, port])
    return ",".join(f"{low}" if low == high else f"{low}-{high}" for low, high in runs)


def _fields(entry: Sysctl | None, number: int) -> tuple[str, ...]:
    """The catalogue's names where it is right about this kernel, else "" for one number and positions for more."""
    if entry is not None and entry.kind == VECTOR and len(entry.fields) == number:
        return entry.fields
    return ("",) if number == 1 else tuple(str(position) for position in range(number))


def _unit(entry: Sysctl | None, number: int) -> str:
    if entry is None or number != (len(entry.fields) if entry.kind == VECTOR else 1):
        return ""
    return entry.unit if entry.kind in {INT, VECTOR} else ""
