"""Netfilter's files: numbers, hexadecimal columns by CPU, and what is neither."""

from __future__ import annotations

import pytest

from exporter.errors import SourceMalformed
from exporter.kernel.conntrack import parse_number, parse_statistics

TITLES = (
    "entries  clashres found new invalid ignore delete chainlength insert insert_failed drop early_drop icmp_error  "
    "expect_new expect_create expect_delete search_restart\n"
)


def row(insert_failed: int, drop: int) -> str:
    numbers = [0x30, *[0] * 8, insert_failed, drop, *[0] * 6]
    return "  ".join(f"{number:08x}" for number in numbers) + "\n"


def test_the_counters_of_every_cpu_are_summed_and_hexadecimal() -> None:
    sums = parse_statistics(TITLES + row(1, 0x10) + row(2, 0xFFFFFFFF), "stat")
    assert (sums["insert_failed"], sums["drop"]) == (3, 0x10000000F)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", 1),
        (TITLES, 1),
        (TITLES + row(0, 0) + "00000000\n", 3),
        (TITLES + row(0x31, 0).replace("31", "zz"), 2),
        (TITLES + row(0x31, 0).replace("00000031", "0x000030"), 2),
        (TITLES + row(0x31, 0).replace("00000031", "-1"), 2),
        (TITLES + row(0x31, 0).replace("00000031", "0" * 40), 2),
        (TITLES + row(0, 0)[:-20], 2),
    ],
)
def test_statistics_that_cannot_be_read_are_malformed(text: str, line: int) -> None:
    with pytest.raises(SourceMalformed, match=rf"stat:{line}: cannot read"):
        parse_statistics(text, "stat")


@pytest.mark.parametrize("text", ["", "\n", "-1\n", "12 13\n", "0x10\n", "1_000\n", "\u0661\n", "9" * 30 + "\n"])
def test_a_number_that_is_none_is_malformed(text: str) -> None:
    with pytest.raises(SourceMalformed, match="expected a number"):
        parse_number(text, "nf_conntrack_count")
