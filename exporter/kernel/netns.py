"""Network namespaces by name, and what the kernel's sums alone say of the sockets in one.

``netnsfs`` finds the namespaces, reads their counters and asks here what to call them and whether their sockets have
to be walked at all. Nothing here does IO.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

from exporter.kernel.cgroup import LONGEST, OUTSIDE, ROOT, unit_name
from exporter.kernel.derivation import FULL_STATES, Sums
from exporter.printable import shortened
from exporter.record import NamedTuple
from exporter.tcpstate import TcpState

HOST = "host"
"""The namespace of process 1, whatever else lives in it."""

SELF = "self"
"""This program's namespace, where that is not process 1's."""

FOLDED = "other"
"""What the namespaces beyond the most that are shown are together."""

Counts = tuple[int | None, ...]
"""Sockets by ``TcpState``; None for a state that cannot be told by the way it was read."""

Key = tuple[int, int]
"""The device and inode of a file that each namespace has one of."""

NOTHING_TOLD: Counts = (None,) * len(TcpState)


class NamespaceCounts(NamedTuple):
    """The sockets of one network namespace."""

    name: str
    counts: Counts
    exact: bool  # every state was counted, or is the same as when it was; else some are None, or up to a minute old


class Reading(NamedTuple):
    """The counters of a namespace at one moment."""

    sums: Sums | None  # None where the kernel lacks one that they need
    inuse: int  # full sockets, IPv4 and IPv6
    tw: int
    segments: int | None  # received so far: without one, no socket moves between two states of one sum

    @property
    def listed(self) -> int:
        """How many sockets a listing has, but for half-open connections."""
        return self.inuse + self.tw


def told(reading: Reading) -> Counts:
    """What the sums alone say. A sum of several states tells each only where it is 0.

    CurrEstab adds nothing to that: its sockets are in ``inuse`` too. A half-open connection needs a listener, which is
    in ``inuse``; those of a listener that was closed just now are passed over.
    """
    counts = list(NOTHING_TOLD)
    if reading.inuse == 0:
        for state in (*FULL_STATES, TcpState.ESTABLISHED, TcpState.SYN_RECV, TcpState.CLOSE, TcpState.UNKNOWN):
            counts[state] = 0
    if reading.tw == 0:
        counts[TcpState.TIME_WAIT] = 0
    elif reading.inuse == 0:
        counts[TcpState.FIN_WAIT2] = None  # its mini-sockets are in tw
    return tuple(counts)


def unchanged(before: Reading, now: Reading) -> bool:
    """Whether nothing has happened between two readings that can be seen from outside.

    What cannot: the timers that end half-open connections, so that a count is not to be kept for long.
    """
    return before == now and now.sums is not None and now.segments is not None


class Resident(NamedTuple):
    """What is known of a namespace that it could be called by."""

    names: tuple[str, ...] = ()  # of mount points that somebody chose: below /run/netns
    ids: tuple[str, ...] = ()  # of mount points that a program made up: below /run/docker/netns
    pid: int | None = None  # of the representative process
    comm: str = ""
    cgroup: str = ""  # the content of its /proc/PID/cgroup
    is_host: bool = False
    is_own: bool = False


def name(resident: Resident) -> str:
    """What a person calls the namespace: printable, never empty, at most ``LONGEST`` characters.

    >>> name(Resident(names=("blue",), pid=812, comm="nginx", cgroup="0::/system.slice/nginx.service"))
    'blue'
    >>> name(Resident(pid=812, comm="nginx", cgroup="0::/system.slice/nginx.service"))
    'nginx.service'
    >>> name(Resident(pid=1234, comm="unshare", cgroup="0::/user.slice/user-0.slice/session-4.scope"))
    'unshare-1234'
    """
    return _called(resident)[1]


def _called(resident: Resident) -> tuple[int, str]:
    """What it is called, after how much that says: the smaller the number, the fewer can have chosen the name."""
    if resident.is_host or resident.is_own:
        return 0, HOST if resident.is_host else SELF
    chosen = [text for text in resident.names if not _MADE_UP.fullmatch(text)]
    made_up = [text for text in (*resident.names, *resident.ids) if text not in chosen]
    process = [] if resident.pid is None else [f"{resident.comm[:_COMM] or 'process'}-{resident.pid}"]
    kinds = (sorted(chosen), _units(resident.cgroup), sorted(made_up), process, ["unnamed"])
    rank, names = next((rank, names) for rank, names in enumerate(kinds, 1) if names)
    return rank, shortened(names[0], LONGEST)


def labels(residents: Mapping[Key, Resident]) -> dict[Key, str]:
    """The name of each, no two alike: all but the first of a name get ``-2`` and so on.

    The first is the one whose name says most, so that no process can take a name that somebody gave; then by inode. The
    names of the host, of the own namespace and of what is folded are theirs alone.

    >>> labels({(4, 30): Resident(names=("web",)), (4, 20): Resident(names=("web",))})
    {(4, 20): 'web', (4, 30): 'web-2'}
    """
    called = {key: _called(resident) for key, resident in residents.items()}
    ordered = sorted(residents, key=lambda key: (called[key][0] > 0, key))
    given: dict[Key, str] = {}
    taken = {HOST, SELF, FOLDED}
    for key in sorted(residents, key=lambda key: (called[key][0], key)):
        rank, wanted = called[key]
        if wanted not in taken or (rank == 0 and wanted not in given.values()):
            given[key] = wanted
            taken.add(wanted)
    for key in ordered:
        if key not in given:
            given[key] = _free(called[key][1], taken)
            taken.add(given[key])
    return {key: given[key] for key in ordered}


_MADE_UP = re.compile(r"cni-[0-9a-f-]{36}|[0-9a-f]{12,64}", re.ASCII)
_NOBODYS = re.compile(r"session-[^/]*\.scope|user@[^/]*\.service|init\.scope", re.ASCII)  # logins; the manager itself
_COMM = 15  # characters, of a process; what lies behind them is a kernel thread's


def _units(cgroup: str) -> list[str]:
    """The unit, container or pod: of cgroup v2, or of systemd's hierarchy where that is empty. At most one."""
    paths = {}
    for line in cgroup.splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        paths[controllers] = path
    for controllers in ("", "name=systemd"):
        unit = unit_name(paths.get(controllers, "/"))
        if unit not in {ROOT, OUTSIDE} and not _NOBODYS.fullmatch(unit):
            return [unit]
    return []


def _free(wanted: str, taken: Collection[str]) -> str:
    number = 2
    while (candidate := f"{wanted[: LONGEST - len(f'-{number}')]}-{number}") in taken:
        number += 1
    return candidate
