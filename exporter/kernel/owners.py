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
from collections.abc import Callable, Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from contextlib import suppress
from functools import cmp_to_key
from itertools import pairwise
from typing import Generic, NamedTuple, TextIO, TypeVar

import psutil

from exporter.errors import SourceError, SourceMissing
from exporter.kernel import sockets
from exporter.kernel.cgroup import Owner, labels, owner
from exporter.kernel.cgroupfs import Cgroups
from exporter.kernel.inetdiag import AF_INET, AF_INET6, ALL_STATES, BOUND_INACTIVE, EXTENSION_SKMEMINFO, Block
from exporter.kernel.memory import Weighing
from exporter.kernel.proctcp import replay
from exporter.kernel.reader import NetlinkReader, Procfs, places
from exporter.tcpstate import TcpState

K = TypeVar("K")

MINI_STATES = {TcpState.SYN_RECV, TcpState.FIN_WAIT2, TcpState.TIME_WAIT}
"""The states of request sockets and mini-sockets, of which the kernel keeps no cgroup."""

_SOCKET = "socket:["  # what a descriptor's link begins with; the inode and a bracket follow
_PROTOCOL, _TCP = "system.sockprotoname", {b"TCP", b"TCPv6"}  # an MPTCP socket is in no list of TCP
_RING = "anon_inode:[io_uring]"
_REGISTERED = re.compile(r"socket:\[(\d+)\]")  # in the fdinfo of a ring: a direct descriptor
_KCMP_FILES = 2
_KCMP = {"x86_64": 312, "aarch64": 272, "riscv64": 272}  # system call numbers of 64-bit programs


class Process(NamedTuple):
    """A process and those of the sockets asked for that it has open, by inode."""

    pid: int
    name: str
    inodes: AbstractSet[int]
    unit: str = ""  # of systemd, or a container; "" where it is in none or cannot be told
    script: str = ""  # what an interpreter runs


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
    return counts, _survey_of(counts)


def leaked() -> Survey:
    """The processes with TCP sockets that are in no state, and those sockets: closed, or never connected nor bound.

    Candidates are in no list of sockets and are still open when the lists are complete. The lists are those of every
    network namespace that a process is in; bound sockets are known of the own one, since Linux 6.8. Raises
    ``SourceError`` where the sockets of the own namespace cannot be listed.
    """
    found = _survey(None, _tcp_inodes)
    pids = {process.pid for process in found.processes}
    listed = _listed_everywhere() if pids else set()
    kept = []
    for process in found.processes:
        try:
            inodes = process.inodes & set(_tcp_inodes(process.pid)) - listed
        except OSError:  # it has ended
            continue
        if inodes:
            kept.append(process._replace(inodes=inodes))
    return found._replace(processes=tuple(kept))


def _listed_everywhere() -> set[int]:
    """The inodes of the sockets in any state, of all network namespaces that processes are in."""
    reader, own = NetlinkReader(), os.stat("/proc/self/ns/net").st_ino
    listed: set[int] = set()
    seen = {own}
    try:
        for states in (ALL_STATES, BOUND_INACTIVE):
            listed.update(reader.collect(states, lambda: sockets.Counting(sockets.inodes)).sockets)
    except SourceError:
        listed.update(_listed_in("self"))
    for name in filter(str.isdigit, os.listdir("/proc")):
        for place in places("/proc", name):
            try:
                namespace = os.stat(f"/proc/{place}/ns/net").st_ino
                if namespace not in seen:
                    listed.update(_listed_in(place))
                    seen.add(namespace)
                break
            except PermissionError:  # another user's, whose descriptors are not visible either
                break
            except (OSError, SourceError):  # it has ended
                continue
    return listed


def _listed_in(process: str) -> Iterable[int]:
    """The inodes in the files of the network namespace of a process."""
    procfs, counting = Procfs(), sockets.Counting(sockets.inodes)
    replay(procfs.lines(f"{process}/net/tcp"), f"/proc/{process}/net/tcp", AF_INET, counting, ALL_STATES)
    with suppress(SourceMissing):  # no tcp6: no IPv6
        replay(procfs.lines(f"{process}/net/tcp6"), f"/proc/{process}/net/tcp6", AF_INET6, counting, ALL_STATES)
    return counting.sockets


class Weighed(NamedTuple, Generic[K]):
    """Sockets and their buffer memory in bytes by one of the columns; each has the same keys."""

    sockets: Counter[K]
    received: Counter[K]
    to_send: Counter[K]
    reserved: Counter[K]


def memory_by_process(state: TcpState) -> tuple[Weighed[int], Survey]:
    """As ``by_process``, with the memory of the sockets, which only netlink knows."""
    weighed = _weigh(state, sockets.inodes)
    return weighed, _survey_of(weighed.sockets)


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
        raise SourceMissing("netlink", f"this kernel does not report the cgroup of a socket: {since}")
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


def _survey_of(inodes: Iterable[int]) -> Survey:
    """The processes that have one of the sockets open."""
    wanted = {inode for inode in inodes if inode}
    return _survey(wanted, _socket_inodes) if wanted else Survey((), 0, 0, hidden=False)


def _survey(wanted: AbstractSet[int] | None, inodes_of: Callable[[int], Iterator[int]]) -> Survey:
    """Look for the *wanted* inodes, or for all, among the descriptors of every process."""
    processes: list[Process] = []
    units: dict[int, Owner] = {}  # by pid
    seen = refused = first = 0
    for process in psutil.process_iter():
        first = first or process.pid
        try:
            inodes = {inode for inode in inodes_of(process.pid) if wanted is None or inode in wanted}
            if inodes:
                processes.append(_process(process, inodes))
                with suppress(OSError), _cgroup_file(process.pid) as file:
                    units[process.pid] = owner_of(file)
        except (PermissionError, psutil.AccessDenied):
            refused += 1
        except (OSError, psutil.NoSuchProcess):
            continue  # it has ended
        seen += 1
    shown = labels(units.values()) | {"/": ""}
    named = (it._replace(unit=shown[units[it.pid].path]) if it.pid in units else it for it in processes)
    # There is no procfs without a process 1.
    return Survey(tuple(named), seen, refused, hidden=first > 1)


def _process(process: psutil.Process, inodes: AbstractSet[int]) -> Process:
    name, arguments = process.name(), list[str]()
    with suppress(psutil.Error, OSError):
        arguments = process.cmdline()
    return Process(process.pid, name, inodes, script=script_of(name, arguments))


def _cgroup_file(pid: int) -> TextIO:
    return open(f"/proc/{pid}/cgroup", encoding="utf-8", errors="backslashreplace")


def owner_of(lines: Iterable[str]) -> Owner:
    r"""The unit or container in the lines of /proc/PID/cgroup; the root outside of all, and without cgroup v2.

    >>> owner_of(["0::/system.slice/nginx.service\n"]).name, owner_of(["0::/\n"]).name, owner_of(["1:cpu:/a\n"]).name
    ('nginx.service', 'root', 'root')
    """
    paths = (line.rstrip("\n")[len("0::") :] for line in lines if line.startswith("0::/"))
    return owner(next(paths, "/"))


def script_of(name: str, arguments: Sequence[str]) -> str:
    """What an interpreter runs: the file's name, ``-m`` with a module, or the class; "" of any other program.

    Nothing else of a command line is shown, because it may hold passwords: nothing where code is given in it, in
    whatever spelling (``-c``, ``-Ic``, ``-ccode``), and no argument of that code.

    >>> script_of("python3", ["python3", "-X", "dev", "/srv/app.py", "--token=x"])
    'app.py'
    >>> script_of("python3", ["python3", "-m", "http.server"]), script_of("java", ["java", "-Xmx1g", "-jar", "/b.jar"])
    ('-m http.server', 'b.jar')
    >>> script_of("python3", ["python3", "-Ic", "secret"]), script_of("nginx", ["nginx", "a.conf"])
    ('', '')
    """
    match = _INTERPRETER.fullmatch(name) or _INTERPRETER.fullmatch(arguments[0].rpartition("/")[2] if arguments else "")
    if match is None:
        return ""
    flags = _FLAGS[match[1]]
    rest = iter(arguments[1:])
    for argument in rest:
        if argument == "-" or argument.partition("=")[0] in flags.code:
            return ""
        if not argument.startswith("-"):
            return argument.rpartition("/")[2]
        if argument in flags.valued:
            next(rest, None)
        elif not argument.startswith("--") and (decisive := flags.letter.search(argument)):
            value = argument[decisive.end() :]
            if decisive["code"]:
                return ""
            if decisive["module"]:
                return f"-m {value or next(rest, '')}".rstrip()
            if not value:
                next(rest, None)
    return ""


class _Flags(NamedTuple):
    """The flags of an interpreter: words, and letters, several of which may stand in one argument."""

    valued: frozenset[str]  # words whose value is the next argument
    code: frozenset[str]  # words after which no file is run
    letter: re.Pattern[str]  # the first that ends the letters: the rest of the argument is its value, or the next one


def _letters(*, value: str = "", code: str = "", module: str = "") -> re.Pattern[str]:
    kinds = {"value": value, "code": code, "module": module}
    return re.compile(
        "|".join(f"(?P<{kind}>{f'[{letters}]' if letters else '(?!)'})" for kind, letters in kinds.items())
    )


_INTERPRETER = re.compile(r"(python|java|node|ruby|perl)(?:js)?[\d.]*")
_FLAGS = {
    "python": _Flags(frozenset({"--check-hash-based-pycs"}), frozenset(), _letters(value="XW", code="c", module="m")),
    "java": _Flags(
        frozenset(
            {
                "-cp",
                "-classpath",
                "--class-path",
                "-p",
                "--module-path",
                "--add-modules",
                "--add-opens",
                "--add-exports",
                "--add-reads",
            }
        ),
        frozenset(),
        _letters(),
    ),
    "node": _Flags(
        frozenset({"--require", "--import", "--loader"}),
        frozenset({"--eval", "--print"}),
        _letters(value="rC", code="ep"),
    ),
    "ruby": _Flags(frozenset(), frozenset(), _letters(value="rICE", code="e")),
    "perl": _Flags(frozenset(), frozenset(), _letters(value="IMm", code="eE")),
}


def _tcp_inodes(pid: int) -> Iterator[int]:
    """The inodes of the TCP sockets that a process has open by descriptors. Source: net/socket.c, sockfs_xattr_get."""
    for task in _tables(pid):
        directory = f"/proc/{pid}/task/{task}/fd"
        for descriptor in os.listdir(directory):
            path = f"{directory}/{descriptor}"
            try:
                target = os.readlink(path)
                if target.startswith(_SOCKET) and os.getxattr(path, _PROTOCOL).rstrip(b"\0") in _TCP:
                    yield int(target[len(_SOCKET) : -1])
            except PermissionError:
                raise
            except OSError:  # closed meanwhile, or a socket without a name of its protocol
                continue


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
    """A thread for each table of descriptors of a process, the first thread's first. That of a dead thread is empty.

    Sorted by their tables, so that a process with thousands of them, which any user can make, costs no square of that.
    """

    def first_first(task: int) -> tuple[bool, int]:
        return task != pid, task

    tasks = sorted((int(task) for task in os.listdir(f"/proc/{pid}/task")), key=first_first)
    ordered = sorted(tasks, key=cmp_to_key(_compare_tables))
    others = (task for before, task in pairwise(ordered) if _compare_tables(before, task))
    return sorted((*ordered[:1], *others), key=first_first)


def _compare_tables(one: int, other: int) -> int:
    """The order of two threads' tables of descriptors, 0 for one that they share, by kcmp(2).

    That of the threads themselves where it cannot be told.
    """
    number = _KCMP.get(os.uname().machine) if struct.calcsize("P") == 8 else None
    answer = -1 if number is None else _LIBC.syscall(number, one, other, _KCMP_FILES, 0, 0)
    return {0: 0, 1: -1, 2: 1}.get(answer, one - other)


_LIBC = ctypes.CDLL(None)
