"""The polling loop: a thread that samples on schedule and publishes each sample by replacing one reference.

It owns the clock and the thread; ``sampler`` asks the kernel, ``cadence`` says when, ``peaks`` remembers. Whoever
serves reads ``sample`` and judges its age: a read that hangs leaves the old sample standing, and it goes stale.
"""

from __future__ import annotations

import math
import mmap
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, NamedTuple, Protocol

from exporter.sampling.cadence import plan
from exporter.sampling.peaks import Peaks
from exporter.sampling.sampler import assemble
from exporter.snapshot import Pass, Sample, Snapshot, StateCounts

if TYPE_CHECKING:
    from exporter.kernel.sysctl import Value
    from exporter.sampling.sampler import Sampler

SOURCES = ("netlink", "procfs", "psutil", "snmp", "netstat", "sockstat", "sockstat6", "sysctl")
"""Every source that a sample may ask."""

_SYSCTL_SECONDS = 15.0  # they change by hand, and reading them costs as much as a sample
_STALE_INTERVALS = 3
_STRETCHES_TO_SAY = 3  # in a row: one dear sample is no news


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
    """The beats of both passes, and the seconds that peaks are kept for."""

    counting: Beat = Beat(1.0)
    detail: Beat = Beat(15.0)  # an infinite interval: only the one pass at the start
    peak_window: float = 60.0


class Loop:
    """Samples until it is stopped. ``sample`` is None until the first sample is there."""

    def __init__(self, sampler: Sampler, schedule: Schedule, log: Log) -> None:
        self.sample: Sample | None = None
        self._sampler = sampler
        self._schedule = schedule
        self._log = log
        # A daemon thread: a read that never returns must not keep the process from ending.
        self._thread = threading.Thread(target=self._run, name="sampling", daemon=True)
        self._wake = threading.Event()
        self._stopping = False
        self._due = {"counting": 0.0, "detail": 0.0}
        self._passes: dict[str, Pass] = {}
        self._peaks = Peaks(schedule.peak_window)
        self._sysctls: Mapping[str, Value] = {}
        self._sysctl_problem: str | None = None
        self._sysctls_due = -math.inf
        self._problems: dict[str, str] = {}
        self._source_errors = Counter(dict.fromkeys(SOURCES, 0))
        self._overruns = 0
        self._stretched = dict.fromkeys(self._due, 0)
        self._said: set[str] = set()

    def start(self) -> None:
        """Begin to sample."""
        self._due = dict.fromkeys(self._due, time.monotonic())
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

    def hanging_on(self) -> str | None:
        """The source that the loop has been waiting for since its sample went stale."""
        sample = self.sample
        if sample is not None and not sample.is_stale(time.monotonic()):
            return None
        return self._sampler.asking or None

    def _run(self) -> None:
        passes: dict[str, Callable[[], None]] = {"counting": self._count, "detail": self._verify}
        schedule = self._schedule
        while not self._stopping:
            if schedule is not self._schedule:
                schedule = self._schedule
                self._peaks = Peaks(schedule.peak_window)
                for kind in passes:
                    self._due[kind] = min(self._due[kind], time.monotonic() + getattr(schedule, kind).interval)
            for kind, take in passes.items():
                if time.monotonic() >= self._due[kind]:
                    self._pass(kind, take, getattr(schedule, kind))
            if self._wake.wait(max(0.0, min(self._due.values()) - time.monotonic())):
                self._wake.clear()

    def _pass(self, kind: str, take: Callable[[], None], beat: Beat) -> None:
        started, cpu_started = time.monotonic(), time.thread_time()
        try:
            take()
        except Exception:  # noqa: BLE001 - a bug in one sample must not end the sampling; readiness shows it
            self._log.exception("sample failed", sampling_pass=kind)
        cpu, ended = time.thread_time() - cpu_started, time.monotonic()
        following = plan(
            due=self._due[kind], now=ended, interval=beat.interval, cpu=cpu, max_cpu_ratio=beat.max_cpu_ratio
        )
        self._due[kind] = following.due
        self._overruns += following.overrun
        before = self._passes.get(kind)
        self._passes[kind] = Pass(ended - started, cpu, following.interval, 1 + (before.total if before else 0))
        self._stretched[kind] = self._stretched[kind] + 1 if following.interval > beat.interval else 0
        if self._stretched[kind] == _STRETCHES_TO_SAY:
            self._say_once(f"{kind} interval stretched to keep the CPU share", interval=f"{following.interval:.3g}s")
        if self.sample is not None:
            self.sample = self.sample._replace(
                passes=dict(self._passes),
                overruns=self._overruns,
                stale_after=_STALE_INTERVALS * self._passes["counting"].interval,
            )

    def _count(self) -> None:
        now = time.monotonic()
        if now >= self._sysctls_due:
            self._sysctls_due = now + _SYSCTL_SECONDS
            sysctls, self._sysctl_problem = self._sampler.sysctls()
            if sysctls != self._sysctls:  # the same object as long as nothing changes: its rendering is kept
                self._sysctls = sysctls
        counted = self._sampler.count()
        taken_at, now = time.time(), time.monotonic()
        snapshot = assemble(counted, self._sysctls, self._sysctl_problem, taken_at=taken_at, page_size=mmap.PAGESIZE)
        peaks: StateCounts | None = None
        if snapshot.connections is not None:
            peaks = self._peaks.add(now, snapshot.connections.counts)
        self._say_changes(snapshot)
        self._source_errors.update(source for source, problem in snapshot.sources.items() if problem is not None)
        interval = self._passes["counting"].interval if self._passes else self._schedule.counting.interval
        self.sample = Sample(
            snapshot=snapshot,
            peaks=peaks,
            counted_at=now,
            stale_after=_STALE_INTERVALS * interval,
            passes=dict(self._passes),
            source_errors=dict(self._source_errors),
            overruns=self._overruns,
        )

    def _verify(self) -> None:
        if self._sampler.verify() and "counting every socket" in self._said:
            self._said.discard("counting every socket")
            self._log.info("the kernel's counters agree with its sockets: deriving from them")

    def _say_changes(self, snapshot: Snapshot) -> None:
        """Log what changed since the sample before: once when a source fails, once when it is back."""
        problems = {source: problem for source, problem in snapshot.sources.items() if problem is not None}
        for source, problem in problems.items():
            if self._problems.get(source) != problem:
                self._log.warning("source failed", source=source, error=problem)
        for source in self._problems.keys() - problems.keys():
            self._log.info("source is back", source=source)
        self._problems = problems
        connections = snapshot.connections
        if connections is None:
            return
        for state in connections.unknown_states:
            self._say_once("unknown TCP state, counted as unknown", state=state)
        if connections.reader == "netlink" and not connections.derived:
            self._say_once("counting every socket", reason="the kernel's own counters are missing or contradict it")

    def _say_once(self, event: str, **fields: str) -> None:
        key = event if "state" not in fields else f"{event} {fields['state']}"
        if key not in self._said:
            self._said.add(key)
            self._log.warning(event, **fields)
