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

from exporter.sampling.cadence import Plan, plan
from exporter.sampling.peaks import Peaks
from exporter.sampling.sampler import Wanted, assemble
from exporter.snapshot import Detail, Pass, Sample, Snapshot, StateCounts

if TYPE_CHECKING:
    from exporter.kernel.netnsfs import Namespaces
    from exporter.kernel.sysctl import Value
    from exporter.sampling.sampler import Sampler

SOURCES = ("netlink", "procfs", "psutil", "snmp", "netstat", "sockstat", "sockstat6", "sysctl")
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
    """The beats of both passes, the seconds that peaks are kept for, and whether detail passes dump every socket."""

    counting: Beat = Beat(1.0)
    detail: Beat = Beat(15.0)
    peak_window: float = 60.0
    full_dumps: bool = True  # without, only the first detail pass does
    wanted: Wanted = Wanted()


class Loop:
    """Samples until it is stopped. ``sample`` is None until the first sample is there."""

    def __init__(self, sampler: Sampler, namespaces: Namespaces, schedule: Schedule, log: Log) -> None:
        self.sample: Sample | None = None
        self._sampler = sampler
        self._namespaces = namespaces
        self._schedule = schedule
        self._log = log
        # A daemon thread: a read that never returns must not keep the process from ending.
        self._thread = threading.Thread(target=self._run, name="sampling", daemon=True)
        self._wake = threading.Event()
        self._stopping = False
        self._plans: dict[str, Plan] = {}
        self._passes: dict[str, Pass] = {}
        self._stretched: Counter[str] = Counter()
        self._overruns = 0
        self._counted: _Count | None = None
        self._peaks = Peaks(schedule.peak_window)
        self._sysctls: Mapping[str, Value] = {}
        self._sysctl_problem: str | None = None
        self._source_errors = Counter(dict.fromkeys(SOURCES, 0))
        self._failing: set[str] = set()
        self._said: set[str] = set()
        self._counts_every_socket = False
        self._detailed: Detail | None = None
        self._detailed_at = 0.0
        self._by_namespace: dict[str, tuple[int | None, ...]] | None = None

    def start(self) -> None:
        """Begin to sample."""
        self._thread.start()

    def stop(self, seconds: float) -> None:
        """End after the sample that is being taken, waiting for it at most *seconds*."""
        self._stopping = True
        self._wake.set()
        self._thread.join(seconds)

    def reschedule(self, schedule: Schedule) -> None:
        """Sample on another schedule from now on."""
        self._schedule = schedule
        self._wake.set()

    @property
    def is_alive(self) -> bool:
        """Whether the thread runs: it ends only when it is told to, or by a bug."""
        return self._thread.is_alive()

    @property
    def asking(self) -> str | None:
        """The source that is being read at this moment."""
        return self._sampler.asking or None

    def _run(self) -> None:
        # Detail first, so that no sample is published before the sums that it derives from were verified.
        takes: dict[str, Callable[[], None]] = {"detail": self._detail, "counting": self._count}
        schedule = self._schedule
        now = time.monotonic()
        self._plans = {kind: Plan(due=now, interval=_beat(schedule, kind).interval, at=now) for kind in takes}
        while not self._stopping:
            if schedule is not self._schedule:
                schedule = self._schedule
                self._peaks.window = schedule.peak_window
                self._plans = {
                    kind: planned._replace(due=min(planned.due, time.monotonic() + _beat(schedule, kind).interval))
                    for kind, planned in self._plans.items()
                }
            for kind, take in takes.items():
                if time.monotonic() >= self._plans[kind].due and not self._stopping:
                    self._pass(kind, take, _beat(schedule, kind))
            next_due = min(planned.due for planned in self._plans.values())
            if self._wake.wait(max(0.0, next_due - time.monotonic())):
                self._wake.clear()

    def _pass(self, kind: str, take: Callable[[], None], beat: Beat) -> None:
        """Run one pass, plan the next and publish."""
        started, cpu_started = time.monotonic(), time.thread_time()
        try:
            take()
        except Exception:  # noqa: BLE001 - a bug in one pass must not end the sampling; the sample goes stale
            self._log.exception("sample failed", sampling_pass=kind)
        cpu, ended = time.thread_time() - cpu_started, time.monotonic()
        planned = plan(self._plans[kind], now=ended, interval=beat.interval, cpu=cpu, max_cpu_ratio=beat.max_cpu_ratio)
        self._plans[kind] = planned
        self._overruns += planned.overrun
        total = 1 + (self._passes[kind].total if kind in self._passes else 0)
        self._passes[kind] = Pass(ended - started, cpu, planned.interval, total)
        self._publish()
        self._stretched[kind] = self._stretched[kind] + 1 if planned.interval > beat.interval else 0
        if self._stretched[kind] == _STRETCHES_TO_SAY:
            self._say_once(f"{kind} interval stretched to keep the CPU share", interval=f"{planned.interval:.3g}s")

    def _publish(self) -> None:
        if self._counted is None:
            return
        before = self.sample
        self.sample = Sample(
            snapshot=self._counted.snapshot,
            peaks=self._counted.peaks,
            counted_at=self._counted.at,
            stale_after=_STALE_INTERVALS * self._passes["counting"].interval,
            passes=dict(self._passes),
            source_errors=dict(self._source_errors),
            overruns=self._overruns,
        )
        if before is None or before.snapshot is not self._counted.snapshot:
            self._say_changes(self._counted.snapshot)

    def _count(self) -> None:
        counted = self._sampler.count()
        taken_at, now = time.time(), time.monotonic()
        detail_interval = self._passes["detail"].interval if "detail" in self._passes else 0.0
        is_fresh = now - self._detailed_at <= _STALE_INTERVALS * detail_interval
        snapshot = assemble(
            counted,
            self._sysctls,
            self._sysctl_problem,
            taken_at=taken_at,
            page_size=mmap.PAGESIZE,
            detail=self._detailed if is_fresh else None,
            namespaces=self._by_namespace if is_fresh else None,
        )
        connections = snapshot.connections
        peaks = None if connections is None else self._peaks.add(now, connections.counts)
        self._source_errors.update(source for source, problem in snapshot.sources.items() if problem is not None)
        self._counted = _Count(snapshot, peaks, now)

    def _detail(self) -> None:
        sysctls, self._sysctl_problem = self._sampler.sysctls()
        if sysctls != self._sysctls:  # the same object as long as nothing changes: its rendering is kept
            self._sysctls = sysctls
        if self._schedule.full_dumps or "detail" not in self._passes:
            wanted = self._schedule.wanted
            self._detailed = self._sampler.detail(wanted, time.time())
            self._by_namespace = None
            if wanted.namespaces:
                self._by_namespace = {found.name: found.counts for found in self._namespaces.count()}
            self._detailed_at = time.monotonic()

    def _say_changes(self, snapshot: Snapshot) -> None:
        """Log what changed since the sample before: once when a source fails, once when it is back."""
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


class _Count(NamedTuple):
    snapshot: Snapshot
    peaks: StateCounts | None
    at: float  # monotonic seconds


def _beat(schedule: Schedule, kind: str) -> Beat:
    return schedule.counting if kind == "counting" else schedule.detail
