"""Takes one sample: asks the kernel's sources in order, keeps what answers and says what does not.

It is given a procfs and the readers, and returns values of ``snapshot``; the loop calls it again and again, the plugin
and ``show`` once. A source that fails never takes another one with it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

from exporter.errors import SourceError, SourceMissing, UsageError
from exporter.kernel import READERS, derivation, procnet
from exporter.kernel.inetdiag import (
    AF_INET,
    AF_INET6,
    ALL_STATES,
    COPIED_STATES,
    MINI_STATES,
    CountingDump,
    Local,
    state_counts,
)
from exporter.kernel.reader import NetlinkReader, Procfs, ProcfsReader, PsutilReader
from exporter.record import TYPE_CHECKING, NamedTuple
from exporter.snapshot import Connections, Detail, Listener, Snapshot, Sockstat
from exporter.tcpstate import TcpState

if TYPE_CHECKING:
    from typing import TypeVar

    from exporter.kernel.cgroupfs import Cgroups
    from exporter.kernel.detail import DetailDump, EphemeralPorts
    from exporter.kernel.sysctl import Value

    Answer = TypeVar("Answer")

Reader = NetlinkReader | ProcfsReader | PsutilReader

_RETRY_BETTER_SECONDS = 60.0
_DRIFT_SAMPLES = 30  # that err to one side: churn alone would do so once in a billion
_DRIFT_VERIFICATIONS = 8
_TRIES = 2  # a socket that opens between two files of one reading looks like a contradiction: look again
_SYSCTLS_BESIDE_TCP = {
    "net.core.somaxconn": "net/core/somaxconn",
    "net.core.netdev_max_backlog": "net/core/netdev_max_backlog",
    "net.ipv4.ip_local_port_range": "net/ipv4/ip_local_port_range",
    "net.ipv4.ip_local_reserved_ports": "net/ipv4/ip_local_reserved_ports",
}


def readers(name: str, procfs: Procfs) -> list[Reader]:
    """The readers to try for ``--reader`` *name*, the best first.

    Netlink and psutil speak of this process's network namespace and of nothing else, so they are not used beside
    another procfs than /proc: numbers of two namespaces must not meet in one sample. psutil counts sockets that look
    alike as one; ``auto`` leaves it for where there is no procfs that has them each.
    """
    every: dict[str, Reader] = {
        "netlink": NetlinkReader(),
        "procfs": ProcfsReader(procfs),
        "psutil": PsutilReader(),
    }
    if name == "auto":
        if procfs.root != "/proc":
            return [every["procfs"]]
        return [every["netlink"], every["procfs"]] if procfs.is_there() else [*every.values()]
    if name not in every:
        raise UsageError(f"unknown reader {name!r}: expected one of {', '.join(READERS)}")
    if name != "procfs" and procfs.root != "/proc":
        raise UsageError(f"the reader {name} counts this host's sockets, not those of {procfs.root}: use procfs")
    return [every[name]]


class Counted(NamedTuple):
    """What one counting pass saw; the fields are those of ``Snapshot``."""

    connections: Connections | None
    counters: dict[str, int]
    sockstat: Sockstat | None
    sources: dict[str, str | None]
    listeners: tuple[Listener, ...] | None = None


class Wanted(NamedTuple):
    """What a detail pass tells apart: configured ports, other namespaces, and label values of a metric at most."""

    ports: tuple[int, ...] = ()
    remote_ports: tuple[int, ...] = ()
    max_series: int = 100
    namespaces: bool = False


def assemble(
    counted: Counted,
    sysctls: Mapping[str, Value],
    sysctl_problem: str | None,
    *,
    taken_at: float,
    page_size: int,
    detail: Detail | None = None,
    namespaces: Mapping[str, tuple[int | None, ...]] | None = None,
) -> Snapshot:
    """The snapshot of a counting pass, and of the sysctls and the detail that were read with it or before."""
    return Snapshot(
        taken_at=taken_at,
        connections=counted.connections,
        counters=counted.counters,
        sockstat=counted.sockstat,
        sysctls=sysctls,
        page_size=page_size,
        sources={**counted.sources, "sysctl": sysctl_problem},
        listeners=counted.listeners,
        detail=detail,
        namespaces=namespaces,
    )


class Sampler:
    """The sources of one host and what is remembered of them between samples: which reader works, whether sums hold."""

    def __init__(
        self,
        procfs: Procfs,
        chain: Sequence[Reader],
        kernel_release: str,
        now: Callable[[], float],
        cgroups: Cgroups | None = None,
    ) -> None:
        self._procfs = procfs
        self._cgroups = cgroups  # None: the detail pass does without units
        self._chain = chain
        self._now = now
        self._first = 0  # the first reader of the chain to ask
        self._retry_at = 0.0
        self._passed_over: dict[str, str] = {}
        self._half_open: Mapping[Local, int] | None = None  # of the pass that is being made
        self._derivable = has_netns_tw(kernel_release)
        self._disproved = False  # a full dump contradicted the sums by more than churn explains
        self._drift = derivation.Bias(_DRIFT_SAMPLES)
        self._tw_drift = derivation.Bias(_DRIFT_VERIFICATIONS)
        self.asking = ""  # the source that is being read right now: what a hung sample hangs on

    def count(self, *, netstat: bool = True, queues: bool = True) -> Counted:
        """The counting pass: every state's sockets; with *netstat* all counters, with *queues* the listeners."""
        sources: dict[str, str | None] = {}
        self._half_open = None
        before = self._sums(sources)
        connections, after = self._connections(before, sources)
        counters = dict(after.counters)
        if netstat:
            counters |= self._ask("netstat", sources, lambda: self._table("net/netstat", "TcpExt")) or {}
        listeners = self._listeners() if queues else None
        self.asking = ""
        return Counted(connections, counters, after.sockstat, sources, listeners)

    def _listeners(self) -> tuple[Listener, ...] | None:
        """The listeners, where the pass that counted knows of half-open connections: by netlink."""
        from exporter.kernel.listeners import ListenerDump, listeners  # noqa: PLC0415 - as in sysctls

        reader = self._reader
        if self._half_open is None or not isinstance(reader, NetlinkReader):
            return None
        self.asking = reader.name
        try:
            return listeners(reader.collect(1 << TcpState.LISTEN, ListenerDump).sockets, self._half_open)
        except SourceError:
            return None  # the pass before it has just worked; the next one says what is wrong

    @property
    def _reader(self) -> Reader:
        return self._chain[min(self._first, len(self._chain) - 1)]

    def count_port(self, port: int) -> Counted:
        """Count the sockets of one local port, by the first reader that answers: without sums, which know no ports."""
        sources: dict[str, str | None] = {}
        connections = None
        for reader in self._chain:
            try:
                counts, unknown = reader.full(port)
            except SourceError as error:
                sources[reader.name] = str(error)
                continue
            sources[reader.name] = None
            connections = Connections(counts, reader.name, derived=False, unknown_states=unknown)
            break
        return Counted(connections, {}, self._ask("sockstat", sources, self._sockstat), sources)

    def sysctls(self) -> tuple[dict[str, Value], str | None]:
        """Every readable sysctl that bears on TCP, by name, and what went wrong: unreadable ones are named there.

        One that does not exist here is not there: child network namespaces have fewer. A secret one is never opened.
        """
        from exporter.kernel import sysctl  # noqa: PLC0415 - the plugin does without the catalogue unless asked

        self.asking = "sysctl"
        values: dict[str, Value] = {}
        problems = []
        try:
            paths = {name: f"net/ipv4/{name}" for name in self._procfs.sysctl_names() if not sysctl.is_secret(name)}
        except SourceError as error:
            paths, problems = {}, [str(error)]
        for name, path in (paths | _SYSCTLS_BESIDE_TCP).items():
            try:
                values[name] = sysctl.parse(name, self._procfs.sysctl(path))
            except SourceMissing:
                continue
            except SourceError as error:
                problems.append(str(error))
        self.asking = ""
        return values, "; ".join(problems) or None

    def detail(self, wanted: Wanted, now: float) -> Detail | None:
        """The detail pass: what a listing of every socket tells; by the way it is held against the kernel's sums.

        None where no reader can list them. *now* is Unix time.
        """
        from exporter.kernel.detail import summarise  # noqa: PLC0415 - as in sysctls

        reader, ephemeral, units = self._reader, self._ephemeral_ports(), None
        self.asking = reader.name
        try:
            if isinstance(reader, NetlinkReader):
                dump = self._detail_by_netlink(reader, wanted, ephemeral)
                self.asking = "cgroup"
                if self._cgroups is not None:
                    units = self._cgroups.units({cgroup for cgroup, _ in dump.by_cgroup if cgroup})
            elif isinstance(reader, ProcfsReader):
                dump = self._detail_by_procfs(wanted, ephemeral)
            else:
                return None
        except SourceError:
            return None  # the counting pass meets the same trouble and says so
        finally:
            self.asking = ""
        return summarise(dump, units, wanted.ports, wanted.max_series, ephemeral, now)

    def _detail_by_netlink(self, reader: NetlinkReader, wanted: Wanted, ephemeral: EphemeralPorts | None) -> DetailDump:
        from exporter.kernel.detail import DetailDump, told_apart  # noqa: PLC0415 - as in sysctls
        from exporter.kernel.listeners import ListenerDump  # noqa: PLC0415

        sockets = reader.collect(1 << TcpState.LISTEN, ListenerDump).sockets
        listening = frozenset(int.from_bytes(socket.local.port, "big") for socket in sockets)
        ports = told_apart(listening, wanted.ports, ephemeral)
        return self._dump_verified(
            reader, lambda: DetailDump(ports, listening, frozenset(wanted.remote_ports), ephemeral)
        )

    def _detail_by_procfs(self, wanted: Wanted, ephemeral: EphemeralPorts | None) -> DetailDump:
        """Without units, which /proc does not know."""
        from exporter.kernel.detail import told_apart  # noqa: PLC0415 - as in sysctls
        from exporter.kernel.proctcp import ProcDetail, listening_ports  # noqa: PLC0415

        root = self._procfs.root
        listening = listening_ports(self._procfs.lines("net/tcp"), f"{root}/net/tcp")
        files = [("net/tcp", AF_INET)]
        with suppress(SourceMissing):  # no tcp6: no IPv6
            listening |= listening_ports(self._procfs.lines("net/tcp6"), f"{root}/net/tcp6")
            files.append(("net/tcp6", AF_INET6))
        ports = told_apart(listening, wanted.ports, ephemeral)
        dump = ProcDetail(ports, listening, frozenset(wanted.remote_ports), ephemeral)
        for path, family in files:
            dump.add_lines(self._procfs.lines(path), f"{root}/{path}", family)
        return dump

    def _dump_verified(self, reader: NetlinkReader, begin: Callable[[], DetailDump]) -> DetailDump:
        """A dump of every socket; where it does not agree with the sums, the second, and the sums are not trusted."""
        sources: dict[str, str | None] = {}
        before = self._sums(sources)
        for last in (False, True):
            self.asking = reader.name
            # The kernel's messages for mini-sockets and requests are shorter: apart, each dump has one length.
            dump = reader.collect(ALL_STATES & ~MINI_STATES, begin)
            dump.merge(reader.collect(MINI_STATES, begin))
            after = self._sums(sources)
            if not (self._derivable and before.sums and after.sums):
                return dump
            comparison = derivation.compare(dump.sockets, before.sums, after.sums)
            if comparison.agrees or last:
                self._disproved = not comparison.agrees
                self._tw_drift.add(comparison.tw)
                return dump
            before = after
        raise AssertionError("unreachable")

    def _ephemeral_ports(self) -> EphemeralPorts | None:
        """Where connect() picks its ports; None where that cannot be read."""
        from exporter.kernel import sysctl  # noqa: PLC0415 - as in sysctls
        from exporter.kernel.detail import EphemeralPorts  # noqa: PLC0415

        try:
            span = sysctl.parse("net.ipv4.ip_local_port_range", self._procfs.sysctl("net/ipv4/ip_local_port_range"))
            low, high = (number for _, number in span.fields)
            text = self._procfs.sysctl("net/ipv4/ip_local_reserved_ports")
            return EphemeralPorts(low, high, sysctl.parse_ports("net.ipv4.ip_local_reserved_ports", text))
        except (SourceError, ValueError):
            return None

    @property
    def _sums_hold(self) -> bool:
        return self._derivable and not (self._disproved or self._drift.persists or self._tw_drift.persists)

    def _connections(self, before: _Sums, sources: dict[str, str | None]) -> tuple[Connections | None, _Sums]:
        """Count with the first reader that answers; those before it keep their reason and are asked again later."""
        if self._now() >= self._retry_at:
            self._first = 0
            self._retry_at = self._now() + _RETRY_BETTER_SECONDS
            self._passed_over.clear()
        for reader in self._chain[self._first :]:
            self.asking = reader.name
            try:
                connections, after = self._count_with(reader, before, sources)
            except SourceError as error:
                self._passed_over[reader.name] = str(error)
                self._first += 1
                continue
            sources |= self._passed_over
            sources[reader.name] = None
            return connections, after
        self._retry_at = 0.0
        sources |= self._passed_over
        return None, self._sums(sources)

    def _count_with(self, reader: Reader, before: _Sums, sources: dict[str, str | None]) -> tuple[Connections, _Sums]:
        if isinstance(reader, NetlinkReader):
            return self._count_by_netlink(reader, before, sources)
        counts, unknown = reader.full()
        return Connections(counts, reader.name, derived=False, unknown_states=unknown), self._sums(sources)

    def _count_by_netlink(
        self, reader: NetlinkReader, before: _Sums, sources: dict[str, str | None]
    ) -> tuple[Connections, _Sums]:
        for _ in range(_TRIES if self._sums_hold else 0):
            if before.sums is None:
                break
            self.asking = reader.name
            dump = reader.collect(COPIED_STATES, CountingDump)
            sockets = dump.sockets
            after = self._sums(sources)
            derived = after.sums and derivation.derive(sockets, before.sums, after.sums)
            if derived:
                self._half_open = dump.half_open
                self._drift.add(derived.difference)
                unknown = state_counts(sockets)[1]
                return Connections(derived.counts, reader.name, derived=True, unknown_states=unknown), after
            before = after
        self.asking = reader.name
        dump = reader.collect(ALL_STATES, CountingDump)
        sockets, self._half_open = dump.sockets, dump.half_open
        after = self._sums(sources)
        if before.sums and after.sums:
            self._drift.add(derivation.compare(sockets, before.sums, after.sums).established)
        counts, unknown = state_counts(sockets)
        return Connections(counts, reader.name, derived=False, unknown_states=unknown), after

    def _sums(self, sources: dict[str, str | None]) -> _Sums:
        """Read the files that carry the kernel's own sums; what they lack, they lack for this sample."""
        counters = self._ask("snmp", sources, lambda: self._table("net/snmp", "Tcp")) or {}
        sockstat = self._ask("sockstat", sources, self._sockstat)
        if sockstat is not None:
            inuse6 = self._ask("sockstat6", sources, self._sockstat6, optional=True)
            sockstat = sockstat._replace(inuse6=inuse6)
            if sources.get("sockstat6") is None:  # read, or there is no IPv6
                total = sockstat.inuse + (inuse6 or 0)
                return _Sums(derivation.sums(counters, total, sockstat.tw), counters, sockstat)
        return _Sums(None, counters, sockstat)

    def _ask(
        self, source: str, sources: dict[str, str | None], read: Callable[[], Answer], *, optional: bool = False
    ) -> Answer | None:
        """Read one source, or None and the reason under its name; an *optional* one may be missing without a word."""
        self.asking = source
        try:
            answer = read()
        except SourceMissing as error:
            if not optional:
                sources[source] = str(error)
            return None
        except SourceError as error:
            sources[source] = str(error)
            return None
        sources.setdefault(source, None)
        return answer

    def _table(self, path: str, table: str) -> dict[str, int]:
        return procnet.parse_snmp(self._procfs.text(path), f"{self._procfs.root}/{path}", table)

    def _sockstat(self) -> Sockstat:
        return procnet.parse_sockstat(self._procfs.text("net/sockstat"), f"{self._procfs.root}/net/sockstat")

    def _sockstat6(self) -> int:
        return procnet.parse_sockstat6(self._procfs.text("net/sockstat6"), f"{self._procfs.root}/net/sockstat6")


class _Sums(NamedTuple):
    sums: derivation.Sums | None  # None where a file that they come from is missing or broken
    counters: dict[str, int]
    sockstat: Sockstat | None


def has_netns_tw(release: str) -> bool:
    """Whether sockstat's ``tw`` is that of the namespace: since Linux 4.11; before, it is the host's."""
    numbers = re.match(r"(\d+)\.(\d+)", release, re.ASCII)
    return numbers is not None and (int(numbers[1]), int(numbers[2])) >= (4, 11)
