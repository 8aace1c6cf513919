"""What inet_diag tells of single sockets: timers, tcp_info, filters in the kernel, and the end of a connection."""

from __future__ import annotations

import os
import socket
import struct
import threading
import time
from collections import Counter

from exporter.details import Detail, PortCloses
from exporter.kernel import inetdiag
from exporter.kernel.derivation import Trust
from exporter.kernel.inetdiag import BARE, EXTENSION_INFO, PORT, STATE, TIMER, TRIES, Block, Dump
from exporter.kernel.reader import NetlinkReader, Procfs
from exporter.sampling.closing import Closing
from exporter.sampling.detailer import Detailer, Wanted
from exporter.tcpstate import TcpState
from tests.kernels.guest.conftest import Note
from tests.kernels.guest.here import Here
from tests.situations.world import World, wait_until

PATIENCE = 300.0  # seconds
INFO = 2  # INET_DIAG_INFO
BYTECODE = 1  # INET_DIAG_REQ_BYTECODE
D_GE, D_LE = 4, 5  # INET_DIAG_BC_D_GE and _LE
RTT_AT, BYTES_RECEIVED_AT = 68, 128  # of tcpi_rtt and tcpi_bytes_received in tcp_info


def detail() -> Detail:
    """A detail pass of the product."""
    return Detailer(Procfs(), [NetlinkReader()], Trust(os.uname().release)).detail(Wanted(), 0.0)


class Messages(Dump):
    """Collects whole messages."""

    def __init__(self) -> None:
        super().__init__()
        self.messages: list[bytes] = []

    def take(self, block: Block) -> None:
        self.messages += block.messages()


def attributes(message: bytes) -> dict[int, bytes]:
    found, at = {}, BARE
    while at + 4 <= len(message):
        length, kind = struct.unpack_from("=HH", message, at)
        found[kind] = message[at + 4 : at + length]
        at += max(length + 3 & ~3, 4)
    return found


def dump(states: int = inetdiag.ALL_STATES, extensions: int = 0) -> list[bytes]:
    return NetlinkReader().collect(states, Messages, extensions=extensions).messages


def test_the_timers_of_connections_and_their_tries_are_told(world: World, note: Note) -> None:
    server = world.listen(7001, 10)
    clients = world.connect(7001, 3)
    served = world.accept(server, 3)
    served[0].setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    silent = world.start(9, 1, address="192.0.2.99")  # a peer that never answers: its SYN is sent again and again

    def timers() -> Counter[tuple[int, int]]:
        return Counter((message[STATE], message[TIMER]) for message in dump())

    wait_until(
        lambda: any(it[STATE] == TcpState.SYN_SENT and it[TRIES] > 0 for it in dump()), "a try", patience=PATIENCE
    )
    assert timers() == {
        (TcpState.LISTEN, 0): 1,
        (TcpState.SYN_SENT, 1): 1,
        (TcpState.ESTABLISHED, 0): 5,
        (TcpState.ESTABLISHED, 2): 1,
    }
    assert len(clients + silent) == 4
    timers_of_established = detail().timers
    assert timers_of_established is not None
    assert +Counter(timers_of_established) == {"none": 5, "keepalive": 1}
    note("timers and tries", "yes")


def test_tcp_info_is_told_of_every_connection(world: World, note: Note) -> None:
    server = world.listen(7001, 10)
    (client,) = world.connect(7001, 1)
    (served,) = world.accept(server, 1)
    client.sendall(bytes(1000))
    assert len(served.recv(1000, socket.MSG_WAITALL)) == 1000
    infos = {
        int.from_bytes(message[PORT : PORT + 2], "big"): attributes(message)[INFO]
        for message in dump(1 << TcpState.ESTABLISHED, EXTENSION_INFO)
    }
    info = infos[7001]
    note("bytes of tcp_info", len(info))
    assert struct.unpack_from("=I", info, RTT_AT)[0] > 0
    assert struct.unpack_from("=Q", info, BYTES_RECEIVED_AT) == (1000,)
    quality = detail().quality
    assert quality is not None
    assert (quality.problem, quality.sockets, quality.sampled) == (None, 2, 1.0)
    found = quality.ports["7001"]
    assert (found.sockets, sum(found.rtt), sum(found.idle)) == (1, 1, 1)


def test_the_kernel_filters_a_dump_by_ports(here: Here, note: Note) -> None:
    here.make({})
    here.establish(300)
    # The peers' ports are 1024 and the next 299; those below 1100 or above 1149 are rejected, by a jump beyond the end.
    code = b"".join(
        struct.pack("=BBHBBH", operation, 8, reject, 0, 0, port)
        for operation, reject, port in ((D_GE, 20, 1100), (D_LE, 12, 1149))
    )
    request = bytearray(inetdiag.request_family(inetdiag.AF_INET, inetdiag.ALL_STATES, 1))
    request += struct.pack("=HH", 4 + len(code), BYTECODE) + code
    struct.pack_into("=I", request, 0, len(request))
    collector = Messages()
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, inetdiag.NETLINK_SOCK_DIAG) as netlink:
        netlink.send(request)
        while not collector.add(netlink.recv(65536)):
            pass
    assert len(collector.messages) == 50
    note("filter by port in the kernel", "yes")


def test_close_events_are_counted_by_port_with_their_bytes(world: World, note: Note) -> None:
    listening = Closing(Procfs(), time.monotonic)
    listening.told_apart = frozenset({7001}), 100
    stop = threading.Event()
    worker = threading.Thread(target=listening.run, args=(lambda: None if stop.is_set() else 1.0, stop.wait))
    worker.start()
    try:
        wait_until(lambda: listening.closes is not None, "an open socket", patience=PATIENCE)
        server = world.listen(7001, 10)
        for client, served in zip(world.connect(7001, 5), world.accept(server, 5), strict=True):
            client.sendall(bytes(500))
            assert len(served.recv(500, socket.MSG_WAITALL)) == 500
            served.sendall(bytes(70))
            assert len(client.recv(70, socket.MSG_WAITALL)) == 70
            client.shutdown(socket.SHUT_WR)
            assert served.recv(1) == b""
            served.close()
            assert client.recv(1) == b""

        def seen() -> PortCloses | None:
            return None if listening.closes is None else listening.closes.ports.get("7001")

        wait_until(lambda: (found := seen()) is not None and found.connections == 5, "five events", patience=PATIENCE)
        found = seen()
        assert found is not None
        assert (found.received, found.sent, found.retransmitted) == (5 * 501, 5 * 70, 0)  # a FIN counts as a byte
        assert listening.closes is not None
        assert listening.closes.lost == 0
    finally:
        stop.set()
        worker.join(PATIENCE)
    assert listening.problem is None
    note("close events", "exact")
