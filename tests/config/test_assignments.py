"""The argument of --what-if: what is taken, and the message for what is not."""

from __future__ import annotations

import pytest

from exporter.config.assignments import assignments
from exporter.errors import UsageError
from exporter.snapshot import SysctlValue
from tests.conftest import sample_situation

PRESENT = dict(sample_situation("quiet").sysctls) | {
    "net.ipv4.ip_local_reserved_ports": SysctlValue("net.ipv4.ip_local_reserved_ports", (("count", 0),), None, "ports"),
    "tcp_from_tomorrow": SysctlValue("tcp_from_tomorrow", (("", 7),), None, ""),
}


def test_a_name_is_short_or_in_full() -> None:
    assert assignments("net.ipv4.tcp_fin_timeout=30", PRESENT) == assignments("tcp_fin_timeout = 30", PRESENT)


def test_commas_separate_pairs_and_blanks_the_numbers_of_one_value() -> None:
    assert assignments("tcp_rmem=4096 131072 6291456, tcp_sack=0", PRESENT) == [
        SysctlValue("tcp_rmem", (("min", 4096), ("default", 131072), ("max", 6291456)), None, "bytes"),
        SysctlValue("tcp_sack", (("", 0),), None, ""),
    ]


def test_a_list_of_ports_keeps_its_commas() -> None:
    (value,) = assignments("net.ipv4.ip_local_reserved_ports=8080,9000-9009", PRESENT)
    assert value.fields == (("count", 11),)


def test_words_are_taken_as_they_are() -> None:
    (value,) = assignments("tcp_congestion_control=bbr", PRESENT)
    assert value == SysctlValue("tcp_congestion_control", (), "bbr", "")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("tcp_fin_timeout", "'tcp_fin_timeout': expected NAME=VALUE, such as tcp_fin_timeout=30"),
        ("tcp_fin_timeout=", "'tcp_fin_timeout=': expected NAME=VALUE, such as tcp_fin_timeout=30"),
        (
            "tcp_fin_timeot=30",
            "tcp_fin_timeot=30: unknown sysctl: neither this version nor this host knows it; "
            "did you mean tcp_fin_timeout?",
        ),
        ("tcp_fin_timeout=30,40", "tcp_fin_timeout=30,40: expected an integer, got '30,40'"),
        ("tcp_fin_timeout=soon", "tcp_fin_timeout=soon: expected an integer, got 'soon'"),
        ("tcp_syn_retries=200", "tcp_syn_retries=200: the kernel accepts 1 to 127, got 200"),
        ("tcp_sack=2", "tcp_sack=2: the kernel accepts 0 to 1, got 2"),
        ("tcp_rmem=0 1 2", "tcp_rmem=0 1 2: the kernel accepts 1 to 2147483647, got 0 as min"),
        ("tcp_rmem=4096", "tcp_rmem=4096: expected 3 integers, min default max, got '4096'"),
        (
            "net.ipv4.ip_local_port_range=60999 32768",
            "net.ipv4.ip_local_port_range=60999 32768: expected low <= high, got '60999 32768'",
        ),
        (
            "net.ipv4.ip_local_reserved_ports=x",
            "net.ipv4.ip_local_reserved_ports=x: expected a list of ports and ranges such as 40003,40005-40006, "
            "got 'x'",
        ),
        ("tcp_from_tomorrow=1 2", "tcp_from_tomorrow=1 2: expected 1 integers, as this host has, got '1 2'"),
        ("tcp_tw_timeout=5", "tcp_tw_timeout=5: this host has no such sysctl, or it could not be read"),
        ("tcp_fastopen_key=1", "tcp_fastopen_key=1: is a secret, which is never read"),
        ("tcp_sack=1,net.ipv4.tcp_sack=0", "net.ipv4.tcp_sack=0: tcp_sack is named twice"),
    ],
)
def test_a_mistake_names_what_was_found_and_what_was_expected(text: str, complaint: str) -> None:
    with pytest.raises(UsageError) as caught:
        assignments(text, PRESENT)
    assert str(caught.value) == complaint
