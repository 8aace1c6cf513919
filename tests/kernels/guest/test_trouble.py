"""Full queues and a flood: what the kernel holds and drops, and what the product concludes."""

from __future__ import annotations

from exporter.kernel.derivation import Trust
from exporter.kernel.reader import NetlinkReader, Procfs
from exporter.sampling.sampler import Sampler
from exporter.snapshot import Listener
from tests.kernels.guest.conftest import Note
from tests.situations.world import HERE, World, wait_until

PATIENCE = 300.0  # seconds; an emulated processor takes some for what takes a fraction of one
PORT = 7001


def sampler() -> Sampler:
    return Sampler(Procfs(), [NetlinkReader()], Trust("6.18.44"), lambda: 0.0)


def listener(found: Sampler, port: int = PORT) -> Listener:
    listeners = found.count().listeners
    assert listeners is not None
    return next(it for it in listeners if it.port == port)


def test_a_full_syn_queue_is_full_however_many_the_kernel_holds(world: World, note: Note) -> None:
    world.sysctl("net.ipv4.tcp_syncookies", 0)
    world.listen(PORT, 16)
    while world.counters()["TcpExt.TCPReqQFullDrop"] < 20:
        world.syns(PORT, 5)
    held = world.count("syn_recv", PORT)
    note("a SYN queue of `listen(16)` holds", held)
    assert held in {16, 17}
    code, text = world.plugin("-s", "syn_queue_ratio", "-w", "0.5", "-c", "0.9")
    assert code == 2, text
    assert "syn_queue_ratio 1 " in text


def test_a_flood_with_cookies_off_is_a_critical_finding(world: World) -> None:
    world.sysctl("net.ipv4.tcp_syncookies", 0)
    world.serve(PORT, 30)
    with world.background(lambda: world.syns(PORT, 20), every=0.05):
        wait_until(lambda: world.counters()["TcpExt.TCPReqQFullDrop"] > 20, "dropped SYNs", patience=PATIENCE)
        advice = world.advise()
    assert advice.findings.get("syn_flood") == "CRITICAL", advice.findings
    assert f"{HERE}:{PORT}" in advice.what("syn_flood")


def test_a_flood_with_cookies_on_is_a_warning(world: World, note: Note) -> None:
    world.serve(PORT, 30)
    with world.background(lambda: world.syns(PORT, 20), every=0.05):
        wait_until(lambda: world.counters()["TcpExt.SyncookiesSent"] > 20, "cookies", patience=PATIENCE)
        advice = world.advise()
    assert advice.findings.get("syn_flood") == "WARNING", advice.findings
    note("`syn_flood` with cookies, without", "warning, critical")


def test_an_accept_queue_that_drops_is_a_critical_finding(world: World, note: Note) -> None:
    world.listen(PORT, 10)

    def connect() -> None:
        world.start(PORT, 5)

    with world.background(connect, every=0.3):
        wait_until(lambda: world.counters()["TcpExt.ListenOverflows"] > 10, "overflows", patience=PATIENCE)
        advice = world.advise()
    assert advice.findings.get("accept_queue_full") == "CRITICAL", advice.findings
    assert advice.evidence("accept_queue_full")[0] == (
        f"11 connections wait in the accept queue of {HERE}:{PORT}, whose limit is 10."
    )
    note("an accept queue of `listen(10)` holds", 11)
    note("`accept_queue_full` while it drops", "critical")


def test_the_drops_of_each_listener_are_told_apart(world: World, note: Note) -> None:
    world.listen(PORT, 3)
    world.listen(PORT + 1, 3)
    found = sampler()
    assert (listener(found).dropped, listener(found, PORT + 1).dropped) == (0, 0)
    before = world.counters()["TcpExt.ListenDrops"]
    world.start(PORT, 24)
    wait_until(lambda: world.counters()["TcpExt.ListenDrops"] - before >= 20, "drops", patience=PATIENCE)
    dropped = listener(found).dropped
    assert dropped is not None
    assert 20 <= dropped <= world.counters()["TcpExt.ListenDrops"] - before
    assert listener(found, PORT + 1).dropped == 0
    note("drops by listener", "yes")
