"""A snapshot with those before it: what the findings look at. Pure; nothing here decides what is wrong.

A number that cannot be told raises ``CannotTell`` with the reason instead of being 0, and one that does not exist on
this host raises ``NotHere``; ``judge`` turns both into what the consumers show.
"""

from __future__ import annotations

from itertools import pairwise

from exporter.details import Drops, Peers
from exporter.errors import ExporterError
from exporter.record import TYPE_CHECKING, NamedTuple
from exporter.snapshot import Listener, Snapshot
from exporter.tcpstate import StateCounts, TcpState

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_NOBODY = Peers(0, 0, "")

NEEDS_TWO = "a rate needs a second sample"


class CannotTell(ExporterError):
    """Something should be known here and is not: a source failed, or a rate needs a second sample."""


class NotHere(ExporterError):
    """The subject does not exist or is not visible here, by design."""


class Window(NamedTuple):
    """The newest snapshot, those before it (the oldest first), and the hour of counts where there is one."""

    now: Snapshot
    past: Sequence[Snapshot] = ()
    lows: Sequence[Sequence[int]] = ()  # by state the least count of each ten seconds of the last hour; -1 is a hole

    # -- time ----------------------------------------------------------------------------------------------------------

    @property
    def seconds(self) -> float:
        """From the oldest snapshot to the newest; 0.0 where there is nothing to compare with."""
        return max(0.0, self.now.taken_at - self.past[0].taken_at) if self.past else 0.0

    @property
    def during(self) -> str:
        """The time between the oldest and the newest snapshot, for a sentence."""
        return f"in the last {self.seconds:.3g} s"

    def recent(self, seconds: float) -> Window:
        """The window without what is older than *seconds*, but with at least one older snapshot if there is any."""
        kept = [it for it in self.past if self.now.taken_at - it.taken_at <= seconds]
        return self._replace(past=tuple(kept) or self.past[-1:])

    def stretches(self) -> list[Window]:
        """The window as pieces from each snapshot to the next, the oldest first."""
        return [Window(after, (before,), self.lows) for before, after in pairwise((*self.past, self.now))]

    # -- counters ------------------------------------------------------------------------------------------------------

    def rise(self, counter: str) -> int:
        """By how much *counter* rose; ``CannotTell`` or ``NotHere`` where that is not known."""
        after = self.now.counters.get(counter)
        if after is None:
            raise self._without(counter)
        if not self.seconds:
            raise CannotTell(NEEDS_TWO)
        before = self.past[0].counters.get(counter)
        if before is None or after < before:
            raise CannotTell(f"{counter} began anew")
        return after - before

    def rise_if_counted(self, counter: str) -> int:
        """As ``rise``, and 0 for a counter that this kernel does not have; ``CannotTell`` as there."""
        try:
            return self.rise(counter)
        except NotHere:
            return 0

    def rose(self, counter: str) -> int:
        """By how much it rose as far as that is known: for evidence beside what the finding was concluded from."""
        return self.known_rise(counter) or 0

    def known_rise(self, counter: str) -> int | None:
        """As ``rise``, or None."""
        try:
            return self.rise(counter)
        except (CannotTell, NotHere):
            return None

    def steps(self, counter: str) -> list[int]:
        """By how much it rose from each snapshot to the next, the oldest step first; unknown steps are left out."""
        found = []
        snapshots = (*self.past, self.now)
        for before, after in pairwise(snapshots):
            least, most = before.counters.get(counter), after.counters.get(counter)
            if least is not None and most is not None and most >= least:
                found.append(most - least)
        return found

    def _without(self, counter: str) -> ExporterError:
        source = "netstat" if counter.startswith("TcpExt.") else "snmp"
        problem = self.now.sources.get(source)
        if problem is not None:
            return CannotTell(problem)
        if source not in self.now.sources:
            if self._is_psutil:
                return NotHere("psutil counts sockets and nothing else: it needs the counters of Linux")
            return CannotTell(f"{source} was not read")
        return NotHere(f"this kernel does not count {counter}")

    @property
    def _is_psutil(self) -> bool:
        return self.now.connections is not None and self.now.connections.reader == "psutil"

    # -- the newest snapshot -------------------------------------------------------------------------------------------

    def counts(self) -> StateCounts:
        """The sockets by state; ``CannotTell`` where nothing could count them."""
        if self.now.connections is None:
            raise CannotTell("no reader could count the sockets")
        return self.now.connections.counts

    def count(self, state: TcpState) -> int:
        """The sockets in one state, as ``counts``."""
        counts, connections = self.counts(), self.now.connections
        if connections is not None and state in connections.unlisted:
            raise NotHere(connections.why_unlisted(state))
        return counts[state]

    def course(self, state: TcpState) -> list[int]:
        """The counts of *state* in every snapshot that has them, the oldest first."""
        return [it.connections.counts[state] for it in (*self.past, self.now) if it.connections is not None]

    def held(self, state: TcpState, least: int) -> float:
        """For how many seconds until now at least *least* sockets have been in *state*, as far as is known."""
        held = 0.0
        for before in reversed(self.past):
            if before.connections is None or before.connections.counts[state] < least:
                return held
            held = self.now.taken_at - before.taken_at
        lows = self.lows[state] if self.lows else ()
        tens = 0
        for low in reversed(lows):
            if low < least:
                break
            tens += 1
        return max(held, 10.0 * tens)

    @property
    def listeners(self) -> tuple[Listener, ...]:
        """The listeners that are known: none where only procfs could be read."""
        return self.now.listeners or ()

    def trouble(self, name: str) -> Peers | None:
        """The sockets with one of the troubles of the detail; None without a detail."""
        return None if self.now.detail is None else self.now.detail.troubles.get(name, _NOBODY)

    def undetailed(self) -> ExporterError:
        """Why there is no detail: a failure, the first one is not there yet, or nobody asked for it."""
        problem = self.now.sources.get("detail")
        if self._is_psutil:
            return NotHere("psutil tells too little of each socket: it needs netlink or procfs")
        if problem is not None:
            return CannotTell(problem)
        return NotHere("it needs the detail pass, which is off or has not run yet")

    def drops(self) -> Mapping[str, int]:
        """How many segments each listener dropped at full queues, by its place; without those where it is not known.

        The kernel counts stray segments there too, so from one snapshot to the next it is at most what all listeners
        dropped. Where only some of these steps are known it is the sum of those.
        """
        known: dict[tuple[str, int, str], int] = {}
        for stretch in self.stretches():
            most = stretch.rose("TcpExt.ListenDrops")
            before = {(it.address, it.port, it.device): it.dropped for it in stretch.past[0].listeners or ()}
            for it in stretch.listeners:
                key = it.address, it.port, it.device
                least, dropped = before.get(key), it.dropped
                if least is not None and dropped is not None and dropped >= least:
                    known[key] = known.get(key, 0) + min(dropped - least, most)
        here = (((it.address, it.port, it.device), it.place) for it in self.listeners)
        return {place: known[key] for key, place in here if key in known}

    def drop_rates(self) -> Drops | None:
        """The segments that listeners dropped per second; None where the host's own number is not known.

        Between two snapshots a port's listeners are blamed for at most what all listeners of the host dropped: the
        counter of a socket has stray segments too. A port is absent while its listeners are too new.
        """
        total = self.known_rise("TcpExt.ListenDrops")
        if total is None:
            return None
        dropped: dict[int, int] = {}
        spans: dict[int, float] = {}
        for stretch in self.stretches():
            most = stretch.known_rise("TcpExt.ListenDrops")
            if most is None:
                continue
            for port, number in _dropped_by_port(stretch.past[0].listeners or (), stretch.listeners).items():
                dropped[port] = dropped.get(port, 0) + min(number, most)
                spans[port] = spans.get(port, 0.0) + stretch.seconds
        listening = {it.port for it in self.listeners}
        rates = {port: round(number / spans[port], 3) for port, number in dropped.items() if port in listening}
        return Drops(round(self.seconds, 3), round(total / self.seconds, 3), rates)

    def sysctl(self, name: str) -> int | None:
        """The one number of a sysctl; None where it does not exist or could not be read."""
        return self.now.scalar(name)

    def visible(self, name: str) -> int:
        """As ``sysctl``; ``CannotTell`` where the sysctls could not be read, ``NotHere`` where it does not exist."""
        value = self.now.scalar(name)
        if value is not None:
            return value
        problem = self.now.sources.get("sysctl")
        if problem is not None:
            raise CannotTell(problem)
        raise NotHere(f"{name} is not visible from this network namespace")


def _dropped_by_port(before: Sequence[Listener], after: Sequence[Listener]) -> Mapping[int, int]:
    """What the listeners of each port dropped between two snapshots: those in both that did not begin anew."""
    known = {(it.address, it.port, it.device): it.dropped for it in before}
    found: dict[int, int] = {}
    for it in after:
        least = known.get((it.address, it.port, it.device))
        if least is not None and it.dropped is not None and it.dropped >= least:
            found[it.port] = found.get(it.port, 0) + it.dropped - least
    return found
