"""Frames of ``show --watch``: what stands where, and that it fits every screen."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Mapping
from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.health.thresholds import Range, Status, Threshold
from exporter.sampling.sample import Pass, Sample
from exporter.tcpstate import NO_SOCKETS, StateCounts, TcpState
from exporter.terminal.frame import FrameContext, RecentCounts, Screen, frame
from exporter.terminal.table import Line
from tests.conftest import judge_situation, judged, sample_situation

MOMENT = FrameContext("host.example", "2023-11-14 22:13:20 UTC", now=100.0, asking=None)
SCREEN = Screen(100, 60)


published, advised = cache(sample_situation), cache(judge_situation)


def sample_of(situation: str, **changed: object) -> Sample:
    """What the loop has published at 100 monotonic seconds, with other fields in the snapshot."""
    snapshot = published(situation)._replace(**changed)  # type: ignore[arg-type]
    before = snapshot._replace(taken_at=snapshot.taken_at - 10)
    health = judged(snapshot, before) if changed else advised(situation)
    single = Sample.single(snapshot, health)
    return single._replace(counted_at=100.0, stale_after=3.0, passes={"light": Pass(0.01, 0.01, 1.0, 1, 1.0)})


def counts_of(**numbers: int) -> StateCounts:
    return tuple(numbers.get(state.label, 0) for state in TcpState)


def texts(lines: list[Line]) -> list[str]:
    return [line.text for line in lines]


def columns_of(text: str) -> int:
    return sum(2 if unicodedata.east_asian_width(character) in {"W", "F"} else 1 for character in text)


@pytest.mark.parametrize(("columns", "rows"), [(80, 24), (140, 60)])
def test_a_frame_of_a_flooded_host_at_two_sizes(columns: int, rows: int, golden: Callable[[str, str], None]) -> None:
    sample = sample_of("syn-flood")
    assert sample.snapshot.connections is not None
    now = sample.snapshot.connections.counts
    past = [counts_of(established=650, listen=12), None, *(tuple(n * part // 9 for n in now) for part in range(10))]
    lines = frame(sample, MOMENT, past, Screen(columns, rows))
    golden(f"syn-flood.frame-{columns}x{rows}", "".join(f"{line.text}\n" for line in lines))


HOSTS = st.text(st.one_of(st.characters(), st.sampled_from("漢\u0301\x1b\n\r\t\u202eé")), max_size=60)
COUNTS = st.tuples(*(st.integers(0, 2**31) for _ in TcpState))


@given(
    host=HOSTS,
    units=st.dictionaries(HOSTS, COUNTS, max_size=3),
    sources=st.dictionaries(HOSTS, st.none() | HOSTS, max_size=3),
    past=st.lists(st.none() | COUNTS, max_size=300),
    columns=st.integers(1, 300),
    rows=st.integers(1, 80),
    encoding=st.sampled_from(["utf-8", "ascii", "latin-1", "euc-jp"]),
    now=st.sampled_from([100.0, 200.0]),
)
def test_every_line_of_every_frame_fits_and_says_nothing_to_the_terminal(
    host: str,
    units: Mapping[str, StateCounts],
    sources: Mapping[str, str | None],
    past: list[StateCounts | None],
    columns: int,
    rows: int,
    encoding: str,
    now: float,
) -> None:
    sample = sample_of("busy")
    detail = sample.snapshot.detail
    assert detail is not None
    sample = sample._replace(snapshot=sample.snapshot._replace(detail=detail._replace(units=units), sources=sources))
    moment = FrameContext(host, "now", now, asking=host, bug=host)
    lines = texts(frame(sample, moment, past, Screen(columns, rows, encoding)))
    assert 1 <= len(lines) <= rows
    assert [line for line in lines if columns_of(line) > columns or not line.isprintable()] == []
    assert "".join(lines).encode(encoding).decode(encoding) == "".join(lines)


def test_a_frame_that_does_not_fit_has_no_rows_for_states_without_sockets() -> None:
    whole = texts(frame(sample_of("busy"), MOMENT, [], SCREEN))
    assert texts(frame(sample_of("busy"), MOMENT, [], Screen(100, len(whole)))) == whole
    short = texts(frame(sample_of("busy"), MOMENT, [], Screen(100, len(whole) - 1)))[:-1]
    assert [line.split()[0] for line in whole[:16] if line not in short] == ["CLOSED", "Read"]
    assert [line for line in short if line not in whole] == ["Not shown: 1 state without sockets."]


@pytest.mark.parametrize("less", [1, 2, 15])
def test_the_last_line_says_how_many_rows_are_hidden(less: int) -> None:
    short = texts(frame(sample_of("syn-flood"), MOMENT, [], Screen(80, 24)))
    rows = len(short) - less
    lines = texts(frame(sample_of("syn-flood"), MOMENT, [], Screen(80, rows)))
    assert lines == [*short[: rows - 1], f"... {less + 1} more rows"]


def test_a_state_that_had_sockets_lately_keeps_its_row_and_so_does_one_that_alerts() -> None:
    def states(past: list[StateCounts | None]) -> list[str]:
        lines = texts(frame(sample_of("syn-flood"), MOMENT, past, Screen(80, 20)))
        return [line.split()[0] for line in lines[3:6]]

    assert states([]) == ["ESTABLISHED", "SYN-RECEIVED", "LISTEN"]
    assert states([counts_of(close_wait=1), None]) == ["ESTABLISHED", "SYN-RECEIVED", "CLOSE-WAIT"]


def test_where_there_is_no_room_the_limit_that_alerts_is_first() -> None:
    snapshot = published("busy")
    health = judged(snapshot, thresholds={"orphans_ratio": Threshold(Range.parse("0"))})
    full = sample_of("busy")
    sample = full._replace(health=health)

    def limits(rows: int) -> list[str]:
        lines = texts(frame(sample, MOMENT, [], Screen(100, rows)))
        at = next(number for number, line in enumerate(lines) if line.startswith("LIMIT"))
        return [line.split("  ")[0] for line in lines[at + 1 : at + 3]]

    assert limits(60) == ["time-wait sockets", "orphans (host)"]
    assert limits(23) == ["orphans (host)", "time-wait sockets"]


def test_the_keys_stand_at_the_right_end_of_the_first_line() -> None:
    for columns in (30, 60, 100):
        (first, *_) = texts(frame(sample_of("busy"), MOMENT, [], Screen(columns, 60)))
        assert (len(first), first[-9:]) == (columns, "  q: quit")


def test_a_finding_is_wrapped_and_what_else_is_too_long_ends_with_an_ellipsis() -> None:
    lines = texts(frame(sample_of("syn-flood"), MOMENT, [], Screen(40, 60)))
    at = lines.index("WARNING   Many half-open connections:")
    assert lines[at + 1] == "          handshakes never complete"
    assert "LIMIT                            USED..." in lines


def test_what_is_wrong_stands_above_the_limits() -> None:
    sample = sample_of("syn-flood", sources={"netstat": "net/netstat: Permission denied (EACCES)"})
    lines = texts(frame(sample, MOMENT, [], SCREEN))
    found = [line for line in lines if line.startswith(("Read by", "FINDINGS", "Not readable", "LIMIT", "PORT"))]
    assert [line.split()[0] for line in found] == ["Read", "FINDINGS", "Not", "LIMIT", "PORT"]


def test_a_sparkline_goes_from_zero_to_the_highest_and_has_a_gap_where_nothing_is_known() -> None:
    past = [counts_of(listen=0), counts_of(listen=1), None, counts_of(listen=6), counts_of(listen=12)]

    def listening(encoding: str) -> Line:
        lines = frame(sample_of("busy"), MOMENT, past, Screen(72, 60, encoding))
        return next(line for line in lines if line.text.startswith("LISTEN"))

    assert listening("utf-8") == Line("LISTEN              12       ▁▂ ▅█")
    assert listening("ascii") == listening("latin-1") == Line("LISTEN              12       _. =#")


def test_a_wider_screen_shows_more_of_the_past() -> None:
    past = [counts_of(listen=number) for number in range(300)]

    def drawn(columns: int) -> int:
        lines = texts(frame(sample_of("busy"), MOMENT, past, Screen(columns, 60)))
        return len(next(line for line in lines if line.startswith("LISTEN")).split()[-1])

    assert [drawn(columns) for columns in (72, 80, 162, 1000)] == [10, 18, 100, 240]


def test_a_narrow_screen_has_no_sparklines_and_then_no_thresholds_but_always_the_status() -> None:
    past = [counts_of(established=number) for number in range(300)]

    def drawn(columns: int) -> str:
        lines = texts(frame(sample_of("busy"), MOMENT, past, Screen(columns, 60)))
        return next(line for line in lines if line.startswith("ESTABLISHED"))

    assert drawn(71) == drawn(59) == "ESTABLISHED        656  warning 600, critical 800  WARNING"
    assert drawn(58) == drawn(32) == "ESTABLISHED        656  WARNING"


def test_a_state_beyond_its_threshold_and_a_finding_have_their_colour() -> None:
    lines = frame(sample_of("busy"), MOMENT, [], SCREEN)
    assert [line.status for line in lines if line.text.startswith("ESTABLISHED")] == [Status.WARNING]
    flooded = frame(sample_of("syn-flood"), MOMENT, [], SCREEN)
    colored = [line.text.split()[0] for line in flooded if line.status is not Status.OK]
    assert colored == ["SYN-RECEIVED", "LISTEN", "WARNING"]


def test_numbers_that_are_not_known_are_question_marks() -> None:
    lines = texts(frame(sample_of("busy", connections=None), MOMENT, [None], SCREEN))
    assert next(line.split() for line in lines if line.startswith("LISTEN")) == ["LISTEN", "?", "UNKNOWN"]


@pytest.mark.parametrize(("asking", "waiting"), [("snmp", ", waiting for snmp"), (None, "")])
def test_of_a_sample_that_is_too_old_or_not_there_only_that_is_said(asking: str | None, waiting: str) -> None:
    moment = MOMENT._replace(now=104.0, asking=asking)
    assert frame(sample_of("busy"), moment, [NO_SOCKETS], SCREEN) == [
        Line(f"{'TCP on host.example':<93}q: quit"),
        Line(""),
        Line(f"The last sample is 4 s old{waiting}.", Status.UNKNOWN),
    ]
    assert frame(None, moment, [], SCREEN)[2:] == [Line(f"There is no sample yet{waiting}.", Status.UNKNOWN)]


def test_a_bug_is_said() -> None:
    moment = MOMENT._replace(bug="sample failed: KeyError: 'x'")
    said = Line("A bug of this program: sample failed: KeyError: 'x'", Status.CRITICAL)
    assert frame(sample_of("busy"), moment, [], SCREEN)[1] == said
    assert frame(None, moment, [], SCREEN)[3] == said


def test_samples_that_did_not_come_are_gaps() -> None:
    one, two = counts_of(listen=1), counts_of(listen=2)
    lately = RecentCounts()
    for at, counts, interval in (
        (10.0, one, 1.0), (11.1, two, 1.0), (11.9, None, 1.0), (13.0, one, 1.0),  # a little early or late
        (16.05, two, 4.0),  # two are missing
        (20.0, one, 1.0),  # the interval was stretched: none is
    ):  # fmt: skip
        lately.add(at, counts, interval)
    assert [*lately.counts] == [one, two, None, one, None, None, two, one]
    lately.add(10**6, two, 1.0)
    assert {*lately.counts} == {None, two}
