"""Takes one sample: asks the kernel's sources in order, keeps what answers and says what does not.

It is given a procfs and the readers, and returns values of ``snapshot``; the loop calls it again and again, the plugin
and ``show`` once. A source that fails never takes another one with it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from exporter.errors import SourceError, SourceTimeout, UsageError
from exporter.kernel import READERS, derivation
from exporter.kernel.inetdiag import ALL_STATES, CountingDump, state_counts
from exporter.kernel.reader import NetlinkReader, Procfs, ProcfsReader, PsutilReader
from exporter.record import TYPE_CHECKING, NamedTuple
from exporter.sampling.sources import Reading, Sources
from exporter.snapshot import Connections, Detail, Listener, Snapshot, Sockstat
from exporter.tcpstate import TcpState

if TYPE_CHECKING:
    from exporter.snapshot import SysctlValue

Reader = NetlinkReader | ProcfsReader | PsutilReader

_RETRY_SECONDS, _RETRY_MOST_SECONDS = 1.0, 60.0  # until a better reader is asked again: twice as long each time
_QUIET = 10  # by which the sums may differ where what happened since the last pass is all that explains it
_TRIES = 2  # a socket that opens between two files of one reading looks like a contradiction: look again


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


def assemble(
    counted: Counted,
    sysctls: Mapping[str, SysctlValue],
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
    """Counts, and remembers between samples which reader works; *trust* in the sums is shared with the detail pass."""

    def __init__(
        self, procfs: Procfs, chain: Sequence[Reader], trust: derivation.Trust, now: Callable[[], float]
    ) -> None:
        self._sources = Sources(procfs)
        self._chain = chain
        self._trust = trust
        self._now = now
        self._first = 0  # the first reader of the chain to ask
        self._retry_at = 0.0
        self._retry_after = 0.0  # seconds; 0.0: none is passed over
        self._passed_over: dict[str, str] = {}
        self._dump: CountingDump | None = None  # of the pass that is being made
        self._before: Reading | None = None  # the sums as the last pass left them
        self._established: int | None = None  # sockets, as the last pass counted them

    @property
    def asking(self) -> str:
        """The source that is being read right now: what a hung sample hangs on."""
        return self._sources.asking

    def sysctls(self) -> tuple[dict[str, SysctlValue], str | None]:
        """As ``Sources.sysctls``."""
        return self._sources.sysctls()

    def count(self, *, netstat: bool = True, queues: bool = True) -> Counted:
        """The counting pass: every state's sockets; with *netstat* all counters, with *queues* the listeners."""
        problems: dict[str, str | None] = {}
        self._dump = None
        # The sums as the last pass left them do for a reading before this dump, as long as there is little to explain.
        before = self._before or self._sources.sums(problems)
        connections, after = self._connections(before, problems)
        self._before = after if after.sums else None
        self._established = None if connections is None else connections.counts[TcpState.ESTABLISHED]
        counters = dict(after.counters)
        if netstat:
            counters |= self._sources.netstat(problems)
        self._sources.asking = ""
        listeners = None
        if queues and self._dump is not None:
            from exporter.kernel.listeners import listeners_of  # noqa: PLC0415 - the plugin does without unless asked

            listeners = listeners_of(self._dump.listening, self._dump.half_open)
        return Counted(connections, counters, after.sockstat, problems, listeners)

    def count_port(self, port: int) -> Counted:
        """Count the sockets of one local port, by the first reader that answers: without sums, which know no ports."""
        problems: dict[str, str | None] = {}
        connections = None
        for reader in self._chain:
            try:
                counts, unknown = reader.full(port)
            except SourceError as error:
                problems[reader.name] = str(error)
                continue
            problems[reader.name] = None
            connections = Connections(counts, reader.name, derived=False, unknown_states=unknown)
            break
        return Counted(connections, {}, self._sources.sockstat(problems), problems)

    def _connections(self, before: Reading, problems: dict[str, str | None]) -> tuple[Connections | None, Reading]:
        """Count with the first reader that answers; those before it keep their reason and are asked again later."""
        if self._now() >= self._retry_at:
            self._first = 0
            self._passed_over.clear()
        for reader in self._chain[self._first :]:
            self._sources.asking = reader.name
            try:
                connections, after = self._count_with(reader, before, problems)
            except SourceError as error:
                self._pass_over(reader, error)
                continue
            if not self._passed_over:
                self._retry_after = 0.0
            problems |= self._passed_over
            problems[reader.name] = None
            return connections, after
        self._retry_at = 0.0  # with nothing that counts each sample asks them all
        problems |= self._passed_over
        return None, self._sources.sums(problems)

    def _pass_over(self, reader: Reader, error: SourceError) -> None:
        """Do without the reader until it is asked again: soon, and the later the more often it was in vain."""
        self._first += 1
        self._passed_over[reader.name] = str(error)
        self._retry_after = min(max(2 * self._retry_after, _RETRY_SECONDS), _RETRY_MOST_SECONDS)
        if isinstance(error, SourceTimeout):  # asking in vain takes seconds, in which nothing is counted
            self._retry_after = _RETRY_MOST_SECONDS
        self._retry_at = self._now() + self._retry_after

    def _count_with(
        self, reader: Reader, before: Reading, problems: dict[str, str | None]
    ) -> tuple[Connections, Reading]:
        if isinstance(reader, NetlinkReader):
            return self._count_by_netlink(reader, before, problems)
        counts, unknown = reader.full()
        return Connections(counts, reader.name, derived=False, unknown_states=unknown), self._sources.sums(problems)

    def _count_by_netlink(
        self, reader: NetlinkReader, before: Reading, problems: dict[str, str | None]
    ) -> tuple[Connections, Reading]:
        for _ in range(_TRIES if self._trust.holds else 0):
            if before.sums is None:
                break
            self._sources.asking = reader.name
            states = derivation.states_to_dump(
                before.sums.established if self._established is None else self._established
            )
            dump = reader.collect(states, CountingDump)
            sockets = dump.sockets
            after = self._sources.sums(problems)
            derived = after.sums and derivation.derive(sockets, states, before.sums, after.sums)
            # What happened since the last pass explains too much: a difference is held against this dump's time alone.
            if derived and (derived.listed or before is not self._before or abs(derived.difference) <= _QUIET):
                self._dump = dump
                self._trust.seen(derived.difference)
                unknown = state_counts(sockets)[1]
                return Connections(derived.counts, reader.name, derived=True, unknown_states=unknown), after
            before = after
        self._sources.asking = reader.name
        dump = reader.collect(ALL_STATES, CountingDump)
        sockets, self._dump = dump.sockets, dump
        after = self._sources.sums(problems)
        if before.sums and after.sums:
            self._trust.seen(derivation.compare(sockets, before.sums, after.sums).established)
        counts, unknown = state_counts(sockets)
        return Connections(counts, reader.name, derived=False, unknown_states=unknown), after
