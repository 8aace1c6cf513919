"""Findings of limits: ephemeral ports, TIME-WAIT, orphans and memory; what is near, what is not, and what to do."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from exporter.details import Detail, Memory
from exporter.health import measures
from exporter.health.finding import Finding, Rule
from exporter.health.findings import ephemeral_ports, memory, orphans, time_wait
from exporter.health.judge import judge_findings
from exporter.health.thresholds import Status
from exporter.health.window import Window
from exporter.snapshot import Snapshot, Sockstat
from tests.health.findings.hosts import listener, snapshot, status

RANGE, RESERVED = "net.ipv4.ip_local_port_range", "net.ipv4.ip_local_reserved_ports"
HOST = {RANGE: "32768 60999", RESERVED: "", "tcp_tw_reuse": "2", "tcp_timestamps": "1"}
AT_REST = Sockstat(inuse=0, orphan=0, tw=0, alloc=0, mem=0)


def looked(
    at: float = 10.0, sysctls: Mapping[str, str] = HOST, *, counters: Mapping[str, int] | None = None,
    sockstat: Sockstat | None = AT_REST, ports: tuple[int, ...] = (), **ephemeral: object,
) -> Snapshot:  # fmt: skip
    """A host; the fields of Detail that begin with ``ephemeral_`` by the rest of their names."""
    detail = Detail(at, {}, {}, {}, None, 0, 0, 0, 28232, "", {})
    detail = detail._replace(**{f"ephemeral_{name}": value for name, value in ephemeral.items()})  # type: ignore[arg-type]
    made = snapshot(at, counters or {}, [listener(port) for port in ports], sysctls)
    return made._replace(sockstat=sockstat, detail=detail)


def found(rule: Rule, now: Snapshot, *past: Snapshot) -> Finding:
    finding = rule.judge(Window(now, past))
    assert finding is not None
    return finding


# -- ephemeral ports ---------------------------------------------------------------------------------------------------

PORTS = ephemeral_ports.NEAR_LIMIT
TOWARDS = "192.0.2.1 -> 198.51.100.7:443"


@pytest.mark.parametrize(
    ("used", "listening", "bound", "found"),
    [
        (799, 0, 0, Status.OK),
        (800, 0, 0, Status.WARNING),
        (949, 0, 0, Status.WARNING),
        (950, 0, 0, Status.CRITICAL),
        (0, 0, 800, Status.WARNING),
        (300, 500, 150, Status.CRITICAL),
        (0, 500, 0, Status.OK),
    ],
)
def test_ports_that_cannot_be_picked_are_taken(used: int, listening: int, bound: int, found: Status) -> None:
    now = looked(used=used, available=1000 - listening - bound, listening=listening, bound=bound, towards=TOWARDS)
    assert status(PORTS, Window(now)) is found


def test_widening_the_range_reserves_the_services_that_get_into_it() -> None:
    now = looked(
        used=28000,
        available=28232,
        towards=TOWARDS,
        destinations=1,
        ports=(22, 80, 9200, 9300, 9301, 40000),
        reserved="",
    )
    assert found(PORTS, now).command == (f'sysctl -w {RESERVED}="9200,9300-9301" && sysctl -w {RANGE}="1024 65535"')
    some = {**HOST, RESERVED: "1433,5000-5010"}
    known = looked(10.0, some, used=28000, available=28232, ports=(9200,), reserved="1433,5000-5010")
    assert found(PORTS, known).command == (
        f'sysctl -w {RESERVED}="1433,5000-5010,9200" && sysctl -w {RANGE}="1024 65535"'
    )
    assert found(PORTS, looked(10.0, some, used=28000, available=28232, ports=(9200,))).command == (
        f'sysctl -w {RESERVED}="$(sysctl -n {RESERVED}),9200" && sysctl -w {RANGE}="1024 65535"'
    )
    assert found(PORTS, looked(10.0, some, used=28000, available=28232)).command == f'sysctl -w {RANGE}="1024 65535"'


WIDE = {**HOST, RANGE: "1024 65535"}


@pytest.mark.parametrize(
    ("waiting", "sysctls", "command"),
    [
        (40000, {}, "sysctl -w net.ipv4.tcp_tw_reuse=1"),
        (30000, {}, None),  # most ports are of connections in use
        (0, {}, None),
        (40000, {"tcp_tw_reuse": "1"}, None),
        (40000, {"tcp_timestamps": "0"}, None),
    ],
)
def test_reuse_is_proposed_where_time_wait_towards_that_destination_holds_the_ports(
    waiting: int, sysctls: Mapping[str, str], command: str | None
) -> None:
    now = looked(10.0, {**WIDE, **sysctls}, used=64000, available=64512, waiting=waiting, towards=TOWARDS)
    assert found(PORTS, now).command == command


def test_ports_that_bind_picked_name_the_source_and_the_remedy() -> None:
    now = looked(used=28000, available=28232, destinations=4, towards="2001:db8::1 -> 4 destinations")
    finding = found(PORTS, now)
    assert finding.what == "Local ports of 2001:db8::1 are nearly gone: bind() takes each from every destination"
    assert (
        finding.evidence[0]
        == "28,000 of 28,232 local ports of 2001:db8::1 are taken, each once, towards 4 destinations."
    )
    assert finding.command == "ss -Htanp src '[2001:db8::1]'"
    assert "IP_BIND_ADDRESS_NO_PORT" in finding.remedy


def test_without_the_range_it_cannot_be_told() -> None:
    assert status(PORTS, Window(looked(used=None, available=None))) is Status.UNKNOWN


# -- TIME-WAIT ---------------------------------------------------------------------------------------------------------

TIME_WAIT, OVERFLOW = time_wait.NEAR_LIMIT, "TcpExt.TCPTimeWaitOverflow"


@pytest.mark.parametrize(
    ("limit", "waiting", "overflows", "found"),
    [
        (1000, 799, 0, Status.OK),
        (1000, 800, 0, Status.WARNING),
        (1000, 1000, 3, Status.CRITICAL),
        (1000, 500, 3, Status.OK),  # the end of a burst
        (1000, 500, 10, Status.CRITICAL),
        (0, 0, 10, Status.CRITICAL),
        (0, 0, 0, Status.OK),
        (-1, 500000, 0, Status.OK),
    ],
)
def test_the_limit_of_time_wait(limit: int, waiting: int, overflows: int, found: Status) -> None:
    sysctls = {"tcp_max_tw_buckets": str(limit)}
    before = looked(0.0, sysctls, counters={OVERFLOW: 7})
    now = looked(10.0, sysctls, counters={OVERFLOW: 7 + overflows}, sockstat=AT_REST._replace(tw=waiting))
    assert status(TIME_WAIT, Window(now, (before,))) is found


def test_only_a_rate_tells_whether_a_limit_of_none_is_reached() -> None:
    now = looked(sysctls={"tcp_max_tw_buckets": "0"}, counters={OVERFLOW: 7})
    assert status(TIME_WAIT, Window(now)) is Status.UNKNOWN


@pytest.mark.parametrize(
    ("limit", "ratio", "said"),
    [
        (0, None, "tcp_max_tw_buckets is 0, and no share of that can be told"),
        (-1, None, "tcp_max_tw_buckets is -1, which is no limit"),
        (1000, 0.5, ""),
    ],
)
def test_a_share_that_cannot_be_told_says_why(limit: int, ratio: float | None, said: str) -> None:
    now = looked(sysctls={"tcp_max_tw_buckets": str(limit)}, sockstat=AT_REST._replace(tw=500))
    measure = measures.BY_NAME["time_wait_ratio"]
    assert measure.value_of(measure.read(now)) == ratio
    if said:
        assert measure.unknown(now) == said


# -- orphans -----------------------------------------------------------------------------------------------------------

ORPHANS, KILLED = orphans.NEAR_LIMIT, "TcpExt.TCPAbortOnMemory"


def with_orphans(number: int, limit: int | None, killed: int) -> Window:
    sysctls = {} if limit is None else {"tcp_max_orphans": str(limit)}
    before = looked(0.0, sysctls, counters={KILLED: 3})
    return Window(
        looked(10.0, sysctls, counters={KILLED: 3 + killed}, sockstat=AT_REST._replace(orphan=number)), (before,)
    )


@pytest.mark.parametrize(
    ("number", "limit", "killed", "found"),
    [
        (1023, 4096, 0, Status.OK),
        (1024, 4096, 0, Status.WARNING),
        (2048, 4096, 0, Status.CRITICAL),
        (1024, 4096, 1, Status.CRITICAL),
        (10, 4096, 9, Status.OK),
        (10, 4096, 10, Status.CRITICAL),
        (10, None, 10, Status.CRITICAL),
    ],
)
def test_orphans_near_their_limit_or_killed(number: int, limit: int | None, killed: int, found: Status) -> None:
    assert status(ORPHANS, with_orphans(number, limit, killed)) is found


def test_orphans_are_not_judged_where_their_limit_is_not_visible() -> None:
    judged, not_judged = judge_findings(with_orphans(10, None, 0), [ORPHANS])
    assert judged == ()
    assert [it.reason for it in not_judged] == ["tcp_max_orphans is not visible from this network namespace"]


@pytest.mark.parametrize(("limit", "size"), [(2048, "256.0 MiB"), (4096, "512.0 MiB"), (131072, "16.0 GiB")])
def test_the_memory_of_orphans_is_printed_in_the_unit_that_has_a_number(limit: int, size: str) -> None:
    finding = ORPHANS.judge(with_orphans(limit // 2, limit, 0))
    assert finding is not None
    assert finding.command == f"sysctl -w net.ipv4.tcp_max_orphans={2 * limit}"
    assert finding.risk.endswith(f"Each may hold 64 KiB: {size} when full.")
    assert "from 2 on it does nothing for a peer that answers with a closed window" in finding.remedy


# -- memory ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pages", "found"), [(199, Status.OK), (200, Status.WARNING), (284, Status.WARNING), (285, Status.CRITICAL)]
)
def test_memory_above_the_pressure_mark(pages: int, found: Status) -> None:
    now = looked(sysctls={"tcp_mem": "100 200 300"}, sockstat=AT_REST._replace(mem=pages))
    assert status(memory.PRESSURE, Window(now)) is found


def test_memory_is_not_judged_where_its_limit_is_not_visible_and_not_known_where_the_sysctls_are_not() -> None:
    _, not_judged = judge_findings(Window(looked()), [memory.PRESSURE])
    assert [it.reason for it in not_judged] == ["tcp_mem is not visible from this network namespace"]
    unread = looked()._replace(sources={"sysctl": "/proc/sys: refused"})
    assert status(memory.PRESSURE, Window(unread)) is Status.UNKNOWN
    without = looked(sysctls={"tcp_mem": "100 200 300"}, sockstat=None)
    assert status(memory.PRESSURE, Window(without)) is Status.UNKNOWN


@pytest.mark.parametrize(
    ("ports", "units", "sentence"),
    [
        (
            {"443": 82 << 20, "80": 8 << 20, "other": 10 << 20},
            {"nginx.service": 90 << 20, "none": 10 << 20, "other": 0},
            "Sockets of this network namespace hold 100 MiB: 90 % of it by nginx.service and 82 % of it by port 443.",
        ),
        ({"443": 3 << 20, "other": 1 << 20}, None,
         "Sockets of this network namespace hold 4 MiB: 75 % of it by port 443."),
        ({"443": 0, "other": 4 << 20}, {"gone": 4 << 20, "other": 0},
         "Sockets of this network namespace hold 4 MiB."),
    ],
)  # fmt: skip
def test_memory_pressure_names_the_unit_and_the_port_that_hold_most(
    ports: dict[str, int], units: dict[str, int] | None, sentence: str
) -> None:
    host = looked(sysctls=HOST | {"tcp_mem": "1000 2000 3000"}, sockstat=AT_REST._replace(mem=2500))
    assert host.detail is not None
    held = host._replace(detail=host.detail._replace(memory=Memory(10.0, ports, units, {})))
    (found,), _ = judge_findings(Window(held), [memory.PRESSURE])
    assert found.finding is not None
    assert sentence in found.finding.evidence
    (silent,), _ = judge_findings(Window(host), [memory.PRESSURE])
    assert silent.finding is not None
    assert len(silent.finding.evidence) == len(found.finding.evidence) - 1
