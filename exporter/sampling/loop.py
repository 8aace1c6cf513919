"""The polling loop: a thread that samples on schedule and publishes each sample by replacing one reference.

It owns the clock and the thread; ``sampler`` asks the kernel, ``cadence`` says when, ``peaks`` remembers. Whoever
serves reads ``sample`` and judges its age: a read that hangs leaves the old sample standing, and it goes stale.
"""

from __future__ import annotations

import mmap
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, NamedTuple, Protocol

from exporter.errors import SourceError
from exporter.health.judge import Advisor
from exporter.health.sysctls.verdicts import NO_EXPECTATIONS, Expectations
from exporter.health.thresholds import DEFAULTS, Threshold
from exporter.sampling.cadence import Plan, plan
from exporter.sampling.changes import Said, changes
from exporter.sampling.detailer import Detailer, Wanted
from exporter.sampling.history import History
from exporter.sampling.past import Past
from exporter.sampling.peaks import Peaks
from exporter.sampling.sampler import assemble
from exporter.snapshot import Advice, Detail, Pass, Sample, Snapshot, StateCounts

if TYPE_CHECKING:
    from exporter.kernel.netnsfs import Namespaces
    from exporter.kernel.sysctl import Value
    from exporter.sampling.sampler import Sampler

SOURCES = ("netlink", "procfs", "psutil", "snmp", "netstat", "sockstat", "sockstat6", "sysctl", "detail")
"""Every source that a sample may ask."""

_STALE_INTERVALS = 3
_STRETCHES_TO_SAY = 3  # in a row: one dear pass is no news


class Log(Protocol):
    """What the loop needs of a logger; structlog's are such."""

    def info(self, event: str, **fields: object) -> object:
        """Say that something happened, or is as it should be again."""

    def warning(self, event: str, **fields: object) -> object:
        """Say that something is not as it should be."""

    def exception(self, event: str, **fields: object) -> object:
        """Say that this program has a bug, with where it is."""


class Beat(NamedTuple):
    """How often one kind of pass runs, in seconds, and the share of one core that it may use."""

    interval: float
    max_cpu_ratio: float = 0.01


class Schedule(NamedTuple):
    """The beats of both passes, the seconds that peaks are kept for, whether detail passes dump every socket, and what
    samples are judged by.
    """

    counting: Beat = Beat(1.0)
    detail: Beat = Beat(15.0)
    peak_window: float = 60.0
    full_dumps: bool = True  # without, only the first detail pass does
    wanted: Wanted = Wanted()
    thresholds: Mapping[str, Threshold] = DEFAULTS
    expected: Expectations = NO_EXPECTATIONS


class Loop:
    """Samples until it is stopped. ``sample`` is None until the first sample is there.

    The two kinds of pass have a thread each, so that a detail pass of seconds delays no count. The counting thread
    publishes; what the detail thread found is in the next sample.
    """

    def __init__(
        self,
        sampler: Sampler,
        detailer: Detailer,
        namespaces: Namespaces,
        schedule: Schedule,
        log: Log,
        advisor: Advisor | None = None,
    ) -> None:
        self.sample: Sample | None = None
        self.history = History()
        self._sampler = sampler
        self._detailer = detailer
        self._namespaces = namespaces
        self._schedule = schedule
        self._log = log
        self._advisor = advisor or Advisor("")
        self._past = Past()
        # Daemon threads: a read that never returns must not keep the process from ending.
        self._threads = {
            kind: threading.Thread(target=self._run, args=(kind, take), name=kind, daemon=True)
            for kind, take in (("counting", self._count), ("detail", self._detail))
        }
        self._wake = {kind: threading.Event() for kind in self._threads}
        self._stopping = False
        self._passes: dict[str, Pass] = {}
        self._stretched: Counter[str] = Counter()
        self._overruns: Counter[str] = Counter()
        self._counted: _Count | None = None
        self._peaks = Peaks(schedule.peak_window)
        self._sysctls: tuple[Mapping[str, Value], str | None] = ({}, None)
        self._source_errors = Counter(dict.fromkeys(SOURCES, 0))
        self._failing: set[str] = set()
        self._said: set[str] = set()
        self._said_changes = Said()
        self._broken: set[str] = set()  # passes that ended in an exception
        self._counts_every_socket = False
        self._detailed = _Detailed()
        self._detail_ended = 0.0  # monotonic seconds

    def start(self) -> None:
        """Begin to sample; the sysctls come first, so that they are in every sample."""
        for thread in self._threads.values():
            thread.start()

    def stop(self, seconds: float) -> None:
        """End after the passes that are being made, waiting for them at most *seconds*."""
        self._stopping = True
        for wake in self._wake.values():
            wake.set()
        for thread in self._threads.values():
            thread.join(seconds)

    def reschedule(self, schedule: Schedule) -> None:
        """Sample on another schedule from now on."""
        self._schedule = schedule
        for wake in self._wake.values():
            wake.set()

    @property
    def is_alive(self) -> bool:
        """Whether the threads run: they end only when they are told to, or by a bug."""
        return all(thread.is_alive() for thread in self._threads.values())

    @property
    def asking(self) -> str | None:
        """The source that the counting pass is reading at this moment."""
        return self._sampler.asking or None

    def _run(self, kind: str, take: Callable[[], None]) -> None:
        schedule, now = self._schedule, time.monotonic()
        planned = Plan(due=now, interval=_beat(schedule, kind).interval, at=now)
        while not self._stopping:
            if schedule is not self._schedule:
                schedule = self._schedule
                planned = planned._replace(due=min(planned.due, time.monotonic() + _beat(schedule, kind).interval))
            if time.monotonic() >= planned.due:
                planned = self._pass(kind, take, planned, _beat(schedule, kind))
            if self._wake[kind].wait(max(0.0, planned.due - time.monotonic())):
                self._wake[kind].clear()

    def _pass(self, kind: str, take: Callable[[], None], last: Plan, beat: Beat) -> Plan:
        """Run one pass and plan the next."""
        started, cpu_started = time.monotonic(), time.thread_time()
        self._guard(take, kind, f"{kind} pass")
        cpu, ended = time.thread_time() - cpu_started, time.monotonic()
        planned = plan(last, now=ended, interval=beat.interval, cpu=cpu, max_cpu_ratio=beat.max_cpu_ratio)
        self._overruns[kind] += planned.overrun
        total = 1 + (self._passes[kind].total if kind in self._passes else 0)
        if kind == "detail":
            self._detail_ended = ended
        self._passes[kind] = Pass(ended - started, cpu, planned.interval, total, beat.interval)
        if kind == "counting":
            self._guard(self._publish, kind, "publishing")
        self._stretched[kind] = self._stretched[kind] + 1 if planned.interval > beat.interval else 0
        if self._stretched[kind] == _STRETCHES_TO_SAY:
            self._say_once(f"{kind} interval stretched to keep the CPU share", interval=f"{planned.interval:.3g}s")
        return planned

    def _guard(self, work: Callable[[], None], kind: str, name: str) -> None:
        """Let a bug or a want of memory end neither the sampling nor the process: the sample goes stale.

        It is said once, until the work succeeds again.
        """
        try:
            work()
        except Exception as error:  # noqa: BLE001 - see above
            if name not in self._broken:
                self._broken.add(name)
                self._log.exception("sample failed", sampling_pass=kind)
            if kind == "detail":
                self._detailed = self._detailed._replace(problem=f"detail: {type(error).__name__} {error}".rstrip())
        else:
            if name in self._broken:
                self._broken.discard(name)
                self._log.info("samples succeed again", sampling_pass=kind)

    def _publish(self) -> None:
        if self._counted is None:
            return
        before = self.sample
        self.sample = Sample(
            snapshot=self._counted.snapshot,
            peaks=self._counted.peaks,
            counted_at=self._counted.at,
            stale_after=self._passes["counting"].duration + _STALE_INTERVALS * self._passes["counting"].interval,
            passes=dict(self._passes),
            source_errors=dict(self._source_errors),
            overruns=self._overruns.total(),
            advice=self._counted.advice,
        )
        if before is None or before.snapshot is not self._counted.snapshot:
            self._say_changes(self._counted)

    def _count(self) -> None:
        if self._counted is None:
            self._read_sysctls(self._sampler)
        self._peaks.window = self._schedule.peak_window
        counted = self._sampler.count()
        taken_at, now = time.time(), time.monotonic()
        detailed, (sysctls, sysctl_problem) = self._detailed, self._sysctls
        made = self._passes.get("detail")
        if made is not None and now - self._detail_ended > made.duration + _STALE_INTERVALS * made.interval:
            # What the detail thread reads would go on to be shown as it was when that thread began to hang.
            detailed = _Detailed(problem="detail: the pass hangs")
            sysctls, sysctl_problem = {}, "sysctl: the pass that reads them hangs"
        elif made is not None and now - detailed.at > made.duration + _STALE_INTERVALS * made.interval:
            detailed = _Detailed(problem=detailed.problem)
        if detailed.problem is not None:
            counted.sources["detail"] = detailed.problem
        elif detailed.detail is not None:
            counted.sources["detail"] = None
        snapshot = assemble(
            counted,
            sysctls,
            sysctl_problem,
            taken_at=taken_at,
            page_size=mmap.PAGESIZE,
            detail=detailed.detail,
            namespaces=detailed.namespaces,
        )
        connections = snapshot.connections
        peaks = None if connections is None else self._peaks.add(now, connections.counts)
        held = _STALE_INTERVALS * self._passes["counting"].interval if "counting" in self._passes else 0.0
        self.history.add(now, taken_at, None if connections is None else connections.counts, held=held)
        self._source_errors.update(source for source, problem in snapshot.sources.items() if problem is not None)
        self._counted = _Count(snapshot, peaks, now, self._advise(snapshot, now))
        self._past.add(now, snapshot)

    def _advise(self, snapshot: Snapshot, now: float) -> Advice | None:
        """What is to be said of the snapshot; a bug there costs the advice and not the counts."""
        try:
            return self._advisor.advise(snapshot, self._past.before(now, snapshot.taken_at), self._schedule.expected)
        except Exception:  # noqa: BLE001 - see above
            if "advice failed" not in self._said:
                self._said.add("advice failed")
                self._log.exception("advice failed")
            return None

    def _detail(self) -> None:
        self._read_sysctls(self._detailer)
        if not self._schedule.full_dumps and "detail" in self._passes:
            self._detailed = _Detailed()
            return
        wanted, before = self._schedule.wanted, self._detailed
        try:
            detail = self._detailer.detail(wanted, time.time())
        except SourceError as error:
            self._detailed = before._replace(problem=str(error))  # what is there stays until it is too old
            return
        namespaces = None
        if wanted.namespaces:
            namespaces = {found.name: found.counts for found in self._namespaces.count()}
        if not self._schedule.full_dumps:  # it was made to verify the sums, once, and is not to be shown
            return
        self._detailed = _Detailed(detail, namespaces, None, time.monotonic())

    def _read_sysctls(self, source: Sampler | Detailer) -> None:
        sysctls, problem = source.sysctls()
        # The same object as long as nothing changes: its rendering is kept.
        self._sysctls = (self._sysctls[0] if sysctls == self._sysctls[0] else sysctls, problem)

    def _say_changes(self, counted: _Count) -> None:
        """Log what changed since the sample before: once when a source fails, once when it is back."""
        snapshot = counted.snapshot
        self._said_changes, events = changes(
            self._said_changes, snapshot, counted.advice, self._schedule.thresholds, counted.at
        )
        for is_warning, text, fields in events:
            (self._log.warning if is_warning else self._log.info)(text, **fields)
        failing = {source for source, problem in snapshot.sources.items() if problem is not None}
        for source in sorted(failing - self._failing):
            self._log.warning("source failed", source=source, error=snapshot.sources[source])
        for source in sorted(self._failing - failing):
            self._log.info("source is back", source=source)
        self._failing = failing
        connections = snapshot.connections
        if connections is None:
            return
        for state in connections.unknown_states:
            self._say_once(f"unknown TCP state {state}, counted as unknown")
        every = connections.reader == "netlink" and not connections.derived
        if every and not self._counts_every_socket:
            self._log.warning("counting every socket: the kernel's own sums are missing, host-wide or contradict it")
        elif self._counts_every_socket and not every:
            self._log.info("deriving from the kernel's own sums")
        self._counts_every_socket = every

    def _say_once(self, event: str, **fields: str) -> None:
        if event not in self._said:
            self._said.add(event)
            self._log.warning(event, **fields)


class _Detailed(NamedTuple):
    """What the detail thread leaves for the counting thread to publish."""

    detail: Detail | None = None
    namespaces: Mapping[str, tuple[int | None, ...]] | None = None
    problem: str | None = None
    at: float = 0.0  # monotonic seconds


class _Count(NamedTuple):
    snapshot: Snapshot
    peaks: StateCounts | None
    at: float  # monotonic seconds
    advice: Advice | None


def _beat(schedule: Schedule, kind: str) -> Beat:
    return schedule.counting if kind == "counting" else schedule.detail
