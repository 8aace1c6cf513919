"""Rates of a window: whom drops are blamed on while listeners come, go and begin anew."""

from __future__ import annotations

from exporter.details import Drops
from exporter.health.window import Window
from exporter.snapshot import Listener, Snapshot
from tests.conftest import sample_situation

HTTP = Listener("0.0.0.0", 80, 1, 0, 128, 0, 0, 128, dropped=0)
HTTPS = HTTP._replace(port=443)


def at(second: float, host: int, *listeners: Listener) -> Snapshot:
    return sample_situation("quiet")._replace(
        taken_at=second, counters={"TcpExt.ListenDrops": host}, listeners=listeners
    )


def test_a_port_is_blamed_for_at_most_what_the_host_dropped_between_two_samples() -> None:
    past = at(0, 10, HTTP, HTTPS), at(10, 10, HTTP._replace(dropped=50), HTTPS)
    now = at(20, 30, HTTP._replace(dropped=55), HTTPS._replace(dropped=99))
    assert Window(now, past).drop_rates() == Drops(20, 1.0, {80: 0.25, 443: 1.0})


def test_a_listener_that_begins_anew_never_makes_a_rate_negative_and_counts_from_its_next_sample() -> None:
    past = at(0, 0, HTTP._replace(dropped=50)), at(10, 40, HTTP._replace(dropped=2))
    assert Window(past[1], past[:1]).drop_rates() == Drops(10, 4.0, {})
    assert Window(at(20, 50, HTTP._replace(dropped=12)), past).drop_rates() == Drops(20, 2.5, {80: 1.0})


def test_a_listener_that_is_gone_or_new_has_no_rate() -> None:
    assert Window(at(10, 0, HTTPS), (at(0, 0, HTTP),)).drop_rates() == Drops(10, 0.0, {})


def test_listeners_of_one_port_are_summed() -> None:
    other = HTTP._replace(address="::")
    now = at(10, 100, HTTP._replace(dropped=30), other._replace(dropped=20))
    assert Window(now, (at(0, 0, HTTP, other),)).drop_rates() == Drops(10, 10.0, {80: 5.0})


def test_one_sample_or_no_counter_has_no_rate() -> None:
    now = at(10, 0, HTTP)
    assert Window(now).drop_rates() is None
    assert Window(now._replace(counters={}), (at(0, 0, HTTP),)).drop_rates() is None
