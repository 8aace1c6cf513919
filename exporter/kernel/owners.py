"""Who has which socket open: the sockets of a state by process, unit, port or peer, and the processes themselves.

A rim module: it walks the descriptors of processes below /proc and asks psutil for their names. ``sockets`` reads the
dump, ``terminal.who`` makes the answer of it. The dump comes first, so that only the sockets asked for are looked for.
"""

from __future__ import annotations

import ctypes
import os
import re
import struct
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from collections.abc import Set as AbstractSet
from contextlib import suppress
from typing import Generic, NamedTuple, TypeVar

import psutil

from exporter.errors import SourceError, SourceMissing
from exporter.kernel import sockets
from exporter.kernel.cgroupfs import Cgroups
from exporter.kernel.inetdiag import AF_INET, AF_INET6, EXTENSION_SKMEMINFO, Block
from exporter.kernel.memory import Weighing
from exporter.kernel.proctcp import replay
from exporter.kernel.reader import NetlinkReader, Procfs
from exporter.tcpstate import TcpState

K = TypeVar("K")

MINI_STATES = {TcpState.SYN_RECV, TcpState.FIN_WAIT2, TcpState.TIME_WAIT}
"""The states of request sockets and mini-sockets, of which the kernel keeps no cgroup."""

_SOCKET = "socket:["  # what a descriptor's link begins with; the inode and a bracket follow
_RING = "anon_inode:[io_uring]"
_REGISTERED = re.compile(r"socket:\[(\d+)\]")  # in the fdinfo of a ring: a direct descriptor
_KCMP_FILES = 2
_KCMP = {"x86_64": 312, "aarch64": 272, "riscv64": 272}  # system call numbers of 64-bit programs


class Process(NamedTuple):
    """A process and those of the sockets asked for that it has open, by inode."""

    pid: int
    name: str
    inodes: AbstractSet[int]


class Survey(NamedTuple):
    """The processes that hold sockets, by their pids, and how far the walk over all processes reached."""

    processes: tuple[Process, ...]
    seen: int
    refused: int  # whose descriptors this user may not see
    hidden: bool  # whether processes are missing in /proc (hidepid)

    @property
    def is_partial(self) -> bool:
        """Whether this user may not see some process's descriptors, or some process at all."""
        return self.refused > 0 or self.hidden


def by_process(state: TcpState) -> tuple[Counter[int], Survey]:
    """The sockets in *state* of this network namespace by inode, 0 for those without a process, and who holds them.

    Raises ``SourceError`` where the sockets cannot be listed, as the other functions here.
    """
    counts = _count(state, sockets.inodes)
    return counts, _survey({inode for inode in counts if inode})


class Weighed(NamedTuple, Generic[K]):
    """Sockets and their buffer memory in bytes by one of the columns; each has the same keys."""

    sockets: Counter[K]
    received: Counter[K]
    to_send: Counter[K]
    reserved: Counter[K]


def memory_by_process(state: TcpState) -> tuple[Weighed[int], Survey]:
    """As ``by_process``, with the memory of the sockets, which only netlink knows."""
    weighed = _weigh(state, sockets.inodes)
    return weighed, _survey({inode for inode in weighed.sockets if inode})


def memory_by_unit(state: TcpState) -> Weighed[str]:
    """As ``by_unit``, with the memory of the sockets."""
    return Weighed(*(by_unit(state, counts) for counts in _weigh(state, sockets.cgroup_ids)))


def memory_by_port(state: TcpState) -> Weighed[str]:
    """As ``by_port``, with the memory of the sockets."""
    return Weighed(*(by_port(state, counts) for counts in _weigh(state, sockets.ports)))


def memory_by_remote(state: TcpState) -> Weighed[str]:
    """As ``by_remote``, with the memory of the sockets."""
    return Weighed(*(by_remote(state, counts) for counts in _weigh(state, sockets.peers)))


def by_unit(state: TcpState, counted: Counter[int] | None = None) -> Counter[str]:
    """The sockets by unit, "" for those without a cgroup. ``cgroup.GONE`` and ``cgroup.OUTSIDE`` are no units.

    What is *counted* by cgroup id is not counted anew, also in ``by_port`` and ``by_remote``. Raises ``SourceError``
    also where netlink or cgroup v2 is not to be had.
    """
    counts = _count(state, sockets.cgroup_ids) if counted is None else Counter(counted)
    without = counts.pop(0, 0)
    if without and not counts and state not in MINI_STATES:
        since = f"Linux {sockets.CGROUP_ID_SINCE} and newer do"
        raise SourceMissing("netlink", f"this kernel does not tell the cgroup of a socket: {since}")
    units = Cgroups().units(counts)
    if units is None:
        raise SourceMissing("cgroup", "there is no cgroup v2 hierarchy, so sockets cannot be told by unit")
    merged = Counter({"": without})
    for number, count in counts.items():
        merged[units[number]] += count
    return merged


def by_port(state: TcpState, counted: Counter[int] | None = None) -> Counter[str]:
    """The sockets by local port."""
    counts = _count(state, sockets.ports) if counted is None else counted
    return Counter({str(port): count for port, count in counts.items()})


def by_remote(state: TcpState, counted: Counter[sockets.Peer] | None = None) -> Counter[str]:
    """The sockets by the peer's address, IPv4 mapped into IPv6 as what it is."""
    merged: Counter[str] = Counter()
    for peer, count in (_count(state, sockets.peers) if counted is None else counted).items():
        merged[sockets.address(peer)] += count
    return merged


def _count(state: TcpState, column: Callable[[Block], Iterable[K]]) -> Counter[K]:
    """Count by netlink, or where it is refused from /proc, which knows all columns but the cgroup."""
    try:
        return NetlinkReader().collect(1 << state, lambda: sockets.Counting(column)).sockets
    except SourceError:
        if column is sockets.cgroup_ids:
            raise
    procfs, counting = Procfs(), sockets.Counting(column)
    replay(procfs.lines("net/tcp"), "/proc/net/tcp", AF_INET, counting, 1 << state)
    with suppress(SourceMissing):  # no tcp6: no IPv6
        replay(procfs.lines("net/tcp6"), "/proc/net/tcp6", AF_INET6, counting, 1 << state)
    return counting.sockets


def _weigh(state: TcpState, column: Callable[[Block], Iterable[K]]) -> Weighed[K]:
    found = NetlinkReader().collect(1 << state, lambda: Weighing(column), extensions=EXTENSION_SKMEMINFO)
    return Weighed(found.sockets, found.received, found.to_send, found.reserved)


def _survey(wanted: AbstractSet[int]) -> Survey:
    """Look for the *wanted* inodes among the descriptors of every process."""
    processes = []
    seen = refused = first = 0
    for process in psutil.process_iter() if wanted else ():
        first = first or process.pid
        try:
            inodes = {inode for inode in _socket_inodes(process.pid) if inode in wanted}
            if inodes:
                processes.append(Process(process.pid, process.name(), inodes))
        except (PermissionError, psutil.AccessDenied):
            refused += 1
        except (OSError, psutil.NoSuchProcess):
            continue  # it has ended
        seen += 1
    # There is no procfs without a process 1.
    return Survey(tuple(processes), seen, refused, hidden=first > 1)


def _socket_inodes(pid: int) -> Iterator[int]:
    """The inodes of the sockets that a process has open: in the tables of its threads, and in its rings."""
    for task in _tables(pid):
        with os.scandir(f"/proc/{pid}/task/{task}/fd") as descriptors:
            for descriptor in descriptors:
                try:
                    target = os.readlink(descriptor.path)
                    if target == _RING:
                        yield from _registered(f"/proc/{pid}/task/{task}/fdinfo/{descriptor.name}")
                except FileNotFoundError:  # closed meanwhile
                    continue
                if target.startswith(_SOCKET):
                    yield int(target[len(_SOCKET) : -1])


def _registered(path: str) -> Iterator[int]:
    """The inodes of the sockets that an io_uring holds without a descriptor."""
    with open(path, encoding="utf-8", errors="backslashreplace") as file:
        for line in file:
            for inode in _REGISTERED.findall(line):
                yield int(inode)


def _tables(pid: int) -> list[int]:
    """A thread for each table of descriptors of a process, the first thread's first. That of a dead thread is empty."""
    tables: list[int] = []
    for task in sorted((int(task) for task in os.listdir(f"/proc/{pid}/task")), key=lambda task: (task != pid, task)):
        if not any(_share_table(task, other) for other in tables):
            tables.append(task)
    return tables


def _share_table(one: int, other: int) -> bool:
    """Whether two threads have one table of descriptors, by kcmp(2); False where that cannot be told."""
    number = _KCMP.get(os.uname().machine) if struct.calcsize("P") == 8 else None
    return number is not None and _LIBC.syscall(number, one, other, _KCMP_FILES, 0, 0) == 0


_LIBC = ctypes.CDLL(None)
