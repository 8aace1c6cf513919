"""accept_queue_full: when it is there, how bad it is, and what its text blames."""

from __future__ import annotations

import pytest

from exporter.health.finding import Finding
from exporter.health.findings.accept_queue import FULL
from exporter.health.thresholds import Status
from exporter.health.window import Window
from exporter.snapshot import Listener, Snapshot
from tests.health.findings.hosts import a_minute, listener, snapshot, status, two_looks, waiting


def dropped(number: int) -> dict[str, int]:
    return {"TcpExt.ListenOverflows": number, "TcpExt.ListenDrops": number}


def found(window: Window) -> Finding:
    finding = FULL.judge(window)
    assert finding is not None
    return finding


def test_a_full_queue_that_drops_is_critical_and_one_that_does_not_yet_a_warning() -> None:
    full = [waiting(8080, 65)]
    assert status(FULL, two_looks(snapshot(100.0, dropped(1), full))) is Status.CRITICAL
    assert status(FULL, two_looks(snapshot(100.0, {}, full))) is Status.WARNING


def test_a_full_queue_needs_no_second_sample_and_an_overflow_does() -> None:
    assert status(FULL, Window(snapshot(100.0, dropped(99), [waiting(8080, 65)]))) is Status.WARNING
    assert status(FULL, Window(snapshot(100.0, dropped(99), [waiting(8080, 64)]))) is Status.UNKNOWN


def test_drops_are_critical_although_the_queue_is_one_short_of_full_at_this_very_instant() -> None:
    window = two_looks(snapshot(100.0, dropped(99), [waiting(8080, 64)]))
    assert status(FULL, window) is Status.CRITICAL
    assert found(window).what == (
        "The accept queue of 192.0.2.1:8080 overflows: connections arrive faster than the application accepts them"
    )


def test_one_burst_that_is_over_is_a_warning() -> None:
    assert status(FULL, two_looks(snapshot(100.0, dropped(400), [listener(8080)]))) is Status.WARNING
    for at in range(6):
        steps = [dropped(400 if number == at else 0) for number in range(6)]
        assert status(FULL, a_minute(snapshot(100.0, {}, [listener(8080)]), steps)) is Status.WARNING


def test_a_burst_that_a_young_daemon_sees_is_a_warning_and_drops_in_each_of_its_steps_are_critical() -> None:
    full = snapshot(100.0, {}, [waiting(8080, 64)])
    assert status(FULL, a_minute(full, [dropped(0), dropped(40)])) is Status.WARNING
    assert status(FULL, a_minute(full, [dropped(40), dropped(40)])) is Status.CRITICAL


def test_a_burst_that_falls_into_two_steps_is_one_burst() -> None:
    steps = [dropped(number) for number in (0, 0, 0, 0, 40, 40)]
    assert status(FULL, a_minute(snapshot(100.0, {}, [listener(8080)]), steps)) is Status.WARNING


def test_drops_in_step_after_step_are_critical_and_not_any_more_when_they_have_ended() -> None:
    calm = snapshot(100.0, {}, [listener(8080)])
    assert status(FULL, a_minute(calm, [dropped(number) for number in (0, 0, 0, 9, 9, 9)])) is Status.CRITICAL
    assert status(FULL, a_minute(calm, [dropped(number) for number in (0, 9, 9, 9, 0, 0)])) is Status.WARNING


def test_trouble_that_is_younger_than_the_daemon_does_not_become_milder_while_it_lasts() -> None:
    full = snapshot(100.0, {}, [waiting(8080, 65)])
    found = [
        status(FULL, a_minute(full, [dropped(9 if number >= calm else 0) for number in range(calm + step)]))
        for calm in (0, 1, 2)
        for step in (1, 2, 3, 4)
    ]
    mild, bad = Status.WARNING, Status.CRITICAL
    assert found == [bad, bad, bad, bad, mild, mild, bad, bad, mild, mild, bad, bad]


def test_a_few_overflows_are_silent() -> None:
    assert status(FULL, two_looks(snapshot(100.0, dropped(14), [listener(8080)]))) is Status.OK
    assert status(FULL, a_minute(snapshot(100.0, {}, [listener(8080)]), [dropped(2)] * 6)) is Status.OK


def test_an_application_that_hangs_is_critical_at_the_rate_of_few_clients() -> None:
    steps = [dropped(1)] * 6
    assert status(FULL, a_minute(snapshot(100.0, {}, [waiting(8080, 65)]), steps)) is Status.CRITICAL


def test_drops_are_all_there_is_where_queues_are_not_seen() -> None:
    assert status(FULL, two_looks(snapshot(100.0, dropped(99), None))) is Status.CRITICAL
    burst = a_minute(snapshot(100.0, {}, None), [dropped(number) for number in (0, 0, 0, 99, 0, 0)])
    assert status(FULL, burst) is Status.WARNING


def test_half_open_connections_of_another_listener_are_not_evidence() -> None:
    listeners = [waiting(8080, 65, syn_recv=40), listener(443, syn_recv=65)]
    assert found(two_looks(snapshot(100.0, dropped(30), listeners))).evidence == (
        "65 connections wait in the accept queue of 192.0.2.1:8080, whose limit is 64.",
        "30 SYNs and final ACKs were dropped in the last 2 s because an accept queue was full.",
        "40 connections are half open there, and cannot complete while the accept queue is full.",
        "The limit is from the last listen(); net.core.somaxconn is 4,096 now.",
    )


def test_listeners_that_do_not_fit_are_counted() -> None:
    window = two_looks(snapshot(100.0, {}, [waiting(8000 + number, 65) for number in range(5)]))
    assert found(window).evidence[3] == "2 more accept queues are full or filling up."


@pytest.mark.parametrize("limit", [5, 128, 1000])
def test_a_limit_below_somaxconn_asks_for_a_restart_first_and_blames_nobody(limit: int) -> None:
    finding = found(two_looks(snapshot(100.0, {}, [waiting(8080, limit + 1, limit)])))
    assert finding.remedy.startswith("Restart the application first: it may have asked listen() for more")
    assert finding.command == "ss -ltnp 'sport = :8080'"
    assert ("128 was its default before Linux 5.4." in finding.evidence[-1]) is (limit == 128)


def test_a_limit_that_is_somaxconn_can_be_raised() -> None:
    finding = found(two_looks(snapshot(100.0, {}, [waiting(8080, 4097, 4096)])))
    assert finding.evidence[-1] == "The limit is net.core.somaxconn, 4,096: the application asked for that or more."
    assert finding.command == "sysctl -w net.core.somaxconn=8192"


def test_a_limit_from_a_higher_somaxconn_is_named_so() -> None:
    finding = found(two_looks(snapshot(100.0, {}, [waiting(8080, 6001, 6000)])))
    assert finding.evidence[-1] == (
        "The limit is above net.core.somaxconn, 4,096, which was higher at the last listen()."
    )
    assert finding.command == "sysctl -w net.core.somaxconn=12000"


def test_clients_that_are_reset_do_not_wait() -> None:
    resets = found(two_looks(snapshot(100.0, {}, [waiting(8080, 65)], {"tcp_abort_on_overflow": "1"})))
    assert "resets clients" in resets.why
    assert "wait for seconds" not in resets.why
    assert "wait for seconds" in found(two_looks(snapshot(100.0, {}, [waiting(8080, 65)]))).why


def with_drops(now: Snapshot, *before: Listener) -> Window:
    """Two looks, the first of which knew what these listeners had dropped."""
    window = two_looks(now)
    return window._replace(past=(window.past[0]._replace(listeners=before),))


def test_what_each_listener_dropped_is_named_the_most_first() -> None:
    before = [waiting(8080, 65, dropped=100), waiting(8081, 65, dropped=0)]
    now = [waiting(8080, 65, dropped=103), waiting(8081, 65, dropped=27)]
    finding = found(with_drops(snapshot(100.0, dropped(30), now), *before))
    assert finding.what.startswith("The accept queue of 192.0.2.1:8081 is full")
    assert finding.evidence[3:5] == (
        "192.0.2.1:8081 itself dropped 27 segments in the last 2 s.",
        "192.0.2.1:8080 itself dropped 3 segments in the last 2 s.",
    )


def test_stray_segments_are_not_blamed_on_a_queue() -> None:
    before, now = waiting(8080, 65, dropped=0), waiting(8080, 65, dropped=5000)
    finding = found(with_drops(snapshot(100.0, dropped(30), [now]), before))
    assert "192.0.2.1:8080 itself dropped 30 segments in the last 2 s." in finding.evidence


def test_a_burst_that_is_over_is_of_the_listener_that_dropped() -> None:
    before = [listener(8080, dropped=7), listener(8081, dropped=7)]
    now = [listener(8080, dropped=7), listener(8081, dropped=407)]
    finding = found(with_drops(snapshot(100.0, dropped(400), now), *before))
    assert finding.what.startswith("The accept queue of 192.0.2.1:8081 was full for a moment")


def test_a_burst_that_is_over_is_not_of_a_listener_whose_clients_send_resets_all_the_time() -> None:
    """Each listener's drops are counted at most as far as the host's within the same step."""
    window = a_minute(snapshot(100.0, {}), [dropped(0), dropped(0), dropped(23), *[dropped(0)] * 3])
    past = [
        it._replace(listeners=(listener(8080, dropped=8 * number), listener(8081, dropped=23 * (number > 2))))
        for number, it in enumerate(window.past)
    ]
    now = window.now._replace(listeners=(listener(8080, dropped=48), listener(8081, dropped=23)))
    window = window._replace(now=now, past=tuple(past))
    assert window.drops() == {"192.0.2.1:8080": 8, "192.0.2.1:8081": 23}
    assert found(window).what.startswith("The accept queue of 192.0.2.1:8081 was full for a moment")


def test_a_burst_that_may_be_of_two_listeners_is_of_neither() -> None:
    before, now = ([listener(port, dropped=number) for port in (8080, 8081)] for number in (0, 500))
    finding = found(with_drops(snapshot(100.0, dropped(400), now), *before))
    assert finding.what.startswith("An accept queue was full for a moment")


def test_what_a_listener_dropped_before_it_listened_anew_is_not_known() -> None:
    before, now = waiting(8080, 65, dropped=90), waiting(8080, 65, dropped=2)
    assert with_drops(snapshot(100.0, dropped(30), [now]), before).drops() == {}
    assert two_looks(snapshot(100.0, dropped(30), [now])).drops() == {}


def test_a_queue_that_overflows_again_and_again_was_not_full_for_a_moment() -> None:
    finding = found(a_minute(snapshot(100.0, {}), [dropped(50)] * 6))
    assert (finding.severity, finding.what.partition(":")[0]) == (Status.CRITICAL, "An accept queue overflows")
