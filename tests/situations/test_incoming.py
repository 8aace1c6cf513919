"""Connections that come in: floods, queues that are full, and healthy hosts that look like them."""

from __future__ import annotations

import pytest

from tests.situations.world import World, wait_until

pytestmark = pytest.mark.lab


def test_a_flood_with_cookies_off_and_a_long_backlog_is_a_critical_syn_flood(world: World) -> None:
    world.sysctl("net.ipv4.tcp_syncookies", 0)
    world.sysctl("net.ipv4.tcp_max_syn_backlog", 200)
    world.serve(7001, 4000)
    with world.flood(7001, rate=300):
        wait_until(lambda: world.counters()["TcpExt.ListenDrops"] > 20, "SYNs that are dropped")
        advice = world.advise()
        assert world.attempt(7001, 1.2) == "ETIMEDOUT"
    assert advice.findings == {"syn_flood": "CRITICAL"}
