"""The network namespaces of this host and the sockets in each. A rim module: it walks processes and enters namespaces.

A namespace is entered in a thread that is made for one count and ends with it, so that no other thread ever is
elsewhere; where that is refused, /proc of a process that lives there is read. ``netns`` names the namespaces and knows
what their sums tell; the detail pass asks here, from one thread.
"""

from __future__ import annotations

import ctypes
import os
import threading
import time
from collections.abc import Iterator

from exporter.errors import SourceError, SourceMissing
from exporter.kernel import derivation, procnet
from exporter.kernel.inetdiag import TallyDump
from exporter.kernel.netns import Counts, Key, NamespaceCounts, Reading, Resident, labels, told, unchanged
from exporter.kernel.reader import NetlinkReader, Procfs, ProcfsReader, places
from exporter.record import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_CLONE_NEWNET = 0x40000000
_BETWEEN_SCANS = 15.0
_SCAN_SHARE = 0.01  # of the time goes into scans at most, however many processes there are
_KEEP_SECONDS = 60.0  # for so long a count holds if nothing happens: about as long as half-open connections last
_WALK_SECONDS = 1.0  # of one count: namespaces share one hash table, and each walk goes through all of it
_COUNT_SECONDS = 30.0
_MOST_LISTED = 2000  # sockets, read as text: about 10 ms
_UNIQUE_FILE = "net/snmp"  # each namespace has its own inode of it, and unlike ns/net anybody may look at it


class Namespaces:
    """Counts the sockets of every namespace that has a process or a name; of each once.

    *derivable* is False where sockstat's ``tw`` is the host's (before Linux 4.11); *enter* forbids entering at all.
    """

    def __init__(
        self,
        procfs: str = "/proc",
        *,
        named: Sequence[str] = ("/run/netns",),
        made_up: Sequence[str] = ("/run/docker/netns",),
        clock: Callable[[], float] = time.monotonic,
        between_scans: float = _BETWEEN_SCANS,
        keep_seconds: float = _KEEP_SECONDS,
        walk_seconds: float = _WALK_SECONDS,
        count_seconds: float = _COUNT_SECONDS,
        most_listed: int = _MOST_LISTED,
        derivable: bool = True,
        enter: bool = True,
    ) -> None:
        self._root = procfs
        self._named = named
        self._made_up = made_up
        self._clock = clock
        self._between_scans = between_scans
        self._keep_seconds = keep_seconds
        self._walk_seconds = walk_seconds
        self._count_seconds = count_seconds
        self._most_listed = most_listed
        self._derivable = derivable
        self._may_enter = enter
        self._netlink = NetlinkReader()
        self._found: dict[Key, _Found] = {}
        self._names: dict[Key, str] = {}
        self._counted: dict[Key, _Counted] = {}
        self._next_scan = -float("inf")
        self._meaning: derivation.Meaning | None = None  # of CurrEstab
        self._thread: threading.Thread | None = None
        self.walks = 0
        """How many times the sockets of a namespace were walked so far."""

    def count(self) -> list[NamespaceCounts]:
        """The sockets of every namespace that could be asked, by name; without those that ended meanwhile.

        A count that hangs is given up at its deadline with what it has; until it ends there is no other.
        """
        if self._thread is not None and self._thread.is_alive():
            return []
        if self._clock() >= self._next_scan:
            self._scan()
        results: list[NamespaceCounts] = []
        failures: list[Exception] = []

        def count_all() -> None:
            try:
                self._count_all(results)
            except Exception as error:  # noqa: BLE001 - raised below, in the thread that asked
                failures.append(error)

        self._thread = threading.Thread(target=count_all, name="namespaces", daemon=True)
        self._thread.start()
        self._thread.join(self._count_seconds)
        if failures:
            raise failures[0]
        return sorted(results)

    # In the thread of the count.

    def _count_all(self, results: list[NamespaceCounts]) -> None:
        """The own namespace first, while this thread is still in it; then those that have waited longest."""
        own = self._key("thread-self")
        never = -float("inf")
        order = sorted(
            self._found, key=lambda key: (key != own, self._counted[key].at if key in self._counted else never)
        )
        budget = _Budget(self._clock, self._walk_seconds)
        for key in order:
            answer = self._count_one(key, self._found[key], budget)
            if answer is None:
                self._counted.pop(key, None)
            else:
                results.append(NamespaceCounts(self._names[key], *answer))

    def _count_one(self, key: Key, found: _Found, budget: _Budget) -> tuple[Counts, bool] | None:
        """Counts and whether they are exact, by way of the first process that still lives there; None: it is gone."""
        for place in found.places:
            if self._key(place) != key:
                continue  # it ended, moved, or its number is another's now
            try:
                answer = self._count_at(place, key, found, budget)
            except SourceError:
                continue
            if self._key(place) == key:  # still: what was read is all of this namespace
                return answer
            self._counted.pop(key, None)
        for path in found.paths:
            try:
                if self._enter(path, found.nsfs):
                    inside = self._key("thread-self")
                    if inside != key and inside in self._found:
                        return None  # without CAP_SYS_PTRACE a scan cannot tell that a process lives in it
                    return self._count_at("thread-self", key, found, budget)
            except SourceError:
                continue
        return None

    def _count_at(self, place: str, key: Key, found: _Found, budget: _Budget) -> tuple[Counts, bool]:
        """Count by what /proc has for the process *place*, entering its namespace if sockets have to be walked."""
        procfs = Procfs(f"{self._root}/{place}")
        reading = _reading(procfs)
        counts = told(reading)
        if None not in counts:
            return counts, True
        last = self._counted.get(key)
        if last is not None and self._clock() - last.at >= self._keep_seconds:
            last = None
        if last is not None and unchanged(last.reading, reading):
            return last.counts, True
        if not budget.left:
            return (counts if last is None else last.counts), False
        with budget:
            walked = self._walk(place, key, found, reading)
        if walked is None:
            return counts, False
        self._counted[key] = _Counted(reading, walked, self._clock())
        return walked, True

    def _walk(self, place: str, key: Key, found: _Found, reading: Reading) -> Counts | None:
        """Count each socket, or all that the sums do not tell; None where that is refused or too much."""
        inside = self._key("thread-self")
        if place == "thread-self" or inside == key:
            there = True
        else:
            there = self._enter(f"{self._root}/{place}/ns/net", found.nsfs) and self._key("thread-self") == key
        if there:
            self.walks += 1
            try:
                return self._count_here()
            except SourceError:
                pass  # this kernel has no such dump; what it has is text
        if reading.listed > self._most_listed:
            return None
        self.walks += 1
        return ProcfsReader(Procfs(f"{self._root}/{place}")).full()[0]

    def _count_here(self) -> Counts:
        """Count by netlink, in the namespace that this thread is in."""
        procfs = Procfs(f"{self._root}/thread-self")
        before = _reading(procfs)
        if self._derivable and before.sums is not None:
            found, _ = derivation.count(
                lambda states: self._netlink.collect(states, TallyDump),
                lambda: _reading(procfs),
                before,
                before.sums.established,
                self._meaning,
            )
            if found is not None:
                derived, _ = found
                if derived.meaning is not None:
                    self._meaning = derived.meaning
                return derived.counts
            self._meaning = None  # it may be what was wrong
        return self._netlink.full()[0]

    def _enter(self, path: str, nsfs: Key | None) -> bool:
        """Take this thread to the namespace at *path*; False where that is refused, or another one is there.

        It stays there. The descriptor is closed at once: only a thread that ends soon keeps the namespace.
        """
        if not self._may_enter or threading.current_thread() is not self._thread:
            return False
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError:
            return False
        try:
            if nsfs is not None and _identity(os.fstat(descriptor)) != nsfs:
                return False
            return bool(ctypes.CDLL(None, use_errno=True).setns(descriptor, _CLONE_NEWNET) == 0)
        finally:
            os.close(descriptor)

    # In the thread that asks.

    def _scan(self) -> None:
        begun = self._clock()
        found = self._processes()
        by_nsfs = {some.nsfs: key for key, some in found.items() if some.nsfs is not None}
        for folders, chosen in ((self._named, True), (self._made_up, False)):
            for path, nsfs in self._mounted(folders):
                key = by_nsfs.setdefault(nsfs, nsfs)
                some = found.setdefault(key, _Found(nsfs=nsfs))
                found[key] = some.with_path(path, chosen=chosen)
        self._found = found
        self._names = labels(self._residents(found))
        self._counted = {key: counted for key, counted in self._counted.items() if key in found}
        ended = self._clock()
        self._next_scan = ended + max(self._between_scans, (ended - begun) / _SCAN_SHARE)

    def _processes(self) -> dict[Key, _Found]:
        """The namespaces of processes, with where those that live there are found, the lowest first."""
        places: dict[Key, list[str]] = {}
        nsfs: dict[Key, Key] = {}
        try:
            entries = os.listdir(self._root)
        except OSError:
            return {}
        for pid in sorted(int(entry) for entry in entries if entry.isascii() and entry.isdecimal()):
            place, key = self._place(pid)
            if key is None:
                continue
            places.setdefault(key, []).append(place)
            if key not in nsfs:
                identity = _stat(f"{self._root}/{place}/ns/net")
                if identity is not None and self._key(place) == key:
                    nsfs[key] = identity
        return {key: _Found(tuple(some), nsfs.get(key)) for key, some in places.items()}

    def _place(self, pid: int) -> tuple[str, Key | None]:
        """Where below /proc the namespace of a process is found: at a living thread where the first one has ended."""
        for place in places(self._root, str(pid)):
            key = self._key(place)
            if key is not None:
                return place, key
        return str(pid), None

    def _mounted(self, folders: Sequence[str]) -> Iterator[tuple[str, Key]]:
        """The namespaces that are mounted in the folders; a file on which none is mounted any more is not one."""
        own = _stat(f"{self._root}/self/ns/net")
        for folder in folders:
            try:
                entries = sorted(os.listdir(folder))
            except OSError:
                continue
            for entry in entries:
                identity = _stat(f"{folder}/{entry}")
                if own is not None and identity is not None and identity[0] == own[0]:
                    yield f"{folder}/{entry}", identity

    def _residents(self, found: dict[Key, _Found]) -> dict[Key, Resident]:
        host, own = self._key("1"), self._key("self")
        return {
            key: Resident(
                names=tuple(os.path.basename(path) for path in some.names),
                ids=tuple(os.path.basename(path) for path in some.ids),
                pid=some.pid,
                comm="" if some.pid is None else self._text(f"{some.pid}/comm"),
                cgroup=self._text(f"{some.places[0]}/cgroup") if some.places else "",
                is_host=key == host,
                is_own=key == own,
            )
            for key, some in found.items()
        }

    def _key(self, process: str) -> Key | None:
        """What the namespace of a process is told from others by; None where there is none to be seen."""
        return _stat(f"{self._root}/{process}/{_UNIQUE_FILE}")

    def _text(self, path: str) -> str:
        try:
            return Procfs(self._root).text(path).rstrip("\n")
        except SourceError:
            return ""


class _Found(NamedTuple):
    """A namespace, as the last scan saw it."""

    places: tuple[str, ...] = ()  # below /proc: processes, or threads of those whose first one has ended
    nsfs: Key | None = None  # of /proc/PID/ns/net and of the mounts; None where it was not to be seen
    names: tuple[str, ...] = ()  # paths
    ids: tuple[str, ...] = ()  # paths

    @property
    def pid(self) -> int | None:
        """The process that stands for it."""
        return int(self.places[0].partition("/")[0]) if self.places else None

    @property
    def paths(self) -> tuple[str, ...]:
        return self.names + self.ids

    def with_path(self, path: str, *, chosen: bool) -> _Found:
        return self._replace(names=(*self.names, path)) if chosen else self._replace(ids=(*self.ids, path))


class _Counted(NamedTuple):
    """The last count of a namespace, and what its counters were just before."""

    reading: Reading
    counts: Counts
    at: float


class _Budget:
    """The time that walks may take in one count; what is inside its ``with`` block takes from it."""

    def __init__(self, clock: Callable[[], float], seconds: float) -> None:
        self._clock = clock
        self._seconds = seconds
        self._begun = 0.0

    @property
    def left(self) -> bool:
        return self._seconds > 0

    def __enter__(self) -> None:
        self._begun = self._clock()

    def __exit__(self, *_: object) -> None:
        self._seconds -= self._clock() - self._begun


def _reading(procfs: Procfs) -> Reading:
    snmp = procnet.parse_snmp(procfs.text("net/snmp"), f"{procfs.root}/net/snmp", "Tcp")
    sockstat = procnet.parse_sockstat(procfs.text("net/sockstat"), f"{procfs.root}/net/sockstat")
    try:
        inuse6 = procnet.parse_sockstat6(procfs.text("net/sockstat6"), f"{procfs.root}/net/sockstat6")
    except SourceMissing:
        inuse6 = 0  # a kernel without IPv6
    inuse = sockstat.inuse + inuse6
    sums = derivation.sums(snmp, inuse, sockstat.tw)
    return Reading(sums, inuse, sockstat.tw, snmp.get("Tcp.InSegs"))


def _stat(path: str) -> Key | None:
    try:
        return _identity(os.stat(path))
    except OSError:
        return None


def _identity(status: os.stat_result) -> Key:
    return status.st_dev, status.st_ino
