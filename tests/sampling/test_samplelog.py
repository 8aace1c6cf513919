"""What the log says when something changes, and that it says it once."""

from __future__ import annotations

from exporter.health.finding import Finding
from exporter.health.thresholds import Range, Status, Threshold
from exporter.kernel.sysctl import parse
from exporter.sampling.samplelog import HOLD_SECONDS, Event, LoggedState, changes
from exporter.snapshot import Connections, Snapshot
from exporter.tcpstate import TcpState
from tests.conftest import judged, with_findings

THRESHOLDS = {"established": Threshold(Range.parse("600"), Range.parse("800"))}


def snapshot(established: int | None = 0, **sysctls: str) -> Snapshot:
    counts = tuple(established if state is TcpState.ESTABLISHED and established else 0 for state in TcpState)
    return Snapshot(
        taken_at=0.0,
        connections=None if established is None else Connections(counts, "netlink", derived=True),
        counters={},
        sockstat=None,
        sysctls={name: parse(name, text) for name, text in sysctls.items()},
        page_size=4096,
        sources={},
    )


def finding(severity: Status) -> Finding:
    return Finding("leak", severity, "It leaks", ("57 of them.",), "why", "remedy", None, "risk", ())


def follow(*seen: tuple[float, Snapshot, Finding | None]) -> list[tuple[float, Event]]:
    logged, events = LoggedState(), []
    for now, taken, leak in seen:
        health = with_findings(judged(taken, thresholds=THRESHOLDS), *(() if leak is None else (leak,)))
        logged, found = changes(logged, taken, health, now)
        events += [(now, event) for event in found]
    return events


def test_a_threshold_is_said_to_be_crossed_at_once_and_kept_again_when_that_lasts() -> None:
    values = {0: 500, 1: 601, 2: 600, 3: 700, 4: 801, 5: 500, 10: 500, 15: 500, 16: 500}
    crossed, kept = "threshold crossed", "back within threshold"
    worse = [(601, "WARNING", "OK", "> 600"), (801, "CRITICAL", "WARNING", "> 800")]
    fields = [dict(zip(("value", "status", "was", "limit"), row, strict=True)) for row in worse]
    assert follow(*((now, snapshot(value), None) for now, value in values.items())) == [
        (1, Event(Status.WARNING, crossed, {"measure": "established", **fields[0]})),
        (4, Event(Status.CRITICAL, crossed, {"measure": "established", **fields[1]})),
        (15, Event(Status.OK, kept, {"measure": "established", "value": 500, "status": "OK", "was": "CRITICAL"})),
    ]  # fmt: skip


def test_a_number_on_its_threshold_does_not_fill_the_log() -> None:
    flapping = ((float(now), snapshot(600 + now % 2), None) for now in range(100))
    assert len(follow(*flapping)) == 1


def test_of_a_measure_that_is_not_known_nothing_is_said() -> None:
    events = follow((0, snapshot(700), None), *((now, snapshot(None), None) for now in (1.0, 20.0, 40.0)))
    assert [event.text for _, event in events] == ["threshold crossed"]


def test_a_finding_is_said_when_it_appears_gets_worse_and_is_gone_for_good() -> None:
    warning, critical = finding(Status.WARNING), finding(Status.CRITICAL)
    events = follow(
        (0, snapshot(), warning), (1, snapshot(), warning), (2, snapshot(), None), (3, snapshot(), critical),
        (4, snapshot(), None), (4 + HOLD_SECONDS, snapshot(), None), (30, snapshot(), None),
    )  # fmt: skip
    said = {"what": "It leaks", "evidence": "57 of them."}
    worse = {"finding": "leak", "severity": "CRITICAL", "was": "WARNING"}
    assert events == [
        (0, Event(Status.WARNING, "finding appeared", {"finding": "leak", "severity": "WARNING", **said})),
        (3, Event(Status.CRITICAL, "finding changed severity", {**worse, **said})),
        (14, Event(Status.OK, "finding gone", {"finding": "leak", "severity": "OK", "was": "CRITICAL"})),
    ]


def test_a_sysctl_that_changes_is_said_with_both_values_and_one_that_comes_or_goes_is_not() -> None:
    events = follow(
        (0, snapshot(tcp_rmem="1 2 3", tcp_sack="1"), None),
        (1, snapshot(), None),
        (2, snapshot(tcp_rmem="1 2 4", tcp_dsack="1"), None),
        (3, snapshot(tcp_rmem="1 2 4", tcp_dsack="1"), None),
    )
    assert events == [(2, Event(Status.OK, "sysctl changed", {"name": "tcp_rmem", "from": "1 2 3", "to": "1 2 4"}))]
