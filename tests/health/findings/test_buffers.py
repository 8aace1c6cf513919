"""What limits transfers: the finding from sampled sockets, and why it cannot be judged."""

from __future__ import annotations

import pytest

from exporter.details import Detail, Quality, Transfers
from exporter.health.findings import buffers
from exporter.health.judge import judge_findings
from exporter.health.window import Window
from exporter.kernel.sysctl import parse
from exporter.snapshot import Snapshot

FAR = Transfers(1, 3_000_000, 0.45, 0.045, 0.04, 131072, 90000, "192.0.2.7")


def host(quality: Quality | None) -> Window:
    detail = Detail(
        taken_at=0.0, families={}, ports={}, remote_ports={}, units=None, receive_queue=0, send_queue=0,
        ephemeral_used=0, ephemeral_available=100, ephemeral_towards="", folded={}, quality=quality,
    )  # fmt: skip
    sysctls = {"tcp_wmem": parse("tcp_wmem", "4096 16384 131072")}
    return Window(Snapshot(0.0, None, {}, None, sysctls, 4096, {}, detail=detail))


def judged(quality: Quality | None) -> tuple[str, str]:
    """The status and the headline, or why there is none."""
    judgements, not_judged = judge_findings(host(quality), (buffers.RULE,))
    if not_judged:
        return "NOT JUDGED", not_judged[0].reason
    (it,) = judgements
    return it.status.name, it.reason if it.finding is None else it.finding.what


def sampled(**transfers: Transfers) -> Quality:
    return Quality(1, 1.0, {}, transfers)


@pytest.mark.parametrize(
    ("transfers", "headline"),
    [
        ({"send_buffer": FAR}, "A small tcp_wmem limits"),
        ({"send_buffer": FAR, "peer_window": FAR}, "A small tcp_wmem limits"),
        ({"send_buffer": FAR, "peer_window": FAR._replace(sockets=2)}, "The receive window of peers limits"),
        ({"send_buffer": FAR._replace(send_buffer=65536)}, "A send buffer that its application sized limits"),
        ({"send_buffer": FAR._replace(send_buffer=None)}, "A small tcp_wmem limits"),
    ],
)
def test_the_buffer_that_limits_most_transfers_is_named(transfers: dict[str, Transfers], headline: str) -> None:
    status, what = judged(sampled(**transfers))
    assert (status, what.startswith(headline)) == ("WARNING", True), what


def test_transfers_that_the_path_limits_and_no_transfers_are_no_finding() -> None:
    assert judged(sampled(path=FAR)) == judged(sampled()) == ("OK", "")


def test_what_cannot_be_known_is_unknown_and_what_nobody_wants_is_not_judged() -> None:
    assert judged(Quality(0, None, {}, problem="netlink: refused")) == ("UNKNOWN", "netlink: refused")
    assert judged(None) == ("NOT JUDGED", "it needs the tcp_info of sockets: netlink, and detail.quality not off")


@pytest.mark.parametrize(("rate", "size"), [(3_000_000, 4 << 20), (60_000_000, 16 << 20), (10**9, 64 << 20)])
def test_the_size_to_set_has_room_over_rate_times_round_trip(rate: int, size: int) -> None:
    judgements, _ = judge_findings(host(sampled(send_buffer=FAR._replace(rate=rate))), (buffers.RULE,))
    assert judgements[0].finding is not None
    assert judgements[0].finding.command == f"sysctl -w net.ipv4.tcp_wmem='4096 16384 {size}'"


def test_one_slow_reader_among_many_transfers_is_no_finding() -> None:
    """As a player that paces itself by its window."""
    many = {"peer_window": FAR, "path": FAR._replace(sockets=9)}
    assert judged(sampled(**many)) == judged(sampled(path=FAR))
