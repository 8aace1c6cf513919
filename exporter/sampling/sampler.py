"""Takes one sample: asks the kernel's sources in order, keeps what answers and says what does not.

It is given a procfs and the readers, and returns values of ``snapshot``; the loop calls it again and again, the plugin
and ``show`` once. A source that fails never takes another one with it. The walk, whose cost grows with the sockets, and
the light pass, whose cost does not, are two calls; made one after the other they read nothing twice, and two threads
may make them at the same time.
"""

from __future__ import annotations

from exporter.errors import SourceError, SourceTimeout, UsageError
from exporter.kernel import READERS, derivation
from exporter.kernel.inetdiag import ALL_STATES, EXTENSION_SKMEMINFO, CountingDump, ListenDump, state_counts
from exporter.kernel.reader import NetlinkReader, Procfs, ProcfsReader, PsutilReader, device_name
from exporter.record import TYPE_CHECKING, NamedTuple
from exporter.sampling.sources import Reading, Sources
from exporter.snapshot import Connections, Listener, Snapshot, Sockstat
from exporter.tcpstate import TcpState

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import TypeAlias

    from exporter.details import Closes, Conntrack, Detail
    from exporter.kernel.listeners import Dropped
    from exporter.snapshot import SysctlValue

Reader: TypeAlias = "NetlinkReader | ProcfsReader | PsutilReader"

_FEW_COPIED = 1000  # sockets: so few come with their memory in less time than the listeners in a dump of their own
_RETRY_SECONDS, _RETRY_MOST_SECONDS = 1.0, 60.0  # until a better reader is asked again: twice as long each time


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
        if not procfs.is_expected:
            return [every["psutil"]]
        return [every["netlink"], every["procfs"]] if procfs.is_there() else [*every.values()]
    if name not in every:
        raise UsageError(f"unknown reader {name!r}: expected one of {', '.join(READERS)}")
    if name != "procfs" and procfs.root != "/proc":
        raise UsageError(f"the reader {name} counts this host's sockets, not those of {procfs.root}: use procfs")
    return [every[name]]


def _counted_by(reader: Reader, port: int = 0) -> Connections:
    """Every socket, or every one of a local *port*, counted one by one."""
    counts, unknown = reader.full(port)
    unlisted = reader.unlisted if isinstance(reader, PsutilReader) else ()
    return Connections(counts, reader.name, derived=False, unknown_states=unknown, unlisted=unlisted)


class Walk(NamedTuple):
    """What one walk of the kernel's table saw, for the light pass with it and for those until the next walk."""

    connections: Connections | None  # None: no reader could count
    after: Reading  # the sums at its end
    agrees: bool  # whether the sums agree with what was counted, so that they tell what has changed since
    problems: Mapping[str, str | None]  # of every source that it asked
    dump: CountingDump | None = None  # the listeners and the half-open connections; None: only netlink has them


class Counted(NamedTuple):
    """What a light pass saw, with the walk that it goes on from; the fields are those of ``Snapshot``."""

    connections: Connections | None
    counters: dict[str, int]
    sockstat: Sockstat | None
    sources: dict[str, str | None]
    listeners: tuple[Listener, ...] | None = None
    unmatched_half_open: int = 0
    conntrack: Conntrack | None = None


def assemble(
    counted: Counted,
    sysctls: Mapping[str, SysctlValue],
    sysctl_problem: str | None,
    *,
    taken_at: float,
    page_size: int,
    detail: Detail | None = None,
    namespaces: Mapping[str, tuple[int | None, ...]] | None = None,
    closes: Closes | None = None,
) -> Snapshot:
    """The snapshot of a light pass, and of the sysctls and the detail that were read with it or before."""
    memory = {}
    if detail is not None and (detail.memory is not None or detail.memory_problem is not None):
        memory["memory"] = detail.memory_problem
    return Snapshot(
        taken_at=taken_at,
        connections=counted.connections,
        counters=counted.counters,
        sockstat=counted.sockstat,
        sysctls=sysctls,
        page_size=page_size,
        sources={
            **counted.sources,
            **memory,
            **({"sysctl": sysctl_problem} if sysctls or sysctl_problem else {}),
        },
        listeners=counted.listeners,
        unmatched_half_open=counted.unmatched_half_open,
        detail=detail,
        namespaces=namespaces,
        conntrack=counted.conntrack,
        closes=closes,
    )


class Sampler:
    """Counts, and remembers between samples which reader works; *trust* in the sums is shared with the detail pass."""

    def __init__(
        self, procfs: Procfs, chain: Sequence[Reader], trust: derivation.Trust, now: Callable[[], float]
    ) -> None:
        self._sources, self._walks_sources = Sources(procfs), Sources(procfs)  # one for each of two threads
        self._chain = chain
        self._trust = trust
        self._now = now
        self._first = 0  # the first reader of the chain to ask
        self._retry_at = 0.0
        self._retry_after = 0.0  # seconds; 0.0: none is passed over
        self._passed_over: dict[str, str] = {}
        self._dump: CountingDump | None = None  # of the walk that is being made
        self._agrees = False  # likewise
        self._before: Reading | None = None  # the sums as the last pass of either kind left them
        self._established: int | None = None  # sockets, as the last walk counted them
        self._most_listed = derivation.MANY
        self._copied = float("inf")  # sockets in the dump of the last walk
        self._dropped: Dropped | None = None  # by listener, since the first sample that was asked for queues
        self._listened: tuple[Listener, ...] = ()  # the listeners of the last sample
        self._is_busy = False  # so much happens between two passes that the sums have to be read just before a dump

    @property
    def asking(self) -> str:
        """The source that is being read right now: what a hung sample hangs on."""
        return self._sources.asking or self._walks_sources.asking

    def sysctls(self) -> tuple[dict[str, SysctlValue], str | None]:
        """As ``Sources.sysctls``."""
        return self._sources.sysctls()

    def count(
        self,
        *,
        netstat: bool = True,
        queues: bool = True,
        conntrack: bool = True,
        most_listed: int = derivation.MANY,
    ) -> Counted:
        """A walk and a light pass in one. The options are those of ``walk`` and ``light``."""
        walk = self.walk(most_listed=most_listed)
        return self.light(walk, just_walked=True, netstat=netstat, queues=queues, conntrack=conntrack)

    def walk(self, *, most_listed: int = derivation.MANY) -> Walk:
        """Count every state's sockets.

        Up to *most_listed* ESTABLISHED sockets are listed where their number cannot be derived closely enough.
        """
        self._most_listed = most_listed
        problems: dict[str, str | None] = {}
        self._dump, self._agrees = None, False
        # The sums as the last pass left them do for a reading before this dump, as long as there is little to explain.
        last = self._before
        before = self._walks_sources.sums(problems) if last is None or self._is_busy else last
        connections, after = self._connections(before, problems, just_read=before is not last)
        self._before = after if after.sums else None
        self._established = None if connections is None else connections.counts[TcpState.ESTABLISHED]
        self._is_busy = self._has_been_busy(last, after)
        self._walks_sources.asking = ""
        walk = Walk(connections, after, self._agrees, problems, self._dump)
        self._copied = float("inf") if walk.dump is None else sum(walk.dump.sockets.values())
        return walk

    def light(
        self, walk: Walk, *, just_walked: bool, netstat: bool = True, queues: bool = True, conntrack: bool = True
    ) -> Counted:
        """What costs the same at any number of connections, with the counts of the last *walk* brought up to date.

        With *netstat* these are all counters, with *queues* the listeners, with *conntrack* also how full connection
        tracking is. The sums are read unless it has *just_walked*.
        """
        if just_walked:
            problems, now = dict(walk.problems), walk.after
        else:
            problems = {it.name: walk.problems[it.name] for it in self._chain if it.name in walk.problems}
            now = self._sources.sums(problems)
            self._before = now if now.sums else None
        counters = dict(now.counters)
        if netstat:
            counters |= self._sources.netstat(problems)
        tracked = self._sources.conntrack(problems) if conntrack else None
        listeners, unmatched, listening = None, 0, None
        if queues and walk.dump is not None:
            found = self._listeners(walk.dump, problems, just_walked=just_walked)
            if found is not None:
                listeners, unmatched = found
                listening = sum(it.sockets for it in listeners)
        self._sources.asking = ""
        connections = walk.connections
        if not just_walked:
            connections = self._up_to_date(walk, now, listening)
        return Counted(connections, counters, now.sockstat, problems, listeners, unmatched, tracked)

    def _listeners(
        self, walked: CountingDump, problems: dict[str, str | None], *, just_walked: bool
    ) -> tuple[tuple[Listener, ...], int] | None:
        """The listeners, and how many half-open connections match none; None where they cannot be read."""
        from exporter.kernel import listeners  # noqa: PLC0415 - the plugin does without unless asked

        if just_walked and walked.drops is not None:
            listening, drops = walked.listening, walked.drops
        else:
            reader = next(it for it in self._chain if isinstance(it, NetlinkReader))  # only that leaves a dump
            self._sources.asking = reader.name
            try:
                dump = reader.collect(1 << TcpState.LISTEN, ListenDump, extensions=EXTENSION_SKMEMINFO)
            except SourceError as error:
                problems[reader.name] = str(error)
                return None
            listening, drops = dump.listening, dump.drops
        if self._dropped is None:
            self._dropped = listeners.Dropped()
        half_open = listeners.half_open_by_listener(walked.half_open, walked.listening)
        found = listeners.listeners_of(listening, half_open, device_name, self._dropped.add(drops))
        self._listened = listeners.shared(found, self._listened)
        return self._listened, half_open[None]

    def _up_to_date(self, walk: Walk, now: Reading, listening: int | None) -> Connections | None:
        """The counts of *walk* with what is known of the states that the light pass tells; all else stays."""
        connections, fresh = walk.connections, list[TcpState]()
        if connections is None:
            return None
        counts = connections.counts
        if walk.agrees and self._trust.holds and walk.after.sums and now.sums:
            moved = derivation.carried(counts, walk.after.sums, now.sums, self._trust.meaning)
            connections = connections._replace(derived=True)
            counts, fresh = moved.counts, [*moved.fresh]
        if listening is not None:
            counts = tuple(listening if state == TcpState.LISTEN else it for state, it in enumerate(counts))
            fresh.append(TcpState.LISTEN)
        queued = None if walk.dump is None else sum(it.queue for it in walk.dump.listening)
        return connections._replace(counts=counts, fresh=tuple(fresh), queued=queued)

    def _has_been_busy(self, last: Reading | None, now: Reading) -> bool:
        """Whether more happened since the *last* pass than a derived count may be off by."""
        if last is None or last.sums is None or now.sums is None or self._established is None:
            return False
        slack = now.sums.churn_since(last.sums)
        return self._established > derivation.FEW and not derivation.close_enough(self._established, slack)

    def count_port(self, port: int) -> Counted:
        """Count the sockets of one local port, by the first reader that answers: without sums, which know no ports."""
        problems: dict[str, str | None] = {}
        connections = None
        for reader in self._chain:
            try:
                connections = _counted_by(reader, port)
            except SourceError as error:
                problems[reader.name] = str(error)
                continue
            problems[reader.name] = None
            break
        return Counted(connections, {}, self._sources.sockstat(problems), problems)

    def _connections(
        self, before: Reading, problems: dict[str, str | None], *, just_read: bool
    ) -> tuple[Connections | None, Reading]:
        """Count with the first reader that answers; those before it keep their reason and are asked again later."""
        if self._now() >= self._retry_at:
            self._first = 0
            self._passed_over.clear()
        for reader in self._chain[self._first :]:
            self._walks_sources.asking = reader.name
            try:
                connections, after = self._count_with(reader, before, problems, just_read=just_read)
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
        return None, self._walks_sources.sums(problems)

    def _pass_over(self, reader: Reader, error: SourceError) -> None:
        """Do without the reader until it is asked again: soon, and the later the more often it was in vain."""
        self._first += 1
        self._passed_over[reader.name] = str(error)
        self._retry_after = min(max(2 * self._retry_after, _RETRY_SECONDS), _RETRY_MOST_SECONDS)
        if isinstance(error, SourceTimeout):  # asking in vain takes seconds, in which nothing is counted
            self._retry_after = _RETRY_MOST_SECONDS
        self._retry_at = self._now() + self._retry_after

    def _count_with(
        self, reader: Reader, before: Reading, problems: dict[str, str | None], *, just_read: bool
    ) -> tuple[Connections, Reading]:
        if isinstance(reader, NetlinkReader):
            return self._count_by_netlink(reader, before, problems, just_read=just_read)
        return _counted_by(reader), self._walks_sources.sums(problems)

    def _count_by_netlink(
        self, reader: NetlinkReader, before: Reading, problems: dict[str, str | None], *, just_read: bool
    ) -> tuple[Connections, Reading]:
        def dump(states: int) -> CountingDump:
            self._walks_sources.asking = reader.name
            if self._copied > _FEW_COPIED:
                return reader.collect(states, CountingDump)
            return reader.collect(states, lambda: CountingDump(drops=True), extensions=EXTENSION_SKMEMINFO)

        if self._trust.holds and before.sums is not None:
            expected = before.sums.established if self._established is None else self._established
            found, before = derivation.count(
                dump,
                lambda: self._walks_sources.sums(problems),
                before,
                expected,
                self._trust.meaning,
                just_read=just_read,
                most_listed=self._most_listed,
            )
            if found is not None:
                derived, self._dump = found
                self._trust.seen(derived.difference, derived.meaning)
                self._agrees = True
                unknown = state_counts(self._dump.sockets)[1]
                return Connections(derived.counts, reader.name, derived=True, unknown_states=unknown), before
        self._dump = dump(ALL_STATES)
        after = self._walks_sources.sums(problems)
        if before.sums and after.sums:
            comparison = derivation.compare(self._dump.sockets, before.sums, after.sums)
            self._trust.seen(comparison.established, comparison.meaning)
            self._agrees = comparison.agrees
        counts, unknown = state_counts(self._dump.sockets)
        return Connections(counts, reader.name, derived=False, unknown_states=unknown), after
