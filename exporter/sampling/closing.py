"""Listening to the kernel's close events for as much of the time as the CPU share allows.

``loop`` gives it a thread and publishes what it counted. The kernel's work for an event is done outside of this process
and cannot be measured here, so the rate of connections, which the kernel counts anyway, decides.
"""

from __future__ import annotations

from collections.abc import Callable

from exporter.details import Closes
from exporter.errors import SourceError
from exporter.kernel.closes import CloseCounters
from exporter.kernel.reader import CloseEvents, Procfs
from exporter.sampling.sources import Sources

EVENT_SECONDS = 50e-6
"""CPU time that a close event costs: 20 to 45 µs of the kernel and a few of ours (docs/performance.md)."""

PERIOD_SECONDS = 10.0
"""The rate is looked at this often, and a part of this time is listened to where it is too high."""

_HYSTERESIS = 1.25  # by which the rate may exceed what is affordable before less than all of the time is listened to
_BATCH_SECONDS = 0.05  # events gather for so long: a wake for each of them would cost more than the event
_WAIT_SECONDS = 0.5  # within which a thread that hears nothing notices that it is to stop
_LAST_BATCHES = 2  # hold what the receive buffer does; to empty it takes for ever where events come faster than we read
_PUBLISH_SECONDS = 0.5  # at least, between two values that are made of the counters
_FIRST_SECONDS = 1.0  # over which the first rate is taken


def share_of_time(rate: float, max_cpu_ratio: float, *, whole: bool) -> float:
    """The part of the time to listen at *rate* connections a second; *whole* is whether it was all of it so far.

    >>> [share_of_time(rate, 0.01, whole=True) for rate in (0, 200, 250, 400, 20_000)]
    [1.0, 1.0, 1.0, 0.5, 0.01]
    >>> share_of_time(250, 0.01, whole=False)
    0.8
    """
    affordable = max_cpu_ratio / EVENT_SECONDS
    return 1.0 if rate <= affordable * (_HYSTERESIS if whole else 1.0) else affordable / rate


class Closing:
    """Counts close events in a thread of the loop.

    ``told_apart`` is for the thread that publishes to write, ``closes`` and ``problem`` to read: values that are
    replaced whole.
    """

    def __init__(self, procfs: Procfs, clock: Callable[[], float], join: Callable[[], CloseEvents] = CloseEvents):
        self._sources = Sources(procfs)
        self._clock = clock  # monotonic seconds
        self._join = join
        self._counters = CloseCounters()
        self._ratio: float | None = None  # None: nothing was listened to yet
        self._lost = 0
        self._published = 0.0  # monotonic seconds
        self.told_apart: tuple[frozenset[int], int] | None = None
        """Local ports to count by themselves from now on, and how many there may be at most. Nothing is listened to
        before they are known."""
        self.closes: Closes | None = None
        """What was counted so far; None before anything was listened to."""
        self.problem: str | None = None
        """Why nothing is listened to."""

    def run(self, cpu_ratio: Callable[[], float | None], wait: Callable[[float], object]) -> None:
        """Listen until *cpu_ratio*, the share of a core that may be used, is None. *wait* sleeps until it is woken."""
        while self.told_apart is None and cpu_ratio() is not None:
            wait(_WAIT_SECONDS)
        events: CloseEvents | None = None
        opened, at = self._opened(), self._clock()
        self._until(at + _FIRST_SECONDS, cpu_ratio, wait)
        try:
            while (allowed := cpu_ratio()) is not None:
                before, since = opened, at
                opened, at = self._opened(), self._clock()
                share = received = 0.0
                if before is not None and opened is not None:
                    rate = max(0, opened - before) / max(at - since, _BATCH_SECONDS)
                    share = share_of_time(rate, allowed, whole=events is not None or self._ratio is None)
                    try:
                        events = events or self._join()
                        self._ratio = share if self._ratio is None else self._ratio
                        self._publish()
                        received = self._listen(events, at + share * PERIOD_SECONDS, cpu_ratio, wait)
                        self.problem = None
                    except SourceError as error:
                        self.problem = str(error)
                if events is not None and (share < 1 or not received):
                    events.close()
                    events = None
                self._until(at + PERIOD_SECONDS, cpu_ratio, wait)
                if self._ratio is not None:
                    self._ratio = share * received
                    self._publish()
        finally:
            if events is not None:
                events.close()

    def _listen(
        self, events: CloseEvents, end: float, cpu_ratio: Callable[[], float | None], wait: Callable[[float], object]
    ) -> float:
        """Count events until *end*; the share of them for which the receive buffer had room."""
        number, lost = 0, events.lost
        while cpu_ratio() is not None and (left := end - self._clock()) > 0:
            messages = events.receive(min(left, _WAIT_SECONDS))
            if messages:
                number += len(messages)
                self._counters.add(messages)
            if self._clock() - self._published >= _PUBLISH_SECONDS:
                self._publish()
            if messages:
                wait(min(_BATCH_SECONDS, max(0.0, end - self._clock())))
        for _ in range(_LAST_BATCHES):
            messages = events.receive(0)
            number += len(messages)
            self._counters.add(messages)
        lost = events.lost - lost
        self._lost += lost
        return number / (number + lost) if number else float(not lost)

    def _publish(self) -> None:
        """Replace ``closes`` by what was counted until now."""
        folded = self._counters.tell_apart(*(self.told_apart or ((), 0)))
        self.closes = Closes(self._counters.values(), self._ratio or 0.0, self._lost, folded)
        self._published = self._clock()

    def _opened(self) -> int | None:
        """Connections that were opened so far in this namespace; None, with the problem, where that is not known."""
        problems: dict[str, str | None] = {}
        counters = self._sources.sums(problems).counters
        try:
            return counters["Tcp.ActiveOpens"] + counters["Tcp.PassiveOpens"]
        except KeyError:
            self.problem = problems.get("snmp") or "closes: /proc/net/snmp has no ActiveOpens and PassiveOpens"
            return None

    def _until(self, end: float, cpu_ratio: Callable[[], float | None], wait: Callable[[float], object]) -> None:
        while cpu_ratio() is not None and (left := end - self._clock()) > 0:
            wait(left)
