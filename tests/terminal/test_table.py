"""The table of ``show``; what it says about each situation is in the goldens."""

from __future__ import annotations

from exporter.health.thresholds import Range, Threshold
from exporter.terminal import table
from tests.conftest import judged, sample_situation, with_findings


def rows(text: str, *names: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith(names)]


def test_names_from_the_host_say_nothing_to_the_terminal() -> None:
    snapshot = sample_situation("busy")
    assert snapshot.detail is not None
    counts = snapshot.detail.ports["443"]
    hostile = snapshot._replace(
        detail=snapshot.detail._replace(units={"a\x1b[31m\n.service": counts}), sources={"snmp": "\x1b]0;title\x07"}
    )
    text = table.render(hostile, with_findings(judged(hostile)), "host\x1b[2J", "now", color=False)
    assert "\x1b" not in text
    assert rows(text, "TCP on", "a?", "  ?]") == [
        "TCP on host?[2J, now",
        "a?[31m?.service                   694  established 650, fin_wait2 12, fin_wait1 6",
        "  ?]0;title?",
    ]


def test_a_line_beyond_its_threshold_is_coloured_whole_and_only_where_colour_is_wanted() -> None:
    thresholds = {"established": Threshold(None, Range.parse("600")), "total": Threshold(Range.parse("700"))}

    def said(*, color: bool) -> list[str]:
        snapshot = sample_situation("busy")
        health = with_findings(judged(snapshot, thresholds=thresholds))
        text = table.render(snapshot, health, "host", "now", color=color)
        return rows(text, "ESTABLISHED", "total", "\x1b")

    plain = [
        "ESTABLISHED        656  critical 600               CRITICAL",
        "total              728  warning 700                WARNING",
    ]
    assert said(color=False) == plain
    assert said(color=True) == [f"\x1b[31;1m{plain[0]}\x1b[0m", f"\x1b[33m{plain[1]}\x1b[0m"]
