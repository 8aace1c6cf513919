"""The polling loop: a thread that samples on schedule and publishes each sample by replacing one reference.

It owns the clock and the thread; ``sampler`` asks the kernel, ``cadence`` says when, ``peaks`` remembers. The
server reads ``sample`` and judges its age: a read that hangs leaves the old sample standing, and it goes stale. What
walks and detail passes brought is left out of the sample by the loop itself once it is too old.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, NamedTuple

from exporter import defaults, system
from exporter.details import Closes, Detail
from exporter.errors import SourceError
from exporter.health.judge import Health, Judge, failed
from exporter.health.sysctls.verdicts import NO_EXPECTATIONS, Expectations
from exporter.health.thresholds import DEFAULTS, Threshold
from exporter.health.window import Window
from exporter.kernel.derivation import FEW, MANY
from exporter.sampling.cadence import Plan, has_credit, is_due, plan
from exporter.sampling.closing import Closing
from exporter.sampling.detailer import Detailer, Wanted, is_tight
from exporter.sampling.fullness import Fullness
from exporter.sampling.history import HOLE, History
from exporter.sampling.past import SnapshotWindow
from exporter.sampling.peaks import Peaks
from exporter.sampling.sample import Pass, Sample
from exporter.sampling.samplelog import Logger, SampleLog
from exporter.sampling.sampler import Walk, assemble
from exporter.snapshot import Connections, Snapshot, SysctlValue
from exporter.tcpstate import StateCounts, TcpState

if TYPE_CHECKING:
    from exporter.kernel.netnsfs import Namespaces
    from exporter.sampling.sampler import Sampler

SOURCES = (
    "netlink",
    "procfs",
    "psutil",
    "snmp",
    "netstat",
    "sockstat",
    "sockstat6",
    "conntrack",
    "sysctl",
    "detail",
    "memory",
    "closes",
    "quality",
)
"""Every source that a sample may ask."""

_DEAR_WALK = 0.1  # intervals of the light pass: one that used more CPU time has a thread of its own, and delays none
_WALK_SECONDS = 5.0  # more that one in that thread may take on a busy machine before it counts as hanging

_STALE_INTERVALS = 3
_MEMORY_EVERY = 4  # detail passes; each while the memory is tight
_FIRST_DETAIL_SECONDS = 60.0  # so long the first detail pass may take before it counts as hanging
_STRETCHES_TO_LOG = 3  # in a row: one dear pass is not news


class PassSchedule(NamedTuple):
    """How often one kind of pass runs, in seconds, and the share of one core that it may use."""

    interval: float
    max_cpu_ratio: float = defaults.MAX_CPU_RATIO


class Schedule(NamedTuple):
    """The beats of the passes, the seconds that peaks are kept for, whether detail passes dump every socket, and what
    samples are judged by.
    """

    counting: PassSchedule = PassSchedule(defaults.INTERVAL)  # of light passes, and of walks, which have as much again
    detail: PassSchedule = PassSchedule(defaults.DETAIL_INTERVAL)
    peak_window: float = defaults.PEAK_WINDOW
    full_dumps: bool = True  # without, only the first detail pass does
    wanted: Wanted = Wanted()
    closes: bool = False  # whether close events are listened to
    thresholds: Mapping[str, Threshold] = DEFAULTS
    expected: Expectations = NO_EXPECTATIONS

    def of(self, kind: str) -> PassSchedule:
        """The beat of one kind of pass."""
        return self.detail if kind == "detail" else self.counting


class Loop:
    """Samples until it is stopped. ``sample`` is None until the first sample is there.

    The counting thread makes light passes and publishes after each. A walk is due with a light pass, as often as its
    share allows: on small hosts with each, and the counting thread makes it first. Dear walks and detail passes have
    threads of their own, so that one of seconds delays no light pass; what they found is in the next sample.
    """

    def __init__(
        self,
        sampler: Sampler,
        detailer: Detailer,
        namespaces: Namespaces,
        schedule: Schedule,
        logger: Logger,
        judge: Judge,
        closing: Closing | None = None,
    ) -> None:
        self.sample: Sample | None = None
        self.history = History()
        self._sampler = sampler
        self._detailer = detailer
        self._namespaces = namespaces
        self._schedule = schedule
        self._log = SampleLog(logger)
        self._judge = judge
        self._closing = closing
        self._closes_thread: threading.Thread | None = None
        self._closes_wake = threading.Event()
        self._past = SnapshotWindow()
        self._fullness = Fullness()
        # Daemon threads: a read that never returns must not keep the process from ending.
        work = {"counting": self._count, "walk": self._walk_alone, "detail": self._detail_alone}
        self._threads = {name: threading.Thread(target=run, name=name, daemon=True) for name, run in work.items()}
        self._wake = {name: threading.Event() for name in work}
        self._stopping = False
        self._plans: dict[str, Plan] = {}
        self._passes: dict[str, Pass] = {}
        self._stretched: Counter[str] = Counter()
        self._overruns: Counter[str] = Counter()
        self._walked: _Walked | None = None
        self._just_walked = False  # whether the light pass that is being made has a walk of its own
        self._counted: _Count | None = None
        self._peaks = Peaks(schedule.peak_window)
        self._sysctls: tuple[Mapping[str, SysctlValue], str | None] = ({}, None)
        self._source_errors = Counter(dict.fromkeys(SOURCES, 0))
        self._detailed = _Detailed()
        self._passes_to_memory = 0  # detail passes before one reads the memory of each socket again
        self._detail_ended = 0.0  # monotonic seconds; before the first pass ended, when the loop was started

    def start(self) -> None:
        """Begin to sample; the sysctls come first, so that they are in every sample."""
        now = self._detail_ended = time.monotonic()
        for kind in ("light", "walk", "detail"):
            self._plans[kind] = Plan(due=now, interval=self._schedule.of(kind).interval, at=now)
        for thread in self._threads.values():
            thread.start()

    def stop(self, seconds: float) -> None:
        """End after the passes that are being made, waiting for them at most *seconds*."""
        self._stopping = True
        for wake in self._wake.values():
            wake.set()
        self._closes_wake.set()
        for thread in (*self._threads.values(), *filter(None, [self._closes_thread])):
            thread.join(seconds)

    def reschedule(self, schedule: Schedule) -> None:
        """Sample on another schedule from now on."""
        self._schedule = schedule
        for wake in (self._wake["counting"], self._wake["detail"], self._closes_wake):
            wake.set()

    @property
    def is_alive(self) -> bool:
        """Whether the threads run: they end only when they are told to, or by a bug."""
        return all(thread.is_alive() for thread in self._threads.values())

    @property
    def asking(self) -> str | None:
        """The source that the counting thread is reading at this moment."""
        return self._sampler.asking or None

    def _count(self) -> None:
        self._on_schedule("light", self._wake["counting"], self._walk_and_light)

    def _detail_alone(self) -> None:
        self._on_schedule("detail", self._wake["detail"], lambda: self._pass("detail"))

    def _walk_alone(self) -> None:
        wanted = self._wake["walk"]  # set for as long as a walk is being made
        while not self._stopping:  # asked after each clear(), which may have taken away what stop() has set
            wanted.wait()
            if not self._stopping:
                self._pass("walk")
            wanted.clear()

    def _on_schedule(self, beat: str, wake: threading.Event, work: Callable[[], None]) -> None:
        """Do *work*, which plans the next pass of the kind *beat*, whenever that is due."""
        schedule = self._schedule
        while not self._stopping:
            if schedule is not self._schedule:
                schedule = self._schedule
                self._hasten(beat)
            if time.monotonic() >= self._plans[beat].due:
                work()
            if wake.wait(max(0.0, self._plans[beat].due - time.monotonic())):
                wake.clear()

    def _hasten(self, beat: str) -> None:
        """Wait for no pass longer than the schedule has it."""
        now, walking = time.monotonic(), self._wake["walk"].is_set()
        for kind in ("light", "walk") if beat == "light" else (beat,):
            if kind != "walk" or not walking:
                last = self._plans[kind]
                self._plans[kind] = last._replace(due=min(last.due, now + self._schedule.of(kind).interval))

    def _walk_and_light(self) -> None:
        before, wanted = self._walked, self._wake["walk"]
        if not wanted.is_set() and is_due(self._plans["walk"], self._plans["light"]):
            last = self._passes.get("walk")
            if last is not None and last.cpu > _DEAR_WALK * self._plans["light"].interval:
                wanted.set()
            else:
                self._pass("walk")
                self._just_walked = self._walked is not before
        self._pass("light")
        self._just_walked = False

    def _pass(self, kind: str) -> None:
        """Run one pass and plan the next."""
        started, cpu_started = time.monotonic(), time.thread_time()
        take = {"light": self._light, "walk": self._walk, "detail": self._detail}[kind]
        self._guard(take, kind, f"{kind} pass")
        cpu, ended = time.thread_time() - cpu_started, time.monotonic()
        schedule = self._schedule.of(kind)
        planned = plan(
            self._plans[kind], now=ended, interval=schedule.interval, cpu=cpu, max_cpu_ratio=schedule.max_cpu_ratio
        )
        self._overruns[kind] += planned.overrun
        total = 1 + (self._passes[kind].total if kind in self._passes else 0)
        if kind == "detail":
            self._detail_ended = ended
        interval = planned.interval
        if kind == "walk" and "light" in self._passes:
            interval = max(interval, self._passes["light"].interval)  # it is made with one of these
        self._passes[kind] = Pass(ended - started, cpu, interval, total, schedule.interval)
        if kind == "light":
            self._guard(self._publish, kind, "publishing")
        self._stretched[kind] = self._stretched[kind] + 1 if planned.interval > schedule.interval else 0
        if self._stretched[kind] == _STRETCHES_TO_LOG:
            self._log.once(f"{kind} interval stretched to keep the CPU share", interval=f"{planned.interval:.3g}s")
        self._plans[kind] = planned

    def _guard(self, work: Callable[[], None], kind: str, name: str) -> None:
        """Let a bug or a want of memory end neither the sampling nor the process: the sample goes stale.

        It is logged once, until the work succeeds again.
        """
        try:
            work()
        except Exception as error:  # noqa: BLE001 - see above
            self._log.broke(name, "sample failed", sampling_pass=kind)
            if kind == "detail":
                self._detailed = self._detailed._replace(problem=f"detail: {type(error).__name__} {error}".rstrip())
        else:
            self._log.works(name, "sampling succeeds again", sampling_pass=kind)

    def _publish(self) -> None:
        if self._counted is None:
            return
        before, light = self.sample, self._passes["light"]
        self.sample = Sample(
            snapshot=self._counted.snapshot,
            health=self._counted.health,
            peaks=self._counted.peaks,
            counted_at=self._counted.at,
            stale_after=light.duration + _STALE_INTERVALS * light.interval,
            passes=dict(self._passes),
            source_errors=dict(self._source_errors),
            overruns=self._overruns.total(),
        )
        if before is None or before.snapshot is not self._counted.snapshot:
            self._log.sampled(self._counted.snapshot, self._counted.health, self._counted.at)

    def _walk(self) -> None:
        may_list = has_credit(self._plans["walk"], self._schedule.of("walk").max_cpu_ratio)
        walk = self._sampler.walk(most_listed=MANY if may_list else FEW)
        self._walked = _Walked(walk, time.monotonic())

    def _light(self) -> None:
        walked, just_walked = self._walked, self._just_walked
        if walked is None:
            return
        if self._counted is None:
            self._read_sysctls(self._sampler)
        self._peaks.window = self._schedule.peak_window
        last = self._passes["walk"]
        under_way = _WALK_SECONDS if self._wake["walk"].is_set() else 0.0
        if time.monotonic() - walked.at > last.duration + _STALE_INTERVALS * last.interval + under_way:
            walked = walked.expired()
        counted = self._sampler.light(walked.walk, just_walked=just_walked)
        taken_at, now = time.time(), time.monotonic()
        if counted.connections is not None and not just_walked:
            counted = counted._replace(connections=counted.connections._replace(walk_age=now - walked.at))
        detailed, sysctls, sysctl_problem = self._still_shown(now)
        if detailed.problem is not None:
            counted.sources["detail"] = detailed.problem
        elif detailed.detail is not None:
            counted.sources["detail"] = None
            if detailed.detail.quality is not None:
                counted.sources["quality"] = detailed.detail.quality.problem
        closes = None
        if self._schedule.closes:
            closes, counted.sources["closes"] = self._listened(detailed.detail)
        snapshot = assemble(
            counted,
            sysctls,
            sysctl_problem,
            taken_at=taken_at,
            page_size=system.page_size(),
            detail=detailed.detail,
            namespaces=detailed.namespaces,
            closes=closes,
        )
        past = self._past.before(now, taken_at)
        snapshot = snapshot._replace(
            drops=Window(snapshot, past).drop_rates(),
            to_full=self._fullness.to_full,
        )
        connections = snapshot.connections
        peaks = None if connections is None else self._peaks.add(now, connections.counts)
        held = _STALE_INTERVALS * self._passes["light"].interval if "light" in self._passes else 0.0
        self.history.add(
            now,
            taken_at,
            None if connections is None else _drawn(connections),
            held=held,
            dropped=snapshot.counters.get("TcpExt.ListenDrops"),
        )
        self._source_errors.update(source for source, problem in snapshot.sources.items() if problem is not None)
        health = self._health(snapshot, past)
        self._fullness.add(now, health.readings)
        self._counted = _Count(snapshot, peaks, now, health)
        self._past.add(now, snapshot)

    def _still_shown(self, now: float) -> tuple[_Detailed, Mapping[str, SysctlValue], str | None]:
        """What of the detail and the sysctls is not too old, and the problem of the sysctls."""
        detailed, (sysctls, sysctl_problem) = self._detailed, self._sysctls
        made = self._passes.get("detail")
        duration = _FIRST_DETAIL_SECONDS if made is None else made.duration
        interval = self._schedule.detail.interval if made is None else made.interval
        too_late = duration + _STALE_INTERVALS * interval
        if now - self._detail_ended > too_late:
            # What the detail thread reads would go on to be shown as it was when that thread began to hang.
            return _Detailed(problem="detail: the pass hangs"), {}, "sysctl: the pass that reads them hangs"
        if made is not None and now - detailed.at > too_late:
            detailed = _Detailed(problem=detailed.problem)
        elif detailed.detail is not None and now - detailed.memory_at > duration + _MEMORY_EVERY * (
            too_late - duration
        ):
            detailed = detailed._replace(detail=detailed.detail._replace(memory=None))
        return detailed, sysctls, sysctl_problem

    def _health(self, snapshot: Snapshot, past: tuple[Snapshot, ...]) -> Health:
        """What the snapshot means; a bug there costs the judgement and not the counts."""
        points, broken = self.history.points, set[str]()

        def broke(finding: str) -> None:
            broken.add(finding)
            self._log.broke(f"judging {finding}", "judging failed", finding=finding)

        window = Window(snapshot, past, () if points is None else points.low)
        try:
            health = self._judge.judge(window, self._schedule.thresholds, self._schedule.expected, broke)
        except Exception:  # noqa: BLE001 - see above
            self._log.broke("judging", "judging failed")
            return failed("judging failed: this is a bug, and the log has it")
        if self._log.is_broken:
            self._log.works("judging", "judging succeeds again")
            for it in health.judgements:
                if it.name not in broken:
                    self._log.works(f"judging {it.name}", "judging succeeds again", finding=it.name)
        return health

    def _listened(self, detail: Detail | None) -> tuple[Closes | None, str | None]:
        """What close events have told so far, and what is wrong with them; starts the thread that listens to them."""
        closing, wanted = self._closing, self._schedule.wanted
        if closing is None:
            return None, "closes: only the reader netlink has close events"
        if detail is not None:
            closing.told_apart = frozenset(int(port) for port in detail.ports if port != "other"), wanted.max_series
        elif not self._schedule.full_dumps:
            closing.told_apart = frozenset(wanted.ports), wanted.max_series
        if self._closes_thread is None or not self._closes_thread.is_alive():
            work = lambda: closing.run(self._closes_ratio, self._closes_wait)  # noqa: E731 - an argument
            self._closes_thread = threading.Thread(
                target=self._guard, args=(work, "closes", "listening to close events"), name="closes", daemon=True
            )
            self._closes_thread.start()
        return closing.closes, closing.problem

    def _closes_ratio(self) -> float | None:
        schedule = self._schedule
        return schedule.detail.max_cpu_ratio if schedule.closes and not self._stopping else None

    def _closes_wait(self, seconds: float) -> None:
        if self._closes_wake.wait(seconds):
            self._closes_wake.clear()

    def _detail(self) -> None:
        self._read_sysctls(self._detailer)
        if not self._schedule.full_dumps and ("detail" in self._passes or not system.LINUX):
            self._detailed = _Detailed()
            return
        counted, before = self._counted, self._detailed
        tight = counted is not None and is_tight(counted.snapshot)
        wanted = self._schedule.wanted._replace(memory=tight or self._passes_to_memory <= 0)
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
        at, memory_at = time.monotonic(), before.memory_at
        if detail.memory is not None:
            memory_at = at
        elif before.detail is not None:  # what was read last stays until it is too old
            problem = detail.memory_problem if wanted.memory else before.detail.memory_problem
            detail = detail._replace(memory=before.detail.memory, memory_problem=problem)
        self._passes_to_memory = _MEMORY_EVERY - 1 if wanted.memory else self._passes_to_memory - 1
        self._detailed = _Detailed(detail, namespaces, detail.problem, at, memory_at)

    def _read_sysctls(self, source: Sampler | Detailer) -> None:
        sysctls, problem = source.sysctls()
        # The same object as long as nothing changes: its rendering is kept.
        self._sysctls = (self._sysctls[0] if sysctls == self._sysctls[0] else sysctls, problem)


class _Walked(NamedTuple):
    """The last walk."""

    walk: Walk
    at: float  # monotonic seconds

    def expired(self) -> _Walked:
        """Without what it counted, because that is too old to be shown."""
        connections = self.walk.connections
        if connections is None:
            return self
        problems = {**self.walk.problems, connections.reader: f"{connections.reader}: the last walk is too old"}
        return self._replace(walk=self.walk._replace(connections=None, problems=problems, dump=None))


class _Detailed(NamedTuple):
    """What the detail thread leaves for the counting thread to publish."""

    detail: Detail | None = None
    namespaces: Mapping[str, tuple[int | None, ...]] | None = None
    problem: str | None = None
    at: float = 0.0  # monotonic seconds
    memory_at: float = 0.0  # likewise, of ``Detail.memory``


class _Count(NamedTuple):
    snapshot: Snapshot
    peaks: StateCounts | None
    at: float  # monotonic seconds
    health: Health


def _drawn(connections: Connections) -> StateCounts:
    """The counts as the history takes them: a hole for a state that cannot be counted here."""
    if not connections.unlisted:
        return connections.counts
    return tuple(HOLE if state in connections.unlisted else connections.counts[state] for state in TcpState)
