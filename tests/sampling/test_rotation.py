"""Turns: every connection is read once a round, by the real kernel, without privileges."""

from __future__ import annotations

import socket
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import ClassVar

import pytest

from exporter.errors import SourceUnreadable
from exporter.kernel.detail import DetailDump
from exporter.kernel.inetdiag import ALL_STATES, EXTENSION_INFO, EXTENSION_SKMEMINFO, PORT, REMOTE_PORT, Block
from exporter.kernel.portwindows import Density
from exporter.kernel.quality import QualityDump
from exporter.kernel.reader import NetlinkReader
from exporter.sampling.rotation import Rotation
from exporter.snapshot import Quality
from exporter.tcpstate import TcpState

NUMBER = 120
ESTABLISHED = 1 << TcpState.ESTABLISHED


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
    """Notes which sockets were listed."""

    listed_pairs: ClassVar[Counter[bytes]] = Counter()

    def take(self, block: Block) -> None:
        self.listed_pairs.update(it[PORT : REMOTE_PORT + 2] for it in block.messages())
        super().take(block)


def taken(
    rotation: Rotation, port: int, now: float = 0.0, *, everything: bool = False
) -> tuple[Quality, Counter[bytes]]:
    """One pass, and which sockets of the service it listed."""
    reader = NetlinkReader()
    dump = reader.collect(ALL_STATES, lambda: DetailDump(frozenset({port})))
    established = sum(counts[TcpState.ESTABLISHED] for counts in dump.ports().values())
    Noting.listed_pairs = Counter()

    def read(_: Callable[[], QualityDump], bytecode: bytes) -> QualityDump:
        extensions = EXTENSION_INFO | EXTENSION_SKMEMINFO
        return reader.collect(ESTABLISHED, lambda: Noting([port]), extensions=extensions, bytecode=bytecode)

    quality = rotation.read(read, dump.density, established, [port], now, everything=everything)
    ours = port.to_bytes(2, "big")
    return quality, Counter({pair: n for pair, n in Noting.listed_pairs.items() if pair[:2] == ours})


def test_a_round_reads_every_connection_once_and_no_pass_reads_more_than_its_share(service: int) -> None:
    rotation, seen, passes = Rotation(most=50), Counter[bytes](), 0
    while sum(seen.values()) < NUMBER:
        quality, listed = taken(rotation, service)
        assert quality.problem is None
        assert quality.sockets <= 100
        assert quality.sampled is not None
        assert quality.sampled < 1
        seen += listed
        passes += 1
        assert passes < 40
    assert seen == Counter(dict.fromkeys(seen, 1))
    assert len(seen) == NUMBER


def test_all_are_read_where_there_are_few_and_where_all_are_wanted(service: int) -> None:
    for rotation, everything in ((Rotation(), False), (Rotation(most=10), True)):
        quality, listed = taken(rotation, service, everything=everything)
        assert (len(listed), quality.sampled) == (NUMBER, 1.0)
        found = quality.ports[str(service)]
        assert (found.sockets, sum(found.idle)) == (NUMBER, NUMBER)
        assert sum(found.rtt[:2]) == NUMBER  # loopback


def test_a_port_that_a_window_misses_keeps_what_was_told_for_five_minutes(service: int) -> None:
    rotation = Rotation(most=50)
    while not (quality := taken(rotation, service, now=0.0)[0].ports):
        pass
    found = quality[str(service)]

    def nothing(begin: Callable[[], QualityDump], _: bytes) -> QualityDump:
        return begin()

    assert rotation.read(nothing, Density(), 1000, [service], 299.0, everything=False).ports[str(service)] == found
    assert str(service) not in rotation.read(nothing, Density(), 1000, [service], 301.0, everything=False).ports


def test_a_port_that_is_not_told_apart_any_more_is_not_counted_beside_the_others(service: int) -> None:
    rotation = Rotation(most=50)
    while not taken(rotation, service)[0].ports:
        pass

    def nothing(begin: Callable[[], QualityDump], _: bytes) -> QualityDump:
        return begin()

    assert str(service) not in rotation.read(nothing, Density(), 1000, [], 1.0, everything=False).ports


def test_a_kernel_that_refuses_is_the_problem_of_the_quality_alone() -> None:
    def refused(_: Callable[[], QualityDump], __: bytes) -> QualityDump:
        raise SourceUnreadable("netlink", "refused")

    quality = Rotation().read(refused, Density(), 5, [443], 0.0, everything=False)
    assert quality == Quality(0, None, {}, problem="netlink: refused")
