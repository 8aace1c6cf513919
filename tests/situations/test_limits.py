"""Limits that are reached, and leaks: ephemeral ports, TIME-WAIT, orphans, CLOSE-WAIT; and hosts that only look so."""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import Callable

import pytest

from tests.situations.world import HERE, Advice, World, release, wait_until

pytestmark = pytest.mark.lab

RANGE, RESERVED = "net.ipv4.ip_local_port_range", "net.ipv4.ip_local_reserved_ports"
PORTS_FINDING = "ephemeral_ports_near_limit"
LOOPBACK = "127.0.0.1"
_NO_PORT = 24  # IP_BIND_ADDRESS_NO_PORT


def hold(world: World, *, address: str, port: int, source: str = "", options: int = 0) -> socket.socket:
    """One client that is connected and stays so; with *source* it binds to that address first."""
    client = world.keep(world.socket())
    if options:
        client.setsockopt(socket.IPPROTO_IP, options, 1)
    if source:
        client.bind((source, 0))
    client.settimeout(10)
    client.connect((address, port))
    return client


def close_first(world: World, server: socket.socket, *, address: str, port: int) -> None:
    """One connection that the client closes first, so that its port is in TIME-WAIT."""
    client = hold(world, address=address, port=port)
    accepted, _ = server.accept()
    client.close()
    accepted.close()


def fails(connect: Callable[[], socket.socket]) -> str:
    """The name of the error that a connect() gets; "" where it succeeds."""
    try:
        connect().close()
    except OSError as error:
        return {98: "EADDRINUSE", 99: "EADDRNOTAVAIL"}.get(error.errno or 0, str(error))
    return ""


# -- ephemeral ports ---------------------------------------------------------------------------------------------------


def test_ports_that_are_gone_towards_one_destination_widen_the_range_past_the_services(world: World) -> None:
    world.sysctl(RANGE, "40000 40299")
    world.sysctl(RESERVED, "40010-40019,1433")
    world.listen(9306, 10, address=LOOPBACK)
    world.listen(8200, 4000, address=LOOPBACK)
    for _ in range(290):
        hold(world, address=LOOPBACK, port=8200)
    assert fails(lambda: hold(world, address=LOOPBACK, port=8200)) == "EADDRNOTAVAIL"
    advice = world.advise("0")
    assert advice.findings[PORTS_FINDING] == "CRITICAL"
    assert advice.evidence(PORTS_FINDING) == [
        "290 of 290 local ports are taken towards one destination: 127.0.0.1 -> 127.0.0.1:8200.",
        f"{RANGE} is 40000 to 40299, less 10 reserved ports.",
    ]
    command = advice.command(PORTS_FINDING)
    assert command == (f'sysctl -w {RESERVED}="1433,8200,9306,40010-40019" && sysctl -w {RANGE}="1024 65535"')
    world.run("sh", "-ec", command)
    assert world.run("sysctl", "-n", RESERVED) == "1433,8200,9306,40010-40019\n"
    assert fails(lambda: hold(world, address=LOOPBACK, port=8200)) == ""
    assert PORTS_FINDING not in world.advise("0").findings


def test_ports_that_bind_picked_are_taken_from_every_destination(world: World) -> None:
    world.sysctl(RANGE, "40000 40299")
    for port in (8201, 8202, 8203):
        world.listen(port, 1000, address=LOOPBACK)
    for n in range(285):
        hold(world, address=LOOPBACK, port=8201 + n % 3, source=LOOPBACK)
    assert world.plugin("-s", "ephemeral_ports_ratio", "-w", "0.8", "-c", "0.9")[0] == 2
    advice = world.advise("0")
    assert advice.findings[PORTS_FINDING] == "CRITICAL"
    assert advice.evidence(PORTS_FINDING)[0] == (
        "285 of 300 local ports of 127.0.0.1 are taken, each once, towards 3 destinations."
    )
    assert "IP_BIND_ADDRESS_NO_PORT" in advice.text(PORTS_FINDING)
    assert "tcp_tw_reuse" not in advice.text(PORTS_FINDING)
    for n in range(15):
        hold(world, address=LOOPBACK, port=8201 + n % 3, source=LOOPBACK)
    assert fails(lambda: hold(world, address=LOOPBACK, port=8201, source=LOOPBACK)) == "EADDRINUSE"
    assert fails(lambda: hold(world, address=LOOPBACK, port=8201)) == "EADDRNOTAVAIL"


def test_the_same_with_the_port_left_to_connect_is_healthy(world: World) -> None:
    world.sysctl(RANGE, "40000 40299")
    for port in (8201, 8202, 8203):
        world.listen(port, 1000, address=LOOPBACK)
    for n in range(285):
        hold(world, address=LOOPBACK, port=8201 + n % 3, source=LOOPBACK, options=_NO_PORT)
    code, said = world.plugin("-s", "ephemeral_ports_ratio", "-w", "0.5", "-c", "0.9")
    assert (code, "0.316" in said or "0.317" in said) == (0, True), said
    assert PORTS_FINDING not in world.advise("0").findings


@pytest.mark.alone
@pytest.mark.skipif(release() < (6, 8), reason="before 6.8 the kernel does not list bound sockets")
def test_ports_that_are_bound_and_not_connected_are_taken(world: World) -> None:
    world.sysctl(RANGE, "40000 40299")
    for _ in range(290):
        world.keep(world.socket()).bind((LOOPBACK, 0))
    advice = world.advise("0")
    assert advice.findings == {PORTS_FINDING: "CRITICAL"}
    assert advice.evidence(PORTS_FINDING)[0] == (
        "290 ports of the range are bound by sockets that neither connect nor listen: connect() cannot pick them."
    )


def test_ports_with_a_listener_are_taken_too(world: World) -> None:
    world.sysctl(RANGE, "40000 40099")
    for port in range(40000, 40070):
        world.listen(port, 5, address=LOOPBACK)
    world.listen(8200, 1000, address=LOOPBACK)
    for _ in range(30):
        hold(world, address=LOOPBACK, port=8200)
    assert fails(lambda: hold(world, address=LOOPBACK, port=8200)) == "EADDRNOTAVAIL"
    advice = world.advise("0")
    assert advice.findings[PORTS_FINDING] == "CRITICAL"
    assert advice.evidence(PORTS_FINDING)[:2] == [
        "30 of 30 local ports are taken towards one destination: 127.0.0.1 -> 127.0.0.1:8200.",
        "70 ports of the range have a listener: connect() cannot pick them.",
    ]


def test_time_wait_that_connect_may_take_over_takes_no_port(world: World) -> None:
    world.sysctl(RANGE, "40000 40199")
    server = world.listen(8200, 100, address=LOOPBACK)
    for _ in range(2):
        for _ in range(180):
            close_first(world, server, address=LOOPBACK, port=8200)  # connect() succeeds, though all ports are taken
        assert world.count("time_wait") > 0.5 * 200
        wait_until(lambda: ratio(world) < 0.1, "TIME-WAIT of more than a second")
    assert PORTS_FINDING not in world.advise("0").findings


def test_reuse_is_proposed_only_where_time_wait_towards_that_destination_holds_the_ports(world: World) -> None:
    world.sysctl(RANGE, "1024 65535")
    world.sysctl(RESERVED, "1024-65135")
    server = world.listen(8200, 1000, address=HERE)
    for _ in range(390):
        close_first(world, server, address=HERE, port=8200)
    assert world.advise("0").command(PORTS_FINDING) == "sysctl -w net.ipv4.tcp_tw_reuse=1"
    world.listen(8300, 1000, address=HERE)
    for _ in range(395):
        hold(world, address=HERE, port=8300)
    advice = world.advise("0")
    assert "8300" in advice.evidence(PORTS_FINDING)[0]
    assert advice.command(PORTS_FINDING) is None
    world.sysctl("net.ipv4.tcp_tw_reuse", 1)
    assert fails(lambda: hold(world, address=HERE, port=8200)) == ""


def ratio(world: World) -> float:
    """The ephemeral_ports_ratio that the plugin prints."""
    _, said = world.plugin("-s", "ephemeral_ports_ratio")
    return float(said.partition("ephemeral_ports_ratio=")[2].partition(";")[0].split()[0])


# -- TIME-WAIT ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("limit", "findings"),
    [(50, {"time_wait_near_limit": "CRITICAL"}), (0, {"time_wait_near_limit": "CRITICAL"}), (-1, {})],
)
def test_a_limit_of_time_wait_is_reached_allows_none_or_is_none(
    world: World, limit: int, findings: dict[str, str]
) -> None:
    world.sysctl("net.ipv4.tcp_max_tw_buckets", limit)
    world.serve(8200, 100)
    with world.clients(8200, rate=200):
        wait_until(lambda: world.counters()["Tcp.PassiveOpens"] > 120, "connections that end")
        advice = world.advise("1500ms")
        code, said = world.plugin("-s", "time_wait_ratio", "-w", "0.5")
    assert advice.findings == findings
    assert limits_not_judged(advice) == {
        "memory_pressure": "tcp_mem is not visible from this network namespace",
        "orphans_near_limit": "tcp_max_orphans is not visible from this network namespace",
    }
    if limit < 0:
        assert (code, "tcp_max_tw_buckets is -1" in said) == (3, True), said
    if limit == 0:
        assert "0 sockets wait, of tcp_max_tw_buckets = 0: no socket may wait." in advice.evidence(*findings)


def limits_not_judged(advice: Advice) -> dict[str, str]:
    """The host's limits that the document lists as not judged here, with the reason."""
    listed = {it["name"]: it["reason"] for it in advice.document["not_judged"]}  # type: ignore[attr-defined]
    return {name: reason for name, reason in listed.items() if name in {"memory_pressure", "orphans_near_limit"}}


# -- CLOSE-WAIT --------------------------------------------------------------------------------------------------------


def test_a_leak_that_goes_on_is_found_by_two_looks(world: World) -> None:
    server = world.listen(8200, 4000)
    leaked = [forget(world, server) for _ in range(150)]
    wait_until(lambda: ages(world).get("over_5_seconds", 0) >= 100, "CLOSE-WAIT of more than 5 s")
    with world.background(lambda: leaked.append(forget(world, server)), every=0.02):
        advice = world.advise("2s")
        code, said = world.plugin("-s", "findings")
    assert advice.findings == {"close_wait_leak": "WARNING"}
    assert (code, "does not close connections that its peers have closed" in said) == (1, True), said
    text = advice.text("close_wait_leak")
    assert "keepalive" in text.lower()
    assert "the descriptor stays" in text


def test_a_server_that_does_not_close_for_ten_seconds_is_found_by_one_look(world: World) -> None:
    server = world.listen(8200, 4000)
    for _ in range(130):
        forget(world, server)
    wait_until(lambda: ages(world).get("served_over_10_seconds", 0) >= 100, "CLOSE-WAIT of more than 10 s")
    assert world.advise("0").findings == {"close_wait_leak": "WARNING"}


def test_a_pool_whose_backend_restarts_is_healthy(world: World) -> None:
    backend = world.listen(8200, 1000)
    pool = world.connect(8200, 400)
    served = [backend.accept()[0] for _ in pool]
    assert world.advise("500ms").findings == {}
    for sock in served:
        sock.close()
    wait_until(lambda: world.count("close_wait") == 400, "the pool's connections to be closed by the backend")
    assert world.advise("1s").findings == {}
    for client in pool[:300]:
        client.close()
    assert world.advise("1s").findings == {}


def test_connections_that_nobody_accepts_are_no_leak(world: World) -> None:
    world.listen(8200, 150)
    for client in world.connect(8200, 151):
        client.close()
    wait_until(lambda: world.count("close_wait") == 151, "clients that have given up")
    assert list(world.advise("1s").findings) == ["accept_queue_full"]


def forget(world: World, server: socket.socket) -> socket.socket:
    """A connection that its peer closes and the application keeps."""
    client = hold(world, address=server.getsockname()[0], port=server.getsockname()[1])
    accepted, _ = server.accept()
    client.close()
    return world.keep(accepted)


def ages(world: World) -> dict[str, int]:
    """The CLOSE-WAIT sockets by their age."""
    return world.show()["detail"]["close_wait"] or {}


# -- keepalive and orphans ---------------------------------------------------------------------------------------------


def test_keepalive_ends_close_wait_and_the_descriptors_stay(world: World) -> None:
    for name, value in (("tcp_fin_timeout", 1), ("tcp_keepalive_time", 2), ("tcp_keepalive_intvl", 1)):
        world.sysctl(f"net.ipv4.{name}", value)
    server = world.listen(8200, 100)
    leaked = [forget(world, server) for _ in range(20)]
    for sock in leaked:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    wait_until(lambda: world.count("close_wait") == 0, "keepalive to end CLOSE-WAIT")
    assert all(sock.fileno() >= 0 for sock in leaked)
    states = [struct.unpack("B", sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1))[0] for sock in leaked]
    assert states == [7] * 20  # TCP_CLOSE


def test_orphan_retries_do_nothing_for_a_peer_that_answers_with_a_closed_window_and_ss_ends_them(world: World) -> None:
    world.sysctl("net.ipv4.tcp_orphan_retries", 2)
    server = world.listen(8200, 10, address=LOOPBACK)
    clients = [world.keep(world.socket()) for _ in range(5)]
    for client in clients:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect((LOOPBACK, 8200))
        accepted, _ = server.accept()
        accepted.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while accepted.send(bytes(1 << 16)):
                pass
        accepted.close()
    before = world.counters()["TcpExt.TCPWinProbe"]
    more_than_the_retries = 4 * len(clients)
    wait_until(
        lambda: world.counters()["TcpExt.TCPWinProbe"] - before >= more_than_the_retries, "probes that are answered"
    )
    assert world.count("fin_wait1") == len(clients)
    world.run("ss", "-K", "state", "fin-wait-1", "dst", LOOPBACK)
    assert world.count("fin_wait1") == 0
