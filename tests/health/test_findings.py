"""Findings from snapshots: when there is one, with which words, and when there is none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.details import CloseWait, Detail
from exporter.health.finding import Finding
from exporter.health.findings import RULES
from exporter.health.judge import judge_findings, worst_first
from exporter.health.thresholds import Status
from exporter.health.window import Window
from exporter.kernel.sysctl import parse
from exporter.snapshot import Connections, Listener, Snapshot, Sockstat
from exporter.tcpstate import KNOWN_STATES, NO_SOCKETS, StateCounts, TcpState
from tests.conftest import SITUATIONS, sample_situation

SYSCTLS = {
    "tcp_syncookies": "1",
    "net.core.somaxconn": "4096",
    "tcp_max_tw_buckets": "1000",
    "tcp_max_orphans": "1000",
    "tcp_mem": "100 200 300",
    "tcp_tw_reuse": "2",
    "net.ipv4.ip_local_port_range": "1024 65535",
}


def counts(**by_label: int) -> StateCounts:
    return tuple(by_label.get(state.label, 0) for state in TcpState)


def snapshot(
    taken_at: float = 100.0,
    states: Mapping[str, int] | None = None,
    counters: Mapping[str, int] | None = None,
    sysctls: Mapping[str, str] = SYSCTLS,
    listeners: tuple[Listener, ...] | None = (),
    sockstat: Sockstat | None = None,
    detail: Detail | None = None,
) -> Snapshot:
    return Snapshot(
        taken_at=taken_at,
        connections=Connections(counts(**(states or {})), "netlink", derived=True),
        counters=counters or {},
        sockstat=sockstat or Sockstat(inuse=0, orphan=0, tw=0, alloc=0, mem=0),
        sysctls={name: parse(name, text) for name, text in sysctls.items()},
        page_size=1 << 20,
        sources={},
        listeners=listeners,
        detail=detail,
    )


def detail(**groups: Mapping[str, StateCounts]) -> Detail:
    return Detail(
        taken_at=100.0, families={}, ports=groups.get("ports", {}), remote_ports={}, units=groups.get("units"),
        receive_queue=0, send_queue=0, ephemeral_used=0, ephemeral_available=100, ephemeral_towards="", folded={},
    )  # fmt: skip


def findings(now: Snapshot, past: Sequence[Snapshot] = ()) -> tuple[Finding, ...]:
    judgements, _ = judge_findings(Window(now, past), RULES)
    return worst_first(judgement.finding for judgement in judgements)


def names(now: Snapshot, *past: Snapshot) -> list[tuple[str, str]]:
    return [(finding.name, finding.severity.name) for finding in findings(now, past)]


FULL = Listener(
    "::", 8080, sockets=1, accept_queue=17, accept_limit=16, syn_recv=40, fullest_queue=17, fullest_limit=16
)
FLOODED = FULL._replace(accept_queue=0, fullest_queue=0)


def cookies(sent: int, decided: int, received: int = 0) -> dict[str, int]:
    return {
        "TcpExt.SyncookiesSent": sent,
        "TcpExt.TCPReqQFullDoCookies": decided,
        "TcpExt.SyncookiesRecv": received,
        "Tcp.PassiveOpens": 0,
    }


def test_cookies_that_do_not_come_back_are_a_flood_and_those_that_do_a_small_queue() -> None:
    before = snapshot(90.0, counters=cookies(0, 0))
    assert names(snapshot(counters=cookies(500, 500, 3)), before) == [("syn_flood", "WARNING")]
    assert names(snapshot(counters=cookies(500, 500, 490)), before) == [("syn_queue_too_small", "WARNING")]


def test_half_open_connections_that_the_rate_of_handshakes_explains_are_normal() -> None:
    before = snapshot(90.0, counters=cookies(0, 0))
    busy = snapshot(states={"syn_recv": 150}, counters=cookies(0, 0) | {"Tcp.PassiveOpens": 30_000})
    stuck = snapshot(states={"syn_recv": 150}, counters=cookies(0, 0) | {"Tcp.PassiveOpens": 300})
    assert names(busy, before) == []
    assert names(stuck, before) == [("half_open_connections", "WARNING")]
    assert names(stuck) == []


def test_evidence_says_how_old_the_counts_of_a_walk_are_that_is_not_made_each_second() -> None:
    before = snapshot(90.0, counters=cookies(0, 0))
    stuck = snapshot(states={"syn_recv": 150}, counters=cookies(0, 0) | {"Tcp.PassiveOpens": 300})
    fresh = (TcpState.ESTABLISHED, TcpState.TIME_WAIT, TcpState.LISTEN)

    def evidence(age: float) -> list[str]:
        """What the evidence has at this age of the walk that it has not where there is no age."""
        assert stuck.connections is not None
        aged = stuck._replace(connections=stuck.connections._replace(walk_age=age, fresh=fresh))
        (young,), (old,) = findings(stuck, [before]), findings(aged, [before])
        return [it for it in old.evidence if it not in young.evidence]

    assert evidence(1.0) == []
    assert evidence(14.2) == ["Sockets in SYN-RECEIVED were counted 14 s before the rest."]


def sockstat(**numbers: int) -> Sockstat:
    return Sockstat(**{"inuse": 0, "orphan": 0, "tw": 0, "alloc": 0, "mem": 0, **numbers})


def test_limits_are_told_when_they_are_near() -> None:
    far, near = sockstat(tw=799, orphan=249, mem=199), sockstat(tw=800, orphan=250, mem=200)
    assert names(snapshot(sockstat=far)) == []
    assert names(snapshot(sockstat=near)) == [
        ("memory_pressure", "WARNING"), ("orphans_near_limit", "WARNING"), ("time_wait_near_limit", "WARNING"),
    ]  # fmt: skip
    assert names(snapshot(sockstat=sockstat(orphan=500, mem=290))) == [
        ("memory_pressure", "CRITICAL"), ("orphans_near_limit", "CRITICAL"),
    ]  # fmt: skip


def test_a_limit_that_is_none_or_not_there_is_never_near() -> None:
    none = {"tcp_max_tw_buckets": "-1", "tcp_max_orphans": "0"}
    assert names(snapshot(sysctls=none, sockstat=sockstat(tw=10**6, orphan=10**6, mem=10**6))) == []
    assert names(snapshot(sysctls={}, sockstat=sockstat(tw=10**6, orphan=10**6, mem=10**6))) == []


def test_the_owner_of_a_leak_is_the_unit_before_the_port_and_never_other() -> None:
    held, few = counts(close_wait=90), counts(close_wait=3)
    groups = detail(ports={"other": held, "8080": few}, units={"none": held, "app.service": few})
    groups = groups._replace(close_wait=CloseWait(200, 200, 200, 200, 0))
    (finding,) = findings(snapshot(states={"close_wait": 200}, detail=groups))
    assert finding.what == "The application of unit app.service does not close connections that its peers have closed"
    assert finding.evidence[2:] == (
        "3 of them belong to unit app.service, as of the last detail pass.",
        "3 of them belong to local port 8080, as of the last detail pass.",
    )


@pytest.mark.parametrize("seconds", [0.0, -5.0])
def test_without_time_between_two_counts_nothing_rose(seconds: float) -> None:
    before = snapshot(100.0 - seconds, counters={"TcpExt.ListenOverflows": 5})
    assert names(snapshot(counters={"TcpExt.ListenOverflows": 50}), before) == []


def test_a_counter_that_began_anew_did_not_rise() -> None:
    before = snapshot(90.0, counters={"TcpExt.ListenOverflows": 50})
    assert names(snapshot(counters={"TcpExt.ListenOverflows": 5}), before) == []


def test_where_nothing_could_be_read_nothing_is_found() -> None:
    blind = snapshot(listeners=None, sysctls={})._replace(connections=None, sockstat=None)
    assert findings(blind, (blind._replace(taken_at=90.0),)) == ()


def test_a_finding_that_could_not_be_judged_is_unknown_with_the_reason() -> None:
    def unknown(now: Snapshot, *past: Snapshot) -> dict[str, str]:
        judgements, _ = judge_findings(Window(now, past), RULES)
        return {it.name: it.reason for it in judgements if it.status is Status.UNKNOWN}

    before = snapshot(90.0)
    failed = {"netstat": "it is gone", "procfs": None}
    assert unknown(snapshot(taken_at=100.0)._replace(sources=failed), before)["accept_queue_full"] == "it is gone"
    blind = snapshot()._replace(connections=None, sources={"procfs": "it is gone"})
    assert unknown(blind, before)["close_wait_leak"] == "no reader could count the sockets"
    alone = unknown(snapshot(counters={"TcpExt.ListenOverflows": 1}))
    assert alone["accept_queue_full"] == "a rate needs a second sample"


def test_a_bug_in_one_rule_costs_no_other_finding() -> None:
    def judge(_: Window) -> Finding | None:
        raise ZeroDivisionError("division by zero")

    rules, broke = [RULES[0]._replace(judge=judge), *RULES[1:]], list[str]()
    full = snapshot(sockstat=sockstat(mem=290))
    judgements, _ = judge_findings(Window(full), rules, broke.append)
    by_name = {it.name: it for it in judgements}
    bug = by_name["accept_queue_full"]
    assert (bug.status, bug.reason) == (Status.UNKNOWN, "this is a bug: ZeroDivisionError division by zero")
    assert (by_name["memory_pressure"].status, broke) == (Status.CRITICAL, ["accept_queue_full"])


def test_a_finding_whose_subject_does_not_exist_here_is_not_judged_and_not_unknown() -> None:
    now = snapshot(sysctls={})._replace(sources={"sysctl": None, "netstat": None, "snmp": None})
    judgements, not_judged = judge_findings(Window(now, (now._replace(taken_at=90.0),)), RULES)
    assert {it.name: it.reason for it in not_judged}["memory_pressure"] == (
        "tcp_mem is not visible from this network namespace"
    )
    assert "memory_pressure" not in {it.name for it in judgements}


NUMBERS = st.integers(0, 2**40)
COUNTERS = st.fixed_dictionaries(
    {},
    optional=dict.fromkeys(
        (
            "TcpExt.ListenOverflows", "TcpExt.SyncookiesSent", "TcpExt.SyncookiesRecv", "TcpExt.TCPReqQFullDoCookies",
            "TcpExt.TCPReqQFullDrop", "TcpExt.TCPTimeWaitOverflow", "TcpExt.TCPAbortOnMemory",
            "TcpExt.TCPMemoryPressures", "Tcp.PassiveOpens",
        ),
        NUMBERS,
    ),
)  # fmt: skip
LISTENERS = st.lists(
    st.builds(Listener, st.sampled_from(["::", "0.0.0.0"]), st.integers(1, 65535), st.integers(1, 8), NUMBERS, NUMBERS,
              NUMBERS, NUMBERS, NUMBERS),
    max_size=5,
).map(tuple)  # fmt: skip
SNAPSHOTS = st.builds(
    snapshot,
    st.floats(0, 1e9),
    st.dictionaries(st.sampled_from([state.label for state in KNOWN_STATES]), NUMBERS),
    COUNTERS,
    st.fixed_dictionaries({}, optional={name: st.just(text) for name, text in SYSCTLS.items()}),
    st.none() | LISTENERS,
    st.builds(Sockstat, NUMBERS, NUMBERS, NUMBERS, NUMBERS, NUMBERS),
)


@given(SNAPSHOTS, st.lists(SNAPSHOTS, max_size=3))
def test_every_finding_has_evidence_in_numbers_and_the_worst_is_first(now: Snapshot, past: list[Snapshot]) -> None:
    found = findings(now, past)
    assert len({finding.name for finding in found}) == len(found)
    severities = [finding.severity for finding in found]
    assert severities == sorted(severities, key=lambda severity: severity is not Status.CRITICAL)
    for finding in found:
        assert finding.evidence
        assert any(character.isdigit() for character in finding.evidence[0])
        assert all(text.endswith((".", ";")) for text in (*finding.evidence, finding.why, finding.remedy, finding.risk))
        assert finding.states


@pytest.mark.parametrize("situation", sorted(set(SITUATIONS) - {"syn-flood"}))
def test_the_recorded_hosts_have_no_findings(situation: str) -> None:
    now = sample_situation(situation)
    assert findings(now, (now._replace(taken_at=now.taken_at - 10),)) == ()


def test_no_sockets_are_no_findings() -> None:
    assert findings(snapshot()._replace(connections=Connections(NO_SOCKETS, "netlink", derived=True))) == ()


def test_what_psutil_does_not_tell_is_not_judged_and_not_unknown_for_ever() -> None:
    counted = Connections(NO_SOCKETS, "psutil", derived=False)
    now = snapshot()._replace(connections=counted, detail=None, sources={"detail": "detail: psutil: it does not list"})
    _, not_judged = judge_findings(Window(now, (now._replace(taken_at=90.0),)), RULES)
    assert {"dead_peers", "ephemeral_ports_near_limit", "descriptor_leak"} <= {it.name for it in not_judged}
