"""The share of established connections without keepalive: in the plugin's long text and beside tcp_keepalive_time."""

from __future__ import annotations

from collections.abc import Mapping

from exporter.health import keepalive
from exporter.health.judge import Judge
from exporter.health.thresholds import DEFAULTS, Result, Status
from exporter.health.window import Window
from exporter.nagios.details import explain
from exporter.snapshot import Snapshot
from tests.conftest import sample_situation

CLAUSE = "900 of 1000 established connections are idle without keepalive, so tcp_keepalive_time does nothing for them"
TIMERS = {"none": 900, "keepalive": 95, "retransmit": 4, "probe": 1}


def snapshot(timers: Mapping[str, int] | None) -> Snapshot:
    found = sample_situation("busy")
    assert found.detail is not None
    return found._replace(detail=found.detail._replace(timers=timers))


def test_the_clause_is_there_where_it_is_known_and_there_is_a_connection() -> None:
    assert keepalive.unprotected(snapshot(TIMERS)) == CLAUSE
    every = {"none": 0, "keepalive": 5, "retransmit": 0, "probe": 0}
    assert keepalive.unprotected(snapshot(every)) == "0 of 5 established connections are idle without keepalive"
    unknown = (snapshot(None), snapshot(dict.fromkeys(TIMERS, 0)), snapshot(None)._replace(detail=None))
    assert [keepalive.unprotected(it) for it in unknown] == ["", "", ""]


def test_the_plugin_explains_established_with_it_and_no_other_state() -> None:
    limit, states = DEFAULTS["established"], ("established", "close_wait")
    alerting = [Result(state, 1000, limit, Status.CRITICAL, limit.critical) for state in states]
    assert [line for line in explain(alerting, snapshot(TIMERS), {}, "6.18.0") if "keepalive," in line] == [CLAUSE]


def test_the_advice_on_the_sysctl_has_the_number_of_the_newest_sample() -> None:
    judge = Judge("6.18.0")

    def said(now: Snapshot) -> str:
        verdicts = judge.judge(Window(now), DEFAULTS, {}).verdicts
        return next(it.arithmetic for it in verdicts if it.name == "tcp_keepalive_time")

    first = snapshot(TIMERS)
    without = said(first._replace(detail=None))
    assert said(first) == f"{without}; {CLAUSE}"
    assert said(first._replace(detail=None)) == without
