"""The loop: passes that do not wait for each other, and what each of them brought is published for how long."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import ClassVar

import pytest

from exporter.details import Detail, Memory
from exporter.errors import SourceUnreadable
from exporter.health.judge import Health, Judge, failed
from exporter.health.sysctls.verdicts import Expectations
from exporter.health.thresholds import Threshold
from exporter.health.window import Window
from exporter.kernel.derivation import MANY, Trust
from exporter.kernel.netnsfs import Namespaces
from exporter.kernel.reader import Procfs, ProcfsReader
from exporter.sampling import loop as loop_module
from exporter.sampling.detailer import Detailer, Wanted
from exporter.sampling.loop import Loop, PassSchedule, Schedule
from exporter.sampling.sample import Sample
from exporter.sampling.sampler import Sampler, Walk
from tests.conftest import situation_root

FAST = Schedule(counting=PassSchedule(0.05, 1.0), detail=PassSchedule(0.1, 1.0))


class Log:
    def __init__(self) -> None:
        self.said: list[str] = []

    def info(self, event: str, **fields: object) -> None:
        self.said.append(event)

    warning = error = exception = info


class Slow(Detailer):
    """A detail pass that takes until it is let go."""

    go = threading.Event()

    def detail(self, wanted: Wanted, now: float) -> Detail:
        self.go.wait(120)
        return super().detail(wanted, now)


class Failing(Detailer):
    """A detail pass that fails from the second on."""

    passes = 0

    def detail(self, wanted: Wanted, now: float) -> Detail:
        self.passes += 1
        if self.passes > 1:
            raise SourceUnreadable("detail", "refused")
        return super().detail(wanted, now)


@contextmanager
def running(
    kind: type[Detailer],
    schedule: Schedule = FAST,
    judge: Judge | None = None,
    log: Log | None = None,
    sampler: type[Sampler] = Sampler,
) -> Iterator[Loop]:
    procfs = Procfs(situation_root("busy"))
    trust = Trust("6.18.44")
    loop = Loop(
        sampler(procfs, [ProcfsReader(procfs)], trust, time.monotonic),
        kind(procfs, [ProcfsReader(procfs)], trust),
        Namespaces(enter=False),
        schedule,
        log or Log(),
        judge or Judge(""),
    )
    loop.start()
    try:
        yield loop
    finally:
        Slow.go.set()
        loop.stop(10)
        Slow.go.clear()


def wait(loop: Loop, found: Callable[[Sample], bool]) -> Sample:
    """The first sample of which *found* is true."""
    end = time.monotonic() + 120
    while time.monotonic() < end:
        sample = loop.sample
        if sample is not None and found(sample):
            return sample
        time.sleep(0.01)
    pytest.fail("waited in vain")


class Broken(Judge):
    """A judge with a bug."""

    def judge(
        self, window: Window, thresholds: Mapping[str, Threshold], expected: Expectations,
        broke: Callable[[str], object] | None = None,
    ) -> Health:  # fmt: skip
        raise ZeroDivisionError


class BrokenForTwoSamples(Judge):
    """A judge one of whose rules has a bug at first."""

    judged = 0

    def judge(
        self, window: Window, thresholds: Mapping[str, Threshold], expected: Expectations,
        broke: Callable[[str], object] | None = None,
    ) -> Health:  # fmt: skip
        self.judged += 1
        if broke is not None and self.judged <= 2:
            try:
                int("a bug")
            except ValueError:
                broke("accept_queue_full")
        return super().judge(window, thresholds, expected, broke)


def test_a_bug_in_judging_costs_the_health_and_not_the_counts() -> None:
    with running(Detailer, judge=Broken("6.18")) as loop:
        sample = wait(loop, lambda sample: sample.passes["light"].total > 3)
        reason = "judging failed: this is a bug, and the log has it"
        assert sample.health == failed(reason)
        assert (sample.snapshot.connections is not None, loop.is_alive) == (True, True)


def test_a_bug_in_one_rule_is_logged_once_and_when_it_is_over() -> None:
    log = Log()
    with running(Detailer, judge=BrokenForTwoSamples("6.18"), log=log) as loop:
        wait(loop, lambda sample: sample.passes["light"].total > 4)
    assert [event for event in log.said if event.startswith("judging")] == [
        "judging failed", "judging succeeds again",
    ]  # fmt: skip


def test_a_slow_detail_pass_delays_no_count() -> None:
    with running(Slow) as loop:
        first = wait(loop, lambda sample: True)
        assert first.snapshot.detail is None
        wait(loop, lambda sample: sample.passes["light"].total > 5)
        assert "detail" not in first.passes
        Slow.go.set()
        assert wait(loop, lambda sample: sample.snapshot.detail is not None).snapshot.sources["detail"] is None


def test_a_first_detail_pass_that_hangs_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("exporter.sampling.loop._FIRST_DETAIL_SECONDS", 0.1)
    with running(Slow) as loop:
        found = wait(loop, lambda sample: "detail" in sample.snapshot.sources).snapshot
        assert (found.sources["detail"], found.sysctls) == ("detail: the pass hangs", {})
        Slow.go.set()
        assert wait(loop, lambda sample: sample.snapshot.detail is not None).snapshot.sources["detail"] is None


def test_the_sysctls_are_in_the_very_first_sample() -> None:
    with running(Slow) as loop:
        assert "tcp_rmem" in wait(loop, lambda sample: True).snapshot.sysctls


def test_a_failed_detail_pass_is_said_and_its_predecessor_stays_until_it_is_too_old() -> None:
    with running(Failing) as loop:
        wait(loop, lambda sample: sample.snapshot.sources.get("detail") == "detail: refused")
        gone = wait(loop, lambda sample: sample.snapshot.detail is None and "detail" in sample.snapshot.sources)
        assert gone.source_errors["detail"] > 0


class Buggy(Detailer):
    """A detail pass with a bug from its second to its sixth time."""

    passes = 0

    def detail(self, wanted: Wanted, now: float) -> Detail:
        self.passes += 1
        if 1 < self.passes < 7:
            raise MemoryError
        return super().detail(wanted, now)


def test_a_pass_that_ends_in_a_bug_is_said_once_and_marked_until_it_succeeds_again() -> None:
    log = Log()
    with running(Buggy, log=log) as loop:
        wait(loop, lambda sample: sample.snapshot.sources.get("detail") == "detail: MemoryError")
        wait(loop, lambda sample: sample.passes["detail"].total > 6 and sample.snapshot.sources["detail"] is None)
    said = [event for event in log.said if event in {"sample failed", "sampling succeeds again"}]
    assert said == ["sample failed", "sampling succeeds again"]


def test_detail_that_is_switched_off_verifies_once_and_shows_nothing() -> None:
    with running(Detailer, FAST._replace(full_dumps=False)) as loop:
        sample = wait(loop, lambda sample: "detail" in sample.passes and sample.passes["detail"].total > 3)
        assert sample.snapshot.detail is None


class Hanging(Detailer):
    """A detail pass that hangs from the second on."""

    passes = 0

    def detail(self, wanted: Wanted, now: float) -> Detail:
        self.passes += 1
        if self.passes > 1:
            Slow.go.wait(120)
        return super().detail(wanted, now)


def test_a_detail_pass_that_hangs_is_said_and_nothing_that_it_read_is_shown_any_more() -> None:
    with running(Hanging) as loop:
        wait(loop, lambda sample: sample.snapshot.detail is not None)
        hung = wait(loop, lambda sample: sample.snapshot.sources.get("detail") is not None)
        assert (hung.snapshot.detail, hung.snapshot.sysctls) == (None, {})
        assert hung.snapshot.sources["sysctl"] == "sysctl: the pass that reads them hangs"
        assert hung.snapshot.connections is not None


def test_a_sample_has_the_outlook_which_is_empty_before_minutes_are_over() -> None:
    with running(Detailer) as loop:
        assert wait(loop, lambda sample: sample.passes["light"].total > 2).snapshot.to_full == {}


MEMORY = Memory(5.0, {"443": 4096, "other": 0}, {"a.service": 4096, "other": 0}, {})


class Weighing(Detailer):
    """A detail pass with memory where that is wanted, and of which the second reading of it fails."""

    wanted: ClassVar[list[bool]] = []

    def detail(self, wanted: Wanted, now: float) -> Detail:
        detail = super().detail(wanted, now)
        self.wanted.append(wanted.memory)
        if not wanted.memory:
            return detail
        if sum(self.wanted) == 1:
            return detail._replace(memory=MEMORY)
        return detail._replace(memory_problem="netlink: a short attribute")


def test_memory_is_read_by_every_fourth_detail_pass_and_stays_between_them_until_it_is_too_old() -> None:
    Weighing.wanted.clear()
    with running(Weighing) as loop:
        first = wait(loop, lambda sample: sample.snapshot.detail is not None)
        assert first.snapshot.detail is not None
        assert (first.snapshot.detail.memory, first.snapshot.sources["memory"]) == (MEMORY, None)
        failed = wait(loop, lambda sample: sample.snapshot.sources.get("memory") is not None)
        assert failed.snapshot.sources["memory"] == "netlink: a short attribute"
        assert Weighing.wanted[:5] == [True, False, False, False, True]
        gone = wait(loop, lambda sample: sample.snapshot.detail is not None and sample.snapshot.detail.memory is None)
        assert gone.snapshot.sources["memory"] == "netlink: a short attribute"


def test_memory_is_read_by_each_detail_pass_while_more_than_a_tenth_of_it_is_used(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    Weighing.wanted.clear()
    monkeypatch.setattr(loop_module, "is_tight", lambda _: True)
    with running(Weighing) as loop:
        wait(loop, lambda _: len(Weighing.wanted) >= 3)
    assert all(Weighing.wanted[1:3])


class Dear(Sampler):
    """Walks that cost many times their share, and light passes that cost next to nothing."""

    broken = False

    def walk(self, *, most_listed: int = MANY) -> Walk:
        if self.broken:
            raise ZeroDivisionError
        end = time.thread_time() + 0.05
        while time.thread_time() < end:
            pass
        return super().walk(most_listed=most_listed)


SHARED = Schedule(counting=PassSchedule(0.05, 0.1), detail=PassSchedule(0.1, 1.0))


@pytest.fixture
def _no_allowance(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("exporter.sampling.cadence.ALLOWANCE_SECONDS", 0.5)


@pytest.mark.usefixtures("_no_allowance")
def test_a_walk_that_costs_more_than_its_share_leaves_the_light_passes_at_their_interval() -> None:
    with running(Detailer, SHARED, sampler=Dear) as loop:
        stretched = wait(loop, lambda it: it.passes["walk"].interval >= 0.3)
        sample = wait(loop, lambda it: it.passes["light"].total > 3 * it.passes["walk"].total)
        assert (stretched.passes["light"].interval, stretched.passes["walk"].configured) == (0.05, 0.05)
        between = wait(loop, lambda it: it.snapshot.connections is not None and it.snapshot.connections.walk_age > 0.1)
        assert between.snapshot.connections is not None
        assert sample.snapshot.connections is not None
        assert between.snapshot.connections.counts == sample.snapshot.connections.counts
        assert between.stale_after < 3 * between.passes["walk"].interval


class Stuck(Dear):
    """Walks that from the second on take until they are let go."""

    go = threading.Event()
    walks = 0

    def walk(self, *, most_listed: int = MANY) -> Walk:
        self.walks += 1
        if self.walks > 1:
            self.go.wait(120)
        return super().walk(most_listed=most_listed)


def test_a_walk_that_takes_long_delays_no_light_pass_and_is_made_once_at_a_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(loop_module, "_WALK_SECONDS", 0.5)
    with running(Detailer, sampler=Stuck) as loop:
        try:
            during = wait(loop, lambda it: it.passes["light"].total > 20)
            assert (during.passes["walk"].total, during.is_stale(time.monotonic())) == (1, False)
            assert during.stale_after < 1
            gone = wait(loop, lambda it: it.snapshot.connections is None)
            assert gone.snapshot.sources["procfs"] == "procfs: the last walk is too old"
        finally:
            Stuck.go.set()
        back = wait(loop, lambda it: it.snapshot.connections is not None and it.passes["walk"].total > 2)
        assert back.snapshot.connections is not None
        assert back.snapshot.connections.walk_age > 0


def test_a_loop_that_is_stopped_while_a_walk_is_being_made_ends_with_it() -> None:
    Stuck.go.clear()
    with running(Detailer, sampler=Stuck) as loop:
        wait(loop, lambda it: it.passes["light"].total > 10)
        stop = threading.Thread(target=loop.stop, args=(20,))
        stop.start()
        while not loop._stopping:
            time.sleep(0.01)
        Stuck.go.set()
        stop.join()
        assert not any(thread.is_alive() for thread in loop._threads.values())


def test_on_a_small_host_each_light_pass_has_its_walk_and_the_sums_are_read_once() -> None:
    with running(Detailer) as loop:
        sample = wait(loop, lambda it: it.passes["light"].total > 5)
        assert sample.passes["walk"].total == sample.passes["light"].total
        assert sample.snapshot.connections is not None
        assert (sample.snapshot.connections.walk_age, sample.snapshot.connections.fresh) == (0.0, ())


def test_walks_that_fail_leave_the_counters_speaking_and_their_own_numbers_go_when_they_are_too_old() -> None:
    log = Log()
    with running(Detailer, log=log, sampler=Dear) as loop:
        wait(loop, lambda it: it.snapshot.connections is not None)
        loop._sampler.broken = True  # type: ignore[attr-defined]  # it is a Dear
        gone = wait(loop, lambda it: it.snapshot.connections is None)
        assert gone.snapshot.sources["procfs"] == "procfs: the last walk is too old"
        assert (gone.peaks, gone.health.readings["established"]) == (None, None)
        assert gone.snapshot.counters["Tcp.CurrEstab"] > 0
        assert not gone.is_stale(time.monotonic())
        loop._sampler.broken = False  # type: ignore[attr-defined]  # as above
        wait(loop, lambda it: it.snapshot.connections is not None)
    assert [it for it in log.said if it in {"sample failed", "sampling succeeds again"}] == [
        "sample failed", "sampling succeeds again",
    ]  # fmt: skip
