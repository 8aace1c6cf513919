"""close_wait_leak: what rises again and again, or is old, is a leak; a step, a queue and a busy host are not."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from exporter.details import CloseWait, Detail
from exporter.health.findings.close_wait import LEAK
from exporter.health.thresholds import Status
from exporter.health.window import CannotTell, Window
from exporter.snapshot import Connections, Listener, Snapshot
from exporter.tcpstate import NO_SOCKETS, TcpState
from tests.health.findings.hosts import snapshot, status, waiting


def looked(
    at: float, close_wait: int, *, established: int = 0, ages: CloseWait | None = None,
    listeners: Sequence[Listener] = (),
) -> Snapshot:  # fmt: skip
    counts = list(NO_SOCKETS)
    counts[TcpState.CLOSE_WAIT], counts[TcpState.ESTABLISHED] = close_wait, established
    detail = Detail(at, {}, {}, {}, None, 0, 0, 0, 28232, "", {}, close_wait=ages)
    made = snapshot(at, {}, listeners)
    return made._replace(connections=Connections(tuple(counts), "netlink", derived=False), detail=detail)


def minute(*numbers: int) -> Window:
    """A count every ten seconds, the last one now."""
    looks = [looked(10.0 * position, number) for position, number in enumerate(numbers)]
    return Window(looks[-1], tuple(looks[:-1]))


def hour(lows: Sequence[int]) -> Window:
    """The least count of every ten seconds."""
    by_state = [list(lows) if state is TcpState.CLOSE_WAIT else [0] * len(lows) for state in TcpState]
    return Window(looked(0.0, lows[-1]), (looked(-10.0, lows[-1]),), by_state)


@pytest.mark.parametrize(
    ("numbers", "found"),
    [
        ((20, 30, 40, 50, 60, 70, 80), Status.WARNING),
        ((0, 3, 6, 9, 12, 15, 20), Status.WARNING),
        ((20, 20, 40, 40, 60, 60, 80), Status.WARNING),
        ((0, 0, 0, 900, 900, 900, 900), Status.OK),  # a step
        ((0, 0, 400, 400, 800, 800, 800), Status.OK),  # two backends restart
        ((0, 300, 0, 300, 0, 300, 500), Status.OK),  # rises that are followed by falls
        ((500, 500, 500, 500, 500, 500, 500), Status.OK),
        ((1, 2, 3, 4, 5, 6, 19), Status.OK),
        ((20, 21, 22, 23, 24, 25, 26), Status.OK),  # by fewer than ten
    ],
)
def test_a_count_that_rises_for_a_minute_is_a_leak_and_a_step_is_not(numbers: tuple[int, ...], found: Status) -> None:
    assert status(LEAK, minute(*numbers)) is found


def test_two_looks_tell_no_leak_by_their_counts_alone() -> None:
    assert status(LEAK, Window(looked(1.0, 900), (looked(0.0, 0),))) is Status.OK


def test_one_look_cannot_tell_whether_many_stay() -> None:
    assert status(LEAK, Window(looked(1.0, 900))) is Status.UNKNOWN
    assert status(LEAK, Window(looked(1.0, 19))) is Status.OK


@pytest.mark.parametrize(
    ("ages", "established", "before", "found"),
    [
        (CloseWait(300, 300, 300, 100, 0), 5000, 300, Status.WARNING),  # old ones are a leak, whatever else there is
        (CloseWait(300, 300, 0, 99, 0), 0, 300, Status.OK),  # a pool, half a minute after its backend restarted
        (CloseWait(300, 300, 100, 0, 0), 299, 300, Status.WARNING),  # a server that does not read
        (CloseWait(300, 300, 100, 0, 0), 300, 300, Status.OK),
        (CloseWait(300, 100, 0, 0, 0), 0, 290, Status.WARNING),  # more come upon a heap
        (CloseWait(300, 100, 0, 0, 0), 0, 298, Status.OK),
        (CloseWait(300, 99, 0, 0, 0), 0, 100, Status.OK),
        (CloseWait(300, 99, 0, 0, 300), 0, 300, Status.OK),  # a server is a moment late
    ],
)
def test_age_tells_a_leak_from_connections_just_closed(
    ages: CloseWait, established: int, before: int, found: Status
) -> None:
    now = looked(1.0, 300, established=established, ages=ages)
    assert status(LEAK, Window(now, (looked(0.0, before),))) is found


def test_old_connections_are_found_in_one_look() -> None:
    assert status(LEAK, Window(looked(1.0, 300, ages=CloseWait(300, 300, 300, 300, 0)))) is Status.WARNING


@pytest.mark.parametrize(
    ("lows", "found"),
    [
        ([minute // 6 for minute in range(6 * 21, 6 * 41)], Status.WARNING),  # one a minute, for twenty minutes
        ([20 + tens // 30 for tens in range(360)], Status.WARNING),  # one in five minutes, for an hour
        ([20 + tens // 6 + tens % 3 for tens in range(360)], Status.WARNING),  # with a few that come and go
        ([40] * 360, Status.OK),
        ([*[20] * 180, *[60] * 180], Status.OK),  # a step
        ([20 + tens // 4 + 13 * (tens % 7) for tens in range(360)], Status.OK),  # load that rises, and falls again
        ([-1 if tens == 310 else 20 + tens // 6 for tens in range(360)], Status.OK),  # not across a hole
        ([20 + tens // 6 for tens in range(30)], Status.OK),  # five minutes are too short
    ],
)
def test_the_least_counts_of_the_hour_tell_a_slow_leak(lows: list[int], found: Status) -> None:
    assert status(LEAK, hour(lows)) is found


def test_connections_in_accept_queues_are_not_the_applications() -> None:
    queue = waiting(80, 129, limit=128)
    looks = [looked(10.0 * n, 20 + 18 * n, listeners=[waiting(80, 20 + 18 * n, limit=128)]) for n in range(7)]
    assert status(LEAK, Window(looks[-1], tuple(looks[:-1]))) is Status.OK
    assert status(LEAK, Window(looked(1.0, 129, listeners=[queue]), (looked(0.0, 129),))) is Status.OK


def test_the_text_says_what_keepalive_does_and_does_not() -> None:
    finding = LEAK.judge(minute(20, 30, 40, 50, 60, 70, 80))
    assert finding is not None
    assert finding.evidence == (
        "80 connections were closed by their peers and not by the application.",
        "There were 20 of them 60 s ago, and no count since was lower than the one before.",
    )
    assert finding.why.endswith(
        "Keepalive ends the state once the peer's side is gone, but not the leak: the descriptor stays."
    )
    texts = (*finding.evidence, finding.why, finding.remedy, finding.risk)
    assert all(text.endswith(".") for text in texts)


def test_the_owner_of_a_leak_is_the_unit_before_the_port_and_never_other() -> None:
    held, few = (tuple(number if state is TcpState.CLOSE_WAIT else 0 for state in TcpState) for number in (90, 3))
    now = looked(1.0, 200, ages=CloseWait(200, 200, 200, 200, 0))
    assert now.detail is not None
    detail = now.detail._replace(ports={"other": held, "8080": few}, units={"none": held, "app.service": few})
    finding = LEAK.judge(Window(now._replace(detail=detail)))
    assert finding is not None
    assert finding.what == "The application of unit app.service does not close connections that its peers have closed"
    assert finding.evidence[1:] == (
        "The peers of 200 of them have been silent for more than 60 s.",
        "3 of them belong to unit app.service, as of the last detail pass.",
        "3 of them belong to local port 8080, as of the last detail pass.",
    )


def test_in_a_single_look_connections_of_a_server_are_a_leak_and_those_of_a_pool_cannot_be_told() -> None:
    served, pooled = (looked(1.0, 300, ages=CloseWait(300, 0, 0, 0, number)) for number in (300, 0))
    assert status(LEAK, Window(served)) is Status.WARNING
    with pytest.raises(CannotTell):
        LEAK.judge(Window(pooled))
