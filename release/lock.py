"""The lock files, read: every requirement with its version, its hashes and what needs it.

``sbom`` and ``tests/test_supply_chain.py`` use it. The format is what ``make lock`` writes.
"""

from __future__ import annotations

import re
from typing import NamedTuple


class Locked(NamedTuple):
    """A requirement: its normalised name, its version, its marker, SHA-256 of its files, and the names that need it."""

    name: str
    version: str
    marker: str
    sha256: tuple[str, ...]
    via: tuple[str, ...]


_ENTRY = re.compile(r"^(?P<name>[A-Za-z0-9._-]+)==(?P<version>[^ ;]+)(?: ; (?P<marker>[^\\]+?))? *\\?$")
_HASH = re.compile(r"^    --hash=sha256:([0-9a-f]{64})(?: \\)?$")
_VIA = re.compile(r"^    #(?: via)? +(\S+)(?: .*)?$")


def parse(text: str) -> tuple[Locked, ...]:
    r"""Read a lock file; ``ValueError`` for a line that is none of its own.

    >>> parse("h11==0.16.0 \\\n    --hash=sha256:" + "0" * 64 + "\n    # via tcp-exporter\n")[0].via
    ('tcp-exporter',)
    """
    found: list[Locked] = []
    for line in text.splitlines():
        if not line or line.startswith(("#", "--only-binary ")) or line == "    # via":
            continue
        if entry := _ENTRY.match(line):
            found.append(Locked(entry["name"], entry["version"], entry["marker"] or "", (), ()))
        elif (digest := _HASH.match(line)) and found:
            found[-1] = found[-1]._replace(sha256=(*found[-1].sha256, digest[1]))
        elif (via := _VIA.match(line)) and found:
            found[-1] = found[-1]._replace(via=(*found[-1].via, via[1]))
        else:
            raise ValueError(f"not a line of a lock file: {line!r}")
    return tuple(found)
