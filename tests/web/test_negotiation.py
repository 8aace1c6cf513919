from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.prometheus.formats import Format
from exporter.web.negotiation import accepts_gzip, choose_format

TEXT, OPENMETRICS = Format.TEXT, Format.OPENMETRICS

PROMETHEUS_2_42 = (
    "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
    "text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
)
PROMETHEUS_3 = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,"
    "application/openmetrics-text;version=0.0.1;q=0.4,"
    "text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,text/plain;version=0.0.4;q=0.2,*/*;q=0.1"
)
PROTOBUF = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0.6,"
BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"


def test_the_content_types_are_those_of_the_formats() -> None:
    assert [each.value for each in Format] == [
        "text/plain; version=0.0.4; charset=utf-8",
        "application/openmetrics-text; version=1.0.0; charset=utf-8",
    ]


@pytest.mark.parametrize("accept", [PROMETHEUS_2_42, PROMETHEUS_3, PROTOBUF + PROMETHEUS_3])
def test_every_prometheus_gets_openmetrics(accept: str) -> None:
    assert choose_format(accept) == OPENMETRICS


@pytest.mark.parametrize("accept", [None, "", "*/*", "*", "text/html", "application/json", BROWSER, ",;,=;q", "\0"])
def test_whoever_names_nothing_we_produce_gets_text(accept: str | None) -> None:
    assert choose_format(accept) == TEXT


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("text/plain;q=0.4, application/openmetrics-text;q=0.6", OPENMETRICS),
        ("text/plain;q=0.6, application/openmetrics-text;q=0.4", TEXT),
        ("application/openmetrics-text;q=0.999,text/plain", TEXT),
        ("*/*, application/openmetrics-text;q=0.5", TEXT),
        ("*/*, text/plain;q=0.5", OPENMETRICS),
        (
            "application/openmetrics-text;version=1.0.0;q=0.1,application/openmetrics-text;q=0.9,text/plain;q=0.5",
            OPENMETRICS,
        ),
    ],
)
def test_the_highest_q_wins_wherever_it_stands(accept: str, expected: Format) -> None:
    assert choose_format(accept) == expected


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("application/openmetrics-text;q=0", TEXT),
        ("application/openmetrics-text;q=0.000, text/plain;q=0.1", TEXT),
        ("text/plain;q=0, */*;q=0.1", OPENMETRICS),
        ("*/*, application/openmetrics-text;q=0", TEXT),
        ("*/*;q=0", TEXT),
    ],
)
def test_q_0_excludes_a_format_even_where_a_wildcard_covers_it(accept: str, expected: Format) -> None:
    assert choose_format(accept) == expected


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("*/*, application/openmetrics-text", OPENMETRICS),
        ("application/*, text/plain", TEXT),
        ("text/plain, application/openmetrics-text", OPENMETRICS),
        ("application/openmetrics-text, text/plain", OPENMETRICS),
        ("application/*, */*", TEXT),
        ("application/*, text/*", TEXT),
        ("application/*", OPENMETRICS),
        ("text/*", TEXT),
    ],
)
def test_of_equal_q_a_name_beats_a_wildcard_and_openmetrics_needs_to_be_named(accept: str, expected: Format) -> None:
    assert choose_format(accept) == expected


@pytest.mark.parametrize("version", ["abc", "9.9", "0.0.1", "1.x", "2.0.0", "1.0", "-", "1.0.0 1.0.0"])
def test_a_version_that_we_do_not_produce_is_not_acceptable_and_no_error(version: str) -> None:
    assert choose_format(f"application/openmetrics-text;version={version}, text/plain;q=0.1") == TEXT
    assert choose_format(f"text/plain;version={version}, application/openmetrics-text;q=0.1") == OPENMETRICS


@pytest.mark.parametrize(
    "accept",
    [
        "application/openmetrics-text",
        "Application/OpenMetrics-Text ; Version=1.0.0 ; charset=utf-8",
        '\tapplication/openmetrics-text;version="1.0.0";Q=1.000',
        "text/html, application/openmetrics-text; version=1.0.0; escaping=dots; q=0.001",
    ],
)
def test_names_ignore_case_space_quotes_and_other_parameters(accept: str) -> None:
    assert choose_format(accept) == OPENMETRICS


@pytest.mark.parametrize("quality", ["", "2", "-1", "nan", "inf", "1.1", "0,5", "1e0", "\u0660", "0.5.5"])
def test_an_entry_whose_q_is_no_quality_is_not_acceptable(quality: str) -> None:
    assert choose_format(f"application/openmetrics-text;q={quality}") == TEXT
    assert accepts_gzip(f"gzip;q={quality}") is False


def test_entries_beyond_any_honest_number_are_not_looked_at() -> None:
    assert choose_format("a/b," * 64 + "application/openmetrics-text") == TEXT
    assert choose_format("a/b," * 63 + "application/openmetrics-text") == OPENMETRICS
    assert accepts_gzip("gzip;" * 1_000_000) is True


@pytest.mark.parametrize(
    ("accept_encoding", "expected"),
    [
        (None, False),
        ("", False),
        ("gzip", True),
        ("GZIP", True),
        ("x-gzip", True),
        ("gzip, deflate, br", True),
        ("br;q=1.0, gzip;q=0.8, *;q=0.1", True),
        ("gzip;q=0.001", True),
        ("gzip;q=0", False),
        ("gzip;q=0.0, *", False),
        ("deflate, br", False),
        ("*", True),
        ("*;q=0", False),
        ("identity", False),
        ("identity;q=0, *;q=0.5", True),
        ("identity, gzip", True),
        ("identity, gzip;q=0.5", False),
        ("identity;q=0.5, gzip", True),
        ("gzipped", False),
    ],
)
def test_gzip_is_for_those_who_take_it_and_do_not_prefer_the_body_as_it_is(
    accept_encoding: str | None, expected: bool
) -> None:
    assert accepts_gzip(accept_encoding) is expected


TOKENS = [
    "text/plain",
    "application/openmetrics-text",
    "*/*",
    "gzip",
    "version",
    "q",
    "=",
    ";",
    ",",
    "0.5",
    "1.0.0",
    '"',
    " ",
]


@given(st.text() | st.lists(st.sampled_from(TOKENS)).map("".join))
def test_no_header_raises(header: str) -> None:
    assert choose_format(header) in Format
    assert accepts_gzip(header) in (True, False)
