"""The lab's own count of its sockets, from /proc/net/tcp and /proc/net/tcp6.

It shares nothing with the program under test but the spelling of the states, so that agreement of the two means
something.
"""

from __future__ import annotations

import socket
import struct
from collections import Counter
from collections.abc import Mapping

from exporter.tcpstate import KNOWN_STATES, TcpState

Counts = Mapping[tuple[socket.AddressFamily, TcpState], int]
"""How many sockets there are of a family and in a state."""

FAMILIES = {socket.AF_INET: "ipv4", socket.AF_INET6: "ipv6"}

_BY_NUMBER = {int(state): state for state in KNOWN_STATES}

# Of this thread: a plain /proc/net is that of the main thread, which may be in another namespace.
_TABLES = {socket.AF_INET: "/proc/thread-self/net/tcp", socket.AF_INET6: "/proc/thread-self/net/tcp6"}


def count(*addresses: str) -> Counter[tuple[socket.AddressFamily, TcpState]]:
    """The sockets of this network namespace: all, or those with one of these local addresses."""
    wanted = {_as_the_kernel_writes(address) for address in addresses}
    counts: Counter[tuple[socket.AddressFamily, TcpState]] = Counter()
    for family, table in _TABLES.items():
        try:
            with open(table, encoding="ascii") as file:
                rows = file.read().splitlines()[1:]
        except FileNotFoundError:  # a kernel without IPv6
            continue
        for row in rows:
            _, local, _, state, *_ = row.split(maxsplit=4)
            if not wanted or local.rpartition(":")[0] in wanted:
                counts[family, _BY_NUMBER[int(state, 16)]] += 1
    return counts


def by_family(counts: Counts) -> dict[str, dict[str, int]]:
    """The counts by the labels of families and of all eleven states, zeros included."""
    return {
        name: {state.label: counts.get((family, state), 0) for state in KNOWN_STATES}
        for family, name in FAMILIES.items()
    }


def by_state(counts: Counts) -> dict[str, int]:
    """The counts of both families together by the labels of all eleven states, zeros included."""
    return {state.label: sum(counts.get((family, state), 0) for family in FAMILIES) for state in KNOWN_STATES}


def difference(expected: Counts, seen: Counts) -> str:
    """What differs, in words; empty when nothing does."""
    return ", ".join(
        f"{FAMILIES[key[0]]} {key[1].label} expected {expected.get(key, 0)}, seen {seen.get(key, 0)}"
        for key in sorted(set(expected) | set(seen))
        if expected.get(key, 0) != seen.get(key, 0)
    )


def _as_the_kernel_writes(address: str) -> str:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    packed = socket.inet_pton(family, address)
    return "".join(f"{word:08X}" for word in struct.unpack(f"={len(packed) // 4}I", packed))
