"""Listeners: which one a half-open connection belongs to, and what of several sockets is summed."""

from __future__ import annotations

import json
import sys

import pytest

from exporter.kernel.inetdiag import AF_INET, AF_INET6, Listening, Local
from exporter.kernel.listeners import half_open_by_listener, listeners_of
from exporter.snapshot import Listener
from tests.lab import LabProcess

NAMES = {1: "lo", 7: "blue"}.__getitem__
PORT, ANY, LOOPBACK = (443).to_bytes(2, "big"), bytes(16), bytes([127, 0, 0, 1]) + bytes(12)

# In the lab's namespace: a listener on each of two devices, and silent clients that one of them defers.
BOUND = """
import json, os, socket, time
from exporter.kernel.derivation import Trust
from exporter.kernel.reader import NetlinkReader, Procfs
from exporter.sampling.sampler import Sampler

other = next(name for _, name in socket.if_nameindex() if name != "lo")
kept = []
for device in ("lo", other):
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device.encode())
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, 60)
    listener.bind(("0.0.0.0", 20001))
    listener.listen(16)
    kept.append(listener)
kept += [socket.create_connection(("127.0.0.1", 20001)) for _ in range(3)]
counted = Sampler(Procfs(), [NetlinkReader()], Trust(os.uname().release), time.monotonic).count()
print(json.dumps({it.device: it.syn_recv for it in counted.listeners if it.port == 20001}))
"""


def listener(**fields: object) -> Listener:
    alone: dict[str, object] = {"address": "0.0.0.0", "port": 443, "sockets": 1, "accept_queue": 0, "accept_limit": 8}
    return Listener(**{**alone, "syn_recv": 0, "fullest_queue": 0, "fullest_limit": 8, **fields})  # type: ignore[arg-type]  # of several types


@pytest.mark.parametrize(
    ("local", "expected"),
    [
        (Local(AF_INET, PORT, LOOPBACK), ("127.0.0.1", "")),
        (Local(AF_INET, PORT, bytes([10, 0, 0, 1]) + bytes(12)), ("0.0.0.0", "")),
        (Local(AF_INET, PORT, bytes([10, 0, 0, 1]) + bytes(12), 7), ("0.0.0.0", "blue")),
        (Local(AF_INET, PORT, bytes([10, 0, 0, 1]) + bytes(12), 1), ("0.0.0.0", "")),  # of a VRF
        (Local(AF_INET6, PORT, bytes(15) + bytes([1])), ("::", "")),
        (Local(AF_INET, (444).to_bytes(2, "big"), LOOPBACK), None),
    ],
)
def test_a_half_open_connection_belongs_to_the_listener_that_its_syn_reached(
    local: Local, expected: tuple[str, str] | None
) -> None:
    ends = [
        Local(AF_INET, PORT, LOOPBACK),
        Local(AF_INET, PORT, ANY),
        Local(AF_INET, PORT, ANY, 7),
        Local(AF_INET6, PORT, ANY),
    ]
    sockets = [Listening(end, 0, 8) for end in ends]
    half_open = half_open_by_listener({local: 5}, sockets)
    listeners = listeners_of(sockets, half_open, NAMES)
    assert {(it.address, it.device): it.syn_recv for it in listeners if it.syn_recv} == (
        {expected: 5} if expected else {}
    )
    assert half_open[None] == (0 if expected else 5)


def test_sockets_of_one_address_and_port_on_two_devices_are_two_listeners() -> None:
    sockets = [Listening(Local(AF_INET, PORT, ANY, device), device, 8) for device in (7, 1)]
    assert listeners_of(sockets, {}, NAMES) == (
        listener(accept_queue=7, fullest_queue=7, device="blue"),
        listener(accept_queue=1, fullest_queue=1, device="lo"),
    )


def test_of_sockets_that_share_all_of_it_the_queues_are_summed_and_the_fullest_is_shown_by_itself() -> None:
    sockets = [Listening(Local(AF_INET, PORT, ANY), *queue) for queue in ((8, 16), (4, 4), (0, 4))]
    [found] = listeners_of(sockets, {}, NAMES)
    assert found == listener(sockets=3, accept_queue=12, accept_limit=24, fullest_queue=4, fullest_limit=4)
    assert found.fullest == 4 / 5


@pytest.mark.lab
def test_the_kernel_tells_the_device_of_a_listener_and_of_its_half_open_connections() -> None:
    with LabProcess() as lab:
        lab.make({"time_wait": 1})  # it brings a device beside the loopback
        done = lab.run([sys.executable, "-c", BOUND])
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found.pop("lo"), list(found.values())) == (3, [0])


@pytest.mark.lab
def test_full_sockets_that_are_half_open_are_in_no_syn_queue_and_miss_no_listener() -> None:
    code = (
        "import json\n"
        "from exporter.sampling.once import snapshot\n"
        "it = snapshot('/proc', 'netlink')\n"
        "queued = sum(one.syn_recv for one in it.listeners)\n"
        "print(json.dumps([it.connections.counts[3], queued, it.unmatched_half_open]))"
    )
    with LabProcess() as lab:
        lab.make({"syn_recv": 3, "syn_recv_full": 2})
        done = lab.run([sys.executable, "-c", code])
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [5, 3, 0]
