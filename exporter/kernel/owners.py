"""Who has which socket open: counts the sockets of a state by what they belong to, for ``tcp-exporter who``.

A rim module: it walks the descriptors of processes below /proc and asks psutil for their names. ``sockets`` reads the
dump, ``who`` makes the answer of it. The dump comes first, so that only the sockets asked for are looked for.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Container, Iterable, Iterator
from contextlib import suppress
from typing import TypeVar

import psutil

from exporter.errors import SourceError, SourceMissing
from exporter.kernel import cgroup, sockets
from exporter.kernel.cgroupfs import Cgroups
from exporter.kernel.inetdiag import AF_INET, AF_INET6, Block
from exporter.kernel.proctcp import replay
from exporter.kernel.reader import NetlinkReader, Procfs
from exporter.tcpstate import TcpState
from exporter.terminal import who
from exporter.terminal.who import Holders, Process, Row

K = TypeVar("K")

NO_PROCESS = "no process (half-open, closed or waiting to be accepted)"
REFUSED = "other user's process: run as root or with CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH to see it"
NOT_FOUND = "process has ended or is in another namespace, or the kernel itself holds it"
NO_CGROUP = "no cgroup (half-open or closed)"
_NO_UNIT = {
    cgroup.GONE: "cgroup has been removed",
    cgroup.OUTSIDE: "cgroup is outside of what is seen from here: another cgroup namespace",
}

_MINI_STATES = {TcpState.SYN_RECV, TcpState.FIN_WAIT2, TcpState.TIME_WAIT}
"""The states of request sockets and mini-sockets, of which the kernel keeps no cgroup."""

_SOCKET = "socket:["  # what a descriptor's link begins with; the inode and a bracket follow


def hold(state: TcpState, by: str) -> Holders:
    """Who holds the sockets in *state* in this network namespace; *by* is one of ``who.GROUPS``.

    Raises ``SourceError`` where the sockets cannot be listed, and by unit where netlink or cgroup v2 is not to be had.
    """
    return _HOLD[by](state)


def _by_process(state: TcpState) -> Holders:
    counts = _count(state, sockets.inodes)
    survey = _Survey()
    without = counts.pop(0, 0)
    rows = who.attribute(counts, survey.processes(counts)) if counts else []
    left = counts.total() - sum(row.sockets for row in rows)
    reason, remarks = (REFUSED, survey.remarks()) if left and survey.is_partial else (NOT_FOUND, ())
    return who.holders(state.label, "process", rows, (Row(NO_PROCESS, without), Row(reason, left)), remarks)


def _by_unit(state: TcpState) -> Holders:
    counts = _count(state, sockets.cgroup_ids)
    without = counts.pop(0, 0)
    if without and not counts and state not in _MINI_STATES:
        raise SourceMissing("netlink", "this kernel does not tell the cgroup of a socket: Linux 5.10 and newer do")
    units = Cgroups().units(counts)
    if units is None:
        raise SourceMissing("cgroup", "there is no cgroup v2 hierarchy, so sockets cannot be told by unit")
    rows = _merge((units[number], count) for number, count in counts.items())
    owners = [row for row in rows if row.label not in _NO_UNIT]
    nobodys = (Row(_NO_UNIT[row.label], row.sockets) for row in rows if row.label in _NO_UNIT)
    return who.holders(state.label, "unit", owners, (Row(NO_CGROUP, without), *nobodys))


def _by_port(state: TcpState) -> Holders:
    counts = _count(state, sockets.ports)
    return who.holders(state.label, "port", _merge((str(port), count) for port, count in counts.items()))


def _by_remote(state: TcpState) -> Holders:
    counts = _count(state, sockets.peers)
    return who.holders(state.label, "remote", _merge((sockets.address(peer), count) for peer, count in counts.items()))


_HOLD = {"process": _by_process, "unit": _by_unit, "port": _by_port, "remote": _by_remote}


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


def _merge(counts: Iterable[tuple[str, int]]) -> list[Row]:
    """A row for each name: what the kernel tells apart may be one to a person."""
    merged: Counter[str] = Counter()
    for name, count in counts:
        merged[name] += count
    return [Row(name, count) for name, count in merged.items()]


class _Survey:
    """One walk over the processes, and how far it reached."""

    def __init__(self) -> None:
        self._seen = 0
        self._refused = 0
        self._first = 0  # 1 unless processes are hidden: there is no procfs without a process 1

    @property
    def is_partial(self) -> bool:
        """Whether this user may not see some process's descriptors, or some process at all."""
        return self._refused > 0 or self._first != 1

    def remarks(self) -> tuple[str, ...]:
        """How far it reached."""
        hidden = "; others are hidden (hidepid)" if self._first != 1 else ""
        return (f"The descriptors of {self._seen - self._refused} of {self._seen} processes could be read{hidden}.",)

    def processes(self, wanted: Container[int]) -> Iterator[Process]:
        """The processes that have any of the *wanted* inodes open, by their pids."""
        for process in psutil.process_iter():
            self._seen += 1
            self._first = self._first or process.pid
            try:
                inodes = {inode for inode in _socket_inodes(process.pid) if inode in wanted}
                if inodes:
                    yield Process(process.pid, process.name(), inodes)
            except (PermissionError, psutil.AccessDenied):
                self._refused += 1
            except (OSError, psutil.NoSuchProcess):
                self._seen -= 1  # it has ended


def _socket_inodes(pid: int) -> Iterator[int]:
    """The inodes of the sockets that a process has open."""
    with os.scandir(f"/proc/{pid}/fd") as descriptors:
        for descriptor in descriptors:
            try:
                target = os.readlink(descriptor.path)
            except FileNotFoundError:  # closed meanwhile
                continue
            if target.startswith(_SOCKET):
                yield int(target[len(_SOCKET) : -1])
