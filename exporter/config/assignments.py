"""The argument of ``advise --what-if``: sysctls and the values that they might have, checked as the kernel checks them.

Names and their mistakes are those of ``sysctl.expected``; the limits of values are the catalogue's. Pure.
"""

from __future__ import annotations

import re

from exporter.config.fields import INTEGER
from exporter.config.schema import check_vector, sysctl_name
from exporter.errors import SourceMalformed, UsageError
from exporter.health.sysctls.ports import RANGE
from exporter.kernel.catalogue import BOOL, CATALOGUE, INT, LIMITS, TEXT, VECTOR
from exporter.kernel.sysctl import parse
from exporter.record import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from exporter.snapshot import SysctlValue

_NEXT = re.compile(r",(?=\s*[A-Za-z_][A-Za-z0-9_./-]*\s*=)")  # a comma before another name; others are of a list


def assignments(text: str, present: Mapping[str, SysctlValue]) -> list[SysctlValue]:
    """The values in ``NAME=VALUE[,NAME=VALUE...]``, of sysctls that are *present*; ``UsageError`` for a mistake.

    A value of several numbers has blanks between them: ``tcp_rmem=4096 131072 6291456``.
    """
    values: dict[str, SysctlValue] = {}
    for pair in _NEXT.split(text):
        name, equals, value = (part.strip() for part in pair.partition("="))
        if not equals or not name or not value:
            raise UsageError(f"{pair.strip()!r}: expected NAME=VALUE, such as tcp_fin_timeout=30")
        try:
            found = _assignment(sysctl_name(present, name) if name != _LIST else name, value, present)
        except UsageError as error:
            raise UsageError(f"{pair.strip()}: {error}") from None
        if found.name in values:
            raise UsageError(f"{pair.strip()}: {found.name} is named twice")
        values[found.name] = found
    return [*values.values()]


_LIST = "net.ipv4.ip_local_reserved_ports"  # nothing can be expected of its numbers, but how many there are counts here


def _assignment(name: str, text: str, present: Mapping[str, SysctlValue]) -> SysctlValue:
    old = present.get(name)
    if old is None:
        raise UsageError("this host has no such sysctl, or it could not be read")
    entry = CATALOGUE.get(name)
    if entry is not None and entry.kind == VECTOR:
        check_vector(entry, text)
    elif entry is not None and entry.kind in {INT, BOOL} and not INTEGER.fullmatch(text):
        raise UsageError(f"expected an integer, got {text!r}")
    elif entry is None and [*map(bool, map(INTEGER.fullmatch, text.split()))] != [True] * len(old.fields):
        raise UsageError(f"expected {len(old.fields)} integers, as this host has, got {text!r}")
    try:
        value = parse(name, text)
    except SourceMalformed:
        raise UsageError(f"expected a list of ports and ranges such as 40003,40005-40006, got {text!r}") from None
    if entry is None or entry.kind not in {TEXT}:
        _check_limits(name, value)
    return value


def _check_limits(name: str, value: SysctlValue) -> None:
    entry = CATALOGUE.get(name)
    least, most = (0, 1) if entry is not None and entry.kind == BOOL else LIMITS.get(name, (-(2**63), 2**63 - 1))
    if name == RANGE:
        least, most = 1, 65535
    elif entry is not None and entry.kind == VECTOR:
        least = 1 if name != "tcp_mem" else 0
        most = 2**31 - 1 if name != "tcp_mem" else 2**63 - 1
    elif entry is not None and entry.kind == INT and name not in LIMITS:
        least, most = -(2**63), 2**63 - 1
    for field, number in value.fields:
        if not least <= number <= most:
            what = f"{number} of {field}" if field else f"{number}"
            raise UsageError(f"the kernel takes {least} to {most}, got {what}")
