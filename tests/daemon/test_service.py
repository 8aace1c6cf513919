"""What systemd is told, by a clock and samples of the test's own."""

from __future__ import annotations

from exporter.daemon.service import ServiceNotifier
from exporter.sampling.sample import Sample
from tests.conftest import judged, sample_situation

BUSY = sample_situation("busy")
WORKING = "STATUS=counting by procfs, 656 established"


def sample(at: float, stale_after: float = 3.0, *, established: int | None = 656) -> Sample:
    connections = BUSY.connections
    assert connections is not None
    counts = list(connections.counts)
    counts[1] = established or 0
    snapshot = BUSY._replace(connections=None if established is None else connections._replace(counts=tuple(counts)))
    return Sample.single(snapshot, judged(snapshot))._replace(counted_at=at, stale_after=stale_after)


class Manager:
    """What was sent, and whether it arrives."""

    def __init__(self) -> None:
        self.messages: list[tuple[str, ...]] = []
        self.hears = True

    def send(self, *lines: str) -> bool:
        if self.hears:
            self.messages.append(lines)
        return self.hears

    def heard(self) -> list[tuple[str, ...]]:
        """The messages since the last time."""
        messages, self.messages = self.messages, []
        return messages


def service(*, watched: bool = True) -> tuple[Manager, ServiceNotifier]:
    manager = Manager()
    return manager, ServiceNotifier(manager.send, 100.0, watched=watched)


def test_it_is_ready_with_the_first_count_and_alive_from_then_on() -> None:
    manager, it = service()
    it.observe(None, 100.5, "netlink")
    it.observe(None, 101.0, "netlink")
    assert manager.heard() == [("STATUS=no sample yet, waiting for netlink",)]
    it.observe(sample(101.2), 101.5, None)
    it.observe(sample(102.2), 102.5, None)
    assert manager.heard() == [("READY=1", "WATCHDOG=1", WORKING), ("WATCHDOG=1",)]


def test_without_a_watchdog_it_says_nothing_while_nothing_changes() -> None:
    manager, it = service(watched=False)
    for second in range(59):
        it.observe(sample(100.0 + second, established=second), 100.5 + second, None)
    assert manager.heard() == [("READY=1", "STATUS=counting by procfs, 0 established")]


def test_the_numbers_of_the_status_are_told_once_a_minute() -> None:
    manager, it = service(watched=False)
    for second in range(130):
        it.observe(sample(100.0 + second, established=second), 100.5 + second, None)
    it.observe(sample(400.0, established=120), 400.5, None)
    assert manager.heard() == [
        ("READY=1", "STATUS=counting by procfs, 0 established"),
        ("STATUS=counting by procfs, 60 established",),
        ("STATUS=counting by procfs, 120 established",),
    ]


def test_a_loop_that_is_stuck_is_not_alive_until_samples_come_again() -> None:
    manager, it = service()
    it.observe(sample(100.0), 100.5, None)
    manager.heard()
    it.observe(sample(100.0), 103.5, "snmp")
    it.observe(sample(100.0), 108.5, "snmp")
    assert manager.heard() == [("STATUS=no sample in time, waiting for snmp",)]
    it.observe(sample(110.0), 110.5, None)
    assert manager.heard() == [("WATCHDOG=1", WORKING)]


def test_a_pause_that_the_cpu_share_asks_for_is_no_standstill() -> None:
    manager, it = service()
    it.observe(sample(100.0, stale_after=400.0), 100.5, None)
    it.observe(sample(100.0, stale_after=400.0), 480.0, "netlink")
    assert manager.heard() == [("READY=1", "WATCHDOG=1", WORKING), ("WATCHDOG=1",)]


def test_where_no_reader_can_count_it_is_ready_late_says_so_and_lives() -> None:
    manager, it = service()
    it.observe(sample(100.1, established=None), 100.5, None)
    it.observe(sample(109.1, established=None), 109.5, None)
    assert manager.heard() == [("STATUS=no reader can count the sockets",)]
    it.observe(sample(110.1, established=None), 110.5, None)
    it.observe(sample(111.1, established=None), 111.5, None)
    assert manager.heard() == [("READY=1", "WATCHDOG=1"), ("WATCHDOG=1",)]


def test_a_first_read_that_hangs_is_never_ready() -> None:
    manager, it = service()
    it.observe(None, 100.5, "procfs")
    it.observe(None, 500.0, "procfs")
    assert manager.heard() == [("STATUS=no sample yet, waiting for procfs",)]


def test_what_did_not_arrive_is_told_again() -> None:
    manager, it = service(watched=False)
    manager.hears = False
    it.observe(sample(100.0), 100.5, None)
    manager.hears = True
    it.observe(sample(101.0), 101.5, None)
    it.observe(sample(102.0), 102.5, None)
    assert manager.heard() == [("READY=1", WORKING)]


def test_a_reload_begins_with_its_time_and_ends_ready() -> None:
    manager, it = service(watched=False)
    it.observe(sample(100.0), 100.5, None)
    manager.heard()
    it.reloading(101.25)
    it.reloaded()
    assert manager.heard() == [("RELOADING=1", "MONOTONIC_USEC=101250000"), ("READY=1",)]
    it.reloading(102.0)
    manager.hears = False
    it.reloaded()
    manager.hears = True
    it.observe(sample(102.0), 102.5, None)
    assert manager.heard() == [("RELOADING=1", "MONOTONIC_USEC=102000000"), ("READY=1",)]


def test_a_rejected_configuration_is_in_the_status_until_a_reload_succeeds() -> None:
    manager, it = service(watched=False)
    it.observe(sample(100.0), 100.5, None)
    manager.heard()
    it.reloaded(["f.yml:1:2: first", "f.yml:3:4: second"])
    it.observe(sample(101.0), 101.5, None)
    it.reloaded(["f.yml:1:2: first"])
    it.observe(None, 102.5, None)
    it.observe(sample(103.0), 103.5, None)
    it.reloaded()
    it.observe(sample(104.0), 104.5, None)
    assert manager.heard() == [
        ("READY=1", f"{WORKING}; configuration rejected: f.yml:1:2: first (and 1 more)"),
        ("READY=1", f"{WORKING}; configuration rejected: f.yml:1:2: first"),
        ("STATUS=no sample yet; configuration rejected: f.yml:1:2: first",),
        (f"{WORKING}; configuration rejected: f.yml:1:2: first",),
        ("READY=1", WORKING),
    ]


def test_a_rejection_that_did_not_arrive_is_told_again() -> None:
    manager, it = service(watched=False)
    it.observe(sample(100.0), 100.5, None)
    manager.heard()
    manager.hears = False
    it.reloaded(["f.yml:1:2: first"])
    manager.hears = True
    it.observe(sample(101.0), 101.5, None)
    assert manager.heard() == [("READY=1", f"{WORKING}; configuration rejected: f.yml:1:2: first")]


def test_a_reload_before_the_first_count_makes_nothing_ready() -> None:
    manager, it = service()
    it.reloading(100.2)
    it.reloaded()
    it.stopping()
    assert manager.heard() == [("STOPPING=1", "STATUS=stopping")]
