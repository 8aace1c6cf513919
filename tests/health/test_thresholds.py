"""Ranges by the Monitoring Plugins guidelines, and the order of statuses."""

from __future__ import annotations

import math
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.errors import RangeError
from exporter.health.thresholds import Range, Status, Threshold, contradiction, evaluate, worst

INF = math.inf


@pytest.mark.parametrize(
    ("text", "start", "end", "inside"),
    [
        ("6", 0, 6, False),
        ("10", 0, 10, False),
        ("10:", 10, INF, False),
        ("~:10", -INF, 10, False),
        ("10:20", 10, 20, False),
        ("@10:20", 10, 20, True),
        ("@10", 0, 10, True),
        (":5.75", 0, 5.75, False),
        ("-7:23", -7, 23, False),
        ("~:-95.99", -INF, -95.99, False),
        ("12345678901234567890:", 12345678901234567890.0, INF, False),
        ("~:0", -INF, 0, False),
        ("@0:657.8210567", 0, 657.8210567, True),
        ("@1:1", 1, 1, True),
        ("1:1", 1, 1, False),
        ("~:", -INF, INF, False),
        ("@~:", -INF, INF, True),
        ("+5", 0, 5, False),
        (".5", 0, 0.5, False),
        ("5.", 0, 5, False),
        ("1e3", 0, 1000, False),
        (":", 0, INF, False),
    ],
)
def test_a_range_is_read_as_the_guidelines_say(text: str, start: float, end: float, inside: bool) -> None:
    assert Range.parse(text) == Range(start, end, inside, text)


def test_blanks_around_a_range_do_not_count() -> None:
    assert Range.parse(" 10:20\t") == Range(10, 20, False, "10:20")


@pytest.mark.parametrize(
    "text",
    [
        "@",
        "~",
        "10:~",
        "1:2:3",
        "@@1",
        "abc",
        "nan",
        "inf",
        "0x10",
        "1_000",
        "\u0661",
        "1 0",
        "1:12%%",
        "",
        "1e999",
        "-1e999:",
    ],
)
def test_what_is_no_range_is_refused_with_the_text(text: str) -> None:
    with pytest.raises(RangeError) as raised:
        Range.parse(text)
    assert str(raised.value).startswith(f"{text!r} is not a range: ")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("2:1", "'2:1' is not a range: its start 2 is above its end 1"),
        ("-5", "'-5' is not a range: its start 0 is above its end -5; write ~:-5 or -5:"),
        (
            "/root:300",
            "'/root:300' is not a range: expected [@][start:][end], such as 10, 10:, ~:10 or @5:8; "
            "quote a leading ~ from the shell",
        ),
    ],
)
def test_a_likely_mistake_gets_a_hint(text: str, message: str) -> None:
    with pytest.raises(RangeError) as raised:
        Range.parse(text)
    assert str(raised.value) == message


@pytest.mark.parametrize(
    ("text", "quiet", "alerting"),
    [
        ("10", [0, 10], [-1, 11]),
        ("10:", [10, 1e9], [9.99]),
        ("~:10", [-1e9, 10], [10.01]),
        ("10:20", [10, 20], [9, 21]),
        ("@10:20", [9.99, 20.01], [10, 20]),
        ("12345678901234567890:", [12345678901234567890, 2e19], [1e19]),
        ("~:0", [-10, 0], [0.5]),
        ("@0:657.8210567", [-2], [32.88, 657.8210567, 0]),
        ("@1:1", [0.5, 5.2], [1]),
        ("1:1", [1], [0.5, 5.2]),
        ("~:", [-1e300, 0, 1e300], [math.nan]),
        ("@~:", [], [-1e300, 0, 1e300, math.nan]),
    ],
)
def test_end_points_are_inside_and_no_number_always_alerts(
    text: str, quiet: list[float], alerting: list[float]
) -> None:
    limit = Range.parse(text)
    assert ([limit.alerts(x) for x in quiet], [limit.alerts(x) for x in alerting]) == (
        [False] * len(quiet),
        [True] * len(alerting),
    )


@pytest.mark.parametrize(
    ("warning", "critical", "value", "status"),
    [
        ("10", "20", 21, Status.CRITICAL),
        ("10", "20", 11, Status.WARNING),
        ("10", "20", -1, Status.CRITICAL),
        ("~:10", "~:20", -1, Status.OK),
        ("10:", "20", 9, Status.WARNING),
        ("10:", "20", 21, Status.CRITICAL),
        ("10:", "20", -1, Status.CRITICAL),
        (None, "1:", 0, Status.CRITICAL),
        ("~:0", "10", 1, Status.WARNING),
        ("~:0", "10", 11, Status.CRITICAL),
        ("~:0", "10", -1, Status.CRITICAL),
        (None, "5:6", 4, Status.CRITICAL),
        (None, "5:6", 7, Status.CRITICAL),
        (None, "@10:20", 9, Status.OK),
        (None, "@10:20", 10, Status.CRITICAL),
        (None, "@10:20", 20, Status.CRITICAL),
        (None, "@10:20", 21, Status.OK),
        ("30", "60", 15.3, Status.OK),
        ("30", "60", 30.0001, Status.WARNING),
        ("30", "60", 69, Status.CRITICAL),
        *[
            ("-10:-2", "-30:20", value, status)
            for value, status in [
                (-31, Status.CRITICAL),
                (-29, Status.WARNING),
                (-11, Status.WARNING),
                (-10, Status.OK),
                (-2, Status.OK),
                (-1, Status.WARNING),
                (19, Status.WARNING),
                (21, Status.CRITICAL),
            ]
        ],
        (None, None, 1e9, Status.OK),
        (None, "80", 81, Status.CRITICAL),
        ("5:33", None, 4, Status.WARNING),
        ("600", "800", 600, Status.OK),
        ("600", "800", 601, Status.WARNING),
        ("600", "800", 801, Status.CRITICAL),
        ("600", "800", None, Status.UNKNOWN),
        (None, None, None, Status.UNKNOWN),
        ("600", "800", math.nan, Status.UNKNOWN),
    ],
)
def test_critical_is_judged_before_warning(
    warning: str | None, critical: str | None, value: float | None, status: Status
) -> None:
    threshold = Threshold(warning and Range.parse(warning), critical and Range.parse(critical))  # type: ignore[arg-type]  # "" is not in the table
    assert threshold.judge(value)[0] is status


def test_the_worst_of_several_is_ok_unknown_warning_critical_and_of_none_unknown() -> None:
    order = [Status.OK, Status.UNKNOWN, Status.WARNING, Status.CRITICAL]
    assert {(a, b): worst([a, b]) for a, b in product(order, order)} == {
        (a, b): order[max(order.index(a), order.index(b))] for a, b in product(order, order)
    }
    assert worst([]) is Status.UNKNOWN


@pytest.mark.parametrize(
    ("text", "value", "reason"),
    [("800", 812, "> 800"), ("10:", 4, "< 10"), ("@5:8", 6, "in 5:8"), ("~:0.8", 0.9, "> 0.8"), ("3", -1, "< 0")],
)
def test_a_reason_is_the_bound_that_was_crossed(text: str, value: float, reason: str) -> None:
    assert Range.parse(text).reason(value) == reason


@pytest.mark.parametrize(("text", "upper"), [("800", 800), ("10:20", 20), ("10:", None), ("@5:8", None), ("~:7", 7)])
def test_the_upper_limit_is_what_a_graph_can_draw(text: str, upper: float | None) -> None:
    assert Range.parse(text).upper == upper


def test_a_measure_without_threshold_is_ok() -> None:
    (result,) = evaluate({"total": 5.0}, {})
    assert (result.status, result.violated, result.threshold) == (Status.OK, None, Threshold())


@given(st.floats(allow_nan=False, allow_infinity=False), st.floats(allow_nan=False, allow_infinity=False))
def test_any_two_numbers_in_order_make_a_range_that_alerts_outside_them(a: float, b: float) -> None:
    low, high = sorted((a, b))
    limit = Range.parse(f"{low!r}:{high!r}")
    assert (limit.start, limit.end, limit.alerts(low), limit.alerts(high)) == (low, high, False, False)


@given(st.text(max_size=30))
def test_any_text_is_a_range_or_a_range_error(text: str) -> None:
    try:
        assert Range.parse(text).text == text.strip(" \t")
    except RangeError as error:
        assert repr(text) in str(error)


@pytest.mark.parametrize(
    ("warning", "critical"),
    [
        ("800", "600"),
        ("5:", "10:"),
        ("10", "~:5"),  # below 0 there is no value of a measure
        ("@5:8", "@1:9"),
        ("@5:8", "4"),
        ("5:10", "6:9"),
    ],
)
def test_a_warning_that_critical_always_hides_is_a_contradiction(warning: str, critical: str) -> None:
    assert contradiction(Threshold(Range.parse(warning), Range.parse(critical))) == (
        f"{warning!r} can never be seen: critical {critical!r} alerts on all its values; "
        "expected a warning that alerts earlier"
    )


@pytest.mark.parametrize(
    ("warning", "critical"),
    [("600", "800"), ("10:", "5:"), ("800", "800"), ("5:", "10"), ("@5:8", "8"), ("~:", "5"), (None, "5"), ("5", None)],
)
def test_a_warning_that_can_be_seen_or_is_switched_off_is_no_contradiction(
    warning: str | None, critical: str | None
) -> None:
    ranges = [None if text is None else Range.parse(text) for text in (warning, critical)]
    assert contradiction(Threshold(*ranges)) is None


BOUNDS = st.integers(-3, 8)
SMALL_RANGES = st.builds(
    lambda form, bounds: Range.parse(form.format(*sorted(bounds))),
    st.sampled_from(["{0}:{1}", "~:{1}", "{0}:", "@{0}:{1}", "@~:{1}", "@{0}:", "~:"]),
    st.tuples(BOUNDS, BOUNDS),
)
VALUES = [half / 2 for half in range(20)]  # every bound, what lies between two of them, and what lies above all


@given(SMALL_RANGES, SMALL_RANGES)
def test_a_contradiction_is_what_trying_every_value_finds(warning: Range, critical: Range) -> None:
    early, late = ({value for value in VALUES if limits.alerts(value)} for limits in (warning, critical))
    assert (contradiction(Threshold(warning, critical)) is not None) == (bool(early) and early < late)
