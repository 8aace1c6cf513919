"""Close events against the kernel: real connections in a namespace of the lab, counted exactly."""

from __future__ import annotations

import json
import struct
import sys
import time
from itertools import count
from typing import NamedTuple

import pytest

from exporter.details import PortCloses
from exporter.errors import SourceMissing
from exporter.kernel.reader import CloseEvents, Procfs
from exporter.sampling.closing import Closing
from tests.lab.namespace import LabUnavailable
from tests.lab.process import LabProcess

_MANY, _TO_SERVER, _TO_CLIENT = 10_000, 700, 1900

# Runs in the lab: a listening Closing in a thread, and a server and its clients beside it.
_PROGRAM = """
import json, socket, sys, threading, time
from exporter.kernel import reader
from exporter.kernel.reader import Procfs
from exporter.sampling import closing
number, to_server, to_client, share = int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])
if share > 1:  # lose events: no buffer to speak of, and nobody who empties it in time
    closing._BATCH_SECONDS, closing.PERIOD_SECONDS, reader._EVENTS_BUFFER = 0.5, 2.0, 1
listening = closing.Closing(Procfs(), time.monotonic)
listening.told_apart = frozenset({7777}), 100
stop, wake = threading.Event(), threading.Event()
thread = threading.Thread(target=listening.run, args=(lambda: None if stop.is_set() else share, wake.wait))
thread.start()
while listening.closes is None:
    assert thread.is_alive() and listening.problem is None, listening.problem
    time.sleep(0.01)
server = socket.create_server(("127.0.0.1", 7777), backlog=64)
for turn in range(number):
    client = socket.create_connection(("127.0.0.1", 7777))
    accepted, _ = server.accept()
    client.sendall(b"x" * to_server)
    accepted.recv(to_server, socket.MSG_WAITALL)
    accepted.sendall(b"y" * to_client)
    client.recv(to_client, socket.MSG_WAITALL)
    client.shutdown(socket.SHUT_WR)
    assert accepted.recv(1) == b""
    accepted.shutdown(socket.SHUT_WR)
    assert client.recv(1) == b""
    accepted.close()
    client.close()
def seen(port): return listening.closes.ports[port].connections
end = time.monotonic() + 60
while seen("7777") + seen("other") + listening.closes.lost < 2 * number and time.monotonic() < end:
    time.sleep(0.01)
stopping = time.monotonic()
stop.set(); wake.set(); thread.join()
print(json.dumps({**listening.closes._asdict(), "stopped_after": time.monotonic() - stopping}))
"""


class Heard(NamedTuple):
    """What ``Closing`` had published when every connection was counted or lost."""

    server: PortCloses
    clients: PortCloses
    ratio: float
    lost: int
    stopped_after: float  # seconds


def heard(number: int, *, share: float = 1.0) -> Heard:
    try:
        with LabProcess() as lab:
            command = [sys.executable, "-c", _PROGRAM, *map(str, (number, _TO_SERVER, _TO_CLIENT, share))]
            answer = lab.run(command)
    except LabUnavailable as error:
        pytest.skip(f"this machine has no lab: {error}")
    assert answer.returncode == 0, answer.stderr
    found = json.loads(answer.stdout)
    server, clients = (PortCloses(*found["ports"][port]) for port in ("7777", "other"))
    return Heard(server, clients, found["ratio"], found["lost"], found["stopped_after"])


def numbers(closes: PortCloses) -> tuple[int, int, int | None, int, int]:
    return closes.connections, closes.received, closes.sent, closes.retransmitted, sum(closes.rtt)


def test_ten_thousand_closed_connections_are_counted_with_exactly_their_bytes_and_a_fin_as_one() -> None:
    found = heard(_MANY)
    assert found.lost == 0
    assert numbers(found.server) == (_MANY, _MANY * (_TO_SERVER + 1), _MANY * _TO_CLIENT, 0, _MANY)
    assert numbers(found.clients) == (_MANY, _MANY * (_TO_CLIENT + 1), _MANY * _TO_SERVER, 0, _MANY)
    assert 0 < found.server.rtt_sum < _MANY


def test_lost_events_are_counted_and_the_others_still_are() -> None:
    found = heard(1000, share=2)
    assert found.lost > 0
    assert found.server.connections + found.clients.connections + found.lost == 2000
    assert found.server.connections > 0


def test_listening_ends_promptly() -> None:
    assert heard(1).stopped_after < 5


class Refused(CloseEvents):
    def __init__(self) -> None:
        raise SourceMissing("closes", "no such group")


def test_a_kernel_without_the_groups_has_no_counters_but_a_reason() -> None:
    listening = Closing(Procfs(), time.monotonic, Refused)
    listening.told_apart = frozenset(), 100
    end = time.monotonic() + 30
    listening.run(
        lambda: None if listening.problem or time.monotonic() > end else 1.0, lambda seconds: time.sleep(0.05)
    )
    assert listening.closes is None
    assert listening.problem == "closes: no such group"


class Endless(CloseEvents):
    """Events that come faster than anybody reads them."""

    lost = 0

    def __init__(self) -> None:
        self.batches = 0

    def receive(self, seconds: float) -> list[bytes]:
        self.batches += 1
        assert self.batches < 1000, "nothing ends it"
        return [_UNCONNECTED]

    def close(self) -> None:
        pass


_UNCONNECTED = struct.pack("=IHHII72xHH232x", 324, 20, 0, 0, 0, 236, 2)  # a close event: no ports and an empty tcp_info


def test_listening_ends_with_its_time_also_where_events_come_faster_than_they_are_read() -> None:
    clock, events = count(), Endless()
    listening = Closing(Procfs(), lambda: float(next(clock)), lambda: events)
    listening.told_apart = frozenset(), 100
    listening.run(lambda: None if events.batches else 1.0, lambda seconds: None)
    assert events.batches < 10
