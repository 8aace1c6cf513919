"""The sources of one host beside its sockets: sums, counters and sysctls, each read, parsed or found wanting.

``sampler`` and ``detailer`` each have one, because they run in parallel. A source that fails is a reason under its
name; it never takes another one with it.
"""

from __future__ import annotations

from exporter.errors import SourceError, SourceMissing
from exporter.kernel import derivation, procnet
from exporter.kernel.reader import Procfs
from exporter.record import TYPE_CHECKING, NamedTuple
from exporter.snapshot import Sockstat

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import TypeVar

    from exporter.details import Conntrack
    from exporter.snapshot import SysctlValue

    Answer = TypeVar("Answer")

_LIMITS_EVERY = 15  # readings of connection tracking: as often as the other sysctls are read, by default
_SYSCTLS_BESIDE_TCP = {
    "net.core.somaxconn": "net/core/somaxconn",
    "net.core.netdev_max_backlog": "net/core/netdev_max_backlog",
    "net.ipv4.ip_local_port_range": "net/ipv4/ip_local_port_range",
    "net.ipv4.ip_local_reserved_ports": "net/ipv4/ip_local_reserved_ports",
}


class Reading(NamedTuple):
    """One reading of the files that carry the kernel's sums."""

    sums: derivation.Sums | None  # None where one of the files is missing or broken
    counters: Mapping[str, int]
    sockstat: Sockstat | None


class Sources:
    """Reads what is below one procfs. *problems* collects the reasons by source, None for one that answered."""

    def __init__(self, procfs: Procfs) -> None:
        self.procfs = procfs
        self.asking = ""  # the source that is being read right now: what a hung pass hangs on
        self._limits: tuple[int, int | None] = (0, None)  # of connection tracking
        self._limits_read = 0  # how often they have been needed
        self._parsed: dict[str, tuple[str, object]] = {}  # by path: the last text, and what it says

    def sums(self, problems: dict[str, str | None]) -> Reading:
        """Read the files that carry the kernel's own sums; what they lack, they lack for this sample."""
        counters = self.ask("snmp", problems, lambda: self._table("net/snmp", "Tcp")) or {}
        sockstat = self.ask("sockstat", problems, self._sockstat)
        if sockstat is not None:
            inuse6 = self.ask("sockstat6", problems, self._sockstat6, optional=True)
            sockstat = sockstat._replace(inuse6=inuse6)
            if problems.get("sockstat6") is None:  # read, or there is no IPv6
                total = sockstat.inuse + (inuse6 or 0)
                return Reading(derivation.sums(counters, total, sockstat.tw), counters, sockstat)
        return Reading(None, counters, sockstat)

    def ask(
        self, source: str, problems: dict[str, str | None], read: Callable[[], Answer], *, optional: bool = False
    ) -> Answer | None:
        """Read one source, or None and the reason under its name; an *optional* one may be missing without a word."""
        if not self.procfs.is_expected:
            return None
        self.asking = source
        try:
            answer = read()
        except SourceMissing as error:
            if not optional:
                problems[source] = str(error)
            return None
        except SourceError as error:
            problems[source] = str(error)
            return None
        problems.setdefault(source, None)
        return answer

    def _read(self, path: str, parse: Callable[[str, str], Answer]) -> Answer:
        """What *parse* makes of the text and the name of a file; as long as the text stays the same, the same object.

        Nobody may change it.
        """
        text = self.procfs.text(path)
        if path not in self._parsed or self._parsed[path][0] != text:
            self._parsed[path] = text, parse(text, f"{self.procfs.root}/{path}")
        return self._parsed[path][1]  # type: ignore[return-value]  # each path has one parser

    def _table(self, path: str, table: str) -> Mapping[str, int]:
        return self._read(path, lambda text, source: procnet.parse_snmp(text, source, table))

    def _sockstat(self) -> Sockstat:
        return self._read("net/sockstat", procnet.parse_sockstat)

    def _sockstat6(self) -> int:
        return self._read("net/sockstat6", procnet.parse_sockstat6)

    def netstat(self, problems: dict[str, str | None]) -> Mapping[str, int]:
        """The counters of /proc/net/netstat, or none."""
        return self.ask("netstat", problems, lambda: self._table("net/netstat", "TcpExt")) or {}

    def sockstat(self, problems: dict[str, str | None]) -> Sockstat | None:
        """/proc/net/sockstat by itself."""
        return self.ask("sockstat", problems, self._sockstat)

    def conntrack(self, problems: dict[str, str | None]) -> Conntrack | None:
        """The entries of connection tracking and their limit; None where the host tracks no connections."""
        return self.ask("conntrack", problems, self._conntrack, optional=True)

    def _conntrack(self) -> Conntrack:
        from exporter.details import Conntrack  # noqa: PLC0415 - as above
        from exporter.kernel import conntrack  # noqa: PLC0415 - the plugin does without unless asked

        def number(path: str) -> int:
            return self._read(path, conntrack.parse_number)

        def optional(path: str) -> int | None:
            try:
                return number(path)
            except SourceMissing:  # without the tracker of TCP
                return None

        entries = number(conntrack.COUNT)
        if self._limits_read % _LIMITS_EVERY == 0:
            self._limits = number(conntrack.LIMIT), optional(conntrack.ESTABLISHED_TIMEOUT)
        self._limits_read += 1
        try:
            statistics = self._read(conntrack.STATISTICS, conntrack.parse_statistics)
        except SourceMissing:  # not built into some kernels
            statistics = {}
        limit, timeout = self._limits
        return Conntrack(
            entries, limit, statistics.get(conntrack.INSERT_FAILED), statistics.get(conntrack.DROP), timeout
        )

    def sysctls(self) -> tuple[dict[str, SysctlValue], str | None]:
        """Every readable sysctl that bears on TCP, by name, and what went wrong: unreadable ones are named there.

        One that does not exist here is not there: child network namespaces have fewer. A secret one is never opened.
        """
        from exporter.kernel import sysctl  # noqa: PLC0415 - the plugin does without the catalogue unless asked

        if not self.procfs.is_expected:
            return {}, None
        self.asking = "sysctl"
        values: dict[str, SysctlValue] = {}
        problems = []
        try:
            paths = {name: f"net/ipv4/{name}" for name in self.procfs.sysctl_names() if not sysctl.is_secret(name)}
        except SourceError as error:
            paths, problems = {}, [str(error)]
        for name, path in (paths | _SYSCTLS_BESIDE_TCP).items():
            try:
                values[name] = sysctl.parse(name, self.procfs.sysctl(path))
            except SourceMissing:
                continue
            except SourceError as error:
                problems.append(str(error))
        self.asking = ""
        return values, "; ".join(problems) or None
