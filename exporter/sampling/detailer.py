"""The detail pass: a listing of every socket, for what needs each of them, held against the kernel's sums by the way.

Beside the counting pass and not in its way: it has sources and readers of its own, and shares with ``sampler`` only the
trust in the sums.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress

from exporter.errors import SourceError, SourceMissing, SourceUnreadable
from exporter.kernel import derivation, sysctl
from exporter.kernel.cgroupfs import Cgroups
from exporter.kernel.detail import DetailDump, EphemeralPorts, summarise, told_apart
from exporter.kernel.inetdiag import AF_INET, AF_INET6, ALL_STATES, CountingDump
from exporter.kernel.proctcp import ProcDetail, listening_ports
from exporter.kernel.reader import NetlinkReader, Procfs, ProcfsReader
from exporter.record import NamedTuple
from exporter.sampling.sampler import Reader
from exporter.sampling.sources import Sources
from exporter.snapshot import Detail, SysctlValue
from exporter.tcpstate import TcpState


class Wanted(NamedTuple):
    """What a detail pass tells apart: configured ports, other namespaces, and label values of a metric at most."""

    ports: tuple[int, ...] = ()
    remote_ports: tuple[int, ...] = ()
    max_series: int = 100
    namespaces: bool = False


class Detailer:
    """Lists every socket with the first of its readers that can; without *cgroups* it names no units."""

    def __init__(
        self, procfs: Procfs, chain: Sequence[Reader], trust: derivation.Trust, cgroups: Cgroups | None = None
    ) -> None:
        self._sources = Sources(procfs)
        self._chain = chain
        self._trust = trust
        self._cgroups = cgroups

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
        if isinstance(reader, NetlinkReader):
            dump = self._by_netlink(reader, wanted, ephemeral)
            if self._cgroups is not None:
                units = self._cgroups.units({cgroup for cgroup, _ in dump.by_cgroup if cgroup})
        elif isinstance(reader, ProcfsReader):
            dump = self._by_procfs(wanted, ephemeral)
        else:
            raise SourceMissing(reader.name, "it does not list what a detail pass needs")
        return summarise(dump, units, wanted.ports, wanted.max_series, ephemeral, now)

    def _by_netlink(self, reader: NetlinkReader, wanted: Wanted, ephemeral: EphemeralPorts | None) -> DetailDump:
        sockets = reader.collect(1 << TcpState.LISTEN, CountingDump).listening
        listening = frozenset(int.from_bytes(socket.local.port, "big") for socket in sockets)
        ports = told_apart(listening, wanted.ports, ephemeral)
        return self._dump_verified(
            reader, lambda: DetailDump(ports, listening, frozenset(wanted.remote_ports), ephemeral)
        )

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

    def _dump_verified(self, reader: NetlinkReader, begin: Callable[[], DetailDump]) -> DetailDump:
        """A dump of every socket; where it does not agree with the sums, the second, and the sums are not trusted."""
        problems: dict[str, str | None] = {}
        before = self._sources.sums(problems)
        for last in (False, True):
            dump = reader.collect(ALL_STATES, begin)
            after = self._sources.sums(problems)
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
            return EphemeralPorts(low, high, sysctl.parse_ports("net.ipv4.ip_local_reserved_ports", text))
        except (SourceError, ValueError):
            return None
