"""What counters, troubles and connection tracking of several moments come to: findings, their severity, and silence."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from exporter.details import Conntrack, Detail, Peers
from exporter.health.finding import Rule
from exporter.health.findings import conntrack, dead_peers, descriptors, refused, retransmissions, syn_sent, zero_window
from exporter.health.judge import judge_findings
from exporter.health.window import Window
from exporter.kernel.sysctl import parse
from exporter.snapshot import Connections, Snapshot, Sockstat
from exporter.tcpstate import TcpState

UNCOUNTED = {"Tcp.OutRsts": 0, "Tcp.AttemptFails": 0, "Tcp.OutSegs": 0, "Tcp.RetransSegs": 0}


def snapshot(
    taken_at: float,
    counters: Mapping[str, int] | None = None,
    *,
    states: Mapping[TcpState, int] | None = None,
    troubles: Mapping[str, Peers] | None = None,
    tracked: Conntrack | None = None,
    sysctls: Mapping[str, str] | None = None,
    problems: Mapping[str, str | None] | None = None,
) -> Snapshot:
    detail = Detail(
        taken_at=taken_at, families={}, ports={}, remote_ports={}, units=None, receive_queue=0, send_queue=0,
        ephemeral_used=0, ephemeral_available=100, ephemeral_towards="", folded={}, troubles=troubles or {},
    )  # fmt: skip
    return Snapshot(
        taken_at=taken_at,
        connections=Connections(tuple((states or {}).get(state, 0) for state in TcpState), "netlink", derived=False),
        counters={**UNCOUNTED, **(counters or {})},
        sockstat=None,
        sysctls={name: parse(name, text) for name, text in (sysctls or {}).items()},
        page_size=4096,
        sources={"snmp": None, "netstat": None, **(problems or {})},
        detail=None if troubles is None else detail,
        conntrack=tracked,
    )


def judged(rule: Rule, now: Snapshot, *past: Snapshot) -> str:
    """The status of the one finding, or why it is not judged here."""
    judgements, not_judged = judge_findings(Window(now, past), (rule,))
    return not_judged[0].reason if not_judged else judgements[0].status.name


def minute(**per_second: float) -> list[Snapshot]:
    """Seven snapshots of a minute in which counters rise evenly; ``Tcp_OutRsts`` is ``Tcp.OutRsts``."""
    return [
        snapshot(1000.0 + at, {name.replace("_", "."): int(rate * at) for name, rate in per_second.items()})
        for at in range(0, 61, 10)
    ]


# -- unanswered --------------------------------------------------------------------------------------------------------


def unanswered(most: int, sockets: int = 60) -> dict[str, Peers]:
    return {"syn_unanswered": Peers(sockets, most, "198.51.100.7:5432")}


def test_unanswered_syns_need_neither_a_rate_nor_an_older_snapshot() -> None:
    states = {TcpState.SYN_SENT: 60}
    assert judged(syn_sent.UNANSWERED, snapshot(1.0, states=states, troubles=unanswered(60))) == "WARNING"
    many = snapshot(1.0, states={TcpState.SYN_SENT: 150}, troubles=unanswered(100, 150))
    assert judged(syn_sent.UNANSWERED, many) == "CRITICAL"
    assert judged(syn_sent.UNANSWERED, snapshot(1.0, states=states, troubles=unanswered(10, 19))) == "OK"


def test_a_detail_of_connections_that_have_ended_since_is_not_believed() -> None:
    assert judged(syn_sent.UNANSWERED, snapshot(1.0, troubles=unanswered(60))) == "OK"


def test_without_a_detail_unanswered_syns_are_judged_by_those_that_were_sent_again() -> None:
    states = {TcpState.SYN_SENT: 60}
    after = snapshot(12.0, {"TcpExt.TCPSynRetrans": 90}, states=states)
    assert judged(syn_sent.UNANSWERED, after) == "UNKNOWN"
    assert judged(syn_sent.UNANSWERED, after, snapshot(2.0, {"TcpExt.TCPSynRetrans": 50}, states=states)) == "WARNING"
    assert judged(syn_sent.UNANSWERED, after, snapshot(2.0, {"TcpExt.TCPSynRetrans": 80}, states=states)) == "OK"
    assert judged(syn_sent.UNANSWERED, snapshot(12.0)) == "OK"


def test_how_long_connects_have_waited_is_told_by_the_hour_of_counts() -> None:
    now = snapshot(1.0, states={TcpState.SYN_SENT: 60}, troubles=unanswered(60))
    lows = [[-1, 0, 30, 40, 50]] * len(TcpState)
    judgements, _ = judge_findings(Window(now, (), lows), (syn_sent.UNANSWERED,))
    finding = judgements[0].finding
    assert finding is not None
    assert finding.evidence[0] == "60 connections are in SYN-SENT, 20 or more for at least 30 s."


# -- refused -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "per_second"),
    [
        ("WARNING", {"Tcp_OutRsts": 50}),  # a port scan of an idle host, or a service that never listened
        ("CRITICAL", {"Tcp_AttemptFails": 50, "Tcp_ActiveOpens": 50}),
        ("WARNING", {"Tcp_AttemptFails": 50, "Tcp_ActiveOpens": 100}),
        ("WARNING", {"Tcp_OutRsts": 50, "Tcp_PassiveOpens": 100}),
        ("WARNING", {"Tcp_EstabResets": 100, "Tcp_PassiveOpens": 100}),
        ("OK", {"Tcp_OutRsts": 1, "Tcp_AttemptFails": 1, "Tcp_ActiveOpens": 1}),  # a health check
        ("OK", {"Tcp_OutRsts": 50, "Tcp_PassiveOpens": 5000}),  # stray segments of a busy server
        ("OK", {"Tcp_AttemptFails": 20, "Tcp_ActiveOpens": 1000}),  # one backend of fifty
        ("OK", {"Tcp_OutRsts": 90, "Tcp_PassiveOpens": 100, "TcpExt_TW": 100}),  # late data, as of TLS
        ("OK", {"Tcp_OutRsts": 30, "TcpExt_TCPAbortOnClose": 30, "Tcp_PassiveOpens": 100, "Tcp_EstabResets": 30}),
        ("OK", {"Tcp_AttemptFails": 50, "Tcp_ActiveOpens": 10, "TcpExt_EmbryonicRsts": 50}),
        ("OK", {"Tcp_AttemptFails": 50, "Tcp_ActiveOpens": 50, "TcpExt_TCPAbortOnTimeout": 50}),  # unanswered
        ("OK", {"Tcp_EstabResets": 20, "Tcp_ActiveOpens": 20, "TcpExt_TCPAbortOnData": 20}),  # a balancer's checks
    ],
)
def test_what_a_minute_of_refusals_comes_to(status: str, per_second: dict[str, float]) -> None:
    *past, now = minute(**per_second)
    assert judged(refused.REFUSED, now, *past) == status


def test_refusals_for_a_minute_are_critical_where_a_listener_has_gone_within_the_hour() -> None:
    *past, now = minute(Tcp_OutRsts=50)
    found = []
    for listened in (0, 1):
        lows = [[listened, 0] if state is TcpState.LISTEN else [0, 0] for state in TcpState]
        judgements, _ = judge_findings(Window(now, past, lows), (refused.REFUSED,))
        finding = judgements[0].finding
        assert finding is not None
        found.append((finding.severity.name, finding.evidence[1:]))
    assert found == [("WARNING", ()), ("CRITICAL", ("0 sockets listen, and 1 did within the last hour.",))]


def test_a_restart_is_a_short_warning_and_never_critical() -> None:
    def at(second: float, refusals: int) -> Snapshot:
        return snapshot(second, {"Tcp.OutRsts": refusals})

    before = [at(float(second), 0) for second in range(0, 50, 10)]
    assert judged(refused.REFUSED, at(60.0, 400), *before, at(50.0, 0)) == "WARNING"
    assert judged(refused.REFUSED, at(90.0, 400), *(at(float(second), 400) for second in range(60, 90, 10))) == "OK"


def test_refusals_are_unknown_in_one_sample_and_where_the_counters_cannot_be_read() -> None:
    assert judged(refused.REFUSED, snapshot(1.0)) == "UNKNOWN"
    broken = snapshot(1.0, problems={"snmp": "snmp: Permission denied"})._replace(counters={})
    assert judged(refused.REFUSED, broken, snapshot(0.0)) == "UNKNOWN"


def test_resets_are_unknown_where_the_counters_that_explain_them_cannot_be_read() -> None:
    problems = {"netstat": "netstat: Permission denied"}
    before, after = (snapshot(at, {"Tcp.OutRsts": int(at) * 100}, problems=problems) for at in (1.0, 11.0))
    assert judged(refused.REFUSED, after, before) == "UNKNOWN"


# -- lost --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "per_second"),
    [
        ("WARNING", {"Tcp_OutSegs": 1000, "Tcp_RetransSegs": 40}),
        ("CRITICAL", {"Tcp_OutSegs": 1000, "Tcp_RetransSegs": 120}),
        ("OK", {"Tcp_OutSegs": 1000, "Tcp_RetransSegs": 10}),
        ("OK", {"Tcp_OutSegs": 5, "Tcp_RetransSegs": 0.5}),  # an idle host
        ("OK", {"Tcp_OutSegs": 1000, "Tcp_RetransSegs": 200, "TcpExt_TCPSynRetrans": 190}),
        ("OK", {"Tcp_OutSegs": 1000, "Tcp_RetransSegs": 40, "TcpExt_TCPDSACKRecv": 30}),
        ("OK", {"Tcp_OutSegs": 1000, "Tcp_RetransSegs": 40, "TcpExt_TCPSpuriousRTOs": 30}),
    ],
)
def test_what_a_minute_of_retransmissions_comes_to(status: str, per_second: dict[str, float]) -> None:
    *past, now = minute(**per_second)
    assert judged(retransmissions.RULE, now, *past) == status


def test_lost_segments_are_told_from_handshakes_and_from_needless_retransmissions() -> None:
    before = snapshot(10.0, {"TcpExt.TCPSynRetrans": 0, "TcpExt.TCPDSACKRecv": 0})
    after = snapshot(
        20.0,
        {"Tcp.OutSegs": 1000, "Tcp.RetransSegs": 100, "TcpExt.TCPSynRetrans": 30, "TcpExt.TCPDSACKRecv": 10},
        troubles={"retransmitting": Peers(9, 8, "198.51.100.7")},
    )
    judgements, _ = judge_findings(Window(after, (before,)), (retransmissions.RULE,))
    finding = judgements[0].finding
    assert finding is not None
    assert finding.what == "Segments are lost on the way towards 198.51.100.7: 6.0% are sent again"
    assert finding.evidence == (
        "60 of 1,000 segments were lost and sent again in the last 10 s: 6.0%.",
        "30 SYNs and SYN-ACKs were sent again as well; they are not included.",
        "10 more were sent again without need, because the peer had them already; they are not included.",
        "9 connections wait for the answer to a retransmission; 8 of them are with 198.51.100.7.",
    )


# -- not read ----------------------------------------------------------------------------------------------------------


def windows(to: int, back: int = 0) -> dict[str, int]:
    return {"TcpExt.TCPToZeroWindowAdv": to, "TcpExt.TCPFromZeroWindowAdv": back}


def test_who_does_not_read_is_said() -> None:
    here = snapshot(1.0, windows(50), troubles={"not_read": Peers(40, 40, "port 443")})
    there = snapshot(1.0, windows(0), troubles={"peer_reads_nothing": Peers(40, 3, "198.51.100.7")})
    found = []
    for now in (here, there):
        judgements, _ = judge_findings(Window(now), (zero_window.RULE,))
        finding = judgements[0].finding
        assert finding is not None
        found.append((finding.severity.name, finding.what, finding.evidence[0]))
    assert found == [
        (
            "WARNING",
            "An application of this host does not read what its peers send at local port 443",
            "40 connections have at least 32 KiB each that the application has not read, 40 of them at local port 443; "
            "0 bytes in all.",
        ),
        (
            "WARNING",
            "Peers do not read what this host sends",
            "40 connections wait for a peer to open its window, 3 of them with 198.51.100.7; 0 bytes wait to be sent "
            "or acknowledged.",
        ),
    ]


def test_full_receive_queues_whose_windows_were_opened_again_are_an_application_at_work() -> None:
    busy = snapshot(1.0, windows(5000, 4990), troubles={"not_read": Peers(40, 40, "port 443")})
    assert judged(zero_window.RULE, busy) == "OK"


def test_a_few_slow_readers_of_a_large_server_are_silent() -> None:
    troubles = {"peer_reads_nothing": Peers(40, 1, "198.51.100.7")}
    assert judged(zero_window.RULE, snapshot(1.0, states={TcpState.ESTABLISHED: 5000}, troubles=troubles)) == "OK"


def test_without_a_detail_windows_are_judged_by_their_counters() -> None:
    assert judged(zero_window.RULE, snapshot(12.0, windows(60))) == "UNKNOWN"
    assert judged(zero_window.RULE, snapshot(12.0, windows(60, 10)), snapshot(2.0, windows(10, 10))) == "WARNING"
    assert judged(zero_window.RULE, snapshot(12.0, windows(60, 55)), snapshot(2.0, windows(10, 10))) == "OK"


# -- dead --------------------------------------------------------------------------------------------------------------


def test_dead_peers_are_told_by_the_timers() -> None:
    probed, sent = Peers(6, 6, "198.51.100.7"), Peers(5, 2, "198.51.100.8")
    both = {"keepalive_unanswered": probed, "data_unanswered": sent}
    assert judged(dead_peers.RULE, snapshot(1.0, troubles=both)) == "WARNING"
    assert judged(dead_peers.RULE, snapshot(1.0, troubles={"keepalive_unanswered": probed})) == "OK"


def test_a_few_clients_that_left_a_large_server_are_silent_and_one_host_that_is_dead_is_not() -> None:
    states = {TcpState.ESTABLISHED: 20_000}
    found = [
        judged(dead_peers.RULE, snapshot(1.0, states=states, troubles={"keepalive_unanswered": peers}))
        for peers in (Peers(150, 2, "198.51.100.7"), Peers(15, 12, "198.51.100.7"), Peers(250, 2, "198.51.100.7"))
    ]
    assert found == ["OK", "WARNING", "WARNING"]


def test_what_goes_to_dead_peers_is_no_loss_and_what_is_lost_is_no_dead_peer() -> None:
    def after(again: int, unanswered: int) -> Window:
        troubles = {"data_unanswered": Peers(unanswered, unanswered, "198.51.100.7")}
        now = snapshot(20.0, {"Tcp.OutSegs": 400, "Tcp.RetransSegs": again}, troubles=troubles)
        return Window(now, (snapshot(0.0),))

    rules = (retransmissions.RULE, dead_peers.RULE)
    found = [
        [it.status.name for it in judge_findings(window, rules)[0]] for window in (after(2100, 300), after(400, 20))
    ]
    assert found == [["OK", "WARNING"], ["CRITICAL", "OK"]]


def test_dead_peers_are_not_judged_without_a_detail_and_unknown_where_it_failed() -> None:
    assert judged(dead_peers.RULE, snapshot(1.0)) == "it needs the detail pass, which is off or has not run yet"
    assert judged(dead_peers.RULE, snapshot(1.0, problems={"detail": "detail: refused"})) == "UNKNOWN"


# -- leaked ------------------------------------------------------------------------------------------------------------


def stateless(number: int | None, *, alloc: int = 1000) -> Snapshot:
    now = snapshot(1.0, troubles={})
    assert now.detail is not None
    detail = now.detail._replace(stateless=number)
    return now._replace(detail=detail, sockstat=Sockstat(inuse=1, orphan=0, tw=0, alloc=alloc, mem=0))


@pytest.mark.parametrize(
    ("status", "now"),
    [
        ("WARNING", stateless(350)),
        ("OK", stateless(150)),
        ("OK", stateless(350, alloc=1_000_000)),
        ("it needs to see every process of the host, and netlink of Linux 6.8 or newer", stateless(None)),
        ("it needs the detail pass, which is off or has not run yet", snapshot(1.0)),
    ],
)
def test_what_sockets_in_no_state_come_to(status: str, now: Snapshot) -> None:
    assert judged(descriptors.LEAK, now) == status


# -- tracked -----------------------------------------------------------------------------------------------------------


def tracked(entries: int, insert_failed: int | None = 0, drops: int | None = 0, timeout: int = 432000) -> Conntrack:
    return Conntrack(entries, 1000, insert_failed, drops, timeout)


@pytest.mark.parametrize(
    ("status", "before", "after"),
    [
        ("OK", tracked(700), tracked(790)),
        ("WARNING", tracked(700), tracked(810)),
        ("CRITICAL", tracked(700), tracked(960)),
        ("CRITICAL", tracked(900), tracked(900, drops=10)),
        ("CRITICAL", tracked(100), tracked(100, insert_failed=10)),
        ("OK", tracked(100), tracked(100, insert_failed=9)),
        ("WARNING", tracked(900, None, None), tracked(900, None, None)),
        ("WARNING", tracked(900, drops=50), tracked(900, drops=2)),  # began anew
        ("OK", tracked(100), tracked(5000)._replace(limit=0)),
    ],
)
def test_what_connection_tracking_comes_to(status: str, before: Conntrack, after: Conntrack) -> None:
    assert judged(conntrack.NEAR_LIMIT, snapshot(20.0, tracked=after), snapshot(10.0, tracked=before)) == status


def test_connection_tracking_is_judged_by_one_sample_where_it_is_near_its_limit() -> None:
    assert judged(conntrack.NEAR_LIMIT, snapshot(1.0, tracked=tracked(810))) == "WARNING"
    assert judged(conntrack.NEAR_LIMIT, snapshot(1.0, tracked=tracked(700))) == "UNKNOWN"  # it may lose some
    assert judged(conntrack.NEAR_LIMIT, snapshot(1.0, tracked=tracked(700, None, None))) == "OK"


def test_a_host_without_connection_tracking_is_not_judged_and_one_that_hides_it_unknown() -> None:
    assert judged(conntrack.NEAR_LIMIT, snapshot(1.0)) == "this host tracks no connections"
    assert judged(conntrack.NEAR_LIMIT, snapshot(1.0, problems={"conntrack": "refused"})) == "UNKNOWN"


@pytest.mark.parametrize(
    ("timeout", "sentence"),
    [
        (
            432000,
            "An idle connection stays tracked for 432,000 s (nf_conntrack_tcp_timeout_established), although keepalive "
            "shows after 7,200 s whether it is alive (tcp_keepalive_time).",
        ),
        (
            900,
            "An idle connection stays tracked for 900 s (nf_conntrack_tcp_timeout_established), and the first "
            "keepalive probe comes after 7,200 s: too late, the entry is gone.",
        ),
    ],
)
def test_the_timeout_of_an_idle_connection_is_said_beside_keepalive(timeout: int, sentence: str) -> None:
    now = snapshot(1.0, tracked=tracked(810, timeout=timeout), sysctls={"tcp_keepalive_time": "7200"})
    judgements, _ = judge_findings(Window(now), (conntrack.NEAR_LIMIT,))
    finding = judgements[0].finding
    assert finding is not None
    assert finding.evidence == ("810 connections are tracked, of nf_conntrack_max = 1,000: 81%.", sentence)
    assert finding.command == "sysctl -w net.netfilter.nf_conntrack_max=2000"
