"""The sample of tcp_info: every connection is read in its turn, from the real kernel, without privileges."""

from __future__ import annotations

import socket
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import ClassVar

import pytest

from exporter.details import Quality
from exporter.errors import SourceUnreadable
from exporter.kernel.detail import DetailDump
from exporter.kernel.inetdiag import ALL_STATES, EXTENSION_INFO, EXTENSION_SKMEMINFO, PORT, REMOTE_PORT, Block
from exporter.kernel.picks import Picks
from exporter.kernel.quality import QualityDump
from exporter.kernel.reader import NetlinkReader
from exporter.sampling.infosample import InfoSample
from exporter.tcpstate import TcpState

NUMBER = 120
ESTABLISHED = 1 << TcpState.ESTABLISHED
INFO = EXTENSION_INFO | EXTENSION_SKMEMINFO


@pytest.fixture(params=[socket.AF_INET, socket.AF_INET6])
def service(request: pytest.FixtureRequest) -> Iterator[int]:
    """The port of a service with connections from this host."""
    with ExitStack() as held:
        address = "127.0.0.1" if request.param == socket.AF_INET else "::1"
        server = held.enter_context(socket.create_server((address, 0), family=request.param, backlog=NUMBER))
        for _ in range(NUMBER):
            held.enter_context(socket.create_connection(server.getsockname()[:2]))
            held.enter_context(server.accept()[0])
        yield server.getsockname()[1]


class Noting(QualityDump):
    """Notes which sockets were read."""

    read: ClassVar[Counter[bytes]] = Counter()

    def take(self, block: Block) -> None:
        self.read.update(it[PORT : REMOTE_PORT + 2] for it in block.messages())
        super().take(block)


def taken(sample: InfoSample, port: int, now: float = 0.0) -> tuple[Quality, Counter[bytes]]:
    """One pass, and which sockets of the service it read."""
    reader = NetlinkReader()
    picks = sample.picks(2 * NUMBER)
    dump = reader.collect(ALL_STATES, lambda: DetailDump(frozenset({port}), picks=picks()))
    assert dump.picks is not None
    messages = dump.picks.messages
    Noting.read = Counter()
    quality = sample.read(
        lambda: reader.look_up(messages, ESTABLISHED, Noting([port]), INFO), 2 * NUMBER, [port], now, whole=False
    )
    ours = port.to_bytes(2, "big")
    return quality, Counter({pair: number for pair, number in Noting.read.items() if pair[:2] == ours})


def test_every_connection_has_its_turn_and_no_pass_reads_more_than_its_share(service: int) -> None:
    sample, seen, passes = InfoSample(few=50), Counter[bytes](), 0
    while len(seen) < NUMBER:
        quality, read = taken(sample, service)
        assert quality.problem is None
        assert 0 < quality.sockets <= 100
        assert quality.sampled is not None
        assert quality.sampled < 1
        seen += read
        passes += 1
        assert passes < 40


def test_a_pass_reads_a_share_of_many_connections_and_as_many_of_few() -> None:
    sample = InfoSample()
    assert [sample.is_whole(number) for number in (0, 512, 513)] == [True, True, False]
    for number, read in ((1000, 1000), (10_000, 625), (1_000_000, 8334)):
        picks = sample.picks(number)()
        block = Block(bytes(88), 88)
        for _ in range(number):
            picks.take(block, bytes([TcpState.ESTABLISHED]))
        assert abs(len(picks.messages) - read) <= 1


def test_picks_of_more_sockets_than_were_expected_are_thinned_out() -> None:
    picks = Picks(every=1, most=100)
    for _ in range(100):
        picks.take(Block(bytes(88 * 1000), 88), bytes([TcpState.ESTABLISHED, TcpState.TIME_WAIT]) * 500)
    assert 50 <= len(picks.messages) <= 100


def test_sockets_that_are_gone_or_in_another_state_by_now_are_left_out(service: int) -> None:
    reader = NetlinkReader()
    with socket.create_connection(("127.0.0.1" if _is_ipv4(service) else "::1", service)):
        dump = reader.collect(ALL_STATES, lambda: DetailDump(frozenset({service}), picks=Picks(most=10**6)))
        assert dump.picks is not None
        ours = [it for it in dump.picks.messages if service.to_bytes(2, "big") in {it[20:22], it[22:24]}]
        assert reader.look_up(ours, ESTABLISHED, QualityDump([service]), INFO).sockets == len(ours)
        assert reader.look_up(ours, 1 << TcpState.CLOSE_WAIT, QualityDump([service]), INFO).listed == 0
    assert reader.look_up(ours, ESTABLISHED, QualityDump([service]), INFO).sockets < len(ours)


def _is_ipv4(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_the_whole_forgets_what_was_told_before(service: int) -> None:
    sample = InfoSample(few=50)
    while not taken(sample, service)[0].ports:
        pass
    whole = sample.read(lambda: QualityDump([service]), 0, [service], 1.0, whole=True)
    assert whole == Quality(0, None, {})


def test_a_port_that_a_pass_misses_keeps_what_was_told_for_five_minutes(service: int) -> None:
    sample = InfoSample(few=50)
    while not (quality := taken(sample, service, now=0.0)[0].ports):
        pass
    found = quality[str(service)]
    nothing: Callable[[], QualityDump] = lambda: QualityDump([service])  # noqa: E731 - an argument
    assert sample.read(nothing, 1000, [service], 299.0, whole=False).ports[str(service)] == found
    assert str(service) not in sample.read(nothing, 1000, [service], 301.0, whole=False).ports


def test_a_port_that_is_not_told_apart_any_more_is_not_counted_beside_the_others(service: int) -> None:
    sample = InfoSample(few=50)
    while not taken(sample, service)[0].ports:
        pass
    assert str(service) not in sample.read(lambda: QualityDump([]), 1000, [], 1.0, whole=False).ports


def test_a_kernel_that_refuses_is_the_problem_of_the_quality_alone() -> None:
    def refused() -> QualityDump:
        raise SourceUnreadable("netlink", "refused")

    assert InfoSample().read(refused, 5, [443], 0.0, whole=False) == Quality(0, None, {}, problem="netlink: refused")
