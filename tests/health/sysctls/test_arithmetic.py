"""The arithmetic against the tables that were read in the kernel's code and measured on 6.18."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.health.sysctls import arithmetic

SYN_SENT = {  # retries: without linear timeouts, and with the four of Linux 6.5 and newer: seconds, SYNs
    1: ((3, 2), (3, 3)),
    2: ((7, 3), (7, 6)),
    3: ((15, 4), (19, 8)),
    4: ((31, 5), (35, 9)),
    5: ((63, 6), (67, 10)),
    6: ((127, 7), (131, 11)),
    7: ((247, 8), (251, 12)),
}


@pytest.mark.parametrize("retries", SYN_SENT)
def test_connect_gives_up_when_the_kernel_does(retries: int) -> None:
    assert (arithmetic.syn_sent(retries), arithmetic.syn_sent(retries, linear=4)) == SYN_SENT[retries]


@pytest.mark.parametrize(("retries", "seconds"), [(0, 1), (1, 3), (2, 7), (3, 15), (4, 31), (5, 63)])
def test_a_half_open_connection_is_dropped_when_the_kernel_does(retries: int, seconds: int) -> None:
    assert arithmetic.syn_received(retries) == seconds


@pytest.mark.parametrize(("retries", "seconds"), [(3, 3.0), (5, 12.6), (6, 25.4), (8, 102.2), (10, 324.6), (15, 924.6)])
def test_unacknowledged_data_is_given_up_after_the_time_of_the_kernels_table(retries: int, seconds: float) -> None:
    assert arithmetic.unacknowledged(retries) == seconds


@pytest.mark.parametrize(("timeout", "seconds"), [(5, 5), (30, 30), (60, 60), (61, 2), (65, 10), (90, 60)])
def test_fin_wait_2_above_60_is_the_excess_twice(timeout: int, seconds: int) -> None:
    assert arithmetic.fin_wait2(timeout) == seconds


def test_no_retries_of_an_orphan_are_eight() -> None:
    assert arithmetic.orphaned(0) == arithmetic.orphaned(8) == 102.2


def test_the_default_keepalive_finds_a_dead_peer_after_two_hours_and_eleven_minutes() -> None:
    assert arithmetic.keepalive(7200, 9, 75) == 7875


@given(st.integers(0, 127), st.integers(0, 127), st.integers(1, 120))
def test_more_retries_never_give_up_sooner(retries: int, linear: int, rto_max: int) -> None:
    seconds, sent = arithmetic.syn_sent(retries, linear, rto_max)
    more, more_sent = arithmetic.syn_sent(retries + 1, linear, rto_max)
    assert seconds <= more
    assert sent <= more_sent <= retries + 1 + linear + 1
    assert arithmetic.unacknowledged(retries, rto_max) < arithmetic.unacknowledged(retries + 1, rto_max)


def test_a_person_reads_what_a_value_comes_to() -> None:
    host = {("tcp_keepalive_probes", ""): 9, ("tcp_keepalive_intvl", ""): 75}
    newer = {("tcp_syn_linear_timeouts", ""): 4}
    assert [
        arithmetic.say_syn_retries(6, {}),
        arithmetic.say_syn_retries(6, newer),
        arithmetic.say_syn_retries(2, {}),
        arithmetic.say_keepalive(1200, host),
        arithmetic.say_keepalive(1200, {}),
        arithmetic.say_fin_timeout(61, {}),
        arithmetic.say_orphan_retries(0, {}),
    ] == [
        "connect() gives up after 127 s and 7 SYNs",
        "connect() gives up after 131 s and 11 SYNs",
        "connect() gives up after 7 s and 3 SYNs",
        "a dead peer of an idle connection is found after 1200 + 9 * 75 = 1875 s",
        "the first probe after 1200 s of silence",
        "FIN-WAIT-2 after close() lasts 2 * (61 - 60) = 2 s, TIME-WAIT always 60 s",
        "acts as 8: a closed socket whose FIN nobody answers ends at the first timeout after 102.2 s",
    ]
