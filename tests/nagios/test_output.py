"""The plugin's text, as Nagios, NRPE and Icinga read it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from exporter.health.thresholds import Range, Result, Status, Threshold, evaluate
from exporter.nagios.output import Item, clean, failure, number, performance_data, report

LIMITS = {
    "established": Threshold(Range.parse("600"), Range.parse("800")),
    "close_wait": Threshold(Range.parse("@5:8"), None),
}


def results(**values: float | None) -> list[Result]:
    return evaluate(values, LIMITS)


def test_one_measure_that_alerts() -> None:
    judged = results(established=812)
    assert report(judged, judged) == (
        Status.CRITICAL,
        "TCP STATES CRITICAL: established 812 (> 800) | established=812;600;800;0;",
    )


def test_all_measures_are_named_when_none_alerts() -> None:
    judged = results(established=12, close_wait=0)
    assert report(judged, judged) == (
        Status.OK,
        "TCP STATES OK: established 12, close_wait 0 | established=12;600;800;0; close_wait=0;@5:8;;0;",
    )


def test_the_worst_is_named_first_and_what_is_fine_is_not() -> None:
    judged = results(close_wait=6, listen=3, established=801)
    assert report(judged, [])[1] == "TCP STATES CRITICAL: established 801 (> 800), close_wait 6 (in 5:8)"


def test_an_unknown_measure_is_unknown_and_left_out_of_the_performance_data() -> None:
    judged = results(established=None, close_wait=0)
    assert report(judged, judged, reasons={"established": "netlink: no reply within 5 s"}) == (
        Status.UNKNOWN,
        "TCP STATES UNKNOWN: established unknown: netlink: no reply within 5 s | close_wait=0;@5:8;;0;",
    )


def test_findings_come_before_measures_of_the_same_status_and_first_in_the_performance_data() -> None:
    judged = results(close_wait=6, established=3)
    found = Item(Status.WARNING, "findings 1 (It leaks)", "findings=1;;;0;")
    assert report(judged, judged, findings=found) == (
        Status.WARNING,
        "TCP STATES WARNING: findings 1 (It leaks), close_wait 6 (in 5:8)"
        " | findings=1;;;0; close_wait=6;@5:8;;0; established=3;600;800;0;",
    )
    assert report([], judged, findings=found)[1].startswith("TCP STATES WARNING: findings 1 (It leaks) | findings=1;")


def test_without_findings_the_measures_are_named_first() -> None:
    judged = results(established=3)
    assert report(judged, [], findings=Item(Status.OK, "no findings", "findings=0;;;0;")) == (
        Status.OK,
        "TCP STATES OK: established 3, no findings | findings=0;;;0;",
    )


def test_findings_that_could_not_be_judged_are_worse_than_ok_and_hide_no_alert() -> None:
    unknown = Item(Status.UNKNOWN, "findings unknown (x not judged: y)")
    assert report(results(established=3), [], findings=unknown)[0] is Status.UNKNOWN
    assert report(results(established=601), [], findings=unknown) == (
        Status.WARNING,
        "TCP STATES WARNING: established 601 (> 600), findings unknown (x not judged: y)",
    )


def test_an_answer_too_long_for_nrpe_is_cut_visibly() -> None:
    text = report(results(established=1), [], ["é" * 3000])[1]
    assert (len(text.encode()) <= 4096, text[-3:]) == (True, "...")


def test_one_reason_of_all_that_alerts_ends_the_line() -> None:
    judged = results(established=None, listen=None)
    reasons = dict.fromkeys(("established", "listen"), "no /proc")
    assert report(judged, [], reasons=reasons)[1] == (
        "TCP STATES UNKNOWN: established unknown, listen unknown: no /proc"
    )


def test_reasons_that_differ_or_are_not_all_there_is_to_say_stand_with_their_measure() -> None:
    judged = results(established=None, listen=None, close_wait=6)
    assert report(judged, [], reasons={"established": "no /proc", "close_wait": "A, B"})[1] == (
        "TCP STATES WARNING: close_wait 6 (in 5:8: A, B), established unknown (no /proc), listen unknown"
    )
    found = Item(Status.WARNING, "findings 1 (It leaks)")
    assert report(results(listen=None), [], reasons={"listen": "no /proc"}, findings=found)[1] == (
        "TCP STATES WARNING: findings 1 (It leaks), listen unknown (no /proc)"
    )


def test_details_follow_the_first_line() -> None:
    judged = results(established=1)
    assert report(judged, [], ["a|b\nc", "d"])[1] == "TCP STATES OK: established 1\na b c\nd"


def test_a_failure_is_one_line() -> None:
    assert failure(Status.UNKNOWN, "a\nb|c") == "TCP STATES UNKNOWN: a b c"


def test_a_line_too_long_for_nrpe_is_cut_visibly() -> None:
    text = failure(Status.UNKNOWN, "x" * 5000)
    assert (len(text), text[-3:]) == (1000, "...")


def test_performance_data_is_cut_between_items() -> None:
    judged = results(established=1, close_wait=2)
    assert performance_data(judged, 30) == "established=1;600;800;0;"


@given(st.floats(-1e15, 1e15))
def test_a_number_has_digits_and_a_point_only(value: float) -> None:
    text = number(value)
    assert set(text) <= set("-.0123456789")
    assert abs(float(text) - value) <= 1e-6 + abs(value) * 1e-12


@given(st.text())
def test_cleaned_text_has_no_pipe_and_no_control_character(text: str) -> None:
    assert [character for character in clean(text) if character == "|" or not character.isprintable()] == []
