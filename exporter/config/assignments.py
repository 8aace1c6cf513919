"""The argument of ``advise --what-if``: sysctls and the values that they might have, checked as the kernel checks them.

Names and their mistakes are those of ``sysctl.expected``; the limits of values are the catalogue's. Pure.
"""

from __future__ import annotations

import re

from exporter.config.fields import INTEGER
from exporter.config.schema import check_vector, sysctl_name
from exporter.errors import SourceMalformed, UsageError
from exporter.health.sysctls.ports import RESERVED
from exporter.kernel.catalogue import BOOL, CATALOGUE, INT, LIMITS, VECTOR
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
            found = _assignment(name if name == RESERVED else sysctl_name(present, name), value, present)
        except UsageError as error:
            raise UsageError(f"{pair.strip()}: {error}") from None
        if found.name in values:
            raise UsageError(f"{pair.strip()}: {found.name} is named twice")
        values[found.name] = found
    return [*values.values()]


def _assignment(name: str, text: str, present: Mapping[str, SysctlValue]) -> SysctlValue:
    old = present.get(name)
    if old is None:
        raise UsageError("this host has no such sysctl, or it could not be read")
    entry, words = CATALOGUE.get(name), text.split()
    if entry is not None and entry.kind == VECTOR:
        check_vector(entry, text)
    elif entry is not None and entry.kind in {INT, BOOL} and not INTEGER.fullmatch(text):
        raise UsageError(f"expected an integer, got {text!r}")
    elif entry is None and (len(words) != len(old.fields) or not all(map(INTEGER.fullmatch, words))):
        raise UsageError(f"expected {len(old.fields)} integers, as this host has, got {text!r}")
    try:
        value = parse(name, text)
    except SourceMalformed:
        raise UsageError(f"expected a list of ports and ranges such as 40003,40005-40006, got {text!r}") from None
    least, most = _limits(name)
    for field, number in value.fields:
        if not least <= number <= most:
            raise UsageError(f"the kernel accepts {least} to {most}, got {number}{f' as {field}' if field else ''}")
    return value


def _limits(name: str) -> tuple[int, int]:
    entry = CATALOGUE.get(name)
    return LIMITS.get(name, (0, 1) if entry is not None and entry.kind == BOOL else (-(2**63), 2**63 - 1))
