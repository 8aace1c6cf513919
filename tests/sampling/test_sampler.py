"""The sampler: which reader counts, and when the kernel's sums are trusted."""

from __future__ import annotations

import json
import struct
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

import pytest

from exporter.errors import SourceError, SourceTimeout, SourceUnreadable, UsageError
from exporter.kernel import inetdiag
from exporter.kernel.derivation import FEW, Trust
from exporter.kernel.reader import NetlinkReader, Procfs, ProcfsReader
from exporter.sampling.detailer import Detailer, Wanted
from exporter.sampling.sampler import Counted, Sampler, readers
from exporter.tcpstate import StateCounts, TcpState
from tests.conftest import situation_root
from tests.lab import LabProcess

if TYPE_CHECKING:
    from exporter.kernel.reader import Collector

C = TypeVar("C", bound="Collector")
DETAILERS: dict[Sampler, Detailer] = {}  # the detail pass beside each sampler
LISTEN_ONLY = 1 << TcpState.LISTEN
LISTED = inetdiag.ALL_STATES & ~(1 << TcpState.TIME_WAIT)


class Host(Procfs):
    """A host whose sums and sockets are set by the test: what a drifted kernel says cannot be had for real here."""

    def __init__(self) -> None:
        super().__init__("/proc")
        self.established = 2000
        self.close_wait = 0
        self.drift = 0
        self.opened = 0

    def text(self, path: str) -> str:
        match path:
            case "net/snmp":
                self.opened += self.churn()
                names = "Tcp: CurrEstab ActiveOpens PassiveOpens AttemptFails"
                return f"{names}\nTcp: {self.established + self.close_wait + self.drift} {self.opened} 0 0\n"
            case "net/sockstat":
                return f"TCP: inuse {self.established + self.close_wait} orphan 0 tw 0 alloc 0 mem 0\n"
            case _:
                return "TCP6: inuse 0\n"

    def churn(self) -> int:
        """Connections that opened since the file was read before."""
        return 0


class BusyHost(Host):
    def churn(self) -> int:
        return 500


class Sockets(NetlinkReader):
    """The sockets of a ``Host``."""

    def __init__(self, host: Host) -> None:
        super().__init__()
        self.host = host
        self.dumps: list[int] = []

    def collect(self, states: int, begin: Callable[[], C], port: int = 0, extensions: int = 0) -> C:
        collector = begin()
        if states != LISTEN_ONLY:
            self.dumps.append(states)
        sockets = {TcpState.ESTABLISHED: self.host.established, TcpState.CLOSE_WAIT: self.host.close_wait}
        for state, number in sockets.items():
            if number and states & 1 << state:
                body = bytes([inetdiag.AF_INET, state, 0, 0]) + bytes(68) + struct.pack("=HHB3x", 5, 8, 0)
                collector.add((struct.pack("=IHHII", 16 + len(body), 18, 2, 1, 0) + body) * number)
        collector.add(struct.pack("=IHHIIi", 20, 3, 2, 1, 0, 0))
        return collector


def sampler(host: Host, release: str = "6.18.44") -> tuple[Sampler, Sockets]:
    reader = Sockets(host)
    trust = Trust(release)
    DETAILERS[made := Sampler(host, [reader], trust, lambda: 0.0)] = Detailer(host, [reader], trust)
    return made, reader


def established(made: Sampler) -> tuple[int, bool]:
    connections = made.count(netstat=False).connections
    assert connections is not None
    return connections.counts[TcpState.ESTABLISHED], connections.derived


def verified(made: Sampler) -> bool:
    """Whether the sums are trusted after a detail pass, by what the next sample does."""
    DETAILERS[made].detail(Wanted(), 0.0)
    return established(made)[1]


def test_sums_that_hold_are_derived_from_by_one_dump_without_the_large_states() -> None:
    made, reader = sampler(Host())
    assert (established(made), reader.dumps) == ((2000, True), [inetdiag.COPIED_STATES])


def test_few_established_sockets_are_listed_with_the_others_and_the_sums_are_still_watched() -> None:
    host = Host()
    host.established = 100
    made, reader = sampler(host)
    assert (established(made), established(made)) == ((100, True), (100, True))
    assert reader.dumps == [LISTED, LISTED]
    host.drift = -1
    assert (established(made), established(made)) == ((100, True), (100, False))  # it may have closed since the last


@pytest.mark.parametrize(("held", "dumps"), [(1000, 2), (1001, 1)])
def test_few_established_sockets_are_listed_in_the_first_sample_too_however_many_wait_to_be_closed(
    held: int, dumps: int
) -> None:
    host = Host()
    host.established, host.close_wait = held, 400
    made, reader = sampler(host)
    assert established(made) == (held, True)
    assert reader.dumps == [inetdiag.COPIED_STATES, LISTED][:dumps]


@pytest.mark.parametrize(
    ("held", "dumps"),
    [
        (1001, [inetdiag.COPIED_STATES, LISTED]),
        (10_000, [inetdiag.COPIED_STATES, LISTED]),
        (20_000, [inetdiag.COPIED_STATES]),
    ],
)
def test_up_to_10000_established_sockets_are_listed_where_too_much_happens_while_they_are_derived(
    held: int, dumps: list[int]
) -> None:
    host = BusyHost()
    host.established = held
    made, reader = sampler(host)
    assert (established(made), reader.dumps) == ((held, True), dumps)


def test_a_pass_that_may_list_few_derives_more_than_those_whatever_happens() -> None:
    host = BusyHost()
    host.established = 5000
    made, reader = sampler(host)
    assert made.count(netstat=False, most_listed=FEW).connections is not None
    assert reader.dumps == [inetdiag.COPIED_STATES]


def test_what_happens_between_two_samples_makes_no_dump_dearer_as_long_as_little_happens_while_one_is_taken() -> None:
    host = Host()
    made, reader = sampler(host)
    established(made)
    reader.dumps.clear()
    for dumps in ([inetdiag.COPIED_STATES] * 2, [inetdiag.COPIED_STATES], [inetdiag.COPIED_STATES]):
        host.opened += 500
        assert (established(made), reader.dumps) == ((2000, True), dumps)
        reader.dumps.clear()


def test_a_kernel_whose_currestab_leaves_close_wait_out_is_derived_from_by_one_dump() -> None:
    host = Host()
    host.close_wait, host.drift = 20, -20
    made, reader = sampler(host, release="5.10.218")
    assert (established(made), reader.dumps) == ((2000, True), [inetdiag.COPIED_STATES])
    host.close_wait, host.drift = 0, 0
    assert established(made) == (2000, True)
    host.close_wait = 30  # in CurrEstab as well, so it is not the sum that it was
    assert established(made) == (2000, False)


def test_drift_on_a_quiet_host_is_found_in_the_sample_itself() -> None:
    host = Host()
    host.drift = -1
    made, reader = sampler(host)
    assert (established(made), reader.dumps[-1]) == ((2000, False), inetdiag.ALL_STATES)


def test_drift_that_churn_hides_from_one_sample_is_found_by_many_and_derived_from_no_more() -> None:
    host = BusyHost()
    host.drift = 100
    made, _ = sampler(host)
    seen = [established(made) for _ in range(40)]
    assert seen[0] == (2000, True)
    assert seen[30:] == [(2000, False)] * 10
    host.drift = 0
    established(made)
    assert established(made) == (2000, True)


def test_drift_is_not_taken_for_what_happened_since_the_last_sample() -> None:
    host = Host()
    made, _ = sampler(host)
    seen = [established(made)]
    host.drift = 900
    for _ in range(3):
        host.opened += 500  # between the samples, not while one is taken
        seen.append(established(made))
    assert seen == [(2000, True), (2000, False), (2000, False), (2000, False)]


def test_a_kernel_whose_tw_is_host_wide_is_counted_in_full() -> None:
    made, reader = sampler(Host(), release="4.10.17-rhel")
    assert (established(made), reader.dumps) == ((2000, False), [inetdiag.ALL_STATES])


def test_a_full_dump_that_contradicts_the_sums_makes_them_distrusted_until_one_agrees() -> None:
    host = Host()
    made, _ = sampler(host)
    host.drift = 3
    DETAILERS[made].detail(Wanted(), 0.0)
    host.drift = 0
    assert established(made) == (2000, False)
    assert verified(made) is True


class Refused(NetlinkReader):
    def collect(self, states: int, begin: Callable[[], C], port: int = 0, extensions: int = 0) -> C:
        raise SourceUnreadable("netlink", "refused")


class Counting(ProcfsReader):
    def full(self, port: int = 0) -> tuple[StateCounts, tuple[str, ...]]:
        return (0, 7, *[0] * 10), ()


def test_the_next_reader_counts_where_one_is_refused_and_the_better_is_tried_again_later() -> None:
    now = [0.0]
    host = Host()
    refused: NetlinkReader = Refused()
    chain: list[NetlinkReader | ProcfsReader] = [refused, Counting(host)]
    made = Sampler(host, chain, Trust("6.18.44"), lambda: now[0])
    first = made.count(netstat=False)
    assert first.connections is not None
    assert (first.connections.reader, first.sources["netlink"]) == ("procfs", "netlink: refused")
    chain[0] = Sockets(host)
    assert _reader(made) == "procfs"
    now[0] = 61.0
    assert _reader(made) == "netlink"


class Failing(NetlinkReader):
    """It fails as it is told to, and counts how often it is asked."""

    def __init__(self, error: SourceError) -> None:
        super().__init__()
        self.error = error
        self.asked = 0

    def collect(self, states: int, begin: Callable[[], C], port: int = 0, extensions: int = 0) -> C:
        self.asked += 1
        raise self.error


@pytest.mark.parametrize(
    ("error", "seconds"),
    [
        (SourceUnreadable("netlink", "refused"), [0, 1, 3, 7, 15, 31, 63, 123, 183]),
        (SourceTimeout("netlink", "no reply within 5 s"), [0, 60, 120, 180]),
    ],
)
def test_a_better_reader_is_asked_again_soon_and_then_ever_less_often(error: SourceError, seconds: list[int]) -> None:
    now = [0.0]
    refused, host = Failing(error), Host()
    made = Sampler(host, [refused, Counting(host)], Trust("6.18.44"), lambda: now[0])
    asked = []
    for second in range(200):
        now[0], before = float(second), refused.asked
        counted = made.count(netstat=False)
        assert (_name(counted), counted.sources["netlink"]) == ("procfs", str(error))
        if refused.asked > before:
            asked.append(second)
    assert asked == seconds


def _name(counted: Counted) -> str | None:
    return counted.connections and counted.connections.reader


def _reader(made: Sampler) -> str | None:
    connections = made.count(netstat=False).connections
    return connections and connections.reader


def test_nothing_that_counts_is_no_connections_and_every_reason() -> None:
    made = Sampler(Host(), [Refused()], Trust("6.18.44"), lambda: 0.0)
    counted = made.count(netstat=False)
    assert (counted.connections, counted.sources["netlink"]) == (None, "netlink: refused")


@pytest.mark.parametrize(
    ("name", "root", "chain"),
    [
        ("auto", "/proc", ["netlink", "procfs"]),
        ("auto", "/proc/", ["netlink", "procfs"]),
        ("auto", situation_root("quiet"), ["procfs"]),
        ("netlink", "/proc", ["netlink"]),
        ("procfs", situation_root("quiet"), ["procfs"]),
        ("psutil", "/proc", ["psutil"]),
    ],
)
def test_a_reader_by_name_or_the_best_that_speak_of_one_namespace(name: str, root: str, chain: list[str]) -> None:
    assert [reader.name for reader in readers(name, Procfs(root))] == chain


@pytest.mark.parametrize("name", ["netlink", "psutil", "ss"])
def test_a_reader_that_cannot_be_had_is_a_usage_error(name: str) -> None:
    procfs = Procfs(situation_root("quiet"))
    make: Callable[[], object] = lambda: readers(name, procfs)  # noqa: E731 - read once
    with pytest.raises(UsageError):
        make()


def test_between_walks_the_sums_tell_what_is_established_now_and_the_rest_is_as_it_was() -> None:
    host = Host()
    host.close_wait = 300
    made, reader = sampler(host)
    walk = made.walk()
    before = made.light(walk, just_walked=True, netstat=False).connections
    reader.dumps.clear()
    host.established = 2500
    after = made.light(walk, just_walked=False, netstat=False).connections
    assert before is not None
    assert after is not None
    assert (after.of(TcpState.ESTABLISHED), after.of(TcpState.CLOSE_WAIT)) == (2500, 300)
    assert after.fresh == (TcpState.ESTABLISHED, TcpState.TIME_WAIT, TcpState.LISTEN)
    assert (before.fresh, before.derived, after.derived, reader.dumps) == ((), True, True, [])


def test_sums_that_disagree_with_the_walk_bring_nothing_up_to_date() -> None:
    host = Host()
    made, _ = sampler(host)
    assert established(made) == (2000, True)
    host.drift = 700  # more than one sample of it was explained by what happened
    walk = made.walk()
    assert (walk.agrees, walk.connections and walk.connections.derived) == (False, False)
    host.established = 2500
    after = made.light(walk, just_walked=False, netstat=False).connections
    assert after is not None
    assert (after.of(TcpState.ESTABLISHED), after.fresh, after.derived) == (2000, (TcpState.LISTEN,), False)


LIGHT = """
import json, socket
from exporter.kernel.derivation import Trust
from exporter.kernel.reader import Procfs
from exporter.sampling.sampler import Sampler, readers
from exporter import system
import time

def told(counted):
    it, [listener] = counted.connections, counted.listeners
    return [it.counts[1], it.counts[10], it.counts[6], listener.accept_queue, it.queued]

procfs = Procfs()
made = Sampler(procfs, readers("netlink", procfs), Trust(system.release()), time.monotonic)
with socket.create_server(("127.0.0.1", 0), backlog=50) as server:
    for _ in range(2):  # in the second one the listeners' drops come with the walk
        walk = made.walk()
        first = told(made.light(walk, just_walked=True))
    clients = [socket.create_connection(server.getsockname()) for _ in range(20)]
    served = [server.accept()[0] for _ in range(8)]
    second = told(made.light(walk, just_walked=False))
    for it in (*clients[:8], *served):
        it.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, bytes(8))
    for mine, theirs in zip(clients[:5], served):
        mine.close()
        theirs.close()
    third = told(made.light(walk, just_walked=False))
    counted = told(made.count())
print(json.dumps([first, second, third, counted]))
"""


@pytest.mark.lab
def test_a_light_pass_on_a_real_kernel_tells_what_happened_since_the_walk() -> None:
    with LabProcess() as lab:
        done = lab.run([sys.executable, "-c", LIGHT])
    assert done.returncode == 0, done.stderr
    first, second, third, counted = json.loads(done.stdout)
    assert (first, second) == ([0, 1, 0, 0, None], [40, 1, 0, 12, 0])
    assert (third[:1], third[2:4]) == (counted[:1], counted[2:4]) == ([30], [5, 12])
