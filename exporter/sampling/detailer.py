"""The detail pass: a listing of every socket, for what needs each of them, held against the kernel's sums by the way.

Beside the counting pass and not in its way: it has sources and readers of its own, and shares with ``sampler`` only the
trust in the sums.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

from exporter.defaults import MAX_SERIES, QUALITY
from exporter.details import CloseWait, Detail, PortQuality, Quality
from exporter.errors import SourceError, SourceMissing, SourceUnreadable
from exporter.health.measures import BY_NAME
from exporter.kernel import derivation, stateless, sysctl
from exporter.kernel.cgroupfs import Cgroups
from exporter.kernel.detail import DetailDump, summarise, told_apart
from exporter.kernel.ephemeral import BoundDump, EphemeralPorts, lists_bound
from exporter.kernel.inetdiag import (
    AF_INET,
    AF_INET6,
    ALL_STATES,
    BOUND_INACTIVE,
    EXTENSION_INFO,
    EXTENSION_SKMEMINFO,
    CountingDump,
)
from exporter.kernel.memory import MemoryTally
from exporter.kernel.proctcp import ProcDetail, listening_ports
from exporter.kernel.quality import QualityDump, together
from exporter.kernel.reader import NetlinkReader, Procfs, ProcfsReader
from exporter.kernel.silence import SilenceDump
from exporter.record import NamedTuple
from exporter.sampling.infosample import InfoSample
from exporter.sampling.sampler import Reader
from exporter.sampling.sources import Reading, Sources
from exporter.snapshot import Snapshot, SysctlValue
from exporter.tcpstate import TcpState

_LONGEST_LIST = 2000  # characters of reserved ports that a command can show
_MANY_BOUND = 0.1  # of the range
_TIGHT = 0.1  # of the max of tcp_mem
_FEW_CLOSE_WAIT = 20  # fewer are no finding anyway


class Wanted(NamedTuple):
    """What a detail pass tells apart and looks at, and how many label values a metric has at most."""

    ports: tuple[int, ...] = ()
    remote_ports: tuple[int, ...] = ()
    max_series: int = MAX_SERIES
    namespaces: bool = False
    stateless: bool = True  # sockets in no state, for which every process of the host is looked at
    memory: bool = False  # of each socket, which makes the dump an eighth dearer
    quality: str = QUALITY  # whose tcp_info is read: "sampled", "full" or "off"


def is_tight(snapshot: Snapshot) -> bool:
    """Whether so much of TCP's memory is used that everybody wants to know by whom; False where it is not known."""
    measure = BY_NAME["memory_ratio"]
    ratio = measure.value_of(measure.read(snapshot))
    return ratio is not None and ratio > _TIGHT


class Detailer:
    """Lists every socket with the first of its readers that can; without *cgroups* it names no units."""

    collector = DetailDump

    def __init__(
        self, procfs: Procfs, chain: Sequence[Reader], trust: derivation.Trust, cgroups: Cgroups | None = None
    ) -> None:
        self._sources = Sources(procfs)
        self._chain = chain
        self._trust = trust
        self._cgroups = cgroups
        self._info = InfoSample()
        self._lists_bound = lists_bound(procfs.release())

    def sysctls(self) -> tuple[dict[str, SysctlValue], str | None]:
        """As ``Sources.sysctls``."""
        return self._sources.sysctls()

    def detail(self, wanted: Wanted, now: float) -> Detail:
        """List every socket; *now* is Unix time. Raises ``SourceError`` with every reader's reason."""
        reasons = []
        for reader in self._chain:
            try:
                return self._detail_by(reader, wanted, now)
            except SourceError as error:
                reasons.append(str(error))
        raise SourceUnreadable("detail", "; ".join(reasons))

    def _detail_by(self, reader: Reader, wanted: Wanted, now: float) -> Detail:
        ephemeral, units = self._ephemeral_ports(), None
        leaked = self._stateless() if wanted.stateless else None
        bound: BoundDump | None = None
        close_wait, quality, problem = None, None, None
        if isinstance(reader, NetlinkReader):
            dump = self._by_netlink(reader, wanted, ephemeral)
            if self._cgroups is not None:
                units = self._cgroups.units({cgroup for cgroup, _ in dump.by_cgroup if cgroup})
            try:
                bound = self._bound(reader, ephemeral, leaked or 0)
            except SourceError as error:  # the rest of the detail is worth having without it
                problem = f"sockets that are bound and in no state: {error}"
            close_wait = self._close_wait(reader, dump)
            quality = self.quality(reader, dump, wanted, now)
        elif isinstance(reader, ProcfsReader):
            dump = self._by_procfs(wanted, ephemeral)
        else:
            raise SourceMissing(reader.name, "it does not list what a detail pass needs")
        ports = frozenset[int]() if bound is None else frozenset(bound.ports)
        detail = summarise(dump, units, wanted.ports, wanted.max_series, ephemeral, now, ports, close_wait)
        if problem is not None:
            detail = detail._replace(ephemeral_available=None, problem=problem)
        detail = detail._replace(stateless=self._leaked(leaked, bound))
        detail = detail._replace(quality=_of_shown_ports(quality, detail))
        return detail if dump.memory is None else _with_memory(detail, dump.memory, units, wanted)

    def _leaked(self, stateless: int | None, bound: BoundDump | None) -> int | None:
        """Of the sockets in no state those that are not *bound*; None where these are unknown and may be all of them.

        Before 6.8 the kernel lists no bound ones (net/ipv4/inet_diag.c, inet_diag_dump_icsk: TCPF_BOUND_INACTIVE), and
        says nothing of that; a kernel that lists some has the change, whatever its release.
        """
        if not stateless:
            return stateless
        if bound is None or not (bound.sockets or self._lists_bound):
            return None
        return max(0, stateless - bound.sockets)

    def _stateless(self) -> int | None:
        try:
            return stateless.count(self._sources.procfs)
        except SourceError:  # sockstat's problem is the counting pass's to report
            return None

    def _by_netlink(self, reader: NetlinkReader, wanted: Wanted, ephemeral: EphemeralPorts | None) -> DetailDump:
        sockets = reader.collect(1 << TcpState.LISTEN, CountingDump).listening
        listening = frozenset(int.from_bytes(socket.local.port, "big") for socket in sockets)
        ports = told_apart(listening, wanted.ports, ephemeral)
        remote_ports, memory = frozenset(wanted.remote_ports), wanted.memory
        before = self._sources.sums({})
        picks = self._info.picks(0 if before.sums is None else before.sums.established)

        def begin() -> DetailDump:
            picked = None if wanted.quality == "off" else picks()
            return self.collector(ports, listening, remote_ports, ephemeral, memory=memory, picks=picked)

        return self._dump_verified(reader, begin, EXTENSION_SKMEMINFO if memory else 0, before)

    def _bound(self, reader: NetlinkReader, ephemeral: EphemeralPorts | None, leaked: int) -> BoundDump | None:
        """The sockets that are bound and in no state; None where they were not listed.

        The kernel walks the bind hash of the whole host for it, so it is asked only where so many sockets are in no
        state that a tenth of the range could be theirs, or that some were taken for *leaked*.
        """
        sockstat = self._sources.sums({}).sockstat
        if sockstat is None:
            return None
        stateless = sockstat.alloc - sockstat.inuse - (sockstat.inuse6 or 0) - sockstat.orphan
        if not leaked and (ephemeral is None or stateless < ephemeral.number * _MANY_BOUND):
            return None
        return reader.collect(BOUND_INACTIVE, BoundDump)

    def _close_wait(self, reader: NetlinkReader, dump: DetailDump) -> CloseWait | None:
        """How long ago the peers of CLOSE_WAIT sockets were last heard; not listed where there are few of them."""
        number = sum(number for (_, state, _, _), number in dump.sockets.items() if state == TcpState.CLOSE_WAIT)
        if number < _FEW_CLOSE_WAIT:
            return None
        mask, listening = 1 << TcpState.CLOSE_WAIT, dump.listening
        with suppress(SourceError):  # the detail is worth having without it
            return reader.collect(mask, lambda: SilenceDump(listening), extensions=EXTENSION_INFO).close_wait()
        return None

    def quality(self, reader: NetlinkReader, dump: DetailDump, wanted: Wanted, now: float) -> Quality | None:
        """The tcp_info of those whose turn it is; None where nobody wants it."""
        if wanted.quality == "off":
            return None
        mask, extensions = 1 << TcpState.ESTABLISHED, EXTENSION_INFO | EXTENSION_SKMEMINFO
        counts = dump.ports()
        established, ports = sum(it[TcpState.ESTABLISHED] for it in counts.values()), [*filter(None, counts)]
        whole = wanted.quality == "full" or dump.picks is None or self._info.is_whole(established)

        def read() -> QualityDump:
            if whole or dump.picks is None:
                return reader.collect(mask, lambda: QualityDump(ports), extensions=extensions)
            return reader.look_up(dump.picks.messages, mask, QualityDump(ports), extensions)

        return self._info.read(read, established, ports, now, whole=whole)

    def _by_procfs(self, wanted: Wanted, ephemeral: EphemeralPorts | None) -> DetailDump:
        """Without units, which /proc does not know."""
        procfs = self._sources.procfs
        listening = listening_ports(procfs.lines("net/tcp"), f"{procfs.root}/net/tcp")
        files = [("net/tcp", AF_INET)]
        with suppress(SourceMissing):  # no tcp6: no IPv6
            listening |= listening_ports(procfs.lines("net/tcp6"), f"{procfs.root}/net/tcp6")
            files.append(("net/tcp6", AF_INET6))
        ports = told_apart(listening, wanted.ports, ephemeral)
        dump = ProcDetail(ports, listening, frozenset(wanted.remote_ports), ephemeral)
        for path, family in files:
            dump.add_lines(procfs.lines(path), f"{procfs.root}/{path}", family)
        return dump

    def _dump_verified(
        self, reader: NetlinkReader, begin: Callable[[], DetailDump], extensions: int, before: Reading
    ) -> DetailDump:
        """A dump of every socket; where it does not agree with the sums, the second, and the sums are not trusted."""
        for last in (False, True):
            dump = reader.collect(ALL_STATES, begin, extensions=extensions)
            after = self._sources.sums({})
            if not (before.sums and after.sums):
                return dump
            comparison = derivation.compare(dump.sockets, before.sums, after.sums)
            if comparison.agrees or last:
                self._trust.verified(comparison)
                return dump
            before = after
        raise AssertionError("unreachable")

    def _ephemeral_ports(self) -> EphemeralPorts | None:
        """Where connect() picks its ports; None where that cannot be read."""
        procfs = self._sources.procfs
        try:
            span = sysctl.parse("net.ipv4.ip_local_port_range", procfs.sysctl("net/ipv4/ip_local_port_range"))
            low, high = (number for _, number in span.fields)
            text = procfs.sysctl("net/ipv4/ip_local_reserved_ports")
            reserved = sysctl.parse_ports("net.ipv4.ip_local_reserved_ports", text)
        except (SourceError, ValueError):
            return None
        # Without timestamps no TIME_WAIT is taken over. Source: net/ipv4/tcp_ipv4.c, tcp_twsk_unique.
        reuse = self._number("tcp_tw_reuse", 0) if self._number("tcp_timestamps", 0) else 0
        told = sysctl.ports_text(reserved)
        told_at_most = told if len(told) <= _LONGEST_LIST else None
        return EphemeralPorts(low, high, reserved, told_at_most, reuse, self._number("tcp_tw_reuse_delay", 1000))

    def _number(self, name: str, default: int) -> int:
        """The value of a sysctl; the default where it does not exist, as on older kernels, or cannot be read."""
        try:
            fields = sysctl.parse(name, self._sources.procfs.sysctl(f"net/ipv4/{name}")).fields
        except SourceError:
            return default
        return dict(fields).get("", default)


def _with_memory(detail: Detail, memory: MemoryTally, units: Mapping[int, str] | None, wanted: Wanted) -> Detail:
    told = memory.summary(units, wanted.ports, wanted.max_series, detail.taken_at)
    return detail._replace(memory=told, memory_problem=memory.problem)


def _of_shown_ports(quality: Quality | None, detail: Detail) -> Quality | None:
    """The quality by the ports that *detail* shows with ESTABLISHED sockets; ports that it folds are ``other``."""
    if quality is None:
        return None
    shown: dict[str, PortQuality] = {}
    for port, found in quality.ports.items():
        name = port if port in detail.ports else "other"
        if detail.ports[name][TcpState.ESTABLISHED]:
            shown[name] = found if name not in shown else together(shown[name], found)
    return quality._replace(ports=shown)
