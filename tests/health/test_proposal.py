"""Thresholds from observed peaks: the rule, its bounds, and a block that loads as a configuration."""

from __future__ import annotations

from exporter.config.schema import parse
from exporter.health.proposal import Observed, Peak, Proposed, block, highest, propose


def observed(states: dict[str, Peak], ratios: dict[str, Peak] | None = None, seconds: float = 3600.0) -> Observed:
    return Observed("the daemon at http://127.0.0.1:19293", seconds, states, ratios or {}, "at this moment")


def test_warning_is_the_peak_with_room_and_critical_a_third_more() -> None:
    assert propose(observed({"established": Peak(400)})) == [
        Proposed("established", 600, 800, ("ESTABLISHED: at most 400.",))
    ]


def test_a_state_with_few_sockets_has_no_threshold_but_established_has_one() -> None:
    found = propose(observed({"established": Peak(0), "close_wait": Peak(19), "syn_sent": Peak(20)}))
    assert [(it.measure, it.warning, it.critical) for it in found] == [("established", 30, 40), ("syn_sent", 30, 40)]


def test_no_threshold_is_beyond_the_limit_of_its_resource() -> None:
    (found,) = propose(observed({"time_wait": Peak(700, "", 1000, "tcp_max_tw_buckets")}))
    assert (found.warning, found.critical) == (800, 950)
    assert found.reasons == ("TIME-WAIT: at most 700.", "Lowered: tcp_max_tw_buckets is 1000.")


def test_a_peak_that_is_too_near_its_limit_is_said_to_be() -> None:
    (found,) = propose(observed({"time_wait": Peak(900, "", 1000, "tcp_max_tw_buckets")}))
    assert (found.warning, found.critical) == (800, 950)
    assert found.reasons[-1].startswith("The peak itself is too near the limit")


def test_a_ratio_warns_between_a_half_and_four_fifths() -> None:
    ratios = {"time_wait_ratio": Peak(0.01), "memory_ratio": Peak(0.4), "accept_queue_ratio": Peak(0.9)}
    found = {it.measure: (it.warning, it.critical) for it in propose(observed({}, ratios))}
    assert found == {
        "time_wait_ratio": (0.5, 0.667),
        "memory_ratio": (0.6, 0.8),
        "accept_queue_ratio": (0.8, 0.95),
    }


def test_orphans_are_in_trouble_from_a_quarter_on() -> None:
    (found,) = propose(observed({}, {"orphans_ratio": Peak(0.0)}))
    assert (found.warning, found.critical) == (0.125, 0.167)


def test_the_block_is_a_valid_configuration() -> None:
    states = {"established": Peak(412, "web-1:19293\nevil: 1"), "time_wait": Peak(60000, "", 65536, "x")}
    text = block(observed(states, {"memory_ratio": Peak(0.2)}), "2023-11-14 22:13 UTC")
    thresholds = parse(text.encode(), "thresholds.yml").thresholds
    assert {
        name: (it.warning and it.warning.end, it.critical and it.critical.end) for name, it in thresholds.items()
    } == {
        "established": (620, 830),
        "time_wait": (52428, 62259),
        "memory_ratio": (0.5, 0.667),
    }
    assert "600 and 800 established connections stay the thresholds" in text
    assert "Less than a day was watched" in text


def test_of_several_hosts_the_highest_peak_and_the_least_limit_count() -> None:
    peaks = [Peak(5, "a", 100, "x"), Peak(7, "b", 300, "x"), Peak(1, "c")]
    assert highest(peaks) == Peak(7, "b", 100, "x")
