"""syn_flood, syn_queue_too_small and half_open_connections: which of them a host has, and which numbers they name."""

from __future__ import annotations

import pytest

from exporter.health.findings.syn_queue import FLOOD, HALF_OPEN, TOO_SMALL
from exporter.health.measures import BY_NAME, Reading
from exporter.health.thresholds import Status
from exporter.health.window import Window
from tests.health.findings.hosts import a_minute, listener, snapshot, status, two_looks, waiting

OFF = {"tcp_syncookies": "0"}
ALWAYS = {"tcp_syncookies": "2"}


def cookies(sent: int, back: int = 0) -> dict[str, int]:
    return {"TcpExt.SyncookiesSent": sent, "TcpExt.SyncookiesRecv": back, "Tcp.PassiveOpens": back}


def dropped(number: int, overflows: int = 0) -> dict[str, int]:
    return {"TcpExt.ListenDrops": number + overflows, "TcpExt.ListenOverflows": overflows}


def statuses(window: Window) -> dict[str, str]:
    """What the three rules found; nothing for OK."""
    judged = {rule.name: status(rule, window) for rule in (FLOOD, TOO_SMALL, HALF_OPEN)}
    return {name: it.name for name, it in judged.items() if it is not Status.OK}


# -- cookies on --------------------------------------------------------------------------------------------------------


def test_cookies_that_do_not_come_back_are_a_flood_with_both_numbers() -> None:
    window = two_looks(snapshot(100.0, cookies(500, 300), [listener(443, syn_recv=65)]))
    assert statuses(window) == {"syn_flood": "WARNING"}
    finding = FLOOD.judge(window)
    assert finding is not None
    assert finding.evidence == (
        "65 connections to 192.0.2.1:443 are half open, of at most 65.",
        "500 SYN cookies were sent in the last 2 s because a SYN queue was full: 300 came back, 200 did not.",
        "300 handshakes completed in the last 2 s.",
    )
    assert "tcp_max_syn_backlog" in finding.remedy
    assert finding.command == "tcp-exporter who syn_recv --by remote"


def test_cookies_of_which_nearly_all_come_back_are_clients() -> None:
    assert statuses(two_looks(snapshot(100.0, cookies(500, 450)))) == {"syn_queue_too_small": "WARNING"}
    assert statuses(two_looks(snapshot(100.0, cookies(500, 449)))) == {"syn_flood": "WARNING"}


@pytest.mark.parametrize(("sent", "back"), [(1, 0), (14, 0), (14, 14), (20, 10), (29, 15)])
def test_single_cookies_are_silent(sent: int, back: int) -> None:
    assert statuses(two_looks(snapshot(100.0, cookies(sent, back)))) == {}


def test_an_overflow_elsewhere_hides_no_flood_by_cookies() -> None:
    now = snapshot(100.0, {**cookies(200), **dropped(0, 40)}, [waiting(8080, 65), listener(443, syn_recv=65)])
    assert statuses(two_looks(now)) == {"syn_flood": "WARNING"}


def test_a_full_queue_alone_is_no_flood() -> None:
    now = snapshot(100.0, {}, [listener(443, syn_recv=65)], syn_recv=65)
    assert statuses(two_looks(now)) == {}


def test_a_flood_needs_two_samples() -> None:
    now = snapshot(100.0, cookies(500), [listener(443, syn_recv=65)])
    assert statuses(Window(now)) == {"syn_flood": "UNKNOWN", "syn_queue_too_small": "UNKNOWN"}


def test_half_open_connections_without_a_listener_are_named_and_the_flood_is_known_by_its_cookies() -> None:
    window = two_looks(snapshot(100.0, cookies(55), [listener(15001)], syn_recv=65, unmatched=65))
    assert statuses(window) == {"syn_flood": "WARNING"}
    finding = FLOOD.judge(window)
    assert finding is not None
    assert finding.evidence[0].startswith("65 half-open connections match no listener, as behind TPROXY")


# -- cookies always ----------------------------------------------------------------------------------------------------


def test_cookies_that_are_always_sent_and_come_back_are_silent() -> None:
    assert statuses(two_looks(snapshot(100.0, cookies(5000, 4990), sysctls=ALWAYS))) == {}


def test_stray_syns_are_silent_where_cookies_are_always_sent() -> None:
    steps = [cookies(100)] * 6
    assert statuses(a_minute(snapshot(100.0, {}, sysctls=ALWAYS), steps)) == {}


def test_a_flood_shows_at_its_rate_where_cookies_are_always_sent() -> None:
    window = two_looks(snapshot(100.0, cookies(400, 100), sysctls=ALWAYS))
    assert statuses(window) == {"syn_flood": "WARNING"}
    finding = FLOOD.judge(window)
    assert finding is not None
    assert finding.evidence[0] == (
        "400 SYN cookies were sent in the last 2 s because tcp_syncookies is 2: 100 came back, 300 did not."
    )


# -- cookies off -------------------------------------------------------------------------------------------------------


def test_drops_at_three_quarters_of_the_sysctl_are_a_critical_flood() -> None:
    off = {**OFF, "tcp_max_syn_backlog": "64"}
    flooded = listener(443, accept_limit=4096, fullest_limit=4096, syn_recv=49)
    window = two_looks(snapshot(100.0, dropped(151), [flooded], off, syn_recv=49))
    assert statuses(window) == {"syn_flood": "CRITICAL"}
    finding = FLOOD.judge(window)
    assert finding is not None
    assert finding.evidence[:2] == (
        "49 connections to 192.0.2.1:443 are half open, of at most 49.",
        "151 SYNs were dropped in the last 2 s because a SYN queue was full and cookies are off.",
    )
    assert finding.remedy.startswith("Switch cookies on.")
    assert finding.command == "sysctl -w net.ipv4.tcp_syncookies=1"


def test_a_flood_and_an_overflow_of_another_listener_are_both_seen() -> None:
    listeners = [waiting(8080, 65, syn_recv=3), listener(443, syn_recv=65)]
    assert statuses(two_looks(snapshot(100.0, dropped(500, 40), listeners, OFF))) == {"syn_flood": "CRITICAL"}


def test_half_open_connections_of_a_slow_application_are_no_flood() -> None:
    slow = [waiting(8080, 65, syn_recv=65)]
    assert statuses(two_looks(snapshot(100.0, dropped(500, 40), slow, OFF, syn_recv=65))) == {}


def test_a_queue_that_has_room_at_this_moment_is_still_the_flooded_one() -> None:
    now = snapshot(100.0, dropped(500), [listener(443, syn_recv=40)], OFF)
    assert statuses(two_looks(now)) == {"syn_flood": "CRITICAL"}


def test_a_listener_that_dropped_nothing_is_not_flooded() -> None:
    window = two_looks(snapshot(100.0, dropped(500), [listener(443, syn_recv=65, dropped=8)], OFF))
    older = window.past[0]._replace(listeners=(listener(443, dropped=8),))
    assert statuses(window._replace(past=(older,))) == {}


def test_one_socket_of_a_group_may_be_flooded_alone() -> None:
    group = listener(443, sockets=4, accept_limit=256, syn_recv=65)
    assert statuses(two_looks(snapshot(100.0, dropped(500), [group], OFF))) == {"syn_flood": "CRITICAL"}


def test_one_burst_of_drops_is_never_critical() -> None:
    flooded = [listener(443, syn_recv=65)]
    steps = [dropped(number) for number in (0, 0, 0, 0, 20, 20)]
    assert statuses(a_minute(snapshot(100.0, {}, flooded, OFF), steps)) == {"syn_flood": "WARNING"}
    assert statuses(a_minute(snapshot(100.0, {}, [listener(443)], OFF), steps)) == {}


def test_drops_that_go_on_are_critical() -> None:
    now = snapshot(100.0, {}, [listener(443, syn_recv=65)], OFF)
    assert statuses(a_minute(now, [dropped(100)] * 4)) == {"syn_flood": "CRITICAL"}


def test_fewer_drops_than_a_queue_holds_are_silent() -> None:
    assert statuses(two_looks(snapshot(100.0, dropped(14), [listener(443, syn_recv=65)], OFF))) == {}


def test_clients_that_find_the_queue_full_for_a_moment_lack_room() -> None:
    now = snapshot(100.0, {**dropped(40), "Tcp.PassiveOpens": 300}, [listener(443)], OFF)
    assert statuses(two_looks(now)) == {"syn_queue_too_small": "WARNING"}


def test_drops_are_a_flood_where_listeners_are_not_seen_or_not_known() -> None:
    assert statuses(two_looks(snapshot(100.0, dropped(90), None, OFF))) == {"syn_flood": "CRITICAL"}
    unmatched = snapshot(100.0, dropped(90), [listener(15001)], OFF, syn_recv=65, unmatched=65)
    assert statuses(two_looks(unmatched)) == {"syn_flood": "CRITICAL"}


def test_a_few_connections_of_no_listener_do_not_make_a_flood_of_a_slow_application() -> None:
    slow = [waiting(8080, 65, syn_recv=65)]
    few = snapshot(100.0, dropped(500, 40), slow, OFF, syn_recv=70, unmatched=5)
    many = snapshot(100.0, dropped(500, 40), slow, OFF, syn_recv=130, unmatched=65)
    assert statuses(two_looks(few)) == {}
    assert statuses(two_looks(many)) == {"syn_flood": "CRITICAL"}


def test_other_drops_are_no_flood_while_cookies_are_on() -> None:
    assert statuses(two_looks(snapshot(100.0, dropped(90), [listener(443, syn_recv=65)]))) == {}


# -- half-open connections ---------------------------------------------------------------------------------------------


def test_handshakes_that_do_not_complete_are_named_and_those_that_the_rate_explains_are_not() -> None:
    roomy = [listener(443, accept_limit=4096, fullest_limit=4096, syn_recv=150)]
    stuck = snapshot(100.0, {"Tcp.PassiveOpens": 20}, roomy, syn_recv=150)
    busy = snapshot(100.0, {"Tcp.PassiveOpens": 2000}, roomy, syn_recv=150)
    assert statuses(two_looks(stuck)) == {"half_open_connections": "WARNING"}
    assert statuses(two_looks(busy)) == {}


def test_half_open_connections_behind_a_full_accept_queue_are_that_queues() -> None:
    slow = waiting(8080, 65, syn_recv=150)
    assert statuses(two_looks(snapshot(100.0, {}, [slow], syn_recv=150))) == {}
    other = listener(443, accept_limit=4096, fullest_limit=4096, syn_recv=150)
    assert statuses(two_looks(snapshot(100.0, {}, [slow, other], syn_recv=300))) == {"half_open_connections": "WARNING"}


def test_clients_that_defer_are_not_half_open_for_want_of_an_answer() -> None:
    idle = [listener(443, accept_limit=511, fullest_limit=511, syn_recv=150)]
    arriving = {"TcpExt.TCPDeferAcceptDrop": 300, "TcpExt.TCPSynRetrans": 290}
    assert statuses(two_looks(snapshot(100.0, arriving, idle, syn_recv=150))) == {}
    before = snapshot(90.0, {"TcpExt.TCPDeferAcceptDrop": 150})
    now = snapshot(100.0, {"TcpExt.TCPDeferAcceptDrop": 150}, idle, syn_recv=150)
    assert statuses(Window(now, (before,))) == {}


def test_clients_whose_time_of_deferring_ends_together_are_silent() -> None:
    idle = [listener(443, accept_limit=511, fullest_limit=511, syn_recv=176)]
    before = snapshot(90.0, {"TcpExt.TCPDeferAcceptDrop": 277})
    ended = {"TcpExt.TCPDeferAcceptDrop": 324, "TcpExt.TCPSynRetrans": 148, "Tcp.PassiveOpens": 142}
    assert statuses(Window(snapshot(91.0, ended, idle, syn_recv=176), (before,))) == {}


def test_clients_that_defer_stay_explained_beside_a_stray_syn_and_loss_elsewhere() -> None:
    idle = [listener(443, accept_limit=511, fullest_limit=511, syn_recv=151)]
    arriving = {"TcpExt.TCPDeferAcceptDrop": 149}  # of one the answer was lost
    assert statuses(two_looks(snapshot(100.0, arriving, idle, syn_recv=151))) == {}
    before = snapshot(40.0, arriving)
    now = snapshot(100.0, {**arriving, "TcpExt.TCPSynRetrans": 60}, idle, syn_recv=151)
    assert statuses(Window(now, (before,))) == {}


def test_answers_that_are_lost_show_on_a_host_that_defers_too() -> None:
    idle = [listener(443, accept_limit=511, fullest_limit=511, syn_recv=150)]
    before = snapshot(90.0, {"TcpExt.TCPDeferAcceptDrop": 9000})
    now = snapshot(100.0, {"TcpExt.TCPDeferAcceptDrop": 9000, "TcpExt.TCPSynRetrans": 80}, idle, syn_recv=150)
    assert statuses(Window(now, (before,))) == {"half_open_connections": "WARNING"}


# -- syn_queue_ratio ---------------------------------------------------------------------------------------------------


def ratio(syn_recv: int, backlog: int, sysctls: dict[str, str] | None = None, unmatched: int = 0) -> Reading | None:
    one = listener(443, accept_limit=backlog, fullest_limit=backlog, syn_recv=syn_recv)
    return BY_NAME["syn_queue_ratio"].read(snapshot(100.0, {}, [one], sysctls, unmatched=unmatched))


def test_the_limit_is_one_more_than_the_backlog_or_three_quarters_of_the_sysctl_where_cookies_are_off() -> None:
    assert ratio(40, 64) == Reading(40, 65, "192.0.2.1:443")
    assert ratio(65, 64) == Reading(65, 65, "192.0.2.1:443")
    assert ratio(385, 4096, {**OFF, "tcp_max_syn_backlog": "512"}) == Reading(385, 385, "192.0.2.1:443")
    assert ratio(385, 4096, {"tcp_max_syn_backlog": "512"}) == Reading(385, 4097, "192.0.2.1:443")
    assert ratio(40, 64, {**OFF, "tcp_max_syn_backlog": "512"}) == Reading(40, 65, "192.0.2.1:443")


@pytest.mark.parametrize("backlog", [1, 5, 8, 16, 4096])
def test_a_queue_is_full_at_its_backlog_because_older_kernels_hold_no_more(backlog: int) -> None:
    for half_open in (backlog, backlog + 1):
        reading = ratio(half_open, backlog)
        assert reading is not None
        assert reading.share == 1
    below = ratio(backlog - 1, backlog)
    assert below is not None
    assert below.share is not None
    assert below.share < 1


def test_an_empty_queue_of_no_backlog_is_not_full() -> None:
    assert ratio(0, 0) == Reading(0, 1, "192.0.2.1:443")


def test_half_open_connections_that_match_no_listener_make_the_ratio_unknown_unless_a_queue_is_full() -> None:
    assert ratio(0, 64, unmatched=1) is None
    assert ratio(65, 64, unmatched=1) == Reading(65, 65, "192.0.2.1:443")


def test_a_group_of_which_one_socket_may_be_full_with_cookies_off_is_unknown() -> None:
    off = {**OFF, "tcp_max_syn_backlog": "64"}
    for half_open, known in ((48, True), (49, False), (195, False), (196, True)):
        group = listener(443, sockets=4, accept_limit=4096, syn_recv=half_open)
        reading = BY_NAME["syn_queue_ratio"].read(snapshot(100.0, {}, [group], off))
        assert (reading is not None) is known


def test_the_same_port_on_another_device_is_another_queue() -> None:
    listeners = [listener(443, device=f"eth{number}", syn_recv=65 if number == 2 else 0) for number in range(4)]
    reading = BY_NAME["syn_queue_ratio"].read(snapshot(100.0, {}, listeners))
    assert reading == Reading(65, 65, "192.0.2.1:443 on eth2")
