"""ESTABLISHED by timer, unanswered tries and pending accepts, by both readers, beside what ss prints."""

from __future__ import annotations

import contextlib
import re
import socket
import sys
from collections import Counter

import pytest

from tests.situations.test_traffic import PORT, drop, pairs, tries
from tests.situations.world import World, wait_until

pytestmark = pytest.mark.lab

_NAMES = {"on": "retransmit", "keepalive": "keepalive", "persist": "probe"}
DEAD, SENDING, CLOSED, PENDING = 300, 40, 20, 7


def by_ss(world: World) -> tuple[Counter[str], Counter[str]]:
    """By timer, how many established sockets there are, and how many of them have had two tries or more."""
    found, tried = Counter[str](), Counter[str]()
    for line in world.run("ss", "-Htno", "state", "established").splitlines():
        timer = re.search(r"timer:\((\w+),[^,]*,(\d+)\)", line)
        name = "none" if timer is None else _NAMES[timer[1]]
        found[name] += 1
        tried[name] += timer is not None and int(timer[2]) >= 2
    return found, +tried


def dumped(world: World, reader: str) -> dict[str, float]:
    """The page of ``tcp-exporter dump`` by series."""
    page = world.run(sys.executable, "-m", "exporter", "dump", "--reader", reader)
    rows = (line.rsplit(" ", 1) for line in page.splitlines() if not line.startswith("#"))
    return {series: float(value) for series, value in rows}


@pytest.mark.parametrize("reader", ["netlink", "procfs"])
def test_every_timer_and_every_unanswered_try_is_counted_as_ss_prints_it(world: World, reader: str) -> None:
    held = pairs(world, DEAD + SENDING + CLOSED)
    dead, sending, closed = held[:DEAD], held[DEAD : DEAD + SENDING], held[DEAD + SENDING :]
    for client, _ in closed:  # nobody reads: the window closes
        client.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                client.send(bytes(65536))
    wait_until(lambda: by_ss(world)[0]["probe"] == CLOSED, "a closed window of every receiver")
    world.listen(PORT + 1, PENDING)
    world.connect(PORT + 1, PENDING)
    drop(world, f"tcp dport {PORT} tcp sport != {{ {', '.join(str(it.getsockname()[1]) for it, _ in closed)} }}")
    for _, server in dead:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        server.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 1)
        server.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 1)
        server.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 100)
    for client, _ in sending:
        client.send(b"x")
    wait_until(lambda: tries(world, 2) == DEAD + SENDING, "two tries of every dead connection")
    seen, tried = by_ss(world)
    page = dumped(world, reader)
    assert (seen, tried) == by_ss(world)
    assert seen == {
        "keepalive": DEAD,
        "retransmit": SENDING,
        "probe": CLOSED,
        "none": DEAD + SENDING + CLOSED + 2 * PENDING,
    }
    assert {name: page[f'tcp_timer_connections{{timer="{name}"}}'] for name in seen} == seen
    assert tried == {"keepalive": DEAD, "retransmit": SENDING}
    for least in (1, 2):
        for kind, number in (("keepalive", DEAD), ("retransmit", SENDING), ("probe", 0)):
            assert page[f'tcp_unanswered_connections{{kind="{kind}",tries="{least}"}}'] == number
    assert page["tcp_accept_pending"] == PENDING
    assert page["tcp_allocated_sockets"] >= sum(seen.values())
